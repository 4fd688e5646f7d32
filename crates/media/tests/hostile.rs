//! Streams that are broken in every way a disk, a network or an enemy can think of.
//!
//! Invariants under test: the demuxer never panics, gives out only frames of tracks it described, finds its way
//! back, and does not care how the bytes were cut.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::{demux, description, frame, frames, mux, of_track};
use levada_media::ts::{Demuxer, ErrorKind, Event, MUX_OFFSET, PACKET_BYTES, Packet};
use levada_wire::{Description, Frame};
use proptest::collection::vec;
use proptest::prelude::*;

static CLIP: &[u8] = include_bytes!("../assets/testcard.ts");

/// One second of the clip, so that a case takes a moment only.
fn clip() -> &'static [u8] {
    &CLIP[..200 * PACKET_BYTES]
}

/// Checks what holds for any bytes.
fn check(events: &[Event]) -> Result<(), TestCaseError> {
    let mut described = Description::default();
    for event in events {
        match event {
            Event::Description(description) => {
                prop_assert_eq!(description.check(), Ok(()));
                described = description.clone();
            }
            Event::Frame(Frame { track, .. }) | Event::Discontinuity(track) => {
                prop_assert!(described.track(*track).is_some());
            }
            _ => {}
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Edit {
    Set(usize, u8),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Swap(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = || any::<usize>();
    let edit = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, value)| Edit::Set(at, value)),
        (at(), 1_usize..600).prop_map(|(at, count)| Edit::Remove(at, count)),
        (at(), vec(any::<u8>(), 1..300)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at(), at()).prop_map(|(a, b)| Edit::Swap(a, b)),
    ];
    vec(edit, 0..30)
}

fn apply(bytes: &mut Vec<u8>, edits: Vec<Edit>) {
    for edit in edits {
        let length = bytes.len().max(1);
        match edit {
            Edit::Set(at, value) => bytes[at % length] = value,
            Edit::Remove(at, count) => {
                let at = at % length;
                bytes.drain(at..(at + count).min(length));
            }
            Edit::Insert(at, run) => {
                let at = at % length;
                bytes.splice(at..at, run);
            }
            // Whole packets, so that headers stay and their order goes.
            Edit::Swap(a, b) => {
                let packets = length / PACKET_BYTES;
                let (a, b) = (a % packets * PACKET_BYTES, b % packets * PACKET_BYTES);
                for at in 0..PACKET_BYTES {
                    bytes.swap(a + at, b + at);
                }
            }
        }
    }
}

/// Packets with good headers on the PIDs that are followed, and anything inside.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let pid = prop_oneof![Just(0_u16), Just(0x1000), 0x100_u16..0x104];
    let packet = (pid, any::<bool>(), 0_u8..16, 1_u8..4, vec(any::<u8>(), 184));
    let packet = packet.prop_map(|(pid, starts, continuity, control, mut body)| {
        let [high, low] = pid.to_be_bytes();
        let high = high | if starts { 0x40 } else { 0 };
        if starts && control == 1 && body[0] & 1 == 0 {
            body[..9].copy_from_slice(&[0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5]);
        }
        [vec![0x47, high, low, control << 4 | continuity], body].concat()
    });
    vec(packet, 0..40).prop_map(|packets| packets.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..4_000)) {
        check(&demux([&bytes[..]]).0)?;
    }

    #[test]
    fn a_mutated_stream_is_survived_and_chunks_do_not_matter(edits in edits(), cut in 1_usize..3_000) {
        let mut bytes = clip().to_vec();
        apply(&mut bytes, edits);

        let whole = demux([&bytes[..]]);

        check(&whole.0)?;
        prop_assert_eq!(demux(bytes.chunks(cut)), whole);
    }

    #[test]
    fn packets_with_anything_inside_are_survived(bytes in packets(), cut in 1_usize..500) {
        let tables = mux(&description(&["h264", "aac", "ts-06"]), &[frame(3, 0, vec![1])]);
        let bytes = [tables, bytes].concat();

        let whole = demux([&bytes[..]]);

        check(&whole.0)?;
        prop_assert_eq!(demux(bytes.chunks(cut)), whole);
    }
}

