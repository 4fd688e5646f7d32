//! The upstreams of a flow: the links its packets may come over.
//!
//! A carry tag proves a packet, not that it is meant for here and now. So a packet is taken only over a link that is
//! an upstream or was one (a late packet is as good as any): a stranger who plays back what he heard changes one
//! count. Besides, early packets of an upstream wait for the key, its first packet is reported, and what it
//! delivers counts as received on its link. Not a choice of parent: that is `core::route`. Called by `forward` and
//! `lane`. Invariant: one packet counts once per upstream, however often it is replayed.

use std::net::SocketAddr;

use levada_wire::{Instant, LinkIndex, Number, OriginTime};

use super::ingress::Ingress;
use super::window::{Novelty, Window};
use crate::limits::{QUIET_BEHIND, STRAYS_CONFIRM, UPSTREAMS_MAX};
use crate::link;
use crate::repair::arrival_baseline::ArrivalBaseline;
use crate::repair::missing::RepairPeer;
use crate::repair::trip::RoundTrip;

/// One upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) link: LinkIndex,
    /// Packets are expected over it; `false` when it is a former one.
    expected: bool,
    /// Its first packet was reported.
    reported: bool,
    /// Something of the flow came from it: it knows that it is to send it.
    heard: bool,
    /// Its latest packets were heard on a multicast channel, where others hear them too.
    is_multicast: bool,
    /// What came over it, whatever came over others.
    window: Window,
    /// Packets one after the other that this does not explain.
    strays: u8,
    /// When packets should come over it; `None` before the first.
    baseline: Option<ArrivalBaseline>,
    /// It is not asked for what is missing before this moment.
    ask_from: Instant,
    /// When something of the flow last came from it; `None` while nothing is expected of it.
    live: Option<Instant>,
    /// It takes another's place once it has brought this number, and nothing below is missing.
    goal: Option<Number>,
}

/// What a proven packet means for the upstream it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The upstream's link.
    pub(crate) link: LinkIndex,
    /// It is the first one since the upstream was added.
    pub(crate) first: bool,
    /// Packets are expected over it.
    pub(crate) expected: bool,
    /// It did not come over this upstream before, so it counts as received.
    pub(crate) counts: bool,
}

/// All upstreams of one flow.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    all: Vec<Upstream>,
    /// How many numbers the window of each has, if more than the least.
    width: u64,
}

impl Upstreams {
    /// Takes note that an upstream spoke of the flow.
    pub(crate) fn heard(&mut self, link: LinkIndex) {
        for upstream in self.all.iter_mut().filter(|upstream| upstream.link == link) {
            upstream.heard = true;
        }
    }

    /// Whether packets are expected over some link and have begun to come.
    pub(crate) fn is_delivering(&self) -> bool {
        let mut all = self.all.iter();
        all.any(|upstream| upstream.expected && upstream.heard)
    }

    /// Whether there is none and was none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds an upstream, or expects packets from a former one again. `false` if there are too many.
    pub(crate) fn add(&mut self, link: LinkIndex) -> bool {
        if let Some(upstream) = self.all.iter_mut().find(|upstream| upstream.link == link) {
            (upstream.expected, upstream.reported, upstream.heard) = (true, false, false);
            return true;
        }
        if self.all.len() == UPSTREAMS_MAX {
            let Some(former) = self.all.iter().position(|upstream| !upstream.expected) else {
                return false;
            };
            self.all.remove(former);
        }
        self.all.push(Upstream {
            link,
            expected: true,
            reported: false,
            heard: false,
            is_multicast: false,
            window: Window::of_width(self.width),
            strays: 0,
            baseline: None,
            ask_from: Instant::ZERO,
            live: None,
            goal: None,
        });
        true
    }

    /// Remembers more of what came over each.
    pub(crate) fn widen(&mut self, width: u64) {
        self.width = width;
        for upstream in &mut self.all {
            upstream.window.widen(width);
        }
    }

