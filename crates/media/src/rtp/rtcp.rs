//! RTCP (RFC 3550 6): sender and receiver reports, names, and farewells, both ways.
//!
//! ```text
//! version:2 padding:1 count:5 type:8 words:16 | ssrc:32 ...
//! SR 200   ssrc, ntp:64 rtp time:32 packets:32 bytes:32, reports       6.4.1
//! RR 201   ssrc, reports                                               6.4.2
//! report   ssrc:32 lost:8 of 256, lost in all:24 highest:32 jitter:32 last report:32 delay:32
//! SDES 202 (ssrc, item:8 length:8 text, ..., 0 to the word), ...       6.5
//! BYE 203  ssrc, ... [length:8 reason]                                 6.6
//! ```
//!
//! Reads whatever comes in one datagram, also without a report in front (RFC 5506), and passes over what it does not
//! know. Not when to send: its owner has a clock. Called by gateways. Invariant: what is written reads back as the
//! same.

use std::num::NonZeroU32;

use bytes::BufMut as _;
use levada_wire::WallTime;

const SENDER: u8 = 200;
const RECEIVER: u8 = 201;
const NAMES: u8 = 202;
const BYE: u8 = 203;
/// What the five bits of a count hold.
pub const COUNT_MAX: usize = 31;
const CANONICAL_NAME: u8 = 1;
const REPORT_BYTES: usize = 24;
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// Wall time as NTP says it: seconds since 1900, and 2^32ths of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpTime(pub u64);

impl From<WallTime> for NtpTime {
    fn from(time: WallTime) -> Self {
        let (seconds, micros) = (time.0 / 1_000_000, time.0 % 1_000_000);
        let fraction = ((micros << 32) + 500_000) / 1_000_000;
        Self((seconds.wrapping_add(NTP_TO_UNIX) << 32).wrapping_add(fraction))
    }
}

impl NtpTime {
    /// The middle 32 bits, by which a receiver names a sender report.
    #[must_use]
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// What a sender says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Now.
    pub ntp: NtpTime,
    /// The same moment in its RTP time.
    pub rtp_time: u32,
    /// Packets it sent, modulo 2^32.
    pub packets: u32,
    /// Bytes of payload it sent, modulo 2^32.
    pub bytes: u32,
}

impl SenderInfo {
    /// The RTP time of a moment, as far as this report says. Tracks are synchronous where their moments are.
    #[must_use]
    pub fn rtp_time_at(&self, moment: NtpTime, clock: NonZeroU32) -> u32 {
        let ahead = i128::from(moment.0.wrapping_sub(self.ntp.0).cast_signed());
        let ticks = (ahead * i128::from(clock.get())) >> 32;
        self.rtp_time.wrapping_add(ticks as u32)
    }
}

/// What a receiver says of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of the sender.
    pub ssrc: u32,
    /// Packets lost since the report before, in 256ths.
    pub lost_of_256: u8,
    /// Packets lost in all; 24 bits, below zero where duplicates came.
    pub lost: i32,
    /// The highest sequence number, its wraps in the upper half.
    pub highest: u32,
    /// Mean deviation of arrivals, in RTP ticks.
    pub jitter: u32,
    /// [`NtpTime::middle`] of the newest sender report; 0 without one.
    pub last_report: u32,
    /// Since then, in 65,536ths of a second.
    pub delay: u32,
}

/// One RTCP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rtcp {
    /// From one who sends.
    Sender {
        /// The reporter's SSRC.
        ssrc: u32,
        /// What it says of itself.
        info: SenderInfo,
        /// What it says of others, at most [`COUNT_MAX`].
        reports: Vec<Report>,
    },
    /// From one who only receives.
    Receiver {
        /// The reporter's SSRC.
        ssrc: u32,
        /// What it says of senders, at most [`COUNT_MAX`].
        reports: Vec<Report>,
    },
    /// Canonical names, at most [`COUNT_MAX`] of at most 255 bytes.
    Names(Vec<(u32, String)>),
    /// These leave; at most [`COUNT_MAX`].
    Bye(Vec<u32>),
}

/// Whether a datagram is RTCP and not RTP, where both share a port (RFC 5761 4).
#[must_use]
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [first, 192..=223, ..] if first >> 6 == 2)
}

/// The packets of a datagram that are known, up to the first that is damaged.
pub fn parse(mut datagram: &[u8]) -> impl Iterator<Item = Rtcp> {
    std::iter::from_fn(move || {
        loop {
            let (&[first, kind, high, low], rest) = datagram.split_first_chunk()?;
            let bytes = 4 * usize::from(u16::from_be_bytes([high, low]));
            let (body, behind) = rest.split_at_checked(bytes).filter(|_| first >> 6 == 2)?;
            datagram = behind;
            let count = usize::from(first & 0x1F);
            let padding = if first & 0x20 != 0 {
                body.last().copied().unwrap_or(0)
            } else {
                0
            };
            let end = body.len().checked_sub(usize::from(padding))?;
            if let Some(packet) = parse_one(kind, count, &body[..end]) {
                return Some(packet);
            }
        }
    })
}

