//! Links out of the site: the hub has them for all, so that one copy of a stream comes in however many members know a
//! relay.
//!
//! ```text
//!  member ── the relays it was told of ──▶ hub dials them too
//!  member ◀── the nodes it is linked to ── hub
//!  a member's own link to one of those is closed, and dialled again when the hub loses its own, or is gone
//! ```
//!
//! A link is closed only when the hub says that it has one to the same node: a relay that the hub does not reach stays
//! linked to whoever does. Links that others opened are never closed. Not dialling, which links do. Called by
//! [`super::Site`]. Invariant: of a relay that some member can reach the site keeps a link, but for the time that it
//! takes to notice that one has died.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use levada_wire::control::link::{OUTSIDE_ADDRESSES_MAX, OUTSIDE_NODES_MAX, Outside as Told};
use levada_wire::{Instant, NodeId};

use crate::limits::{LENT_MAX, REST_GRACE, STANDBY_AFTER, STANDBY_MAX};

/// A link that is up.
#[derive(Clone, Debug)]
struct Link {
    remote: SocketAddr,
    is_dialled: bool,
}

/// What is to be done about links out of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Dial an address that a member knows.
    Dial(SocketAddr),
    /// Do not dial it any more.
    Forget(SocketAddr),
    /// Close the link to this node, and do not dial these addresses: the hub has one.
    Rest(NodeId, Vec<SocketAddr>),
    /// Dial these addresses again.
    Wake(Vec<SocketAddr>),
    /// Links to this node are there for the day on which the hub is not, or not only for that any more.
    Standby(NodeId, bool),
    /// Tell a member, or the hub.
    Tell(NodeId, Told),
}

/// A neighbour whose link is left to the hub.
#[derive(Clone, Debug)]
struct Resting {
    addresses: Vec<SocketAddr>,
    since: Instant,
    /// Since when the hub has no link to the node either.
    missing: Option<Instant>,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    /// The neighbours that the node's user configured, by their addresses.
    configured: BTreeSet<Vec<SocketAddr>>,
    links: BTreeMap<NodeId, Link>,
    /// Addresses that members told the hub of, and that it dials.
    lent: BTreeSet<SocketAddr>,
    resting: BTreeMap<NodeId, Resting>,
    /// The neighbours to which a deputy has links ready.
    standby: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// The nodes that the hub is linked to, and which hub said so.
    of_hub: Option<(NodeId, BTreeSet<NodeId>)>,
    /// What each peer was told last.
    told: BTreeMap<NodeId, Told>,
}

/// What this node is in its site, as far as it counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Hub,
    /// With that hub.
    Member(NodeId),
    /// Next in line to that hub.
    Deputy(NodeId),
    /// No hub is known.
    Unled,
}

impl Outside {
    pub(super) fn configure(&mut self, addresses: Vec<SocketAddr>, is_added: bool) {
        if is_added {
            self.configured.insert(addresses);
        } else {
            self.configured.remove(&addresses);
            self.standby.retain(|_, known| *known != addresses);
            self.resting
                .retain(|_, resting| resting.addresses != addresses);
        }
    }

    pub(super) fn on_linked(&mut self, peer: NodeId, remote: SocketAddr, is_dialled: bool) {
        self.links.insert(peer, Link { remote, is_dialled });
    }

    pub(super) fn on_unlinked(&mut self, peer: NodeId) {
        self.links.remove(&peer);
        self.told.remove(&peer);
        if self.of_hub.as_ref().is_some_and(|(hub, _)| *hub == peer) {
            self.of_hub = None;
        }
    }

    /// Whether the node itself has dialled a node that is no member.
    pub(super) fn has_uplink(&self, is_member: impl Fn(NodeId) -> bool) -> bool {
        let mut links = self.links.iter();
        links.any(|(peer, link)| link.is_dialled && !is_member(*peer))
    }

    /// How many neighbours are left to the hub.
    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// A member or the hub tells what it knows of the world outside.
    pub(super) fn on_told(&mut self, part: Part, peer: NodeId, told: &Told) -> Vec<Act> {
        match part {
            Part::Hub => self.lend(told),
            Part::Member(hub) | Part::Deputy(hub) if hub == peer => {
                let nodes = told.linked.iter().take(OUTSIDE_NODES_MAX).copied();
                self.of_hub = Some((hub, nodes.collect()));
                Vec::new()
            }
            Part::Member(_) | Part::Deputy(_) | Part::Unled => Vec::new(),
        }
    }

