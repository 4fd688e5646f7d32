//! `levada bench rtsp`: what a node's RTSP gateway pays for many readers of one stream, beside the kernel alone.
//!
//! ```text
//! frames ─▶ node ─▶ RTSP server ─▶ TCP ─▶ readers           its threads: `rtsp-server`, and the node's lane
//! the same bytes in the same writes ─▶ TCP ─▶ readers       one thread: `rtsp-floor`
//! ```
//!
//! Readers, publisher and server are in this process, on threads of their own; the topology is plain loopback, where
//! the kernel bills the receivers' part of TCP to who sends. The floor's writes are those that one reader saw: when,
//! and how many bytes. Not many streams and not a network. Called by the command. Invariant: both are measured in each
//! round, and a reader that got less than its part is counted.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use levada::{Description, Node, PublishOptions, Publisher, StreamName};
use levada_gateway::gate::Limits;
use levada_gateway_rtsp::Server;
use levada_ports::worker::THREAD_NAME;
use levada_wire::{Bitrate, Frame, TrackKind};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::cpu::Times;
use crate::stats::{Spread, percentile};
use crate::traffic::{self, Traffic};

const SERVER_THREAD: &str = "rtsp-server";
const FLOOR_THREAD: &str = "rtsp-floor";
/// How long readers may take until each has its first packet.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a reader takes at once.
const READ_BYTES: usize = 64 << 10;
/// The longest that a packet's stamp is looked for in: header, RTP, the unit's header, and the stamp.
const STAMP_DIGITS: usize = 16;
/// Of its part, what a reader must get not to count as starved.
const STARVED: f64 = 0.9;

/// One line of results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    pub readers: usize,
    pub rate_bps: u64,
    pub threads: usize,
    /// What readers got, for each second of the processor that the server's threads and the node's lane took.
    pub server_gbit_per_cpu_s: Spread,
    /// The same of the kernel alone, in the same rounds.
    pub floor_gbit_per_cpu_s: Spread,
    /// The one by the other, round by round.
    pub of_floor: Spread,
    /// From a picture's hand-over to its first packet at a reader: of all pictures to all of them.
    pub p50_us: Spread,
    pub p99_us: Spread,
    /// Readers that got less than nine tenths of what the median got, in all rounds.
    pub starved: usize,
}

/// One line of the table: a stream, and who reads it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub rate: Bitrate,
    pub readers: usize,
    /// Threads that the server has.
    pub threads: usize,
}

/// What a round gave.
#[derive(Clone, Copy, Debug)]
struct Sample {
    server: f64,
    floor: f64,
    p50_us: f64,
    p99_us: f64,
    starved: usize,
}

/// Measures a case in so many rounds.
///
/// # Errors
///
/// When the node or the server does not start, a reader is refused, or the system does not tell threads' times.
pub fn measure(case: Case, rounds: usize, seconds: Duration) -> anyhow::Result<Report> {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        samples.push(round(case, seconds)?);
    }
    let spread = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of)).context("no rounds");
    Ok(Report {
        bench: "rtsp",
        readers: case.readers,
        rate_bps: case.rate.0,
        threads: case.threads,
        server_gbit_per_cpu_s: spread(|sample| sample.server)?,
        floor_gbit_per_cpu_s: spread(|sample| sample.floor)?,
        of_floor: spread(|sample| sample.server / sample.floor)?,
        p50_us: spread(|sample| sample.p50_us)?,
        p99_us: spread(|sample| sample.p99_us)?,
        starved: samples.iter().map(|sample| sample.starved).sum(),
    })
}

