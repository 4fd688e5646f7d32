//! Channels: which flows go by multicast on a LAN, and who of their receivers gets them that way.
//!
//! ```text
//!  Shape: two children on one interface ─▶ sending: offer, probe, send, renew ──▶ AddChannel, AddMember, ByChannel
//!  Offer of the flow's parent ───────────▶ receiving: join, listen, judge ──────▶ Join, Leave, reports
//! ```
//!
//! Every receiver gets a flow by unicast first and is measured always. Whoever hears the channel well, and has all that
//! was before, says so, and its own copy ends; whoever hears nothing or too little says that, and its own copy goes on
//! behind what it has. Not who is on the LAN (`site`), nor who wants a flow (`flow`), nor packets: the lanes obey.
//! Called by `Control`. Invariant: a child that asked for a copy of its own has one, and nothing is sent to a channel
//! that nobody on the LAN said to hear.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use levada_wire::lane::FlowEvent;
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::{FlowId, Instant, LinkIndex, NodeId};

mod around;
mod border;
mod receiving;
mod rows;
mod sending;
#[cfg(test)]
mod tests;

use around::{Around, Peer};
pub use border::{Cause, Event, Input, Local, Message, Mode, Output, Shape};
use receiving::Receiving;
use sending::Sending;

/// See the module's head.
#[derive(Debug)]
pub struct Channels {
    around: Around,
    me: NodeId,
    shapes: BTreeMap<FlowId, Shape>,
    /// The flows of each link, both ways.
    by_link: BTreeMap<LinkIndex, BTreeSet<FlowId>>,
    sending: BTreeMap<FlowId, Sending>,
    receiving: BTreeMap<FlowId, Receiving>,
    wakeups: BTreeSet<(Instant, FlowId)>,
    wakes_at: BTreeMap<FlowId, Instant>,
}

