//! Rates, loss and load over the last minutes and hours, for charts.
//!
//! ```text
//!   every 2 s: rows ─▶ Totals ─▶ Sample ─▶ minutes: a sample each 2 s, 10 minutes
//!                                   └ mean of 30 ─▶ hours: a sample each minute, 24 hours
//! ```
//!
//! Not counters, which `/metrics` has for programs that keep them. Called by the router and by `keep`. Invariant: the
//! rings hold [`MINUTES_MAX`] and [`HOURS_MAX`] samples at most, and a counter that begins anew is no negative rate.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use levada::view::{CounterRow, FlowRow, LinkRow, VERSION};
use levada::{Node, Stopped};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use crate::Shared;

/// Between two samples of the minutes.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Samples of the minutes.
pub const MINUTES_MAX: usize = 300;
/// Samples of the hours.
pub const HOURS_MAX: usize = 1_440;
/// Samples of the minutes that are one of the hours.
const OF_ONE: usize = 30;

/// What there was over one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// When it ended.
    at_unix_ms: u64,
    received_bps: f64,
    sent_bps: f64,
    /// Packets and copies that were dropped for whatever reason, per second.
    dropped_pps: f64,
    /// Of the link that loses most, in either direction.
    loss_ratio: f64,
    /// Processors that this process kept busy; zero where the system does not say.
    cpu_ratio: f64,
    links: f64,
    flows: f64,
    sessions: f64,
}

impl Sample {
    /// The mean of some; their end is the last one's.
    fn mean(of: &[Self]) -> Self {
        let count = of.len().max(1) as f64;
        let mean = |field: fn(&Self) -> f64| of.iter().map(field).sum::<f64>() / count;
        Self {
            at_unix_ms: of.last().map_or(0, |last| last.at_unix_ms),
            received_bps: mean(|it| it.received_bps),
            sent_bps: mean(|it| it.sent_bps),
            dropped_pps: mean(|it| it.dropped_pps),
            loss_ratio: mean(|it| it.loss_ratio),
            cpu_ratio: mean(|it| it.cpu_ratio),
            links: mean(|it| it.links),
            flows: mean(|it| it.flows),
            sessions: mean(|it| it.sessions),
        }
    }
}

/// Counts since the start, and what there is at this moment.
#[derive(Clone, Debug, Default)]
struct Totals {
    /// By flow, since a flow that goes takes its count with it.
    received_bytes: BTreeMap<u64, u64>,
    sent_bytes: u64,
    dropped: u64,
    busy: Duration,
    loss_ratio: f64,
    links: usize,
    sessions: usize,
}

impl Totals {
    async fn look(node: &Node, sessions: usize) -> Result<Self, Stopped> {
        let mut totals = Self {
            sessions,
            busy: busy(),
            ..Self::default()
        };
        for row in node.rows::<FlowRow>().await? {
            let FlowRow { control, counters } = row;
            totals
                .received_bytes
                .insert(control.flow.0, counters.bytes_in);
        }
        for CounterRow { name, value, .. } in node.rows::<CounterRow>().await? {
            if name == "socket_sent_bytes" {
                totals.sent_bytes += value;
            }
            if matches!(&*name, "packets_dropped" | "copies_unsent") {
                totals.dropped += value;
            }
        }
        for LinkRow { control, .. } in node.rows::<LinkRow>().await? {
            if control.state.is_up() {
                totals.links += 1;
                let ways = [control.loss_in_ratio, control.loss_out_ratio];
                let worst = ways.into_iter().flatten().map(|ratio| ratio.permille).max();
                let worst = f64::from(worst.unwrap_or(0)) / 1_000.0;
                totals.loss_ratio = totals.loss_ratio.max(worst);
            }
        }
        Ok(totals)
    }

