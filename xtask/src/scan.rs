//! Splits Rust source into code, literals and comments, line by line.
//!
//! It is not a parser: it knows strings, characters, comments and brackets, and nothing of the grammar.
//! That is enough for every check of `tidy` and costs no dependency.
//! Called by `tree` once per file; the checks read the lines.
//! Invariant: one `Line` per line of the file, in order; no letter of a comment or literal is ever in `code`.

/// One line of a Rust file, taken apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Code without comments; literals are there, but empty (`""`).
    pub(crate) code: String,
    /// Code without comments; literals are whole.
    pub(crate) text: String,
    /// The comments of this line, with their slashes.
    pub(crate) comment: String,
    /// Whether the line belongs to an item under `#[cfg(test)]`.
    pub(crate) test: bool,
}

impl Line {
    /// Whether the line holds code or a part of a literal.
    pub(crate) fn is_code(&self) -> bool {
        !self.text.trim().is_empty()
    }
}

/// Takes a Rust file apart.
pub(crate) fn scan(source: &str) -> Vec<Line> {
    let mut scanner = Scanner {
        letters: source.chars().collect(),
        at: 0,
        state: State::Code,
        line: Line::default(),
        lines: Vec::new(),
    };
    scanner.run();
    let mut lines = scanner.lines;
    mark_tests(&mut lines);
    lines
}

/// The identifiers, keywords and numbers of a line of code.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .filter(|word| !word.is_empty())
}

#[derive(Clone, Copy)]
enum State {
    Code,
    LineComment,
    BlockComment { depth: u32 },
    Str,
    RawStr { hashes: usize },
}

struct Scanner {
    letters: Vec<char>,
    at: usize,
    state: State,
    line: Line,
    lines: Vec<Line>,
}

impl Scanner {
    fn run(&mut self) {
        while let Some(letter) = self.peek(0) {
            if letter == '\n' {
                self.end_line();
                continue;
            }
            match self.state {
                State::Code => self.on_code(letter),
                State::LineComment => self.take_comment(1),
                State::BlockComment { depth } => self.on_block_comment(depth),
                State::Str => self.on_str(letter),
                State::RawStr { hashes } => self.on_raw_str(letter, hashes),
            }
        }
        if self.line != Line::default() {
            self.end_line();
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn end_line(&mut self) {
        if matches!(self.state, State::LineComment) {
            self.state = State::Code;
        }
        self.lines.push(std::mem::take(&mut self.line));
        self.at += 1;
    }

    fn take_code(&mut self, count: usize) {
        let end = (self.at + count).min(self.letters.len());
        for letter in &self.letters[self.at..end] {
            self.line.code.push(*letter);
            self.line.text.push(*letter);
        }
        self.at = end;
    }

    fn take_literal(&mut self, count: usize) {
        let end = (self.at + count).min(self.letters.len());
        self.line.text.extend(&self.letters[self.at..end]);
        self.at = end;
    }

    fn take_comment(&mut self, count: usize) {
        let end = (self.at + count).min(self.letters.len());
        self.line.comment.extend(&self.letters[self.at..end]);
        self.at = end;
    }

    fn on_code(&mut self, letter: char) {
        match (letter, self.peek(1)) {
            ('/', Some('/')) => {
                self.state = State::LineComment;
                self.take_comment(2);
            }
            ('/', Some('*')) => {
                self.state = State::BlockComment { depth: 1 };
                self.take_comment(2);
            }
            ('"', _) => {
                self.state = State::Str;
                self.take_code(1);
            }
            ('r', Some('"' | '#')) if self.starts_raw() => {
                let hashes = self.hashes(1);
                self.state = State::RawStr { hashes };
                self.take_code(hashes + 2);
            }
            ('\'', _) => self.on_quote(),
            _ => self.take_code(1),
        }
    }

    /// Whether the `r` here opens a raw string: `r"`, `r#"`, `br"`, but not `r#fn` and not the end of `var`.
    fn starts_raw(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).map(|at| self.letters[at]);
        let is_word =
            |letter: Option<char>| letter.is_some_and(|l| l.is_alphanumeric() || l == '_');
        let prefix = matches!(before(1), Some('b' | 'c'));
        let inside_word = is_word(before(if prefix { 2 } else { 1 }));
        !inside_word && self.peek(1 + self.hashes(1)) == Some('"')
    }

    fn hashes(&self, from: usize) -> usize {
        (from..)
            .take_while(|ahead| self.peek(*ahead) == Some('#'))
            .count()
    }

    /// A quote opens a character (`'a'`, `'\n'`) or names a lifetime (`'a`).
    fn on_quote(&mut self) {
        let end = match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                (3..).find(|ahead| matches!(self.peek(*ahead), Some('\'' | '\n') | None))
            }
            (Some(_), Some('\'')) => Some(2),
            _ => None,
        };
        self.take_code(1);
        if let Some(end) = end {
            self.take_literal(end - 1);
            self.take_code(1);
        }
    }

    fn on_str(&mut self, letter: char) {
        match letter {
            '\\' if self.peek(1) != Some('\n') => self.take_literal(2),
            '"' => {
                self.state = State::Code;
                self.take_code(1);
            }
            _ => self.take_literal(1),
        }
    }

    fn on_raw_str(&mut self, letter: char, hashes: usize) {
        if letter == '"' && self.hashes(1) >= hashes {
            self.state = State::Code;
            self.take_code(hashes + 1);
        } else {
            self.take_literal(1);
        }
    }

    fn on_block_comment(&mut self, depth: u32) {
        match (self.peek(0), self.peek(1)) {
            (Some('*'), Some('/')) => {
                self.state = match depth {
                    1 => State::Code,
                    _ => State::BlockComment { depth: depth - 1 },
                };
                self.take_comment(2);
            }
            (Some('/'), Some('*')) => {
                self.state = State::BlockComment { depth: depth + 1 };
                self.take_comment(2);
            }
            _ => self.take_comment(1),
        }
    }
}

