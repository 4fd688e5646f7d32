//! What is looked at to make rows: what they show, and nothing else.

use std::sync::Arc;

use levada_wire::WallTime;

use super::*;
use crate::api::{Offer, Paths};
use crate::limits::ROWS_AT_ONCE;
use crate::view::{FlowRow, looks};

const LINKS: u32 = 16;
const FLOWS: usize = 3 * ROWS_AT_ONCE + 5;

/// A node that originates flows and sends each to all of its links; as many subscriptions as flows want them.
fn hub() -> Flows {
    let mut flows = flows();
    feed(&mut flows, (1..=LINKS).map(|link| link_up(LinkIndex(link))));
    for number in 0..FLOWS {
        let offer = Offer {
            name: stream(number),
            wall: WallTime(1_700_000_000_000_000),
            packet_size: PacketSize::DEFAULT,
            suite: Suite::Aes128Gcm,
            layers: announce(&identity(0), number, 1).layers,
            description: Arc::default(),
            flush_interval: Duration::ZERO,
            is_measured: false,
        };
        let subscription = FlowInput::Subscribe {
            id: SubscriptionId(number as u64),
            name: stream(number),
            layer: Layer(0),
            budget: RepairBudget::DEFAULT,
            paths: Paths::One,
        };
        feed(
            &mut flows,
            [
                Input::Outside(FlowInput::Publish(offer)),
                Input::Outside(subscription),
            ],
        );
    }
    let known: Vec<FlowId> = flows.flow_rows(None).map(|row| row.flow).collect();
    for flow in known {
        let requests = (1..=LINKS).map(|link| request(LinkIndex(link), flow));
        feed(&mut flows, requests);
    }
    flows
}

/// What taking this looks at: flows, their children, and subscriptions.
fn looked_at<T>(take: impl FnOnce() -> T) -> (T, usize) {
    let before = looks();
    let taken = take();
    (taken, looks() - before)
}

#[test]
fn what_is_admitted_over_a_link_is_known_without_a_look_at_a_flow() {
    let flows = hub();
    let summed = |link| {
        let over = |row: &FlowRow| row.egresses.contains(&link);
        let peaks = flows.flow_rows(None).filter(over).map(|row| row.peak_bps.0);
        Bitrate(peaks.sum())
    };
    let links = (1..=LINKS).map(LinkIndex);
    let expected: Vec<Bitrate> = links.clone().map(summed).collect();

    let (admitted, looked) = looked_at(|| {
        links
            .map(|link| flows.admitted_over(link))
            .collect::<Vec<_>>()
    });

    assert_eq!(admitted, expected);
    assert!(admitted.iter().all(|rate| rate.0 > 0), "{admitted:?}");
    assert_eq!(looked, 0);
}

#[test]
fn a_slice_of_rows_looks_at_what_it_shows_and_slices_show_all() {
    let flows = hub();
    let mut slices = Vec::new();
    let mut after = None;

    while slices.len() < FLOWS {
        let (slice, looked) = looked_at(|| {
            let rows = flows.flow_rows(after).take(ROWS_AT_ONCE);
            rows.collect::<Vec<_>>()
        });
        // A flow, and once for its state and once for its row each of its links.
        assert!(looked <= slice.len() * (1 + 2 * LINKS as usize), "{looked}");
        assert!(slice.iter().all(|row| row.egresses.len() == LINKS as usize));
        assert!(slice.iter().all(|row| row.subscriptions == 1));
        after = slice.last().map(|row| row.flow);
        slices.extend(slice.into_iter().map(|row| row.flow));
    }

    assert!(slices.is_sorted(), "by id");
    assert_eq!(slices.len(), FLOWS);
    assert_eq!(flows.flow_rows(after).count(), 0);
}
