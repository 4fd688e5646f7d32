//! Packets back in their order, after a network that may have mixed, lost or repeated them.
//!
//! A packet that comes ahead of others waits for them until [`WAITING_MAX`] wait, or until its owner, who has a
//! clock, gives up on the missing ones. Two packets in sequence far from where the stream was are a sender that
//! began anew (RFC 3550 A.1). In order nothing is copied. Not a jitter buffer: it plays nothing at a time. Called
//! by the unpacker. Invariant: packets leave in sequence, each at most once, and at most [`WAITING_MAX`] are held.

use std::collections::VecDeque;

/// Packets that wait for one that is missing. Networks that mix packets do it by a few; a true loss is seen at the
/// latest when this many came after it.
pub const WAITING_MAX: usize = 16;
/// How far ahead a sequence number may be to count as loss (RFC 3550 A.1).
const DROPOUT_MAX: u16 = 3_000;
/// How far behind it may be to count as late (RFC 3550 A.1).
const MISORDER_MAX: u16 = 100;

/// What the unpacker has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Take this packet.
    Packet(&'a [u8]),
    /// A packet is missing here.
    Lost,
    /// The sender began anew.
    Restart,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It left, or waits to.
    Taken,
    /// It was here before, or was given up.
    Late,
    /// It stands nowhere near: left out, unless the next one follows it.
    Stray,
}

#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// The sequence number that is due.
    next: Option<u16>,
    /// Slot `n` is for the packet `n` behind the one that is due; the first is empty.
    waiting: VecDeque<Option<Vec<u8>>>,
    /// The number that would follow a stray packet.
    restart: Option<u16>,
}

