//! Who is in the site: what each member said of itself last, where it is, how many of its beacons get lost.
//!
//! Not who is hub (`election`). Called by [`super::Site`]. Invariant: at most [`MEMBERS_MAX`] members are known, and a
//! datagram of a sender is used once (docs/wire.md 9.1).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::datagram::site::beacon::{Beacon, Member, Priority, RosterDigest};
use levada_wire::{Instant, NodeId, NodePrefix};

use super::border::Way;
use crate::limits::{
    MEMBER_KEPT, MEMBERS_MAX, SIGNATURE_EVERY, SIGNATURES_BURST_MAX, SITE_REPLAY_WINDOW,
};

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) node: NodeId,
    pub(super) member: Member,
    /// Its address for everything unicast, as its last beacon has it.
    pub(super) address: SocketAddr,
    /// When it was heard, by interface.
    pub(super) heard: BTreeMap<u32, Instant>,
    pub(super) last: Instant,
    /// Forgotten then, unless it is heard.
    pub(super) until: Instant,
    pub(super) loss: BTreeMap<Way, Loss>,
}

/// How many beacons of a member were lost on one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    last: Instant,
    /// What the last one said.
    interval: Duration,
    expected: u32,
    heard: u32,
}

/// After so many expected beacons the older half counts no more.
const LOSS_EXPECTED_MAX: u32 = 200;
/// A share of fewer expected beacons says nothing.
const LOSS_EXPECTED_MIN: u32 = 10;

impl Loss {
    fn on_beacon(&mut self, now: Instant, interval: Duration) {
        let gap = now.since(self.last).as_micros();
        let every = self.interval.as_micros().max(1);
        // One that is early, as answers to newcomers are, was not expected.
        let steps = u32::try_from((gap + every / 2) / every).unwrap_or(u32::MAX);
        if steps > 0 {
            self.expected = self.expected.saturating_add(steps.min(LOSS_EXPECTED_MAX));
            self.heard += 1;
        }
        self.last = now;
        self.interval = interval;
        if self.expected > LOSS_EXPECTED_MAX {
            self.expected /= 2;
            self.heard /= 2;
        }
    }

    /// Lost beacons in a thousand; none while too few were expected.
    pub(super) fn permille(&self) -> Option<u16> {
        let lost = self.expected.saturating_sub(self.heard);
        let permille = lost * 1_000 / self.expected.max(1);
        (self.expected >= LOSS_EXPECTED_MIN).then(|| u16::try_from(permille).unwrap_or(1_000))
    }
}

/// What is known of a sender before it is a member, and after.
#[derive(Clone, Debug)]
struct Sender {
    /// The highest counter.
    highest: u64,
    /// Which of the counters below it were used: bit 0 is the highest itself.
    used: u64,
    last: Instant,
    /// Signatures that may be checked at once.
    credit: u32,
    credit_at: Instant,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    me: NodePrefix,
    own: Member,
    members: BTreeMap<NodePrefix, Known>,
    senders: BTreeMap<NodePrefix, Sender>,
    digest: RosterDigest,
    /// Grows with each change of what members say of themselves.
    version: u64,
    /// No member is forgotten before.
    earliest: Option<Instant>,
}

/// What a beacon changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A node that was not known.
    Found,
    /// Something that it says of itself, or where it is.
    Changed,
    Nothing,
    /// There is no room for it.
    Full,
}

impl Roster {
    pub(super) fn new(me: NodePrefix, own: Member) -> Self {
        let mut roster = Self {
            me,
            own,
            members: BTreeMap::new(),
            senders: BTreeMap::new(),
            digest: RosterDigest::default(),
            version: 0,
            earliest: None,
        };
        roster.update_digest();
        roster
    }

    pub(super) const fn own(&self) -> Member {
        self.own
    }

    /// What this node says of itself; whether that is news.
    pub(super) fn set_own(&mut self, own: Member) -> bool {
        let is_news = self.own != own;
        self.own = own;
        if is_news {
            self.update_digest();
        }
        is_news
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) const fn digest(&self) -> RosterDigest {
        self.digest
    }

    pub(super) fn member(&self, prefix: NodePrefix) -> Option<&Known> {
        self.members.get(&prefix)
    }

    pub(super) const fn members(&self) -> &BTreeMap<NodePrefix, Known> {
        &self.members
    }

