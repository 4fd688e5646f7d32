//! What a player showed, picture by picture, against the clip that was published over and over.
//!
//! ```text
//!  the clip, again and again   0 1 2 3 ... 24|25 ... 49|50 ...        | a group begins
//!  what was shown                            |25 26 27 ... 74         whole from its first picture on
//! ```
//!
//! A picture is known by the checksum of its decoded bytes, which ffmpeg says of the clip and of what it played; of raw
//! pictures that another player wrote it is computed here. Encoded frames are [`crate::Recording`]'s. Called by tests.
//! Invariant: pictures that are not the clip's, in another order or with one missing are an error.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// What a player showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Width and height; none without pictures.
    pub size: Option<(u32, u32)>,
    /// A checksum of each picture.
    pub pictures: Vec<u32>,
    /// From the second picture to the last, in seconds: ffmpeg gives the first access unit that it gets by RTP no time,
    /// and guesses one.
    pub picture_seconds: f64,
    /// Seconds of sound.
    pub sound_seconds: f64,
}

impl Shown {
    /// Decodes a file with ffmpeg.
    ///
    /// # Errors
    ///
    /// When ffmpeg is not there, or complains.
    pub fn of_file(file: &Path) -> anyhow::Result<Self> {
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-i"])
            .arg(file)
            .args(FRAMECRC)
            .arg("-")
            .output()
            .context("ffmpeg is needed: apt-get install -y ffmpeg")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.is_empty(), "ffmpeg: {said}");
        Self::of_framecrc(&String::from_utf8_lossy(&output.stdout))
    }

    /// Reads what ffmpeg's muxer `framecrc` wrote of decoded frames.
    ///
    /// # Errors
    ///
    /// When it is not that.
    pub fn of_framecrc(text: &str) -> anyhow::Result<Self> {
        let mut shown = Self::default();
        // Of each track: seconds in a tick, and whether it is pictures.
        let mut tracks: Vec<(f64, bool)> = Vec::new();
        let mut times = Vec::new();
        for line in text.lines() {
            if let Some(head) = line.strip_prefix('#') {
                let Some((key, value)) = head.split_once(": ") else {
                    continue;
                };
                match key.split(' ').next() {
                    Some("tb") => {
                        let (over, under) = value.split_once('/').context("no time base")?;
                        tracks.push((over.parse::<f64>()? / under.parse::<f64>()?, false));
                    }
                    Some("media_type") => {
                        let track = tracks.last_mut().context("a type before its track")?;
                        track.1 = value == "video";
                    }
                    Some("dimensions") => {
                        let (width, height) = value.split_once('x').context("no size")?;
                        shown.size = Some((width.parse()?, height.parse()?));
                    }
                    _ => {}
                }
                continue;
            }
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [track, _, pts, lasts, _, checksum, ..] = fields[..] else {
                anyhow::bail!("`{line}` is no line of framecrc");
            };
            let track = tracks
                .get(track.parse::<usize>()?)
                .context("no such track")?;
            let (tick, is_pictures) = *track;
            if is_pictures {
                let checksum = checksum.trim_start_matches("0x");
                shown.pictures.push(u32::from_str_radix(checksum, 16)?);
                times.push(pts.parse::<f64>()? * tick);
            } else {
                shown.sound_seconds += lasts.parse::<f64>()? * tick;
            }
        }
        let known = times.get(1..).unwrap_or_default();
        ensure!(
            known.windows(2).all(|pair| pair[0] < pair[1]),
            "the times of pictures fall"
        );
        if let [_, second, .., last] = times[..] {
            shown.picture_seconds = last - second;
        }
        Ok(shown)
    }

    /// The checksums of raw pictures of that many bytes, end to end; what is left at the end is no picture yet.
    #[must_use]
    pub fn checksums(raw: &[u8], picture_bytes: usize) -> Vec<u32> {
        raw.chunks_exact(picture_bytes).map(adler32).collect()
    }

    /// Where in the clip the first of `pictures` is, if they are the clip's, one after another, over and over.
    ///
    /// # Errors
    ///
    /// Says which picture is the first that is not the one that was due.
    pub fn place(&self, pictures: &[u32]) -> anyhow::Result<usize> {
        let clip = &self.pictures;
        let first = pictures.first().context("no picture was shown")?;
        let place = clip.iter().position(|known| known == first);
        let place = place.context("the first picture is none of the clip's")?;
        for (at, picture) in pictures.iter().enumerate() {
            let due = clip[(place + at) % clip.len()];
            ensure!(
                *picture == due,
                "picture {at} of {}, behind picture {place} of the clip, is not the one that is due",
                pictures.len()
            );
        }
        Ok(place)
    }
}

/// What makes ffmpeg write one line for each decoded frame, without inventing or dropping any.
pub const FRAMECRC: [&str; 4] = ["-fps_mode", "passthrough", "-f", "framecrc"];

/// Adler-32 as ffmpeg computes it for `framecrc`: from 0, not from 1.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut a, mut b) = (0_u32, 0_u32);
    // The most bytes whose sums fit in 32 bits (RFC 1950 8.2 has 5,552).
    for chunk in bytes.chunks(5_552) {
        for byte in chunk {
            a += u32::from(*byte);
            b += a;
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const TEXT: &str = "#software: Lavf\n#tb 0: 1/25\n#media_type 0: video\n#codec_id 0: rawvideo\n\
        #dimensions 0: 160x120\n#sar 0: 1/1\n#tb 1: 1/48000\n#media_type 1: audio\n\
        0,          0,          0,        1,    28800, 0x0000000a\n\
        1,          0,          0,    24000,     2048, 0x9df01270\n\
        0,          1,          1,        1,    28800, 0x0000000b\n\
        0,          2,          2,        1,    28800, 0x0000000c\n";

    #[test]
    fn what_ffmpeg_says_of_frames_is_read() {
        let shown = Shown::of_framecrc(TEXT).unwrap();

        assert_eq!(shown.size, Some((160, 120)));
        assert_eq!(shown.pictures, [10, 11, 12]);
        assert!((shown.picture_seconds - 0.04).abs() < 1e-9);
        assert!((shown.sound_seconds - 0.5).abs() < 1e-9);
    }

    #[test]
    fn times_that_fall_are_an_error() {
        let again = format!("{TEXT}0,          1,          1,        1,    28800, 0x0000000d\n");

        assert!(Shown::of_framecrc(&again).is_err());
    }

    #[test]
    fn pictures_are_the_clips_over_and_over_or_an_error() {
        let clip = Shown {
            pictures: vec![1, 2, 3, 4],
            ..Shown::default()
        };

        assert_eq!(clip.place(&[3, 4, 1, 2, 3]).unwrap(), 2);
        for wrong in [&[3, 1][..], &[1, 1], &[2, 1], &[9], &[]] {
            assert!(clip.place(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_checksum_is_ffmpegs() {
        // `ffmpeg -f rawvideo -video_size 4x1 -pix_fmt gray -i FILE -f framecrc -` for the bytes 1, 2, 3, 4.
        assert_eq!(Shown::checksums(&[1, 2, 3, 4, 5], 4), [0x0014_000A]);
    }
}
