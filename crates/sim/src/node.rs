//! A node: one process that joins a `Control` and a `Lane`, the machines that ship.
//!
//! ```text
//!            input, message              command, train
//!   world ───────────────▶ Control ─────────────▶ Lane ◀─────── world
//!         ◀─────────────── chunks,   FlowCommand       ──────▶  datagrams, frames
//!            effects       dials  ◀───────────── Event
//! ```
//!
//! Nothing is decided here: [`Process`] passes each output to where it belongs, turns messages
//! into bytes and back, and hands what is left to the world as [`Effect`]s. Called by `world`. Invariant: after each
//! call both machines have said all they have to say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use levada_core::site::Listener;
use levada_core::{
    Concern, ConnectionLost, Control, DialId, Event, FlowInput, Inbox, Input, LinkInput, Output,
    Settings,
};
use levada_lane::api::{
    self as lane, Channel, Command, Datagrams, Delivery, FlowCommand, LinkCommand, Path,
    PublisherCommand, Train,
};
use levada_lane::{Lane, LaneSettings};
use levada_wire::datagram::link::LinkDatagram;
use levada_wire::key::LinkKey;
use levada_wire::lane::{Event as CoreEvent, FlowEvent};
use levada_wire::{FlowId, Frame, Instant, LinkIndex, Machine, NodeId, StreamName, WallTime};

use crate::connection::End;

mod clock;
mod site;
mod tally;

pub(crate) use clock::Clock;
use site::is_of_site;
use tally::Tally;

/// The most outputs that one call may lead to, over both machines. More means that they talk each other to death.
const OUTPUTS_MAX: usize = 200_000;

