//! Which streams are offered, as far as this node has heard.
//!
//! Statements spread epidemically: what is news here is passed on to every other neighbour, what is not stops
//! here. An origin that cannot be reached keeps its place: only a withdraw, a later instance or long absence
//! removes it.
//!
//! ```text
//!   log:   3 a  4 b  7 c  8 d  9 -b          a place for each announce and each withdraw: the latest change of it
//!             ▲              ▲
//!        cursor of 12   cursor of 5          what a neighbour was told; behind it is what is news to it (`telling`)
//! ```
//!
//! Not who carries what (`carried`). Called by [`super::Flows`]. Invariant: per origin and name at most one announce,
//! never one that was withdrawn, and each announce and each withdraw has one place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use levada_wire::announce::{Announce, SignedAnnounce, SignedWithdraw};
use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{
    self as message, COLLECTION_MAX, Collection, Doubts, InstanceRef,
};
use levada_wire::key::Suite;
use levada_wire::machine::Wakeup;
use levada_wire::{
    Bitrate, CarryEnd, FlowId, Instant, Layer, LinkIndex, NodeId, PacketSize, StreamName,
};

use super::listener::Cursor;
use crate::limits::{
    STREAMS_MAX, STREAMS_PER_ADDRESS_MAX, STREAMS_PER_ORIGIN_MAX, UNREACHABLE_KEPT, WITHDRAWN_KEPT,
    WITHDRAWN_MAX,
};
use crate::subnet::{Shares, Subnet};
use crate::wakeups::Wakeups;

pub(super) type Key = (StreamName, NodeId);

#[derive(Debug)]
pub(super) struct Catalogue {
    entries: BTreeMap<Key, Entry>,
    per_origin: BTreeMap<NodeId, BTreeSet<StreamName>>,
    withdrawn: BTreeMap<Key, Withdrawn>,
    /// When each stream that cannot be reached is forgotten.
    unreachable: Wakeups<Key>,
    /// When each withdraw is.
    withdraws: Wakeups<Key>,
    /// The flows of all layers of all entries.
    flows: BTreeMap<FlowId, FlowOffer>,
    /// How many entries have packets of each size.
    sizes: BTreeMap<PacketSize, usize>,
    /// Whether there is a size more, or one less, than was taken last.
    has_other_sizes: bool,
    /// How much of it each subnet of strangers brought.
    shares: Shares<Key>,
    /// What changed, the latest change last.
    log: BTreeMap<u64, Logged>,
    /// The last place in it.
    last_place: u64,
}

/// What stands at a place.
#[derive(Debug)]
enum Logged {
    Announce(Key),
    Withdraw(Key),
}

/// What is announced of one flow.
#[derive(Clone, Debug)]
pub(super) struct FlowOffer {
    pub(super) of: InstanceRef,
    pub(super) layer: Layer,
    pub(super) suite: Suite,
    /// The rate that its origin declares.
    pub(super) peak: Bitrate,
    /// The size of full packets.
    pub(super) packet_size: PacketSize,
    /// What proves its carry keys, if its origin commits to them.
    pub(super) carry: Option<CarryEnd>,
}

#[derive(Debug)]
struct Entry {
    statement: SignedAnnounce,
    /// The origin cannot be reached.
    is_unreachable: bool,
    /// Neighbours that were told of it as a doubt: they are told when there is a way again.
    doubted: BTreeSet<LinkIndex>,
    /// Who said it, and need not be told.
    from: Option<LinkIndex>,
    place: u64,
}

/// A stream that can be reached again.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) statement: SignedAnnounce,
    /// The neighbours that were told of it as a doubt.
    pub(super) doubted: BTreeSet<LinkIndex>,
}

/// A stream that was withdrawn: whoever still announces it is told.
#[derive(Debug)]
struct Withdrawn {
    statement: SignedWithdraw,
    /// Who said it, and need not be told.
    from: Option<LinkIndex>,
    place: u64,
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Taken; to be passed on.
    New,
    /// Known already, or older than what is known.
    Stale,
    /// There is no room for one more: of all, of its origin, or of the address it comes from.
    Full,
    /// Withdrawn before: whoever said it does not know that.
    Withdrawn,
}

