//! What the RTP encoder makes of one burst: packets of all tracks in one buffer, ready for a TCP connection.
//!
//! ```text
//!   $ 0 len RTP | $ 0 len RTP | $ 2 len RTP | $ 1 len sender report | ...
//! ```
//!
//! Channels, SSRC and sequence numbers are the same for all clients, so a client that has all tracks is sent the buffer
//! as it is, in one write. Clients that have fewer share a copy of what they have; clients by UDP share one without the
//! framing. Both are made when the first of them asks. Not the packets' contents, which are `levada_media::rtp`'s. Made
//! by `format`, sent by `sender`. Invariant: all forms hold the same packets in the same order.

use std::sync::{Mutex, OnceLock};

use bytes::{Bytes, BytesMut};

/// `$`, channel, length.
const FRAMING_BYTES: usize = 4;

/// A set of tracks, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tracks(u32);

impl Tracks {
    /// The first so many tracks.
    pub(crate) const fn first(count: usize) -> Self {
        if count >= 32 {
            Self(u32::MAX)
        } else {
            Self((1 << count) - 1)
        }
    }

    /// These tracks; places beyond 31 are left out.
    pub(crate) fn of(places: impl IntoIterator<Item = usize>) -> Self {
        let bits = places.into_iter().filter(|place| *place < 32);
        Self(bits.fold(0, |set, place| set | 1 << place))
    }

    pub(crate) const fn has(self, place: usize) -> bool {
        place < 32 && self.0 & 1 << place != 0
    }
}

/// One packet in a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The place of its track.
    pub(crate) track: usize,
    /// Whether it is a report.
    pub(crate) is_report: bool,
    /// Where its framing begins.
    start: usize,
    /// One past its last byte.
    end: usize,
}

/// Packets of one size, but for a shorter last one: what one send with segmentation takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The place of their track.
    pub(crate) track: usize,
    /// Whether they are reports.
    pub(crate) is_report: bool,
    /// Bytes of each packet but the last.
    pub(crate) packet_bytes: usize,
    /// The packets, end to end.
    pub(crate) bytes: Bytes,
}

/// What a track's first packet in a burst is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    /// The sequence number.
    pub(crate) sequence: u16,
    /// The RTP time.
    pub(crate) time: u32,
}

/// The packets of a burst.
#[derive(Debug)]
pub(crate) struct Burst {
    bytes: Bytes,
    entries: Vec<Entry>,
    all: Tracks,
    parts: Mutex<Vec<(Tracks, Bytes)>>,
    runs: OnceLock<Vec<Run>>,
}

/// A burst that is being made.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bytes: BytesMut,
    entries: Vec<Entry>,
}

impl Builder {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a packet. One that is too long for the framing is left out.
    pub(crate) fn push(&mut self, track: usize, is_report: bool, packet: &[u8]) {
        let (Ok(length), Ok(channel)) = (
            u16::try_from(packet.len()),
            u8::try_from(track * 2 + usize::from(is_report)),
        ) else {
            return;
        };
        let start = self.bytes.len();
        let [high, low] = length.to_be_bytes();
        self.bytes.extend_from_slice(&[b'$', channel, high, low]);
        self.bytes.extend_from_slice(packet);
        let end = self.bytes.len();
        self.entries.push(Entry {
            track,
            is_report,
            start,
            end,
        });
    }

    /// The burst, if it has a packet; the builder is empty then.
    pub(crate) fn take(&mut self, tracks: usize) -> Option<Burst> {
        if self.entries.is_empty() {
            return None;
        }
        Some(Burst {
            bytes: std::mem::take(&mut self.bytes).freeze(),
            entries: std::mem::take(&mut self.entries),
            all: Tracks::first(tracks),
            parts: Mutex::default(),
            runs: OnceLock::new(),
        })
    }
}

impl Burst {
    /// The framed packets of these tracks; empty if it has none of them.
    pub(crate) fn framed(&self, tracks: Tracks) -> Bytes {
        if tracks == self.all {
            return self.bytes.clone();
        }
        let mut parts = self
            .parts
            .lock()
            .expect("no code that can panic runs under this lock");
        if let Some((_, bytes)) = parts.iter().find(|(known, _)| *known == tracks) {
            return bytes.clone();
        }
        let mut bytes = BytesMut::new();
        for entry in self.entries.iter().filter(|entry| tracks.has(entry.track)) {
            bytes.extend_from_slice(&self.bytes[entry.start..entry.end]);
        }
        let bytes = bytes.freeze();
        parts.push((tracks, bytes.clone()));
        bytes
    }

