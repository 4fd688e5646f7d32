//! What one input costs the control core, by how many links, streams and subscriptions there are.
//!
//! | kind | the input |
//! |---|---|
//! | ping | a neighbour pings |
//! | sequence | an origin has raised its sequence: the neighbour that leads to it says so |
//! | announce | a stream is announced anew |
//! | request | a child says its request again |
//! | route | the way to one origin is another: its flows move |
//! | link down | a neighbour is gone over which nothing comes |
//! | trunk down | the neighbour is gone over which everything comes: all routes and flows move |
//! | second | all that one second brings where nothing changes: pings, renewals, timers |
//!
//! A call is measured with all that the core says to it and with the question when it wants to be woken: what the task
//! that owns it does. Not what the driver and QUIC do with what is said. Called by `levada bench core`. Invariant: no
//! time passes but in `second` and between the parts of `trunk down`, so that no timer's cost is an input's.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::stats;

mod world;

use world::{Call, World};

/// A kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Ping,
    Sequence,
    Announce,
    Request,
    Route,
    LinkDown,
    TrunkDown,
    Second,
}

impl Kind {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 8] = [
        Self::Ping,
        Self::Sequence,
        Self::Announce,
        Self::Request,
        Self::Route,
        Self::LinkDown,
        Self::TrunkDown,
        Self::Second,
    ];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Sequence => "sequence",
            Self::Announce => "announce",
            Self::Request => "request",
            Self::Route => "route",
            Self::LinkDown => "link down",
            Self::TrunkDown => "trunk down",
            Self::Second => "second",
        }
    }
}

/// What there is more and more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    Links,
    Streams,
    Subscriptions,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Links, Self::Streams, Self::Subscriptions];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Streams => "streams",
            Self::Subscriptions => "subscriptions",
        }
    }

    /// A node with so much of it, and little of everything else.
    #[must_use]
    pub fn sized(self, size: usize) -> Size {
        let small = Size {
            links: 16,
            children: 4,
            origins: 16,
            streams: 16,
            subscriptions: 8,
        };
        match self {
            Self::Links => Size {
                links: size,
                ..small
            },
            Self::Streams => Size {
                origins: size.div_ceil(STREAMS_EACH),
                streams: size,
                subscriptions: size.min(small.subscriptions),
                ..small
            },
            // Each from an origin of its own.
            Self::Subscriptions => Size {
                origins: size,
                streams: size,
                subscriptions: size,
                ..small
            },
        }
    }
}

/// So many streams one origin has where there are many.
const STREAMS_EACH: usize = 64;

/// How much of everything a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Two of them lead to all origins.
    pub links: usize,
    /// To so many of the others goes a flow each.
    pub children: usize,
    pub origins: usize,
    pub streams: usize,
    pub subscriptions: usize,
}

/// What inputs of one kind cost a node of one size.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub kind: Kind,
    #[serde(flatten)]
    pub size: Size,
    /// Calls that were measured: a `trunk down` has several, a `second` as many as there are timers and answers.
    pub calls: usize,
    /// What the core said to one input, or in one second.
    pub outputs: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    /// All calls of one input together, or of one second.
    pub whole_us: f64,
    /// How long it took, in the time of the node, until all flows that had to move were asked for again; the calls
    /// themselves counted as if the node did nothing else.
    pub asked_again_ms: Option<f64>,
}

/// How often each kind of input is given.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Those that touch little.
    pub small: usize,
    /// Routes, link and trunk down, and seconds.
    pub large: usize,
}

/// Measures all kinds of input at a node of that size.
///
/// # Errors
///
/// When there cannot be such a node.
pub fn measure(size: Size, rounds: Rounds) -> anyhow::Result<Vec<Report>> {
    let mut world = World::new(size)?;
    let report = |kind| {
        let count = match kind {
            Kind::Route | Kind::LinkDown | Kind::TrunkDown | Kind::Second => rounds.large,
            _ => rounds.small,
        };
        let mut inputs = Vec::new();
        for round in 0..count {
            inputs.push(world.give(kind, round)?);
        }
        report_of(kind, size, &inputs)
    };
    Kind::ALL.into_iter().map(report).collect()
}

