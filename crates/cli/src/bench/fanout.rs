//! `levada bench fanout`: how many bits a lane sends to many egresses for each second of its processor.
//!
//! Not where the numbers come from (`drive.rs`). Called by the command. Invariant: a figure stands beside both floors of
//! the same rounds, or there is none.

use std::time::Duration;

use serde::Serialize;

use super::contender::{Contender, Kind as Who, Task};
use super::drive::{self, Work};
use super::origin::{Camera, Feed};
use super::receivers::{Kind, Receivers};
use super::stats::Spread;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) egresses: usize,
    pub(crate) camera: Camera,
    pub(crate) receivers: Kind,
    pub(crate) task: Task,
}

/// One line of results. Rates count UDP payload that reached a receiver; `floor` is the bare relay loop (GRO in, copy, GSO
/// out), `send_floor` the bare send loop.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    bench: &'static str,
    pub(crate) egresses: usize,
    pub(crate) flows: usize,
    pub(crate) lanes: usize,
    pub(crate) rate_bps: u64,
    /// How long a frame waited for others to share its burst.
    pub(crate) flush_us: u64,
    pub(crate) receivers: Kind,
    pub(crate) of_floor: f64,
    pub(crate) of_floor_spread: Spread,
    pub(crate) of_send_floor: f64,
    pub(crate) of_send_floor_spread: Spread,
    pub(crate) gbit_per_cpu_s: f64,
    pub(crate) gbit_per_cpu_s_spread: Spread,
    pub(crate) floor_gbit_per_cpu_s: f64,
    pub(crate) floor_gbit_per_cpu_s_spread: Spread,
    pub(crate) send_floor_gbit_per_cpu_s: f64,
    pub(crate) send_floor_gbit_per_cpu_s_spread: Spread,
    /// Per second of that lane's processor that ran longest: what goes through where each lane has one to itself.
    pub(crate) gbit_per_busiest_cpu_s: f64,
    pub(crate) gbit_per_busiest_cpu_s_spread: Spread,
    /// Per second of time, which on a small machine is what the receivers can take.
    pub(crate) gbit_per_s: f64,
    pub(crate) us_per_packet: f64,
    /// Packets that reached receivers from the lane, in all rounds.
    pub(crate) packets: u64,
    /// Trains that did; only receivers that take trains see them.
    pub(crate) sends: Option<u64>,
    /// Runs that the origin sent to the lane.
    pub(crate) runs: u64,
    /// Bytes that the lane or a floor was given and a receiver did not get. Not zero: do not trust the line.
    pub(crate) missing_bytes: u64,
    pub(crate) rounds: usize,
}

/// One round: all three, one after the other.
#[derive(Clone, Copy, Debug)]
struct Round {
    lane: Work,
    relay: Work,
    send: Work,
}

/// Measures one case, `rounds` times.
pub(crate) fn measure(case: Case, rounds: usize, long: Duration) -> anyhow::Result<Report> {
    let mut receivers = Receivers::new(case.egresses, case.receivers, false)?;
    let mut measured = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let mut work = |who| one(who, case, &mut receivers, long);
        // Whoever comes first has the machine as the round before left it: so it is not always the same one.
        measured.push(if round % 2 == 0 {
            let (send, relay) = (work(Who::Send)?, work(Who::Relay)?);
            let lane = work(Who::Lane)?;
            Round { lane, relay, send }
        } else {
            let (lane, relay) = (work(Who::Lane)?, work(Who::Relay)?);
            let send = work(Who::Send)?;
            Round { lane, relay, send }
        });
    }
    report(case, &measured)
}

/// Lets one contender work for a while.
pub(crate) fn one(
    who: Who,
    case: Case,
    receivers: &mut Receivers,
    long: Duration,
) -> anyhow::Result<Work> {
    let contender = Contender::start(who, case.task, &receivers.addresses())?;
    let mut feed = Feed::new(case.task.flows, case.camera);
    let work = drive::saturate(&contender, &mut feed, receivers, long)?;
    contender.finish()?;
    Ok(work)
}

fn report(case: Case, rounds: &[Round]) -> anyhow::Result<Report> {
    let spread = |of: &dyn Fn(&Round) -> f64| {
        let spread = Spread::of(rounds.iter().map(of));
        spread.ok_or_else(|| anyhow::anyhow!("nothing was measured"))
    };
    let rate = |work: &Work| work.gbit_per_cpu_s();
    let of_floor = spread(&|round| rate(&round.lane) / rate(&round.relay))?;
    let of_send_floor = spread(&|round| rate(&round.lane) / rate(&round.send))?;
    let lane = spread(&|round| rate(&round.lane))?;
    let floor = spread(&|round| rate(&round.relay))?;
    let send_floor = spread(&|round| rate(&round.send))?;
    let busiest = spread(&|round| round.lane.gbit_per_busiest_cpu_s())?;
    let per_packet = |work: &Work| work.cpu.as_secs_f64() * 1e6 / work.got.packets as f64;
    let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
    let sends = sum(|round| round.lane.got.reads);
    Ok(Report {
        bench: "fanout",
        egresses: case.egresses,
        flows: case.task.flows,
        lanes: case.task.lanes,
        rate_bps: case.camera.rate.0,
        flush_us: u64::try_from(case.camera.flush_interval.as_micros())?,
        receivers: case.receivers,
        of_floor: of_floor.median,
        of_floor_spread: of_floor,
        of_send_floor: of_send_floor.median,
        of_send_floor_spread: of_send_floor,
        gbit_per_cpu_s: lane.median,
        gbit_per_cpu_s_spread: lane,
        floor_gbit_per_cpu_s: floor.median,
        floor_gbit_per_cpu_s_spread: floor,
        send_floor_gbit_per_cpu_s: send_floor.median,
        send_floor_gbit_per_cpu_s_spread: send_floor,
        gbit_per_busiest_cpu_s: busiest.median,
        gbit_per_busiest_cpu_s_spread: busiest,
        gbit_per_s: spread(&|round| round.lane.gbit_per_s())?.median,
        us_per_packet: spread(&|round| per_packet(&round.lane))?.median,
        packets: sum(|round| round.lane.got.packets),
        sends: (case.receivers == Kind::Gro).then_some(sends),
        runs: sum(|round| round.lane.runs),
        missing_bytes: sum(|round| {
            round.lane.missing_bytes + round.relay.missing_bytes + round.send.missing_bytes
        }),
        rounds: rounds.len(),
    })
}
