//! Tests of `program.rs`: what is held, how long, and how tracks are numbered.

use super::*;
use crate::ts::pes::{self, Head};

const H264: u8 = 0x1B;
const AAC: u8 = 0x0F;
const METADATA: u8 = 0x15;

fn entry(stream_type: u8, pid: u16) -> Entry {
    Entry {
        stream_type,
        pid: Pid::from_low_bits(pid),
        descriptors: Vec::new(),
    }
}

#[derive(Default)]
struct Pair {
    program: Program,
    events: Vec<Event>,
    notes: Notes,
}

impl Pair {
    fn update(&mut self, entries: &[Entry]) {
        let Self {
            program,
            events,
            notes,
        } = self;
        program.update(entries, &mut Out { events, notes });
    }

    fn push(&mut self, pid: u16, dts: u64, data: &[u8]) {
        let (mut packet, pts) = (Vec::new(), dts);
        let head = Head {
            stream: 0xBD,
            pts,
            dts,
        };
        let Self {
            program,
            events,
            notes,
        } = self;
        pes::write(head, [&[], data], &mut packet, |packet| {
            let out = &mut Out { events, notes };
            program.push(Pid::from_low_bits(pid), true, packet, out);
        });
    }

    /// The words and numbers of the newest description.
    fn described(&self) -> Option<Vec<(&str, u8)>> {
        let description = self.events.iter().rev().find_map(|event| match event {
            Event::Description(description) => Some(description),
            _ => None,
        });
        let tracks = description?.tracks.iter();
        Some(tracks.map(|track| (&*track.codec, track.id.0)).collect())
    }
}

#[test]
fn frames_wait_for_a_track_that_has_not_shown_itself() {
    let mut pair = Pair::default();
    pair.update(&[entry(METADATA, 0x101), entry(AAC, 0x102)]);

    pair.push(0x101, 0, &[1]);
    assert!(pair.events.is_empty());
    pair.push(0x102, 0, &[0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x1F, 0xFC, 9]);

    assert_eq!(pair.described(), Some(vec![("aac", 1), ("ts-15", 2)]));
    assert_eq!(pair.events.len(), 3);
}

#[test]
fn no_more_is_held_than_the_limits_allow() {
    let waiting = || {
        let mut pair = Pair::default();
        pair.update(&[entry(METADATA, 0x101), entry(AAC, 0x102)]);
        pair
    };

    let mut many = waiting();
    for _ in 1..HELD_EVENTS_MAX {
        many.push(0x101, 0, &[1]);
    }
    assert!(many.events.is_empty());
    many.push(0x101, 0, &[1]);
    assert_eq!(many.events.len(), 1 + HELD_EVENTS_MAX);

    let mut long = waiting();
    long.push(0x101, 0, &[1]);
    long.push(0x101, HELD_TICKS_MAX.unsigned_abs() - 1, &[1]);
    assert!(long.events.is_empty());
    long.push(0x101, HELD_TICKS_MAX.unsigned_abs(), &[1]);
    assert_eq!(long.events.len(), 4);

    let mut large = waiting();
    let frame = vec![0; HELD_BYTES_MAX / 4];
    for _ in 1..4 {
        large.push(0x101, 0, &frame);
        assert!(large.events.is_empty());
    }
    large.push(0x101, 0, &frame);
    assert_eq!(large.events.len(), 5);
}

#[test]
fn tracks_keep_their_numbers_and_new_ones_take_those_that_are_free() {
    let mut pair = Pair::default();

    pair.update(&[
        entry(METADATA, 0x101),
        entry(H264, 0x102),
        entry(0x16, 0x103),
    ]);
    assert_eq!(
        pair.described(),
        Some(vec![("h264", 1), ("ts-15", 2), ("ts-16", 3)])
    );
    pair.update(&[
        entry(0x17, 0x104),
        entry(0x16, 0x103),
        entry(H264, 0x102),
        entry(H264, 0x105),
    ]);

    let expected = vec![("h264", 1), ("ts-17", 2), ("ts-16", 3), ("h264", 4)];
    assert_eq!(pair.described(), Some(expected));
}

#[test]
fn tracks_above_the_limit_are_left_out_and_reported() {
    let mut pair = Pair::default();
    let entries: Vec<_> = (0x101..)
        .take(TRACKS_MAX + 1)
        .map(|pid| entry(METADATA, pid))
        .collect();

    pair.update(&entries);

    assert_eq!(
        pair.described().map(|tracks| tracks.len()),
        Some(TRACKS_MAX)
    );
    assert_eq!(pair.notes.take()[0].kind, ErrorKind::TooManyTracks);
}
