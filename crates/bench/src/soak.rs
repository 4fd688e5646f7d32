//! `levada bench soak`: many flows for a long time, at a load that leaves room; what must not grow does not.
//!
//! ```text
//! feed ─▶ one socket ─▶ real lanes ─▶ N receivers: each flow goes to some of them, all receivers to equal shares
//! ```
//!
//! The memory of the process is read twice: with the feed in full swing and no lanes, and with them; the difference is
//! the lanes'. A rate that makes the load is found first, by trials. Then every few seconds: memory, bytes cached,
//! load, and both ledgers. Not how fast: `hop.rs`. Called by the command. Invariant: it fails if memory grew, if a
//! ledger does not sum to zero, or if the lanes hold more than their limits allow.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use levada_lane::{LaneSettings, Path};
use levada_ports::sys::{ProbeSettings, ProbeSocket};
use levada_ports::{Lanes, WorkerCounters, worker};
use levada_wire::Bitrate;
use serde::Serialize;

use crate::contender::{Flows, set_up, spawn_lanes};
use crate::cpu::Times;
use crate::origin::{Camera, Due, Feed, GROUP};
use crate::receivers::{Kind, Receivers};
use crate::stats::Spread;
use crate::traffic::{RATE_MAX, RATE_MIN};

/// What the goals speak of, and what is near enough.
const LOAD: f64 = 0.7;
const LOADS: std::ops::RangeInclusive<f64> = 0.65..=0.75;
const TRIALS_MAX: usize = 5;
const TRIAL: Duration = Duration::from_secs(2);
/// What the trials begin with.
const FIRST_RATE: Bitrate = Bitrate(500_000);
/// Caches have what they will ever have when each flow had two groups and the time that repair keeps packets.
const GROUPS_TO_FULL_SWING: u32 = 3;
/// How long a machine may take for that, and at what steps it is looked at.
const FULL_SWING_MAX: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);
/// A feed that is behind by this much lets the time go: what did not run cannot be made up for.
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// Reads before looking whether a run is due, and how long there is nothing to do before looking again.
const READS_BETWEEN_SENDS: u64 = 64;
const NAP: Duration = Duration::from_micros(50);
/// Memory may differ by this much between the first third of the samples and the last: allocators keep pages.
const GROWTH_MAX: f64 = 0.03;
const GROWTH_BYTES_MAX: u64 = 4 << 20;
/// What lanes may hold beside what the cache's limit counts: by flow, by run in a cache (counted as a share of its
/// bytes), and for threads, buffers and tables.
const FLOW_BYTES_MAX: u64 = 8 << 10;
const CACHE_SLACK: f64 = 0.25;
const FIXED_BYTES_MAX: u64 = 24 << 20;

/// One run of a soak: how many flows, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub flows: usize,
    pub egresses: usize,
    /// To how many of the egresses each flow goes.
    pub fanout: usize,
    /// Of each flow; without it, what makes the load.
    pub rate: Option<Bitrate>,
    pub lanes: usize,
    pub long: Duration,
    /// Between two samples.
    pub every: Duration,
}

/// What was so at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    bench: &'static str,
    pub seconds: f64,
    /// Of the whole process.
    pub rss_bytes: u64,
    pub cached_bytes: u64,
    /// Of one processor, since the sample before.
    pub load: f64,
    pub mbit_per_s_sent: f64,
    pub ledgers_are_zero: bool,
    pub dropped: u64,
    pub unsent: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    pub flows: usize,
    pub egresses: usize,
    pub fanout: usize,
    pub lanes: usize,
    pub rate_bps: u64,
    pub seconds: f64,
    pub load: Spread,
    /// Of the whole process, and of the feed and the receivers without the lanes.
    pub rss_bytes: u64,
    pub feed_rss_bytes: u64,
    /// The difference: what the lanes hold.
    pub lanes_rss_bytes: u64,
    pub lanes_rss_bytes_max: u64,
    pub cached_bytes: u64,
    pub cache_bytes_max: u64,
    /// From the first third of the samples to the last, by their medians.
    pub rss_growth_bytes: i64,
    pub cached_growth_bytes: i64,
    pub packets_sent: u64,
    /// In every sample and at the end.
    pub ledgers_are_zero: bool,
    /// How often the feed could not keep its pace.
    pub stalls: u64,
    /// What is wrong, in words; nothing if all is well.
    pub faults: Vec<String>,
}

