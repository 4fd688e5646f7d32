//! The `Transport` header: which ways a client offers for a track, and which one was taken (RFC 2326 section 12.39).
//!
//! ```text
//!   RTP/AVP/TCP;unicast;interleaved=0-1        over the connection itself
//!   RTP/AVP;unicast;client_port=5000-5001      UDP to the client
//!   RTP/AVP;multicast;port=5000-5001;ttl=1     UDP to a channel
//! ```
//!
//! Not the choice among them, which is the connection's. Called by the server's connections and by clients. Invariant:
//! what is written and read again is equal.

use std::net::IpAddr;

use super::parameter;

/// Lower transports of RTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lower {
    /// Between the messages of the connection.
    Tcp,
    /// In datagrams to one client.
    Udp,
    /// In datagrams to a channel.
    Multicast,
}

/// Two consecutive numbers: RTP and RTCP. Where only one is said, the second is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<T> {
    /// For RTP.
    pub rtp: T,
    /// For RTCP.
    pub rtcp: T,
}

/// One offered or taken transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// By datagrams, or interleaved in the connection.
    pub lower: Lower,
    /// Whether the profile is RTP/SAVP: encrypted.
    pub is_secure: bool,
    /// The channels of interleaved packets.
    pub interleaved: Option<Pair<u8>>,
    /// The client's ports.
    pub client_port: Option<Pair<u16>>,
    /// The server's ports.
    pub server_port: Option<Pair<u16>>,
    /// The ports of a multicast channel.
    pub port: Option<Pair<u16>>,
    /// Where packets go to.
    pub destination: Option<IpAddr>,
    /// Where packets come from.
    pub source: Option<IpAddr>,
    /// The time to live of multicast packets.
    pub ttl: Option<u8>,
    /// The sender's synchronisation source.
    pub ssrc: Option<u32>,
    /// Whether the client is the sender: `mode=record`.
    pub is_record: bool,
}

impl Transport {
    /// A transport of which nothing else is said.
    #[must_use]
    pub const fn new(lower: Lower) -> Self {
        Self {
            lower,
            is_secure: false,
            interleaved: None,
            client_port: None,
            server_port: None,
            port: None,
            destination: None,
            source: None,
            ttl: None,
            ssrc: None,
            is_record: false,
        }
    }

    /// Reads the alternatives of a header, in the order in which the client prefers them. What is not RTP is left out.
    #[must_use]
    pub fn parse(value: &str) -> Vec<Self> {
        value.split(',').filter_map(Self::parse_one).collect()
    }

    fn parse_one(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let spec = parts.next()?.to_ascii_uppercase();
        let mut words = spec.split('/');
        let (protocol, profile, lower) = (words.next()?, words.next()?, words.next());
        let is_secure = profile.starts_with("SAVP");
        if protocol != "RTP" || !(is_secure || profile.starts_with("AVP")) {
            return None;
        }
        let lower = match lower {
            Some("TCP") => Lower::Tcp,
            Some("UDP") | None => Lower::Udp,
            Some(_) => return None,
        };
        let mut transport = Self::new(lower);
        transport.is_secure = is_secure;
        for part in parts {
            transport.take(part);
        }
        Some(transport)
    }

    fn take(&mut self, part: &str) {
        let Some((name, _)) = part.split_once('=') else {
            if part.eq_ignore_ascii_case("multicast") && self.lower == Lower::Udp {
                self.lower = Lower::Multicast;
            }
            return;
        };
        let value = parameter(part, name.trim()).unwrap_or_default();
        match name.trim().to_ascii_lowercase().as_str() {
            "interleaved" => self.interleaved = pair(value, |n: u8| n.checked_add(1)),
            "client_port" => self.client_port = pair(value, |n: u16| n.checked_add(1)),
            "server_port" => self.server_port = pair(value, |n: u16| n.checked_add(1)),
            "port" => self.port = pair(value, |n: u16| n.checked_add(1)),
            "destination" => self.destination = address(value),
            "source" => self.source = address(value),
            "ttl" => self.ttl = value.parse().ok(),
            "ssrc" => self.ssrc = u32::from_str_radix(value.trim_start_matches("0x"), 16).ok(),
            "mode" => {
                let mode = value.to_ascii_lowercase();
                // What GStreamer and ffmpeg write; `receive` is what old ffmpeg wrote.
                self.is_record = mode.contains("record") || mode.contains("receive");
            }
            _ => {}
        }
    }

    /// Writes one transport.
    #[must_use]
    pub fn write(&self) -> String {
        let profile = if self.is_secure { "SAVP" } else { "AVP" };
        let (lower, cast) = match self.lower {
            Lower::Tcp => ("/TCP", "unicast"),
            Lower::Udp => ("", "unicast"),
            Lower::Multicast => ("", "multicast"),
        };
        let mut text = format!("RTP/{profile}{lower};{cast}");
        let mut add = |part: Option<String>| {
            if let Some(part) = part {
                text.push(';');
                text.push_str(&part);
            }
        };
        add(self.destination.map(|to| format!("destination={to}")));
        add(self.source.map(|from| format!("source={from}")));
        add(self.interleaved.map(|pair| ports("interleaved", pair)));
        add(self.port.map(|pair| ports("port", pair)));
        add(self.client_port.map(|pair| ports("client_port", pair)));
        add(self.server_port.map(|pair| ports("server_port", pair)));
        add(self.ttl.map(|ttl| format!("ttl={ttl}")));
        add(self.ssrc.map(|ssrc| format!("ssrc={ssrc:08X}")));
        add(self.is_record.then(|| "mode=record".to_owned()));
        text
    }
}

