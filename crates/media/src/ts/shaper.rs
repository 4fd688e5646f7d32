//! A transport stream for receivers that have no patience: which packets leave in which datagram, and when.
//!
//! ```text
//!   frames ─▶ Muxer, without clock ─▶ queue ─▶ datagrams of 7 packets, each with the time at which it leaves
//!                                               ▲ first a packet of the clock, each 30 ms; tables, each 90 ms
//!                                               └ null packets, where the rate is constant and nothing is queued
//! ```
//!
//! The clock (PCR) stands in the first packet of a datagram and says when that datagram is due, so that whoever sends
//! in time has no jitter. With a rate, datagram `n` is due at `n` times its length; without one, what came is spread
//! over [`SPREAD`]. The clock follows the origin's by at most 30 parts in a million (ISO 13818-1 2.4.2.1). Where times
//! jump (another start, a long gap) frames are placed anew, behind what was sent: the clock itself never jumps.
//!
//! Sans-IO: the caller has the socket and the time. Called by `levada-gateway-udp`. Invariant: a frame leaves whole
//! before its decoding time or not at all, and the continuity of no PID breaks.

use std::collections::VecDeque;
use std::time::Duration;

use levada_wire::{Bitrate, Description, Frame, Instant, NetworkId};

use super::mux::{MUX_OFFSET, Muxer};
use super::packet::{self, Adaptation, Head, PACKET_BYTES, Packet, Pid};
use crate::ticks::{TS_TIMESCALE, rescale};

/// Packets of a datagram: as many as fit an Ethernet frame.
const DATAGRAM_PACKETS: usize = 7;
/// Bytes of a whole datagram.
pub const DATAGRAM_BYTES: usize = DATAGRAM_PACKETS * PACKET_BYTES;
/// The clock counts 27 MHz.
const CLOCK_PER_SECOND: u64 = 27_000_000;
const CLOCK_PER_TICK: i64 = 300;
/// Its base has 33 bits.
const CLOCK_WRAP: u64 = (1 << 33) * CLOCK_PER_TICK.unsigned_abs();
/// Between two values of the clock, at most: 40 ms (ETSI TR 101 290 2.3), less the time of a datagram.
const CLOCK_EVERY: u64 = CLOCK_PER_SECOND * 30 / 1_000;
/// Between two sets of tables: 100 ms at most (ETSI TR 101 211 4.1.7).
const TABLES_EVERY: u64 = CLOCK_PER_SECOND * 90 / 1_000;
/// Over how long what came at once is spread where no rate is set.
pub(super) const SPREAD: u64 = CLOCK_PER_SECOND * 30 / 1_000;
/// How much earlier than `delay` a frame may be and is still placed where its times say.
const EARLY_MAX: u64 = CLOCK_PER_SECOND * 2;
/// Whoever sends later than this begins anew: half a second.
const LATE_MAX: u64 = CLOCK_PER_SECOND / 2;
/// The most that waits, whatever the rate.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// How often the clock is compared with the origin's.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// Over how many seconds a difference is made up.
const FOLLOW_SECONDS: i64 = 60;
/// The most that the clock goes faster or slower, in parts of a milliard.
const FOLLOW_MAX: i64 = 30_000;
const MILLIARD: i64 = 1_000_000_000;

/// How a stream is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The constant rate, filled up with null packets; as frames come if none.
    pub rate: Option<Bitrate>,
    /// How much earlier than its decoding time the first frame is there: what may be late.
    pub delay: Duration,
    /// The network by whose node the stream leaves.
    pub network: NetworkId,
}

/// What a shaper did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShaperCounts {
    /// Packets in all.
    pub packets: u64,
    /// Null packets among them.
    pub null_packets: u64,
    /// Frames that left.
    pub frames: u64,
    /// Frames that did not, since the rate is too small for them.
    pub frames_over_rate: u64,
    /// Frames that did not, since one that they refer to did not.
    pub frames_skipped: u64,
    /// Frames that did not, since they came later than `delay` allows, or before the first group.
    pub frames_late: u64,
    /// How often frames were placed anew.
    pub placements: u64,
}

