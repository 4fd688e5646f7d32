//! What waits for a full socket, and what became of each datagram.
//!
//! ```text
//!  run ─▶ │ waits at most 200 ms │ ─▶ socket      late: gone, and all that follows of that flow to that
//!                                                 destination, up to the next start of a group
//! ```
//!
//! Half a group is of no use and would keep the next one waiting, so an egress that is behind goes on with the next whole
//! one. Not the socket: `sys`. Called by the worker's outlets. Invariant: runs leave in the order they were given, at most
//! [`SEND_QUEUE_BYTES_MAX`] wait, and datagrams given = sent + too large + refused + dropped + skipped + waiting.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::time::Duration;

use levada_wire::packet::Kind;
use levada_wire::{FlowId, Header, Instant};

use crate::api::Transmit;
use crate::sys::is_too_large;

/// The most bytes that wait for a full socket; more are dropped. 64 ms at 1 Gb/s: who waits longer is too late.
pub const SEND_QUEUE_BYTES_MAX: usize = 8 << 20;
/// The longest that a run waits for a full socket: what comes later than this is repaired sooner than it arrives.
pub const BACKLOG_MAX: Duration = Duration::from_millis(200);
/// The most egresses that are on their way to the next group at a time; of one more only the late runs go.
const SKIPPING_MAX: usize = 4_096;

/// The most destinations noted at a time that a datagram was too large for; one more is noted when it happens again.
const TOO_LARGE_MAX: usize = 16;

/// What became of the datagrams that a lane sent, for itself or for another lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Datagrams that the lane gave, or another one for it to send.
    pub given: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// System calls that it took them by.
    pub calls: u64,
    /// Datagrams larger than the path's first hop takes.
    pub too_large: u64,
    /// Datagrams that the kernel refused: no route, a firewall.
    pub refused: u64,
    /// Datagrams dropped because too much was waiting for a full socket.
    pub dropped: u64,
    /// Datagrams of an egress that was too far behind, up to the start of the next group.
    pub skipped: u64,
    /// Datagrams that wait at this moment.
    pub waiting: u64,
    /// How often the socket was full.
    pub blocked: u64,
    /// Sockets by which packets leave alone since the kernel refused to take several at once.
    pub gso_failed: u64,
}