fn ports<T: std::fmt::Display>(name: &str, pair: Pair<T>) -> String {
    format!("{name}={}-{}", pair.rtp, pair.rtcp)
}

fn pair<T: std::str::FromStr + Copy>(
    value: &str,
    next: impl Fn(T) -> Option<T>,
) -> Option<Pair<T>> {
    let (first, second) = value
        .split_once('-')
        .map_or((value, None), |(a, b)| (a, Some(b)));
    let rtp = first.trim().parse().ok()?;
    let rtcp = match second {
        Some(second) => second.trim().parse().ok()?,
        None => next(rtp)?,
    };
    Some(Pair { rtp, rtcp })
}

/// An address; IPv6 also in brackets.
fn address(value: &str) -> Option<IpAddr> {
    value
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn one(value: &str) -> Transport {
        let all = Transport::parse(value);
        assert_eq!(all.len(), 1, "{value}");
        all[0].clone()
    }

    #[test]
    fn what_players_offer_is_read() {
        let ffmpeg_tcp = one("RTP/AVP/TCP;unicast;interleaved=0-1");
        assert_eq!(ffmpeg_tcp.lower, Lower::Tcp);
        assert_eq!(ffmpeg_tcp.interleaved, Some(Pair { rtp: 0, rtcp: 1 }));

        let ffmpeg_udp = one("RTP/AVP/UDP;unicast;client_port=21376-21377");
        assert_eq!(ffmpeg_udp.lower, Lower::Udp);
        assert_eq!(
            ffmpeg_udp.client_port,
            Some(Pair {
                rtp: 21_376,
                rtcp: 21_377
            })
        );

        let publisher = one("RTP/AVP/TCP;unicast;interleaved=2-3;mode=record");
        assert!(publisher.is_record);

        let live555 = one("RTP/AVP;multicast;port=48398-48399");
        assert_eq!(live555.lower, Lower::Multicast);
        assert_eq!(
            live555.port,
            Some(Pair {
                rtp: 48_398,
                rtcp: 48_399
            })
        );
        assert_eq!(one("RTP/AVP/UDP;multicast").lower, Lower::Multicast);
    }

    #[test]
    fn alternatives_keep_their_order_and_what_is_not_rtp_is_left_out() {
        let all = Transport::parse(
            "RTP/AVPF;unicast;client_port=5000-5001,MP2T/H2221/UDP;unicast,rtp/avp/tcp;Interleaved=0",
        );

        let lower: Vec<_> = all.iter().map(|transport| transport.lower).collect();
        assert_eq!(lower, [Lower::Udp, Lower::Tcp]);
        assert_eq!(all[1].interleaved, Some(Pair { rtp: 0, rtcp: 1 }));
    }

    #[test]
    fn values_that_make_no_sense_are_left_out() {
        let transport =
            one("RTP/AVP;client_port=70000-70001;interleaved=255;ttl=x;destination=me;=;;");

        assert_eq!(transport, Transport::new(Lower::Udp));
        assert_eq!(Transport::parse("RTP;RTP/XYZ;RTP/AVP/DCCP"), []);
    }

    #[test]
    fn secure_profiles_are_told_apart() {
        assert!(one("RTP/SAVP;unicast;client_port=1-2").is_secure);
        assert!(!one("RTP/AVP;unicast;client_port=1-2").is_secure);
    }

    prop_compose! {
        fn any_transport()(
            lower in prop_oneof![Just(Lower::Tcp), Just(Lower::Udp), Just(Lower::Multicast)],
            is_secure: bool,
            is_record: bool,
            interleaved in proptest::option::of(any::<(u8, u8)>()),
            ports in proptest::array::uniform3(proptest::option::of(any::<(u16, u16)>())),
            destination in proptest::option::of(any::<IpAddr>()),
            source in proptest::option::of(any::<IpAddr>()),
            ttl: Option<u8>,
            ssrc: Option<u32>,
        ) -> Transport {
            let port = |at: usize| ports[at].map(|(rtp, rtcp)| Pair { rtp, rtcp });
            Transport {
                lower, is_secure, is_record, destination, source, ttl, ssrc,
                interleaved: interleaved.map(|(rtp, rtcp)| Pair { rtp, rtcp }),
                client_port: port(0),
                server_port: port(1),
                port: port(2),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(transport in any_transport()) {
            prop_assert_eq!(Transport::parse(&transport.write()), vec![transport]);
        }

        #[test]
        fn no_text_is_too_strange_to_be_read(text in "\\PC{0,80}") {
            let _ = Transport::parse(&text);
        }
    }
}
