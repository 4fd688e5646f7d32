//! A node: one process that joins a `Control` and a `Lane`, the machines that ship.
//!
//! ```text
//!            input, message              command, train
//!   world ───────────────▶ Control ─────────────▶ Lane ◀─────── world
//!         ◀─────────────── chunks,   FlowChange        ──────▶  datagrams, frames
//!            effects       dials  ◀───────────── Event
//! ```
//!
//! Nothing is decided here: [`Process`] passes each output to where it belongs (the table is `levada-words`), turns messages
//! into bytes and back, and hands what is left to the world as [`Effect`]s. Called by `world`. Invariant: after each
//! call both machines have said all they have to say.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use levada_core::{
    ConnectionLost, Control, DialId, Event, FlowChange, FlowInput, Inbox, Input, LinkInput, Output,
    Settings,
};
use levada_lane::api::{self as lane, Datagrams, Delivery, Train};
use levada_lane::{Lane, LaneSettings};
use levada_wire::key::LinkKey;
use levada_wire::{FlowId, Frame, Instant, LinkIndex, Machine, NodeId, StreamName, WallTime};
use levada_words::{self as words, Offered};

use crate::connection::End;

mod clock;
mod tally;

pub(crate) use clock::Clock;
use tally::Tally;

/// The most outputs that one call may lead to, over both machines. More means that they talk each other to death.
const OUTPUTS_MAX: usize = 200_000;

/// What the world must do for a process.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send datagrams.
    Datagrams(Datagrams),
    /// Send control bytes.
    Chunk { end: End, concern: u8, bytes: Bytes },
    /// Dial an address.
    Dial {
        dial: DialId,
        remote: SocketAddr,
        peer: Option<NodeId>,
    },
    /// Give a dial up.
    CancelDial { dial: DialId },
    /// Close a connection.
    Close { end: End, reason: String },
    /// For the checkers: the core changed the datapath; where the link goes that becomes an egress.
    Changed {
        change: FlowChange,
        egress: Option<SocketAddr>,
    },
    /// For people: the core says something.
    Said(Event),
    /// For subscribers, and for the checkers.
    Delivered { flow: FlowId, delivery: Delivery },
    /// The machines do not come to an end, or one says more than the contract allows.
    Runaway(&'static str),
}

/// One end of a connection, as the process knows it.
#[derive(Debug)]
struct Link {
    end: End,
    remote: SocketAddr,
    send: LinkKey,
    receive: LinkKey,
    /// By concern.
    inboxes: BTreeMap<u8, Inbox>,
}

/// What a new connection brings.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) end: End,
    pub(crate) peer: NodeId,
    pub(crate) remote: SocketAddr,
    pub(crate) dial: Option<DialId>,
    pub(crate) send: LinkKey,
    pub(crate) receive: LinkKey,
}

/// A stream that is published here.
#[derive(Debug)]
struct Publication {
    offered: Offered,
    flow: Option<FlowId>,
}

/// One start of a node.
#[derive(Debug)]
pub(crate) struct Process {
    control: Control,
    control_tally: Tally,
    lane: Lane,
    lane_tally: Tally,
    links: BTreeMap<LinkIndex, Link>,
    by_end: BTreeMap<End, LinkIndex>,
    next_link: u32,
    publications: BTreeMap<StreamName, Publication>,
    effects: Vec<Effect>,
    /// Broken on purpose: never stops sending a flow to a link.
    keeps_sending: bool,
}

impl Process {
    pub(crate) fn new(settings: Settings, keeps_sending: bool) -> Self {
        let (seed, _) = settings
            .seed
            .split_first_chunk()
            .expect("a seed has 32 bytes");
        let lane = LaneSettings {
            seed: u64::from_be_bytes(*seed),
            ..LaneSettings::default()
        };
        Self {
            control: Control::new(settings),
            control_tally: Tally::default(),
            lane: Lane::new(0, lane),
            lane_tally: Tally::default(),
            links: BTreeMap::new(),
            by_end: BTreeMap::new(),
            next_link: 1,
            publications: BTreeMap::new(),
            effects: Vec::new(),
            keeps_sending,
        }
    }

