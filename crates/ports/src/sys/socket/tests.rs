//! Tests of sockets on loopback: the same bytes with every feature on or off, for IPv4 and IPv6.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token};

use super::super::gso::REFUSED_MAX;
use super::*;

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

fn bind(address: &str, gso: bool, gro: bool) -> Socket {
    let settings = SocketSettings {
        gso,
        gro,
        ..SocketSettings::default()
    };
    Socket::bind(address.parse().unwrap(), &settings).unwrap()
}

/// Receives until that many bytes are there; waits for the socket, never for a time.
fn receive(socket: &Socket, bytes: usize) -> Vec<Train> {
    let mut poll = Poll::new().unwrap();
    let mut readiness = mio::net::UdpSocket::from_std(socket.try_clone_io().unwrap());
    let registry = poll.registry();
    registry
        .register(&mut readiness, Token(0), Interest::READABLE)
        .unwrap();
    let mut events = Events::with_capacity(1);
    let mut buffer = ReceiveBuffer::new();
    let mut trains: Vec<Train> = Vec::new();
    while trains.iter().map(|train| train.bytes.len()).sum::<usize>() < bytes {
        match socket.receive(&mut buffer) {
            Ok(train) => trains.push(train),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                poll.poll(&mut events, None).unwrap();
            }
        }
    }
    trains
}

fn datagrams(trains: &[Train]) -> Vec<Bytes> {
    let cut = |train: &Train| {
        let bytes = train.bytes.clone();
        let step = train.segment_bytes;
        let starts = (0..bytes.len()).step_by(step);
        starts
            .map(|at| bytes.slice(at..bytes.len().min(at + step)))
            .collect::<Vec<_>>()
    };
    trains.iter().flat_map(cut).collect()
}

/// Forty datagrams of one size and a shorter one.
fn run(to: SocketAddr) -> Datagrams {
    let bytes: Vec<u8> = (0..40 * 1_000 + 300_u32)
        .map(|i| u8::try_from(i / 1_000).unwrap())
        .collect();
    Datagrams {
        source: None,
        to,
        bytes: bytes.into(),
        segment_bytes: 1_000,
    }
}

