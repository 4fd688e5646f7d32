//! `cargo xtask tidy`: the rules of `docs/STYLE.md` that a program can check.
//!
//! Each check is one module with one function from the `Tree` to findings; none stops at its first finding.
//! What needs the compiler is clippy's and rustdoc's business, what needs judgement is the reviewer's.
//! Called by hand before a commit, and by `ci`.
//! Invariant: `--bless` writes only what a person need not decide: fingerprints, and counts that fell.

mod circles;
mod code_map;
mod dependencies;
mod functions;
mod heads;
mod leftovers;
mod lengths;
mod limits;
mod links;
mod markdown;
mod messages;
mod nouns;
mod ratchet;
mod repeats;
mod spec;
mod unsafety;
mod web;
mod widths;
mod wire;

use std::fs;

use anyhow::Context as _;

use crate::tree::{self, Finding, Tree};

/// Runs every check and prints what they found. True if nothing fails.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    crate::refuse_unknown(arguments, &["--bless"])?;
    let metadata = tree::metadata()?;
    let mut tree = Tree::read(&metadata)?;
    if arguments.iter().any(|argument| argument == "--bless") {
        bless(&tree)?;
        tree = Tree::read(&metadata)?;
    }
    let mut findings = check(&tree);
    findings.extend(dependencies::check_graph(&metadata));
    findings.sort();
    findings.dedup();
    report(&findings);
    Ok(findings.iter().all(|found| found.warning))
}

/// All checks that need the tree only.
fn check(tree: &Tree) -> Vec<Finding> {
    let checks = [
        circles::check,
        code_map::check,
        dependencies::check,
        heads::check,
        leftovers::check,
        lengths::check,
        limits::check,
        links::check,
        messages::check,
        nouns::check,
        spec::check,
        unsafety::check,
        repeats::check,
        web::check,
        widths::check,
        wire::check,
    ];
    checks.iter().flat_map(|check| check(tree)).collect()
}

fn report(findings: &[Finding]) {
    for found in findings {
        let line = if found.line == 0 { 1 } else { found.line };
        let warning = if found.warning { "warning: " } else { "" };
        println!("{}:{line}: {warning}{}", found.path, found.text);
    }
    let warnings = findings.iter().filter(|found| found.warning).count();
    println!(
        "tidy: {} to mend, {warnings} warnings",
        findings.len() - warnings
    );
}

/// Brings the fingerprints of the wire and the ratchet up to date.
fn bless(tree: &Tree) -> anyhow::Result<()> {
    let root = tree::root()?;
    let blessed = [
        (wire::DOCUMENT, wire::bless(tree)),
        (
            ratchet::FILE,
            ratchet::bless(tree, &lengths::over_limit(tree)),
        ),
    ];
    for (path, text) in blessed {
        let Some(text) = text else { continue };
        if tree.text(path) != Some(text.as_str()) {
            fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))?;
            println!("tidy: wrote {path}");
        }
    }
    Ok(())
}
