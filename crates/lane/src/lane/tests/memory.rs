//! What a lane with a thousand flows keeps in memory, by the allocator's own count.

use std::time::Duration;

use bytes::Bytes;
use levada_wire::{FlowId, Instant, LinkIndex, Machine as _};

use crate::Output;
use crate::api::{
    Command, Datagrams, EgressTerms, FlowCommand, Input, LinkCommand, Originate, Path,
    PublisherCommand, Train,
};
use crate::lane::{Lane, LaneSettings};
use crate::testkit::{self, WALL, address, carry, frame};
use levada_heap::held_bytes;

const FLOWS: u64 = 1_000;
/// Less than half of what is made.
const CACHE_BYTES: usize = 8 << 20;
/// Beside the caches: windows, keys, what repair remembers, two upstreams, and the link and pace of its egress.
const PER_FLOW: usize = (8 << 10) + 256;
const UPSTREAM: LinkIndex = LinkIndex(5_000);
const PICTURES: u64 = 24;

fn flow(at: u64) -> FlowId {
    FlowId(at << 32 | 7)
}

fn link(at: u64) -> LinkIndex {
    LinkIndex(u32::try_from(at).unwrap())
}

fn add_link(link: LinkIndex, to: usize) -> Command {
    let Command::Link(
        _,
        LinkCommand::Add {
            send,
            receive,
            remote_index,
            ..
        },
    ) = testkit::add_link(0, 1)
    else {
        unreachable!("it adds a link")
    };
    Command::Link(
        link,
        LinkCommand::Add {
            remote_index,
            remote: address(to),
            source: None,
            path: Path::Wire,
            send,
            receive,
        },
    )
}

fn command(lane: &mut Lane, now: Instant, command: Command) {
    lane.handle_input(now, Input::Command(command));
    assert_eq!(lane.counters().commands_refused, 0);
}

/// The sends of a lane, taken from it.
fn sends(lane: &mut Lane) -> Vec<Datagrams> {
    let outputs = std::iter::from_fn(|| lane.poll_output());
    let sends = outputs.filter_map(|output| match output {
        Output::Transmit(run) => Some(run.datagrams),
        _ => None,
    });
    sends.collect()
}

/// An origin of all flows, with one child.
fn origin() -> Lane {
    let mut lane = Lane::new(0, LaneSettings::default());
    let now = Instant::ZERO;
    command(&mut lane, now, add_link(UPSTREAM, 1));
    for at in 0..FLOWS {
        let originate = Originate {
            ..testkit::originate()
        };
        command(
            &mut lane,
            now,
            Command::Flow(flow(at), FlowCommand::Originate(Box::new(originate))),
        );
        let egress = Command::Flow(
            flow(at),
            FlowCommand::AddEgress(UPSTREAM, EgressTerms::UNLIMITED),
        );
        command(&mut lane, now, egress);
    }
    lane
}

/// A relay of all flows, each to a child of its own.
fn relay() -> Lane {
    let settings = LaneSettings {
        cache_bytes_max: CACHE_BYTES,
        ..LaneSettings::default()
    };
    let mut lane = Lane::new(0, settings);
    let now = Instant::ZERO;
    command(&mut lane, now, add_link(UPSTREAM, 0));
    for at in 0..FLOWS {
        let (flow, link) = (flow(at), link(at));
        command(
            &mut lane,
            now,
            add_link(link, 100 + usize::try_from(at).unwrap()),
        );
        command(&mut lane, now, Command::Flow(flow, FlowCommand::Open));
        let (epoch, key) = (1, carry());
        command(
            &mut lane,
            now,
            Command::Flow(flow, FlowCommand::SetCarryKey { epoch, key }),
        );
        let link_up = UPSTREAM;
        command(
            &mut lane,
            now,
            Command::Flow(flow, FlowCommand::AddUpstream(link_up)),
        );
        let terms = EgressTerms::UNLIMITED;
        command(
            &mut lane,
            now,
            Command::Flow(flow, FlowCommand::AddEgress(link, terms)),
        );
    }
    lane
}

#[test]
fn a_thousand_flows_with_an_egress_each_keep_what_caches_may_and_a_little_for_each() {
    let before = held_bytes();
    let mut origin = origin();
    let mut relay = relay();

    let (mut made, mut most) = (0, 0);
    for picture in 0..PICTURES {
        let now = Instant::from_nanos(1_000_000_000) + Duration::from_millis(33 * picture);
        let dts = i64::try_from(picture).unwrap();
        for at in 0..FLOWS {
            let push = Command::Publisher(
                flow(at),
                PublisherCommand::Push {
                    frame: frame(1, picture == 0, dts * 3_000, 700),
                    wall: WALL,
                },
            );
            origin.handle_input(now, Input::Command(push));
            for run in sends(&mut origin) {
                let bytes = run.bytes.len();
                made += bytes;
                // As the kernel gives it: in a buffer of its own.
                let train = Train {
                    to: None,
                    from: address(0),
                    bytes: Bytes::copy_from_slice(&run.bytes),
                    segment_bytes: run.segment_bytes,
                };
                relay.handle_input(now, Input::Train(train));
                sends(&mut relay);
            }
        }
        // Both lanes hold their own: the origin's is taken off below.
        most = most.max(held_bytes());
    }

    let of_origin = {
        let all = held_bytes();
        drop(origin);
        all - held_bytes()
    };
    let held = usize::try_from(most - before - of_origin).unwrap_or(0);
    let bound = CACHE_BYTES + usize::try_from(FLOWS).unwrap() * PER_FLOW;
    let forwarded = relay.counters().ledger.forwarded;
    assert!(
        made > 2 * CACHE_BYTES,
        "{made} bytes are no test of the limit"
    );
    assert!(forwarded > FLOWS * PICTURES, "{forwarded}");
    assert!(held > CACHE_BYTES / 2, "{held} bytes: nothing is cached");
    assert!(held <= bound, "{held} bytes, more than {bound}");
}
