//! What becomes of a packet that the window does not explain, and what of a flow moves with it.
//!
//! Not the judgement of who only carries: that is `line.rs`, whose head shows all cases. Called by `forward`.
//! Invariant: a packet that is not taken changes nothing but what `line.rs` remembers.

use levada_wire::{Header, Instant, LinkIndex, Number};

use super::Flow;
use super::line::FormerLine;
use super::window::Window;
use crate::ledger::DropReason;
use crate::limits::LINE_GAP_MAX;
use crate::repair::missing::Reached;
use crate::repair::parity::decode::ParityDecoder;
use crate::state::Io;

/// Whether a proven packet that the window does not explain is taken all the same: then the flow goes on there. `link`
/// is the upstream that brought it, if it is expected to deliver.
#[cold]
pub(crate) fn takes(
    flow: &mut Flow,
    io: &mut Io,
    (header, packet): (&Header, &[u8]),
    link: Option<LinkIndex>,
    now: Instant,
) -> bool {
    let (number, Some(link)) = (header.number, link) else {
        return false;
    };
    if flow.origin.is_some() {
        return false; // nobody knows better than it where the flow is
    }
    if let Some(consumer) = &mut flow.consumer {
        if !consumer.wants(header, packet) {
            return false;
        }
        flow.line.confirms(number, link, now);
        move_to(flow, io, number, None);
        return true;
    }
    if let Some(former) = flow.line.take_former(number) {
        move_to(flow, io, number, Some(former));
        return true;
    }
    let is_confirmed = flow.line.confirms(number, link, now);
    if is_confirmed {
        move_to(flow, io, number, None);
    }
    is_confirmed
}

/// Why a packet is dropped that the window does not explain.
pub(crate) fn refusal(flow: &Flow, number: Number) -> DropReason {
    if number < flow.window.next() {
        DropReason::TooOld
    } else {
        DropReason::FarNumber
    }
}

/// The flow goes on at a number that its window does not explain: at a former line, or where it has not been.
fn move_to(flow: &mut Flow, io: &mut Io, number: Number, former: Option<FormerLine>) {
    let is_back = number < flow.window.next();
    let goes_on = !is_back && number.since(flow.window.next()) <= LINE_GAP_MAX;
    let reached = flow.missing.reached();
    let (window, resumed) = match former {
        Some(former) => {
            flow.missing.resume(former.reached);
            (former.window, former.packets)
        }
        None => {
            if !goes_on {
                flow.missing.resume(Reached::default());
            }
            (Window::of_width(flow.window.width()), 0)
        }
    };
    let left = std::mem::replace(&mut flow.window, window);
    flow.window.widen(left.width());
    flow.line.leave(left, reached, resumed);
    if is_back {
        // What was beyond is of no line that goes on: nobody is to begin with it, or to wait for it.
        let beyond = number.plus(flow.window.width());
        flow.cache.forget_from(beyond, &mut io.room);
        flow.children.go_back(number);
        flow.tail.go_back();
        flow.parity_decoder = ParityDecoder::default();
    }
}
