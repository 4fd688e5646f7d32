//! Link datagrams: round trips under the seal, and what must not open or decode.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use proptest::prelude::*;

use super::*;

fn any_message() -> impl Strategy<Value = LinkDatagram> {
    let number = (0..=Number::MAX.value()).prop_map(|n| Number::new(n).unwrap());
    let bitmap = prop::collection::vec(any::<u8>(), 0..=BITMAP_BYTES_MAX);
    let numbers =
        (any::<u64>(), number.clone(), bitmap).prop_map(|(flow, first, bitmap)| Numbers {
            flow: FlowId(flow),
            first,
            bitmap,
        });
    prop_oneof![
        (any::<(u64, u64)>(), 0_u16..=1_387).prop_map(|((time, sent), padding)| {
            LinkDatagram::Ping(Ping {
                time,
                sent,
                padding,
            })
        }),
        any::<(u64, u64, u64, u16)>().prop_map(|(time, sent, received, size)| {
            LinkDatagram::Pong(Pong {
                time,
                sent,
                received,
                size,
            })
        }),
        numbers.clone().prop_map(LinkDatagram::Nack),
        numbers.clone().prop_map(LinkDatagram::NackBad),
        numbers.clone().prop_map(LinkDatagram::Pending),
        numbers.prop_map(LinkDatagram::Gone),
        (any::<u64>(), number.clone()).prop_map(|(flow, highest)| LinkDatagram::Head(Head {
            flow: FlowId(flow),
            highest
        })),
        (9..=u8::MAX).prop_map(LinkDatagram::Unknown),
        (any::<u64>(), number, any::<u16>()).prop_map(|(flow, first, count)| {
            LinkDatagram::Pull(Pull {
                flow: FlowId(flow),
                first,
                count,
            })
        }),
    ]
}

fn sealed(message: &LinkDatagram, lane: u8, count: u64) -> Vec<u8> {
    let header = LinkHeader {
        index: LinkIndex(77),
        counter: Counter::new(lane, count),
    };
    let mut out = Vec::new();
    LinkSeal::new(&LinkKey::from_bytes([1; 32])).seal(header, message, &mut out);
    out
}

proptest! {
    #[test]
    fn a_message_survives_its_seal(message in any_message(), lane: u8, count in 0..1_u64 << 56) {
        let datagram = sealed(&message, lane, count);
        let header = LinkHeader::peek(&datagram).unwrap();

        prop_assert_eq!((header.counter.lane(), header.counter.count()), (lane, count));
        prop_assert_eq!(header.index, LinkIndex(77));
        let opened = LinkSeal::new(&LinkKey::from_bytes([1; 32])).open(&datagram);
        prop_assert_eq!(opened, Some(message));
    }

    // spec: WIRE 8.1 a link datagram that was changed MUST NOT open
    #[test]
    fn a_changed_bit_does_not_open(message in any_message(), at: prop::sample::Index, bit in 0..8) {
        let mut datagram = sealed(&message, 0, 1);
        let at = at.index(datagram.len());
        datagram[at] ^= 1_u8 << bit;

        prop_assert_eq!(LinkSeal::new(&LinkKey::from_bytes([1; 32])).open(&datagram), None);
    }

    #[test]
    fn any_body_decodes_or_not(body in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some(message) = LinkDatagram::decode(&body) {
            let mut again = Vec::new();
            message.encode(&mut again);
            prop_assert_eq!(LinkDatagram::decode(&again), Some(message));
        }
    }
}

fn ping(padding: u16) -> LinkDatagram {
    LinkDatagram::Ping(Ping {
        time: 1,
        sent: 2,
        padding,
    })
}

// spec: WIRE 8.2 the pong to a ping with ten or more bytes of padding is not larger than it
#[test]
fn the_pong_to_a_short_ping_is_as_large_as_the_ping() {
    let short = Ping::short(1, 2);
    let pong = Pong {
        time: 1,
        sent: 2,
        received: 3,
        size: short.size(),
    };

    let lengths = [LinkDatagram::Ping(short), LinkDatagram::Pong(pong)]
        .map(|message| sealed(&message, 0, 1).len());

    assert_eq!(lengths, [SHORT_PING_BYTES; 2]);
    assert_eq!(usize::from(short.size()), SHORT_PING_BYTES);
}

