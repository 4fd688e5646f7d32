//! Who is hub: claims, objections, hand-over, and what becomes of two hubs that meet.
//!
//! ```text
//!                 hub heard                          a better claim, objection
//!  Listening ───────────────▶ Following ◀──────────────────────────────┐
//!   ▲  │ nobody heard             │ silent for 3 intervals             │
//!   │  └──────────────────────────┴───────────▶ Claiming ──────────────┤
//!   │                                              │ 130 ms            │
//!   └── stood still, no interface ────────────── Hub ── a later hub ───┘
//! ```
//!
//! A claim has a higher epoch than any that its sender knows, is signed and sent three times, and holds when nobody
//! objects. The hub itself answers a claim with a later one of its own; a member that still hears the hub objects, a
//! moment later and only if the hub did not. So one deaf node cannot push a good hub out: it learns by two objections
//! that it is deaf. A claim is not refused for being worse: the election is sticky, and a better node is handed over
//! to. Two hubs that meet after a partition compare (epoch, priority, node id). The timers are those of VRRP (RFC 9568
//! section 6.1), shorter for the deputy.
//!
//! Not who is there (`roster`), nor bytes. Called by [`super::Site`]. Invariant: an epoch never falls, and a node that
//! stood still is no hub before it has listened.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::datagram::site::beacon::{Epoch, Priority};
use levada_wire::datagram::site::{Claim, Handover, Objection, Resignation};
use levada_wire::{Instant, NodeId, NodePrefix};

use super::border::Cause;
use crate::limits::{
    CHALLENGE, CHALLENGE_STEPS, CLAIM_AGAIN, CLAIM_INTERVAL, CLAIM_PAUSE, CLAIM_WAIT, DEAF_MAX,
    DEAF_MIN, DUELS_WITHIN, EPOCH_AHEAD_MAX, HANDOVER_WAIT, HUB_ANSWERS, HUB_SILENT_INTERVALS,
    LISTEN, OBJECTION_DELAY,
};

/// What a node is in its site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It has no interface.
    Apart,
    /// It knows no hub, and claims then if it may.
    Listening { until: Instant, cause: Cause },
    /// It follows another node.
    Following(Followed),
    /// It has claimed, and waits for objections.
    Claiming {
        epoch: Epoch,
        since: Instant,
        again: usize,
        cause: Cause,
    },
    /// It is the hub.
    Hub(Reign),
}

/// A hub that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) priority: Priority,
    pub(super) heard: Instant,
    interval: Duration,
    /// On which interfaces its beacons were heard, and when.
    on: BTreeMap<u32, Instant>,
    /// To whom it hands over.
    to: Option<NodePrefix>,
    /// When it resigned.
    resigned: Option<Instant>,
    pub(super) cause: Cause,
}

impl Followed {
    fn rank(&self) -> Rank {
        (self.epoch, self.priority, self.node.prefix())
    }
}

/// This node's time as hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reign {
    pub(super) epoch: Epoch,
    pub(super) cause: Cause,
    /// Claims that are still to be sent.
    again: VecDeque<Instant>,
    /// Who has been better, and since when.
    challenger: Option<(NodePrefix, Instant)>,
    /// To whom it hands over, and until when it waits.
    handing: Option<(NodePrefix, Instant)>,
    /// The better node that it answered last, how often, and when it began.
    rival: Option<(NodePrefix, u32, Instant)>,
    /// How many beacons came of hubs that should give way, and since when.
    unmoved: Option<(u32, Instant)>,
}

impl Reign {
    const fn new(epoch: Epoch, cause: Cause) -> Self {
        Self {
            epoch,
            cause,
            again: VecDeque::new(),
            challenger: None,
            handing: None,
            rival: None,
            unmoved: None,
        }
    }

