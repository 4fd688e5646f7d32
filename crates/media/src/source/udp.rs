//! MPEG-TS in datagrams as a source: `udp://` and `rtp://`, unicast and multicast.
//!
//! ```text
//! udp://[@]HOST:PORT[?localaddr=IP]     HOST: a multicast group, an address of this machine, or nothing for all
//! ```
//!
//! Datagrams are whole packets of a transport stream (ISO 13818-1), or the same behind an RTP header (RFC 2250): which,
//! the first one says, whatever the scheme. Not the transport stream (`pipe.rs`). Called by `source.rs`. Invariant: two
//! senders to one port are never mixed; the first is followed until it falls silent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use levada_wire::{Track, TrackId, TrackKind};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::clip::CHUNK_BYTES;
use super::pipe::{CHUNKS_MAX, Origin, Pipe};
use super::socket::{self, Listen};
use super::{Error, Opened, Request};
use crate::rtp::{Mapping, Packet, Unpacker};
use crate::ticks::TS_TIMESCALE;

/// After so long without a datagram somebody is told.
const SILENCE: Duration = Duration::from_secs(5);
/// A sender that was silent for so long is followed no more.
const SENDER_SILENCE: Duration = Duration::from_secs(2);
/// How long packets of RTP wait for one that is missing.
pub(super) const REORDER_WAIT: Duration = Duration::from_millis(100);
/// The first byte of each packet of a transport stream.
const SYNC_BYTE: u8 = 0x47;
/// What other programs write behind `?`, and what has no meaning for who listens.
const IGNORED: [&str; 7] = [
    "pkt_size",
    "fifo_size",
    "buffer_size",
    "overrun_nonfatal",
    "reuse",
    "ttl",
    "timeout",
];

/// Opens a URL, and waits until its tracks are known.
pub(super) async fn open(request: Request) -> Result<Opened, Error> {
    let listen = parse(&request.text).await?;
    let socket = socket::open(listen, &request.text)?;
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    let receiver = Receiver {
        socket,
        url: request.text.clone(),
        following: None,
        payload: Payload::Unknown,
        strangers: 0,
    };
    tokio::spawn(receiver.run(sender));
    let pipe = Pipe::open(chunks, Origin::Datagrams(request.text), request.options).await?;
    Ok(Opened::One(Box::new(pipe)))
}

/// Reads a URL.
async fn parse(url: &str) -> Result<Listen, Error> {
    let refuse = |reason: String| Error::Url {
        url: url.to_owned(),
        reason,
    };
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = place.trim_end_matches('/');
    // The `@` of VLC: nobody in particular sends.
    let place = place.strip_prefix('@').unwrap_or(place);
    let mut interface = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("localaddr", ip) => {
                let ip = ip
                    .parse()
                    .map_err(|_| refuse(format!("`{ip}` is no IPv4 address")))?;
                interface = Some(ip);
            }
            (key, _) if IGNORED.contains(&key) => {}
            (key, _) => return Err(refuse(format!("there is no `{key}`, only `localaddr=IP`"))),
        }
    }
    let Some((host, port)) = place.rsplit_once(':') else {
        return Err(refuse("it has no port".to_owned()));
    };
    let port = port
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| refuse(format!("`{port}` is no port (1 to 65535)")))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) if host.is_empty() => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        Err(_) => {
            let found = tokio::net::lookup_host((host, port)).await;
            let found = found.ok().and_then(|mut found| found.next());
            found.ok_or_else(|| refuse(format!("no host is called `{host}`")))?
        }
    };
    Ok(Listen { address, interface })
}

/// What receives, until nobody wants it.
#[derive(Debug)]
struct Receiver {
    socket: UdpSocket,
    url: String,
    /// Whose datagrams are taken, and when the last one came.
    following: Option<(SocketAddr, Instant)>,
    payload: Payload,
    /// Datagrams of others, until somebody was told.
    strangers: u64,
}

/// What is in the datagrams.
#[derive(Debug)]
enum Payload {
    Unknown,
    Bare,
    Rtp(Box<Rtp>),
}

/// Transport stream packets behind RTP headers, which say their order.
#[derive(Debug)]
struct Rtp {
    unpacker: Unpacker,
    /// Since when packets wait for one that is missing.
    waiting: Option<Instant>,
}

