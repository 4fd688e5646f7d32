//! The sockets that hear the channels that a lane has joined.
//!
//! ```text
//!  239.1.2.3 on eth0 ─┬─ a socket on 7801: at most 16 channels
//!  239.1.2.4 on eth0 ─┘
//!  ff15::1:2 on eth0 ─── another one
//! ```
//!
//! Linux joins at most 20 groups on one socket by default (`igmp_max_memberships`), hence the limit. What arrives is
//! handed to the lane as heard: a group is no way to say anything but media. Not which channel is to be heard, nor for
//! which flow: the lane says (`Output::Join`). Not system calls: `sys/multicast.rs`. Called by the worker's turn.
//! Invariant: a channel is joined from `join` to `leave` and no longer, and at most [`EARS_MAX`] sockets are open.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use mio::{Interest, Registry, Token};

use crate::sys::{ReceiveBuffer, Socket, SocketSettings, multicast};
use levada_lane::api::{Channel, Train};

/// The most sockets of one lane that hear groups.
pub const EARS_MAX: usize = 64;
/// The most groups of one socket.
pub const GROUPS_PER_EAR_MAX: usize = 16;
/// Receive errors after which a socket is left alone until something new comes.
const RECEIVE_ERRORS_MAX: usize = 8;

/// One socket.
#[derive(Debug)]
struct Ear {
    socket: Socket,
    readiness: mio::net::UdpSocket,
    /// The poller knows it.
    is_armed: bool,
    /// It may have something: readiness is told once, when it changes.
    is_readable: bool,
    joined: BTreeSet<Channel>,
}

impl Ear {
    fn open(group: &Channel) -> io::Result<Self> {
        let socket = multicast::bind_to_hear(group.address, &SocketSettings::default())?;
        Ok(Self {
            readiness: mio::net::UdpSocket::from_std(socket.try_clone_io()?),
            socket,
            is_armed: false,
            is_readable: true,
            joined: BTreeSet::new(),
        })
    }

    /// Whether a group may be joined by it.
    fn takes(&self, group: &Channel) -> bool {
        let local = self.socket.local_addr();
        local.port() == group.address.port()
            && local.is_ipv6() == group.address.is_ipv6()
            && self.joined.len() < GROUPS_PER_EAR_MAX
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    ears: BTreeMap<usize, Ear>,
}

impl Hearing {
    /// Takes what is sent to a channel.
    pub(super) fn join(&mut self, channel: Channel) -> io::Result<()> {
        let taker = self.ears.iter().find(|(_, ear)| ear.takes(&channel));
        let at = match taker {
            Some((&at, _)) => at,
            None => self.open(&channel)?,
        };
        let ear = self.ears.get_mut(&at).expect("found or opened above");
        let result = multicast::join(&ear.socket, &channel);
        if result.is_ok() {
            ear.joined.insert(channel);
        }
        self.close_idle();
        result
    }

    /// Takes it no more.
    pub(super) fn leave(&mut self, channel: Channel) {
        for ear in self.ears.values_mut() {
            if ear.joined.remove(&channel) {
                // Closing the socket does it too; the interface may be gone, which does it as well.
                let _ = multicast::leave(&ear.socket, &channel);
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
        for ear in self.ears.values_mut() {
            let mut errors = 0;
            for _ in 0..budget {
                if !ear.is_readable {
                    break;
                }
                let socket = &ear.socket;
                match ear.readiness.try_io(|| socket.receive(buffer)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ear.is_readable = false;
                    }
                    Err(error) => {
                        errors += 1;
                        ear.is_readable = errors < RECEIVE_ERRORS_MAX;
                        on_train(Err(error));
                    }
                    train => on_train(train),
                }
            }
        }
    }

    /// Whether some socket may have more.
    pub(super) fn has_more(&self) -> bool {
        self.ears.values().any(|ear| ear.is_readable)
    }

    /// Has the poller tell of sockets that are new.
    pub(super) fn arm(&mut self, registry: &Registry, first: Token) {
        for (at, ear) in self.ears.iter_mut().filter(|(_, ear)| !ear.is_armed) {
            let token = Token(first.0 + at);
            let result = registry.register(&mut ear.readiness, token, Interest::READABLE);
            ear.is_armed = result.is_ok();
        }
    }

    /// A socket that the poller was told about may have something.
    pub(super) fn is_readable(&mut self, token: Token, first: Token) {
        if let Some(ear) = self.ears.get_mut(&token.0.wrapping_sub(first.0)) {
            ear.is_readable = true;
        }
    }

    /// Opens a socket that a group may be joined by.
    fn open(&mut self, group: &Channel) -> io::Result<usize> {
        let free = (0..EARS_MAX).find(|at| !self.ears.contains_key(at));
        let at = free.ok_or_else(|| io::Error::other("too many multicast groups"))?;
        self.ears.insert(at, Ear::open(group)?);
        Ok(at)
    }

    /// Closes sockets that hear nothing: the poller forgets them with that.
    fn close_idle(&mut self) {
        self.ears.retain(|_, ear| !ear.joined.is_empty());
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

    /// Groups on a port that was free a moment ago.
    fn groups(count: u16) -> Vec<Channel> {
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let free = multicast::bind_to_hear(any, &SocketSettings::default()).unwrap();
        let port = free.local_addr().port();
        let group = |at: u16| {
            let [high, low] = at.to_be_bytes();
            let address = (Ipv4Addr::new(239, 8, high, low), port).into();
            Channel {
                address,
                interface: LOOPBACK,
            }
        };
        (1..=count).map(group).collect()
    }

    fn speak(to: &Channel) {
        let any = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::bind(any, &SocketSettings::default()).unwrap();
        multicast::speak_by(&socket, &LOOPBACK).unwrap();
        let transmit = Datagrams {
            to: to.address,
            bytes: Bytes::from_static(&[4; 100]),
            segment_bytes: 100,
        };
        socket.try_send(&transmit).unwrap();
    }

    fn heard(hearing: &mut Hearing) -> usize {
        let mut buffer = ReceiveBuffer::new();
        let mut trains = 0;
        // No poller here: whoever asks looks.
        hearing
            .ears
            .values_mut()
            .for_each(|ear| ear.is_readable = true);
        hearing.receive(&mut buffer, 64, |train| {
            trains += usize::from(train.is_ok())
        });
        trains
    }

    #[test]
    fn a_channel_is_heard_from_join_to_leave() {
        let group = groups(1)[0];
        let mut hearing = Hearing::default();
        hearing.join(group).unwrap();

        speak(&group);
        assert_eq!(heard(&mut hearing), 1);

        hearing.leave(group);
        assert!(hearing.ears.is_empty());
    }

    #[test]
    fn many_groups_are_spread_over_sockets_up_to_the_limit() {
        let limit = EARS_MAX * GROUPS_PER_EAR_MAX;
        let groups = groups(u16::try_from(limit + 1).unwrap());
        let mut hearing = Hearing::default();
        for group in groups.iter().take(limit) {
            hearing.join(*group).unwrap();
        }

        let refused = hearing.join(groups[limit]);

        assert_eq!(hearing.ears.len(), EARS_MAX);
        assert!(refused.is_err());
        speak(&groups[limit - 1]);
        assert_eq!(heard(&mut hearing), 1);
    }

    #[test]
    fn what_is_no_group_is_refused_and_leaves_no_socket() {
        let mut group = groups(1)[0];
        group.address.set_ip(Ipv4Addr::new(10, 0, 0, 1).into());
        let mut hearing = Hearing::default();

        assert!(hearing.join(group).is_err());

        assert!(hearing.ears.is_empty());
    }
}
