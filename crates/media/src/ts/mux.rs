//! Frames into a transport stream.
//!
//! One PES packet a frame, aligned (sound and data of 64 KiB need more), its length said where the field can hold it,
//! so that a reader has the frame as soon as its last byte. Tables stand at the start, before each sync frame of the
//! leading video and at least every 100 ms; the clock at least every 40 ms (`clock.rs`). All of that goes by media
//! time: nothing here knows what time it is. An access unit of H.264 or H.265 gets the delimiter that every one must
//! have here (ISO 13818-1 2.14.1, 2.17.1) and that other formats leave out. Not rate shaping: no null packets. Called
//! by gateways and by `play --out`. Invariant: continuity counters never break, also where the description changes.

use std::collections::BTreeMap;

use levada_wire::{Description, Frame, NetworkId, Track, TrackId, TrackKind};

use super::clock::{Clock, Due, Moment, Step, Value};
use super::codec::{self, Form, Wrapping};
use super::packet::{self, Adaptation, Head, Pid};
use super::pes;
use super::psi::{self, Entry, Pmt, Program};
use super::timeline::raw;
use crate::opus;
use crate::ticks::{TS_TIMESCALE, rescale};

/// What is added to every time: 1.4 s, so that a stream that starts at zero has no time below zero, clock included.
pub const MUX_OFFSET: i64 = 126_000;

const TRANSPORT_STREAM: u16 = 1;
const PROGRAM: Program = Program {
    number: 1,
    pmt: Pid::from_low_bits(0x1000),
};
/// The PID of track 0; track `n` has the `n`th after it.
const TRACK_PID: u16 = 0x100;
/// Payload of a packet without adaptation field: sections are stuffed up to it from behind.
const SECTION_PAYLOAD_BYTES: usize = packet::PACKET_BYTES - 4;
/// The clock counts 27 MHz.
const CLOCK_PER_TICK: u64 = 300;

/// Why a frame was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// The description has no such track.
    #[error("track {} is not in the description", .0.0)]
    UnknownTrack(TrackId),
    /// ADTS cannot say the frame's length.
    #[error("a frame of track {} has {bytes} bytes, too many for ADTS", .track.0)]
    TooLarge {
        /// The track.
        track: TrackId,
        /// The frame's size.
        bytes: usize,
    },
}

/// Why a track is left out of a transport stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Omission {
    /// The AudioSpecificConfig is missing or says what ADTS cannot.
    #[error("its AAC configuration is missing or cannot be written as ADTS")]
    AudioConfig,
    /// The codec has no stream type and the configuration does not fit a descriptor.
    #[error("its configuration is too long for a descriptor")]
    Config,
    /// No player knows the codec, and players are who the stream is for.
    #[error("no player knows its codec in a transport stream")]
    Private,
    /// The table that lists the tracks is full.
    #[error("the program table is full")]
    TableFull,
}

/// Turns frames into a transport stream.
#[derive(Debug)]
pub struct Muxer {
    tracks: Vec<Output>,
    omitted: Vec<(TrackId, Omission)>,
    /// Tracks that only our own demuxer knows are written too.
    with_private: bool,
    /// Clock and tables are written where frames demand them.
    with_clock: bool,
    /// The network that the stream is written by, if whoever reads it is to know.
    network: Option<NetworkId>,
    /// The track that carries the clock.
    clock_track: Option<TrackId>,
    clock_pid: Pid,
    /// The tables, as payloads.
    pat: Vec<u8>,
    pmt: Vec<u8>,
    version: u8,
    packets: Packets,
    clock: Clock,
    /// The PES packet in the making; kept for its memory.
    unit: Vec<u8>,
}

#[derive(Debug)]
struct Output {
    track: Track,
    pid: Pid,
    form: Form,
}

impl Muxer {
    /// A muxer for all tracks of `description`. Those it cannot write are named by [`Self::omitted`].
    ///
    /// Words without a stream type, like `levada-clock`, are written as private data, which our demuxer reads and
    /// players pass over. ffprobe says of each such track that it is unsupported.
    #[must_use]
    pub fn new(description: &Description) -> Self {
        Self::start(description, true, None)
    }

    /// A muxer that leaves out the tracks that only our demuxer could read.
    #[must_use]
    pub fn for_players(description: &Description) -> Self {
        Self::start(description, false, None)
    }