/// Decides when packets leave. See the module's head.
#[derive(Debug)]
pub struct Shaper {
    shape: Shape,
    description: Option<Description>,
    muxer: Muxer,
    clock: OutputClock,
    /// Packets that wait, whole, and which of them starts a group.
    queue: VecDeque<Waiting>,
    /// Packets of tables, which go before these.
    tables: VecDeque<[u8; PACKET_BYTES]>,
    /// The value of the clock at which the next datagram is due.
    next: u64,
    /// Datagrams since the rate began to count, for which the clock was at `began`.
    datagrams: u64,
    began: u64,
    clock_at: Option<u64>,
    tables_at: Option<u64>,
    /// Of the last packet with payload of the clock's PID.
    continuity: u8,
    /// What is added to decoding times, in ticks of 90 kHz; none until a group begins.
    shift: Option<i64>,
    /// A frame of the leading track was left out, and no group has begun since.
    skips: bool,
    counts: ShaperCounts,
    scratch: Vec<u8>,
}

/// A packet that waits.
#[derive(Debug)]
struct Waiting {
    bytes: [u8; PACKET_BYTES],
    starts_group: bool,
}

impl Shaper {
    /// A shaper of a stream whose first description is to come. Its clock starts at `now`.
    #[must_use]
    pub fn new(shape: Shape, now: Instant) -> Self {
        let muxer = Muxer::for_shaper(&Description::default(), shape.network);
        Self {
            shape,
            description: None,
            muxer,
            clock: OutputClock::start(now),
            queue: VecDeque::new(),
            tables: VecDeque::new(),
            next: CLOCK_PER_SECOND,
            datagrams: 0,
            began: CLOCK_PER_SECOND,
            clock_at: None,
            tables_at: None,
            continuity: 0x0F,
            shift: None,
            skips: false,
            counts: ShaperCounts::default(),
            scratch: Vec::new(),
        }
    }

    /// The tracks are these from now on. Returns the codecs that are left out.
    pub fn describe(&mut self, description: &Description) -> Vec<String> {
        if self.description.as_ref() != Some(description) {
            match self.description {
                Some(_) => self.muxer.set_description(description),
                None => self.muxer = Muxer::for_shaper(description, self.shape.network),
            }
            self.description = Some(description.clone());
            self.tables_at = None;
            self.clock_at = None;
        }
        let omitted = self.muxer.omitted().iter();
        omitted
            .filter_map(|(id, _)| Some(description.track(*id)?.codec.clone()))
            .collect()
    }

    /// Frames of another start follow, or after a pause: they are placed where the next group begins.
    pub const fn restart(&mut self) {
        self.shift = None;
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> ShaperCounts {
        self.counts
    }

    /// Takes a frame that came at `now`.
    pub fn push(&mut self, now: Instant, frame: &Frame) {
        let track = self.description.as_ref();
        let track = track.and_then(|known| known.track(frame.track));
        let Some(timescale) = track.map(|track| track.timescale) else {
            return;
        };
        if !self.muxer.has(frame.track) {
            return;
        }
        let leads = self.muxer.leads(frame.track);
        let starts = leads && frame.sync;
        let value = self.clock.value(now);
        let dts = rescale(frame.dts, timescale, TS_TIMESCALE);
        if self.lead(dts, value).is_none() {
            if !starts {
                self.counts.frames_late += 1;
                // What follows refers to it.
                self.skips |= leads;
                return;
            }
            let lead = clock_of(self.shape.delay);
            let at = i64::try_from((value + lead) / CLOCK_PER_TICK.unsigned_abs());
            self.shift = Some(
                at.unwrap_or(i64::MAX)
                    .saturating_sub(dts)
                    .saturating_sub(MUX_OFFSET),
            );
            self.counts.placements += 1;
        }
        let (Some(lead), Some(shift)) = (self.lead(dts, value), self.shift) else {
            return;
        };
        if leads {
            self.clock.compare(now, lead, clock_of(self.shape.delay));
        }
        if !self.has_room(frame, lead) {
            self.counts.frames_over_rate += 1;
            self.skips |= leads;
            return;
        }
        if starts {
            self.skips = false;
        } else if leads && self.skips {
            self.counts.frames_skipped += 1;
            return;
        }
        let shift = rescale(shift, TS_TIMESCALE, timescale);
        let placed = Frame {
            dts: frame.dts.saturating_add(shift),
            pts: frame.pts.saturating_add(shift),
            ..frame.clone()
        };
        self.enqueue(&placed, starts, value);
    }

    fn enqueue(&mut self, frame: &Frame, starts_group: bool, value: u64) {
        self.scratch.clear();
        if self.muxer.push(frame, &mut self.scratch).is_err() {
            return;
        }
        self.counts.frames += 1;
        if self.queue.is_empty() && self.shape.rate.is_none() {
            self.next = self.next.min(value.max(self.clock_at.unwrap_or(0) + 1));
        }
        let (packets, _) = self.scratch.as_chunks();
        let waiting = packets.iter().enumerate().map(|(at, bytes)| Waiting {
            bytes: *bytes,
            starts_group: starts_group && at == 0,
        });
        self.queue.extend(waiting);
    }

    /// How long before its decoding time a frame is here, in units of the clock; none if that cannot be kept.
    fn lead(&self, dts: i64, value: u64) -> Option<u64> {
        let at = dts.checked_add(self.shift?)?.checked_add(MUX_OFFSET)?;
        let at = u64::try_from(at.checked_mul(CLOCK_PER_TICK)?).ok()?;
        let lead = at.checked_sub(value)?;
        (lead <= clock_of(self.shape.delay) + EARLY_MAX).then_some(lead)
    }

    /// Whether a frame leaves whole before its time.
    fn has_room(&self, frame: &Frame, lead: u64) -> bool {
        let queued = self.queue.len() * PACKET_BYTES;
        let bytes = queued + frame.data.len() + PACKET_BYTES;
        let Some(rate) = self.shape.rate else {
            return bytes <= QUEUE_BYTES_MAX;
        };
        bytes <= QUEUE_BYTES_MAX && span(bytes, rate) <= u128::from(lead)
    }

    /// When the next datagram is due; none while there is nothing to describe.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.description.as_ref()?;
        Some(self.clock.at(self.next))
    }