/// The number of a packet that neither begins nor ends a picture.
fn inside_a_picture() -> usize {
    let packets = CLIP
        .as_chunks()
        .0
        .iter()
        .map(|packet| Packet::parse(packet).unwrap());
    let packets: Vec<_> = packets.collect();
    let inside = |packet: &Packet<'_>| packet.pid.value() == 0x100 && !packet.starts_unit;
    (300..)
        .find(|n| inside(&packets[*n]) && inside(&packets[*n + 1]))
        .unwrap()
}

#[test]
fn a_lost_packet_costs_its_frame_and_is_reported() {
    let whole = frames(&demux([CLIP]).0);
    let mut bytes = CLIP.to_vec();
    let at = inside_a_picture() * PACKET_BYTES;
    bytes.drain(at..at + PACKET_BYTES);

    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demuxer.push(&bytes, &mut events);
    demuxer.finish(&mut events);

    let errors = demuxer.take_errors();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].at, errors[0].kind), (at as u64, ErrorKind::Lost));
    let back = frames(&events);
    assert_eq!(back.len(), whole.len() - 1);
    assert!(back.iter().all(|frame| whole.contains(frame)));
    assert_eq!(
        events
            .iter()
            .filter(|event| matches!(event, Event::Discontinuity(_)))
            .count(),
        1
    );
}

#[test]
fn a_packet_sent_twice_is_read_once() {
    let packets = CLIP.as_chunks::<PACKET_BYTES>().0;
    let twice: Vec<u8> = packets
        .iter()
        .flat_map(|packet| [*packet, *packet].concat())
        .collect();

    assert_eq!(demux([&twice[..]]), demux([CLIP]));
}

#[test]
fn a_clip_joined_in_the_middle_begins_with_whole_frames() {
    let whole = frames(&demux([CLIP]).0);

    let (events, _) = demux([&CLIP[500 * PACKET_BYTES + 77..]]);

    let back = frames(&events);
    assert!(back.len() > 400);
    assert!(
        back.iter()
            .all(|frame| whole.iter().any(|other| other.data == frame.data))
    );
}

#[test]
fn an_audio_track_that_never_comes_does_not_hold_the_picture_for_ever() {
    let description = description(&["h264", "aac"]);
    let picture = |n: i64| frame(1, n * 3_000, common::h264(true, true, &[vec![5; 50]]));
    let pictures: Vec<_> = (0..90).map(picture).collect();
    let bytes = mux(&description, &pictures);
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());

    demuxer.push(&bytes, &mut events);

    assert_eq!(of_track(&frames(&events), 1).len(), 90);
    assert_eq!(common::descriptions(&events)[0].tracks[1].config, []);
}

#[test]
fn a_stream_of_two_programs_gives_the_one_asked_for() {
    // Two streams become two programs: the second one's PIDs are moved, and one table lists both.
    let (video, data) = (description(&["h264"]), description(&["ts-06"]));
    let picture = frame(1, 0, common::h264(true, true, &[vec![5; 50]]));
    let first = mux(&video, &[picture]);
    let second = mux(&data, &[frame(1, 0, vec![6; 50])]);
    let second = renumber(&second);
    let pat = section(&[
        0x00, 0xB0, 17, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0, 0, 2, 0xF0, 1,
    ]);
    let bytes: Vec<u8> = [pat, without_pat(&first), without_pat(&second)].concat();

    let read = |mut demuxer: Demuxer| {
        let mut events = Vec::new();
        demuxer.push(&bytes, &mut events);
        demuxer.finish(&mut events);
        common::descriptions(&events)[0].tracks[0].codec.clone()
    };

    assert_eq!(read(Demuxer::new()), "h264");
    assert_eq!(read(Demuxer::with_program(1)), "h264");
    assert_eq!(read(Demuxer::with_program(2)), "ts-06");
}

