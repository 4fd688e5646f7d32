//! Executes the requests of the program that runs the node.
//!
//! Not the user's end of it (`Handle`). Invariant: what a request began is undone by [`Request::End`] of its slot,
//! even if nobody waits for the answer any more.

use std::sync::Arc;

use levada_core::limits::SUBSCRIPTIONS_MAX;
use levada_core::{FlowInput, Input, Offer};
use levada_lane::api::{Command, PublisherCommand};
use levada_wire::key::Suite;
use levada_wire::{Description, FlowId, RepairBudget, StreamName};

use super::interests::{Added, Want};
use super::task::{Driver, Publication};
use super::{Look, Request, Seen, SlotId};
use crate::fanout::Queue;
use crate::publisher::{PublishError, PublishOptions, layers};
use crate::subscriber::SubscribeError;

impl Driver {
    /// A reply that nobody waits for any more is no error: the slot's end follows.
    pub(super) async fn on_request(&mut self, request: Request) {
        if self.leaving.is_some() {
            // Dropping the request tells its sender that the node has stopped.
            return;
        }
        match request {
            Request::Publish {
                slot,
                name,
                description,
                options,
                reply,
            } => {
                let flow = self.publish(slot, name, description, options).await;
                let _ = reply.send(flow);
            }
            Request::Revise { name, layers } => {
                if self.publications.contains_key(&name) {
                    self.pump.handle(FlowInput::Revise { name, layers });
                }
            }
            Request::Finish { slot, reply } => {
                self.end(slot).await;
                self.settle().await;
                let _ = reply.send(());
            }
            Request::Subscribe {
                slot,
                name,
                options,
                queue,
                reply,
            } => {
                let want = Want {
                    name,
                    layer: options.layer,
                    budget: RepairBudget::new(options.repair_budget),
                    paths: options.paths,
                };
                let _ = reply.send(self.subscribe(slot, want, queue));
            }
            Request::Look(Look(look)) => look(&Seen {
                control: self.pump.machine(),
                unresolved: &self.resolving.unresolved,
                fanout: &self.fanout,
            }),
            Request::Join { address } => self.join(address),
            Request::Part { link, reply } => drop(reply.send(self.part(link))),
            Request::Ask { path, flow, reply } => {
                let input = self.questions.ask(&path, flow, reply);
                self.pump.handle(input);
            }
            Request::Described { question, overview } => {
                self.pump.handle(Input::Described { question, overview });
            }
            Request::Watch { reply } => {
                if !self.streams.is_watched() {
                    self.streams.clear();
                    self.pump.machine_mut().watch_streams(true);
                }
                let _ = reply.send(self.streams.watch());
            }
            Request::Say { message } => self.say_to_all(&message),
            Request::End { slot } => self.end(slot).await,
            Request::Leave { reply } => {
                self.begin_to_leave();
                let _ = reply.send(());
            }
        }
    }

    async fn publish(
        &mut self,
        slot: SlotId,
        name: StreamName,
        description: Arc<Description>,
        options: PublishOptions,
    ) -> Result<FlowId, PublishError> {
        if self.publications.contains_key(&name) {
            return Err(PublishError::AlreadyPublished { name });
        }
        let offer = Offer {
            name: name.clone(),
            wall: self.pump.wall(),
            packet_size: options.packet_size,
            suite: suite(),
            layers: layers(&description, options.peak),
            description,
            flush_interval: options.flush_interval,
            is_measured: options.peak.is_none(),
        };
        let publication = Publication { slot, flow: None };
        self.publications.insert(name.clone(), publication);
        self.pump.handle(FlowInput::Publish(offer));
        // The core says at once whether it takes the offer: by its event that it is published.
        self.settle().await;
        let flow = self.publications.get(&name).and_then(|one| one.flow);
        match flow {
            Some(flow) => {
                tracing::info!(stream = %name, %flow, "stream published");
                Ok(flow)
            }
            None => {
                self.publications.remove(&name);
                Err(PublishError::NotAccepted { name })
            }
        }
    }

    /// A publisher or a subscriber is gone; or a slot that never became one, or is gone already.
    async fn end(&mut self, slot: SlotId) {
        let published = self
            .publications
            .iter()
            .find(|(_, publication)| publication.slot == slot)
            .map(|(name, publication)| (name.clone(), publication.flow));
        if let Some((name, flow)) = published {
            tracing::info!(stream = %name, "stream ends");
            self.publications.remove(&name);
            if let Some(flow) = flow {
                let finish = Command::Publisher(flow, PublisherCommand::Finish);
                self.command(finish).await;
            }
            self.pump.handle(FlowInput::Unpublish { name });
            return;
        }
        self.fanout.remove(slot);
        if let Some(name) = self.interests.name(slot) {
            self.pump.machine_mut().mark_stream(name);
        }
        if let Some(id) = self.interests.remove(slot) {
            self.pump.handle(FlowInput::Unsubscribe { id });
        }
    }

    fn subscribe(
        &mut self,
        slot: SlotId,
        want: Want,
        queue: Arc<Queue>,
    ) -> Result<(), SubscribeError> {
        let Want {
            name,
            layer,
            budget,
            paths,
        } = want.clone();
        let added = self.interests.add(slot, want);
        if matches!(added, Added::Full) {
            return Err(SubscribeError::FullOfStreams {
                max: SUBSCRIPTIONS_MAX,
            });
        }
        self.fanout.add(slot, queue);
        // The core does not know of those who share an interest.
        self.pump.machine_mut().mark_stream(&name);
        match added {
            Added::New(id) => self.pump.handle(FlowInput::Subscribe {
                id,
                name,
                layer,
                budget,
                paths,
            }),
            Added::Shared(Some(told)) => told.tell(slot, &self.fanout),
            Added::Shared(None) | Added::Full => {}
        }
        Ok(())
    }
}

/// AES where the CPU has instructions for it (0.13 us a packet), else ChaCha20 (0.54 us, and AES without them is
/// slower still).
fn suite() -> Suite {
    #[cfg(target_arch = "x86_64")]
    let has_aes = std::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    if has_aes {
        Suite::Aes128Gcm
    } else {
        Suite::ChaCha20Poly1305
    }
}
