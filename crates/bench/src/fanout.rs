//! `levada bench fanout`: how many bits a lane sends to many egresses for each second of its processor.
//!
//! Several lanes are measured beside one lane at the same work, and floors of as many threads beside floors of one: on
//! a machine with hardly more processors than lanes it is not the time that passes that tells what goes through, but
//! the time of the thread that ran longest.
//!
//! Not where the numbers come from (`drive.rs`). Called by the command. Invariant: a figure stands beside both floors
//! of the same rounds, or there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::Bitrate;
use serde::Serialize;

use crate::at_load::{self, AtLoad};
use crate::contender::{Contender, Kind as Who, Task};
use crate::drive::{self, Work};
use crate::origin::{Camera, Feed};
use crate::receivers::{Kind, Receivers};
use crate::stats::Spread;

/// One measurement of fan-out: how many egresses, at which rate.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub egresses: usize,
    pub camera: Camera,
    pub receivers: Kind,
    pub task: Task,
}

/// One line of results. Rates count UDP payload that reached a receiver; `floor` is the bare relay loop (GRO in, copy,
/// GSO out), `send_floor` the bare send loop.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    pub egresses: usize,
    pub flows: usize,
    pub lanes: usize,
    pub rate_bps: u64,
    /// How long a frame waited for others to share its burst.
    pub flush_us: u64,
    pub receivers: Kind,
    pub of_floor: f64,
    pub of_floor_spread: Spread,
    pub of_send_floor: f64,
    pub of_send_floor_spread: Spread,
    pub gbit_per_cpu_s: f64,
    pub gbit_per_cpu_s_spread: Spread,
    pub floor_gbit_per_cpu_s: f64,
    pub floor_gbit_per_cpu_s_spread: Spread,
    pub send_floor_gbit_per_cpu_s: f64,
    pub send_floor_gbit_per_cpu_s_spread: Spread,
    /// Per second of that lane's processor that ran longest: what goes through where each lane has one to itself.
    pub gbit_per_busiest_cpu_s: f64,
    pub gbit_per_busiest_cpu_s_spread: Spread,
    /// Per second of time, which on a small machine is what the receivers can take.
    pub gbit_per_s: f64,
    pub us_per_packet: f64,
    /// Packets that reached receivers from the lane, in all rounds.
    pub packets: u64,
    /// Trains that did; only receivers that take trains see them.
    pub sends: Option<u64>,
    /// Runs that the origin sent to the lane.
    pub runs: u64,
    /// Bytes that the lane or a floor was given and a receiver did not get. Not zero: do not trust the line.
    pub missing_bytes: u64,
    pub rounds: usize,
    /// Where there are several lanes.
    pub scale: Option<Scale>,
    /// Where there is one: at 70% of what it can do, by the traffic's own clock.
    pub at_load: Option<AtLoad>,
}

/// What several lanes do by what one does in the same rounds, and beside it what as many threads of the relay floor do
/// by one. One where each lane gets nothing out of the others.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
    /// Bits by seconds of the thread that ran longest.
    pub throughput: Spread,
    pub floor_throughput: Spread,
    /// Bits by seconds of all.
    pub efficiency: Spread,
    pub floor_efficiency: Spread,
}

/// One round: all three, one after the other, and where there are several lanes also one alone.
#[derive(Clone, Copy, Debug)]
struct Round {
    lane: Work,
    relay: Work,
    send: Work,
    /// One lane, and the relay floor of one thread.
    alone: Option<(Work, Work)>,
}

/// Measures one case, `rounds` times.
pub fn measure(case: Case, rounds: usize, long: Duration) -> anyhow::Result<Report> {
    let mut receivers = Receivers::new(case.egresses, case.receivers, false)?;
    let mut measured = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let mut work = |who, case| one(who, case, &mut receivers, long);
        // Whoever comes first has the machine as the round before left it: so it is not always the same one.
        let is_even = round % 2 == 0;
        let order = if is_even {
            [Who::Send, Who::Relay, Who::Lane]
        } else {
            [Who::Lane, Who::Relay, Who::Send]
        };
        let [first, relay, last] = order.map(|who| work(who, case));
        let (lane, send) = if is_even {
            (last, first)
        } else {
            (first, last)
        };
        let alone = if case.task.lanes > 1 {
            let mut case = case;
            case.task.lanes = 1;
            Some((work(Who::Lane, case)?, work(Who::Relay, case)?))
        } else {
            None
        };
        measured.push(Round {
            lane: lane?,
            relay: relay?,
            send: send?,
            alone,
        });
    }
    let mut report = report(case, &measured)?;
    if case.task.lanes == 1 {
        let capacity = bitrate(report.gbit_per_cpu_s);
        report.at_load = Some(at_load::measure(case, capacity, rounds, long)?);
    }
    Ok(report)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no processor sends so much"
)]
fn bitrate(gigabits: f64) -> Bitrate {
    Bitrate((gigabits * 1e9) as u64)
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
        scale: scale(rounds),
        at_load: None,
    })
}

