//! Where a flow is: which numbers can be its next, and how it comes to be elsewhere.
//!
//! ```text
//!              ┌─ the window explains it ─────────────▶ taken
//!   a proven   ├─ a consumer is here: it opens ───────▶ taken, the line begins there
//!   packet ────┼─ a former line explains it ──────────▶ taken, that line goes on
//!              ├─ eight of one upstream in a row, and
//!              │  nothing on this line for 50 ms ─────▶ taken, the line begins there; this one is a former one
//!              └─ else ───────────────────────────────▶ dropped: `TooOld` behind, `FarNumber` ahead
//! ```
//!
//! A carry tag proves that somebody holds the carry key, and anybody may ask for that: so a number alone must not end
//! a flow (docs/decisions/0025). Who has the content key tells true packets from others by opening them; who only
//! carries goes by what came before, and what the true origin sends always finds its line again. Not the window:
//! that tells copies apart. Called by `forward` for what the window does not explain. Invariant: a packet that is
//! not taken changes nothing but what is remembered here, at most [`STRAYS_PER_UPSTREAM`] of each upstream.

use levada_wire::{Instant, LinkIndex, Number};

use super::window::Window;
use crate::limits::{
    FORMER_LINES_MAX, LINE_QUIET, STRAY_STEP_MAX, STRAYS_CONFIRM, STRAYS_PER_UPSTREAM,
};
use crate::repair::missing::Reached;

/// The beginning of another line, perhaps.
#[derive(Clone, Copy, Debug)]
struct Stray {
    link: LinkIndex,
    /// One past its highest number.
    next: Number,
    packets: u8,
}

/// What is known of a line: to go on there, all of it that another has overtaken is put back.
#[derive(Debug)]
pub(crate) struct FormerLine {
    pub(crate) window: Window,
    /// How far repair had come.
    pub(crate) reached: Reached,
    pub(crate) packets: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Packets taken on it.
    packets: u64,
    /// When the last one came over an upstream that is expected to deliver, and which.
    latest: Option<(Instant, LinkIndex)>,
    /// The latest last.
    strays: Vec<Stray>,
    former: Vec<FormerLine>,
}

impl Line {
    /// A packet was taken that an upstream brought which is expected to.
    #[inline]
    pub(crate) const fn took(&mut self, link: LinkIndex, now: Instant) {
        self.packets += 1;
        self.latest = Some((now, link));
    }

    /// An upstream is no more: what it alone kept going need not be waited for.
    pub(crate) fn retire(&mut self, link: LinkIndex) {
        self.latest.take_if(|(_, of)| *of == link);
        self.strays.retain(|stray| stray.link != link);
    }

    /// The former line that goes on with that number, if one does.
    pub(crate) fn take_former(&mut self, number: Number) -> Option<FormerLine> {
        let goes_on =
            |former: &FormerLine| number >= former.window.next() && former.window.explains(number);
        let at = self.former.iter().position(goes_on)?;
        Some(self.former.remove(at))
    }

    /// Takes note of a packet that nothing explains; says whether enough have come that do confirm one another.
    pub(crate) fn confirms(&mut self, number: Number, link: LinkIndex, now: Instant) -> bool {
        let is_same = |stray: &Stray| {
            stray.link == link
                && number < stray.next.plus(STRAY_STEP_MAX)
                && stray.next < number.plus(STRAY_STEP_MAX)
        };
        let mut stray = match self.strays.iter().position(is_same) {
            Some(at) => self.strays.remove(at),
            None => Stray {
                link,
                next: number,
                packets: 0,
            },
        };
        if number >= stray.next {
            (stray.next, stray.packets) = (number.next(), stray.packets.saturating_add(1));
        } else if stray.packets == 0 {
            stray.packets = 1;
        }
        self.strays.push(stray);
        let of_link = |stray: &Stray| stray.link == link;
        if self.strays.iter().filter(|stray| of_link(stray)).count() > STRAYS_PER_UPSTREAM {
            let oldest = self.strays.iter().position(of_link);
            oldest.map(|at| self.strays.remove(at));
        }
        let is_quiet = self
            .latest
            .is_none_or(|(at, _)| now.since(at) >= LINE_QUIET);
        is_quiet && stray.packets >= STRAYS_CONFIRM
    }

    /// The flow goes on elsewhere. What it leaves is remembered, as long as there is room.
    pub(crate) fn leave(&mut self, window: Window, reached: Reached, resumed: u64) {
        self.former.push(FormerLine {
            window,
            reached,
            packets: std::mem::replace(&mut self.packets, resumed),
        });
        if self.former.len() > FORMER_LINES_MAX {
            let all = self.former.iter().enumerate();
            let least = all.min_by_key(|(_, former)| former.packets);
            let least = least.map(|(at, _)| at);
            least.map(|at| self.former.remove(at));
        }
        (self.latest, self.strays) = (None, Vec::new());
    }
}

#[cfg(test)]
mod tests;
