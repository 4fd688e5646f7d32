//! Which crate may use which (the picture in `ARCHITECTURE.md`, as a table).
//!
//! Two rules: what a crate of ours may use of ours, and what the pure crates may not use from outside. The second looks
//! at the whole graph of normal dependencies, except for libc: a random generator or a cryptographic library may carry
//! it deep inside, so libc is banned as a direct dependency only.
//! Called by `tidy`.
//! Invariant: a crate that the table does not know is a finding, so the table is never out of date.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, PackageId};

use crate::tree::{Finding, Member, Tree};

/// What each crate may use of ours. `cli` stands on top: nothing may use it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("levada-heap", &[]),
    ("levada-wire", &[]),
    ("levada-core", &["levada-wire"]),
    ("levada-lane", &["levada-wire"]),
    ("levada-ports", &["levada-lane", "levada-wire"]),
    (
        "levada",
        &["levada-core", "levada-lane", "levada-ports", "levada-wire"],
    ),
    ("levada-media", &["levada-wire"]),
    (
        "levada-bench",
        &[
            "levada",
            "levada-core",
            "levada-gateway",
            "levada-gateway-rtsp",
            "levada-lane",
            "levada-ports",
            "levada-wire",
        ],
    ),
    ("levada-gateway", &["levada", "levada-media", "levada-wire"]),
    ("levada-sim", &["levada-core", "levada-lane", "levada-wire"]),
    (
        "levada-lab",
        &[
            "levada",
            "levada-bench",
            "levada-lane",
            "levada-media",
            "levada-ports",
            "levada-sim",
            "levada-wire",
        ],
    ),
    ("levada-api", &["levada", "levada-gateway"]),
    (
        "levada-cli",
        &[
            "levada",
            "levada-api",
            "levada-bench",
            "levada-gateway",
            "levada-lane",
            "levada-media",
            "levada-ports",
            "levada-sim",
            "levada-wire",
        ],
    ),
    (
        "levada-fuzz",
        &[
            "levada",
            "levada-core",
            "levada-gateway-http",
            "levada-gateway-rtsp",
            "levada-lane",
            "levada-media",
            "levada-ports",
            "levada-wire",
        ],
    ),
    ("xtask", &[]),
];
/// A gateway speaks to `Publisher` and `Subscriber`; it never sees a hub.
const GATEWAY: &str = "levada-gateway-";
const GATEWAY_MAY_USE: &[&str] = &[
    "levada",
    "levada-gateway",
    "levada-media",
    "levada-ports",
    "levada-wire",
];
/// The tests of any crate may use the laboratory, and count what is allocated.
const FOR_TESTS: [&str; 2] = ["levada-heap", "levada-lab"];

/// Crates without I/O, and what they may not use.
const PURE: &[&str] = &["levada-core", "levada-lane", "levada-sim", "levada-wire"];
const BANNED: &[&str] = &[
    "async-std",
    "mio",
    "nix",
    "quinn",
    "quinn-proto",
    "quinn-udp",
    "rustix",
    "socket2",
    "tokio",
];
const BANNED_DIRECTLY: &str = "libc";

/// What members ask for by name.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.members
        .iter()
        .flat_map(|member| check_member(tree, member))
        .collect()
}

fn check_member(tree: &Tree, member: &Member) -> Vec<Finding> {
    let manifest = format!("{}/Cargo.toml", member.dir);
    let gateways: Vec<&str> = tree
        .members
        .iter()
        .map(|m| m.name.as_str())
        .filter(|name| name.starts_with(GATEWAY))
        .collect();
    let Some(mut allowed) = may_use(&member.name) else {
        let text = format!(
            "`{}` has no line in MAY_USE; say there what it may use",
            member.name
        );
        return vec![Finding::new(&manifest, 0, text)];
    };
    if member.name == "levada-cli" {
        allowed.extend(gateways);
    }
    let mut findings = Vec::new();
    for dependency in &member.dependencies {
        let name = dependency.name.as_str();
        let ours = tree.members.iter().any(|known| known.name == name);
        let for_tests = dependency.dev && FOR_TESTS.contains(&name);
        if ours && !for_tests && !allowed.contains(&name) {
            let list = if allowed.is_empty() {
                "nothing of ours".to_owned()
            } else {
                allowed.join(", ")
            };
            let text = format!(
                "`{}` may not use `{name}`, only {list}; see ARCHITECTURE.md",
                member.name
            );
            findings.push(Finding::new(&manifest, 0, text));
        }
        if PURE.contains(&member.name.as_str())
            && (name == BANNED_DIRECTLY || BANNED.contains(&name))
        {
            let text = format!(
                "`{}` does no I/O and may not use `{name}`; make it an input or output",
                member.name
            );
            findings.push(Finding::new(&manifest, 0, text));
        }
    }
    findings
}

