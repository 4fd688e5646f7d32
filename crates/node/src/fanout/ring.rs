//! The ring of shared frames that all local subscribers of one flow read.
//!
//! ```text
//!  lane ──push──▶ inbox ──settle──▶ entries ──fill──▶ Queue of a subscriber
//!     │          (lock A)          (lock B)   (each at its own pace, from its cursor on)
//!     └─notify─▶ serve (a task of the flow) ──wake──▶ all subscribers that wait
//! ```
//!
//! The lane takes lock A for each entry and wakes the task once for all that it brings at a time, however many
//! subscribers there are; if there is one, it wakes that one instead. Lock B is the subscribers', who read side by
//! side; the lane takes it only when nobody has emptied the inbox for [`INBOX_ENTRIES_MAX`] entries.
//!
//! **No wake is lost.** Whoever brings something says so first ([`Ring::has_news`]) and takes the wakers then;
//! whoever waits leaves its waker first and looks for news then. Both pass the lock of the wakers in between. Whoever
//! empties the inbox moves the end ([`Ring::end`]) first: at each moment one of the two says what there is.
//!
//! Not a subscriber's own state (`queue`). Made by `fanout`. Invariant: what a subscriber has not read stays, and so
//! does the newest group; beyond [`RING_ENTRIES_MAX`] or [`RING_BYTES_MAX`] the oldest goes, and whoever had not read
//! it is told how many frames it misses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Poll, Waker};

use levada_lane::api as datapath;
use levada_wire::{Description, Frame, Group};
use tokio::sync::Notify;

use super::{Delivered, FrameRoom, SOUND, gap_of};
use crate::driver::SlotId;
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
pub(super) const REPLAY_FRAMES_MAX: u64 = 4_096;

/// How many subscribers are woken before those that were may run: the first do not wait for the last.
pub(super) const WAKES_AT_ONCE: usize = 64;
/// With fewer entries, nobody looks for what all have read.
pub(super) const TRIM_ENTRIES_MIN: usize = 64;
/// With fewer bytes of frames neither.
const TRIM_BYTES_MIN: usize = 1 << 20;

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
    /// Its place.
    pub(super) reader: Reader,
}

/// What a subscriber finds where it goes on reading.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Entry(&'a Entry),
    /// It read so late that these went before.
    Missed {
        frames: u64,
        /// The newest description among them.
        description: Option<Arc<Description>>,
    },
}

/// What one processor writes while others read what lies beside it: has a cache line to itself.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Apart<T>(T);

/// A subscriber's place in a ring.
#[derive(Debug)]
pub(super) struct Reader {
    /// The number of the entry that it reads next. Only it writes.
    cursor: Arc<Apart<AtomicU64>>,
    /// How many frames came before that.
    frames: u64,
    /// Where its waker was left last.
    seat: Option<Seat>,
}

/// A waker's place among those that wait.
#[derive(Clone, Copy, Debug)]
struct Seat {
    round: u64,
    at: usize,
}

/// Those who wait for news.
#[derive(Debug, Default)]
struct Waiting {
    /// How often they were woken.
    round: u64,
    /// Empty where somebody left meanwhile.
    wakers: Vec<Option<Waker>>,
    /// Indices of the empty ones in `wakers`.
    free: Vec<usize>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Ring {
    inbox: Apart<Mutex<Inbox>>,
    /// Something is in the inbox: looked at without its lock, so that many readers do not meet the lane there.
    has_news: AtomicBool,
    /// The number of the entry that comes next, counting what is being put in order: looked at without lock B.
    end: AtomicU64,
    waiting: Apart<Mutex<Waiting>>,
    /// Wakes [`Ring::serve`].
    news: Notify,
    is_closed: AtomicBool,
    /// What the rings of all flows may hold together.
    room: Arc<FrameRoom>,
    shared: Apart<RwLock<Shared>>,
}

#[derive(Debug, Default)]
struct Inbox {
    deliveries: Vec<datapath::Delivery>,
    bytes: usize,
    audience: Audience,
}

/// Who is to be woken.
#[derive(Clone, Copy, Debug, Default)]
enum Audience {
    #[default]
    Nobody,
    One,
    Many,
}

#[derive(Debug, Default)]
struct Shared {
    entries: VecDeque<Entry>,
    /// The number of the first of `entries`; they count from the ring's start.
    first: u64,
    /// Of the frames in `entries`.
    bytes: usize,
    /// Frames that ever came, and those of them that went.
    frames: u64,
    frames_gone: u64,
    /// The last description that went, and its number.
    description_gone: Option<(u64, Arc<Description>)>,
    /// The cursors of all.
    readers: BTreeMap<SlotId, Arc<Apart<AtomicU64>>>,
    /// How many entries and bytes make it worth while to look for what all have read.
    trim_entries: usize,
    trim_bytes: usize,
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
    /// The number of its first entry, and how many frames came before.
    first: u64,
    frames_before: u64,
    bytes: usize,
}

impl Reader {
    fn cursor(&self) -> u64 {
        self.cursor.0.load(Ordering::Relaxed)
    }
}

impl Ring {
    /// A ring with nothing in it, which shares that room with others.
    pub(super) fn new(room: Arc<FrameRoom>) -> Self {
        room.open();
        Self {
            inbox: Apart::default(),
            has_news: AtomicBool::default(),
            end: AtomicU64::default(),
            waiting: Apart::default(),
            news: Notify::default(),
            is_closed: AtomicBool::default(),
            room,
            shared: Apart::default(),
        }
    }

