//! Who does the work that is measured: Levada's lanes, or a floor, which is the kernel's part of the same work alone.
//!
//! ```text
//! lane     input socket ─▶ real lanes in real workers     ─▶ N receivers
//! relay    input socket ─▶ GRO in, copy to memory, GSO out ─▶ N receivers      no tag, no window, no table
//! send                     runs from memory,       GSO out ─▶ N receivers      not even a receive
//! ```
//!
//! Not the measuring. Called by `drive.rs`. Invariant: all three are given the same runs and send each of them once to
//! each receiver; one that could not says so at its end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use levada_lane::{
    Command, Datagrams, EgressTerms, Event, FlowCommand, LaneSettings, LinkCommand, Path,
};
use levada_ports::sys::{ProbeSettings, ProbeSocket};
use levada_ports::{Clock, Lanes, SocketSet, SocketSettings, lanes, worker};
use levada_wire::LinkIndex;
use levada_wire::key::LinkKey;

use crate::cpu::Times;
use crate::origin::{self, Due};

/// The floors' threads, as the system names them (at most 15 bytes).
const RELAY_THREAD: &str = "floor-relay";
const SEND_THREAD: &str = "floor-send";
/// Runs that wait for the sending floor: more than a window holds.
const RUNS_WAITING_MAX: usize = 1_024;
/// How long a floor's socket waits; also how often the relaying floor looks whether it shall end.
const PATIENCE: Duration = Duration::from_millis(50);
/// Commands between two waits for the lane, far below what its queue holds.
const COMMANDS_AT_ONCE: usize = 4_096;
/// What the relaying floor copies into before it starts over: it stays in the processor's cache, as a newest group
/// does.
const MEMORY_BYTES: usize = 1 << 20;
/// The largest train.
const TRAIN_BYTES_MAX: usize = 65_535;
/// The lane's link to the origin; those to receivers follow.
pub(crate) const UPSTREAM: LinkIndex = LinkIndex(0);

/// The forwarders that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lane,
    /// A lane whose egresses are paced, as if they were beyond a wire.
    PacedLane,
    Relay,
    Send,
}

/// What it is started for.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Flows, each to all receivers.
    pub flows: usize,
    /// Lanes; floors have as many threads, each with its own share of the flows.
    pub lanes: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Contender {
    kind: Kind,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Lane {
        input: ProbeSocket,
        lanes: Lanes,
    },
    Relay {
        input: ProbeSocket,
        /// Where each thread receives.
        to: Vec<SocketAddr>,
        is_over: Arc<AtomicBool>,
        threads: Vec<JoinHandle<io::Result<()>>>,
    },
    Send {
        runs: Vec<SyncSender<Datagrams>>,
        threads: Vec<JoinHandle<io::Result<()>>>,
    },
}

impl Contender {
    /// Starts one for that work.
    pub(crate) fn start(kind: Kind, task: Task, receivers: &[SocketAddr]) -> anyhow::Result<Self> {
        let part = match kind {
            Kind::Lane | Kind::PacedLane => {
                let input = probe()?;
                let lanes = spawn_lanes(task.lanes, Arc::new(|_| {}))?;
                let flows = Flows {
                    count: task.flows,
                    fanout: receivers.len(),
                    path: match kind {
                        Kind::PacedLane => Path::Unknown,
                        _ => Path::Wire,
                    },
                };
                set_up(&lanes, input.local_addr(), flows, receivers)?;
                Part::Lane { input, lanes }
            }
            Kind::Relay => start_relay(task.lanes, receivers)?,
            Kind::Send => start_send(task.lanes, receivers)?,
        };
        Ok(Self { kind, part })
    }

    /// Gives it a run to send to all.
    pub(crate) fn feed(&self, due: &Due) -> anyhow::Result<()> {
        let run = &due.run;
        let (input, to) = match &self.part {
            Part::Lane { input, lanes } => (input, lanes.local_addr()),
            Part::Relay { input, to, .. } => (input, to[due.flow % to.len()]),
            Part::Send { runs, .. } => {
                return runs[due.flow % runs.len()]
                    .send(run.clone())
                    .context("the sending floor has ended");
            }
        };
        input
            .send(to, &run.bytes, run.segment_bytes)
            .context("cannot send over loopback")
    }

