//! What waits for a full socket, and what became of each datagram.
//!
//! ```text
//!  run ─▶ │ waits at most 200 ms │ ─▶ socket      late: gone, and all that follows of that flow to that
//!                                                 destination, up to the next start of a group
//! ```
//!
//! Half a group is of no use and would keep the next one waiting, so a link that is behind goes on with the next whole
//! one; a channel, which many hear, goes on with what is not late. The lane of the flow is told, so that the child
//! hears GONE and what else is of that group is not given
//! at all; and so it is of what finds no room. While the socket is full egresses have turns (`backlog.rs`). Not the
//! socket: `sys`. Called by `send_sockets.rs`. Invariant: runs of an egress leave in the order they were given, at most
//! [`SEND_QUEUE_BYTES_MAX`] wait, and datagrams given = sent + too large + refused + dropped + skipped + waiting.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use levada_wire::{FlowId, Instant, LinkIndex, Number, counters};

use super::backlog::{Backlog, Waiting};
use crate::sys::is_too_large;
use levada_lane::api::{Datagrams, Egress, Late, Packets, Transmit};

/// The most bytes that wait for a full socket; of more whoever has most loses what came last. It is time that bounds
/// what waits: this is [`BACKLOG_MAX`] at 2.5 Gb/s. Bytes that go to many are in memory once.
pub const SEND_QUEUE_BYTES_MAX: usize = 64 << 20;
/// The longest that a run waits for a full socket: what comes later than this is repaired sooner than it arrives.
pub const BACKLOG_MAX: Duration = Duration::from_millis(200);
/// The most ranges of late packets that are noted between two turns: one for each egress of many flows. Who misses more
/// asks for it.
const LATE_MAX: usize = 4_096;
/// The most egresses that are on their way to the next group at a time; for one more another is forgotten, which may
/// have ended long ago.
const SKIPPING_MAX: usize = 4_096;

/// The most links noted at a time that a datagram was too large for; one more is noted when it happens again.
const TOO_LARGE_MAX: usize = 16;

counters! {
    /// What became of the datagrams that a lane sent, for itself or for another lane.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SendCounters, "socket_" {
        /// Datagrams that the lane gave, or another one for it to send.
        given: Counter "datagrams",
        /// Datagrams that the kernel took.
        sent: Counter "datagrams",
        /// Their bytes.
        sent_bytes: Counter "bytes",
        /// System calls that it took them by.
        calls: Counter "calls",
        /// Datagrams larger than the path's first hop takes.
        too_large: Counter "datagrams",
        /// Datagrams that the kernel refused: no route, a firewall.
        refused: Counter "datagrams",
        /// Datagrams dropped because too much was waiting for a full socket.
        dropped: Counter "datagrams",
        /// Datagrams of an egress that was too far behind, up to the start of the next group.
        skipped: Counter "datagrams",
        /// Datagrams that wait at this moment.
        waiting: Gauge "datagrams",
        /// How often the socket was full.
        blocked: Counter "times",
        /// Destinations to which packets leave alone since the kernel refused to take several at once.
        gso_failed: Counter "destinations",
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// What was given since the last flush.
    fresh: VecDeque<Waiting>,
    fresh_bytes: usize,
    /// What the socket did not take.
    backlog: Backlog,
    /// Egresses that go on with the next group, each with the number from which on it is sent nothing before that.
    skipping: BTreeMap<(Egress, FlowId), Number>,
    /// What was not sent since it was late, for the lane to tell who misses it.
    late: Vec<Late>,
    /// Where in that the latest of each egress and flow is.
    latest: BTreeMap<(Egress, FlowId), usize>,
    /// The links over which a datagram did not go because of its size, and the least such size.
    too_large: Vec<(LinkIndex, usize)>,
    pub(super) counters: SendCounters,
}

