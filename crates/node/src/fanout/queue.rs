//! The queue of one subscriber: notices of its own, and its cursor in the ring of a flow.
//!
//! ```text
//!            first frame of a group, and room
//!   Waiting ──────────────────────────────────▶ Flowing
//!      ▲                                           │
//!      └───────────────────────────────────────────┘
//!            queue full, or the ring went on without it (what comes is counted as skipped)
//! ```
//!
//! A subscriber first takes its own notices, then reads new entries of the ring, on its own task. A change of state
//! or another start of the stream comes behind the entries of the ring that preceded it.
//!
//! Not a channel: a full channel would make its sender wait or lose the newest, and here a whole run of frames
//! up to the next group has to go, with one gap that says how many. Filled by `fanout` and from the ring, emptied by
//! [`crate::Subscriber`]. Invariant: at most the subscriber's own limit of frames and bytes waits here, and at most
//! [`NOTICES_MAX`] other things. Beside it waits what it has not read of the ring, which has a limit of its own for all
//! subscribers of the flow together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::driver::SlotId;
use levada_wire::{Description, Group};

use super::ring::{Entry, Found, Reader, Ring};
use super::{Delivered, SOUND};
use crate::subscriber::{Delivery, Gap, GapReason, Instance, State, SubscribeOptions};

/// The most things other than frames that may wait. Beyond it all that waits is skipped.
const NOTICES_MAX: usize = 64;

/// What waits for one subscriber.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    frames_max: usize,
    bytes_max: usize,
    attached: Option<AttachedRing>,
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
    /// The end of this flow was told.
    ended: bool,
    finished: bool,
    /// For what is its own; the ring has one for what it brings.
    waker: Option<Waker>,
}

/// The ring that it reads, and its reader there.
#[derive(Debug)]
struct AttachedRing {
    ring: Arc<Ring>,
    id: SlotId,
    reader: Reader,
}

