//! Checker `quiet`: nobody watching, no media packet moves.
//!
//! After the last player of a stream has left, wherever it was, requests run out and cancels travel; then no node may
//! send a packet of it. Faults give more time: a node that stood still does not know. Called by `check` for each
//! datagram. Invariant: a media packet of a flow that no publisher started is wrong at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::{Header, Instant, StreamName};

use super::Facts;

#[derive(Debug)]
pub(super) struct Quiet {
    bound: Duration,
    /// When it last changed whether, or by whom, a stream is watched.
    changed: BTreeMap<StreamName, Instant>,
}

impl Quiet {
    pub(super) const fn new(bound: Duration) -> Self {
        Self {
            bound,
            changed: BTreeMap::new(),
        }
    }

    pub(super) fn watched(&mut self, now: Instant, name: &StreamName) {
        self.changed.insert(name.clone(), now);
    }

    pub(super) fn datagram(
        &self,
        now: Instant,
        facts: &Facts,
        node: usize,
        bytes: &[u8],
    ) -> Option<String> {
        let header = Header::peek(bytes)?;
        let sender = facts.name(node);
        let Some(name) = facts.stream_of(header.flow) else {
            return Some(format!(
                "{sender} sends packets of flow {}, which no publisher started",
                header.flow
            ));
        };
        let since = self.changed.get(name).copied().unwrap_or(Instant::ZERO);
        let must_rest = !facts.is_watched(name, None) && facts.had(now, since, self.bound);
        must_rest
            .then(|| format!("{sender} still sends `{name}`, which nobody watches since {since:?}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_core::SubscriptionId;
    use levada_wire::{FlowId, Number};

    use super::*;
    use crate::check::fixture::{FLOW, at, cam, facts, packet};

    #[test]
    fn media_of_a_stream_that_nobody_watches_is_reported_after_a_while() {
        let mut facts = facts();
        let mut quiet = Quiet::new(Duration::from_secs(6));
        let id = SubscriptionId(1);
        facts.subscribed(2, id, cam());
        assert_eq!(
            quiet.datagram(at(20), &facts, 0, &packet(FLOW, Number::ZERO)),
            None
        );

        facts.unsubscribed(2, id);
        quiet.watched(at(20), &cam());

        assert_eq!(
            quiet.datagram(at(26), &facts, 0, &packet(FLOW, Number::ZERO)),
            None
        );
        assert!(
            quiet
                .datagram(at(27), &facts, 0, &packet(FLOW, Number::ZERO))
                .unwrap()
                .contains("a still sends `cam`")
        );
    }

    #[test]
    fn a_fault_gives_more_time() {
        let mut facts = facts();
        let quiet = Quiet::new(Duration::from_secs(6));

        facts.fault_begins();
        assert_eq!(
            quiet.datagram(at(20), &facts, 0, &packet(FLOW, Number::ZERO)),
            None
        );
        facts.fault_ends(at(20));
        assert_eq!(
            quiet.datagram(at(26), &facts, 0, &packet(FLOW, Number::ZERO)),
            None
        );

        assert!(
            quiet
                .datagram(at(27), &facts, 0, &packet(FLOW, Number::ZERO))
                .is_some()
        );
    }

    #[test]
    fn a_flow_that_nobody_started_is_reported_at_once() {
        let quiet = Quiet::new(Duration::from_secs(6));

        assert!(
            quiet
                .datagram(at(0), &facts(), 1, &packet(FlowId(99), Number::ZERO))
                .unwrap()
                .contains("no publisher")
        );
    }
}
