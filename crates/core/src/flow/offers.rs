//! Announces: of streams published at this node, and of streams published elsewhere.
//!
//! Not requests for them (`requests`). Called by [`Flows`]. Invariant: what is published here is in the catalogue
//! and has a flow per layer whose upstream is [`Upstream::Origin`].

use std::collections::BTreeMap;
use std::sync::Arc;

use levada_wire::announce::{Announce, LayerOffer, SignedAnnounce, SignedWithdraw, Withdraw};
use levada_wire::control::flow::{COLLECTION_MAX, InstanceRef};
use levada_wire::control::{FlowMessage, flow as message};
use levada_wire::key::{CarrySecret, ContentSecret};
use levada_wire::lane::{FlowCommand, Originate};
use levada_wire::{Bitrate, FlowId, InstanceId, LinkIndex, StreamName};
use rand_core::Rng as _;

use super::carried::{Carried, Upstream};
use super::catalogue::{Back, FlowOffer, Freshness, instance_of};
use super::peak::Peak;
use super::published::Published;
use super::{Flows, Output};
use crate::api::{Event, Offer};
use crate::limits::PEAK_WARNING;

impl Flows {
    pub(super) fn on_publish(&mut self, offer: Offer) {
        self.on_unpublish(&offer.name);
        let mut instance = [0; 16];
        self.rng.fill_bytes(&mut instance);
        let mut announce = Announce {
            origin: self.me,
            name: offer.name.clone(),
            instance: InstanceId(instance),
            group_base: offer.wall.as_group_base(),
            version: 1,
            suite: offer.suite,
            packet_size: offer.packet_size,
            layers: offer.layers.clone(),
            carry: None,
        };
        let (mut secret, mut carry) = ([0; 32], [0; 32]);
        self.rng.fill_bytes(&mut secret);
        self.rng.fill_bytes(&mut carry);
        let carry = CarrySecret::from_bytes(carry);
        let flows = announce
            .layers
            .iter()
            .map(|layer| announce.flow(layer.layer));
        announce.carry = Some(flows.map(|flow| carry.carry_end(flow)).collect());
        if !announce.is_within_limits() {
            // Every neighbour would refuse the statement. The caller sees that nothing is originated.
            return;
        }
        let published = Published {
            of: instance_of(&announce),
            epoch: 0,
            secret: ContentSecret::from_bytes(secret),
            grants: BTreeMap::new(),
            carry,
            announce: announce.clone(),
            peaks: measured_peaks(&announce.layers, offer.is_measured),
            warned_at: None,
            not_listed_at: None,
        };
        for layer in &announce.layers {
            self.originate(&offer, &published, layer);
        }
        let first = self.published.is_empty();
        self.published.insert(offer.name, published);
        if first {
            self.outputs.push_back(Output::Originate(true));
        }
        self.on_announce(None, SignedAnnounce::sign(announce, &self.identity));
    }

    fn originate(&mut self, offer: &Offer, published: &Published, layer: &LayerOffer) {
        let of = published.of.clone();
        let mut carried = Carried::new(FlowOffer {
            of,
            layer: layer.layer,
            suite: offer.suite,
            peak: layer.peak,
            packet_size: offer.packet_size,
            carry: None,
        });
        let flow = carried.flow();
        let carry = published.carry.carry_key_in(flow, published.epoch);
        carried.upstream = Upstream::Origin;
        carried.key = Some((published.epoch, carry.clone()));
        self.carried.insert(carried);
        self.event(Event::Published {
            name: offer.name.clone(),
            layer: layer.layer,
            flow,
        });
        let originate = Originate {
            instance: published.of.instance,
            suite: offer.suite,
            epoch: published.epoch,
            secret: published.secret.clone(),
            carry,
            packet_size: offer.packet_size,
            description: Arc::clone(&offer.description),
            flush_interval: offer.flush_interval,
        };
        self.command(flow, FlowCommand::Originate(Box::new(originate)));
        let peak = layer.peak;
        self.command(flow, FlowCommand::SetPeak(peak));
    }