impl SendQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.backlog.is_empty()
    }

    /// The bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.fresh_bytes + self.backlog.bytes()
    }

    /// Drops runs that no lane has room for.
    pub(super) fn drop_runs(&mut self, runs: &mut Vec<Transmit>) {
        for run in runs.drain(..) {
            self.counters.given += run.datagrams.count();
            self.drop_run(&run);
        }
    }

    /// A run finds no room: whoever was to have it is told, and goes on with the next group.
    fn drop_run(&mut self, run: &Transmit) {
        self.counters.dropped += run.datagrams.count();
        if let Some(packets) = run.packets {
            self.skip_from((run.egress, packets.flow), packets.first);
            self.note_late(run, packets);
        }
    }

    /// Counts a run as refused that there is no way for.
    pub(super) fn refuse(&mut self, run: &Transmit) {
        let datagrams = run.datagrams.count();
        self.counters.given += datagrams;
        self.counters.refused += datagrams;
    }

    /// Sends a run at once, before which nothing waits; `false` if the socket is full, and the rest waits.
    pub(super) fn send_at_once(
        &mut self,
        now: Instant,
        mut run: Transmit,
        mut send_part: impl FnMut(&mut Datagrams) -> io::Result<()>,
    ) -> bool {
        debug_assert!(self.is_empty(), "what waits goes first");
        let datagrams = run.datagrams.count();
        self.counters.given += datagrams;
        self.counters.waiting += datagrams;
        if self.is_too_late(&run, Duration::ZERO) {
            self.counters.waiting -= datagrams;
            self.counters.skipped += datagrams;
            return true;
        }
        if self.send(&mut send_part, &mut run, datagrams) {
            return true;
        }
        self.counters.blocked += 1;
        self.backlog.put_back((now, run));
        false
    }

    /// Takes a run, to be sent by the next [`SendQueue::flush`].
    pub(super) fn push(&mut self, now: Instant, run: Transmit) {
        let datagrams = run.datagrams.count();
        self.counters.given += datagrams;
        if !self.make_room(&run) {
            return self.drop_run(&run);
        }
        self.counters.waiting += datagrams;
        self.fresh_bytes += run.datagrams.bytes.len();
        self.fresh.push_back((now, run));
    }

    /// Makes room for a run; `false` if its own egress has a share of what waits already.
    fn make_room(&mut self, run: &Transmit) -> bool {
        let bytes = run.datagrams.bytes.len();
        while self.bytes() + bytes > SEND_QUEUE_BYTES_MAX {
            let share = SEND_QUEUE_BYTES_MAX / self.backlog.egresses().max(1);
            if self.backlog.bytes_for(run.egress) + bytes > share {
                return false;
            }
            let Some(given_up) = self.backlog.give_up() else {
                return false; // all of it is fresh
            };
            self.counters.waiting -= given_up.datagrams.count();
            self.drop_run(&given_up);
        }
        true
    }

    /// Sends by `send_part`, as [`crate::sys::Socket`] does, until there is nothing left or the socket is full.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        mut send_part: impl FnMut(&mut Datagrams) -> io::Result<()>,
    ) {
        while let Some((since, mut run)) = self.take_next() {
            if self.is_too_late(&run, now.since(since)) {
                let datagrams = run.datagrams.count();
                self.counters.waiting -= datagrams;
                self.counters.skipped += datagrams;
                continue;
            }
            let datagrams = run.datagrams.count();
            if !self.send(&mut send_part, &mut run, datagrams) {
                self.counters.blocked += 1;
                self.backlog.put_back((since, run));
                return self.take_turns();
            }
        }
    }

    /// The run that is sent next: as it was given, or whose turn it is if others wait.
    fn take_next(&mut self) -> Option<Waiting> {
        if !self.backlog.is_empty() {
            self.take_turns();
            return self.backlog.pop();
        }
        let next = self.fresh.pop_front()?;
        self.fresh_bytes -= next.1.datagrams.bytes.len();
        Some(next)
    }

    /// What was given waits with the others from now on.
    fn take_turns(&mut self) {
        self.fresh_bytes = 0;
        for waiting in self.fresh.drain(..) {
            self.backlog.push(waiting);
        }
    }

    /// Whether a run is not to be sent any more: it has waited too long, or it follows one that had.
    fn is_too_late(&mut self, run: &Transmit, waited: Duration) -> bool {
        let is_late = waited > BACKLOG_MAX;
        if !is_late && self.skipping.is_empty() {
            return false;
        }
        let Some(packets) = run.packets else {
            return is_late;
        };
        let egress = (run.egress, packets.flow);
        if is_late {
            self.skip_from(egress, packets.first);
        }
        let from = self.skipping.get(&egress);
        let is_beyond = from.is_some_and(|from| packets.first >= *from);
        if is_beyond && packets.starts_group && !is_late {
            self.skipping.remove(&egress);
            return false;
        }
        let is_skipped = is_late || is_beyond;
        if is_skipped {
            self.note_late(run, packets);
        }
        is_skipped
    }

    /// From that number on an egress is sent nothing before the next group; but a channel, on which many would lose a
    /// group for one full socket, goes on with what is not late.
    fn skip_from(&mut self, egress: (Egress, FlowId), number: Number) {
        if matches!(egress.0, Egress::Channel(_)) {
            return;
        }
        if self.skipping.len() == SKIPPING_MAX && !self.skipping.contains_key(&egress) {
            self.skipping.pop_first();
        }
        let from = self.skipping.entry(egress).or_insert(number);
        *from = number.min(*from);
    }

    /// Notes a run that is not sent; what follows on the one before is one with it.
    fn note_late(&mut self, run: &Transmit, Packets { flow, first, .. }: Packets) {
        let (egress, end) = (run.egress, first.plus(run.datagrams.count()));
        let latest = self.latest.get(&(egress, flow)).copied();
        let before = latest.and_then(|at| self.late.get_mut(at));
        if let Some(before) = before.filter(|before| before.end == first) {
            before.end = end;
        } else if self.late.len() < LATE_MAX {
            self.latest.insert((egress, flow), self.late.len());
            self.late.push(Late {
                egress,
                flow,
                first,
                end,
            });
        }
    }

    /// Takes note of what was not sent since the last time.
    pub(super) fn take_late(&mut self) -> impl Iterator<Item = Late> {
        self.latest.clear();
        self.late.drain(..)
    }

    /// Sends one run of so many datagrams; `false` if the socket is full, with the rest left in `run`.
    #[inline]
    fn send(
        &mut self,
        send_part: &mut impl FnMut(&mut Datagrams) -> io::Result<()>,
        run: &mut Transmit,
        mut left: u64,
    ) -> bool {
        let datagrams = &mut run.datagrams;
        while !datagrams.bytes.is_empty() {
            let bytes_before = datagrams.bytes.len();
            let result = send_part(datagrams);
            let gone = match datagrams.bytes.len() {
                0 => left, // as it is nearly always: counting divides
                _ => left - datagrams.count(),
            };
            left -= gone;
            let bytes_gone = bytes_before - datagrams.bytes.len();
            self.counters.waiting -= gone;
            match result {
                Ok(()) => {
                    self.counters.sent += gone;
                    self.counters.calls += 1;
                    self.counters.sent_bytes += bytes_gone as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if is_too_large(&error) => {
                    self.counters.too_large += gone;
                    let bytes = datagrams.segment_bytes.min(bytes_gone);
                    self.note_too_large(run.egress, bytes);
                }
                Err(_) => self.counters.refused += gone,
            }
        }
        true
    }

    /// Links are told of a size that is too large for them, and channels have one that all networks take.
    fn note_too_large(&mut self, egress: Egress, bytes: usize) {
        let Egress::Link(link) = egress else {
            return;
        };
        let has_room = self.too_large.len() < TOO_LARGE_MAX;
        match self.too_large.iter_mut().find(|(known, _)| *known == link) {
            Some((_, least)) => *least = bytes.min(*least),
            None if has_room => self.too_large.push((link, bytes)),
            None => {}
        }
    }

    /// Takes note of the links that a datagram was too large for, each with the least size that was.
    pub(super) fn take_too_large(&mut self) -> impl Iterator<Item = (LinkIndex, usize)> {
        self.too_large.drain(..)
    }
}

#[cfg(test)]
mod tests;
