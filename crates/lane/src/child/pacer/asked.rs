//! Sends what a paced child asked for again, and its parity, as its pace allows.
//!
//! Not what its cursor comes to: `pace.rs`, which calls this first; `repair` says what is asked for. Invariant:
//! nothing leaves while the pace is not ready, and what leaves is counted where all of its kind is.

use levada_wire::{Instant, Number};

use crate::child::Child;
use crate::child::repairs::{Repaired, Request};
use crate::flow::Flow;
use crate::ledger::{DropReason, Ledger};
use crate::limits::PACE_ROOM_MIN;
use crate::state::Io;

/// A child asks for a packet that it was sent: for the first time, that tells of its path.
pub(crate) fn note_lost(child: &mut Child, repaired: &Repaired, request: &Request, now: Instant) {
    if let Some(pacer) = &mut child.pacer
        && child.repairs.is_first(repaired, request)
    {
        pacer.lost(request.number, now);
    }
}

/// A packet is to be sent again to a paced child, so many times.
pub(crate) fn ask(child: &mut Child, number: Number, copies: u64, ledger: &mut Ledger) {
    let pacer = child.pacer.as_mut();
    if !pacer.is_some_and(|pacer| pacer.ask(number, copies)) {
        ledger.drop_copies(DropReason::RepairLimit, copies);
    }
}

/// Sends repairs and parity of the child at that place. Says whether there was no room to do all.
pub(crate) fn drive(flow: &mut Flow, io: &mut Io, place: usize, now: Instant) -> bool {
    let child = &mut flow.children.all[place];
    let cursor = child.progress.cursor();
    let Some(pacer) = &mut child.pacer else {
        return false;
    };
    let link = io.links.get_mut(child.link);
    let link = link.expect("removing a link removes its children");
    while pacer.is_ready(now) && pacer.has_asked(cursor) {
        if io.outbox.room() < PACE_ROOM_MIN {
            return true;
        }
        if let Some(run) = pacer.next_repair(&flow.cache) {
            io.ledger.repair.repairs_sent += run.packets() as u64;
            pacer.took(run.bytes.len(), now);
            link.send(&run, &mut io.outbox, &mut io.ledger, &mut flow.counters);
        } else if let Some((bytes, datagram_bytes)) = pacer.next_parity(cursor) {
            let datagrams = bytes.len().div_ceil(datagram_bytes) as u64;
            io.ledger.repair.parity_sent += datagrams;
            pacer.took(bytes.len(), now);
            link.send_parity(bytes, datagram_bytes, &mut io.outbox);
        }
    }
    false
}