    pub(super) fn on_revise(&mut self, name: &StreamName, mut layers: Vec<LayerOffer>) {
        let Some(published) = self.published.get_mut(name) else {
            return;
        };
        // The set of layers is the instance's: only what is in them may change.
        let same = |a: &[LayerOffer], b: &[LayerOffer]| {
            a.iter()
                .map(|offer| offer.layer)
                .eq(b.iter().map(|offer| offer.layer))
        };
        if !same(&published.announce.layers, &layers) {
            return;
        }
        if !published.peaks.is_empty() {
            for (layer, before) in layers.iter_mut().zip(&published.announce.layers) {
                layer.peak = before.peak;
            }
        }
        self.announce_anew(name, layers);
    }

    /// What was made of one of this node's flows in a second.
    pub(super) fn on_measured(&mut self, flow: FlowId, rate: Bitrate) {
        let Some(carried) = self.carried.get(flow).filter(|carried| carried.is_origin()) else {
            return;
        };
        let (name, layer) = (carried.of.name.clone(), carried.layer);
        let own = self.published.get_mut(&name);
        let Some(published) = own.filter(|own| own.of == carried.of) else {
            return;
        };
        let mut layers = published.announce.layers.clone();
        let Some(at) = layers.iter().position(|offer| offer.layer == layer) else {
            return;
        };
        let Some(peak) = published.peaks.get_mut(at) else {
            let peak = layers[at].peak;
            let is_told = published
                .warned_at
                .is_some_and(|at| self.now < at + PEAK_WARNING);
            if rate > peak && !is_told {
                published.warned_at = Some(self.now);
                self.event(Event::PeakExceeded { name, peak, rate });
            }
            return;
        };
        if let Some(peak) = peak.measured(self.now, rate) {
            layers[at].peak = peak;
            self.announce_anew(&name, layers);
        }
    }

    fn announce_anew(&mut self, name: &StreamName, layers: Vec<LayerOffer>) {
        let Some(published) = self.published.get_mut(name) else {
            return;
        };
        let version = published.announce.version + 1;
        let revised = Announce {
            layers,
            version,
            ..published.announce.clone()
        };
        if !revised.is_within_limits() {
            return;
        }
        published.announce = revised;
        let statement = SignedAnnounce::sign(published.announce.clone(), &self.identity);
        self.on_announce(None, statement);
    }

    pub(super) fn on_unpublish(&mut self, name: &StreamName) {
        let Some(published) = self.published.remove(name) else {
            return;
        };
        let InstanceRef {
            origin,
            name,
            instance,
        } = published.of;
        let withdraw = Withdraw {
            origin,
            name,
            instance,
        };
        self.on_withdraw(None, SignedWithdraw::sign(withdraw, &self.identity));
        if self.published.is_empty() {
            self.outputs.push_back(Output::Originate(false));
        }
    }

    /// Takes news of a stream, from a neighbour or from this node itself, and passes them on.
    pub(super) fn on_announce(&mut self, from: Option<LinkIndex>, statement: SignedAnnounce) {
        let announce = statement.content();
        let own = announce.origin == self.me;
        let current = self.published.get(&announce.name);
        if own && current.map(|published| &published.of) != Some(&instance_of(announce)) {
            self.on_former_life(from, &instance_of(announce));
            return;
        }
        let name = announce.name.clone();
        match self
            .catalogue
            .take(&statement, own, self.intake.teller(from))
        {
            Freshness::New => {
                self.subscriptions.touch_name(&name);
                let announce = statement.content();
                for offer in &announce.layers {
                    self.on_peak(announce.flow(offer.layer), offer.peak);
                }
                let origin = announce.origin;
                let reachable = self.distance_to(&origin).is_finite();
                if !reachable {
                    self.catalogue.note_unreachable(self.now, &name, origin);
                }
                self.tell_all();
                self.watched.mark(&name, origin);
                self.event(Event::StreamsChanged { name });
            }
            Freshness::Withdrawn => {
                if let Some(link) = from {
                    self.correct(link, statement.content());
                }
            }
            Freshness::Full => {
                if let Some(link) = from {
                    self.on_full(link, statement.content());
                }
            }
            Freshness::Stale => {}
        }
    }

