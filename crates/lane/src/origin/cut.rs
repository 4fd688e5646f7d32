//! Cuts the body of a burst into packets: equal but the last, numbered, sealed once.
//!
//! Not the choice of what is in a burst: `origin.rs`. Called by it. Invariant: numbers are given out in order and
//! once, `offset` counts from the group's first packet, and LAST stands on the last packet of each burst.

use std::collections::VecDeque;

use levada_wire::packet::seal::Sealer;
use levada_wire::packet::{Class, OVERHEAD_BYTES};
use levada_wire::{FlowId, Group, Header, Instant, Number, OriginTime};

use crate::api::Originate;
use crate::flow::run::Run;
use crate::limits::{GROUP_PACKETS_MAX, RUN_BYTES_MAX, RUN_PACKETS_MAX};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Cutter {
    /// Packets that wait for the lane: those of the bursts that were cut since it last took them.
    pub(super) runs: VecDeque<Run>,
    flow: FlowId,
    epoch: u8,
    sealer: Sealer,
    packet_bytes: usize,
    next: Number,
    group: Group,
    /// The first number of the current group; `None` before the first group.
    group_start: Option<Number>,
}

impl Cutter {
    pub(super) fn new(flow: FlowId, originate: &Originate) -> Self {
        Self {
            runs: VecDeque::new(),
            flow,
            epoch: originate.epoch,
            sealer: Sealer::new(
                originate.secret.clone(),
                originate.carry.clone(),
                flow,
                originate.instance,
                originate.suite,
            ),
            packet_bytes: originate.packet_size.bytes(),
            next: Number::ZERO,
            group: Group(0),
            group_start: None,
        }
    }

    /// Bytes of frames in a full packet.
    pub(super) const fn body_bytes(&self) -> usize {
        self.packet_bytes - OVERHEAD_BYTES
    }

    pub(super) const fn next_number(&self) -> Number {
        self.next
    }

    /// Whether the largest burst, and the one that says END, still find numbers.
    pub(super) fn has_numbers_left(&self) -> bool {
        Number::MAX.since(self.next) > GROUP_PACKETS_MAX
    }

    /// Whether a group must start wherever decoding can start, lest `offset` runs out.
    pub(super) fn group_is_full(&self) -> bool {
        self.group_start
            .is_some_and(|start| self.next.since(start) >= GROUP_PACKETS_MAX)
    }

    /// The next burst starts a group.
    pub(super) fn begin_group(&mut self) {
        if self.group_start.is_some() {
            self.group = Group(self.group.0.wrapping_add(1));
        }
        self.group_start = Some(self.next);
    }

    /// Cuts one burst and leaves its packets in [`Cutter::runs`].
    pub(super) fn cut(&mut self, body: &[u8], discardable: bool, description: u8, now: Instant) {
        let body_bytes = self.body_bytes();
        let packets = body.len().div_ceil(body_bytes);
        let group_start = self.group_start.expect("the first burst begins a group");
        let burst = self.next;
        let sent = OriginTime::from_instant(now);
        let mut index = 0;
        // What one send can take has a buffer of its own: whoever keeps it keeps nothing of the rest.
        let per_run = RUN_PACKETS_MAX.min(RUN_BYTES_MAX / self.packet_bytes);
        for body in body.chunks(per_run * body_bytes) {
            let first = self.next;
            let overhead = body.len().div_ceil(body_bytes) * OVERHEAD_BYTES;
            let mut sealed = Vec::with_capacity(body.len() + overhead);
            for part in body.chunks(body_bytes) {
                let header = Header {
                    last: index + 1 == packets,
                    discardable,
                    class: Class::KEEP,
                    key: self.epoch,
                    description,
                    flow: self.flow,
                    number: self.next,
                    index: u16::try_from(index).expect("8 MiB are 16,132 of the smallest packets"),
                    group: self.group,
                    offset: u32::try_from(self.next.since(group_start))
                        .expect("a group that is full ends"),
                    sent,
                };
                self.sealer.seal(&header, part, &mut sealed);
                self.next = self.next.next();
                index += 1;
            }
            self.runs.push_back(Run {
                first,
                group_start,
                burst,
                sent,
                buffer_bytes: sealed.len(),
                bytes: sealed.into(),
                segment_bytes: self.packet_bytes,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit;

    #[test]
    fn a_group_is_full_before_its_offsets_run_out() {
        let mut cutter = Cutter::new(testkit::FLOW, &testkit::originate());
        cutter.begin_group();

        cutter.next = Number::ZERO.plus(GROUP_PACKETS_MAX - 1);
        assert!(!cutter.group_is_full());
        cutter.next = cutter.next.next();
        assert!(cutter.group_is_full());

        cutter.begin_group();
        assert!(!cutter.group_is_full());
    }

    #[test]
    fn numbers_end_a_whole_group_before_the_last_one() {
        let mut cutter = Cutter::new(testkit::FLOW, &testkit::originate());
        let last = Number::MAX.minus(GROUP_PACKETS_MAX);

        cutter.next = last.and_then(|last| last.minus(1)).unwrap_or_default();
        assert!(cutter.has_numbers_left());
        cutter.next = cutter.next.next();
        assert!(!cutter.has_numbers_left());
    }
}
