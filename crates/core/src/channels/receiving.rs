//! The receiving half: what a flow's parent offers, and how well it is heard.
//!
//! ```text
//!                 offered, and the flow comes from there
//!   (nothing) ──────────────────────────────────────────▶ Listening ── heard, and all that was before is here ─▶ By
//!                                                            ▲  probes or media are heard meanwhile              │
//!                                                            └── nothing comes: silent; more than 5% lost: lossy ┘
//!                                                                and so it stays for 2 s, twice as long each time
//! ```
//!
//! Whoever leaves the channel first asks its lane how far it has come, and says that with the reason: the parent's copy
//! goes on there. It goes on listening. Called by [`super::Channels`]. Invariant: at most one channel of a flow is
//! joined.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{ChannelReport, Hearing};
use levada_wire::datagram::site::probe::{Probe, Slot};
use levada_wire::lane::{Channel, FlowCommand, FlowEvent, Heard};
use levada_wire::{FlowId, Instant, LinkIndex, NodeId};

use super::around::Around;
use super::border::{Cause, Event, Mode, Output, Shape};
use crate::limits::{
    CHANNEL_AGAIN, CHANNEL_AGAIN_MAX, CHANNEL_JUDGED, CHANNEL_JUDGED_PACKETS, CHANNEL_LOSS_PART,
    CHANNEL_STEADY, OFFERS_OF_FLOW_MAX,
};

/// A channel that is listened to.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    link: LinkIndex,
    pub(super) channel: Channel,
    slot: Slot,
    state: State,
    /// It could not be joined.
    is_deaf: bool,
    /// The train of probes that is heard at present, and how much of it.
    train: (u32, u16),
    has_heard_probes: bool,
    /// What is said once the lane has told how far it has come.
    unsaid: Option<Hearing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The flow comes by this node's own copy.
    Listening,
    /// It comes by the channel alone.
    By {
        since: Instant,
        /// When the counts were last judged, and what they are since.
        judged: Instant,
        packets: u64,
        lost: u64,
    },
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Receiving {
    offers: BTreeMap<LinkIndex, Slot>,
    pub(super) joined: Option<Joined>,
    /// Why it comes by unicast; none before anything was found out.
    cause: Option<Cause>,
    /// It is not tried again before, and how long that was.
    again: Option<(Instant, Duration)>,
}

