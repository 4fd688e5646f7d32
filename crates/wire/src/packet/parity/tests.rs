//! Tests of parity datagrams: their bytes, and packets that are recovered.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::key::CarryKey;
use crate::packet::Class;
use crate::time::OriginTime;
use crate::units::Group;

fn key() -> CarryKey {
    CarryKey::from_bytes([3; 16])
}

fn number(value: u64) -> Number {
    Number::new(value).unwrap()
}

/// The packet at that place of a block that starts at number 1,000 and offset 10.
fn packet(place: usize, body: usize) -> Vec<u8> {
    let place = u32::try_from(place).unwrap();
    let header = Header {
        last: place % 3 == 2,
        discardable: false,
        class: Class::new(1).unwrap(),
        key: 7,
        description: 2,
        flow: FlowId(0x1122_3344_5566_7788),
        number: number(1_000 + u64::from(place)),
        index: u16::try_from(place % 3).unwrap(),
        group: Group(9),
        offset: 10 + place,
        sent: OriginTime(5_000 + place / 3),
    };
    let mut packet = header.encode().to_vec();
    let mark = u8::try_from(place).unwrap();
    packet.extend((0..body + SEAL_BYTES).map(|at| (at as u8).wrapping_mul(31) ^ mark));
    let tag = carry::tag_of(&key(), &packet);
    packet.extend_from_slice(&tag);
    packet
}

/// The parity datagrams of a block.
fn parity(packets: &[Vec<u8>], shards: usize) -> Vec<Vec<u8>> {
    let longest = packets
        .iter()
        .map(|packet| unit_bytes(packet))
        .max()
        .unwrap();
    let places: Vec<usize> = (0..shards).collect();
    let mut sums = vec![Words::zero(longest); shards];
    let mut unit = Words::default();
    for (place, packet) in packets.iter().enumerate() {
        unit_of(packet, &mut unit);
        code::add(&unit, place, &mut sums, &places);
    }
    let datagram = |(shard, sum): (usize, &Words)| {
        let header = ParityHeader {
            shard: u8::try_from(shard).unwrap(),
            key: 7,
            packets: u8::try_from(packets.len()).unwrap(),
            flow: FlowId(0x1122_3344_5566_7788),
            first: 1_000,
        };
        let mut out = Vec::new();
        header.encode(&key(), sum, longest, &mut out);
        out
    };
    sums.iter().enumerate().map(datagram).collect()
}