fn scale(rounds: &[Round]) -> Option<Scale> {
    let spread = |of: &dyn Fn(&Round, &(Work, Work)) -> f64| {
        let values = rounds
            .iter()
            .filter_map(|round| Some(of(round, round.alone.as_ref()?)));
        Spread::of(values)
    };
    let busiest = |several: &Work, one: &Work| {
        several.gbit_per_busiest_cpu_s() / one.gbit_per_busiest_cpu_s()
    };
    let all = |several: &Work, one: &Work| several.gbit_per_cpu_s() / one.gbit_per_cpu_s();
    Some(Scale {
        throughput: spread(&|round, (lane, _)| busiest(&round.lane, lane))?,
        floor_throughput: spread(&|round, (_, relay)| busiest(&round.relay, relay))?,
        efficiency: spread(&|round, (lane, _)| all(&round.lane, lane))?,
        floor_efficiency: spread(&|round, (_, relay)| all(&round.relay, relay))?,
    })
}

/// The set of the project's goals (see `bench/RESULTS.md`).
pub fn goals(kinds: &[Kind]) -> Vec<Case> {
    let case = |megabits: u64, egresses, lanes, receivers| Case {
        egresses,
        camera: Camera::usual(Bitrate(megabits * 1_000_000)),
        receivers,
        task: Task {
            flows: lanes,
            lanes,
        },
    };
    let of_kind = |&kind: &Kind| {
        [
            case(1, 100, 1, kind),
            case(4, 10, 1, kind),
            case(4, 100, 1, kind),
            case(4, 1_000, 1, kind),
            case(20, 100, 1, kind),
            case(4, 100, 2, kind),
        ]
    };
    kinds.iter().flat_map(of_kind).collect()
}

/// How near to flat one lane is over its counts of egresses, in a sentence for each rate and kind of receivers that was
/// measured at several: the least of its medians by the largest, and the relay floor's.
pub fn flatness(reports: &[Report]) -> Vec<String> {
    let mut groups: BTreeMap<(u64, Kind, u64), Vec<&Report>> = BTreeMap::new();
    for report in reports.iter().filter(|report| report.lanes == 1) {
        let group = (report.rate_bps, report.receivers, report.flush_us);
        groups.entry(group).or_default().push(report);
    }
    let sentence = |((rate, receivers, _), group): ((u64, Kind, u64), Vec<&Report>)| {
        let counts = Spread::of(group.iter().map(|report| report.egresses as f64))?;
        let flat = |of: fn(&Report) -> f64| {
            let spread = Spread::of(group.iter().map(|report| of(report)))?;
            Some(spread.min / spread.max * 100.0)
        };
        let (lane, floor) =
            flat(|one| one.gbit_per_cpu_s).zip(flat(|one| one.floor_gbit_per_cpu_s))?;
        (counts.min < counts.max).then(|| {
            format!(
                "{} to {} egresses at {}, {}: the least is {lane:.0}% of the most, the relay floor's {floor:.0}%",
                counts.min,
                counts.max,
                Bitrate(rate),
                receivers.name(),
            )
        })
    };
    groups.into_iter().filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receivers::Got;

    fn work(gigabits: u64, cpu: u64, busiest: u64) -> Work {
        Work {
            got: Got {
                bytes: gigabits * 1_000_000_000 / 8,
                packets: 1,
                reads: 1,
            },
            runs: 1,
            missing_bytes: 0,
            cpu: Duration::from_secs(cpu),
            busiest: Duration::from_secs(busiest),
            waited: Duration::ZERO,
            wall: Duration::from_secs(1),
        }
    }

    #[test]
    fn several_lanes_are_held_against_one_and_threads_of_the_floor_against_one() {
        let round = Round {
            lane: work(40, 4, 2),
            relay: work(40, 2, 1),
            send: work(40, 2, 1),
            alone: Some((work(20, 2, 2), work(40, 2, 2))),
        };

        let scale = scale(&[round]).map(|scale| {
            [
                scale.throughput.median,
                scale.floor_throughput.median,
                scale.efficiency.median,
                scale.floor_efficiency.median,
            ]
        });

        assert_eq!(scale, Some([2.0, 2.0, 1.0, 1.0]));
    }

    #[test]
    fn flatness_is_told_of_what_was_measured_at_several_counts() -> anyhow::Result<()> {
        let measured = |egresses, gigabits| {
            let round = Round {
                lane: work(gigabits, 1, 1),
                relay: work(20, 1, 1),
                send: work(20, 1, 1),
                alone: None,
            };
            let case = Case {
                egresses,
                ..goals(&[Kind::Gro])[0]
            };
            report(case, &[round])
        };

        let told = flatness(&[measured(10, 20)?, measured(1_000, 19)?]);
        let alone = flatness(&[measured(10, 20)?]);

        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("10 to 1000 egresses at 1.0 Mb/s, gro: the least is 95%"),
            "{told:?}"
        );
        assert!(alone.is_empty());
        Ok(())
    }
}
