//! A child of a flow: all that a node knows of one to whom it sends it, and the table of all of them.
//!
//! ```text
//!   AddEgress ─▶ Child { progress, buckets, withheld,  ─▶ RemoveEgress ─▶ former: what it was
//!   AddMember ─▶         repairs, demand, channels }      RemoveMember    sent of late
//!                                                         RemoveLink   ─▶ nothing
//! ```
//!
//! A child is a link: its peer is sent the flow over the link, by multicast channels that it hears, or both. In this
//! folder:
//!
//! | file | has |
//! |---|---|
//! | `progress.rs` | the states of a child, drawn |
//! | `join.rs` | how a child comes and goes; newcomers |
//! | `moved.rs` | what a child has that moved here |
//! | `behind.rs` | how a child falls behind and comes back |
//! | `pace.rs` | what is sent to those who are behind as time passes |
//! | `pacer.rs` | how fast that is over a path that nobody knows, and what that learns |
//! | `queue.rs`, `bucket.rs`, `withheld.rs`, `repairs.rs` | whose turn it is, at what rate, what is not sent, what is sent again |
//!
//! Not who may be a child: the core decides that and commands it. Called by `forward` for each run, by `repair`, and by
//! the lane for commands and time. Invariant: each child is a link of the lane's link table, removing a link removes
//! its children first; leaving and joining again gains nothing.

use std::collections::BTreeMap;

use levada_wire::lane::Path;
use levada_wire::{Bitrate, Instant, LinkIndex, Number};

use crate::api::{Channel, EgressTerms};
use crate::flow::run::Run;
use crate::limits::{CATCH_UP_DEPTH, FORMER_MAX, LIVE_DEPTH, MEMBERS_MAX, PEAK_HEADROOM};
use crate::repair::parity::demand::Demand;
use crate::repair::tail::Tail;

pub(crate) mod behind;
pub(crate) mod bucket;
pub(crate) mod join;
pub(crate) mod moved;
pub(crate) mod pace;
pub(crate) mod pacer;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod repairs;
#[cfg(test)]
mod tests;
pub(crate) mod withheld;

use bucket::Bucket;
use moved::Moved;
use pacer::Pacer;
use progress::Progress;
use repairs::{Credit, Repairs};
use withheld::Withheld;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) link: LinkIndex,
    /// How far it is.
    pub(crate) progress: Progress,
    /// What it was admitted with.
    terms: EgressTerms,
    pub(crate) buckets: Buckets,
    /// How what it is sent over its link is spread, if nobody knows what its path takes.
    pub(crate) pacer: Option<Box<Pacer>>,
    /// What it was not sent on purpose, lately.
    pub(crate) withheld: Option<Box<Withheld>>,
    /// What it has, if it moved here and was not sent anything live yet.
    pub(crate) moved: Option<Moved>,
    /// The end of what it was sent, if it caught up after the others had heard the last of theirs.
    pub(crate) tail: Option<Box<Tail>>,
    /// What it was sent again, and may be.
    pub(crate) repairs: Repairs,
    /// The parity that it needs.
    pub(crate) demand: Option<Demand>,
    /// Multicast channels that it hears.
    channels: Vec<Channel>,
    /// It was told that it cannot join the group which starts there, and is sent it if it can after all; with its place
    /// among those who wait for that.
    awaits: Option<(Number, u64)>,
}

/// What a child may be sent, by what it was sent lately.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    /// All but what it is sent as a newcomer, and repairs.
    pub(crate) live: Bucket,
    /// As a newcomer.
    pub(crate) catch_up: Bucket,
}

impl Buckets {
    fn new() -> Self {
        let unlimited = Bitrate(u64::MAX);
        Self {
            live: Bucket::new(unlimited, LIVE_DEPTH),
            catch_up: Bucket::new(unlimited, CATCH_UP_DEPTH),
        }
    }

    fn set_peak(&mut self, Bitrate(peak): Bitrate) {
        let live = peak.saturating_add(peak / PEAK_HEADROOM);
        self.live.set_rate(Bitrate(live));
        self.catch_up.set_rate(Bitrate(peak.saturating_mul(2)));
    }

