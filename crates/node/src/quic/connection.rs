//! One connection: a unidirectional stream per concern and direction, and an end that is told once.
//!
//! ```text
//!  driver ──try_send──▶ queue (per concern) ──▶ writer task ──▶ uni stream: concern code, messages
//!  driver ◀──Written─── writer task: it has come to a mark in its queue
//!  driver ◀──Message── reader task (per stream) ◀── uni stream
//!  driver ◀──Lost────── supervisor: waits for a close from here or there, then for the readers
//! ```
//!
//! A writer per concern, so that a large collection never delays a request. Readers wait when the driver is
//! behind, and QUIC's flow control makes the peer wait. The other concerns wait for the first message about the link,
//! which says what kind of peer it is: the packet that brings it may be lost while those behind it arrive. Not the
//! meaning of messages. Called by `driver`. Invariant: `Lost` comes exactly once for a link, after the last of its
//! messages, and a message about the link comes first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use levada_core::ConnectionLost;
use levada_core::subnet::Subnet;
use levada_wire::LinkIndex;
use levada_wire::control::{Concern, Decoder, Message};
use levada_wire::key::LinkKey;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::allowance::{Allowance, Allowances};
use super::close::{self, Code};
use super::{Established, QuicEvent};
use crate::tap::{Tap, Tapped};

/// The most messages of one concern that may wait for a peer; one more closes the link. Above what the core says at
/// once of its own: a request for each flow that it carries (`levada_core::limits::CARRIED_MAX`). Of what everybody is
/// told, much less waits here: the core is asked for more when that is written.
pub(crate) const MESSAGES_WAITING_MAX: usize = 8_192;
/// The most bytes of all messages that may wait for a peer; one more message closes the link.
pub(crate) const BYTES_WAITING_MAX: usize = 4 << 20;
/// The most messages taken out of the queue at once.
const BATCH_MAX: usize = 64;
/// What is written at once, but for one message.
const WRITE_BYTES: usize = 64 << 10;
/// The most bytes read at once.
const READ_BYTES_MAX: usize = 16 << 10;
/// How long a close waits for what was said before it to arrive.
const CLOSE_FLUSH: Duration = Duration::from_millis(500);
/// Separates link keys from anything else that may be exported.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-levada/1 link";

/// The keys of a link's datagrams.
#[derive(Clone, Debug)]
pub(crate) struct LinkKeys {
    pub(crate) send: LinkKey,
    pub(crate) receive: LinkKey,
}

impl LinkKeys {
    /// Both sides export the same 64 bytes: first the client's sending key, then the server's.
    pub(crate) fn export(connection: &quinn::Connection, is_client: bool) -> Option<Self> {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        connection
            .export_keying_material(&mut *bytes, EXPORTER_LABEL, &[])
            .ok()?;
        let half = |at: usize| {
            let mut key = [0; 32];
            key.copy_from_slice(&bytes[at..at + 32]);
            LinkKey::from_bytes(key)
        };
        let (client, server) = (half(0), half(32));
        Some(if is_client {
            Self {
                send: client,
                receive: server,
            }
        } else {
            Self {
                send: server,
                receive: client,
            }
        })
    }
}

/// What waits for a peer.
#[derive(Debug)]
pub(crate) enum Waiting {
    Message(Message),
    /// To be told when everything of that concern before it was handed to QUIC.
    Mark(Concern),
}

impl Waiting {
    const fn concern(&self) -> Concern {
        match self {
            Self::Message(message) => message.concern(),
            Self::Mark(concern) => *concern,
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.held_bytes(),
            Self::Mark(_) => 0,
        }
    }
}

/// The driver's end of a connection. Dropping it closes the connection, without words.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    connection: quinn::Connection,
    /// By [`Concern::ALL`].
    queues: [mpsc::Sender<Waiting>; Concern::ALL.len()],
    /// The bytes of all that waits.
    waiting: Arc<AtomicUsize>,
    close: oneshot::Sender<(Code, String)>,
}

impl ConnectionHandle {
    /// Lets something wait for the peer; `false` when too much does, and the connection is beyond help.
    pub(crate) fn send(&self, waiting: Waiting) -> bool {
        let concern = waiting.concern();
        let at = Concern::ALL.iter().position(|one| *one == concern);
        let queue = &self.queues[at.expect("Concern::ALL has all concerns")];
        let bytes = waiting.held_bytes();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let sent = if before + bytes > BYTES_WAITING_MAX {
            Err(mpsc::error::TrySendError::Full(waiting))
        } else {
            queue.try_send(waiting)
        };
        match sent {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let words = b"more control messages wait than the limit allows";
                self.connection.close(Code::Overrun.number(), words);
                false
            }
            // The connection is gone, and its end is on its way to the driver.
            Err(mpsc::error::TrySendError::Closed(_)) => true,
        }
    }

    /// Closes the connection once what was sent before has arrived, or after [`CLOSE_FLUSH`].
    pub(crate) fn close(self, code: Code, words: String) {
        // Fails only if the connection is gone already.
        let _ = self.close.send((code, words));
    }
}

