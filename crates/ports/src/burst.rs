//! One burst to many receivers: by as few system calls for each as its datagrams allow, and without a copy for any.
//!
//! ```text
//!   datagrams   [1200] [1200] [1200] [310]   [96]   [1200] [40]      each in whatever buffer it lies in, shared by all
//!   runs        └───── one send (GSO) ─────┘ └ one ┘ └─ one ─┘        one size but the last, which may be shorter
//! ```
//!
//! For gateways: what a receiver is sent in one moment is one burst, and all get the same. Over TCP one vectored write
//! does the same and needs nothing of ours. Not a queue: when the socket is full the caller keeps the place and comes
//! again, or gives the rest up. Called by whoever has many receivers of one format. Invariant: each receiver gets the
//! datagrams in order, and what a send that failed would have carried is sent by none.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use levada_lane::{RUN_BYTES_MAX, RUN_PACKETS_MAX};

use crate::sys::Socket;

/// Datagrams for many receivers. See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Burst {
    datagrams: Vec<Bytes>,
    /// For each datagram one past the last that may leave with it, and the size of all but that.
    runs: Vec<(usize, usize)>,
}

impl Burst {
    /// A burst of those datagrams, in that order. Empty ones are left out: no receiver would miss them.
    #[must_use]
    pub fn new(datagrams: impl IntoIterator<Item = Bytes>) -> Self {
        let mut burst = Self::default();
        let datagrams = datagrams
            .into_iter()
            .filter(|datagram| !datagram.is_empty());
        burst.datagrams = datagrams.collect();
        burst.runs = (0..burst.datagrams.len())
            .map(|at| burst.run_at(at))
            .collect();
        burst
    }

    /// How many datagrams there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// The bytes that one receiver is sent, without headers of the network.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.datagrams.iter().map(Bytes::len).sum()
    }

    fn run_at(&self, first: usize) -> (usize, usize) {
        let size = self.datagrams[first].len();
        let mut bytes = 0;
        for (at, datagram) in self.datagrams.iter().enumerate().skip(first) {
            bytes += datagram.len();
            let is_full = at - first == RUN_PACKETS_MAX || bytes > RUN_BYTES_MAX;
            if at > first && (is_full || datagram.len() > size) {
                return (at, size);
            }
            if datagram.len() < size {
                return (at + 1, size); // nothing follows a shorter one
            }
        }
        (self.datagrams.len(), size)
    }
}

impl Socket {
    /// Sends a receiver the datagrams of a burst from place `from` on, and moves that past what was sent. `WouldBlock`
    /// when the socket's buffer is full: from there on it may go on later.
    ///
    /// # Errors
    ///
    /// What the kernel says of the destination or of a size; the datagram at `from` is the one that did not go.
    pub fn send_burst(&self, to: SocketAddr, burst: &Burst, from: &mut usize) -> io::Result<()> {
        while let Some(&(end, size)) = burst.runs.get(*from) {
            *from += self.send_gathered(to, &burst.datagrams[*from..end], size)?;
        }
        Ok(())
    }

    /// Sends a burst to each receiver. Who did not get all of it is said, with the place of the first datagram that it
    /// did not get and why; the others do not wait for it.
    pub fn send_to_all(
        &self,
        burst: &Burst,
        receivers: impl IntoIterator<Item = SocketAddr>,
        mut on_rest: impl FnMut(SocketAddr, usize, io::Error),
    ) {
        for to in receivers {
            let mut from = 0;
            if let Err(error) = self.send_burst(to, burst, &mut from) {
                on_rest(to, from, error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::Duration;

    use super::*;
    use crate::sys::{ProbeSettings, ProbeSocket};
    use crate::testkit::{Computer, on_each_computer};

    fn burst(sizes: &[usize]) -> Burst {
        let datagram = |(at, &size): (usize, &usize)| Bytes::from(vec![at as u8; size]);
        Burst::new(sizes.iter().enumerate().map(datagram))
    }

    fn receiver() -> ProbeSocket {
        let settings = ProbeSettings {
            patience: Some(Duration::from_secs(20)),
            ..ProbeSettings::default()
        };
        Computer::far_end("127.0.0.1:0", &settings)
    }

    /// The first byte and the size of so many datagrams.
    fn received(socket: &ProbeSocket, count: usize) -> Vec<(u8, usize)> {
        let mut buffer = [0; 2_000];
        let mut receive = || {
            let arrival = socket.receive(&mut buffer).unwrap();
            (buffer[0], arrival.bytes)
        };
        (0..count).map(|_| receive()).collect()
    }

    #[test]
    fn datagrams_of_one_size_leave_together_up_to_a_shorter_one_and_the_limits() {
        let ends = |sizes: &[usize]| -> Vec<usize> {
            let burst = burst(sizes);
            let next = |&at: &usize| burst.runs.get(at).map(|run| run.0);
            std::iter::successors(next(&0), next).collect()
        };

        assert_eq!(ends(&[1_200, 1_200, 310, 96, 1_200, 40]), [3, 4, 6]);
        assert_eq!(ends(&[100; 130]), [64, 128, 130]);
        assert_eq!(ends(&[1_400; 60]), [46, 60], "64,400 bytes and no more");
        assert_eq!(ends(&[0, 0]), [0; 0]);
    }

    on_each_computer!(
        every_receiver_gets_the_burst_whole_and_in_order,
        a_receiver_that_is_refused_keeps_no_other_waiting,
    );

    fn every_receiver_gets_the_burst_whole_and_in_order() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), &Computer::here().sockets());
        let socket = socket.unwrap();
        Computer::here().befall(&socket);
        let sizes = [1_200, 1_200, 310, 96, 1_200, 40];
        let (burst, receivers) = (burst(&sizes), [receiver(), receiver(), receiver()]);

        let all = receivers.iter().map(ProbeSocket::local_addr);
        socket.send_to_all(&burst, all, |to, from, error| {
            panic!("{to} {from}: {error}")
        });

        let expected: Vec<(u8, usize)> = (0..).zip(sizes).collect();
        for receiver in &receivers {
            assert_eq!(received(receiver, sizes.len()), expected);
        }
        assert_eq!(burst.bytes(), sizes.iter().sum());
    }

    fn a_receiver_that_is_refused_keeps_no_other_waiting() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), &Computer::here().sockets());
        let socket = socket.unwrap();
        let (burst, receiver) = (burst(&[500, 500]), receiver());
        let nowhere = SocketAddr::from(([255, 255, 255, 255], 9)); // a broadcast that nobody allowed
        let mut refused = Vec::new();

        let all = [nowhere, receiver.local_addr()];
        socket.send_to_all(&burst, all, |to, from, _| refused.push((to, from)));

        assert_eq!(refused, [(nowhere, 0)]);
        assert_eq!(received(&receiver, 2), [(0, 500), (1, 500)]);
    }
}
