//! Somebody who hears everything, has no key, and sends what may look like something.
//!
//! Takes datagrams that crossed the networks and sends them again, as they were or with a changed bit, from an address
//! of its own or from one that is not; or makes media packets of a flow it heard of. All checkers stay on, and no fault
//! excuses anything: nothing may change. Called by `world`. Invariant: no key, no secret, no knowledge of a machine.

use std::net::SocketAddr;

use bytes::Bytes;
use levada_wire::packet::Kind;

use super::{Event, World};
use crate::scenario::FaultKind;

/// How many datagrams it remembers.
const HEARD_MAX: usize = 512;

/// What it has heard.
#[derive(Debug, Default)]
pub(super) struct Stranger {
    /// Whether it listens at all.
    listens: bool,
    heard: Vec<(Bytes, SocketAddr)>,
    next: usize,
}

impl Stranger {
    /// A datagram crossed a network.
    pub(super) fn hears(&mut self, bytes: &Bytes, to: SocketAddr) {
        if !self.listens {
            return;
        }
        let heard = (bytes.clone(), to);
        if self.heard.len() < HEARD_MAX {
            self.heard.push(heard);
        } else {
            self.heard[self.next] = heard;
            self.next = (self.next + 1) % HEARD_MAX;
        }
    }
}

impl World<'_> {
    /// Sends one datagram, and plans the next.
    pub(super) fn on_stranger(&mut self, fault: usize) {
        let FaultKind::Stranger { node, every } = &self.scenario.faults[fault].kind else {
            return;
        };
        // The end of a fault forgets it.
        if self.faults[fault].is_none() {
            return;
        }
        self.queue.push(self.now + *every, Event::Stranger(fault));
        self.stranger.listens = true;
        let Some((bytes, from)) = self.forgery() else {
            return;
        };
        let to = self.nodes[*node].address;
        self.trace.datagram(self.now, from, to, &bytes);
        self.counts.forged += 1;
        self.arrive_datagram(*node, from, bytes);
    }

    fn forgery(&mut self) -> Option<(Bytes, SocketAddr)> {
        let rng = &mut self.rng;
        let mut pick = |count: usize| usize::try_from(rng.below(count as u64)).unwrap_or(0);
        let heard = self.stranger.heard.len();
        if heard == 0 {
            return None;
        }
        let (bytes, _) = self.stranger.heard[pick(heard)].clone();
        let own = SocketAddr::from(([192, 0, 2, 66], 666));
        let from = if pick(2) == 0 {
            own
        } else {
            self.nodes[pick(self.nodes.len())].address
        };
        let mut forged = bytes.to_vec();
        match pick(3) {
            0 => {}
            1 => {
                let bit = pick(forged.len() * 8);
                forged[bit / 8] ^= 1 << (bit % 8);
            }
            // A later number of a flow, or the same place of another link, with all else as it was.
            _ if Kind::of(&forged) == Kind::Media => forged[17] = forged[17].wrapping_add(1),
            _ => {
                forged[11] = forged[11].wrapping_add(1);
            }
        }
        Some((forged.into(), from))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_stranger_remembers_the_newest_datagrams_only() {
        let mut stranger = Stranger {
            listens: true,
            ..Stranger::default()
        };
        let to = "10.0.0.1:7800".parse().unwrap();
        let count = u32::try_from(HEARD_MAX).unwrap() + 10;

        for number in 0..count {
            stranger.hears(&Bytes::copy_from_slice(&number.to_be_bytes()), to);
        }

        assert_eq!(stranger.heard.len(), HEARD_MAX);
        let oldest = stranger
            .heard
            .iter()
            .map(|(bytes, _)| bytes.clone())
            .min()
            .unwrap();
        assert_eq!(*oldest, 10_u32.to_be_bytes());
    }
}
