//! Writes the seeds into the corpora: `cargo run -p levada-fuzz --bin seed`, after a golden vector was added.
//!
//! Not the choice of seeds: `levada_fuzz::seeds`. Invariant: it touches no file that is not a seed.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use levada_fuzz::seeds;

fn main() -> anyhow::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for seed in seeds::all() {
        let folder = corpus.join(seed.target);
        let file = folder.join(&seed.file);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, &seed.bytes))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
