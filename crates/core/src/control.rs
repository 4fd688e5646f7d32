//! The control core: routes each input to the part it concerns, and each part's output to the parts that need it.
//!
//! ```text
//!            ┌────────┐ Up, Down   ┌────────┐ Changed  ┌───────┐
//!  Input ──▶ │ links  │ ─────────▶ │ routes │ ───────▶ │ flows │ ──▶ Output
//!            └────────┘ Pass       └────────┘          └───────┘
//!                 ▲────────────────── Active ─────────────┘
//!                 ▲ Follow   ┌──────┐  Linked, Active ▲
//!                 └───────── │ site │ ◀───────────────┘
//!                            └──────┘ Local  ┌──────────┐ Shape, ByChannel
//!                                 ─────────▶ │ channels │ ◀──────▶ flows
//!                                            └──────────┘
//! ```
//!
//! Makes no decision itself. Driven by `node::driver` and `sim::node`. Invariant: when a call returns, all internal
//! queues are empty.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use levada_wire::control::link::LinkMessage;
use levada_wire::control::{Concern, FlowMessage, Message};
use levada_wire::lane;
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::{FlowId, Instant, LinkIndex, NetworkId, NodeId, StreamName};

use crate::api::{Event, Input, LinkInput, Neighbour, Output, Settings};
use crate::channels::{self, Channels};
use crate::flow::{self, Flows};
use crate::limits::NEIGHBOURS_MAX;
use crate::link::{self, Links};
use crate::route::{self, Routes};
use crate::site::{self, Place, Site};
use crate::survey::{self, Survey};
use crate::view::{
    Admission, CatalogueCounts, FlowRow, LinkRow, MemberRow, RouteRow, StreamChange, StreamRow,
    View,
};

/// A node's decisions. See the module's head.
#[derive(Debug)]
pub struct Control {
    id: NodeId,
    network: NetworkId,
    now: Instant,
    links: Links,
    routes: Routes,
    flows: Flows,
    site: Site,
    channels: Channels,
    survey: Survey,
    /// The neighbours that the node's user wants.
    configured: Vec<Neighbour>,
    /// The peer of each link that is up.
    peers: BTreeMap<LinkIndex, NodeId>,
    /// The links that some flow uses.
    active: BTreeSet<LinkIndex>,
    outputs: VecDeque<Output>,
}

impl Machine for Control {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Link(input) => {
                self.note_neighbour(&input);
                self.links(link::Input::Outside(input));
            }
            Input::Flow(input) => self.flows(flow::Input::Outside(input)),
            Input::Site(input) => {
                if let site::Input::Begin(settings) = &input {
                    self.channels(channels::Input::Begin(self.network, settings.site));
                }
                self.site(input);
            }
            Input::Lane(lane::Event::Link(link, event)) => {
                self.links(link::Input::Lane(link, event))
            }
            Input::Lane(lane::Event::Flow(flow, event)) => {
                self.channels(channels::Input::Lane(flow, event.clone()));
                self.flows(flow::Input::Lane(flow, event))
            }
            Input::Lane(lane::Event::Site { from, datagram }) => self.site(site::Input::Heard {
                interface: 0, // no matter: what comes this way is about a flow
                way: site::Way::Media,
                from,
                datagram,
            }),
            Input::Written { link, concern } => match concern {
                Concern::Link => {}
                Concern::Route => self.routes(route::Input::Written { link }),
                Concern::Flow => self.flows(flow::Input::Written { link }),
            },
            Input::Ask(ask) => self.survey(survey::Input::Ask(ask)),
            Input::Described { question, overview } => {
                self.survey(survey::Input::Described { question, overview });
            }
            Input::Leave => {
                self.site(site::Input::Leave);
                // What is offered is taken back while there are still links to say it on.
                self.flows(flow::Input::Leave);
                self.links(link::Input::Leave);
            }
        }
        self.assert_drained();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.links.handle_timeout(self.now);
        self.drain_links();
        self.routes.handle_timeout(self.now);
        self.drain_routes();
        self.flows.handle_timeout(self.now);
        self.drain_flows();
        self.site.handle_timeout(self.now);
        self.drain_site();
        self.channels.handle_timeout(self.now);
        self.drain_channels();
        self.survey.handle_timeout(self.now);
        self.drain_survey();
        self.assert_drained();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let parts = [
            self.links.poll_timeout(),
            self.routes.poll_timeout(),
            self.flows.poll_timeout(),
            self.site.poll_timeout(),
            self.channels.poll_timeout(),
            self.survey.poll_timeout(),
        ];
        parts.into_iter().fold(None, Wakeup::earlier)
    }
}