    /// Whether a better node claims though it was answered again and again: it is a hub too, and both would go on.
    fn gives_way_to(&mut self, now: Instant, node: NodePrefix) -> bool {
        let (times, since) = match self.rival {
            Some((before, times, since)) if before == node && now.since(since) < DUELS_WITHIN => {
                (times + 1, since)
            }
            _ => (1, now),
        };
        self.rival = Some((node, times, since));
        times > HUB_ANSWERS
    }
}

/// Which of two hubs holds: the greater.
type Rank = (Epoch, Priority, NodePrefix);

/// What the election wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Claim(Claim),
    Object(SocketAddr, u32, Objection),
    Resign(Resignation),
    HandOver(Handover),
    /// Send a beacon soon: something in it changed.
    Beacon,
    /// Another hub, or none.
    Hub(Option<NodeId>, Cause),
    Deaf,
}

/// A hub's beacon, as far as it counts here.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubBeacon {
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) priority: Priority,
    pub(super) interval: Duration,
    pub(super) interface: u32,
}

/// Where something was said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) from: SocketAddr,
    pub(super) interface: u32,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub(super) struct Election {
    me: NodeId,
    priority: Priority,
    role: Role,
    /// The highest epoch that was seen or claimed.
    highest: Epoch,
    /// An objection that goes out then, unless the hub answers first.
    objecting: Option<(Instant, SocketAddr, u32, Objection)>,
    /// When each objector was last heard, of the last [`DUELS_WITHIN`]: one for each claim, so a few.
    objectors: BTreeMap<NodePrefix, Instant>,
    last_duel: Option<Instant>,
    deaf: Option<(Instant, Duration)>,
    acts: VecDeque<Act>,
}

impl Election {
    pub(super) const fn new(me: NodeId) -> Self {
        Self {
            me,
            priority: Priority::NEVER,
            role: Role::Apart,
            highest: Epoch(0),
            objecting: None,
            objectors: BTreeMap::new(),
            last_duel: None,
            deaf: None,
            acts: VecDeque::new(),
        }
    }

    pub(super) const fn role(&self) -> &Role {
        &self.role
    }

    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    pub(super) const fn set_priority(&mut self, priority: Priority) {
        self.priority = priority;
    }

    /// Whether it may claim.
    pub(super) fn is_eligible(&self, now: Instant) -> bool {
        self.priority != Priority::NEVER && !self.is_deaf(now)
    }

    pub(super) fn is_deaf(&self, now: Instant) -> bool {
        self.deaf.is_some_and(|(until, _)| until > now)
    }

    /// The hub that is followed or that this node is.
    pub(super) fn hub(&self) -> Option<(NodeId, Epoch)> {
        match &self.role {
            Role::Following(hub) => Some((hub.node, hub.epoch)),
            Role::Hub(reign) => Some((self.me, reign.epoch)),
            Role::Apart | Role::Listening { .. } | Role::Claiming { .. } => None,
        }
    }

    /// There is an interface: listen first.
    pub(super) fn begin(&mut self, now: Instant, jitter: Duration) {
        if self.role == Role::Apart {
            self.listen(now + self.patience(LISTEN) + jitter, Cause::First);
        }
    }

    /// There is none any more.
    pub(super) fn end(&mut self) {
        if self.hub().is_some() {
            self.acts.push_back(Act::Hub(None, Cause::Gone));
        }
        self.role = Role::Apart;
        self.objecting = None;
    }

    /// This node stood still: what it believes of others is old.
    pub(super) fn on_pause(&mut self, now: Instant) {
        match &mut self.role {
            Role::Following(hub) => hub.heard = now,
            Role::Hub(_) => {
                self.acts.push_back(Act::Hub(None, Cause::Gone));
                self.listen(now + LISTEN, Cause::Silent);
            }
            Role::Claiming { cause, .. } | Role::Listening { cause, .. } => {
                let cause = *cause;
                self.listen(now + LISTEN, cause);
            }
            Role::Apart => {}
        }
    }

