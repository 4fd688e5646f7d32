//! The beacon: how a node is found on its LAN, and how the LAN agrees on who is there.
//!
//! Sent to a link-scope and to an admin-scope multicast channel on port 7801; the two copies have counters of their
//! own. Behind the 40 bytes that every site datagram starts with:
//!
//! ```text
//! off len field
//! 40  24  node      bytes 8-31 of the sender's node id; bytes 0-7 are `sender` in the header
//! 64   8  boot      drawn at the sender's start: tells a restarted node
//! 72   8  roster    digest of the members the sender knows, itself included
//! 80   8  hub       the hub it follows, by prefix; its own if it is hub, zero if it knows none
//! 88   4  epoch     that hub's epoch; zero if it knows none
//! 92   2  port      the sender's UDP port for everything unicast; its address is where the beacon comes from
//! 94   2  flags     8000 RELAY, 4000 SENDER, 2000 WIRELESS, 1000 UPLINK; others are ignored
//! 96   1  priority  0 (never hub) to 15
//! 97   2  interval  milliseconds to the sender's next beacon at most; absent: 1,000
//! 99   -  from the future: ignored
//! ```
//!
//! Whoever finds its own roster digest in the hub's beacon need not speak: that is what keeps the traffic of a site
//! constant. Not when to send one: that is the site machine of the core. Invariant: the digest covers all that a beacon
//! says of its sender, so equal digests mean equal knowledge.
//!
//! Wire definition: docs/wire.md section 9.2

use std::collections::BTreeMap;

use super::layout::{optional, rest_of, take, take_node};
use crate::id::{NodeId, NodePrefix};

/// I am here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The sender's node id.
    pub node: NodeId,
    /// What it says of itself.
    pub member: Member,
    /// A digest of all members that the sender knows.
    pub roster: RosterDigest,
    /// The hub it follows, and that hub's epoch.
    pub hub: Option<(NodePrefix, Epoch)>,
    /// Within this time another beacon of it follows, unless it is gone.
    pub interval: Interval,
}

/// The longest time between two beacons of a sender, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(pub u16);

impl Interval {
    /// What is meant where none is said.
    pub const DEFAULT: Self = Self(1_000);
}

/// What a beacon says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Drawn at each start of the node, as in its hello.
    pub boot: u64,
    /// Its UDP port for everything unicast.
    pub port: u16,
    /// What it can do.
    pub flags: Flags,
    /// How well it would serve as hub.
    pub priority: Priority,
}

/// What a node can do, in bits. Bits from the future are kept, for the digest, and mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Forwards for nodes outside its LAN.
    pub const RELAY: Self = Self(0x8000);
    /// Proven as sender of multicast: someone heard it on a channel.
    pub const SENDER: Self = Self(0x4000);
    /// Reaches the LAN by radio.
    pub const WIRELESS: Self = Self(0x2000);
    /// Has a link that leads out of the site.
    pub const UPLINK: Self = Self(0x1000);

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of those are among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How well a node would serve as hub, in 16 steps, so that noise does not reorder nodes. 0 is never hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// Never hub.
    pub const NEVER: Self = Self(0);
    /// Pinned as hub by the admin.
    pub const PINNED: Self = Self(15);

    /// The priority of that step, or `None` above 15.
    #[must_use]
    pub const fn new(step: u8) -> Option<Self> {
        if step <= Self::PINNED.0 {
            Some(Self(step))
        } else {
            None
        }
    }

    /// The step, 0 to 15.
    #[must_use]
    pub const fn step(self) -> u8 {
        self.0
    }
}

/// Counts the hubs of a site; each successful claim has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// The members a node knows, hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RosterDigest(pub [u8; 8]);

impl RosterDigest {
    /// The digest of a roster: the first 8 bytes of SHA-256 over a label and, for each member in the order of the
    /// prefixes, prefix, boot, port, flags and priority.
    #[must_use]
    pub fn of(roster: &BTreeMap<NodePrefix, Member>) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(b"levada/1 roster");
        for (prefix, member) in roster {
            hash.update(&prefix.0);
            hash.update(&member.boot.to_be_bytes());
            hash.update(&member.port.to_be_bytes());
            hash.update(&member.flags.0.to_be_bytes());
            hash.update(&[member.priority.0]);
        }
        Self(
            hash.finish()
                .as_ref()
                .first_chunk()
                .copied()
                .unwrap_or([0; 8]),
        )
    }
}

impl Beacon {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (hub, epoch) = self.hub.unwrap_or((NodePrefix([0; 8]), Epoch(0)));
        out.extend_from_slice(rest_of(&self.node));
        out.extend_from_slice(&self.member.boot.to_be_bytes());
        out.extend_from_slice(&self.roster.0);
        out.extend_from_slice(&hub.0);
        out.extend_from_slice(&epoch.0.to_be_bytes());
        out.extend_from_slice(&self.member.port.to_be_bytes());
        out.extend_from_slice(&self.member.flags.0.to_be_bytes());
        out.push(self.member.priority.0);
        if self.interval != Interval::DEFAULT {
            out.extend_from_slice(&self.interval.0.to_be_bytes());
        }
    }

    pub(super) fn decode(sender: NodePrefix, body: &[u8]) -> Option<Self> {
        let rest = &mut &*body;
        let node = take_node(sender, rest)?;
        let boot = u64::from_be_bytes(take(rest)?);
        let roster = RosterDigest(take(rest)?);
        let hub = optional(take(rest)?);
        let epoch = Epoch(u32::from_be_bytes(take(rest)?));
        let member = Member {
            boot,
            port: u16::from_be_bytes(take(rest)?),
            flags: Flags(u16::from_be_bytes(take(rest)?)),
            priority: take_priority(rest)?,
        };
        Some(Self {
            node,
            member,
            roster,
            hub: hub.map(|hub| (hub, epoch)),
            interval: take(rest).map_or(Interval::DEFAULT, |bytes| {
                Interval(u16::from_be_bytes(bytes))
            }),
        })
    }
}

/// Takes a priority; one above 15 is none.
pub(super) fn take_priority(rest: &mut &[u8]) -> Option<Priority> {
    let [step] = take(rest)?;
    Priority::new(step)
}
