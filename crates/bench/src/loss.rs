//! `levada bench loss`: what arrives over hops that lose, reorder and double datagrams or are silent for a while.
//!
//! Three chains of real lanes carry the same traffic at the same time, so that the machine is the same to all:
//!
//! ```text
//! lane      paths as bad as was said                          what is measured
//! floor     the same, but media alone passes towards the      what would be lost without repair
//!           child and nothing back
//! control   paths that are as long and not bad at all         how late frames are at best
//! ```
//!
//! A frame is lost if the consumer was not delivered it: frames are told by their track and time, and what is found is
//! held against the gaps that were delivered and against the counters of lanes and forwarder. Not a congested network:
//! where a path has a rate the stream is alone there. Called by the command. Invariant: a frame that was sent was
//! delivered once or is counted as lost.

use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use levada_lane::{Delivery, GapReason};
use levada_ports::WorkerCounters;
use levada_wire::{Bitrate, TrackId};
use serde::Serialize;

use crate::chain::{Chain, Counted, News};
use crate::forwarder::{Passes, Plan, Taken};
use crate::impair::Impairment;
use crate::stats::percentile;
use crate::traffic::{SYNC_FACTOR, Traffic};

/// How long after the end of the flow its last frames are waited for, beside budget and paths.
const PATIENCE: Duration = Duration::from_secs(1);
/// The highest rate that a chain on one machine carries evenly.
pub const RATE_MAX: Bitrate = Bitrate(50_000_000);

/// One measurement of a chain that loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    pub hops: usize,
    pub rate: Bitrate,
    /// Of each hop, in either direction.
    pub impairment: Impairment,
    /// How many times as large as the others the first picture of each second is.
    pub sync_factor: u64,
    pub budget: Duration,
    pub long: Duration,
    pub seed: u64,
}

/// One hop, from the parent's side and the forwarder's on to the child's.
#[derive(Clone, Debug, Serialize)]
pub struct Hop {
    /// Packets that the parent sent for the first time.
    pub packets: u64,
    /// Of those, lost on the path.
    pub lost: u64,
    /// Requests that the child sent.
    pub nacks: u64,
    /// Packets that the child got after it had asked.
    pub repaired: u64,
    /// Packets that the child got without asking, from parity; none where there is no parity.
    pub recovered: Option<u64>,
    /// Media and parity that the parent sent beyond its packets, by its packets.
    pub extra: f64,
    /// All bytes of both directions, with IPv4 and UDP headers, beyond those of the packets, by those.
    pub extra_bytes: f64,
    /// Packets that the child has given up.
    pub given_up: u64,
    /// All that parent and child counted of repair.
    pub parent: BTreeMap<&'static str, u64>,
    pub child: BTreeMap<&'static str, u64>,
}

/// How late frames were, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Late {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// What one chain delivered.
#[derive(Clone, Debug, Serialize)]
pub struct End {
    pub frames: u64,
    pub frames_lost: u64,
    /// Packets that are missing in what was delivered, by the reason that was given.
    pub gaps: BTreeMap<&'static str, u64>,
    /// `None` if no frame came.
    pub late: Option<Late>,
    /// What frames, gaps and the counters of lanes and forwarder tell differently: then the line is worth nothing.
    pub contradiction: Option<String>,
}

/// One line of results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    pub hops: Vec<Hop>,
    pub rate_bps: u64,
    /// Of each hop.
    pub rtt_ms: f64,
    pub jitter_ms: f64,
    pub loss: f64,
    pub burst: f64,
    pub reorder: f64,
    pub duplicate: f64,
    pub outage_ms: f64,
    /// Of each hop, in either direction; none without a limit.
    pub path_rate_bps: Option<u64>,
    pub queue_bytes: usize,
    pub sync_factor: u64,
    pub budget_ms: f64,
    pub seconds: f64,
    pub seed: u64,
    /// Over all hops.
    pub extra: f64,
    #[serde(flatten)]
    pub end: End,
    pub floor: End,
    pub control: End,
}

