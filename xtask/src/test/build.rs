//! Has cargo build the tests and the `levada` binary, and learns where they lie.
//!
//! It runs nothing of what it built. A crate that does not build does not keep the others from being tested.
//! Called by `test` and `seeds`.
//! Invariant: each test binary gets the folder and the variables that `cargo test` would give it.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use cargo_metadata::{Artifact, Message, Metadata};

use crate::process::{self, shown};
use crate::tree;

/// The package with the binary that the laboratory starts, and the binary's name.
const PACKAGE: &str = "levada-cli";
const BINARY: &str = "levada";

/// A test program, ready to run.
#[derive(Debug)]
pub(crate) struct TestBinary {
    /// `levada-wire lib`, `levada-lab test:three_nodes`.
    pub(crate) name: String,
    pub(crate) package: String,
    pub(crate) executable: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

/// All test programs that could be built.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) binaries: Vec<TestBinary>,
    /// Whether everything could be built.
    pub(crate) complete: bool,
}

/// Builds `levada` with optimisation and says where it lies.
pub(crate) fn release_binary() -> anyhow::Result<PathBuf> {
    let (artifacts, complete) = artifacts(&["build", "--release", "--package", PACKAGE])?;
    anyhow::ensure!(complete, "`{BINARY}` does not build, see above");
    let binary = artifacts
        .into_iter()
        .find(|artifact| artifact.target.is_bin() && artifact.target.name == BINARY);
    let executable = binary.and_then(|artifact| artifact.executable);
    executable
        .map(Into::into)
        .with_context(|| format!("`{PACKAGE}` has no binary `{BINARY}`"))
}

/// The `levada` that was built beside the tests, without optimisation.
pub(crate) fn debug_binary(tests: &[TestBinary]) -> anyhow::Result<PathBuf> {
    let name = format!("CARGO_BIN_EXE_{BINARY}");
    let mut variables = tests.iter().flat_map(|test| &test.environment);
    variables
        .find(|(variable, _)| *variable == name)
        .map(|(_, path)| path.into())
        .with_context(|| format!("`{PACKAGE}` has no tests, so `{BINARY}` is not built for them"))
}

/// Builds every test of the workspace, with the binaries that integration tests start.
pub(crate) fn tests() -> anyhow::Result<Built> {
    let metadata = tree::metadata()?;
    let (artifacts, complete) = artifacts(&["build", "--workspace", "--tests", "--keep-going"])?;
    let tests = artifacts.iter().filter(|artifact| artifact.profile.test);
    let binaries = tests
        .filter_map(|artifact| test_binary(&metadata, artifact, &artifacts))
        .collect();
    Ok(Built { binaries, complete })
}

fn test_binary(metadata: &Metadata, artifact: &Artifact, all: &[Artifact]) -> Option<TestBinary> {
    let executable = artifact.executable.clone()?;
    let package = &metadata[&artifact.package_id];
    let kind = if artifact.target.is_lib() {
        "lib".to_owned()
    } else if artifact.target.is_bin() {
        format!("bin:{}", artifact.target.name)
    } else {
        format!("test:{}", artifact.target.name)
    };
    let directory: PathBuf = package.manifest_path.parent()?.into();
    let mut environment = vec![
        (
            "CARGO_MANIFEST_DIR".to_owned(),
            directory.to_string_lossy().into_owned(),
        ),
        ("CARGO_PKG_NAME".to_owned(), package.name.to_string()),
        ("CARGO_PKG_VERSION".to_owned(), package.version.to_string()),
    ];
    let siblings = all
        .iter()
        .filter(|other| other.package_id == artifact.package_id && !other.profile.test);
    environment.extend(siblings.filter_map(|other| {
        let executable = other.executable.as_ref()?;
        Some((
            format!("CARGO_BIN_EXE_{}", other.target.name),
            executable.to_string(),
        ))
    }));
    Some(TestBinary {
        name: format!("{} {kind}", package.name),
        package: package.name.to_string(),
        executable: executable.into(),
        directory,
        environment,
    })
}

/// Runs a cargo command and collects what it built; cargo's own messages go to the terminal.
fn artifacts(arguments: &[&str]) -> anyhow::Result<(Vec<Artifact>, bool)> {
    let mut command: Command = process::cargo();
    command
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    println!("$ {}", shown(&command));
    let mut child = command.spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("standard output is piped")?;
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) =
            message.context("cannot read cargo's messages")?
        {
            artifacts.push(artifact);
        }
    }
    Ok((
        artifacts,
        child.wait().context("cannot wait for cargo")?.success(),
    ))
}