impl Machine for Channels {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Begin(network, site) => {
                self.around.site.get_or_insert((network, site));
            }
            Input::LinkUp { link, peer, remote } => {
                let peer = Peer { node: peer, remote };
                self.around.peers.insert(link, peer);
            }
            Input::LinkDown(link) => self.on_link_down(link),
            Input::Local { peer, at } => self.on_local(peer, at),
            Input::Shape(shape) => self.on_shape(shape),
            Input::Message(link, message) => self.on_message(link, &message),
            Input::Lane(flow, event) => self.on_lane(flow, &event),
            Input::Probe { sender, probe } => {
                let flow = probe.flow;
                if let Some(receiving) = self.receiving.get_mut(&flow) {
                    receiving.on_probe(&mut self.around, sender, probe);
                }
                self.schedule(flow);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.around.now = self.around.now.max(now);
        while let Some(&(at, flow)) = self.wakeups.first() {
            if at > self.around.now {
                break;
            }
            self.settle(flow);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.around.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let &(at, _) = self.wakeups.first()?;
        let why = "a multicast channel";
        Some(Wakeup { at, why })
    }
}

impl Channels {
    /// None yet.
    #[must_use]
    pub const fn new(me: NodeId) -> Self {
        Self {
            around: Around::new(),
            me,
            shapes: BTreeMap::new(),
            by_link: BTreeMap::new(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            wakeups: BTreeSet::new(),
            wakes_at: BTreeMap::new(),
        }
    }

    fn on_link_down(&mut self, link: LinkIndex) {
        self.around.peers.remove(&link);
        for flow in self.by_link.remove(&link).unwrap_or_default() {
            if let Some(shape) = self.shapes.get_mut(&flow) {
                shape.to.remove(&link);
                shape.from = shape.from.filter(|from| *from != link);
            }
            if let Some(sending) = self.sending.get_mut(&flow) {
                sending.on_link_down(link);
            }
            if let Some(receiving) = self.receiving.get_mut(&flow) {
                receiving.on_link_down(link);
            }
            self.settle(flow);
        }
    }

    fn on_local(&mut self, peer: NodeId, at: Option<Local>) {
        match at {
            Some(local) => self.around.local.insert(peer, local),
            None => self.around.local.remove(&peer),
        };
        let links = self.around.peers.iter();
        let links = links.filter(|(_, other)| other.node == peer);
        let links: Vec<LinkIndex> = links.map(|(link, _)| *link).collect();
        let flows = links.iter().filter_map(|link| self.by_link.get(link));
        let flows: BTreeSet<FlowId> = flows.flatten().copied().collect();
        for flow in flows {
            self.settle(flow);
        }
    }

    fn on_shape(&mut self, shape: Shape) {
        let flow = shape.flow;
        if self.around.site.is_none() {
            return;
        }
        if let Some(before) = self.shapes.remove(&flow) {
            for link in links_of(&before) {
                self.unlink(link, flow);
            }
        }
        for link in links_of(&shape) {
            self.by_link.entry(link).or_default().insert(flow);
        }
        let is_idle = shape.from.is_none() && shape.to.is_empty();
        if shape.is_here {
            self.shapes.insert(flow, shape);
            self.settle(flow);
        }
        if is_idle {
            self.shapes.remove(&flow);
            self.settle(flow);
        }
        // What a link offered of a flow is remembered for as long as the link has to do with it.
        if let Some(receiving) = self.receiving.get(&flow) {
            for link in receiving.links() {
                self.by_link.entry(link).or_default().insert(flow);
            }
        }
    }

    fn unlink(&mut self, link: LinkIndex, flow: FlowId) {
        if let Some(flows) = self.by_link.get_mut(&link) {
            flows.remove(&flow);
            if flows.is_empty() {
                self.by_link.remove(&link);
            }
        }
    }

    fn on_message(&mut self, link: LinkIndex, message: &Message) {
        if self.around.site.is_none() || !self.around.peers.contains_key(&link) {
            return;
        }
        let flow = match message {
            Message::Offer(offer) => {
                // One of a flow that is not here has crossed its cancel.
                if !self.shapes.contains_key(&offer.flow) {
                    return;
                }
                let receiving = self.receiving.entry(offer.flow).or_default();
                receiving.on_offer(link, offer.slot);
                self.by_link.entry(link).or_default().insert(offer.flow);
                offer.flow
            }
            Message::End(end) => {
                if let Some(receiving) = self.receiving.get_mut(&end.flow) {
                    receiving.on_end(link, end.slot);
                }
                end.flow
            }
            Message::Report(report) => {
                if let Some(sending) = self.sending.get_mut(&report.flow)
                    && let Some(shape) = self.shapes.get(&report.flow)
                {
                    sending.on_report(&mut self.around, shape, link, report);
                }
                report.flow
            }
        };
        self.settle(flow);
    }

    fn on_lane(&mut self, flow: FlowId, event: &FlowEvent) {
        match event {
            FlowEvent::ChannelEnded(channel) => {
                if let Some(sending) = self.sending.get_mut(&flow) {
                    sending.on_ended(&mut self.around, flow, *channel);
                }
            }
            FlowEvent::Heard(_)
            | FlowEvent::Suspect(_)
            | FlowEvent::Reached { .. }
            | FlowEvent::CannotJoin(_) => {
                if let Some(receiving) = self.receiving.get_mut(&flow)
                    && let Some(shape) = self.shapes.get(&flow)
                {
                    receiving.on_lane(&mut self.around, (self.me, shape), event);
                }
            }
            _ => return,
        }
        self.schedule(flow);
    }

    /// Makes both halves of a flow follow what is wanted.
    fn settle(&mut self, flow: FlowId) {
        match self.shapes.get(&flow) {
            Some(shape) => {
                let has_children = !shape.to.is_empty();
                if has_children || self.sending.contains_key(&flow) {
                    let sending = self.sending.entry(flow).or_default();
                    sending.settle(&mut self.around, shape);
                    if sending.is_idle() {
                        self.sending.remove(&flow);
                    }
                }
                if let Some(receiving) = self.receiving.get_mut(&flow) {
                    receiving.settle(&mut self.around, shape);
                }
            }
            None => {
                self.sending.remove(&flow);
                self.receiving.remove(&flow);
            }
        }
        self.schedule(flow);
    }

    fn schedule(&mut self, flow: FlowId) {
        let sending = self.sending.get(&flow).and_then(Sending::wakes_at);
        let receiving = self.receiving.get(&flow).and_then(Receiving::wakes_at);
        let at = sending.into_iter().chain(receiving).min();
        if let Some(before) = self.wakes_at.remove(&flow) {
            self.wakeups.remove(&(before, flow));
        }
        if let Some(at) = at {
            let at = at.max(self.around.now + Duration::from_micros(1));
            self.wakes_at.insert(flow, at);
            self.wakeups.insert((at, flow));
        }
    }
}

fn links_of(shape: &Shape) -> impl Iterator<Item = LinkIndex> {
    shape.from.into_iter().chain(shape.to.iter().copied())
}