    /// How long its threads ran until now.
    pub(crate) fn cpu(&self) -> anyhow::Result<Times> {
        Times::of(match self.kind {
            Kind::Lane | Kind::PacedLane => worker::THREAD_NAME,
            Kind::Relay => RELAY_THREAD,
            Kind::Send => SEND_THREAD,
        })
    }

    /// Ends it; an error if it did not send everything.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self.part {
            Part::Lane { lanes, .. } => {
                let counters = lanes.stop();
                let (send, ledger) = (counters.send, counters.lane.ledger);
                anyhow::ensure!(
                    send.sent == send.given && ledger.check().is_zero(),
                    "the lane did not send everything: {send:?}"
                );
                Ok(())
            }
            Part::Relay {
                is_over, threads, ..
            } => {
                is_over.store(true, Ordering::Relaxed);
                threads.into_iter().try_for_each(join)
            }
            Part::Send { runs, threads } => {
                drop(runs);
                threads.into_iter().try_for_each(join)
            }
        }
    }
}

fn join(thread: JoinHandle<io::Result<()>>) -> anyhow::Result<()> {
    let result = thread.join();
    let result = result.map_err(|_| anyhow::anyhow!("a floor's thread panicked"))?;
    result.context("a floor failed")
}

fn spawn(
    name: &str,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<io::Result<()>>> {
    let (begin, begun) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name.to_owned());
    let thread = thread
        .spawn(move || {
            let _ = begin.send(()); // it has its name now, by which its time is found
            run()
        })
        .context("the system gives no thread")?;
    begun.recv().context("a floor's thread did not begin")?;
    Ok(thread)
}

/// A socket that takes trains, waits for them, and has as large a buffer as a lane's.
fn probe() -> anyhow::Result<ProbeSocket> {
    let settings = ProbeSettings {
        receive_buffer: SocketSettings::default().buffers.receive,
        gro: true,
        timestamps: false,
        patience: Some(PATIENCE),
    };
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    ProbeSocket::bind(any, &settings).context("cannot bind a socket on loopback")
}

/// Lanes and their sockets as a node has them.
pub(crate) fn spawn_lanes(
    count: usize,
    on_event: Arc<dyn Fn(Event) + Send + Sync>,
) -> anyhow::Result<Lanes> {
    spawn_lanes_with(count, LaneSettings::default(), Clock::start(), on_event)
}

/// The same, with other limits than a node's and a clock that others know.
pub(crate) fn spawn_lanes_with(
    count: usize,
    lane: LaneSettings,
    clock: Clock,
    on_event: Arc<dyn Fn(Event) + Send + Sync>,
) -> anyhow::Result<Lanes> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = lanes::Config {
        sockets: SocketSet::bind(any, &SocketSettings::default(), count)?,
        lane,
        clock,
        on_event,
        on_foreign: Arc::new(|_| {}),
    };
    lanes::spawn(config).context("cannot start the lanes")
}

/// What lanes are told to carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flows {
    pub(crate) count: usize,
    /// To how many of the receivers each goes: all receivers get equal shares.
    pub(crate) fanout: usize,
    /// What lies between the lanes and the receivers.
    pub(crate) path: Path,
}

