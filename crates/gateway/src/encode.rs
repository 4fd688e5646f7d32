//! Turns a stream into one format, once for all clients of that format, and holds them while the source is away.
//!
//! ```text
//!              description, first group             source or upstream away
//!   Starting ───────────────────────────▶ Running ─────────────────────────▶ Held
//!      │                                     ▲  next group, times unbroken     │ 10 s
//!      │ cannot be carried                   └─────────────────────────────────┤
//!      ▼                                                                       ▼
//!   Unsuitable                                                               Ended
//! ```
//!
//! Frames that are there together make one piece; sound alone waits up to [`SOUND_WAIT`] for a picture, so that clients
//! are written to as seldom as possible. Not a format: that is an [`Encode`]. Started by [`crate::streams`]. Invariant:
//! a piece that starts a group begins with a frame with which decoding can start, and times of a track never fall,
//! whatever the source does.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use levada::{
    Delivery, Description, Frame, Group, Instance, State, Subscriber, TrackKind, WallTime,
};
use levada_media::Rebase;
use tokio::sync::{Notify, watch};

use crate::demand::is_pending;
use crate::ring::{Piece, Ring};
use crate::session::EndReason;

/// How long sound may wait for the picture that comes with it.
pub const SOUND_WAIT: Duration = Duration::from_millis(20);
/// A piece that has this many bytes is not added to.
pub const PIECE_BYTES: usize = 64 << 10;
/// How long clients are held while the source is away, unless it is set otherwise.
pub const HOLD: Duration = Duration::from_secs(10);

/// A format: what becomes of a description and of frames.
pub trait Encode: Send + 'static {
    /// What a piece holds.
    type Body: Send + Sync + 'static;
    /// What a client has to know before it can begin.
    type Outline: Send + Sync + 'static;

    /// What follows is of this start of the stream.
    fn begin(&mut self, instance: &Instance);

    /// The tracks are these from now on.
    ///
    /// # Errors
    ///
    /// When the format cannot carry them, or clients that have an outline cannot go on with them.
    fn describe(&mut self, description: &Description) -> Result<(), Unsuitable>;

    /// Adds a frame to the piece that is being made. `wall` is the origin's clock at its hand-over, if known.
    fn push(&mut self, frame: &Frame, wall: Option<WallTime>, starts_group: bool);

    /// How many bytes the piece has so far.
    fn pending_bytes(&self) -> usize;

    /// Ends the piece: its bytes; `None` if there are none.
    fn take(&mut self) -> Option<Self::Body>;

    /// What a client has to know, once that is complete.
    fn outline(&self) -> Option<Self::Outline>;
}

/// Why a stream cannot be had in a format; a sentence for people, with its cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsuitable(pub String);

/// How far a stream's encoder is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Phase<O> {
    /// Nothing can be played yet; what is known of the stream.
    Starting(Option<State>),
    /// It runs.
    Running(Arc<O>),
    /// It ran, and the source is away.
    Held(Arc<O>),
    /// The format cannot carry it.
    Unsuitable(Unsuitable),
    /// It is over.
    Ended(EndReason),
}

impl<O> Clone for Phase<O> {
    fn clone(&self) -> Self {
        match self {
            Self::Starting(state) => Self::Starting(state.clone()),
            Self::Running(outline) => Self::Running(Arc::clone(outline)),
            Self::Held(outline) => Self::Held(Arc::clone(outline)),
            Self::Unsuitable(why) => Self::Unsuitable(why.clone()),
            Self::Ended(reason) => Self::Ended(*reason),
        }
    }
}

/// What the encoder's task leaves behind for clients.
#[derive(Debug)]
pub(crate) struct Shared<B, O> {
    pub(crate) ring: Arc<Ring<B>>,
    pub(crate) phase: watch::Sender<Phase<O>>,
    /// Told when the last client is gone.
    pub(crate) gone: Arc<Notify>,
}

