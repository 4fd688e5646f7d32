//! What an output is: a stream's name, where it is sent to, and how.
//!
//! ```text
//!   udp://HOST:PORT[?KEY=VALUE&...]     rtp:// for the same behind RTP headers (RFC 2250)
//! ```
//!
//! Not the sending. Called by `levada-cli`, which has the same keys in `[[output]]`. Invariant: a spec can be carried
//! out on some machine; what cannot be meant is refused with the reason.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use levada::StreamName;
use levada_wire::Bitrate;

/// The smallest constant rate: below it, the clock would be further apart than 100 ms.
pub const RATE_MIN: Bitrate = Bitrate(150_000);
/// The largest constant rate.
pub const RATE_MAX: Bitrate = Bitrate(1_000_000_000);
/// How much earlier than its decoding time a frame is sent, unless it is set otherwise.
pub const DELAY: Duration = Duration::from_millis(300);
/// The longest that can be set.
pub const DELAY_MAX: Duration = Duration::from_secs(5);

/// An output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Spec {
    /// The stream.
    pub name: StreamName,
    /// Where it is sent to.
    pub to: SocketAddr,
    /// Behind RTP headers.
    pub is_rtp: bool,
    /// The constant rate of the transport stream; as frames come if none.
    pub rate: Option<Bitrate>,
    /// How many routers it passes at most.
    pub ttl: u8,
    /// The interface by which a multicast group is sent: its name, or its address. The system's choice if none.
    pub interface: Option<String>,
    /// Whether it is announced by SAP.
    pub announce: bool,
    /// How much earlier than its decoding time a frame is sent: what may be late on its way here.
    pub delay: Duration,
}

/// Why that is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// It is no address to send to.
    #[error(
        "`{text}` is no place to send to: {reason}; write `udp://239.1.1.1:5000`, or `rtp://` for RTP"
    )]
    To {
        /// What the user wrote.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The rate is out of range.
    #[error("a constant rate of {rate} is out of range: {RATE_MIN} to {RATE_MAX}")]
    Rate {
        /// What the user wrote.
        rate: Bitrate,
    },
    /// The TTL is out of range.
    #[error(
        "a TTL of 0 leaves no machine: write 1 for this LAN, more for each router that it is to pass"
    )]
    Ttl,
    /// The delay is out of range.
    #[error("a delay of {} ms is out of range: 50 ms to {} s", .delay.as_millis(), DELAY_MAX.as_secs())]
    Delay {
        /// What the user wrote.
        delay: Duration,
    },
    /// Nobody listens for announcements of what is sent to one machine.
    #[error("only what is sent to a multicast group is announced: leave `announce` out")]
    Announce,
    /// One machine is reached by one way.
    #[error("only a multicast group is sent by a chosen interface: leave `interface` out")]
    Interface,
}

/// The shortest delay that can be set.
const DELAY_MIN: Duration = Duration::from_millis(50);

impl Spec {
    /// An output of that stream to `udp://IP:PORT` or `rtp://IP:PORT`: to this LAN, as frames come, announced if it is
    /// a group.
    ///
    /// # Errors
    ///
    /// When that is no address to send to.
    pub fn new(name: StreamName, to: &str) -> Result<Self, SpecError> {
        let refuse = |reason| SpecError::To {
            text: to.to_owned(),
            reason,
        };
        let (scheme, place) = to
            .split_once("://")
            .ok_or_else(|| refuse("it has no scheme"))?;
        let is_rtp = match scheme.to_ascii_lowercase().as_str() {
            "udp" => false,
            "rtp" => true,
            _ => return Err(refuse("its scheme is neither `udp` nor `rtp`")),
        };
        let place = place.trim_end_matches('/');
        let place = place.strip_prefix('@').unwrap_or(place);
        let to: SocketAddr = place
            .parse()
            .map_err(|_| refuse("an IP address and a port are wanted behind it"))?;
        if to.port() == 0 {
            return Err(refuse("port 0 is nowhere"));
        }
        if to.ip().is_unspecified() {
            return Err(refuse("that is the address of nobody"));
        }
        Ok(Self {
            name,
            to,
            is_rtp,
            rate: None,
            ttl: if to.ip().is_multicast() { 1 } else { 64 },
            interface: None,
            announce: to.ip().is_multicast(),
            delay: DELAY,
        })
    }

