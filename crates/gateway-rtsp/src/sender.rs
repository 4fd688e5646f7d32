//! The tasks that write to players: a few of them, each with many clients.
//!
//! ```text
//!   ring of a stream ─┐ notified      ┌─▶ client: all of a burst in one write
//!   ring of a stream ─┴──▶ Sender ────┼─▶ client: the socket is full, and is tried again when it is writable
//!   responses ───────────────▲        └─▶ client: skipped to the next group by its cursor
//! ```
//!
//! From the first PLAY on, everything that is written to a connection is written here, responses too, so that they
//! never end up within a packet. Not the reading, which each connection's own task does. Started by `server`.
//! Invariant: a write that does not fit waits for its client alone; a client that takes nothing for too long is
//! dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use levada_gateway::{Cursor, EndReason, Gate, Next, Piece, Ring, Session};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::burst::{Burst, Tracks};
use crate::udp::{SEND_BYTES_MAX, Udp};

/// Commands that wait for a sender. Who has more to say waits.
const COMMANDS_MAX: usize = 1_024;
/// Pieces that are gathered for one write to a client that is behind.
const GATHERED_MAX: usize = 16;
/// Looks at clients that take nothing, in the time that they may...
const LOOKS: u32 = 8;
/// ...and how often that is, since the time can change.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What a client by UDP may be sent at once, as much as a usual receive buffer holds with ease...
const CREDIT_BYTES_MAX: i64 = 96 << 10;
/// ...and what it is granted in a millisecond: 80 Mb/s.
const CREDIT_BYTES_PER_MILLI: i64 = 10_000;
/// How long a send by UDP waits that found the socket full.
const FULL_WAIT: Duration = Duration::from_millis(2);

/// The number of a client at its sender.
pub(crate) type ClientId = u64;

/// What a sender is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// One more connection to write to.
    Add {
        client: ClientId,
        way: Way,
        /// Told when the client's stream ends, or the client is dropped.
        ended: oneshot::Sender<EndReason>,
    },
    /// Write these bytes before any further packet.
    Say { client: ClientId, bytes: Bytes },
    /// Send a stream from here on.
    Play { client: ClientId, play: Box<Play> },
    /// Send no stream for now.
    Pause { client: ClientId },
    /// Forget the client once what waits is written.
    Remove { client: ClientId },
}

/// How packets reach a client.
#[derive(Debug)]
pub(crate) enum Way {
    /// Between the messages of its connection.
    Tcp(Arc<TcpStream>),
    /// In datagrams, each track to two ports of its own; by the places of the tracks.
    Udp(Arc<Udp>, Vec<Option<[SocketAddr; 2]>>),
}

/// A stream to a client.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) ring: Arc<Ring<Burst>>,
    pub(crate) cursor: Cursor,
    pub(crate) tracks: Tracks,
    pub(crate) counted: Counted,
    /// Bytes after which the client is dropped.
    pub(crate) bytes_max: Option<u64>,
}

/// Whose records count what is sent.
#[derive(Debug)]
pub(crate) enum Counted {
    /// That of the only client.
    Client(Arc<Session>),
    /// Those of all who hear a channel.
    Listeners(Arc<Listeners>),
}

/// The records of those who hear a channel, and the tracks that each of them hears.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Vec<(Arc<Session>, Tracks)>>);

impl Listeners {
    fn sessions(&self) -> MutexGuard<'_, Vec<(Arc<Session>, Tracks)>> {
        self.0
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    pub(crate) fn join(&self, session: Arc<Session>, tracks: Tracks) {
        self.sessions().push((session, tracks));
    }

    pub(crate) fn leave(&self, session: u64) {
        self.sessions().retain(|(known, _)| known.id() != session);
    }

    fn add_bytes(&self, track: usize, bytes: usize) {
        for (session, tracks) in self.sessions().iter() {
            if tracks.has(track) {
                session.counts().add_bytes(bytes);
            }
        }
    }

    fn set_skips(&self, skips: u64) {
        for (session, _) in self.sessions().iter() {
            session.counts().set_skips(skips);
        }
    }
}

/// The way to a sender.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Tells the sender; waits while it is behind. `false`: it is gone.
    pub(crate) async fn tell(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }
}

/// Starts a sender, which drops clients that take nothing for longer than the gate's limits say. It ends when its last
/// handle is dropped.
pub(crate) fn start(gate: Gate) -> Handle {
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let sender = Sender {
        gate,
        ..Sender::default()
    };
    tokio::spawn(sender.run(inbox));
    Handle { commands }
}

