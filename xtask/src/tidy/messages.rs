//! The simulator names no control message outside its checkers and its hostile neighbour.
//!
//! The world carries bytes and calls machines; once it knew messages, protocol logic would grow in it. Only a checker
//! may look inside, to say what went wrong, and one file makes messages: it says what no machine would.
//! Called by `tidy`.
//! Invariant: tests of the simulator are held to the same rule.

use crate::scan::words;
use crate::tree::{Finding, Tree};

const SIMULATOR: &str = "crates/sim/src/";
/// What says what no machine would.
const HOSTILE: &str = "hostile.rs";
/// The module of `levada-wire` that has the control messages.
const MODULE: &str = "control";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.rust {
        let Some(inside) = file.path.strip_prefix(SIMULATOR) else {
            continue;
        };
        if inside.starts_with("check") || inside == HOSTILE {
            continue;
        }
        for (number, line) in file.numbered() {
            if names_messages(&line.code) {
                let text = "the simulator names a control message; it carries bytes, only `check*` looks inside";
                findings.push(Finding::new(&file.path, number, text));
            }
        }
    }
    findings
}

/// `control::Message`, `levada_wire::control`, `use levada_wire::{control, ..}`.
fn names_messages(code: &str) -> bool {
    let path = code.match_indices("control::").any(|(at, _)| {
        !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
    });
    path || (code.contains("levada_wire::") && words(code).any(|word| word == MODULE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::tree;

    #[test]
    fn naming_a_message_in_the_world_is_found() {
        let source = "use levada_wire::control;\nuse levada_wire::{control, id};\nlet a = control::Message::Hello;\n";

        assert_eq!(
            check(&tree(&[("crates/sim/src/world.rs", source)])).len(),
            3
        );
    }

    #[test]
    fn checkers_other_crates_and_other_words_are_free() {
        let source = "use levada_wire::control;\n";
        let free = "// levada_wire::control\nlet control = flow_control::window();\n";
        let tree = tree(&[
            ("crates/sim/src/checker.rs", source),
            ("crates/sim/src/check/ledger.rs", source),
            ("crates/core/src/link.rs", source),
            ("crates/sim/src/world.rs", free),
        ]);

        assert_eq!(check(&tree), []);
    }
}