fn may_use(name: &str) -> Option<Vec<&'static str>> {
    if name.starts_with(GATEWAY) {
        return Some(GATEWAY_MAY_USE.to_vec());
    }
    MAY_USE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, allowed)| allowed.to_vec())
}

/// What pure crates reach through others.
pub(crate) fn check_graph(metadata: &Metadata) -> Vec<Finding> {
    let Some(resolve) = &metadata.resolve else {
        return Vec::new();
    };
    let name = |id: &PackageId| metadata[id].name.to_string();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in &resolve.nodes {
        let normal = node.deps.iter().filter(|dependency| {
            dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        });
        graph
            .entry(name(&node.id))
            .or_default()
            .extend(normal.map(|dependency| name(&dependency.pkg)));
    }
    PURE.iter().flat_map(|c| reached(&graph, c)).collect()
}

fn reached(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Vec<Finding> {
    let mut paths = vec![vec![start]];
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    while let Some(path) = paths.pop() {
        let Some(last) = path.last() else { continue };
        for next in graph.get(*last).into_iter().flatten() {
            let mut longer = path.clone();
            longer.push(next);
            if BANNED.contains(&next.as_str()) && longer.len() > 2 {
                let text = format!(
                    "`{start}` does no I/O but reaches `{next}` ({})",
                    longer.join(" -> ")
                );
                findings.push(Finding::new("Cargo.lock", 0, text));
            } else if seen.insert(next) {
                paths.push(longer);
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{member, shown};

    fn tree(members: Vec<Member>) -> Tree {
        Tree {
            members,
            ..Tree::default()
        }
    }

    #[test]
    fn the_layers_as_designed_pass() {
        let tree = tree(vec![
            member("levada-wire", "crates/wire", &["ring", "bytes"]),
            member("levada-core", "crates/core", &["levada-wire"]),
            member("levada-heap", "crates/heap", &[]),
            member(
                "levada-lane",
                "crates/lane",
                &["levada-wire", "dev:levada-heap"],
            ),
            member(
                "levada-ports",
                "crates/ports",
                &["levada-lane", "levada-wire", "libc", "mio"],
            ),
            member(
                "levada",
                "crates/node",
                &["levada-core", "levada-ports", "tokio"],
            ),
            member(
                "levada-gateway-rtsp",
                "crates/gateway-rtsp",
                &["levada", "dev:levada-lab"],
            ),
            member(
                "levada-cli",
                "crates/cli",
                &["levada", "levada-gateway-rtsp"],
            ),
            member("levada-lab", "crates/lab", &[]),
        ]);

        assert_eq!(check(&tree), []);
    }

    #[test]
    fn arrows_that_point_the_wrong_way_are_found() {
        let tree = tree(vec![
            member("levada-core", "crates/core", &["levada-lane"]),
            member("levada-lane", "crates/lane", &["dev:levada-core"]),
            member(
                "levada-gateway-rtsp",
                "crates/gateway-rtsp",
                &["levada-core"],
            ),
            member(
                "levada",
                "crates/node",
                &["levada-media", "levada-gateway-rtsp"],
            ),
            member("levada-media", "crates/media", &[]),
        ]);

        let findings = shown(&check(&tree));

        assert_eq!(findings.len(), 5, "{findings:?}");
    }

    #[test]
    fn a_pure_crate_that_asks_for_a_socket_or_libc_is_found() {
        let tree = tree(vec![
            member(
                "levada-core",
                "crates/core",
                &["tokio", "libc", "dev:socket2"],
            ),
            member("levada-ports", "crates/ports", &["socket2"]),
        ]);

        let findings = check(&tree);

        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(
            findings
                .iter()
                .all(|found| found.path == "crates/core/Cargo.toml")
        );
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_found() {
        assert!(
            check(&tree(vec![member("levada-new", "crates/new", &[])]))[0]
                .text
                .contains("MAY_USE")
        );
    }

    #[test]
    fn what_is_reached_through_another_crate_is_found_with_its_path() {
        let edges = [
            ("levada-core", "helper"),
            ("helper", "tokio"),
            ("helper", "libc"),
        ];
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            graph
                .entry(from.to_owned())
                .or_default()
                .insert(to.to_owned());
        }

        let findings = shown(&reached(&graph, "levada-core"));

        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0].contains("levada-core -> helper -> tokio"),
            "{findings:?}"
        );
    }
}