proptest! {
    #[test]
    fn a_header_survives_its_bytes(
        (shard, packets) in (0..32_u8, 1..=64_u8),
        (key_epoch, flow, first) in any::<(u8, u64, u32)>(),
        bytes in 32..=1_416_usize,
    ) {
        let header = ParityHeader { shard, key: key_epoch, packets, flow: FlowId(flow), first };
        let mut datagram = Vec::new();
        header.encode(&key(), &Words::zero(bytes), bytes, &mut datagram);

        prop_assert_eq!(ParityHeader::peek(&datagram), Some(header));
        prop_assert!(ParityHeader::check(&key(), &datagram));
        prop_assert_eq!(ParityHeader::shard_of(&datagram).len(), bytes);
    }

    #[test]
    fn any_bytes_are_a_header_or_none(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = 0x05;
        }
        if let Some(header) = ParityHeader::peek(&bytes) {
            prop_assert_eq!(&header.flow.0.to_be_bytes(), &bytes[4..12]);
        }
    }

    #[test]
    fn lost_packets_of_any_length_come_back_byte_by_byte(
        bodies in prop::collection::vec(0..400_usize, 2..20),
        lost in prop::collection::btree_set(0..20_usize, 1..6),
    ) {
        let packets: Vec<Vec<u8>> = bodies.iter().enumerate().map(|(place, &body)| packet(place, body)).collect();
        let mut lost: Vec<usize> = lost.into_iter().filter(|&place| place < packets.len()).collect();
        lost.truncate(packets.len() - 1);
        // The first shards are lost as well.
        let shards: Vec<usize> = (2..2 + lost.len()).collect();
        let parity = parity(&packets, 2 + lost.len());

        let mut sums = vec![Words::default(); lost.len()];
        for (sum, &shard) in sums.iter_mut().zip(&shards) {
            sum.set(&[ParityHeader::shard_of(&parity[shard])]);
        }
        let mut beside = None;
        let mut unit = Words::default();
        for (place, packet) in packets.iter().enumerate().filter(|(place, _)| !lost.contains(place)) {
            beside = Header::peek(packet);
            unit_of(packet, &mut unit);
            code::add(&unit, place, &mut sums, &shards);
        }
        code::recover(&mut sums, &shards, &lost);

        let bytes = ParityHeader::shard_of(&parity[0]).len();
        for (sum, &place) in sums.iter().zip(&lost) {
            let mut anew = Vec::new();
            prop_assert!(packet_of(sum, bytes, number(1_000 + place as u64), &beside.unwrap(), &mut anew));
            prop_assert_eq!(&anew, &packets[place]);
        }
    }

    #[test]
    fn no_unit_makes_a_packet_that_is_none(
        bytes in prop::collection::vec(any::<u8>(), 0..1_600), value in 0..=Number::MAX.value(),
    ) {
        let beside = Header::peek(&packet(0, 10)).unwrap();
        let (mut unit, mut out) = (Words::default(), vec![1]);
        unit.set(&[&bytes]);

        let is_one = packet_of(&unit, bytes.len(), number(value), &beside, &mut out);

        let made = Header::peek(&out[1..]);
        prop_assert_eq!(made.is_some(), is_one);
        prop_assert!(made.is_none_or(|made| made.number == number(value)));
    }

    #[test]
    fn the_first_number_is_found_from_its_low_bits(
        near in 0..=Number::MAX.value(), off in -1_000_000_000_i64..1_000_000_000,
    ) {
        let Some(first) = near.checked_add_signed(off).and_then(Number::new) else {
            return Ok(());
        };
        let header = ParityHeader {
            first: first.value() as u32,
            ..ParityHeader::peek(&parity(&[packet(0, 0)], 1)[0]).unwrap()
        };

        prop_assert_eq!(header.first_near(number(near)), first);
    }
}

// spec: WIRE 4.5
#[test]
fn a_datagram_of_a_length_or_with_a_place_that_none_has_is_no_parity() {
    let good = parity(&[packet(0, 0)], 1).remove(0);
    assert!(ParityHeader::peek(&good).is_some());
    let changed = |at: usize, byte: u8| {
        let mut datagram = good.clone();
        datagram[at] = byte;
        ParityHeader::peek(&datagram)
    };

    assert_eq!(changed(0, 0x04), None);
    assert_eq!(changed(1, 32), None);
    assert_eq!((changed(3, 0), changed(3, 65)), (None, None));
    assert_eq!(ParityHeader::peek(&good[..55]), None);
    let long = [good.as_slice(), &[0; 1_400]].concat();
    assert_eq!(ParityHeader::peek(&long), None);
}

// spec: WIRE 4.5 the carry tag MUST be checked before the datagram changes anything but counters
#[test]
fn a_changed_bit_or_another_kind_fails_its_tag() {
    let good = parity(&[packet(0, 5)], 1).remove(0);
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;

        assert!(!ParityHeader::check(&key(), &changed), "byte {at}");
    }
    assert!(!ParityHeader::check(&key(), &packet(0, 5)));
    assert!(!carry::check(&CarryKey::from_bytes([4; 16]), &good));
}

// spec: WIRE 4.5 a parity datagram is as long as the longest packet of its block
#[test]
fn parity_fits_wherever_its_packets_fit() {
    for bodies in [[0, 0], [17, 3], [1_384, 1_384]] {
        let packets: Vec<_> = (0..2).map(|place| packet(place, bodies[place])).collect();

        let parity = parity(&packets, 2);

        assert!(
            parity
                .iter()
                .all(|datagram| datagram.len() == packets[0].len())
        );
    }
}
