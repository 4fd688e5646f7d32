//! The code of parity: a Reed-Solomon code of 8-bit symbols in the form of Cauchy's matrix.
//!
//! ```text
//!   shard i = sum over j of unit j / (j + 128 + i)        bytes are numbers of GF(2^8), addition is XOR
//!
//!                 unit 0   unit 1   unit 2   ...
//!   shard 0         1/128    1/129    1/130             every square part of this matrix can be inverted:
//!   shard 1         1/129    1/128    1/131             any e shards give back any e units that are missing
//! ```
//!
//! The field is that of x^8 + x^4 + x^3 + x^2 + 1. A coefficient depends on the two places alone, so a sender makes as
//! many shards as it likes and a receiver takes whichever came. Multiplying is done for eight bytes of a word at once
//! by adding up the word's doubles, which one unit shares among all shards: no table but that of inverses, no `unsafe`,
//! and the compiler makes vectors of it. Why not a library: docs/decisions/0022-parity-has-a-code-of-our-own.md. Not
//! what a unit is: `parity.rs`. Called by `lane::repair::parity`. Invariant: what [`recover`] gives is what was
//! added up.
//!
//! Wire definition: docs/wire.md section 4.5

/// The most packets of one block.
pub const BLOCK_PACKETS_MAX: usize = 64;
/// The most shards of one block.
pub const BLOCK_SHARDS_MAX: usize = 32;

/// Words that are worked on together: with eight the compiler keeps a unit's doubles near (measured: four take a fifth
/// longer).
const CHUNK_WORDS: usize = 8;
const CHUNK_BYTES: usize = CHUNK_WORDS * 8;
type Chunk = [u64; CHUNK_WORDS];

/// What is added up: a unit, a shard, or a sum on its way from one to the other. Zeros follow its last byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(Vec<Chunk>);

impl Words {
    /// Zeros that hold `bytes` bytes.
    #[must_use]
    pub fn zero(bytes: usize) -> Self {
        Self(vec![[0; CHUNK_WORDS]; bytes.div_ceil(CHUNK_BYTES)])
    }

    /// Makes it hold the parts of a unit, end to end.
    pub fn set(&mut self, parts: &[&[u8]]) {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        self.0.clear();
        self.0.resize(bytes.div_ceil(CHUNK_BYTES), [0; CHUNK_WORDS]);
        let mut at = 0;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let (word, within) = (at / 8 % CHUNK_WORDS, at % 8);
                let (now, later) = rest.split_at(rest.len().min(8 - within));
                let mut bytes = [0; 8];
                bytes[within..within + now.len()].copy_from_slice(now);
                self.0[at / CHUNK_BYTES][word] |= u64::from_le_bytes(bytes);
                (at, rest) = (at + now.len(), later);
            }
        }
    }

    /// Appends its first `bytes` bytes to `out`; zeros for those that it does not have.
    pub fn append_to(&self, bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + bytes;
        for word in self.0.iter().flatten() {
            let rest = end - out.len();
            out.extend_from_slice(&word.to_le_bytes()[..rest.min(8)]);
        }
        out.resize(end, 0);
    }
}

/// Adds the unit at place `packet` of its block to each of `sums`, which are those of `shards`. What of the unit is
/// longer than a sum is left out.
///
/// # Panics
///
/// If a place is beyond [`BLOCK_PACKETS_MAX`] or [`BLOCK_SHARDS_MAX`].
pub fn add(unit: &Words, packet: usize, sums: &mut [Words], shards: &[usize]) {
    let mut factors = [0; BLOCK_SHARDS_MAX];
    for (factor, &shard) in factors.iter_mut().zip(shards) {
        *factor = coefficient(shard, packet);
    }
    add_times(unit, sums, &factors);
}

/// Finds the units that are missing: `sums` are those of `shards`, to which all units that are not missing were added.
/// As many sums as places in `missing`; afterwards each is the unit of its place.
///
/// # Panics
///
/// As [`add`]; or if there are more places than sums.
pub fn recover(sums: &mut [Words], shards: &[usize], missing: &[usize]) {
    let mut rows: Vec<[u8; BLOCK_SHARDS_MAX]> = Vec::with_capacity(missing.len());
    for &shard in &shards[..missing.len()] {
        let mut row = [0; BLOCK_SHARDS_MAX];
        for (factor, &packet) in row.iter_mut().zip(missing) {
            *factor = coefficient(shard, packet);
        }
        rows.push(row);
    }
    // Gauss and Jordan. No pivot is zero: all minors of such a matrix differ from zero.
    for at in 0..missing.len() {
        let inverse = INVERSES[usize::from(rows[at][at])];
        let mut pivot = [Words::zero(sums[at].0.len() * CHUNK_BYTES)];
        add_times(&sums[at], &mut pivot, &[inverse]);
        let [pivot] = pivot;
        let row = rows[at].map(|factor| multiply(factor, inverse));
        let mut factors = [0; BLOCK_SHARDS_MAX];
        for (other, factor) in rows.iter_mut().zip(&mut factors) {
            *factor = other[at];
            for (mine, of_pivot) in other.iter_mut().zip(row) {
                *mine ^= multiply(*factor, of_pivot);
            }
        }
        factors[at] = 0;
        add_times(&pivot, sums, &factors);
        (sums[at], rows[at]) = (pivot, row);
    }
}

/// What the unit of a packet is multiplied with in a shard.
fn coefficient(shard: usize, packet: usize) -> u8 {
    assert!(
        shard < BLOCK_SHARDS_MAX && packet < BLOCK_PACKETS_MAX,
        "places of a block are below its limits"
    );
    INVERSES[packet ^ (SHARDS_FROM + shard)]
}

