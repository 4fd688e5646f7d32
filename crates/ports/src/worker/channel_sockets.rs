//! The sockets that hear the channels that a lane has joined.
//!
//! ```text
//!  239.1.2.3 on eth0 ─┬─ a socket on 7801: at most 16 channels
//!  239.1.2.4 on eth0 ─┘
//!  ff15::1:2 on eth0 ─── another one
//! ```
//!
//! Linux joins at most 20 channels on one socket by default (`igmp_max_memberships`), hence the limit. What arrives is
//! handed to the lane as heard: a channel is no way to say anything but media. Not which channel is to be heard, nor
//! for which flow: the lane says (`Output::Join`). Not system calls: `sys/multicast.rs`. Called by the worker's turn.
//! Invariant: a channel is joined from `join` to `leave` and no longer, and at most [`CHANNEL_SOCKETS_MAX`] sockets
//! are open.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use mio::{Interest, Registry, Token};

use crate::sys::{ReceiveBuffer, Socket, SocketSettings, multicast};
use levada_lane::api::{Channel, Train};

/// The most sockets of one lane that hear channels.
pub const CHANNEL_SOCKETS_MAX: usize = 64;
/// The most channels of one socket.
pub const CHANNELS_PER_SOCKET_MAX: usize = 16;
/// Receive errors after which a socket is left alone until something new comes.
const RECEIVE_ERRORS_MAX: usize = 8;

/// One socket.
#[derive(Debug)]
struct ChannelSocket {
    socket: Socket,
    readiness: mio::net::UdpSocket,
    /// The poller knows it.
    is_armed: bool,
    /// It may have something: readiness is told once, when it changes.
    is_readable: bool,
    joined: BTreeSet<Channel>,
}

impl ChannelSocket {
    fn open(channel: &Channel) -> io::Result<Self> {
        let socket = multicast::bind_to_hear(channel.address, &SocketSettings::default())?;
        Ok(Self {
            readiness: mio::net::UdpSocket::from_std(socket.try_clone_io()?),
            socket,
            is_armed: false,
            is_readable: true,
            joined: BTreeSet::new(),
        })
    }

