//! Tests of sockets that share a port on loopback: who gets what, and who may join.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use levada_wire::FlowId;

use super::*;
use crate::sys::socket::ReceiveBuffer;
use levada_lane::api::Datagrams;

const ADDRESSES: [&str; 3] = ["127.0.0.1:0", "[::1]:0", "[::]:0"];

fn bind(address: &str, lanes: usize) -> SocketSet {
    SocketSet::bind(address.parse().unwrap(), &SocketSettings::default(), lanes).unwrap()
}

/// Where to send to reach a socket from this machine, by each IP version that it takes.
fn ways_to(local: SocketAddr) -> Vec<SocketAddr> {
    let port = local.port();
    match local.ip() {
        ip if ip.is_unspecified() => vec![
            SocketAddr::from(([127, 0, 0, 1], port)),
            format!("[::1]:{port}").parse().unwrap(),
        ],
        _ => vec![local],
    }
}

/// A datagram that says which flow it is of, or QUIC.
fn datagram(first: u8, flow: FlowId) -> Bytes {
    let mut bytes = vec![first; 100];
    bytes[4..12].copy_from_slice(&flow.0.to_be_bytes());
    bytes.into()
}

/// Loopback hands a datagram over before `send` returns: what was sent is there.
fn received(socket: &Socket) -> usize {
    let mut buffer = ReceiveBuffer::new();
    std::iter::from_fn(|| socket.receive(&mut buffer).ok()).count()
}

fn send(to: SocketAddr, bytes: Bytes) {
    let any = SocketAddr::new(to.ip(), 0);
    let sender = Socket::bind(any, &SocketSettings::default()).unwrap();
    let segment_bytes = bytes.len();
    let transmit = Datagrams {
        source: None,
        to,
        bytes,
        segment_bytes,
    };
    sender.try_send(&transmit).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_brings_each_flow_to_its_lane_and_quic_to_the_first() {
    for address in ADDRESSES {
        for lanes in [1, 2, 3, 8] {
            let set = bind(address, lanes);
            assert_eq!(set.steering(), Feature::On);
            for to in ways_to(set.local_addr()) {
                for steer in 0..20_u64 {
                    let flow = FlowId(steer << 32 | 0xffff);
                    let kinds = [(0x04, true), (0x05, true), (0x06, true), (0x43, false)];
                    let others = [(0x07, false), (0x03, false), (0xff, false)];
                    for (first, is_steered) in kinds.into_iter().chain(others) {
                        send(to, datagram(first, flow));

                        let lane = usize::try_from(flow.steer()).unwrap() % lanes;
                        let owner = if is_steered { lane } else { 0 };
                        let counts: Vec<usize> = set.sockets.iter().map(received).collect();
                        let expected: Vec<usize> =
                            (0..lanes).map(|at| usize::from(at == owner)).collect();
                        assert_eq!(counts, expected, "{to} {lanes} {first:#x} {steer}");
                    }
                }
                send(to, Bytes::from_static(&[4, 0, 0, 0, 0, 0, 1]));
                assert_eq!(received(&set.sockets[0]), 1, "too short to be steered");
            }
        }
    }
}

#[test]
fn a_busy_port_is_refused_whoever_has_it_and_however() {
    for address in ADDRESSES {
        let alone = bind(address, 1);
        let several = bind(address, 3);

        for taken in [alone.local_addr(), several.local_addr()] {
            for lanes in [1, 3] {
                let error = SocketSet::bind(taken, &SocketSettings::default(), lanes).unwrap_err();
                assert!(error.is_in_use(), "{taken} {lanes} {error}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn who_joins_a_port_that_lanes_share_gets_nothing() {
    for address in ADDRESSES {
        let set = bind(address, 2);
        let joined = Socket::bind_beside(set.local_addr(), &SocketSettings::default()).unwrap();
        let sends = set.sockets[1].open_to_send().unwrap();

        for to in ways_to(set.local_addr()) {
            for steer in 0..20_u64 {
                for first in [0x04, 0x43] {
                    send(to, datagram(first, FlowId(steer << 32)));
                }
            }
        }

        let counts: Vec<usize> = set.sockets.iter().map(received).collect();
        let ways = ways_to(set.local_addr()).len();
        assert_eq!(counts, [30 * ways, 10 * ways]);
        assert_eq!((received(&joined), received(&sends)), (0, 0));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_joins_a_port_that_is_not_steered() {
    let settings = SocketSettings {
        steering: false,
        ..SocketSettings::default()
    };
    for address in ADDRESSES {
        let alone = SocketSet::bind(address.parse().unwrap(), &settings, 2).unwrap();

        let error = Socket::bind_beside(alone.local_addr(), &SocketSettings::default());

        assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_that_somebody_else_shares_is_refused() {
    for address in ADDRESSES {
        let other = bind(address, 1);
        assert_eq!(other.steering(), Feature::On);

        let error = SocketSet::bind(other.local_addr(), &SocketSettings::default(), 2);

        assert!(error.unwrap_err().is_in_use());
    }
}

#[test]
fn a_port_is_free_again_when_its_set_is_gone() {
    for address in ADDRESSES {
        let first = bind(address, 3);
        let local = first.local_addr();

        drop(first);
        let again = SocketSet::bind(local, &SocketSettings::default(), 3).unwrap();

        assert_eq!(again.local_addr(), local);
    }
}

#[test]
fn without_steering_all_arrives_at_the_first_and_every_one_sends_from_the_port() {
    let settings = SocketSettings {
        steering: false,
        ..SocketSettings::default()
    };
    let set = SocketSet::bind("127.0.0.1:0".parse().unwrap(), &settings, 2).unwrap();
    assert_eq!(set.steering(), Feature::Off(NOT_WANTED));

    let to = set.local_addr();
    let bytes = datagram(0x04, FlowId(1 << 32));
    let segment_bytes = bytes.len();
    let transmit = Datagrams {
        source: None,
        to,
        bytes,
        segment_bytes,
    };
    set.sockets[1].try_send(&transmit).unwrap();

    let mut buffer = ReceiveBuffer::new();
    let train = set.sockets[0].receive(&mut buffer).unwrap();
    assert_eq!(train.from, to);
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_to_send_by_is_seen_as_the_ports_and_its_end_disturbs_nothing() {
    for address in ADDRESSES {
        let set = bind(address, 2);
        let sends = set.sockets[0].open_to_send().unwrap();
        for to in ways_to(set.local_addr()) {
            let flow = FlowId(1 << 32);
            let bytes = datagram(0x04, flow);
            let segment_bytes = bytes.len();
            let transmit = Datagrams {
                source: None,
                to,
                bytes,
                segment_bytes,
            };

            sends.try_send(&transmit).unwrap();

            let train = set.sockets[1].receive(&mut ReceiveBuffer::new()).unwrap();
            assert_eq!(train.from, to);
        }

        drop(sends);

        for to in ways_to(set.local_addr()) {
            send(to, datagram(0x04, FlowId(1 << 32)));
            assert_eq!(received(&set.sockets[1]), 1);
        }
    }
}
