//! Liveness of one peer, its round trip, and the loss in either direction.
//!
//! Each side pings. A ping carries how many datagrams its sender had sent, a pong how many its sender had received:
//! the differences over a window give the loss of one direction, and gaps in flows are not used. On an idle link one
//! missing pong makes pings as frequent as on an active one until a pong comes, so that a burst of loss is not
//! mistaken for a dead peer.
//!
//! ```text
//!  idle:   ping ·· pong ───────── 1 s ───────── ping ·· pong ──────────── 1 s ────
//!          ping ── 400 ms, no pong ── ping 100 ms ping 100 ms ping ·· pong ── 1 s ──
//!  active: ping ── 100 ms ── ping ── silent for 150 ms ── ping 25 ms ping 25 ms ping ·· pong ── 100 ms ──
//! ```
//!
//! A peer that is suspect while a flow uses the link is pinged quickly: where a tenth is lost each way, four pings of
//! either side and their answers are lost together once in some days, and with a dozen more of them never.
//!
//! What is waited for grows with the round trip and with how uneven it is (RFC 6298): what is on its way is not
//! silence.
//!
//! Not the decision to close (the parent's), nor the times (`limits.rs`). Called by [`super::Links`]. Invariant:
//! no other part decides that a peer is silent.

use std::collections::VecDeque;
use std::time::Duration;

use levada_wire::Instant;
use levada_wire::datagram::link::{Ping, Pong};
use levada_wire::machine::Wakeup;
use rand_chacha::ChaCha20Rng;

use super::pressure::{Floor, Pressure, Window};
use crate::chance::jittered;
use crate::limits::{
    DEAD_ACTIVE, DEAD_IDLE, DEAD_LATE, LOSS_WINDOW, PING_ACTIVE, PING_ANSWER, PING_IDLE,
    PING_SUSPECT, SUSPECT_ACTIVE, SUSPECT_IDLE, SUSPECT_LATE, TRIP_UNKNOWN,
};
use crate::view::LinkState;

/// What one side knows of the other.
#[derive(Debug)]
pub(super) struct Liveness {
    active: bool,
    suspect: bool,
    heard: Instant,
    ping_at: Instant,
    /// When the next ping is due once the last one is answered, while idle.
    idle_ping_at: Instant,
    /// Whether a ping has been sent since the last pong.
    is_waiting: bool,
    rtt: Option<Duration>,
    /// The mean of how far a round trip is from `rtt`.
    rtt_deviation: Duration,
    inward: Loss,
    outward: Loss,
    floor: Floor,
}

/// The state of a peer by its silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reachability {
    Alive,
    Suspect,
    Dead,
}