/// Who says something: nobody, if it is this node itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Teller {
    pub(super) link: Option<LinkIndex>,
    /// If a stranger opened the link, from where.
    pub(super) subnet: Option<Subnet>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            per_origin: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            unreachable: Wakeups::default(),
            withdraws: Wakeups::default(),
            flows: BTreeMap::new(),
            sizes: BTreeMap::new(),
            has_other_sizes: false,
            shares: Shares::new(STREAMS_PER_ADDRESS_MAX),
            log: BTreeMap::new(),
            last_place: 0,
        }
    }
}

impl Catalogue {
    /// Takes an announce. This node's own have a place whatever others announce.
    pub(super) fn take(
        &mut self,
        statement: &SignedAnnounce,
        own: bool,
        teller: Teller,
    ) -> Freshness {
        let announce = statement.content();
        let key = (announce.name.clone(), announce.origin);
        if self.is_withdrawn(announce) {
            return Freshness::Withdrawn;
        }
        match self.entries.get(&key) {
            Some(known) if !announce.replaces(known.statement.content()) => {
                return Freshness::Stale;
            }
            Some(_) => {}
            None if !own && self.is_full_for(&announce.origin, teller) => return Freshness::Full,
            None => {}
        }
        let brought_by = self.remove(&key).or(teller.subnet);
        self.shares.add(key.clone(), brought_by);
        let of_origin = self.per_origin.entry(announce.origin);
        of_origin.or_default().insert(announce.name.clone());
        let of_size = self.sizes.entry(announce.packet_size).or_insert(0);
        *of_size += 1;
        self.has_other_sizes |= *of_size == 1;
        let of = instance_of(announce);
        for (place, offer) in announce.layers.iter().enumerate() {
            let flow = FlowOffer {
                of: of.clone(),
                layer: offer.layer,
                suite: announce.suite,
                peak: offer.peak,
                packet_size: announce.packet_size,
                carry: announce.carry_end(place),
            };
            self.flows.insert(announce.flow(offer.layer), flow);
        }
        let place = self.note(Logged::Announce(key.clone()));
        self.entries.insert(
            key,
            Entry {
                statement: statement.clone(),
                is_unreachable: false,
                doubted: BTreeSet::new(),
                from: teller.link,
                place,
            },
        );
        Freshness::New
    }

    /// Takes a withdraw of a stream that is known. One of an unknown stream is no news: whoever announces that stream
    /// later knows of the withdraw, or hears of it from whoever does.
    pub(super) fn withdraw(
        &mut self,
        now: Instant,
        statement: &SignedWithdraw,
        from: Option<LinkIndex>,
    ) -> Freshness {
        let withdraw = statement.content();
        let key = (withdraw.name.clone(), withdraw.origin);
        let known = self
            .entries
            .get(&key)
            .map(|entry| entry.statement.content().instance);
        if known != Some(withdraw.instance) {
            return Freshness::Stale;
        }
        self.remove(&key);
        self.remember(now, key, statement.clone(), from);
        Freshness::New
    }

    /// Remembers a withdraw, in the place of the oldest if there are too many.
    fn remember(
        &mut self,
        now: Instant,
        key: Key,
        statement: SignedWithdraw,
        from: Option<LinkIndex>,
    ) {
        if self.withdrawn.len() >= WITHDRAWN_MAX
            && let Some(oldest) = self.withdraws.first_key().cloned()
        {
            self.forget_withdrawn(&oldest);
        }
        self.forget_withdrawn(&key);
        let place = self.note(Logged::Withdraw(key.clone()));
        self.withdraws
            .note(key.clone(), forget_at(now + WITHDRAWN_KEPT));
        self.withdrawn.insert(
            key,
            Withdrawn {
                statement,
                from,
                place,
            },
        );
    }

    fn forget_withdrawn(&mut self, key: &Key) {
        if let Some(withdrawn) = self.withdrawn.remove(key) {
            self.log.remove(&withdrawn.place);
            self.withdraws.note(key.clone(), None);
        }
    }

    /// Gives a change its place, which is the last.
    fn note(&mut self, logged: Logged) -> u64 {
        self.last_place += 1;
        self.log.insert(self.last_place, logged);
        self.last_place
    }

    /// The cursor of a neighbour that was told nothing.
    pub(super) const fn cursor(&self) -> Cursor {
        Cursor {
            at: 0,
            begins: self.last_place,
        }
    }

