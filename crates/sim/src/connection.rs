//! Connections: what QUIC and TLS give the control plane, without QUIC and TLS.
//!
//! A connection carries bytes reliably and in order per concern, proves who the peer is, and ends: closed by a side, or
//! lost when nothing was heard for [`IDLE`]. Its *segments* cross the same networks as datagrams do; one that is lost
//! is sent again after a timeout that doubles. The model knows what was lost where QUIC would infer it; all else takes
//! the time it would take:
//!
//! ```text
//!   dialler                     acceptor
//!     │ ─── Hello ────────────────▶ │
//!     │ ◀──────────── Welcome ───── │       1 round trip: the dialler is connected
//!     │ ─── Finished ─────────────▶ │     1.5 round trips: the acceptor is
//!     │ ◀── Chunk, Alive, Close ──▶ │
//! ```
//!
//! Not a decision about links, and no knowledge of what the bytes say: chunks go in and come out, those about the link
//! first. Called by `world`.
//! Invariant: what comes out of a stream is a prefix of what went in.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use levada_core::{ConnectionLost, DialId};
use levada_wire::Instant;

mod act;
mod end;
mod segment;

pub(crate) use act::{Act, ConnectionId, End, Host, Side};
use end::{Connection, Doubler, EndState, Phase};
pub(crate) use segment::{Part, Segment};

/// An end that heard nothing for this long gives up (RFC 9000 section 10.1, and the value our QUIC endpoints use).
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// How often an end shows that it is there, and looks whether the other is.
const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an end that was closed says so to who still sends (RFC 9000 section 10.2: 3 PTO).
const CLOSED_MEMORY: Duration = Duration::from_secs(3);
/// How often a close that is lost, or came before what was said before it, is sent again.
const CLOSE_TRIES: u32 = 3;
/// The most connections of a run; a node that dials without end reaches it.
pub(crate) const CONNECTIONS_MAX: usize = 100_000;

/// All connections of a run.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    connections: Vec<Connection>,
    dials: BTreeMap<(usize, u32, DialId), ConnectionId>,
    acts: VecDeque<Act>,
    /// Whether the links are broken on purpose: one chunk comes out twice.
    doubles: Doubler,
}

impl Connections {
    /// Connections over links that bring a chunk twice, for a negative control.
    pub(crate) fn broken() -> Self {
        Self {
            doubles: Doubler {
                is_on: true,
                passed: 0,
            },
            ..Self::default()
        }
    }

    /// The next thing to do.
    pub(crate) fn poll_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Whether a node dials more than any sane run does.
    pub(crate) const fn is_overfull(&self) -> bool {
        self.connections.len() > CONNECTIONS_MAX
    }

    /// Connections that were ever tried.
    pub(crate) const fn count(&self) -> usize {
        self.connections.len()
    }

    /// The node at the other end.
    pub(crate) fn peer(&self, end: End) -> Option<Host> {
        self.end(end.connection, end.side.other()).host
    }

    /// A process dials an address, where it may expect a certain node.
    pub(crate) fn dial(
        &mut self,
        now: Instant,
        host: Host,
        dial: DialId,
        remote: SocketAddr,
        expected: Option<usize>,
    ) {
        let id = ConnectionId(
            u32::try_from(self.connections.len()).expect("CONNECTIONS_MAX is checked by the world"),
        );
        self.connections.push(Connection {
            dial,
            expected,
            dialled: remote,
            since: now,
            round_trip: Duration::ZERO,
            ends: [
                EndState::opening(now, Some(host)),
                EndState::opening(now, None),
            ],
        });
        self.dials.insert((host.node, host.boot, dial), id);
        self.transmit(now, id, Side::Acceptor, Part::Hello);
        self.acts.push_back(Act::Watch {
            at: now + ALIVE_INTERVAL,
            connection: id,
        });
    }

    /// The process gives a dial up.
    pub(crate) fn cancel_dial(&mut self, now: Instant, host: Host, dial: DialId) {
        if let Some(id) = self.dials.get(&(host.node, host.boot, dial)).copied() {
            let end = self.end_mut(id, Side::Dialler);
            if end.phase == Phase::Opening {
                end.phase = Phase::Closed {
                    at: now,
                    told: false,
                };
            }
        }
    }

    /// Whether this end takes bytes to send.
    pub(crate) fn is_open(&self, end: End) -> bool {
        self.end(end.connection, end.side).phase == Phase::Open
    }

    /// Sends bytes over a connection; forgotten if this end is closed.
    pub(crate) fn send(&mut self, now: Instant, end: End, concern: u8, bytes: Bytes) {
        let state = self.end_mut(end.connection, end.side);
        if state.phase != Phase::Open {
            return;
        }
        let sequence = state.next_sequence(concern);
        self.transmit(
            now,
            end.connection,
            end.side.other(),
            Part::Chunk {
                concern,
                sequence,
                bytes,
            },
        );
    }