/// Soaks; shows each sample as it is taken.
pub fn run(case: Case, mut show: impl FnMut(&Sample)) -> anyhow::Result<Report> {
    let mut receivers = Receivers::new(case.egresses, Kind::Gro, false)?;
    let rate = match case.rate {
        Some(rate) => rate,
        None => find_rate(case, &mut receivers)?,
    };
    let feed_rss = rss_of_feed(case, rate)?;
    let mut soak = Soak::start(case, rate, &mut receivers)?;
    soak.reach_full_swing()?;
    let mut samples = Vec::new();
    let began = Instant::now();
    while began.elapsed() < case.long {
        let sample = soak.sample(began, case.every.min(case.long))?;
        show(&sample);
        samples.push(sample);
    }
    let (stalls, last) = (soak.stalls, soak.lanes.stop());
    report(case, rate, feed_rss, &samples, (&last, stalls))
}

/// The memory of the process with a feed in full swing and no lanes. The feed goes; the next one takes its place.
fn rss_of_feed(case: Case, rate: Bitrate) -> anyhow::Result<u64> {
    let mut feed = Feed::new(case.flows, Camera::usual(rate));
    let end = feed.full_swing() + GROUP * GROUPS_TO_FULL_SWING;
    while feed.next_at() < end {
        let _ = feed.next();
    }
    rss()
}

/// The rate of each flow that loads the lanes as wanted.
fn find_rate(case: Case, receivers: &mut Receivers) -> anyhow::Result<Bitrate> {
    let mut rate = FIRST_RATE;
    for _ in 0..TRIALS_MAX {
        let mut soak = Soak::start(case, rate, receivers)?;
        soak.reach_full_swing()?;
        let load = soak.sample(Instant::now(), TRIAL)?.load;
        if LOADS.contains(&load) {
            break;
        }
        rate = scaled(rate, LOAD / load);
    }
    Ok(rate)
}

fn scaled(rate: Bitrate, factor: f64) -> Bitrate {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped, and above zero"
    )]
    let scaled = (rate.0 as f64 * factor.clamp(0.25, 4.0)) as u64;
    Bitrate(scaled.clamp(RATE_MIN.0, RATE_MAX.0))
}

/// Lanes under way, their feed and their receivers.
struct Soak<'a> {
    lanes: Lanes,
    input: ProbeSocket,
    feed: Feed,
    due: Due,
    receivers: &'a mut Receivers,
    flows: usize,
    /// When the feed's time began.
    epoch: Instant,
    stalls: u64,
}

impl<'a> Soak<'a> {
    fn start(case: Case, rate: Bitrate, receivers: &'a mut Receivers) -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let input = ProbeSocket::bind(any, &ProbeSettings::default())?;
        let lanes = spawn_lanes(case.lanes, Arc::new(|_| {}))?;
        let flows = Flows {
            count: case.flows,
            fanout: case.fanout,
            path: Path::Wire,
        };
        set_up(&lanes, input.local_addr(), flows, &receivers.addresses())?;
        receivers.reset()?;
        let mut feed = Feed::new(case.flows, Camera::usual(rate));
        Ok(Self {
            due: feed.next(),
            epoch: Instant::now(),
            stalls: 0,
            flows: case.flows,
            lanes,
            input,
            feed,
            receivers,
        })
    }

    /// Goes on until the caches are as full as they will be. By the feed's time: a machine with other work gives it
    /// less.
    fn reach_full_swing(&mut self) -> anyhow::Result<()> {
        let end = self.feed.full_swing() + GROUP * GROUPS_TO_FULL_SWING;
        let began = Instant::now();
        while self.due.at < end {
            self.go_on_for(STEP)?;
            anyhow::ensure!(
                began.elapsed() < FULL_SWING_MAX,
                "this machine does not feed {} flows at their own pace: ask for fewer, or a lower rate",
                self.flows
            );
        }
        Ok(())
    }