    /// Takes what a lane delivers. Never waits for a subscriber.
    pub(super) fn push(&self, delivery: datapath::Delivery) {
        let mut inbox = self.inbox();
        inbox.bytes += frame_bytes(&delivery);
        self.room.add(frame_bytes(&delivery));
        inbox.deliveries.push(delivery);
        let is_full = inbox.deliveries.len() >= INBOX_ENTRIES_MAX || inbox.bytes >= INBOX_BYTES_MAX;
        self.has_news.store(true, Ordering::Release);
        let audience = inbox.audience;
        drop(inbox);
        if is_full {
            self.settle();
        }
        let only = match audience {
            Audience::Nobody => return,
            Audience::One => self
                .waiting
                .0
                .try_lock()
                .map(|mut waiting| waiting.take())
                .ok(),
            Audience::Many => None,
        };
        match only {
            // Who does not wait runs, and looks for news before it waits.
            Some(wakers) => wakers.into_iter().flatten().for_each(Waker::wake),
            // Wakes once, however often it is called before the task has run.
            None => self.news.notify_one(),
        }
    }

    /// Wakes subscribers when there is something for them, until the flow is closed.
    pub(super) async fn serve(self: Arc<Self>) {
        while !self.is_closed.load(Ordering::Acquire) {
            self.news.notified().await;
            self.settle();
            let wakers = self.waiting.0.lock().expect(SOUND).take();
            for (at, waker) in wakers.into_iter().flatten().enumerate() {
                if at > 0 && at.is_multiple_of(WAKES_AT_ONCE) {
                    let_others_run().await;
                }
                waker.wake();
            }
        }
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// Adds a subscriber, at the start of the newest group if that is kept whole.
    pub(super) fn join(&self, id: SlotId) -> Joined {
        self.settle();
        let mut shared = self.write();
        let newest = shared.newest.as_ref();
        let newest = newest.map(|newest| (newest.first, newest.frames_before));
        let (first, frames) = newest.unwrap_or_else(|| (shared.end(), shared.frames));
        let cursor = Arc::new(Apart(AtomicU64::new(first)));
        shared.readers.insert(id, Arc::clone(&cursor));
        self.inbox().audience = shared.audience();
        Joined {
            description: shared.description.clone(),
            is_over: shared.has_ended && first == shared.end(),
            reader: Reader {
                cursor,
                frames,
                seat: None,
            },
        }
    }

    pub(super) fn leave(&self, id: SlotId, reader: &Reader) {
        if let Some(seat) = reader.seat {
            self.waiting.0.lock().expect(SOUND).leave(seat);
        }
        let mut shared = self.write();
        shared.readers.remove(&id);
        self.inbox().audience = shared.audience();
    }

    /// How many read here.
    pub(super) fn count(&self) -> usize {
        self.read().readers.len()
    }

    /// The slots of all subscribers attached to this ring.
    pub(super) fn readers(&self) -> Vec<SlotId> {
        self.read().readers.keys().copied().collect()
    }

    /// Whether there is something that a subscriber has not read.
    pub(super) fn has_news(&self, reader: &Reader) -> bool {
        self.has_news.load(Ordering::Acquire) || self.end.load(Ordering::Acquire) > reader.cursor()
    }

    /// Leaves a subscriber's waker. To be called before [`Ring::has_news`] by who waits.
    pub(super) fn wait(&self, reader: &mut Reader, waker: &Waker) {
        let mut waiting = self.waiting.0.lock().expect(SOUND);
        reader.seat = Some(waiting.seat(reader.seat, waker));
    }

    /// Shows a subscriber all that it has not read.
    pub(super) fn fill(&self, reader: &mut Reader, mut take: impl FnMut(Found<'_>)) {
        self.settle();
        let shared = self.read();
        let cursor = reader.cursor();
        if cursor < shared.first {
            let description = shared.description_gone.as_ref();
            let description = description.filter(|(number, _)| *number >= cursor);
            take(Found::Missed {
                frames: shared.frames_gone - reader.frames,
                description: description.map(|(_, description)| Arc::clone(description)),
            });
        }
        let read = usize::try_from(cursor.saturating_sub(shared.first)).expect("a ring is bounded");
        for entry in shared.entries.range(read..) {
            take(Found::Entry(entry));
        }
        reader.frames = shared.frames;
        reader.cursor.0.store(shared.end(), Ordering::Relaxed);
    }

    /// Takes what is in the inbox.
    fn settle(&self) {
        if !self.has_news.load(Ordering::Acquire) {
            return;
        }
        let mut shared = self.write();
        let mut fresh = std::mem::take(&mut shared.spare);
        {
            let mut inbox = self.inbox();
            std::mem::swap(&mut inbox.deliveries, &mut fresh);
            inbox.bytes = 0;
            // Each delivery makes one entry. Who sees this end before they are there waits for lock B to read them.
            let end = shared.end() + fresh.len() as u64;
            self.end.store(end, Ordering::Release);
            self.has_news.store(false, Ordering::Release);
        }
        #[cfg(test)]
        tests::hook::run();
        for delivery in fresh.drain(..) {
            shared.on_delivery(delivery);
        }
        shared.spare = fresh;
        self.room.take(shared.trim(&self.room));
        debug_assert_eq!(self.end.load(Ordering::Relaxed), shared.end());
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.0.lock().expect(SOUND)
    }

    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.0.read().expect(SOUND)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.0.write().expect(SOUND)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let in_inbox = self.inbox().bytes;
        self.room.close(in_inbox + self.read().bytes);
    }
}

#[cfg(test)]
impl Default for Ring {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

#[cfg(test)]
impl Ring {
    /// How many entries are kept.
    pub(super) fn kept(&self) -> usize {
        self.settle();
        self.read().entries.len()
    }