fn parse_one(kind: u8, count: usize, body: &[u8]) -> Option<Rtcp> {
    let words = |bytes: &[u8]| u32::from_be_bytes(*bytes.first_chunk().unwrap_or(&[0; 4]));
    match kind {
        SENDER => {
            let (own, rest) = body.split_at_checked(24)?;
            let (high, low) = (words(&own[4..]), words(&own[8..]));
            let info = SenderInfo {
                ntp: NtpTime(u64::from(high) << 32 | u64::from(low)),
                rtp_time: words(&own[12..]),
                packets: words(&own[16..]),
                bytes: words(&own[20..]),
            };
            Some(Rtcp::Sender {
                ssrc: words(own),
                info,
                reports: parse_reports(count, rest),
            })
        }
        RECEIVER => {
            let (own, rest) = body.split_at_checked(4)?;
            Some(Rtcp::Receiver {
                ssrc: words(own),
                reports: parse_reports(count, rest),
            })
        }
        NAMES => Some(Rtcp::Names(parse_names(count, body))),
        BYE => {
            let (leaving, _) = body.as_chunks();
            let leaving = leaving.iter().take(count);
            Some(Rtcp::Bye(
                leaving.map(|ssrc| u32::from_be_bytes(*ssrc)).collect(),
            ))
        }
        _ => None,
    }
}

fn parse_reports(count: usize, bytes: &[u8]) -> Vec<Report> {
    let (reports, _) = bytes.as_chunks::<REPORT_BYTES>();
    let parse = |report: &[u8; REPORT_BYTES]| {
        let word = |at: usize| {
            let bytes = report[4 * at..].first_chunk().unwrap_or(&[0; 4]);
            u32::from_be_bytes(*bytes)
        };
        Report {
            ssrc: word(0),
            lost_of_256: report[4],
            // The sign is that of 24 bits.
            lost: (word(1) << 8).cast_signed() >> 8,
            highest: word(2),
            jitter: word(3),
            last_report: word(4),
            delay: word(5),
        }
    };
    reports.iter().take(count).map(parse).collect()
}

fn parse_names(count: usize, mut body: &[u8]) -> Vec<(u32, String)> {
    let mut names = Vec::new();
    for _ in 0..count {
        let Some((ssrc, mut rest)) = body.split_first_chunk() else {
            break;
        };
        let mut used = 4;
        while let [item, length, tail @ ..] = rest
            && *item > 0
        {
            let Some((text, behind)) = tail.split_at_checked(usize::from(*length)) else {
                return names;
            };
            if *item == CANONICAL_NAME {
                let text = String::from_utf8_lossy(text).into_owned();
                names.push((u32::from_be_bytes(*ssrc), text));
            }
            used += 2 + text.len();
            rest = behind;
        }
        // A zero ends the items, and more of them fill the word.
        body = body
            .get((used + 1).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    names
}

impl Rtcp {
    /// Appends the packet. Of what is above a limit, the rest is left out.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (kind, count) = match self {
            Self::Sender {
                ssrc,
                info,
                reports,
            } => {
                put_head(out, *ssrc);
                out.put_u64(info.ntp.0);
                for word in [info.rtp_time, info.packets, info.bytes] {
                    out.put_u32(word);
                }
                (SENDER, put_reports(out, reports))
            }
            Self::Receiver { ssrc, reports } => {
                put_head(out, *ssrc);
                (RECEIVER, put_reports(out, reports))
            }
            Self::Names(names) => {
                out.put_u32(0);
                for (ssrc, name) in names.iter().take(COUNT_MAX) {
                    put_name(out, *ssrc, name);
                }
                (NAMES, names.len().min(COUNT_MAX))
            }
            Self::Bye(leaving) => {
                out.put_u32(0);
                for ssrc in leaving.iter().take(COUNT_MAX) {
                    out.put_u32(*ssrc);
                }
                (BYE, leaving.len().min(COUNT_MAX))
            }
        };
        let words = (out.len() - start) / 4 - 1;
        let words = u16::try_from(words).expect("31 names of 255 bytes are less than 64 Ki words");
        out[start] = 0x80 | u8::try_from(count).expect("it is at most 31");
        out[start + 1] = kind;
        out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    }
}

fn put_head(out: &mut Vec<u8>, ssrc: u32) {
    out.put_u32(0);
    out.put_u32(ssrc);
}

fn put_reports(out: &mut Vec<u8>, reports: &[Report]) -> usize {
    for report in reports.iter().take(COUNT_MAX) {
        out.put_u32(report.ssrc);
        let lost = report.lost.clamp(-0x80_0000, 0x7F_FFFF).cast_unsigned() & 0xFF_FFFF;
        out.put_u32(u32::from(report.lost_of_256) << 24 | lost);
        for word in [
            report.highest,
            report.jitter,
            report.last_report,
            report.delay,
        ] {
            out.put_u32(word);
        }
    }
    reports.len().min(COUNT_MAX)
}