impl Receiver {
    async fn run(mut self, sender: mpsc::Sender<Result<Bytes, Error>>) {
        let mut datagram = vec![0; CHUNK_BYTES];
        let mut quiet_at = Instant::now() + SILENCE;
        loop {
            let mut chunk = BytesMut::new();
            let until = self
                .payload
                .wakes_at()
                .map_or(quiet_at, |at| at.min(quiet_at));
            let received = tokio::select! {
                received = timeout_at(until, self.socket.recv_from(&mut datagram)) => received,
                () = sender.closed() => return,
            };
            match received {
                Ok(Ok((bytes, from))) => {
                    quiet_at = Instant::now() + SILENCE;
                    self.take(&datagram[..bytes], from, &mut chunk);
                    // Those that came meanwhile, in the same chunk.
                    while chunk.len() < CHUNK_BYTES {
                        let Ok((bytes, from)) = self.socket.try_recv_from(&mut datagram) else {
                            break;
                        };
                        self.take(&datagram[..bytes], from, &mut chunk);
                    }
                }
                Ok(Err(error)) => {
                    let error = Error::unreadable(self.url.clone())(error);
                    // Whoever waited may be gone.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
                Err(_) if Instant::now() >= quiet_at => {
                    quiet_at += Duration::from_secs(60);
                    tracing::warn!(
                        "nothing comes on {}: is the sender running, does it send to this address and port, \
                         and does a firewall let it through?",
                        self.url
                    );
                }
                Err(_) => {}
            }
            self.payload.give_up(&mut chunk);
            if !chunk.is_empty() && sender.send(Ok(chunk.freeze())).await.is_err() {
                return;
            }
        }
    }

    /// Takes a datagram, if it is of the sender that is followed.
    fn take(&mut self, datagram: &[u8], from: SocketAddr, chunk: &mut BytesMut) {
        let now = Instant::now();
        match &mut self.following {
            Some((followed, heard)) if *followed == from => *heard = now,
            Some((followed, heard)) if now.duration_since(*heard) < SENDER_SILENCE => {
                self.strangers += 1;
                if self.strangers == 1 {
                    tracing::warn!(
                        "a second sender, {from}, sends to {}; {followed} is followed and the other left out",
                        self.url
                    );
                }
                return;
            }
            _ => {
                self.following = Some((from, now));
                self.payload = Payload::Unknown;
                self.strangers = 0;
            }
        }
        self.payload.take(datagram, chunk);
    }
}

impl Payload {
    /// Takes a datagram and appends the packets of the transport stream that it has, or that it completes.
    fn take(&mut self, datagram: &[u8], chunk: &mut BytesMut) {
        if matches!(self, Self::Unknown) {
            *self = Self::of(datagram);
        }
        match self {
            Self::Rtp(rtp) => {
                let mut frames = Vec::new();
                rtp.unpacker.push(datagram, &mut frames);
                frames
                    .iter()
                    .for_each(|frame| chunk.extend_from_slice(&frame.data));
            }
            // The demuxer says what is wrong with what is neither.
            Self::Unknown | Self::Bare => chunk.extend_from_slice(datagram),
        }
    }

    fn of(datagram: &[u8]) -> Self {
        if datagram.first() == Some(&SYNC_BYTE) {
            return Self::Bare;
        }
        let Ok(packet) = Packet::parse(datagram) else {
            return Self::Unknown;
        };
        let track = Track {
            id: TrackId(1),
            kind: TrackKind::Data,
            codec: "mpegts".into(),
            timescale: TS_TIMESCALE,
            config: Vec::new(),
            language: None,
        };
        let Ok(mut mapping) = Mapping::of(&track, packet.payload_type()) else {
            return Self::Unknown;
        };
        // Some use a number of their own.
        mapping.payload_type = packet.payload_type();
        Self::Rtp(Box::new(Rtp {
            unpacker: Unpacker::new(&track, &mapping),
            waiting: None,
        }))
    }

    /// When packets have waited long enough for one that is missing.
    fn wakes_at(&self) -> Option<Instant> {
        match self {
            Self::Rtp(rtp) => rtp.waiting.map(|since| since + REORDER_WAIT),
            _ => None,
        }
    }

    fn give_up(&mut self, chunk: &mut BytesMut) {
        let Self::Rtp(rtp) = self else { return };
        if !rtp.unpacker.is_waiting() {
            rtp.waiting = None;
            return;
        }
        let now = Instant::now();
        let since = *rtp.waiting.get_or_insert(now);
        if now.duration_since(since) >= REORDER_WAIT {
            let mut frames = Vec::new();
            rtp.unpacker.give_up(&mut frames);
            frames
                .iter()
                .for_each(|frame| chunk.extend_from_slice(&frame.data));
            rtp.waiting = None;
        }
    }
}

#[cfg(test)]
mod tests;