    pub(crate) const fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) const fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The link over a connection.
    pub(crate) fn links(&self) -> impl Iterator<Item = (LinkIndex, End)> {
        self.links.iter().map(|(index, link)| (*index, link.end))
    }

    /// When the process wants to be called, in its own time.
    pub(crate) fn wakeup(&self) -> Option<(Instant, &'static str)> {
        let wakeups = [self.control.poll_timeout(), self.lane.poll_timeout()];
        wakeups
            .into_iter()
            .flatten()
            .map(|wakeup| (wakeup.at, wakeup.why))
            .min()
    }

    /// Time has come.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.control_tally.called();
        self.control.handle_timeout(now);
        self.lane_tally.called();
        self.lane.handle_timeout(now);
        self.settle(now);
    }

    /// The node's user, or a connection, has something for the core.
    pub(crate) fn on_input(&mut self, now: Instant, input: impl Into<Input>) {
        self.tell_control(now, input.into());
        self.settle(now);
    }

    /// A stream is published from now on.
    pub(crate) fn publish(&mut self, now: Instant, offer: levada_core::Offer, offered: Offered) {
        self.publications.insert(
            offer.name.clone(),
            Publication {
                offered,
                flow: None,
            },
        );
        self.on_input(now, FlowInput::Publish(offer));
    }

    /// Not any more, on purpose: END is sent first, as the node does it.
    pub(crate) fn unpublish(&mut self, now: Instant, name: &StreamName) {
        if let Some(flow) = self
            .publications
            .remove(name)
            .and_then(|publication| publication.flow)
        {
            self.command(now, lane::Command::Finish { flow });
        }
        let name = name.clone();
        self.on_input(now, FlowInput::Unpublish { name });
    }

    /// A publisher hands a frame over.
    pub(crate) fn push(&mut self, now: Instant, name: &StreamName, frame: Frame, wall: WallTime) {
        if let Some(flow) = self
            .publications
            .get(name)
            .and_then(|publication| publication.flow)
        {
            self.command(now, lane::Command::Push { flow, frame, wall });
            self.settle(now);
        }
    }

    /// Datagrams came in.
    pub(crate) fn on_train(&mut self, now: Instant, train: Train) {
        self.lane_tally.called();
        self.lane.handle_input(now, lane::Input::Train(train));
        self.settle(now);
    }

    /// A connection is up.
    pub(crate) fn on_connected(&mut self, now: Instant, connected: Connected) {
        let Connected {
            end,
            peer,
            remote,
            dial,
            send,
            receive,
        } = connected;
        let link = LinkIndex(self.next_link);
        self.next_link += 1;
        self.by_end.insert(end, link);
        self.links.insert(
            link,
            Link {
                end,
                remote,
                send,
                receive,
                inboxes: BTreeMap::new(),
            },
        );
        self.on_input(
            now,
            LinkInput::Connected {
                link,
                peer,
                remote,
                dial,
            },
        );
    }

    /// A connection is gone.
    pub(crate) fn on_lost(&mut self, now: Instant, end: End, reason: ConnectionLost) {
        if let Some(link) = self.by_end.remove(&end) {
            self.links.remove(&link);
            self.on_input(now, LinkInput::Disconnected { link, reason });
        }
    }

    /// Control bytes came out of a connection.
    pub(crate) fn on_chunk(&mut self, now: Instant, end: End, concern: u8, bytes: &[u8]) {
        let Some(index) = self.by_end.get(&end).copied() else {
            return;
        };
        let Some(link) = self.links.get_mut(&index) else {
            return;
        };
        let mut messages = Vec::new();
        let decoded = link
            .inboxes
            .entry(concern)
            .or_default()
            .push(bytes, &mut messages);
        for message in messages {
            self.on_input(
                now,
                LinkInput::Message {
                    link: index,
                    message,
                },
            );
        }
        if let Err(error) = decoded {
            self.effects.push(Effect::Close {
                end,
                reason: error.to_string(),
            });
        }
    }

    /// Takes what the world must do.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Passes outputs on until both machines have nothing more to say.
    fn settle(&mut self, now: Instant) {
        for _ in 0..OUTPUTS_MAX {
            let said = self.control.poll_output();
            let mut is_sane = self.control_tally.polled(said.is_some());
            if let Some(output) = said {
                self.on_control(now, output);
            } else {
                let said = self.lane.poll_output();
                is_sane &= self.lane_tally.polled(said.is_some());
                match said {
                    Some(output) => self.on_lane(now, output),
                    None => return,
                }
            }
            if !is_sane {
                let what = "one call of a machine leaves more outputs than its contract allows";
                self.effects.push(Effect::Runaway(what));
                return;
            }
        }
        let what = "its machines do not come to an end";
        self.effects.push(Effect::Runaway(what));
    }

    fn on_control(&mut self, now: Instant, output: Output) {
        match output {
            Output::Dial { dial, remote, peer } => {
                self.effects.push(Effect::Dial { dial, remote, peer })
            }
            Output::CancelDial { dial } => self.effects.push(Effect::CancelDial { dial }),
            Output::Close { link, reason } => {
                if let Some(link) = self.links.get(&link) {
                    let reason = reason.to_string();
                    self.effects.push(Effect::Close {
                        end: link.end,
                        reason,
                    });
                }
            }
            Output::Send { link, message } => {
                if let Some(link) = self.links.get(&link) {
                    let mut bytes = Vec::new();
                    message.encode(&mut bytes);
                    let concern = message.concern().code();
                    self.effects.push(Effect::Chunk {
                        end: link.end,
                        concern,
                        bytes: bytes.into(),
                    });
                }
            }
            Output::Datagram { link, message } => {
                self.command(now, lane::Command::SendDatagram { link, message });
            }
            Output::LinkUp { link, remote_index } => {
                if let Some(Link {
                    remote,
                    send,
                    receive,
                    ..
                }) = self.links.get(&link)
                {
                    let (remote, send, receive) = (*remote, send.clone(), receive.clone());
                    self.command(
                        now,
                        lane::Command::AddLink {
                            link,
                            remote_index,
                            remote,
                            source: None,
                            send,
                            receive,
                        },
                    );
                }
            }
            Output::LinkDown { link } => self.command(now, lane::Command::RemoveLink { link }),
            Output::Flow(change) => self.on_change(now, change),
            Output::Event(event) => self.effects.push(Effect::Said(event)),
        }
    }

    fn on_change(&mut self, now: Instant, change: FlowChange) {
        if self.keeps_sending
            && matches!(
                change,
                FlowChange::RemoveEgress { .. } | FlowChange::Close { .. }
            )
        {
            return;
        }
        let egress = match &change {
            FlowChange::AddEgress { link, .. } => self.links.get(link).map(|link| link.remote),
            _ => None,
        };
        self.effects.push(Effect::Changed {
            change: change.clone(),
            egress,
        });
        if let FlowChange::Originate { flow, name, .. } = &change
            && let Some(publication) = self.publications.get_mut(name)
        {
            publication.flow = Some(*flow);
        }
        let offered = |name: &StreamName| {
            self.publications
                .get(name)
                .map(|publication| publication.offered.clone())
        };
        if let Some(command) = words::command(change, offered) {
            self.command(now, command);
        }
    }

    fn on_lane(&mut self, now: Instant, output: lane::Output) {
        match output {
            lane::Output::Transmit(transmit) => {
                self.effects.push(Effect::Datagrams(transmit.datagrams))
            }
            // QUIC, of which there is none here: connections have their own way.
            lane::Output::Foreign(_) => {}
            lane::Output::Event(event) => match words::input(event) {
                Ok(input) => self.tell_control(now, input),
                Err(lane::Event::Delivery { flow, delivery }) => {
                    self.effects.push(Effect::Delivered { flow, delivery });
                }
                Err(_) => {}
            },
        }
    }

    fn tell_control(&mut self, now: Instant, input: Input) {
        self.control_tally.called();
        self.control.handle_input(now, input);
    }

    fn command(&mut self, now: Instant, command: lane::Command) {
        self.lane_tally.called();
        self.lane.handle_input(now, lane::Input::Command(command));
    }
}
