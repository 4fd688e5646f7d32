//! `levada bench hop`: how much later a packet is at its receivers because it went through one node at 70% load.
//!
//! First the lane's capacity for that many egresses is measured, then as many flows as make 70% of it are sent at their
//! own pace, each at its own phase, through the lane and through the bare relay loop. Latency counts from just before
//! the origin's send to the moment at which the kernel took the run in at the receiver's side, both by one clock.
//!
//! A round in which the origin could not keep its own pace, a receiver lost something, or whoever is measured could
//! have run and was kept waiting for a processor, is not counted but told: it is the other programs of the machine that
//! were measured there. A thread that takes more than its fair share of a busy machine is made to wait for
//! milliseconds, so that at 70% load others show in the lane's tail before they show in the floor's, which takes a
//! little less.
//!
//! Not the latency of a player, nor of a network. Called by the command. Invariant: the load that is printed is what
//! the lane's thread really took, not what was planned.

use std::time::Duration;

use serde::Serialize;

use crate::at_load::at_pace;
use crate::contender::Kind as Who;
use crate::drive::{Latencies, Work};
use crate::fanout::{self, Case};
use crate::origin::{Camera, Feed, GROUP};
use crate::receivers::{Kind, Receivers};
use crate::stats::{Spread, percentile};

/// What the goals speak of.
const LOAD: f64 = 0.7;
/// What is near enough to it, and how often to try.
const LOADS: std::ops::RangeInclusive<f64> = 0.66..=0.74;
const TRIALS_MAX: usize = 6;
/// Between the cost of a send and how long the last egress may wait for its own (DESIGN 12).
const LAST_FACTOR: f64 = 1.5;
/// A round is not counted when one run of a hundred left the origin later than this: what was measured is another load.
const ORIGIN_LATE_MAX: Duration = Duration::from_millis(2);
/// Nor when whoever is measured could have run, for more than this share of the time, and had no processor: where one
/// run of a hundred is looked for, less than that.
const KEPT_WAITING_MAX: f64 = 0.005;
/// For each round that is wanted, how many disturbed ones are put up with.
const DISTURBED_FACTOR: usize = 4;
/// How often and how long the capacity is measured.
const CAPACITY_ROUNDS: usize = 3;
const CAPACITY_SECONDS: Duration = Duration::from_millis(300);

/// How late runs were, in microseconds: medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Late {
    /// Over all runs and receivers.
    pub p50_us: Spread,
    pub p99_us: Spread,
    /// At the last receiver of each run.
    pub last_p50_us: Spread,
    pub last_p99_us: Spread,
    /// From a run's first receiver to its last.
    pub across_p50_us: Spread,
    pub across_p99_us: Spread,
    /// The share of a processor that the thread took.
    pub load: Spread,
    /// The share of the time in which it could have run and others had the processors.
    pub kept_waiting: Spread,
}

/// One line of results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    pub egresses: usize,
    /// As many as make the load.
    pub flows: usize,
    pub rate_bps: u64,
    pub receivers: Kind,
    pub lane: Late,
    pub floor: Late,
    /// The lane's latencies less the floor's of the same round.
    pub p50_over_floor_us: Spread,
    pub p99_over_floor_us: Spread,
    pub last_p99_over_floor_us: Spread,
    /// N x c x 1.5: egresses, times what one send of a run costs the floor, times a factor.
    pub last_goal_us: f64,
    /// Of all runs, at how many the last receiver was within that, from the first receiver on and from the origin on.
    pub across_within_goal: f64,
    pub last_within_goal: f64,
    pub packets: u64,
    pub rounds: usize,
    /// Rounds that are not counted.
    pub disturbed: usize,
}