    /// Whether a channel may be joined by it.
    fn takes(&self, channel: &Channel) -> bool {
        let local = self.socket.local_addr();
        local.port() == channel.address.port()
            && local.is_ipv6() == channel.address.is_ipv6()
            && self.joined.len() < CHANNELS_PER_SOCKET_MAX
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct ChannelSockets {
    sockets: BTreeMap<usize, ChannelSocket>,
}

impl ChannelSockets {
    /// Takes what is sent to a channel.
    pub(super) fn join(&mut self, channel: Channel) -> io::Result<()> {
        let taker = self
            .sockets
            .iter()
            .find(|(_, socket)| socket.takes(&channel));
        let at = match taker {
            Some((&at, _)) => at,
            None => self.open(&channel)?,
        };
        let socket = self.sockets.get_mut(&at).expect("found or opened above");
        let result = multicast::join(&socket.socket, &channel);
        if result.is_ok() {
            socket.joined.insert(channel);
        }
        self.close_idle();
        result
    }

    /// Takes it no more.
    pub(super) fn leave(&mut self, channel: Channel) {
        for socket in self.sockets.values_mut() {
            if socket.joined.remove(&channel) {
                // Closing the socket does it too; the interface may be gone, which does it as well.
                let _ = multicast::leave(&socket.socket, &channel);
            }
        }
        self.close_idle();
    }

    /// Receives what came, of each socket at most `budget` times.
    pub(super) fn receive(
        &mut self,
        buffer: &mut ReceiveBuffer,
        budget: usize,
        mut on_train: impl FnMut(io::Result<Train>),
    ) {
        for socket in self.sockets.values_mut() {
            let mut errors = 0;
            for _ in 0..budget {
                if !socket.is_readable {
                    break;
                }
                let receiver = &socket.socket;
                match socket.readiness.try_io(|| receiver.receive(buffer)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        socket.is_readable = false;
                    }
                    Err(error) => {
                        errors += 1;
                        socket.is_readable = errors < RECEIVE_ERRORS_MAX;
                        on_train(Err(error));
                    }
                    train => on_train(train),
                }
            }
        }
    }

    /// Whether some socket may have more.
    pub(super) fn has_more(&self) -> bool {
        self.sockets.values().any(|socket| socket.is_readable)
    }

    /// Has the poller tell of sockets that are new.
    pub(super) fn arm(&mut self, registry: &Registry, first: Token) {
        for (at, socket) in self
            .sockets
            .iter_mut()
            .filter(|(_, socket)| !socket.is_armed)
        {
            let token = Token(first.0 + at);
            let result = registry.register(&mut socket.readiness, token, Interest::READABLE);
            socket.is_armed = result.is_ok();
        }
    }

    /// A socket that the poller was told about may have something.
    pub(super) fn is_readable(&mut self, token: Token, first: Token) {
        if let Some(socket) = self.sockets.get_mut(&token.0.wrapping_sub(first.0)) {
            socket.is_readable = true;
        }
    }

    /// Opens a socket that a channel may be joined by.
    fn open(&mut self, channel: &Channel) -> io::Result<usize> {
        let free = (0..CHANNEL_SOCKETS_MAX).find(|at| !self.sockets.contains_key(at));
        let at = free.ok_or_else(|| io::Error::other("too many multicast channels"))?;
        self.sockets.insert(at, ChannelSocket::open(channel)?);
        Ok(at)
    }

    /// Closes sockets that hear nothing: the poller forgets them with that.
    fn close_idle(&mut self) {
        self.sockets.retain(|_, socket| !socket.joined.is_empty());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::net::{Ipv4Addr, SocketAddr};

    use bytes::Bytes;

    use super::*;
    use levada_lane::api::{Datagrams, Interface};

    const LOOPBACK: Interface = Interface {
        index: 1,
        address: Some(Ipv4Addr::LOCALHOST),
    };

    /// Channels on a port that was free a moment ago.
    fn channels(count: u16) -> Vec<Channel> {
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let free = multicast::bind_to_hear(any, &SocketSettings::default()).unwrap();
        let port = free.local_addr().port();
        let channel = |at: u16| {
            let [high, low] = at.to_be_bytes();
            let address = (Ipv4Addr::new(239, 8, high, low), port).into();
            Channel {
                address,
                interface: LOOPBACK,
            }
        };
        (1..=count).map(channel).collect()
    }

    fn speak(to: &Channel) {
        let any = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::bind(any, &SocketSettings::default()).unwrap();
        multicast::speak_by(&socket, &LOOPBACK).unwrap();
        let transmit = Datagrams {
            source: None,
            to: to.address,
            bytes: Bytes::from_static(&[4; 100]),
            segment_bytes: 100,
        };
        socket.try_send(&transmit).unwrap();
    }

    fn heard(channels: &mut ChannelSockets) -> usize {
        let mut buffer = ReceiveBuffer::new();
        let mut trains = 0;
        // No poller here: whoever asks looks.
        channels
            .sockets
            .values_mut()
            .for_each(|socket| socket.is_readable = true);
        channels.receive(&mut buffer, 64, |train| {
            trains += usize::from(train.is_ok())
        });
        trains
    }

    #[test]
    fn a_channel_is_heard_from_join_to_leave() {
        let channel = channels(1)[0];
        let mut sockets = ChannelSockets::default();
        sockets.join(channel).unwrap();

        speak(&channel);
        assert_eq!(heard(&mut sockets), 1);

        sockets.leave(channel);
        assert!(sockets.sockets.is_empty());
    }

    #[test]
    fn many_channels_are_spread_over_sockets_up_to_the_limit() {
        let limit = CHANNEL_SOCKETS_MAX * CHANNELS_PER_SOCKET_MAX;
        let channels = channels(u16::try_from(limit + 1).unwrap());
        let mut sockets = ChannelSockets::default();
        for channel in channels.iter().take(limit) {
            sockets.join(*channel).unwrap();
        }

        let refused = sockets.join(channels[limit]);

        assert_eq!(sockets.sockets.len(), CHANNEL_SOCKETS_MAX);
        assert!(refused.is_err());
        speak(&channels[limit - 1]);
        assert_eq!(heard(&mut sockets), 1);
    }

    #[test]
    fn what_is_no_channel_is_refused_and_leaves_no_socket() {
        let mut channel = channels(1)[0];
        channel.address.set_ip(Ipv4Addr::new(10, 0, 0, 1).into());
        let mut sockets = ChannelSockets::default();

        assert!(sockets.join(channel).is_err());

        assert!(sockets.sockets.is_empty());
    }
}
