//! Where the tracks of a publisher stand to each other: RTP times begin anywhere, each track's elsewhere.
//!
//! Sender reports say which RTP time of each track is which time of the publisher's clock (RFC 3550 section 6.4.1).
//! Packets wait until every track has one, and at most [`WAIT`]; a track without one is placed by when its first packet
//! arrived. Not the unpacking. Called by gateways and sources. Invariant: at most [`PACKETS_MAX`] packets wait.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Packet;
use super::rtcp::{self, NtpTime, Rtcp, SenderInfo};

/// How long packets wait for sender reports.
pub const WAIT: Duration = Duration::from_millis(500);
/// How many packets wait, at most; then it is as if the time were up.
pub const PACKETS_MAX: usize = 4_096;
/// How far apart tracks may begin.
const APART_MAX: Duration = Duration::from_secs(60);

/// Which tick of a track its first packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The RTP time of the packet.
    pub rtp_time: u32,
    /// The same in ticks of the RTP clock from the stream's beginning.
    pub ticks: i64,
}

/// Packets and reports of a publisher whose tracks are not placed yet.
#[derive(Debug)]
pub struct Align {
    tracks: Vec<Clocked>,
    waiting: Vec<(usize, Bytes)>,
    first: Option<Instant>,
    /// The time zero of the stream by the publisher's clock, if it has said that, and by ours.
    zero: Option<(Option<NtpTime>, Instant)>,
}

#[derive(Debug)]
struct Clocked {
    clock: NonZeroU32,
    report: Option<SenderInfo>,
    /// RTP time and arrival of its first packet.
    first: Option<(u32, Instant)>,
}

impl Align {
    /// Tracks with these RTP clocks.
    #[must_use]
    pub fn new(clocks: impl IntoIterator<Item = NonZeroU32>) -> Self {
        let track = |clock| Clocked {
            clock,
            report: None,
            first: None,
        };
        Self {
            tracks: clocks.into_iter().map(track).collect(),
            waiting: Vec::new(),
            first: None,
            zero: None,
        }
    }

    /// A report of a track came.
    pub fn on_report(&mut self, track: usize, packet: &[u8]) {
        let report = rtcp::parse(packet).find_map(|packet| match packet {
            Rtcp::Sender { info, .. } => Some(info),
            _ => None,
        });
        if let (Some(track), Some(report)) = (self.tracks.get_mut(track), report) {
            track.report = Some(report);
        }
    }

    /// A packet of a track came. What can be unpacked leaves by `out`, in the order of arrival: the track, its start if
    /// this is its first packet, and the packet.
    pub fn on_packet(
        &mut self,
        place: usize,
        packet: Bytes,
        now: Instant,
        mut out: impl FnMut(usize, Option<Start>, &[u8]),
    ) {
        let Some(track) = self.tracks.get_mut(place) else {
            return;
        };
        let mut is_first = false;
        if track.first.is_none() {
            let Ok(parsed) = Packet::parse(&packet) else {
                return;
            };
            track.first = Some((parsed.timestamp(), now));
            is_first = true;
        }
        if self.zero.is_some() {
            let start = is_first.then(|| self.start(place)).flatten();
            return out(place, start, &packet);
        }
        let first = *self.first.get_or_insert(now);
        self.waiting.push((place, packet));
        let is_complete = |track: &Clocked| track.first.is_some() && track.report.is_some();
        let is_time_up = now.saturating_duration_since(first) >= WAIT;
        if !(self.tracks.iter().all(is_complete) || is_time_up || self.waiting.len() >= PACKETS_MAX)
        {
            return;
        }
        let known = self.tracks.iter().filter(|track| track.first.is_some());
        let remote = known.filter_map(Clocked::remote).min();
        self.zero = Some((remote, first));
        let mut started = vec![false; self.tracks.len()];
        for (place, packet) in std::mem::take(&mut self.waiting) {
            let is_first = !std::mem::replace(&mut started[place], true);
            let start = is_first.then(|| self.start(place)).flatten();
            out(place, start, &packet);
        }
    }

    fn start(&self, place: usize) -> Option<Start> {
        let (track, (remote_zero, zero)) = (self.tracks.get(place)?, self.zero?);
        let (rtp_time, arrived) = track.first?;
        let later = match (track.remote(), remote_zero) {
            (Some(remote), Some(zero)) => i128::from(remote.0.wrapping_sub(zero.0).cast_signed()),
            _ => ntp_ticks(arrived.saturating_duration_since(zero)),
        };
        // A report that is minutes away is of no clock.
        let is_sane = (0..ntp_ticks(APART_MAX)).contains(&later);
        let later = if is_sane { later } else { 0 };
        let ticks = (later * i128::from(track.clock.get()) + ROUND) >> 32;
        let ticks = i64::try_from(ticks).ok()?;
        Some(Start { rtp_time, ticks })
    }
}