impl Reorder {
    /// Places a packet and gives out what can leave now.
    pub(super) fn push(
        &mut self,
        sequence: u16,
        bytes: &[u8],
        mut on_step: impl FnMut(Step<'_>),
    ) -> Placed {
        let next = *self.next.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(next);
        if ahead >= DROPOUT_MAX {
            if ahead.wrapping_neg() <= MISORDER_MAX {
                return Placed::Late;
            }
            let follows = self.restart.replace(sequence.wrapping_add(1));
            if follows != Some(sequence) {
                return Placed::Stray;
            }
            self.give_up(&mut on_step);
            self.next = Some(sequence);
            on_step(Step::Restart);
        }
        self.restart = None;
        while self.slot(sequence) > WAITING_MAX {
            self.skip(&mut on_step);
        }
        let slot = self.slot(sequence);
        if slot == 0 {
            on_step(Step::Packet(bytes));
            self.advance(&mut on_step);
            return Placed::Taken;
        }
        if self.waiting.len() <= slot {
            self.waiting.resize(slot + 1, None);
        }
        if self.waiting[slot].is_some() {
            return Placed::Late;
        }
        self.waiting[slot] = Some(bytes.to_vec());
        Placed::Taken
    }

    /// Waits no longer for what is missing: all that waited leaves.
    pub(super) fn give_up(&mut self, mut on_step: impl FnMut(Step<'_>)) {
        while !self.waiting.is_empty() {
            self.skip(&mut on_step);
        }
    }

    /// Whether packets wait for one that is missing.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn slot(&self, sequence: u16) -> usize {
        let next = self.next.unwrap_or(sequence);
        usize::from(sequence.wrapping_sub(next))
    }

    /// Gives up on the packet that is due.
    fn skip(&mut self, on_step: &mut impl FnMut(Step<'_>)) {
        on_step(Step::Lost);
        self.advance(on_step);
    }

    /// The packet that was due is done with: those behind it that are here leave.
    fn advance(&mut self, on_step: &mut impl FnMut(Step<'_>)) {
        self.waiting.pop_front();
        self.next = self.next.map(|next| next.wrapping_add(1));
        while let Some(bytes) = self.waiting.front_mut().and_then(Option::take) {
            on_step(Step::Packet(&bytes));
            self.waiting.pop_front();
            self.next = self.next.map(|next| next.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The packets that leave, by their first byte; 255 for one that is lost, 254 for a new start.
    fn trace(sequences: &[u16]) -> (Vec<u8>, usize) {
        let (mut reorder, mut out) = (Reorder::default(), Vec::new());
        let mut on_step = |step: Step<'_>| {
            out.push(match step {
                Step::Packet(bytes) => bytes[0],
                Step::Lost => 255,
                Step::Restart => 254,
            });
        };
        let mut late = 0;
        for sequence in sequences {
            let [_, low] = sequence.to_be_bytes();
            let placed = reorder.push(*sequence, &[low], &mut on_step);
            late += usize::from(placed == Placed::Late);
        }
        reorder.give_up(&mut on_step);
        assert!(!reorder.is_waiting());
        (out, late)
    }

    #[test]
    fn mixed_and_repeated_packets_leave_once_in_order() {
        assert_eq!(trace(&[1, 3, 2, 3, 1, 5, 4]), (vec![1, 2, 3, 4, 5], 2));
        assert_eq!(
            trace(&[65_535, 1, 0, 1, 2]),
            (vec![255, 0, 1, 2], 1),
            "across the wrap"
        );
    }

    #[test]
    fn a_lost_packet_holds_up_no_more_than_the_limit() {
        let mut reorder = Reorder::default();
        let mut left = 0;
        reorder.push(0, &[0], |_| left += 1);
        // The second is lost, and as many as can wait for it.
        for sequence in (2..).take(WAITING_MAX) {
            reorder.push(sequence, &[0], |_| left += 1);
        }
        assert_eq!((left, reorder.is_waiting()), (1, true));

        reorder.push(18, &[0], |_| left += 1);

        assert_eq!(left, 1 + 1 + WAITING_MAX + 1);
        assert!(!reorder.is_waiting());
    }

    #[test]
    fn a_jump_is_a_loss_and_two_strays_in_sequence_are_a_new_start() {
        let (out, _) = trace(&[0, 2_000]);
        assert_eq!((out.len(), out[1], out[2_000]), (2_001, 255, 208));

        // A stray alone is left out.
        assert_eq!(trace(&[7, 40_000, 8, 9]).0, [7, 8, 9]);
        assert_eq!(trace(&[7, 40_000, 40_001, 40_002]).0, [7, 254, 65, 66]);
        assert_eq!(trace(&[200, 99, 150]), (vec![200], 1));
    }

    proptest! {
        #[test]
        fn whatever_is_mixed_within_the_window_comes_out_in_order(
            start: u16, keys in proptest::collection::vec(0_usize..8, 1..60), repeat: bool,
        ) {
            // Each packet is late by its key at most, and keys are below the window.
            let mut order: Vec<_> = keys.iter().enumerate().map(|(n, key)| (n + key, n)).collect();
            order.sort_unstable();
            // The first one tells where the stream begins.
            order.retain(|(_, n)| *n > 0);
            let numbers = std::iter::once(0).chain(order.iter().map(|(_, n)| *n));
            let numbers = numbers.flat_map(|n| std::iter::repeat_n(n, 1 + usize::from(repeat)));
            let sequences: Vec<_> = numbers.map(|n| start.wrapping_add(u16::try_from(n).unwrap_or(0))).collect();

            let (out, late) = trace(&sequences);

            let number = |n| start.wrapping_add(u16::try_from(n).unwrap_or(0));
            let expected: Vec<_> = (0..keys.len()).map(|n| number(n).to_be_bytes()[1]).collect();
            prop_assert_eq!(out, expected);
            prop_assert_eq!(late, if repeat { keys.len() } else { 0 });
        }

        #[test]
        fn no_order_makes_a_packet_leave_twice_or_holds_more_than_the_limit(
            sequences in proptest::collection::vec(any::<u16>(), 0..200),
        ) {
            let mut reorder = Reorder::default();
            for sequence in sequences {
                let mut left = 0;
                reorder.push(sequence, &sequence.to_be_bytes(), |_| left += 1);
                prop_assert!(reorder.waiting.len() <= WAITING_MAX + 1);
                prop_assert!(left <= usize::from(DROPOUT_MAX) + WAITING_MAX + 2);
            }
        }
    }
}
