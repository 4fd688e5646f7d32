//! Tests of the room that all caches of a lane share: what each flow has a right to when it is short.

use levada_wire::Bitrate;

use super::*;
use crate::api::{FlowCommand, FlowCounters, Originate, PublisherCommand};
use crate::shared::Shared;

const ROOM: usize = 400_000;
/// Two flows that declare the same.
const HONEST: FlowId = FlowId(1);
const GREEDY: FlowId = FlowId(2);
/// Of a picture of a flow that keeps to its declared peak: a group of 25 has less than half the room, with what is kept
/// for repair of the one before.
const PICTURE: usize = 3_000;

/// A lane where both flows start, and which has told their peaks.
fn lane(peaks: [(FlowId, u64); 2]) -> Net {
    let settings = LaneSettings {
        cache_bytes_max: ROOM,
        flow_cache_bytes_max: ROOM,
        ..LaneSettings::default()
    };
    let mut net = Net::with_settings(1, &settings);
    for (flow, peak) in peaks {
        let originate = Originate {
            ..testkit::originate()
        };
        net.command(
            0,
            Command::Flow(flow, FlowCommand::Originate(Box::new(originate))),
        );
        let peak = Bitrate(peak);
        net.command(0, Command::Flow(flow, FlowCommand::SetPeak(peak)));
    }
    net
}

/// That many pictures of each flow, 25 a second, a group each second; the greedy one's are `times` as large.
fn play(net: &mut Net, pictures: i64, times: usize) -> Vec<[FlowCounters; 2]> {
    let mut seen = Vec::new();
    for at in 0..pictures {
        for (flow, bytes) in [(GREEDY, times * PICTURE), (HONEST, PICTURE)] {
            let frame = frame(1, at % 25 == 0, at * 3_600, bytes);
            net.command(
                0,
                Command::Publisher(
                    flow,
                    PublisherCommand::Push {
                        frame,
                        wall: testkit::WALL,
                    },
                ),
            );
        }
        net.sleep(Duration::from_millis(40));
        let counters = net.lanes[0].counters();
        assert!(counters.cached_bytes <= ROOM as u64);
        seen.push([counters.flows[0], counters.flows[1]]);
    }
    seen
}

#[test]
fn a_flow_at_ten_times_its_declared_peak_does_not_push_the_group_of_another_out() {
    let mut net = lane([(HONEST, 1_000_000), (GREEDY, 1_000_000)]);

    let seen = play(&mut net, 250, 10);

    assert!(seen.iter().all(|[honest, _]| honest.is_joinable));
    let [honest, greedy] = seen.last().unwrap();
    assert_eq!(honest.cache_overflows, 0);
    assert!(greedy.cache_overflows > 5, "{greedy:?}");
    assert!(greedy.cached_packets > 0, "it still serves repair");
}

#[test]
fn a_flow_may_have_what_nobody_else_needs() {
    let mut net = lane([(HONEST, 1_000_000), (GREEDY, 1_000)]);

    let seen = play(&mut net, 100, 1);

    let [_, greedy] = seen.last().unwrap();
    assert!(greedy.is_joinable);
    assert_eq!(greedy.cache_overflows, 0);
}

#[test]
fn a_share_is_by_the_peak_that_was_declared_last() {
    let mut net = lane([(HONEST, 1_000_000), (GREEDY, 1_000_000)]);
    let (flow, peak) = (GREEDY, Bitrate(100_000_000));

    net.command(0, Command::Flow(flow, FlowCommand::SetPeak(peak)));
    let seen = play(&mut net, 100, 4);

    let [honest, greedy] = seen.last().unwrap();
    assert_eq!(greedy.cache_overflows, 0);
    assert!(honest.cache_overflows > 0, "{honest:?}");
}

#[test]
fn a_flow_that_is_closed_leaves_its_share_to_the_others() {
    let mut net = lane([(HONEST, 1_000_000), (GREEDY, 1_000_000)]);
    play(&mut net, 50, 1);

    net.command(0, Command::Flow(HONEST, FlowCommand::Close));
    for at in 50..100 {
        let frame = frame(1, at % 25 == 0, at * 3_600, 2 * PICTURE);
        let push = Command::Publisher(
            GREEDY,
            PublisherCommand::Push {
                frame,
                wall: testkit::WALL,
            },
        );
        net.command(0, push);
        net.sleep(Duration::from_millis(40));
    }

    let row = net.lanes[0].counters().flows[0];
    assert_eq!((row.is_joinable, row.cache_overflows), (true, 0));
}

#[test]
fn lanes_of_a_node_have_one_room_and_one_gives_back_what_a_flow_of_another_has_a_right_to() {
    let settings = LaneSettings {
        cache_bytes_max: ROOM,
        flow_cache_bytes_max: ROOM,
        ..LaneSettings::default()
    };
    let shared = Shared::new(2, settings.interface_rate);
    let mut net = Net::with_settings(2, &settings);
    for (number, lane) in net.lanes.iter_mut().enumerate() {
        let number = u8::try_from(number).unwrap();
        *lane = Lane::among(number, settings.clone(), shared.clone());
    }
    for (lane, flow) in [(0, GREEDY), (1, HONEST)] {
        let originate = FlowCommand::Originate(Box::new(testkit::originate()));
        net.command(lane, Command::Flow(flow, originate));
        let peak = FlowCommand::SetPeak(Bitrate(1_000_000));
        net.command(lane, Command::Flow(flow, peak));
    }
    let push = |net: &mut Net, lane, flow, at: i64, bytes| {
        let frame = frame(1, at % 25 == 0, at * 3_600, bytes);
        let wall = testkit::WALL;
        net.command(
            lane,
            Command::Publisher(flow, PublisherCommand::Push { frame, wall }),
        );
    };
    let cached = |net: &Net| {
        net.lanes
            .iter()
            .map(|lane| lane.counters().cached_bytes)
            .sum::<u64>()
    };

    for at in 0..24 {
        push(&mut net, 0, GREEDY, at, 5 * PICTURE);
    }
    assert!(
        cached(&net) > ROOM as u64 * 3 / 4,
        "more than a lane's half"
    );
    for at in 0..25 {
        push(&mut net, 1, HONEST, at, PICTURE);
        assert!(cached(&net) <= ROOM as u64);
    }
    assert!(!net.lanes[1].counters().flows[0].is_joinable);
    assert!(net.lanes[0].is_asked_for_room() && !net.lanes[1].is_asked_for_room());

    net.timeout(0);
    for at in 25..50 {
        push(&mut net, 1, HONEST, at, PICTURE);
    }

    assert!(!net.lanes[0].is_asked_for_room() && cached(&net) <= ROOM as u64);
    let [greedy, honest] = [0, 1].map(|lane: usize| net.lanes[lane].counters().flows[0]);
    assert!(
        honest.is_joinable && greedy.cache_overflows == 1,
        "{honest:?} {greedy:?}"
    );
}
