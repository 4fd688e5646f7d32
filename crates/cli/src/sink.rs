//! Where the frames of a played stream go.
//!
//! ```text
//! Playout ─▶ Writer ─▶ Target (a file, standard output, a player)
//! ```
//!
//! A new destination is a variant of [`Target`]. Not the stream's way here (`access.rs`), and not when and how it
//! is written, which `levada-media` has. Called by `play`.
//! Invariant: nothing is made or changed at the target before the first frame is there.

mod player;
mod target;

pub(crate) use player::Player;
pub(crate) use target::{Destination, Target};
