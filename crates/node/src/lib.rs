//! The Levada library: a node, its publishers and its subscribers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use levada::{Delivery, Node, SubscribeOptions};
//!
//! let node = Node::builder().join("relay.example:7800").start().await?;
//! let mut cam = node.subscribe("lobby/cam1".parse()?, SubscribeOptions::default()).await?;
//! while let Some(delivery) = cam.next().await {
//!     if let Delivery::Frame { frame, .. } = delivery {
//!         println!("track {} at {}", frame.track.0, frame.dts);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! This crate joins decisions to packets and both to the world: tokio and quinn around [`levada_core::Control`]
//! and the lanes of [`levada_lane`]. It decides nothing about routes and flows (the core does), touches no
//! media packet (the datapath does), and knows no codec and no player protocol (gateways do).
//!
//! | part | does |
//! |---|---|
//! | [`Node`], [`Publisher`], [`Subscriber`], [`Streams`] | what a program holds in its hands |
//! | [`view`] | what a node shows of itself: typed rows |
//! | `driver` | one task that owns the control core: hands it what happened, does what it says |
//! | `quic` | authenticated connections on the datapath's socket |
//! | `fanout` | from the one opened flow to its local subscribers |
//! | `site` | the sockets of beacons, and the host's interfaces |
//! | [`state`] | the locked directory that makes a node |
//! | [`config`] | what the user wrote, checked |
//! | [`admin`] | the local socket by which commands find a running node |
//!
//! Invariant: every queue between two parts is bounded, and what happens when it is full is written where it is
//! made.
//!
//! The crate has no features.

#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod state;
pub mod view;

mod builder;
mod driver;
mod events;
mod fanout;
mod node;
mod publisher;
mod quic;
mod resolve;
mod site;
mod streams;
mod subscriber;
mod survey;
mod tap;

pub use builder::{Builder, LANES_MAX, Relay, StartError};
pub use events::{Event, Events};
pub use node::{Failed, Node, Stopped};
pub use publisher::{PublishError, PublishOptions, Publisher, SendError};
pub use resolve::{Address, AddressError};
pub use site::SiteOptions;
pub use streams::{StreamChange, Streams};
pub use subscriber::{
    Delivery, Gap, GapReason, Instance, State, SubscribeError, SubscribeOptions, Subscriber,
};
pub use survey::{MAP_NODES_MAX, TraceError};
#[doc(hidden)]
pub use tap::{Tap, Tapped};
pub use view::View;

pub use levada_core::Paths;

/// The words of the wire that a program needs to publish and to subscribe.
pub use levada_wire::{
    Bitrate, Description, FlowId, Frame, Group, InstanceId, Layer, LinkIndex, MediaTime, NodeId,
    PacketSize, StreamName, Track, TrackId, TrackKind, WallTime, control::flow::RefuseReason,
};