impl Liveness {
    /// A peer that has just said hello.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            active: false,
            suspect: false,
            heard: now,
            ping_at: now,
            idle_ping_at: now,
            is_waiting: false,
            rtt: None,
            rtt_deviation: Duration::ZERO,
            inward: Loss::default(),
            outward: Loss::default(),
            floor: Floor::default(),
        }
    }

    pub(super) const fn state(&self) -> LinkState {
        if self.suspect {
            LinkState::Suspect
        } else {
            LinkState::Up
        }
    }

    pub(super) const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) const fn loss_in_permille(&self) -> u16 {
        self.inward.permille
    }

    pub(super) const fn loss_out_permille(&self) -> u16 {
        self.outward.permille
    }

    pub(super) fn wakeup(&self) -> Wakeup {
        let silence = if self.suspect {
            self.dead_after()
        } else {
            self.suspect_after()
        };
        let why = if self.suspect { "dead" } else { "suspect" };
        let silence = Wakeup {
            at: self.heard + silence,
            why,
        };
        let ping = Wakeup {
            at: self.ping_at,
            why: "ping",
        };
        if ping.at <= silence.at { ping } else { silence }
    }

    pub(super) fn on_heard(&mut self, now: Instant) {
        self.heard = now;
        self.suspect = false;
    }

    pub(super) fn on_ping(&mut self, now: Instant, sent: u64, received: u64) {
        self.inward.on_counts(now, sent, received);
    }

    /// Takes a pong; at the end of a window of loss gives the pressure on the way to the peer.
    pub(super) fn on_pong(&mut self, now: Instant, pong: &Pong) -> Option<Pressure> {
        let window = self.outward.on_counts(now, pong.sent, pong.received);
        self.note_trip(now, pong);
        let trip = self.rtt?;
        window.map(|window| Pressure::of(window, trip, &self.floor))
    }

    fn note_trip(&mut self, now: Instant, pong: &Pong) {
        self.is_waiting = false;
        if !self.active {
            self.ping_at = self.ping_at.max(self.idle_ping_at);
        }
        let Some(trip) = now
            .as_micros()
            .checked_sub(pong.time)
            .map(Duration::from_micros)
        else {
            return;
        };
        // A pong older than the link could live is not an answer of ours.
        if trip > DEAD_IDLE {
            return;
        }
        self.floor.sample(now, trip);
        (self.rtt, self.rtt_deviation) = match self.rtt {
            // The first is waited for half as long again.
            None => (Some(trip), trip / 8),
            Some(rtt) => {
                let deviation = self.rtt_deviation * 3 + rtt.abs_diff(trip);
                (Some((rtt * 7 + trip) / 8), deviation / 4)
            }
        };
    }

    /// A flow uses the link from now on, or does so no more.
    pub(super) fn set_active(&mut self, now: Instant, active: bool) {
        if active && !self.active {
            // The peer was asked once a second: it cannot have been silent for too long before now.
            self.heard = now;
            self.ping_at = now;
            self.suspect = false;
        }
        self.active = active;
    }

    /// Moves the last sign of life by the time that this node was absent.
    pub(super) fn forgive(&mut self, absent: Duration) {
        self.heard += absent;
    }

    pub(super) fn reachability(&mut self, now: Instant) -> Reachability {
        let silence = now.since(self.heard);
        if silence >= self.dead_after() {
            return Reachability::Dead;
        }
        let was_suspect = self.suspect;
        self.suspect = silence >= self.suspect_after();
        if self.suspect && self.active && !was_suspect {
            self.ping_at = self.ping_at.min(now);
        }
        if self.suspect {
            Reachability::Suspect
        } else {
            Reachability::Alive
        }
    }

    pub(super) fn ping_if_due(&mut self, now: Instant, rng: &mut ChaCha20Rng) -> Option<Ping> {
        if self.ping_at > now {
            return None;
        }
        self.idle_ping_at = now + jittered(PING_IDLE, rng);
        self.ping_at = if self.active && self.suspect {
            now + jittered(PING_SUSPECT, rng)
        } else if self.active || self.is_waiting {
            now + jittered(PING_ACTIVE, rng)
        } else {
            now + self.answer_after()
        };
        self.is_waiting = true;
        // The datapath, which counts, fills in `sent`.
        Some(Ping {
            time: now.as_micros(),
            sent: 0,
            padding: 0,
        })
    }

    /// How long a round trip takes, almost always.
    fn longest_trip(&self) -> Duration {
        self.rtt
            .map_or(TRIP_UNKNOWN, |rtt| rtt + self.rtt_deviation * 4)
    }

    /// How long an answer is waited for before pings become quick.
    fn answer_after(&self) -> Duration {
        match self.rtt {
            Some(rtt) => PING_ANSWER.max(rtt * 2).max(self.longest_trip()),
            None => PING_ANSWER,
        }
    }

    /// Quick pings begin later than on a short way by so much, and so does what counts them.
    fn idle_delay(&self) -> Duration {
        self.answer_after().saturating_sub(PING_ANSWER)
    }

    fn suspect_after(&self) -> Duration {
        if self.active {
            SUSPECT_ACTIVE.max(self.longest_trip() + SUSPECT_LATE)
        } else {
            SUSPECT_IDLE + self.idle_delay()
        }
    }

    fn dead_after(&self) -> Duration {
        if self.active {
            DEAD_ACTIVE.max(self.longest_trip() + DEAD_LATE)
        } else {
            DEAD_IDLE + self.idle_delay()
        }
    }
}

/// The last counts of a window of which the best are believed: a ping may overtake packets that wait at another lane of
/// the peer, which are not lost for that.
const COUNTS: usize = 4;

/// What one side had sent when it asked, and the other had received.
#[derive(Clone, Copy, Debug)]
struct Counts {
    sent: u64,
    received: u64,
}

impl Counts {
    /// What is on its way or lost. More may arrive than was sent, where the way repeats datagrams.
    fn lacks(self) -> i128 {
        i128::from(self.sent) - i128::from(self.received)
    }
}

/// Loss of one direction over windows of at least [`LOSS_WINDOW`].
#[derive(Debug, Default)]
struct Loss {
    /// When the window began, and the counts then.
    window: Option<(Instant, Counts)>,
    /// The last of this window, oldest first.
    latest: VecDeque<Counts>,
    permille: u16,
}

impl Loss {
    /// Takes both counts; gives the window that they end, if one is over.
    fn on_counts(&mut self, now: Instant, sent: u64, received: u64) -> Option<Window> {
        let counts = Counts { sent, received };
        let Some((since, before)) = self.window else {
            self.window = Some((now, counts));
            return None;
        };
        if self.latest.len() == COUNTS {
            self.latest.pop_front();
        }
        self.latest.push_back(counts);
        if now.since(since) < LOSS_WINDOW {
            return None;
        }
        // The latest of those that lack the least.
        let latest = self.latest.drain(..).rev();
        let best = latest.min_by_key(|counts| counts.lacks());
        let best = best.expect("one was put there");
        self.window = Some((now, best));
        let sent = best.sent.saturating_sub(before.sent);
        // Datagrams that were duplicated on the way make more arrive than were sent: that is no loss.
        let lost = u64::try_from(best.lacks() - before.lacks())
            .unwrap_or(0)
            .min(sent);
        let permille = u128::from(lost) * 1_000 / u128::from(sent).max(1);
        self.permille = u16::try_from(permille).unwrap_or(1_000);
        Some(Window {
            lasted: now.since(since),
            sent,
            lost,
        })
    }
}
