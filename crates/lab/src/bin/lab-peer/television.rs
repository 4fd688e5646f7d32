//! A television's view of an output: datagrams of a group, as a plain socket gets them, held against what broadcasters
//! ask for (ETSI TR 101 290: rate, clock, tables, continuity).
//!
//! Not levada's reader of transport streams: a fault of that must not hide one of the writer. Called by `main`.
//! Invariant: times are the kernel's, of when a datagram reached the host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use levada_ports::sys::{ProbeSettings, ProbeSocket};
use serde_json::json;

const PACKET_BYTES: usize = 188;
const SYNC_BYTE: u8 = 0x47;
const NULL_PID: u16 = 0x1FFF;
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for what waits while this program does.
const BUFFER_BYTES: usize = 8 << 20;

/// Counts and times of all that came.
#[derive(Debug, Default)]
struct Seen {
    first: Option<u64>,
    last: u64,
    datagrams: u64,
    bytes: u64,
    null_packets: u64,
    malformed: u64,
    /// The counter of the newest packet with payload, by PID.
    continuity: BTreeMap<u16, u8>,
    breaks: u64,
    /// Arrival in nanoseconds, and the clock.
    clocks: Vec<(u64, u64)>,
    /// Arrivals of the program association table.
    tables: Vec<u64>,
    /// Of RTP, the number of the newest and how often the next was another.
    sequence: Option<u16>,
    lost: u64,
}

/// Looks for so many seconds from the first datagram on, and prints what it saw.
pub(crate) fn watch(address: SocketAddr, seconds: u64) -> anyhow::Result<()> {
    let settings = ProbeSettings {
        receive_buffer: BUFFER_BYTES,
        timestamps: true,
        patience: Some(PATIENCE),
        ..ProbeSettings::default()
    };
    let socket = ProbeSocket::bind(address, &settings)?;
    let (mut seen, mut buffer) = (Seen::default(), [0; 2_048]);
    loop {
        let arrival = socket.receive(&mut buffer).context("nothing comes")?;
        let at = arrival.at_nanos.context("the kernel says no times")?;
        let first = *seen.first.get_or_insert(at);
        if at.saturating_sub(first) >= seconds * 1_000_000_000 {
            break;
        }
        seen.last = at;
        let datagram = buffer.get(..arrival.bytes).context("it is too long")?;
        seen.take(at, datagram);
    }
    say(&seen.report())
}

#[expect(clippy::print_stdout, reason = "what it saw is what it was asked for")]
fn say(report: &serde_json::Value) -> anyhow::Result<()> {
    println!("{report}");
    Ok(())
}

impl Seen {
    fn take(&mut self, at: u64, datagram: &[u8]) {
        self.datagrams += 1;
        let packets = match datagram {
            [0x80, kind, high, low, ..] if kind & 0x7F == 33 => {
                let number = u16::from_be_bytes([*high, *low]);
                if let Some(before) = self.sequence.replace(number) {
                    self.lost += u64::from(before.wrapping_add(1) != number);
                }
                datagram.get(12..).unwrap_or_default()
            }
            _ => datagram,
        };
        self.bytes += packets.len() as u64;
        if packets.is_empty() || packets.len() % PACKET_BYTES != 0 {
            self.malformed += 1;
        }
        for packet in packets.chunks(PACKET_BYTES) {
            self.packet(at, packet);
        }
    }

    fn packet(&mut self, at: u64, packet: &[u8]) {
        let &[SYNC_BYTE, high, low, control, ref rest @ ..] = packet else {
            self.malformed += 1;
            return;
        };
        let pid = u16::from_be_bytes([high & 0x1F, low]);
        if pid == NULL_PID {
            self.null_packets += 1;
            return;
        }
        if pid == 0 {
            self.tables.push(at);
        }
        if control & 0x20 != 0
            && let Some(&[length, flags, b0, b1, b2, b3, b4, b5]) = rest.first_chunk::<8>()
            && length >= 7
            && flags & 0x10 != 0
        {
            let base = u64::from(u32::from_be_bytes([b0, b1, b2, b3])) << 1 | u64::from(b4 >> 7);
            let extension = u64::from(b4 & 1) << 8 | u64::from(b5);
            self.clocks.push((at, base * 300 + extension));
        }
        let counter = control & 0x0F;
        let has_payload = control & 0x10 != 0;
        match self.continuity.get(&pid) {
            // Without payload the counter stands still (ISO 13818-1 2.4.3.3).
            Some(before) => {
                let expected = before.wrapping_add(u8::from(has_payload)) & 0x0F;
                self.breaks += u64::from(counter != expected);
            }
            None if !has_payload => return,
            None => {}
        }
        self.continuity.insert(pid, counter);
    }

    fn report(&self) -> serde_json::Value {
        let span = self.last.saturating_sub(self.first.unwrap_or(self.last)) as f64 / 1e9;
        let (jitter, drift) = jitter(&self.clocks);
        json!({
            "seconds": span,
            "datagrams": self.datagrams,
            "rate_bps": self.bytes as f64 * 8.0 / span.max(1e-9),
            "null_packets": self.null_packets,
            "malformed": self.malformed,
            "continuity_breaks": self.breaks,
            "rtp_breaks": self.lost,
            "is_rtp": self.sequence.is_some(),
            "clocks": self.clocks.len(),
            "clock_gap_ms": largest(self.clocks.iter().map(|(_, clock)| clock / 27)) / 1e3,
            "tables_gap_ms": largest(self.tables.iter().map(|at| at / 1_000)) / 1e3,
            "clock_jitter_us": { "p50": share(&jitter, 50), "p95": share(&jitter, 95), "p99": share(&jitter, 99),
                                 "max": share(&jitter, 100) },
            "clock_drift_ppm": drift,
        })
    }
}

/// The largest step, in the unit of what is given.
fn largest(values: impl Iterator<Item = u64>) -> f64 {
    let values: Vec<_> = values.collect();
    let steps = values
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]));
    steps.max().unwrap_or(0) as f64
}

fn share(sorted: &[f64], percent: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).copied().unwrap_or(f64::MAX)
}

/// How far arrivals are from the straight line through them, in microseconds, sorted; and the slope of that line in
/// parts in a million.
fn jitter(clocks: &[(u64, u64)]) -> (Vec<f64>, f64) {
    let Some(&(first_at, first)) = clocks.first() else {
        return (Vec::new(), 0.0);
    };
    let points: Vec<(f64, f64)> = clocks
        .iter()
        .map(|(at, clock)| {
            let clock = clock.wrapping_sub(first) as f64 / 27.0;
            (clock, at.saturating_sub(first_at) as f64 / 1e3 - clock)
        })
        .collect();
    let count = points.len() as f64;
    let (mean_x, mean_y) = points.iter().fold((0.0, 0.0), |sum, point| {
        (sum.0 + point.0 / count, sum.1 + point.1 / count)
    });
    let (over, under) = points.iter().fold((0.0, 0.0), |sum, (x, y)| {
        let x = x - mean_x;
        (sum.0 + x * (y - mean_y), sum.1 + x * x)
    });
    let slope = if under > 0.0 { over / under } else { 0.0 };
    let mut off: Vec<f64> = points
        .iter()
        .map(|(x, y)| (y - mean_y - slope * (x - mean_x)).abs())
        .collect();
    off.sort_by(f64::total_cmp);
    (off, slope * 1e6)
}