impl Queue {
    pub(crate) fn new(options: &SubscribeOptions) -> Self {
        Self {
            inner: Mutex::new(Inner {
                frames_max: options.queue_frames_max.max(1),
                bytes_max: options.queue_bytes_max,
                ..Inner::default()
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect(SOUND)
    }

    /// Takes the next thing, or arranges to be woken; `None` after the end of the node.
    pub(crate) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Delivery>> {
        let mut inner = self.inner();
        if inner.items.is_empty() {
            inner.read();
        }
        if inner.items.is_empty() {
            inner.wait(context.waker());
        }
        match inner.items.pop_front() {
            Some(delivery) => {
                if let Delivery::Frame { frame, .. } = &delivery {
                    inner.frames -= 1;
                    inner.bytes -= frame.data.len();
                }
                Poll::Ready(Some(delivery))
            }
            None if inner.finished => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Reads from this flow from now on: the next frame must start a group that was not told before. `instance` is told
    /// if it is another flow than before.
    pub(super) fn attach(&self, ring: Arc<Ring>, id: SlotId, instance: Option<Instance>) {
        self.change(|inner| {
            inner.detach();
            inner.start(instance);
            let joined = ring.join(id);
            inner.description = joined.description;
            if joined.is_over {
                inner.take_end();
            }
            let reader = joined.reader;
            inner.attached = Some(AttachedRing { ring, id, reader });
        });
    }

    /// Reads from no flow any more, once it has what came.
    pub(super) fn detach(&self) {
        self.change(Inner::detach);
    }

    pub(super) fn push_state(&self, state: State) {
        self.change(|inner| {
            inner.read();
            if let Some(Delivery::State(last)) = inner.items.back_mut() {
                *last = state;
                return;
            }
            inner.notice(Delivery::State(state));
        });
    }

    /// The flow that it read from last has ended.
    pub(super) fn push_end(&self) {
        self.change(|inner| {
            inner.read();
            inner.take_end();
        });
    }

    /// Nothing will ever come again.
    pub(super) fn finish(&self) {
        self.change(|inner| inner.finished = true);
    }

    /// Does something that the subscriber is woken for.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner();
        change(&mut inner);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Inner {
    /// Takes what is new in the ring.
    fn read(&mut self) {
        // Taken out for as long as the ring is read.
        if let Some(mut attached) = self.attached.take() {
            if attached.ring.has_news(&attached.reader) {
                let AttachedRing { ring, reader, .. } = &mut attached;
                ring.fill(reader, |found| self.take(found));
            }
            self.attached = Some(attached);
        }
    }

    /// Arranges to be woken, unless there is something now.
    fn wait(&mut self, waker: &Waker) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|left| left.will_wake(waker))
        {
            self.waker = Some(waker.clone());
        }
        if let Some(AttachedRing { ring, reader, .. }) = &mut self.attached {
            ring.wait(reader, waker);
            self.read();
        }
    }

    fn detach(&mut self) {
        self.read();
        if let Some(attached) = self.attached.take() {
            attached.ring.leave(attached.id, &attached.reader);
        }
    }

    fn start(&mut self, instance: Option<Instance>) {
        self.interrupted |= std::mem::take(&mut self.flowing);
        self.ended = false;
        self.description = None;
        self.not_before = self.group.map(|group| Group(group.0.saturating_add(1)));
        if let Some(instance) = instance {
            // A restart is a break anyway: what was skipped before it is part of that break.
            self.skipped = 0;
            self.interrupted = false;
            self.group = None;
            self.not_before = None;
            self.notice(Delivery::NewInstance(instance));
        }
    }

    fn take(&mut self, found: Found<'_>) {
        match found {
            Found::Missed {
                frames,
                description,
            } => {
                self.flowing &= frames == 0;
                self.skipped += frames;
                self.description = description.or_else(|| self.description.take());
            }
            Found::Entry(Entry::Description(description)) => {
                self.description = Some(Arc::clone(description));
            }
            Found::Entry(Entry::Frame {
                delivered,
                starts_group,
            }) => self.take_frame(delivered, *starts_group),
            Found::Entry(Entry::Gap(gap)) => self.take_gap(*gap),
            Found::Entry(Entry::End) => self.take_end(),
        }
    }

    fn take_frame(&mut self, delivered: &Delivered, starts_group: bool) {
        let bytes = delivered.frame.data.len();
        // An empty queue takes a frame of any size: otherwise one larger than the limit would never pass.
        let is_full = self.frames > 0
            && (self.frames >= self.frames_max || self.bytes + bytes > self.bytes_max);
        if is_full {
            self.flowing = false;
            self.skipped += 1;
            return;
        }
        if !self.flowing {
            let is_old = self.not_before.is_some_and(|first| delivered.group < first);
            if !starts_group || is_old {
                // Frames before the first start of all were never this subscriber's, so they are not skipped.
                if self.skipped > 0 {
                    self.skipped += 1;
                }
                return;
            }
            self.tell_missing();
        }
        if let Some(description) = self.description.take() {
            self.notice(Delivery::Description(description));
        }
        self.flowing = true;
        self.group = Some(delivered.group);
        self.frames += 1;
        self.bytes += bytes;
        self.items.push_back(Delivery::Frame {
            group: delivered.group,
            frame: delivered.frame.clone(),
            wall: delivered.wall,
        });
    }

    /// Frames are missing. Not told while none flow: the gap that ends the wait covers it.
    fn take_gap(&mut self, gap: Gap) {
        if !self.flowing {
            return;
        }
        if let Some(Delivery::Gap(last)) = self.items.back_mut()
            && last.reason == gap.reason
        {
            last.packets += gap.packets;
            last.frames += gap.frames;
            return;
        }
        self.notice(Delivery::Gap(gap));
    }

    /// Tells the end, once.
    fn take_end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.tell_missing();
            self.notice(Delivery::End);
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
        self.items.push_back(delivery);
    }

    /// Tells what is missing before what comes next.
    fn tell_missing(&mut self) {
        if std::mem::take(&mut self.interrupted) {
            let gap = Gap {
                reason: GapReason::Interrupted,
                packets: 0,
                frames: 0,
            };
            self.items.push_back(Delivery::Gap(gap));
        }
        if self.skipped > 0 {
            let gap = Gap {
                reason: GapReason::Slow,
                packets: 0,
                frames: std::mem::take(&mut self.skipped),
            };
            self.items.push_back(Delivery::Gap(gap));
        }
    }
}