    /// This node among them.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.members.len() + 1).unwrap_or(u32::MAX)
    }

    /// Whether a datagram of that sender and counter may be used. Called once it is proven.
    ///
    /// spec: WIRE 9.1 a counter is used once, and one that is 64 or more behind is not used
    pub(super) fn is_fresh(&mut self, now: Instant, sender: NodePrefix, counter: u64) -> bool {
        let Some(known) = self.senders.get_mut(&sender) else {
            return self.note_sender(now, sender, counter);
        };
        known.last = now;
        if counter > known.highest {
            let ahead = counter - known.highest;
            known.used = if ahead >= SITE_REPLAY_WINDOW {
                0
            } else {
                known.used << ahead
            };
            known.used |= 1;
            known.highest = counter;
            return true;
        }
        let behind = known.highest - counter;
        if behind >= SITE_REPLAY_WINDOW || known.used >> behind & 1 == 1 {
            return false;
        }
        known.used |= 1 << behind;
        true
    }

    fn note_sender(&mut self, now: Instant, sender: NodePrefix, counter: u64) -> bool {
        if self.senders.len() >= MEMBERS_MAX {
            return false;
        }
        let new = Sender {
            highest: counter,
            used: 1,
            last: now,
            credit: SIGNATURES_BURST_MAX,
            credit_at: now,
        };
        self.senders.insert(sender, new);
        true
    }

    /// Whether a signature of that sender may be checked now. One that was never proven has no credit of its own: the
    /// bucket of all such senders is kept under this node's own prefix.
    pub(super) fn may_check(&mut self, now: Instant, sender: NodePrefix) -> bool {
        let is_known = self.senders.contains_key(&sender);
        let at = if is_known { sender } else { self.me };
        if !is_known && !self.senders.contains_key(&self.me) {
            let me = self.me;
            self.note_sender(now, me, 0);
        }
        let Some(known) = self.senders.get_mut(&at) else {
            return false;
        };
        let every = SIGNATURE_EVERY.as_micros();
        let gained = now.since(known.credit_at).as_micros() / every;
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained > 0 {
            known.credit = known
                .credit
                .saturating_add(gained)
                .min(SIGNATURES_BURST_MAX);
            known.credit_at = now;
        }
        known.last = now;
        let may = known.credit > 0;
        known.credit = known.credit.saturating_sub(1);
        may
    }

    /// Takes what a beacon says of its sender.
    pub(super) fn on_beacon(
        &mut self,
        now: Instant,
        beacon: &Beacon,
        (interface, way): (u32, Way),
        from: SocketAddr,
    ) -> News {
        let prefix = beacon.node.prefix();
        let mut address = from;
        address.set_port(beacon.member.port);
        let interval = Duration::from_millis(u64::from(beacon.interval.0.max(1)));
        // Its next beacon, and three more; the silence of a hub is the election's.
        let until = now + (interval * 4).max(MEMBER_KEPT);
        let Some(known) = self.members.get_mut(&prefix) else {
            if self.members.len() >= MEMBERS_MAX {
                return News::Full;
            }
            let known = Known {
                node: beacon.node,
                member: beacon.member,
                address,
                heard: BTreeMap::from([(interface, now)]),
                last: now,
                until,
                loss: BTreeMap::new(),
            };
            self.members.insert(prefix, known);
            self.expire_by(until);
            self.update_digest();
            return News::Found;
        };
        let is_same_family = known.address.is_ipv4() == address.is_ipv4();
        let is_changed = known.member != beacon.member
            // A member that is heard by both IP versions stays where it is.
            || (known.address != address && (is_same_family || now > known.last + interval * 2));
        if is_changed {
            known.address = address;
        }
        known.member = beacon.member;
        known.heard.insert(interface, now);
        known.last = now;
        known.until = known.until.max(until);
        let loss = known.loss.entry(way).or_insert(Loss {
            last: now,
            interval,
            expected: 0,
            heard: 0,
        });
        loss.on_beacon(now, interval);
        if is_changed {
            self.update_digest();
            return News::Changed;
        }
        News::Nothing
    }

    /// The member's link is gone: it is soon forgotten, unless it is heard.
    pub(super) fn suspect(&mut self, prefix: NodePrefix, until: Instant) {
        if let Some(known) = self.members.get_mut(&prefix) {
            known.until = known.until.min(until);
            self.expire_by(until);
        }
    }

    fn expire_by(&mut self, until: Instant) {
        self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
    }

    /// Forgets an interface, and whom only it led to.
    pub(super) fn forget_interfaces(&mut self, is_kept: impl Fn(u32) -> bool) -> Vec<NodeId> {
        for known in self.members.values_mut() {
            known.heard.retain(|interface, _| is_kept(*interface));
        }
        self.remove(|known| known.heard.is_empty())
    }

    /// Forgets members that were not heard for too long, and senders that are none and have been silent.
    pub(super) fn expire(&mut self, now: Instant, silent: Duration) -> Vec<NodeId> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let gone = self.remove(|known| known.until <= now);
        self.earliest = self.members.values().map(|known| known.until).min();
        let members = &self.members;
        self.senders
            .retain(|prefix, sender| members.contains_key(prefix) || sender.last + silent > now);
        gone
    }

    fn remove(&mut self, is_gone: impl Fn(&Known) -> bool) -> Vec<NodeId> {
        let gone: Vec<NodeId> = self
            .members
            .values()
            .filter(|known| is_gone(known))
            .map(|known| known.node)
            .collect();
        for node in &gone {
            self.members.remove(&node.prefix());
        }
        if !gone.is_empty() {
            self.update_digest();
        }
        gone
    }

    /// When to look for members that are to be forgotten.
    pub(super) const fn next_expiry(&self) -> Option<Instant> {
        self.earliest
    }

    /// Whoever is next in line to `hub`: the best member that may be hub, this node among them.
    pub(super) fn deputy(&self, hub: NodePrefix, is_own_eligible: bool) -> Option<NodePrefix> {
        let others = self
            .members
            .iter()
            .map(|(prefix, known)| (known.member.priority, *prefix));
        let own = is_own_eligible.then_some((self.own.priority, self.me));
        let in_line = others.chain(own);
        let in_line = in_line.filter(|(priority, at)| *priority != Priority::NEVER && *at != hub);
        in_line.max().map(|(_, prefix)| prefix)
    }

    /// Whether nobody here may ever be hub.
    pub(super) fn is_without_candidates(&self) -> bool {
        let is_never = |member: &Member| member.priority == Priority::NEVER;
        is_never(&self.own) && self.members.values().all(|known| is_never(&known.member))
    }

    fn update_digest(&mut self) {
        let members = self
            .members
            .iter()
            .map(|(prefix, known)| (*prefix, known.member));
        let roster: BTreeMap<_, _> = members.chain([(self.me, self.own)]).collect();
        self.digest = RosterDigest::of(&roster);
        self.version += 1;
    }
}
