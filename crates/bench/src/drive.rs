//! Drives a contender: as fast as it goes, or at the pace of the traffic.
//!
//! ```text
//!             ┌──────────── one thread ─────────────┐
//!   Feed ───▶ feed a run    ...    drain receivers    no more under way than a window
//!                 │                       ▲
//!                 └────▶ contender ───────┘           its own thread, whose processor time is read
//! ```
//!
//! Not the report. Called by `fanout` and `hop`. Invariant: every byte that was fed reaches every receiver or is
//! counted as missing; a measurement ends, whatever is lost.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use levada_wire::Header;

use crate::contender::Contender;
use crate::origin::{self, Due, Feed, GROUP};
use crate::receivers::{Got, Receivers};

/// What may be under way to all receivers together: the kernel's copies of it stay in a processor's cache.
const UNDER_WAY_BYTES: usize = 16 << 20;
/// What may be under way to one receiver: some bursts, so that the contender need not sleep between them, and no more.
const WINDOW_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(256 << 10);
/// Of a receive buffer, what a window may fill: the kernel counts more than twice a datagram's bytes.
const BUFFER_SHARE: usize = 4;
/// How long nothing comes before it counts as lost: far longer than a thread is ever kept from its processor.
const SILENCE: Duration = Duration::from_millis(500);
/// How long there is nothing to do before looking again.
const NAP: Duration = Duration::from_micros(50);
/// Reads before looking whether a run is due: a few tens of microseconds.
const READS_BETWEEN_SENDS: u64 = 64;
/// What is not measured at the beginning: threads find their processor, memory is touched for the first time.
const WARM_UP: Duration = Duration::from_millis(60);

/// What a contender did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// What all receivers got.
    pub(crate) got: Got,
    /// Runs that were fed, each to be sent once to each receiver.
    pub(crate) runs: u64,
    /// Bytes that did not arrive, over all receivers.
    pub(crate) missing_bytes: u64,
    /// How long the contender's threads ran.
    pub(crate) cpu: Duration,
    /// How long the one of them ran that ran longest.
    pub(crate) busiest: Duration,
    /// How long its threads could have run while others had the processors.
    pub(crate) waited: Duration,
    /// How long it took.
    pub(crate) wall: Duration,
}

impl Work {
    /// Billions of bits that arrived, by seconds of the contender's processor.
    pub(crate) fn gbit_per_cpu_s(&self) -> f64 {
        self.gbit() / self.cpu.as_secs_f64()
    }

    /// The same, by seconds of the thread that ran longest: what goes through when each has a processor of its own.
    pub(crate) fn gbit_per_busiest_cpu_s(&self) -> f64 {
        self.gbit() / self.busiest.as_secs_f64()
    }

    /// Billions of bits that arrived, by seconds.
    pub(crate) fn gbit_per_s(&self) -> f64 {
        self.gbit() / self.wall.as_secs_f64()
    }

    fn gbit(&self) -> f64 {
        self.got.bytes as f64 * 8.0 / 1e9
    }

