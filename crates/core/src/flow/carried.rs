//! One flow that this node originates, requests or forwards.
//!
//! Not the decision to request it (`settle`) and not the messages (`requests`). Called by [`super::Flows`].
//! Invariant: a child is granted only while the flow has its carry key.

use std::collections::{BTreeMap, BTreeSet};

use levada_wire::control::flow::{CarryGrant, InstanceRef, RefuseReason};
use levada_wire::key::{CarryKey, Suite};
use levada_wire::machine::Wakeup;
use levada_wire::{
    Bitrate, CarryEnd, FlowId, Instant, Layer, LinkIndex, Number, PacketSize, RepairBudget,
};

use super::catalogue::FlowOffer;
use crate::api::Paths;
use crate::limits::{ANSWER_DEADLINE, ANSWER_WAIT, ENDING, STALLED_AFTER};
use crate::view::{FlowCause, FlowState, note_look};

#[derive(Debug)]
pub(super) struct Carried {
    pub(super) of: InstanceRef,
    pub(super) layer: Layer,
    pub(super) suite: Suite,
    /// The rate that its origin declares.
    pub(super) peak: Bitrate,
    /// The size of full packets.
    pub(super) packet_size: PacketSize,
    /// How late packets may be here, as the datapath and upstream were told.
    pub(super) budget: RepairBudget,
    /// What proves its carry keys, if its origin commits to them.
    pub(super) carry: Option<CarryEnd>,
    /// The key epoch and the key, once known.
    pub(super) key: Option<(u8, CarryKey)>,
    pub(super) upstream: Upstream,
    /// Where it comes from besides, if somebody here wants two ways.
    pub(super) second: Option<Second>,
    pub(super) children: BTreeMap<LinkIndex, Child>,
    /// Whether the datapath opens the flow for local consumers.
    pub(super) consuming: bool,
    /// Set while nobody wants it any more.
    pub(super) linger_until: Option<Instant>,
    /// Set once it was withdrawn.
    pub(super) ending_at: Option<Instant>,
    /// Links that refused it or bring nothing, why, and until when another is asked if there is one.
    pub(super) avoided: BTreeMap<LinkIndex, (RefuseReason, Instant)>,
    /// When the children that are fed are refused: set while the flow does not come.
    pub(super) dry_until: Option<Instant>,
    /// The asked links that have brought packets.
    pub(super) delivering: BTreeSet<LinkIndex>,
    /// The link that accepted, while it has brought nothing.
    pub(super) silent: Option<Silent>,
    /// Something of it has come: a request says how far it has.
    pub(super) has_come: bool,
    /// Where it came from and went to when that was said last.
    pub(super) shape: (Option<LinkIndex>, BTreeSet<LinkIndex>),
    /// Links that are asked as soon as the datapath has said how far it has come.
    pub(super) unsaid: BTreeSet<LinkIndex>,
}

/// A neighbour that accepted and delivers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    pub(super) link: LinkIndex,
    /// When the flow counts as stalled; `None` once it does.
    pub(super) until: Option<Instant>,
}

/// Where a flow comes from.
#[derive(Debug)]
pub(super) enum Upstream {
    /// From here.
    Origin,
    /// From nowhere: there is no way, or the last try failed.
    Idle {
        retry_at: Option<Instant>,
        cause: Option<RefuseReason>,
    },
    /// Asked for.
    Asking { link: LinkIndex, until: Instant },
    /// Coming.
    Flowing {
        link: LinkIndex,
        reassert_at: Instant,
        challenger: Option<Challenger>,
    },
}

/// A better place for a flow to come from. The old one is kept until this one has delivered.
#[derive(Debug)]
pub(super) enum Challenger {
    Asking {
        link: LinkIndex,
        until: Instant,
    },
    Accepted {
        link: LinkIndex,
        until: Instant,
    },
    /// It refused: not asked again before this moment.
    Refused {
        link: LinkIndex,
        until: Instant,
    },
}

/// A second neighbour that a flow comes from at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    Asking {
        link: LinkIndex,
        until: Instant,
    },
    /// It accepted; unless it has delivered by then it is let go.
    Accepted {
        link: LinkIndex,
        reassert_at: Instant,
        until: Instant,
    },
}

/// A neighbour that wants the flow.
#[derive(Debug)]
pub(super) struct Child {
    /// When the request runs out if it is not said again.
    pub(super) expires: Instant,
    pub(super) state: ChildState,
    /// When it first asked, of those who are fed at present.
    pub(super) since: Instant,
    /// How late packets may be there.
    pub(super) budget: RepairBudget,
    /// What it has, if it moves here and is not fed yet.
    pub(super) have: Option<Number>,
    /// The carry key as it was sealed to this child: asking again costs nothing.
    pub(super) grant: Option<CarryGrant>,
    /// It gets the flow by a multicast channel, and has no copy of its own.
    pub(super) by_channel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildState {
    /// Not answered yet; refused at this moment at the latest.
    Waiting { until: Instant, needs_key: bool },
    /// Fed.
    Granted,
}

impl Upstream {
    pub(super) const IDLE: Self = Self::Idle {
        retry_at: None,
        cause: None,
    };

