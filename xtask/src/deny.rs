//! `cargo xtask deny`: licences, banned crates and sources of everything we link, as `deny.toml` says.
//!
//! `cargo-deny` does the work. Where it is not installed, it is built once into `target/tools`, a fixed version, and
//! nothing outside the repository changes. The advisory database is not asked: it needs the network on every run.
//! Called by hand and by `ci`.
//! Invariant: a machine where cargo-deny cannot be had fails this step; it never passes unchecked.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::{process, tree};

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";
const TOOL: &str = "cargo-deny";

/// Checks the dependencies. True if all are allowed.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    crate::refuse_unknown(arguments, &[])?;
    let tool = match process::find(TOOL) {
        Some(tool) => tool,
        None => own()?,
    };
    process::succeeds(
        Command::new(tool)
            .args(["check", "licenses", "bans", "sources"])
            .current_dir(tree::root()?),
    )
}

/// The cargo-deny of this repository, built if it is not there yet.
fn own() -> anyhow::Result<PathBuf> {
    let folder = tree::metadata()?.target_directory.join("tools");
    let tool = folder
        .join("bin")
        .join(TOOL)
        .with_extension(std::env::consts::EXE_EXTENSION);
    if !tool.is_file() {
        println!("{TOOL} is not installed; building it once, which takes some minutes");
        let mut install = process::cargo();
        install.args([
            "install",
            TOOL,
            "--locked",
            "--version",
            VERSION,
            "--root",
            folder.as_str(),
        ]);
        let installed = process::succeeds(&mut install)?;
        anyhow::ensure!(
            installed,
            "could not install {TOOL}; run `cargo install {TOOL} --locked` where there is a network"
        );
    }
    tool.is_file()
        .then(|| tool.into())
        .context("cargo install left no cargo-deny")
}
