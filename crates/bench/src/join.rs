//! `levada bench join`: how soon a newcomer has the first whole frame of a flow that is carried already.
//!
//! ```text
//! consume   Command::Consume   ─▶ lane opens its cache  ─▶ first Delivery::Frame
//!           floor: wake a thread, open the same packets, take the frame
//! egress    Command::AddEgress ─▶ lane sends its cache  ─▶ first burst at the socket
//!           floor: wake a thread, send the same runs
//! ```
//!
//! The flow runs at its own pace all the time, so newcomers come at any place of a group. Not what a node adds behind
//! its lane, nor a request over a network. Called by the command. Invariant: a join that did not happen is an error,
//! not a long time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use levada_lane::{Command, Datagrams, Delivery, EgressTerms, Event, FlowCommand, Path};
use levada_ports::Lanes;
use levada_ports::sys::{ProbeSettings, ProbeSocket};
use levada_wire::packet::seal::Opener;
use levada_wire::{Bitrate, Header, LinkIndex};
use serde::Serialize;

use crate::contender::{self, Flows};
use crate::drive::wall_nanos;
use crate::origin::{self, Camera, Due, Feed};
use crate::stats::{Spread, percentile};

/// The one who joins as an egress.
const NEWCOMER: LinkIndex = LinkIndex(1);
/// Between two joins: not a divisor of the group, so that they come at all of its places.
const BETWEEN: Duration = Duration::from_millis(37);
/// How long nobody waits for a frame that is in memory.
const PATIENCE: Duration = Duration::from_secs(2);
/// Until the lane's thread sleeps again, as it does when a newcomer comes.
const ASLEEP_AFTER: Duration = Duration::from_millis(1);
/// Events and moments that wait to be looked at.
const WAITING_MAX: usize = 16;
/// The largest train.
const TRAIN_BYTES_MAX: usize = 65_535;

/// How long joins took, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Took {
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

/// One line of results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    /// `consume` or `egress`.
    pub newcomer: &'static str,
    pub rate_bps: u64,
    pub lane: Took,
    pub floor: Took,
    /// The lane's time by the floor's, join by join: the median.
    pub times_floor: f64,
    pub joins: usize,
}

/// The start of the newest group: the runs of its first burst, which is its first frame.
#[derive(Debug, Default)]
struct Start {
    runs: Vec<Datagrams>,
    bytes: usize,
    is_whole: bool,
}

impl Start {
    fn take(&mut self, due: &Due) {
        let run = &due.run;
        let last = (due.packets() - 1) * run.segment_bytes;
        let head = |at: usize| {
            let end = run.bytes.len().min(at + run.segment_bytes);
            Header::peek(&run.bytes[at..end]).expect("an origin sends media packets")
        };
        if head(0).offset == 0 {
            *self = Self::default();
        }
        if !self.is_whole {
            self.bytes += run.bytes.len();
            self.is_whole = head(last).last;
            self.runs.push(run.clone());
        }
    }
}

/// A carried flow and what a newcomer is measured with.
struct Stage {
    lanes: Lanes,
    input: ProbeSocket,
    newcomer: ProbeSocket,
    feed: Feed,
    due: Due,
    began: Instant,
    start: Start,
    frames: Receiver<Instant>,
    floor: Floor,
}

/// A thread that does what cannot be left out, when it is woken.
struct Floor {
    tasks: SyncSender<Task>,
    done: Receiver<Instant>,
}

/// What the sending thread is told to do.
enum Task {
    Open(Vec<Datagrams>),
    Send(Vec<Datagrams>, SocketAddr),
}

/// Measures both kinds of newcomers.
pub fn measure(rate: Bitrate, joins: usize) -> anyhow::Result<[Report; 2]> {
    let mut stage = Stage::set(rate)?;
    stage.carry_on(Duration::from_millis(1_500))?;
    let (mut consume, mut egress) = (Vec::new(), Vec::new());
    for _ in 0..joins {
        stage.carry_on(BETWEEN)?;
        consume.push((stage.consume()?, stage.open_floor()?));
        stage.carry_on(BETWEEN)?;
        egress.push((stage.add_egress()?, stage.send_floor()?));
    }
    Ok([
        report("consume", rate, &consume)?,
        report("egress", rate, &egress)?,
    ])
}

