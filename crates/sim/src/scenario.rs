//! A scenario: the networks, nodes, streams and players of a run, what goes wrong, and how long that may hurt.
//!
//! Written in TOML (`scenarios/*.toml`); a duration may be given as two, between which the seed chooses. Not the run:
//! one scenario makes a run for each seed. Called by `cli` and tests, read by `world`. Invariant: every place in a
//! [`Scenario`] (a node, a network) exists, so the world never looks for a name.

use std::time::Duration;

use levada_core::Paths;
use levada_wire::{Bitrate, PacketSize, RepairBudget, StreamName};

use crate::hostile::Act;
use crate::net::{LanSettings, Loss, Toward, WanSettings};

mod build;
mod raw;
mod value;

pub use value::Span;

/// The most nodes of a scenario, and of networks, links, streams, subscriptions and faults each.
pub const ITEMS_MAX: usize = 10_000;

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(crate) path: String,
    pub(crate) about: String,
    pub(crate) duration: Duration,
    pub(crate) bounds: Bounds,
    pub(crate) networks: Vec<Network>,
    pub(crate) wans: Vec<WanLink>,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) streams: Vec<StreamPlan>,
    pub(crate) subscriptions: Vec<SubscriptionPlan>,
    pub(crate) faults: Vec<FaultPlan>,
}

impl Scenario {
    /// Reads a scenario from the text of a file. `path` is only repeated, in errors and in replay commands.
    ///
    /// # Errors
    ///
    /// Says what is wrong and where.
    pub fn parse(path: &str, text: &str) -> Result<Self, ScenarioError> {
        let wrong = |text| ScenarioError {
            path: path.to_owned(),
            text,
        };
        let raw: raw::File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        build::build(path, raw).map_err(wrong)
    }

    /// Where it was read from.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it shows, for people.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// How long a run lasts.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }
}

/// Why a text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {text}")]
pub struct ScenarioError {
    path: String,
    text: String,
}

/// How long each thing may last that must pass by itself. What they bound stands with the checkers (`crate::check`).
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// A loop of upstreams.
    pub(crate) loops: Duration,
    /// No frame for a subscription whose origin is alive and can be reached.
    pub(crate) frames: Duration,
    /// A request without an answer.
    pub(crate) answers: Duration,
    /// Media packets of a stream that nobody watches any more.
    pub(crate) quiet: Duration,
    /// A flow that goes to or through a node which does not want it.
    pub(crate) unwanted: Duration,
    /// Gaps at a consumer while nothing but loss is wrong; `None` where there may be some at any time.
    pub(crate) continuity: Option<Duration>,
    /// Gaps at a consumer whatever fails, and frames that are later than `late`; `None` where there may be some.
    pub(crate) steady: Option<Duration>,
    /// From a frame's being made to its being delivered.
    pub(crate) late: Option<Duration>,
}

/// A LAN.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) settings: LanSettings,
    /// Whether its nodes form a site.
    pub(crate) is_site: bool,
}

/// A WAN link between two LANs.
#[derive(Clone, Debug)]
pub(crate) struct WanLink {
    pub(crate) ends: [usize; 2],
    pub(crate) settings: WanSettings,
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) network: usize,
    pub(crate) relay: bool,
    /// What it promises to its children at most.
    pub(crate) uplink: Option<Bitrate>,
    pub(crate) neighbours: Vec<usize>,
    pub(crate) start: Span,
}

/// A stream that a node offers.
#[derive(Clone, Debug)]
pub(crate) struct StreamPlan {
    pub(crate) name: StreamName,
    pub(crate) origin: usize,
    pub(crate) from: Span,
    pub(crate) until: Option<Span>,
    pub(crate) packet_size: PacketSize,
    pub(crate) flush: Duration,
    /// What its publisher declares; else it is measured.
    pub(crate) peak: Option<Bitrate>,
    pub(crate) tracks: Vec<TrackPlan>,
}

/// A track of it: the first is video, the second audio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackPlan {
    pub(crate) frames_per_second: u32,
    pub(crate) bytes: u32,
    /// Every how many frames decoding can start; each one, for audio.
    pub(crate) sync_every: u32,
    pub(crate) sync_bytes: u32,
}

/// Somebody at one node wants a stream for some time.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionPlan {
    pub(crate) stream: StreamName,
    pub(crate) node: usize,
    pub(crate) from: Span,
    pub(crate) until: Option<Span>,
    /// How late packets may be there.
    pub(crate) budget: RepairBudget,
    pub(crate) paths: Paths,
}

/// Something goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    pub(crate) kind: FaultKind,
    pub(crate) at: Span,
    /// How long it lasts; `None` for ever, or for what is over at once.
    pub(crate) lasts: Option<Span>,
    pub(crate) chance: crate::chance::Probability,
}

/// The faults that a scenario may script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The process is killed; later it starts again with the same identity and nothing else.
    Crash { node: usize },
    /// The node leaves on purpose; later it starts again.
    Leave { node: usize },
    /// The process stands still (SIGSTOP), then goes on.
    Pause { node: usize },
    /// The node's cable is pulled.
    Unplug { node: usize },
    /// The node's clocks leap.
    ClockJump { node: usize, leap: Leap },
    /// Links are down in these directions.
    Down { ways: Vec<(usize, Toward)> },
    /// A link loses in another way.
    Loss { wan: usize, loss: Loss },
    /// Somebody who hears everything sends a node old and forged datagrams.
    Stranger { node: usize, every: Duration },
    /// A node that says besides what no machine would say.
    Hostile {
        node: usize,
        acts: Vec<Act>,
        every: Duration,
    },
}

impl FaultKind {
    /// Whether nobody else may be worse off for it: no checker is told.
    pub(crate) const fn is_harmless(&self) -> bool {
        matches!(self, Self::Stranger { .. } | Self::Hostile { .. })
    }
}

/// A leap of a node's clocks.
///
/// Forward: both clocks, as when a virtual machine goes on after a snapshot. Back: only the wall clock, as when
/// somebody sets it; a monotonic clock never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leap {
    pub(crate) back: bool,
    pub(crate) by: Duration,
}

#[cfg(test)]
mod tests;
