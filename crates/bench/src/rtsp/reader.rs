//! The readers of the RTSP bench: they ask like players, take what comes, and note how much and how late.
//!
//! By UDP they are plain sockets, as players have: what was sent as one train is taken datagram by datagram. Not who
//! sends. Called by the parent and by `floor`, so that the gateway and the kernel alone have the same readers.
//! Invariant: what is noted of lateness is of pictures that came while the meter was open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UdpSocket};

use super::Transport;
use super::camera;
use super::nanos;

/// What a reader takes at once.
const READ_BYTES: usize = 64 << 10;
/// The witness takes more, so that it sees a write as one.
const WITNESS_BYTES: usize = 1 << 20;
/// The longest datagram.
const DATAGRAM_BYTES: usize = 2_048;
/// How often a reader looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a reader counts, and whether that is wanted now.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) bytes: AtomicU64,
    pub(super) has_begun: AtomicBool,
    pub(super) is_open: AtomicBool,
    pub(super) ends: AtomicBool,
    /// Whether it keeps what it sees.
    pub(super) is_witness: bool,
}

impl Meter {
    /// Counts what came. Whether it is wanted.
    fn count(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.has_begun.store(true, Ordering::Relaxed);
        self.is_open.load(Ordering::Relaxed)
    }

    fn ends(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }
}

/// What a reader saw while its meter was open.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What came at once, and when; of a witness alone.
    pub(super) arrivals: Vec<(Duration, Vec<u8>)>,
    /// How late pictures were, in nanoseconds.
    pub(super) late: Vec<u64>,
}

/// Where a reader's media come from.
#[derive(Debug)]
pub(super) enum Media {
    Tcp(BufReader<TcpStream>),
    /// The connection that keeps the session, the port of RTP, and that of RTCP.
    Udp(BufReader<TcpStream>, UdpSocket, UdpSocket),
    /// The port of RTP alone.
    Port(UdpSocket),
}

/// The requests of a player, up to the answer to PLAY.
pub(super) async fn play(
    address: SocketAddr,
    url: &str,
    transport: Transport,
) -> anyhow::Result<Media> {
    let connecting = TcpStream::connect(address).await?;
    let mut stream = BufReader::with_capacity(READ_BYTES, connecting);
    let ports = match transport {
        Transport::Tcp => None,
        Transport::Udp => Some((port().await?, port().await?)),
    };
    let offer = |track: usize| -> anyhow::Result<String> {
        Ok(match &ports {
            // Both tracks come to the same ports.
            Some((rtp, rtcp)) => {
                let (rtp, rtcp) = (rtp.local_addr()?.port(), rtcp.local_addr()?.port());
                format!("Transport: RTP/AVP;unicast;client_port={rtp}-{rtcp}\r\n")
            }
            None => {
                let (rtp, rtcp) = (2 * track - 2, 2 * track - 1);
                format!("Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}\r\n")
            }
        })
    };
    let describe = format!("DESCRIBE {url}");
    ask(&mut stream, &describe, "Accept: application/sdp\r\n").await?;
    let setup = |track: usize| format!("SETUP {url}/trackID={track}");
    let session = ask(&mut stream, &setup(1), &offer(1)?).await?;
    let session = session.context("the server names no session")?;
    let session = format!("Session: {session}\r\n");
    ask(&mut stream, &setup(2), &(offer(2)? + &session)).await?;
    ask(&mut stream, &format!("PLAY {url}"), &session).await?;
    Ok(match ports {
        Some((rtp, rtcp)) => Media::Udp(stream, rtp, rtcp),
        None => Media::Tcp(stream),
    })
}

/// A port of this machine.
pub(super) async fn port() -> anyhow::Result<UdpSocket> {
    Ok(UdpSocket::bind(("127.0.0.1", 0)).await?)
}

