//! The multicast egresses of a flow: one copy for all who hear a channel.
//!
//! ```text
//!                      ┌─ live packets, once ──────────────────────▶ channel ─▶ member, member, member
//!  flow ─▶ this egress ┤
//!                      └─ repair ─ asked for first: once more ─────▶ channel      so that nobody else asks
//!                                └ asked again by one member ──────▶ that link  it did not hear the channel's copy
//!               what waited too long for the socket ───────────▶ GONE to each member
//! ```
//!
//! A channel has members: children whose peers hear it (`child.rs`), who may ask for what they lost. A sender that
//! was suspended and goes on must not speak to a channel that has another sender by now, so an egress lasts only as
//! long as the core renews it. Not who hears a channel well enough: that is measured and decided elsewhere. Not
//! catch-up: newcomers get the group's beginning over their links. Called by `forward::hand_on`, by `repair`, and by
//! the lane for commands and time. Invariant: nothing is sent to a channel past its time, what was heard on a channel
//! goes to none, and all that is held is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::{Instant, Number};

use crate::api::Channel;
use crate::child::withheld::Withheld;
use crate::limits::{CHANNEL_REPAIRS_MAX, GONE_INTERVAL, MULTICAST_EGRESSES_MAX};

/// What to do with a packet that a member asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It goes to the channel: others will want it too.
    ToAll,
    /// It went to the channel and this member did not hear it.
    Alone,
    /// It went to the channel so lately that the request was under way.
    TooSoon,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct MulticastEgress {
    pub(crate) channel: Channel,
    until: Instant,
    /// When packets were last repaired, or came late, by way of the channel.
    repaired: BTreeMap<Number, Instant>,
    /// What did not go there, since it waited too long.
    withheld: Option<Box<Withheld>>,
}

impl MulticastEgress {
    /// A packet goes to the channel, again or late.
    pub(crate) fn remember(&mut self, number: Number, now: Instant) {
        self.repaired.insert(number, now);
        if self.repaired.len() > CHANNEL_REPAIRS_MAX {
            self.repaired.pop_first();
        }
    }

    /// Says what to do with a packet that a member at that distance asks for.
    pub(crate) fn answer(&self, number: Number, trip: Duration, now: Instant) -> Answer {
        match self.repaired.get(&number) {
            None => Answer::ToAll,
            Some(&at) if now.since(at) < trip * 3 / 4 => Answer::TooSoon,
            Some(_) => Answer::Alone,
        }
    }
}

/// All of them. See the module's head.
#[derive(Debug, Default)]
pub(crate) struct MulticastEgresses(Vec<MulticastEgress>);

impl MulticastEgresses {
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one, or lets it last longer; `false` if there are too many.
    pub(crate) fn renew(&mut self, channel: Channel, until: Instant) -> bool {
        if let Some(egress) = self.get_mut(&channel) {
            egress.until = until;
            return true;
        }
        if self.0.len() == MULTICAST_EGRESSES_MAX {
            return false;
        }
        self.0.push(MulticastEgress {
            channel,
            until,
            repaired: BTreeMap::new(),
            withheld: None,
        });
        true
    }

    /// Removes one; `false` if there is none.
    pub(crate) fn remove(&mut self, channel: &Channel) -> bool {
        let before = self.0.len();
        self.0.retain(|egress| egress.channel != *channel);
        self.0.len() < before
    }

    /// Whether there is one to that channel.
    pub(crate) fn has(&self, channel: &Channel) -> bool {
        self.0.iter().any(|egress| egress.channel == *channel)
    }

    /// The first of those whose channel is among `heard`.
    pub(crate) fn first_of(&mut self, heard: &[Channel]) -> Option<&mut MulticastEgress> {
        self.0
            .iter_mut()
            .find(|egress| heard.contains(&egress.channel))
    }

    /// All channels.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter().map(|egress| &egress.channel)
    }

    /// A packet that was missing here goes to all channels: members who ask for it later did not hear it.
    pub(crate) fn forwarded(&mut self, number: Number, now: Instant) {
        for egress in &mut self.0 {
            egress.remember(number, now);
        }
    }

    /// Numbers did not go to a channel; `false` if there is no such egress.
    pub(crate) fn withhold(
        &mut self,
        channel: &Channel,
        missed: (Number, Number),
        now: Instant,
    ) -> bool {
        let Some(egress) = self.get_mut(channel) else {
            return false;
        };
        // At once, before anybody asks; what follows is said together.
        let withheld = egress.withheld.as_ref();
        let wait = if withheld.is_some_and(|it| it.is_recent(now)) {
            GONE_INTERVAL
        } else {
            Duration::ZERO
        };
        let withheld = egress
            .withheld
            .get_or_insert_with(|| Withheld::new(now).into());
        withheld.add(missed, now, wait);
        true
    }

    /// Whether a number did not go to one of those channels.
    pub(crate) fn has_withheld(&self, channels: &[Channel], number: Number) -> bool {
        self.0.iter().any(|egress| {
            let withheld = egress.withheld.as_ref();
            withheld.is_some_and(|it| it.contains(number)) && channels.contains(&egress.channel)
        })
    }

    /// What the members of a channel are to be told by now that did not go there.
    pub(crate) fn unsaid(&mut self, now: Instant) -> Option<(Channel, &mut Withheld)> {
        self.0.iter_mut().find_map(|egress| {
            egress.withheld.take_if(|withheld| withheld.is_over(now));
            let withheld = egress.withheld.as_mut()?;
            let is_due = withheld.say_at().is_some_and(|at| at <= now);
            is_due.then_some((egress.channel, &mut **withheld))
        })
    }

    /// When members are to be told something.
    pub(crate) fn says_at(&self) -> Option<Instant> {
        let withheld = self.0.iter().filter_map(|egress| egress.withheld.as_ref());
        withheld.filter_map(|withheld| withheld.say_at()).min()
    }

    /// When the next one ends.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.0.iter().map(|egress| egress.until).min()
    }

    /// Takes out one whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Channel> {
        let place = self.0.iter().position(|egress| egress.until <= now)?;
        Some(self.0.remove(place).channel)
    }

    fn get_mut(&mut self, channel: &Channel) -> Option<&mut MulticastEgress> {
        self.0.iter_mut().find(|egress| egress.channel == *channel)
    }
}

#[cfg(test)]
mod tests;