#[derive(Debug, Default)]
struct Sender {
    clients: BTreeMap<ClientId, Client>,
    /// The streams that clients have, by the address of their rings.
    streams: BTreeMap<usize, Stream>,
    news: Arc<Notify>,
    /// When clients by UDP may be sent more.
    paced: BTreeSet<(Instant, ClientId)>,
    gate: Gate,
}

/// A stream and who has it.
#[derive(Debug)]
struct Stream {
    ring: Arc<Ring<Burst>>,
    /// Up to where it was sent to those that are not behind.
    head: Option<u64>,
    clients: Vec<ClientId>,
}

#[derive(Debug)]
struct Client {
    way: Way,
    ended: Option<oneshot::Sender<EndReason>>,
    play: Option<Play>,
    /// What is being written; of the first, what is left.
    out: VecDeque<Bytes>,
    /// What is being sent by UDP, and its first run that was not sent.
    piece: Option<(Arc<Piece<Burst>>, usize)>,
    credit: Credit,
    /// When it may be sent more.
    paced: Option<Instant>,
    /// Since when the socket takes nothing.
    blocked: Option<Instant>,
    /// Forgotten once `out` is written.
    leaves: bool,
}

/// How a client stands after it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It has all there is, or its socket is full.
    Waits,
    /// It may be sent more at that time.
    Paced(Instant),
    /// Its stream is over for it.
    Ended(EndReason),
    /// It is gone.
    Gone(EndReason),
}

impl Sender {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let look_every = (self.gate.limits().stall_max / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        let mut looks = tokio::time::interval(look_every);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let news = Arc::clone(&self.news);
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = news.notified() => self.on_news(),
                () = sleep_until(self.paced.first().map(|(at, _)| *at)) => self.on_time(),
                writable = self.writable() => {
                    for client in writable {
                        self.write(client);
                    }
                }
                _ = looks.tick() => self.drop_stalled(),
            }
            // A sweep over many clients takes milliseconds: others come in between.
            tokio::task::yield_now().await;
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Add { client, way, ended } => {
                let added = Client {
                    way,
                    ended: Some(ended),
                    play: None,
                    out: VecDeque::new(),
                    piece: None,
                    credit: Credit::new(Instant::now()),
                    paced: None,
                    blocked: None,
                    leaves: false,
                };
                self.clients.insert(client, added);
            }
            Command::Say { client, bytes } => {
                if let Some(known) = self.clients.get_mut(&client) {
                    known.out.push_back(bytes);
                    self.write(client);
                }
            }
            Command::Play { client, play } => {
                self.pause(client);
                self.play(client, *play);
            }
            Command::Pause { client } => self.pause(client),
            Command::Remove { client } => {
                self.pause(client);
                if let Some(known) = self.clients.get_mut(&client) {
                    known.leaves = true;
                    self.write(client);
                }
            }
        }
    }

    fn play(&mut self, client: ClientId, play: Play) {
        let Some(known) = self.clients.get_mut(&client) else {
            return;
        };
        let stream = self
            .streams
            .entry(Arc::as_ptr(&play.ring) as usize)
            .or_insert_with(|| Stream {
                ring: Arc::clone(&play.ring),
                head: None,
                clients: Vec::new(),
            });
        stream.clients.push(client);
        play.ring.notify(&self.news);
        known.play = Some(play);
        self.write(client);
    }

    fn pause(&mut self, client: ClientId) {
        let play = self
            .clients
            .get_mut(&client)
            .and_then(|client| client.play.take());
        let Some(play) = play else { return };
        let key = Arc::as_ptr(&play.ring) as usize;
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.clients.retain(|known| *known != client);
            if stream.clients.is_empty() {
                self.streams.remove(&key);
            }
        }
    }

    /// Some stream has a new piece.
    fn on_news(&mut self) {
        let changed: Vec<usize> = self
            .streams
            .iter_mut()
            .filter_map(|(key, stream)| {
                let head = Some(stream.ring.head());
                // An end is news without a piece.
                let is_over = matches!(
                    head.map(|head| stream.ring.at(head)),
                    Some(levada_gateway::ring::At::Ended(_))
                );
                let is_news = std::mem::replace(&mut stream.head, head) != head;
                (is_news || is_over).then_some(*key)
            })
            .collect();
        for key in changed {
            let clients = self.streams.get(&key).map(|stream| stream.clients.clone());
            for client in clients.into_iter().flatten() {
                let waits = |client: &Client| client.blocked.is_some() || client.paced.is_some();
                if !self.clients.get(&client).is_none_or(waits) {
                    self.write(client);
                }
            }
        }
    }

    /// Writes to a client what there is for it, until its socket is full.
    fn write(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match client.write(Instant::now()) {
            Stand::Paced(at) => {
                if let Some(before) = client.paced.replace(at) {
                    self.paced.remove(&(before, id));
                }
                self.paced.insert((at, id));
            }
            Stand::Waits => {
                if client.leaves && client.out.is_empty() {
                    self.clients.remove(&id);
                }
            }
            Stand::Ended(reason) => {
                client.end(reason);
                self.pause(id);
            }
            Stand::Gone(reason) => {
                client.end(reason);
                self.pause(id);
                self.clients.remove(&id);
            }
        }
    }

    /// Clients by UDP may be sent more.
    fn on_time(&mut self) {
        let now = Instant::now();
        while let Some((at, client)) = self.paced.pop_first() {
            if at > now {
                self.paced.insert((at, client));
                return;
            }
            if let Some(known) = self.clients.get_mut(&client) {
                known.paced = None;
            }
            self.write(client);
        }
    }

    /// Waits until sockets that were full are not any more.
    async fn writable(&self) -> Vec<ClientId> {
        let mut blocked = self.clients.iter();
        let blocked: Vec<_> = blocked
            .by_ref()
            .filter(|(_, client)| client.blocked.is_some())
            .collect();
        std::future::poll_fn(|context| {
            let ready: Vec<ClientId> = blocked
                .iter()
                .filter(|(_, client)| client.way.is_writable(context))
                .map(|(id, _)| **id)
                .collect();
            if ready.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(ready)
            }
        })
        .await
    }

    fn drop_stalled(&mut self) {
        let (now, stall_max) = (Instant::now(), self.gate.limits().stall_max);
        let is_stalled = |client: &Client| {
            let since = client.blocked;
            since.is_some_and(|since| now.saturating_duration_since(since) >= stall_max)
        };
        let stalled: Vec<_> = self
            .clients
            .iter()
            .filter_map(|(id, client)| is_stalled(client).then_some(*id))
            .collect();
        for id in stalled {
            if let Some(client) = self.clients.get_mut(&id) {
                client.end(EndReason::Slow);
            }
            self.pause(id);
            self.clients.remove(&id);
        }
    }
}

