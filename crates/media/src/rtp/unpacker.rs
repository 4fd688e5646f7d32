//! RTP packets into frames.
//!
//! Puts packets in order (`reorder.rs`), gathers frames (`pictures.rs`, and one file for each format), and gives
//! them endless times and decoding times. Whatever is wrong is counted and passed over; nothing ends the stream.
//! Not a socket and not a clock: whoever has one calls [`Unpacker::give_up`] when packets have waited long enough
//! for a missing one. Called by gateways and sources. Invariant: a frame comes out whole or not at all, and
//! decoding times never fall.

use std::fmt::Debug;
use std::num::NonZeroU32;

use bytes::Bytes;
use levada_wire::{Frame, Track, TrackId, TrackKind};

use super::decoding::DecodingTimes;
use super::mapping::{Encoding, Mapping};
use super::packet::Packet;
use super::pictures::Pictures;
use super::reorder::{Placed, Reorder, Step};
use super::time::Unwrapper;
use super::{aac, av1, jpeg, mpeg_audio, nal, single, vp8, vp9};
use crate::aac::{AudioConfig, FRAME_SAMPLES};
use crate::nal::{ParameterSets, Picture, units};
use crate::ticks::rescale;

/// Packets in sequence of another sender after which the stream is taken to be that sender's.
const STRANGERS_MAX: u32 = 3;
/// A time that steps further than this many seconds, or back, is a clock that was set anew.
const JUMP_SECONDS: i64 = 10;

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It ends before what it announces.
    #[error("a payload is cut short")]
    Short,
    /// It is not in the form of its format.
    #[error("a payload is not in the form of its format")]
    Form,
    /// It uses a part of the format that is not read.
    #[error("a payload uses what is not supported")]
    Unsupported,
    /// The frame would be larger than a frame may be.
    #[error("a frame is too large")]
    TooLarge,
    /// Packets of the frame are missing.
    #[error("packets of a frame are missing")]
    Damaged,
}

/// What came, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Packets that came, whatever they were.
    pub packets: u64,
    /// Packets that did not come in time.
    pub lost: u64,
    /// Packets that came twice, or too late.
    pub late: u64,
    /// Packets of another sender or payload type, or far from where the stream is.
    pub strange: u64,
    /// Packets that could not be read.
    pub bad: u64,
    /// Frames that were left out because a packet of theirs was lost or bad.
    pub damaged: u64,
    /// Frames that came out.
    pub frames: u64,
    /// Times the sender began anew, or its clock was set.
    pub restarts: u64,
}

/// Unpacks one track.
#[derive(Debug)]
pub struct Unpacker {
    reorder: Reorder,
    sender: Option<u32>,
    strangers: u32,
    payload_type: u8,
    frames: Frames,
    units: Vec<Unit>,
}

/// What happens behind the reordering.
#[derive(Debug)]
struct Frames {
    format: Format,
    clock: Clock,
    counts: Counts,
}

/// A frame without its place in the track.
#[derive(Debug)]
pub(super) struct Unit {
    /// RTP time.
    pub(super) time: u32,
    pub(super) data: Bytes,
    pub(super) picture: Picture,
}

#[derive(Debug)]
enum Format {
    Pictures(Pictures),
    Sound(Box<dyn Sound>),
}

/// A payload format whose packets are frames, or nearly.
pub(super) trait Sound: Debug + Send + Sync {
    /// Takes the next payload.
    fn push(
        &mut self,
        time: u32,
        marker: bool,
        payload: &[u8],
        out: &mut Sounds<'_>,
    ) -> Result<(), Fault>;
    /// A packet is missing; says whether a frame was given up for it.
    fn lose(&mut self) -> bool {
        false
    }
}

/// Where the frames of sound go.
#[derive(Debug)]
pub(super) struct Sounds<'a>(&'a mut Vec<Unit>);

impl Sounds<'_> {
    /// A frame that begins at an RTP time.
    pub(super) fn push(&mut self, time: u32, data: Bytes) {
        let picture = Picture {
            sync: true,
            discardable: false,
        };
        if !data.is_empty() {
            self.0.push(Unit {
                time,
                data,
                picture,
            });
        }
    }
}

