//! Media formats: how a stream's frames look as bytes of other formats, and how they flow in time.
//!
//! It knows no node, hub or socket: formats are pure functions and state over bytes, and only [`source`] and [`sink`]
//! read and write files. Gateways, sources and players call it; the overlay never does, because a codec is only a word
//! there.
//!
//! | module | what it is |
//! |---|---|
//! | [`ts`] | MPEG transport streams: [`ts::Demuxer`] and [`ts::Muxer`] |
//! | [`mjpeg`] | motion JPEG: [`mjpeg::Splitter`], and the multipart body |
//! | [`mp4`] | MP4 files: [`mp4::Reader`] |
//! | [`rtp`] | RTP: [`rtp::Packer`] and [`rtp::Unpacker`] |
//! | [`sdp`] | SDP: tracks and how they travel in RTP, as text |
//! | [`nal`] | H.264 and H.265 byte streams: access units, where decoding can start |
//! | [`aac`], [`mpeg_audio`], [`ac3`], [`opus`] | headers of audio frames |
//! | [`ticks`] | times of one timescale in another |
//! | [`rebase`] | one timeline for a stream whose instance changes |
//! | [`looped`] | a clip that plays on without a seam |
//! | [`interleave`] | frames of all tracks in the order of their times |
//! | [`pace`] | when a frame of a file is due |
//! | [`testcard`] | the built-in test card |
//! | [`source`] | where frames come from: the test card, files, folders, a pipe; each frame when it is due |
//! | [`sink`] | where frames go: held back until they are due, written as a transport stream, into a file |
//! | [`clock`] | the clock that sources and players read |
//!
//! # How a stream looks between gateways
//!
//! Whoever makes frames follows this table and whoever turns them into a protocol relies on it.
//! Times are `i64` ticks of the track's timescale; whatever comes from a transport stream has 90,000 a second.
//!
//! | `codec` | kind | one frame is | `config` |
//! |---|---|---|---|
//! | `h264`, `h265` | video | one access unit in Annex B, byte for byte as it came: access unit delimiter and in-band parameter sets stay | empty |
//! | `av1` | video | one temporal unit, each OBU with its size, without delimiters (AV1 5.2); sequence headers in-band | empty |
//! | `vp8`, `vp9` | video | one frame; of VP9 with those not shown in one superframe | empty |
//! | `mjpeg` | video | one JPEG image | empty |
//! | `mpeg2video` | video | one access unit, sequence header in-band | empty |
//! | `aac` | audio | one raw data block, without ADTS header | AudioSpecificConfig (ISO 14496-3) |
//! | `mp2`, `mp3`, `ac3` | audio | one frame with its header | empty |
//! | `eac3`, `aac-latm` | audio | what one PES packet carried | empty |
//! | `opus` | audio | one packet (RFC 6716) | OpusHead (RFC 7845 5.1) |
//! | `pcmu`, `pcma` | audio | samples of G.711, a byte each | empty, or the number of channels in a byte |
//! | `mpegts` | data | whole packets of a transport stream that is passed through | empty |
//! | `rtp-NAME` | any | a byte that is 1 for the marker, then what one RTP packet carried of encoding `NAME` | its `rtpmap` and `fmtp`, a line each |
//! | `ts-XX` | data | what one PES packet of stream type `XX` (hexadecimal) carried | its descriptors from the PMT |
//! | `levada-clock` | data | [`testcard::Clock`] | empty |
//!
//! - `sync` stands on a video frame where decoding can start: IDR or IRAP, a recovery point, or a picture of intra
//!   slices behind parameter sets. Every audio and data frame is sync.
//! - `discardable` stands on a video frame that no other frame refers to.
//! - `dts` of a track never falls within an instance; `pts` may differ from it for video only. Where a file's own
//!   times fall, [`ts::Event::Discontinuity`] says so, and the source has to mend it ([`rebase`]).
//! - The first video track is the description's first track and leads; without video the first audio track does.
//!
//! Invariant: no function of this crate panics or allocates without a named bound, whatever bytes it is given.

#![forbid(unsafe_code)]

pub mod aac;
pub mod ac3;
mod audio;
mod av1;
mod bits;
pub mod clock;
pub mod interleave;
mod jpeg;
pub mod looped;
mod marks;
pub mod mjpeg;
pub mod mp4;
pub mod mpeg_audio;
pub mod nal;
pub mod opus;
pub mod pace;
pub mod rebase;
pub mod rtp;
pub mod sdp;
pub mod sink;
pub mod source;
pub mod testcard;
pub mod ticks;
pub mod ts;

pub use interleave::Interleaver;
pub use looped::Looper;
pub use pace::Pacer;
pub use rebase::Rebase;
pub use testcard::TestCard;
