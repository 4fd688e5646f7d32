//! The routes to one origin: what each neighbour advertised, which route is selected, and what was advertised to each
//! neighbour.
//!
//! Not the messages, which [`super::Routes`] makes from its results. Invariant: `feasibility` is the least (newest
//! sequence, then smallest distance) that this node ever advertised, and the selected route satisfied it.

use std::collections::BTreeMap;

use levada_wire::control::route::{Hops, Sequence};
use levada_wire::id::NodePrefix;
use levada_wire::machine::Wakeup;
use levada_wire::{Distance, Instant, LinkIndex};

use crate::limits::{ORIGIN_KEPT, SEQUENCE_RETRY, SEQUENCE_TRIES};

/// A neighbour that tells of a way to an origin and is not the selected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The link to it.
    pub link: LinkIndex,
    /// Whether its way cannot lead through this node: it may be used as well as the selected one.
    pub is_feasible: bool,
    /// How many nodes its way passes that the selected one passes too, but for the origin.
    pub shared: u8,
}

/// A selected route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The link it begins with.
    pub link: LinkIndex,
    /// How far the origin is.
    pub distance: Distance,
    /// The nodes it passes, the origin first, the neighbour last.
    pub hops: Hops,
}

/// What a neighbour told of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advertised {
    pub(super) sequence: Sequence,
    /// The neighbour's own distance: what feasibility is judged by.
    pub(super) told: Distance,
    /// With the cost of the link to the neighbour.
    pub(super) distance: Distance,
    pub(super) hops: Hops,
}

/// What is told to a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) sequence: Sequence,
    pub(super) distance: Distance,
    pub(super) hops: Hops,
}

#[derive(Debug, Default)]
pub(super) struct OriginRoutes {
    advertised: BTreeMap<LinkIndex, Advertised>,
    selected: Option<LinkIndex>,
    /// The route as it was reported last.
    reported: Option<Route>,
    /// The other ways as they were reported last.
    reported_alternatives: Vec<Alternative>,
    feasibility: Option<(Sequence, Distance)>,
    told: BTreeMap<LinkIndex, News>,
    starving: Option<Starving>,
    /// Until when no sequence request is passed on.
    passed_on_until: Option<Instant>,
    /// Set while nobody tells of it.
    forget_at: Option<Instant>,
}

/// Routes are known, but none is feasible: a newer sequence is asked for.
#[derive(Debug)]
struct Starving {
    ask_at: Instant,
    tries: u32,
}

impl OriginRoutes {
    pub(super) fn on_advertised(&mut self, link: LinkIndex, advertised: Advertised) {
        self.advertised.insert(link, advertised);
    }

    /// The link to a neighbour costs something else; says whether a way leads over it.
    pub(super) fn weigh(&mut self, link: LinkIndex, cost: Distance) -> bool {
        let advertised = self.advertised.get_mut(&link);
        advertised
            .map(|advertised| advertised.distance = advertised.told.plus(cost))
            .is_some()
    }

    /// The neighbour takes its route back.
    pub(super) fn forget_news(&mut self, link: LinkIndex) {
        self.advertised.remove(&link);
    }

    /// The link to the neighbour went down; whether that neighbour told of a way.
    pub(super) fn forget_link(&mut self, link: LinkIndex) -> bool {
        self.told.remove(&link);
        self.advertised.remove(&link).is_some()
    }

    /// The neighbour is to be told again, whatever it was told before.
    pub(super) fn untell(&mut self, link: LinkIndex) {
        self.told.remove(&link);
    }

    pub(super) fn route(&self) -> Option<Route> {
        let link = self.selected?;
        let advertised = self.advertised.get(&link)?;
        Some(Route {
            link,
            distance: advertised.distance,
            hops: advertised.hops.clone(),
        })
    }

