//! A stream as RTP for RTSP players: packets of all its tracks, sender reports at each group, and the SDP.
//!
//! Payload types, channels, SSRC and sequence numbers are the same for all players. A sender report stands in front of
//! each group's packets, so that a newcomer knows from its first packets how the tracks' times belong together (RFC
//! 3550 section 6.4.1). Where the source starts again, sequence numbers and times go on. Not the packets' layout, which
//! is `levada_media::rtp`'s. Run by `levada_gateway::encode`. Invariant: all clients of a stream on one node are sent
//! the same bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use levada::{
    Description, Frame, Instance, Layer, StreamName, Track, TrackId, TrackKind, WallTime,
};
use levada_gateway::{Encode, Unsuitable};
use levada_media::nal::{Codec, ParameterSets};
use levada_media::rtp::rtcp::{Rtcp, SenderInfo};
use levada_media::rtp::{Batch, Encoding, Mapping, Packer};
use levada_media::sdp::{self, Media};
use levada_media::ticks::rescale;
use levada_wire::FlowId;

use crate::burst::{Builder, Burst};
use crate::url;

/// The payload type of the first track; the next ones follow. Dynamic ones begin here (RFC 3551 section 3).
const PAYLOAD_TYPE: u8 = 96;
/// What reports call the source.
const CANONICAL_NAME: &str = "levada";

/// What a player is told before it plays.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The description.
    pub(crate) sdp: String,
    /// The controls of the tracks, in order.
    pub(crate) controls: Vec<String>,
}

/// Makes RTP of one stream.
#[derive(Debug)]
pub(crate) struct Rtp {
    name: StreamName,
    flow: FlowId,
    tracks: Vec<Carried>,
    /// Tracks that RTP cannot carry, by codec.
    left_out: Vec<String>,
    batch: Batch,
    builder: Builder,
    report: Vec<u8>,
    /// The wall clock at time zero of the stream, in microseconds of Unix time.
    zero: Option<i64>,
    has_begun: bool,
}

/// One track.
#[derive(Debug)]
struct Carried {
    track: Track,
    packer: Packer,
    sets: Option<ParameterSets>,
    /// Payload bytes that were packed, for reports.
    octets: u64,
}

impl Rtp {
    /// The encoder of a stream.
    pub(crate) fn new(name: &StreamName) -> Self {
        Self {
            name: name.clone(),
            flow: FlowId(0),
            tracks: Vec::new(),
            left_out: Vec::new(),
            batch: Batch::new(),
            builder: Builder::default(),
            report: Vec::new(),
            zero: None,
            has_begun: false,
        }
    }

    fn carried(&self, at: usize, track: &Track) -> Option<Carried> {
        let payload_type = PAYLOAD_TYPE + u8::try_from(at).ok()?;
        let packer = Packer::new(self.flow, track, payload_type).ok()?;
        let codec = match track.codec.as_str() {
            "h264" => Some(Codec::H264),
            "h265" => Some(Codec::H265),
            _ => None,
        };
        Some(Carried {
            track: track.clone(),
            packer,
            sets: codec.map(ParameterSets::new),
            octets: 0,
        })
    }

    /// Whether players that know the tracks as they are can go on with these.
    fn is_like(&self, description: &Description) -> bool {
        let carried = |track: &&Track| {
            self.tracks
                .iter()
                .any(|carried| carried.track.id == track.id)
        };
        let same = |carried: &Carried| description.track(carried.track.id) == Some(&carried.track);
        let count = description.tracks.iter().filter(carried).count();
        self.tracks.iter().all(same) && count == self.tracks.len()
    }

    /// Says how the times of all tracks belong together, at that time of a track.
    fn report(&mut self, frame: &Frame, wall: Option<WallTime>) {
        let Some(timescale) = self.timescale(frame.track) else {
            return;
        };
        let micros = std::num::NonZeroU32::new(1_000_000).expect("it is not zero");
        let now = rescale(frame.dts, timescale, micros);
        let zero = *self.zero.get_or_insert_with(|| {
            let wall = wall.map_or_else(unix_micros, |wall| i64::try_from(wall.0).unwrap_or(0));
            wall - now
        });
        let wall = WallTime(u64::try_from(zero + now).unwrap_or(0));
        for (at, carried) in self.tracks.iter().enumerate() {
            let ticks = rescale(frame.dts, timescale, carried.track.timescale);
            let ssrc = carried.packer.numbering().ssrc;
            let info = SenderInfo {
                ntp: wall.into(),
                rtp_time: carried.packer.time(ticks),
                packets: low(carried.packer.packets()),
                bytes: low(carried.octets),
            };
            let reports = Vec::new();
            self.report.clear();
            Rtcp::Sender {
                ssrc,
                info,
                reports,
            }
            .write(&mut self.report);
            // All tracks have one name, so that players synchronise them.
            Rtcp::Names(vec![(ssrc, CANONICAL_NAME.to_owned())]).write(&mut self.report);
            self.builder.push(at, true, &self.report);
        }
    }