impl Unpacker {
    /// An unpacker for a track that is carried like this.
    #[must_use]
    pub fn new(track: &Track, mapping: &Mapping) -> Self {
        let frames = Frames {
            format: Format::new(track, mapping),
            clock: Clock::new(track, mapping.clock),
            counts: Counts::default(),
        };
        Self {
            reorder: Reorder::default(),
            sender: None,
            strangers: 0,
            payload_type: mapping.payload_type,
            frames,
            units: Vec::new(),
        }
    }

    /// Says which RTP time is which tick of the track, as `RTP-Info` or a sender report tells. Without it the first
    /// frame stands at zero.
    pub fn align(&mut self, rtp_time: u32, ticks: i64) {
        self.frames.clock.align(rtp_time, ticks);
    }

    /// Takes a packet as it came, and appends the frames that are whole with it.
    pub fn push(&mut self, packet: &[u8], out: &mut Vec<Frame>) {
        let counts = &mut self.frames.counts;
        counts.packets += 1;
        let Ok(parsed) = Packet::parse(packet) else {
            counts.bad += 1;
            return;
        };
        if parsed.payload_type() != self.payload_type || !self.is_sender(parsed.ssrc()) {
            self.frames.counts.strange += 1;
            return;
        }
        let (frames, units) = (&mut self.frames, &mut self.units);
        let placed = self.reorder.push(parsed.sequence(), packet, |step| {
            frames.on_step(step, units, out)
        });
        let counts = &mut self.frames.counts;
        match placed {
            Placed::Taken => {}
            Placed::Late => counts.late += 1,
            Placed::Stray => counts.strange += 1,
        }
    }

    /// Whether packets wait for one that is missing.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.reorder.is_waiting()
    }

    /// Waits no longer for missing packets.
    pub fn give_up(&mut self, out: &mut Vec<Frame>) {
        let (frames, units) = (&mut self.frames, &mut self.units);
        self.reorder
            .give_up(|step| frames.on_step(step, units, out));
    }

    /// Nothing more will come: the frame in hand leaves.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        self.give_up(out);
        let (frames, units) = (&mut self.frames, &mut self.units);
        if let Format::Pictures(pictures) = &mut frames.format {
            let result = pictures.finish(units);
            frames.note(result);
        }
        frames.leave(units, out);
    }

    /// What came, and what became of it.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.frames.counts
    }

    /// Whose packets are taken, once one came.
    #[must_use]
    pub const fn sender(&self) -> Option<u32> {
        self.sender
    }

    /// Whether a packet is of the sender that is followed; a new one is followed when only its packets come.
    fn is_sender(&mut self, ssrc: u32) -> bool {
        if *self.sender.get_or_insert(ssrc) == ssrc {
            self.strangers = 0;
            return true;
        }
        self.strangers += 1;
        if self.strangers < STRANGERS_MAX {
            return false;
        }
        self.sender = Some(ssrc);
        self.strangers = 0;
        self.reorder = Reorder::default();
        self.frames.restart();
        self.frames.clock.unwrapper = Unwrapper::default();
        true
    }
}

impl Frames {
    fn on_step(&mut self, step: Step<'_>, units: &mut Vec<Unit>, out: &mut Vec<Frame>) {
        match step {
            Step::Lost => {
                self.counts.lost += 1;
                self.lose();
            }
            Step::Restart => self.restart(),
            Step::Packet(bytes) => {
                let packet = Packet::parse(bytes).expect("it was parsed when it came");
                let result = match &mut self.format {
                    Format::Pictures(pictures) => pictures.push(&packet, units),
                    Format::Sound(sound) => {
                        let (time, marker) = (packet.timestamp(), packet.marker());
                        sound.push(time, marker, packet.payload(), &mut Sounds(units))
                    }
                };
                self.note(result);
                self.leave(units, out);
            }
        }
    }

    fn lose(&mut self) {
        match &mut self.format {
            Format::Pictures(pictures) => pictures.lose(),
            Format::Sound(sound) => self.counts.damaged += u64::from(sound.lose()),
        }
    }

    fn restart(&mut self) {
        self.counts.restarts += 1;
        self.lose();
    }

    const fn note(&mut self, result: Result<(), Fault>) {
        match result {
            Ok(()) => {}
            Err(Fault::Damaged) => self.counts.damaged += 1,
            Err(_) => self.counts.bad += 1,
        }
    }