impl Stage {
    fn set(rate: Bitrate) -> anyhow::Result<Self> {
        let (moment, frames) = sync_channel(WAITING_MAX);
        let on_event = move |event: Event| {
            if let Event::Delivery {
                delivery: Delivery::Frame { .. },
                ..
            } = event
            {
                // Only the first moment is looked at: later ones may find no room.
                let _ = moment.try_send(Instant::now());
            }
        };
        let lanes = contender::spawn_lanes(1, Arc::new(on_event))?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = ProbeSettings {
            receive_buffer: 4 << 20,
            gro: true,
            timestamps: true,
            patience: Some(PATIENCE),
        };
        let input = ProbeSocket::bind(any, &settings)?;
        let newcomer = ProbeSocket::bind(any, &settings)?;
        let flows = Flows {
            count: 1,
            fanout: 1,
            path: Path::Wire,
        };
        contender::set_up(&lanes, input.local_addr(), flows, &[newcomer.local_addr()])?;
        let flow = origin::flow(0);
        lanes.send(Command::Flow(flow, FlowCommand::RemoveEgress(NEWCOMER)))?;
        let mut feed = Feed::new(1, Camera::usual(rate));
        Ok(Self {
            lanes,
            input,
            newcomer,
            due: feed.next(),
            feed,
            began: Instant::now(),
            start: Start::default(),
            frames,
            floor: Floor::start()?,
        })
    }

    /// Carries the flow at its own pace for that long.
    fn carry_on(&mut self, long: Duration) -> anyhow::Result<()> {
        let end = self.began.elapsed() + long;
        loop {
            let at = self.due.at.since(levada_wire::Instant::ZERO);
            if at > end {
                while let Some(left) = end.checked_sub(self.began.elapsed()) {
                    std::thread::park_timeout(left);
                }
                return Ok(());
            }
            while let Some(left) = at.checked_sub(self.began.elapsed()) {
                std::thread::park_timeout(left);
            }
            let run = &self.due.run;
            let to = self.lanes.local_addr();
            self.input.send(to, &run.bytes, run.segment_bytes)?;
            self.start.take(&self.due);
            self.due = self.feed.next();
        }
    }

    /// What the cache holds by now is what was carried, and the first burst of its group is whole.
    fn settle(&self) -> anyhow::Result<()> {
        let counters = self.lanes.fresh_counters();
        let flow = counters.lane.flows.first();
        anyhow::ensure!(
            self.start.is_whole && flow.is_some_and(|flow| flow.is_joinable),
            "the carried flow has no group to begin with"
        );
        self.floor.run(Task::Open(Vec::new()))?; // awake as recently as the lane
        std::thread::park_timeout(ASLEEP_AFTER);
        Ok(())
    }

    fn consume(&self) -> anyhow::Result<Duration> {
        self.settle()?;
        let flow = origin::flow(0);
        let began = Instant::now();
        self.lanes.send(Command::Flow(
            flow,
            FlowCommand::Consume {
                instance: origin::instance(),
                suite: origin::SUITE,
                epoch: origin::EPOCH,
                secret: origin::secret(),
            },
        ))?;
        let first = self.frames.recv_timeout(PATIENCE);
        let first = first.context("a new subscriber got no frame")?;
        self.lanes
            .send(Command::Flow(flow, FlowCommand::StopConsuming))?;
        let _ = self.lanes.fresh_counters(); // after it no frame of this subscriber comes
        while self.frames.try_recv().is_ok() {}
        Ok(first.duration_since(began))
    }

    fn open_floor(&self) -> anyhow::Result<Duration> {
        let runs = self.start.runs.clone();
        let began = Instant::now();
        let done = self.floor.run(Task::Open(runs))?;
        Ok(done.duration_since(began))
    }

    fn add_egress(&self) -> anyhow::Result<Duration> {
        self.settle()?;
        let (flow, link) = (origin::flow(0), NEWCOMER);
        let began = wall_nanos();
        self.lanes.send(Command::Flow(
            flow,
            FlowCommand::AddEgress(link, EgressTerms::UNLIMITED),
        ))?;
        let took = self.first_burst(began)?;
        self.lanes
            .send(Command::Flow(flow, FlowCommand::RemoveEgress(link)))?;
        let _ = self.lanes.fresh_counters(); // after it nothing is sent to the newcomer
        self.empty()?;
        Ok(took)
    }

    fn send_floor(&self) -> anyhow::Result<Duration> {
        let runs = self.start.runs.clone();
        let to = self.newcomer.local_addr();
        let began = wall_nanos();
        self.floor.run(Task::Send(runs, to))?;
        let took = self.first_burst(began)?;
        self.empty()?;
        Ok(took)
    }

