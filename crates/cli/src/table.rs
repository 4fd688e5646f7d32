//! Tables for people: columns that line up, whatever is in them.
//!
//! Not for programs, which get JSON. Called by the views and by `demo`. Invariant: no line ends in a space, and a
//! cell never holds a line break.

use std::fmt;
use std::time::Duration;

/// Between two columns.
const GAP: &str = "  ";

/// To which side a column's cells are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    /// For numbers.
    Right,
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    aligns: Vec<Align>,
    /// The headings, then the rows.
    lines: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
        Self {
            aligns: columns.iter().map(|(_, align)| *align).collect(),
            lines: vec![heads],
        }
    }

    /// Adds a row: one cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.aligns.len(), "one cell for each column");
        let clean = |cell: String| cell.replace(char::is_control, " ");
        self.lines.push(cells.into_iter().map(clean).collect());
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.lines.len() <= 1
    }

    /// Takes these columns away where no row has anything to say in them: a table stays narrow while all is well.
    pub(crate) fn hide_silent(&mut self, heads: &[&str]) {
        for head in heads {
            let Some(at) = self.lines[0].iter().position(|text| text == head) else {
                continue;
            };
            let is_silent = |line: &Vec<String>| matches!(&*line[at], "" | "-" | "0");
            if self.lines[1..].iter().all(is_silent) {
                self.aligns.remove(at);
                for line in &mut self.lines {
                    line.remove(at);
                }
            }
        }
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<_> = (0..self.aligns.len()).map(|at| self.width(at)).collect();
        for line in &self.lines {
            let mut text = String::new();
            for (at, cell) in line.iter().enumerate() {
                let width = widths[at];
                if at > 0 {
                    text.push_str(GAP);
                }
                match self.aligns[at] {
                    Align::Left => text.push_str(&format!("{cell:<width$}")),
                    Align::Right => text.push_str(&format!("{cell:>width$}")),
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// A cell for what may not be there.
pub(crate) fn or_dash<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A time, as people read it: microseconds, or milliseconds with a tenth.
pub(crate) fn time(time: Duration) -> String {
    let micros = time.as_micros();
    if micros < 1_000 {
        format!("{micros} us")
    } else {
        format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100)
    }
}

/// A time of seconds to days, as people read it: its largest unit, and the next one where that says something.
pub(crate) fn long_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A number of bytes with a decimal unit and a tenth.
pub(crate) fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

/// The first digits of an id: enough to tell nodes apart.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_a_space() {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("RATE", Align::Right),
            ("CAUSE", Align::Left),
        ]);
        table.row(["sports/final".into(), "4".into(), String::new()]);
        table.row(["häuser".into(), "12".into(), "no\nanswer".into()]);

        assert_eq!(
            table.to_string(),
            "NAME          RATE  CAUSE\n\
             sports/final     4\n\
             häuser          12  no answer\n"
        );
        assert!(!table.is_empty());
    }

    #[test]
    fn columns_that_say_nothing_are_hidden_and_those_that_do_stay() {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("BEHIND", Align::Left),
            ("SKIPPED", Align::Right),
            ("CAUSE", Align::Left),
        ]);
        table.row(["a".into(), "-".into(), "0".into(), String::new()]);
        table.row(["b".into(), "-".into(), "7".into(), String::new()]);

        table.hide_silent(&["BEHIND", "SKIPPED", "CAUSE", "OTHER"]);

        assert_eq!(
            table.to_string(),
            "NAME  SKIPPED\n\
             a           0\n\
             b           7\n"
        );
    }

    #[test]
    fn long_times_and_bytes_have_the_unit_that_fits() {
        let seconds = |seconds| long_time(Duration::from_secs(seconds));
        assert_eq!([seconds(7), seconds(90)], ["7 s", "1 min 30 s"]);
        assert_eq!([seconds(7_260), seconds(90_000)], ["2 h 1 min", "1 d 1 h"]);
        assert_eq!([bytes(999), bytes(1_000)], ["999 B", "1.0 kB"]);
        assert_eq!(
            [bytes(1_550_000), bytes(12_000_000_000)],
            ["1.5 MB", "12.0 GB"]
        );
    }

    #[test]
    fn times_are_short() {
        assert_eq!(time(Duration::from_micros(83)), "83 us");
        assert_eq!(time(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(time(Duration::from_micros(3_100)), "3.1 ms");
        assert_eq!(or_dash(None::<u32>), "-");
    }
}