    /// The link the flow comes over, or is asked for over.
    pub(super) const fn link(&self) -> Option<LinkIndex> {
        match self {
            Self::Origin | Self::Idle { .. } => None,
            Self::Asking { link, .. } | Self::Flowing { link, .. } => Some(*link),
        }
    }
}

impl Challenger {
    pub(super) const fn link(&self) -> LinkIndex {
        match self {
            Self::Asking { link, .. }
            | Self::Accepted { link, .. }
            | Self::Refused { link, .. } => *link,
        }
    }

    pub(super) const fn until(&self) -> Instant {
        match self {
            Self::Asking { until, .. }
            | Self::Accepted { until, .. }
            | Self::Refused { until, .. } => *until,
        }
    }
}

impl Second {
    pub(super) const fn link(self) -> LinkIndex {
        match self {
            Self::Asking { link, .. } | Self::Accepted { link, .. } => link,
        }
    }

    fn wakeup(self, is_delivering: bool) -> Wakeup {
        let (at, why) = match self {
            Self::Asking { until, .. } => (until, "answer of the second"),
            Self::Accepted { reassert_at, .. } if is_delivering => (reassert_at, "say again"),
            Self::Accepted {
                reassert_at, until, ..
            } => (reassert_at.min(until), "second is silent"),
        };
        Wakeup { at, why }
    }
}

impl Carried {
    pub(super) fn new(offer: FlowOffer) -> Self {
        Self {
            of: offer.of,
            layer: offer.layer,
            suite: offer.suite,
            peak: offer.peak,
            packet_size: offer.packet_size,
            carry: offer.carry,
            budget: RepairBudget::DEFAULT,
            key: None,
            upstream: Upstream::IDLE,
            second: None,
            children: BTreeMap::new(),
            consuming: false,
            linger_until: None,
            ending_at: None,
            avoided: BTreeMap::new(),
            dry_until: None,
            delivering: BTreeSet::new(),
            silent: None,
            has_come: false,
            shape: (None, BTreeSet::new()),
            unsaid: BTreeSet::new(),
        }
    }

    pub(super) fn flow(&self) -> FlowId {
        self.of.flow(self.layer)
    }

    pub(super) const fn is_origin(&self) -> bool {
        matches!(self.upstream, Upstream::Origin)
    }

    /// Whether packets come, or may be made, under a key that is known here.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.upstream, Upstream::Origin | Upstream::Flowing { .. }) && self.key.is_some()
    }

    /// Whether a key is its carry key of that epoch, as far as its origin says.
    pub(super) fn is_true_key(&self, epoch: u8, key: &CarryKey) -> bool {
        let is_proven = |end: CarryEnd| key.is_proven_by(&end, self.flow(), epoch);
        self.carry.is_none_or(is_proven)
    }