impl Receiving {
    pub(super) fn links(&self) -> impl Iterator<Item = LinkIndex> + '_ {
        self.offers.keys().copied()
    }

    pub(super) fn wakes_at(&self) -> Option<Instant> {
        None
    }

    /// How the flow comes, and why.
    pub(super) fn mode(&self) -> (Mode, Cause) {
        let state = self.joined.as_ref().map(|joined| joined.state);
        match state {
            Some(State::By { .. }) => (Mode::Multicast, Cause::Heard),
            _ => (Mode::Unicast, self.cause.unwrap_or(Cause::Proving)),
        }
    }

    pub(super) fn on_offer(&mut self, link: LinkIndex, slot: Slot) {
        if self.offers.len() < OFFERS_OF_FLOW_MAX || self.offers.contains_key(&link) {
            self.offers.insert(link, slot);
        }
    }

    pub(super) fn on_end(&mut self, link: LinkIndex, slot: Slot) {
        if self.offers.get(&link) == Some(&slot) {
            self.offers.remove(&link);
        }
    }

    pub(super) fn on_link_down(&mut self, link: LinkIndex) {
        self.offers.remove(&link);
    }

    /// Listens to what the flow's parent offers, and to nothing else.
    pub(super) fn settle(&mut self, around: &mut Around, shape: &Shape) {
        let wanted = shape.from.and_then(|link| {
            let slot = *self.offers.get(&link)?;
            let (peer, local) = around.local(link).filter(|(_, local)| local.is_wired)?;
            let channel = around.channel(shape.flow, slot, peer, local)?;
            Some((link, slot, channel))
        });
        let is_same = |joined: &Joined| wanted == Some((joined.link, joined.slot, joined.channel));
        if self.joined.as_ref().is_some_and(is_same) {
            return;
        }
        if let Some(joined) = self.joined.take().filter(|joined| !joined.is_deaf) {
            around.put(Output::Command(
                shape.flow,
                FlowCommand::Leave(joined.channel),
            ));
        }
        let Some((link, slot, channel)) = wanted else {
            return;
        };
        around.put(Output::Command(shape.flow, FlowCommand::Join(channel)));
        self.joined = Some(Joined {
            link,
            channel,
            slot,
            state: State::Listening,
            is_deaf: false,
            train: (0, 0),
            has_heard_probes: false,
            unsaid: None,
        });
    }

    /// A probe was heard: with most of a train, the parent is told once.
    pub(super) fn on_probe(&mut self, around: &mut Around, sender: NodeId, probe: Probe) {
        let is_held = self.is_held(around.now);
        let Some(joined) = self
            .joined
            .as_mut()
            .filter(|joined| joined.slot == probe.slot)
        else {
            return;
        };
        let is_parent = around
            .peers
            .get(&joined.link)
            .is_some_and(|peer| peer.node == sender);
        if !is_parent {
            return;
        }
        let heard = if joined.train.0 == probe.train {
            joined.train.1 + 1
        } else {
            1
        };
        joined.train = (probe.train, heard);
        if heard >= probe.count.div_ceil(2) && !joined.has_heard_probes && !is_held {
            joined.has_heard_probes = true;
            say(around, probe.flow, joined, Hearing::Probes, None);
        }
    }

    fn is_held(&self, now: Instant) -> bool {
        self.again.is_some_and(|(until, _)| now < until)
    }

    pub(super) fn on_lane(
        &mut self,
        around: &mut Around,
        (me, shape): (NodeId, &Shape),
        event: &FlowEvent,
    ) {
        let flow = shape.flow;
        let before = self.mode();
        let Some(joined) = &mut self.joined else {
            return;
        };
        match event {
            FlowEvent::Heard(heard) if heard.link == joined.link => {
                self.on_heard(around, flow, heard)
            }
            FlowEvent::Suspect(link) if *link == joined.link => {
                if let State::By { .. } = joined.state {
                    self.go_back(around, flow, Hearing::Silent, Cause::Silent);
                }
            }
            FlowEvent::Reached { link, have } if *link == joined.link => {
                if let Some(hearing) = joined.unsaid.take() {
                    say(around, flow, joined, hearing, *have);
                }
            }
            FlowEvent::CannotJoin(channel) if *channel == joined.channel => {
                joined.is_deaf = true;
                self.go_back(around, flow, Hearing::Unjoined, Cause::Unjoined);
            }
            _ => {}
        }
        let (mode, cause) = self.mode();
        if (mode, cause) != before {
            let event = Event::ModeChanged {
                name: shape.name.clone(),
                receiver: me,
                mode,
                cause,
            };
            around.put(Output::Event(event));
        }
    }

    fn on_heard(&mut self, around: &mut Around, flow: FlowId, heard: &Heard) {
        let now = around.now;
        let is_held = self.is_held(now);
        let Some(joined) = &mut self.joined else {
            return;
        };
        match &mut joined.state {
            State::Listening => {
                let is_well = heard.lost * CHANNEL_LOSS_PART <= heard.packets + heard.lost;
                if is_well && heard.is_whole && !is_held && joined.unsaid.is_none() {
                    joined.state = State::By {
                        since: now,
                        judged: now,
                        packets: 0,
                        lost: 0,
                    };
                    self.cause = None;
                    say(around, flow, joined, Hearing::Media, None);
                }
            }
            State::By {
                since,
                judged,
                packets,
                lost,
            } => {
                *packets += heard.packets;
                *lost += heard.lost;
                let all = *packets + *lost;
                if now.since(*since) > CHANNEL_STEADY {
                    self.again = None;
                }
                if now.since(*judged) < CHANNEL_JUDGED || all < CHANNEL_JUDGED_PACKETS {
                    return;
                }
                if *lost * CHANNEL_LOSS_PART > all {
                    let permille = u16::try_from(*lost * 1_000 / all).unwrap_or(1_000);
                    return self.go_back(around, flow, Hearing::Lossy, Cause::Lossy { permille });
                }
                (*judged, *packets, *lost) = (now, 0, 0);
            }
        }
    }

    /// Wants a copy of its own again.
    fn go_back(&mut self, around: &mut Around, flow: FlowId, hearing: Hearing, cause: Cause) {
        let before = self.again.map(|(_, lasted)| lasted * 2);
        let lasts = before.unwrap_or(CHANNEL_AGAIN).min(CHANNEL_AGAIN_MAX);
        self.again = Some((around.now + lasts, lasts));
        self.cause = Some(cause);
        let Some(joined) = &mut self.joined else {
            return;
        };
        joined.state = State::Listening;
        joined.has_heard_probes = false;
        joined.unsaid = Some(hearing);
        around.put(Output::Command(flow, FlowCommand::Reach(joined.link)));
    }
}

fn say(
    around: &mut Around,
    flow: FlowId,
    joined: &Joined,
    hearing: Hearing,
    have: Option<levada_wire::Number>,
) {
    let report = ChannelReport {
        flow,
        slot: joined.slot,
        hearing,
        have,
    };
    around.put(Output::Send(
        joined.link,
        FlowMessage::ChannelReport(report),
    ));
}
