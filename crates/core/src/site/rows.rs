//! Rows of the site for tables and JSON: this node first, then its members.
//!
//! Not the meaning of a column (`crate::view`). Called by `Control`. Invariant: a row costs what it shows.

use std::ops::Bound;

use levada_wire::datagram::site::beacon::{Flags, Member};
use levada_wire::{NodeId, NodePrefix};

use super::border::Way;
use super::election::Role;
use super::roster::Known;
use super::{Site, Verdict};
use crate::view::{MemberRole, MemberRow, Ratio, Remote, Seconds, SiteInterface};

impl Site {
    /// The rows of the members: this node's own first, then those behind `after`, by id. None without a site.
    pub fn rows(&self, after: Option<NodeId>) -> impl Iterator<Item = MemberRow> {
        let me = self.identity.id();
        let own = (after.is_none() && self.settings.is_some()).then(|| self.own_row());
        let from = match after {
            Some(node) if node != me => Bound::Excluded(node.prefix()),
            _ => Bound::Unbounded,
        };
        let members = self.roster.members().range((from, Bound::Unbounded));
        own.into_iter()
            .chain(members.map(|(prefix, known)| self.row(*prefix, known)))
    }

    fn own_row(&self) -> MemberRow {
        let interfaces = self
            .interfaces
            .iter()
            .map(|(interface, verdict)| SiteInterface {
                name: interface.name.clone(),
                kind: interface.kind.to_string(),
                verdict: *verdict,
            });
        let cause = if self.listeners.is_empty() {
            Some(self.why_apart())
        } else if self.outside.resting() > 0 {
            let links = self.outside.resting();
            Some(format!(
                "it leaves its links out of the site to the hub: {links}"
            ))
        } else {
            self.cause()
        };
        MemberRow {
            is_this: true,
            cause,
            interfaces: interfaces.collect(),
            ..self.of(self.identity.id(), self.roster.own())
        }
    }

    fn row(&self, prefix: NodePrefix, known: &Known) -> MemberRow {
        let loss = |way: Way| {
            let permille = known.loss.get(&way)?.permille()?;
            Some(Ratio { permille })
        };
        let is_hub = self
            .election
            .hub()
            .is_some_and(|(hub, _)| hub.prefix() == prefix);
        MemberRow {
            address: Some(Remote::Address(known.address)),
            heard_seconds: Some(Seconds(self.now.since(known.last))),
            loss_link_ratio: loss(Way::Link),
            loss_admin_ratio: loss(Way::Admin),
            cause: is_hub.then(|| self.cause()).flatten(),
            ..self.of(known.node, known.member)
        }
    }

    fn of(&self, node: NodeId, member: Member) -> MemberRow {
        let hub = self.election.hub().map(|(hub, _)| hub);
        let role = if hub == Some(node) {
            MemberRole::Hub
        } else if self.deputy() == Some(node.prefix()) {
            MemberRole::Deputy
        } else if hub.is_none() && node == self.identity.id() {
            match self.election.role() {
                Role::Apart => MemberRole::Apart,
                _ => MemberRole::Listening,
            }
        } else {
            MemberRole::Member
        };
        MemberRow {
            node,
            is_this: false,
            role,
            epoch: (hub == Some(node))
                .then(|| self.election.hub().map(|(_, epoch)| epoch.0))
                .flatten(),
            address: None,
            priority: member.priority.step(),
            is_relay: member.flags.has(Flags::RELAY),
            is_wireless: member.flags.has(Flags::WIRELESS),
            has_uplink: member.flags.has(Flags::UPLINK),
            heard_seconds: None,
            loss_link_ratio: None,
            loss_admin_ratio: None,
            cause: None,
            interfaces: Vec::new(),
            receptions: Vec::new(),
        }
    }

    /// Why the hub is who it is, or why there is none.
    fn cause(&self) -> Option<String> {
        if self.election.is_deaf(self.now) {
            return Some(
                "it does not hear what others hear, and is not to be hub for a while".to_owned(),
            );
        }
        match self.election.role() {
            Role::Following(hub) => Some(hub.cause.to_string()),
            Role::Hub(reign) => Some(reign.cause.to_string()),
            Role::Listening { .. } if self.roster.is_without_candidates() => {
                Some("no node of this site may be hub: all run with `--relay never`".to_owned())
            }
            Role::Apart | Role::Listening { .. } | Role::Claiming { .. } => None,
        }
    }

    fn why_apart(&self) -> String {
        let reasons = self
            .interfaces
            .iter()
            .filter(|(_, verdict)| *verdict != Verdict::Chosen);
        let reasons: Vec<String> = reasons
            .map(|(interface, verdict)| format!("{}: {verdict}", interface.name))
            .collect();
        if reasons.is_empty() {
            return "this host has no network interface".to_owned();
        }
        format!("no interface is fit for a site; {}", reasons.join("; "))
    }
}