    fn get_mut(&mut self, link: LinkIndex) -> Option<&mut Upstream> {
        self.all.iter_mut().find(|upstream| upstream.link == link)
    }

    /// An upstream takes another's place once it has brought all up to that number; `false` if it is none.
    pub(crate) fn compare(&mut self, link: LinkIndex, goal: Number) -> bool {
        let upstream = self.get_mut(link).filter(|upstream| upstream.expected);
        upstream
            .map(|upstream| upstream.goal = Some(goal))
            .is_some()
    }

    /// An upstream has sent what is before `end`; says whether with that it has come as far as it has to. `lacks` says
    /// whether something below a number is missing.
    pub(crate) fn catches_up(
        &mut self,
        link: LinkIndex,
        end: Number,
        lacks: impl Fn(Number) -> bool,
    ) -> bool {
        let Some(upstream) = self.get_mut(link) else {
            return false;
        };
        let is_there = |goal: &mut Number| end >= *goal && !lacks(*goal);
        upstream.goal.take_if(is_there).is_some()
    }

    /// The upstreams of which something is expected, and when they were heard last; a copy, since nothing is allocated
    /// where packets are forwarded.
    pub(crate) fn live(&self) -> impl Iterator<Item = (LinkIndex, Instant)> + use<> {
        let live: [_; UPSTREAMS_MAX] = std::array::from_fn(|at| {
            let upstream = self.all.get(at).filter(|upstream| upstream.expected)?;
            Some((upstream.link, upstream.live?))
        });
        live.into_iter().flatten()
    }

    /// This node did not run: nobody was silent until now.
    pub(crate) fn forgive(&mut self, now: Instant) {
        for upstream in &mut self.all {
            upstream.live = upstream.live.map(|_| now);
        }
    }

    /// An upstream is suspect: when it delivers again, that is news.
    pub(crate) fn suspect(&mut self, link: LinkIndex) {
        if let Some(upstream) = self.get_mut(link) {
            (upstream.live, upstream.reported) = (None, false);
        }
    }

    /// An upstream said that it lives, and has nothing to send for now if it `rests`.
    pub(crate) fn is_well(&mut self, link: LinkIndex, rests: bool, now: Instant) {
        if let Some(upstream) = self.get_mut(link).filter(|one| one.live.is_some()) {
            upstream.live = Some(now).filter(|_| !rests);
        }
    }

    /// An upstream has all that is here, and nothing more: that is as good as its first packet. Says whether that is
    /// news.
    pub(crate) fn report(&mut self, link: LinkIndex) -> bool {
        let upstream = self.get_mut(link).filter(|upstream| upstream.expected);
        upstream.is_some_and(|upstream| !std::mem::replace(&mut upstream.reported, true))
    }

    /// Makes an upstream a former one; `false` if it is none.
    pub(crate) fn retire(&mut self, link: LinkIndex) -> bool {
        self.get_mut(link).is_some_and(|upstream| {
            (upstream.live, upstream.goal) = (None, None);
            std::mem::replace(&mut upstream.expected, false)
        })
    }

    /// Forgets an upstream whose link is no more.
    pub(crate) fn remove(&mut self, link: LinkIndex) {
        self.all.retain(|upstream| upstream.link != link);
    }

    /// Whether packets are expected from that address.
    pub(crate) fn expects(&self, from: SocketAddr, links: &link::Table) -> bool {
        links.at(from).any(|link| {
            let mut all = self.all.iter();
            all.any(|upstream| upstream.link == link && upstream.expected)
        })
    }

    /// The link to that address, if it is or was an upstream.
    pub(crate) fn link_of(&self, from: SocketAddr, links: &link::Table) -> Option<LinkIndex> {
        let is_upstream = |&link: &LinkIndex| self.all.iter().any(|upstream| upstream.link == link);
        links.at(from).find(is_upstream)
    }

    /// Whether packets are expected over that link.
    pub(crate) fn is_expected(&self, link: LinkIndex) -> bool {
        let mut all = self.all.iter();
        all.any(|upstream| upstream.link == link && upstream.expected)
    }

