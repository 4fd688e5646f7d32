//! Executes the outputs of the core.
//!
//! One line per kind of output; not the order of things (`task`).
//! Invariant: no output is dropped in silence: what cannot be done comes back to the core as an input.

use levada_core::channels;
use levada_core::site;
use levada_core::{self as core, ConnectionLost, LinkDown, LinkInput, Output, SubscriptionState};
use levada_lane::api::{Command, LinkCommand};
use levada_ports::{interface_rate, path_to, source_towards};
use levada_wire::LinkIndex;
use levada_wire::control::Message;
use levada_wire::control::flow::RefuseReason;

use super::interests::Told;
use super::task::Driver;
use crate::events::Event;
use crate::quic::close;
use crate::quic::connection::Waiting;
use crate::subscriber::{Instance, State};

impl Driver {
    pub(super) async fn on_output(&mut self, output: Output) {
        match output {
            Output::Dial { dial, remote, peer } => self.dial(dial, remote, peer),
            Output::CancelDial { dial } => {
                if let Some(attempt) = self.dials.remove(&dial) {
                    attempt.abort();
                }
            }
            Output::Close { link, reason } => self.close(link, &reason),
            Output::Send { link, message } => self.send(link, Waiting::Message(message)),
            Output::Mark { link, concern } => self.send(link, Waiting::Mark(concern)),
            Output::LinkUp { link, remote_index } => self.link_up(link, remote_index).await,
            Output::Link(link, command) => self.command(Command::Link(link, command)).await,
            Output::Flow(flow, command) => self.on_flow(flow, command).await,
            Output::Listen(listeners) => self.site.listen(listeners),
            Output::Say {
                interface,
                to,
                datagram,
            } => self.site.say(interface, to, &datagram),
            Output::Describe { question, flow } => self.questions.describe(question, flow),
            Output::Heard { ask, heard } => self.questions.heard(ask, heard),
            Output::Event(event) => self.on_event(event),
        }
    }

    /// As many at once as the core has neighbours and addresses, both of which it bounds.
    fn dial(
        &mut self,
        dial: core::DialId,
        remote: std::net::SocketAddr,
        peer: Option<levada_wire::NodeId>,
    ) {
        tracing::debug!(%remote, "dials");
        let quic_events = self.around.quic_events.clone();
        let attempt = self.quic.clone().dial(dial, remote, peer, quic_events);
        let attempt = tokio::spawn(attempt);
        self.dials.insert(dial, attempt.abort_handle());
    }

    pub(super) fn close(&mut self, link: LinkIndex, reason: &LinkDown) {
        let Some(handle) = self.links.get_mut(&link).and_then(|one| one.handle.take()) else {
            return;
        };
        let (code, words) = close::of(reason);
        handle.close(code, words);
    }

    fn send(&mut self, link: LinkIndex, waiting: Waiting) {
        let Some(connected) = self.links.get_mut(&link) else {
            return;
        };
        let Some(handle) = &connected.handle else {
            return;
        };
        tracing::trace!(link = link.0, ?waiting, "says");
        if !handle.send(waiting) {
            connected.handle = None;
            tracing::warn!(
                peer = connected.peer.short(),
                "closes a link: the peer does not take its control messages"
            );
            let reason =
                ConnectionLost::Failed("the peer did not take its control messages".into());
            let input = LinkInput::Disconnected { link, reason };
            self.again.push_back(input.into());
        }
    }

    /// Says what the core did not decide to say.
    pub(super) fn say_to_all(&mut self, message: &Message) {
        let links: Vec<LinkIndex> = self.links.keys().copied().collect();
        for link in links {
            self.send(link, Waiting::Message(message.clone()));
        }
    }

    async fn link_up(&self, link: LinkIndex, remote_index: LinkIndex) {
        let Some(connected) = self.links.get(&link) else {
            return;
        };
        let source = connected.local.or_else(|| source_towards(connected.remote));
        let rate = source.filter(|_| self.asks_rates).and_then(interface_rate);
        if let Some((source, rate)) = source.zip(rate) {
            self.datapath.set_interface_rate(source, rate);
        }
        self.command(Command::Link(
            link,
            LinkCommand::Add {
                remote_index,
                remote: connected.remote,
                source,
                path: path_to(connected.remote),
                send: connected.keys.send.clone(),
                receive: connected.keys.receive.clone(),
            },
        ))
        .await;
    }