    /// What there was between `before` and this.
    fn since(&self, before: &Self, took: Duration, at_unix_ms: u64) -> Sample {
        let seconds = took.as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let received = self.received_bytes.iter().map(|(flow, &now)| {
            let then = before.received_bytes.get(flow);
            rate(now, then.copied().unwrap_or(now))
        });
        Sample {
            at_unix_ms,
            received_bps: received.sum::<f64>() * 8.0,
            sent_bps: rate(self.sent_bytes, before.sent_bytes) * 8.0,
            dropped_pps: rate(self.dropped, before.dropped),
            loss_ratio: self.loss_ratio,
            cpu_ratio: self.busy.saturating_sub(before.busy).as_secs_f64() / seconds,
            links: self.links as f64,
            flows: self.received_bytes.len() as f64,
            sessions: self.sessions as f64,
        }
    }
}

/// The processor time of this process so far; zero where the system does not say.
fn busy() -> Duration {
    /// Of `/proc/self/stat`, which counts in hundredths on all Linux.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in brackets, may hold spaces.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse().ok());
    let (user, system): (Option<u32>, Option<u32>) = (ticks(), ticks());
    TICK * user.unwrap_or(0).saturating_add(system.unwrap_or(0))
}

/// The rings.
#[derive(Debug, Default)]
pub(crate) struct History {
    rings: Mutex<Rings>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Rings {
    minutes: VecDeque<Sample>,
    hours: VecDeque<Sample>,
    #[serde(skip)]
    unfinished: Vec<Sample>,
}

impl Rings {
    fn push(&mut self, sample: Sample) {
        push(&mut self.minutes, sample, MINUTES_MAX);
        self.unfinished.push(sample);
        if self.unfinished.len() == OF_ONE {
            push(&mut self.hours, Sample::mean(&self.unfinished), HOURS_MAX);
            self.unfinished.clear();
        }
    }
}

fn push(ring: &mut VecDeque<Sample>, sample: Sample, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(sample);
}

/// Fills the rings while the node lives.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, Totals)> = None;
    loop {
        ticks.tick().await;
        let Ok(totals) = Totals::look(&shared.node, shared.registry.len()).await else {
            return;
        };
        let now = Instant::now();
        if let Some((then, earlier)) = before {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH);
            let unix = u64::try_from(unix.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
            let sample = totals.since(&earlier, now - then, unix);
            let mut rings = shared
                .history
                .rings
                .lock()
                .expect("nothing panics under it");
            rings.push(sample);
        }
        before = Some((now, totals));
    }
}

#[derive(Serialize)]
struct Body {
    version: u32,
    #[serde(flatten)]
    rings: Rings,
}

pub(crate) async fn serve(State(shared): State<Arc<Shared>>) -> Response {
    let rings = shared
        .history
        .rings
        .lock()
        .expect("nothing panics under it")
        .clone();
    let version = VERSION;
    Json(Body { version, rings }).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(received: &[(u64, u64)], sent_bytes: u64, dropped: u64) -> Totals {
        Totals {
            received_bytes: received.iter().copied().collect(),
            sent_bytes,
            dropped,
            ..Totals::default()
        }
    }

    #[test]
    fn a_rate_is_the_growth_of_what_was_there_before() {
        let before = totals(&[(1, 1_000), (2, 500)], 5_000, 10);
        let now = totals(&[(1, 3_000), (3, 9_000)], 4_000, 30);

        let sample = now.since(&before, Duration::from_secs(2), 7);

        assert_eq!(sample.received_bps, 8_000.0, "flow 2 went, flow 3 is new");
        assert_eq!(
            sample.sent_bps, 0.0,
            "a counter that begins anew is no rate"
        );
        assert_eq!((sample.dropped_pps, sample.flows), (10.0, 2.0));
    }

    #[test]
    fn the_rings_are_bounded_and_an_hour_is_made_of_means() {
        let mut rings = Rings::default();
        let sample = |at_unix_ms| Sample {
            at_unix_ms,
            sent_bps: (at_unix_ms % OF_ONE as u64) as f64,
            ..Sample::default()
        };

        (0..((HOURS_MAX + 2) * OF_ONE) as u64).for_each(|at| rings.push(sample(at)));

        assert_eq!(
            (rings.minutes.len(), rings.hours.len()),
            (MINUTES_MAX, HOURS_MAX)
        );
        assert_eq!(rings.hours[0].sent_bps, (OF_ONE as f64 - 1.0) / 2.0);
        assert_eq!(rings.hours[0].at_unix_ms, 3 * OF_ONE as u64 - 1);
    }
}