// spec: WIRE 8.2 a padded ping has the size of a packet, and its pong is smaller
#[test]
fn a_padded_ping_is_as_large_as_a_packet_and_its_pong_is_small() {
    for size in [PacketSize::MIN, PacketSize::DEFAULT, PacketSize::MAX] {
        let padded = Ping::padded(1, 2, size);
        let pong = Pong {
            time: 1,
            sent: 2,
            received: 3,
            size: padded.size(),
        };

        let datagram = sealed(&LinkDatagram::Ping(padded), 0, 1);

        assert_eq!(datagram.len(), size.bytes());
        assert_eq!(usize::from(padded.size()), size.bytes());
        assert!(sealed(&LinkDatagram::Pong(pong), 0, 1).len() < PacketSize::MIN.bytes());
    }
    let Some(LinkDatagram::Ping(plain)) = LinkDatagram::decode(&[1; 17]) else {
        panic!("a ping has a type and two fields");
    };
    assert_eq!(plain.size(), 0);
}

// spec: WIRE 8.1
#[test]
fn a_datagram_of_another_length_or_with_a_reserved_bit_has_no_header() {
    let mut datagram = sealed(&ping(0), 0, 1);

    assert_eq!(
        LinkHeader::peek(&datagram[..LINK_HEADER_BYTES + SEAL_BYTES]),
        None
    );
    assert!(LinkHeader::peek(&datagram).is_some());
    datagram[3] = 1;
    assert_eq!(LinkHeader::peek(&datagram), None);
    datagram[3] = 0;
    datagram.resize(LINK_DATAGRAM_BYTES_MAX + 1, 0);
    assert_eq!(LinkHeader::peek(&datagram), None);
}

// spec: WIRE 8.2
#[test]
fn a_bitmap_or_a_number_beyond_its_limit_does_not_decode() {
    let nack = |first: u64, bitmap: usize| {
        let mut body = Vec::new();
        put(&mut body, 3, &[[0; 8], first.to_be_bytes()]);
        body.resize(body.len() + bitmap, 0xFF);
        LinkDatagram::decode(&body)
    };

    assert!(nack(Number::MAX.value(), BITMAP_BYTES_MAX).is_some());
    assert_eq!(nack(Number::MAX.value(), BITMAP_BYTES_MAX + 1), None);
    assert_eq!(nack(Number::MAX.value() + 1, 0), None);
}

// spec: WIRE 11 unknown types and bytes from the future are ignored
#[test]
fn a_longer_message_reads_as_what_is_known_of_it_and_a_new_type_as_unknown() {
    let head = LinkDatagram::Head(Head {
        flow: FlowId(1),
        highest: Number::ZERO,
    });
    let mut body = Vec::new();
    head.encode(&mut body);
    body.push(0xAB);

    assert_eq!(LinkDatagram::decode(&body), Some(head));
    body[0] = 200;
    assert_eq!(
        LinkDatagram::decode(&body),
        Some(LinkDatagram::Unknown(200))
    );
}

#[test]
fn a_message_about_a_flow_is_steered_like_its_packets() {
    let head = Head {
        flow: FlowId(0x1122_3344_5566_7788),
        highest: Number::ZERO,
    };

    assert_eq!(
        sealed(&LinkDatagram::Head(head), 0, 1)[4..8],
        [0x11, 0x22, 0x33, 0x44]
    );
}

#[test]
fn a_bitmap_names_the_numbers_after_the_first() {
    let first = Number::new(10).unwrap();
    let numbers = Numbers {
        flow: FlowId(1),
        first,
        bitmap: vec![0b1000_0001, 0b0100_0000],
    };

    let named: Vec<u64> = numbers.iter().map(Number::value).collect();

    assert_eq!(named, [10, 11, 18, 20]);
}
