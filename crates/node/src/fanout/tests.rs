//! Tests of the fan-out and of the queue of one subscriber.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU32;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use levada_wire::{InstanceId, NodeId, Number, Track, TrackId, TrackKind};

use super::*;
use crate::subscriber::{Delivery, SubscribeOptions};

const FLOW: FlowId = FlowId(1);
const OTHER: FlowId = FlowId(2);

/// A fan-out with one open flow.
struct Bench {
    fanout: Fanout,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            fanout: Fanout::default(),
        };
        bench.open(FLOW);
        bench
    }

    /// Opens a flow, which describes itself before its first frame.
    fn open(&self, flow: FlowId) {
        self.fanout.open(flow);
        self.describe(flow, 1);
    }

    fn subscriber(&self, id: u64, options: SubscribeOptions) -> Arc<Queue> {
        let queue = Arc::new(Queue::new(&options));
        self.fanout.add(SubscriptionId(id), Arc::clone(&queue));
        queue
    }

    fn attached(&self, id: u64) -> Arc<Queue> {
        let queue = self.subscriber(id, SubscribeOptions::default());
        self.attach(id, FLOW);
        queue
    }

    fn attach(&self, id: u64, flow: FlowId) {
        let start = u8::try_from(flow.0).unwrap();
        let instance = Instance::new(NodeId([1; 32]), InstanceId([start; 16]), flow.0);
        self.fanout.attach(SubscriptionId(id), flow, instance);
    }

    fn describe(&self, flow: FlowId, config: u8) {
        let description = datapath::Delivery::Description(Arc::new(description(config)));
        self.fanout.deliver(flow, description);
    }

    /// Delivers `count` frames of one byte, of which the first starts the group.
    fn group(&self, flow: FlowId, group: u32, count: usize) {
        for at in 0..count {
            self.frame(flow, group, at == 0, 1);
        }
    }

    fn frame(&self, flow: FlowId, group: u32, sync: bool, bytes: usize) {
        let frame = Frame {
            track: TrackId(1),
            sync,
            discardable: false,
            dts: 0,
            pts: 0,
            data: Bytes::from(vec![0; bytes]),
        };
        let delivery = datapath::Delivery::Frame {
            group: Group(group),
            frame,
            wall: None,
        };
        self.fanout.deliver(flow, delivery);
    }

    fn gap(&self, flow: FlowId) {
        let gap = datapath::Gap {
            first: Number::ZERO,
            packets: 3,
            reason: datapath::GapReason::Lost,
        };
        self.fanout.deliver(flow, datapath::Delivery::Gap(gap));
    }
}

fn description(config: u8) -> Description {
    Description {
        tracks: vec![Track {
            id: TrackId(1),
            kind: TrackKind::Video,
            codec: "h264".into(),
            timescale: NonZeroU32::MIN,
            config: vec![config],
            language: None,
        }],
    }
}

/// All that waits, in one word each.
fn taken(queue: &Queue) -> Vec<String> {
    let context = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Some(delivery)) = queue.poll_next(&context) {
        all.push(match delivery {
            Delivery::State(State::Active { .. }) => continue,
            Delivery::State(state) => state.to_string(),
            Delivery::NewInstance(instance) => format!("instance {}", instance.group_base),
            // The description that every flow of these tests has from its start is not worth a word.
            Delivery::Description(all) if all.tracks[0].config[0] == 1 => continue,
            Delivery::Description(all) => format!("description {}", all.tracks[0].config[0]),
            Delivery::Frame { group, .. } => format!("frame {}", group.0),
            Delivery::Gap(gap) => format!("gap {:?} {}+{}", gap.reason, gap.packets, gap.frames),
            Delivery::End => "end".to_owned(),
        });
    }
    all
}

