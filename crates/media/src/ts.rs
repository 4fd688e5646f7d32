//! MPEG transport streams (ISO 13818-1): frames out of them, and into them.
//!
//! | file | what |
//! |---|---|
//! | `packet`, `sync` | 188 bytes; where they begin |
//! | `psi` | tables: which PID is what |
//! | `pes` | pieces of an elementary stream, with times |
//! | `codec` | stream types and descriptors, and the codec words of this project |
//! | `timeline` | 33-bit times made endless |
//! | `elementary` | PES payloads into frames |
//! | `program` | the tracks and their description |
//! | `clock` | when clock and tables are due in what is written |
//! | `demux`, `mux` | the two ends; `error`: what the first can find wrong |
//! | `shaper` | when each packet leaves: a constant rate, and a clock that says exactly that |
//!
//! What a frame of which codec looks like is in the crate's own documentation. Sections that are not PES
//! (SCTE 35, DSM-CC) are not carried. Of a stream with several programs the first is taken, or the one asked for.
//!
//! Called by sources (files, pulled and pushed streams) and gateways (`.ts`, HLS, UDP). Invariant: whatever a
//! [`Muxer`] writes, a [`Demuxer`] gives back frame by frame and byte by byte, times shifted by [`MUX_OFFSET`] and
//! pictures behind their access unit delimiters.

mod clock;
mod codec;
mod demux;
mod elementary;
mod error;
mod mux;
mod packet;
mod pes;
mod program;
mod psi;
mod shaper;
mod sync;
mod timeline;

pub use demux::{Demuxer, Event};
pub use error::{Error, ErrorKind};
pub use mux::{MUX_OFFSET, MuxError, Muxer, Omission};
pub use packet::{Adaptation, PACKET_BYTES, Packet, Pid};
pub use psi::crc32;
pub use shaper::{DATAGRAM_BYTES, Shape, Shaper, ShaperCounts};
pub use sync::looks_like;
