//! Levada's ports: the sockets of a node, what the kernel offers for them, and the threads that drive lanes over them.
//!
//! [`lanes`] is all lanes of a node behind one handle, [`worker`] one lane's thread, [`sys`] the sockets and the only
//! unsafe code of what ships; [`burst`] sends one burst to many, for gateways. Not what becomes of a packet:
//! `levada-lane` knows, and decides nothing beyond a hop either. Used by the node, and by benches and the laboratory
//! for probes.
//!
//! ```text
//!  node ── commands ──▶ Lanes ─▶ worker {Lane} ◀─ trains (GRO) ── sys ◀─▶ network
//!       ◀─ events, QUIC ───────  a thread each ── runs (GSO) ────▶
//! ```
//!
//! Invariant: the bytes that arrive are the same with each feature of the kernel on or off; a send that fails is
//! counted and never ends anything.

pub mod burst;
mod clock;
#[cfg(test)]
mod counting;
pub mod lanes;
mod steer;
pub mod sys;
#[cfg(test)]
mod testkit;
pub mod worker;

pub use burst::Burst;
pub use clock::Clock;
pub use lanes::{LANES_MAX, Lanes, default_lanes};
pub use sys::{
    BindError, Feature, Socket, SocketSet, SocketSettings, interface_rate, path_to, source_towards,
};
pub use worker::{Full, WorkerCounters, WorkerHandle};