    /// A node leaves on purpose.
    pub(super) fn resign(&mut self) {
        if let Role::Hub(reign) = &self.role {
            let resignation = Resignation {
                node: self.me,
                epoch: reign.epoch,
            };
            self.acts.push_back(Act::Resign(resignation));
        }
        self.end();
    }

    fn listen(&mut self, until: Instant, cause: Cause) {
        self.role = Role::Listening { until, cause };
    }

    /// `base` for the best priority, twice as long for the least.
    fn patience(&self, base: Duration) -> Duration {
        let worse = u32::from(Priority::PINNED.step() - self.priority.step());
        base + base * worse / 16
    }

    /// When the followed hub counts as gone here.
    fn gone_at(&self, hub: &Followed, is_deputy: bool) -> Instant {
        if let Some(resigned) = hub.resigned {
            let wait = if is_deputy {
                Duration::ZERO
            } else {
                self.patience(CLAIM_INTERVAL)
            };
            return resigned + wait;
        }
        let patience = if is_deputy {
            Duration::ZERO
        } else {
            self.patience(hub.interval / 2)
        };
        hub.heard + hub.interval * HUB_SILENT_INTERVALS + patience
    }

    /// A hub says that it is there.
    pub(super) fn on_hub(&mut self, now: Instant, beacon: &HubBeacon) {
        self.highest = self.highest.max(beacon.epoch);
        let rank = (beacon.epoch, beacon.priority, beacon.node.prefix());
        match &mut self.role {
            Role::Following(hub) if hub.node == beacon.node => {
                hub.heard = now;
                hub.epoch = beacon.epoch;
                hub.priority = beacon.priority;
                hub.interval = beacon.interval;
                hub.on.insert(beacon.interface, now);
                hub.resigned = None;
                self.cancel_objection(beacon.node, beacon.epoch);
            }
            Role::Following(hub) => {
                let is_late = now > hub.heard + hub.interval * HUB_SILENT_INTERVALS;
                if rank > hub.rank() || is_late {
                    let cause = if is_late {
                        Cause::Silent
                    } else {
                        Cause::Merged
                    };
                    self.follow(now, beacon, cause);
                }
            }
            Role::Listening { .. } => self.follow(now, beacon, Cause::Found),
            Role::Claiming { epoch, cause, .. } => {
                // Whoever hands over goes on until the claim holds.
                if beacon.epoch >= *epoch || *cause != Cause::HandedOver {
                    self.follow(now, beacon, Cause::Found);
                }
            }
            Role::Hub(reign) => {
                // One that does not give way does not hear this node, and neither do those that follow it.
                let recent = reign
                    .unmoved
                    .filter(|(_, since)| now.since(*since) < DUELS_WITHIN);
                let (times, since) = recent.unwrap_or((0, now));
                reign.unmoved = Some((times + 1, since));
                let is_unheard = times >= HUB_ANSWERS;
                if is_unheard || rank > (reign.epoch, self.priority, self.me.prefix()) {
                    self.follow(now, beacon, Cause::Merged);
                } else {
                    self.acts.push_back(Act::Beacon);
                }
            }
            Role::Apart => {}
        }
    }

    fn follow(&mut self, now: Instant, beacon: &HubBeacon, cause: Cause) {
        self.role = Role::Following(Followed {
            node: beacon.node,
            epoch: beacon.epoch,
            priority: beacon.priority,
            heard: now,
            interval: beacon.interval,
            on: BTreeMap::from([(beacon.interface, now)]),
            to: None,
            resigned: None,
            cause,
        });
        self.objecting = None;
        self.acts.push_back(Act::Hub(Some(beacon.node), cause));
        self.acts.push_back(Act::Beacon);
    }

