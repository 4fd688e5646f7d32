//! What the checks of `tidy` look at: the files of this repository and the members of its workspace.
//!
//! It reads and takes apart; it judges nothing. Tests build a `Tree` from strings, so no check touches the disk.
//! Built once by `tidy`, read by every check.
//! Invariant: paths are relative to the repository, with `/`, in sorted order; so are all findings made from them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::scan::{Line, scan};

/// Directories that hold nothing of ours.
const NOT_OURS: &[&str] = &["target", "node_modules"];
/// Hidden directories that are ours all the same.
const HIDDEN_BUT_OURS: &[&str] = &[".ci", ".cargo", ".github"];

/// The repository.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Every file.
    pub(crate) paths: Vec<String>,
    /// The Rust files, taken apart.
    pub(crate) rust: Vec<RustFile>,
    /// The Markdown and text files.
    pub(crate) texts: Vec<TextFile>,
    /// The crates of the workspace.
    pub(crate) members: Vec<Member>,
}

/// A Rust file.
#[derive(Debug)]
pub(crate) struct RustFile {
    pub(crate) path: String,
    pub(crate) source: String,
    pub(crate) lines: Vec<Line>,
}

impl RustFile {
    fn new(path: &str, source: &str) -> Self {
        Self {
            path: path.to_owned(),
            source: source.to_owned(),
            lines: scan(source),
        }
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        let path = format!("/{}", self.path);
        path.ends_with("/tests.rs")
            || path.ends_with("_tests.rs")
            || path.contains("/tests/")
            || path.contains("/benches/")
    }

    /// The lines with their numbers, from 1.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines
            .iter()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// A file of prose.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A crate of the workspace.
#[derive(Debug, Default, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// `crates/wire`.
    pub(crate) dir: String,
    /// Its `lib.rs` and `main.rs`, as cargo knows them.
    pub(crate) roots: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a member's manifest asks for by name.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only for tests, benches and examples.
    pub(crate) dev: bool,
}

/// Something a check found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// From 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// What is wrong, what to do.
    pub(crate) text: String,
    /// A warning is shown and fails nothing.
    pub(crate) warning: bool,
}

impl Finding {
    /// A finding that fails the check.
    pub(crate) fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            text: text.into(),
            warning: false,
        }
    }

    /// A finding that is only shown.
    pub(crate) fn warning(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            warning: true,
            ..Self::new(path, line, text)
        }
    }
}

impl Tree {
    /// Reads the repository from disk and asks cargo for its members.
    pub(crate) fn read(metadata: &Metadata) -> anyhow::Result<Self> {
        let root = metadata.workspace_root.as_std_path();
        let mut tree = Self {
            paths: list(root)?,
            members: members(metadata),
            ..Self::default()
        };
        for path in &tree.paths {
            let read = || {
                fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
            };
            match path.rsplit_once('.') {
                Some((_, "rs")) => tree.rust.push(RustFile::new(path, &read()?)),
                Some((_, "md" | "txt")) => tree.texts.push(TextFile {
                    path: path.clone(),
                    text: read()?,
                }),
                _ => {}
            }
        }
        Ok(tree)
    }

    /// The prose file at `path`.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    }

    /// Whether `path` is a file or a folder of the repository.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        path.is_empty()
            || self
                .paths
                .iter()
                .any(|known| known == path || known.starts_with(&folder))
    }
}

/// Asks cargo for the workspace, with all features and the dependencies of all platforms.
pub(crate) fn metadata() -> anyhow::Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(root()?.join("Cargo.toml"))
        .features(cargo_metadata::CargoOpt::AllFeatures)
        .exec()
        .context("`cargo metadata` failed")
}

/// The repository's folder: `xtask` lies in it.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("start it as `cargo xtask`: it asks cargo where the repository is")?;
    let root = Path::new(&manifest)
        .parent()
        .context("xtask has no parent folder")?;
    Ok(root.to_owned())
}

fn list(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut folders = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                let hidden = name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&name.as_ref());
                if !hidden && !NOT_OURS.contains(&name.as_ref()) {
                    folders.push(entry.path());
                }
            } else if let Ok(relative) = entry.path().strip_prefix(root) {
                paths.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    paths.sort();
    Ok(paths)
}

fn members(metadata: &Metadata) -> Vec<Member> {
    let relative = |path: &Path| {
        let inside = path.strip_prefix(&metadata.workspace_root).unwrap_or(path);
        inside.to_string_lossy().replace('\\', "/")
    };
    let mut members: Vec<Member> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| Member {
            name: package.name.to_string(),
            dir: package
                .manifest_path
                .parent()
                .map(|dir| relative(dir.as_std_path()))
                .unwrap_or_default(),
            roots: package
                .targets
                .iter()
                .filter(|target| target.is_lib() || target.is_bin())
                .map(|target| relative(target.src_path.as_std_path()))
                .collect(),
            dependencies: package
                .dependencies
                .iter()
                .map(|dependency| Dependency {
                    name: dependency.name.clone(),
                    dev: dependency.kind == DependencyKind::Development,
                })
                .collect(),
        })
        .collect();
    members.sort_by(|left, right| left.dir.cmp(&right.dir));
    members
}

/// How tests of checks make trees and look at findings.
#[cfg(test)]
pub(crate) mod fixture {
    use super::*;

    /// A tree of these files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, content) in files {
            tree.paths.push((*path).to_owned());
            if path.ends_with(".rs") {
                tree.rust.push(RustFile::new(path, content));
            } else {
                tree.texts.push(TextFile {
                    path: (*path).to_owned(),
                    text: (*content).to_owned(),
                });
            }
        }
        tree
    }

    /// A member with its folder and what it asks for; `dev:NAME` is a dev-dependency.
    pub(crate) fn member(name: &str, dir: &str, dependencies: &[&str]) -> Member {
        let dependencies = dependencies
            .iter()
            .map(|asked| match asked.strip_prefix("dev:") {
                Some(name) => Dependency {
                    name: name.to_owned(),
                    dev: true,
                },
                None => Dependency {
                    name: (*asked).to_owned(),
                    dev: false,
                },
            })
            .collect();
        Member {
            name: name.to_owned(),
            dir: dir.to_owned(),
            roots: vec![format!("{dir}/src/lib.rs")],
            dependencies,
        }
    }

    /// Findings as `path:line: text`.
    pub(crate) fn shown(findings: &[Finding]) -> Vec<String> {
        findings
            .iter()
            .map(|found| format!("{}:{}: {}", found.path, found.line, found.text))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::tree;

    #[test]
    fn a_tree_knows_files_and_folders_but_no_beginnings_of_names() {
        let tree = tree(&[("crates/wire/src/lib.rs", "")]);

        assert!(tree.has("crates/wire/src/lib.rs"));
        assert!(tree.has("crates/wire/"));
        assert!(!tree.has("crates/wi"));
    }
}