    /// Tells a neighbour that was away what became of a stream: that it was withdrawn, and what took its place. The
    /// neighbour may have refused that as older, before it knew of the withdraw.
    fn correct(&mut self, link: LinkIndex, announce: &Announce) {
        let (withdraw, successor) = self.catalogue.after(announce);
        if let Some(statement) = withdraw {
            self.send(link, FlowMessage::Withdraw(message::Withdraw { statement }));
        }
        if let Some(statement) = successor {
            self.send(link, FlowMessage::Announce(message::Announce { statement }));
        }
    }

    /// A neighbour wonders what became of a stream.
    pub(super) fn on_doubt(&mut self, link: LinkIndex, announce: &Announce) {
        let of = instance_of(announce);
        let current = self.published.get(&of.name).map(|published| &published.of);
        if of.origin == self.me && current != Some(&of) {
            self.on_former_life(Some(link), &of);
        } else if self.catalogue.is_withdrawn(announce) {
            self.correct(link, announce);
        }
    }

    /// Streams that were out of reach can be reached again, over `link`. Whoever is there is asked what became of them;
    /// whoever was told of them as doubts is told that they are none.
    pub(super) fn on_back(&mut self, link: LinkIndex, back: Vec<Back>) {
        for part in back.chunks(COLLECTION_MAX) {
            let statements = part.iter().map(|one| one.statement.clone()).collect();
            self.send(link, FlowMessage::Doubts(message::Doubts { statements }));
        }
        for Back { statement, doubted } in back {
            for neighbour in doubted {
                if neighbour != link && self.neighbours.contains_key(&neighbour) {
                    let statement = statement.clone();
                    let announce = message::Announce { statement };
                    self.send(neighbour, FlowMessage::Announce(announce));
                }
            }
        }
    }

    /// A former life of this node speaks through a neighbour: it is over. The neighbour passes that on.
    fn on_former_life(&mut self, from: Option<LinkIndex>, of: &InstanceRef) {
        let Some(link) = from else {
            return;
        };
        let InstanceRef {
            origin,
            name,
            instance,
        } = of.clone();
        let current = self
            .published
            .get(&name)
            .map(|published| published.announce.clone());
        let withdraw = Withdraw {
            origin,
            name,
            instance,
        };
        let statement = SignedWithdraw::sign(withdraw, &self.identity);
        self.send(link, FlowMessage::Withdraw(message::Withdraw { statement }));
        // Whoever held the former instance for the newer one (equal clocks, or a clock set back) did not take the
        // present one: it is said again, behind the withdraw.
        if let Some(announce) = current {
            let statement = SignedAnnounce::sign(announce, &self.identity);
            self.send(link, FlowMessage::Announce(message::Announce { statement }));
        }
    }

    pub(super) fn on_withdraw(&mut self, from: Option<LinkIndex>, statement: SignedWithdraw) {
        let Withdraw {
            origin,
            name,
            instance,
        } = statement.content().clone();
        let of = InstanceRef {
            origin,
            name,
            instance,
        };
        if origin == self.me && self.published.get(&of.name).is_some_and(|own| own.of == of) {
            return;
        }
        if self.catalogue.withdraw(self.now, &statement, from) != Freshness::New {
            return;
        }
        let now = self.now;
        self.subscriptions.touch_name(&of.name);
        let flows = self.carried.of_origin(&origin);
        let is_of = |carried: &Carried| carried.of == of;
        self.carried
            .change(flows, is_of, |carried| carried.end(now));
        for ended in self.subscriptions.on_withdraw(&of) {
            self.event(ended);
        }
        let name = of.name;
        self.watched.mark(&name, origin);
        self.tell_all();
        self.event(Event::StreamsChanged { name });
    }
}

fn measured_peaks(layers: &[LayerOffer], is_measured: bool) -> Vec<Peak> {
    let measured = layers.iter().filter(|_| is_measured);
    measured.map(|layer| Peak::new(layer.peak)).collect()
}