    /// An end closes the connection: once what it sent before has come out, the other is told.
    pub(crate) fn close(&mut self, now: Instant, end: End, reason: &str) {
        let state = self.end(end.connection, end.side);
        if state.phase == Phase::Open {
            let after = state.sent.clone();
            let part = Part::Close {
                reason: reason.to_owned(),
                after,
            };
            self.transmit(now, end.connection, end.side.other(), part);
            self.lose(now, end, true, ConnectionLost::ClosedHere);
        }
    }

    /// A process died: its ends are gone without a word.
    pub(crate) fn crash(&mut self, now: Instant, node: usize) {
        for end in self
            .connections
            .iter_mut()
            .flat_map(|connection| &mut connection.ends)
        {
            if end.host.is_some_and(|host| host.node == node) && !end.phase.is_closed() {
                end.phase = Phase::Closed {
                    at: now,
                    told: false,
                };
            }
        }
    }

    /// Looks after a connection: dials and idle ends run out, live ends show themselves. A paused process does neither.
    pub(crate) fn watch(
        &mut self,
        now: Instant,
        id: ConnectionId,
        is_paused: impl Fn(usize) -> bool,
    ) {
        let mut is_alive = false;
        for side in Side::ALL {
            let end = self.end(id, side);
            let (phase, heard) = (end.phase, end.heard);
            let Some(host) = end.host else { continue };
            is_alive |= !phase.is_closed();
            if is_paused(host.node) || phase.is_closed() {
                continue;
            }
            if phase == Phase::Opening {
                if side == Side::Dialler && now.since(self.connection(id).since) >= DIAL_TIMEOUT {
                    self.fail_dial(now, id, "no answer within 10 s");
                }
            } else if now.since(heard) >= IDLE {
                let reason = ConnectionLost::Failed("nothing heard for 30 s".to_owned());
                self.lose(
                    now,
                    End {
                        connection: id,
                        side,
                    },
                    false,
                    reason,
                );
            } else {
                self.transmit(now, id, side.other(), Part::Alive);
            }
        }
        if is_alive {
            self.acts.push_back(Act::Watch {
                at: now + ALIVE_INTERVAL,
                connection: id,
            });
        }
    }

    /// A segment arrived where `receiver` listens; `None` if no process does.
    pub(crate) fn arrive(&mut self, now: Instant, segment: Segment, receiver: Option<Host>) {
        let (id, side) = (segment.connection, segment.toward);
        if segment.part == Part::Hello {
            self.on_hello(now, id, receiver);
            return;
        }
        // Another start of the process does not know the connection, and QUIC would not answer it.
        if receiver.is_none() || self.end(id, side).host != receiver {
            return;
        }
        let end = self.end_mut(id, side);
        end.heard = now;
        match (end.phase, &segment.part) {
            (Phase::Opening, Part::Welcome) => self.on_welcome(now, id, segment.sent),
            (Phase::Opening, Part::Refuse) => self.fail_dial(now, id, "nobody listens there"),
            (Phase::Opening, Part::Finished) => self.on_finished(id),
            // It overtook the end of the handshake, whose keys it needs.
            (Phase::Opening, Part::Chunk { .. } | Part::Close { .. }) => self.lost(now, segment),
            (Phase::Open, Part::Chunk { .. }) => self.on_chunk(segment),
            (Phase::Open, Part::Close { after, .. })
                if segment.attempt < CLOSE_TRIES && !end.has_all(after) =>
            {
                self.lost(now, segment);
            }
            (Phase::Open, Part::Close { reason, .. }) => {
                let reason = ConnectionLost::ClosedByPeer(reason.clone());
                self.lose(
                    now,
                    End {
                        connection: id,
                        side,
                    },
                    false,
                    reason,
                );
            }
            (Phase::Closed { at, told: true }, Part::Chunk { .. } | Part::Alive)
                if now.since(at) < CLOSED_MEMORY =>
            {
                let part = Part::Close {
                    reason: "closed".to_owned(),
                    after: BTreeMap::new(),
                };
                self.transmit(now, id, side.other(), part);
            }
            _ => {}
        }
    }

    /// A segment was lost on the way.
    pub(crate) fn lost(&mut self, now: Instant, segment: Segment) {
        let segment = match segment.part {
            // The dialler hears nothing, so it asks again.
            Part::Refuse => Segment {
                toward: Side::Acceptor,
                part: Part::Hello,
                ..segment
            },
            _ => segment,
        };
        let gives_up = match segment.part {
            Part::Alive => true,
            Part::Close { .. } => segment.attempt >= CLOSE_TRIES,
            _ => now.since(segment.first) >= IDLE,
        };
        if !gives_up {
            let timeout = self.connection(segment.connection).timeout(segment.attempt);
            let at = now.max(segment.sent + timeout);
            self.acts.push_back(Act::Retry { at, segment });
        }
    }