/// Marks the lines of every item under `#[cfg(test)]`, or all lines if the file says `#![cfg(test)]`.
fn mark_tests(lines: &mut [Line]) {
    let whole_file = lines
        .iter()
        .any(|line| line.code.trim_start().starts_with("#![cfg(test)]"));
    let mut index = 0;
    while index < lines.len() {
        let code = lines[index].code.trim_start();
        let opens = code.starts_with("#[cfg(test)]") || code.starts_with("#[cfg(all(test");
        let end = if opens { item_end(lines, index) } else { index };
        for line in &mut lines[index..=end] {
            line.test = opens || whole_file;
        }
        index = end + 1;
    }
}

/// The last line of the item that starts at line `start`: where its braces close, or at its semicolon.
fn item_end(lines: &[Line], start: usize) -> usize {
    let mut depth = 0_i32;
    for (index, line) in lines.iter().enumerate().skip(start) {
        for letter in line.code.chars() {
            match letter {
                '{' | '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        return index;
                    }
                }
                ';' if depth == 0 => return index,
                _ => {}
            }
        }
    }
    lines.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> Vec<String> {
        scan(source).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn comments_and_literals_leave_no_letter_in_the_code() {
        let source = "let a = \"unsafe // no\"; // unsafe\nlet b = 'x'; /* a /* b */ c */ let c = br#\"un\"safe\"#;\n";

        assert_eq!(
            code(source),
            ["let a = \"\"; ", "let b = '';  let c = br#\"\"#;"]
        );
    }

    #[test]
    fn lifetimes_and_escaped_characters_are_told_apart() {
        let source = "fn f<'a>(x: &'a str) { g('\\'', '\"', '\\u{1F}') } // c";

        assert_eq!(code(source), ["fn f<'a>(x: &'a str) { g('', '', '') } "]);
    }

    #[test]
    fn a_string_over_two_lines_is_literal_on_both() {
        let lines = scan("let a = \"one \\\n  fn two\"; b\nc");

        assert_eq!(lines[1].code, "\"; b");
        assert_eq!(lines[1].text, "  fn two\"; b");
        assert_eq!(lines[2].code, "c");
    }

    #[test]
    fn raw_identifiers_are_code() {
        assert_eq!(code("let r#fn = var\"\";"), ["let r#fn = var\"\";"]);
    }

    #[test]
    fn a_comment_keeps_its_text() {
        let lines = scan("x(); // spec: WIRE 4.2 a rule\n");

        assert_eq!(lines[0].comment, "// spec: WIRE 4.2 a rule");
    }

    #[test]
    fn lines_of_test_modules_are_marked_to_the_closing_brace() {
        let source = "a();\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nb();\n#[cfg(test)]\nmod more;\nc();";

        let marks: Vec<bool> = scan(source).iter().map(|line| line.test).collect();

        assert_eq!(
            marks,
            [false, true, true, true, true, false, true, true, false]
        );
    }

    #[test]
    fn words_split_at_everything_that_is_no_identifier() {
        let found: Vec<&str> = words("pub unsafe fn unsafe_code(&self)").collect();

        assert_eq!(found, ["pub", "unsafe", "fn", "unsafe_code", "self"]);
    }
}
