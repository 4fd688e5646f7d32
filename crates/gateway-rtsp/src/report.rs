//! Sender reports: which RTP time is which time of the wall (RFC 3550 section 6.4.1), with the name that belongs to
//! them (6.5.1).
//!
//! ```text
//!   80 200 len ssrc | NTP time 64 | RTP time | packets | octets
//!   81 202 len ssrc | 1 length "levada" 0...
//! ```
//!
//! Not receiver reports. Made by `format`. Invariant: all tracks of a stream have one name, so that players synchronise
//! them.

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_OFFSET: i64 = 2_208_988_800;
const NAME: &[u8] = b"levada";

/// One sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderReport {
    /// Whose.
    pub(crate) ssrc: u32,
    /// Microseconds since the Unix epoch.
    pub(crate) unix_micros: i64,
    /// The same moment as RTP time.
    pub(crate) rtp_time: u32,
    /// Packets sent; counted modulo 2^32.
    pub(crate) packets: u64,
    /// Payload bytes sent; counted modulo 2^32.
    pub(crate) octets: u64,
}

impl SenderReport {
    /// The report and its source's name as one compound packet.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28 + 16);
        bytes.extend_from_slice(&[0x80, 200, 0, 6]);
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(&ntp(self.unix_micros).to_be_bytes());
        bytes.extend_from_slice(&self.rtp_time.to_be_bytes());
        bytes.extend_from_slice(&low(self.packets).to_be_bytes());
        bytes.extend_from_slice(&low(self.octets).to_be_bytes());
        // One chunk: SSRC, item 1 (CNAME), its length, the name, and zeros up to a multiple of four, at least one.
        bytes.extend_from_slice(&[0x81, 202, 0, 3]);
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(&[1, NAME.len() as u8]);
        bytes.extend_from_slice(NAME);
        bytes
    }
}

/// Seconds since 1900 and their fraction, in 32 bits each.
fn ntp(unix_micros: i64) -> u64 {
    let seconds = unix_micros.div_euclid(1_000_000) + NTP_OFFSET;
    let micros = unix_micros.rem_euclid(1_000_000);
    let fraction = (u64::try_from(micros).unwrap_or(0) << 32) / 1_000_000;
    u64::try_from(seconds & 0xFFFF_FFFF).unwrap_or(0) << 32 | fraction
}

/// The low 32 bits.
const fn low(count: u64) -> u32 {
    (count & 0xFFFF_FFFF) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_the_wall_clock_in_ntp_time() {
        let report = SenderReport {
            ssrc: 0x0102_0304,
            unix_micros: 1_500_000,
            rtp_time: 0xAABB_CCDD,
            packets: 1 << 32 | 5,
            octets: 1_000,
        };

        let bytes = report.encode();

        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes[..8], [0x80, 200, 0, 6, 1, 2, 3, 4]);
        assert_eq!(
            bytes[8..16],
            (((NTP_OFFSET as u64 + 1) << 32) | 1 << 31).to_be_bytes()
        );
        assert_eq!(bytes[16..20], [0xAA, 0xBB, 0xCC, 0xDD]);
        assert_eq!(bytes[20..28], [0, 0, 0, 5, 0, 0, 3, 0xE8]);
        let words = u16::from_be_bytes([bytes[30], bytes[31]]);
        assert_eq!(28 + 4 * (usize::from(words) + 1), bytes.len());
    }
}
