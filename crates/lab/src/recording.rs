//! What a player wrote, frame by frame, as ffprobe reads it, and how it lies on the clip that was published over and over.
//!
//! ```text
//!  the clip, again and again   0 1 2 3 4 5 6 7|0 1 2 3 4 5 6 7|0 1 2 3 ...
//!  the recording                     3 4 5 6 7|0 1 2       |0 1 2 3
//!                                    └── a run ────┘        └ a run ┘
//! ```
//!
//! A **run** is a stretch of pictures without a hole: each is the clip's next one, equal in every byte, as far from the one
//! before as in the clip. Sound has to lie where a run's pictures say. So a recording of one run and no hole in its
//! sound *is* the source, from its first picture on.
//!
//! Not a demuxer: ffprobe is a second opinion on ours. Called by tests. Invariant: a frame that is not the clip's, or
//! whose time does not fit, is an error and never skipped.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

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
    /// Places where sound is missing between two frames of one run.
    pub holes: usize,
}

impl Comparison {
    /// Whether the recording is the source from its first picture on, with nothing missing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.runs.len() == 1 && self.holes == 0 && self.sounds > 0
    }
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
                offset: (begin.dts - clip.video[first].dts).rem_euclid(length),
            });
            rest = &rest[pictures..];
        }
        Ok(runs)
    }

    /// Counts the holes in the sound, which has to lie where some run, and none before the last one met, says.
    fn holes(&self, clip: &Self, runs: &[Run]) -> anyhow::Result<usize> {
        let length = clip.length()?;
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
            let is_next = last.is_none_or(|last| (last + 1) % clip.audio.len() == place);
            holes += usize::from(run == current && !is_next);
            (current, last) = (run, Some(place));
        }
        Ok(holes)
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