    // tidy: long an arm for each event
    fn on_event(&mut self, event: core::Event) {
        match event {
            core::Event::LinkUp {
                link,
                peer,
                name,
                remote,
            } => {
                let name = close::shorten(&name);
                tracing::info!(link = link.0, peer = peer.short(), name, "link up");
                self.resolving.names.link_up(remote);
                self.tell(Event::LinkUp { peer, name, remote });
            }
            core::Event::LinkDown { link, peer, reason } => {
                let reason = close::words(&reason);
                tracing::info!(link = link.0, peer = peer.short(), reason, "link down");
                self.tell(Event::LinkDown { peer, reason });
            }
            core::Event::KeyCopied {
                peer,
                linked,
                refused,
            } => {
                tracing::warn!(
                    peer = peer.short(), %linked, %refused,
                    "two nodes run with one key, so that only one can be linked; give the one that was copied a state \
                     directory of its own"
                );
                self.tell(Event::KeyCopied {
                    peer,
                    linked,
                    refused,
                });
            }
            core::Event::Congested {
                link,
                peer,
                flows,
                pause,
            } => {
                tracing::warn!(
                    link = link.0,
                    peer = peer.short(),
                    flows,
                    pause_secs = pause.as_secs(),
                    "a link loses too much of what it is given; its newest flows were cut"
                );
                self.tell(Event::Congested { peer, flows, pause });
            }
            core::Event::CatalogueFull {
                peer,
                name,
                refused,
            } => {
                tracing::warn!(
                    peer = peer.short(), stream = %name, refused,
                    "streams are not taken: this node knows as many as it may, of one node, of one address or of all; \
                     `levada streams` shows whose they are"
                );
                self.tell(Event::CatalogueFull {
                    peer,
                    name,
                    refused,
                });
            }
            core::Event::NotListed { name, node, reason } => {
                let reason = match reason {
                    RefuseReason::Full => "it knows as many streams as it may".to_owned(),
                    other => other.to_string(),
                };
                tracing::warn!(
                    stream = %name, node = node.short(), reason,
                    "a node does not list a stream that is published here; who is behind it cannot play it"
                );
                self.tell(Event::NotListed { name, node, reason });
            }
            core::Event::PathTooSlow {
                name,
                peer,
                takes,
                budget,
            } => {
                tracing::warn!(
                    stream = %name, peer = peer.short(),
                    takes_ms = takes.as_millis(), budget_ms = budget.as_millis(),
                    "the largest picture takes longer over the path to a neighbour than the neighbour waits, so what \
                     is lost of it cannot be repaired; play with more latency there, or publish smaller key frames"
                );
                self.tell(Event::PathTooSlow {
                    name,
                    peer,
                    takes,
                    budget,
                });
            }
            core::Event::DialFailed { remote, reason } => {
                tracing::debug!(%remote, reason, "dial failed");
                if let Some(times) = self.dial_failures.times(self.pump.now()) {
                    tracing::warn!(
                        times,
                        reason,
                        "a neighbour cannot be reached; it is tried again"
                    );
                }
                let again = self.resolving.names.dial_failed(self.pump.now(), remote);
                if !again.is_empty() && self.leaving.is_none() {
                    self.look_up(again);
                }
                self.tell(Event::DialFailed { remote, reason });
            }
            core::Event::Published { name, flow, .. } => {
                if let Some(publication) = self.publications.get_mut(&name) {
                    publication.flow = Some(flow);
                }
            }
            core::Event::StreamsChanged { name } => {
                tracing::debug!(%name, "streams changed");
                self.tell(Event::StreamsChanged { name });
            }
            core::Event::PeakExceeded { name, peak, rate } => {
                tracing::warn!(
                    stream = %name, %peak, %rate,
                    "a stream sends more than its publisher declared; what is above that may be skipped"
                );
            }
            core::Event::Site(event) => self.on_site(event),
            core::Event::Channels(channels::Event::ModeChanged {
                name,
                receiver,
                mode,
                cause,
            }) => {
                let (node, reason) = (receiver, cause.to_string());
                tracing::info!(stream = %name, node = node.short(), %mode, reason, "a stream is received another way");
                self.tell(Event::ModeChanged {
                    name,
                    node,
                    mode,
                    reason,
                });
            }
            core::Event::Subscription { id, state } => self.on_subscription(id, state),
            // An event of a later core that this crate has no word for.
            _ => {}
        }
    }

    fn on_site(&self, event: site::Event) {
        match event {
            site::Event::MemberFound(place) => {
                let (node, address) = (place.node, place.address);
                tracing::info!(node = node.short(), %address, "a node of this site was found");
                self.tell(Event::MemberFound { node, address });
            }
            site::Event::MemberLost { node } => {
                tracing::info!(
                    node = node.short(),
                    "a node of this site is not heard any more"
                );
                self.tell(Event::MemberLost { node });
            }
            site::Event::HubChanged { hub, cause } => {
                let reason = cause.to_string();
                match hub {
                    Some(hub) => tracing::info!(hub = hub.short(), reason, "the site has a hub"),
                    None => tracing::info!(reason, "the site has no hub"),
                }
                self.tell(Event::HubChanged { hub, reason });
            }
            site::Event::Deaf => {
                tracing::warn!(
                    "this node does not hear multicast that others hear; it is not to be hub for a while. \
                     A firewall that drops UDP port 7801 does this"
                );
            }
            site::Event::Paused => {
                tracing::warn!("this node stood still; it listens before it goes on in its site");
            }
            // An event of a later core that this crate has no word for.
            _ => {}
        }
    }

    fn on_subscription(&mut self, id: core::SubscriptionId, state: SubscriptionState) {
        let told = match state {
            SubscriptionState::Unknown => Told::State(State::Unknown),
            SubscriptionState::Unreachable { origin } => Told::State(State::Unreachable { origin }),
            SubscriptionState::Requested { .. } => Told::State(State::Requested),
            SubscriptionState::Refused { reason, .. } => Told::State(State::Refused { reason }),
            SubscriptionState::Stalled { .. } => Told::State(State::Stalled),
            SubscriptionState::Active { flow, announce } => {
                tracing::info!(stream = %announce.name, origin = announce.origin.short(), "stream flows");
                Told::Flows {
                    flow,
                    instance: Instance::from(&*announce),
                    is_on_one_path: false,
                }
            }
            SubscriptionState::OnePath { flow, announce } => {
                tracing::info!(
                    stream = %announce.name, origin = announce.origin.short(),
                    "stream flows over one way alone, though two are wanted; `levada flows` says why"
                );
                Told::Flows {
                    flow,
                    instance: Instance::from(&*announce),
                    is_on_one_path: true,
                }
            }
            SubscriptionState::Ended => Told::Ended,
        };
        self.interests.tell(id, told, &self.fanout);
    }
}
