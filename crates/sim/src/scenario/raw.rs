//! A scenario as somebody wrote it: names instead of places, everything optional that has a default.
//!
//! Not checked beyond its form; `scenario` turns it into a checked one. Called by `scenario`. Invariant: a key that
//! nothing reads is refused, so that a misspelt one cannot be overlooked.

use serde::Deserialize;

use crate::hostile::Act;

use super::value::{Leap, Rate, Share, Span, Time};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// What the scenario shows, for people.
    pub(super) about: String,
    /// How long the run lasts.
    pub(super) duration: Time,
    #[serde(default)]
    pub(super) bounds: Bounds,
    pub(super) network: Vec<Network>,
    #[serde(default)]
    pub(super) wan: Vec<Wan>,
    pub(super) node: Vec<Node>,
    #[serde(default)]
    pub(super) stream: Vec<Stream>,
    #[serde(default)]
    pub(super) subscription: Vec<Subscribers>,
    #[serde(default)]
    pub(super) fault: Vec<Fault>,
}

/// How long what may pass by itself may last. See `crate::check`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    pub(super) loops: Option<Time>,
    pub(super) frames: Option<Time>,
    pub(super) answers: Option<Time>,
    pub(super) quiet: Option<Time>,
    pub(super) unwanted: Option<Time>,
    pub(super) continuity: Option<Time>,
    pub(super) steady: Option<Time>,
    pub(super) late: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) delay: Option<Time>,
    pub(super) loss: Option<Share>,
    pub(super) querier: Option<bool>,
    pub(super) floods_unknown: Option<bool>,
    /// Whether its nodes form a site.
    #[serde(default)]
    pub(super) site: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wan {
    pub(super) between: [String; 2],
    pub(super) delay: Time,
    pub(super) jitter: Option<Time>,
    pub(super) reorder: Option<Share>,
    pub(super) reorder_by: Option<Time>,
    pub(super) loss: Option<Share>,
    pub(super) bursts: Option<Bursts>,
    pub(super) duplicate: Option<Share>,
    pub(super) corrupt: Option<Share>,
    pub(super) rate: Option<Rate>,
    pub(super) queue: Option<Time>,
    pub(super) packet_size_max: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bursts {
    pub(super) begin: Share,
    pub(super) end: Share,
    pub(super) inside: Share,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) network: String,
    #[serde(default)]
    pub(super) relay: bool,
    pub(super) uplink: Option<Rate>,
    #[serde(default)]
    pub(super) neighbours: Vec<String>,
    pub(super) start: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) origin: String,
    pub(super) from: Option<Span>,
    pub(super) until: Option<Span>,
    pub(super) packet_bytes: Option<u16>,
    pub(super) flush: Option<Time>,
    pub(super) peak: Option<Rate>,
    pub(super) video: Video,
    pub(super) audio: Option<Audio>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Video {
    pub(super) frames_per_second: u32,
    pub(super) bytes: u32,
    pub(super) sync_every: u32,
    pub(super) sync_bytes: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audio {
    pub(super) frames_per_second: u32,
    pub(super) bytes: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribers {
    pub(super) stream: String,
    pub(super) nodes: Vec<String>,
    pub(super) from: Option<Span>,
    pub(super) until: Option<Span>,
    pub(super) budget: Option<Time>,
    pub(super) paths: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Fault {
    Crash {
        node: String,
        at: Span,
        r#for: Option<Span>,
        chance: Option<Share>,
    },
    Leave {
        node: String,
        at: Span,
        r#for: Option<Span>,
        chance: Option<Share>,
    },
    Pause {
        node: String,
        at: Span,
        r#for: Span,
        chance: Option<Share>,
    },
    Unplug {
        node: String,
        at: Span,
        r#for: Span,
        chance: Option<Share>,
    },
    ClockJump {
        node: String,
        at: Span,
        by: Leap,
        chance: Option<Share>,
    },
    Partition {
        network: String,
        direction: Option<Direction>,
        at: Span,
        r#for: Span,
        chance: Option<Share>,
    },
    LinkDown {
        between: [String; 2],
        direction: Option<Direction>,
        at: Span,
        r#for: Span,
        chance: Option<Share>,
    },
    Loss {
        between: [String; 2],
        loss: Option<Share>,
        bursts: Option<Bursts>,
        at: Span,
        r#for: Span,
        chance: Option<Share>,
    },
    Stranger {
        node: String,
        every: Time,
        at: Span,
        r#for: Span,
        chance: Option<Share>,
    },
    Hostile {
        node: String,
        does: Vec<Act>,
        every: Time,
        at: Span,
        r#for: Span,
        chance: Option<Share>,
    },
}

impl Fault {
    /// When it begins, how long it lasts, and how likely it is.
    pub(super) const fn times(&self) -> (Span, Option<Span>, Option<Share>) {
        match self {
            Self::ClockJump { at, chance, .. } => (*at, None, *chance),
            Self::Crash {
                at, r#for, chance, ..
            }
            | Self::Leave {
                at, r#for, chance, ..
            } => (*at, *r#for, *chance),
            Self::Pause {
                at, r#for, chance, ..
            }
            | Self::Unplug {
                at, r#for, chance, ..
            }
            | Self::Partition {
                at, r#for, chance, ..
            }
            | Self::LinkDown {
                at, r#for, chance, ..
            }
            | Self::Loss {
                at, r#for, chance, ..
            }
            | Self::Stranger {
                at, r#for, chance, ..
            }
            | Self::Hostile {
                at, r#for, chance, ..
            } => (*at, Some(*r#for), *chance),
        }
    }
}

/// Which way is closed: out of the named network (the first of a pair), into it, or both.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Direction {
    #[default]
    Both,
    Out,
    In,
}
