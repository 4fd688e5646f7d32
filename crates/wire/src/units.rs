//! Units: numbers that must not be swapped for one another.
//!
//! Not ids (`id.rs`) and not time (`time.rs`). Called by everyone. Invariant: a value of one of these
//! types is in range; constructors check once, and from then on the type is the proof.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use minicbor::{Decode, Encode};

/// The place of a packet in its flow: one space per flow, from 0, never reset, 48 bits on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct Number(#[n(0)] u64);

impl<'b, C> Decode<'b, C> for Number {
    // spec: WIRE 4.4 a number above 2^48 - 1 MUST NOT decode
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.u64()?)
            .ok_or_else(|| minicbor::decode::Error::message("a number has at most 48 bits"))
    }
}

impl Number {
    /// The first number of a flow.
    pub const ZERO: Self = Self(0);
    /// The largest number the wire can carry: at a million packets a second, nine years.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// The number `value`, or `None` above [`Number::MAX`].
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value <= Self::MAX.0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Keeps the low 48 bits of `value`.
    #[must_use]
    pub const fn from_low_bits(value: u64) -> Self {
        Self(value & Self::MAX.0)
    }

    /// The plain integer.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The number `count` places later; saturates at [`Number::MAX`].
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        let sum = self.0.saturating_add(count);
        if sum > Self::MAX.0 {
            Self::MAX
        } else {
            Self(sum)
        }
    }

    /// The number `count` places earlier, or `None` before the first.
    #[must_use]
    pub const fn minus(self, count: u64) -> Option<Self> {
        match self.0.checked_sub(count) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// Places from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The count of a group in its instance, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Group(#[n(0)] pub u32);

/// The index of a layer of a stream. Layer 0 has all tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Layer(#[n(0)] pub u8);

/// Bits per second.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Bitrate(#[n(0)] pub u64);

impl fmt::Debug for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} b/s", self.0),
            1_000..1_000_000 => write!(f, "{}.{} kb/s", self.0 / 1_000, self.0 % 1_000 / 100),
            _ => write!(
                f,
                "{}.{} Mb/s",
                self.0 / 1_000_000,
                self.0 % 1_000_000 / 100_000
            ),
        }
    }
}

/// How far a node is from an origin, in tenths of a millisecond; [`Distance::INFINITE`] is a retraction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Distance(#[n(0)] u32);

impl Distance {
    /// The origin's distance from itself.
    pub const ZERO: Self = Self(0);
    /// Not reachable.
    pub const INFINITE: Self = Self(u32::MAX);

    /// The distance of `tenths` tenths of a millisecond.
    #[must_use]
    pub const fn from_tenth_millis(tenths: u32) -> Self {
        Self(tenths)
    }

    /// Tenths of a millisecond; `u32::MAX` when infinite.
    #[must_use]
    pub const fn as_tenth_millis(self) -> u32 {
        self.0
    }

    /// Whether anything can be reached at this distance.
    #[must_use]
    pub const fn is_finite(self) -> bool {
        self.0 != u32::MAX
    }

    /// The sum of two distances; anything plus infinity is infinity, and so is an overflow.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_finite() {
            write!(f, "{}.{} ms", self.0 / 10, self.0 % 10)
        } else {
            f.write_str("unreachable")
        }
    }
}

/// The whole size of a full media packet of a stream, header and tags included, in bytes of UDP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketSize(u16);

impl PacketSize {
    /// Fits any IPv6 path: 1,280 less 40 (IPv6) and 8 (UDP).
    pub const DEFAULT: Self = Self(1_232);
    /// Small enough for any tunnel, large enough that the 56 bytes of overhead stay under a tenth.
    pub const MIN: Self = Self(576);
    /// 1,500, the MTU of Ethernet, less 60 for headers (IPv6, UDP, one option): a larger packet fits few paths.
    pub const MAX: Self = Self(1_440);