fn round(case: Case, seconds: Duration) -> anyhow::Result<Sample> {
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(case.threads)
        .thread_name(SERVER_THREAD)
        .enable_all()
        .build()
        .context("no threads for the server")?;
    let clients = runtime_of_one("rtsp-readers")?;
    let (node, gateway) = server.block_on(start(case))?;
    let address = gateway.local_addr();
    let name: StreamName = "bench/rtsp".parse().context("a name")?;
    let began = Instant::now();
    let source = clients.block_on(Camera::open(&node, &name, case.rate))?;
    let publishing = clients.spawn(source.run(began));
    let url = format!("rtsp://{address}/{name}");
    let meters: Vec<_> = (0..case.readers)
        .map(|_| Arc::new(Meter::default()))
        .collect();
    let readers = connect(&clients, address, &url, &meters, began)?;

    let times = || -> anyhow::Result<[Times; 2]> {
        Ok([Times::of(SERVER_THREAD)?, Times::of(THREAD_NAME)?])
    };
    let (before, bytes) = (times()?, counts(&meters));
    open_all(&meters, true);
    sleep(&clients, seconds);
    open_all(&meters, false);
    let [server_ran, lane_ran] = times()?;
    let [server_before, lane_before] = &before;
    let ran = server_ran.since(server_before).ran + lane_ran.since(lane_before).ran;
    let got: Vec<u64> = counts(&meters)
        .iter()
        .zip(&bytes)
        .map(|(now, then)| now - then)
        .collect();
    let seen: Vec<Seen> = clients.block_on(async {
        let mut all = Vec::new();
        for (reader, meter) in readers.into_iter().zip(&meters) {
            meter.ends.store(true, Ordering::Relaxed);
            all.push(reader.await.unwrap_or_default());
        }
        all
    });
    publishing.abort();
    drop(gateway);
    server.block_on(node.leave());
    server.shutdown_background();

    let writes = seen
        .first()
        .map(|seen| seen.writes.clone())
        .unwrap_or_default();
    let mut late: Vec<u64> = seen.into_iter().flat_map(|seen| seen.late).collect();
    late.sort_unstable();
    let us = |per_cent| percentile(&late, per_cent).map(|nanos| nanos as f64 / 1_000.0);
    let none = "no picture reached a reader";
    Ok(Sample {
        server: gbit_per_second(got.iter().sum(), ran),
        floor: floor(&clients, case.readers, &writes)?,
        p50_us: us(50.0).context(none)?,
        p99_us: us(99.0).context(none)?,
        starved: starved(&got),
    })
}

fn runtime_of_one(thread: &str) -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(1).thread_name(thread).enable_all();
    builder.build().context("no thread for readers")
}

async fn start(case: Case) -> anyhow::Result<(Node, Server)> {
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    let builder = Node::builder().temporary_state().admin(false).lanes(1);
    let node = builder.listen(loopback).start().await?;
    let limits = Limits::default().with_handshakes_per_address(case.readers + 1);
    let server = Server::builder(node.clone())
        .limits(limits)
        .senders(case.threads);
    let server = server.start(loopback).await?;
    Ok((node, server))
}

fn sleep(clients: &Runtime, seconds: Duration) {
    clients.block_on(async { tokio::time::sleep(seconds).await });
}

fn counts(meters: &[Arc<Meter>]) -> Vec<u64> {
    let counts = meters
        .iter()
        .map(|meter| meter.bytes.load(Ordering::Relaxed));
    counts.collect()
}

fn open_all(meters: &[Arc<Meter>], is_open: bool) {
    for meter in meters {
        meter.is_open.store(is_open, Ordering::Relaxed);
    }
}

/// How many got less than their part.
fn starved(got: &[u64]) -> usize {
    let mut sorted = got.to_vec();
    sorted.sort_unstable();
    let part = percentile(&sorted, 50.0).unwrap_or(0) as f64 * STARVED;
    got.iter().filter(|bytes| (**bytes as f64) < part).count()
}

fn gbit_per_second(bytes: u64, ran: Duration) -> f64 {
    bytes as f64 * 8.0 / 1e9 / ran.as_secs_f64()
}

/// Frames of a camera, each picture with the moment of its hand-over in front.
struct Camera {
    publisher: Publisher,
    traffic: Traffic,
}

impl Camera {
    async fn open(node: &Node, name: &StreamName, rate: Bitrate) -> anyhow::Result<Self> {
        let mut description: Description = (*traffic::description()).clone();
        for track in &mut description.tracks {
            let is_sound = track.kind == TrackKind::Audio;
            // AAC-LC, 48 kHz, stereo (ISO 14496-3 1.6.2.1).
            track.config = if is_sound {
                vec![0x11, 0x90]
            } else {
                Vec::new()
            };
        }
        let publisher = node.publish(name.clone(), description, PublishOptions::default());
        Ok(Self {
            publisher: publisher.await?,
            traffic: Traffic::new(rate, 1),
        })
    }

    async fn run(mut self, began: Instant) {
        let from = Instant::now();
        loop {
            let timed = self.traffic.next();
            tokio::time::sleep_until((from + timed.at).into()).await;
            let stamp = nanos(began.elapsed());
            let data = picture(&timed.frame.data, timed.frame.sync, stamp);
            let frame = Frame {
                data,
                ..timed.frame
            };
            if self.publisher.send(frame).await.is_err() {
                return;
            }
        }
    }
}

