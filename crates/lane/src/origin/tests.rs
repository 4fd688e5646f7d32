//! Tests of the origin: what shares a burst, where groups start, what is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_wire::packet::seal::Opener;
use levada_wire::{Header, PacketSize};
use proptest::prelude::*;

use super::*;
use crate::limits::FLUSH_INTERVAL_MAX;
use crate::testkit::{self, WALL, frame};

const FLUSH: Duration = Duration::from_millis(10);

/// A whole burst: the headers of its packets, their sizes, and its frames.
#[derive(Debug)]
struct Burst {
    headers: Vec<Header>,
    sizes: Vec<usize>,
    frames: Vec<(FrameHeader, Vec<u8>)>,
}

impl Burst {
    fn first(&self) -> &Header {
        &self.headers[0]
    }

    fn control(&self) -> Option<ControlFrame> {
        let (header, data) = &self.frames[0];
        (header.track == TrackId::CONTROL).then(|| minicbor::decode(data).unwrap())
    }

    fn dts(&self) -> Vec<i64> {
        let users = self
            .frames
            .iter()
            .filter(|(h, _)| h.track != TrackId::CONTROL);
        users.map(|(header, _)| header.dts).collect()
    }
}

struct Rig {
    origin: Origin,
    opener: Opener,
    now: Instant,
}

impl Rig {
    fn new(flush_interval: Duration) -> Self {
        let originate = Originate {
            flush_interval,
            ..testkit::originate()
        };
        Self {
            origin: Origin::new(testkit::FLOW, &originate).unwrap(),
            opener: testkit::opener(),
            now: Instant::from_nanos(1_000_000_000),
        }
    }

    fn push(&mut self, frame: &Frame) -> Result<(), FrameRefusal> {
        self.origin.push(frame, WALL, self.now)
    }

    fn sleep(&mut self, duration: Duration) {
        self.now += duration;
        self.origin.flush_if_due(self.now);
    }

    /// What has left since the last time.
    fn bursts(&mut self) -> Vec<Burst> {
        let (mut bursts, mut headers, mut sizes, mut body) = (vec![], vec![], vec![], vec![]);
        while let Some((run, _)) = self.origin.next_run(self.now) {
            for (number, packet) in run.iter() {
                let header = Header::peek(&packet).unwrap();
                assert_eq!(header.number, number);
                assert_eq!(header.group_start(), Some(run.group_start));
                self.opener.open(&packet, &mut body).unwrap();
                headers.push(header);
                sizes.push(packet.len());
                if header.last {
                    bursts.push(Burst {
                        headers: std::mem::take(&mut headers),
                        sizes: std::mem::take(&mut sizes),
                        frames: frames_of(&std::mem::take(&mut body)),
                    });
                }
            }
        }
        assert!(headers.is_empty(), "a burst ends with LAST");
        bursts
    }
}

fn frames_of(mut body: &[u8]) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let header = FrameHeader::decode(body).unwrap();
        let (data, rest) = body[FRAME_HEADER_BYTES..].split_at(header.length as usize);
        frames.push((header, data.to_vec()));
        body = rest;
    }
    frames
}

/// Starts of groups, by the dts of the first user frame of each.
fn group_starts(bursts: &[Burst]) -> Vec<i64> {
    let starts = bursts.iter().filter(|burst| burst.first().offset == 0);
    starts.map(|burst| burst.dts()[0]).collect()
}

#[test]
fn frames_within_the_flush_interval_share_a_burst() {
    let mut rig = Rig::new(FLUSH);
    rig.push(&frame(1, true, 0, 100)).unwrap();
    rig.push(&frame(2, true, 0, 100)).unwrap();
    assert!(rig.bursts().is_empty());
    assert_eq!(rig.origin.deadline(), Some(rig.now + FLUSH));

    rig.sleep(FLUSH);
    rig.push(&frame(2, true, 20, 100)).unwrap();
    rig.sleep(FLUSH);

    let bursts = rig.bursts();
    assert_eq!((bursts[0].dts(), bursts[1].dts()), (vec![0, 0], vec![20]));
    assert_eq!(rig.origin.deadline(), None);
}