    /// Whether its latest packets were heard on a multicast channel.
    pub(crate) fn is_multicast(&self, link: LinkIndex) -> bool {
        let mut all = self.all.iter();
        all.any(|upstream| upstream.link == link && upstream.is_multicast)
    }

    /// Takes note of when packets came that were not here before; gives the link, or `None` if they came over none.
    pub(crate) fn sample(
        &mut self,
        came: Ingress,
        links: &link::Table,
        sent: OriginTime,
        now: Instant,
    ) -> Option<LinkIndex> {
        let place_of = |link| self.all.iter().position(|upstream| upstream.link == link);
        let place = links.at(came.from).find_map(place_of)?;
        let upstream = &mut self.all[place];
        upstream.is_multicast = came.is_heard;
        match &mut upstream.baseline {
            Some(baseline) => baseline.sample(sent, now),
            None => upstream.baseline = Some(ArrivalBaseline::new(sent, now)),
        }
        Some(upstream.link)
    }

    /// Whether that packet came over that link: it is not sent back.
    pub(crate) fn has_brought(&self, link: LinkIndex, number: Number) -> bool {
        let mut all = self.all.iter();
        all.any(|upstream| upstream.link == link && upstream.window.has(number))
    }

    /// When a packet sent at that time should be here, over the fastest upstream; `None` while nothing has come.
    pub(crate) fn time_of(&self, sent: OriginTime, now: Instant) -> Option<Instant> {
        let expected = self.all.iter().filter(|upstream| upstream.expected);
        let times = expected.filter_map(|upstream| Some(upstream.baseline?.time_of(sent, now)));
        times.min()
    }

    /// Who may be asked for what is missing: whoever is expected to deliver, and has been heard of.
    pub(crate) fn sources(&self, trip: impl Fn(LinkIndex) -> RoundTrip) -> Vec<RepairPeer> {
        let all = self
            .all
            .iter()
            .filter(|upstream| upstream.expected && upstream.heard);
        let heard = self.live().map(|(_, heard)| heard).max();
        // Suspect, if nothing is expected of it and it did not say so; or well on the way to that.
        let is_quiet = |upstream: &Upstream| match upstream.live {
            Some(live) => heard.is_some_and(|heard| heard > live + QUIET_BEHIND),
            None => !upstream.reported,
        };
        let source = |upstream: &Upstream| RepairPeer {
            link: upstream.link,
            trip: trip(upstream.link),
            ready_at: upstream.ask_from,
            is_quiet: is_quiet(upstream),
        };
        all.map(source).collect()
    }

    /// Remembers when each source may be asked again.
    pub(crate) fn keep_pace(&mut self, sources: &[RepairPeer]) {
        for upstream in &mut self.all {
            let source = sources.iter().find(|source| source.link == upstream.link);
            upstream.ask_from = source.map_or(upstream.ask_from, |source| source.ready_at);
        }
    }

    /// Takes note of a proven packet; `None` if its sender is no upstream and was none.
    pub(crate) fn arrived(
        &mut self,
        number: Number,
        from: SocketAddr,
        links: &link::Table,
        now: Instant,
    ) -> Option<Arrival> {
        let place_of = |link| self.all.iter().position(|upstream| upstream.link == link);
        let place = links.at(from).find_map(place_of)?;
        let upstream = &mut self.all[place];
        (upstream.heard, upstream.live) = (true, Some(now));
        let first = upstream.expected && !std::mem::replace(&mut upstream.reported, true);
        Some(Arrival {
            link: upstream.link,
            first,
            expected: upstream.expected,
            counts: upstream.take(number),
        })
    }
}

