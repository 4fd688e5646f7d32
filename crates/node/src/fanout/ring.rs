//! What all local subscribers of one flow read: one ring of shared frames.
//!
//! ```text
//!  lane ──push──▶ inbox ──settle──▶ entries ──fill──▶ Queue of a subscriber
//!     │          (lock A)          (lock B)   (each at its own pace, from its cursor on)
//!     └─notify─▶ serve (a task of the flow) ──wake──▶ all subscribers that wait
//! ```
//!
//! The lane takes lock A for each entry and wakes the task once for all that it brings at a time, however many
//! subscribers there are. Lock B is the subscribers'; the lane takes it only when nobody has emptied the inbox for
//! [`INBOX_ENTRIES_MAX`] entries.
//!
//! Not a subscriber's own state (`queue`). Made by `fanout`. Invariant: an entry stays until every subscriber has read
//! it and it is not of the newest group; beyond [`RING_ENTRIES_MAX`] or [`RING_BYTES_MAX`] the oldest goes, and whoever
//! had not read it is told how many frames it misses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use crate::driver::SlotId;
use levada_lane::api as datapath;
use levada_wire::{Description, Frame, Group};
use tokio::sync::Notify;

use super::{Delivered, gap_of};
use crate::subscriber::Gap;

/// The most entries that wait for the subscribers of one flow: twice what [`crate::SubscribeOptions`] allows one.
pub(super) const RING_ENTRIES_MAX: usize = 8_192;
/// The most bytes of frames in them. One frame is always kept.
pub(super) const RING_BYTES_MAX: usize = 64 << 20;
/// The most entries that a lane leaves for others to put in order. With one more it does so itself.
pub(super) const INBOX_ENTRIES_MAX: usize = 1_024;
/// The most bytes of frames in them, with the same effect.
pub(super) const INBOX_BYTES_MAX: usize = 8 << 20;
/// The most bytes of the newest group that are kept for a subscriber that comes later. Beyond it, that one starts at
/// the next group.
pub(super) const REPLAY_BYTES_MAX: usize = 16 << 20;
/// The most frames of it, with the same effect.
pub(super) const REPLAY_FRAMES_MAX: usize = 4_096;

/// One thing that all subscribers of a flow get.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Description(Arc<Description>),
    Frame {
        delivered: Delivered,
        starts_group: bool,
    },
    Gap(Gap),
    End,
}

/// What a subscriber is told when it comes.
#[derive(Debug)]
pub(super) struct Joined {
    /// The tracks as they are now.
    pub(super) description: Option<Arc<Description>>,
    /// The flow has ended, and nothing of it is kept.
    pub(super) is_over: bool,
}

/// What a subscriber finds where it goes on reading.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Entry(&'a Entry),
    /// It read so late that these went before.
    Missed(Missed),
}

