//! A watch that applies each change it is given has the rows of the streams, whatever happened.

use std::sync::Arc;

use levada_wire::WallTime;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;
use crate::api::{Offer, Paths};
use crate::view::{StreamChange, StreamRow};

type Rows = BTreeMap<(StreamName, NodeId), StreamRow>;

fn apply(changes: Vec<StreamChange>, to: &mut Rows) {
    for change in changes {
        match change {
            StreamChange::Known(row) => to.insert((row.name.clone(), row.origin), row),
            StreamChange::Gone { name, origin } => to.remove(&(name, origin)),
        };
    }
}

#[test]
fn what_a_watch_was_given_is_what_there_is_whatever_happened() {
    let origin = identity(5);
    let mut states = BTreeSet::new();
    for seed in 0..40 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (mut flows, mut watched) = (flows(), Rows::new());
        let mut now = Instant::ZERO;
        flows.watch_streams(true);
        for _ in 0..200 {
            now += Duration::from_millis(u64::from(rng.next_u32() % 700));
            let input = match rng.next_u32() % 2 {
                0 => any_input(&mut rng, &origin),
                _ => any_input_here(&mut rng, &flows),
            };
            flows.handle_input(now, input);
            while flows.poll_output().is_some() {}
            while flows.has_stream_changes() {
                apply(
                    flows.take_stream_changes(1 + seed as usize % 3),
                    &mut watched,
                );
            }

            let there: Vec<StreamRow> = flows.stream_rows(None).collect();
            assert_eq!(
                watched.values().cloned().collect::<Vec<_>>(),
                there,
                "seed {seed}"
            );
            states.extend(there.iter().map(|row| row.state));
        }
    }
    assert_eq!(states.len(), 3, "each state was seen: {states:?}");
}

/// Something that may happen to a stream of this node.
fn any_input_here(rng: &mut impl rand_core::Rng, flows: &Flows) -> Input {
    let name = stream(2);
    let id = SubscriptionId(2 + u64::from(rng.next_u32() % 2));
    let mut local = flows.stream_rows(None).filter(|row| row.is_local);
    match (rng.next_u32() % 6, local.next()) {
        (0, _) => Input::Outside(FlowInput::Publish(Offer {
            name,
            wall: WallTime(u64::from(rng.next_u32()) * 1_000_000),
            packet_size: PacketSize::DEFAULT,
            suite: Suite::Aes128Gcm,
            layers: announce(&identity(0), 2, 1).layers,
            description: Arc::default(),
            flush_interval: Duration::ZERO,
            is_measured: false,
        })),
        (1, _) => Input::Outside(FlowInput::Unpublish { name }),
        (2, _) => Input::Outside(FlowInput::Unsubscribe { id }),
        (3 | 4, Some(row)) => request(LinkIndex(rng.next_u32() % 3), row.flow),
        _ => Input::Outside(FlowInput::Subscribe {
            id,
            name,
            layer: Layer(0),
            budget: RepairBudget::DEFAULT,
            paths: Paths::One,
        }),
    }
}

#[test]
fn who_begins_to_watch_is_given_all_in_slices_and_what_changes_is_given_once() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP), route_to(&origin, UP)]);
    feed(&mut flows, (0..7).map(|number| announced(&origin, number)));
    assert!(!flows.has_stream_changes(), "nobody watches");

    flows.watch_streams(true);
    let mut first = Rows::new();
    let slices: Vec<usize> = std::iter::from_fn(|| {
        flows.has_stream_changes().then(|| {
            let slice = flows.take_stream_changes(3);
            let count = slice.len();
            apply(slice, &mut first);
            count
        })
    })
    .collect();
    let flow = announce(&origin, 1, 1).flow(Layer(0));
    feed(
        &mut flows,
        [withdrawn(&origin, 0), request(LinkIndex(2), flow)],
    );
    feed(
        &mut flows,
        [Input::LinkDown { link: UP }, withdrawn(&origin, 0)],
    );

    assert_eq!((slices, first.len()), (vec![3, 3, 1], 7));
    assert_eq!(flows.take_stream_changes(10).len(), 1, "the one that went");
    flows.watch_streams(false);
    feed(&mut flows, [link_up(UP), announced(&origin, 9)]);
    assert!(!flows.has_stream_changes());
}
