//! What a connection remembers: its two ends, what each has sent and received, and how each stands.
//!
//! Not what happens to it, which is `connection`. Called by `connection` only. Invariant: a chunk comes out once, after
//! all chunks of its concern that were sent before it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use levada_core::{Concern, DialId};
use levada_wire::Instant;

use super::{CLOSED_MEMORY, Host};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) dial: DialId,
    pub(super) expected: Option<usize>,
    pub(super) dialled: SocketAddr,
    pub(super) since: Instant,
    pub(super) round_trip: Duration,
    pub(super) ends: [EndState; 2],
}

#[derive(Debug)]
pub(super) struct EndState {
    pub(super) host: Option<Host>,
    pub(super) phase: Phase,
    pub(super) heard: Instant,
    /// What this end has sent, by concern: the next sequence.
    pub(super) sent: BTreeMap<u8, u64>,
    /// What this end has received, by concern.
    pub(super) received: BTreeMap<u8, Received>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Open,
    /// Closed; `told` if this end said so to the other.
    Closed {
        at: Instant,
        told: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) next: u64,
    pub(super) early: BTreeMap<u64, Bytes>,
}

impl Received {
    fn read(&mut self, concern: u8, ready: &mut Vec<(u8, Bytes)>) {
        while let Some(bytes) = self.early.remove(&self.next) {
            self.next += 1;
            ready.push((concern, bytes));
        }
    }
}

impl EndState {
    /// An end at the start of the handshake.
    pub(super) const fn opening(now: Instant, host: Option<Host>) -> Self {
        Self {
            host,
            phase: Phase::Opening,
            heard: now,
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
        }
    }

    /// The place of the next chunk that this end sends.
    pub(super) fn next_sequence(&mut self, concern: u8) -> u64 {
        let next = self.sent.entry(concern).or_default();
        *next += 1;
        *next - 1
    }

    /// Takes a chunk that arrived, and gives back those that are now in order, each with its concern. As in `node`, the
    /// other concerns are not read before the first chunk about the link.
    pub(super) fn take(&mut self, concern: u8, sequence: u64, bytes: Bytes) -> Vec<(u8, Bytes)> {
        let link = Concern::Link.code();
        let is_begun = |received: &BTreeMap<u8, Received>| {
            received.get(&link).is_some_and(|stream| stream.next > 0)
        };
        let was_begun = is_begun(&self.received);
        let stream = self.received.entry(concern).or_default();
        if sequence >= stream.next {
            stream.early.insert(sequence, bytes);
        }
        let mut ready = Vec::new();
        if concern == link || was_begun {
            stream.read(concern, &mut ready);
        }
        if !was_begun && is_begun(&self.received) {
            for (concern, stream) in &mut self.received {
                stream.read(*concern, &mut ready);
            }
        }
        ready
    }

    /// Whether everything that the other end had sent has come out here.
    pub(super) fn has_all(&self, sent: &BTreeMap<u8, u64>) -> bool {
        sent.iter().all(|(concern, count)| {
            self.received.get(concern).map_or(0, |stream| stream.next) >= *count
        })
    }
}

impl Connection {
    /// How long after a segment was sent it is sent again: three times the initial round trip that nodes set before it
    /// is known (RFC 9002 section 6.2.2), then one and a half of it; twice as long each time (section 6.2.1).
    pub(super) fn timeout(&self, attempt: u32) -> Duration {
        let base = if self.round_trip.is_zero() {
            Duration::from_millis(300)
        } else {
            self.round_trip * 3 / 2 + Duration::from_millis(10)
        };
        base * (1 << attempt.min(10))
    }
}

impl Phase {
    pub(super) const fn is_closed(self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Who closed on purpose sees to it for a while that what was said before arrives, and the close.
    pub(super) fn has_no_more_to_say(self, now: Instant) -> bool {
        match self {
            Self::Closed { at, told } => !told || now.since(at) >= CLOSED_MEMORY,
            Self::Opening | Self::Open => false,
        }
    }
}

/// The broken link of a negative control: one chunk comes out twice, as if nobody had counted.
#[derive(Debug, Default)]
pub(super) struct Doubler {
    pub(super) is_on: bool,
    pub(super) passed: u32,
}

impl Doubler {
    /// Early enough for every run, late enough that links are up.
    pub(super) const AFTER: u32 = 20;

    pub(super) fn times(&mut self) -> usize {
        self.passed += 1;
        if self.is_on && self.passed == Self::AFTER {
            2
        } else {
            1
        }
    }
}