/// What every connection's tasks share with the rest of the node.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) quic_events: mpsc::Sender<QuicEvent>,
    pub(crate) tap: Option<Arc<dyn Tap>>,
    pub(crate) allowances: Arc<Allowances>,
}

impl Surroundings {
    pub(crate) fn new(quic_events: mpsc::Sender<QuicEvent>, tap: Option<Arc<dyn Tap>>) -> Self {
        Self {
            quic_events,
            tap,
            allowances: Arc::default(),
        }
    }
}

/// Starts to serve a connection as `link`.
pub(crate) fn serve(
    established: Established,
    link: LinkIndex,
    around: &Surroundings,
) -> ConnectionHandle {
    let Established {
        connection, permit, ..
    } = established;
    let mut writers = JoinSet::new();
    let waiting = Arc::default();
    let queues = Concern::ALL.map(|concern| {
        let (queue, queued) = mpsc::channel(MESSAGES_WAITING_MAX);
        let writer = Writer {
            link,
            concern,
            around: around.clone(),
            queued,
            waiting: Arc::clone(&waiting),
        };
        writers.spawn(writer.run(connection.clone()));
        queue
    });
    let (close, closing) = oneshot::channel();
    let supervisor = Supervisor {
        connection: connection.clone(),
        link,
        around: around.clone(),
        _permit: permit,
    };
    tokio::spawn(supervisor.run(closing, writers));
    ConnectionHandle {
        connection,
        queues,
        waiting,
        close,
    }
}

/// Writes the messages of one concern.
struct Writer {
    link: LinkIndex,
    concern: Concern,
    around: Surroundings,
    queued: mpsc::Receiver<Waiting>,
    /// The bytes of all that waits for the peer.
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    /// Writes until the driver's end of the queue is gone, then waits for the arrival of it all. An error needs no
    /// report: it is the connection's end, which the supervisor sees.
    async fn run(mut self, connection: quinn::Connection) {
        let Ok(mut stream) = connection.open_uni().await else {
            return;
        };
        if stream.write_all(&[self.concern.code()]).await.is_err() {
            return;
        }
        let (mut batch, mut bytes) = (Vec::new(), Vec::new());
        while self.queued.recv_many(&mut batch, BATCH_MAX).await > 0 {
            for waiting in batch.drain(..) {
                let held = waiting.held_bytes();
                let is_mark = matches!(waiting, Waiting::Mark(_));
                if let Waiting::Message(message) = waiting {
                    message.encode(&mut bytes);
                }
                if (is_mark || bytes.len() >= WRITE_BYTES)
                    && self.flush(&mut stream, &mut bytes).await.is_err()
                {
                    return;
                }
                self.waiting.fetch_sub(held, Ordering::Relaxed);
                if is_mark {
                    let (link, concern) = (self.link, self.concern);
                    let written = QuicEvent::Written { link, concern };
                    // The node may be gone; then nobody wants to know.
                    let _ = self.around.quic_events.send(written).await;
                }
            }
            if self.flush(&mut stream, &mut bytes).await.is_err() {
                return;
            }
        }
        if stream.finish().is_ok() {
            // Resolves when the peer has all of it.
            let _ = stream.stopped().await;
        }
    }

    /// Hands to QUIC what was encoded; it takes no more than its window before the peer has it.
    async fn flush(
        &self,
        stream: &mut quinn::SendStream,
        bytes: &mut Vec<u8>,
    ) -> Result<(), quinn::WriteError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(tap) = &self.around.tap {
            tap.see(Tapped::Control(bytes));
        }
        stream.write_all(bytes).await?;
        bytes.clear();
        Ok(())
    }
}

/// Sees a connection to its end.
struct Supervisor {
    connection: quinn::Connection,
    link: LinkIndex,
    around: Surroundings,
    /// Its place among the connections this node may have.
    _permit: OwnedSemaphorePermit,
}

impl Supervisor {
    async fn run(self, closing: oneshot::Receiver<(Code, String)>, mut writers: JoinSet<()>) {
        let seen = Arc::default();
        let subnet = Subnet::of(self.connection.remote_address());
        let allowance = Arc::new(self.around.allowances.of(subnet));
        let greeting = Arc::new(watch::Sender::new(Greeting::Awaited));
        let mut readers = JoinSet::new();
        let mut closing = Some(closing);
        let reason = loop {
            tokio::select! {
                stream = self.connection.accept_uni() => match stream {
                    Ok(stream) => {
                        let reader = Reader {
                            connection: self.connection.clone(),
                            link: self.link,
                            around: self.around.clone(),
                            seen: Arc::clone(&seen),
                            greeting: Arc::clone(&greeting),
                            allowance: Arc::clone(&allowance),
                        };
                        readers.spawn(reader.run(stream));
                    }
                    Err(error) => break close::lost(&error),
                },
                Some(ended) = readers.join_next(), if !readers.is_empty() => {
                    if let Ok(Err(fault)) = ended {
                        self.connection.close(Code::Protocol.number(), fault.as_bytes());
                        break ConnectionLost::Failed(fault);
                    }
                }
                words = close_order(&mut closing) => {
                    self.close(words, &mut writers).await;
                    break ConnectionLost::ClosedHere;
                }
            }
        };
        // Who still waits for it would wait for ever.
        greeting.send_if_modified(|greeting| {
            let is_awaited = *greeting == Greeting::Awaited;
            if is_awaited {
                *greeting = Greeting::Missed;
            }
            is_awaited
        });
        // What came before the end is handed on before the end is told.
        while readers.join_next().await.is_some() {}
        let lost = QuicEvent::Lost {
            link: self.link,
            reason,
        };
        // The node may be gone; then nobody wants to know.
        let _ = self.around.quic_events.send(lost).await;
    }