impl Play {
    /// Counts bytes to the client, and says whether they are more than it may have.
    fn count(&self, bytes: usize) -> bool {
        let Counted::Client(session) = &self.counted else {
            return false;
        };
        let total = session.counts().add_bytes(bytes);
        self.bytes_max.is_some_and(|max| total > max)
    }

    /// The same for bytes of one track, which a channel's listeners may not all hear.
    fn count_track(&self, track: usize, bytes: usize) -> bool {
        if let Counted::Listeners(listeners) = &self.counted {
            listeners.add_bytes(track, bytes);
        }
        self.count(bytes)
    }

    fn note_skips(&self) {
        match &self.counted {
            Counted::Client(session) => session.counts().set_skips(self.cursor.skips()),
            Counted::Listeners(listeners) => listeners.set_skips(self.cursor.skips()),
        }
    }
}

impl Way {
    /// Whether the connection takes bytes again; if not, the task is woken when it does.
    fn is_writable(&self, context: &mut Context<'_>) -> bool {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(context).is_ready(),
            Self::Udp(..) => false,
        }
    }
}

/// How many bytes a client may be sent by UDP at once. A newcomer gets a group of seconds, and its socket holds a few
/// hundred kilobytes.
#[derive(Clone, Copy, Debug)]
struct Credit {
    bytes: i64,
    at: Instant,
}

impl Credit {
    const fn new(at: Instant) -> Self {
        Self {
            bytes: CREDIT_BYTES_MAX,
            at,
        }
    }

