//! Measurements of the datapath on this machine, each beside its floor: the kernel's part of the same work alone.
//!
//! | module | what |
//! |---|---|
//! | [`fanout`], [`hop`], [`inputs`], [`join`], [`local`], [`loss`], [`micro`], [`rtsp`], [`soak`], [`views`] | what is measured, one each |
//! | `traffic`, `origin` | frames as a camera makes them; real origins that cut and seal them |
//! | `contender` | who does the work: a real lane over real sockets, or a floor |
//! | `receivers` | the far ends |
//! | `drive` | feeds a contender and counts what arrives |
//! | `chain` | nodes in a row, for `loss` |
//! | `forwarder`, `impair` | the bad paths between them: sockets, and what is decided |
//! | `cpu`, `stats` | processor time by thread; medians and percentiles |
//!
//! Not the flags and tables of `levada bench`, which calls it. Invariant: a figure without its floor from the same run
//! is not reported, and nothing is reported that was not measured.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    reason = "fields of reports are the keys of the JSON, with their units; what each means is in bench/RESULTS.md"
)]

mod at_load;
mod chain;
mod contender;
mod cpu;
mod drive;
pub mod fanout;
mod forwarder;
pub mod hop;
pub mod impair;
pub mod inputs;
pub mod join;
pub mod local;
pub mod loss;
pub mod micro;
mod origin;
mod receivers;
pub mod rtsp;
pub mod soak;
mod stats;
mod traffic;
pub mod views;

pub use chain::HOPS_MAX;
pub use contender::Task;
pub use cpu::Machine;
pub use impair::{HELD_BACK_MAX, Impairment, OUTAGE_EVERY, OUTAGE_FIRST};
pub use origin::Camera;
pub use receivers::Kind;
pub use stats::Spread;
pub use traffic::{RATE_MAX, RATE_MIN};
pub use traffic::{SYNC_FACTOR, SYNC_FACTOR_MAX};