    /// The size of `bytes`, or `None` outside [`PacketSize::MIN`] to [`PacketSize::MAX`].
    #[must_use]
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes < Self::MIN.0 || bytes > Self::MAX.0 {
            None
        } else {
            Some(Self(bytes))
        }
    }

    /// Bytes of UDP payload.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }
}

impl Default for PacketSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl<C> Encode<C> for PacketSize {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for PacketSize {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.u16()?)
            .ok_or_else(|| minicbor::decode::Error::message("packet size out of range"))
    }
}

/// How long after its own time a packet may still come, over all hops: time to ask for it again, and what a consumer
/// waits for what is missing. Whole milliseconds, at most [`RepairBudget::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepairBudget(u32);

impl RepairBudget {
    /// What a request that names none means.
    pub const DEFAULT: Self = Self(500);
    /// Longer ones are taken as this: a cache keeps packets for as long as children may ask for them.
    pub const MAX: Self = Self(10_000);

    /// The budget of `time` in whole milliseconds, at most [`RepairBudget::MAX`].
    #[must_use]
    pub fn new(time: Duration) -> Self {
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self(millis).min(Self::MAX)
    }

    /// The time it gives.
    #[must_use]
    pub const fn time(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

impl Default for RepairBudget {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl<C> Encode<C> for RepairBudget {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u32(self.0)?.ok()
    }

    /// The default is left out.
    fn is_nil(&self) -> bool {
        *self == Self::DEFAULT
    }
}

impl<'b, C> Decode<'b, C> for RepairBudget {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(Self::new(Duration::from_millis(d.u64()?)))
    }

    /// Who names none means the default.
    fn nil() -> Option<Self> {
        Some(Self::DEFAULT)
    }
}

/// A moment of a track: ticks of its timescale since the instance's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaTime {
    /// Ticks since the instance's start; negative before it (B-frames of the first group).
    pub ticks: i64,
    /// Ticks per second.
    pub timescale: NonZeroU32,
}

impl MediaTime {
    /// The same moment in microseconds, rounded towards zero.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        let micros = i128::from(self.ticks) * 1_000_000 / i128::from(self.timescale.get());
        i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_number_keeps_to_48_bits() {
        assert_eq!(Number::new(1 << 48), None);
        assert_eq!(Number::MAX.next(), Number::MAX);
        assert_eq!(Number::ZERO.minus(1), None);
        assert_eq!(Number::from_low_bits(u64::MAX), Number::MAX);
    }

    // spec: WIRE 4.4
    #[test]
    fn a_number_beyond_48_bits_does_not_decode() {
        let largest = minicbor::to_vec(Number::MAX.value()).unwrap();
        let larger = minicbor::to_vec(Number::MAX.value() + 1).unwrap();

        assert_eq!(minicbor::decode::<Number>(&largest).unwrap(), Number::MAX);
        assert!(minicbor::decode::<Number>(&larger).is_err());
    }

    #[test]
    fn a_distance_that_overflows_is_infinite() {
        let far = Distance::from_tenth_millis(u32::MAX - 1);

        assert!(!far.plus(Distance::from_tenth_millis(5)).is_finite());
        assert!(!Distance::INFINITE.plus(Distance::ZERO).is_finite());
    }

    #[test]
    fn a_packet_size_out_of_range_cannot_be_made() {
        assert_eq!(PacketSize::new(575), None);
        assert_eq!(PacketSize::new(1_441), None);
        assert_eq!(PacketSize::new(1_232), Some(PacketSize::DEFAULT));
    }

    #[test]
    fn media_time_converts_without_overflow() {
        let timescale = NonZeroU32::new(90_000).unwrap();

        assert_eq!(
            MediaTime {
                ticks: 90_000,
                timescale
            }
            .as_micros(),
            1_000_000
        );
        assert_eq!(
            MediaTime {
                ticks: i64::MAX,
                timescale: NonZeroU32::MIN
            }
            .as_micros(),
            i64::MAX
        );
    }
}
