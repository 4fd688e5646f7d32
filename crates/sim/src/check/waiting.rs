//! Checker `waiting`: what a node says to a neighbour that does not read stays within bounds.
//!
//! Connections here bring everything at once, so what would wait is counted: all that is said to such a neighbour,
//! since nothing of it is read. Called by `check`. Invariant: as soon as it is read, it does not count.

use std::collections::BTreeMap;

use crate::connection::End;

/// What may wait for one neighbour: 64 KiB and one message of streams, and 512 updates of some 70 bytes.
pub(super) const WAITING_BYTES_MAX: usize = 160 << 10;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    bytes: BTreeMap<End, usize>,
}

impl Waiting {
    /// Something is said that nobody reads.
    pub(super) fn sent(&mut self, end: End, bytes: usize) -> Option<String> {
        let waiting = self.bytes.entry(end).or_default();
        *waiting += bytes;
        (*waiting > WAITING_BYTES_MAX).then(|| {
            format!(
                "{waiting} bytes wait for a neighbour that does not read; {WAITING_BYTES_MAX} may"
            )
        })
    }

    pub(super) fn lost(&mut self, end: End) {
        self.bytes.remove(&end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{ConnectionId, Side};

    #[test]
    fn too_much_that_nobody_reads_is_found() {
        let end = End {
            connection: ConnectionId(1),
            side: Side::Dialler,
        };
        let mut waiting = Waiting::default();

        assert_eq!(waiting.sent(end, WAITING_BYTES_MAX), None);
        assert!(waiting.sent(end, 1).is_some());
        waiting.lost(end);
        assert_eq!(waiting.sent(end, 1), None);
    }
}
