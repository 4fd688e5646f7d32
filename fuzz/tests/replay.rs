//! Replays every input that was kept, seeds and findings alike, through its target.
//!
//! A finding is fixed once and replayed for ever. Not fuzzing. Invariant: a target without inputs fails, and so does a
//! corpus without a target.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use levada_fuzz::{TARGETS, seeds};

/// What all corpora together may have: they are cloned by everyone.
const CORPUS_BYTES_MAX: u64 = 300 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_kept_input_passes_through_its_target() {
    for target in TARGETS {
        let inputs = sorted(&corpus().join(target.name));
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for path in inputs {
            let input = fs::read(&path).unwrap();
            let run = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(run.is_ok(), "{} panics for {path:?}", target.name);
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    for folder in sorted(&corpus()) {
        let name = folder.file_name().unwrap();
        assert!(
            TARGETS.iter().any(|target| target.name == name),
            "{folder:?}"
        );
    }
}

#[test]
fn every_target_has_a_libfuzzer_program() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();

    let programs = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("name = "));
    let programs: Vec<&str> = programs
        .skip(1)
        .map(|name| name.trim_matches('"'))
        .collect();

    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(programs, names);
}

#[test]
fn every_seed_is_in_its_corpus() {
    for seed in seeds::all() {
        let path = corpus().join(seed.target).join(&seed.file);
        let kept = fs::read(&path).unwrap_or_default();
        let advice = "run `cargo run -p levada-fuzz --bin seed` and commit";
        assert_eq!(kept, seed.bytes, "{path:?}: {advice}");
    }
}

#[test]
fn the_corpora_stay_small() {
    let files = sorted(&corpus())
        .into_iter()
        .flat_map(|folder| sorted(&folder));
    let bytes: u64 = files.map(|file| fs::metadata(file).unwrap().len()).sum();

    assert!(bytes < CORPUS_BYTES_MAX, "{bytes} bytes");
}
