//! Fragmented MP4 for players: an init segment, and a `moof` with its `mdat` for each burst (ISO 14496-12 8.8).
//!
//! For Media Source Extensions and HLS. Bytes follow from the description, the frames given at once and the sequence
//! number alone, so that every node writes the same. So how long the last frame of a fragment lasts must not come
//! from the one that follows: it is what sound says of itself, else the step before it in the same fragment, else the
//! frame time of [`FRAME_STEP`]; the next fragment says its own time anyway. Times are later by [`TIME_OFFSET`], as
//! in our transport streams, since a fragment cannot say a time below zero. Called by gateways. Invariant: what is
//! written, [`super::Reader`] reads back frame by frame.

use bytes::BufMut as _;
use levada_wire::{Description, Frame, Track, TrackId, TrackKind, WallTime};

use super::boxes::put;
use super::setup::{self, Setup};
use crate::aac::FRAME_SAMPLES;
use crate::opus;
use crate::rtp::rtcp::NtpTime;
use crate::ticks::{Span, TS_TIMESCALE, rescale};
use crate::ts::MUX_OFFSET;

/// What is added to every time.
pub const TIME_OFFSET: Span = Span {
    ticks: MUX_OFFSET,
    timescale: TS_TIMESCALE,
};
/// How long a picture lasts of which nothing is known: a 30th of a second.
pub const FRAME_STEP: Span = Span {
    ticks: 3_000,
    timescale: TS_TIMESCALE,
};

const SYNC: u32 = 0x0200_0000;
const NOT_SYNC: u32 = 0x0101_0000;
const NOT_REFERRED: u32 = 0x0080_0000;

/// Why a track is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Omission {
    /// Players take no such codec in MP4.
    #[error("no player takes its codec in MP4")]
    Codec,
    /// Its configuration is missing or not understood.
    #[error("its configuration is missing or not understood")]
    Config,
}

/// Writes fragments.
#[derive(Clone, Debug)]
pub struct Writer {
    tracks: Vec<Output>,
    omitted: Vec<(TrackId, Omission)>,
}

#[derive(Clone, Debug)]
struct Output {
    track: Track,
    setup: Setup,
}

impl Writer {
    /// A writer for the tracks of `description` that players take.
    #[must_use]
    pub fn new(description: &Description) -> Self {
        let mut writer = Self {
            tracks: Vec::new(),
            omitted: Vec::new(),
        };
        for track in &description.tracks {
            match Setup::new(track) {
                Ok(setup) => writer.tracks.push(Output {
                    track: track.clone(),
                    setup,
                }),
                Err(omission) => writer.omitted.push((track.id, omission)),
            }
        }
        writer
    }

    /// The tracks that are left out.
    #[must_use]
    pub fn omitted(&self) -> &[(TrackId, Omission)] {
        &self.omitted
    }

    /// Takes over what a frame says where decoding can start. The init segment is known once each video track had one.
    pub fn learn(&mut self, frame: &Frame) {
        let mut own = self.tracks.iter_mut();
        if let Some(output) = own.find(|output| output.track.id == frame.track && frame.sync) {
            output.setup.learn(&frame.data);
        }
    }

    /// The MIME type, with the codecs; `None` while one is not known.
    #[must_use]
    pub fn mime(&self) -> Option<String> {
        let words: Option<Vec<_>> = self
            .tracks
            .iter()
            .map(|output| output.setup.word())
            .collect();
        let is_video = |output: &Output| output.track.kind == TrackKind::Video;
        let kind = if self.tracks.iter().any(is_video) {
            "video"
        } else {
            "audio"
        };
        Some(format!("{kind}/mp4; codecs=\"{}\"", words?.join(",")))
    }

    /// The init segment; `None` while a track is not known.
    #[must_use]
    pub fn init(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut is_known = !self.tracks.is_empty();
        put(&mut out, b"ftyp", |out| {
            out.extend(b"iso6\0\0\0\0iso6mp41dash")
        });
        put(&mut out, b"moov", |out| {
            put(out, b"mvhd", |out| {
                out.extend([0; 12]);
                out.put_u32(1_000);
                out.put_u32(0);
                put_still(out);
                out.extend([0; 24]);
                out.put_u32(u32::MAX);
            });
            for output in &self.tracks {
                put(out, b"trak", |out| {
                    is_known &= output.put_track(out).is_some()
                });
            }
            put(out, b"mvex", |out| {
                for output in &self.tracks {
                    put(out, b"trex", |out| {
                        for word in [0, output.number(), 1, 0, 0, 0] {
                            out.put_u32(word);
                        }
                    });
                }
            });
        });
        is_known.then_some(out)
    }

