//! The sending half: a flow's channels, one for each interface on which two or more children are.
//!
//! ```text
//!              two children on one interface       two hear probes
//!   (nothing) ─────────────────────────▶ Proving ─────────────────▶ Sending: said again each 125 ms
//!        ▲   no child left                 │  ▲   nobody got media by it for 5 s  │
//!        └─────────────────────────────────┴──┴───────────────────────────────────┘
//! ```
//!
//! A member that is offered a channel begins with its own copy. Probes are as large as the stream's packets, since
//! small ones pass where large ones do not. A channel that one member is left on goes on: its copy costs the same.
//! Called by [`super::Channels`]. Invariant: a child is `By` only while its flow is sent to a channel.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{ChannelEnd, ChannelOffer, ChannelReport, Hearing};
use levada_wire::datagram::site::probe::{Probe, Slot};
use levada_wire::lane::{Channel, FlowCommand};
use levada_wire::{FlowId, Instant, LinkIndex};

use super::around::Around;
use super::border::{Cause, Event, Mode, Output, Shape};
use crate::limits::{
    CHANNEL_LIFETIME, CHANNEL_RENEWAL, CHANNEL_UNHEARD, CHANNELS_OF_FLOW_MAX, PROBE_FIRST,
    PROBE_INTERVAL_MAX, PROBES_PER_TRAIN,
};

/// How a member gets the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// By its own copy.
    Own {
        /// It has heard probes.
        hears: bool,
        cause: Cause,
    },
    /// By the channel alone.
    By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Proving {
        train: u32,
        next: Instant,
        pause: Duration,
    },
    Sending {
        renew: Instant,
        /// Since when nobody gets the flow by it.
        unheard: Option<Instant>,
    },
}

/// One channel.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    pub(super) channel: Channel,
    pub(super) slot: Slot,
    pub(super) members: BTreeMap<LinkIndex, Member>,
    state: State,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending {
    pub(super) outlets: Vec<Outlet>,
}

impl Outlet {
    fn new(channel: Channel, now: Instant) -> Self {
        Self {
            channel,
            slot: Slot::A,
            members: BTreeMap::new(),
            state: State::Proving {
                train: 0,
                next: now + PROBE_FIRST,
                pause: PROBE_FIRST,
            },
        }
    }

    fn count(&self, is_counted: impl Fn(&Member) -> bool) -> usize {
        self.members
            .values()
            .filter(|member| is_counted(member))
            .count()
    }