    /// Feeds at the traffic's own pace, and takes what arrives.
    fn go_on_for(&mut self, long: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < long {
            let behind = self.epoch.elapsed().saturating_sub(self.due_at());
            if behind > BEHIND_MAX {
                self.epoch += behind;
                self.stalls += 1;
            }
            for _ in 0..READS_BETWEEN_SENDS {
                if self.due_at() > self.epoch.elapsed() {
                    break;
                }
                let run = &self.due.run;
                self.input
                    .send(self.lanes.local_addr(), &run.bytes, run.segment_bytes)
                    .context("cannot send over loopback")?;
                self.due = self.feed.next();
            }
            let reads = self.receivers.drain(READS_BETWEEN_SENDS, |_, _, _| {})?;
            if reads == 0 && self.due_at() > self.epoch.elapsed() {
                std::thread::park_timeout(NAP);
            }
        }
        Ok(())
    }

    fn due_at(&self) -> Duration {
        self.due.at.since(levada_wire::Instant::ZERO)
    }

    /// Goes on for `every`, and looks at everything.
    fn sample(&mut self, began: Instant, every: Duration) -> anyhow::Result<Sample> {
        let (before, cpu) = (self.lanes.fresh_counters(), Times::of(worker::THREAD_NAME)?);
        let from = Instant::now();
        self.go_on_for(every)?;
        let ran = Times::of(worker::THREAD_NAME)?.since(&cpu).ran;
        let counters = self.lanes.fresh_counters();
        let took = from.elapsed().as_secs_f64();
        let sent = counters.send.sent_bytes - before.send.sent_bytes;
        Ok(Sample {
            bench: "soak-sample",
            seconds: began.elapsed().as_secs_f64(),
            rss_bytes: rss()?,
            cached_bytes: counters.lane.cached_bytes,
            load: ran.as_secs_f64() / took,
            mbit_per_s_sent: sent as f64 * 8.0 / 1e6 / took,
            ledgers_are_zero: counters.lane.ledger.check().is_zero(),
            dropped: counters.lane.ledger.dropped_in_all(),
            unsent: unsent(&counters),
        })
    }
}

/// Datagrams that lanes gave to their sockets and that did not leave.
const fn unsent(counters: &WorkerCounters) -> u64 {
    let send = &counters.send;
    send.given - send.sent - send.waiting
}

/// The memory that this process has: pages in use (proc(5)).
fn rss() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("cannot read /proc/self/status: memory by process needs Linux")?;
    parse_rss(&status).context("/proc/self/status says no VmRSS")
}

