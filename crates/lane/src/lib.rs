//! Levada's packets at speed, pure: what a node does with a flow once it was decided what to do.
//!
//! A [`Lane`] does no I/O and reads no clock: it is told what arrived and what time it is, and answers with what is to
//! be sent. `levada-ports` drives lanes over sockets, the simulator runs them as they are. Not a decision and not a
//! codec: commands come from the core through the node (`api.rs`), and bodies stay sealed from the origin to the
//! consumer.
//!
//! ```text
//!          commands, trains                       a packet's way through a lane
//!  driver ──────────────────▶ Lane                forward ─▶ flow {window, cache, egresses} ─▶ reassembly
//!         ◀──────────────────                     origin ──▶ the same, from the cache on
//!          transmits, events                      repair ◀─▶ what was lost, between neighbours
//! ```
//!
//! Start reading at `forward.rs`. Invariant: one packet has one fate ([`ledger`]), and nothing unproven
//! changes more than counters; it may wait for its key, within a bound.
//!
//! | feature | adds |
//! |---|---|
//! | `testkit` | `testkit`: lanes joined by perfect wires, for the tests of whoever drives lanes |

#![forbid(unsafe_code)]

pub mod api;
mod child;
mod flow;
mod forward;
mod joined;
mod lane;
pub mod ledger;
mod limits;
mod link;
mod origin;
mod outbox;
mod reassembly;
mod repair;
mod settings;
mod shared;
mod state;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use api::{
    Channel, Command, Datagrams, Delivery, Egress, EgressTerms, Event, FlowCommand, FlowCounters,
    FlowEvent, FrameRefusal, Gap, GapReason, Input, Interface, LaneCounters, LinkCommand,
    LinkCounters, LinkEvent, Originate, Output, Packets, Path, PublisherCommand, Train, Transmit,
};
pub use flow::run::SegmentMask;
pub use lane::Lane;
pub use limits::{
    BURST_BYTES_MAX, EARLY_PACKETS_MAX, FLUSH_INTERVAL_MAX, FRAMES_PER_BURST_MAX, GROUP_MIN,
    GROUP_MIN_ALL_SYNC, RUN_BYTES_MAX, RUN_PACKETS_MAX, WAITING_PACKETS_MAX,
};
pub use link::canonical;
pub use origin::check_frame;
pub use repair::counts::RepairCounts;
pub use settings::LaneSettings;
pub use shared::Shared;
