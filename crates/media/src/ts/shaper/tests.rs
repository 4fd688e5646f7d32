//! A shaper is given the test card as a node would get it, and what leaves is looked at as a television would.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use levada_wire::WallTime;

use super::*;
use crate::TestCard;
use crate::ts::{Demuxer, Event};

const NETWORK: NetworkId = NetworkId([7; 16]);
const SECOND: u64 = 1_000_000_000;

fn shape(rate: Option<u64>) -> Shape {
    Shape {
        rate: rate.map(Bitrate),
        delay: Duration::from_millis(300),
        network: NETWORK,
    }
}

/// What left: when, and the bytes.
type Sent = Vec<(Instant, Vec<u8>)>;

/// A node that gets the test card, whose clock is `faster` parts in a million than this one, for so long; some frames
/// come `jitter` later than others.
struct Scene {
    shaper: Shaper,
    card: TestCard,
    faster: i64,
    jitter: Duration,
    now: Instant,
    sent: Sent,
}

impl Scene {
    fn new(shape: Shape) -> Self {
        let now = Instant::from_nanos(SECOND);
        let mut shaper = Shaper::new(shape, now);
        let card = TestCard::new();
        shaper.describe(card.description());
        Self {
            shaper,
            card,
            faster: 0,
            jitter: Duration::ZERO,
            now,
            sent: Vec::new(),
        }
    }

    /// Sends all that is due until then.
    fn send_until(&mut self, until: Instant) {
        let mut out = Vec::new();
        while let Some(due) = self.shaper.due().filter(|due| *due <= until) {
            assert!(self.shaper.take(due, &mut out).is_some());
            self.sent.push((due, out.clone()));
        }
        self.now = until;
    }

    fn run(&mut self, seconds: u64) {
        let begin = self.now;
        for at in 0.. {
            let frame = self.card.next_frame(WallTime(0));
            let timescale = self.card.description().track(frame.track).unwrap();
            let nanos = rescale(
                frame.dts,
                timescale.timescale,
                std::num::NonZeroU32::new(1_000_000_000).unwrap(),
            );
            let nanos = nanos - nanos / 1_000_000 * self.faster;
            let late = if at % 3 == 0 {
                self.jitter
            } else {
                Duration::ZERO
            };
            let at = begin + Duration::from_nanos(nanos.try_into().unwrap()) + late;
            if at.since(begin) >= Duration::from_secs(seconds) {
                return;
            }
            self.send_until(at.max(self.now));
            self.shaper.push(self.now, &frame);
        }
    }

    /// The packets that left, each with when its datagram did.
    fn packets(&self) -> impl Iterator<Item = (Instant, Packet<'_>)> {
        self.sent.iter().flat_map(|(at, bytes)| {
            let (packets, rest) = bytes.as_chunks();
            assert!(rest.is_empty(), "whole packets");
            packets
                .iter()
                .map(|packet| (*at, Packet::parse(packet).unwrap()))
        })
    }

    /// The clock's values, each with when it left.
    fn clocks(&self) -> Vec<(Instant, u64)> {
        self.packets()
            .filter_map(|(at, packet)| Some((at, packet.adaptation.pcr?)))
            .collect()
    }

    /// What a demuxer makes of it, and that it has nothing to complain of.
    fn events(&self) -> Vec<Event> {
        let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
        for (_, bytes) in &self.sent {
            demuxer.push(bytes, &mut events);
        }
        demuxer.finish(&mut events);
        assert_eq!(demuxer.errors_total(), 0, "{:?}", demuxer.take_errors());
        assert_eq!(demuxer.network(), Some(NETWORK));
        events
    }
}

/// The largest step between what follows each other.
fn largest(times: impl IntoIterator<Item = Instant>) -> Duration {
    let times: Vec<_> = times.into_iter().collect();
    let steps = times.windows(2).map(|pair| pair[1].since(pair[0]));
    steps.max().unwrap()
}

#[test]
fn a_constant_rate_is_constant_and_its_clock_says_when_it_left() {
    let mut scene = Scene::new(shape(Some(4_000_000)));
    scene.jitter = Duration::from_millis(80);

    scene.run(10);

    let bytes: usize = scene.sent.iter().map(|(_, bytes)| bytes.len()).sum();
    let span = scene.now.since(Instant::from_nanos(SECOND)).as_secs_f64();
    let rate = bytes as f64 * 8.0 / span;
    assert!((rate / 4e6 - 1.0).abs() < 0.001, "{rate} in {span}");
    assert!(
        scene
            .sent
            .iter()
            .all(|(_, bytes)| bytes.len() == DATAGRAM_BYTES)
    );
    let clocks = scene.clocks();
    let (first_at, first) = clocks[0];
    for (at, clock) in &clocks {
        let by_time = at.since(first_at).as_nanos() * 27 / 1_000;
        let off = by_time.abs_diff(u128::from(clock - first));
        assert!(off < 27 * 50, "{off} units off at {at:?}"); // 50 us: the drift that is followed
    }
    assert!(largest(clocks.iter().map(|(at, _)| *at)) <= Duration::from_millis(40));
    let tables = scene.packets().filter(|(_, packet)| packet.pid == Pid::PAT);
    assert!(largest(tables.map(|(at, _)| at)) <= Duration::from_millis(100));
    assert_eq!(scene.shaper.counts().placements, 1);
    assert_eq!(scene.shaper.counts().frames_late, 0);
}

