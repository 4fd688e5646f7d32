//! Path MTU discovery for one link, by padded pings (packetization layer path MTU discovery, like RFC 8899).
//!
//! Packets are never fragmented, and ICMP errors may be filtered: a datagram that is too large for its path vanishes
//! silently. So a ping padded to a packet's size is sent together with a short one. A pong to the large one proves
//! the size; several pongs to short ones alone prove that it is too large. Random loss does not disturb this, since
//! it hits both alike. Short pings have a little padding, which tells their pongs from those of `liveness`.
//!
//! ```text
//!            ┌── pong of that size ──▶ proven; the next larger size that a stream has, if any
//!  trying ───┼── 8 short pongs first ▶ too large; the next smaller size, down to what the handshake proved
//!            └── 32 pongs, none of which says a size: the peer knows no padding; nothing is concluded
//!
//!  proven ── every 2 s while a flow uses the link, every 60 s else ──▶ trying the proven size again (black holes)
//! ```
//!
//! Only the direction to the peer is measured; the peer measures the other one. Not which flows may use the link
//! (`flow`). Called by `sizes`. Invariant: a larger size is reported at once, a smaller one when the search for it
//! has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use levada_wire::datagram::link::{Ping, SHORT_PING_BYTES};
use levada_wire::machine::Wakeup;
use levada_wire::{Instant, PacketSize};

use crate::limits::{
    SIZE_AGAIN, SIZE_CHECK_ACTIVE, SIZE_CHECK_IDLE, SIZE_MUTE_PONGS, SIZE_PACE, SIZE_SHORT_PONGS,
};

/// What any path carries that a link came up over: QUIC's first packets have 1,200 bytes (RFC 9000 section 14.1).
const SURE: PacketSize = match PacketSize::new(1_200) {
    Some(size) => size,
    None => unreachable!(),
};

/// The packet size of a link as others may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathSize {
    /// Packets of this size get through.
    pub size: PacketSize,
    /// Whether a larger one may soon be found to.
    pub is_trying: bool,
}

impl Default for PathSize {
    /// Any IPv6 path carries [`PacketSize::DEFAULT`], and nearly any other: assumed until it is found out.
    fn default() -> Self {
        Self {
            size: PacketSize::DEFAULT,
            is_trying: false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Size {
    /// The largest size taken to get through while trying goes on.
    best: PacketSize,
    /// Whether a pong has proven it.
    is_proven: bool,
    /// Whether a pong has ever said a size: the peer knows what padding is.
    is_understood: bool,
    /// The least size found to be too large, and until when that is believed.
    too_large: Option<(PacketSize, Instant)>,
    trying: Option<Try>,
    /// When the proven size is tried again.
    check_at: Instant,
    active: bool,
    told: PathSize,
}

/// A size being tried.
#[derive(Debug)]
struct Try {
    size: PacketSize,
    since: Instant,
    ping_at: Instant,
    /// Pongs of short pings, and pongs that say no size.
    short_pongs: u32,
    mute_pongs: u32,
}

impl Size {
    /// A link that has just come up.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            best: PacketSize::DEFAULT,
            is_proven: false,
            is_understood: false,
            too_large: None,
            trying: None,
            check_at: now,
            active: false,
            told: PathSize::default(),
        }
    }

    /// The size that others were told.
    pub(super) const fn told(&self) -> PacketSize {
        self.told.size
    }

    /// Whether a pong has proven it.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven && self.best == self.told.size
    }

    /// When [`Size::pings_if_due`] has something to do.
    pub(super) fn wakeup(&self) -> Wakeup {
        let at = match (&self.trying, self.too_large) {
            (Some(trying), _) => trying.ping_at,
            (None, Some((_, until))) => self.check_at.min(until),
            (None, None) => self.check_at,
        };
        Wakeup {
            at,
            why: "packet size",
        }
    }

    /// What others must be told, if it is news.
    pub(super) fn news(&mut self, wanted: &BTreeSet<PacketSize>) -> Option<PathSize> {
        let is_falling = self.trying.is_some() && self.best < self.told.size;
        let size = if is_falling {
            self.told.size
        } else {
            self.best
        };
        let is_trying = self.trying.is_some() && self.above(wanted).any(|larger| *larger > size);
        let path = PathSize { size, is_trying };
        (path != std::mem::replace(&mut self.told, path)).then_some(path)
    }