#[test]
fn the_same_bytes_arrive_with_every_feature_on_or_off() {
    for address in [V4, V6] {
        for (gso, gro) in [(true, true), (true, false), (false, true), (false, false)] {
            let (sender, receiver) = (bind(address, gso, true), bind(address, true, gro));
            let run = run(receiver.local_addr());

            sender.try_send(&run).unwrap();

            let trains = receive(&receiver, run.bytes.len());
            let expected: Vec<Bytes> = run
                .bytes
                .chunks(1_000)
                .map(Bytes::copy_from_slice)
                .collect();
            assert_eq!(
                datagrams(&trains),
                expected,
                "{address} GSO {gso} GRO {gro}"
            );
            assert!(trains.iter().all(|train| train.from == sender.local_addr()));
            if !gro {
                assert_eq!(trains.len(), 41, "a train is one datagram without GRO");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_is_one_train_where_the_kernel_has_both_features() {
    let (sender, receiver) = (bind(V4, true, true), bind(V4, true, true));
    assert!(sender.gso().is_on() && receiver.gro().is_on());
    let run = run(receiver.local_addr());

    sender.try_send(&run).unwrap();

    let trains = receive(&receiver, run.bytes.len());
    assert_eq!((trains.len(), trains[0].segment_bytes), (1, 1_000));
}

#[test]
fn the_largest_datagram_of_all_is_received_whole() {
    let (sender, receiver) = (bind(V4, false, true), bind(V4, false, true));
    let bytes = Bytes::from(vec![7; RECEIVE_BYTES_MAX - 28]); // less the headers of IPv4 and UDP
    let send = Datagrams {
        source: None,
        to: receiver.local_addr(),
        segment_bytes: bytes.len(),
        bytes,
    };

    sender.try_send(&send).unwrap();

    let trains = receive(&receiver, send.bytes.len());
    assert_eq!(datagrams(&trains), [send.bytes]);
}

#[test]
fn a_switched_off_feature_says_why() {
    let socket = bind(V4, false, false);

    assert_eq!(socket.gso(), Feature::Off(super::super::NOT_WANTED));
    assert_eq!(socket.gro(), Feature::Off(super::super::NOT_WANTED));
}

#[test]
fn a_busy_port_is_an_error_that_says_so() {
    let first = bind(V4, true, true);

    let error = Socket::bind(first.local_addr(), &SocketSettings::default()).unwrap_err();

    assert!(error.is_in_use());
    assert!(error.to_string().contains(&first.local_addr().to_string()));
}

#[test]
fn a_dual_stack_socket_speaks_with_both_and_names_ipv4_as_such() {
    let both = bind("[::]:0", true, true);
    let port = both.local_addr().port();
    for address in [V4, V6] {
        let single = bind(address, true, true);
        let there = SocketAddr::new(single.local_addr().ip(), port);

        single.try_send(&run(there)).unwrap();
        let trains = receive(&both, run(there).bytes.len());
        assert_eq!(trains[0].from, single.local_addr());

        both.try_send(&run(trains[0].from)).unwrap();
        let back = receive(&single, run(there).bytes.len());
        assert_eq!(back[0].from, there);
    }
}

#[test]
fn a_destination_that_cannot_be_does_not_switch_gso_off() {
    let socket = bind(V4, true, true);
    let before = socket.gso();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));

    let result = socket.try_send(&run(nowhere));

    assert!(result.is_err());
    assert_eq!(socket.gso(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_datagram_larger_than_the_interface_takes_is_too_large_and_gso_stays_on() {
    let (sender, receiver) = (bind(V4, true, true), bind(V4, true, true));
    let mut transmit = Datagrams {
        source: None,
        to: receiver.local_addr(),
        bytes: vec![0; 65_600].into(), // above any IPv4 datagram, as loopback has the largest MTU there is
        segment_bytes: 65_600,
    };

    let error = sender.send_part(&mut transmit).unwrap_err();

    assert!(is_too_large(&error), "{error}");
    assert!(transmit.bytes.is_empty());
    assert!(sender.gso().is_on());
}

#[cfg(target_os = "linux")]
#[test]
fn a_kernel_that_refuses_a_run_gets_its_datagrams_one_by_one() {
    let (sender, receiver) = (bind(V4, true, true), bind(V4, true, true));
    let run = refused_run(receiver.local_addr());

    sender.try_send(&run).unwrap();

    let trains = receive(&receiver, run.bytes.len());
    assert_eq!(datagrams(&trains).len(), 200);
    assert!(
        matches!(sender.gso_towards(run.to), Feature::Off(why) if why.contains("failed")),
        "{:?}",
        sender.gso_towards(run.to)
    );
}

/// A run of more datagrams than any kernel takes in one send: as good as a card that takes none.
#[cfg(target_os = "linux")]
fn refused_run(to: SocketAddr) -> Datagrams {
    Datagrams {
        source: None,
        to,
        bytes: vec![7; 200 * 60].into(),
        segment_bytes: 60,
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_one_destination_refuses_leaves_whole_to_every_other() {
    let sender = bind(V4, true, true);
    let (refuses, takes) = (bind(V4, true, true), bind(V4, true, true));

    sender.try_send(&refused_run(refuses.local_addr())).unwrap();
    sender.try_send(&run(takes.local_addr())).unwrap();
    sender.try_send(&run(refuses.local_addr())).unwrap();

    assert_eq!(receive(&takes, 40_300).len(), 1, "one train");
    let alone = receive(&refuses, 200 * 60 + 40_300);
    assert_eq!(datagrams(&alone).len(), 241);
    assert!(sender.gso().is_on() && sender.gso_towards(takes.local_addr()).is_on());
    assert_eq!(sender.refusing_runs(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn when_more_destinations_refuse_than_the_limit_the_socket_joins_nothing() {
    let sender = bind(V4, true, true);
    let one = bind("0.0.0.0:0", true, true);
    // Each address of 127.0.0.0/8 is another destination.
    let port = one.local_addr().port();
    let refuses = |at: usize| {
        let last = u8::try_from(at).unwrap();
        sender
            .try_send(&refused_run(([127, 0, 0, last], port).into()))
            .unwrap();
    };

    (1..=REFUSED_MAX).for_each(refuses);
    assert!(sender.gso().is_on());
    refuses(REFUSED_MAX + 1);

    assert!(!sender.gso().is_on());
}

#[test]
fn the_kernel_says_which_buffers_it_really_gave() {
    let settings = SocketSettings {
        buffers: BufferBytes {
            send: 1,
            receive: 1,
        },
        ..SocketSettings::default()
    };

    let socket = Socket::bind(V4.parse().unwrap(), &settings).unwrap();

    assert!(socket.buffers().send > 1);
    assert!(socket.buffers().receive > 1);
}

#[test]
fn buffers_that_are_given_as_asked_for_are_told_so() {
    // Small enough for the limits of any system, and large enough for their least.
    let wanted = BufferBytes {
        send: 64 << 10,
        receive: 64 << 10,
    };
    let settings = SocketSettings {
        buffers: wanted,
        ..SocketSettings::default()
    };

    let socket = Socket::bind(V4.parse().unwrap(), &settings).unwrap();

    assert_eq!(socket.buffers(), wanted);
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    // All of 127.0.0.0/8 is this host, whose own choice is 127.0.0.1.
    let second: IpAddr = [127, 0, 0, 2].into();
    for (all, gso) in [("0.0.0.0:0", true), ("[::]:0", true), ("[::]:0", false)] {
        let (asked, asks) = (bind(all, gso, true), bind(V4, true, true));
        let question = Datagrams {
            source: None,
            to: SocketAddr::new(second, asked.local_addr().port()),
            bytes: vec![1; 10].into(),
            segment_bytes: 10,
        };
        asks.try_send(&question).unwrap();
        let train = receive(&asked, 10).remove(0);
        assert_eq!((train.to, train.from), (Some(second), asks.local_addr()));

        for source in [train.to, None] {
            let answer = Datagrams {
                source,
                ..run(train.from)
            };
            asked.try_send(&answer).unwrap();
            let trains = receive(&asks, answer.bytes.len());
            let from = source.unwrap_or_else(|| [127, 0, 0, 1].into());
            assert!(
                trains.iter().all(|train| train.from.ip() == from),
                "{all}: {trains:?}"
            );
            assert_eq!(datagrams(&trains).len(), 41);
        }
        assert_eq!(asked.gso().is_on(), gso);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_to_send_by_has_the_whole_buffer_of_the_one_beside_it() {
    let set = super::super::SocketSet::bind(V4.parse().unwrap(), &SocketSettings::default(), 1);
    let own = set.unwrap().into_sockets().remove(0);

    let beside = own.open_to_send().unwrap();

    assert_eq!(beside.buffers().send, own.buffers().send);
}

#[cfg(target_os = "linux")]
#[test]
fn a_source_that_this_host_does_not_have_is_refused_and_gso_stays_on() {
    let (sender, receiver) = (bind("0.0.0.0:0", true, true), bind(V4, true, true));
    let foreign = Datagrams {
        source: Some([192, 0, 2, 9].into()),
        ..run(receiver.local_addr())
    };

    assert!(sender.try_send(&foreign).is_err());

    assert!(sender.gso().is_on());
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_refuses_costs_no_other_a_datagram() {
    let set = super::super::SocketSet::bind(V4.parse().unwrap(), &SocketSettings::default(), 1);
    let sender = set.unwrap().into_sockets().remove(0).open_to_send();
    let (sender, receiver) = (sender.unwrap(), bind(V4, true, true));
    let closed = bind(V4, true, true).local_addr(); // nobody listens there any more
    let one = |to, mark| Datagrams {
        source: None,
        to,
        bytes: Bytes::from(vec![mark; 500]),
        segment_bytes: 500,
    };

    assert!(sender.tells_full);
    for mark in 0..20 {
        // Its refusal is the kernel's answer to what is sent next, whoever that goes to.
        let _ = sender.send_part(&mut one(closed, mark));
        let mut good = one(receiver.local_addr(), mark);
        sender.send_part(&mut good).unwrap();
        assert!(good.bytes.is_empty());
    }

    let came = datagrams(&receive(&receiver, 20 * 500));
    let marks: Vec<u8> = came.iter().map(|datagram| datagram[0]).collect();
    assert_eq!(marks, (0..20).collect::<Vec<u8>>());
}

#[cfg(target_os = "linux")]
#[test]
fn what_finds_the_receive_buffer_full_is_known_when_the_next_one_comes() {
    let settings = SocketSettings {
        buffers: BufferBytes {
            send: 1 << 20,
            receive: 10_000,
        },
        gro: false,
        ..SocketSettings::default()
    };
    let receiver = Socket::bind(V4.parse().unwrap(), &settings).unwrap();
    let sender = bind(V4, false, false);
    let one = Datagrams {
        source: None,
        to: receiver.local_addr(),
        bytes: Bytes::from(vec![7; 1_000]),
        segment_bytes: 1_000,
    };
    let mut buffer = ReceiveBuffer::new();
    let mut take = || std::iter::from_fn(|| receiver.receive(&mut buffer).ok()).count() as u64;

    for _ in 0..100 {
        sender.try_send(&one).unwrap();
    }
    let first = take();
    assert!(first < 100, "{first}");
    sender.try_send(&one).unwrap();

    assert_eq!(first + take() + receiver.overflows(), 101);
}

#[cfg(target_os = "linux")]
#[test]
fn a_train_that_finds_the_receive_buffer_full_counts_with_all_its_datagrams() {
    let settings = SocketSettings {
        buffers: BufferBytes {
            send: 1 << 20,
            receive: 100_000,
        },
        ..SocketSettings::default()
    };
    let receiver = Socket::bind(V4.parse().unwrap(), &settings).unwrap();
    let sender = bind(V4, true, true);
    let train = Datagrams {
        source: None,
        to: receiver.local_addr(),
        bytes: Bytes::from(vec![7; 14_000]),
        segment_bytes: 1_000,
    };
    let mut buffer = ReceiveBuffer::new();
    let mut take = || {
        let trains = std::iter::from_fn(|| receiver.receive(&mut buffer).ok());
        trains.map(|train| train.bytes.len() / 1_000).sum::<usize>() as u64
    };

    for _ in 0..100 {
        sender.try_send(&train).unwrap();
    }
    let first = take();
    assert!(first < 1_400, "{first}");
    sender.try_send(&train).unwrap();

    assert_eq!(first + take() + receiver.overflows(), 1_414);
}