    /// The share of one processor that the contender took.
    pub(crate) fn load(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// The share of the time in which it could have gone on and others had the processors.
    pub(crate) fn kept_waiting(&self) -> f64 {
        self.waited.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Feeds a contender as fast as it goes for about that long, and on to the end of a group.
pub(crate) fn saturate(
    contender: &Contender,
    feed: &mut Feed,
    receivers: &mut Receivers,
    long: Duration,
) -> anyhow::Result<Work> {
    warm_up(contender, feed, receivers)?;
    push_through(contender, feed, receivers, Until::Whole(long))
}

/// Brings all flows into full swing, from their first packets on: a lane that saw a flow begin in the middle would ask
/// for what came before, and nobody here would answer.
fn warm_up(
    contender: &Contender,
    feed: &mut Feed,
    receivers: &mut Receivers,
) -> anyhow::Result<()> {
    let swing = feed.full_swing();
    push_through(contender, feed, receivers, Until::At(swing))?;
    push_through(contender, feed, receivers, Until::Whole(WARM_UP))?;
    Ok(())
}

/// When to stop feeding.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// At a moment of the traffic.
    At(levada_wire::Instant),
    /// After that long, and then at the end of a group.
    Whole(Duration),
}

fn push_through(
    contender: &Contender,
    feed: &mut Feed,
    receivers: &mut Receivers,
    until: Until,
) -> anyhow::Result<Work> {
    receivers.reset()?;
    let window = window_bytes(receivers.len(), receivers.buffer_bytes()) as u64;
    let cpu = contender.cpu()?;
    let began = Instant::now();
    let mut heard = began;
    let (mut fed, mut runs) = (0, 0);
    let from = feed.next_at();
    let mut end = match until {
        Until::At(at) => Some(at),
        Until::Whole(_) => None,
    };
    loop {
        if let Until::Whole(long) = until
            && end.is_none()
            && began.elapsed() >= long
        {
            end = Some(whole_groups(from, feed.next_at()));
        }
        let is_over = |feed: &mut Feed| end.is_some_and(|end| feed.next_at() >= end);
        while !is_over(feed) && fed - receivers.least_bytes() < window {
            let due = feed.next();
            fed += due.run.bytes.len() as u64;
            runs += 1;
            contender.feed(&due)?;
        }
        let is_over = is_over(feed);
        if receivers.drain(u64::MAX, |_, _, _| {})? > 0 {
            heard = Instant::now();
        } else if (is_over && receivers.least_bytes() >= fed) || heard.elapsed() > SILENCE {
            break;
        } else {
            nap(NAP);
        }
    }
    let got = receivers.total();
    let used = contender.cpu()?.since(&cpu);
    Ok(Work {
        got,
        runs,
        missing_bytes: (fed * receivers.len() as u64).saturating_sub(got.bytes),
        cpu: used.ran,
        busiest: used.longest,
        waited: used.waited,
        wall: heard.duration_since(began),
    })
}

/// The end of the group at which `now` lies, of those that begin with `from`: only whole groups have the same mixture
/// of long and short bursts for everybody.
fn whole_groups(from: levada_wire::Instant, now: levada_wire::Instant) -> levada_wire::Instant {
    let groups = now.since(from).as_nanos().div_ceil(GROUP.as_nanos()).max(1);
    from + GROUP * u32::try_from(groups).unwrap_or(u32::MAX)
}

/// What may be under way to each of so many receivers with such buffers.
fn window_bytes(receivers: usize, buffer_bytes: usize) -> usize {
    let (least, most) = WINDOW_BYTES.into_inner();
    let share = (UNDER_WAY_BYTES / receivers.max(1)).clamp(least, most);
    share.min(buffer_bytes / BUFFER_SHARE)
}

/// Waits a moment. Not for a socket: see `receivers.rs`.
fn nap(long: Duration) {
    std::thread::park_timeout(long);
}

/// How late each run was at each receiver, in nanoseconds since the origin sent it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    /// All runs at all receivers, sorted.
    pub(crate) all: Vec<u64>,
    /// Each run at the last of its receivers, sorted.
    pub(crate) last: Vec<u64>,
    /// From the first receiver of a run to its last, sorted.
    pub(crate) across: Vec<u64>,
    /// How late the origin was, which the others do not count: since each run was due, sorted.
    pub(crate) origin: Vec<u64>,
}

/// What became of one run.
#[derive(Clone, Copy, Debug)]
struct Trace {
    sent: u64,
    first: u64,
    last: u64,
    arrivals: usize,
}

/// The runs under measurement, to be found by what a receiver sees of them.
#[derive(Debug, Default)]
struct Traces {
    traces: Vec<Trace>,
    /// By flow and number of the first packet: the place of its trace, plus one.
    places: Vec<Vec<u32>>,
    all: Vec<u64>,
    origin: Vec<u64>,
}

impl Traces {
    fn sent(&mut self, due: &Due, now: u64, late: Duration) {
        self.origin
            .push(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        let number = usize::try_from(due.first.value()).expect("a measurement is short");
        if self.places.len() <= due.flow {
            self.places.resize_with(due.flow + 1, Vec::new);
        }
        let places = &mut self.places[due.flow];
        places.resize(places.len().max(number + 1), 0);
        self.traces.push(Trace {
            sent: now,
            first: u64::MAX,
            last: 0,
            arrivals: 0,
        });
        places[number] = u32::try_from(self.traces.len()).expect("a measurement is short");
    }

    fn arrived(&mut self, head: &[u8], at: u64) {
        let Some(header) = Header::peek(head) else {
            return;
        };
        let number = usize::try_from(header.number.value()).expect("48 bits");
        let places = self.places.get(origin::place(header.flow));
        let place = places.and_then(|places| places.get(number)).copied();
        let Some(place) = place.and_then(|place| place.checked_sub(1)) else {
            return; // not the first packet of a run, or sent before the measurement
        };
        let trace = &mut self.traces[place as usize];
        trace.first = trace.first.min(at);
        trace.last = trace.last.max(at);
        trace.arrivals += 1;
        self.all.push(at.saturating_sub(trace.sent));
    }

    /// The latencies, of runs that came everywhere.
    fn finish(mut self, receivers: usize) -> Latencies {
        let whole = || self.traces.iter().filter(|t| t.arrivals == receivers);
        let last = whole().map(|trace| trace.last.saturating_sub(trace.sent));
        let across = whole().map(|trace| trace.last - trace.first);
        let (mut last, mut across): (Vec<_>, Vec<_>) = (last.collect(), across.collect());
        self.all.sort_unstable();
        self.origin.sort_unstable();
        last.sort_unstable();
        across.sort_unstable();
        Latencies {
            all: self.all,
            last,
            across,
            origin: self.origin,
        }
    }
}

/// Feeds a contender at the traffic's own pace for that long.
///
/// Receivers must have timestamps.
pub(crate) fn pace(
    contender: &Contender,
    feed: &mut Feed,
    receivers: &mut Receivers,
    long: Duration,
) -> anyhow::Result<(Work, Latencies)> {
    warm_up(contender, feed, receivers)?;
    receivers.reset()?;
    let mut traces = Traces::default();
    let mut due = feed.next();
    let (epoch, began) = (due.at, Instant::now());
    let (mut cpu, mut measured_from) = (contender.cpu()?, None);
    let (mut fed, mut runs, mut heard) = (0, 0, began);
    loop {
        let elapsed = began.elapsed();
        if measured_from.is_none() && elapsed >= WARM_UP {
            (cpu, measured_from) = (contender.cpu()?, Some(Instant::now()));
        }
        let is_over = elapsed >= WARM_UP + long;
        let mut is_early = is_over;
        while !is_over && due.at.since(epoch) <= elapsed {
            if measured_from.is_some() {
                let late = began.elapsed().saturating_sub(due.at.since(epoch));
                traces.sent(&due, wall_nanos(), late);
            }
            contender.feed(&due)?;
            fed += due.run.bytes.len() as u64;
            runs += 1;
            due = feed.next();
        }
        is_early |= due.at.since(epoch) > elapsed;
        let reads = receivers.drain(READS_BETWEEN_SENDS, |_, head, arrival| {
            if let Some(at) = arrival.at_nanos {
                traces.arrived(head, at);
            }
        })?;
        if reads > 0 {
            heard = Instant::now();
        } else if is_over && (receivers.least_bytes() >= fed || heard.elapsed() > SILENCE) {
            break;
        } else if is_early {
            nap(NAP);
        }
    }
    let got = receivers.total();
    let wall = heard.duration_since(measured_from.unwrap_or(began));
    let used = contender.cpu()?.since(&cpu);
    let work = Work {
        got,
        runs,
        missing_bytes: (fed * receivers.len() as u64).saturating_sub(got.bytes),
        cpu: used.ran,
        busiest: used.longest,
        waited: used.waited,
        wall,
    };
    Ok((work, traces.finish(receivers.len())))
}

/// The system's wall clock, by which the kernel stamps arrivals.
pub(crate) fn wall_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Camera;