/// Above all places of packets, so that no place is that of both.
const SHARDS_FROM: usize = 128;
const _: () = assert!(BLOCK_PACKETS_MAX <= SHARDS_FROM && SHARDS_FROM + BLOCK_SHARDS_MAX <= 256);

/// Adds a multiple of `from` to each sum.
fn add_times(from: &Words, sums: &mut [Words], factors: &[u8]) {
    for (at, chunk) in from.0.iter().enumerate() {
        let mut doubles = [*chunk; 8];
        for power in 1..8 {
            doubles[power] = doubles[power - 1].map(double);
        }
        for (sum, &factor) in sums.iter_mut().zip(factors) {
            let Some(sum) = sum.0.get_mut(at) else {
                continue;
            };
            // A sum of its own stays in registers while the doubles are added (measured: in its place, 1.7 times as
            // long).
            let mut total = *sum;
            for (power, double) in doubles.iter().enumerate() {
                if factor >> power & 1 != 0 {
                    for (word, more) in total.iter_mut().zip(double) {
                        *word ^= more;
                    }
                }
            }
            *sum = total;
        }
    }
}

/// Doubles each of eight bytes in the field.
const fn double(word: u64) -> u64 {
    let high = word & 0x8080_8080_8080_8080;
    // Eight ones in each byte whose highest bit falls out.
    let over = (high << 1).wrapping_sub(high >> 7);
    ((word ^ high) << 1) ^ (over & 0x1D1D_1D1D_1D1D_1D1D)
}

const fn multiply(a: u8, b: u8) -> u8 {
    let (mut rest, mut doubled, mut product) = (b, a, 0);
    while rest != 0 {
        if rest & 1 != 0 {
            product ^= doubled;
        }
        let over = if doubled & 0x80 != 0 { 0x1D } else { 0 };
        doubled = doubled << 1 ^ over;
        rest >>= 1;
    }
    product
}

/// What each number is to be multiplied with to give one; zero for zero, which nobody asks for.
const INVERSES: [u8; 256] = inverses();

const fn inverses() -> [u8; 256] {
    // 2 makes all numbers but zero: 2^a times 2^(255 - a) is one.
    let mut powers = [1; 256];
    let mut at = 1;
    while at < 256 {
        powers[at] = multiply(powers[at - 1], 2);
        at += 1;
    }
    let mut inverses = [0; 256];
    let mut at = 0;
    while at < 255 {
        inverses[powers[at] as usize] = powers[255 - at];
        at += 1;
    }
    inverses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(bytes: &[u8]) -> Words {
        let mut words = Words::default();
        words.set(&[bytes]);
        words
    }

    #[test]
    fn every_number_times_its_inverse_is_one() {
        for number in 1..=255 {
            assert_eq!(multiply(number, INVERSES[usize::from(number)]), 1);
        }
    }

    #[test]
    fn a_word_is_doubled_as_its_bytes_are() {
        let bytes = [0, 1, 0x7F, 0x80, 0x81, 0xFF, 0x1D, 0xE3];

        let doubled = double(u64::from_le_bytes(bytes)).to_le_bytes();

        assert_eq!(doubled, bytes.map(|byte| multiply(byte, 2)));
    }

    // spec: WIRE 4.5 a shard is the sum of the units, each divided by the sum of the places
    #[test]
    fn a_shard_is_what_the_document_says() {
        let units: [[u8; 2]; 3] = [[1, 0], [2, 7], [0xFF, 0x80]];
        let mut sums = [Words::zero(2)];
        for (packet, unit) in units.iter().enumerate() {
            add(&words(unit), packet, &mut sums, &[5]);
        }

        let mut shard = Vec::new();
        sums[0].append_to(2, &mut shard);

        let by_hand = |at: usize| {
            let divided = |packet: usize| {
                let divisor = u8::try_from(packet ^ (128 + 5)).unwrap_or(0);
                multiply(units[packet][at], INVERSES[usize::from(divisor)])
            };
            divided(0) ^ divided(1) ^ divided(2)
        };
        assert_eq!(shard, [by_hand(0), by_hand(1)]);
    }

    #[test]
    fn what_is_written_is_what_was_set_and_zeros() {
        let mut words = Words::default();
        words.set(&[&[1, 2, 3], &[], &[4; 70]]);
        let mut out = vec![9];

        words.append_to(200, &mut out);

        assert_eq!(out[..5], [9, 1, 2, 3, 4]);
        assert_eq!((out[73], out[74], out.len()), (4, 0, 201));
        out.clear();
        words.append_to(2, &mut out);
        assert_eq!(out, [1, 2]);
    }

    proptest! {
        #[test]
        fn any_shards_give_back_as_many_units(
            units in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..=BLOCK_PACKETS_MAX),
            missing in prop::collection::btree_set(0..BLOCK_PACKETS_MAX, 0..=BLOCK_SHARDS_MAX),
            order in Just((0..BLOCK_SHARDS_MAX).collect::<Vec<usize>>()).prop_shuffle(),
        ) {
            let longest = units.iter().map(Vec::len).max().unwrap_or(0);
            let missing: Vec<usize> = missing.into_iter().filter(|&place| place < units.len()).collect();
            let shards = &order[..missing.len()];
            let mut sums = vec![Words::zero(longest); missing.len()];
            for (place, unit) in units.iter().enumerate() {
                add(&words(unit), place, &mut sums, shards);
            }
            for (place, unit) in units.iter().enumerate().filter(|(place, _)| !missing.contains(place)) {
                add(&words(unit), place, &mut sums, shards);
            }

            recover(&mut sums, shards, &missing);

            for (sum, &place) in sums.iter().zip(&missing) {
                let mut unit = Vec::new();
                sum.append_to(units[place].len(), &mut unit);
                prop_assert_eq!(&unit, &units[place]);
            }
        }
    }
}