    /// A node claims to be hub.
    pub(super) fn on_claim(&mut self, now: Instant, claim: &Claim, said: Said, jitter: Duration) {
        let is_known = self.hub().is_some();
        if is_known && claim.epoch.0 > self.highest.0.saturating_add(EPOCH_AHEAD_MAX) {
            return;
        }
        self.highest = self.highest.max(claim.epoch);
        let rank = (claim.epoch, claim.priority, claim.node.prefix());
        let me = self.me.prefix();
        match &mut self.role {
            Role::Apart => {}
            Role::Listening { cause, .. } => {
                let cause = *cause;
                self.follow_claim(now, claim, said, cause);
            }
            Role::Claiming { epoch, cause, .. } => {
                if rank > (*epoch, self.priority, me) {
                    let cause = *cause;
                    self.follow_claim(now, claim, said, cause);
                } else {
                    self.claim_again();
                }
            }
            Role::Hub(reign) => {
                let is_heir = reign
                    .handing
                    .is_some_and(|(to, _)| to == claim.node.prefix());
                if is_heir && claim.epoch > reign.epoch {
                    return self.follow_claim(now, claim, said, Cause::HandedOver);
                }
                let is_better = (claim.priority, claim.node.prefix()) > (self.priority, me);
                if is_better
                    && claim.epoch > reign.epoch
                    && reign.gives_way_to(now, claim.node.prefix())
                {
                    return self.follow_claim(now, claim, said, Cause::Merged);
                }
                let objection = Objection {
                    claimer: claim.node.prefix(),
                    claimed: claim.epoch,
                    hub: me,
                    epoch: reign.epoch,
                    age_millis: 0,
                };
                self.acts
                    .push_back(Act::Object(said.from, said.interface, objection));
                if claim.epoch >= reign.epoch {
                    reign.epoch = Epoch(claim.epoch.0.saturating_add(1));
                    self.highest = self.highest.max(reign.epoch);
                    reign.again = CLAIM_AGAIN.iter().map(|after| now + *after).collect();
                    self.claim_again();
                }
                self.acts.push_back(Act::Beacon);
            }
            Role::Following(hub) => {
                if hub.node == claim.node {
                    hub.epoch = claim.epoch.max(hub.epoch);
                    hub.heard = now;
                    hub.resigned = None;
                    let node = hub.node;
                    return self.cancel_objection(node, claim.epoch);
                }
                self.on_rival(now, claim, said, jitter);
            }
        }
    }

    /// Another node than the followed hub claims.
    fn on_rival(&mut self, now: Instant, claim: &Claim, said: Said, jitter: Duration) {
        let Role::Following(hub) = &self.role else {
            return;
        };
        let is_heir = hub.to == Some(claim.node.prefix());
        let last = hub
            .on
            .get(&said.interface)
            .copied()
            .filter(|_| hub.resigned.is_none());
        // spec: WIRE 9.3 any member that still hears the hub objects
        let is_heard = last.is_some_and(|last| now.since(last) <= hub.interval * 2);
        if claim.epoch > hub.epoch && (is_heir || !is_heard) {
            let cause = match (is_heir, hub.resigned) {
                (true, _) => Cause::HandedOver,
                (false, Some(_)) => Cause::Resigned,
                (false, None) => Cause::Silent,
            };
            return self.follow_claim(now, claim, said, cause);
        }
        if let Some(last) = last.filter(|_| is_heard) {
            let objection = Objection {
                claimer: claim.node.prefix(),
                claimed: claim.epoch,
                hub: hub.node.prefix(),
                epoch: hub.epoch,
                age_millis: u16::try_from(now.since(last).as_millis()).unwrap_or(u16::MAX),
            };
            let at = now + jitter.min(OBJECTION_DELAY);
            self.objecting
                .get_or_insert((at, said.from, said.interface, objection));
        }
    }

    fn follow_claim(&mut self, now: Instant, claim: &Claim, said: Said, cause: Cause) {
        let beacon = HubBeacon {
            node: claim.node,
            epoch: claim.epoch,
            priority: claim.priority,
            interval: CLAIM_INTERVAL,
            interface: said.interface,
        };
        self.follow(now, &beacon, cause);
    }