    fn leave(&mut self, units: &mut Vec<Unit>, out: &mut Vec<Frame>) {
        if let Format::Pictures(pictures) = &self.format {
            self.clock.decoding.deepen(pictures.reorder());
        }
        for unit in units.drain(..) {
            self.counts.frames += 1;
            let (frame, jumped) = self.clock.place(unit);
            self.counts.restarts += u64::from(jumped);
            out.push(frame);
        }
    }
}

impl Format {
    fn new(track: &Track, mapping: &Mapping) -> Self {
        let pictures = |video| Self::Pictures(Pictures::new(video));
        let sound = |sound| Self::Sound(sound);
        match &mapping.encoding {
            Encoding::Nal {
                codec,
                parameter_sets,
            } => {
                let sets = ParameterSets::from_nals(*codec, units(parameter_sets));
                pictures(Box::new(nal::Unpack::new(*codec, sets)))
            }
            Encoding::Aac(sizes) => {
                // With band replication the RTP clock may be twice the core's rate.
                let core = AudioConfig::parse(&track.config).map(AudioConfig::rate);
                let core = core.unwrap_or(mapping.clock);
                let ticks = rescale(FRAME_SAMPLES.into(), core, mapping.clock);
                let ticks = u32::try_from(ticks).unwrap_or(FRAME_SAMPLES);
                sound(Box::new(aac::Unpack::new(*sizes, ticks)))
            }
            Encoding::Latm => sound(Box::<aac::UnpackLatm>::default()),
            Encoding::Av1 => pictures(Box::<av1::Unpack>::default()),
            Encoding::Vp8 => pictures(Box::new(vp8::Unpack)),
            Encoding::Vp9 => pictures(Box::new(vp9::Unpack)),
            Encoding::Jpeg => pictures(Box::<jpeg::Unpack>::default()),
            Encoding::MpegAudio => sound(Box::<mpeg_audio::Unpack>::default()),
            Encoding::Opus | Encoding::G711 { .. } => sound(Box::new(single::Unpack::Plain)),
            Encoding::MpegTs => sound(Box::new(single::Unpack::Ts)),
            Encoding::Opaque => sound(Box::new(single::Unpack::Opaque)),
        }
    }
}

/// Gives frames their place in the track.
#[derive(Debug)]
struct Clock {
    track: TrackId,
    is_video: bool,
    /// Of RTP time.
    from: NonZeroU32,
    /// Of the track.
    to: NonZeroU32,
    unwrapper: Unwrapper,
    /// Added to an endless RTP time; `None` before the first.
    shift: Option<i64>,
    /// The newest time and the step to it, in RTP ticks.
    last: Option<(i64, i64)>,
    decoding: DecodingTimes,
}

impl Clock {
    fn new(track: &Track, clock: NonZeroU32) -> Self {
        Self {
            track: track.id,
            is_video: track.kind == TrackKind::Video,
            from: clock,
            to: track.timescale,
            unwrapper: Unwrapper::default(),
            shift: None,
            last: None,
            decoding: DecodingTimes::default(),
        }
    }

    fn align(&mut self, rtp_time: u32, ticks: i64) {
        let ticks = rescale(ticks, self.to, self.from);
        self.shift = Some(ticks.saturating_sub(self.unwrapper.unwrap(rtp_time)));
    }

    /// The frame, and whether its time does not join the one before.
    fn place(&mut self, unit: Unit) -> (Frame, bool) {
        let raw = self.unwrapper.unwrap(unit.time);
        let shift = *self.shift.get_or_insert_with(|| raw.saturating_neg());
        let mut now = raw.saturating_add(shift);
        let (last, mut step) = self.last.unwrap_or((now, 0));
        let jump = JUMP_SECONDS.saturating_mul(self.from.get().into());
        let jumped = now.abs_diff(last) > jump.unsigned_abs();
        if jumped {
            // As if it came one step later than the one before.
            now = last.saturating_add(step.max(1));
            self.shift = Some(now.saturating_sub(raw));
            self.decoding.restart();
        } else if now > last {
            step = now - last;
        }
        self.last = Some((now, step));
        let pts = rescale(now, self.from, self.to);
        let dts = self.decoding.next(pts);
        let frame = Frame {
            track: self.track,
            sync: unit.picture.sync,
            discardable: unit.picture.discardable,
            dts,
            // Sound is heard when it is decoded.
            pts: if self.is_video { pts } else { dts },
            data: unit.data,
        };
        (frame, jumped)
    }
}
