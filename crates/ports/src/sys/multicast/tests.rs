//! Tests of channels of IPv4 on the loopback interface; Linux has no way for channels of IPv6 there (the laboratory
//! has).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;

use super::*;
use crate::sys::socket::ReceiveBuffer;
use levada_lane::api::Datagrams;

const LOOPBACK: Interface = Interface {
    index: 1,
    address: Some(Ipv4Addr::LOCALHOST),
};

fn channel(address: &str, port: u16) -> Channel {
    Channel {
        address: SocketAddr::new(address.parse().unwrap(), port),
        interface: LOOPBACK,
    }
}

fn listener(like: &str, port: u16) -> Socket {
    let address = SocketAddr::new(like.parse().unwrap(), port);
    bind_to_hear(address, &SocketSettings::default()).unwrap()
}

fn speaker(address: &str) -> Socket {
    let socket = Socket::bind(address.parse().unwrap(), &SocketSettings::default()).unwrap();
    speak_by(&socket, &LOOPBACK).unwrap();
    socket
}

/// Sends three datagrams as one run.
fn speak(from: &Socket, to: &Channel) {
    let transmit = Datagrams {
        source: None,
        to: to.address,
        bytes: Bytes::from_static(&[4; 300]),
        segment_bytes: 100,
    };
    from.try_send(&transmit).unwrap();
}

/// Loopback hands a datagram over before `send` returns: what was sent is there.
fn heard(socket: &Socket) -> usize {
    let mut buffer = ReceiveBuffer::new();
    std::iter::from_fn(|| socket.receive(&mut buffer).ok())
        .map(|train| train.bytes.len())
        .sum()
}

#[test]
fn all_nodes_of_a_machine_hear_a_channel_that_they_joined() {
    for (address, from) in [("239.7.7.1", "127.0.0.1:0"), ("239.7.7.1", "[::]:0")] {
        let first = listener(address, 0);
        let channel = channel(address, first.local_addr().port());
        let second = listener(address, channel.address.port());
        join(&first, &channel).unwrap();
        join(&second, &channel).unwrap();

        speak(&speaker(from), &channel);

        assert_eq!(
            (heard(&first), heard(&second)),
            (300, 300),
            "{address} from {from}"
        );
    }
}

#[test]
fn a_socket_hears_no_channel_that_only_another_one_joined() {
    let address = "239.7.7.2";
    let joined = listener(address, 0);
    let channel = channel(address, joined.local_addr().port());
    let other = listener(address, channel.address.port());
    join(&joined, &channel).unwrap();

    speak(&speaker("[::]:0"), &channel);

    assert_eq!((heard(&joined), heard(&other)), (300, 0));
}

#[test]
fn a_channel_that_was_left_is_not_heard() {
    let socket = listener("239.7.7.3", 0);
    let channel = channel("239.7.7.3", socket.local_addr().port());
    join(&socket, &channel).unwrap();
    leave(&socket, &channel).unwrap();

    speak(&speaker("[::]:0"), &channel);

    assert_eq!(heard(&socket), 0);
}