/// What the world must do for a process.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send datagrams.
    Datagrams(Datagrams),
    /// Hear what is sent to a channel.
    Join(Channel),
    /// Hear it no more.
    Leave(Channel),
    /// Send control bytes.
    Chunk { end: End, concern: u8, bytes: Bytes },
    /// Say when what was sent before is read.
    Mark {
        end: End,
        link: LinkIndex,
        concern: Concern,
    },
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
    /// For the checkers: the core told the lane something; where the link goes that becomes an egress.
    Commanded {
        flow: FlowId,
        command: FlowCommand,
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
    path: Path,
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
    /// Whether the peer is on the same LAN.
    pub(crate) path: Path,
    pub(crate) dial: Option<DialId>,
    pub(crate) send: LinkKey,
    pub(crate) receive: LinkKey,
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
    /// The channels that the lane has joined.
    joined: BTreeSet<Channel>,
    /// Where the site is heard.
    site: Vec<Listener>,
    /// The flows of the streams that are published here.
    published: BTreeMap<StreamName, FlowId>,
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
            joined: BTreeSet::new(),
            site: Vec::new(),
            published: BTreeMap::new(),
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

    /// A stream is not published any more, on purpose: END is sent first, as the node does it.
    pub(crate) fn unpublish(&mut self, now: Instant, name: &StreamName) {
        if let Some(flow) = self.published.remove(name) {
            let finish = PublisherCommand::Finish;
            self.command(now, Command::Publisher(flow, finish));
        }
        let name = name.clone();
        self.on_input(now, FlowInput::Unpublish { name });
    }

    /// A publisher hands a frame over.
    pub(crate) fn push(&mut self, now: Instant, name: &StreamName, frame: Frame, wall: WallTime) {
        if let Some(&flow) = self.published.get(name) {
            let push = PublisherCommand::Push { frame, wall };
            self.command(now, Command::Publisher(flow, push));
            self.settle(now);
        }
    }

    /// Datagrams came in.
    pub(crate) fn on_train(&mut self, now: Instant, train: Train) {
        if is_of_site(&train) {
            let to_this = train.from;
            return self.on_site(now, &train, to_this);
        }
        self.tell_lane(now, lane::Input::Train(train));
        self.settle(now);
    }

    /// A datagram came in on a channel.
    pub(crate) fn on_heard(&mut self, now: Instant, train: Train, channel: SocketAddr) {
        if is_of_site(&train) {
            return self.on_site(now, &train, channel);
        }
        self.tell_lane(now, lane::Input::Heard(train));
        self.settle(now);
    }

    /// A channel cannot be joined.
    pub(crate) fn cannot_join(&mut self, now: Instant, channel: Channel, reason: String) {
        self.joined.remove(&channel);
        self.tell_lane(now, lane::Input::CannotJoin { channel, reason });
        self.settle(now);
    }

    /// The channels that the lane has joined.
    pub(crate) const fn joined(&self) -> &BTreeSet<Channel> {
        &self.joined
    }

    /// A connection is up.
    pub(crate) fn on_connected(&mut self, now: Instant, connected: Connected) {
        let Connected {
            end,
            peer,
            remote,
            path,
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
                path,
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
            Output::Mark { link, concern } => {
                if let Some(known) = self.links.get(&link) {
                    let end = known.end;
                    self.effects.push(Effect::Mark { end, link, concern });
                }
            }
            Output::LinkUp { link, remote_index } => {
                if let Some(known) = self.links.get(&link) {
                    let add = LinkCommand::Add {
                        remote_index,
                        remote: known.remote,
                        source: None,
                        path: known.path,
                        send: known.send.clone(),
                        receive: known.receive.clone(),
                    };
                    self.command(now, Command::Link(link, add));
                }
            }
            Output::Link(link, command) => self.command(now, Command::Link(link, command)),
            Output::Flow(flow, command) => self.on_flow(now, flow, command),
            Output::Listen(listeners) => self.listen(listeners),
            Output::Say { to, datagram, .. } => self.effects.push(Effect::Datagrams(Datagrams {
                source: None,
                to,
                segment_bytes: datagram.len(),
                bytes: datagram.into(),
            })),
            // Nobody looks at a simulated network through its own nodes.
            Output::Describe { .. } | Output::Heard { .. } => {}
            Output::Event(event) => {
                if let Event::Published { name, flow, .. } = &event {
                    self.published.insert(name.clone(), *flow);
                }
                self.effects.push(Effect::Said(event));
            }
        }
    }

    fn on_flow(&mut self, now: Instant, flow: FlowId, command: FlowCommand) {
        let ends = matches!(command, FlowCommand::RemoveEgress(_) | FlowCommand::Close);
        if self.keeps_sending && ends {
            return;
        }
        let egress = match &command {
            FlowCommand::AddEgress(link, _) | FlowCommand::MoveEgress(link, ..) => {
                self.links.get(link).map(|link| link.remote)
            }
            _ => None,
        };
        self.effects.push(Effect::Commanded {
            flow,
            command: command.clone(),
            egress,
        });
        self.command(now, Command::Flow(flow, command));
    }

    fn on_lane(&mut self, now: Instant, output: lane::Output) {
        match output {
            lane::Output::Transmit(transmit) => {
                self.effects.push(Effect::Datagrams(transmit.datagrams))
            }
            // QUIC, of which there is none here: connections have their own way.
            lane::Output::Foreign(_) => {}
            lane::Output::Event(lane::Event::Core(event)) => {
                self.tell_control(now, Input::Lane(event));
            }
            lane::Output::Event(lane::Event::Delivery { flow, delivery }) => {
                self.effects.push(Effect::Delivered { flow, delivery });
            }
            lane::Output::Event(lane::Event::ChannelEnded { flow, channel }) => {
                self.tell_of_channel(now, flow, FlowEvent::ChannelEnded(channel));
            }
            lane::Output::Event(lane::Event::CannotJoin { flow, channel, .. }) => {
                self.tell_of_channel(now, flow, FlowEvent::CannotJoin(channel));
            }
            lane::Output::WakeOthers => {} // a simulated node has one lane
            lane::Output::Join(channel) => {
                self.joined.insert(channel);
                self.effects.push(Effect::Join(channel));
            }
            lane::Output::Leave(channel) => {
                self.joined.remove(&channel);
                self.effects.push(Effect::Leave(channel));
            }
        }
    }

    fn tell_of_channel(&mut self, now: Instant, flow: FlowId, event: FlowEvent) {
        self.tell_control(now, Input::Lane(CoreEvent::Flow(flow, event)));
    }

    fn tell_control(&mut self, now: Instant, input: Input) {
        self.control_tally.called();
        self.control.handle_input(now, input);
    }

    fn command(&mut self, now: Instant, command: Command) {
        self.tell_lane(now, lane::Input::Command(command));
    }

    /// Says something to the peer of a link that no machine would say.
    pub(crate) fn say(&mut self, now: Instant, link: LinkIndex, message: LinkDatagram) {
        self.command(now, Command::Link(link, LinkCommand::Send(message)));
        self.settle(now);
    }

    /// Tells the lane what its core would not.
    #[cfg(test)]
    pub(crate) fn tell(&mut self, now: Instant, command: Command) {
        self.command(now, command);
        self.settle(now);
    }

    fn tell_lane(&mut self, now: Instant, input: lane::Input) {
        self.lane_tally.called();
        self.lane.handle_input(now, input);
    }
}
