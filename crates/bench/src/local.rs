//! `levada bench local`: what a lane does for many local subscribers of one flow, beside what it does for one.
//!
//! ```text
//! Publisher ─▶ lane: seal, cache, open ─▶ ring of the flow ─▶ 1, 10, 100, 500 Subscribers, each a task
//!              └ its processor time by burst                   └ how late each has each frame
//! ```
//!
//! One node, real threads, frames in real time; each frame is a burst. In each round one subscriber is measured too,
//! which is the floor. Not the way over a network (`join`, `hop`). Called by the command. Invariant: a frame that a
//! subscriber did not get is counted, and a measurement begins once all have their first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use levada::{Delivery, Node, PublishOptions, Publisher, StreamName, SubscribeOptions, Subscriber};
use levada_ports::worker::THREAD_NAME;
use levada_wire::{Bitrate, Frame};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::cpu::Times;
use crate::stats::{Spread, percentile};
use crate::traffic::{self, Traffic};

/// When a frame was handed in stands at its start, as nanoseconds since the stage was set.
const STAMP_BYTES: usize = 8;
/// The frame that ends a phase has this and the phase's number as its stamp.
const LAST: u64 = 1 << 63;
/// How long subscribers may take until each has its first frame.
const PATIENCE: Duration = Duration::from_secs(20);

/// One line of results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    pub subscribers: usize,
    pub rate_bps: u64,
    /// The lane's processor time for each burst.
    pub lane_us: Spread,
    /// The same of one subscriber, in the same rounds.
    pub one_us: Spread,
    /// The one by the other, round by round.
    pub times_one: Spread,
    /// From hand-over to a subscriber: of all frames to all of them.
    pub p50_us: Spread,
    pub p99_us: Spread,
    /// In all rounds.
    pub bursts: usize,
    pub missing_frames: usize,
}

/// What one phase gave.
#[derive(Clone, Copy, Debug)]
struct Sample {
    lane_us: f64,
    p50_us: f64,
    p99_us: f64,
    bursts: usize,
    missing: usize,
}

/// A node that publishes, and the clock of the stamps.
struct Stage {
    node: Node,
    name: StreamName,
    publisher: Publisher,
    traffic: Traffic,
    began: Instant,
    phases: u64,
}

/// Measures each count of subscribers, in as many rounds.
///
/// # Errors
///
/// When the node does not start, or the system does not tell threads' times.
pub fn measure(
    rate: Bitrate,
    subscribers: &[usize],
    rounds: usize,
    seconds: Duration,
) -> anyhow::Result<Vec<Report>> {
    let runtime = tokio::runtime::Runtime::new().context("no threads for subscribers")?;
    runtime.block_on(async {
        let mut stage = Stage::set(rate).await?;
        let mut samples = vec![Vec::new(); subscribers.len()];
        for _ in 0..rounds {
            let one = stage.phase(1, seconds).await?;
            for (count, samples) in subscribers.iter().zip(&mut samples) {
                samples.push((stage.phase(*count, seconds).await?, one));
            }
        }
        stage.node.leave().await;
        let reports = subscribers.iter().zip(&samples);
        let reports = reports.map(|(&count, samples)| report(rate, count, samples));
        reports.collect()
    })
}

impl Stage {
    async fn set(rate: Bitrate) -> anyhow::Result<Self> {
        let builder = Node::builder().temporary_state().admin(false).lanes(1);
        let node = builder.listen(([127, 0, 0, 1], 0).into()).start().await?;
        let name: StreamName = "bench/local".parse().context("a name")?;
        let options = PublishOptions::default().with_flush_interval(Duration::ZERO);
        let description = (*traffic::description()).clone();
        let publisher = node.publish(name.clone(), description, options).await?;
        Ok(Self {
            node,
            name,
            publisher,
            traffic: Traffic::new(rate, 1),
            began: Instant::now(),
            phases: 0,
        })
    }

