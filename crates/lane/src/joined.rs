//! The channels by which flows of this lane come: each is joined once, for as long as a flow wants it.
//!
//! Not the sockets: whoever drives the lane is told to join and to leave. Called by the lane for commands. Invariant: a
//! channel has a flow that wants it, and there are at most [`CHANNELS_MAX`].

use std::collections::BTreeMap;

use levada_wire::FlowId;

use crate::api::Channel;
use crate::limits::CHANNELS_MAX;
use crate::outbox::Outbox;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Joined(BTreeMap<Channel, Vec<FlowId>>);

impl Joined {
    /// A flow comes by a channel; `false` at the limit.
    pub(crate) fn join(&mut self, flow: FlowId, channel: Channel, outbox: &mut Outbox) -> bool {
        if let Some(flows) = self.0.get_mut(&channel) {
            if !flows.contains(&flow) {
                flows.push(flow);
            }
            return true;
        }
        if self.0.len() >= CHANNELS_MAX {
            return false;
        }
        self.0.insert(channel, vec![flow]);
        outbox.join(channel);
        true
    }

    /// A flow does not come by it any more; `false` if it did not.
    pub(crate) fn leave(&mut self, flow: FlowId, channel: Channel, outbox: &mut Outbox) -> bool {
        let is_joined = |flows: &Vec<FlowId>| flows.contains(&flow);
        let was_joined = self.0.get(&channel).is_some_and(is_joined);
        self.leave_where(|id, one| id == flow && one == channel, outbox);
        was_joined
    }

    /// A flow is closed.
    pub(crate) fn forget(&mut self, flow: FlowId, outbox: &mut Outbox) {
        self.leave_where(|id, _| id == flow, outbox);
    }

    /// A channel cannot be joined; says who wanted it.
    pub(crate) fn fail(&mut self, channel: Channel) -> Vec<FlowId> {
        self.0.remove(&channel).unwrap_or_default()
    }

    fn leave_where(&mut self, is_over: impl Fn(FlowId, Channel) -> bool, outbox: &mut Outbox) {
        self.0.retain(|&channel, flows| {
            flows.retain(|&flow| !is_over(flow, channel));
            if flows.is_empty() {
                outbox.leave(channel);
            }
            !flows.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Interface, Output};

    const ONE: FlowId = FlowId(1);
    const OTHER: FlowId = FlowId(2);

    fn channel(number: usize) -> Channel {
        let last = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
        Channel {
            address: ([239, 1, last[0], last[1]], 7801).into(),
            interface: Interface {
                index: 1,
                address: None,
            },
        }
    }

    /// What was said since the last time: each channel, and whether it is to be joined.
    fn said(outbox: &mut Outbox) -> Vec<(Channel, bool)> {
        let said = std::iter::from_fn(|| outbox.pop()).map(|output| match output {
            Output::Join(channel) => (channel, true),
            Output::Leave(channel) => (channel, false),
            other => panic!("{other:?}"),
        });
        said.collect()
    }

    #[test]
    fn a_channel_of_two_flows_is_joined_once_and_left_with_the_second() {
        let (mut joined, mut outbox) = (Joined::default(), Outbox::default());

        for flow in [ONE, ONE, OTHER] {
            assert!(joined.join(flow, channel(1), &mut outbox));
        }
        assert_eq!(said(&mut outbox), [(channel(1), true)]);
        assert!(joined.leave(ONE, channel(1), &mut outbox));
        assert!(!joined.leave(ONE, channel(1), &mut outbox));
        assert_eq!(said(&mut outbox), []);
        assert!(joined.leave(OTHER, channel(1), &mut outbox));
        assert_eq!(said(&mut outbox), [(channel(1), false)]);
        assert!(!joined.leave(OTHER, channel(1), &mut outbox));
    }

    #[test]
    fn a_closed_flow_leaves_only_what_was_its_alone() {
        let (mut joined, mut outbox) = (Joined::default(), Outbox::default());
        joined.join(ONE, channel(1), &mut outbox);
        joined.join(ONE, channel(2), &mut outbox);
        joined.join(OTHER, channel(2), &mut outbox);
        said(&mut outbox);

        joined.forget(ONE, &mut outbox);

        assert_eq!(said(&mut outbox), [(channel(1), false)]);
        assert_eq!(joined.fail(channel(2)), [OTHER]);
        assert_eq!(joined.fail(channel(2)), []);
    }

    #[test]
    fn one_channel_more_than_the_limit_is_refused() {
        let (mut joined, mut outbox) = (Joined::default(), Outbox::default());
        for number in 0..CHANNELS_MAX {
            assert!(joined.join(ONE, channel(number), &mut outbox));
        }
        said(&mut outbox);

        assert!(!joined.join(ONE, channel(CHANNELS_MAX), &mut outbox));
        assert!(joined.join(OTHER, channel(0), &mut outbox));

        assert_eq!(said(&mut outbox), []);
    }
}