/// The set of the project's goals (see `bench/RESULTS.md`): paths that lose, each at 8 Mb/s, and paths with short
/// queues, at 7 Mb/s with large pictures.
pub fn goals(long: Duration, seed: u64) -> Vec<Case> {
    let millis = Duration::from_millis;
    let even = Impairment {
        delay: millis(20),
        loss: 0.1,
        ..Impairment::default()
    };
    let case = |hops, impairment, budget| Case {
        hops,
        rate: Bitrate(8_000_000),
        impairment,
        sync_factor: SYNC_FACTOR,
        budget: millis(budget),
        long,
        seed,
    };
    let bursts = Impairment { burst: 4.0, ..even };
    let mixed = Impairment {
        reorder: 0.02,
        duplicate: 0.02,
        ..even
    };
    let outage = Impairment {
        loss: 0.0,
        outage: millis(100),
        ..even
    };
    let uneven = Impairment {
        loss: 0.01,
        duplicate: 0.01,
        jitter: millis(16),
        ..even
    };
    let far = Impairment {
        delay: millis(50),
        ..even
    };
    // Pictures of 230 KB, and paths whose queues hold less.
    let narrow = |rate, queue_bytes, budget| {
        let impairment = Impairment {
            delay: millis(20),
            rate: Some(Bitrate(rate)),
            queue_bytes,
            ..Impairment::default()
        };
        Case {
            rate: Bitrate(7_000_000),
            sync_factor: 11,
            ..case(1, impairment, budget)
        }
    };
    vec![
        case(1, even, 400),
        case(1, even, 200),
        case(3, even, 400),
        case(1, bursts, 400),
        case(1, mixed, 400),
        case(1, outage, 500),
        case(1, uneven, 400),
        case(1, far, 180),
        narrow(20_000_000, 32_000, 200),
        narrow(50_000_000, 32_000, 200),
        narrow(20_000_000, 64_000, 500),
        narrow(16_000_000, 20_000, 200), // twice the peak, and 10 ms of it
    ]
}

/// Measures one case.
pub fn measure(case: Case) -> anyhow::Result<Report> {
    let bad = Plan {
        impairment: case.impairment,
        passes: Passes::All,
        seed: case.seed,
    };
    let alone = Plan {
        passes: Passes::MediaAlone,
        ..bad
    };
    let good = Plan {
        impairment: case.impairment.delay_alone(),
        ..bad
    };
    let all = std::thread::scope(|scope| {
        let run = |plan| scope.spawn(move || carry(case, plan));
        [bad, alone, good].map(run).map(|run| {
            let result = run.join();
            result.unwrap_or_else(|_| Err(anyhow::anyhow!("a measurement panicked")))
        })
    });
    let [
        (tale, counted),
        (floor, floor_counted),
        (control, control_counted),
    ] = match all {
        [Ok(lane), Ok(floor), Ok(control)] => [lane, floor, control],
        results => {
            let mut errors = results.into_iter().filter_map(Result::err);
            return Err(errors.next().expect("one of them failed"));
        }
    };
    let millis = |long: Duration| long.as_secs_f64() * 1e3;
    let Impairment {
        delay,
        jitter,
        loss,
        burst,
        reorder,
        duplicate,
        outage,
        rate,
        queue_bytes,
    } = case.impairment;
    let end = tale.end(&counted);
    Ok(Report {
        bench: "loss",
        extra: extra(counted.paths.iter()),
        hops: hops(&counted),
        rate_bps: case.rate.0,
        rtt_ms: millis(2 * delay),
        jitter_ms: millis(jitter),
        loss,
        burst,
        reorder,
        duplicate,
        outage_ms: millis(outage),
        path_rate_bps: rate.map(|rate| rate.0),
        queue_bytes,
        sync_factor: case.sync_factor,
        budget_ms: millis(case.budget),
        seconds: case.long.as_secs_f64(),
        seed: case.seed,
        end,
        floor: floor.end(&floor_counted),
        control: control.end(&control_counted),
    })
}

/// What the frames of one chain went through.
#[derive(Debug, Default)]
struct Tale {
    /// By track and time: when each was sent.
    sent: BTreeMap<(TrackId, i64), Instant>,
    /// Of those that came, how late.
    late: Vec<u64>,
    came: BTreeMap<(TrackId, i64), u64>,
    gaps: BTreeMap<&'static str, u64>,
    has_ended: bool,
}

/// Carries the traffic over one chain at its own pace.
fn carry(case: Case, plan: Plan) -> anyhow::Result<(Tale, Counted)> {
    let chain = Chain::start(case.hops, plan, case.budget)?;
    let mut traffic = Traffic::with_sync_factor(case.rate, case.seed, case.sync_factor);
    let mut tale = Tale::default();
    let began = Instant::now();
    let mut next = traffic.next();
    while next.at < case.long {
        tale.listen(&chain, began + next.at)?;
        let key = (next.frame.track, next.frame.dts);
        tale.sent.insert(key, Instant::now());
        chain.push(next.frame)?;
        next = traffic.next();
    }
    chain.finish_flow()?;
    let ways = 2 * case.impairment.delay * u32::try_from(case.hops).unwrap_or(u32::MAX);
    tale.listen(&chain, Instant::now() + case.budget + ways + PATIENCE)?;
    let counted = chain.finish()?;
    let overruns = counted.paths.iter().map(|path| path.overruns);
    anyhow::ensure!(
        overruns.sum::<u64>() == 0,
        "more was under way than the forwarder holds: ask for a shorter --rtt or a lower --rate"
    );
    Ok((tale, counted))
}

