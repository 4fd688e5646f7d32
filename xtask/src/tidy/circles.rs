//! No circle of imports between the files of a pure crate.
//!
//! Files that import each other in a circle are one file with many names: none can be read, moved or tested without
//! the others. The way out is a file that both need and that needs neither. A parent and its child are a circle too:
//! what children need of a parent (constants, small types) goes into a file beside them, and a parent that only lists
//! and re-exports is free. What counts as an import is said in `imports`.
//! Called by `tidy`.
//! Invariant: one finding for each knot of files, with one of its shortest circles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::imports::{Import, imports};
use crate::tree::{Finding, Tree};

/// The crates that are held to it.
const HELD: [&str; 3] = ["crates/wire/src/", "crates/core/src/", "crates/lane/src/"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    HELD.iter()
        .flat_map(|folder| check_crate(tree, folder))
        .collect()
}

fn check_crate(tree: &Tree, folder: &str) -> Vec<Finding> {
    let imports = imports(tree, folder);
    let graph = Graph::new(&imports);
    let knots: BTreeSet<BTreeSet<&str>> = graph
        .0
        .keys()
        .map(|file| graph.knot(file))
        .filter(|knot| knot.len() > 1)
        .collect();
    let shortest = |knot: &BTreeSet<&str>| {
        let circles = knot.iter().filter_map(|file| graph.circle(file));
        circles.min_by_key(Vec::len)
    };
    knots
        .iter()
        .filter_map(|knot| Some(finding(folder, knot.len(), &shortest(knot)?)))
        .collect()
}

fn finding(folder: &str, tied: usize, circle: &[&Import]) -> Finding {
    let short = |path: &str| path.trim_start_matches(folder).to_owned();
    let steps: Vec<String> = circle
        .iter()
        .map(
            |Import {
                 from,
                 to,
                 line,
                 path,
             }| { format!("{}:{line} imports `{path}` of {}", short(from), short(to)) },
        )
        .collect();
    let text = format!(
        "{tied} files import each other in a circle: {}; move what both need into a file that needs neither",
        steps.join(", ")
    );
    Finding::new(&circle[0].from, circle[0].line, text)
}

/// The imports by the file that makes them.
struct Graph<'a>(BTreeMap<&'a str, Vec<&'a Import>>);

impl<'a> Graph<'a> {
    fn new(imports: &'a [Import]) -> Self {
        let mut graph: BTreeMap<&str, Vec<&Import>> = BTreeMap::new();
        for import in imports {
            graph.entry(&import.from).or_default().push(import);
        }
        Self(graph)
    }

    /// The files that `start` reaches and that reach it, with itself.
    fn knot(&self, start: &'a str) -> BTreeSet<&'a str> {
        let reached = self.reached(start);
        let back = |file: &&str| *file == start || self.reached(file).contains(start);
        reached.into_iter().filter(back).collect()
    }

    fn reached(&self, start: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            let next = self.0.get(file).into_iter().flatten();
            open.extend(
                next.map(|import| import.to.as_str())
                    .filter(|to| reached.insert(to)),
            );
        }
        reached
    }

    /// A shortest way from `start` back to itself.
    fn circle(&self, start: &str) -> Option<Vec<&'a Import>> {
        let mut ways: VecDeque<Vec<&Import>> = VecDeque::from([Vec::new()]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let at = way.last().map_or(start, |import| import.to.as_str());
            for import in self.0.get(at).into_iter().flatten() {
                let mut longer = way.clone();
                longer.push(import);
                if import.to == start {
                    return Some(longer);
                }
                if seen.insert(import.to.as_str()) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<(String, &str)> = files
            .iter()
            .map(|(name, source)| (format!("crates/lane/src/{name}"), *source))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, source)| (path.as_str(), *source))
            .collect();
        shown(&check_crate(&tree(&files), "crates/lane/src/"))
    }

    #[test]
    fn two_files_that_import_each_other_are_found_with_their_lines() {
        let found = found(&[
            ("lib.rs", "mod flow;\nmod link;\n"),
            ("flow.rs", "use crate::link::Link;\nstruct Flow(Link);\n"),
            (
                "link.rs",
                "\nstruct Link;\nfn of(flow: &crate::flow::Flow) {}\n",
            ),
        ]);

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("crates/lane/src/flow.rs:1: 2 files"),
            "{found:?}"
        );
        assert!(
            found[0].contains("flow.rs:1 imports `crate::link::Link` of link.rs"),
            "{found:?}"
        );
        assert!(
            found[0].contains("link.rs:3 imports `crate::flow::Flow` of flow.rs"),
            "{found:?}"
        );
    }

    #[test]
    fn a_chain_passes_and_closing_it_makes_one_circle_of_three() {
        let roots = ("lib.rs", "mod a;\nmod b;\nmod c;\n");
        let a = ("a.rs", "use crate::b::B;\nstruct A(B);\n");
        let b = ("b.rs", "use super::c;\nstruct B(c::C);\n");
        let open = ("c.rs", "struct C;\n");
        let closed = (
            "c.rs",
            "use crate::{b::{self}, a::A as First};\nstruct C(First);\n",
        );

        assert_eq!(found(&[roots, a, b, open]), [""; 0]);
        let found = found(&[roots, a, b, closed]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("3 files"), "{found:?}");
    }

    #[test]
    fn a_parent_that_lists_its_children_is_free_and_one_that_uses_them_is_not() {
        let root = ("lib.rs", "mod flow;\n");
        let child = (
            "flow/egress.rs",
            "use super::Limit;\npub struct Egress(Limit);\n",
        );
        let lists = "mod egress;\npub use egress::Egress;\npub struct Limit;\n";
        let uses =
            "mod egress;\npub use egress::Egress;\npub struct Limit;\nstruct Flow(Egress);\n";

        assert_eq!(found(&[root, ("flow.rs", lists), child]), [""; 0]);
        assert_eq!(found(&[root, ("flow.rs", uses), child]).len(), 1);
    }

    #[test]
    fn a_name_leads_through_re_exports_to_the_file_that_declares_it() {
        let root = ("lib.rs", "mod flow;\nmod link;\npub use flow::*;\n");
        let flow = (
            "flow.rs",
            "mod egress;\npub use self::egress::Egress as Child;\n",
        );
        let link = ("link.rs", "use crate::Child;\npub struct Link(Child);\n");
        let back = (
            "flow/egress.rs",
            "use crate::link::Link;\npub struct Egress(Link);\n",
        );

        let found = found(&[root, flow, link, back]);

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("`crate::Child` of flow/egress.rs"),
            "{found:?}"
        );
    }

    #[test]
    fn tests_comments_and_other_crates_make_no_circle() {
        let found = found(&[
            ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod kit;\n"),
            (
                "a.rs",
                "use crate::b::B;\nuse bytes::b;\nstruct A(B, b::A);\n",
            ),
            (
                "b.rs",
                "//! [`crate::a::A`]\nstruct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n",
            ),
            ("kit.rs", "use crate::a::A;\n"),
        ]);

        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn within_a_module_of_a_file_super_is_the_file_itself() {
        let found = found(&[
            ("lib.rs", "mod a;\npub struct Top(a::A);\n"),
            (
                "a.rs",
                "pub struct A;\nmod sealed {\n    use super::A;\n    impl Sealed for super::A {}\n}\n",
            ),
        ]);

        assert_eq!(found, [""; 0]);
    }
}
