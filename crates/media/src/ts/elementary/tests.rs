//! Tests of `elementary.rs`: units come out whole and timed however PES packets were cut.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
use proptest::prelude::*;

use super::*;

const HEADER: Header = Header {
    pts: None,
    dts: None,
    aligned: false,
    bounded: false,
    full: false,
};

fn times(dts: i64) -> Times {
    Times {
        dts,
        pts: dts + 100,
    }
}

#[test]
fn access_units_without_a_time_go_on_in_steps() {
    let unit = [0, 0, 1, 0x65, 0x88, 7, 7];
    let mut elementary = Elementary::new(Framing::Nal(nal::Codec::H264));
    let mut starts = Vec::new();
    for dts in [0, 3_600, 7_200] {
        elementary.start(HEADER, Some(times(dts)), |_| ());
        elementary
            .data(&unit.repeat(2), |unit| starts.push(unit.times.unwrap().dts))
            .unwrap();
    }
    elementary
        .finish(|unit| starts.push(unit.times.unwrap().dts))
        .unwrap();

    // Before the first step is known a tick has to do.
    assert_eq!(starts, [0, 1, 3_600, 5_400, 7_200, 9_000]);
}

#[test]
fn an_aligned_packet_of_known_length_ends_its_access_unit() {
    let mut elementary = Elementary::new(Framing::Nal(nal::Codec::H264));
    let mut units = 0;
    let header = Header {
        aligned: true,
        bounded: true,
        ..HEADER
    };

    elementary.start(header, Some(times(0)), |_| ());
    elementary
        .data(&[0, 0, 1, 0x65, 0x88, 7, 7], |_| units += 1)
        .unwrap();
    elementary.end(|_| units += 1);

    assert_eq!(units, 1);
}

#[test]
fn a_packet_above_the_limit_is_left_out_and_the_next_is_whole() {
    let mut elementary = Elementary::new(Framing::Whole);
    let mut units = Vec::new();
    elementary.start(HEADER, Some(times(0)), |_| ());

    let result = elementary.data(&vec![7; FRAME_BYTES_MAX + 1], |_| ());
    elementary.data(&[1, 2], |_| ()).unwrap();
    elementary.end(|unit| units.push(unit.data));
    elementary.start(HEADER, Some(times(9)), |_| ());
    elementary.data(&[3, 4], |_| ()).unwrap();
    elementary.end(|unit| units.push(unit.data));

    assert_eq!(result, Err(Trouble::TooLarge));
    assert_eq!(units, [&[3, 4][..]]);
}

#[test]
fn a_unit_goes_on_from_a_full_packet_into_one_that_begins_nothing() {
    let full = Header {
        full: true,
        bounded: true,
        ..HEADER
    };
    let timed = Header {
        pts: Some(1),
        ..HEADER
    };
    let packets = [
        (full, Some(times(0)), 1),
        (full, None, 2),
        (HEADER, None, 3),
        // Full, and nothing follows that belongs to it.
        (full, Some(times(9)), 4),
        (timed, Some(times(18)), 5),
        (HEADER, None, 6),
    ];
    let mut elementary = Elementary::new(Framing::Whole);
    let mut units = Vec::new();

    for (header, times, byte) in packets {
        elementary.start(header, times, |unit| units.push(unit));
        elementary.data(&[byte], |_| ()).unwrap();
        elementary.end(|unit| units.push(unit));
    }

    let data = units.iter().map(|unit| &unit.data[..]);
    let expected: [&[u8]; 4] = [&[1, 2, 3], &[4], &[5], &[6]];
    assert_eq!(data.collect::<Vec<_>>(), expected);
    assert_eq!(units[1].times, Some(times(9)));
}

#[test]
fn opus_packets_follow_each_other() {
    let packet = [31 << 3, 9, 9];
    let framed = [opus::control_header(3), packet.to_vec()]
        .concat()
        .repeat(3);
    let mut elementary = Elementary::new(Framing::Opus);
    let mut units = Vec::new();

    elementary.start(HEADER, Some(times(50)), |_| ());
    elementary.data(&framed, |_| ()).unwrap();
    elementary.end(|unit| units.push((unit.times.unwrap().dts, unit.data.to_vec())));

    assert_eq!(units, [50, 1_850, 3_650].map(|dts| (dts, packet.to_vec())));
}

#[test]
fn mpeg2_starts_at_a_sequence_header() {
    let picture = |kind: u8| [0, 0, 1, 0x00, 0, kind << 3, 0];
    let sequence = [&[0, 0, 1, 0xB3, 5, 5][..], &picture(1)].concat();

    assert_eq!(
        inspect_mpeg2(&sequence),
        Picture {
            sync: true,
            discardable: false
        }
    );
    assert_eq!(
        inspect_mpeg2(&picture(2)),
        Picture {
            sync: false,
            discardable: false
        }
    );
    assert_eq!(
        inspect_mpeg2(&picture(3)),
        Picture {
            sync: false,
            discardable: true
        }
    );
}

proptest! {
    #[test]
    fn access_units_come_out_the_same_however_packets_cut_them(
        sizes in proptest::collection::vec((1_usize..60, 1_usize..4), 1..12),
        cuts in proptest::collection::vec(1_usize..150, 1..40),
    ) {
        let mut stream = Vec::new();
        let mut begins = Vec::new();
        for (n, (bytes, slices)) in sizes.iter().enumerate() {
            begins.push(stream.len());
            stream.extend([0, 0, 0, 1, 0x09, 0xF0]);
            for slice in 0..*slices {
                stream.extend([0, 0, 1, 0x41, if slice == 0 { 0x9A } else { 0x4A }]);
                stream.resize(stream.len() + bytes, 1 + n as u8);
            }
        }
        let (mut elementary, mut units) = (Elementary::new(Framing::Nal(nal::Codec::H264)), Vec::new());
        let mut timed = Vec::new();
        let mut at = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            let mut end = (at + cut).min(stream.len());
            // Behind the first zero of four bytes of start code a cut cannot be told from one before three.
            end += usize::from(begins.iter().any(|begin| begin + 1 == end));
            // The time is that of the first access unit that begins in the packet.
            let first = begins.iter().position(|begin| (at..end).contains(begin));
            timed.extend(first);
            elementary.start(HEADER, first.map(|n| times(n as i64 * 3_000)), |_| ());
            elementary.data(&stream[at..end], |unit| units.push(unit)).unwrap();
            elementary.end(|unit| units.push(unit));
            at = end;
        }
        elementary.finish(|unit| units.push(unit)).unwrap();

        let ends = begins.iter().skip(1).copied().chain([stream.len()]);
        let whole: Vec<_> = begins.iter().zip(ends).map(|(begin, end)| &stream[*begin..end]).collect();
        let data: Vec<_> = units.iter().map(|unit| &unit.data[..]).collect();
        prop_assert_eq!(data, whole);
        for n in timed {
            prop_assert_eq!(units[n].times, Some(times(n as i64 * 3_000)));
        }
    }
}
