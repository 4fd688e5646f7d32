//! The page in `web/dist` is built from the sources in `web`: what it was built from is written there as a digest.
//!
//! `web/digest.ts` makes it when the page is built: FNV-1a of 64 bits over the names and bytes of all sources. It
//! guards against forgetting, not against malice; that the bytes follow from the sources is what the step `web` of
//! `cargo xtask ci` shows, which needs Node.js. Called by `tidy`. Invariant: no build of Rust needs Node.js.

use std::path::Path;

use crate::tree::{self, Finding, Tree};

const FOLDER: &str = "web";
const RECORDED: &str = "web/dist/sources.txt";
/// As in `web/digest.ts`.
const ROOTS: [&str; 6] = [
    "digest.ts",
    "index.html",
    "package-lock.json",
    "package.json",
    "src",
    "vite.config.ts",
];
const ADVICE: &str = "the page was built from other sources: `cd web && npm ci && npm run build`";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let read = || {
        let root = tree::root().ok()?;
        let recorded = std::fs::read_to_string(root.join(RECORDED)).ok()?;
        let sources = sources(tree).map(|path| {
            let bytes = std::fs::read(root.join(FOLDER).join(path)).ok()?;
            Some((path, bytes))
        });
        let sources: Option<Vec<_>> = sources.collect();
        Some((recorded, digest(&sources?)))
    };
    match read() {
        Some((recorded, digest)) if recorded.trim() == digest => Vec::new(),
        Some(_) => vec![Finding::new(RECORDED, 1, ADVICE)],
        None => vec![Finding::new(
            RECORDED,
            0,
            "cannot be read; it says what the page was built from",
        )],
    }
}

/// The names of all sources below the folder, in order.
fn sources(tree: &Tree) -> impl Iterator<Item = &str> {
    let mut below: Vec<&str> = tree
        .paths
        .iter()
        .filter_map(|path| path.strip_prefix("web/"))
        .collect();
    below.retain(|path| ROOTS.iter().any(|root| Path::new(path).starts_with(root)));
    below.sort_unstable();
    below.into_iter()
}

fn digest(sources: &[(&str, Vec<u8>)]) -> String {
    // Offset and prime: draft-eastlake-fnv, section 5.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for (path, bytes) in sources {
        path.bytes().chain([0]).for_each(&mut add);
        bytes.iter().copied().for_each(&mut add);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_names_and_bytes_apart() {
        let of = |sources: &[(&str, &str)]| {
            let sources: Vec<_> = sources
                .iter()
                .map(|(path, text)| (*path, text.as_bytes().to_vec()))
                .collect();
            digest(&sources)
        };

        assert_eq!(of(&[]), "cbf29ce484222325");
        let one = of(&[("a", "b")]);
        for other in [
            of(&[("a", "c")]),
            of(&[("b", "b")]),
            of(&[("a", "b"), ("c", "")]),
        ] {
            assert_ne!(one, other);
        }
    }
}
