//! The packets of one or several frames, end to end in one buffer that all clients share.
//!
//! A gateway sends a batch to each client in as few calls as the kernel allows: over TCP the whole buffer at
//! once, over UDP each [`Run`] as one GSO send. So packets are written where they will be sent from, and nothing
//! in them differs from client to client. Not a queue. Called by the packer, which fills it, and by gateways.
//! Invariant: ranges of packets do not overlap and lie within the buffer.

use std::ops::Range;

/// Bytes in front of a packet that is interleaved with RTSP on TCP: `$`, channel, length (RFC 2326 10.12).
const INTERLEAVED_BYTES: usize = 4;

/// Packets that are sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    packets: Vec<Range<usize>>,
    channel: Option<u8>,
}

/// Packets of one size, but for a shorter last one: what one GSO send takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where in the buffer.
    pub bytes: Range<usize>,
    /// Bytes of each packet but the last.
    pub packet_bytes: usize,
}

impl Batch {
    /// A batch of bare packets, for UDP.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch of packets that are interleaved with RTSP on this channel.
    #[must_use]
    pub fn interleaved(channel: u8) -> Self {
        Self {
            channel: Some(channel),
            ..Self::default()
        }
    }

    /// Appends a packet made of these pieces.
    ///
    /// # Panics
    ///
    /// If it has 64 KiB or more, which neither UDP nor RTSP can carry.
    pub fn push(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let short = u16::try_from(length).expect("a packet has less than 64 KiB");
        if let Some(channel) = self.channel {
            let [high, low] = short.to_be_bytes();
            self.bytes.extend_from_slice(&[b'$', channel, high, low]);
        }
        let start = self.bytes.len();
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        self.packets.push(start..self.bytes.len());
    }

    /// All that is to be sent, interleaving included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packets, without interleaving.
    pub fn packets(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.packets.iter().map(|range| &self.bytes[range.clone()])
    }

    /// How a batch of bare packets is sent by GSO, `bytes_max` bytes at most at once.
    pub fn runs(&self, bytes_max: usize) -> impl Iterator<Item = Run> {
        let gap = self.channel.map_or(0, |_| INTERLEAVED_BYTES);
        let mut rest = self.packets.iter().peekable();
        std::iter::from_fn(move || {
            let first = rest.next()?.clone();
            let (packet_bytes, mut bytes) = (first.len(), first);
            let mut last_bytes = packet_bytes;
            while last_bytes == packet_bytes
                && let Some(next) = rest.next_if(|next| {
                    gap == 0 && next.len() <= packet_bytes && next.end - bytes.start <= bytes_max
                })
            {
                last_bytes = next.len();
                bytes.end = next.end;
            }
            Some(Run {
                bytes,
                packet_bytes,
            })
        })
    }

    /// Takes the buffer out, to be shared.
    #[must_use]
    pub fn into_bytes(self) -> bytes::Bytes {
        self.bytes.into()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_packets_stand_behind_channel_and_length() {
        let mut batch = Batch::interleaved(2);

        batch.push(&[&[1, 2], &[3]]);
        batch.push(&[&[4]]);

        assert_eq!(batch.bytes(), [b'$', 2, 0, 3, 1, 2, 3, b'$', 2, 0, 1, 4]);
        assert_eq!(batch.packets().collect::<Vec<_>>(), [&[1, 2, 3][..], &[4]]);
        assert_eq!(batch.runs(100).count(), 2);
    }

    #[test]
    fn a_run_ends_with_its_first_shorter_packet_or_at_the_limit() {
        let mut batch = Batch::new();
        for bytes in [5, 9, 9, 9, 9, 4, 4, 9] {
            batch.push(&[&[7; 9][..bytes]]);
        }

        let runs = |most| {
            let runs = batch.runs(most).map(|run| (run.bytes, run.packet_bytes));
            runs.collect::<Vec<_>>()
        };

        assert_eq!(runs(100), [(0..5, 5), (5..45, 9), (45..49, 4), (49..58, 9)]);
        assert_eq!(
            runs(18),
            [(0..5, 5), (5..23, 9), (23..41, 9), (41..49, 4), (49..58, 9)]
        );
    }
}