    const fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending { .. })
    }

    /// Sends media there from now on.
    fn begin(&mut self, around: &mut Around, flow: FlowId) {
        self.state = State::Sending {
            renew: around.now + CHANNEL_RENEWAL,
            unheard: Some(around.now),
        };
        self.renew(around, flow);
    }

    fn renew(&self, around: &mut Around, flow: FlowId) {
        let add = FlowCommand::AddChannel {
            channel: self.channel,
            lifetime: CHANNEL_LIFETIME,
        };
        around.put(Output::Command(flow, add));
    }

    /// Does what is due.
    fn drive(&mut self, around: &mut Around, shape: &Shape) {
        let now = around.now;
        let is_heard = self.count(|member| *member == Member::By) > 0;
        match &mut self.state {
            State::Proving { train, next, pause } if *next <= now => {
                *train += 1;
                *next = now + *pause;
                *pause = (*pause * 2).min(PROBE_INTERVAL_MAX);
                let train = *train;
                self.probe(around, shape, train);
            }
            State::Sending { renew, unheard } => {
                *unheard = if is_heard {
                    None
                } else {
                    unheard.or(Some(now))
                };
                let is_over = unheard.is_some_and(|since| since + CHANNEL_UNHEARD <= now);
                if is_over {
                    self.state = State::Proving {
                        train: 0,
                        next: now + PROBE_INTERVAL_MAX,
                        pause: PROBE_INTERVAL_MAX,
                    };
                    for member in self.members.values_mut() {
                        if let Member::Own { hears, .. } = member {
                            *hears = false;
                        }
                    }
                    let remove = FlowCommand::RemoveChannel(self.channel);
                    around.put(Output::Command(shape.flow, remove));
                } else if *renew <= now {
                    *renew = now + CHANNEL_RENEWAL;
                    self.renew(around, shape.flow);
                }
            }
            State::Proving { .. } => {}
        }
    }

    fn probe(&self, around: &mut Around, shape: &Shape, train: u32) {
        for sequence in 0..PROBES_PER_TRAIN {
            let probe = Probe {
                flow: shape.flow,
                train,
                sequence,
                count: PROBES_PER_TRAIN,
                slot: self.slot,
                size: shape.packet_size,
            };
            around.put(Output::Probe {
                interface: self.channel.interface.index,
                to: self.channel.address,
                probe,
            });
        }
    }

    /// A member that was left out of the copies of its own gets one again, or a child is a member no more.
    fn let_go(
        &self,
        around: &mut Around,
        flow: FlowId,
        link: LinkIndex,
        report: Option<&ChannelReport>,
    ) {
        around.put(Output::Command(
            flow,
            FlowCommand::RemoveMember {
                channel: self.channel,
                link,
            },
        ));
        around.put(Output::ByChannel {
            flow,
            link,
            is_so: false,
            have: report.and_then(|report| report.have),
        });
    }

    /// Ends all of it.
    fn end(&mut self, around: &mut Around, shape: &Shape) {
        let flow = shape.flow;
        for (link, member) in std::mem::take(&mut self.members) {
            if member == Member::By {
                self.let_go(around, flow, link, None);
            }
            let end = ChannelEnd {
                flow,
                slot: self.slot,
            };
            around.put(Output::Send(link, FlowMessage::ChannelEnd(end)));
        }
        if self.is_sending() {
            around.put(Output::Command(
                flow,
                FlowCommand::RemoveChannel(self.channel),
            ));
        }
    }

    fn wakes_at(&self) -> Instant {
        match self.state {
            State::Proving { next, .. } => next,
            State::Sending { renew, unheard } => {
                let unheard = unheard.map(|since| since + CHANNEL_UNHEARD);
                unheard.map_or(renew, |at| at.min(renew))
            }
        }
    }
}

