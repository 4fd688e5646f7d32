//! Where a cache lays what it copies: small runs end to end, in chunks that are charged as long as any of it is held.
//!
//! A run is a slice of a buffer that others' packets lie in too: a received train. Kept as it is, one packet of 300
//! bytes would hold 64 KiB. So a run that is the smaller part of its buffer is copied, into chunks and not each by
//! itself: a copy takes an allocation by the chunk, not by the packet. Not the choice which runs are copied:
//! `cache.rs`, which calls it. Invariant: [`Copies::bytes`] is the size of all chunks of which something is held, and
//! of the one that is being filled.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_PART};

/// Which chunk something was copied into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkIndex(u64);

#[derive(Debug)]
struct Chunk {
    bytes: usize,
    /// Copies in it that are held.
    copies: usize,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// From the oldest of which something is held to the one that is being filled.
    chunks: VecDeque<Chunk>,
    /// The place of the first of them.
    first: u64,
    /// What is left of the newest chunk.
    rest: BytesMut,
    bytes: usize,
}

impl Copies {
    /// The size of all chunks.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes of memory a copy of `bytes` takes beyond what there is.
    pub(super) fn takes(&self, bytes: usize) -> usize {
        if self.rest.capacity() >= bytes {
            0
        } else {
            self.chunk_for(bytes)
        }
    }

    /// Copies `bytes`, to be held until [`Copies::release`].
    pub(super) fn copy(&mut self, bytes: &[u8]) -> (Bytes, ChunkIndex) {
        let takes = self.takes(bytes.len());
        if takes > 0 {
            self.close();
            self.rest = BytesMut::with_capacity(takes);
            self.bytes += takes;
            self.chunks.push_back(Chunk {
                bytes: takes,
                copies: 0,
            });
        }
        self.rest.extend_from_slice(bytes);
        let chunk = self.chunks.back_mut().expect("pushed when it was made");
        chunk.copies += 1;
        let place = ChunkIndex(self.first + self.chunks.len() as u64 - 1);
        (self.rest.split().freeze(), place)
    }

    /// A copy is held no more.
    pub(super) fn release(&mut self, place: ChunkIndex) {
        let at =
            usize::try_from(place.0 - self.first).expect("a chunk has a place while it is held");
        let chunk = &mut self.chunks[at];
        chunk.copies -= 1;
        if chunk.copies == 0 {
            self.bytes -= std::mem::take(&mut chunk.bytes);
            if at + 1 == self.chunks.len() {
                self.rest = BytesMut::new();
            }
        }
        self.forget();
    }

    /// The newest chunk is full: it goes when nothing of it is held, which may be now.
    fn close(&mut self) {
        self.rest = BytesMut::new();
        self.forget();
    }

    /// Forgets the oldest chunks, as far as they are gone.
    fn forget(&mut self) {
        while self.chunks.front().is_some_and(|chunk| chunk.bytes == 0) {
            self.chunks.pop_front();
            self.first += 1;
        }
    }

    fn chunk_for(&self, bytes: usize) -> usize {
        let wanted = (self.bytes / CHUNK_PART).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        wanted.max(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use levada_heap::held_bytes;

    #[test]
    fn copies_lie_in_chunks_that_go_with_the_last_of_them() {
        let mut copies = Copies::default();
        let places: Vec<_> = (0..40).map(|at| copies.copy(&[at; 100]).1).collect();
        assert_eq!(copies.bytes(), 2 * CHUNK_BYTES_MIN);

        for &place in &places[..20] {
            copies.release(place);
        }
        assert_eq!(copies.bytes(), CHUNK_BYTES_MIN);
        for &place in &places[20..] {
            copies.release(place);
        }

        assert_eq!((copies.bytes(), copies.chunks.len()), (0, 0));
        assert_eq!(copies.copy(&[7; 100]).0, [7; 100][..]);
    }

    #[test]
    fn a_chunk_in_the_middle_goes_at_once() {
        let mut copies = Copies::default();
        let places: Vec<_> = (0..60).map(|at| copies.copy(&[at; 100]).1).collect();

        for &place in &places[20..40] {
            copies.release(place);
        }

        assert_eq!(
            (copies.bytes(), copies.chunks.len()),
            (2 * CHUNK_BYTES_MIN, 3)
        );
    }

    #[test]
    fn chunks_grow_with_what_is_held_up_to_the_largest() {
        let mut copies = Copies::default();
        let mut largest = 0;

        for _ in 0..2_000 {
            let _ = copies.copy(&[1; 1_000]);
            largest = largest.max(copies.chunks.back().map_or(0, |chunk| chunk.bytes));
        }

        assert_eq!(largest, CHUNK_BYTES_MAX);
    }

    #[test]
    fn what_is_charged_is_what_the_allocator_gave() {
        let before = held_bytes();
        let mut copies = Copies::default();
        let mut held = VecDeque::new();

        for at in 0..20_000_usize {
            held.push_back(copies.copy(&vec![1; 1 + at * 37 % 3_000]));
            if at > 500
                && let Some((_, place)) = held.pop_front()
            {
                copies.release(place);
            }
            let charged = i64::try_from(copies.bytes()).expect("it is little");
            let given = held_bytes() - before;
            let lists = i64::try_from(held.capacity() * 48 + copies.chunks.capacity() * 80);
            assert!(
                given <= charged + lists.expect("it is little") + 100,
                "{given} of {charged}"
            );
        }
    }
}