#[test]
fn a_second_subscriber_starts_where_the_group_starts() {
    let bench = Bench::new();
    let first = bench.attached(1);
    bench.group(FLOW, 0, 2);
    bench.group(FLOW, 1, 2);

    let second = bench.attached(2);
    bench.frame(FLOW, 1, false, 1);

    assert_eq!(taken(&second), ["frame 1", "frame 1", "frame 1"]);
    assert_eq!(taken(&first).len(), 5);
}

#[test]
fn a_group_with_a_hole_is_no_place_to_start() {
    let bench = Bench::new();
    bench.group(FLOW, 0, 2);
    bench.gap(FLOW);
    bench.frame(FLOW, 0, false, 1);

    let late = bench.attached(1);
    bench.frame(FLOW, 0, false, 1);
    bench.group(FLOW, 1, 1);

    assert_eq!(taken(&late), ["frame 1"]);
}

#[test]
fn a_group_whose_beginning_is_missing_is_no_place_to_start() {
    let bench = Bench::new();
    bench.group(FLOW, 0, 1);
    bench.gap(FLOW);
    bench.frame(FLOW, 1, false, 1);

    let late = bench.attached(1);
    bench.frame(FLOW, 1, false, 1);
    assert_eq!(taken(&late), [""; 0]);
    bench.gap(FLOW);
    bench.frame(FLOW, 2, true, 1);

    assert_eq!(taken(&late), ["frame 2"]);
}

#[test]
fn a_group_too_large_to_keep_makes_a_newcomer_wait_for_the_next() {
    let bench = Bench::new();
    bench.frame(FLOW, 0, true, REPLAY_BYTES_MAX);
    bench.frame(FLOW, 0, false, 1);
    let late = bench.attached(1);

    bench.frame(FLOW, 0, false, 1);
    bench.group(FLOW, 1, 1);

    assert_eq!(taken(&late), ["frame 1"]);
}

#[test]
fn a_group_of_too_many_frames_makes_a_newcomer_wait_for_the_next() {
    let bench = Bench::new();
    bench.group(FLOW, 0, REPLAY_FRAMES_MAX + 1);
    let late = bench.attached(1);

    bench.group(FLOW, 1, 1);

    assert_eq!(taken(&late), ["frame 1"]);
}

#[test]
fn a_slow_subscriber_is_skipped_to_the_next_group_and_told_how_much() {
    let bench = Bench::new();
    let slow = bench.subscriber(1, SubscribeOptions::default().with_queue(3, usize::MAX));
    bench.attach(1, FLOW);
    bench.group(FLOW, 0, 5);
    let before = taken(&slow);

    bench.frame(FLOW, 0, false, 1);
    bench.group(FLOW, 1, 2);

    assert_eq!(before, ["frame 0", "frame 0", "frame 0"]);
    assert_eq!(taken(&slow), ["gap Slow 0+3", "frame 1", "frame 1"]);
}

#[test]
fn too_many_bytes_skip_a_subscriber_as_too_many_frames_do() {
    let bench = Bench::new();
    let slow = bench.subscriber(1, SubscribeOptions::default().with_queue(100, 10));
    bench.attach(1, FLOW);
    bench.frame(FLOW, 0, true, 8);
    bench.frame(FLOW, 0, false, 8);
    assert_eq!(taken(&slow), ["frame 0"]);

    bench.frame(FLOW, 1, true, 50);

    assert_eq!(
        taken(&slow),
        ["gap Slow 0+1", "frame 1"],
        "an empty queue takes any frame"
    );
}

#[test]
fn a_slow_subscriber_holds_up_nobody() {
    let bench = Bench::new();
    let slow = bench.subscriber(1, SubscribeOptions::default().with_queue(1, usize::MAX));
    bench.attach(1, FLOW);
    let fast = bench.attached(2);

    bench.group(FLOW, 0, 10);

    assert_eq!(taken(&fast).len(), 10);
    assert_eq!(taken(&slow).len(), 1);
}