    /// Whether there is anything behind a cursor.
    pub(super) const fn has_more(&self, cursor: Cursor) -> bool {
        cursor.at < self.last_place
    }

    /// What a neighbour is told next of what is behind its cursor, which moves. What there was when it came is told in
    /// parts that fill a message: what can be reached as news, the rest as doubts. Were that told as news too, whoever
    /// took it would wait for it anew, and with every newcomer it would live longer.
    pub(super) fn next_for(&mut self, link: LinkIndex, cursor: &mut Cursor) -> Option<FlowMessage> {
        let (mut statements, mut are_doubts) = (Vec::new(), false);
        let behind = (Bound::Excluded(cursor.at), Bound::Unbounded);
        for (&place, logged) in self.log.range(behind) {
            let is_news = place > cursor.begins;
            if !statements.is_empty() && (is_news || statements.len() == COLLECTION_MAX) {
                break;
            }
            match logged {
                Logged::Withdraw(key) => {
                    cursor.at = place;
                    let withdrawn = self.withdrawn.get(key);
                    let withdrawn = withdrawn.filter(|one| is_news && one.from != Some(link));
                    if let Some(statement) = withdrawn.map(|one| one.statement.clone()) {
                        return Some(FlowMessage::Withdraw(message::Withdraw { statement }));
                    }
                }
                Logged::Announce(key) => {
                    let entry = self.entries.get_mut(key);
                    let is_for = |entry: &&mut Entry| !is_news || entry.from != Some(link);
                    let Some(entry) = entry.filter(is_for) else {
                        cursor.at = place;
                        continue;
                    };
                    let statement = entry.statement.clone();
                    if is_news {
                        cursor.at = place;
                        return Some(FlowMessage::Announce(message::Announce { statement }));
                    }
                    let is_doubt = entry.is_unreachable;
                    if !statements.is_empty() && is_doubt != are_doubts {
                        break;
                    }
                    are_doubts = is_doubt;
                    if is_doubt {
                        entry.doubted.insert(link);
                    }
                    statements.push(statement);
                    cursor.at = place;
                }
            }
        }
        match (statements.is_empty(), are_doubts) {
            (true, _) => {
                // What is behind it, if anything, is not for this neighbour; places that are free again count as told.
                cursor.at = self.last_place;
                None
            }
            (false, false) => Some(FlowMessage::Collection(Collection { statements })),
            (false, true) => Some(FlowMessage::Doubts(Doubts { statements })),
        }
    }

    /// Whether that instance is known to have been withdrawn.
    pub(super) fn is_withdrawn(&self, announce: &Announce) -> bool {
        let key = (announce.name.clone(), announce.origin);
        let withdrawn = self.withdrawn.get(&key);
        withdrawn.is_some_and(|one| one.statement.content().instance == announce.instance)
    }

    /// What became of an announced stream that was withdrawn: the withdraw, and what is announced now.
    pub(super) fn after(
        &self,
        announce: &Announce,
    ) -> (Option<SignedWithdraw>, Option<SignedAnnounce>) {
        let key = (announce.name.clone(), announce.origin);
        let successor = self.entries.get(&key).map(|entry| entry.statement.clone());
        let withdraw = self
            .withdrawn
            .get(&key)
            .map(|withdrawn| withdrawn.statement.clone());
        (withdraw, successor)
    }

    /// Forgets a stream; says which stranger had brought it.
    fn remove(&mut self, key: &Key) -> Option<Subnet> {
        let entry = self.entries.remove(key)?;
        self.log.remove(&entry.place);
        self.unreachable.note(key.clone(), None);
        if let Some(names) = self.per_origin.get_mut(&key.1) {
            names.remove(&key.0);
            if names.is_empty() {
                self.per_origin.remove(&key.1);
            }
        }
        let announce = entry.statement.content();
        if let Some(count) = self.sizes.get_mut(&announce.packet_size) {
            *count -= 1;
            if *count == 0 {
                self.sizes.remove(&announce.packet_size);
                self.has_other_sizes = true;
            }
        }
        for offer in &announce.layers {
            self.flows.remove(&announce.flow(offer.layer));
        }
        self.shares.remove(key)
    }

