//! SAP (RFC 2974): what is sent to groups is said, again and again, to whoever listens for that.
//!
//! ```text
//!   off len field
//!    0   1  version 1:3  address type:1  reserved:1  deletion:1  encryption:1  compression:1
//!    1   1  length of authentication data
//!    2   2  hash of the announcement: another text, another hash
//!    4   4  the announcer's address
//!    8      "application/sdp" 0, and the description (RFC 8866)
//! ```
//!
//! Not the outputs. Spawned by the parent. Invariant: all announcements of a node together stay below
//! [`RATE_MAX_BPS`], and an output that ends is said to have ended.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, Weak};
use std::time::Duration;

use crate::output::Output;
use crate::row::State;
use crate::socket::{Sender, announcement_group};
use crate::spec::Spec;

/// The port of SAP.
const PORT: u16 = 9_875;
/// How often at most an output is announced.
const EVERY: Duration = Duration::from_secs(5);
/// What announcements may take (RFC 2974 section 3.1).
pub(crate) const RATE_MAX_BPS: u64 = 4_000;
/// The payload type of MPEG-TS (RFC 3551).
const MP2T: u8 = 33;
const MIME: &[u8] = b"application/sdp\0";

/// Announces the outputs that run, until there is no board any more.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    said: BTreeMap<Spec, Said>,
}

/// An output that was announced.
#[derive(Debug)]
struct Said {
    sender: Sender,
    from: Ipv4Addr,
}

impl Announcer {
    pub(crate) async fn run(mut self, board: Weak<Mutex<BTreeMap<Spec, Output>>>) {
        loop {
            let Some(board) = board.upgrade() else {
                return self.end(&[]);
            };
            let running: Vec<Spec> = {
                let table = board
                    .lock()
                    .expect("no code that can panic runs under this lock");
                let running = table
                    .iter()
                    .filter(|(spec, output)| spec.announce && output.state() == State::Running);
                running.map(|(spec, _)| spec.clone()).collect()
            };
            drop(board);
            self.end(&running);
            let bytes = self.announce(&running);
            tokio::time::sleep(pause(bytes)).await;
        }
    }

    /// Says of those that run no more that they have ended.
    fn end(&mut self, running: &[Spec]) {
        self.said.retain(|spec, said| {
            let goes_on = running.contains(spec);
            if !goes_on {
                // Whoever does not hear it forgets it after a while.
                let _ = said.sender.send(&packet(spec, said.from, true));
            }
            goes_on
        });
    }

    /// Says all that run; how many bytes that took.
    fn announce(&mut self, running: &[Spec]) -> usize {
        let mut bytes = 0;
        for spec in running {
            let Some(group) = announcement_group(spec.to.ip()) else {
                continue;
            };
            if !self.said.contains_key(spec) {
                let to = SocketAddr::from((group, PORT));
                match Sender::towards(spec, to) {
                    Ok(sender) => {
                        let from = match sender.from {
                            Some(IpAddr::V4(from)) => from,
                            _ => Ipv4Addr::UNSPECIFIED,
                        };
                        self.said.insert(spec.clone(), Said { sender, from });
                    }
                    Err(error) => {
                        tracing::warn!(output = %spec, "is not announced: {error}");
                        continue;
                    }
                }
            }
            let Some(said) = self.said.get(spec) else {
                continue;
            };
            let packet = packet(spec, said.from, false);
            bytes += packet.len();
            if let Err(error) = said.sender.send(&packet) {
                tracing::debug!(output = %spec, "an announcement is not sent: {error}");
            }
        }
        bytes
    }
}

/// Until the next announcements, if the last ones took so many bytes.
fn pause(bytes: usize) -> Duration {
    let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
    EVERY.max(Duration::from_millis(
        bits.saturating_mul(1_000) / RATE_MAX_BPS,
    ))
}

/// An announcement, or its deletion.
fn packet(spec: &Spec, from: Ipv4Addr, ends: bool) -> Vec<u8> {
    let text = describe(spec, from);
    let mut packet = vec![if ends { 0x24 } else { 0x20 }, 0];
    packet.extend_from_slice(&hash(&text).to_be_bytes());
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(MIME);
    packet.extend_from_slice(text.as_bytes());
    packet
}

/// FNV-1a, folded to 16 bits; zero would mean that there is none.
fn hash(text: &str) -> u16 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = text.as_bytes().iter().fold(0x811C_9DC5, step);
    let folded = (hash >> 16 ^ hash) & 0xFFFF;
    u16::try_from(folded).unwrap_or(1).max(1)
}

/// The description of an output.
fn describe(spec: &Spec, from: Ipv4Addr) -> String {
    let (group, port, name) = (spec.to.ip(), spec.to.port(), &spec.name);
    let id = u32::from(from) ^ u32::from(port);
    let (transport, map) = if spec.is_rtp {
        ("RTP/AVP", format!("a=rtpmap:{MP2T} MP2T/90000\r\n"))
    } else {
        ("udp", String::new())
    };
    format!(
        "v=0\r\no=- {id} 1 IN IP4 {from}\r\ns={name}\r\nc=IN IP4 {group}/{ttl}\r\nt=0 0\r\na=tool:levada\r\n\
         a=type:broadcast\r\nm=video {port} {transport} {MP2T}\r\n{map}",
        ttl = spec.ttl
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn spec(to: &str) -> Spec {
        Spec::new("sports/final".parse().unwrap(), to).unwrap()
    }

    #[test]
    fn an_announcement_names_the_stream_the_group_and_the_announcer() {
        let from = Ipv4Addr::new(10, 0, 0, 1);

        let said = packet(&spec("rtp://239.1.1.1:5000"), from, false);
        let ended = packet(&spec("rtp://239.1.1.1:5000"), from, true);

        assert_eq!(said[0], 0x20);
        assert_eq!(said[4..8], [10, 0, 0, 1]);
        let text = String::from_utf8(said[8..].to_vec()).unwrap();
        assert!(text.starts_with("application/sdp\0v=0\r\n"), "{text}");
        for line in [
            "s=sports/final\r\n",
            "c=IN IP4 239.1.1.1/1\r\n",
            "m=video 5000 RTP/AVP 33\r\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in {text:?}");
        }
        assert_eq!((ended[0], &ended[1..]), (0x24, &said[1..]));
        let other = packet(&spec("udp://239.1.1.2:5000"), from, false);
        assert_ne!(other[2..4], said[2..4], "another text has another hash");
    }

    #[test]
    fn each_scope_has_its_address_and_all_together_stay_below_the_rate() {
        for (group, announced) in [
            ("224.0.0.7", "224.0.0.255"),
            ("239.255.1.1", "239.255.255.255"),
            ("239.193.1.1", "239.195.255.255"),
            ("239.1.1.1", "224.2.127.254"),
            ("232.1.1.1", "224.2.127.254"),
        ] {
            let found = announcement_group(group.parse().unwrap()).unwrap();
            assert_eq!(found.to_string(), announced, "{group}");
        }
        assert_eq!(announcement_group("ff15::1".parse().unwrap()), None);
        assert_eq!(pause(250), EVERY);
        assert_eq!(pause(64 * 250), Duration::from_secs(32));
    }
}
