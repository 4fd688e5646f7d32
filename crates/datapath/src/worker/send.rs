//! What waits for a full socket, and what became of each datagram.
//!
//! Not the socket: `sys`. Called by the worker's turn. Invariant: runs leave in the order they were given, at most
//! [`SEND_QUEUE_BYTES_MAX`] wait, and datagrams given = sent + too large + refused + dropped + waiting.

use std::collections::VecDeque;
use std::io;
use std::ops::AddAssign;

use crate::api::Transmit;
use crate::sys::is_too_large;

/// The most bytes that wait for a full socket; more are dropped. 64 ms at 1 Gb/s: who waits longer is too late.
pub const SEND_QUEUE_BYTES_MAX: usize = 8 << 20;

/// What became of the datagrams that a lane sent, for itself or for another lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Datagrams that the lane gave, or another one for it to send.
    pub given: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams larger than the path's first hop takes.
    pub too_large: u64,
    /// Datagrams that the kernel refused: no route, a firewall.
    pub refused: u64,
    /// Datagrams dropped because too much was waiting for a full socket.
    pub dropped: u64,
    /// Datagrams that wait at this moment.
    pub waiting: u64,
    /// How often the socket was full.
    pub blocked: u64,
}

/// Counts of several lanes together.
impl AddAssign<&Self> for SendCounters {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            given,
            sent,
            sent_bytes,
            too_large,
            refused,
            dropped,
            waiting,
            blocked,
        } = other;
        self.given += given;
        self.sent += sent;
        self.sent_bytes += sent_bytes;
        self.too_large += too_large;
        self.refused += refused;
        self.dropped += dropped;
        self.waiting += waiting;
        self.blocked += blocked;
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    runs: VecDeque<Transmit>,
    bytes: usize,
    pub(super) counters: SendCounters,
}

impl SendQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts runs as dropped that no lane has room for.
    pub(super) fn drop_runs(&mut self, runs: &mut Vec<Transmit>) {
        for run in runs.drain(..) {
            let datagrams = datagrams(&run);
            self.counters.given += datagrams;
            self.counters.dropped += datagrams;
        }
    }

    /// Takes a run, to be sent by the next [`SendQueue::flush`].
    pub(super) fn push(&mut self, run: Transmit) {
        let datagrams = datagrams(&run);
        self.counters.given += datagrams;
        if self.bytes + run.bytes.len() > SEND_QUEUE_BYTES_MAX {
            self.counters.dropped += datagrams;
            return;
        }
        self.counters.waiting += datagrams;
        self.bytes += run.bytes.len();
        self.runs.push_back(run);
    }

    /// Sends by `send_part`, as [`crate::sys::Socket`] does, until there is nothing left or the socket is full.
    pub(super) fn flush(&mut self, mut send_part: impl FnMut(&mut Transmit) -> io::Result<()>) {
        while let Some(mut run) = self.runs.pop_front() {
            self.bytes -= run.bytes.len();
            if !self.send(&mut send_part, &mut run) {
                self.counters.blocked += 1;
                self.bytes += run.bytes.len();
                self.runs.push_front(run);
                return;
            }
        }
    }

    /// Sends one run; `false` if the socket is full, with the rest left in `run`.
    fn send(
        &mut self,
        send_part: &mut impl FnMut(&mut Transmit) -> io::Result<()>,
        run: &mut Transmit,
    ) -> bool {
        while !run.bytes.is_empty() {
            let (before, bytes_before) = (datagrams(run), run.bytes.len());
            let result = send_part(run);
            let gone = before - datagrams(run);
            self.counters.waiting -= gone;
            match result {
                Ok(()) => {
                    self.counters.sent += gone;
                    self.counters.sent_bytes += (bytes_before - run.bytes.len()) as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if is_too_large(&error) => self.counters.too_large += gone,
                Err(_) => self.counters.refused += gone,
            }
        }
        true
    }
}

fn datagrams(run: &Transmit) -> u64 {
    run.bytes.len().div_ceil(run.segment_bytes.max(1)) as u64
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};

    use super::*;

    fn run(mark: u8, datagrams: usize) -> Transmit {
        Transmit {
            to: crate::testkit::address(0),
            bytes: Bytes::from(vec![mark; datagrams * 100]),
            segment_bytes: 100,
        }
    }

    fn is_accounted_for(counters: &SendCounters) -> bool {
        let gone = counters.sent + counters.too_large + counters.refused + counters.dropped;
        counters.given == gone + counters.waiting
    }

    #[test]
    fn a_full_socket_leaves_the_rest_in_order() {
        let mut queue = SendQueue::default();
        for mark in 0..3 {
            queue.push(run(mark, 2));
        }
        let mut taken = Vec::new();
        let mut room = 3;
        let mut send_part = |run: &mut Transmit| {
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            room -= 1;
            taken.push(run.bytes[0]);
            run.bytes.advance(100);
            Ok(())
        };

        queue.flush(&mut send_part);
        assert_eq!((queue.counters.sent, queue.counters.waiting), (3, 3));
        assert!(is_accounted_for(&queue.counters) && !queue.is_empty());

        queue.flush(|run| {
            taken.push(run.bytes[0]);
            run.bytes.clear();
            Ok(())
        });
        assert_eq!(taken, [0, 0, 1, 1, 2]);
        assert!(is_accounted_for(&queue.counters) && queue.is_empty());
    }

    #[test]
    fn more_than_the_limit_is_dropped_and_counted() {
        let mut queue = SendQueue::default();

        for _ in 0..SEND_QUEUE_BYTES_MAX / 10_000 + 5 {
            queue.push(run(0, 100));
        }

        assert!(queue.counters.dropped >= 400);
        assert!(queue.counters.waiting * 100 <= SEND_QUEUE_BYTES_MAX as u64);
        assert!(is_accounted_for(&queue.counters));
    }

    #[test]
    fn a_refused_datagram_does_not_stop_the_next_run() {
        let mut queue = SendQueue::default();
        queue.push(run(0, 1));
        queue.push(run(1, 1));

        queue.flush(|run| {
            let is_first = run.bytes[0] == 0;
            run.bytes.clear();
            if is_first {
                Err(io::ErrorKind::PermissionDenied.into())
            } else {
                Ok(())
            }
        });

        assert_eq!((queue.counters.refused, queue.counters.sent), (1, 1));
        assert!(is_accounted_for(&queue.counters));
    }
}
