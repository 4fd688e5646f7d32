//! One noun for one thing: a type whose name is a noun of the glossary is declared in one place.
//!
//! A table says which crate has the type of a noun, and the noun is free nowhere else: neither in another crate nor a
//! second time in its own. It grows: whoever gives a noun one meaning adds its line. It looks at what ships and at
//! tools, not at tests, and at structs, enums and traits, not at what a module's name qualifies (`flow::Table`).
//! Called by `tidy`.
//! Invariant: a noun that its crate does not declare is a finding, so no line outlives its type.

use crate::scan::words;
use crate::tree::{Finding, RustFile, Tree};

/// The nouns that have one meaning, by the type that bears it.
const NOUNS: &[&str] = &[
    "levada::ConnectionHandle",
    "levada::Datapath",
    "levada::Interest",
    "levada::QuicEvent",
    "levada::Relay",
    "levada::Subscriber",
    "levada::Watermark",
    "levada_bench::OriginLane",
    "levada_cli::AnyPublisher",
    "levada_cli::AnySubscriber",
    "levada_cli::Destination",
    "levada_cli::Player",
    "levada_core::Advertised",
    "levada_core::Alternative",
    "levada_core::Breaker",
    "levada_core::Freshness",
    "levada_core::Neighbour",
    "levada_core::Offer",
    "levada_core::OriginRoutes",
    "levada_core::PathSize",
    "levada_core::Peak",
    "levada_core::Pressure",
    "levada_core::Reachability",
    "levada_core::Route",
    "levada_core::Subscription",
    "levada_gateway::Decision",
    "levada_gateway::EncodedStream",
    "levada_gateway::Position",
    "levada_lane::ArrivalBaseline",
    "levada_lane::Backoff",
    "levada_lane::Cache",
    "levada_lane::DropReason",
    "levada_lane::Egress",
    "levada_lane::Lane",
    "levada_lane::Ledger",
    "levada_lane::ParityDecoder",
    "levada_lane::ParityEncoder",
    "levada_lane::Train",
    "levada_lane::Transmit",
    "levada_media::Demuxer",
    "levada_media::Muxer",
    "levada_media::Playout",
    "levada_media::Source",
    "levada_sim::Rng",
    "levada_sim::Scenario",
    "levada_wire::Accept",
    "levada_wire::Beacon",
    "levada_wire::Bitrate",
    "levada_wire::Cancel",
    "levada_wire::CarryKey",
    "levada_wire::CarrySecret",
    "levada_wire::Claim",
    "levada_wire::Collection",
    "levada_wire::Concern",
    "levada_wire::ContentSecret",
    "levada_wire::Description",
    "levada_wire::Distance",
    "levada_wire::Epoch",
    "levada_wire::FlowId",
    "levada_wire::Frame",
    "levada_wire::Handover",
    "levada_wire::Hello",
    "levada_wire::Identity",
    "levada_wire::InstanceId",
    "levada_wire::Instant",
    "levada_wire::Invite",
    "levada_wire::Layer",
    "levada_wire::LayerOffer",
    "levada_wire::LinkIndex",
    "levada_wire::LinkSeal",
    "levada_wire::MediaTime",
    "levada_wire::NetworkId",
    "levada_wire::NodeId",
    "levada_wire::NodePrefix",
    "levada_wire::Number",
    "levada_wire::Opener",
    "levada_wire::OriginTime",
    "levada_wire::PacketSize",
    "levada_wire::Refuse",
    "levada_wire::RepairBudget",
    "levada_wire::Rights",
    "levada_wire::Scope",
    "levada_wire::Sealer",
    "levada_wire::StreamName",
    "levada_wire::Ticket",
    "levada_wire::Track",
    "levada_wire::TrackId",
    "levada_wire::TrackKind",
    "levada_wire::WallTime",
];
const TABLE: &str = "xtask/src/tidy/nouns.rs";
const KEYWORDS: [&str; 4] = ["struct", "enum", "trait", "union"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    check_nouns(tree, NOUNS)
}