/// One unit in Annex B that begins with a stamp and holds no start code.
fn picture(bytes: &[u8], is_sync: bool, stamp: u64) -> Bytes {
    let kind = if is_sync { 0x65 } else { 0x41 };
    let mut data = vec![0, 0, 0, 1, kind];
    data.extend_from_slice(format!("{stamp:0STAMP_DIGITS$x}").as_bytes());
    let rest = bytes.get(data.len()..).unwrap_or_default();
    data.extend(rest.iter().map(|byte| byte | 1));
    data.into()
}

/// What a reader counts, and whether that is wanted now.
#[derive(Debug, Default)]
struct Meter {
    bytes: AtomicU64,
    has_begun: AtomicBool,
    is_open: AtomicBool,
    ends: AtomicBool,
}

/// What a reader saw while its meter was open.
#[derive(Debug, Default)]
struct Seen {
    /// When bytes came, and how many.
    writes: Vec<(Duration, usize)>,
    /// How late pictures were, in nanoseconds.
    late: Vec<u64>,
}

type Readers = Vec<tokio::task::JoinHandle<Seen>>;

/// Has every reader play, and waits until each has its first packet.
fn connect(
    clients: &Runtime,
    address: SocketAddr,
    url: &str,
    meters: &[Arc<Meter>],
    began: Instant,
) -> anyhow::Result<Readers> {
    let patience = Instant::now() + PATIENCE;
    clients.block_on(async {
        let mut readers = Vec::new();
        for meter in meters {
            let stream = play(address, url).await?;
            readers.push(tokio::spawn(read(stream, Arc::clone(meter), began)));
        }
        while meters
            .iter()
            .any(|meter| !meter.has_begun.load(Ordering::Relaxed))
        {
            ensure!(Instant::now() < patience, "readers wait in vain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(readers)
    })
}

/// The requests of a player, up to the answer to PLAY.
async fn play(address: SocketAddr, url: &str) -> anyhow::Result<BufReader<TcpStream>> {
    let mut stream = BufReader::with_capacity(READ_BYTES, TcpStream::connect(address).await?);
    let setup = |track: usize, more: &str| {
        let (rtp, rtcp) = (2 * track - 2, 2 * track - 1);
        let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}\r\n");
        (
            format!("SETUP {url}/trackID={track}"),
            format!("{transport}{more}"),
        )
    };
    ask(
        &mut stream,
        &format!("DESCRIBE {url}"),
        "Accept: application/sdp\r\n",
    )
    .await?;
    let (line, header) = setup(1, "");
    let session = ask(&mut stream, &line, &header).await?;
    let session = format!(
        "Session: {}\r\n",
        session.context("the server names no session")?
    );
    let (line, header) = setup(2, &session);
    ask(&mut stream, &line, &header).await?;
    ask(&mut stream, &format!("PLAY {url}"), &session).await?;
    Ok(stream)
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

async fn read(mut stream: BufReader<TcpStream>, meter: Arc<Meter>, began: Instant) -> Seen {
    let (mut seen, mut kept) = (Seen::default(), stream.buffer().to_vec());
    let mut chunk = vec![0; READ_BYTES];
    let mut from = None;
    let mut looked = tokio::time::interval(Duration::from_millis(100));
    while !meter.ends.load(Ordering::Relaxed) {
        let bytes = tokio::select! {
            bytes = stream.get_mut().read(&mut chunk) => bytes,
            _ = looked.tick() => continue,
        };
        let Ok(bytes @ 1..) = bytes else { break };
        let now = Instant::now();
        meter.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        meter.has_begun.store(true, Ordering::Relaxed);
        kept.extend_from_slice(&chunk[..bytes]);
        let is_open = meter.is_open.load(Ordering::Relaxed);
        if is_open {
            let from = *from.get_or_insert(now);
            seen.writes.push((now - from, bytes));
        }
        let taken = packets(&kept, |stamp| {
            if is_open {
                seen.late.push(nanos(now - began).saturating_sub(stamp));
            }
        });
        kept.drain(..taken);
    }
    seen
}

/// Gives the stamps of the pictures that begin in whole packets; returns how many bytes these have.
fn packets(bytes: &[u8], mut on_stamp: impl FnMut(u64)) -> usize {
    let mut at = 0;
    while let Some(&[b'$', channel, high, low]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(packet) = bytes.get(at + 4..at + 4 + length) else {
            break;
        };
        if channel == 0
            && let Some(stamp) = stamp(packet)
        {
            on_stamp(stamp);
        }
        at += 4 + length;
    }
    at
}

/// The stamp of a picture that begins in this packet: a unit by itself, or the first of several parts (RFC 6184 5.6,
/// 5.8).
fn stamp(packet: &[u8]) -> Option<u64> {
    let digits = match packet.get(12)? & 0x1F {
        28 if packet.get(13)? & 0x80 != 0 => packet.get(14..14 + STAMP_DIGITS)?,
        1 | 5 => packet.get(13..13 + STAMP_DIGITS)?,
        _ => return None,
    };
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The same writes to as many readers by a plain loop on one thread.
fn floor(clients: &Runtime, readers: usize, writes: &[(Duration, usize)]) -> anyhow::Result<f64> {
    ensure!(!writes.is_empty(), "the first reader saw no write");
    let listener = StdListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let mut sockets = Vec::new();
    for _ in 0..readers {
        let connecting = clients.spawn(TcpStream::connect(address));
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
        let stream = clients.block_on(connecting)??;
        clients.spawn(drain(stream));
    }
    let longest = writes.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    let (data, writes) = (vec![0x55; longest], writes.to_vec());
    let work = move || -> anyhow::Result<f64> {
        let before = Times::of(FLOOR_THREAD)?;
        let bytes = write_all(&mut sockets, &data, &writes)?;
        Ok(gbit_per_second(
            bytes,
            Times::of(FLOOR_THREAD)?.since(&before).ran,
        ))
    };
    let thread = std::thread::Builder::new().name(FLOOR_THREAD.to_owned());
    let thread = thread.spawn(work).context("no thread for the floor")?;
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("the floor has panicked"))?
}

fn write_all(
    sockets: &mut [StdStream],
    data: &[u8],
    writes: &[(Duration, usize)],
) -> io::Result<u64> {
    let (from, mut total) = (Instant::now(), 0);
    for (at, bytes) in writes {
        let due = from + *at;
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        for socket in &mut *sockets {
            socket.write_all(&data[..*bytes])?;
            total += *bytes as u64;
        }
    }
    Ok(total)
}

async fn drain(mut stream: TcpStream) {
    let mut chunk = vec![0; READ_BYTES];
    while let Ok(1..) = stream.read(&mut chunk).await {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn stamps_are_found_in_pictures_of_one_part_and_of_several() {
        let unit = picture(&[0; 100], true, 0xABC)[4..].to_vec();
        let packet = |payload: &[u8]| {
            let length = u16::try_from(12 + payload.len()).unwrap();
            let mut bytes = vec![b'$', 0];
            bytes.extend(length.to_be_bytes());
            bytes.extend([0; 12]);
            bytes.extend_from_slice(payload);
            bytes
        };
        let whole = packet(&unit);
        let first = packet(&[&[0x7C, 0x85], &unit[1..]].concat());
        let second = packet(&[&[0x7C, 0x05], &unit[1..]].concat());
        let mut bytes = [whole, first, second].concat();
        let whole_bytes = bytes.len();
        bytes.extend([b'$', 0, 0, 50, 1]);
        let mut stamps = Vec::new();

        let taken = packets(&bytes, |stamp| stamps.push(stamp));

        assert_eq!((taken, stamps), (whole_bytes, vec![0xABC, 0xABC]));
    }

    #[test]
    fn a_reader_that_gets_little_is_starved() {
        assert_eq!(starved(&[100, 100, 95, 80]), 1);
        assert_eq!(starved(&[]), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_reader_has_its_part_and_the_floor_is_measured() {
        let case = Case {
            rate: Bitrate(1_000_000),
            readers: 5,
            threads: 1,
        };

        let report = measure(case, 1, Duration::from_millis(1_500)).unwrap();

        assert!(report.server_gbit_per_cpu_s.median > 0.0, "{report:?}");
        assert!(report.floor_gbit_per_cpu_s.median > 0.0, "{report:?}");
        assert!(report.p50_us.median <= report.p99_us.median, "{report:?}");
        assert!(report.p50_us.median > 0.0, "{report:?}");
    }
}
