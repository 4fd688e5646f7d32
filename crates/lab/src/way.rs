//! A router that is as far, lossy and narrow as it is told, in a program of its own: the kernel may have no netem.
//!
//! ```text
//!   host ── lan ── eth0 ┌─────┐ eth1 ── lan ── host
//!                       │ way │                            between any two LANs: an `Impairment`
//!                       └─────┘ eth2 ── lan ── host
//! ```
//!
//! Not what becomes of a datagram: that is `levada_bench::impair`, and the program is `lab-peer way`. Made by
//! [`Net::way`], called by tests. Invariant: what it says of itself tells whether the path was as it was told to be:
//! how late it was, and whether it heard all that was sent.
//!
//! [`Net::way`]: crate::Net::way

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use levada_bench::impair::Impairment;
use serde_json::Value;

use crate::host::Host;
use crate::process::Process;
use crate::wait::eventually;

/// How soon it forwards.
const READY: Duration = Duration::from_secs(10);
/// It goes before whatever else runs: a path does not wait for a processor. sched(7).
const PRIORITY: &str = "20";

/// A long way between LANs, for as long as it lives.
#[derive(Debug)]
pub struct Way {
    process: Process,
}

/// What a way did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Datagrams that came to it.
    pub taken: u64,
    /// Of them, those that it lost on purpose.
    pub lost: u64,
    /// Those that it sent twice.
    pub doubled: u64,
    /// How long after it was due the latest left.
    pub late: Duration,
}

impl Way {
    pub(crate) fn start(
        host: &Host,
        peer: &Path,
        impairment: &Impairment,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let peer = peer.to_str().context("the program's path is not text")?;
        let (seed, impairment) = (seed.to_string(), serde_json::to_string(impairment)?);
        let words = ["-r", PRIORITY, peer, "way", &seed, &impairment];
        let way = Self {
            process: Process::start(host, Path::new("chrt"), words)?,
        };
        eventually(READY, "the way is open", || way.passed().ok());
        Ok(way)
    }

    /// What it did until a moment ago.
    ///
    /// # Errors
    ///
    /// When it has not said anything yet.
    pub fn passed(&self) -> anyhow::Result<Passed> {
        let output = self.process.output()?;
        // The last line may not be whole.
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let line = whole.lines().next_back().context("it has said nothing")?;
        let said: Value = serde_json::from_str(line)?;
        let number = |key: &str| {
            let number = said[key].as_u64();
            number.with_context(|| format!("no {key} in {line}"))
        };
        Ok(Passed {
            taken: number("taken")?,
            lost: number("lost")?,
            doubled: number("doubled")?,
            late: Duration::from_micros(number("late_us")?),
        })
    }
}
