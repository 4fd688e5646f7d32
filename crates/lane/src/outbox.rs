//! Where a lane puts what it wants done, until its driver takes it, and the one way out for packets.
//!
//! Not a socket queue: a driver takes everything after each call. Not over which link: `link.rs` counts what it sends.
//! Filled by `forward`, `link`, `repair`, `child` and `lane`. Invariant: outputs leave in the order they were put in,
//! [`Outbox::room`] keeps one call within the contract's bound (`OUTPUTS_PER_CALL_MAX`), and packets leave by
//! [`Outbox::send`] alone, which counts them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use levada_wire::machine::OUTPUTS_PER_CALL_MAX;
use levada_wire::{FlowId, LinkIndex, lane};

use crate::api::{
    Channel, Datagrams, Egress, Event, FlowCounters, FlowEvent, LinkEvent, Output, Packets, Train,
    Transmit,
};
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

    /// Sends a run of so many packets of a flow, and counts them: nobody else does.
    #[inline]
    pub(crate) fn send(
        &mut self,
        (run, packets): (&Run, u64),
        (egress, to, source): (Egress, SocketAddr, Option<IpAddr>),
        ledger: &mut Ledger,
        counters: &mut FlowCounters,
    ) {
        ledger.send_copies(packets);
        counters.packets_out += packets;
        counters.bytes_out += run.bytes.len() as u64;
        let packets = Packets {
            flow: FlowId(counters.flow),
            first: run.first,
            starts_group: run.first == run.group_start,
        };
        let datagrams = Datagrams {
            source,
            to,
            bytes: run.bytes.clone(),
            segment_bytes: run.segment_bytes,
        };
        self.push(Output::Transmit(Transmit {
            egress,
            packets: Some(packets),
            datagrams,
        }));
    }

    /// Sends over a link what is no packet of a flow.
    pub(crate) fn send_other(&mut self, link: LinkIndex, datagrams: Datagrams) {
        self.push(Output::Transmit(Transmit {
            egress: Egress::Link(link),
            packets: None,
            datagrams,
        }));
    }

    pub(crate) fn foreign(&mut self, train: Train) {
        self.push(Output::Foreign(train));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    /// Tells the core of a link.
    pub(crate) fn tell_link(&mut self, link: LinkIndex, event: LinkEvent) {
        self.event(Event::Core(lane::Event::Link(link, event)));
    }

    /// Tells the core of a flow.
    pub(crate) fn tell_flow(&mut self, flow: FlowId, event: FlowEvent) {
        self.event(Event::Core(lane::Event::Flow(flow, event)));
    }

    /// Hands on a site datagram that came by a channel.
    pub(crate) fn site(&mut self, from: SocketAddr, datagram: Vec<u8>) {
        self.event(Event::Core(lane::Event::Site { from, datagram }));
    }

    pub(crate) fn join(&mut self, channel: Channel) {
        self.push(Output::Join(channel));
    }

    pub(crate) fn leave(&mut self, channel: Channel) {
        self.push(Output::Leave(channel));
    }

    pub(crate) fn wake_others(&mut self) {
        self.push(Output::WakeOthers);
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    fn push(&mut self, output: Output) {
        self.queue.push_back(output);
        self.this_call += 1;
        debug_assert!(
            self.this_call <= OUTPUTS_PER_CALL_MAX,
            "there was room for it"
        );
    }
}
