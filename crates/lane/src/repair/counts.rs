//! What repair did, in numbers: notes beside the ledgers.
//!
//! Not a ledger: a repaired packet has its fate there like any other. Counted by `repair`; read by tables. Invariant: each
//! count only grows.

use std::ops::AddAssign;

/// Writes [`RepairCounts`] from its one table, so that sums and tables can lack none.
macro_rules! repair_counts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What repair did since the lane was made. See the module's head.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct RepairCounts {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl RepairCounts {
            /// All counts with their names, in the order of tables.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }

        impl AddAssign<&Self> for RepairCounts {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

repair_counts! {
    /// Requests sent to upstreams, each for up to 257 packets.
    nacks_sent,
    /// Requests that children sent.
    nacks_received,
    /// Packets sent again.
    repairs_sent,
    /// Packets that came after they were asked for.
    repairs_received,
    /// Packets that came after they were given up.
    repairs_late,
    /// Packets that were given up: too late, gone, or more than are tracked.
    given_up,
    /// Answers to children: this node lacks these too.
    pendings_sent,
    /// Answers to children: these will not come.
    gones_sent,
    /// Messages to children that nobody asked for: these are not sent on purpose.
    gones_pushed,
    /// Times the highest number was said to a child.
    heads_sent,
    /// Parity datagrams sent, over all egresses.
    parity_sent,
    /// Parity datagrams that came and were proven.
    parity_received,
    /// Packets that were made anew from parity.
    recovered,
    /// Messages about a flow over a link that has no part in it.
    uncalled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_rows_hold_every_count() {
        let mut counts = RepairCounts {
            nacks_sent: 1,
            uncalled: 2,
            ..RepairCounts::default()
        };
        let other = counts;
        counts += &other;

        let rows: Vec<_> = counts.rows().filter(|&(_, count)| count > 0).collect();

        assert_eq!(rows, [("nacks_sent", 2), ("uncalled", 4)]);
    }
}