/// Counts of several lanes together.
impl AddAssign<&Self> for SendCounters {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            given,
            sent,
            sent_bytes,
            calls,
            too_large,
            refused,
            dropped,
            skipped,
            waiting,
            blocked,
            gso_failed,
        } = other;
        self.given += given;
        self.sent += sent;
        self.sent_bytes += sent_bytes;
        self.calls += calls;
        self.too_large += too_large;
        self.refused += refused;
        self.dropped += dropped;
        self.skipped += skipped;
        self.waiting += waiting;
        self.blocked += blocked;
        self.gso_failed += gso_failed;
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// With the time since when each waits.
    runs: VecDeque<(Instant, Transmit)>,
    bytes: usize,
    /// Egresses that go on with the next group.
    skipping: BTreeSet<(SocketAddr, FlowId)>,
    /// To whom a datagram did not go because of its size, and the least such size.
    too_large: Vec<(SocketAddr, usize)>,
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

    /// Counts a run as refused that there is no way for.
    pub(super) fn refuse(&mut self, run: &Transmit) {
        let datagrams = datagrams(run);
        self.counters.given += datagrams;
        self.counters.refused += datagrams;
    }

    /// Takes a run, to be sent by the next [`SendQueue::flush`].
    pub(super) fn push(&mut self, now: Instant, run: Transmit) {
        let datagrams = datagrams(&run);
        self.counters.given += datagrams;
        if self.bytes + run.bytes.len() > SEND_QUEUE_BYTES_MAX {
            self.counters.dropped += datagrams;
            return;
        }
        self.counters.waiting += datagrams;
        self.bytes += run.bytes.len();
        self.runs.push_back((now, run));
    }

    /// Sends by `send_part`, as [`crate::sys::Socket`] does, until there is nothing left or the socket is full.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        mut send_part: impl FnMut(&mut Transmit) -> io::Result<()>,
    ) {
        while let Some((since, mut run)) = self.runs.pop_front() {
            self.bytes -= run.bytes.len();
            if self.is_too_late(&run, now.since(since)) {
                let datagrams = datagrams(&run);
                self.counters.waiting -= datagrams;
                self.counters.skipped += datagrams;
                continue;
            }
            if !self.send(&mut send_part, &mut run) {
                self.counters.blocked += 1;
                self.bytes += run.bytes.len();
                self.runs.push_front((since, run));
                return;
            }
        }
    }

    /// Whether a run is not to be sent any more: it has waited too long, or it follows one that had.
    fn is_too_late(&mut self, run: &Transmit, waited: Duration) -> bool {
        let is_late = waited > BACKLOG_MAX;
        if !is_late && self.skipping.is_empty() {
            return false;
        }
        let first = &run.bytes[..run.segment_bytes.min(run.bytes.len())];
        let is_media = Kind::of(first) == Kind::Media;
        let Some(header) = Header::peek(first).filter(|_| is_media) else {
            return is_late;
        };
        let egress = (run.to, header.flow);
        if is_late && self.skipping.len() < SKIPPING_MAX {
            self.skipping.insert(egress);
        } else if header.offset == 0 {
            self.skipping.remove(&egress);
        }
        is_late || self.skipping.contains(&egress)
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
                    self.counters.calls += 1;
                    self.counters.sent_bytes += (bytes_before - run.bytes.len()) as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if is_too_large(&error) => {
                    self.counters.too_large += gone;
                    let bytes = run.segment_bytes.min(bytes_before - run.bytes.len());
                    self.note_too_large(run.to, bytes);
                }
                Err(_) => self.counters.refused += gone,
            }
        }
        true
    }
}

impl SendQueue {
    fn note_too_large(&mut self, to: SocketAddr, bytes: usize) {
        let has_room = self.too_large.len() < TOO_LARGE_MAX;
        match self.too_large.iter_mut().find(|(known, _)| *known == to) {
            Some((_, least)) => *least = bytes.min(*least),
            None if has_room => self.too_large.push((to, bytes)),
            None => {}
        }
    }

    /// Takes note of the destinations that a datagram was too large for, each with the least size that was.
    pub(super) fn take_too_large(&mut self) -> impl Iterator<Item = (SocketAddr, usize)> {
        self.too_large.drain(..)
    }
}