    /// The hub has spoken for itself.
    fn cancel_objection(&mut self, hub: NodeId, epoch: Epoch) {
        let is_answered =
            |objection: &Objection| objection.hub == hub.prefix() && epoch > objection.claimed;
        if self
            .objecting
            .as_ref()
            .is_some_and(|(_, _, _, objection)| is_answered(objection))
        {
            self.objecting = None;
        }
    }

    /// Somebody still hears the hub that this node does not hear.
    pub(super) fn on_objection(&mut self, now: Instant, sender: NodePrefix, objection: &Objection) {
        let Role::Claiming { epoch, .. } = &self.role else {
            return;
        };
        if objection.claimer != self.me.prefix() || objection.claimed != *epoch {
            return;
        }
        // A member's word counts once in a while: one that lies delays an election, and does not stop it.
        let is_hub = objection.hub == sender;
        let last = self.objectors.get(&sender).copied();
        if !is_hub && last.is_some_and(|last| now.since(last) < DUELS_WITHIN) {
            return;
        }
        self.objectors
            .retain(|_, last| now.since(*last) < DUELS_WITHIN);
        if !is_hub {
            self.objectors.insert(sender, now);
        }
        let duel = self.last_duel.replace(now);
        if duel.is_some_and(|duel| now.since(duel) < DUELS_WITHIN) {
            let lasted = self
                .deaf
                .map_or(DEAF_MIN, |(_, lasted)| (lasted * 2).min(DEAF_MAX));
            self.deaf = Some((now + lasted, lasted));
            self.last_duel = None;
            self.acts.push_back(Act::Deaf);
        }
        if objection.epoch.0 <= self.highest.0.saturating_add(EPOCH_AHEAD_MAX) {
            self.highest = self.highest.max(objection.epoch);
        }
        self.listen(now + CLAIM_PAUSE, Cause::Silent);
    }

    /// The hub goes.
    pub(super) fn on_resignation(&mut self, now: Instant, resignation: &Resignation) {
        if let Role::Following(hub) = &mut self.role
            && hub.node == resignation.node
            && hub.epoch <= resignation.epoch
        {
            hub.resigned = Some(now);
            self.objecting = None;
        }
    }

    /// The hub names the next one.
    pub(super) fn on_handover(&mut self, now: Instant, handover: &Handover) {
        let is_eligible = self.is_eligible(now);
        if let Role::Following(hub) = &mut self.role
            && hub.node == handover.node
            && hub.epoch <= handover.epoch
        {
            hub.to = Some(handover.to);
            if handover.to == self.me.prefix() && is_eligible {
                self.claim(now, Cause::HandedOver);
            }
        }
    }

    /// Of the member that would be hub after this one, whether it is so much better that it should be hub now.
    pub(super) fn on_challenger(&mut self, now: Instant, best: Option<(NodePrefix, Priority)>) {
        let least = self.priority.step().saturating_add(CHALLENGE_STEPS);
        let Role::Hub(reign) = &mut self.role else {
            return;
        };
        let better = best.filter(|(_, priority)| priority.step() >= least);
        reign.challenger = match (better, reign.challenger) {
            (Some((node, _)), Some((before, since))) if node == before => Some((node, since)),
            (Some((node, _)), _) => Some((node, now)),
            (None, _) => None,
        };
        if let Some((node, since)) = reign.challenger
            && now.since(since) >= CHALLENGE
            && reign.handing.is_none()
        {
            self.hand_over(now, node);
        }
    }

    /// Hands over to another node, and goes on until its claim is heard.
    pub(super) fn hand_over(&mut self, now: Instant, to: NodePrefix) {
        let node = self.me;
        if let Role::Hub(reign) = &mut self.role {
            reign.handing = Some((to, now + HANDOVER_WAIT));
            reign.challenger = None;
            let epoch = reign.epoch;
            // Each may be lost by itself; whoever heard one ignores the rest.
            for _ in 0..3 {
                self.acts
                    .push_back(Act::HandOver(Handover { node, epoch, to }));
            }
        }
    }