/// What went before a subscriber read it.
#[derive(Clone, Debug, Default)]
pub(super) struct Missed {
    pub(super) frames: u64,
    /// The newest description among it.
    pub(super) description: Option<Arc<Description>>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Ring {
    inbox: Mutex<Inbox>,
    /// Something is in the inbox: looked at without its lock, so that many readers do not meet the lane there.
    has_news: AtomicBool,
    /// Wakes [`Ring::serve`].
    news: Notify,
    is_closed: AtomicBool,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Inbox {
    deliveries: Vec<datapath::Delivery>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    entries: VecDeque<Entry>,
    /// The number of the first of `entries`; they count from the ring's start.
    first: u64,
    /// Of the frames in `entries`.
    bytes: usize,
    readers: BTreeMap<SlotId, Reader>,
    description: Option<Arc<Description>>,
    /// The group of the last frame.
    group: Option<Group>,
    newest: Option<Newest>,
    has_ended: bool,
    /// An inbox that was emptied: its memory serves again.
    spare: Vec<datapath::Delivery>,
}

/// The newest group, whole from its start until now: where a subscriber that comes may start.
#[derive(Debug)]
struct Newest {
    /// The number of its first entry.
    first: u64,
    frames: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Reader {
    /// The number of the entry that it reads next.
    cursor: u64,
    missed: Option<Missed>,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code that can panic runs under this lock")
}

impl Ring {
    /// Takes what a lane delivers. Never waits for a subscriber.
    pub(super) fn push(&self, delivery: datapath::Delivery) {
        let mut inbox = lock(&self.inbox);
        inbox.bytes += frame_bytes(&delivery);
        inbox.deliveries.push(delivery);
        let is_full = inbox.deliveries.len() >= INBOX_ENTRIES_MAX || inbox.bytes >= INBOX_BYTES_MAX;
        self.has_news.store(true, Ordering::Release);
        drop(inbox);
        if is_full {
            drop(self.settled());
        }
        // Wakes once, however often it is called before the task has run.
        self.news.notify_one();
    }

    /// Wakes subscribers when there is something for them, until the flow is closed.
    pub(super) async fn serve(self: Arc<Self>) {
        while !self.is_closed.load(Ordering::Acquire) {
            self.news.notified().await;
            let mut shared = self.settled();
            let end = shared.end();
            let behind = shared.readers.values_mut().filter(|one| one.cursor < end);
            let wakers: Vec<Waker> = behind.filter_map(|one| one.waker.take()).collect();
            drop(shared);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// Adds a subscriber, at the start of the newest group if that is kept whole.
    pub(super) fn join(&self, id: SlotId) -> Joined {
        let mut shared = self.settled();
        let cursor = shared
            .newest
            .as_ref()
            .map_or(shared.end(), |newest| newest.first);
        let reader = Reader {
            cursor,
            missed: None,
            waker: None,
        };
        shared.readers.insert(id, reader);
        Joined {
            description: shared.description.clone(),
            is_over: shared.has_ended && cursor == shared.end(),
        }
    }

    pub(super) fn leave(&self, id: SlotId) {
        lock(&self.shared).readers.remove(&id);
    }

    /// Who reads here.
    pub(super) fn readers(&self) -> Vec<SlotId> {
        lock(&self.shared).readers.keys().copied().collect()
    }

    /// Shows a subscriber all that it has not read. `take` says whether there is something for it now; if there is
    /// nothing, it is woken when something comes.
    pub(super) fn fill(
        &self,
        id: SlotId,
        waker: Option<&Waker>,
        mut take: impl FnMut(Found<'_>) -> bool,
    ) {
        let mut shared = self.settled();
        let Shared {
            entries,
            first,
            readers,
            ..
        } = &mut *shared;
        let Some(reader) = readers.get_mut(&id) else {
            return;
        };
        let mut has_some = false;
        if let Some(missed) = reader.missed.take() {
            has_some |= take(Found::Missed(missed));
        }
        let read = usize::try_from(reader.cursor - *first).expect("a ring is bounded");
        for entry in entries.range(read..) {
            has_some |= take(Found::Entry(entry));
            reader.cursor += 1;
        }
        if let Some(waker) = waker.filter(|_| !has_some) {
            reader.waker = Some(waker.clone());
        }
    }

    /// The subscribers' side, with all that a lane has delivered.
    fn settled(&self) -> MutexGuard<'_, Shared> {
        let mut shared = lock(&self.shared);
        if self.has_news.load(Ordering::Acquire) {
            let mut fresh = std::mem::take(&mut shared.spare);
            {
                let mut inbox = lock(&self.inbox);
                std::mem::swap(&mut inbox.deliveries, &mut fresh);
                inbox.bytes = 0;
                self.has_news.store(false, Ordering::Release);
            }
            for delivery in fresh.drain(..) {
                shared.on_delivery(delivery);
            }
            shared.spare = fresh;
            shared.trim();
        }
        shared
    }
}

#[cfg(test)]
impl Ring {
    /// How many entries are kept.
    pub(super) fn kept(&self) -> usize {
        self.settled().entries.len()
    }

    /// How many entries wait in the inbox.
    pub(super) fn unsettled(&self) -> usize {
        lock(&self.inbox).deliveries.len()
    }

    /// What a subscriber holds while it reads.
    pub(super) fn hold(&self) -> impl Drop {
        lock(&self.shared)
    }
}

impl Shared {
    /// The number of the entry that comes next.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn on_delivery(&mut self, delivery: datapath::Delivery) {
        let entry = match delivery {
            datapath::Delivery::Description(description) => {
                self.description = Some(Arc::clone(&description));
                Entry::Description(description)
            }
            datapath::Delivery::Frame { group, frame, wall } => {
                let starts_group = self.keep(group, &frame);
                let delivered = Delivered { group, frame, wall };
                Entry::Frame {
                    delivered,
                    starts_group,
                }
            }
            datapath::Delivery::Gap(gap) => {
                self.newest = None;
                Entry::Gap(gap_of(gap))
            }
            datapath::Delivery::End => {
                self.has_ended = true;
                Entry::End
            }
        };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    /// Notes a frame as one of the newest group, and says whether it is the first of it.
    fn keep(&mut self, group: Group, frame: &Frame) -> bool {
        let starts_group = self.group != Some(group) && self.may_start(frame);
        self.group = Some(group);
        if starts_group {
            self.newest = Some(Newest {
                first: self.end(),
                frames: 0,
                bytes: 0,
            });
        }
        self.newest = self.newest.take().and_then(|newest| {
            let (frames, bytes) = (newest.frames + 1, newest.bytes + frame.data.len());
            let is_kept = frames <= REPLAY_FRAMES_MAX && bytes <= REPLAY_BYTES_MAX;
            is_kept.then_some(Newest {
                frames,
                bytes,
                ..newest
            })
        });
        starts_group
    }

    /// Whether a frame may be the first of a group: groups start where the leading track can start decoding. A new
    /// group number alone says nothing, because the beginning may be missing.
    fn may_start(&self, frame: &Frame) -> bool {
        let leading = self.description.as_ref().and_then(|all| all.leading());
        frame.sync && leading.is_some_and(|track| track.id == frame.track)
    }

    /// Lets go of what nobody will read, and of the oldest beyond the bounds.
    fn trim(&mut self) {
        let cursors = self.readers.values().map(|reader| reader.cursor);
        let wanted = cursors.chain(self.newest.as_ref().map(|newest| newest.first));
        let wanted = wanted.min().unwrap_or(self.end());
        while self.first < wanted {
            self.pop();
        }
        while self.entries.len() > RING_ENTRIES_MAX
            || (self.bytes > RING_BYTES_MAX && self.entries.len() > 1)
        {
            let (number, entry) = (self.first, self.pop());
            let late = self.readers.values_mut();
            for reader in late.filter(|reader| reader.cursor == number) {
                reader.miss(&entry);
            }
            self.newest.take_if(|newest| newest.first == number);
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

impl Reader {
    /// An entry goes that was not read.
    fn miss(&mut self, entry: &Option<Entry>) {
        self.cursor += 1;
        let missed = self.missed.get_or_insert_default();
        match entry {
            Some(Entry::Frame { .. }) => missed.frames += 1,
            Some(Entry::Description(description)) => {
                missed.description = Some(Arc::clone(description));
            }
            Some(Entry::Gap(_) | Entry::End) | None => {}
        }
    }
}

impl Entry {
    const fn bytes(&self) -> usize {
        match self {
            Self::Frame { delivered, .. } => delivered.frame.data.len(),
            Self::Description(_) | Self::Gap(_) | Self::End => 0,
        }
    }
}

const fn frame_bytes(delivery: &datapath::Delivery) -> usize {
    match delivery {
        datapath::Delivery::Frame { frame, .. } => frame.data.len(),
        _ => 0,
    }
}
