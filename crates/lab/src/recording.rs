//! What a player wrote, frame by frame, as ffprobe reads it, and how it lies on the clip that was published over and
//! over.
//!
//! ```text
//!  the clip, again and again   0 1 2 3 4 5 6 7|0 1 2 3 4 5 6 7|0 1 2 3 ...
//!  the recording                     3 4 5 6 7|0 1 2       |0 1 2 3
//!                                    └── a run ────┘        └ a run ┘
//! ```
//!
//! A **run** is a stretch of pictures without a hole: each is the clip's next one, equal in every byte, as far from the
//! one before as in the clip. Sound has to lie where a run's pictures say. So a recording of one run and no hole in its
//! sound *is* the source, from its first picture on.
//!
//! Not a demuxer: ffprobe is a second opinion on ours. Called by tests. Invariant: a frame that is not the clip's, or
//! whose time does not fit, is an error and never skipped.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// How far apart in time sounds and pictures of one packet may be, in ticks of 90 kHz: 100 ms.
const INTERLEAVE: i64 = 9_000;

/// The pictures and sounds of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    video: Vec<Unit>,
    audio: Vec<Unit>,
}

/// A frame of a file. Times are in ticks of 90 kHz.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    dts: i64,
    pts: i64,
    hash: String,
    is_key: bool,
}

/// A stretch without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether decoding can start where it begins.
    pub starts_with_key: bool,
    /// Which picture of the clip it begins with.
    pub first: usize,
    /// Its pictures.
    pub pictures: usize,
    /// Which picture of the recording it begins with.
    at: usize,
    /// Between the recording's times and the clip's, as a part of the clip's length.
    offset: i64,
}

/// How a recording lies on a clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Its runs, in order.
    pub runs: Vec<Run>,
    /// Frames of sound.
    pub sounds: usize,
    /// Places where sound is missing and no picture.
    pub holes: usize,
}

impl Comparison {
    /// Whether the recording is the source from its first picture on, with nothing missing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.runs.len() == 1 && self.holes == 0 && self.sounds > 0
    }
}

/// The clip that stories publish: the test card, 8 seconds that go round without a seam.
#[must_use]
pub fn clip_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../media/assets/testcard.ts")
}

