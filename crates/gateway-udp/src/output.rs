//! One output: a task that takes a stream's frames, and a thread that sends datagrams when they are due.
//!
//! ```text
//!   task (tokio)   Subscriber ─▶ Shaper, under a lock ◀─ thread: waits until `due`, takes a datagram, sends it
//! ```
//!
//! A thread, since timers of tokio are a millisecond coarse and televisions measure the clock within half of one. Not
//! the order of packets, which is the shaper's. Called by the parent. Invariant: nothing is sent under the lock.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use levada::{Delivery, Node, SubscribeOptions};
use levada_gateway::session::About;
use levada_gateway::{EndReason, Registry, Role, Session, Transport};
use levada_media::ts::{DATAGRAM_BYTES, Shape, Shaper};
use levada_wire::{Instant, NetworkId};
use tokio::task::AbortHandle;

use crate::row::{Row, State};
use crate::socket::Sender;
use crate::spec::Spec;

/// A datagram that leaves later than this is counted as late.
const LATE: Duration = Duration::from_micros(500);
/// Until a socket that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Seconds over which the busiest is looked for.
const NEED_SECONDS: usize = 10;
/// Bytes of an RTP header.
const RTP_BYTES: usize = 12;
/// The payload type of MPEG-TS (RFC 3551).
const MP2T: u8 = 33;

/// A running output; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Output {
    spec: Spec,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What the task, the thread and whoever looks have together.
#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Told when something is due earlier than before.
    news: Condvar,
    start: std::time::Instant,
}

#[derive(Debug)]
struct Inner {
    shaper: Shaper,
    state: State,
    /// Why nothing can be sent.
    failure: Option<String>,
    /// Codecs that the format leaves out.
    left_out: Vec<String>,
    from: Option<String>,
    bytes: u64,
    datagrams: u64,
    late: u64,
    refused: u64,
    need: Need,
    is_over: bool,
}

/// What frames alone need.
#[derive(Debug, Default)]
struct Need {
    second: u64,
    bits: u64,
    past: VecDeque<u64>,
}