    /// When there is credit again, if there is none.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        let since = now.saturating_duration_since(self.at).as_micros();
        let earned = i64::try_from(since)
            .unwrap_or(i64::MAX)
            .saturating_mul(CREDIT_BYTES_PER_MILLI)
            / 1_000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(CREDIT_BYTES_MAX);
            self.at = now;
        }
        if self.bytes > 0 {
            return None;
        }
        let missing = u64::try_from(CREDIT_BYTES_PER_MILLI - self.bytes).unwrap_or(0);
        Some(now + Duration::from_micros(missing * 1_000 / CREDIT_BYTES_PER_MILLI.cast_unsigned()))
    }

    fn take(&mut self, bytes: usize) {
        self.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Client {
    fn end(&mut self, reason: EndReason) {
        if let Some(Counted::Client(session)) = self.play.as_ref().map(|play| &play.counted) {
            session.end_with(reason);
        }
        if let Some(ended) = self.ended.take() {
            // The connection's task may be gone already.
            let _ = ended.send(reason);
        }
    }

    fn write(&mut self, now: Instant) -> Stand {
        if let Way::Udp(udp, to) = &self.way {
            let (udp, to) = (Arc::clone(udp), to.clone());
            return self.send(&udp, &to, now);
        }
        loop {
            if let Some(reason) = self.gather(now) {
                return Stand::Ended(reason);
            }
            if self.out.is_empty() {
                return Stand::Waits;
            }
            match self.try_write() {
                Ok(written) => {
                    self.blocked = None;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.get_or_insert(now);
                    return Stand::Waits;
                }
                Err(_) => return Stand::Gone(EndReason::Closed),
            }
        }
    }

    /// Takes what comes next of the stream, if nothing else is being written.
    fn gather(&mut self, now: Instant) -> Option<EndReason> {
        let play = self.play.as_mut()?;
        while self.out.len() < GATHERED_MAX {
            // A client whose socket is full may be skipped, so no more than one write is taken out of the ring for it.
            if !self.out.is_empty() && self.blocked.is_some() {
                break;
            }
            match play.cursor.next(&play.ring, now) {
                Next::Piece(piece) => {
                    let bytes = piece.body.framed(play.tracks);
                    let is_beyond = play.count(bytes.len());
                    if !bytes.is_empty() {
                        self.out.push_back(bytes);
                    }
                    if is_beyond {
                        return Some(EndReason::Quota);
                    }
                }
                Next::Wait => break,
                Next::Ended(reason) if self.out.is_empty() => return Some(reason),
                Next::Ended(_) => break,
            }
        }
        play.note_skips();
        None
    }

    /// Sends what there is by UDP, as far as the client's credit goes.
    fn send(&mut self, udp: &Udp, to: &[Option<[SocketAddr; 2]>], now: Instant) -> Stand {
        let Some(play) = self.play.as_mut() else {
            return Stand::Waits;
        };
        loop {
            let (piece, at) = match self.piece.take() {
                Some(pending) => pending,
                None => match play.cursor.next(&play.ring, now) {
                    Next::Piece(piece) => (piece, 0),
                    Next::Wait => return Stand::Waits,
                    Next::Ended(reason) => return Stand::Ended(reason),
                },
            };
            for (at, run) in piece.body.runs(SEND_BYTES_MAX).iter().enumerate().skip(at) {
                let Some([rtp, rtcp]) = to.get(run.track).copied().flatten() else {
                    continue;
                };
                if let Some(later) = self.credit.wait(now) {
                    self.piece = Some((Arc::clone(&piece), at));
                    return Stand::Paced(later);
                }
                let to = if run.is_report { rtcp } else { rtp };
                match udp.try_send(run.is_report, to, &run.bytes, run.packet_bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.piece = Some((Arc::clone(&piece), at));
                        return Stand::Paced(now + FULL_WAIT);
                    }
                    // Others are of the client's way, which shows by its silence.
                    _ => {}
                }
                self.credit.take(run.bytes.len());
                if play.count_track(run.track, run.bytes.len()) {
                    return Stand::Ended(EndReason::Quota);
                }
            }
            play.note_skips();
        }
    }

    fn try_write(&self) -> io::Result<usize> {
        let Way::Tcp(stream) = &self.way else {
            return Ok(0);
        };
        if let [only] = self.out.as_slices().0
            && self.out.len() == 1
        {
            return stream.try_write(only);
        }
        let slices: Vec<_> = self.out.iter().map(|bytes| IoSlice::new(bytes)).collect();
        stream.try_write_vectored(&slices)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.out.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.out.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_lets_a_burst_through_and_spreads_what_is_more() {
        let start = Instant::now();
        let mut credit = Credit::new(start);
        let burst = usize::try_from(CREDIT_BYTES_MAX).unwrap_or(0);

        assert_eq!(credit.wait(start), None);
        credit.take(burst + 10_000);
        let later = credit.wait(start);

        assert_eq!(later, Some(start + Duration::from_millis(2)));
        assert_eq!(credit.wait(start + Duration::from_millis(2)), None);
        credit.wait(start + Duration::from_secs(3_600));
        credit.take(burst);
        assert!(
            credit.wait(start + Duration::from_secs(3_600)).is_some(),
            "no more is saved up"
        );
    }
}