    /// Dials what a member knows and this hub does not.
    fn lend(&mut self, told: &Told) -> Vec<Act> {
        let mut acts = Vec::new();
        for text in told.addresses.iter().take(OUTSIDE_ADDRESSES_MAX) {
            let Ok(address) = text.parse::<SocketAddr>() else {
                continue;
            };
            let is_own = self.configured.iter().any(|own| own.contains(&address));
            let has_room = self.lent.len() < LENT_MAX;
            if !is_own && has_room && self.lent.insert(address) {
                acts.push(Act::Dial(address));
            }
        }
        acts
    }

    /// Draws consequences. Called whenever something may have changed.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        part: Part,
        is_member: impl Fn(NodeId) -> bool,
    ) -> Vec<Act> {
        let mut acts = Vec::new();
        if part != Part::Hub {
            acts.extend(std::mem::take(&mut self.lent).into_iter().map(Act::Forget));
        }
        if let Part::Hub | Part::Member(_) = part {
            let standby = std::mem::take(&mut self.standby);
            acts.extend(standby.into_keys().map(|peer| Act::Standby(peer, false)));
        }
        if let Part::Member(hub) | Part::Deputy(hub) = part {
            self.rest(now, hub, &is_member, &mut acts);
        }
        self.wake(now, part, &mut acts);
        self.tell(part, is_member, &mut acts);
        acts
    }

    /// Leaves to the hub what the hub has too.
    fn rest(
        &mut self,
        now: Instant,
        hub: NodeId,
        is_member: &impl Fn(NodeId) -> bool,
        acts: &mut Vec<Act>,
    ) {
        let Some((_, of_hub)) = self.of_hub.as_ref().filter(|(by, _)| *by == hub) else {
            return;
        };
        let both = self
            .links
            .iter()
            .filter(|(peer, link)| link.is_dialled && of_hub.contains(*peer) && !is_member(**peer));
        for (peer, link) in both {
            let own = self
                .configured
                .iter()
                .find(|own| own.contains(&link.remote));
            let is_left = self.resting.contains_key(peer) || self.standby.contains_key(peer);
            let Some(addresses) = own.filter(|_| !is_left) else {
                continue;
            };
            acts.push(Act::Rest(*peer, addresses.clone()));
            let resting = Resting {
                addresses: addresses.clone(),
                since: now,
                missing: None,
            };
            self.resting.insert(*peer, resting);
        }
    }

    /// Dials again what the hub has lost, or all if this node is the hub.
    fn wake(&mut self, now: Instant, part: Part, acts: &mut Vec<Act>) {
        let of_hub = match (&self.of_hub, part) {
            (Some((by, nodes)), Part::Member(hub) | Part::Deputy(hub)) if *by == hub => Some(nodes),
            _ => None,
        };
        self.resting.retain(|peer, resting| {
            let has_it = of_hub.is_some_and(|nodes| nodes.contains(peer));
            resting.missing = match (has_it, resting.missing) {
                (true, _) => None,
                (false, since) => since.or(Some(now)),
            };
            let is_over = resting
                .missing
                .is_some_and(|since| since + REST_GRACE <= now);
            let is_ready = matches!(part, Part::Deputy(_))
                && resting.since + STANDBY_AFTER <= now
                && self.standby.len() < STANDBY_MAX;
            if is_ready {
                self.standby.insert(*peer, resting.addresses.clone());
                acts.push(Act::Standby(*peer, true));
            }
            let wakes = part == Part::Hub || is_over || is_ready;
            if wakes {
                acts.push(Act::Wake(resting.addresses.clone()));
            }
            !wakes
        });
    }

    /// Tells the hub which relays there are, and the members which the hub has.
    fn tell(&mut self, part: Part, is_member: impl Fn(NodeId) -> bool, acts: &mut Vec<Act>) {
        let mut said = Told {
            addresses: Vec::new(),
            linked: Vec::new(),
        };
        let peers: Vec<NodeId> = match part {
            Part::Hub => {
                let outside = self
                    .links
                    .iter()
                    .filter(|(peer, link)| link.is_dialled && !is_member(**peer));
                said.linked = outside
                    .map(|(peer, _)| *peer)
                    .take(OUTSIDE_NODES_MAX)
                    .collect();
                let members = self.links.keys().copied();
                members.filter(|peer| is_member(*peer)).collect()
            }
            Part::Member(hub) | Part::Deputy(hub) => {
                let addresses = self.configured.iter().flatten();
                said.addresses = addresses
                    .map(SocketAddr::to_string)
                    .take(OUTSIDE_ADDRESSES_MAX)
                    .collect();
                self.links
                    .contains_key(&hub)
                    .then_some(hub)
                    .into_iter()
                    .collect()
            }
            Part::Unled => Vec::new(),
        };
        for peer in peers {
            let before = self.told.get(&peer);
            let is_empty = said.addresses.is_empty() && said.linked.is_empty();
            if before == Some(&said) || (before.is_none() && is_empty) {
                continue;
            }
            self.told.insert(peer, said.clone());
            acts.push(Act::Tell(peer, said.clone()));
        }
    }

    /// When a neighbour is to be dialled again.
    pub(super) fn wakeup(&self, part: Part) -> Option<Instant> {
        let missing = self.resting.values().filter_map(|resting| resting.missing);
        let missing = missing.min().map(|since| since + REST_GRACE);
        let since = self.resting.values().map(|resting| resting.since);
        let has_room = matches!(part, Part::Deputy(_)) && self.standby.len() < STANDBY_MAX;
        let ready = since.min().filter(|_| has_room);
        earliest(missing, ready.map(|since| since + STANDBY_AFTER))
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::Identity;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn id(number: u8) -> NodeId {
        Identity::from_secret(&[number; 32]).id()
    }

    /// A relay, by its number: ids and addresses of members are below 100.
    fn at(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 7_800))
    }

    fn is_member(peer: NodeId) -> bool {
        (0..100).any(|number| id(number) == peer)
    }

    const HUB: u8 = 1;
    const RELAY: u8 = 200;

    /// A member that is linked to its hub and to a relay that it was told of.
    fn member() -> Outside {
        let mut member = Outside::default();
        member.configure(vec![at(RELAY)], true);
        member.on_linked(id(HUB), at(HUB), true);
        member.on_linked(id(RELAY), at(RELAY), true);
        member
    }

    fn told(addresses: &[u8], linked: &[u8]) -> Told {
        Told {
            addresses: addresses
                .iter()
                .map(|number| at(*number).to_string())
                .collect(),
            linked: linked.iter().map(|number| id(*number)).collect(),
        }
    }

    fn settle(outside: &mut Outside, now: Instant, part: Part) -> Vec<Act> {
        outside.settle(now, part, is_member)
    }

    #[test]
    fn a_member_tells_its_hub_of_its_relays_once_and_leaves_to_it_what_the_hub_has() {
        let mut member = member();
        let part = Part::Member(id(HUB));

        let said = settle(&mut member, NOW, part);
        assert_eq!(said, [Act::Tell(id(HUB), told(&[RELAY], &[]))]);
        assert!(settle(&mut member, NOW, part).is_empty());
        assert!(member.has_uplink(is_member));

        member.on_told(part, id(HUB), &told(&[], &[RELAY + 1]));
        assert!(
            settle(&mut member, NOW, part).is_empty(),
            "the hub does not reach that relay"
        );
        member.on_told(part, id(HUB), &told(&[], &[RELAY]));

        assert_eq!(
            settle(&mut member, NOW, part),
            [Act::Rest(id(RELAY), vec![at(RELAY)])]
        );
        member.on_unlinked(id(RELAY));
        assert!(settle(&mut member, NOW, part).is_empty());
        assert!(member.resting() == 1 && !member.has_uplink(is_member));
    }

    #[test]
    fn a_link_is_dialled_again_when_the_hub_has_lost_it_for_a_while_or_this_node_is_hub() {
        let part = Part::Member(id(HUB));
        let resting = || {
            let mut member = member();
            member.on_told(part, id(HUB), &told(&[], &[RELAY]));
            settle(&mut member, NOW, part);
            member.on_unlinked(id(RELAY));
            member
        };
        let wake = [Act::Wake(vec![at(RELAY)])];

        let mut lost = resting();
        lost.on_told(part, id(HUB), &told(&[], &[]));
        assert!(settle(&mut lost, NOW, part).is_empty());
        let due = lost.wakeup(part).unwrap();
        assert_eq!(due, NOW + REST_GRACE);
        assert_eq!(settle(&mut lost, due, part), wake);

        let mut unled = resting();
        unled.on_unlinked(id(HUB));
        assert!(settle(&mut unled, NOW, Part::Unled).is_empty());
        assert_eq!(settle(&mut unled, NOW + REST_GRACE, Part::Unled), wake);

        let mut hub = resting();
        assert!(settle(&mut hub, NOW, Part::Hub).contains(&wake[0]));
        assert!(hub.resting() == 0);
    }

    #[test]
    fn a_hub_dials_what_members_know_up_to_a_limit_and_tells_them_whom_it_reaches() {
        let mut hub = Outside::default();
        hub.configure(vec![at(RELAY)], true);
        hub.on_linked(id(2), at(2), false);
        hub.on_linked(id(RELAY), at(RELAY), true);
        // Whoever dialled the hub from outside is no way out.
        hub.on_linked(id(RELAY + 1), at(RELAY + 1), false);

        let said = settle(&mut hub, NOW, Part::Hub);
        assert_eq!(said, [Act::Tell(id(2), told(&[], &[RELAY]))]);

        let known = told(&[RELAY, RELAY + 2], &[]);
        assert_eq!(
            hub.on_told(Part::Hub, id(2), &known),
            [Act::Dial(at(RELAY + 2))]
        );
        assert!(hub.on_told(Part::Hub, id(2), &known).is_empty());
        let nonsense = Told {
            addresses: vec!["relay.example".to_owned(), String::new()],
            linked: Vec::new(),
        };
        assert!(hub.on_told(Part::Hub, id(2), &nonsense).is_empty());

        for first in (0..8).map(|part| part * 16) {
            let many: Vec<u8> = (first..first + 16).collect();
            hub.on_told(Part::Hub, id(2), &told(&many, &[]));
        }
        assert_eq!(hub.lent.len(), LENT_MAX);
        let forgotten = settle(&mut hub, NOW, Part::Member(id(HUB)));
        assert_eq!(forgotten.len(), LENT_MAX);
    }

    #[test]
    fn a_deputy_opens_its_links_again_to_have_them_ready_and_as_hub_they_are_like_any() {
        let mut deputy = member();
        for more in 1..=3 {
            deputy.configure(vec![at(RELAY + more)], true);
            deputy.on_linked(id(RELAY + more), at(RELAY + more), true);
        }
        let all: Vec<u8> = (RELAY..=RELAY + 3).collect();
        let (member, part) = (Part::Member(id(HUB)), Part::Deputy(id(HUB)));
        deputy.on_told(part, id(HUB), &told(&[], &all));
        let rests = |acts: &[Act]| {
            acts.iter()
                .filter(|act| matches!(act, Act::Rest(..)))
                .count()
        };
        assert_eq!(rests(&settle(&mut deputy, NOW, part)), 4);
        all.iter().for_each(|relay| deputy.on_unlinked(id(*relay)));
        let due = deputy.wakeup(part).unwrap();
        assert_eq!((due, deputy.wakeup(member)), (NOW + STANDBY_AFTER, None));

        let acts = settle(&mut deputy, due, part);
        let ready = |act: &&Act| matches!(act, Act::Standby(_, true));
        assert_eq!(acts.iter().filter(ready).count(), STANDBY_MAX, "{acts:?}");
        assert_eq!(acts.len(), STANDBY_MAX * 2, "each is dialled: {acts:?}");
        assert_eq!(deputy.wakeup(part), None);
        all.iter()
            .for_each(|relay| deputy.on_linked(id(*relay), at(*relay), true));
        let acts = settle(&mut deputy, due, part);
        assert_eq!(rests(&acts), 0, "what is ready is kept: {acts:?}");

        let acts = settle(&mut deputy, due, Part::Hub);
        let usual = |act: &&Act| matches!(act, Act::Standby(_, false));
        assert_eq!(acts.iter().filter(usual).count(), STANDBY_MAX);
    }

    #[test]
    fn of_one_message_a_bounded_part_counts_and_only_the_hubs_word_does() {
        let part = Part::Member(id(HUB));
        let mut member = member();
        member.on_told(part, id(7), &told(&[], &[RELAY]));
        settle(&mut member, NOW, part);
        assert!(member.resting() == 0);

        let mut hub = Outside::default();
        let many: Vec<u8> = (0..=u8::try_from(OUTSIDE_ADDRESSES_MAX).unwrap()).collect();
        let acts = hub.on_told(Part::Hub, id(2), &told(&many, &[]));
        assert_eq!(acts.len(), OUTSIDE_ADDRESSES_MAX);

        let others = vec![id(RELAY + 1); OUTSIDE_NODES_MAX];
        let linked = [others, vec![id(RELAY)]].concat();
        let addresses = Vec::new();
        member.on_told(part, id(HUB), &Told { addresses, linked });
        settle(&mut member, NOW, part);
        assert!(member.resting() == 0);
    }
}