#[test]
fn no_frame_waits_longer_than_the_limit_whatever_was_asked_for() {
    let mut rig = Rig::new(FLUSH_INTERVAL_MAX * 10);
    rig.push(&frame(1, true, 0, 100)).unwrap();

    rig.sleep(FLUSH_INTERVAL_MAX - Duration::from_nanos(1));
    assert!(rig.bursts().is_empty());
    rig.sleep(Duration::from_nanos(1));
    assert_eq!(rig.bursts().len(), 1);
}

#[test]
fn frames_of_two_discard_classes_never_share_a_burst_and_keep_their_order() {
    let mut rig = Rig::new(FLUSH);
    rig.push(&frame(1, true, 0, 10)).unwrap();
    for (dts, discardable) in [(1, true), (2, true), (3, false), (4, true)] {
        let frame = Frame {
            discardable,
            ..frame(1, false, dts, 10)
        };
        rig.push(&frame).unwrap();
    }
    rig.sleep(FLUSH);

    let bursts = rig.bursts();

    let seen: Vec<_> = bursts
        .iter()
        .map(|b| (b.first().discardable, b.dts()))
        .collect();
    let expected = [
        (false, vec![0]),
        (true, vec![1, 2]),
        (false, vec![3]),
        (true, vec![4]),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_burst_that_fills_a_send_leaves_at_once() {
    let mut rig = Rig::new(FLUSH);
    rig.push(&frame(1, true, 0, 10)).unwrap();

    for dts in 1..30 {
        rig.push(&frame(1, false, dts, 2_000)).unwrap();
    }

    let bursts = rig.bursts();
    assert_eq!(bursts.len(), 2);
    assert!(
        bursts
            .iter()
            .all(|burst| burst.headers.len() <= BURST_PACKETS_MAX)
    );
}

#[test]
fn a_frame_larger_than_a_send_is_one_burst_in_several_sends() {
    let mut rig = Rig::new(Duration::ZERO);
    let largest = frame(1, true, 0, FRAME_BYTES_MAX);

    rig.push(&largest).unwrap();

    assert!(rig.origin.cutter.runs.len() > 100);
    let bursts = rig.bursts();
    assert_eq!(bursts.len(), 1);
    assert_eq!(bursts[0].frames[1].1, largest.data);
}

#[test]
fn groups_start_at_sync_frames_half_a_second_apart() {
    let mut rig = Rig::new(Duration::ZERO);
    // Sync frames every 0.2 s at 90 kHz, others in between.
    for i in 0..40_i64 {
        let frame = frame(1, i % 5 == 0, i * 3_600, 10);
        rig.push(&frame).unwrap();
    }

    let starts = group_starts(&rig.bursts());

    assert_eq!(starts, [0, 15 * 3_600, 30 * 3_600]); // 0.6 s: the first sync frame after 0.5 s
}

#[test]
fn groups_start_every_second_if_every_frame_can_start_one() {
    let mut rig = Rig::new(Duration::ZERO);
    for i in 0..60_i64 {
        rig.push(&frame(1, true, i * 3_600, 10)).unwrap();
    }

    assert_eq!(group_starts(&rig.bursts()), [0, 90_000, 180_000]);
}

#[test]
fn time_that_runs_backwards_starts_a_group() {
    let mut rig = Rig::new(Duration::ZERO);
    for dts in [90_000, 93_600, 0, 3_600] {
        rig.push(&frame(1, dts % 90_000 == 0, dts, 10)).unwrap();
    }

    assert_eq!(group_starts(&rig.bursts()), [90_000, 0]);
}

#[test]
fn each_group_begins_with_the_description_and_the_wall_clock() {
    let mut rig = Rig::new(FLUSH);
    let start = Frame {
        discardable: true,
        ..frame(1, true, 0, 10)
    };
    rig.push(&start).unwrap();
    rig.sleep(FLUSH);
    rig.push(&frame(1, false, 3_600, 10)).unwrap();
    rig.push(&frame(1, true, 90_000, 10)).unwrap();
    rig.sleep(FLUSH);

    let bursts = rig.bursts();

    let first = bursts[0].control().unwrap();
    assert_eq!(first.description, Some((*testkit::description()).clone()));
    // Written for the moment at which the burst left, 10 ms after the frame was handed over.
    assert_eq!(first.wall, Some(WALL.0 + 10_000));
    assert!(
        !bursts[0].first().discardable,
        "nothing can be decoded without it"
    );
    assert!(bursts[1].control().is_none());
    assert!(bursts[2].control().unwrap().description.is_some());
    assert_eq!(
        (bursts[2].first().group.0, bursts[2].first().offset),
        (1, 0)
    );
}

#[test]
fn a_new_description_is_valid_from_the_next_group_on() {
    let mut rig = Rig::new(Duration::ZERO);
    let mut new = (*testkit::description()).clone();
    new.tracks.insert(0, testkit::track(3, 1_000));
    rig.push(&frame(1, true, 0, 10)).unwrap();

    assert!(rig.origin.describe(Arc::new(new.clone())));
    assert_eq!(
        rig.push(&frame(3, false, 0, 10)),
        Err(FrameRefusal::UnknownTrack)
    );
    rig.push(&frame(1, true, 90_000, 10)).unwrap();
    rig.push(&frame(3, true, 1_000, 10)).unwrap();

    let bursts = rig.bursts();
    let versions: Vec<_> = bursts.iter().map(|b| b.first().description).collect();
    assert_eq!(versions, [0, 0, 1]); // the new leading track decides
    assert_eq!(bursts[2].control().unwrap().description, Some(new));
    assert!(
        !rig.origin.describe(Arc::new(Description::default())),
        "no track at all"
    );
}

#[test]
fn the_same_description_again_changes_nothing() {
    let mut rig = Rig::new(Duration::ZERO);
    rig.push(&frame(1, true, 0, 10)).unwrap();

    assert!(rig.origin.describe(testkit::description()));
    rig.push(&frame(1, true, 3_600, 10)).unwrap();

    assert!(
        rig.bursts()
            .iter()
            .all(|b| b.first().description == 0 && b.first().group.0 == 0)
    );
}

#[test]
fn what_waits_for_the_first_picture_is_kept_and_what_cannot_be_decoded_is_not() {
    let mut rig = Rig::new(Duration::ZERO);

    rig.push(&frame(2, true, 0, 10)).unwrap();
    assert_eq!(
        rig.push(&frame(1, false, 0, 10)),
        Err(FrameRefusal::BeforeFirstSync)
    );
    rig.push(&frame(1, true, 3_600, 10)).unwrap();
    rig.push(&frame(1, false, 7_200, 10)).unwrap();

    assert_eq!(group_starts(&rig.bursts()), [0, 3_600]);
}

#[test]
fn a_frame_that_makes_no_sense_is_refused_with_its_reason() {
    let mut rig = Rig::new(Duration::ZERO);
    let far = Frame {
        dts: i64::MIN,
        pts: i64::MAX,
        ..frame(1, true, 0, 1)
    };

    assert_eq!(rig.push(&far), Err(FrameRefusal::TimesApart));
    assert_eq!(
        rig.push(&frame(0, true, 0, 1)),
        Err(FrameRefusal::UnknownTrack)
    );
    assert_eq!(
        rig.push(&frame(9, true, 0, 1)),
        Err(FrameRefusal::UnknownTrack)
    );
    let large = frame(1, true, 0, FRAME_BYTES_MAX + 1);
    assert_eq!(rig.push(&large), Err(FrameRefusal::TooLarge));
    assert!(rig.bursts().is_empty());
}

#[test]
fn the_end_names_the_last_number() {
    for frames in 0..3 {
        let mut rig = Rig::new(FLUSH);
        for dts in 0..frames {
            rig.push(&frame(1, dts == 0, dts, 2_000)).unwrap();
        }

        rig.origin.finish(rig.now);

        let bursts = rig.bursts();
        let last = bursts.last().unwrap();
        assert_eq!(last.control().unwrap().end, Some(last.first().number));
        assert_eq!(last.headers.len(), 1);
        assert!(bursts[0].control().unwrap().description.is_some());
        assert_eq!(rig.push(&frame(1, true, 0, 1)), Err(FrameRefusal::Finished));
        rig.origin.finish(rig.now);
        assert!(rig.bursts().is_empty(), "a stream ends once");
    }
}

#[test]
fn each_track_counts_its_frames() {
    let mut rig = Rig::new(Duration::ZERO);
    for (track, dts) in [(1, 0), (2, 0), (1, 1), (2, 1), (2, 2)] {
        rig.push(&frame(track, true, dts, 10)).unwrap();
    }

    let bursts = rig.bursts();

    let of = |track| {
        let frames = bursts.iter().flat_map(|burst| &burst.frames);
        let of_track = frames.filter(move |(header, _)| header.track == TrackId(track));
        of_track
            .map(|(header, _)| header.sequence)
            .collect::<Vec<_>>()
    };
    assert_eq!((of(0), of(1), of(2)), (vec![0], vec![0, 1], vec![0, 1, 2]));
}

#[test]
fn a_description_that_is_not_in_order_makes_no_origin() {
    let originate = Originate {
        description: Arc::new(Description::default()),
        ..testkit::originate()
    };

    assert!(Origin::new(testkit::FLOW, &originate).is_none());
}

proptest! {
    #[test]
    fn packets_are_numbered_cut_and_grouped_whatever_the_frames(
        frames in prop::collection::vec(
            (1..3_u8, any::<bool>(), any::<bool>(), 0..9_000_usize, 0..25_u64),
            1..60,
        ),
        interval in 0..20_u64,
    ) {
        let mut rig = Rig::new(Duration::from_millis(interval));
        let mut pushed = Vec::new();
        for (at, (track, sync, discardable, bytes, wait)) in frames.into_iter().enumerate() {
            let dts = i64::try_from(at).unwrap() * 9_000;
            let frame = Frame { discardable, ..frame(track, sync, dts, bytes) };
            if rig.push(&frame).is_ok() {
                pushed.push(frame);
            }
            rig.sleep(Duration::from_millis(wait));
        }
        rig.origin.finish(rig.now);

        let bursts = rig.bursts();

        let full = PacketSize::MIN.bytes();
        let mut next = 0;
        let mut group_start = 0;
        let mut came_out = Vec::new();
        for burst in &bursts {
            if burst.first().offset == 0 {
                group_start = next;
            }
            let (last, others) = burst.sizes.split_last().unwrap();
            prop_assert!(others.iter().all(|&size| size == full) && *last <= full);
            for (index, header) in burst.headers.iter().enumerate() {
                prop_assert_eq!(header.number.value(), next);
                prop_assert_eq!(usize::from(header.index), index);
                prop_assert_eq!(u64::from(header.offset), next - group_start);
                prop_assert_eq!(header.last, index + 1 == burst.headers.len());
                next += 1;
            }
            let is_group_start = burst.first().offset == 0;
            let control = burst.control();
            prop_assert_eq!(control.is_some_and(|c| c.description.is_some()), is_group_start);
            came_out.extend(burst.frames.iter().filter(|(h, _)| h.track != TrackId::CONTROL).cloned());
            if burst.first().discardable {
                prop_assert!(burst.frames.iter().all(|(header, _)| header.discardable));
            }
        }
        prop_assert_eq!(came_out.len(), pushed.len());
        for ((header, data), frame) in came_out.iter().zip(&pushed) {
            let pts = header.dts + i64::from(header.pts_offset);
            prop_assert_eq!((header.track, header.dts, pts), (frame.track, frame.dts, frame.pts));
            prop_assert_eq!(&data[..], &frame.data[..]);
        }
    }
}
