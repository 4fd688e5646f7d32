//! A run: packets of one burst with consecutive numbers that lie end to end in one buffer.
//!
//! It is what is cached, and what one send per egress takes: a burst that arrived whole in one receive goes on as one
//! slice of that receive, without a copy; where datagrams of others lay in between, its packets are gathered. Not a
//! burst: a burst that came in pieces is several runs. Made by `forward` and `origin`. Invariant: all packets
//! but the last have `segment_bytes`; the last is not longer.

use std::ops::Range;

use bytes::Bytes;
use levada_wire::{Header, Number, OriginTime};

use crate::api::Train;
use crate::limits::{RUN_BYTES_MAX, RUN_PACKETS_MAX};

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
    /// What `bytes` keep in memory: the size of the buffer that they lie in, with whatever else lies there.
    pub(crate) buffer_bytes: usize,
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

    /// The header of its first packet.
    pub(crate) fn header(&self) -> Option<Header> {
        self.bytes
            .chunks(self.segment_bytes)
            .next()
            .and_then(Header::peek)
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
            buffer_bytes: self.buffer_bytes,
        })
    }
}

/// Where in a train some of its datagrams lie: bit `i` stands for the one at place `i`.
///
/// All datagrams of a train but the last are of one size, so places are all that it takes to find bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentMask(u64);

impl SegmentMask {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// One place, below [`RUN_PACKETS_MAX`].
    #[must_use]
    pub const fn one(place: usize) -> Self {
        Self(1 << place)
    }

    /// One more place, below [`RUN_PACKETS_MAX`].
    pub const fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn first(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    const fn end(self) -> usize {
        (u64::BITS - self.0.leading_zeros()) as usize
    }

    /// Whether nothing lies between them.
    #[must_use]
    pub const fn is_together(self) -> bool {
        self.end() - self.first() == self.0.count_ones() as usize
    }

    /// All bytes from the first to the last.
    #[must_use]
    pub fn range(self, train: &Train) -> Range<usize> {
        let end = self.end() * train.segment_bytes;
        self.first() * train.segment_bytes..end.min(train.bytes.len())
    }

    /// How many bytes the datagrams have, without what lies between them.
    #[must_use]
    pub fn bytes(self, train: &Train) -> usize {
        let most = self.0.count_ones() as usize * train.segment_bytes;
        let beyond = (self.end() * train.segment_bytes).saturating_sub(train.bytes.len());
        most - beyond
    }

    /// Lays the datagrams behind what is in `into`.
    pub fn copy(self, train: &Train, into: &mut Vec<u8>) {
        let places = (self.first()..self.end()).filter(|place| self.0 >> place & 1 == 1);
        for place in places {
            into.extend_from_slice(&train.bytes[Self::one(place).range(train)]);
        }
    }
}

/// A run that is being found in a train, one packet after the other. What belongs to others may lie in between.
#[derive(Debug)]
pub(crate) struct Growing {
    /// The header of its latest packet.
    latest: Header,
    first: Number,
    places: SegmentMask,
    bytes: usize,
    packets: usize,
    segment_bytes: usize,
}

impl Growing {
    /// Starts with one packet of that many bytes, at `place` of the train.
    pub(crate) const fn new(header: Header, place: usize, bytes: usize) -> Self {
        Self {
            latest: header,
            first: header.number,
            places: SegmentMask::one(place),
            bytes,
            packets: 1,
            segment_bytes: bytes,
        }
    }

    /// The flow it belongs to.
    pub(crate) const fn flow(&self) -> levada_wire::FlowId {
        self.latest.flow
    }

    /// How many bytes it has.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where its packets lie.
    pub(crate) const fn places(&self) -> SegmentMask {
        self.places
    }

    /// Takes the packet at `place` as its next one; `false` if it must start another run.
    pub(crate) fn extend(&mut self, header: &Header, place: usize, bytes: usize) -> bool {
        let fits = !self.latest.last
            && self.latest.flow == header.flow
            && self.latest.number.next() == header.number
            && self.latest.group == header.group
            // A packet longer than the first, or anything after a shorter one, cannot ride in the same send.
            && self.bytes == self.packets * self.segment_bytes
            && bytes <= self.segment_bytes
            && self.bytes + bytes <= RUN_BYTES_MAX
            && self.packets < RUN_PACKETS_MAX;
        if fits {
            self.latest = *header;
            self.places.add(place);
            self.bytes += bytes;
            self.packets += 1;
        }
        fits
    }

    /// The run; `bytes` are its packets end to end, in a buffer of `buffer_bytes`.
    pub(crate) fn finish(self, bytes: Bytes, buffer_bytes: usize) -> Run {
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
            bytes,
            segment_bytes: self.segment_bytes,
            buffer_bytes,
        }
    }
}