impl Recording {
    /// Has ffprobe read a file.
    ///
    /// # Errors
    ///
    /// When ffprobe is missing, or finds anything at all to complain about.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let output = Command::new("ffprobe")
            .args(["-v", "warning", "-show_packets", "-show_data_hash", "md5"])
            .args(["-of", "json"])
            .arg(file)
            .output()
            .context("cannot run ffprobe: apt-get install -y ffmpeg")?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && complaints.is_empty(),
            "ffprobe complains of {}: {complaints}",
            file.display()
        );
        let json: Value = serde_json::from_slice(&output.stdout)?;
        let mut recording = Self::default();
        for packet in json["packets"].as_array().into_iter().flatten() {
            let unit = Unit::read(packet)
                .with_context(|| format!("a packet of {}: {packet}", file.display()))?;
            match packet["codec_type"].as_str() {
                Some("video") => recording.video.push(unit),
                Some("audio") => recording.audio.push(unit),
                _ => {}
            }
        }
        Ok(recording)
    }

    /// Pictures in it.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.video.len()
    }

    /// Lays it on the clip that it should be made of.
    ///
    /// # Errors
    ///
    /// When a frame of it is not the clip's, or its times are wrong.
    pub fn compare(&self, clip: &Self) -> anyhow::Result<Comparison> {
        ensure!(!self.video.is_empty(), "there is no picture in it");
        check_times(&self.video).context("video")?;
        check_times(&self.audio).context("audio")?;
        let runs = self.runs(clip)?;
        let holes = self.holes(clip, &runs)?;
        Ok(Comparison {
            runs,
            sounds: self.audio.len(),
            holes,
        })
    }

    /// The clip's length: from its first picture to the first of the next time round.
    fn length(&self) -> anyhow::Result<i64> {
        let [first, second, .., last] = &*self.video else {
            bail!("a clip has at least three pictures");
        };
        Ok(last.dts - first.dts + (second.dts - first.dts))
    }

    fn runs(&self, clip: &Self) -> anyhow::Result<Vec<Run>> {
        let length = clip.length()?;
        let mut runs: Vec<Run> = Vec::new();
        let mut rest = &*self.video;
        while let Some(begin) = rest.first() {
            let places = (0..clip.video.len()).filter(|&at| clip.video[at].is_equal(begin));
            let longest = places
                .map(|at| (matching(rest, &clip.video, at, length), at))
                .max();
            let at = self.video.len() - rest.len();
            let (pictures, first) = longest.with_context(|| {
                format!("picture {at}, dts {}, is none of the clip's", begin.dts)
            })?;
            runs.push(Run {
                starts_with_key: begin.is_key,
                first,
                pictures,
                at,
                offset: (begin.dts - clip.video[first].dts).rem_euclid(length),
            });
            rest = &rest[pictures..];
        }
        Ok(runs)
    }

    /// Counts the holes in the sound that are not beside one in the pictures. Each sound has to lie where some run, and
    /// none before the last one met, says.
    fn holes(&self, clip: &Self, runs: &[Run]) -> anyhow::Result<usize> {
        let length = clip.length()?;
        let cuts = self.cuts(runs);
        let (mut holes, mut current, mut last) = (0, 0, None);
        for (at, unit) in self.audio.iter().enumerate() {
            let place = |run: &Run| {
                let dts = (unit.dts - run.offset).rem_euclid(length);
                clip.audio.iter().position(|of_clip| {
                    of_clip.dts.rem_euclid(length) == dts && of_clip.is_equal(unit)
                })
            };
            let found = (current..runs.len()).find_map(|run| Some((run, place(&runs[run])?)));
            let (run, place) = found.with_context(|| {
                format!(
                    "sound {at}, dts {}, is not where the pictures say",
                    unit.dts
                )
            })?;
            if let Some((before, dts)) = last {
                let is_next = (before + 1) % clip.audio.len() == place;
                let is_beside = |cut: &Range<i64>| dts < cut.end && cut.start < unit.dts;
                holes += usize::from(run == current && !is_next && !cuts.iter().any(is_beside));
            }
            (current, last) = (run, Some((place, unit.dts)));
        }
        Ok(holes)
    }

    /// Where pictures are missing: between each run and the next, and a little on both sides.
    fn cuts(&self, runs: &[Run]) -> Vec<Range<i64>> {
        let cut = |run: &Run| {
            self.video[run.at - 1].dts - INTERLEAVE..self.video[run.at].dts + INTERLEAVE
        };
        runs.iter().skip(1).map(cut).collect()
    }
}

impl Unit {
    fn read(packet: &Value) -> anyhow::Result<Self> {
        let time = |key| packet[key].as_i64().with_context(|| format!("no {key}"));
        Ok(Self {
            dts: time("dts")?,
            pts: time("pts")?,
            hash: packet["data_hash"].as_str().context("no hash")?.to_owned(),
            is_key: packet["flags"]
                .as_str()
                .is_some_and(|flags| flags.contains('K')),
        })
    }

    /// Whether it is the same frame, wherever it lies in time.
    fn is_equal(&self, other: &Self) -> bool {
        self.hash == other.hash && self.pts - self.dts == other.pts - other.dts
    }
}

fn check_times(units: &[Unit]) -> anyhow::Result<()> {
    for (at, pair) in units.windows(2).enumerate() {
        let (before, after) = (pair[0].dts, pair[1].dts);
        ensure!(
            before < after,
            "time does not grow: frame {} has dts {after} after {before}",
            at + 1
        );
    }
    Ok(())
}

/// How many units from the first on are the clip's, from its unit `at` on and round it.
fn matching(units: &[Unit], clip: &[Unit], at: usize, length: i64) -> usize {
    let origin = units[0].dts - clip[at].dts;
    let expected = (at..).map(|index| {
        let unit = &clip[index % clip.len()];
        let rounds = i64::try_from(index / clip.len()).unwrap_or(i64::MAX);
        (unit, unit.dts + rounds * length + origin)
    });
    units
        .iter()
        .zip(expected)
        .take_while(|(unit, (of_clip, dts))| unit.is_equal(of_clip) && unit.dts == *dts)
        .count()
}

#[cfg(test)]
mod tests;
