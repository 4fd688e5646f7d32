//! Writes down what comes to its standard input, and when.
//!
//! Not what it is. Started by [`levada_lab::Node`] behind a player. Invariant: the file has what came, in order, and
//! beside it stands a line for each read: where in the file it begins, and when it came, in microseconds of the
//! machine's clock.

use std::fs::File;
use std::io::{Read as _, Write as _, stdin};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

/// At once: a pipe holds no more.
const CHUNK_BYTES: usize = 64 << 10;

pub(crate) fn run(file: &str) -> anyhow::Result<()> {
    let open = |path: &Path| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let path = Path::new(file);
    let mut written = open(path)?;
    let mut stamps = open(&path.with_extension("stamps"))?;
    let (mut chunk, mut at) = (vec![0; CHUNK_BYTES], 0_u64);
    let mut input = stdin().lock();
    loop {
        let read = input.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        written.write_all(&chunk[..read])?;
        writeln!(stamps, "{at} {}", now.as_micros())?;
        at += u64::try_from(read)?;
    }
}
