//! Checker `ledger`: every packet and every copy that a lane was given has exactly one fate.
//!
//! The lane counts; this only looks at the sums. Called by `check` at every tick. Invariant: there is no tolerance.

use super::{Facts, Overview};

pub(super) fn check(facts: &Facts, overview: &Overview) -> Option<String> {
    overview
        .nodes
        .iter()
        .enumerate()
        .find_map(|(node, snapshot)| {
            let difference = snapshot.as_ref()?.difference;
            (!difference.is_zero()).then(|| {
                let name = facts.name(node);
                format!(
                    "the ledgers of {name} do not sum to zero: packets {}, copies {}",
                    difference.packets, difference.copies
                )
            })
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_lane::ledger::Difference;

    use super::*;
    use crate::check::fixture;

    #[test]
    fn a_packet_without_a_fate_is_reported() {
        let facts = fixture::facts();
        let mut overview = fixture::overview(0);
        assert_eq!(check(&facts, &overview), None);

        overview.nodes[1].as_mut().unwrap().difference = Difference {
            packets: 1,
            copies: 0,
        };

        assert!(check(&facts, &overview).unwrap().contains("ledgers of b"));
    }
}