    /// Appends what the origin's clock said when it handed over this frame, the first of the fragment that follows
    /// (`prft`, 8.16.5); nothing if its track is left out.
    pub fn clock(&self, frame: &Frame, wall: WallTime, out: &mut Vec<u8>) {
        let mut own = self.tracks.iter();
        let Some(output) = own.find(|output| output.track.id == frame.track) else {
            return;
        };
        let time = frame.pts.saturating_add(output.offset());
        put(out, b"prft", |out| {
            out.put_u32(0x0100_0000);
            out.put_u32(output.number());
            out.put_u64(NtpTime::from(wall).0);
            out.put_u64(u64::try_from(time).unwrap_or(0));
        });
    }

    /// Appends a fragment of these frames. Those of tracks that are left out are passed over; without any other
    /// nothing is written.
    pub fn fragment(&self, sequence: u32, frames: &[Frame], out: &mut Vec<u8>) {
        let own = |output: &Output| -> Vec<&Frame> {
            let own = frames.iter().filter(|frame| frame.track == output.track.id);
            own.collect()
        };
        let runs: Vec<_> = self
            .tracks
            .iter()
            .map(|output| (output, own(output)))
            .collect();
        let runs: Vec<_> = runs
            .into_iter()
            .filter(|(_, own)| !own.is_empty())
            .collect();
        if runs.is_empty() {
            return;
        }
        let (start, mut data) = (out.len(), Vec::new());
        // Where in `out` a run says where its data are, and where in `data` those begin.
        let mut places = Vec::new();
        put(out, b"moof", |out| {
            put(out, b"mfhd", |out| {
                out.put_u32(0);
                out.put_u32(sequence);
            });
            for (output, own) in &runs {
                let begin = data.len();
                put(out, b"traf", |out| {
                    places.push((output.put_run(own, &mut data, out), begin))
                });
            }
        });
        let head = out.len() - start + 8;
        for (place, begin) in places {
            let offset = u32::try_from(head + begin).expect("a fragment has less than 4 GiB");
            out[place..place + 4].copy_from_slice(&offset.to_be_bytes());
        }
        put(out, b"mdat", |out| out.extend(data));
    }
}

/// Rate 1, volume as it is, nothing turned (8.2.2).
fn put_still(out: &mut Vec<u8>) {
    out.put_u32(0x0001_0000);
    out.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    put_unity(out);
}

fn put_unity(out: &mut Vec<u8>) {
    for word in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        out.put_u32(word);
    }
}

impl Output {
    fn number(&self) -> u32 {
        self.track.id.0.into()
    }

    /// [`TIME_OFFSET`] in ticks of the track.
    fn offset(&self) -> i64 {
        let (ticks, timescale) = (TIME_OFFSET.ticks, TIME_OFFSET.timescale);
        rescale(ticks, timescale, self.track.timescale)
    }

    fn put_track(&self, out: &mut Vec<u8>) -> Option<()> {
        let is_video = self.track.kind == TrackKind::Video;
        let mut entry = Vec::new();
        self.setup.put_entry(&self.track, &mut entry)?;
        put(out, b"tkhd", |out| {
            out.extend([0, 0, 0, 3]);
            out.extend([0; 8]);
            out.put_u32(self.number());
            out.extend([0; 20]);
            out.extend(if is_video { [0; 4] } else { [1, 0, 0, 0] });
            put_unity(out);
            // Width and height of a video entry, as 16.16.
            let size = entry.get(32..36).filter(|_| is_video).unwrap_or(&[0; 4]);
            out.extend([size[0], size[1], 0, 0, size[2], size[3], 0, 0]);
        });
        put(out, b"mdia", |out| {
            put(out, b"mdhd", |out| {
                out.extend([0; 12]);
                out.put_u32(self.track.timescale.get());
                out.put_u32(0);
                out.put_u16(language(self.track.language.as_deref()));
                out.put_u16(0);
            });
            put(out, b"hdlr", |out| {
                out.extend([0; 8]);
                out.extend(if is_video { b"vide" } else { b"soun" });
                out.extend([0; 13]);
            });
            put(out, b"minf", |out| {
                if is_video {
                    put(out, b"vmhd", |out| {
                        out.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
                    });
                } else {
                    put(out, b"smhd", |out| out.extend([0; 8]));
                }
                put(out, b"dinf", |out| {
                    put(out, b"dref", |out| {
                        out.extend([0, 0, 0, 0, 0, 0, 0, 1]);
                        put(out, b"url ", |out| out.extend([0, 0, 0, 1]));
                    });
                });
                put(out, b"stbl", |out| {
                    put(out, b"stsd", |out| {
                        out.extend([0, 0, 0, 0, 0, 0, 0, 1]);
                        out.extend(&entry);
                    });
                    for (kind, bytes) in [(b"stts", 8), (b"stsc", 8), (b"stsz", 12), (b"stco", 8)] {
                        put(out, kind, |out| out.put_bytes(0, bytes));
                    }
                });
            });
        });
        Some(())
    }