/// Tells lanes to carry flows from `upstream`, each to its share of the receivers.
pub(crate) fn set_up(
    lanes: &Lanes,
    upstream: SocketAddr,
    flows: Flows,
    receivers: &[SocketAddr],
) -> anyhow::Result<()> {
    let link = |place: usize| LinkIndex(u32::try_from(place + 1).expect("few receivers"));
    let mut commands = vec![add_link(UPSTREAM, upstream, Path::Wire)];
    let links = receivers.iter().enumerate();
    commands.extend(links.map(|(place, &remote)| add_link(link(place), remote, flows.path)));
    for place in 0..flows.count {
        let flow = origin::flow(place);
        commands.push(Command::Flow(flow, FlowCommand::Open));
        commands.push(Command::Flow(
            flow,
            FlowCommand::SetCarryKey {
                epoch: origin::EPOCH,
                key: origin::carry(),
            },
        ));
        commands.push(Command::Flow(flow, FlowCommand::AddUpstream(UPSTREAM)));
        let egresses = (0..flows.fanout).map(|egress| {
            Command::Flow(
                flow,
                FlowCommand::AddEgress(
                    link((place * flows.fanout + egress) % receivers.len()),
                    EgressTerms::UNLIMITED,
                ),
            )
        });
        commands.extend(egresses);
    }
    for (count, command) in commands.into_iter().enumerate() {
        if count % COMMANDS_AT_ONCE == 0 {
            let _ = lanes.fresh_counters(); // answered when all before it are done
        }
        lanes.send(command)?;
    }
    let refused = lanes.fresh_counters().lane.commands_refused;
    anyhow::ensure!(
        refused == 0,
        "the lanes refused {refused} commands: they have not room for {} flows to {} of {} egresses each; ask for \
         fewer",
        flows.count,
        flows.fanout,
        receivers.len()
    );
    Ok(())
}

fn add_link(link: LinkIndex, remote: SocketAddr, path: Path) -> Command {
    let key = || LinkKey::from_bytes([6; 32]);
    Command::Link(
        link,
        LinkCommand::Add {
            remote_index: LinkIndex(0),
            remote,
            source: None,
            path,
            send: key(),
            receive: key(),
        },
    )
}

fn start_relay(threads: usize, receivers: &[SocketAddr]) -> anyhow::Result<Part> {
    let is_over = Arc::new(AtomicBool::new(false));
    let (mut to, mut started) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let socket = probe()?;
        to.push(socket.local_addr());
        let (ended, receivers) = (Arc::clone(&is_over), receivers.to_vec());
        let thread = spawn(RELAY_THREAD, move || relay_all(&socket, &ended, &receivers));
        started.push(thread?);
    }
    Ok(Part::Relay {
        input: probe()?,
        to,
        is_over,
        threads: started,
    })
}

fn start_send(threads: usize, receivers: &[SocketAddr]) -> anyhow::Result<Part> {
    let (mut to, mut started) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (runs, given) = sync_channel(RUNS_WAITING_MAX);
        let (socket, receivers) = (probe()?, receivers.to_vec());
        let thread = spawn(SEND_THREAD, move || send_all(&socket, &given, &receivers));
        to.push(runs);
        started.push(thread?);
    }
    Ok(Part::Send {
        runs: to,
        threads: started,
    })
}

/// The relaying floor: what a relay cannot do without.
fn relay_all(
    socket: &ProbeSocket,
    is_over: &AtomicBool,
    receivers: &[SocketAddr],
) -> io::Result<()> {
    let mut buffer = vec![0; TRAIN_BYTES_MAX];
    let mut memory = vec![0; MEMORY_BYTES + TRAIN_BYTES_MAX];
    let mut at = 0;
    while !is_over.load(Ordering::Relaxed) {
        let arrival = match socket.receive(&mut buffer) {
            Ok(arrival) => arrival,
            Err(error) if is_nothing(&error) => continue,
            Err(error) => return Err(error),
        };
        let kept = &mut memory[at..at + arrival.bytes];
        kept.copy_from_slice(&buffer[..arrival.bytes]);
        at = (at + arrival.bytes) % MEMORY_BYTES;
        for &receiver in receivers {
            socket.send(receiver, kept, arrival.segment_bytes)?;
        }
    }
    Ok(())
}

/// The sending floor.
fn send_all(
    socket: &ProbeSocket,
    runs: &Receiver<Datagrams>,
    receivers: &[SocketAddr],
) -> io::Result<()> {
    for run in runs {
        for &receiver in receivers {
            socket.send(receiver, &run.bytes, run.segment_bytes)?;
        }
    }
    Ok(())
}

fn is_nothing(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::WouldBlock,
        io::ErrorKind::TimedOut,
        io::ErrorKind::Interrupted,
    ];
    kinds.contains(&error.kind())
}