/// Measures one case, `rounds` times; with so many flows, or with as many as make the load.
pub fn measure(
    mut case: Case,
    flows: Option<usize>,
    rounds: usize,
    long: Duration,
) -> anyhow::Result<Report> {
    let mut receivers = Receivers::new(case.egresses, case.receivers, true)?;
    let (capacity, send_cost) = capacity(case, &mut receivers)?;
    case.task.flows = match flows {
        Some(flows) => flows,
        None => flows_of_load(case, capacity, &mut receivers, long)?,
    };
    let mut measured = Vec::with_capacity(rounds);
    let (mut disturbed, mut latest) = (0, String::new());
    while measured.len() < rounds && disturbed < rounds * DISTURBED_FACTOR {
        let mut paced = |who| at_pace(who, case, &mut receivers, long);
        let round = if (measured.len() + disturbed).is_multiple_of(2) {
            let floor = paced(Who::Relay)?;
            (paced(Who::Lane)?, floor)
        } else {
            (paced(Who::Lane)?, paced(Who::Relay)?)
        };
        match uneven(&round.0).or_else(|| uneven(&round.1)) {
            None => measured.push(round),
            Some(how) => (disturbed, latest) = (disturbed + 1, how),
        }
    }
    anyhow::ensure!(
        !measured.is_empty(),
        "this machine did not send {} flows to {} {} receivers at an even pace in any of {disturbed} rounds: other \
         programs are at work, or it is too small; in the latest round {latest}; put `chrt -r 10` before the command, \
         which lets them wait",
        case.task.flows,
        case.egresses,
        case.receivers.name(),
    );
    let goal = send_cost * 1e6 * case.egresses as f64 * LAST_FACTOR;
    report(case, &measured, goal, disturbed)
}

/// What the machine failed to do: send when it was due, take everything, and let whoever is measured run. It says
/// nothing of how long that one took.
fn uneven((work, latencies): &Paced) -> Option<String> {
    let late = percentile(&latencies.origin, 99.0).map_or(Duration::MAX, Duration::from_nanos);
    if work.missing_bytes > 0 {
        return Some(format!(
            "{} of {} bytes were lost",
            work.missing_bytes,
            work.missing_bytes + work.got.bytes
        ));
    }
    if late > ORIGIN_LATE_MAX {
        return Some(format!(
            "one run of a hundred left its origin {late:.1?} late"
        ));
    }
    let waited = work.kept_waiting();
    (waited > KEPT_WAITING_MAX).then(|| {
        let percent = waited * 100.0;
        format!("the thread that is measured waited for a processor {percent:.1}% of the time")
    })
}

type Paced = (Work, Latencies);

/// Bits that the lane sends in a second of its processor, and seconds that one send of a run costs the floor.
fn capacity(case: Case, receivers: &mut Receivers) -> anyhow::Result<(f64, f64)> {
    let (mut lane, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..CAPACITY_ROUNDS {
        let work = fanout::one(Who::Lane, case, receivers, CAPACITY_SECONDS)?;
        lane.push(work.gbit_per_cpu_s() * 1e9);
        let work = fanout::one(Who::Relay, case, receivers, CAPACITY_SECONDS)?;
        floor.push(work.cpu.as_secs_f64() / (work.runs as f64 * case.egresses as f64));
    }
    let median = |values| Spread::of(values).map(|spread| spread.median);
    let both = median(lane).zip(median(floor));
    both.ok_or_else(|| anyhow::anyhow!("the capacity was not measured"))
}

/// As many flows as make the wanted load. Many cost more than one at the same rate, so the plan is put right by what
/// the lane really takes.
fn flows_of_load(
    mut case: Case,
    capacity: f64,
    receivers: &mut Receivers,
    long: Duration,
) -> anyhow::Result<usize> {
    case.task.flows = flows_for(capacity * LOAD, case.egresses, case.camera);
    for _ in 0..TRIALS_MAX {
        let trial = at_pace(Who::Lane, case, receivers, long)?;
        let load = trial.0.load();
        if LOADS.contains(&load) {
            break;
        }
        // What the lane took while others had the machine says nothing of what it would have taken.
        if uneven(&trial).is_none() {
            case.task.flows = rescaled(case.task.flows, load);
        }
    }
    Ok(case.task.flows)
}

/// As many flows as make the wanted load, when so many made this one.
fn rescaled(flows: usize, load: f64) -> usize {
    let factor = (LOAD / load).clamp(0.5, 1.5);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand at most"
    )]
    let flows = (flows as f64 * factor).round() as usize;
    flows.max(1)
}

/// How many such flows make that many bits per second over all egresses; at least one.
pub(crate) fn flows_for(bits: f64, egresses: usize, camera: Camera) -> usize {
    let one = wire_rate(camera) * egresses as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand at most"
    )]
    let flows = (bits / one).round() as usize;
    flows.max(1)
}