/// Half a tick.
const ROUND: i128 = 1 << 31;

/// In 2^32ths of a second, as NTP counts.
fn ntp_ticks(time: Duration) -> i128 {
    i128::try_from((time.as_nanos() << 32) / 1_000_000_000).unwrap_or(i128::MAX)
}

impl Clocked {
    /// When the first packet was sampled, by the publisher's clock.
    fn remote(&self) -> Option<NtpTime> {
        let (report, (first, _)) = (self.report?, self.first?);
        let ahead = first.wrapping_sub(report.rtp_time).cast_signed();
        let ahead = (i64::from(ahead) << 32) / i64::from(self.clock.get());
        Some(NtpTime(report.ntp.0.wrapping_add(ahead.cast_unsigned())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const VIDEO: u32 = 90_000;
    const AUDIO: u32 = 48_000;

    fn align() -> Align {
        Align::new([VIDEO, AUDIO].map(|clock| NonZeroU32::new(clock).unwrap()))
    }

    fn packet(time: u32) -> Bytes {
        let mut bytes = vec![0x80, 96, 0, 1];
        bytes.extend_from_slice(&time.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 7, 1]);
        bytes.into()
    }

    fn report(unix_micros: u64, rtp_time: u32) -> Vec<u8> {
        let (ssrc, reports, mut bytes) = (7, vec![], vec![]);
        let info = SenderInfo {
            ntp: levada_wire::WallTime(unix_micros).into(),
            rtp_time,
            ..SenderInfo::default()
        };
        Rtcp::Sender {
            ssrc,
            info,
            reports,
        }
        .write(&mut bytes);
        bytes
    }

    type Out = Vec<(usize, Option<i64>)>;

    fn push(align: &mut Align, track: usize, time: u32, now: Instant) -> Out {
        let mut out = Out::new();
        align.on_packet(track, packet(time), now, |track, start, _| {
            out.push((track, start.map(|start| start.ticks)));
        });
        out
    }

    #[test]
    fn reports_place_the_tracks_to_each_other() {
        let (mut align, now) = (align(), Instant::now());
        align.on_report(0, &report(10_000_000, u32::MAX));
        // The report of the sound is of one second earlier than its first packet.
        align.on_report(1, &report(9_100_000, 500));

        assert_eq!(push(&mut align, 0, u32::MAX, now), []);
        assert_eq!(push(&mut align, 0, 2_999, now), []);
        let all = push(&mut align, 1, 500 + AUDIO, now);

        // The first picture is the beginning, the first sound is 100 ms later.
        assert_eq!(all, [(0, Some(0)), (0, None), (1, Some(4_800))]);
        assert_eq!(push(&mut align, 1, 2, now), [(1, None)]);
    }

    #[test]
    fn without_reports_arrival_places_the_tracks() {
        let (mut align, now) = (align(), Instant::now());

        push(&mut align, 0, 7, now);
        push(&mut align, 1, 9, now + WAIT / 5);
        let all = push(&mut align, 0, 8, now + WAIT);

        assert_eq!(all, [(0, Some(0)), (1, Some(4_800)), (0, None)]);
    }

    #[test]
    fn a_track_that_begins_late_is_placed_too() {
        let (mut align, now) = (align(), Instant::now());
        align.on_report(0, &report(10_000_000, 0));
        push(&mut align, 0, 0, now);
        assert_eq!(push(&mut align, 0, 1, now + WAIT).len(), 2);

        align.on_report(1, &report(12_000_000, 0));
        let late = push(&mut align, 1, 0, now + WAIT * 2);

        assert_eq!(late, [(1, Some(2 * i64::from(AUDIO)))]);
    }

    #[test]
    fn more_packets_than_the_limit_do_not_wait() {
        let (mut align, now) = (align(), Instant::now());
        for at in 1..PACKETS_MAX {
            assert_eq!(push(&mut align, 0, u32::try_from(at).unwrap(), now), []);
        }

        assert_eq!(push(&mut align, 0, 0, now).len(), PACKETS_MAX);
    }

    #[test]
    fn reports_that_make_no_sense_place_nothing_far_away() {
        let (mut align, now) = (align(), Instant::now());
        align.on_report(0, &report(0, 0));
        align.on_report(1, &report(u64::from(u32::MAX) * 1_000, 0));

        push(&mut align, 0, 0, now);
        let all = push(&mut align, 1, 0, now);

        assert_eq!(all, [(0, Some(0)), (1, Some(0))]);
        assert_eq!(push(&mut align, 5, 0, now), []);
    }
}
