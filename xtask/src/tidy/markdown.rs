//! Headings, anchors, sections and fences of Markdown, as far as the checks need them.
//!
//! It is not a Markdown parser: it knows `#` headings, fenced code and inline code.
//! Used by `code_map`, `links`, `spec` and `wire`.
//! Invariant: nothing inside a code fence is ever a heading or prose.

use std::collections::BTreeMap;

/// A heading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heading<'a> {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) level: usize,
    pub(crate) text: &'a str,
}

/// The lines outside code fences, with their numbers.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let trimmed = line.trim_start();
        let marker = ["```", "~~~"]
            .into_iter()
            .find(|marker| trimmed.starts_with(marker));
        match (fence, marker) {
            (None, None) => return Some((index + 1, line)),
            (None, Some(_)) => fence = marker,
            (Some(open), Some(close)) if open == close => fence = None,
            _ => {}
        }
        None
    })
}

/// All headings.
pub(crate) fn headings(text: &str) -> Vec<Heading<'_>> {
    let heading = |(line, content): (usize, &'_ str)| -> Option<(usize, usize)> {
        let level = content.chars().take_while(|letter| *letter == '#').count();
        ((1..=6).contains(&level) && content[level..].starts_with(' ')).then_some((line, level))
    };
    let found: Vec<(usize, usize)> = prose(text).filter_map(heading).collect();
    let lines: Vec<&str> = text.lines().collect();
    found
        .into_iter()
        .map(|(line, level)| Heading {
            line,
            level,
            text: lines[line - 1][level..].trim(),
        })
        .collect()
}

/// The lines, from 1, of the section under the heading `title` of level 2; the heading's own line is not in it.
pub(crate) fn section(text: &str, title: &str) -> Option<std::ops::Range<usize>> {
    let headings = headings(text);
    let at = headings
        .iter()
        .position(|heading| heading.level == 2 && heading.text == title)?;
    let end = headings[at + 1..]
        .iter()
        .find(|heading| heading.level <= 2)
        .map(|next| next.line);
    Some(headings[at].line + 1..end.unwrap_or_else(|| text.lines().count() + 1))
}

/// The number at the start of each heading: `4.2` of `### 4.2 Carry tag`.
pub(crate) fn section_numbers(text: &str) -> Vec<String> {
    let numbers = headings(text).into_iter().filter_map(|heading| {
        let first = heading
            .text
            .trim_start_matches('§')
            .split_whitespace()
            .next()?;
        let number = first.trim_end_matches(['.', ':']);
        number.split('.').all(is_number).then(|| number.to_owned())
    });
    numbers.collect()
}

/// Whether this is a part of a section number.
pub(crate) fn is_number(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|letter| letter.is_ascii_digit())
}

/// The anchors that a heading link may name, made as the usual renderers make them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = Vec::new();
    for heading in headings(text) {
        let slug = slug(heading.text);
        let count = seen.entry(slug.clone()).or_default();
        anchors.push(if *count == 0 {
            slug
        } else {
            format!("{slug}-{count}")
        });
        *count += 1;
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.flat_map(char::to_lowercase)
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

/// The contents of the inline code of a line.
pub(crate) fn inline_code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The line with its inline code blanked.
pub(crate) fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# Top\n\n```text\n# not one\n```\n## 4. The `packet`\nbody\n### 4.2 Tag\n## Code map\n";

    #[test]
    fn headings_in_fences_are_none() {
        let found: Vec<(usize, &str)> = headings(TEXT).iter().map(|h| (h.line, h.text)).collect();

        assert_eq!(
            found,
            [
                (1, "Top"),
                (6, "4. The `packet`"),
                (8, "4.2 Tag"),
                (9, "Code map")
            ]
        );
    }

    #[test]
    fn a_section_ends_at_the_next_heading_of_its_level() {
        assert_eq!(section(TEXT, "4. The `packet`"), Some(7..9));
        assert_eq!(section(TEXT, "Code map"), Some(10..10));
        assert_eq!(section(TEXT, "Nothing"), None);
    }

    #[test]
    fn section_numbers_are_read_with_and_without_a_dot() {
        assert_eq!(section_numbers(TEXT), ["4", "4.2"]);
    }

    #[test]
    fn anchors_are_lower_case_without_signs_and_counted_when_repeated() {
        assert_eq!(
            anchors("# Life of a packet\n# S3: State, machine!\n# Same\n# Same\n"),
            ["life-of-a-packet", "s3-state-machine", "same", "same-1"]
        );
    }

    #[test]
    fn inline_code_is_found_and_blanked() {
        let line = "see `a.rs` and [b](c) in `d`";

        assert_eq!(inline_code(line).collect::<Vec<_>>(), ["a.rs", "d"]);
        assert_eq!(without_code(line), "see `` and [b](c) in ``");
    }
}
