//! What a sink of a stream is made of.
//!
//! ```text
//! deliveries ─▶ Playout (when) ─▶ Writer (as a transport stream) ─▶ OutFile, or wherever the caller wants it
//! ```
//!
//! Not the stream's way to here, and no player. Called by `levada play` and gateways. Invariant: nothing here knows a
//! node: what is held back is the caller's.

mod file;
mod playout;
mod writer;

pub use file::OutFile;
pub use playout::Playout;
pub use writer::Writer;