impl Sending {
    pub(super) const fn is_idle(&self) -> bool {
        self.outlets.is_empty()
    }

    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.outlets.iter().map(Outlet::wakes_at).min()
    }

    /// How a child gets the flow, if it was offered a channel.
    pub(super) fn member(&self, link: LinkIndex) -> Option<(&Outlet, Member)> {
        self.outlets.iter().find_map(|outlet| {
            let member = outlet.members.get(&link)?;
            Some((outlet, *member))
        })
    }

    pub(super) fn on_link_down(&mut self, link: LinkIndex) {
        for outlet in &mut self.outlets {
            outlet.members.remove(&link);
        }
    }

    /// Makes channels follow the children.
    pub(super) fn settle(&mut self, around: &mut Around, shape: &Shape) {
        let mut groups: BTreeMap<Channel, Vec<LinkIndex>> = BTreeMap::new();
        for link in &shape.to {
            if let Some((peer, local)) = around.local(*link).filter(|(_, local)| local.is_wired)
                && let Some(channel) = around.channel(shape.flow, Slot::A, peer, local)
            {
                groups.entry(channel).or_default().push(*link);
            }
        }
        let keep = |outlet: &Outlet| {
            let group = groups.get(&outlet.channel).map_or(0, Vec::len);
            group >= 2 || group == 1 && outlet.count(|member| *member == Member::By) > 0
        };
        let (kept, ended) = std::mem::take(&mut self.outlets)
            .into_iter()
            .partition(keep);
        self.outlets = kept;
        for mut outlet in Vec::from_iter::<Vec<Outlet>>(ended) {
            outlet.end(around, shape);
        }
        for (channel, group) in groups {
            self.settle_group(around, shape, channel, &group);
        }
        for outlet in &mut self.outlets {
            outlet.drive(around, shape);
        }
    }

    fn settle_group(
        &mut self,
        around: &mut Around,
        shape: &Shape,
        channel: Channel,
        group: &[LinkIndex],
    ) {
        let known = self.outlets.iter().position(|one| one.channel == channel);
        let place = match known {
            Some(place) => place,
            None if group.len() >= 2 && self.outlets.len() < CHANNELS_OF_FLOW_MAX => {
                self.outlets.push(Outlet::new(channel, around.now));
                self.outlets.len() - 1
            }
            None => return,
        };
        let outlet = &mut self.outlets[place];
        let gone: Vec<LinkIndex> = outlet
            .members
            .keys()
            .filter(|link| !group.contains(link))
            .copied()
            .collect();
        for link in gone {
            if outlet.members.remove(&link) == Some(Member::By) {
                outlet.let_go(around, shape.flow, link, None);
            }
        }
        for link in group {
            if outlet.members.contains_key(link) {
                continue;
            }
            let cause = Cause::Proving;
            outlet.members.insert(
                *link,
                Member::Own {
                    hears: false,
                    cause,
                },
            );
            let offer = ChannelOffer {
                flow: shape.flow,
                slot: outlet.slot,
            };
            around.put(Output::Send(*link, FlowMessage::ChannelOffer(offer)));
        }
    }

    /// A child says what it hears.
    pub(super) fn on_report(
        &mut self,
        around: &mut Around,
        shape: &Shape,
        link: LinkIndex,
        report: &ChannelReport,
    ) {
        let flow = shape.flow;
        let outlet = self.outlets.iter_mut();
        let mut outlet = outlet.filter(|one| one.slot == report.slot);
        let Some(outlet) = outlet.find(|one| one.members.contains_key(&link)) else {
            return;
        };
        let is_sending = outlet.is_sending();
        let Some(member) = outlet.members.get_mut(&link) else {
            return;
        };
        let before = *member;
        match report.hearing {
            Hearing::Probes => {
                if let Member::Own { hears, .. } = member {
                    *hears = true;
                }
            }
            Hearing::Media if is_sending => *member = Member::By,
            Hearing::Media => return,
            other => {
                *member = Member::Own {
                    hears: false,
                    cause: cause_of(other),
                };
            }
        }
        let after = *member;
        if before != Member::By && after == Member::By {
            around.put(Output::Command(
                flow,
                FlowCommand::AddMember {
                    channel: outlet.channel,
                    link,
                },
            ));
            let (is_so, have) = (true, None);
            around.put(Output::ByChannel {
                flow,
                link,
                is_so,
                have,
            });
        } else if before == Member::By && after != Member::By {
            outlet.let_go(around, flow, link, Some(report));
        }
        tell(around, shape, link, before, after);
        let hearers = outlet.count(|member| matches!(member, Member::Own { hears: true, .. }));
        if !is_sending && hearers >= 2 {
            outlet.begin(around, flow);
        }
    }

    /// The lane has ended a channel that was not renewed in time, since this node was late.
    pub(super) fn on_ended(&self, around: &mut Around, flow: FlowId, channel: Channel) {
        let outlet = self.outlets.iter().find(|one| one.channel == channel);
        let Some(outlet) = outlet.filter(|one| one.is_sending()) else {
            return;
        };
        outlet.renew(around, flow);
        let members = outlet.members.iter();
        for (link, _) in members.filter(|(_, member)| **member == Member::By) {
            let link = *link;
            around.put(Output::Command(
                flow,
                FlowCommand::AddMember { channel, link },
            ));
        }
    }
}

/// Tells the user who gets a stream in another way.
fn tell(around: &mut Around, shape: &Shape, link: LinkIndex, before: Member, after: Member) {
    let mode = |member: Member| match member {
        Member::By => (Mode::Multicast, Cause::Heard),
        Member::Own { cause, .. } => (Mode::Unicast, cause),
    };
    let (was, (mode, cause)) = (mode(before), mode(after));
    if was == (mode, cause) {
        return;
    }
    let Some(peer) = around.peers.get(&link) else {
        return;
    };
    let event = Event::ModeChanged {
        name: shape.name.clone(),
        receiver: peer.node,
        mode,
        cause,
    };
    around.put(Output::Event(event));
}

const fn cause_of(hearing: Hearing) -> Cause {
    match hearing {
        Hearing::Silent => Cause::Silent,
        Hearing::Lossy => Cause::Lossy { permille: 0 },
        Hearing::Unjoined => Cause::Unjoined,
        Hearing::Unfit => Cause::NotWired,
        _ => Cause::Other,
    }
}
