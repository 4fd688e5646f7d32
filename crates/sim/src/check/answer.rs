//! Checker `answer`: each request for a flow is accepted or refused within its bound.
//!
//! A request that is cancelled, or whose connection ends, needs no answer. Called by `check` for each chunk. Invariant:
//! only messages about single flows are decoded; all others pass unread.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::control::{Concern, Decoder, FlowMessage, Message};
use levada_wire::{FlowId, Instant};

use super::Facts;
use crate::connection::{ConnectionId, End};

/// The numbers of messages that ask for a flow, grant or refuse it, or cancel the request (docs/wire.md section 7.3).
const ABOUT_ONE_FLOW: std::ops::RangeInclusive<u8> = 0x10..=0x13;

#[derive(Debug)]
pub(super) struct Answers {
    bound: Duration,
    /// By the end that asks.
    open: BTreeMap<(End, FlowId), Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    node: usize,
    since: Instant,
}

impl Answers {
    pub(super) const fn new(bound: Duration) -> Self {
        Self {
            bound,
            open: BTreeMap::new(),
        }
    }

    /// A node sends control bytes from this end.
    pub(super) fn sent(&mut self, now: Instant, end: End, node: usize, bytes: &[u8]) {
        match about_one_flow(bytes) {
            Some(FlowMessage::Request(request)) => {
                self.open
                    .entry((end, request.flow))
                    .or_insert(Asked { node, since: now });
            }
            Some(FlowMessage::Cancel(cancel)) => {
                self.open.remove(&(end, cancel.flow));
            }
            _ => {}
        }
    }

    /// Control bytes came out at this end.
    pub(super) fn came_out(&mut self, end: End, bytes: &[u8]) {
        match about_one_flow(bytes) {
            Some(FlowMessage::Accept(accept)) => self.open.remove(&(end, accept.flow)),
            Some(FlowMessage::Refuse(refuse)) => self.open.remove(&(end, refuse.flow)),
            _ => None,
        };
    }

    /// A connection is gone.
    pub(super) fn lost(&mut self, connection: ConnectionId) {
        self.open.retain(|(end, _), _| end.connection != connection);
    }

    pub(super) fn check(&self, facts: &Facts, now: Instant) -> Option<String> {
        let overdue = self
            .open
            .iter()
            .find(|(_, asked)| facts.had(now, asked.since, self.bound));
        overdue.map(|((_, flow), asked)| {
            let Asked { node, since } = asked;
            format!(
                "{} asked for flow {flow} at {since:?} and was neither answered nor refused",
                facts.name(*node)
            )
        })
    }
}

fn about_one_flow(bytes: &[u8]) -> Option<FlowMessage> {
    let is_one =
        bytes.get(4) == Some(&Concern::Flow.code()) && ABOUT_ONE_FLOW.contains(bytes.get(5)?);
    if !is_one {
        return None;
    }
    let mut messages = Vec::new();
    Decoder::default().push(bytes, &mut messages).ok()?;
    messages.into_iter().find_map(|message| match message {
        Message::Flow(message) => Some(message),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::RepairBudget;
    use levada_wire::control::flow::{Accept, Cancel, Refuse, RefuseReason, Request};

    use super::*;
    use crate::check::fixture::{FLOW, at, facts};
    use crate::connection::Side;

    const HERE: End = End {
        connection: ConnectionId(1),
        side: Side::Dialler,
    };

    fn bytes(message: FlowMessage) -> Vec<u8> {
        let mut bytes = Vec::new();
        Message::Flow(message).encode(&mut bytes);
        bytes
    }

    fn asked() -> Answers {
        let mut answers = Answers::new(Duration::from_secs(3));
        answers.sent(
            at(1),
            HERE,
            2,
            &bytes(FlowMessage::Request(Request {
                flow: FLOW,
                needs_key: true,
                budget: RepairBudget::DEFAULT,
                have: None,
            })),
        );
        answers
    }

    #[test]
    fn a_request_without_an_answer_is_reported() {
        let answers = asked();

        assert_eq!(answers.check(&facts(), at(4)), None);
        assert!(
            answers
                .check(&facts(), at(5))
                .unwrap()
                .contains("c asked for flow")
        );
    }

    #[test]
    fn an_answer_a_refusal_a_cancel_and_the_end_of_the_connection_settle_it() {
        let mut settled = [asked(), asked(), asked(), asked()];
        settled[0].came_out(
            HERE,
            &bytes(FlowMessage::Accept(Accept {
                flow: FLOW,
                key: None,
            })),
        );
        settled[1].came_out(
            HERE,
            &bytes(FlowMessage::Refuse(Refuse {
                flow: FLOW,
                reason: RefuseReason::Full,
            })),
        );
        settled[2].sent(
            at(2),
            HERE,
            2,
            &bytes(FlowMessage::Cancel(Cancel { flow: FLOW })),
        );
        settled[3].lost(HERE.connection);

        for answers in settled {
            assert_eq!(answers.check(&facts(), at(60)), None);
        }
    }
}