    /// Writes the datagram that is due by `now` into `out`: the ticks of 90 kHz at which it leaves, for RTP.
    pub fn take(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<u64> {
        out.clear();
        self.due().filter(|due| *due <= now)?;
        let time = self.clock.value(now);
        if time.saturating_sub(self.next) > LATE_MAX {
            // The machine slept: what was not sent then is not made up for.
            self.next = time;
            (self.began, self.datagrams) = (time, 0);
        }
        let value = self.next;
        self.fill(value, out);
        let packets = out.len() / PACKET_BYTES;
        self.counts.packets += u64::try_from(packets).unwrap_or(0);
        self.datagrams += 1;
        self.next = self.following(value);
        Some(value / CLOCK_PER_TICK.unsigned_abs())
    }

    /// When the datagram after the one of `value` is due.
    fn following(&self, value: u64) -> u64 {
        if let Some(rate) = self.shape.rate {
            let bytes = u128::from(self.datagrams) * DATAGRAM_BYTES as u128;
            let span = bytes * 8 * u128::from(CLOCK_PER_SECOND) / u128::from(rate.0.max(1));
            return self.began + u64::try_from(span).unwrap_or(u64::MAX);
        }
        let left = self.queue.len().div_ceil(DATAGRAM_PACKETS);
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        let next = value + SPREAD.checked_div(left).unwrap_or(CLOCK_EVERY).max(1);
        let clock = self.clock_at.map_or(next, |at| at + CLOCK_EVERY);
        next.min(clock).max(value + 1)
    }

    fn fill(&mut self, value: u64, out: &mut Vec<u8>) {
        // One more datagram could be too late.
        let (before_clock, before_tables) = match self.shape.rate {
            Some(rate) => {
                let step = u64::try_from(span(DATAGRAM_BYTES, rate)).unwrap_or(u64::MAX);
                (step, step)
            }
            None => (0, CLOCK_EVERY),
        };
        let is_due = |at: Option<u64>, by: u64| at.is_none_or(|at| value >= at.saturating_add(by));
        if is_due(self.clock_at, CLOCK_EVERY.saturating_sub(before_clock)) {
            self.write_clock(value, out);
        }
        if is_due(self.tables_at, TABLES_EVERY.saturating_sub(before_tables)) {
            self.renew_tables(value);
        }
        while out.len() < DATAGRAM_BYTES {
            if let Some(packet) = self.tables.pop_front() {
                out.extend_from_slice(&packet);
                continue;
            }
            let Some(waiting) = self.queue.front_mut() else {
                break;
            };
            if std::mem::take(&mut waiting.starts_group) && self.tables_at != Some(value) {
                self.renew_tables(value);
                continue;
            }
            if let Some(packet) = Packet::parse(&waiting.bytes)
                && packet.pid == self.muxer.clock_pid()
            {
                self.continuity = packet.continuity;
            }
            out.extend_from_slice(&waiting.bytes);
            self.queue.pop_front();
        }
        while self.shape.rate.is_some() && out.len() < DATAGRAM_BYTES {
            let head = Head {
                pid: Pid::NULL,
                starts_unit: false,
                continuity: 0,
                adaptation: Adaptation::default(),
            };
            packet::write(out, head, &[0xFF; PACKET_BYTES - 4]);
            self.counts.null_packets += 1;
        }
    }

    /// Appends a packet with nothing but the clock. Without payload it repeats the counter of the one before.
    fn write_clock(&mut self, value: u64, out: &mut Vec<u8>) {
        self.clock_at = Some(value);
        let adaptation = Adaptation {
            pcr: Some(value % CLOCK_WRAP),
            ..Adaptation::default()
        };
        let head = Head {
            pid: self.muxer.clock_pid(),
            starts_unit: false,
            continuity: self.continuity,
            adaptation,
        };
        packet::write(out, head, &[]);
    }

    /// Has the tables leave next, unless they are leaving.
    fn renew_tables(&mut self, value: u64) {
        self.tables_at = Some(value);
        if self.tables.is_empty() {
            self.scratch.clear();
            self.muxer.tables(&mut self.scratch);
            self.tables.extend(self.scratch.as_chunks().0);
        }
    }
}

/// How long so many bytes take at a rate, in units of the clock.
fn span(bytes: usize, rate: Bitrate) -> u128 {
    bytes as u128 * 8 * u128::from(CLOCK_PER_SECOND) / u128::from(rate.0.max(1))
}

fn clock_of(time: Duration) -> u64 {
    let value = time.as_nanos() * u128::from(CLOCK_PER_SECOND) / 1_000_000_000;
    u64::try_from(value).unwrap_or(u64::MAX / 4)
}

/// The clock of what is sent: 27 MHz by the time of this machine, a little faster or slower as the origin's is.
#[derive(Debug)]
struct OutputClock {
    /// At that time it showed that value.
    at: Instant,
    value: u64,
    /// By how much it is faster, in parts of a milliard.
    faster: i64,
    /// The smallest lead of a frame since that time.
    least: Option<(u64, Instant)>,
}

impl OutputClock {
    /// A clock that shows a second, so that nothing is before zero.
    const fn start(now: Instant) -> Self {
        Self {
            at: now,
            value: CLOCK_PER_SECOND,
            faster: 0,
            least: None,
        }
    }