    fn claim(&mut self, now: Instant, cause: Cause) {
        let Some(epoch) = self.highest.0.checked_add(1).map(Epoch) else {
            return self.listen(now + CLAIM_PAUSE, cause);
        };
        self.highest = epoch;
        self.role = Role::Claiming {
            epoch,
            since: now,
            again: 0,
            cause,
        };
        self.objecting = None;
        self.claim_again();
    }

    fn claim_again(&mut self) {
        let epoch = match &self.role {
            Role::Claiming { epoch, .. } => *epoch,
            Role::Hub(reign) => reign.epoch,
            Role::Apart | Role::Listening { .. } | Role::Following(_) => return,
        };
        self.acts.push_back(Act::Claim(Claim {
            node: self.me,
            epoch,
            priority: self.priority,
        }));
    }

    /// What is due. `is_deputy`: this node is next in line.
    pub(super) fn on_time(&mut self, now: Instant, is_deputy: bool) {
        if self.objecting.as_ref().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, to, interface, objection)) = self.objecting.take()
        {
            self.acts.push_back(Act::Object(to, interface, objection));
        }
        let is_eligible = self.is_eligible(now);
        match &mut self.role {
            Role::Listening { until, cause } if *until <= now => {
                let cause = *cause;
                if is_eligible {
                    self.claim(now, cause);
                } else {
                    self.listen(now + CLAIM_PAUSE, cause);
                }
            }
            Role::Following(hub) => {
                let hub = hub.clone();
                if self.gone_at(&hub, is_deputy) <= now {
                    let cause = hub.resigned.map_or(Cause::Silent, |_| Cause::Resigned);
                    self.acts.push_back(Act::Hub(None, cause));
                    if is_eligible {
                        self.claim(now, cause);
                    } else {
                        self.listen(now + CLAIM_PAUSE, cause);
                    }
                }
            }
            Role::Claiming {
                epoch,
                since,
                again,
                cause,
            } => {
                let (since, epoch, cause) = (*since, *epoch, *cause);
                if since + CLAIM_WAIT <= now {
                    self.role = Role::Hub(Reign::new(epoch, cause));
                    self.acts.push_back(Act::Hub(Some(self.me), cause));
                    self.acts.push_back(Act::Beacon);
                } else if let Some(after) = CLAIM_AGAIN.get(*again)
                    && since + *after <= now
                {
                    *again += 1;
                    self.claim_again();
                }
            }
            Role::Hub(reign) => {
                if reign.handing.is_some_and(|(_, until)| until <= now) {
                    reign.handing = None;
                }
                if reign.again.front().is_some_and(|at| *at <= now) {
                    reign.again.pop_front();
                    self.claim_again();
                }
            }
            Role::Apart | Role::Listening { .. } => {}
        }
    }

    /// When something is due.
    pub(super) fn wakeup(&self, is_deputy: bool) -> Option<(Instant, &'static str)> {
        let objection = self
            .objecting
            .as_ref()
            .map(|(at, ..)| (*at, "site objection"));
        let role = match &self.role {
            Role::Apart => None,
            Role::Listening { until, .. } => Some((*until, "site listening")),
            Role::Following(hub) => Some((self.gone_at(hub, is_deputy), "site hub silent")),
            Role::Claiming { since, again, .. } => {
                let next = CLAIM_AGAIN.get(*again).copied().unwrap_or(CLAIM_WAIT);
                Some((*since + next, "site claim"))
            }
            Role::Hub(reign) => {
                let again = reign.again.front().map(|at| (*at, "site claim"));
                let handing = reign.handing.map(|(_, until)| (until, "site hand-over"));
                again.into_iter().chain(handing).min()
            }
        };
        objection.into_iter().chain(role).min()
    }
}
