//! Levada's decisions: which links live, which way leads to an origin, which flow goes where.
//!
//! Sans-IO: [`Control`] is told what happened and what time it is, and answers with what is to be done. It opens no
//! socket, reads no clock, draws chance only from the generator it was given, and never touches a media packet: it
//! *emits* [`levada_wire::lane::FlowCommand`], and whoever drives it hands that to the lanes. Driven by `node` in
//! production and by `sim` in virtual time; neither knows how a decision is made.
//!
//! | part | decides |
//! |---|---|
//! | [`link`] | whether a neighbour is there, how far, how lossy |
//! | [`route`] | how to reach an origin node, without a loop |
//! | [`flow`] | which streams are known, who gets which flow, from where, under which key |
//! | [`channels`] | which flows go by multicast on a LAN, and who gets them that way |
//! | [`survey`] | which questions about nodes are answered and passed on |
//! | [`site`] | which nodes of a LAN hear each other, and which of them is the hub |
//! | [`control`] | nothing: it hands each input to its part, and what a part says to whom it concerns |
//!
//! Invariant: the parts do not know each other; what one needs from another goes through [`Control`].

#![forbid(unsafe_code)]

pub mod api;
mod chance;
pub mod channels;
pub mod control;
pub mod credit;
pub mod flow;
pub mod limits;
pub mod link;
pub mod route;
pub mod site;
pub mod subnet;
pub mod survey;
pub mod view;
pub mod wakeups;

pub use api::{
    ConnectionLost, DialId, Event, FlowInput, Input, LinkDown, LinkInput, Neighbour, Offer, Output,
    Paths, Settings, SubscriptionId, SubscriptionState,
};
pub use control::Control;
/// What travels on control streams, for whoever carries the bytes between two nodes.
pub use levada_wire::control::{Concern, Decoder as Inbox, Message};
