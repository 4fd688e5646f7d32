//! Tests of the fan-out and of the queue of one subscriber.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use levada_wire::{Description, InstanceId, NodeId, Number, Track, TrackId, TrackKind};

use super::ring::{
    INBOX_BYTES_MAX, INBOX_ENTRIES_MAX, REPLAY_BYTES_MAX, REPLAY_FRAMES_MAX, RING_BYTES_MAX,
    RING_ENTRIES_MAX, TRIM_ENTRIES_MIN, WAKES_AT_ONCE,
};
use super::*;
use crate::subscriber::{Delivery, SubscribeOptions};

const FLOW: FlowId = FlowId(1);
const OTHER: FlowId = FlowId(2);

/// A fan-out with one open flow. Its tasks do not run: whoever polls a queue finds what is there.
struct Bench {
    fanout: Fanout,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let bench = Self {
            fanout: Fanout::new(runtime.handle().clone(), FrameRoom::default()),
            _runtime: runtime,
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
        self.fanout.add(SlotId(id), Arc::clone(&queue));
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
        self.fanout.attach(SlotId(id), flow, instance);
    }

    fn describe(&self, flow: FlowId, config: u8) {
        let description = datapath::Delivery::Description(Arc::new(description(config)));
        self.deliver(flow, description);
    }

    fn deliver(&self, flow: FlowId, delivery: datapath::Delivery) {
        self.fanout.deliver(flow, delivery);
    }

    /// Delivers `count` frames of one byte, of which the first starts the group.
    fn group(&self, flow: FlowId, group: u32, count: usize) {
        for at in 0..count {
            self.frame(flow, group, at == 0, 1);
        }
    }

    fn frame(&self, flow: FlowId, group: u32, sync: bool, bytes: usize) {
        self.deliver(flow, frame(group, sync, bytes));
    }

    fn gap(&self, flow: FlowId) {
        let gap = datapath::Gap {
            first: Number::ZERO,
            packets: 3,
            reason: datapath::GapReason::Lost,
        };
        self.deliver(flow, datapath::Delivery::Gap(gap));
    }
}

fn frame(group: u32, sync: bool, bytes: usize) -> datapath::Delivery {
    let frame = Frame {
        track: TrackId(1),
        sync,
        discardable: false,
        dts: 0,
        pts: 0,
        data: Bytes::from(vec![0; bytes]),
    };
    datapath::Delivery::Frame {
        group: Group(group),
        frame,
        wall: None,
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
    bench.group(FLOW, 0, usize::try_from(REPLAY_FRAMES_MAX).unwrap() + 1);
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

    bench.deliver(FLOW, datapath::Delivery::End);
    bench.fanout.end(SlotId(1));

    assert_eq!(taken(&queue), ["frame 0", "end"]);
}

#[test]
fn an_end_heard_from_the_core_comes_after_the_last_frames() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);

    bench.fanout.end(SlotId(1));
    bench.frame(FLOW, 0, false, 1);
    bench.fanout.close(FLOW);

    assert_eq!(taken(&queue), ["frame 0", "frame 0", "end"]);
}

#[test]
fn a_restart_that_follows_at_once_is_no_end() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    bench.group(FLOW, 0, 1);

    bench.fanout.end(SlotId(1));
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

    bench.fanout.state(SlotId(1), State::Unknown);
    bench.fanout.state(SlotId(1), State::Requested);

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
        bench.fanout.end(SlotId(1));
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

    bench.fanout.remove(SlotId(1));
    bench.group(FLOW, 0, 1);

    assert_eq!(taken(&queue), [""; 0]);
    assert!(bench.fanout.ring(FLOW).count() == 0);
}

#[test]
fn who_comes_after_the_end_is_told_so() {
    let bench = Bench::new();
    bench.group(FLOW, 0, 1);
    bench.deliver(FLOW, datapath::Delivery::End);
    let early = bench.attached(1);
    bench.gap(FLOW);

    let late = bench.attached(2);

    assert_eq!(taken(&early), ["frame 0", "end", "gap Lost 3+0"]);
    assert_eq!(taken(&late), ["end"]);
}