impl Need {
    fn add(&mut self, now: Instant, bytes: usize) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.past.push_back(std::mem::take(&mut self.bits));
            if self.past.len() > NEED_SECONDS {
                self.past.pop_front();
            }
        }
        self.bits += u64::try_from(bytes).unwrap_or(0) * 8;
    }

    fn most(&self) -> u64 {
        self.past.iter().copied().max().unwrap_or(self.bits)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    fn now(&self) -> Instant {
        let nanos = self.start.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Output {
    /// Sends from now on. Must be called on a tokio runtime.
    pub(crate) fn start(spec: &Spec, node: &Node, registry: &Registry) -> Self {
        let shape = Shape {
            rate: spec.rate,
            delay: spec.delay,
            // Every node is in the open network.
            network: NetworkId::OPEN,
        };
        let inner = Inner {
            shaper: Shaper::new(shape, Instant::ZERO),
            state: State::Waiting,
            failure: None,
            left_out: Vec::new(),
            from: None,
            bytes: 0,
            datagrams: 0,
            late: 0,
            refused: 0,
            need: Need::default(),
            is_over: false,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            news: Condvar::new(),
            start: std::time::Instant::now(),
        });
        let session = Arc::new(registry.begin(about(spec)));
        let thread = Thread {
            spec: spec.clone(),
            shared: Arc::clone(&shared),
            session: Arc::clone(&session),
            sequence: 0,
        };
        let spawned = std::thread::Builder::new()
            .name("levada-output".to_owned())
            .spawn(|| thread.run());
        if let Err(error) = spawned {
            let mut inner = shared.lock();
            inner.state = State::Failed;
            inner.failure = Some(format!("the system gives no thread for it: {error}"));
        }
        let feeding = feed(spec.clone(), node.clone(), Arc::clone(&shared), session);
        Self {
            spec: spec.clone(),
            shared,
            task: tokio::spawn(feeding).abort_handle(),
        }
    }

    /// How far it is.
    pub(crate) fn state(&self) -> State {
        self.shared.lock().state
    }

    /// What can be seen of it.
    pub(crate) fn row(&self) -> Row {
        let inner = self.shared.lock();
        let (spec, counts) = (&self.spec, inner.shaper.counts());
        Row {
            stream: spec.name.to_string(),
            to: spec.url(),
            state: inner.state,
            reason: inner.reason(spec),
            rate_bps: spec.rate.map(|rate| rate.0),
            needed_bps: inner.need.most(),
            interface: inner.from.clone(),
            ttl: spec.ttl.into(),
            announced: spec.announce && inner.state == State::Running,
            bytes: inner.bytes,
            datagrams: inner.datagrams,
            datagrams_late: inner.late,
            datagrams_refused: inner.refused,
            null_packets: counts.null_packets,
            frames: counts.frames,
            frames_over_rate: counts.frames_over_rate,
            frames_skipped: counts.frames_skipped,
            frames_late: counts.frames_late,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.lock().is_over = true;
        self.shared.news.notify_all();
    }
}

impl Inner {
    /// What is wrong, in words, with what to do.
    fn reason(&self, spec: &Spec) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        let counts = self.shaper.counts();
        match (self.state, spec.rate) {
            (State::Waiting, _) => Some("nothing of the stream has come yet".to_owned()),
            (State::Held, _) => Some("the stream is away".to_owned()),
            (State::Ended, _) => Some("its session was ended by an operator".to_owned()),
            (_, Some(rate)) if counts.frames_over_rate > 0 => Some(format!(
                "{rate} is too little at times: the frames alone took up to {} in a second",
                levada_wire::Bitrate(self.need.most())
            )),
            _ if !self.left_out.is_empty() => {
                Some(format!("left out: {}", self.left_out.join(", ")))
            }
            _ => None,
        }
    }
}

fn about(spec: &Spec) -> About {
    About {
        role: Role::Play,
        stream: spec.name.clone(),
        protocol: spec.protocol(),
        transport: if spec.is_multicast() {
            Transport::Multicast
        } else {
            Transport::Udp
        },
        user: None,
        remote: spec.to,
        agent: "output".to_owned(),
    }
}

/// Takes frames until the node stops or the session is ended.
async fn feed(spec: Spec, node: Node, shared: Arc<Shared>, session: Arc<Session>) {
    loop {
        let options = SubscribeOptions::default().with_repair_budget(spec.delay);
        let subscribed = node.subscribe(spec.name.clone(), options).await;
        let mut subscriber = match subscribed {
            Ok(subscriber) => subscriber,
            Err(error) => {
                shared.lock().failure = Some(error.to_string());
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        loop {
            let delivery = tokio::select! {
                delivery = subscriber.next() => delivery,
                () = session.kicked() => {
                    session.end_with(EndReason::Kicked);
                    let mut inner = shared.lock();
                    inner.state = State::Ended;
                    inner.is_over = true;
                    shared.news.notify_all();
                    return;
                }
            };
            let Some(delivery) = delivery else {
                session.end_with(EndReason::Stopped);
                return;
            };
            let now = shared.now();
            take(&mut shared.lock(), delivery, now, &spec);
            shared.news.notify_all();
        }
    }
}

fn take(inner: &mut Inner, delivery: Delivery, now: Instant, spec: &Spec) {
    match delivery {
        Delivery::NewInstance(_) => inner.shaper.restart(),
        Delivery::Description(description) => {
            let left_out = inner.shaper.describe(&description);
            if left_out != inner.left_out && !left_out.is_empty() {
                tracing::warn!(output = %spec, "left out: {}", left_out.join(", "));
            }
            inner.left_out = left_out;
        }
        Delivery::Frame { frame, .. } => {
            inner.need.add(now, frame.data.len());
            inner.shaper.push(now, &frame);
            if inner.failure.is_none() {
                inner.state = State::Running;
            }
        }
        Delivery::State(levada::State::Active { .. }) | Delivery::Gap(_) => {}
        Delivery::State(_) | Delivery::End if inner.state == State::Running => {
            inner.state = State::Held;
            inner.shaper.restart();
        }
        _ => {}
    }
}

/// The thread: it owns the numbers of RTP, and the socket while that is of use.
struct Thread {
    spec: Spec,
    shared: Arc<Shared>,
    session: Arc<Session>,
    /// Of the next RTP packet.
    sequence: u16,
}

impl Thread {
    fn run(mut self) {
        while let Some(sender) = self.open() {
            if self.send(&sender) {
                return;
            }
        }
    }

    /// Opens the socket, trying until that works; none when the output is over.
    fn open(&self) -> Option<Sender> {
        loop {
            let opened = Sender::open(&self.spec);
            let mut inner = self.shared.lock();
            if inner.is_over {
                return None;
            }
            match opened {
                Ok(sender) => {
                    inner.failure = None;
                    if inner.state == State::Failed {
                        inner.state = State::Waiting;
                    }
                    inner.from = sender.from.map(|ip| ip.to_string());
                    return Some(sender);
                }
                Err(error) => {
                    let why = error.to_string();
                    if inner.failure.as_ref() != Some(&why) {
                        tracing::warn!(output = %self.spec, "nothing is sent, and it is tried again: {why}");
                    }
                    inner.failure = Some(why);
                    inner.state = State::Failed;
                    let again = std::time::Instant::now() + AGAIN;
                    while !inner.is_over {
                        let left = again.saturating_duration_since(std::time::Instant::now());
                        if left.is_zero() {
                            break;
                        }
                        inner = match self.shared.news.wait_timeout(inner, left) {
                            Ok((inner, _)) => inner,
                            Err(_) => return None,
                        };
                    }
                }
            }
        }
    }

    /// Sends what is due; whether the output is over, rather than its socket of no use.
    fn send(&mut self, sender: &Sender) -> bool {
        let (mut datagram, mut out) = (Vec::new(), Vec::with_capacity(DATAGRAM_BYTES));
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.lock();
        loop {
            if inner.is_over {
                return true;
            }
            let now = shared.now();
            let due = inner.shaper.due();
            let waited = match due {
                None => shared.news.wait(inner),
                Some(due) if due > now => {
                    let waited = shared.news.wait_timeout(inner, due.since(now));
                    waited
                        .map(|(inner, _)| inner)
                        .map_err(|error| std::sync::PoisonError::new(error.into_inner().0))
                }
                Some(due) => {
                    inner.late += u64::from(now.since(due) > LATE);
                    let Some(ticks) = inner.shaper.take(now, &mut out) else {
                        continue;
                    };
                    drop(inner);
                    self.wrap(&out, ticks, &mut datagram);
                    let sent = sender.send(&datagram);
                    inner = shared.lock();
                    if !self.note(&mut inner, sent, datagram.len()) {
                        return false;
                    }
                    continue;
                }
            };
            inner = match waited {
                Ok(inner) => inner,
                Err(_) => return true,
            };
        }
    }

    /// Notes what became of a datagram; whether the socket is of use.
    fn note(&self, inner: &mut Inner, sent: io::Result<()>, bytes: usize) -> bool {
        match sent {
            Ok(()) => {
                inner.datagrams += 1;
                inner.bytes += u64::try_from(bytes).unwrap_or(0);
                self.session.counts().add_bytes(bytes);
                true
            }
            // Nobody listens there yet: what ICMP says of a datagram before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                inner.refused += 1;
                true
            }
            Err(error) => {
                inner.refused += 1;
                tracing::debug!(output = %self.spec, "a datagram is refused: {error}");
                // A full buffer empties by itself; else the interface may be another one by now.
                matches!(error.raw_os_error(), Some(ENOBUFS))
                    || error.kind() == io::ErrorKind::WouldBlock
            }
        }
    }

    /// Puts an RTP header in front, if the output is RTP (RFC 3550 section 5.1, RFC 2250 section 2).
    fn wrap(&mut self, packets: &[u8], ticks: u64, datagram: &mut Vec<u8>) {
        datagram.clear();
        if self.spec.is_rtp {
            datagram.reserve(RTP_BYTES + packets.len());
            datagram.extend_from_slice(&[0x80, MP2T]);
            datagram.extend_from_slice(&self.sequence.to_be_bytes());
            let ticks = u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or(0);
            datagram.extend_from_slice(&ticks.to_be_bytes());
            let source = u32::try_from(self.session.id() & u64::from(u32::MAX)).unwrap_or(0);
            datagram.extend_from_slice(&source.to_be_bytes());
            self.sequence = self.sequence.wrapping_add(1);
        }
        datagram.extend_from_slice(packets);
    }
}

/// No room in the interface's queue (errno(3), Linux).
const ENOBUFS: i32 = 105;
