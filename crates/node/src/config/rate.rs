//! Rates as people write them: `4Mb/s`.
//!
//! Not how they are printed, which their type does. Called by `config`, and by the command line for its flags.
//! Invariant: a number without a unit is refused, because nobody can know which one was meant.

use std::fmt;

use levada_wire::Bitrate;
use serde::Deserializer;
use serde::de::{Error, Visitor};

/// The highest rate that is taken: a terabit per second.
const BITRATE_MAX: f64 = 1e12;

/// Reads `4Mb/s`, `800kb/s`, and the short forms `4M` and `4Mb`. Always bits.
///
/// # Errors
///
/// In words for people: what is wrong, and how it is written.
pub fn bitrate(text: &str) -> Result<Bitrate, String> {
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
    let value = number.parse::<f64>();
    let value = value.map_err(|_| "write a number and a unit, as in `4Mb/s`".to_owned())?;
    let unit = unit.trim_start();
    if unit.contains('B') {
        return Err(format!("`{unit}` means bytes: say bits, as in `4Mb/s`"));
    }
    let short = unit.strip_suffix("/s").or_else(|| unit.strip_suffix("ps"));
    let short = short.unwrap_or(unit);
    let scale = match short.strip_suffix('b').unwrap_or(short) {
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "" if short == "b" => 1.0,
        "" => return Err(format!("say the unit: `{number}Mb/s` or `{number}kb/s`")),
        _ => {
            return Err(format!(
                "`{unit}` is no unit of rate: use b/s, kb/s, Mb/s or Gb/s"
            ));
        }
    };
    let bits = value * scale;
    if !(1.0..=BITRATE_MAX).contains(&bits) {
        return Err("a rate is from 1 b/s to 1000 Gb/s".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked: from 1 to 10^12"
    )]
    Ok(Bitrate(bits.round() as u64))
}

/// Takes the text of a rate from a file; of anything else it says how a rate is written.
pub(super) fn written<'de, D: Deserializer<'de>>(file: D) -> Result<Option<String>, D::Error> {
    struct Written;

    impl Visitor<'_> for Written {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a rate in quotes, as in \"50Mb/s\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }

    file.deserialize_str(Written).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bits_in_every_form() {
        for (text, bits) in [
            ("4Mb/s", 4_000_000),
            ("4M", 4_000_000),
            ("4Mbps", 4_000_000),
            ("2.5 Mb", 2_500_000),
            ("800kb/s", 800_000),
            ("96b/s", 96),
            ("1Gb/s", 1_000_000_000),
        ] {
            assert_eq!(bitrate(text), Ok(Bitrate(bits)), "{text}");
        }
    }

    #[test]
    fn bytes_and_bare_numbers_are_not_rates() {
        for (text, part) in [
            ("4MB/s", "say bits"),
            ("4000", "`4000Mb/s`"),
            ("4/s", "`4Mb/s`"),
            ("4ps", "`4Mb/s`"),
            ("0Mb/s", "from 1 b/s"),
            ("9999Gb/s", "1000 Gb/s"),
            ("4mb/s", "use b/s"),
        ] {
            let error = bitrate(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