    fn value(&self, now: Instant) -> u64 {
        let nanos = i128::try_from(now.since(self.at).as_nanos()).unwrap_or(0);
        let scaled = nanos * i128::from(CLOCK_PER_SECOND) * i128::from(MILLIARD + self.faster);
        let since = scaled / i128::from(MILLIARD) / i128::from(MILLIARD);
        self.value
            .saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// When it shows that value, or has shown it: never before it was set last.
    fn at(&self, value: u64) -> Instant {
        let since = i128::from(value.saturating_sub(self.value));
        let scaled = since * i128::from(MILLIARD) * i128::from(MILLIARD);
        let nanos = scaled / i128::from(CLOCK_PER_SECOND) / i128::from(MILLIARD + self.faster);
        // Rounded up: at that time it shows it.
        self.at + Duration::from_nanos(u64::try_from(nanos + 1).unwrap_or(u64::MAX))
    }

    /// Notes by how much a frame was early; follows the origin's clock, so that the earliest is by `wanted`.
    fn compare(&mut self, now: Instant, lead: u64, wanted: u64) {
        let (least, since) = self.least.get_or_insert((lead, now));
        *least = lead.min(*least);
        if now.since(*since) < COMPARE_EVERY {
            return;
        }
        let off = i64::try_from(*least).unwrap_or(i64::MAX) - i64::try_from(wanted).unwrap_or(0);
        let per_second = i64::try_from(CLOCK_PER_SECOND).unwrap_or(i64::MAX);
        let faster = off.saturating_mul(MILLIARD / per_second) / FOLLOW_SECONDS;
        (self.value, self.at) = (self.value(now), now);
        self.faster = faster.clamp(-FOLLOW_MAX, FOLLOW_MAX);
        self.least = None;
    }
}

#[cfg(test)]
mod tests;