    /// The selected route, if it is not what was reported last; notes it as reported.
    pub(super) fn unreported(&mut self) -> Option<Option<Route>> {
        let route = self.route();
        if route == self.reported {
            return None;
        }
        self.reported.clone_from(&route);
        Some(route)
    }

    /// The ways besides the selected one, if they are not what was reported last; notes them as reported.
    pub(super) fn unreported_alternatives(&mut self) -> Option<Vec<Alternative>> {
        let selected = self.selected;
        let alternatives = self
            .advertised
            .iter()
            .filter(|(link, _)| Some(**link) != selected);
        let mut alternatives: Vec<(&LinkIndex, &Advertised)> = alternatives.collect();
        alternatives.sort_by_key(|(link, advertised)| (advertised.distance, **link));
        let route = selected.and_then(|link| self.advertised.get(&link));
        let alternative = |(link, advertised): &(&LinkIndex, &Advertised)| Alternative {
            link: **link,
            is_feasible: self.is_feasible(advertised),
            shared: route.map_or(0, |route| shared(&advertised.hops, &route.hops)),
        };
        let alternatives: Vec<Alternative> = alternatives.iter().map(alternative).collect();
        if alternatives == self.reported_alternatives {
            return None;
        }
        self.reported_alternatives.clone_from(&alternatives);
        Some(alternatives)
    }

    /// The least that was told: what other ways are feasible by.
    pub(super) const fn feasibility(&self) -> Option<(Sequence, Distance)> {
        self.feasibility
    }

    /// The sequence of the selected route; of what was told last when there is none.
    pub(super) fn selected_sequence(&self) -> Sequence {
        let selected = self.selected.and_then(|link| self.advertised.get(&link));
        selected
            .map(|advertised| advertised.sequence)
            .or_else(|| self.feasibility.map(|told| told.0))
            .unwrap_or_default()
    }

    pub(super) fn feasible_backups(&self) -> usize {
        let feasible = self
            .advertised
            .iter()
            .filter(|(_, advertised)| self.is_feasible(advertised));
        feasible
            .filter(|(link, _)| Some(**link) != self.selected)
            .count()
    }

    fn is_feasible(&self, advertised: &Advertised) -> bool {
        self.feasibility.is_none_or(|(sequence, distance)| {
            advertised.sequence.is_newer_than(sequence)
                || advertised.sequence == sequence && advertised.told < distance
        })
    }

    /// Selects the nearest feasible route; of equals the one already selected, then the oldest link.
    pub(super) fn select(&mut self, now: Instant) {
        let before = self.selected;
        let feasible = self
            .advertised
            .iter()
            .filter(|(_, advertised)| self.is_feasible(advertised));
        let best = feasible
            .min_by_key(|(link, advertised)| (advertised.distance, Some(**link) != before, **link));
        self.selected = best.map(|(link, _)| *link);
        self.starving = match (
            &self.selected,
            self.advertised.is_empty(),
            self.starving.take(),
        ) {
            (None, false, None) => Some(Starving {
                ask_at: now,
                tries: 0,
            }),
            (None, false, starving) => starving,
            _ => None,
        };
        self.forget_at = match (self.advertised.is_empty(), self.forget_at) {
            (true, None) => Some(now + ORIGIN_KEPT),
            (true, at) => at,
            (false, _) => None,
        };
    }

    /// What the neighbour must be told that it was not, if anything; notes it as told.
    pub(super) fn news_for(
        &mut self,
        link: LinkIndex,
        peer: NodePrefix,
        me: NodePrefix,
    ) -> Option<News> {
        let news = self.best_around(peer, me);
        let known = self.told.get(&link);
        match (&news, known) {
            (None, None) => return None,
            (Some(news), Some(known)) if news == known => return None,
            _ => {}
        }
        let Some(news) = news else {
            let mut retraction = self.told.remove(&link)?;
            retraction.distance = Distance::INFINITE;
            retraction.hops = Hops::origin(me);
            return Some(retraction);
        };
        self.note_told(&news);
        self.told.insert(link, news.clone());
        Some(news)
    }

