//! Where a lane puts what it wants done, until its driver takes it, and the one way out for packets.
//!
//! Not a socket queue: a driver takes everything after each call. Not over which link: `link.rs` counts what it sends. Filled by
//! `forward`, `link`, `repair`, `pace` and `lane`. Invariant: outputs leave in the order they were put in, [`Outbox::room`] keeps
//! one call within the contract's bound (`OUTPUTS_PER_CALL_MAX`), and packets leave by [`Outbox::send`] alone, which counts them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use levada_wire::machine::OUTPUTS_PER_CALL_MAX;

use crate::api::{Event, FlowCounters, Output, Train, Transmit};
use crate::flow::run::Run;
use crate::ledger::Ledger;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The lane's number, written into link datagrams.
    pub(crate) lane: u8,
    queue: VecDeque<Output>,
    this_call: usize,
}

impl Outbox {
    pub(crate) fn new(lane: u8) -> Self {
        Self {
            lane,
            ..Self::default()
        }
    }

    /// A new call begins.
    pub(crate) const fn begin_call(&mut self) {
        self.this_call = 0;
    }

    /// How many outputs this call may still leave.
    pub(crate) const fn room(&self) -> usize {
        OUTPUTS_PER_CALL_MAX.saturating_sub(self.this_call)
    }

    /// Sends packets of a flow, and counts them: nobody else does.
    #[inline]
    pub(crate) fn send(
        &mut self,
        run: &Run,
        to: SocketAddr,
        ledger: &mut Ledger,
        counters: &mut FlowCounters,
    ) {
        let packets = run.packets() as u64;
        ledger.send_copies(packets);
        counters.packets_out += packets;
        counters.bytes_out += run.bytes.len() as u64;
        self.transmit(to, run.bytes.clone(), run.segment_bytes);
    }

    /// Sends datagrams that are no packets of a flow.
    pub(crate) fn transmit(&mut self, to: SocketAddr, bytes: Bytes, segment_bytes: usize) {
        self.push(Output::Transmit(Transmit {
            to,
            bytes,
            segment_bytes,
        }));
    }

    pub(crate) fn foreign(&mut self, train: Train) {
        self.push(Output::Foreign(train));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    fn push(&mut self, output: Output) {
        self.queue.push_back(output);
        self.this_call += 1;
    }
}
