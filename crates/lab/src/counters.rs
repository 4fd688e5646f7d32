//! A node's own counters, over its local socket.
//!
//! ```text
//! greeting both ways, then: kind (1), length (4), JSON
//! ```
//!
//! Not the kernel's counters (`counter`), which say what was on a cable: these say why a node dropped what reached it.
//! Called by `node`. Invariant: what it cannot read is an error, never a zero.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The first bytes of either side; `levada::admin` has the same.
const GREETING: &[u8] = b"levada-admin 1\n";
const REQUEST: u8 = 1;
const OK: u8 = 2;
/// A node that does not answer a local question so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// A view of the small networks here is some kilobytes.
const ANSWER_BYTES_MAX: u32 = 1 << 20;

/// All counters of a node at one moment.
#[derive(Clone, Debug)]
pub struct Counters(Value);

impl Counters {
    /// Asks the node whose state directory this is.
    pub(crate) fn read(state: &Path) -> anyhow::Result<Self> {
        let mut stream = UnixStream::connect(state.join("levada.sock"))
            .with_context(|| format!("no node runs with {}", state.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut greeting = [0; GREETING.len()];
        stream.read_exact(&mut greeting)?;
        ensure!(
            greeting == GREETING,
            "the local socket speaks another version"
        );
        let question = br#""view""#;
        stream.write_all(GREETING)?;
        stream.write_all(&[REQUEST, 0, 0, 0, u8::try_from(question.len())?])?;
        stream.write_all(question)?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        ensure!(
            kind == OK && length <= ANSWER_BYTES_MAX,
            "answer {kind}, {length} bytes"
        );
        let mut answer = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut answer)?;
        let view: Value = serde_json::from_slice(&answer)?;
        Ok(Self(view["counters"].clone()))
    }

    /// The counter of this name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn get(&self, name: &str) -> anyhow::Result<u64> {
        self.rows()
            .find(|(row, _)| *row == name)
            .map(|(_, value)| value)
            .with_context(|| format!("no counter `{name}` in {}", self.0))
    }

    /// By how much each counter has grown that has grown since `earlier`.
    #[must_use]
    pub fn grown_since(&self, earlier: &Self) -> Vec<(String, u64)> {
        self.rows()
            .map(|(name, value)| {
                (
                    name.to_owned(),
                    value - earlier.get(name).unwrap_or(0).min(value),
                )
            })
            .filter(|(_, growth)| *growth > 0)
            .collect()
    }

    fn rows(&self) -> impl Iterator<Item = (&str, u64)> {
        let lists = ["datapath", "node"].map(|list| self.0[list].as_array());
        let rows = lists.into_iter().flatten().flatten();
        rows.filter_map(|row| Some((row["name"].as_str()?, row["value"].as_u64()?)))
    }
}
