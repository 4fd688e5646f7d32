//! `levada bench rtsp`: what a node's RTSP gateway pays for many readers of one stream, beside the kernel alone.
//!
//! ```text
//! frames ─▶ node ─▶ RTSP server ─▶ readers          its threads: `rtsp-server`, and the node's lane
//! the same bytes in the same writes ─▶ readers      one thread: `rtsp-floor`
//! ```
//!
//! Readers, publisher and server are in this process, on threads of their own; the topology is plain loopback, where
//! the kernel bills the receivers' part of TCP and UDP to who sends. The floor's writes are those that one reader saw.
//! Not many streams and not a network. Called by the command. Invariant: both are measured in each round, and a reader
//! that got less than its part is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use levada::{Node, StreamName};
use levada_gateway::gate::Limits;
use levada_gateway_rtsp::Server;
use levada_ports::worker::THREAD_NAME;
use levada_wire::Bitrate;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::cpu::Times;
use crate::stats::{Spread, percentile};

mod camera;
mod floor;
mod reader;

use camera::Camera;
use reader::{Meter, Seen};

const SERVER_THREAD: &str = "rtsp-server";
/// How long readers may take until each has its first packet.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of its part, what a reader must get not to count as starved.
const STARVED: f64 = 0.9;

/// How packets reach readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Between the messages of a connection
    Tcp,
    /// In datagrams, which readers take one by one
    Udp,
}

impl Transport {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One line of results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    pub transport: Transport,
    pub readers: usize,
    pub rate_bps: u64,
    pub threads: usize,
    /// How long the publisher's frames wait for others, which is a part of how late they are.
    pub flush_ms: f64,
    /// What readers got, for each second of the processor that the server's threads and the node's lane took.
    pub server_gbit_per_cpu_s: Spread,
    /// The same of the kernel alone, in the same rounds.
    pub floor_gbit_per_cpu_s: Spread,
    /// The one by the other, round by round.
    pub of_floor: Spread,
    /// What readers got, for each second of the processor of the thread that took most.
    pub busiest_gbit_per_cpu_s: Spread,
    /// From a picture's hand-over to its first packet at a reader: of all pictures to all of them.
    pub p50_us: Spread,
    pub p99_us: Spread,
    /// The same of the kernel alone, from the moment at which its first write was due.
    pub floor_p50_us: Spread,
    pub floor_p99_us: Spread,
    /// Readers that got less than nine tenths of what the median got, in all rounds.
    pub starved: usize,
}

/// One line of the table: a stream, and who reads it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub transport: Transport,
    pub rate: Bitrate,
    pub readers: usize,
    /// Threads that the server has.
    pub threads: usize,
    /// How long the publisher's frames wait for others.
    pub flush_interval: Duration,
}

/// What a round gave.
#[derive(Clone, Copy, Debug)]
struct Sample {
    server: f64,
    busiest: f64,
    floor: f64,
    /// Half of the pictures at half of the readers, and all but a hundredth.
    late_us: [f64; 2],
    floor_late_us: [f64; 2],
    starved: usize,
}

/// What the kernel alone gave.
#[derive(Clone, Debug)]
struct Floor {
    gbit_per_cpu_s: f64,
    /// How late pictures were, in nanoseconds.
    late: Vec<u64>,
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
        transport: case.transport,
        readers: case.readers,
        rate_bps: case.rate.0,
        threads: case.threads,
        flush_ms: case.flush_interval.as_secs_f64() * 1_000.0,
        server_gbit_per_cpu_s: spread(|sample| sample.server)?,
        floor_gbit_per_cpu_s: spread(|sample| sample.floor)?,
        of_floor: spread(|sample| sample.server / sample.floor)?,
        busiest_gbit_per_cpu_s: spread(|sample| sample.busiest)?,
        p50_us: spread(|sample| sample.late_us[0])?,
        p99_us: spread(|sample| sample.late_us[1])?,
        floor_p50_us: spread(|sample| sample.floor_late_us[0])?,
        floor_p99_us: spread(|sample| sample.floor_late_us[1])?,
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
    let source = clients.block_on(Camera::open(&node, &name, case))?;
    let publishing = clients.spawn(source.run(began));
    let url = format!("rtsp://{address}/{name}");
    let meter = |place| {
        let is_witness = place == 0;
        Arc::new(Meter {
            is_witness,
            ..Meter::default()
        })
    };
    let meters: Vec<_> = (0..case.readers).map(meter).collect();
    let readers = connect(&clients, (address, &url), case.transport, &meters, began)?;