impl Tale {
    /// Takes what the consumer is delivered, until that moment or the end of the flow.
    fn listen(&mut self, chain: &Chain, until: Instant) -> anyhow::Result<()> {
        while !self.has_ended {
            let left = until.saturating_duration_since(Instant::now());
            match chain.news.recv_timeout(left) {
                Ok(news) => self.take(news),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the consumer has ended"),
            }
        }
        Ok(())
    }

    fn take(&mut self, News { at, delivery }: News) {
        match delivery {
            Delivery::Frame { frame, .. } => {
                let key = (frame.track, frame.dts);
                *self.came.entry(key).or_insert(0) += 1;
                if let Some(&sent) = self.sent.get(&key) {
                    let nanos = at.saturating_duration_since(sent).as_nanos();
                    self.late.push(u64::try_from(nanos).unwrap_or(u64::MAX));
                }
            }
            Delivery::Gap(gap) => {
                let reason = match gap.reason {
                    GapReason::Lost => "lost",
                    GapReason::Bad => "bad",
                    GapReason::Overrun => "overrun",
                    _ => "other",
                };
                *self.gaps.entry(reason).or_insert(0) += gap.packets;
            }
            Delivery::End => self.has_ended = true,
            _ => {}
        }
    }

    /// What came of it, held against what was counted.
    fn end(mut self, counted: &Counted) -> End {
        self.late.sort_unstable();
        let at = |per_cent| percentile(&self.late, per_cent).map(|nanos| nanos as f64 / 1e6);
        let late = at(50.0).zip(at(99.0)).zip(at(100.0));
        let came = self.sent.keys().filter(|&key| self.came.contains_key(key));
        let frames_lost = (self.sent.len() - came.count()) as u64;
        End {
            frames: self.sent.len() as u64,
            frames_lost,
            late: late.map(|((p50_ms, p99_ms), max_ms)| Late {
                p50_ms,
                p99_ms,
                max_ms,
            }),
            contradiction: self.contradiction(frames_lost, counted),
            gaps: self.gaps,
        }
    }

    /// What somebody tells otherwise than the others. Each frame came once at most, a frame is lost where there is a
    /// gap, there are as many packets on the first path as the origin made, and the consumer misses nothing that it has
    /// not given up.
    fn contradiction(&self, frames_lost: u64, counted: &Counted) -> Option<String> {
        let (origin, consumer) = counted.nodes.first().zip(counted.nodes.last())?;
        let made = origin.lane.ledger.made;
        let taken = counted.paths.first().map_or(0, |path| path.first.taken);
        let here = consumer.lane.flows.first().map_or(0, |row| row.packets_in);
        let absent = made.saturating_sub(here);
        let told: u64 = self.gaps.values().sum();
        let repair = &consumer.lane.ledger.repair;
        let given_up = repair.given_up + repair.repairs_late;
        if let Some((key, times)) = self.came.iter().find(|&(_, &times)| times > 1) {
            return Some(format!("a frame came {times} times: {key:?}"));
        }
        if taken != made {
            return Some(format!(
                "{made} packets were made and {taken} went over the first hop"
            ));
        }
        if told > 0 && given_up == 0 {
            return Some(format!(
                "{told} packets are missing in what was delivered and none was given up"
            ));
        }
        // A tail that never showed has no gap.
        if self.has_ended && (absent > told || (frames_lost > 0) != (told > 0)) {
            return Some(format!(
                "{frames_lost} frames are lost and {absent} packets absent, and {told} packets are missing in what was \
                 delivered"
            ));
        }
        None
    }
}