    async fn phase(&mut self, subscribers: usize, seconds: Duration) -> anyhow::Result<Sample> {
        self.phases += 1;
        let last = LAST | self.phases;
        let ready = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..subscribers {
            let options = SubscribeOptions::default();
            let subscriber = self.node.subscribe(self.name.clone(), options).await?;
            tasks.spawn(subscribe(subscriber, self.began, last, Arc::clone(&ready)));
        }
        let mut pace = Pace::default();
        let patience = Instant::now() + PATIENCE;
        while ready.load(Ordering::Relaxed) < subscribers {
            self.send(&mut pace, None).await?;
            anyhow::ensure!(Instant::now() < patience, "subscribers wait in vain");
        }
        let from = nanos(self.began.elapsed());
        let before = Times::of(THREAD_NAME)?;
        let (end, mut bursts) = (Instant::now() + seconds, 0);
        while Instant::now() < end {
            self.send(&mut pace, None).await?;
            bursts += 1;
        }
        self.send(&mut pace, Some(last)).await?;
        bursts += 1;
        let mut late = Vec::new();
        while let Some(seen) = tasks.join_next().await {
            let seen = seen.context("a subscriber's task has panicked")?;
            late.extend(
                seen.into_iter()
                    .filter(|(at, _)| *at >= from)
                    .map(|(_, late)| late),
            );
        }
        let ran = Times::of(THREAD_NAME)?.since(&before).ran;
        late.sort_unstable();
        let us = |per_cent| percentile(&late, per_cent).map(|nanos| nanos as f64 / 1_000.0);
        let none = "no frame reached a subscriber";
        Ok(Sample {
            lane_us: ran.as_secs_f64() * 1e6 / bursts as f64,
            p50_us: us(50.0).context(none)?,
            p99_us: us(99.0).context(none)?,
            bursts,
            // The last one has no time.
            missing: ((bursts - 1) * subscribers).saturating_sub(late.len()),
        })
    }

    /// Hands in the next frame at its time.
    async fn send(&mut self, pace: &mut Pace, stamp: Option<u64>) -> anyhow::Result<()> {
        let timed = self.traffic.next();
        let first = *pace.first.get_or_insert(timed.at);
        tokio::time::sleep_until((pace.began + (timed.at - first)).into()).await;
        let stamp = stamp.unwrap_or_else(|| nanos(self.began.elapsed()));
        let mut data = stamp.to_be_bytes().to_vec();
        data.extend_from_slice(timed.frame.data.get(STAMP_BYTES..).unwrap_or_default());
        let data = Bytes::from(data);
        let frame = Frame {
            data,
            ..timed.frame
        };
        Ok(self.publisher.send(frame).await?)
    }
}

/// When frames are due: in real time since a phase began.
struct Pace {
    began: Instant,
    first: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            first: None,
        }
    }
}

/// Takes frames until the last one: when each was handed in, and how late it was here.
async fn subscribe(
    mut subscriber: Subscriber,
    began: Instant,
    last: u64,
    ready: Arc<AtomicUsize>,
) -> Vec<(u64, u64)> {
    let mut seen = Vec::new();
    while let Some(delivery) = subscriber.next().await {
        let Delivery::Frame { frame, .. } = delivery else {
            continue;
        };
        let stamp = frame.data.first_chunk().copied().map(u64::from_be_bytes);
        match stamp {
            None => break,
            Some(stamp) if stamp == last => break,
            // Of a phase before, since newcomers start with the newest group.
            Some(stamp) if stamp & LAST != 0 => {}
            Some(stamp) => {
                if seen.is_empty() {
                    ready.fetch_add(1, Ordering::Relaxed);
                }
                seen.push((stamp, nanos(began.elapsed()).saturating_sub(stamp)));
            }
        }
    }
    seen
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn report(rate: Bitrate, subscribers: usize, of: &[(Sample, Sample)]) -> anyhow::Result<Report> {
    let spread = |of: &mut dyn Iterator<Item = f64>| Spread::of(of).context("no rounds");
    Ok(Report {
        bench: "local",
        subscribers,
        rate_bps: rate.0,
        lane_us: spread(&mut of.iter().map(|(this, _)| this.lane_us))?,
        one_us: spread(&mut of.iter().map(|(_, one)| one.lane_us))?,
        times_one: spread(&mut of.iter().map(|(this, one)| this.lane_us / one.lane_us))?,
        p50_us: spread(&mut of.iter().map(|(this, _)| this.p50_us))?,
        p99_us: spread(&mut of.iter().map(|(this, _)| this.p99_us))?,
        bursts: of.iter().map(|(this, _)| this.bursts).sum(),
        missing_frames: of.iter().map(|(this, _)| this.missing).sum(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn every_subscriber_has_every_frame_and_the_lane_is_measured() {
        let rate = Bitrate(1_000_000);

        let reports = measure(rate, &[1, 20], 1, Duration::from_millis(100)).unwrap();

        assert_eq!(reports.len(), 2);
        for report in &reports {
            assert_eq!(report.missing_frames, 0, "{report:?}");
            assert!(
                report.bursts > 1 && report.lane_us.median > 0.0,
                "{report:?}"
            );
            assert!(report.p50_us.median <= report.p99_us.median, "{report:?}");
        }
    }
}