    let times = || -> anyhow::Result<[Times; 2]> {
        Ok([Times::of(SERVER_THREAD)?, Times::of(THREAD_NAME)?])
    };
    let (before, bytes) = (times()?, counts(&meters));
    open_all(&meters, true);
    sleep(&clients, seconds);
    open_all(&meters, false);
    let [server_ran, lane_ran] = times()?;
    let [server_before, lane_before] = &before;
    let (server_used, lane_used) = (server_ran.since(server_before), lane_ran.since(lane_before));
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

    let mut seen = seen;
    let arrivals = seen
        .first_mut()
        .map(|seen| std::mem::take(&mut seen.arrivals));
    let arrivals = arrivals.unwrap_or_default();
    let floor = floor::measure(&clients, case.readers, case.transport, &arrivals, began)?;
    let late = seen.into_iter().flat_map(|seen| seen.late).collect();
    let total = got.iter().sum();
    Ok(Sample {
        server: gbit_per_second(total, server_used.ran + lane_used.ran),
        busiest: gbit_per_second(total, server_used.longest.max(lane_used.longest)),
        floor: floor.gbit_per_cpu_s,
        late_us: lateness(late)?,
        floor_late_us: lateness(floor.late)?,
        starved: starved(&got),
    })
}

/// In microseconds: half of them are not later, and all but a hundredth.
fn lateness(mut nanos: Vec<u64>) -> anyhow::Result<[f64; 2]> {
    nanos.sort_unstable();
    let us = |per_cent| percentile(&nanos, per_cent).map(|nanos| nanos as f64 / 1_000.0);
    let both = us(50.0).zip(us(99.0)).map(|(half, most)| [half, most]);
    both.context("no picture reached a reader")
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

type Readers = Vec<tokio::task::JoinHandle<Seen>>;

/// Has every reader play, and waits until each has its first packet.
fn connect(
    clients: &Runtime,
    (address, url): (SocketAddr, &str),
    transport: Transport,
    meters: &[Arc<Meter>],
    began: Instant,
) -> anyhow::Result<Readers> {
    let patience = Instant::now() + PATIENCE;
    clients.block_on(async {
        let mut readers = Vec::new();
        for meter in meters {
            let media = reader::play(address, url, transport).await?;
            readers.push(tokio::spawn(reader::read(media, Arc::clone(meter), began)));
        }
        let waits = |meter: &Arc<Meter>| !meter.has_begun.load(Ordering::Relaxed);
        while meters.iter().any(waits) {
            ensure!(Instant::now() < patience, "readers wait in vain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(readers)
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_reader_that_gets_little_is_starved() {
        assert_eq!(starved(&[100, 100, 95, 80]), 1);
        assert_eq!(starved(&[]), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_reader_has_its_part_and_the_floor_is_measured() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let case = Case {
                transport,
                rate: Bitrate(1_000_000),
                readers: 5,
                threads: 1,
                flush_interval: Duration::ZERO,
            };

            let report = measure(case, 1, Duration::from_millis(1_500)).unwrap();

            assert!(report.server_gbit_per_cpu_s.median > 0.0, "{report:?}");
            assert!(report.floor_gbit_per_cpu_s.median > 0.0, "{report:?}");
            assert!(report.p50_us.median <= report.p99_us.median, "{report:?}");
            assert!(report.p50_us.median > 0.0, "{report:?}");
            assert!(report.floor_p50_us.median > 0.0, "{report:?}");
        }
    }
}