    /// The best route that does not pass through `peer`: the selected one, else the nearest other of the same
    /// sequence. One of a newer sequence is not told before it is selected: telling it would make the selected
    /// route infeasible, and two nodes could come to lead to each other.
    fn best_around(&self, peer: NodePrefix, me: NodePrefix) -> Option<News> {
        let selected = self.advertised.get(&self.selected?)?;
        let around = self.advertised.values().filter(|advertised| {
            advertised.sequence == selected.sequence && !advertised.hops.contains(peer)
        });
        let best = if selected.hops.contains(peer) {
            around.min_by_key(|advertised| advertised.distance)?
        } else {
            selected
        };
        let hops = best.hops.through(me)?;
        Some(News {
            sequence: best.sequence,
            distance: best.distance,
            hops,
        })
    }

    fn note_told(&mut self, news: &News) {
        let told = (news.sequence, news.distance);
        self.feasibility = Some(match self.feasibility {
            Some(least) if least.0.is_newer_than(told.0) => least,
            Some(least) if least.0 == told.0 => (least.0, least.1.min(told.1)),
            _ => told,
        });
        let selected = self.selected.and_then(|link| self.advertised.get(&link));
        assert!(
            selected.is_none_or(|selected| self.is_feasible(selected)),
            "what is told leaves the selected route feasible: no loop can come of it"
        );
    }

    /// When starved and due: the links to ask over, and for which sequence.
    pub(super) fn starve(&mut self, now: Instant) -> Option<(Vec<LinkIndex>, Sequence)> {
        let starving = self.starving.as_mut()?;
        if starving.ask_at > now || starving.tries >= SEQUENCE_TRIES {
            return None;
        }
        starving.ask_at = now + SEQUENCE_RETRY * (1 << starving.tries);
        starving.tries += 1;
        let wanted = self
            .feasibility
            .map(|(sequence, _)| sequence)
            .unwrap_or_default()
            .next();
        Some((self.advertised.keys().copied().collect(), wanted))
    }

    /// Whether a sequence request is to be passed on: one per retry interval, whatever it asks for. Whoever asks for
    /// more asks again.
    pub(super) fn may_pass_on(&mut self, now: Instant) -> bool {
        let free = self.passed_on_until.is_none_or(|until| until <= now);
        if free {
            self.passed_on_until = Some(now + SEQUENCE_RETRY);
        }
        free
    }

    /// Where to pass a request on: the selected route, or the nearest other, that does not lead to the asker.
    pub(super) fn way_around(&self, asker: Option<NodePrefix>) -> Option<LinkIndex> {
        let avoids =
            |advertised: &Advertised| asker.is_none_or(|asker| !advertised.hops.contains(asker));
        let selected = self
            .selected
            .filter(|link| self.advertised.get(link).is_some_and(avoids));
        selected.or_else(|| {
            let around = self
                .advertised
                .iter()
                .filter(|(_, advertised)| avoids(advertised));
            around
                .min_by_key(|(_, advertised)| advertised.distance)
                .map(|(link, _)| *link)
        })
    }

    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.forget_at.is_some_and(|at| at <= now)
    }

    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        let ask = self
            .starving
            .as_ref()
            .filter(|starving| starving.tries < SEQUENCE_TRIES);
        let ask = ask.map(|starving| Wakeup {
            at: starving.ask_at,
            why: "sequence request",
        });
        let forget = self.forget_at.map(|at| Wakeup {
            at,
            why: "forget origin",
        });
        Wakeup::earlier(ask, forget)
    }
}

/// How many nodes two routes to one origin pass both, the origin not counted.
fn shared(one: &Hops, other: &Hops) -> u8 {
    let between = one.as_slice().iter().skip(1);
    let both = between.filter(|node| other.contains(**node)).count();
    u8::try_from(both).unwrap_or(u8::MAX)
}
