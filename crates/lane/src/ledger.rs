//! The two ledgers of a lane: every packet that comes in has exactly one fate, and so has every copy that is due.
//!
//! ```text
//! packets:  arrived + made = forwarded + consumed + kept + held + control + foreign + dropped, by reason
//! copies:   due            = sent + unsent, by reason
//! ```
//!
//! Both sides are counted where they happen, never one from the other, so that a difference is a bug and not an
//! identity. Not what the socket did with a copy afterwards: that is `SendCounters` of `levada_ports`. Written by
//! `forward`, `flow` and `lane`; read by tables and by the simulator's checkers. Invariant: between any two
//! calls of a lane [`Ledger::check`] gives a [`Difference`] of zero.

use std::ops::AddAssign;

use levada_wire::counter::{Declared, Kind};
use levada_wire::{counters, reasons};

use crate::repair::counts::RepairCounts;

reasons! {
    /// Why a packet, or a copy of it for one egress, went no further.
    pub enum DropReason {
        /// Its first byte is of no kind that is handled here.
        UnknownKind => "unknown_kind",
        /// It says it is a media packet and is none.
        BadHeader => "bad_header",
        /// The receive held more datagrams than any kernel joins.
        LongTrain => "long_train",
        /// It arrived at another lane than its flow's, and that one was too far behind to take it.
        LaneBusy => "lane_busy",
        /// No such flow is open here.
        UnknownFlow => "unknown_flow",
        /// The flow is open, its key for this epoch is not known, and the packet may not wait for it.
        NoKey => "no_key",
        /// As many packets wait for the flow's key as may.
        EarlyFull => "early_full",
        /// Its carry tag is false.
        BadTag => "bad_tag",
        /// Its index or offset is larger than its number.
        Contradiction => "contradiction",
        /// It did not come over a link that is, or was, an upstream of its flow.
        NotUpstream => "not_upstream",
        /// It was here before.
        Duplicate => "duplicate",
        /// It is older than the window remembers.
        TooOld => "too_old",
        /// It is farther ahead than the flow explains, and not enough others confirm it.
        FarNumber => "far_number",
        /// Nobody wants it and the cache does not keep it.
        Unwanted => "unwanted",
        /// Its flow was closed while it waited for the key, or was under way.
        FlowClosed => "flow_closed",
        /// A link datagram for a link that is not here.
        UnknownLink => "unknown_link",
        /// A link datagram that does not open.
        BadSeal => "bad_seal",
        /// A link datagram that was here before.
        Replayed => "replayed",
        /// A child asked for it again sooner than an answer can have reached it.
        RepairTooSoon => "repair_too_soon",
        /// A child has been sent as many repaired packets as it may be.
        RepairLimit => "repair_limit",
        /// A copy for an egress that had been sent more than it was admitted with: its burst was shed.
        Shed => "shed",
        /// A copy for an egress that went on with the next group instead.
        Skipped => "skipped",
        /// A copy that would have gone back to where the packet came from.
        BackToSender => "back_to_sender",
    }
}

/// What became of a packet that was not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Sent to at least one egress, or on its way there from the cache, and perhaps consumed as well.
    Forwarded,
    /// Consumed here only.
    Consumed,
    /// Cached only: nobody wants it yet.
    Kept,
    /// Used up here: a link datagram that opened, or parity.
    Control,
    /// Handed on unread: QUIC.
    Foreign,
}

type PerReason = [u64; DropReason::ALL.len()];

const DROPPED: Declared = Declared {
    name: "packets_dropped",
    help: "Packets that went no further.",
    unit: "packets",
    kind: Kind::Counter,
};
const UNSENT: Declared = Declared {
    name: "copies_unsent",
    help: "Copies that were due and were not sent.",
    unit: "copies",
    kind: Kind::Counter,
};

counters! {
    /// Counts of packets and of copies since the lane was made. See the module's head.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Ledger, "packets_" {
        /// Datagrams that came in.
        arrived: Counter "packets",
        /// Packets that were made here: by an origin, or anew from parity.
        made: Counter "packets",
        /// Packets sent to at least one egress, or kept until one that is behind comes to them.
        forwarded: Counter "packets",
        /// Packets consumed here and sent to nobody.
        consumed: Counter "packets",
        /// Packets cached only.
        kept: Counter "packets",
        /// Packets that wait for their flow's key at this moment.
        held: Gauge "packets",
        /// Link datagrams that opened, and parity that was proven.
        control: Counter "packets",
        /// Datagrams handed on unread: QUIC.
        foreign: Counter "packets",
        /// Packets that passed their carry tag and did not open. A note beside the ledgers: they were counted before.
        unopened: Counter "packets",
        /// Copies due: one per packet and egress, and those from the cache, for a newcomer or for repair.
        due: Counter "copies" as "copies_due",
        /// Copies handed to the socket.
        sent: Counter "copies" as "copies_sent",
    } with {
        /// What repair did. Notes as well.
        pub repair: RepairCounts,
        dropped: PerReason,
        unsent: PerReason,
    }
}