/// Bits per second of such a flow, with all headers, seals and tags.
fn wire_rate(camera: Camera) -> f64 {
    let mut feed = Feed::new(1, camera);
    let mut due = feed.next();
    let (from, mut bits) = (due.at, 0.0);
    while due.at < from + GROUP {
        bits += due.run.bytes.len() as f64 * 8.0;
        due = feed.next();
    }
    bits / GROUP.as_secs_f64()
}

/// A percentile in microseconds; that of nothing is an error, because then nothing arrived.
fn micros(sorted: &[u64], per_cent: f64) -> anyhow::Result<f64> {
    let nanos = percentile(sorted, per_cent);
    let nanos = nanos.ok_or_else(|| {
        anyhow::anyhow!("no run reached every receiver: this machine cannot carry the load")
    })?;
    Ok(nanos as f64 / 1e3)
}

/// The spread over rounds of something that each must have.
fn over(
    rounds: &[(Paced, Paced)],
    of: impl Fn(&(Paced, Paced)) -> anyhow::Result<f64>,
) -> anyhow::Result<Spread> {
    let values = rounds.iter().map(of).collect::<anyhow::Result<Vec<_>>>()?;
    Spread::of(values).ok_or_else(|| anyhow::anyhow!("nothing was measured"))
}

fn late(rounds: &[(Paced, Paced)], of: fn(&(Paced, Paced)) -> &Paced) -> anyhow::Result<Late> {
    let at = |what: fn(&Latencies) -> &Vec<u64>, per_cent| {
        over(rounds, |round| micros(what(&of(round).1), per_cent))
    };
    Ok(Late {
        p50_us: at(|late| &late.all, 50.0)?,
        p99_us: at(|late| &late.all, 99.0)?,
        last_p50_us: at(|late| &late.last, 50.0)?,
        last_p99_us: at(|late| &late.last, 99.0)?,
        across_p50_us: at(|late| &late.across, 50.0)?,
        across_p99_us: at(|late| &late.across, 99.0)?,
        load: over(rounds, |round| Ok(of(round).0.load()))?,
        kept_waiting: over(rounds, |round| Ok(of(round).0.kept_waiting()))?,
    })
}

fn report(
    case: Case,
    rounds: &[(Paced, Paced)],
    goal: f64,
    disturbed: usize,
) -> anyhow::Result<Report> {
    let above = |what: fn(&Latencies) -> &Vec<u64>, per_cent| {
        over(rounds, |((_, lane), (_, floor))| {
            Ok(micros(what(lane), per_cent)? - micros(what(floor), per_cent)?)
        })
    };
    let within = |what: fn(&Latencies) -> &Vec<u64>| {
        let share = over(rounds, |((_, lane), _)| {
            let all = what(lane);
            let met = all.partition_point(|&nanos| nanos as f64 <= goal * 1e3);
            Ok(met as f64 / all.len().max(1) as f64)
        });
        share.map(|share| share.median)
    };
    Ok(Report {
        bench: "hop",
        egresses: case.egresses,
        flows: case.task.flows,
        rate_bps: case.camera.rate.0,
        receivers: case.receivers,
        lane: late(rounds, |(lane, _)| lane)?,
        floor: late(rounds, |(_, floor)| floor)?,
        p50_over_floor_us: above(|late| &late.all, 50.0)?,
        p99_over_floor_us: above(|late| &late.all, 99.0)?,
        last_p99_over_floor_us: above(|late| &late.last, 99.0)?,
        last_goal_us: goal,
        across_within_goal: within(|late| &late.across)?,
        last_within_goal: within(|late| &late.last)?,
        packets: rounds.iter().map(|(lane, _)| lane.0.got.packets).sum(),
        rounds: rounds.len(),
        disturbed,
    })
}

#[cfg(test)]
mod tests {
    use levada_wire::Bitrate;

    use super::*;

    #[test]
    fn as_many_flows_as_make_the_load_and_never_none() {
        let camera = Camera::usual(Bitrate(4_000_000));

        let wire = wire_rate(camera);

        assert!((4.1e6..4.5e6).contains(&wire), "{wire}");
        assert_eq!(flows_for(wire * 800.4, 8, camera), 100);
        assert_eq!(flows_for(wire * 299.9, 100, camera), 3);
        assert_eq!(flows_for(wire, 100, camera), 1);
        assert_eq!((rescaled(100, 0.7), rescaled(100, 1.0)), (100, 70));
        assert_eq!((rescaled(100, 0.1), rescaled(1, 9.0)), (150, 1));
    }
}