    async fn close(&self, words: Option<(Code, String)>, writers: &mut JoinSet<()>) {
        let (code, words) = words.unwrap_or_else(|| (Code::Done, String::new()));
        // The driver has dropped the queues, so that the writers come to their end.
        let flush = async { while writers.join_next().await.is_some() {} };
        // Late words are less than a late close.
        let _ = tokio::time::timeout(CLOSE_FLUSH, flush).await;
        let words = close::shorten(&words);
        self.connection.close(code.number(), words.as_bytes());
    }
}

/// Waits for the driver's order to close, once.
async fn close_order(
    closing: &mut Option<oneshot::Receiver<(Code, String)>>,
) -> Option<(Code, String)> {
    match closing {
        Some(order) => {
            let words = order.await.ok();
            *closing = None;
            words
        }
        None => std::future::pending().await,
    }
}

/// What became of the first message about the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    Awaited,
    /// Handed on to the driver.
    Told,
    /// The connection ended before.
    Missed,
}

/// Reads one stream.
struct Reader {
    connection: quinn::Connection,
    link: LinkIndex,
    around: Surroundings,
    /// The concerns that have a stream already.
    seen: Arc<Mutex<Vec<Concern>>>,
    greeting: Arc<watch::Sender<Greeting>>,
    allowance: Arc<Allowance>,
}

impl Reader {
    /// Reads to the end; an error says how the peer broke the protocol.
    async fn run(self, mut stream: quinn::RecvStream) -> Result<(), String> {
        let Some(concern) = self.concern(&mut stream).await? else {
            return Ok(());
        };
        if concern != Concern::Link && !self.is_greeted().await {
            return Ok(());
        }
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        // An error of the stream is the connection's end, which the supervisor sees.
        while let Ok(Some(chunk)) = stream.read_chunk(READ_BYTES_MAX, true).await {
            if let Some(tap) = &self.around.tap {
                tap.see(Tapped::Control(&chunk.bytes));
            }
            decoder
                .push(&chunk.bytes, &mut messages)
                .map_err(|error| error.to_string())?;
            for message in messages.drain(..) {
                if message.concern() != concern {
                    return Err("a message on another concern's stream".to_owned());
                }
                tokio::select! {
                    biased;
                    () = self.allowance.wait_for(&message) => {}
                    // Who says too much and goes is not heard to the end: that would put off the news of the end.
                    _ = self.connection.closed() => return Ok(()),
                }
                let event = QuicEvent::Message {
                    link: self.link,
                    message,
                };
                if self.around.quic_events.send(event).await.is_err() {
                    return Ok(());
                }
                if concern == Concern::Link {
                    self.greeting.send_replace(Greeting::Told);
                }
            }
        }
        Ok(())
    }

    /// Waits for the first message about the link; `false` if the connection ended before it. What the peer sends
    /// meanwhile waits with QUIC, whose windows bound it: those of the other concerns leave room for the link's.
    // spec: WIRE 7.1 a receiver SHOULD NOT read the other streams before the first message of the link's
    async fn is_greeted(&self) -> bool {
        let mut greeting = self.greeting.subscribe();
        let said = greeting.wait_for(|greeting| *greeting != Greeting::Awaited);
        said.await.is_ok_and(|greeting| *greeting == Greeting::Told)
    }

    /// Reads what the stream is about; `None` if this version does not know, or the stream ended before it said.
    async fn concern(&self, stream: &mut quinn::RecvStream) -> Result<Option<Concern>, String> {
        let mut code = [0];
        if stream.read_exact(&mut code).await.is_err() {
            return Ok(None);
        }
        let Some(concern) = Concern::from_code(code[0]) else {
            // Fails only if the stream is gone.
            let _ = stream.stop(Code::Done.number());
            return Ok(None);
        };
        let mut seen = self
            .seen
            .lock()
            .expect("no code that can panic runs under this lock");
        if seen.contains(&concern) {
            return Err("two streams of one concern".to_owned());
        }
        seen.push(concern);
        Ok(Some(concern))
    }
}