impl Upstream {
    /// Takes a number that came over it; says whether it counts: a far one does only when others confirm it.
    fn take(&mut self, number: Number) -> bool {
        if self.window.explains(number) {
            self.strays = 0;
            return self.window.take(number) == Novelty::New;
        }
        self.strays += 1;
        if self.strays < STRAYS_CONFIRM {
            return false;
        }
        (self.window, self.strays) = (Window::of_width(self.window.width()), 0);
        self.window.take(number) == Novelty::New
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::key::LinkKey;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn table(count: u32) -> (link::Table, impl Fn(u32) -> SocketAddr) {
        let address = |index| SocketAddr::from(([127, 0, 0, 1], u16::try_from(index).unwrap()));
        let mut links = link::Table::default();
        for index in 1..=count {
            let key = LinkKey::from_bytes([1; 32]);
            let link = link::Link::new(
                LinkIndex(index),
                address(index),
                LinkIndex(index),
                &key,
                &key,
            );
            links.insert(link);
        }
        (links, address)
    }

    #[test]
    fn the_first_packet_is_reported_once_and_again_after_adding_anew() {
        let (links, at) = table(1);
        let mut upstreams = Upstreams::default();
        upstreams.add(LinkIndex(1));
        let first = |upstreams: &mut Upstreams, number| {
            let number = Number::new(number).unwrap();
            let arrival = upstreams.arrived(number, at(1), &links, NOW);
            arrival.unwrap().first
        };

        assert!(first(&mut upstreams, 0));
        assert!(!first(&mut upstreams, 1));
        upstreams.retire(LinkIndex(1));
        assert!(!first(&mut upstreams, 2));
        upstreams.add(LinkIndex(1));
        assert!(first(&mut upstreams, 3));
    }

    #[test]
    fn a_packet_counts_once_per_upstream() {
        let (links, at) = table(2);
        let mut upstreams = Upstreams::default();
        upstreams.add(LinkIndex(1));
        upstreams.add(LinkIndex(2));
        let mut counts = |from| {
            let arrival = upstreams.arrived(Number::ZERO, at(from), &links, NOW);
            arrival.is_some_and(|arrival| arrival.counts)
        };

        assert!(counts(1));
        assert!(counts(2));
        assert!(!counts(1));
        assert!(!counts(3));
    }

    #[test]
    fn a_former_upstream_gives_way_to_a_new_one_at_the_limit() {
        let (links, at) = table(20);
        let mut upstreams = Upstreams::default();
        let most = u32::try_from(UPSTREAMS_MAX).unwrap();
        for link in 1..=most {
            assert!(upstreams.add(LinkIndex(link)));
        }

        assert!(!upstreams.add(LinkIndex(most + 1)));
        assert!(upstreams.retire(LinkIndex(3)));
        assert!(upstreams.add(LinkIndex(most + 1)));
        assert!(upstreams.expects(at(most + 1), &links));
        assert!(!upstreams.expects(at(3), &links));
    }

    #[test]
    fn who_is_silent_while_another_is_heard_is_quiet_and_so_is_a_suspect() {
        let (links, at) = table(2);
        let mut upstreams = Upstreams::default();
        upstreams.add(LinkIndex(1));
        upstreams.add(LinkIndex(2));
        let hear = |upstreams: &mut Upstreams, from, number, now| {
            let number = Number::new(number).unwrap();
            upstreams.arrived(number, at(from), &links, now).unwrap();
        };
        let quiet = |upstreams: &Upstreams| -> Vec<bool> {
            let sources = upstreams.sources(|_| RoundTrip::default());
            sources.iter().map(|source| source.is_quiet).collect()
        };
        hear(&mut upstreams, 1, 0, NOW);
        hear(&mut upstreams, 2, 0, NOW + QUIET_BEHIND);
        assert_eq!(quiet(&upstreams), [false, false]);

        hear(&mut upstreams, 2, 1, NOW + 2 * QUIET_BEHIND);
        assert_eq!(quiet(&upstreams), [true, false]);
        upstreams.suspect(LinkIndex(2));
        assert_eq!(quiet(&upstreams), [false, true]);
        hear(&mut upstreams, 2, 2, NOW + 3 * QUIET_BEHIND);
        upstreams.is_well(LinkIndex(1), true, NOW);

        assert_eq!(
            quiet(&upstreams),
            [false, false],
            "who has no more may be asked"
        );
    }
}
