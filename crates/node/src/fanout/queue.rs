//! What waits for one subscriber.
//!
//! ```text
//!            first frame of a group, and room
//!   Waiting ──────────────────────────────────▶ Flowing
//!      ▲                                           │
//!      └───────────────────────────────────────────┘
//!            queue full (what comes is counted as skipped)
//! ```
//!
//! Not a channel: a full channel would make its sender wait or lose the newest, and here a whole run of frames
//! up to the next group has to go, with one gap that says how many. Filled by `fanout`, emptied by
//! [`crate::Subscriber`]. Invariant: at most the subscriber's own limit of frames and bytes waits, and at most
//! [`NOTICES_MAX`] other things.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use levada_wire::{Description, Group};

use super::Delivered;
use crate::subscriber::{Delivery, Gap, GapReason, Instance, State, SubscribeOptions};

/// The most things other than frames that may wait. Beyond it all that waits is skipped.
const NOTICES_MAX: usize = 64;

/// What waits for one subscriber.
#[derive(Debug)]
pub(crate) struct Queue {
    frames_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<Delivery>,
    frames: usize,
    bytes: usize,
    flowing: bool,
    /// Frames skipped since it last flowed.
    skipped: u64,
    /// Frames are missing before the next one, and nobody can say how many.
    interrupted: bool,
    /// The last group that a frame came from.
    group: Option<Group>,
    /// The first group that may start: a flow that comes back may bring a group that was told in part.
    not_before: Option<Group>,
    /// The description to be told before the next frame.
    description: Option<Arc<Description>>,
    finished: bool,
    waker: Option<Waker>,
}

impl Queue {
    pub(crate) fn new(options: &SubscribeOptions) -> Self {
        Self {
            frames_max: options.queue_frames_max.max(1),
            bytes_max: options.queue_bytes_max,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Takes the next thing, or arranges to be woken; `None` after the end of the node.
    pub(crate) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Delivery>> {
        let mut inner = self.inner();
        match inner.items.pop_front() {
            Some(delivery) => {
                if let Delivery::Frame { frame, .. } = &delivery {
                    inner.frames -= 1;
                    inner.bytes -= frame.data.len();
                }
                Poll::Ready(Some(delivery))
            }
            None if inner.finished => Poll::Ready(None),
            None => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// A flow begins, or comes back: the next frame must start a group that was not told before. `instance` is told
    /// if it is another flow than before.
    pub(super) fn start(&self, instance: Option<Instance>) {
        let mut inner = self.inner();
        inner.interrupted |= std::mem::take(&mut inner.flowing);
        inner.description = None;
        inner.not_before = inner.group.map(|group| Group(group.0.saturating_add(1)));
        if let Some(instance) = instance {
            // A restart is a break anyway: what was skipped before it is part of that break.
            inner.skipped = 0;
            inner.interrupted = false;
            inner.group = None;
            inner.not_before = None;
            inner.notice(Delivery::NewInstance(instance));
        }
    }

    pub(super) fn push_description(&self, description: &Arc<Description>) {
        self.inner().description = Some(Arc::clone(description));
    }

    pub(super) fn push_frame(&self, delivered: &Delivered, starts_group: bool) {
        let mut inner = self.inner();
        let bytes = delivered.frame.data.len();
        // An empty queue takes a frame of any size: otherwise one larger than the limit would never pass.
        let is_full = inner.frames > 0
            && (inner.frames >= self.frames_max || inner.bytes + bytes > self.bytes_max);
        if is_full {
            inner.flowing = false;
            inner.skipped += 1;
            return;
        }
        if !inner.flowing {
            let is_old = inner
                .not_before
                .is_some_and(|first| delivered.group < first);
            if !starts_group || is_old {
                // Frames before the first start of all were never this subscriber's, so they are not skipped.
                if inner.skipped > 0 {
                    inner.skipped += 1;
                }
                return;
            }
            inner.tell_missing();
        }
        if let Some(description) = inner.description.take() {
            inner.notice(Delivery::Description(description));
        }
        inner.flowing = true;
        inner.group = Some(delivered.group);
        inner.frames += 1;
        inner.bytes += bytes;
        inner.push(Delivery::Frame {
            group: delivered.group,
            frame: delivered.frame.clone(),
            wall: delivered.wall,
        });
    }

    /// Frames are missing. Not told while none flow: the gap that ends the wait covers it.
    pub(super) fn push_gap(&self, gap: Gap) {
        let mut inner = self.inner();
        if !inner.flowing {
            return;
        }
        if let Some(Delivery::Gap(last)) = inner.items.back_mut()
            && last.reason == gap.reason
        {
            last.packets += gap.packets;
            last.frames += gap.frames;
            return;
        }
        inner.notice(Delivery::Gap(gap));
    }

    pub(super) fn push_state(&self, state: State) {
        let mut inner = self.inner();
        if let Some(Delivery::State(last)) = inner.items.back_mut() {
            *last = state;
            return;
        }
        inner.notice(Delivery::State(state));
    }

    pub(super) fn push_end(&self) {
        let mut inner = self.inner();
        inner.tell_missing();
        inner.notice(Delivery::End);
    }

    /// Nothing will ever come again.
    pub(super) fn finish(&self) {
        let mut inner = self.inner();
        inner.finished = true;
        inner.wake();
    }
}

impl Inner {
    fn push(&mut self, delivery: Delivery) {
        self.items.push_back(delivery);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Adds something that is not a frame. If too many such things wait, all that waits is skipped: nobody has
    /// looked for a long time.
    fn notice(&mut self, delivery: Delivery) {
        if self.items.len() - self.frames >= NOTICES_MAX {
            self.skipped += u64::try_from(self.frames).unwrap_or(u64::MAX);
            let description = self.items.iter().rev().find_map(|item| match item {
                Delivery::Description(description) => Some(Arc::clone(description)),
                _ => None,
            });
            self.description = self.description.take().or(description);
            self.items.clear();
            self.frames = 0;
            self.bytes = 0;
            self.flowing = false;
            self.tell_missing();
        }
        self.push(delivery);
    }

    /// Tells what is missing before what comes next.
    fn tell_missing(&mut self) {
        if std::mem::take(&mut self.interrupted) {
            let gap = Gap {
                reason: GapReason::Interrupted,
                packets: 0,
                frames: 0,
            };
            self.push(Delivery::Gap(gap));
        }
        if self.skipped > 0 {
            let gap = Gap {
                reason: GapReason::Slow,
                packets: 0,
                frames: std::mem::take(&mut self.skipped),
            };
            self.push(Delivery::Gap(gap));
        }
    }
}
