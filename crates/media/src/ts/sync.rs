//! Finding packets in a stream of bytes, also after bytes were lost or inserted.
//!
//! A packet starts with 47, and so does the next one, a stride later: 188 bytes in a plain stream, 192 in M2TS
//! (four bytes of time before each packet), 204 where error correction was left in. A byte 47 inside a payload
//! is told from a packet's start by looking [`SYNC_PACKETS`] packets ahead. Not the reading of packets
//! (`packet.rs`). Called by the demuxer. Invariant: what comes out does not depend on how the bytes were
//! cut into pushes.

use super::packet::{PACKET_BYTES, SYNC_BYTE};

/// How many packet starts in a row make a stream believable.
const SYNC_PACKETS: usize = 3;
/// Distances between the starts of two packets, the commonest first.
const STRIDES: [usize; 3] = [PACKET_BYTES, 192, 204];
/// Bytes that must be there to judge a candidate.
const WINDOW_BYTES: usize = (SYNC_PACKETS - 1) * 204 + 1;

/// Whether `bytes`, the beginning of a file, look like a transport stream: for a clear message to whoever named the
/// wrong file.
///
/// A few kilobytes are enough; junk before the first packet is tolerated as the demuxer tolerates it.
#[must_use]
pub fn looks_like(bytes: &[u8]) -> bool {
    (0..bytes.len().min(WINDOW_BYTES)).any(|at| stride_at(&bytes[at..], true).is_some())
}

/// The stride by which packets follow each other from the front of `bytes`.
///
/// At the `end` of the stream, starts that are not there any more are taken for granted.
fn stride_at(bytes: &[u8], end: bool) -> Option<usize> {
    if end && bytes.len() < PACKET_BYTES {
        return None;
    }
    STRIDES.into_iter().find(|stride| {
        (0..SYNC_PACKETS).all(|k| match bytes.get(k * stride) {
            Some(byte) => *byte == SYNC_BYTE,
            None => end,
        })
    })
}

/// A run of bytes that belonged to no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Junk {
    /// Where it began, counted from the first byte pushed.
    pub(super) at: u64,
    /// How many bytes were skipped.
    pub(super) bytes: u64,
}

/// What [`Finder::find`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A packet, and where it began.
    Packet { at: u64, bytes: [u8; PACKET_BYTES] },
    /// Bytes that were passed over.
    Junk(Junk),
}

#[derive(Debug, Default)]
pub(super) struct Finder {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that are done with.
    done: usize,
    /// Where the buffer's front stands in the stream.
    base: u64,
    /// The distance of packets, while they come where they are expected.
    stride: Option<usize>,
    /// Bytes still to be passed over between two packets of a stride above 188.
    gap: usize,
    /// Bytes passed over since synchrony was lost.
    junk: u64,
    ended: bool,
}

impl Finder {
    /// Takes bytes in; [`Finder::find`] is to be called until it gives `None` before the next push.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.base += self.done as u64;
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// No more bytes will come: what is left is judged without looking ahead.
    pub(super) fn finish(&mut self) {
        self.ended = true;
    }

    pub(super) fn find(&mut self) -> Option<Found> {
        loop {
            let Some(stride) = self.stride else {
                return self.hunt();
            };
            if self.gap > 0 {
                let pass = self.gap.min(self.rest().len());
                self.done += pass;
                self.gap -= pass;
                if self.gap > 0 {
                    return None;
                }
            }
            if *self.rest().first()? != SYNC_BYTE {
                self.stride = None;
                continue;
            }
            let bytes = *self.rest().first_chunk::<PACKET_BYTES>()?;
            let at = self.base + self.done as u64;
            self.done += PACKET_BYTES;
            self.gap = stride - PACKET_BYTES;
            return Some(Found::Packet { at, bytes });
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.done..]
    }

    /// Passes over bytes until packets follow each other; reports the junk once it is behind.
    fn hunt(&mut self) -> Option<Found> {
        while !self.rest().is_empty() && (self.ended || self.rest().len() >= WINDOW_BYTES) {
            if let Some(stride) = stride_at(self.rest(), self.ended) {
                self.stride = Some(stride);
                self.gap = 0;
                return self.take_junk().or_else(|| self.find());
            }
            self.done += 1;
            self.junk += 1;
        }
        if self.ended { self.take_junk() } else { None }
    }

    fn take_junk(&mut self) -> Option<Found> {
        let bytes = std::mem::take(&mut self.junk);
        let at = self.base + self.done as u64 - bytes;
        (bytes > 0).then_some(Found::Junk(Junk { at, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packets(count: u8, stride: usize) -> Vec<u8> {
        let packet = |number: u8| {
            let mut bytes = vec![number; stride];
            bytes[0] = SYNC_BYTE;
            bytes
        };
        (0..count).flat_map(packet).collect()
    }

    fn find(chunks: &[&[u8]]) -> (Vec<u8>, Vec<Junk>) {
        let mut finder = Finder::default();
        let (mut numbers, mut junk) = (Vec::new(), Vec::new());
        for chunk in chunks.iter().copied().map(Some).chain([None]) {
            match chunk {
                Some(bytes) => finder.push(bytes),
                None => finder.finish(),
            }
            while let Some(found) = finder.find() {
                match found {
                    Found::Packet { bytes, .. } => numbers.push(bytes[1]),
                    Found::Junk(run) => junk.push(run),
                }
            }
        }
        (numbers, junk)
    }

    #[test]
    fn packets_of_every_stride_are_found() {
        for stride in STRIDES {
            let bytes = packets(6, stride);

            assert_eq!(
                find(&[&bytes]),
                ((0..6).collect(), vec![]),
                "stride {stride}"
            );
            assert!(looks_like(&bytes));
        }
        assert!(!looks_like(b"RIFF....AVI LIST"));
        assert!(!looks_like(&[0; 4_096]));
    }

    #[test]
    fn a_packet_that_lost_bytes_costs_itself_only() {
        let mut bytes = packets(9, PACKET_BYTES);
        bytes.drain(4 * PACKET_BYTES + 50..4 * PACKET_BYTES + 60);

        let (numbers, junk) = find(&[&bytes]);

        // The short packet itself is taken as whole, with the first bytes of the next, which is then lost.
        assert_eq!(numbers, [0, 1, 2, 3, 4, 6, 7, 8]);
        assert_eq!(
            junk,
            [Junk {
                at: 940,
                bytes: 178
            }]
        );
    }

    #[test]
    fn junk_is_passed_over_and_counted() {
        let mut bytes = vec![SYNC_BYTE; 3];
        bytes.extend(packets(4, PACKET_BYTES));
        bytes.extend([1; 40]);

        assert_eq!(
            find(&[&bytes]),
            (
                vec![0, 1, 2, 3],
                vec![Junk { at: 0, bytes: 3 }, Junk { at: 755, bytes: 40 }]
            )
        );
        assert_eq!(
            find(&[&[7; 600]]),
            (vec![], vec![Junk { at: 0, bytes: 600 }])
        );
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            edits in proptest::collection::vec((0_usize..4_000, any::<u8>()), 0..6),
            cut in 1_usize..700,
            stride in 0_usize..3,
        ) {
            let mut bytes = packets(16, STRIDES[stride]);
            for (at, value) in edits {
                let at = at % bytes.len();
                if value < 64 { bytes.remove(at); } else { bytes[at] = value; }
            }

            let chunks: Vec<_> = bytes.chunks(cut).collect();

            prop_assert_eq!(find(&chunks), find(&[&bytes]));
        }
    }
}