    /// When as much as the first burst of a group has come, by the kernel's clock.
    fn first_burst(&self, began: u64) -> anyhow::Result<Duration> {
        let mut buffer = [0; 64];
        let mut bytes = 0;
        loop {
            let arrival = self.newcomer.receive(&mut buffer);
            let arrival = arrival.context("a new egress got no burst")?;
            bytes += arrival.bytes;
            if bytes >= self.start.bytes {
                let at = arrival
                    .at_nanos
                    .context("the kernel gives no arrival times")?;
                return Ok(Duration::from_nanos(at.saturating_sub(began)));
            }
        }
    }

    /// Throws away what the newcomer was sent beyond its first burst, up to a mark.
    fn empty(&self) -> anyhow::Result<()> {
        let mark = [0; 1];
        self.input.send(self.newcomer.local_addr(), &mark, 1)?;
        let mut buffer = vec![0; TRAIN_BYTES_MAX];
        while self.newcomer.receive(&mut buffer)?.bytes != mark.len() {}
        Ok(())
    }
}

impl Floor {
    fn start() -> anyhow::Result<Self> {
        let (tasks, given) = sync_channel(1);
        let (moment, done) = sync_channel(1);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = ProbeSocket::bind(any, &ProbeSettings::default())?;
        let work = move || {
            for task in given {
                perform(&socket, task);
                if moment.send(Instant::now()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("floor-join".into());
        thread.spawn(work).context("the system gives no thread")?;
        Ok(Self { tasks, done })
    }

    fn run(&self, task: Task) -> anyhow::Result<Instant> {
        self.tasks.send(task).context("the floor's thread ended")?;
        match self.done.recv_timeout(PATIENCE) {
            Ok(done) => Ok(done),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                anyhow::bail!("the floor's thread gave no answer")
            }
        }
    }
}

fn perform(socket: &ProbeSocket, task: Task) {
    match task {
        Task::Open(runs) => {
            let (secret, flow) = (origin::secret(), origin::flow(0));
            let mut opener = Opener::new(secret, flow, origin::instance(), origin::SUITE);
            let mut frame = Vec::new();
            for run in &runs {
                for packet in run.bytes.chunks(run.segment_bytes) {
                    let _ = opener.open(packet, &mut frame);
                }
            }
            std::hint::black_box(&frame);
        }
        Task::Send(runs, to) => {
            for run in &runs {
                let _ = socket.send(to, &run.bytes, run.segment_bytes);
            }
        }
    }
}

fn report(
    newcomer: &'static str,
    rate: Bitrate,
    joins: &[(Duration, Duration)],
) -> anyhow::Result<Report> {
    let took = |of: fn(&(Duration, Duration)) -> Duration| {
        let nanos = |pair| u64::try_from(of(pair).as_nanos()).unwrap_or(u64::MAX);
        let mut sorted: Vec<u64> = joins.iter().map(nanos).collect();
        sorted.sort_unstable();
        let at = |per_cent| percentile(&sorted, per_cent).map(|nanos| nanos as f64 / 1e3);
        let (p50_us, p99_us, max_us) = (at(50.0)?, at(99.0)?, at(100.0)?);
        Some(Took {
            p50_us,
            p99_us,
            max_us,
        })
    };
    let ratio = |(lane, floor): &(Duration, Duration)| lane.as_secs_f64() / floor.as_secs_f64();
    let times = Spread::of(joins.iter().map(ratio));
    let none = "nothing was measured";
    Ok(Report {
        bench: "join",
        newcomer,
        rate_bps: rate.0,
        lane: took(|(lane, _)| *lane).context(none)?,
        floor: took(|(_, floor)| *floor).context(none)?,
        times_floor: times.context(none)?.median,
        joins: joins.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_group_is_its_first_burst_and_no_more() {
        let mut feed = Feed::new(1, Camera::usual(Bitrate(4_000_000)));
        let mut start = Start::default();
        let mut starts = Vec::new();

        for _ in 0..200 {
            let due = feed.next();
            start.take(&due);
            if start.is_whole && starts.last() != Some(&start.bytes) {
                starts.push(start.bytes);
            }
        }

        // A sync frame of 70 kB is two runs; with its seals and the description it is a little longer.
        assert_eq!(start.runs.len(), 2);
        assert!(starts.len() >= 2, "{starts:?}");
        assert!(starts.iter().all(|bytes| (65_507..90_000).contains(bytes)));
    }
}
