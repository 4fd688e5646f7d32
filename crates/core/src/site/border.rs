//! What goes into [`super::Site`] and what comes out, and what it is told of the interfaces of its host.
//!
//! Plain data, without a decision. Used by `Control`, which passes it on, and by whoever drives it. Invariant: nothing
//! here names a socket; an interface has the system's number.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use levada_wire::control::link::Outside;
use levada_wire::datagram::site::SiteTag;
use levada_wire::datagram::site::probe::Probe;
use levada_wire::{NodeId, WallTime};

use crate::route::Weight;

/// How a node takes part in its site. A node without this has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its site's label, hashed.
    pub site: SiteTag,
    /// On which interfaces.
    pub choice: Choice,
    /// Its UDP port for everything unicast.
    pub port: u16,
    /// The wall clock now: site datagrams are counted from it.
    pub wall: WallTime,
    /// How willing it is to be hub.
    pub willing: Willing,
}

/// How willing a node is to be hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Willing {
    /// Never: it forwards for nobody.
    Never,
    /// When that helps.
    Auto,
    /// Rather than others.
    Always,
}

/// Which interfaces the node's user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Every wired or Wi-Fi one with a private or link-local network.
    #[default]
    Auto,
    /// The one that has this address, which the node listens on; never loopback.
    Address(IpAddr),
    /// These, whatever they are.
    Named(Vec<String>),
}

/// A network interface of the host, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's number for it.
    pub index: u32,
    /// The system's name for it.
    pub name: String,
    /// What it leads to.
    pub kind: Kind,
    /// Whether it is up.
    pub is_up: bool,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// What an interface leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cable.
    Wired,
    /// Radio.
    Wireless,
    /// A VPN or another tunnel.
    Tunnel,
    /// Containers or virtual machines of this host.
    Container,
    /// The host itself.
    Loopback,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wired => "wired",
            Self::Wireless => "wireless",
            Self::Tunnel => "tunnel",
            Self::Container => "container",
            Self::Loopback => "loopback",
        })
    }
}

/// What may happen to the site.
#[derive(Clone, Debug)]
pub enum Input {
    /// The node takes part in a site from now on. Said once.
    Begin(Settings),
    /// The interfaces of the host, all of them; again when something changed.
    Interfaces(Vec<Interface>),
    /// A site datagram came in.
    Heard {
        /// The interface that it came by.
        interface: u32,
        /// Which of the ways to this node it took.
        way: Way,
        /// Its source.
        from: SocketAddr,
        /// As it came.
        datagram: Vec<u8>,
    },
    /// Whether some flow uses some link of this node.
    Active(bool),
    /// A link to this node came up, or the last one went.
    Linked {
        /// The peer's node id.
        peer: NodeId,
        /// Where it is, and whether this node dialled it; none if the link is gone.
        way: Option<(SocketAddr, bool)>,
    },
    /// The node's user wants a link to a neighbour, or does not any more.
    Neighbour {
        /// Where it may be.
        addresses: Vec<SocketAddr>,
        /// Whether.
        is_wanted: bool,
    },
    /// A peer tells what it knows of the world outside its site.
    Told {
        /// The peer.
        peer: NodeId,
        /// As it came.
        told: Outside,
    },
    /// Whether streams of that origin are wanted here changed.
    Wants(NodeId, bool),
    /// A probe is to be sent.
    Probe {
        /// By this interface.
        interface: u32,
        /// To this channel.
        to: SocketAddr,
        /// To be sealed.
        probe: Probe,
    },
    /// This node leaves.
    Leave,
}

/// How a site datagram reached this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By the link-scope channel, which every switch floods.
    Link,
    /// By the admin-scope channel, which switches with snooping send to members only.
    Admin,
    /// By unicast.
    Direct,
    /// By a channel of media, where probes alone are heard.
    Media,
}

/// An interface to hear and speak on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The system's number for the interface.
    pub index: u32,
    /// The system's name for it.
    pub name: String,
    /// An IPv4 address of it, where it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Whether it has an IPv6 address.
    pub ipv6: bool,
    /// The channels, with the way that each is.
    pub channels: Vec<(Way, SocketAddr)>,
}

/// What the site wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Hear and speak on these interfaces, and on no other.
    Listen(Vec<Listener>),
    /// Send a datagram.
    Send {
        /// By this interface.
        interface: u32,
        /// To a channel or to a node.
        to: SocketAddr,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// Keep a link to this member.
    Follow(Place),
    /// Do not keep it any more.
    Unfollow(Place),
    /// No stream of this member is wanted any more: the link that was kept for that is closed.
    Part(Place),
    /// Dial a relay that a member knows.
    Lend(SocketAddr),
    /// Do not dial it any more.
    TakeBack(SocketAddr),
    /// Close the link to this node and do not dial the neighbour of these addresses: the hub does.
    Rest(NodeId, Vec<SocketAddr>),
    /// Dial the neighbour of these addresses again.
    Wake(Vec<SocketAddr>),
    /// Links to this node cost more or less than others from now on.
    Weigh(NodeId, Weight),
    /// Tell a peer what is known of the world outside.
    Tell(NodeId, Outside),
    /// A member is on the LAN by that interface, or is a member no more.
    Local(NodeId, Option<Local>),
    /// A member's probe was heard.
    Probed(NodeId, Probe),
    /// Tell the node's user.
    Event(Event),
}

/// Where a member is on the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The system's number for the interface that it is heard by.
    pub interface: u32,
    /// This host's IPv4 address there, if it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Whether both ends are on a wire.
    pub is_wired: bool,
}

/// A member and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The member.
    pub node: NodeId,
    /// Its address for everything unicast.
    pub address: SocketAddr,
}

/// What a user of the node may want to know of its site.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node was found on the LAN.
    MemberFound(Place),
    /// A member was not heard for too long, or its restart ended its former life.
    MemberLost {
        /// The member.
        node: NodeId,
    },
    /// Another hub, or none: the site has one when beacons of one are heard.
    HubChanged {
        /// The hub; none while there is none.
        hub: Option<NodeId>,
        /// Why.
        cause: Cause,
    },
    /// This node does not hear what others hear: it is not to be hub for a while.
    Deaf,
    /// This node stood still, and listens before it goes on.
    Paused,
}

/// Why the hub is who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No hub was there.
    First,
    /// The last one fell silent.
    Silent,
    /// The last one resigned.
    Resigned,
    /// The last one handed over.
    HandedOver,
    /// It was there when this node came, or came with another part of the site.
    Found,
    /// Two hubs met, and the other one gave way.
    Merged,
    /// This node stood still, has no interface, or leaves.
    Gone,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "no hub was there",
            Self::Silent => "the hub before it fell silent",
            Self::Resigned => "the hub before it resigned",
            Self::HandedOver => "the hub before it handed over",
            Self::Found => "it was there already",
            Self::Merged => "two hubs met, and it holds the later claim",
            Self::Gone => "this node stood still or has no interface",
        })
    }
}