#[test]
fn who_reads_too_late_misses_the_oldest_and_is_told_how_much() {
    let bench = Bench::new();
    let late = bench.subscriber(
        1,
        SubscribeOptions::default().with_queue(usize::MAX, usize::MAX),
    );
    bench.attach(1, FLOW);
    let reader = bench.attached(2);
    bench.describe(FLOW, 2);
    for group in 0..RING_ENTRIES_MAX {
        bench.group(FLOW, u32::try_from(group).unwrap(), 2);
        taken(&reader);
    }

    let told = taken(&late);

    // What is kept begins in the middle of nothing: each group has two frames.
    let missed = RING_ENTRIES_MAX;
    assert_eq!(told[0], format!("gap Slow 0+{missed}"));
    assert_eq!(told[1], "description 2");
    assert_eq!(told[2], format!("frame {}", RING_ENTRIES_MAX / 2));
    assert_eq!(told.len(), 2 + RING_ENTRIES_MAX);
}

#[test]
fn bytes_that_nobody_reads_go_as_frames_do() {
    const FRAME_BYTES: usize = 1 << 20;
    let bench = Bench::new();
    let late = bench.subscriber(
        1,
        SubscribeOptions::default().with_queue(usize::MAX, usize::MAX),
    );
    bench.attach(1, FLOW);
    let frames = u32::try_from(RING_BYTES_MAX / FRAME_BYTES).unwrap() + 3;
    for group in 0..frames {
        bench.frame(FLOW, group, true, FRAME_BYTES);
    }

    assert_eq!(taken(&late)[..2], ["gap Slow 0+3", "frame 3"]);
}

#[test]
fn rings_share_one_room_and_who_holds_more_than_its_part_lets_go_of_its_oldest() {
    const FRAME_BYTES: usize = 1 << 20;
    const ROOM: usize = 16 * FRAME_BYTES;
    let mut bench = Bench::new();
    bench.fanout.room = Arc::new(FrameRoom::new(ROOM));
    let (greedy, honest) = (FlowId(8), FlowId(9));
    let queues = [(1, greedy), (2, honest)].map(|(id, flow)| {
        bench.open(flow);
        let all = SubscribeOptions::default().with_queue(usize::MAX, usize::MAX);
        let queue = bench.subscriber(id, all);
        bench.attach(id, flow);
        queue
    });
    let room = Arc::clone(&bench.fanout.room);

    for group in 0..16 {
        bench.frame(greedy, group, true, FRAME_BYTES);
    }
    assert_eq!(room.used(), ROOM, "one may have what nobody else needs");
    for group in 0..8 {
        bench.frame(honest, group, true, FRAME_BYTES);
        bench.frame(greedy, 16 + group, true, FRAME_BYTES);
        for flow in [greedy, honest] {
            bench.fanout.ring(flow).kept();
        }
        assert!(room.used() <= ROOM + FRAME_BYTES);
    }

    let [of_greedy, of_honest] = queues.map(|queue| taken(&queue));
    assert_eq!(of_honest.len(), 8, "{of_honest:?}");
    assert!(of_greedy[0].starts_with("gap Slow"), "{of_greedy:?}");
    drop(bench);
    assert_eq!(room.used(), 0, "what was held is given back");
}

#[test]
fn what_all_have_read_is_not_kept_beside_the_newest_group() {
    let bench = Bench::new();
    let [one, two] = [bench.attached(1), bench.attached(2)];
    for group in 0..100 {
        bench.group(FLOW, group, 5);
        taken(&one);
        taken(&two);
    }
    bench.group(FLOW, 100, 5);

    let ring = bench.fanout.ring(FLOW);
    taken(&one);

    assert!(ring.kept() <= TRIM_ENTRIES_MIN, "{} are kept", ring.kept());
}

#[test]
fn an_inbox_that_nobody_empties_is_emptied_by_the_lane() {
    let bench = Bench::new();
    let ring = bench.fanout.ring(FLOW);

    bench.group(FLOW, 0, INBOX_ENTRIES_MAX);
    let by_frames = ring.unsettled();
    bench.frame(FLOW, 1, true, INBOX_BYTES_MAX);
    let by_bytes = ring.unsettled();

    // The description came first.
    assert_eq!((by_frames, by_bytes), (1, 0));
}

