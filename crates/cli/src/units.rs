//! Quantities as people type them: `500ms`, `4Mb/s`, `10%`, `8`.
//!
//! Not how they are printed, which their types do. Called by clap for flags. Invariant: a number without a unit is
//! refused, because nobody can know which one was meant.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Reads a rate: the configuration is written the same.
pub(crate) use levada::config::bitrate;

/// The longest duration that is taken: a year. Beyond it, it is a slip of the finger.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Reads `500ms`, `2s`, `1.5s`, `3m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text, "500ms")?;
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "" => return Err(format!("say the unit: `{text}ms` or `{text}s`")),
        _ => {
            return Err(format!(
                "`{unit}` is no unit of time: use us, ms, s, m or h"
            ));
        }
    };
    let duration = Duration::try_from_secs_f64(number * scale);
    let duration = duration.map_err(|_| "that is too long".to_owned())?;
    if duration > DURATION_MAX {
        return Err("that is longer than a year".to_owned());
    }
    Ok(duration)
}

/// The longest that anything is told to last, in seconds: a year, as for durations.
pub(crate) const SECONDS_MAX: u64 = DURATION_MAX.as_secs();

/// Makes a reader of whole numbers in `range`. What has a unit of its own is not read by it.
pub(crate) fn whole<N>(
    range: RangeInclusive<N>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.trim().parse().ok();
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("write a whole number from {least} to {most}")
        })
    }
}

/// Reads `10%`, as a part of one.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text, "10%")?;
    match unit {
        "%" if number <= 100.0 => Ok(number / 100.0),
        "%" => Err("that is more than all".to_owned()),
        "" => Err(format!("say the unit: `{text}%`")),
        _ => Err(format!("`{unit}` is no share: write per cent, as in `10%`")),
    }
}

/// A number and what follows it.
fn split<'a>(text: &'a str, example: &str) -> Result<(f64, &'a str), String> {
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let number = text[..end].parse::<f64>();
    let number = number.map_err(|_| format!("write a number and a unit, as in `{example}`"))?;
    Ok((number, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("1.5 s", 1_500),
            ("3m", 180_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_or_with_a_wrong_one_is_refused_with_the_cure() {
        for (text, part) in [
            ("500", "`500ms` or `500s`"),
            ("5 parsecs", "use us, ms, s, m or h"),
            ("ms", "as in `500ms`"),
            ("-1s", "as in `500ms`"),
            ("400000h", "a year"),
            ("1.2.3s", "as in `500ms`"),
        ] {
            let error = duration(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn whole_numbers_outside_their_range_are_refused_with_its_ends() {
        let read = whole(1..=1_000_u32);

        assert_eq!((read("1"), read(" 1000 ")), (Ok(1), Ok(1_000)));
        for text in ["0", "1001", "-1", "5s", "1.5", "x", "", "99999999999"] {
            let error = read(text).expect_err(text);
            assert_eq!(error, "write a whole number from 1 to 1000", "{text}");
        }
    }

    #[test]
    fn shares_are_per_cent_and_at_most_all() {
        assert_eq!(share("10%"), Ok(0.1));
        assert_eq!(share("0.5 %"), Ok(0.005));
        for (text, part) in [
            ("0.1", "`0.1%`"),
            ("101%", "more than all"),
            ("5 of 6", "as in `10%`"),
            ("-1%", "as in `10%`"),
        ] {
            let error = share(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