fn put_name(out: &mut Vec<u8>, ssrc: u32, name: &str) {
    let mut end = name.len().min(usize::from(u8::MAX));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let length = u8::try_from(end).expect("it is at most 255");
    out.put_u32(ssrc);
    out.put_slice(&[CANONICAL_NAME, length]);
    out.put_slice(&name.as_bytes()[..end]);
    let bytes = 2 + end;
    out.put_bytes(0, (bytes + 1).next_multiple_of(4) - bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;
    use crate::ticks::TS_TIMESCALE;

    #[test]
    fn wall_time_becomes_ntp_and_rtp_time() {
        let at = |micros| NtpTime::from(WallTime(micros));
        let info = SenderInfo {
            ntp: at(1_700_000_000_000_000),
            rtp_time: 90_000,
            ..SenderInfo::default()
        };

        assert_eq!(info.ntp.0 >> 32, 1_700_000_000 + NTP_TO_UNIX);
        assert_eq!(
            info.rtp_time_at(at(1_700_000_001_500_000), TS_TIMESCALE),
            225_000
        );
        assert_eq!(
            info.rtp_time_at(at(1_699_999_998_000_000), TS_TIMESCALE),
            u32::MAX - 89_999
        );
        assert_eq!(at(1).middle(), (NTP_TO_UNIX << 16) as u32);
    }

    #[test]
    fn what_is_unknown_or_damaged_is_passed_over() {
        let bye = Rtcp::Bye(vec![7]);
        let mut bytes = vec![0x80, 204, 0, 2, 0, 0, 0, 1, b'n', b'a', b'm', b'e'];
        bye.write(&mut bytes);
        // A name whose length leaves its packet, then one that says more words than there are.
        bytes.extend([0x81, 202, 0, 2, 0, 0, 0, 1, 1, 9, b'x', b'y']);
        bytes.extend([0x80, 203, 0, 9]);

        let read: Vec<_> = parse(&bytes).collect();

        assert_eq!(read, [bye, Rtcp::Names(vec![])]);
        assert!(is_rtcp(&bytes));
        assert!(!is_rtcp(&[0x80, 96, 0, 0]));
    }

    #[test]
    fn padding_is_no_report() {
        let mut bytes = Vec::new();
        Rtcp::Receiver {
            ssrc: 5,
            reports: vec![],
        }
        .write(&mut bytes);
        bytes[0] |= 0x21;
        bytes[3] += 6;
        bytes.extend([0; 23]);
        bytes.push(24);

        let expected = Rtcp::Receiver {
            ssrc: 5,
            reports: vec![],
        };
        assert_eq!(parse(&bytes).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn what_is_above_a_limit_is_left_out() {
        let mut bytes = Vec::new();
        Rtcp::Bye((0..40).collect()).write(&mut bytes);
        Rtcp::Names(vec![(1, "é".repeat(200))]).write(&mut bytes);

        let read: Vec<_> = parse(&bytes).collect();

        let most = u32::try_from(COUNT_MAX).unwrap();
        let expected = [
            Rtcp::Bye((0..most).collect()),
            Rtcp::Names(vec![(1, "é".repeat(127))]),
        ];
        assert_eq!(read, expected);
    }

    fn report() -> impl Strategy<Value = Report> {
        (any::<[u32; 5]>(), any::<u8>(), -0x80_0000..0x7F_FFFF_i32).prop_map(
            |([ssrc, highest, jitter, last_report, delay], lost_of_256, lost)| Report {
                ssrc,
                lost_of_256,
                lost,
                highest,
                jitter,
                last_report,
                delay,
            },
        )
    }

    fn packet() -> impl Strategy<Value = Rtcp> {
        let reports = || prop::collection::vec(report(), 0..COUNT_MAX + 1);
        let info =
            any::<(u64, u32, u32, u32)>().prop_map(|(ntp, rtp_time, packets, bytes)| SenderInfo {
                ntp: NtpTime(ntp),
                rtp_time,
                packets,
                bytes,
            });
        prop_oneof![
            (any::<u32>(), info, reports()).prop_map(|(ssrc, info, reports)| Rtcp::Sender {
                ssrc,
                info,
                reports
            }),
            (any::<u32>(), reports()).prop_map(|(ssrc, reports)| Rtcp::Receiver { ssrc, reports }),
            prop::collection::vec((any::<u32>(), "[a-z]{0,9}"), 0..5).prop_map(Rtcp::Names),
            prop::collection::vec(any::<u32>(), 0..9).prop_map(Rtcp::Bye),
        ]
    }

    proptest! {
        #[test]
        fn packets_survive_their_bytes(packets in prop::collection::vec(packet(), 0..5)) {
            let mut bytes = Vec::new();
            for packet in &packets {
                packet.write(&mut bytes);
            }

            prop_assert_eq!(parse(&bytes).collect::<Vec<_>>(), packets);
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            kind in 199_u8..205,
            first: u8,
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let words = u8::try_from(bytes.len() / 4).unwrap();
            let datagram = [&[0x80 | first, kind, 0, words], &bytes[..]].concat();
            for packet in parse(&datagram) {
                packet.write(&mut Vec::new());
            }
        }
    }
}