    /// Checks what was set since.
    ///
    /// # Errors
    ///
    /// When something cannot be meant.
    pub fn check(self) -> Result<Self, SpecError> {
        if let Some(rate) = self
            .rate
            .filter(|rate| !(RATE_MIN..=RATE_MAX).contains(rate))
        {
            return Err(SpecError::Rate { rate });
        }
        if self.ttl == 0 {
            return Err(SpecError::Ttl);
        }
        if !(DELAY_MIN..=DELAY_MAX).contains(&self.delay) {
            let delay = self.delay;
            return Err(SpecError::Delay { delay });
        }
        if !self.is_multicast() && self.announce {
            return Err(SpecError::Announce);
        }
        if !self.is_multicast() && self.interface.is_some() {
            return Err(SpecError::Interface);
        }
        Ok(self)
    }

    /// Whether it is sent to a group.
    #[must_use]
    pub const fn is_multicast(&self) -> bool {
        self.to.ip().is_multicast()
    }

    /// The protocol, in one word.
    #[must_use]
    pub const fn protocol(&self) -> &'static str {
        if self.is_rtp { "rtp-ts" } else { "udp-ts" }
    }

    /// Where it is sent to, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.is_rtp { "rtp" } else { "udp" };
        format!("{scheme}://{}", self.to)
    }

    /// Whether somebody who listens to one would hear the other too.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let is_same_way = self.interface.is_none()
            || other.interface.is_none()
            || self.interface == other.interface;
        self.to == other.to && is_same_way
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.name, self.url())
    }
}

/// Whether an address is of this protocol family.
pub(crate) const fn is_of_family(ip: IpAddr, other: IpAddr) -> bool {
    ip.is_ipv4() == other.is_ipv4()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn spec(to: &str) -> Result<Spec, SpecError> {
        Spec::new("cam".parse().unwrap(), to)
    }

    #[test]
    fn a_group_is_announced_and_stays_on_the_lan_a_machine_is_not() {
        let group = spec("udp://@239.1.1.1:5000").unwrap().check().unwrap();
        let machine = spec("RTP://[fd00::1]:5000/").unwrap().check().unwrap();

        assert_eq!((group.ttl, group.announce, group.is_rtp), (1, true, false));
        assert_eq!(group.url(), "udp://239.1.1.1:5000");
        assert_eq!(
            (machine.ttl, machine.announce, machine.is_rtp),
            (64, false, true)
        );
        assert_eq!(machine.url(), "rtp://[fd00::1]:5000");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for (to, reason) in [
            ("239.1.1.1:5000", "no scheme"),
            ("tcp://239.1.1.1:5000", "neither"),
            ("udp://239.1.1.1", "a port"),
            ("udp://tv:5000", "IP address"),
            ("udp://239.1.1.1:0", "port 0"),
            ("udp://0.0.0.0:5000", "nobody"),
        ] {
            let error = spec(to).unwrap_err().to_string();
            assert!(error.contains(reason), "{to}: {error}");
        }
        let group = spec("udp://239.1.1.1:5000").unwrap();
        let slow = Spec {
            rate: Some(Bitrate(1_000)),
            ..group.clone()
        };
        assert!(
            slow.check()
                .unwrap_err()
                .to_string()
                .contains("out of range")
        );
        assert_eq!(
            Spec {
                ttl: 0,
                ..group.clone()
            }
            .check(),
            Err(SpecError::Ttl)
        );
        let delay = Duration::ZERO;
        assert_eq!(
            Spec { delay, ..group }.check(),
            Err(SpecError::Delay { delay })
        );
        let machine = spec("udp://10.0.0.1:5000").unwrap();
        assert_eq!(
            Spec {
                announce: true,
                ..machine.clone()
            }
            .check(),
            Err(SpecError::Announce)
        );
        let interface = Some("eth0".to_owned());
        assert_eq!(
            Spec {
                interface,
                ..machine
            }
            .check(),
            Err(SpecError::Interface)
        );
    }
}