    /// The packet sizes of all streams, if they are others than when they were taken last.
    pub(super) fn take_sizes(&mut self) -> Option<BTreeSet<PacketSize>> {
        let is_news = std::mem::take(&mut self.has_other_sizes);
        is_news.then(|| self.sizes.keys().copied().collect())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is announced of a flow.
    pub(super) fn find(&self, flow: FlowId) -> Option<FlowOffer> {
        self.flows.get(&flow).cloned()
    }

    fn is_full_for(&self, origin: &NodeId, teller: Teller) -> bool {
        let of_origin = self.per_origin.get(origin).map_or(0, BTreeSet::len);
        self.entries.len() >= STREAMS_MAX
            || of_origin >= STREAMS_PER_ORIGIN_MAX
            || self.shares.is_full(teller.subnet)
    }

    /// The announce of that name and origin.
    pub(super) fn of(&self, name: &StreamName, origin: NodeId) -> Option<&Announce> {
        let entry = self.entries.get(&(name.clone(), origin))?;
        Some(entry.statement.content())
    }

    /// The announces behind `after`.
    pub(super) fn behind(&self, after: Option<Key>) -> impl Iterator<Item = &Announce> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range((from, Bound::Unbounded));
        entries.map(|(_, entry)| entry.statement.content())
    }

    /// The origins in that range, each with the number of its streams.
    pub(super) fn origins(
        &self,
        range: (Bound<NodeId>, Bound<NodeId>),
    ) -> impl Iterator<Item = (NodeId, usize)> {
        let origins = self.per_origin.range(range);
        origins.map(|(origin, streams)| (*origin, streams.len()))
    }

    /// The names of the streams of an origin, if it has any.
    pub(super) fn names_of(&self, origin: &NodeId) -> Option<&BTreeSet<StreamName>> {
        self.per_origin.get(origin)
    }

    /// The announces of that name.
    pub(super) fn named<'a>(&'a self, name: &'a StreamName) -> impl Iterator<Item = &'a Announce> {
        let from = (name.clone(), NodeId([0; 32]));
        let range = self.entries.range(from..);
        range
            .take_while(move |((known, _), _)| known == name)
            .map(|(_, e)| e.statement.content())
    }

    /// Starts or stops the wait for an origin that cannot, or can, be reached. Returns what can be again: it may have
    /// been withdrawn meanwhile, and whoever is nearer to the origin knows.
    pub(super) fn note_reachable(
        &mut self,
        now: Instant,
        origin: &NodeId,
        reachable: bool,
    ) -> Vec<Back> {
        let mut back = Vec::new();
        for name in self.per_origin.get(origin).into_iter().flatten() {
            let key = (name.clone(), *origin);
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            match (reachable, entry.is_unreachable) {
                (true, true) => {
                    back.push(Back {
                        statement: entry.statement.clone(),
                        doubted: std::mem::take(&mut entry.doubted),
                    });
                    entry.is_unreachable = false;
                    self.unreachable.note(key, None);
                }
                (false, false) => {
                    entry.is_unreachable = true;
                    self.unreachable
                        .note(key, forget_at(now + UNREACHABLE_KEPT));
                }
                (true, false) | (false, true) => {}
            }
        }
        back
    }

    /// Starts the wait for one stream that was just announced though its origin cannot be reached.
    pub(super) fn note_unreachable(&mut self, now: Instant, name: &StreamName, origin: NodeId) {
        let key = (name.clone(), origin);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.is_unreachable = true;
            self.unreachable
                .note(key, forget_at(now + UNREACHABLE_KEPT));
        }
    }

    /// Forgets what was unreachable for too long; returns what that is.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Key> {
        let over = self.unreachable.due(now);
        for key in &over {
            self.remove(key);
        }
        for key in self.withdraws.due(now) {
            self.forget_withdrawn(&key);
        }
        over
    }

    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        Wakeup::earlier(self.unreachable.first(), self.withdraws.first())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as it is noted")]
const fn forget_at(at: Instant) -> Option<Wakeup> {
    Some(Wakeup {
        at,
        why: "forget stream",
    })
}

/// The instance that an announce is about.
pub(super) fn instance_of(announce: &Announce) -> InstanceRef {
    InstanceRef {
        origin: announce.origin,
        name: announce.name.clone(),
        instance: announce.instance,
    }
}