    /// The packets for UDP, in as few runs as they can be sent in, each at most `bytes_max` long.
    pub(crate) fn runs(&self, bytes_max: usize) -> &[Run] {
        self.runs.get_or_init(|| {
            let (mut runs, mut rest) = (Vec::new(), &self.entries[..]);
            while let Some(first) = rest.first() {
                let count = run_length(rest, bytes_max);
                let mut bytes = BytesMut::new();
                for entry in &rest[..count] {
                    bytes.extend_from_slice(&self.bytes[entry.start + FRAMING_BYTES..entry.end]);
                }
                runs.push(Run {
                    track: first.track,
                    is_report: first.is_report,
                    packet_bytes: first.packet_bytes(),
                    bytes: bytes.freeze(),
                });
                rest = &rest[count..];
            }
            runs
        })
    }

    /// The first media packet of a track, if it has one.
    pub(crate) fn first(&self, track: usize) -> Option<First> {
        let is_first = |entry: &&Entry| entry.track == track && !entry.is_report;
        let entry = self.entries.iter().find(is_first)?;
        let packet = &self.bytes[entry.start + FRAMING_BYTES..entry.end];
        let &[_, _, s0, s1, t0, t1, t2, t3] = packet.first_chunk()?;
        Some(First {
            sequence: u16::from_be_bytes([s0, s1]),
            time: u32::from_be_bytes([t0, t1, t2, t3]),
        })
    }
}

impl Entry {
    const fn packet_bytes(&self) -> usize {
        self.end - self.start - FRAMING_BYTES
    }
}

/// How many of the first packets can be one send.
fn run_length(entries: &[Entry], bytes_max: usize) -> usize {
    let Some(first) = entries.first() else {
        return 0;
    };
    let (mut count, mut total) = (0, 0);
    for entry in entries {
        let is_like = (entry.track, entry.is_report) == (first.track, first.is_report);
        let bytes = entry.packet_bytes();
        total += bytes;
        if count > 0 && !(is_like && bytes <= first.packet_bytes() && total <= bytes_max) {
            break;
        }
        count += 1;
        if bytes < first.packet_bytes() {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn packet(sequence: u8, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, sequence, 0, 0, 0, 9];
        packet.resize(bytes, sequence);
        packet
    }

    fn burst(packets: &[(usize, bool, usize)]) -> Burst {
        let mut builder = Builder::default();
        for (at, (track, is_report, bytes)) in packets.iter().enumerate() {
            builder.push(
                *track,
                *is_report,
                &packet(u8::try_from(at).unwrap(), *bytes),
            );
        }
        builder.take(2).unwrap()
    }

    #[test]
    fn a_client_with_all_tracks_is_sent_the_buffer_itself() {
        let burst = burst(&[(0, false, 20), (1, true, 8)]);

        let bytes = burst.framed(Tracks::first(2));

        assert_eq!(bytes[..4], [b'$', 0, 0, 20]);
        assert_eq!(bytes[24..28], [b'$', 3, 0, 8]);
        assert_eq!(bytes.as_ptr(), burst.bytes.as_ptr());
    }

    #[test]
    fn clients_with_fewer_tracks_share_a_copy() {
        let burst = burst(&[(0, false, 20), (1, false, 10), (0, false, 20)]);

        let sound = burst.framed(Tracks::of([1]));

        assert_eq!(sound.len(), 14);
        assert_eq!(sound[..4], [b'$', 2, 0, 10]);
        assert_eq!(burst.framed(Tracks::of([1])).as_ptr(), sound.as_ptr());
        assert!(burst.framed(Tracks::of([5, 40])).is_empty());
    }

    #[test]
    fn packets_of_one_size_are_one_run() {
        let burst = burst(&[
            (0, true, 28),
            (0, false, 100),
            (0, false, 100),
            (0, false, 60),
            (0, false, 100),
            (1, false, 100),
        ]);

        let runs: Vec<_> = burst
            .runs(1_000)
            .iter()
            .map(|run| (run.track, run.is_report, run.packet_bytes, run.bytes.len()))
            .collect();

        assert_eq!(
            runs,
            [
                (0, true, 28, 28),
                (0, false, 100, 260),
                (0, false, 100, 100),
                (1, false, 100, 100)
            ]
        );
    }

    #[test]
    fn a_run_is_no_longer_than_can_be_sent() {
        let burst = burst(&[(0, false, 100); 5]);

        let lengths: Vec<_> = burst.runs(250).iter().map(|run| run.bytes.len()).collect();

        assert_eq!(lengths, [200, 200, 100]);
    }

    #[test]
    fn the_first_packet_of_each_track_is_known() {
        let burst = burst(&[(0, true, 28), (0, false, 20), (0, false, 20)]);

        assert_eq!(
            burst.first(0),
            Some(First {
                sequence: 1,
                time: 9
            })
        );
        assert_eq!(burst.first(1), None);
        assert!(Builder::default().take(2).is_none());
    }
}