/// Gives one input of each kind but `second` to a node of that size, the other of its kind, through
/// `world::under_profile`: for a profiler that counts what that function does. Says the kind of each call of it.
///
/// # Errors
///
/// When there cannot be such a node.
pub fn count(size: Size) -> anyhow::Result<Vec<Kind>> {
    let mut world = World::new(size)?;
    let mut calls = Vec::new();
    // A second is all that there is once, by its nature.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Second) {
        world.give(kind, 0)?;
        world.is_counted = true;
        let given = world.give(kind, 1)?;
        world.is_counted = false;
        calls.extend(given.calls.iter().map(|_| kind));
    }
    Ok(calls)
}

/// What one input brought about.
#[derive(Debug)]
struct Given {
    calls: Vec<Call>,
    asked_again: Option<Duration>,
}

fn report_of(kind: Kind, size: Size, inputs: &[Given]) -> anyhow::Result<Report> {
    let calls: Vec<&Call> = inputs.iter().flat_map(|given| &given.calls).collect();
    let mut nanos: Vec<u64> = calls
        .iter()
        .map(|call| u64::try_from(call.took.as_nanos()).unwrap_or(u64::MAX))
        .collect();
    nanos.sort_unstable();
    let at = |per_cent| {
        let nanos = stats::percentile(&nanos, per_cent).context("there was no call")?;
        anyhow::Ok(nanos as f64 / 1e3)
    };
    let outputs: usize = calls.iter().map(|call| call.outputs).sum();
    let whole: Duration = calls.iter().map(|call| call.took).sum();
    let asked = inputs.iter().filter_map(|given| given.asked_again).max();
    Ok(Report {
        kind,
        size,
        calls: calls.len(),
        outputs: outputs as f64 / inputs.len() as f64,
        p50_us: at(50.0)?,
        p99_us: at(99.0)?,
        max_us: at(100.0)?,
        whole_us: whole.as_secs_f64() * 1e6 / inputs.len() as f64,
        asked_again_ms: asked.map(|asked| asked.as_secs_f64() * 1e3),
    })
}

/// By which power of the size something grows: the slope of the straight line that fits the logarithms of sizes and
/// costs best. `None` of fewer than two sizes.
#[must_use]
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs = points
        .iter()
        .map(|(size, cost)| (size.ln(), cost.max(1e-9).ln()));
    let logs: Vec<(f64, f64)> = logs.collect();
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|log| log.0), mean(|log| log.1));
    let slope: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
    let width: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
    (width > 0.0).then(|| slope / width)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const SMALL: Size = Size {
        links: 6,
        children: 2,
        origins: 3,
        streams: 12,
        subscriptions: 5,
    };

    #[test]
    fn every_kind_of_input_does_what_it_is_named_for() {
        let rounds = Rounds { small: 3, large: 2 };

        let reports = measure(SMALL, rounds).unwrap();

        let outputs = |kind| reports.iter().find(|one| one.kind == kind).unwrap().outputs;
        assert_eq!(reports.len(), Kind::ALL.len());
        assert!(outputs(Kind::Ping) >= 1.0, "a pong");
        assert!(outputs(Kind::Sequence) >= 5.0, "told to all but the teller");
        assert!(outputs(Kind::Announce) >= 5.0, "told to all but the teller");
        assert!(outputs(Kind::Request) >= 1.0, "an accept");
        assert!(outputs(Kind::Route) >= 5.0, "told to others");
        assert!(outputs(Kind::LinkDown) >= 2.0);
        assert!(outputs(Kind::Second) >= 6.0, "pings and renewals");
        let trunk = reports.iter().find(|one| one.kind == Kind::TrunkDown);
        assert!(trunk.unwrap().asked_again_ms.is_some(), "all flows moved");
    }

    #[test]
    fn each_call_that_is_counted_has_its_kind() {
        let calls = count(SMALL).unwrap();

        let first = |kind| calls.iter().position(|one| *one == kind);
        let is_there = |kind: &Kind| first(*kind).is_some();
        assert_eq!(Kind::ALL.iter().filter(|kind| is_there(kind)).count(), 7);
        assert_eq!(calls.iter().filter(|one| **one == Kind::Ping).count(), 1);
    }

    #[test]
    fn an_exponent_is_the_power_of_the_size() {
        let cubes = [(1.0, 5.0), (10.0, 5_000.0), (100.0, 5_000_000.0)];
        let flat = [(1.0, 7.0), (100.0, 7.0)];

        assert!((exponent(&cubes).unwrap() - 3.0).abs() < 1e-9);
        assert!(exponent(&flat).unwrap().abs() < 1e-9);
        assert_eq!(exponent(&[(1.0, 1.0)]), None);
    }
}