#[test]
fn a_table_of_several_sections_is_read_whole() {
    let picture = |n: i64| frame(1, n * 3_000, common::h264(true, true, &[vec![5; 50]]));
    let first = without_pat(&mux(&description(&["h264"]), &[picture(0), picture(1)]));
    let second = renumber(&without_pat(&mux(
        &description(&["ts-06"]),
        &[frame(1, 0, vec![6; 50])],
    )));
    // One program in each of two sections.
    let tables = |counter: u8| {
        let part = |number: u8| {
            let program = number + 1;
            let mut packet = section(&[
                0x00, 0xB0, 13, 0, 1, 0xC1, number, 1, 0, program, 0xF0, number,
            ]);
            packet[3] |= counter + number;
            packet
        };
        [part(0), part(1)].concat()
    };
    let bytes = [tables(0), first, tables(2), second].concat();

    let read = |mut demuxer: Demuxer| {
        let mut events = Vec::new();
        demuxer.push(&bytes, &mut events);
        demuxer.finish(&mut events);
        let described = common::descriptions(&events);
        let codecs = described.iter().map(|d| d.tracks[0].codec.clone());
        (codecs.collect::<Vec<_>>(), frames(&events).len())
    };

    assert_eq!(read(Demuxer::new()), (vec!["h264".to_owned()], 2));
    assert_eq!(
        read(Demuxer::with_program(2)),
        (vec!["ts-06".to_owned()], 1)
    );
}

/// A packet of PID 0 with this section, its checksum added.
fn section(bytes: &[u8]) -> Vec<u8> {
    packet(0, bytes)
}

fn packet(pid: u16, section: &[u8]) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let crc = levada_media::ts::crc32(section).to_be_bytes();
    let mut packet = [&[0x47, 0x40 | high, low, 0x10, 0], section, &crc].concat();
    packet.resize(PACKET_BYTES, 0xFF);
    packet
}

fn without_pat(bytes: &[u8]) -> Vec<u8> {
    let packets = bytes.as_chunks::<PACKET_BYTES>().0.iter();
    packets
        .filter(|packet| packet[1] & 0x1F != 0 || packet[2] != 0)
        .flatten()
        .copied()
        .collect()
}

/// Makes program 1 on 0x1000 and 0x101 program 2 on 0x1001 and 0x201.
fn renumber(bytes: &[u8]) -> Vec<u8> {
    let moved = BTreeMap::from([(0x1000_u16, 0x1001_u16), (0x101, 0x201)]);
    let change = |bytes: &[u8; PACKET_BYTES]| {
        let mut packet = *bytes;
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        let [high, low] = moved.get(&pid).unwrap_or(&pid).to_be_bytes();
        (packet[1], packet[2]) = (packet[1] & 0xE0 | high, low);
        if pid != 0x1000 {
            return packet.to_vec();
        }
        // Table, length, program, version, numbers, clock's PID, descriptors, type, PID, descriptors.
        let length = 3 + usize::from(packet[7]) - 4;
        let mut section = packet[5..5 + length].to_vec();
        section[4] = 2;
        section[8] = 0xE2;
        section[13] = 0xE2;
        self::packet(0x1001, &section)
    };
    bytes.as_chunks().0.iter().flat_map(change).collect()
}

#[test]
fn times_that_fall_are_a_discontinuity() {
    let description = description(&["ts-06"]);
    let bytes = mux(
        &description,
        &[900_000, 903_000, 0, 3_000].map(|dts| frame(1, dts, vec![1])),
    );

    let (events, _) = demux([&bytes[..]]);

    let kinds: Vec<_> = events[1..]
        .iter()
        .map(|event| matches!(event, Event::Frame(_)))
        .collect();
    assert_eq!(kinds, [true, true, false, true, true]);
    let dts: Vec<_> = frames(&events)
        .iter()
        .map(|frame| frame.dts - MUX_OFFSET)
        .collect();
    assert_eq!(dts, [900_000, 903_000, 0, 3_000]);
}