impl<B, O> Shared<B, O> {
    pub(crate) fn new() -> Self {
        Self {
            ring: Arc::default(),
            phase: watch::Sender::new(Phase::Starting(None)),
            gone: Arc::default(),
        }
    }
}

impl<B, O> Drop for Shared<B, O> {
    fn drop(&mut self) {
        self.gone.notify_one();
    }
}

/// The task's own state.
struct Task<E: Encode> {
    encoder: E,
    ring: Arc<Ring<E::Body>>,
    phase: watch::Sender<Phase<E::Outline>>,
    rebase: Rebase,
    description: Option<Arc<Description>>,
    group: Option<Group>,
    is_new_instance: bool,
    /// The piece that is being made starts a group.
    starts_group: bool,
    /// When the piece that is being made must leave.
    due: Option<Instant>,
    hold: Duration,
    /// Since when the source is away.
    away: Option<Instant>,
}

/// Encodes until the stream is over or nobody wants it any more.
pub(crate) async fn run<E: Encode>(
    encoder: E,
    mut subscriber: Subscriber,
    shared: &std::sync::Weak<Shared<E::Body, E::Outline>>,
    hold: Duration,
) {
    let Some((ring, phase, gone)) = shared.upgrade().map(|shared| {
        let (ring, gone) = (Arc::clone(&shared.ring), Arc::clone(&shared.gone));
        (ring, shared.phase.clone(), gone)
    }) else {
        return;
    };
    let mut task = Task {
        encoder,
        ring,
        phase,
        rebase: Rebase::from_zero(),
        description: None,
        group: None,
        is_new_instance: false,
        starts_group: false,
        due: None,
        hold,
        away: None,
    };
    let ended = loop {
        let wake = task.wake();
        let delivery = tokio::select! {
            biased;
            () = gone.notified() => return,
            () = sleep_until(wake) => {
                if let Some(reason) = task.on_time(Instant::now()) {
                    break reason;
                }
                continue;
            }
            delivery = subscriber.next() => delivery,
        };
        if let Some(reason) = task.on_batch(delivery, &mut subscriber) {
            break reason;
        }
    };
    task.flush(Instant::now());
    task.ring.end(ended);
    task.phase.send_if_modified(|phase| {
        let goes_on = !matches!(phase, Phase::Unsuitable(_));
        if goes_on {
            *phase = Phase::Ended(ended);
        }
        goes_on
    });
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl<E: Encode> Task<E> {
    fn wake(&self) -> Option<Instant> {
        let away = self.away.map(|since| since + self.hold);
        match (self.due, away) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn on_time(&mut self, now: Instant) -> Option<EndReason> {
        if self.due.is_some_and(|due| due <= now) {
            self.flush(now);
        }
        let is_over = self.away.is_some_and(|since| since + self.hold <= now);
        is_over.then_some(EndReason::StreamEnded)
    }

    /// Takes a delivery and all that are there with it; says why the stream is over, if it is.
    fn on_batch(
        &mut self,
        first: Option<Delivery>,
        subscriber: &mut Subscriber,
    ) -> Option<EndReason> {
        let mut next = first;
        loop {
            let Some(delivery) = next else {
                return Some(EndReason::Stopped);
            };
            if let Some(reason) = self.on_delivery(delivery) {
                return Some(reason);
            }
            let now = Instant::now();
            if self.encoder.pending_bytes() >= PIECE_BYTES {
                self.flush(now);
            }
            let mut context = Context::from_waker(Waker::noop());
            match pin!(subscriber.next()).as_mut().poll(&mut context) {
                Poll::Ready(delivery) => next = delivery,
                Poll::Pending => {
                    if self.due.is_none_or(|due| due <= now) {
                        self.flush(now);
                    }
                    return None;
                }
            }
        }
    }

    fn on_delivery(&mut self, delivery: Delivery) -> Option<EndReason> {
        match delivery {
            Delivery::State(state) => self.on_state(state),
            Delivery::NewInstance(instance) => {
                self.flush(Instant::now());
                self.encoder.begin(&instance);
                self.is_new_instance = true;
                self.group = None;
            }
            Delivery::Description(description) => return self.on_description(description),
            Delivery::Frame { group, frame, wall } => self.on_frame(group, frame, wall),
            Delivery::End => self.on_away(),
            _ => {}
        }
        None
    }

    fn on_state(&mut self, state: State) {
        if let State::Active { instance } | State::OnePath { instance } = &state {
            // Later ones come as new instances, when their frames do.
            if self.description.is_none() {
                self.encoder.begin(instance);
            }
            return;
        }
        self.phase.send_if_modified(|phase| {
            let starts = matches!(phase, Phase::Starting(_));
            if starts {
                *phase = Phase::Starting(Some(state));
            }
            starts
        });
        self.on_away();
    }

    /// The source is away: clients are held.
    fn on_away(&mut self) {
        let is_held = self.phase.send_if_modified(|phase| {
            let held = match phase {
                Phase::Running(outline) => Phase::Held(Arc::clone(outline)),
                _ => return false,
            };
            *phase = held;
            true
        });
        if is_held {
            self.away = Some(Instant::now());
        }
    }

    fn on_description(&mut self, description: Arc<Description>) -> Option<EndReason> {
        if is_pending(&description) {
            // Of a source that was never there.
            return None;
        }
        self.flush(Instant::now());
        if std::mem::take(&mut self.is_new_instance) {
            self.rebase.start_instance(&description);
        } else {
            self.rebase.set_description(&description);
        }
        let described = self.encoder.describe(&description);
        self.description = Some(description);
        let Err(why) = described else {
            return None;
        };
        if self.has_clients() {
            return Some(EndReason::TracksChanged);
        }
        self.phase.send_replace(Phase::Unsuitable(why));
        Some(EndReason::StreamEnded)
    }

    /// Whether the outline was given out.
    fn has_clients(&self) -> bool {
        !matches!(&*self.phase.borrow(), Phase::Starting(_))
    }

    fn on_frame(&mut self, group: Group, frame: Frame, wall: Option<WallTime>) {
        let Some(description) = &self.description else {
            return;
        };
        let leading = description.leading().map(|track| track.id);
        let is_start = frame.sync && leading == Some(frame.track) && self.group != Some(group);
        let kind = description.track(frame.track).map(|track| track.kind);
        let has_picture = description
            .tracks
            .iter()
            .any(|track| track.kind == TrackKind::Video);
        let Some(frame) = self.rebase.shift(frame) else {
            return;
        };
        let now = Instant::now();
        if is_start {
            self.group = Some(group);
            self.flush(now);
            self.starts_group = true;
        }
        self.encoder.push(&frame, wall, is_start);
        let wait = match kind {
            Some(TrackKind::Video) => Duration::ZERO,
            _ if has_picture => SOUND_WAIT,
            _ => Duration::ZERO,
        };
        let due = now + wait;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        self.on_running();
    }

    /// The stream runs, or runs again.
    fn on_running(&mut self) {
        if self.away.take().is_some() {
            self.phase.send_if_modified(|phase| {
                let Phase::Held(outline) = phase else {
                    return false;
                };
                *phase = Phase::Running(Arc::clone(outline));
                true
            });
        }
        if !self.has_clients()
            && let Some(outline) = self.encoder.outline()
        {
            self.phase.send_replace(Phase::Running(Arc::new(outline)));
        }
    }

    /// Ends the piece that is being made, if it has begun.
    fn flush(&mut self, now: Instant) {
        self.due = None;
        let bytes = self.encoder.pending_bytes();
        let Some(body) = self.encoder.take() else {
            return;
        };
        self.ring.push(Piece {
            starts_group: std::mem::take(&mut self.starts_group),
            made: now,
            bytes,
            body,
        });
    }
}

#[cfg(test)]
mod tests;
