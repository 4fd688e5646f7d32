//! Levada's bytes and words: ids, units, packets, datagrams, control messages, keys, and the contract
//! that every protocol machine keeps.
//!
//! This crate does no I/O, reads no clock and draws no random number. It knows no codec and decides
//! nothing: it only says how things are written and how they are checked. `core` and `lane` both
//! stand on it and know nothing of each other. The normative text is `docs/wire.md`; each file that
//! defines bytes carries a marker line that ties it to its section there.
//!
//! Invariant: no function of this crate panics or allocates without a named bound, whatever bytes it
//! is given.

#![forbid(unsafe_code)]

pub mod announce;
pub mod control;
pub mod counter;
pub mod datagram;
pub mod frame;
pub mod id;
pub mod identity;
mod json;
pub mod key;
pub mod lane;
pub mod machine;
pub mod packet;
pub mod ticket;
pub mod time;
pub mod units;
pub mod unknown;

pub use announce::{Announce, SignedAnnounce, SignedWithdraw};
pub use frame::{Description, Frame, Track, TrackId, TrackKind};
pub use id::{CarryEnd, FlowId, InstanceId, LinkIndex, NetworkId, NodeId, NodePrefix, StreamName};
pub use identity::Identity;
pub use machine::{Machine, Wakeup};
pub use packet::Header;
pub use time::{Instant, OriginTime, WallTime};
pub use units::{Bitrate, Distance, Group, Layer, MediaTime, Number, PacketSize, RepairBudget};
