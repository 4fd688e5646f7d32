//! `cargo xtask web`: the page in `web/dist` is, byte for byte, what its sources and its lock file make.
//!
//! Needs Node.js with npm, and says so. Not the digest, which `tidy` looks at without. Called by `ci`. Invariant: it
//! builds into `target`, and changes nothing that is committed.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::{process, test, tree};

const DIST: &str = "web/dist";
const BUILT: &str = "target/web";

/// Builds the page anew and compares. True if it is the same.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    crate::refuse_unknown(arguments, &[])?;
    test::meet_needs()?;
    let root = tree::root()?;
    let npm = |arguments: &[&str]| {
        let mut command = Command::new("npm");
        command.args(arguments).current_dir(root.join("web"));
        process::succeeds(&mut command)
            .context("the page is built by Node.js 20 or later with npm: install them")
    };
    if !npm(&["ci", "--no-audit", "--no-fund"])? {
        return Ok(false);
    }
    let out = format!("../{BUILT}");
    if !npm(&["run", "build", "--", "--outDir", &out, "--emptyOutDir"])? {
        return Ok(false);
    }
    let (committed, built) = (files(&root.join(DIST))?, files(&root.join(BUILT))?);
    let is_same = committed == built;
    if !is_same {
        println!(
            "{DIST} is not what its sources make: `cd web && npm ci && npm run build`, and commit it"
        );
    }
    Ok(is_same)
}

/// Names and bytes, in the order of names.
fn files(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("{} is missing", folder.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name, std::fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}
