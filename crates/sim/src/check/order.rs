//! Checker `order`: control bytes come out of a connection as they went in, in their order.
//!
//! The connection model promises it to the machines, as QUIC does; what it holds back at its end never comes out. Not
//! what the bytes mean. Called by `check` for each chunk. Invariant: what is in flight is remembered as a hash only.

use std::collections::{BTreeMap, VecDeque};

use levada_wire::control::Concern;

use crate::chance::Fnv64;
use crate::connection::End;

#[derive(Debug, Default)]
pub(super) struct Order {
    /// By sending end and concern: hashes of what was sent and has not come out.
    in_flight: BTreeMap<(End, u8), VecDeque<u64>>,
}

impl Order {
    pub(super) fn sent(&mut self, from: End, concern: u8, bytes: &[u8]) {
        self.in_flight
            .entry((from, concern))
            .or_default()
            .push_back(hash(bytes));
    }

    pub(super) fn came_out(&mut self, at: End, concern: u8, bytes: &[u8]) -> Option<String> {
        let from = End {
            side: at.side.other(),
            ..at
        };
        let expected = self
            .in_flight
            .get_mut(&(from, concern))
            .and_then(VecDeque::pop_front);
        (expected != Some(hash(bytes))).then(|| {
            let stream = Concern::from_code(concern)
                .map_or_else(|| concern.to_string(), |concern| format!("{concern:?}"));
            format!(
                "a control message of {} bytes (stream: {}) came out of order or altered",
                bytes.len(),
                stream.to_lowercase()
            )
        })
    }

    /// An end is gone: nothing comes out there any more. What it sent may still come out at the other.
    pub(super) fn lost(&mut self, end: End) {
        let sender = End {
            side: end.side.other(),
            ..end
        };
        self.in_flight.retain(|(from, _), _| *from != sender);
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hash = Fnv64::default();
    hash.write(bytes);
    hash.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{ConnectionId, Side};

    const HERE: End = End {
        connection: ConnectionId(1),
        side: Side::Dialler,
    };
    const THERE: End = End {
        connection: ConnectionId(1),
        side: Side::Acceptor,
    };

    #[test]
    fn what_overtakes_or_was_never_sent_is_reported() {
        let mut order = Order::default();
        order.sent(HERE, 1, b"one");
        order.sent(HERE, 1, b"two");
        order.sent(HERE, 2, b"three");

        assert_eq!(order.came_out(THERE, 2, b"three"), None);
        assert_eq!(order.came_out(THERE, 1, b"one"), None);
        assert!(order.came_out(THERE, 1, b"one").is_some());
        assert!(order.came_out(HERE, 1, b"one").is_some());
    }

    #[test]
    fn what_an_end_sent_before_it_closed_may_still_come_out() {
        let mut order = Order::default();
        order.sent(HERE, 1, b"farewell");

        order.lost(HERE);

        assert_eq!(order.came_out(THERE, 1, b"farewell"), None);
    }
}
