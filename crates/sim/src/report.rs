//! What a run says at its end: numbers, or what must not be and how to see it again.
//!
//! Not the trace, which is written while the run goes on. Made by `world`, shown by `cli`. Invariant: everything here
//! follows from scenario and seed; a replay says the same to the last digit.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use levada_wire::{Bitrate, Instant, StreamName};

use crate::check;
use crate::net::{Load, Net, Toward, Traffic};
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::trace::TraceHash;

/// What a run that went well did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash over all that was sent, and when.
    pub trace: TraceHash,
    /// How long it lasted, in the world's time.
    pub duration: Duration,
    /// Events that happened.
    pub events: u64,
    /// Datagrams that nodes sent, of all kinds.
    pub datagrams: u64,
    /// Media packets among them.
    pub media_packets: u64,
    /// Their bytes.
    pub media_bytes: u64,
    /// Bytes of control messages.
    pub control_bytes: u64,
    /// Connections that were tried.
    pub connections: u64,
    /// Datagrams that a stranger sent.
    pub forged: u64,
    /// Frames that publishers made.
    pub frames_made: u64,
    /// Frames that nodes handed to their subscribers.
    pub frames_delivered: u64,
    /// Holes that were reported to them.
    pub gaps: u64,
    /// The longest that a frame took from its publisher to a subscriber, where the scenario bounds that.
    pub slowest: Duration,
    /// Packets that each node had already when they came, of those that run at the end.
    pub duplicates: Vec<(String, u64)>,
    /// What each network and each direction of a link carried.
    pub networks: Vec<NetworkTraffic>,
    /// The streams that each node knows at the end.
    pub known: Vec<KnownStream>,
}

/// A stream that a node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownStream {
    /// The node's name.
    pub node: String,
    /// The stream's.
    pub stream: StreamName,
    /// The peak that its origin declares, as far as the node has heard.
    pub peak: Bitrate,
}

/// What one network or one direction of a link carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkTraffic {
    /// A LAN's name, or `from > to`.
    pub name: String,
    /// Datagrams and bytes since the start.
    pub traffic: Traffic,
}

/// What the world counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) datagrams: u64,
    pub(crate) media_packets: u64,
    pub(crate) media_bytes: u64,
    pub(crate) segments: u64,
    pub(crate) control_bytes: u64,
    pub(crate) forged: u64,
    pub(crate) frames_made: u64,
}

impl Counts {
    pub(crate) const fn datagram(&mut self, load: Load) {
        self.datagrams += 1;
        if load.media {
            self.media_packets += 1;
            self.media_bytes += load.bytes as u64;
        }
    }
}

pub(crate) fn networks(scenario: &Scenario, net: &Net) -> Vec<NetworkTraffic> {
    let name = |lan: usize| scenario.networks[lan].name.as_str();
    let lans = (0..scenario.networks.len()).map(|lan| NetworkTraffic {
        name: name(lan).to_owned(),
        traffic: net.lan(lan).traffic(),
    });
    let wans = (0..scenario.wans.len()).flat_map(|index| {
        let wan = net.wan(index);
        let [a, b] = wan.ends();
        Toward::ALL.map(|toward| {
            let (from, to) = if toward == Toward::Second {
                (a, b)
            } else {
                (b, a)
            };
            NetworkTraffic {
                name: format!("{} > {}", name(from), name(to)),
                traffic: wan.traffic(toward),
            }
        })
    });
    lans.chain(wans).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {:?} in {} events, trace {}",
            self.seed, self.duration, self.events, self.trace
        )?;
        writeln!(
            f,
            "  {} frames made, {} delivered, {} gaps; {} connections, {} control bytes",
            self.frames_made,
            self.frames_delivered,
            self.gaps,
            self.connections,
            self.control_bytes
        )?;
        writeln!(
            f,
            "  {} datagrams, {} of them media with {} bytes; {} forged",
            self.datagrams, self.media_packets, self.media_bytes, self.forged
        )?;
        for NetworkTraffic { name, traffic } in &self.networks {
            let Traffic {
                datagrams,
                media_bytes,
                lost,
                ..
            } = traffic;
            writeln!(
                f,
                "  {name:<20} {datagrams:>8} datagrams {media_bytes:>10} media bytes {lost:>6} lost"
            )?;
        }
        Ok(())
    }
}

/// What a run that failed saw.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Failure {
    /// The scenario's path.
    pub path: String,
    /// The seed.
    pub seed: u64,
    /// What was broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// When, in the world's time.
    pub at: Instant,
    /// Which checker saw it.
    pub checker: &'static str,
    /// The violation, in one sentence.
    pub saw: String,
    /// The hash over all that was sent until then.
    pub trace: TraceHash,
    /// How the program is called that replays it: `levada`, unless whoever shows the failure was called otherwise.
    pub program: String,
}

impl Failure {
    /// The command that shows the same again, to be pasted into a shell.
    #[must_use]
    pub fn replay(&self) -> String {
        let sabotage = self
            .sabotage
            .map(|sabotage| format!(" --sabotage {sabotage}"))
            .unwrap_or_default();
        format!(
            "{} sim run {} --seed {}{sabotage}",
            quoted(&self.program),
            quoted(&self.path),
            self.seed
        )
    }
}

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            at,
            checker,
            saw,
            ..
        } = self;
        writeln!(f, "seed {seed} fails at {at:?}: checker `{checker}`: {saw}")?;
        write!(f, "replay: {}", self.replay())
    }
}

/// Puts a report together.
pub(crate) fn report(
    scenario: &Scenario,
    net: &Net,
    until: Instant,
    trace: TraceHash,
    counts: Counts,
    checked: check::Counts,
    connections: u64,
) -> Report {
    Report {
        seed: 0,
        trace,
        duration: until.since(Instant::ZERO),
        events: counts.events,
        datagrams: counts.datagrams,
        media_packets: counts.media_packets,
        media_bytes: counts.media_bytes,
        control_bytes: counts.control_bytes,
        connections,
        forged: counts.forged,
        frames_made: counts.frames_made,
        frames_delivered: checked.frames,
        gaps: checked.gaps,
        slowest: Duration::ZERO,
        duplicates: Vec::new(),
        networks: networks(scenario, net),
        known: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_spaces_is_one_word_to_a_shell() {
        for (word, shown) in [
            (
                "crates/sim/scenarios/first.toml",
                "crates/sim/scenarios/first.toml",
            ),
            ("my nets/first.toml", "'my nets/first.toml'"),
            ("it's.toml", r"'it'\''s.toml'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), shown);
        }
    }
}
