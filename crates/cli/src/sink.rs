//! Sinks: where the frames of a played stream go.
//!
//! ```text
//! deliveries ─▶ Playout (when) ─▶ Writer (as a transport stream) ─▶ Target (a file, standard output, a player)
//! ```
//!
//! A new place to write to is a variant of [`Target`]. Not the stream's way here (`access.rs`). Called by `play`.
//! Invariant: nothing is made or changed at the target before the first frame is there.

mod file;
mod player;
mod playout;
mod target;
mod writer;

pub(crate) use file::OutFile;
pub(crate) use player::Player;
pub(crate) use playout::Playout;
pub(crate) use target::{Place, Target};
pub(crate) use writer::Writer;