fn datagrams(run: &Transmit) -> u64 {
    run.bytes.len().div_ceil(run.segment_bytes.max(1)) as u64
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};

    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn run(mark: u8, datagrams: usize) -> Transmit {
        Transmit {
            to: crate::testkit::address(0),
            bytes: Bytes::from(vec![mark; datagrams * 100]),
            segment_bytes: 100,
        }
    }

    fn is_accounted_for(counters: &SendCounters) -> bool {
        let refused = counters.too_large + counters.refused;
        let gone = counters.sent + refused + counters.dropped + counters.skipped;
        counters.given == gone + counters.waiting
    }

    #[test]
    fn a_full_socket_leaves_the_rest_in_order() {
        let mut queue = SendQueue::default();
        for mark in 0..3 {
            queue.push(NOW, run(mark, 2));
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

        queue.flush(NOW, &mut send_part);
        assert_eq!((queue.counters.sent, queue.counters.waiting), (3, 3));
        assert!(is_accounted_for(&queue.counters) && !queue.is_empty());

        queue.flush(NOW, |run| {
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
            queue.push(NOW, run(0, 100));
        }

        assert!(queue.counters.dropped >= 400);
        assert!(queue.counters.waiting * 100 <= SEND_QUEUE_BYTES_MAX as u64);
        assert!(is_accounted_for(&queue.counters));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_a_datagram_was_too_large_for_is_noted_once_with_the_least_size_up_to_the_limit() {
        let mut queue = SendQueue::default();
        let mut larger = run(0, 1);
        larger.segment_bytes = 150;
        larger.bytes = Bytes::from_static(&[0; 150]);
        queue.push(NOW, larger);
        queue.push(NOW, run(0, 2));
        for lane in 1..=TOO_LARGE_MAX {
            let to = crate::testkit::address(lane);
            queue.push(NOW, Transmit { to, ..run(0, 1) });
        }

        queue.flush(NOW, |run| {
            let gone = run.segment_bytes.min(run.bytes.len());
            run.bytes.advance(gone);
            Err(io::Error::from_raw_os_error(libc::EMSGSIZE))
        });

        let noted: Vec<_> = queue.take_too_large().collect();
        assert_eq!(noted[0], (crate::testkit::address(0), 100));
        assert_eq!(noted.len(), TOO_LARGE_MAX);
        assert_eq!(queue.take_too_large().count(), 0);
        assert!(is_accounted_for(&queue.counters));
    }

    #[test]
    fn a_refused_datagram_does_not_stop_the_next_run() {
        let mut queue = SendQueue::default();
        queue.push(NOW, run(0, 1));
        queue.push(NOW, run(1, 1));

        queue.flush(NOW, |run| {
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

    /// Packets of a flow in one run, longer together than a packet may be; the first is at that place of its group.
    const RUN: usize = 25;

    fn packets(flow: u64, offset: u32) -> Transmit {
        let header = Header {
            flow: FlowId(flow),
            offset,
            ..crate::testkit::header(u64::from(offset) + 1_000)
        };
        let packet = [&header.encode()[..], &[0; 40]].concat();
        Transmit {
            to: crate::testkit::address(0),
            segment_bytes: packet.len(),
            bytes: packet.repeat(RUN).into(),
        }
    }

    /// The flow and the offset of a run's first packet.
    fn first_of(run: &Transmit) -> Option<(u64, u32)> {
        let header = Header::peek(&run.bytes[..run.segment_bytes])?;
        Some((header.flow.0, header.offset))
    }

    #[test]
    fn an_egress_that_is_behind_goes_on_with_the_next_group_and_others_go_on_at_once() {
        let mut queue = SendQueue::default();
        let late = NOW + BACKLOG_MAX + Duration::from_millis(1);
        queue.push(NOW, packets(1, 0));
        queue.push(NOW, packets(2, 0));
        queue.flush(NOW, |_| Err(io::ErrorKind::WouldBlock.into()));
        for offset in [1, 2, 0, 1] {
            queue.push(late, packets(1, offset));
        }
        queue.push(late, packets(3, 7));

        let mut sent = Vec::new();
        queue.flush(late, |run| {
            sent.extend(first_of(run));
            run.bytes.clear();
            Ok(())
        });

        assert_eq!(sent, [(1, 0), (1, 1), (3, 7)]);
        assert_eq!(queue.counters.skipped, 4 * RUN as u64);
        assert!(is_accounted_for(&queue.counters) && queue.is_empty());
    }

    #[test]
    fn of_more_egresses_than_the_limit_only_what_is_late_goes() {
        let mut queue = SendQueue::default();
        let late = NOW + BACKLOG_MAX * 2;
        let beyond = SKIPPING_MAX as u64;
        for flow in 0..=beyond {
            queue.push(NOW, packets(flow, 0));
        }
        queue.push(late, packets(0, 1));
        queue.push(late, packets(beyond, 1));

        queue.flush(late, |run| {
            run.bytes.clear();
            Ok(())
        });

        assert_eq!(
            (queue.counters.skipped, queue.counters.sent),
            ((beyond + 2) * RUN as u64, RUN as u64)
        );
    }

    #[test]
    fn a_late_datagram_that_is_no_packet_goes_alone() {
        let mut queue = SendQueue::default();
        let late = NOW + BACKLOG_MAX * 2;
        queue.push(NOW, run(6, 1));
        queue.push(late, run(6, 1));

        queue.flush(late, |run| {
            run.bytes.clear();
            Ok(())
        });

        assert_eq!((queue.counters.skipped, queue.counters.sent), (1, 1));
    }
}
