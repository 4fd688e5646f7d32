//! Scenarios that are wrong are refused in words that help.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const GOOD: &str = r#"
about = "a test"
duration = "10s"
[[network]]
name = "a"
[[network]]
name = "b"
[[wan]]
between = ["a", "b"]
delay = "10ms"
[[node]]
name = "origin"
network = "a"
[[node]]
name = "player"
network = "b"
neighbours = ["origin"]
[[stream]]
name = "cam"
origin = "origin"
video = { frames_per_second = 10, bytes = 500, sync_every = 10, sync_bytes = 900 }
[[subscription]]
stream = "cam"
nodes = ["player"]
from = ["1s", "2s"]
"#;

fn error(text: &str) -> String {
    Scenario::parse("test.toml", text).unwrap_err().to_string()
}

#[test]
fn names_become_places() {
    let partition = "[[fault]]\nkind = \"partition\"\nnetwork = \"b\"\ndirection = \"in\"\nat = \"3s\"\nfor = \"1s\"\n";

    let scenario = Scenario::parse("test.toml", &format!("{GOOD}{partition}")).unwrap();

    assert_eq!(scenario.nodes[1].neighbours, [0]);
    assert_eq!(scenario.subscriptions[0].node, 1);
    assert_eq!(scenario.subscriptions[0].from.most, Duration::from_secs(2));
    let ways = vec![(0, Toward::Second)];
    assert_eq!(scenario.faults[0].kind, FaultKind::Down { ways });
}

#[test]
fn a_misspelt_key_is_refused_by_its_line() {
    let text = error(&GOOD.replace("neighbours", "neighbors"));

    assert!(text.starts_with("test.toml: "), "{text}");
    assert!(
        text.contains("unknown field `neighbors`") && text.contains("line"),
        "{text}"
    );
}

#[test]
fn a_misspelt_key_of_a_fault_is_refused() {
    let fault = "[[fault]]\nkind = \"pause\"\nnode = \"player\"\nat = \"3s\"\nfor = \"1s\"\nchanse = \"5%\"\n";

    let text = error(&format!("{GOOD}{fault}"));

    assert!(text.contains("chanse"), "{text}");
}

#[test]
fn a_name_that_is_not_there_is_named_with_those_that_are() {
    let wrong = [
        (
            GOOD.replace("nodes = [\"player\"]", "nodes = [\"plyer\"]"),
            "no node `plyer`, only origin, player",
        ),
        (
            GOOD.replace("between = [\"a\", \"b\"]", "between = [\"a\", \"c\"]"),
            "no network `c`, only a, b",
        ),
        (
            GOOD.replace("stream = \"cam\"", "stream = \"can\""),
            "no such stream, only cam",
        ),
        (
            GOOD.replace("neighbours = [\"origin\"]", "neighbours = [\"player\"]"),
            "its own neighbour",
        ),
        (
            GOOD.replace("name = \"player\"", "name = \"origin\""),
            "two nodes are named `origin`",
        ),
        (
            GOOD.replace("from = [\"1s\", \"2s\"]", "from = [\"3s\", \"2s\"]"),
            "must not be the longer one",
        ),
        (GOOD.replace("bytes = 500", "bytes = 5"), "frames have"),
        (GOOD.replace("10ms", "10 parsecs"), "no duration"),
    ];

    for (text, expected) in wrong {
        let text = error(&text);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn too_many_items_are_refused() {
    let nodes: String = (0..=ITEMS_MAX)
        .map(|n| format!("[[node]]\nname = \"n{n}\"\nnetwork = \"a\"\n"))
        .collect();

    assert!(error(&format!("{GOOD}{nodes}")).contains("the limit is 10000"));
}