    /// Writes a run of frames and their data; gives where the run says where its data are.
    fn put_run(&self, frames: &[&Frame], data: &mut Vec<u8>, out: &mut Vec<u8>) -> usize {
        put(out, b"tfhd", |out| {
            // Places count from the fragment.
            out.put_u32(0x02_0000);
            out.put_u32(self.number());
        });
        let first = frames[0].dts.saturating_add(self.offset());
        put(out, b"tfdt", |out| {
            out.put_u32(0x0100_0000);
            out.put_u64(u64::try_from(first).unwrap_or(0));
        });
        let mut place = 0;
        put(out, b"trun", |out| {
            // Signed offsets; place, then duration, size, flags and offset of each.
            out.put_u32(0x0100_0F01);
            out.put_u32(u32::try_from(frames.len()).expect("a burst has few frames"));
            place = out.len();
            out.put_u32(0);
            let mut step = None;
            for (at, frame) in frames.iter().enumerate() {
                let before = data.len();
                self.put_sample(frame, data);
                let bytes = u32::try_from(data.len() - before).expect("a frame has at most 8 MiB");
                let next = frames
                    .get(at + 1)
                    .map(|next| next.dts.saturating_sub(frame.dts).max(0));
                step = next.or_else(|| self.own_step(frame)).or(step);
                let unknown =
                    || rescale(FRAME_STEP.ticks, FRAME_STEP.timescale, self.track.timescale);
                let ticks = step.unwrap_or_else(unknown);
                out.put_u32(u32::try_from(ticks).unwrap_or(u32::MAX));
                out.put_u32(bytes);
                let referred = if frame.discardable { NOT_REFERRED } else { 0 };
                out.put_u32(if frame.sync { SYNC } else { NOT_SYNC } | referred);
                let offset = frame.pts.saturating_sub(frame.dts);
                out.put_i32(i32::try_from(offset).unwrap_or(0));
            }
        });
        place
    }

    fn put_sample(&self, frame: &Frame, data: &mut Vec<u8>) {
        match &self.setup {
            Setup::Nal(codec, sets) => setup::put_nals(*codec, sets, &frame.data, data),
            _ => data.extend_from_slice(&frame.data),
        }
    }

    /// How long sound says that it lasts.
    fn own_step(&self, frame: &Frame) -> Option<i64> {
        let timescale = self.track.timescale;
        match &self.setup {
            Setup::Aac(config, _) => {
                let core = crate::aac::AudioConfig::parse(config)?.rate();
                Some(rescale(FRAME_SAMPLES.into(), core, timescale))
            }
            Setup::Opus(_) => {
                let samples = opus::packet_samples(&frame.data)?;
                Some(rescale(samples.into(), opus::TIMESCALE, timescale))
            }
            Setup::Mp3 => match crate::mpeg_audio::parse(&frame.data) {
                crate::audio::Parsed::Header(header) => {
                    Some(rescale(header.samples.into(), header.rate, timescale))
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Three letters of five bits (8.4.2.3); `und` if there are none.
fn language(code: Option<&str>) -> u16 {
    let code = code.map(str::as_bytes).unwrap_or_default();
    let code = match code {
        [_, _, _] if code.iter().all(u8::is_ascii_lowercase) => code,
        _ => b"und",
    };
    code.iter()
        .fold(0, |word, letter| word << 5 | u16::from(letter & 0x1F))
}