/// Sends a request, reads its response, and returns the session that it names.
async fn ask(
    stream: &mut BufReader<TcpStream>,
    line: &str,
    header: &str,
) -> anyhow::Result<Option<String>> {
    let request = format!("{line} RTSP/1.0\r\nCSeq: 1\r\n{header}\r\n");
    stream.get_mut().write_all(request.as_bytes()).await?;
    let (mut session, mut body, mut is_first) = (None, 0, true);
    loop {
        let mut text = String::new();
        ensure!(stream.read_line(&mut text).await? > 0, "{line}: no answer");
        let text = text.trim_end();
        ensure!(!is_first || text.contains(" 200 "), "{line}: {text}");
        is_first = false;
        match text.split_once(": ") {
            Some(("Session", id)) => session = id.split(';').next().map(str::to_owned),
            Some(("Content-Length", length)) => body = length.parse()?,
            _ if text.is_empty() => break,
            _ => {}
        }
    }
    let mut rest = vec![0; body];
    stream.read_exact(&mut rest).await?;
    Ok(session)
}

/// Takes what comes until the meter says that it is over. Pictures are stamped with the time since `began`.
pub(super) async fn read(media: Media, meter: Arc<Meter>, began: Instant) -> Seen {
    match media {
        Media::Tcp(stream) => read_stream(stream, &meter, began).await,
        Media::Udp(_session, rtp, rtcp) => {
            let reports = async {
                let mut report = [0; DATAGRAM_BYTES];
                while let Ok(bytes) = rtcp.recv(&mut report).await {
                    meter.count(bytes);
                }
                std::future::pending().await
            };
            tokio::select! {
                seen = read_port(&rtp, &meter, began) => seen,
                never = reports => never,
            }
        }
        Media::Port(rtp) => read_port(&rtp, &meter, began).await,
    }
}

async fn read_stream(mut stream: BufReader<TcpStream>, meter: &Meter, began: Instant) -> Seen {
    let (mut seen, mut kept) = (Seen::default(), stream.buffer().to_vec());
    let at_once = if meter.is_witness {
        WITNESS_BYTES
    } else {
        READ_BYTES
    };
    let mut chunk = vec![0; at_once];
    let mut from = None;
    let mut looked = tokio::time::interval(LOOK_EVERY);
    while !meter.ends() {
        let bytes = tokio::select! {
            bytes = stream.get_mut().read(&mut chunk) => bytes,
            _ = looked.tick() => continue,
        };
        let Ok(bytes @ 1..) = bytes else { break };
        let now = Instant::now();
        let is_open = meter.count(bytes);
        // What is kept begins with a packet.
        if is_open && meter.is_witness && (from.is_some() || kept.is_empty()) {
            let from = *from.get_or_insert(now);
            seen.arrivals.push((now - from, chunk[..bytes].to_vec()));
        }
        kept.extend_from_slice(&chunk[..bytes]);
        let (places, taken) = camera::places(&kept);
        if is_open {
            let stamps = places.iter().filter_map(|at| camera::stamp(&kept, *at));
            let late = stamps.map(|stamp| nanos(now - began).saturating_sub(stamp));
            seen.late.extend(late);
        }
        kept.drain(..taken);
    }
    seen
}

async fn read_port(port: &UdpSocket, meter: &Meter, began: Instant) -> Seen {
    let (mut seen, mut from) = (Seen::default(), None);
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut looked = tokio::time::interval(LOOK_EVERY);
    while !meter.ends() {
        let bytes = tokio::select! {
            bytes = port.recv(&mut datagram) => bytes,
            _ = looked.tick() => continue,
        };
        // What the kernel says of datagrams that this socket sent is nothing here.
        let Ok(bytes) = bytes else { continue };
        let now = Instant::now();
        if !meter.count(bytes) {
            continue;
        }
        let packet = &datagram[..bytes];
        if meter.is_witness {
            let from = *from.get_or_insert(now);
            seen.arrivals.push((now - from, packet.to_vec()));
        }
        let stamp = camera::place(packet).and_then(|at| camera::stamp(packet, at));
        let late = stamp.map(|stamp| nanos(now - began).saturating_sub(stamp));
        seen.late.extend(late);
    }
    seen
}