#[test]
fn every_frame_leaves_before_its_time_and_as_it_came() {
    for rate in [None, Some(4_000_000)] {
        let mut scene = Scene::new(shape(rate));

        scene.run(5);
        scene.send_until(scene.now + Duration::from_secs(1));

        let frames = scene
            .events()
            .into_iter()
            .filter(|event| matches!(event, Event::Frame(_)));
        let frames = u64::try_from(frames.count()).unwrap();
        assert_eq!(frames, scene.shaper.counts().frames, "{rate:?}");
        assert!(frames > 300, "{frames}");
        let step = largest(scene.clocks().iter().map(|(at, _)| *at));
        assert!(step <= Duration::from_millis(40), "{rate:?}: {step:?}");
        let tables = scene.packets().filter(|(_, packet)| packet.pid == Pid::PAT);
        let step = largest(tables.map(|(at, _)| at));
        assert!(step <= Duration::from_millis(100), "{rate:?}: {step:?}");
        // The clock at the end of each frame is before the frame's decoding time.
        let mut clock = 0;
        let mut decoding: BTreeMap<Pid, u64> = BTreeMap::new();
        for (_, packet) in scene.packets() {
            clock = packet.adaptation.pcr.unwrap_or(clock);
            if packet.payload.is_none() {
                continue;
            }
            if let Some(dts) = decoding.get(&packet.pid).filter(|_| !packet.starts_unit) {
                assert!(*dts * 300 > clock, "{rate:?}: {} at {clock}", dts * 300);
            }
            if packet.starts_unit
                && let Some(dts) = packet.payload.and_then(decoding_time)
            {
                decoding.insert(packet.pid, dts);
            }
        }
        assert!(!decoding.is_empty());
    }
}

/// The decoding time of the PES packet that begins here (ISO 13818-1 2.4.3.6).
fn decoding_time(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(&[0, 0, 1])?;
    let flags = rest.get(4)? >> 6;
    let at = match flags {
        2 => 6,
        3 => 11,
        _ => return None,
    };
    let bytes: &[u8; 5] = rest.get(at..at + 5)?.try_into().ok()?;
    let [a, b, c, d, e] = bytes.map(u64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

#[test]
fn a_rate_that_is_too_small_loses_frames_and_says_so() {
    let mut scene = Scene::new(shape(Some(250_000)));

    scene.run(5);

    let counts = scene.shaper.counts();
    assert!(counts.frames_over_rate > 0, "{counts:?}");
    assert!(counts.frames > 0, "sound still fits: {counts:?}");
    scene.events();
}

#[test]
fn another_start_goes_on_behind_without_a_jump_of_the_clock() {
    let mut scene = Scene::new(shape(Some(4_000_000)));
    scene.run(3);
    scene.send_until(scene.now + Duration::from_secs(4));

    scene.card = TestCard::new();
    scene.shaper.describe(scene.card.description());
    scene.shaper.restart();
    scene.run(3);

    assert_eq!(scene.shaper.counts().placements, 2);
    let events = scene.events();
    let is_jump = |event: &&Event| matches!(event, Event::Discontinuity(_));
    assert_eq!(events.iter().filter(is_jump).count(), 0);
    assert!(largest(scene.clocks().iter().map(|(at, _)| *at)) <= Duration::from_millis(40));
    assert!(
        scene
            .packets()
            .all(|(_, packet)| !packet.adaptation.discontinuity)
    );
}

#[test]
fn a_faster_origin_is_followed_without_a_step() {
    for faster in [-20, 20] {
        let mut scene = Scene::new(shape(Some(2_000_000)));
        scene.faster = faster;

        scene.run(120);

        let counts = scene.shaper.counts();
        assert_eq!((counts.placements, counts.frames_late), (1, 0), "{faster}");
        let off = scene.shaper.clock.faster;
        assert_eq!(off.signum(), faster.signum(), "{off}");
        assert!(off.abs() <= FOLLOW_MAX);
    }
}

#[test]
fn a_machine_that_slept_makes_up_for_nothing() {
    let mut scene = Scene::new(shape(Some(4_000_000)));
    scene.run(2);
    let before = scene.sent.len();

    let woken = scene.now + Duration::from_secs(60);
    let mut out = Vec::new();
    while scene.shaper.take(woken, &mut out).is_some() {
        scene.sent.push((woken, out.clone()));
    }

    assert_eq!(scene.sent.len() - before, 1, "not a minute of datagrams");
    let clocks = scene.clocks();
    let [.., (before_at, before), (_, after)] = clocks[..] else {
        panic!("{clocks:?}");
    };
    let slept = woken.since(before_at).as_nanos() * 27 / 1_000;
    assert!(slept.abs_diff(u128::from(after - before)) < 27_000);
}

#[test]
fn more_than_may_wait_is_left_out() {
    let mut scene = Scene::new(shape(None));
    let mut frame = scene.card.next_frame(WallTime(0));
    while !(frame.sync && scene.shaper.muxer.leads(frame.track)) {
        frame = scene.card.next_frame(WallTime(0));
    }
    frame.data = vec![0; QUEUE_BYTES_MAX / 2].into();

    for _ in 0..2 {
        scene.shaper.push(scene.now, &frame);
    }

    let counts = scene.shaper.counts();
    assert_eq!((counts.frames, counts.frames_over_rate), (1, 1));
}