/// How often it was woken.
#[derive(Debug, Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_burst_costs_the_lane_one_wake_however_many_subscribers_wait() {
    for subscribers in [1, 2, 500] {
        let bench = Bench::new();
        let (task, all) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let mut serve = pin!(bench.fanout.ring(FLOW).serve());
        let mut serve = || {
            let waker = Waker::from(Arc::clone(&task));
            let _ = serve.as_mut().poll(&mut Context::from_waker(&waker));
        };
        serve();
        let queues: Vec<_> = (0..subscribers).map(|id| bench.attached(id)).collect();
        let waker = Waker::from(Arc::clone(&all));
        for queue in &queues {
            taken(queue);
            assert!(queue.poll_next(&Context::from_waker(&waker)).is_pending());
        }
        serve();
        let before = task.times();

        bench.group(FLOW, 0, 5);
        let by_the_lane = task.times() - before + all.times();
        for _ in 0..=subscribers / WAKES_AT_ONCE as u64 {
            serve();
        }

        assert_eq!(by_the_lane, 1, "{subscribers} subscribers");
        assert_eq!(all.times(), queues.len());
        assert!(queues.iter().all(|queue| taken(queue).len() == 5));
    }
}

#[test]
fn a_subscriber_in_the_middle_of_reading_does_not_hold_up_the_lane() {
    let bench = Bench::new();
    let queue = bench.attached(1);
    let ring = bench.fanout.ring(FLOW);
    let (done, is_done) = std::sync::mpsc::channel();

    std::thread::scope(|scope| {
        let reads = ring.hold();
        scope.spawn(|| {
            bench.group(FLOW, 0, 3);
            done.send(()).unwrap();
        });
        let delivered = is_done.recv_timeout(Duration::from_secs(20));
        drop(reads);
        assert_eq!(delivered, Ok(()), "the lane waits for a subscriber");
    });

    assert_eq!(taken(&queue).len(), 3);
}

#[test]
fn a_lane_that_puts_one_flow_in_order_does_not_hold_up_the_opening_of_another() {
    let bench = Bench::new();
    let ring = bench.fanout.ring(FLOW);
    let (done, is_done) = std::sync::mpsc::channel();

    std::thread::scope(|scope| {
        let reads = ring.hold();
        let left = INBOX_ENTRIES_MAX - ring.unsettled();
        // With the last it waits for who reads.
        let lane = {
            let bench = &bench;
            scope.spawn(move || bench.group(FLOW, 0, left))
        };
        while ring.unsettled() < INBOX_ENTRIES_MAX {
            std::thread::yield_now();
        }
        scope.spawn(|| {
            bench.fanout.open(OTHER);
            done.send(()).unwrap();
        });
        let opened = is_done.recv_timeout(Duration::from_secs(20));
        assert!(!lane.is_finished());
        drop(reads);
        assert_eq!(opened, Ok(()), "the driver waits for a lane");
    });
}

#[tokio::test]
async fn all_who_wait_are_woken() {
    let fanout = Fanout::new(Handle::current(), FrameRoom::default());
    fanout.open(FLOW);
    let instance = Instance::new(NodeId([1; 32]), InstanceId([1; 16]), 1);
    let mut waiting = tokio::task::JoinSet::new();
    for id in 0..50 {
        let queue = Arc::new(Queue::new(&SubscribeOptions::default()));
        fanout.add(SlotId(id), Arc::clone(&queue));
        fanout.attach(SlotId(id), FLOW, instance);
        waiting.spawn(async move {
            loop {
                let next = std::future::poll_fn(|context| queue.poll_next(context)).await;
                if matches!(next, Some(Delivery::Frame { .. })) {
                    return;
                }
            }
        });
    }
    tokio::task::yield_now().await;
    let described = datapath::Delivery::Description(Arc::new(description(1)));

    fanout.deliver(FLOW, described);
    fanout.deliver(FLOW, frame(0, true, 1));

    let woken = tokio::time::timeout(Duration::from_secs(20), waiting.join_all());
    assert_eq!(woken.await.unwrap().len(), 50);
}
