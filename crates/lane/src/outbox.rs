//! Where a lane puts what it wants done, until its driver takes it.
//!
//! Not a socket queue: a driver takes everything after each call. Filled by `forward`, `flow` and `lane`.
//! Invariant: outputs leave in the order they were put in, and [`Outbox::room`] keeps one call within the
//! contract's bound (`OUTPUTS_PER_CALL_MAX`).

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use levada_wire::machine::OUTPUTS_PER_CALL_MAX;

use crate::api::{Event, Output, Train, Transmit};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Output>,
    this_call: usize,
}

impl Outbox {
    /// A new call begins.
    pub(crate) const fn begin_call(&mut self) {
        self.this_call = 0;
    }

    /// How many outputs this call may still leave.
    pub(crate) const fn room(&self) -> usize {
        OUTPUTS_PER_CALL_MAX.saturating_sub(self.this_call)
    }

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