#[test]
fn a_new_instance_is_told_before_its_frames() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 7, 1);

    bench.open(OTHER);
    bench.describe(OTHER, 2);
    bench.group(OTHER, 0, 1);
    bench.attach(1, OTHER);
    bench.group(FLOW, 8, 1);

    assert_eq!(
        taken(&queue),
        ["frame 7", "instance 2", "description 2", "frame 0"]
    );
}

#[test]
fn a_flow_that_comes_back_repeats_no_group_and_says_that_it_was_away() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 3, 2);
    bench.fanout.close(FLOW);

    bench.open(FLOW);
    bench.group(FLOW, 3, 2);
    bench.attach(1, FLOW);
    bench.group(FLOW, 4, 1);

    let gap = "gap Interrupted 0+0";
    assert_eq!(taken(&queue), ["frame 3", "frame 3", gap, "frame 4"]);
}

#[test]
fn an_end_is_told_once_however_often_it_is_heard() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);

    bench.fanout.deliver(FLOW, datapath::Delivery::End);
    bench.fanout.end(SubscriptionId(1));

    assert_eq!(taken(&queue), ["frame 0", "end"]);
}

#[test]
fn an_end_heard_from_the_core_comes_after_the_last_frames() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);

    bench.fanout.end(SubscriptionId(1));
    bench.frame(FLOW, 0, false, 1);
    bench.fanout.close(FLOW);

    assert_eq!(taken(&queue), ["frame 0", "frame 0", "end"]);
}

#[test]
fn a_restart_that_follows_at_once_is_no_end() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);

    bench.fanout.end(SubscriptionId(1));
    bench.open(OTHER);
    bench.attach(1, OTHER);
    bench.fanout.close(FLOW);
    bench.group(OTHER, 0, 1);

    assert_eq!(taken(&queue), ["frame 0", "instance 2", "frame 0"]);
}

#[test]
fn a_changed_description_comes_before_the_frames_it_is_for() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);
    bench.describe(FLOW, 2);
    bench.group(FLOW, 1, 1);

    let expected = ["frame 0", "description 2", "frame 1"];
    assert_eq!(taken(&queue), expected);
}

#[test]
fn equal_gaps_become_one() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);

    bench.gap(FLOW);
    bench.gap(FLOW);

    assert_eq!(taken(&queue), ["frame 0", "gap Lost 6+0"]);
}

#[test]
fn only_the_newest_of_waiting_states_is_kept() {
    let bench = Bench::new();
    let queue = bench.subscriber(1, SubscribeOptions::default());

    bench.fanout.state(SubscriptionId(1), State::Unknown);
    bench.fanout.state(SubscriptionId(1), State::Requested);

    assert_eq!(taken(&queue), ["requested"]);
}

#[test]
fn notices_that_nobody_takes_do_not_pile_up() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    for start in 0..100 {
        bench.fanout.close(FLOW);
        bench.fanout.close(OTHER);
        let flow = if start % 2 == 0 { OTHER } else { FLOW };
        bench.open(flow);
        bench.attach(1, flow);
        bench.group(flow, 0, 1);
        bench.fanout.end(SubscriptionId(1));
    }

    let waiting = taken(&queue);

    // The bound of notices, one frame between each two of them, and the gap for what was skipped.
    assert!(waiting.len() < 140, "{}", waiting.len());
    assert!(
        waiting.iter().any(|one| one.starts_with("gap Slow")),
        "{waiting:?}"
    );
}

#[test]
fn after_the_end_of_the_node_a_queue_ends() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);

    bench.fanout.finish();

    assert_eq!(taken(&queue), ["frame 0"]);
    let context = Context::from_waker(Waker::noop());
    assert!(matches!(queue.poll_next(&context), Poll::Ready(None)));
}

#[test]
fn a_subscriber_that_is_gone_gets_nothing_more() {
    let bench = Bench::new();
    let queue = bench.attached(1);

    assert!(bench.fanout.remove(SubscriptionId(1)));
    bench.group(FLOW, 0, 1);

    assert_eq!(taken(&queue), [""; 0]);
    assert!(!bench.fanout.remove(SubscriptionId(1)));
}