    /// The links the flow goes out over.
    pub(super) fn granted(&self) -> impl Iterator<Item = LinkIndex> + '_ {
        let children = self.children.iter().inspect(|_| note_look());
        let granted = children.filter(|(_, child)| child.state == ChildState::Granted);
        granted.map(|(link, _)| *link)
    }

    /// Its peak, once for each child: one that waits for its answer has a place too, and those that get it by a channel
    /// have one together.
    pub(super) fn reserved(&self) -> u128 {
        let by_channel = self.children.values().filter(|child| child.by_channel);
        let by_channel = by_channel.count();
        let places = self.children.len() - by_channel + by_channel.min(1);
        u128::from(self.peak.0) * places as u128
    }

    /// The link that it comes over, and those over which it goes to whoever is fed.
    pub(super) fn shape_now(&self) -> (Option<LinkIndex>, BTreeSet<LinkIndex>) {
        let from = match &self.upstream {
            Upstream::Flowing { link, .. } => Some(*link),
            Upstream::Origin | Upstream::Idle { .. } | Upstream::Asking { .. } => None,
        };
        (from, self.granted().collect())
    }

    /// The links over which the flow comes or is asked for; not one that refused it.
    pub(super) fn asked(&self) -> impl Iterator<Item = LinkIndex> {
        let challenger = match &self.upstream {
            Upstream::Flowing {
                challenger:
                    Some(Challenger::Asking { link, .. } | Challenger::Accepted { link, .. }),
                ..
            } => Some(*link),
            _ => None,
        };
        let second = self.second.map(Second::link);
        let upstream = self.upstream.link().into_iter();
        upstream.chain(challenger).chain(second)
    }

    /// Where a flow that was never here may begin, if nobody but its children wants it: where the first of them is to
    /// go on. None if one of them is a newcomer.
    pub(super) fn beginning(&self) -> Option<Number> {
        let haves = self.children.values().map(|child| child.have);
        haves.min().flatten()
    }

    /// What the children want at most; `None` without children.
    pub(super) fn children_budget(&self) -> Option<RepairBudget> {
        self.children.values().map(|child| child.budget).max()
    }

    /// All links that media or requests of the flow pass over, each with what is admitted of it there.
    pub(super) fn uses(&self) -> impl Iterator<Item = (LinkIndex, Bitrate)> {
        let admitted = |child: &Child| match child.state {
            ChildState::Granted if !child.by_channel => self.peak,
            ChildState::Granted | ChildState::Waiting { .. } => Bitrate(0),
        };
        let upstreams = self.upstreams().map(|link| (link, Bitrate(0)));
        let children = self.children.iter();
        upstreams.chain(children.map(move |(link, child)| (*link, admitted(child))))
    }

    /// All links that media or requests of the flow pass over.
    pub(super) fn links(&self) -> impl Iterator<Item = LinkIndex> {
        self.upstreams().chain(self.children.keys().copied())
    }

    fn upstreams(&self) -> impl Iterator<Item = LinkIndex> + use<> {
        let challenger = match &self.upstream {
            Upstream::Flowing {
                challenger: Some(challenger),
                ..
            } => Some(challenger.link()),
            _ => None,
        };
        let second = self.second.map(Second::link);
        let upstream = self.upstream.link().into_iter();
        upstream.chain(challenger).chain(second)
    }

    pub(super) fn on_link_down(&mut self, now: Instant, link: LinkIndex) {
        self.children.remove(&link);
        self.avoided.remove(&link);
        self.second.take_if(|second| second.link() == link);
        if self.upstream.link() == Some(link) && self.promote_second(now) {
            return;
        }
        let over = Upstream::Idle {
            retry_at: Some(now),
            cause: None,
        };
        match &mut self.upstream {
            Upstream::Asking { link: asked, .. } if *asked == link => self.upstream = over,
            Upstream::Flowing {
                link: from,
                challenger,
                ..
            } if *from == link => {
                // The challenger that has accepted takes over with what it has.
                self.upstream = match challenger.take() {
                    Some(Challenger::Accepted { link, .. }) => Upstream::Flowing {
                        link,
                        reassert_at: now,
                        challenger: None,
                    },
                    Some(Challenger::Asking { link, until }) => Upstream::Asking { link, until },
                    Some(Challenger::Refused { .. }) | None => over,
                };
            }
            Upstream::Flowing { challenger, .. } => {
                if challenger
                    .as_ref()
                    .is_some_and(|challenger| challenger.link() == link)
                {
                    *challenger = None;
                }
            }
            Upstream::Origin | Upstream::Idle { .. } | Upstream::Asking { .. } => {}
        }
    }

    /// The upstream is lost: the second takes its place, if it has accepted. `false` if none has.
    pub(super) fn promote_second(&mut self, now: Instant) -> bool {
        let (Upstream::Flowing { challenger, .. }, Some(Second::Accepted { link, .. })) =
            (&mut self.upstream, self.second)
        else {
            return false;
        };
        self.upstream = Upstream::Flowing {
            link,
            reassert_at: now,
            challenger: challenger.take(),
        };
        self.second = None;
        true
    }

    /// The second is a better upstream than the one there is: they change places, which nobody else notices.
    pub(super) fn swap_second(&mut self, now: Instant) {
        let (
            Upstream::Flowing {
                link: from,
                reassert_at,
                ..
            },
            Some(Second::Accepted {
                link: second,
                reassert_at: second_at,
                until,
            }),
        ) = (&mut self.upstream, &mut self.second)
        else {
            return;
        };
        std::mem::swap(from, second);
        std::mem::swap(reassert_at, second_at);
        *until = now + ANSWER_WAIT;
    }

    /// Whether it comes over one way alone: there is no other, or it was refused.
    pub(super) fn is_without_second(&self) -> bool {
        self.has_come && self.second.is_none() && matches!(self.upstream, Upstream::Flowing { .. })
    }

    /// Its state in the words that users see.
    pub(super) fn state(&self) -> FlowState {
        if self.consuming {
            FlowState::Active
        } else if self.granted().next().is_some() {
            FlowState::Streaming
        } else {
            FlowState::Hold
        }
    }

    /// Why it does not flow, or flows another way.
    pub(super) fn cause(&self, paths: Paths) -> Option<FlowCause> {
        if paths == Paths::Two && self.is_without_second() {
            let refused = self.avoided.values().next();
            return Some(FlowCause::OnePath {
                refused: refused.map(|(reason, _)| *reason),
            });
        }
        match &self.upstream {
            Upstream::Origin => None,
            Upstream::Flowing { link, .. } => {
                let (refused, (reason, _)) = self.avoided.iter().find(|(by, _)| *by != link)?;
                Some(FlowCause::Elsewhere {
                    link: *refused,
                    reason: *reason,
                })
            }
            Upstream::Asking { .. } => Some(FlowCause::Asked),
            Upstream::Idle { cause, .. } => {
                Some(cause.map_or(FlowCause::NoRoute, |reason| FlowCause::Refused { reason }))
            }
        }
    }

    /// When a child's request runs out. While the flow ends nobody says requests again, and whoever is fed stays fed.
    pub(super) fn expiry_of(&self, child: &Child) -> Option<Instant> {
        let is_fed_to_the_end = self.ending_at.is_some() && child.state == ChildState::Granted;
        (!is_fed_to_the_end).then_some(child.expires)
    }

    /// Notes since when the flow does not come though it is fed on, and since when who accepted is silent.
    pub(super) fn note_absence(&mut self, now: Instant) {
        let is_dry =
            !self.is_ready() && self.ending_at.is_none() && self.granted().next().is_some();
        self.dry_until = is_dry.then(|| self.dry_until.unwrap_or(now + ANSWER_DEADLINE));
        let asked: BTreeSet<LinkIndex> = self.asked().collect();
        self.delivering.retain(|link| asked.contains(link));
        self.unsaid.retain(|link| asked.contains(link));
        let link = match self.upstream {
            Upstream::Flowing { link, .. } if self.ending_at.is_none() => Some(link),
            _ => None,
        };
        let silent = link.filter(|link| !self.delivering.contains(link));
        self.silent = silent.map(|link| {
            let known = self.silent.filter(|silent| silent.link == link);
            known.unwrap_or(Silent {
                link,
                until: Some(now + STALLED_AFTER),
            })
        });
    }

    /// Whether who accepted has delivered nothing for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.silent.is_some_and(|silent| silent.until.is_none())
    }

    /// The flow was withdrawn: it is kept for as long as its last packets can be repaired.
    pub(super) fn end(&mut self, now: Instant) {
        self.ending_at = Some(now + ENDING.max(self.budget.time() + ENDING / 2));
    }

    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        let upstream = match &self.upstream {
            Upstream::Origin => None,
            // What ends asks for nothing more.
            _ if self.ending_at.is_some() => None,
            Upstream::Idle { retry_at, .. } => retry_at.map(|at| Wakeup {
                at,
                why: "ask again",
            }),
            Upstream::Asking { until, .. } => Some(Wakeup {
                at: *until,
                why: "answer",
            }),
            Upstream::Flowing {
                reassert_at,
                challenger,
                ..
            } => {
                let challenger = challenger.as_ref().map(Challenger::until);
                let challenger = challenger.map(|at| Wakeup {
                    at,
                    why: "challenger",
                });
                let reassert = Wakeup {
                    at: *reassert_at,
                    why: "say request again",
                };
                Wakeup::earlier(Some(reassert), challenger)
            }
        };
        let second = self.second.filter(|_| self.ending_at.is_none());
        let second = second.map(|second| second.wakeup(self.delivering.contains(&second.link())));
        let children = self.children.values().map(|child| {
            let expiry = self.expiry_of(child).map(|at| Wakeup {
                at,
                why: "request runs out",
            });
            match child.state {
                ChildState::Waiting { until, .. } => Wakeup::earlier(
                    Some(Wakeup {
                        at: until,
                        why: "answer child",
                    }),
                    expiry,
                ),
                ChildState::Granted => expiry,
            }
        });
        // What ends does not linger besides.
        let linger = self.linger_until.filter(|_| self.ending_at.is_none());
        let linger = linger.map(|at| Wakeup { at, why: "linger" });
        let ending = self.ending_at.map(|at| Wakeup { at, why: "ending" });
        // What ends asks nobody again either.
        let avoided = self.avoided.values().map(|(_, until)| *until);
        let avoided = avoided.min().filter(|_| self.ending_at.is_none());
        let avoided = avoided.map(|at| Wakeup {
            at,
            why: "a link may be asked again",
        });
        let dry = self.dry_until.map(|at| Wakeup {
            at,
            why: "refuse children of a dry flow",
        });
        let stalled = self.silent.and_then(|silent| silent.until);
        let stalled = stalled.map(|at| Wakeup { at, why: "stalled" });
        children
            .chain([linger, ending, avoided, dry, stalled, second])
            .fold(upstream, Wakeup::earlier)
    }
}