    #[test]
    fn a_window_is_never_more_than_a_receiver_can_hold() {
        assert_eq!(window_bytes(10, 8 << 20), 256 << 10);
        assert_eq!(window_bytes(100, 8 << 20), (16 << 20) / 100);
        assert_eq!(window_bytes(1_000, 8 << 20), 64 << 10);
        assert_eq!(window_bytes(10, 212_992), 53_248);
    }

    #[test]
    fn a_measurement_ends_with_a_group() {
        let at = |millis| levada_wire::Instant::ZERO + Duration::from_millis(millis);

        assert_eq!(whole_groups(at(300), at(300)), at(1_300));
        assert_eq!(whole_groups(at(300), at(1_300)), at(1_300));
        assert_eq!(whole_groups(at(300), at(1_301)), at(2_300));
    }

    #[test]
    fn a_runs_latency_counts_to_its_last_receiver() {
        let mut feed = Feed::new(1, Camera::usual(levada_wire::Bitrate(1_000_000)));
        let mut traces = Traces::default();
        let due = feed.next();
        let head = due.run.bytes.slice(..64);

        traces.sent(&due, 1_000, Duration::ZERO);
        for at in [1_010, 1_050, 1_030] {
            traces.arrived(&head, at);
        }
        let latencies = traces.finish(3);

        assert_eq!(latencies.all, [10, 30, 50]);
        assert_eq!((latencies.last, latencies.across), (vec![50], vec![40]));
    }

    #[test]
    fn a_run_that_missed_a_receiver_has_no_last_one() {
        let mut feed = Feed::new(1, Camera::usual(levada_wire::Bitrate(1_000_000)));
        let mut traces = Traces::default();
        let due = feed.next();

        traces.sent(&due, 1_000, Duration::ZERO);
        traces.arrived(&due.run.bytes.slice(..64), 1_010);

        assert!(traces.finish(2).last.is_empty());
    }
}