    /// Sends a lost segment again, later if its process stands still, never if its end is gone.
    pub(crate) fn retry(
        &mut self,
        now: Instant,
        segment: Segment,
        is_paused: impl Fn(usize) -> bool,
    ) {
        let sender = self.end(segment.connection, segment.toward.other());
        let Some(host) = sender.host else { return };
        if sender.phase.has_no_more_to_say(now) {
            return;
        }
        if is_paused(host.node) {
            self.acts.push_back(Act::Retry {
                at: now + Duration::from_millis(100),
                segment,
            });
            return;
        }
        let again = Segment {
            attempt: segment.attempt + 1,
            sent: now,
            ..segment
        };
        self.push_transmit(again);
    }

    fn on_hello(&mut self, now: Instant, id: ConnectionId, receiver: Option<Host>) {
        let acceptor = self.end_mut(id, Side::Acceptor);
        match (receiver, acceptor.host) {
            (Some(host), None) => {
                acceptor.host = Some(host);
                acceptor.heard = now;
                self.transmit(now, id, Side::Dialler, Part::Welcome);
            }
            (None, None) => self.transmit(now, id, Side::Dialler, Part::Refuse),
            (_, Some(_)) => {}
        }
    }

    fn on_welcome(&mut self, now: Instant, id: ConnectionId, sent: Instant) {
        let peer = self
            .end(id, Side::Acceptor)
            .host
            .expect("a welcome comes from an acceptor");
        let connection = self.connection_mut(id);
        connection.round_trip = now.since(sent) * 2;
        if connection.expected.is_some_and(|node| node != peer.node) {
            self.fail_dial(now, id, "another node answers there");
            return;
        }
        let dial = connection.dial;
        self.transmit(now, id, Side::Acceptor, Part::Finished);
        self.open(id, Side::Dialler, Some(dial));
    }

    fn on_finished(&mut self, id: ConnectionId) {
        self.open(id, Side::Acceptor, None);
    }

    fn open(&mut self, id: ConnectionId, side: Side, dial: Option<DialId>) {
        self.end_mut(id, side).phase = Phase::Open;
        let end = End {
            connection: id,
            side,
        };
        let (Some(host), Some(peer)) = (self.end(id, side).host, self.peer(end)) else {
            return;
        };
        self.acts.push_back(Act::Connected {
            end,
            host,
            peer,
            dial,
        });
    }

    fn on_chunk(&mut self, segment: Segment) {
        let (id, side) = (segment.connection, segment.toward);
        let Part::Chunk {
            concern,
            sequence,
            bytes,
        } = segment.part
        else {
            return;
        };
        let end = self.end_mut(id, side);
        let Some(host) = end.host else { return };
        let ready = end.take(concern, sequence, bytes);
        let end = End {
            connection: id,
            side,
        };
        for (concern, bytes) in ready {
            let act = Act::Chunk {
                end,
                host,
                concern,
                bytes,
            };
            self.acts
                .extend(std::iter::repeat_n(act, self.doubles.times()));
        }
    }

    fn fail_dial(&mut self, now: Instant, id: ConnectionId, reason: &str) {
        let connection = self.connection(id);
        let (dial, remote) = (connection.dial, connection.dialled);
        let end = self.end_mut(id, Side::Dialler);
        end.phase = Phase::Closed {
            at: now,
            told: false,
        };
        if let Some(host) = end.host {
            self.acts.push_back(Act::DialFailed {
                host,
                dial,
                reason: format!("{remote}: {reason}"),
            });
        }
    }

    fn lose(&mut self, now: Instant, end: End, told: bool, reason: ConnectionLost) {
        let state = self.end_mut(end.connection, end.side);
        state.phase = Phase::Closed { at: now, told };
        if let Some(host) = state.host {
            self.acts.push_back(Act::Lost { end, host, reason });
        }
    }

    fn transmit(&mut self, now: Instant, connection: ConnectionId, toward: Side, part: Part) {
        self.push_transmit(Segment {
            connection,
            toward,
            part,
            attempt: 0,
            first: now,
            sent: now,
        });
    }

    fn push_transmit(&mut self, segment: Segment) {
        let connection = self.connection(segment.connection);
        let address = |side: Side| {
            connection.ends[side as usize]
                .host
                .map_or(connection.dialled, |host| host.address)
        };
        let (from, to) = (address(segment.toward.other()), address(segment.toward));
        self.acts.push_back(Act::Transmit { from, to, segment });
    }

    fn connection(&self, id: ConnectionId) -> &Connection {
        &self.connections[id.0 as usize]
    }

    fn connection_mut(&mut self, id: ConnectionId) -> &mut Connection {
        &mut self.connections[id.0 as usize]
    }

    fn end(&self, id: ConnectionId, side: Side) -> &EndState {
        &self.connection(id).ends[side as usize]
    }

    fn end_mut(&mut self, id: ConnectionId, side: Side) -> &mut EndState {
        &mut self.connection_mut(id).ends[side as usize]
    }
}

#[cfg(test)]
mod tests;
