//! Rows of the site: its members, and the interfaces that a node may take part in it on.
//!
//! See `view.rs` for what a row is. Made by `site/rows.rs`. Invariant: no secret can be put into a row.

use std::fmt;

use levada_wire::{NodeId, StreamName};
use serde::{Deserialize, Serialize};

use super::{Ratio, Remote, Seconds};
use crate::channels::Mode;
use crate::site::Verdict;

/// A member of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its id.
    pub node: NodeId,
    /// Whether it is the node that is looked at.
    pub is_this: bool,
    /// What it is in the site.
    pub role: MemberRole,
    /// Of the hub: counts the hubs of the site.
    pub epoch: Option<u32>,
    /// Where it is; none of the node itself.
    pub address: Option<Remote>,
    /// How well it would serve as hub, 0 (never) to 15.
    pub priority: u8,
    /// Whether it forwards for others.
    pub is_relay: bool,
    /// Whether it reaches the LAN by radio.
    pub is_wireless: bool,
    /// Whether it has a link that leads out of the site.
    pub has_uplink: bool,
    /// How long ago it was heard last; none of the node itself.
    pub heard_seconds: Option<Seconds>,
    /// Its beacons that were lost on the link-scope channel, once enough were expected.
    pub loss_link_ratio: Option<Ratio>,
    /// Its beacons that were lost on the admin-scope channel. Much more there than on the other: the switch does not
    /// send what was joined.
    pub loss_admin_ratio: Option<Ratio>,
    /// Of the hub, why it is hub; of the node itself, why it is in no site or follows nobody.
    pub cause: Option<String>,
    /// Of the node itself: the host's interfaces, and what becomes of each.
    pub interfaces: Vec<SiteInterface>,
    /// How streams reach it, of those that may come by multicast: the node itself, or a member that it sends to.
    pub receptions: Vec<Reception>,
}

/// How a stream reaches a node of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reception {
    /// The stream.
    pub stream: StreamName,
    /// By the copy for all, or by one of its own.
    pub mode: Mode,
    /// Why.
    pub cause: String,
    /// The address of the channel that it is, or may be, heard on.
    pub channel: String,
}

/// What a member is in its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// It was elected to bring streams in and to carry streams out.
    Hub,
    /// It is next in line.
    Deputy,
    /// One of the others.
    Member,
    /// The node itself, while it knows no hub.
    Listening,
    /// The node itself, where it has no interface that is fit for a site.
    Apart,
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hub => "hub",
            Self::Deputy => "deputy",
            Self::Member => "member",
            Self::Listening => "listening",
            Self::Apart => "apart",
        })
    }
}

/// An interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteInterface {
    /// The system's name for it.
    pub name: String,
    /// `wired`, `wireless`, `tunnel`, `container` or `loopback`.
    pub kind: String,
    /// What becomes of it.
    pub verdict: Verdict,
}
