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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use levada_gateway::{EndReason, Gate, Ring};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::burst::Burst;
use client::{Client, Stand};

mod client;
mod credit;
mod play;

pub(crate) use client::Way;
pub(crate) use play::{Counted, Listeners, Play};

/// Commands that wait for a sender. Who has more to say waits.
const COMMANDS_MAX: usize = 1_024;
/// Looks at clients that take nothing, in the time that they may...
const LOOKS: u32 = 8;
/// ...and how often that is, since the time can change.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

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
    /// Clients whose sockets take nothing at the moment.
    blocked: BTreeSet<ClientId>,
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
                self.clients.insert(client, Client::new(way, ended));
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
            self.blocked.remove(&id);
            return;
        };
        let stand = client.write(Instant::now());
        if client.blocked.is_some() {
            self.blocked.insert(id);
        } else if !self.blocked.is_empty() {
            self.blocked.remove(&id);
        }
        match stand {
            Stand::Paced(at) => {
                if let Some(before) = client.paced.replace(at) {
                    self.paced.remove(&(before, id));
                }
                self.paced.insert((at, id));
            }
            Stand::Waits => {
                if client.leaves && client.out.is_empty() {
                    self.forget(id);
                }
            }
            Stand::Ended(reason) => {
                client.end(reason);
                self.pause(id);
            }
            Stand::Gone(reason) => {
                client.end(reason);
                self.pause(id);
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: ClientId) {
        self.blocked.remove(&id);
        if let Some(Client {
            paced: Some(at), ..
        }) = self.clients.remove(&id)
        {
            self.paced.remove(&(at, id));
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
        std::future::poll_fn(|context| {
            let blocked = self.blocked.iter().copied();
            let ready = blocked.filter(|id| {
                let client = self.clients.get(id);
                client.is_none_or(|client| client.way.is_writable(context))
            });
            let ready: Vec<ClientId> = ready.collect();
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
        let is_stalled = |id: &ClientId| {
            let since = self.clients.get(id).and_then(|client| client.blocked);
            since.is_some_and(|since| now.saturating_duration_since(since) >= stall_max)
        };
        let stalled: Vec<_> = self.blocked.iter().copied().filter(is_stalled).collect();
        for id in stalled {
            if let Some(client) = self.clients.get_mut(&id) {
                client.end(EndReason::Slow);
            }
            self.pause(id);
            self.forget(id);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
