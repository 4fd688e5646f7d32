//! The board by itself; what a node puts there is tested over real nodes, in `tests/watch.rs`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_core::view::{Demand, FlowState};
use levada_wire::{Bitrate, FlowId, InstanceId};

use super::*;

const ORIGIN: NodeId = NodeId([1; 32]);

fn key(name: &str) -> Key {
    (name.parse().unwrap(), ORIGIN)
}

fn row(name: &str, subscriptions: usize) -> StreamRow {
    StreamRow {
        name: name.parse().unwrap(),
        origin: ORIGIN,
        instance: InstanceId([2; 16]),
        group_base: 5,
        flow: FlowId(3),
        state: FlowState::Hold,
        distance_seconds: None,
        is_local: true,
        peak_bps: Bitrate(4),
        tracks: Vec::new(),
        demand: Demand {
            subscriptions,
            children: 0,
        },
    }
}

fn known(name: &str, subscriptions: usize) -> view::StreamChange {
    view::StreamChange::Known(row(name, subscriptions))
}

fn gone(name: &str) -> view::StreamChange {
    let (name, origin) = key(name);
    view::StreamChange::Gone { name, origin }
}

/// All changes that a watch has before it would wait.
fn taken(watch: &mut Streams) -> Vec<String> {
    let change = |change| match change {
        StreamChange::Known(row) => format!("{} {}", row.name, row.demand.subscriptions),
        StreamChange::Gone { name, .. } => format!("{name} gone"),
        StreamChange::Reset => "reset".to_owned(),
    };
    let mut context = Context::from_waker(Waker::noop());
    let mut next = || match Pin::new(&mut *watch).poll_next(&mut context) {
        Poll::Ready(next) => next,
        Poll::Pending => None,
    };
    std::iter::from_fn(&mut next).map(change).collect()
}

#[test]
fn a_watch_hears_of_all_first_then_of_each_change_and_of_what_is_as_it_was_nothing() {
    let board = Arc::new(Board::default());
    board.put(vec![known("a", 0), known("b", 0)]);
    let mut watch = board.watch();

    assert_eq!(taken(&mut watch), ["a 0", "b 0"]);
    board.put(vec![known("a", 0), known("b", 1)]);
    assert_eq!(taken(&mut watch), ["b 1"]);
    board.put(vec![gone("a"), gone("never")]);
    assert_eq!(taken(&mut watch), ["a gone"]);
    assert_eq!(
        taken(&mut board.watch()),
        ["b 1"],
        "what went before is no news"
    );
}

#[test]
fn a_slow_watch_hears_of_each_stream_once_as_it_is_now() {
    let board = Arc::new(Board::default());
    let mut watch = board.watch();

    for subscriptions in 0..10_000 {
        board.put(vec![known("a", subscriptions), known("b", 0)]);
    }
    board.put(vec![gone("b"), known("b", 7)]);

    assert_eq!(taken(&mut watch), ["a 9999", "b 7"]);
    assert_eq!(board.table().by_number.len(), 2);
}

#[test]
fn a_watch_that_missed_more_than_is_remembered_begins_anew_and_others_do_not() {
    let board = Arc::new(Board::default());
    let names: Vec<String> = (0..=GONE_MAX).map(|at| format!("s{at}")).collect();
    board.put(vec![known("stays", 0)]);
    board.put(names.iter().map(|name| known(name, 0)).collect());
    let (mut slow, mut quick) = (board.watch(), board.watch());
    assert_eq!(taken(&mut slow).len(), names.len() + 1);
    assert_eq!(taken(&mut quick).len(), names.len() + 1);

    for name in &names {
        board.put(vec![gone(name)]);
        assert_eq!(taken(&mut quick), [format!("{name} gone")]);
    }

    assert_eq!(taken(&mut slow), ["reset", "stays 0"]);
    assert_eq!(taken(&mut quick), Vec::<String>::new());
    assert_eq!(taken(&mut board.watch()), ["stays 0"]);
    assert_eq!(board.table().streams.len(), 1 + GONE_MAX);
}

#[test]
fn the_board_is_watched_for_as_long_as_a_watch_is_held() {
    let board = Arc::new(Board::default());

    let watch = board.watch();

    assert!(board.is_watched());
    drop(watch);
    assert!(!board.is_watched());
}