    /// A muxer that writes frames alone: clock and tables are whoever's who knows when they leave. The table of tracks
    /// names the network.
    pub(super) fn for_shaper(description: &Description, network: NetworkId) -> Self {
        let mut muxer = Self::start(description, false, Some(network));
        muxer.with_clock = false;
        muxer
    }

    fn start(description: &Description, with_private: bool, network: Option<NetworkId>) -> Self {
        let mut muxer = Self {
            tracks: Vec::new(),
            omitted: Vec::new(),
            with_private,
            with_clock: true,
            network,
            clock_track: None,
            clock_pid: Pid::NULL,
            pat: section_payload(&psi::write_pat(TRANSPORT_STREAM, PROGRAM)),
            pmt: Vec::new(),
            version: 0,
            packets: Packets::default(),
            clock: Clock::default(),
            unit: Vec::new(),
        };
        muxer.take_on(description);
        muxer
    }

    /// The tracks change: the next frame is preceded by a new version of the table.
    pub fn set_description(&mut self, description: &Description) {
        self.version = (self.version + 1) & 0x1F;
        self.take_on(description);
    }

    /// The tracks that are left out, and why. Their frames are passed over.
    #[must_use]
    pub fn omitted(&self) -> &[(TrackId, Omission)] {
        &self.omitted
    }

    /// The PID that carries the clock.
    pub(super) const fn clock_pid(&self) -> Pid {
        self.clock_pid
    }

    /// Whether that track leads.
    pub(super) fn leads(&self, track: TrackId) -> bool {
        self.clock_track == Some(track)
    }

    /// Whether that track is in what is written.
    pub(super) fn has(&self, track: TrackId) -> bool {
        self.tracks.iter().any(|output| output.track.id == track)
    }

    /// Appends the tables.
    pub(super) fn tables(&mut self, out: &mut Vec<u8>) {
        self.packets.tables(&self.pat, &self.pmt, out);
    }

    fn take_on(&mut self, description: &Description) {
        self.tracks.clear();
        self.omitted.clear();
        self.clock.renew_tables();
        let marks = self.network.map(psi::network_descriptor);
        let marks = marks.unwrap_or_default();
        let mut room = Pmt::ENTRIES_BYTES_MAX - marks.len();
        for track in &description.tracks {
            let form = codec::write(track).and_then(|form| {
                if form.private && !self.with_private {
                    return Err(Omission::Private);
                }
                let left = room.checked_sub(Pmt::entry_bytes(&form.descriptors));
                room = left.ok_or(Omission::TableFull)?;
                Ok(form)
            });
            match form {
                Ok(form) => self.tracks.push(Output {
                    track: track.clone(),
                    pid: Pid::from_low_bits(TRACK_PID + u16::from(track.id.0)),
                    form,
                }),
                Err(omission) => self.omitted.push((track.id, omission)),
            }
        }
        let first = |kind| self.tracks.iter().find(|output| output.track.kind == kind);
        let clock_track = first(TrackKind::Video)
            .or_else(|| first(TrackKind::Audio))
            .or_else(|| self.tracks.first());
        self.clock_track = clock_track.map(|output| output.track.id);
        let entry = |output: &Output| Entry {
            stream_type: output.form.stream_type,
            pid: output.pid,
            descriptors: output.form.descriptors.clone(),
        };
        self.clock_pid = clock_track.map_or(Pid::NULL, |output| output.pid);
        let entries = self.tracks.iter().map(entry).collect();
        let (program, version, pcr) = (PROGRAM.number, self.version, self.clock_pid);
        self.pmt = section_payload(
            &Pmt {
                program,
                version,
                pcr,
                descriptors: marks,
                entries,
            }
            .write(),
        );
    }