/// How far the sides of the ledgers are apart; zero unless there is a bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Packets in, less packets whose fate is known.
    pub packets: i128,
    /// Copies due, less copies whose fate is known.
    pub copies: i128,
}

impl Difference {
    /// Whether both ledgers sum to zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.packets == 0 && self.copies == 0
    }
}

impl Ledger {
    /// Packets dropped for `reason`.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Copies not sent for `reason`.
    #[must_use]
    pub const fn unsent(&self, reason: DropReason) -> u64 {
        self.unsent[reason as usize]
    }

    /// Both counts of each reason, as they are declared.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static Declared, DropReason, u64)> {
        DropReason::ALL.into_iter().flat_map(|reason| {
            let unsent = (&UNSENT, reason, self.unsent(reason));
            [(&DROPPED, reason, self.dropped(reason)), unsent]
        })
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Sums both ledgers.
    #[must_use]
    pub fn check(&self) -> Difference {
        let sum = |counts: &[u64]| counts.iter().map(|&count| i128::from(count)).sum::<i128>();
        let fates = [
            self.forwarded,
            self.consumed,
            self.kept,
            self.held,
            self.control,
            self.foreign,
        ];
        Difference {
            packets: sum(&[self.arrived, self.made]) - sum(&fates) - sum(&self.dropped),
            copies: i128::from(self.due) - i128::from(self.sent) - sum(&self.unsent),
        }
    }

    /// Packets come to nothing for a reason.
    pub const fn drop_packets(&mut self, reason: DropReason, packets: u64) {
        self.dropped[reason as usize] += packets;
    }

    /// Copies were due and went out.
    pub(crate) const fn send_copies(&mut self, copies: u64) {
        self.due += copies;
        self.sent += copies;
    }

    /// Copies were due and did not go out.
    pub(crate) const fn drop_copies(&mut self, reason: DropReason, copies: u64) {
        self.due += copies;
        self.unsent[reason as usize] += copies;
    }

    pub(crate) const fn settle(&mut self, fate: Fate, packets: u64) {
        match fate {
            Fate::Forwarded => self.forwarded += packets,
            Fate::Consumed => self.consumed += packets,
            Fate::Kept => self.kept += packets,
            Fate::Control => self.control += packets,
            Fate::Foreign => self.foreign += packets,
        }
    }
}

/// Merges the ledgers of several lanes.
impl AddAssign<&Self> for Ledger {
    fn add_assign(&mut self, other: &Self) {
        self.add_counts(other);
        let Self {
            repair,
            dropped,
            unsent,
            ..
        } = other;
        self.repair += repair;
        for (mine, others) in self.dropped.iter_mut().zip(dropped) {
            *mine += others;
        }
        for (mine, others) in self.unsent.iter_mut().zip(unsent) {
            *mine += others;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        for reason in DropReason::ALL {
            let same_word = |other: &DropReason| other.as_str() == reason.as_str();
            assert_eq!(DropReason::ALL.iter().filter(|r| same_word(r)).count(), 1);
        }
    }

    #[test]
    fn a_packet_without_a_fate_shows_as_a_difference() {
        let mut ledger = Ledger {
            arrived: 3,
            due: 2,
            sent: 1,
            ..Ledger::default()
        };
        ledger.settle(Fate::Kept, 1);
        ledger.drop_packets(DropReason::BadTag, 1);

        let difference = ledger.check();

        assert_eq!(difference.packets, 1);
        assert_eq!(difference.copies, 1);
        assert!(!difference.is_zero());
    }

    #[test]
    fn merged_ledgers_hold_the_sum_of_both() {
        let mut a = Ledger {
            arrived: 1,
            ..Ledger::default()
        };
        a.drop_packets(DropReason::TooOld, 1);
        let mut b = Ledger::default();
        b.drop_copies(DropReason::BackToSender, 5);

        a += &b;

        assert_eq!(a.dropped(DropReason::TooOld), 1);
        assert_eq!(a.unsent(DropReason::BackToSender), 5);
        assert!(a.check().is_zero());
    }
}
