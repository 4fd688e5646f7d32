//! MP4 files (ISO 14496-12 and -14, QuickTime): frames out of them, and fragments for players into them.
//!
//! | file | what |
//! |---|---|
//! | `boxes` | boxes within boxes |
//! | `entry` | what a sample entry says: codec and configuration, and how samples become frames |
//! | `tables` | where the samples of a whole file are, and when |
//! | `fragment` | the same for the fragments of a fragmented one |
//! | `reader` | [`Reader`]: frames of all tracks in the order of decoding |
//! | `writer`, `setup` | [`Writer`]: init segment and fragments, and what they say of each codec |
//!
//! With a reader of its own: the crate for it that is otherwise good applies no edit lists, holds whole fragments with
//! their data, and refuses a file for one odd box. Here a track that cannot be read is left out and named, and of a
//! file only its tables are held, and one sample. Called by sources and gateways. Invariant: whatever a file says,
//! memory is bounded, and nothing ends reading but its end.

mod boxes;
mod entry;
mod fragment;
mod reader;
mod setup;
mod tables;
mod writer;

pub use entry::OmissionReason;
pub use reader::{Mp4Error, Omission, Reader, TABLES_BYTES_MAX};
pub use writer::{FRAME_STEP, Omission as TrackOmission, TIME_OFFSET, Writer};
