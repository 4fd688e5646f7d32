//! Values as people write them in a scenario: `"250ms"`, `["1s", "3s"]`, `"0.5%"`, `"20Mb/s"`.
//!
//! All are read in whole numbers: a float in a scenario would be a float in a run. Not the meaning of a value, which is
//! in `scenario`. Called by serde while `raw` is read. Invariant: a value that is read is in range.

use std::fmt;
use std::time::Duration;

use levada_wire::Bitrate;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::chance::{Probability, Rng};

/// A duration, or the bounds between which the seed chooses one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
}

impl Span {
    /// A duration without choice.
    #[must_use]
    pub const fn exactly(duration: Duration) -> Self {
        Self {
            least: duration,
            most: duration,
        }
    }

    /// The seed's choice.
    pub fn choose(&self, rng: &mut Rng) -> Duration {
        self.least + rng.up_to(self.most - self.least)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"250ms\" or two of them like [\"1s\", \"3s\"]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                duration(text).map(Span::exactly).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Span, A::Error> {
                let mut next = |place| match list.next_element::<String>()? {
                    Some(text) => duration(&text).map_err(A::Error::custom),
                    None => Err(A::Error::invalid_length(place, &self)),
                };
                let (least, most) = (next(0)?, next(1)?);
                if list.next_element::<String>()?.is_some() {
                    return Err(A::Error::invalid_length(3, &self));
                }
                if least > most {
                    return Err(A::Error::custom(
                        "the first of two durations must not be the longer one",
                    ));
                }
                Ok(Span { least, most })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Gives a type the deserializer that reads it from text with a function of this file.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $read:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $read(&text).map(Self).map_err(D::Error::custom)
            }
        }
    };
}
text_value!(
    /// `"250ms"`.
    Time, Duration, duration
);
text_value!(
    /// `"0.5%"`.
    Share, Probability, probability
);
text_value!(
    /// `"20Mb/s"`.
    Rate, Bitrate, bitrate
);
text_value!(
    /// `"-5s"`, `"5s"`.
    Leap, crate::scenario::Leap, leap
);

/// Reads a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [
        ("us", 1_000),
        ("ms", 1_000_000),
        ("min", 60_000_000_000),
        ("s", 1_000_000_000),
    ];
    scaled(text, &units)
        .map(Duration::from_nanos)
        .ok_or_else(|| {
            format!("`{text}` is no duration: write a number and us, ms, s or min, as in \"250ms\"")
        })
}

fn probability(text: &str) -> Result<Probability, String> {
    scaled(text, &[("%", 10_000)])
        .and_then(|millionths| Probability::from_millionths(u32::try_from(millionths).ok()?))
        .ok_or_else(|| format!("`{text}` is no share: write 0 to 100 and %, as in \"0.5%\""))
}

fn bitrate(text: &str) -> Result<Bitrate, String> {
    let units = [
        ("kb/s", 1_000),
        ("Mb/s", 1_000_000),
        ("Gb/s", 1_000_000_000),
    ];
    scaled(text, &units)
        .filter(|rate| *rate > 0)
        .map(Bitrate)
        .ok_or_else(|| {
            format!("`{text}` is no rate: write a number and kb/s, Mb/s or Gb/s, as in \"20Mb/s\"")
        })
}

fn leap(text: &str) -> Result<crate::scenario::Leap, String> {
    let (back, rest) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let by = duration(rest)?;
    Ok(crate::scenario::Leap { back, by })
}

/// Reads a decimal number with one of the units, and gives it in the unit's parts; `None` if it is not that, is not a
/// whole number of parts, or too large.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, parts) = units
        .iter()
        .find_map(|(unit, parts)| Some((text.strip_suffix(unit)?.trim_end(), *parts)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let mut value = whole.parse::<u64>().ok()?.checked_mul(parts)?;
    let mut digit_parts = parts;
    for digit in fraction.bytes() {
        if (digit_parts == 0 || digit_parts % 10 != 0) && digit != b'0' {
            return None;
        }
        digit_parts /= 10;
        value = value.checked_add(u64::from(digit - b'0') * digit_parts)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn values_are_read_exactly() {
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1_500));
        assert_eq!(duration("80us").unwrap(), Duration::from_micros(80));
        assert_eq!(duration("2min").unwrap(), Duration::from_secs(120));
        assert_eq!(probability("0.02%").unwrap().as_millionths(), 200);
        assert_eq!(probability("100%").unwrap(), Probability::ALWAYS);
        assert_eq!(bitrate("2.5Mb/s").unwrap(), Bitrate(2_500_000));
        assert!(leap("-5s").unwrap().back && !leap("5s").unwrap().back);
    }

    #[test]
    fn what_is_no_value_is_refused_with_an_example() {
        for text in [
            "",
            "s",
            "5",
            "-5s",
            "5 parsecs",
            "1.2.3s",
            "0.00001us",
            "99999999999999s",
            "+5s",
        ] {
            assert!(duration(text).unwrap_err().contains("250ms"), "{text}");
        }
        for text in ["101%", "5", "0.00001%"] {
            assert!(probability(text).unwrap_err().contains("0.5%"), "{text}");
        }
        for text in ["0Mb/s", "5Mbit", "5"] {
            assert!(bitrate(text).unwrap_err().contains("20Mb/s"), "{text}");
        }
    }
}