fn parse_rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The difference of the medians of the last third and the first.
fn growth(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> (f64, f64) {
    let third = samples.len().div_ceil(3);
    let median = |part: &[Sample]| {
        let spread = Spread::of(part.iter().map(|sample| of(sample) as f64));
        spread.map_or(0.0, |spread| spread.median)
    };
    let first = median(&samples[..third]);
    (first, median(&samples[samples.len() - third..]) - first)
}

fn report(
    case: Case,
    rate: Bitrate,
    feed_rss: u64,
    samples: &[Sample],
    (last, stalls): (&WorkerCounters, u64),
) -> anyhow::Result<Report> {
    let load = Spread::of(samples.iter().map(|sample| sample.load));
    let load = load.context("a soak lasts at least one sample")?;
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    let rss = most(|sample| sample.rss_bytes);
    let (first_rss, rss_growth) = growth(samples, |sample| sample.rss_bytes);
    let (_, cached_growth) = growth(samples, |sample| sample.cached_bytes);
    let cache_bytes_max = LaneSettings::default().cache_bytes_max as u64;
    let lanes_rss = rss.saturating_sub(feed_rss);
    let lanes_rss_max = lanes_rss_max(case, cache_bytes_max);
    let ledgers_are_zero =
        samples.iter().all(|sample| sample.ledgers_are_zero) && last.lane.ledger.check().is_zero();
    let mut faults = Vec::new();
    if !ledgers_are_zero {
        faults.push("a ledger does not sum to zero".to_owned());
    }
    if rss_growth > (first_rss * GROWTH_MAX).max(GROWTH_BYTES_MAX as f64) {
        faults.push(format!("memory grew by {:.1} MiB", rss_growth / MIB));
    }
    if lanes_rss > lanes_rss_max {
        faults.push(format!(
            "the lanes hold {:.1} MiB, more than {:.1}",
            lanes_rss as f64 / MIB,
            lanes_rss_max as f64 / MIB
        ));
    }
    if most(|sample| sample.cached_bytes) > cache_bytes_max {
        faults.push("the caches hold more than their limit".to_owned());
    }
    Ok(Report {
        bench: "soak",
        flows: case.flows,
        egresses: case.egresses,
        fanout: case.fanout,
        lanes: case.lanes,
        rate_bps: rate.0,
        seconds: samples.last().map_or(0.0, |sample| sample.seconds),
        load,
        rss_bytes: rss,
        feed_rss_bytes: feed_rss,
        lanes_rss_bytes: lanes_rss,
        lanes_rss_bytes_max: lanes_rss_max,
        cached_bytes: most(|sample| sample.cached_bytes),
        cache_bytes_max,
        rss_growth_bytes: whole(rss_growth),
        cached_growth_bytes: whole(cached_growth),
        packets_sent: last.send.sent,
        ledgers_are_zero,
        stalls,
        faults,
    })
}

pub const MIB: f64 = (1 << 20) as f64;

/// What the lanes may hold: their sockets' buffers are the kernel's and no memory of the process.
fn lanes_rss_max(case: Case, cache_bytes_max: u64) -> u64 {
    let cache = cache_bytes_max + whole(cache_bytes_max as f64 * CACHE_SLACK).unsigned_abs();
    cache + case.flows as u64 * FLOW_BYTES_MAX + FIXED_BYTES_MAX
}

#[expect(clippy::cast_possible_truncation, reason = "bytes of one machine")]
const fn whole(bytes: f64) -> i64 {
    bytes as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case {
        flows: 10,
        egresses: 10,
        fanout: 2,
        rate: None,
        lanes: 1,
        long: Duration::from_secs(60),
        every: Duration::from_secs(10),
    };

    fn sample(at: u64, rss_bytes: u64) -> Sample {
        Sample {
            bench: "soak-sample",
            seconds: at as f64 * 10.0,
            rss_bytes,
            cached_bytes: 1_000,
            load: LOAD,
            mbit_per_s_sent: 1.0,
            ledgers_are_zero: true,
            dropped: 0,
            unsent: 0,
        }
    }

    fn faults(samples: &[Sample]) -> anyhow::Result<Vec<String>> {
        let last = WorkerCounters::default();
        Ok(report(CASE, FIRST_RATE, 40 << 20, samples, (&last, 0))?.faults)
    }

    #[test]
    fn memory_that_swings_is_well_and_memory_that_grows_is_a_fault() -> anyhow::Result<()> {
        let swings: Vec<_> = (0..9).map(|at| sample(at, (60 + at % 3) << 20)).collect();
        let grows: Vec<_> = (0..9).map(|at| sample(at, (60 + at) << 20)).collect();

        assert_eq!(faults(&swings)?, [""; 0]);
        assert_eq!(faults(&grows)?, ["memory grew by 6.0 MiB"]);
        assert!(faults(&[]).is_err(), "nothing was measured");
        Ok(())
    }

    #[test]
    fn lanes_that_hold_too_much_and_a_ledger_that_is_off_are_faults() -> anyhow::Result<()> {
        let too_much = sample(0, 400 << 20);
        let off = Sample {
            ledgers_are_zero: false,
            ..sample(0, 60 << 20)
        };

        assert!(faults(&[too_much])?[0].starts_with("the lanes hold 360.0 MiB"));
        assert_eq!(faults(&[off])?, ["a ledger does not sum to zero"]);
        Ok(())
    }

    #[test]
    fn a_rate_is_scaled_towards_the_load_and_stays_one_that_can_be_made() {
        let rate = Bitrate(1_000_000);

        assert_eq!(scaled(rate, 0.7 / 0.35), Bitrate(2_000_000));
        assert_eq!(scaled(rate, 1_000.0), Bitrate(4_000_000));
        assert_eq!(scaled(Bitrate(RATE_MIN.0), 0.1), RATE_MIN);
    }

    #[test]
    fn the_memory_of_a_process_is_read_in_bytes() {
        let status = "Name:\tlevada\nVmHWM:\t  9000 kB\nVmRSS:\t    5124 kB\n";

        assert_eq!(parse_rss(status), Some(5_124 << 10));
        assert_eq!(parse_rss("Name:\tlevada\n"), None);
    }
}