    /// Appends a frame to `out`, behind whatever tables and clock values are due.
    ///
    /// # Errors
    ///
    /// The frame's track is not in the description, or the frame cannot be said in the track's format. The stream
    /// in `out` is whole in either case.
    pub fn push(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), MuxError> {
        let Some(at) = self
            .tracks
            .iter()
            .position(|output| output.track.id == frame.track)
        else {
            let omitted = self.omitted.iter().any(|(id, _)| *id == frame.track);
            return if omitted {
                Ok(())
            } else {
                Err(MuxError::UnknownTrack(frame.track))
            };
        };
        let output = &self.tracks[at];
        let ticks =
            |ticks| rescale(ticks, output.track.timescale, TS_TIMESCALE).saturating_add(MUX_OFFSET);
        let (dts, pts) = (ticks(frame.dts), ticks(frame.pts));
        let front = front(output.form.wrapping, frame)?;

        let (pid, leads) = (output.pid, Some(frame.track) == self.clock_track);
        let can_start = frame.sync && output.track.kind == TrackKind::Video;
        let moment = Moment {
            dts,
            leads,
            starts_group: leads && can_start,
        };
        let Due { before, with } = if self.with_clock {
            self.clock.advance(moment)
        } else {
            Due::default()
        };
        for step in before {
            match step {
                Step::Value(value) => self.packets.clock(self.clock_pid, value, out),
                Step::Tables => self.packets.tables(&self.pat, &self.pmt, out),
            }
        }
        let mut adaptation = with.map_or_else(Adaptation::default, Adaptation::from);
        adaptation.random_access = can_start || frame.sync && leads;
        let head = pes::Head {
            stream: output.form.stream_id,
            pts: raw(pts),
            dts: raw(dts),
        };
        pes::write(head, [&front, &frame.data], &mut self.unit, |packet| {
            let adaptation = std::mem::take(&mut adaptation);
            self.packets.payload(pid, adaptation, packet, out);
        });
        Ok(())
    }
}

/// Writes packets, and counts them for each PID.
#[derive(Debug, Default)]
struct Packets(BTreeMap<Pid, u8>);

impl Packets {
    /// Appends the packets of one PES packet or section.
    fn payload(&mut self, pid: Pid, first: Adaptation, payload: &[u8], out: &mut Vec<u8>) {
        let next = self.0.entry(pid).or_default();
        let mut head = Head {
            pid,
            starts_unit: true,
            continuity: *next,
            adaptation: first,
        };
        let mut rest = packet::write(out, head, payload);
        head.starts_unit = false;
        head.adaptation = Adaptation::default();
        while !rest.is_empty() {
            head.continuity = head.continuity.wrapping_add(1);
            rest = packet::write(out, head, rest);
        }
        *next = head.continuity.wrapping_add(1);
    }

    /// Appends the tables.
    fn tables(&mut self, pat: &[u8], pmt: &[u8], out: &mut Vec<u8>) {
        self.payload(Pid::PAT, Adaptation::default(), pat, out);
        self.payload(PROGRAM.pmt, Adaptation::default(), pmt, out);
    }

    /// Appends a packet with nothing but the clock. Without payload it repeats the counter of the one before.
    fn clock(&mut self, pid: Pid, value: Value, out: &mut Vec<u8>) {
        let continuity = self.0.entry(pid).or_default().wrapping_sub(1);
        let adaptation = Adaptation::from(value);
        packet::write(
            out,
            Head {
                pid,
                starts_unit: false,
                continuity,
                adaptation,
            },
            &[],
        );
    }
}

/// A section as the payload of packets: behind a pointer that says it begins at once, stuffed from behind.
fn section_payload(section: &[u8]) -> Vec<u8> {
    let mut payload = [&[0], section].concat();
    payload.resize(
        payload.len().next_multiple_of(SECTION_PAYLOAD_BYTES),
        psi::STUFFING,
    );
    payload
}

impl From<Value> for Adaptation {
    fn from(value: Value) -> Self {
        let pcr = Some(raw(value.ticks) * CLOCK_PER_TICK);
        Self {
            discontinuity: value.jump,
            random_access: false,
            pcr,
        }
    }
}

/// What stands before a frame in its PES packet.
fn front(wrapping: Wrapping, frame: &Frame) -> Result<Vec<u8>, MuxError> {
    Ok(match wrapping {
        Wrapping::Delimited(codec) if !codec.is_delimited(&frame.data) => codec.delimiter().into(),
        Wrapping::Plain | Wrapping::Delimited(_) => Vec::new(),
        Wrapping::Adts(config) => {
            let (track, bytes) = (frame.track, frame.data.len());
            let header = config.adts_header(bytes);
            header.ok_or(MuxError::TooLarge { track, bytes })?.into()
        }
        Wrapping::Opus => opus::control_header(frame.data.len()),
    })
}