    /// A flow uses the link from now on, or does so no more.
    pub(super) fn set_active(&mut self, now: Instant, active: bool) {
        self.active = active;
        self.check_at = self.check_at.min(now + self.check_interval());
    }

    /// The sizes that streams have changed.
    pub(super) fn on_wanted(&mut self, now: Instant, wanted: &BTreeSet<PacketSize>) {
        let is_news = self.above(wanted).next().is_some();
        if self.trying.is_none() && self.is_proven && is_news {
            self.try_next(now, wanted);
        }
    }

    /// A pong came: to a padded ping of that many bytes, or to one without padding if that is zero.
    pub(super) fn on_pong(
        &mut self,
        now: Instant,
        time: u64,
        size: u16,
        wanted: &BTreeSet<PacketSize>,
    ) {
        self.is_understood |= size > 0;
        let answers = |trying: &&mut Try| time >= trying.since.as_micros();
        let Some(trying) = self.trying.as_mut().filter(answers) else {
            return;
        };
        let size = usize::from(size);
        if size >= trying.size.bytes() {
            self.best = self.best.max(trying.size);
            self.is_proven = true;
            self.too_large = self.too_large.filter(|(least, _)| *least > self.best);
            self.try_next(now, wanted);
        } else if size == SHORT_PING_BYTES {
            trying.short_pongs += 1;
            if trying.short_pongs >= SIZE_SHORT_PONGS {
                let size = trying.size;
                self.on_too_large(now, size, wanted);
            }
        } else if size == 0 && !self.is_understood {
            trying.mute_pongs += 1;
            if trying.mute_pongs >= SIZE_MUTE_PONGS {
                self.trying = None;
                self.check_at = now + SIZE_CHECK_IDLE;
            }
        }
    }

    /// A datagram of that size does not get through.
    pub(super) fn on_too_large(
        &mut self,
        now: Instant,
        size: PacketSize,
        wanted: &BTreeSet<PacketSize>,
    ) {
        if size <= SURE || self.trying.is_none() && size > self.best {
            return;
        }
        let least = self.too_large.map_or(size, |(least, _)| least.min(size));
        self.too_large = Some((least, now + SIZE_AGAIN));
        if least <= self.best {
            (self.best, self.is_proven) = (SURE, true);
        }
        if self
            .trying
            .as_ref()
            .is_none_or(|trying| trying.size >= least)
        {
            self.try_next(now, wanted);
        }
    }

    /// The pings that are due: a short one, and beside it one as large as a packet.
    pub(super) fn pings_if_due(&mut self, now: Instant) -> Option<[Ping; 2]> {
        if self.too_large.is_some_and(|(_, until)| until <= now) {
            self.too_large = None;
            self.check_at = now;
        }
        if self.trying.is_none() && self.check_at <= now {
            self.start(now, self.best);
        }
        let trying = self.trying.as_mut()?;
        if trying.ping_at > now {
            return None;
        }
        trying.ping_at = now + SIZE_PACE;
        let time = now.as_micros();
        // The datapath, which counts, fills in `sent`.
        Some([Ping::short(time, 0), Ping::padded(time, 0, trying.size)])
    }

    /// Goes on with another size, or is done for now.
    fn try_next(&mut self, now: Instant, wanted: &BTreeSet<PacketSize>) {
        self.trying = None;
        self.check_at = now + self.check_interval();
        let above: Vec<PacketSize> = self.above(wanted).copied().collect();
        // The largest first, which mostly gets through; once one did not, the middle of what is left.
        let next = match self.too_large {
            None => above.last(),
            Some(_) => above.get(above.len() / 2),
        };
        if let Some(next) = next {
            self.start(now, *next);
        }
    }

    fn start(&mut self, now: Instant, size: PacketSize) {
        self.trying = Some(Try {
            size,
            since: now,
            ping_at: now,
            short_pongs: 0,
            mute_pongs: 0,
        });
    }

    /// The sizes that are wanted and may get through though they are not proven.
    fn above<'a>(
        &self,
        wanted: &'a BTreeSet<PacketSize>,
    ) -> impl Iterator<Item = &'a PacketSize> + use<'a> {
        let (best, too_large) = (self.best, self.too_large);
        let may = move |size: &&PacketSize| {
            **size > best && too_large.is_none_or(|(least, _)| **size < least)
        };
        wanted.iter().filter(may)
    }

    const fn check_interval(&self) -> Duration {
        if self.active {
            SIZE_CHECK_ACTIVE
        } else {
            SIZE_CHECK_IDLE
        }
    }
}