impl Control {
    /// A node that knows nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let links = Links::new(&settings);
        let identity = settings.identity.clone();
        let site = Site::new(identity, settings.network, links.boot(), &settings.seed);
        Self {
            id: settings.identity.id(),
            now: Instant::ZERO,
            links,
            routes: Routes::new(settings.identity.id(), settings.relay),
            flows: Flows::new(&settings),
            site,
            channels: Channels::new(settings.identity.id()),
            network: settings.network,
            survey: Survey::default(),
            configured: Vec::new(),
            peers: BTreeMap::new(),
            active: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The node's id.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The rows of the links behind `after`, by their numbers.
    pub fn link_rows(&self, after: Option<LinkIndex>) -> impl Iterator<Item = LinkRow> {
        self.links.rows(after).map(|row| match row.link {
            Some(link) => LinkRow {
                is_congested: self.flows.is_congested(link),
                admitted_bps: self.flows.admitted_over(link),
                ..row
            },
            None => row,
        })
    }

    /// The rows of the members of the site: this node's own first, then those behind `after`, by id; none without one.
    pub fn member_rows(&self, after: Option<NodeId>) -> impl Iterator<Item = MemberRow> {
        self.site.rows(after).map(|row| MemberRow {
            receptions: self.channels.receptions(row.node),
            ..row
        })
    }

    /// What became of site datagrams.
    #[must_use]
    pub const fn site_counts(&self) -> site::Counts {
        self.site.counts()
    }

    /// The rows of the configured neighbours to which there is no link.
    pub fn neighbour_rows(&self) -> impl Iterator<Item = LinkRow> {
        self.links.neighbour_rows()
    }

    /// The rows of the routes: this node's own first, then those behind `after`, by origin.
    pub fn route_rows(&self, after: Option<NodeId>) -> impl Iterator<Item = RouteRow> {
        self.routes.rows(after)
    }

    /// The rows of the streams behind `after`, by name and origin.
    pub fn stream_rows(
        &self,
        after: Option<(StreamName, NodeId)>,
    ) -> impl Iterator<Item = StreamRow> {
        self.flows.stream_rows(after)
    }

    /// Begins to note which streams change, all of them first, for [`Control::take_stream_changes`]; or ceases to.
    pub fn watch_streams(&mut self, is_watched: bool) {
        self.flows.watch_streams(is_watched);
    }

    /// Shows all streams of that name again: something that is shown of them and that the core does not know changed.
    pub fn mark_stream(&mut self, name: &StreamName) {
        self.flows.mark_stream(name);
    }

    /// Whether a stream changed that was not taken since.
    #[must_use]
    pub fn has_stream_changes(&self) -> bool {
        self.flows.has_stream_changes()
    }

    /// Takes up to `max` of the streams that changed, each once, as they are now.
    pub fn take_stream_changes(&mut self, max: usize) -> Vec<StreamChange> {
        self.flows.take_stream_changes(max)
    }

    /// The rows of the flows behind `after`, by id.
    pub fn flow_rows(&self, after: Option<FlowId>) -> impl Iterator<Item = FlowRow> {
        self.flows.flow_rows(after)
    }

    /// The origins behind `after`, each with the number of its streams.
    pub fn origins(&self, after: Option<NodeId>) -> impl Iterator<Item = (NodeId, usize)> {
        self.flows.origins(after)
    }

    /// What became of announces.
    #[must_use]
    pub fn catalogue_counts(&self) -> CatalogueCounts {
        self.flows.catalogue_counts()
    }

    /// What is promised to children.
    #[must_use]
    pub fn admission(&self) -> Admission {
        self.flows.admission()
    }

    /// All rows. It costs what there is: a node that runs is asked for slices of them.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            links: self.link_rows(None).chain(self.neighbour_rows()).collect(),
            routes: self.route_rows(None).collect(),
            streams: self.stream_rows(None).collect(),
            flows: self.flow_rows(None).collect(),
            admission: self.admission(),
        }
    }

    /// What a part has said is with whom it concerns when a call ends.
    fn assert_drained(&mut self) {
        assert!(self.links.poll_output().is_none(), "links were heard out");
        assert!(self.routes.poll_output().is_none(), "routes were heard out");
        assert!(self.flows.poll_output().is_none(), "flows were heard out");
        assert!(self.site.poll_output().is_none(), "the site was heard out");
        assert!(
            self.channels.poll_output().is_none(),
            "channels were heard out"
        );
        assert!(
            self.survey.poll_output().is_none(),
            "surveys were heard out"
        );
    }

    fn links(&mut self, input: link::Input) {
        self.links.handle_input(self.now, input);
        self.drain_links();
    }

    fn routes(&mut self, input: route::Input) {
        self.routes.handle_input(self.now, input);
        self.drain_routes();
    }

    fn flows(&mut self, input: flow::Input) {
        self.flows.handle_input(self.now, input);
        self.drain_flows();
    }

    fn site(&mut self, input: site::Input) {
        self.site.handle_input(self.now, input);
        self.drain_site();
    }

    fn channels(&mut self, input: channels::Input) {
        self.channels.handle_input(self.now, input);
        self.drain_channels();
    }

    /// The channels hear of links, of the LAN and of flows; they say who needs no copy of its own.
    fn drain_channels(&mut self) {
        while let Some(output) = self.channels.poll_output() {
            match output {
                channels::Output::Command(flow, command) => {
                    self.outputs.push_back(Output::Flow(flow, command));
                }
                channels::Output::Send(link, message) => {
                    let message = Message::Flow(message);
                    self.outputs.push_back(Output::Send { link, message });
                }
                channels::Output::Probe {
                    interface,
                    to,
                    probe,
                } => self.site(site::Input::Probe {
                    interface,
                    to,
                    probe,
                }),
                channels::Output::ByChannel {
                    flow,
                    link,
                    is_so,
                    have,
                } => self.flows(flow::Input::ByChannel {
                    flow,
                    link,
                    is_so,
                    have,
                }),
                channels::Output::Event(event) => {
                    self.outputs
                        .push_back(Output::Event(Event::Channels(event)));
                }
            }
        }
    }

    fn survey(&mut self, input: survey::Input) {
        self.survey.handle_input(self.now, input);
        self.drain_survey();
    }

    fn drain_survey(&mut self) {
        while let Some(output) = self.survey.poll_output() {
            self.outputs.push_back(match output {
                survey::Output::Send { link, message } => Output::Send {
                    link,
                    message: Message::Link(message),
                },
                survey::Output::Describe { question, flow } => Output::Describe { question, flow },
                survey::Output::Heard { ask, heard } => Output::Heard { ask, heard },
            });
        }
    }

    /// The site hears of links and of whether flows use them; it makes links, and flows none.
    fn drain_site(&mut self) {
        while let Some(output) = self.site.poll_output() {
            match output {
                site::Output::Listen(listeners) => {
                    self.outputs.push_back(Output::Listen(listeners))
                }
                site::Output::Send {
                    interface,
                    to,
                    datagram,
                } => self.outputs.push_back(Output::Say {
                    interface,
                    to,
                    datagram,
                }),
                site::Output::Follow(place) => {
                    self.links(link::Input::Outside(LinkInput::AddNeighbour(of(place))));
                }
                site::Output::Unfollow(place) => {
                    self.links(link::Input::Outside(LinkInput::RemoveNeighbour(of(place))));
                }
                site::Output::Part(place) => {
                    let peer = place.node;
                    self.links(link::Input::Outside(LinkInput::RemoveNeighbour(of(place))));
                    for link in self.links_to(peer) {
                        // One that the peer opened is the peer's to close.
                        if self
                            .links
                            .way(link)
                            .is_some_and(|(_, is_dialled)| is_dialled)
                        {
                            self.links(link::Input::Close(link));
                        }
                    }
                }
                site::Output::Lend(address) => self.dial(vec![address], true),
                site::Output::TakeBack(address) => self.dial(vec![address], false),
                site::Output::Wake(addresses) => self.dial(addresses, true),
                site::Output::Rest(peer, addresses) => {
                    self.dial(addresses, false);
                    for link in self.links_to(peer) {
                        self.links(link::Input::Close(link));
                    }
                }
                site::Output::Weigh(peer, weight) => self.routes(route::Input::Weigh(peer, weight)),
                site::Output::Tell(peer, told) => {
                    for link in self.links_to(peer) {
                        let message = Message::Link(LinkMessage::Outside(told.clone()));
                        self.outputs.push_back(Output::Send { link, message });
                    }
                }
                site::Output::Local(peer, at) => {
                    let at = at.map(|local| channels::Local {
                        interface: lane::Interface {
                            index: local.interface,
                            address: local.ipv4,
                        },
                        is_wired: local.is_wired,
                    });
                    self.channels(channels::Input::Local { peer, at });
                }
                site::Output::Probed(sender, probe) => {
                    self.channels(channels::Input::Probe { sender, probe });
                }
                site::Output::Event(event) => {
                    self.outputs.push_back(Output::Event(Event::Site(event)));
                }
            }
        }
    }

    /// The site knows of the neighbours that the node's user wants, by all their addresses.
    fn note_neighbour(&mut self, input: &LinkInput) {
        let (neighbour, is_wanted) = match input {
            LinkInput::AddNeighbour(neighbour) => (neighbour, true),
            LinkInput::RemoveNeighbour(neighbour) => (neighbour, false),
            _ => return,
        };
        self.configured.retain(|known| known != neighbour);
        if is_wanted && self.configured.len() < NEIGHBOURS_MAX {
            self.configured.push(neighbour.clone());
        }
        let addresses = neighbour.addresses.clone();
        self.site(site::Input::Neighbour {
            addresses,
            is_wanted,
        });
    }

    /// Dials the neighbour of these addresses, or does not any more: one that was configured as it was.
    fn dial(&mut self, addresses: Vec<SocketAddr>, is_wanted: bool) {
        let known = self
            .configured
            .iter()
            .find(|known| known.addresses == addresses);
        let neighbour = known.cloned().unwrap_or(Neighbour {
            addresses,
            node: None,
        });
        let input = if is_wanted {
            LinkInput::AddNeighbour(neighbour)
        } else {
            LinkInput::RemoveNeighbour(neighbour)
        };
        self.links(link::Input::Outside(input));
    }

    fn links_to(&self, peer: NodeId) -> Vec<LinkIndex> {
        let links = self.peers.iter().filter(|(_, to)| **to == peer);
        links.map(|(link, _)| *link).collect()
    }

    fn on_link_gone(&mut self, link: LinkIndex) {
        if let Some(peer) = self.peers.remove(&link) {
            self.on_active(link, false);
            self.site(site::Input::Linked { peer, way: None });
        }
    }

    fn on_active(&mut self, link: LinkIndex, is_active: bool) {
        let before = self.active.is_empty();
        if is_active {
            self.active.insert(link);
        } else {
            self.active.remove(&link);
        }
        if before != self.active.is_empty() {
            self.site(site::Input::Active(before));
        }
    }

    fn drain_links(&mut self) {
        while let Some(output) = self.links.poll_output() {
            match output {
                link::Output::Outside(output) => self.outputs.push_back(output),
                link::Output::Stranger { link, subnet } => {
                    self.routes(route::Input::Stranger { link, subnet });
                    self.flows(flow::Input::Stranger { link, subnet });
                }
                link::Output::Up { link, peer } => {
                    self.routes(route::Input::LinkUp { link, peer });
                    self.flows(flow::Input::LinkUp { link, peer });
                    self.peers.insert(link, peer);
                    self.survey(survey::Input::LinkUp { link, peer });
                    let way = self.links.way(link);
                    if let Some((remote, _)) = way {
                        self.channels(channels::Input::LinkUp { link, peer, remote });
                    }
                    self.site(site::Input::Linked { peer, way });
                }
                link::Output::Down { link } => {
                    // Routes first: flows then settle on the way that is left.
                    self.routes(route::Input::LinkDown { link });
                    self.flows(flow::Input::LinkDown { link });
                    self.channels(channels::Input::LinkDown(link));
                    self.survey(survey::Input::LinkDown { link });
                    self.on_link_gone(link);
                }
                link::Output::Pass { link, message } => match message {
                    Message::Route(message) => {
                        self.routes(route::Input::Message { link, message });
                    }
                    Message::Flow(FlowMessage::ChannelOffer(offer)) => {
                        let message = channels::Message::Offer(offer);
                        self.channels(channels::Input::Message(link, message));
                    }
                    Message::Flow(FlowMessage::ChannelEnd(end)) => {
                        let message = channels::Message::End(end);
                        self.channels(channels::Input::Message(link, message));
                    }
                    Message::Flow(FlowMessage::ChannelReport(report)) => {
                        let message = channels::Message::Report(report);
                        self.channels(channels::Input::Message(link, message));
                    }
                    Message::Flow(message) => self.flows(flow::Input::Message { link, message }),
                    Message::Link(LinkMessage::Question(question)) => {
                        self.survey(survey::Input::Asked { link, question });
                    }
                    Message::Link(LinkMessage::Answer(answer)) => {
                        self.survey(survey::Input::Answered { link, answer });
                    }
                    Message::Link(_) => {}
                },
                link::Output::Told { link, told } => {
                    if let Some(peer) = self.peers.get(&link).copied() {
                        self.site(site::Input::Told { peer, told });
                    }
                }
                link::Output::Path(link, path) => self.flows(flow::Input::Path(link, path)),
            }
        }
    }

    fn drain_routes(&mut self) {
        while let Some(output) = self.routes.poll_output() {
            match output {
                route::Output::Send { link, message } => {
                    let message = Message::Route(message);
                    self.outputs.push_back(Output::Send { link, message });
                }
                route::Output::Mark { link } => {
                    let concern = Concern::Route;
                    self.outputs.push_back(Output::Mark { link, concern });
                }
                route::Output::Changed { origin, route } => {
                    self.flows(flow::Input::Route { origin, route });
                }
                route::Output::Alternatives {
                    origin,
                    alternatives,
                } => {
                    self.flows(flow::Input::Alternatives {
                        origin,
                        alternatives,
                    });
                }
            }
        }
    }

    fn drain_flows(&mut self) {
        while let Some(output) = self.flows.poll_output() {
            match output {
                flow::Output::Outside(output) => self.outputs.push_back(output),
                flow::Output::Active { link, active } => {
                    self.on_active(link, active);
                    self.links
                        .handle_input(self.now, link::Input::Active { link, active });
                }
                flow::Output::Originate(offers) => self.routes(route::Input::Originate(offers)),
                flow::Output::Wants(origin, is_so) => self.site(site::Input::Wants(origin, is_so)),
                flow::Output::Shape(shape) => self.channels(channels::Input::Shape(shape)),
                flow::Output::Sizes(sizes) => {
                    self.links.handle_input(self.now, link::Input::Sizes(sizes));
                }
            }
        }
        // Flows make links ping, and links tell of sizes; neither makes the other say the same again, so this ends
        // here.
        self.drain_links();
    }
}

/// A member is a neighbour for as long as a link to it is kept.
fn of(place: Place) -> Neighbour {
    Neighbour {
        addresses: vec![place.address],
        node: Some(place.node),
    }
}

#[cfg(test)]
mod tests;