    const fn are_full(&self, now: Instant) -> bool {
        self.live.is_full(now) && self.catch_up.is_full(now)
    }
}

/// What outlives a child.
#[derive(Clone, Copy, Debug)]
struct Former {
    buckets: Buckets,
    credit: Option<Credit>,
}

impl Former {
    fn nothing() -> Self {
        Self {
            buckets: Buckets::new(),
            credit: None,
        }
    }

    /// Whether a child that never was would be sent as much.
    fn is_over(&self, packets: u64, now: Instant) -> bool {
        let has_credit = self.credit.is_none_or(|credit| credit.is_full(packets));
        has_credit && self.buckets.are_full(now)
    }
}

impl Child {
    fn new(link: LinkIndex, former: Former) -> Self {
        Self {
            link,
            progress: Progress::ByChannel,
            terms: EgressTerms::UNLIMITED,
            buckets: former.buckets,
            pacer: None,
            withheld: None,
            moved: None,
            tail: None,
            repairs: Repairs::of(former.credit),
            demand: None,
            channels: Vec::new(),
            awaits: None,
        }
    }

    /// On which terms it is sent the flow over its link.
    pub(crate) const fn terms(&self) -> EgressTerms {
        self.terms
    }

    fn set_terms(&mut self, terms: EgressTerms) {
        self.terms = terms;
        self.buckets.set_peak(terms.peak);
    }

    /// Whether it is sent the flow over its link.
    pub(crate) const fn is_egress(&self) -> bool {
        !matches!(self.progress, Progress::ByChannel)
    }

    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.progress, Progress::Live)
    }

    /// It is sent a run, not as a repair.
    #[inline]
    pub(crate) fn sent(&mut self, run: &Run, is_late: bool, now: Instant) {
        self.charge(run.bytes.len(), is_late, now);
        if let Some(pacer) = &mut self.pacer {
            pacer.sent(run, now);
        }
    }

    /// It is sent so many bytes: as a newcomer, or `is_late` in a flow that catches up itself, or as one that is live.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize, is_late: bool, now: Instant) {
        match self.progress {
            Progress::CatchingUp { .. } => self.buckets.catch_up.take(bytes, now),
            Progress::Live if is_late => self.buckets.catch_up.take(bytes, now),
            _ => self.buckets.live.take(bytes, now),
        }
    }

    /// Whether it is sent what comes as it comes, or as its pace allows.
    pub(crate) const fn is_current(&self) -> bool {
        matches!(self.progress, Progress::Live | Progress::Paced { .. })
    }

    /// What lies between this node and the child is another path from now on.
    pub(crate) fn set_path(&mut self, path: Path, now: Instant) {
        let is_paced = self.is_egress() && path == Path::Unknown;
        if is_paced != self.pacer.is_some() {
            self.pacer = is_paced.then(|| Box::new(Pacer::new(now)));
        }
    }

    /// The multicast channels that it hears.
    pub(crate) fn channels(&self) -> &[Channel] {
        &self.channels
    }
}

/// The earlier of two moments, where there is one.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The children of a flow.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// In the order of their links, so that a replay sends in the same order.
    pub(crate) all: Vec<Child>,
    /// One past the highest number that went on.
    pub(crate) next: Number,
    /// When one has something to do.
    pub(crate) wake: Option<Instant>,
    /// How many are sent the flow over their links.
    egresses: usize,
    /// How many channels all of them hear together.
    memberships: usize,
    /// How many wait for a group that cannot be joined, and how many ever did.
    awaiting: usize,
    awaited: u64,
    /// What is remembered of those that went.
    former: BTreeMap<LinkIndex, Former>,
}

impl Children {
    /// How many are sent the flow over their links.
    pub(crate) const fn egresses(&self) -> usize {
        self.egresses
    }

    /// How many channels all of them hear together.
    pub(crate) const fn memberships(&self) -> usize {
        self.memberships
    }