/// What each hop did.
fn hops(counted: &Counted) -> Vec<Hop> {
    let hop = |(path, nodes): (&Taken, &[WorkerCounters])| {
        let repair = &nodes[1].lane.ledger.repair;
        let [parent, child] = [0, 1].map(|place| {
            let counts = nodes[place].lane.ledger.repair.counts();
            let short = |name: &'static str| name.trim_start_matches("repair_");
            counts
                .map(|(declared, count)| (short(declared.name), count))
                .collect::<BTreeMap<_, _>>()
        });
        let all = [path.first, path.again, path.parity, path.forth, path.back];
        let bytes: u64 = all.iter().map(|tally| tally.bytes).sum();
        Hop {
            packets: path.first.taken,
            lost: path.first.lost,
            nacks: repair.nacks_sent,
            repaired: repair.repairs_received,
            recovered: Some(repair.recovered),
            extra: extra(std::iter::once(path)),
            extra_bytes: bytes as f64 / (path.first.bytes.max(1)) as f64 - 1.0,
            given_up: repair.given_up,
            parent,
            child,
        }
    };
    counted
        .paths
        .iter()
        .zip(counted.nodes.windows(2))
        .map(hop)
        .collect()
}

/// Media and parity that parents sent beyond their packets, by their packets.
fn extra<'a>(paths: impl Iterator<Item = &'a Taken>) -> f64 {
    let (again, first) = paths.fold((0, 0), |(again, first), path| {
        (
            again + path.again.taken + path.parity.taken,
            first + path.first.taken,
        )
    });
    again as f64 / first.max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_lane::FlowCounters;

    use super::*;
    use crate::forwarder::Tally;

    /// Ten packets were made, and the consumer has given up `missing` of them.
    fn counted(missing: u64) -> Counted {
        let mut nodes = vec![WorkerCounters::default(); 2];
        nodes[0].lane.ledger.made = 10;
        nodes[1].lane.ledger.repair.given_up = missing;
        nodes[1].lane.flows.push(FlowCounters {
            packets_in: 10 - missing,
            ..FlowCounters::default()
        });
        let first = Tally {
            taken: 10,
            bytes: 10_000,
            lost: 3,
        };
        let again = Tally {
            taken: 3,
            bytes: 3_000,
            lost: 0,
        };
        let paths = vec![Taken {
            first,
            again,
            ..Taken::default()
        }];
        Counted { nodes, paths }
    }

    /// Five frames of which so many came, and that many missing packets were told.
    fn tale(came: i64, told: u64) -> Tale {
        let mut tale = Tale {
            has_ended: true,
            ..Tale::default()
        };
        for dts in 0..5 {
            tale.sent.insert((TrackId(1), dts), Instant::now());
        }
        for dts in 0..came {
            tale.came.insert((TrackId(1), dts), 1);
        }
        if told > 0 {
            tale.gaps.insert("lost", told);
        }
        tale
    }

    #[test]
    fn frames_that_did_not_come_are_lost_and_everybody_must_tell_the_same() {
        let whole = tale(5, 0).end(&counted(0));
        let lossy = tale(4, 2).end(&counted(2));

        assert_eq!((whole.frames_lost, whole.contradiction), (0, None));
        assert_eq!((lossy.frames_lost, lossy.contradiction), (1, None));
    }

    #[test]
    fn a_loss_that_nobody_told_or_counted_is_a_contradiction() {
        for (came, told, given_up) in [(4, 0, 0), (5, 2, 2), (4, 2, 0), (4, 1, 2)] {
            let end = tale(came, told).end(&counted(given_up));

            let what = format!("{came} came, {told} told, {given_up} given up");
            assert!(end.contradiction.is_some(), "{what}");
        }
        let mut twice = tale(5, 0);
        twice.came.insert((TrackId(1), 0), 2);
        let end = twice.end(&counted(0));
        assert!(end.contradiction.unwrap().contains("2 times"));
    }

    #[test]
    fn what_was_sent_beyond_the_packets_is_extra() {
        let hop = hops(&counted(1)).remove(0);

        assert_eq!((hop.packets, hop.lost, hop.given_up), (10, 3, 1));
        assert!((hop.extra - 0.3).abs() < 1e-9 && (hop.extra_bytes - 0.3).abs() < 1e-9);
    }

    #[test]
    fn the_goals_are_measured_at_what_they_say() {
        let goals = goals(Duration::from_secs(1), 1);

        let first = goals.first().unwrap();
        assert_eq!((first.hops, first.budget.as_millis()), (1, 400));
        let lossy = goals.iter().filter(|case| case.impairment.rate.is_none());
        assert!(lossy.clone().all(|case| case.rate == Bitrate(8_000_000)));
        assert_eq!((lossy.count(), goals.len()), (8, 12));
        assert!(goals.iter().any(|case| !case.impairment.jitter.is_zero()));
        assert!(goals.iter().any(|case| case.hops == 3));
    }
}
