//! When each picture of a recording came, picture by picture.
//!
//! A recording that `lab-peer stamp` wrote has a file beside it that says when which byte came; here both are read, and
//! each picture gets the time of its first byte: players write a picture whole or not at all.
//!
//! Not whether the pictures are right: that is `recording`. Called by tests. Invariant: a picture without a time, or
//! bytes that are no transport stream, are an error.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};

/// ISO 13818-1 2.4.3.2 and 2.4.3.6.
const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;
const START: u8 = 0x40;
const ADAPTATION: u8 = 0x20;
/// `stream_id` of video, and of what else begins like it: its upper four bits.
const VIDEO: u8 = 0xE0;

/// A picture as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since the beginning of 1970, as all processes of this machine tell time.
    pub at: Duration,
    /// When it is to be decoded: ticks of 90 kHz, without their 33-bit wraps.
    pub dts: i64,
}

/// The pictures of a recording, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrivals(Vec<Arrival>);

/// The time by which [`Arrival::at`] counts.
///
/// # Panics
///
/// On a machine whose clock stands before 1970.
#[must_use]
pub fn wall() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is set")
}

impl Arrivals {
    /// Reads a recording and what stands beside it.
    ///
    /// # Errors
    ///
    /// When it is no transport stream.
    pub fn read(recording: &Path) -> anyhow::Result<Self> {
        let stream = std::fs::read(recording).context("there is no recording")?;
        let stamps = std::fs::read_to_string(recording.with_extension("stamps"))?;
        Self::parse(&stream, &stamps)
    }

    fn parse(stream: &[u8], stamps: &str) -> anyhow::Result<Self> {
        // The last line may not be whole while it is written.
        let whole = stamps.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut reads = Vec::new();
        for line in whole.lines() {
            let (byte, micros) = line.split_once(' ').context("a stamp is two numbers")?;
            reads.push((
                byte.parse::<usize>()?,
                Duration::from_micros(micros.parse()?),
            ));
        }
        let mut arrivals = Vec::new();
        for (place, packet) in stream.chunks_exact(PACKET_BYTES).enumerate() {
            ensure!(packet[0] == SYNC, "packet {place} is no packet");
            let Some(dts) = picture(packet) else { continue };
            let byte = place * PACKET_BYTES;
            let read = reads.partition_point(|(first, _)| *first <= byte);
            let (_, at) = reads[..read].last().context("bytes without a stamp")?;
            arrivals.push(Arrival { at: *at, dts });
        }
        Ok(Self(arrivals))
    }

    /// When the first picture came.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn first(&self) -> anyhow::Result<Duration> {
        let first = self.0.first().context("there is no picture in it")?;
        Ok(first.at)
    }

    /// How late each picture was that came in that time: beyond the quickest of all.
    #[must_use]
    pub fn lateness(&self, time: Range<Duration>) -> Vec<Duration> {
        let behind = |arrival: &Arrival| {
            let micros = i64::try_from(arrival.at.as_micros()).unwrap_or(i64::MAX);
            micros - arrival.dts * 100 / 9
        };
        let least = self.0.iter().map(behind).min().unwrap_or_default();
        let since = self.0.iter().filter(|arrival| time.contains(&arrival.at));
        since
            .map(|arrival| Duration::from_micros((behind(arrival) - least).unsigned_abs()))
            .collect()
    }
}

/// The decoding time of the picture that begins in a packet.
fn picture(packet: &[u8]) -> Option<i64> {
    if packet[1] & START == 0 {
        return None;
    }
    let skipped = match packet[3] & ADAPTATION {
        0 => 0,
        _ => 1 + usize::from(packet[4]),
    };
    let unit = packet.get(4 + skipped..)?;
    let [0, 0, 1, stream, _, _, _, flags, _, times @ ..] = unit else {
        return None;
    };
    if stream & 0xF0 != VIDEO {
        return None;
    }
    match flags >> 6 {
        2 => time(times),
        3 => time(times.get(5..)?),
        _ => None,
    }
}

/// A time of 33 bits in five bytes, ISO 13818-1 2.4.3.7.
fn time(bytes: &[u8]) -> Option<i64> {
    let [a, b, c, d, e, ..] = bytes else {
        return None;
    };
    let [a, b, c, d, e] = [*a, *b, *c, *d, *e].map(i64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// The test card, each packet of it stamped with its place in milliseconds.
    fn card() -> (Vec<u8>, String) {
        let stream = std::fs::read(crate::clip_file()).unwrap();
        let stamp = |place: usize| format!("{} {}\n", place * PACKET_BYTES, place * 1_000);
        let stamps = (0..stream.len() / PACKET_BYTES).map(stamp).collect();
        (stream, stamps)
    }

    #[test]
    fn each_picture_of_a_clip_has_the_time_at_which_its_first_byte_came() {
        let (stream, stamps) = card();

        let arrivals = Arrivals::parse(&stream, &stamps).unwrap();

        let clip = crate::Recording::read(&crate::clip_file()).unwrap();
        assert_eq!(arrivals.0.len(), clip.pictures());
        assert!(
            arrivals
                .0
                .windows(2)
                .all(|two| two[0].at < two[1].at && two[0].dts < two[1].dts)
        );
        let place = |arrival: &Arrival| usize::try_from(arrival.at.as_millis()).unwrap();
        let begins = |arrival: &Arrival| stream[place(arrival) * PACKET_BYTES + 1] & START != 0;
        assert!(arrivals.0.iter().all(begins));
    }

    #[test]
    fn lateness_is_what_a_picture_took_beyond_the_quickest() {
        let arrival = |millis, dts| Arrival {
            at: Duration::from_millis(millis),
            dts,
        };
        let arrivals = Arrivals(vec![
            arrival(1_000, 0),
            arrival(1_045, 3_600),
            arrival(1_090, 7_200),
        ]);

        let late = arrivals.lateness(Duration::from_millis(1_040)..Duration::MAX);

        assert_eq!(late, [5, 10].map(Duration::from_millis));
    }
}