    /// How many entries wait in the inbox.
    pub(super) fn unsettled(&self) -> usize {
        self.inbox().deliveries.len()
    }

    /// What a subscriber holds while it reads.
    pub(super) fn hold(&self) -> impl Drop {
        self.read()
    }
}

impl Waiting {
    /// Ends a round of waiting.
    fn take(&mut self) -> Vec<Option<Waker>> {
        self.round += 1;
        self.free.clear();
        std::mem::take(&mut self.wakers)
    }

    /// Leaves a waker, at the place that it had in this round, if any.
    fn seat(&mut self, before: Option<Seat>, waker: &Waker) -> Seat {
        if let Some(seat) = before.filter(|seat| seat.round == self.round) {
            match &mut self.wakers[seat.at] {
                Some(left) => left.clone_from(waker),
                free => *free = Some(waker.clone()),
            }
            return seat;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        });
        self.wakers[at] = Some(waker.clone());
        let round = self.round;
        Seat { round, at }
    }

    fn leave(&mut self, seat: Seat) {
        if seat.round == self.round {
            self.wakers[seat.at] = None;
            self.free.push(seat.at);
        }
    }
}

impl Shared {
    /// The number of the entry that comes next.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn audience(&self) -> Audience {
        match self.readers.len() {
            0 => Audience::Nobody,
            1 => Audience::One,
            _ => Audience::Many,
        }
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
                self.frames += 1;
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
                frames_before: self.frames,
                bytes: 0,
            });
        }
        if let Some(newest) = &mut self.newest {
            newest.bytes += frame.data.len();
            let frames = self.frames + 1 - newest.frames_before;
            let is_kept = frames <= REPLAY_FRAMES_MAX && newest.bytes <= REPLAY_BYTES_MAX;
            self.newest.take_if(|_| !is_kept);
        }
        starts_group
    }

    /// Whether a frame may be the first of a group: groups start where the leading track can start decoding. A new
    /// group number alone says nothing, because the beginning may be missing.
    fn may_start(&self, frame: &Frame) -> bool {
        let leading = self.description.as_ref().and_then(|all| all.leading());
        frame.sync && leading.is_some_and(|track| track.id == frame.track)
    }

    /// Lets go of what nobody will read, now and then, and of the oldest beyond the bounds; gives the bytes of it.
    fn trim(&mut self, room: &FrameRoom) -> usize {
        let before = self.bytes;
        let beyond = |bytes| bytes > RING_BYTES_MAX || room.is_beyond(bytes, before - bytes);
        if self.entries.len() > self.trim_entries || self.bytes > self.trim_bytes {
            let cursors = self.readers.values();
            let cursors = cursors.map(|cursor| cursor.0.load(Ordering::Relaxed));
            let wanted = cursors.chain(self.newest.as_ref().map(|newest| newest.first));
            let wanted = wanted.min().unwrap_or_else(|| self.end());
            while self.first < wanted {
                self.pop();
            }
            self.trim_entries = (2 * self.entries.len()).max(TRIM_ENTRIES_MIN);
            self.trim_bytes = (2 * self.bytes).max(TRIM_BYTES_MIN);
        }
        while self.entries.len() > RING_ENTRIES_MAX
            || (self.entries.len() > 1 && beyond(self.bytes))
        {
            self.newest.take_if(|newest| newest.first == self.first);
            self.pop();
        }
        before - self.bytes
    }

    fn pop(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        self.bytes -= entry.bytes();
        match entry {
            Entry::Frame { .. } => self.frames_gone += 1,
            Entry::Description(description) => {
                self.description_gone = Some((self.first, description));
            }
            Entry::Gap(_) | Entry::End => {}
        }
        self.first += 1;
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

/// Goes to the end of the runtime's queue.
async fn let_others_run() {
    let mut has_waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

const fn frame_bytes(delivery: &datapath::Delivery) -> usize {
    match delivery {
        datapath::Delivery::Frame { frame, .. } => frame.data.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
