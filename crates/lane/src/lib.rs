//! Levada's packets at speed: what a node does with a flow once it was decided what to do.
//!
//! The pure half ([`Lane`] and all below it) does no I/O and reads no clock; the simulator runs it as it is. The
//! other half drives lanes over sockets: [`lanes`] is all lanes of a node, [`worker`] one lane's thread, [`sys`] the
//! sockets and the only unsafe code of the workspace. Not a decision and not a codec: commands come from the core through the node (`api.rs`), and
//! bodies stay sealed from the origin to the consumer.
//!
//! ```text
//!            commands, trains                       a packet's way through a lane
//!  node ────────────────────▶ Lane ◀─ worker ─ sys  forward ─▶ flow {window, cache, egresses} ─▶ reassembly
//!       ◀──────────────────── (pure)                origin ──▶ the same, from the cache on
//!            events                               repair ◀─▶ what was lost, between neighbours
//! ```
//!
//! Start reading at `forward.rs`. Invariant: one packet has one fate ([`ledger`]), and nothing unproven
//! changes more than counters; it may wait for its key, within a bound.

pub mod api;
mod clock;
#[cfg(test)]
mod counting;
mod flow;
mod forward;
mod lane;
pub mod lanes;
pub mod ledger;
mod link;
mod origin;
mod outbox;
mod pace;
mod reassembly;
mod repair;
mod steer;
pub mod sys;
#[cfg(test)]
mod testkit;
pub mod worker;

pub use api::{
    Command, Delivery, EgressTerms, Event, FlowCounters, Gap, GapReason, Input, Interface,
    LaneCounters, LinkCounters, Multicast, Originate, Output, Train, Transmit,
};
pub use clock::Clock;
pub use lane::{EARLY_PACKETS_MAX, Lane, LaneSettings};
pub use lanes::{LANES_MAX, Lanes, default_lanes};
pub use link::canonical;
pub use origin::{FLUSH_INTERVAL_MAX, FrameRefusal, GROUP_MIN, GROUP_MIN_ALL_SYNC, check_frame};
pub use reassembly::{BURST_BYTES_MAX, FRAMES_PER_BURST_MAX, WAITING_PACKETS_MAX};
pub use repair::RepairCounts;
pub use sys::{BindError, Feature, Socket, SocketSet, SocketSettings, source_towards};
pub use worker::{Full, WorkerCounters, WorkerHandle};
