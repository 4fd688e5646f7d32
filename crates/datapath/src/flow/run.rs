//! A run: packets of one burst with consecutive numbers that lie end to end in one buffer.
//!
//! It is what is cached, and what one send per egress takes: a burst that arrived whole in one receive goes on as
//! one slice of that receive, without a copy. Not a burst: a burst that came in pieces is several runs. Made by
//! `forward` and `origin`. Invariant: all packets but the last have `segment_bytes`; the last is not longer.

use std::ops::Range;

use bytes::Bytes;
use levada_wire::{Header, Number, OriginTime};

/// The most bytes of one send: what an IPv4 UDP datagram can hold, which is what the kernel checks for GSO too.
pub(crate) const RUN_BYTES_MAX: usize = 65_507;
/// The most packets of one send. Linux took 64 before 6.9 and 128 since (`UDP_MAX_SEGMENTS`, include/linux/udp.h).
pub(crate) const RUN_PACKETS_MAX: usize = 64;

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The number of its first packet.
    pub(crate) first: Number,
    /// The number of the first packet of its group.
    pub(crate) group_start: Number,
    /// The number of the first packet of its burst.
    pub(crate) burst: Number,
    /// When the origin handed the burst over.
    pub(crate) sent: OriginTime,
    /// The packets end to end.
    pub(crate) bytes: Bytes,
    /// Size of each packet but the last.
    pub(crate) segment_bytes: usize,
}

impl Run {
    /// How many packets it has.
    pub(crate) const fn packets(&self) -> usize {
        self.bytes.len().div_ceil(self.segment_bytes)
    }

    /// One past the number of its last packet.
    pub(crate) const fn end(&self) -> Number {
        self.first.plus(self.packets() as u64)
    }

    /// Its packets, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Number, Bytes)> + '_ {
        (0..self.packets()).map(|at| {
            let start = at * self.segment_bytes;
            let end = self.bytes.len().min(start + self.segment_bytes);
            (self.first.plus(at as u64), self.bytes.slice(start..end))
        })
    }

    /// The part of it with the packets at `range`; `None` if that is none.
    pub(crate) fn part(&self, range: Range<usize>) -> Option<Self> {
        let start = range.start * self.segment_bytes;
        let end = self.bytes.len().min(range.end * self.segment_bytes);
        (start < end).then(|| Self {
            first: self.first.plus(range.start as u64),
            group_start: self.group_start,
            burst: self.burst,
            sent: self.sent,
            bytes: self.bytes.slice(start..end),
            segment_bytes: self.segment_bytes,
        })
    }
}

/// A run that is being found in a train, one packet after the other.
#[derive(Debug)]
pub(crate) struct Growing {
    /// The header of its latest packet.
    latest: Header,
    first: Number,
    range: Range<usize>,
    segment_bytes: usize,
}

impl Growing {
    /// Starts with one packet, which lies at `range` of the train.
    pub(crate) const fn new(header: Header, range: Range<usize>) -> Self {
        Self {
            latest: header,
            first: header.number,
            segment_bytes: range.end - range.start,
            range,
        }
    }

    /// The flow it belongs to.
    pub(crate) const fn flow(&self) -> levada_wire::FlowId {
        self.latest.flow
    }

    /// Takes the packet at `range` as its next one; `false` if it must start another run.
    pub(crate) fn extend(&mut self, header: &Header, range: &Range<usize>) -> bool {
        let fits = self.range.end == range.start
            && !self.latest.last
            && self.latest.flow == header.flow
            && self.latest.number.next() == header.number
            && self.latest.group == header.group
            // A packet longer than the first, or anything after a shorter one, cannot ride in the same send.
            && self.range.len().is_multiple_of(self.segment_bytes)
            && range.len() <= self.segment_bytes
            && range.end - self.range.start <= RUN_BYTES_MAX
            && self.range.len() / self.segment_bytes < RUN_PACKETS_MAX;
        if fits {
            self.latest = *header;
            self.range.end = range.end;
        }
        fits
    }

    /// The run, as a slice of the train's bytes.
    pub(crate) fn finish(self, train: &Bytes) -> Run {
        Run {
            first: self.first,
            group_start: self
                .latest
                .group_start()
                .expect("admitted headers do not contradict themselves"),
            burst: self
                .latest
                .burst()
                .expect("admitted headers do not contradict themselves"),
            sent: self.latest.sent,
            bytes: train.slice(self.range),
            segment_bytes: self.segment_bytes,
        }
    }
}