    fn timescale(&self, id: TrackId) -> Option<std::num::NonZeroU32> {
        let carried = self.tracks.iter().find(|carried| carried.track.id == id)?;
        Some(carried.track.timescale)
    }
}

impl Encode for Rtp {
    type Body = Burst;
    type Outline = Outline;

    fn begin(&mut self, instance: &Instance) {
        self.zero = None;
        if self.tracks.is_empty() {
            self.flow = FlowId::derive(&instance.origin, &self.name, &instance.id, Layer(0));
        }
    }

    fn describe(&mut self, description: &Description) -> Result<(), Unsuitable> {
        if !self.tracks.is_empty() {
            let same = self.is_like(description);
            let why = || Unsuitable("the tracks of the stream became others".to_owned());
            return same.then_some(()).ok_or_else(why);
        }
        self.left_out.clear();
        for track in &description.tracks {
            match self.carried(self.tracks.len(), track) {
                Some(carried) => self.tracks.push(carried),
                None if track.kind == TrackKind::Data => {}
                None => self.left_out.push(track.codec.clone()),
            }
        }
        if !self.left_out.is_empty() {
            let codecs = self.left_out.join(", ");
            tracing::info!(stream = %self.name, codecs, "RTSP players get the stream without these tracks");
        }
        if self.tracks.is_empty() {
            let codecs = self.left_out.join(", ");
            return Err(Unsuitable(format!(
                "`{}` has nothing that RTSP can carry here ({codecs}): play it by `levada play {}`",
                self.name, self.name
            )));
        }
        Ok(())
    }

    fn push(&mut self, frame: &Frame, wall: Option<WallTime>, starts_group: bool) {
        let is_of = |carried: &Carried| carried.track.id == frame.track;
        let Some(at) = self.tracks.iter().position(is_of) else {
            return;
        };
        if starts_group {
            self.report(frame, wall);
            self.has_begun = true;
        }
        let carried = &mut self.tracks[at];
        if frame.sync
            && let Some(sets) = &mut carried.sets
        {
            sets.learn(&frame.data);
        }
        self.batch.clear();
        if carried.packer.pack(frame, &mut self.batch).is_err() {
            return;
        }
        for packet in self.batch.packets() {
            carried.octets += packet.len().saturating_sub(levada_media::rtp::HEADER_BYTES) as u64;
            self.builder.push(at, false, packet);
        }
    }

    fn pending_bytes(&self) -> usize {
        self.builder.len()
    }

    fn take(&mut self) -> Option<Burst> {
        self.builder.take(self.tracks.len())
    }

    fn outline(&self) -> Option<Outline> {
        if !self.has_begun {
            return None;
        }
        let controls: Vec<_> = (0..self.tracks.len()).map(url::control_of).collect();
        let media = self.tracks.iter().zip(&controls);
        let media = media.map(|(carried, control)| Media {
            track: carried.track.clone(),
            mapping: carried.mapping(),
            port: 0,
            address: None,
            control: Some(control.clone()),
        });
        let session = sdp::Session {
            id: self.flow.0 >> 1,
            name: self.name.to_string(),
            address: Some("0.0.0.0".to_owned()),
            control: Some("*".to_owned()),
            media: media.collect(),
            omitted: Vec::new(),
        };
        let sdp = session.write();
        Some(Outline { sdp, controls })
    }
}

impl Carried {
    /// How the track travels, with the parameter sets that were seen.
    fn mapping(&self) -> Mapping {
        let mut mapping = self.packer.mapping().clone();
        if let (Encoding::Nal { parameter_sets, .. }, Some(sets)) =
            (&mut mapping.encoding, &self.sets)
        {
            let annex_b = sets.iter().flat_map(|set| [&[0, 0, 0, 1], set].concat());
            *parameter_sets = annex_b.collect();
        }
        mapping
    }
}

fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(0))
}

/// The low 32 bits, which is what reports have of a count.
const fn low(count: u64) -> u32 {
    (count & 0xFFFF_FFFF) as u32
}