    pub(crate) fn place_of(&self, link: LinkIndex) -> Option<usize> {
        self.search(link).ok()
    }

    pub(crate) fn get_mut(&mut self, link: LinkIndex) -> Option<&mut Child> {
        let place = self.place_of(link)?;
        Some(&mut self.all[place])
    }

    /// The peaks of all that are sent the flow over their links, together.
    pub(crate) fn admitted(&self) -> Bitrate {
        let egresses = self.all.iter().filter(|child| child.is_egress());
        Bitrate(egresses.fold(0, |sum, child| sum.saturating_add(child.terms.peak.0)))
    }

    /// Who has been sent all there is, over its link or by a channel.
    pub(crate) fn told(&self) -> impl Iterator<Item = LinkIndex> + '_ {
        let told = |child: &&Child| child.is_live() || !child.channels.is_empty();
        self.all.iter().filter(told).map(|child| child.link)
    }

    /// Who hears a channel.
    pub(crate) fn members(&self, channel: Channel) -> impl Iterator<Item = LinkIndex> + '_ {
        let members = self
            .all
            .iter()
            .filter(move |child| child.channels.contains(&channel));
        members.map(|child| child.link)
    }

    /// The flow goes on before the highest number that went on: who was behind goes on there as well.
    pub(crate) fn go_back(&mut self, next: Number) {
        self.next = next;
        for child in &mut self.all {
            if child.progress.is_behind() {
                child.progress = Progress::Live;
            }
            (child.withheld, child.moved) = (None, None);
            if let Some(pacer) = &mut child.pacer {
                pacer.clear();
            }
        }
    }

    /// A child has something to do when it says.
    pub(crate) fn wake_for(&mut self, place: usize) {
        self.wake = earliest(self.wake, self.all[place].wake());
    }

    /// Sends the flow over a link from now on, live; gives the child's place.
    fn add(&mut self, link: LinkIndex, terms: EgressTerms) -> usize {
        let place = self.place_or_new(link);
        let child = &mut self.all[place];
        self.egresses += usize::from(!child.is_egress());
        child.progress = Progress::Live;
        child.set_terms(terms);
        place
    }

    /// Gives an egress other terms; `false` if there is none.
    fn set_terms(&mut self, link: LinkIndex, terms: EgressTerms) -> bool {
        let child = self.get_mut(link).filter(|child| child.is_egress());
        child.map(|child| child.set_terms(terms)).is_some()
    }

    /// Sends the flow over a link no more; `false` if it was not. `packets` counts those of the flow.
    fn remove(&mut self, link: LinkIndex, packets: u64, now: Instant) -> bool {
        let place = self.place_of(link);
        let Some(place) = place.filter(|&place| self.all[place].is_egress()) else {
            return false;
        };
        let child = &mut self.all[place];
        self.egresses -= 1;
        self.awaiting -= usize::from(child.awaits.take().is_some());
        (child.progress, child.withheld) = (Progress::ByChannel, None);
        (child.moved, child.tail) = (None, None);
        child.pacer = None;
        child.repairs.end();
        self.remove_if_idle(place, packets, now);
        true
    }

    /// A link is no more, and nothing is remembered of its peer.
    fn forget(&mut self, link: LinkIndex) {
        if let Some(place) = self.place_of(link) {
            let child = self.all.remove(place);
            self.egresses -= usize::from(child.is_egress());
            self.awaiting -= usize::from(child.awaits.is_some());
            self.memberships -= child.channels.len();
        }
        self.former.remove(&link);
    }

    /// A link's peer hears a channel; `false` if too many do.
    pub(crate) fn add_member(&mut self, channel: Channel, link: LinkIndex) -> bool {
        if self.members(channel).count() >= MEMBERS_MAX {
            return false;
        }
        let place = self.place_or_new(link);
        let channels = &mut self.all[place].channels;
        if !channels.contains(&channel) {
            channels.push(channel);
            self.memberships += 1;
        }
        true
    }

    /// A link's peer hears a channel no more; `false` if it did not. `packets` counts those of the flow.
    pub(crate) fn remove_member(
        &mut self,
        channel: Channel,
        link: LinkIndex,
        packets: u64,
        now: Instant,
    ) -> bool {
        let Some(place) = self.place_of(link) else {
            return false;
        };
        let channels = &mut self.all[place].channels;
        let before = channels.len();
        channels.retain(|&heard| heard != channel);
        let left = before - channels.len();
        self.memberships -= left;
        self.remove_if_idle(place, packets, now);
        left > 0
    }

    /// Nobody hears a channel any more.
    pub(crate) fn end_channel(&mut self, channel: Channel, packets: u64, now: Instant) {
        let members: Vec<_> = self.members(channel).collect();
        for link in members {
            self.remove_member(channel, link, packets, now);
        }
    }

    /// A child that can be sent the newest group waits for none any more, nor does any that waited for another.
    fn await_group(&mut self, place: usize, group: Number, is_awaited: bool) {
        let is_other = |child: &Child| child.awaits.is_some_and(|(of, _)| of != group);
        for child in &mut self.all {
            if is_other(child) {
                child.awaits = None;
            }
        }
        self.awaited += 1;
        self.all[place].awaits = is_awaited.then_some((group, self.awaited));
        self.awaiting = self
            .all
            .iter()
            .filter(|child| child.awaits.is_some())
            .count();
    }

    /// Those that wait for the group that starts there, in the order of their waiting, and are live still: whoever fell
    /// behind meanwhile has a cursor, which goes forward only. Nobody waits for any from now on.
    fn take_awaiting(&mut self, group: Number) -> Vec<usize> {
        if self.awaiting == 0 {
            return Vec::new();
        }
        self.awaiting = 0;
        let all = self.all.iter_mut().enumerate();
        let awaits = all.filter_map(|(place, child)| {
            let awaits = child.awaits.take();
            Some((awaits.filter(|_| child.is_current())?, place))
        });
        let mut awaits: Vec<_> = awaits.filter(|&((of, _), _)| of == group).collect();
        awaits.sort_unstable();
        awaits.into_iter().map(|(_, place)| place).collect()
    }

    /// Whether the counts are those of the children, who stand in order, and whether each is woken in time.
    pub(crate) fn is_sound(&self) -> bool {
        let count = |is: fn(&Child) -> bool| self.all.iter().filter(|child| is(child)).count();
        let memberships = self
            .all
            .iter()
            .map(|child| child.channels.len())
            .sum::<usize>();
        let wakes = self.all.iter().filter_map(Child::wake).min();
        self.all.is_sorted_by(|one, other| one.link < other.link)
            && self.egresses == count(Child::is_egress)
            && self.awaiting == count(|child| child.awaits.is_some())
            && self.memberships == memberships
            && wakes.is_none_or(|at| self.wake.is_some_and(|wake| wake <= at))
    }

    /// A child that is sent nothing any more is remembered by what it was sent.
    fn remove_if_idle(&mut self, place: usize, packets: u64, now: Instant) {
        let child = &self.all[place];
        if child.is_egress() || !child.channels.is_empty() {
            return;
        }
        let child = self.all.remove(place);
        let former = Former {
            buckets: child.buckets,
            credit: child.repairs.credit(),
        };
        self.former
            .retain(|_, former| !former.is_over(packets, now));
        if former.is_over(packets, now) {
            return;
        }
        if self.former.len() == FORMER_MAX {
            self.former.pop_first();
        }
        self.former.insert(child.link, former);
    }

    fn place_or_new(&mut self, link: LinkIndex) -> usize {
        self.search(link).unwrap_or_else(|place| {
            let former = self.former.remove(&link);
            let child = Child::new(link, former.unwrap_or_else(Former::nothing));
            self.all.insert(place, child);
            place
        })
    }

    fn search(&self, link: LinkIndex) -> Result<usize, usize> {
        self.all.binary_search_by_key(&link, |child| child.link)
    }
}