fn check_nouns(tree: &Tree, nouns: &[&str]) -> Vec<Finding> {
    let files = tree.rust.iter().filter(|file| !file.is_test());
    let declared: Vec<(&str, usize, &str)> = files.flat_map(declarations).collect();
    nouns
        .iter()
        .flat_map(|path| check_noun(tree, path, &declared))
        .collect()
}

fn check_noun(tree: &Tree, path: &str, declared: &[(&str, usize, &str)]) -> Vec<Finding> {
    let (name, noun) = path.split_once("::").unwrap_or((path, ""));
    let member = tree
        .members
        .iter()
        .find(|member| member.name.replace('-', "_") == name);
    let folder = member.map_or_else(String::new, |member| format!("{}/", member.dir));
    let named = declared.iter().filter(|(_, _, declared)| *declared == noun);
    let (own, others): (Vec<_>, Vec<_>) =
        named.partition(|(file, ..)| !folder.is_empty() && file.starts_with(&folder));
    if own.is_empty() {
        let text =
            format!("{name} declares no type `{noun}`: mend or strike the line of that noun");
        return vec![Finding::new(TABLE, 0, text)];
    }
    let second = own.iter().skip(1).chain(&others);
    second
        .map(|(file, line, _)| {
            let text = format!(
                "`{noun}` is the noun of `{path}` ({}:{}); give this one a noun of its own",
                own[0].0, own[0].1
            );
            Finding::new(file, *line, text)
        })
        .collect()
}

/// The types that a file declares outside of tests, as file, line and name.
fn declarations(file: &RustFile) -> impl Iterator<Item = (&str, usize, &str)> {
    let lines = file.numbered().filter(|(_, line)| !line.test);
    lines.flat_map(move |(number, line)| {
        let pairs = words(&line.code).zip(words(&line.code).skip(1));
        pairs
            .filter(|(keyword, _)| KEYWORDS.contains(keyword))
            .map(move |(_, name)| (file.path.as_str(), number, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{member, shown, tree};

    fn found(files: &[(&str, &str)], nouns: &[&str]) -> Vec<String> {
        let mut tree = tree(files);
        tree.members = vec![
            member("levada-wire", "crates/wire", &[]),
            member("levada-lane", "crates/lane", &[]),
        ];
        shown(&check_nouns(&tree, nouns))
    }

    #[test]
    fn a_noun_declared_once_and_where_the_table_says_passes() {
        let files = [
            (
                "crates/wire/src/frame.rs",
                "/// A frame.\npub struct Frame;\n",
            ),
            (
                "crates/lane/src/lane.rs",
                "struct Frames(Frame); // struct Frame\nlet a = \"struct Frame\";\n",
            ),
            ("crates/lane/src/tests.rs", "struct Frame;\n"),
            (
                "crates/lane/src/cut.rs",
                "#[cfg(test)]\nmod tests {\n    enum Frame {}\n}\n",
            ),
        ];

        assert_eq!(found(&files, &["levada_wire::Frame"]), [""; 0]);
    }

    #[test]
    fn a_second_type_of_the_noun_is_found_here_and_elsewhere() {
        let files = [
            ("crates/wire/src/frame.rs", "pub struct Frame;\n"),
            ("crates/wire/src/packet.rs", "\npub(crate) enum Frame {}\n"),
            ("crates/lane/src/lane.rs", "trait Frame {}\n"),
        ];

        let found = found(&files, &["levada_wire::Frame"]);

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("crates/wire/src/packet.rs:2: `Frame`"),
            "{found:?}"
        );
        assert!(
            found[1].contains("(crates/wire/src/frame.rs:1)"),
            "{found:?}"
        );
    }

    #[test]
    fn a_line_without_its_type_is_found() {
        let files = [("crates/lane/src/lane.rs", "pub struct Frame;\n")];

        for noun in ["levada_wire::Frame", "levada_gone::Frame"] {
            let found = found(&files, &[noun]);

            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(TABLE), "{found:?}");
        }
    }
}
