//! What repair did, in numbers: notes beside the ledgers.
//!
//! Not a ledger: a repaired packet has its fate there like any other. Counted by `repair`; read by tables. Invariant:
//! each count only grows.

use levada_wire::counters;

counters! {
    /// What repair did since the lane was made. See the module's head.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RepairCounts, "repair_" {
        /// Requests sent to upstreams, each for up to 257 packets.
        nacks_sent: Counter "messages",
        /// Requests that children sent.
        nacks_received: Counter "messages",
        /// Packets sent again.
        repairs_sent: Counter "packets",
        /// Packets that came after they were asked for.
        repairs_received: Counter "packets",
        /// Packets that came after they were given up.
        repairs_late: Counter "packets",
        /// Packets that were given up: too late, gone, or more than are tracked.
        given_up: Counter "packets",
        /// Answers to children: this node lacks these too.
        pendings_sent: Counter "messages",
        /// Answers to children: these will not come.
        gones_sent: Counter "messages",
        /// Messages to children that nobody asked for: these are not sent on purpose.
        gones_pushed: Counter "messages",
        /// Times the highest number was said to a child.
        heads_sent: Counter "messages",
        /// Parity datagrams sent, over all egresses.
        parity_sent: Counter "datagrams",
        /// Parity datagrams that came and were proven.
        parity_received: Counter "datagrams",
        /// Packets that were recovered from parity.
        recovered: Counter "packets",
        /// Messages about a flow over a link that has no part in it.
        uncalled: Counter "messages",
    }
}
