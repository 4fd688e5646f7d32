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
//! Invariant: a write that does not fit waits for its client alone; a client that takes nothing for [`STALL_MAX`] is
//! dropped.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use levada_gateway::{Cursor, EndReason, Next, Ring, Session};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::burst::{Burst, Tracks};

/// A client that takes nothing for so long is dropped.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(10);
/// Commands that wait for a sender. Who has more to say waits.
const COMMANDS_MAX: usize = 1_024;
/// Pieces that are gathered for one write to a client that is behind.
const GATHERED_MAX: usize = 16;
/// Between two looks at clients that take nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The number of a client at its sender.
pub(crate) type ClientId = u64;

/// What a sender is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// One more connection to write to.
    Add {
        client: ClientId,
        stream: Arc<TcpStream>,
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

/// A stream to a client.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) ring: Arc<Ring<Burst>>,
    pub(crate) cursor: Cursor,
    pub(crate) tracks: Tracks,
    pub(crate) session: Arc<Session>,
    /// Bytes after which the client is dropped.
    pub(crate) bytes_max: Option<u64>,
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

/// Starts a sender. It ends when its last handle is dropped.
pub(crate) fn start() -> Handle {
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    tokio::spawn(Sender::default().run(inbox));
    Handle { commands }
}

#[derive(Debug, Default)]
struct Sender {
    clients: BTreeMap<ClientId, Client>,
    /// The streams that clients have, by the address of their rings.
    streams: BTreeMap<usize, Stream>,
    news: Arc<Notify>,
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
    stream: Arc<TcpStream>,
    ended: Option<oneshot::Sender<EndReason>>,
    play: Option<Play>,
    /// What is being written; of the first, what is left.
    out: VecDeque<Bytes>,
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
    /// Its stream is over for it.
    Ended(EndReason),
    /// It is gone.
    Gone(EndReason),
}

impl Sender {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let news = Arc::clone(&self.news);
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = news.notified() => self.on_news(),
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
            Command::Add {
                client,
                stream,
                ended,
            } => {
                let added = Client {
                    stream,
                    ended: Some(ended),
                    play: None,
                    out: VecDeque::new(),
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
                let is_blocked = |client: &Client| client.blocked.is_some();
                if !self.clients.get(&client).is_none_or(is_blocked) {
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
                .filter(|(_, client)| client.stream.poll_write_ready(context).is_ready())
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
        let now = Instant::now();
        let is_stalled = |client: &Client| {
            let since = client.blocked;
            since.is_some_and(|since| now.saturating_duration_since(since) >= STALL_MAX)
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

impl Client {
    fn end(&mut self, reason: EndReason) {
        if let Some(play) = &self.play {
            play.session.end_with(reason);
        }
        if let Some(ended) = self.ended.take() {
            // The connection's task may be gone already.
            let _ = ended.send(reason);
        }
    }

    fn write(&mut self, now: Instant) -> Stand {
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
                    let total = play.session.counts().add_bytes(bytes.len());
                    if !bytes.is_empty() {
                        self.out.push_back(bytes);
                    }
                    if play.bytes_max.is_some_and(|max| total > max) {
                        return Some(EndReason::Quota);
                    }
                }
                Next::Wait => break,
                Next::Ended(reason) if self.out.is_empty() => return Some(reason),
                Next::Ended(_) => break,
            }
        }
        play.session.counts().set_skips(play.cursor.skips());
        None
    }

    fn try_write(&self) -> io::Result<usize> {
        if let [only] = self.out.as_slices().0
            && self.out.len() == 1
        {
            return self.stream.try_write(only);
        }
        let slices: Vec<_> = self.out.iter().map(|bytes| IoSlice::new(bytes)).collect();
        self.stream.try_write_vectored(&slices)
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
