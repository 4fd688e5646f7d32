//! Levada's deterministic world: the machines that ship, in networks that do not exist, on a clock that only the world
//! moves.
//!
//! A [`Scenario`] says what there is and what goes wrong; with a seed it makes a run, the same one every time, on every
//! machine, in debug and release. Checkers look at all nodes all the time; the first thing that must not be ends the
//! run with its time and the command that shows it again.
//!
//! ```text
//!   scenario + seed ──▶ world ──▶ nodes: Control + Lane, as they ship
//!                         │ ▲
//!                         ▼ │
//!                        net, connection ──▶ checkers ──▶ Report or Failure
//! ```
//!
//! What the model leaves out, so that a run proves nothing about it:
//!
//! - QUIC: `connection` has its order, its repeats and its round trips, and no congestion control, no flow control, no
//!   limit of connections and handshakes;
//! - the queues around the machines: the worker's commands and its send queue, the node's QUIC events, events and
//!   deliveries, with their limits and what happens there. Here all that a machine says is done at once;
//! - threads: a node's core and lane take turns, and no time passes while they work;
//! - several lanes: a node here has one, so steering, hand-over and the sharing of sends are not proven here;
//! - the kernel: socket buffers, GSO, sends that fail.
//!
//! Not a protocol: nothing here knows what a message says, but the checkers. Called by `cli` and by its own tests.
//! Invariant: one thread, no clock, no I/O, no chance but the seed's.
//!
//! ```
//! let text = r#"
//!     about = "two nodes on a LAN"
//!     duration = "5s"
//!     network = [{ name = "lan" }]
//!     node = [{ name = "origin", network = "lan" }, { name = "player", network = "lan", neighbours = ["origin"] }]
//!     subscription = [{ stream = "cam", nodes = ["player"] }]
//!     [[stream]]
//!     name = "cam"
//!     origin = "origin"
//!     video = { frames_per_second = 25, bytes = 900, sync_every = 25, sync_bytes = 4000 }
//! "#;
//! let scenario = levada_sim::Scenario::parse("two.toml", text)?;
//! let report = levada_sim::run(&scenario, 1)?;
//! assert!(report.frames_delivered > 50);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

use std::io::Write;
use std::ops::RangeInclusive;

pub mod chance;
mod check;
mod connection;
pub mod hostile;
mod media;
pub mod net;
mod node;
mod queue;
mod report;
mod sabotage;
pub mod scenario;
mod trace;
mod world;

pub use report::{Failure, KnownStream, NetworkTraffic, Report};
pub use sabotage::{Sabotage, UnknownSabotage};
pub use scenario::{Scenario, ScenarioError};
pub use trace::TraceHash;

use trace::Trace;
use world::World;

/// Runs a scenario with a seed.
///
/// # Errors
///
/// When a checker saw something that must not be.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Report, Box<Failure>> {
    run_with(scenario, seed, Options::default())
}

/// What a run may be given beside scenario and seed.
#[derive(Default)]
pub struct Options<'w> {
    /// A part to break on purpose.
    pub sabotage: Option<Sabotage>,
    /// Where to write a line for each event.
    pub trace: Option<&'w mut dyn Write>,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sabotage, trace } = self;
        f.debug_struct("Options")
            .field("sabotage", sabotage)
            .field("trace", &trace.is_some())
            .finish()
    }
}

/// Runs a scenario with a seed, and more.
///
/// # Errors
///
/// When a checker saw something that must not be.
pub fn run_with<'w>(
    scenario: &'w Scenario,
    seed: u64,
    options: Options<'w>,
) -> Result<Report, Box<Failure>> {
    let Options { sabotage, trace } = options;
    let ending = World::new(scenario, seed, sabotage, Trace::new(trace)).run();
    match ending.outcome {
        Ok(report) => Ok(Report { seed, ..report }),
        Err(violation) => Err(Box::new(Failure {
            path: scenario.path().to_owned(),
            seed,
            sabotage,
            at: ending.at,
            checker: violation.checker,
            saw: violation.saw,
            trace: ending.trace,
            program: "levada".to_owned(),
        })),
    }
}

/// Runs a scenario with each seed of a range, until one fails.
///
/// # Errors
///
/// The failure of the first seed that has one.
pub fn run_seeds(
    scenario: &Scenario,
    seeds: RangeInclusive<u64>,
) -> Result<Vec<Report>, Box<Failure>> {
    seeds.map(|seed| run(scenario, seed)).collect()
}
