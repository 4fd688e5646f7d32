//! Bits from the front of some bytes, and the numbers of variable length that codecs write with them.
//!
//! Called by whoever reads headers: parameter sets, AU headers, MP4 descriptors. Invariant: nothing is read behind
//! the end; `None` says that it was tried.

/// Reads bits from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits, at most 32.
    pub(crate) fn take(&mut self, count: u8) -> Option<u32> {
        let end = self.at + usize::from(count);
        if end > 8 * self.bytes.len() || count > 32 {
            return None;
        }
        let bit = |at: usize| u32::from(self.bytes[at / 8] >> (7 - at % 8) & 1);
        let value = (self.at..end).fold(0, |value, at| value << 1 | bit(at));
        self.at = end;
        Some(value)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count)?;
        (end <= 8 * self.bytes.len()).then(|| self.at = end)
    }

    /// An unsigned Exp-Golomb number (H.264 9.1).
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.take(zeros)?;
        Some((1_u32 << zeros) - 1 + rest)
    }

    /// A signed Exp-Golomb number (H.264 9.1.1).
    pub(crate) fn se(&mut self) -> Option<i32> {
        let value = i32::try_from(self.ue()?).ok()?;
        let half = value / 2 + value % 2;
        Some(if value % 2 == 0 { -half } else { half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard() {
        // 1, 010, 011, 00100, 00101, then 0000: cut.
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);

        let read: Vec<_> = std::iter::from_fn(|| bits.ue()).collect();

        assert_eq!(read, [0, 1, 2, 3, 4]);
        let mut bits = Bits::new(&[0b0100_1100, 0b1000_0101]);
        let signed: Vec<_> = std::iter::from_fn(|| bits.se()).collect();
        assert_eq!(signed, [1, -1, 2, -2]);
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let mut bits = Bits::new(&[0xF0]);

        assert_eq!(bits.take(4), Some(15));
        assert_eq!(bits.take(5), None);
        assert_eq!(bits.skip(5), None);
        assert_eq!(bits.take(4), Some(0));
        assert_eq!(bits.flag(), None);
    }
}
