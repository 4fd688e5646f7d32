//! The floor of the RTSP bench: the same bytes in the same writes to as many readers, by a plain loop on one thread.
//!
//! Not the gateway, and no code of it. Called by the parent with what one reader of the gateway saw. Invariant: each
//! picture is stamped anew when its write is due, so that the floor's readers tell how late they have it.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use levada_ports::sys::{ProbeSettings, ProbeSocket};
use tokio::io::BufReader;
use tokio::runtime::Runtime;

use super::camera::{self, STAMP_DIGITS};
use super::reader::{self, Media, Meter, Seen};
use super::{Floor, Transport, gbit_per_second, nanos};
use crate::cpu::Times;

const THREAD: &str = "rtsp-floor";
/// The longest that one send by UDP can be.
const TRAIN_BYTES_MAX: usize = 60_000;
/// The most datagrams that one send can be (UDP_MAX_SEGMENTS of include/linux/udp.h).
const TRAIN_PACKETS_MAX: usize = 64;
/// Datagrams that came within this time can have been one send.
const TRAIN_WAIT: Duration = Duration::from_millis(5);
/// How long readers may take for what was sent last.
const LAST_WAIT: Duration = Duration::from_millis(300);

/// A write.
#[derive(Debug, PartialEq, Eq)]
struct Write {
    at: Duration,
    bytes: Vec<u8>,
    /// Size of each datagram but the last, by UDP.
    packet_bytes: usize,
    /// The first byte of each stamp that lies in it.
    stamps: Vec<usize>,
}

/// Sends what the witness saw to as many readers.
pub(super) fn measure(
    clients: &Runtime,
    readers: usize,
    transport: Transport,
    arrivals: &[(Duration, Vec<u8>)],
    began: Instant,
) -> anyhow::Result<Floor> {
    ensure!(!arrivals.is_empty(), "the first reader saw nothing");
    let mut writes = match transport {
        Transport::Tcp => stream_writes(arrivals),
        Transport::Udp => trains(arrivals),
    };
    let meter = Arc::new(Meter::default());
    meter.is_open.store(true, Ordering::Relaxed);
    let mut far_ends = Vec::new();
    let mut reading = Vec::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    for _ in 0..readers {
        let (far_end, media) = match transport {
            Transport::Tcp => connect(clients, &listener)?,
            Transport::Udp => {
                let port = clients.block_on(reader::port())?;
                (FarEnd::Udp(port.local_addr()?), Media::Port(port))
            }
        };
        far_ends.push(far_end);
        reading.push(clients.spawn(reader::read(media, Arc::clone(&meter), began)));
    }
    let work = move || -> anyhow::Result<(Duration, Vec<FarEnd>)> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = ProbeSettings {
            patience: Some(LAST_WAIT), // it waits for room to send, too
            ..ProbeSettings::default()
        };
        let port = ProbeSocket::bind(any, &settings)?;
        let before = Times::of(THREAD)?;
        write_all(&mut far_ends, &port, &mut writes, began)?;
        Ok((Times::of(THREAD)?.since(&before).ran, far_ends))
    };
    let thread = std::thread::Builder::new().name(THREAD.to_owned());
    let thread = thread.spawn(work).context("no thread for the floor")?;
    let worked = thread.join();
    super::sleep(clients, LAST_WAIT);
    meter.ends.store(true, Ordering::Relaxed);
    let (ran, _open) = worked.map_err(|_| anyhow::anyhow!("the floor has panicked"))??;
    let late = clients.block_on(async {
        let mut late = Vec::new();
        for reader in reading {
            let seen: Seen = reader.await.unwrap_or_default();
            late.extend(seen.late);
        }
        late
    });
    Ok(Floor {
        gbit_per_cpu_s: gbit_per_second(meter.bytes.load(Ordering::Relaxed), ran),
        late,
    })
}

/// Where a reader is.
enum FarEnd {
    Tcp(TcpStream),
    Udp(SocketAddr),
}

fn connect(clients: &Runtime, listener: &TcpListener) -> anyhow::Result<(FarEnd, Media)> {
    let connecting = clients.spawn(tokio::net::TcpStream::connect(listener.local_addr()?));
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let stream = clients.block_on(connecting)??;
    Ok((FarEnd::Tcp(socket), Media::Tcp(BufReader::new(stream))))
}

fn write_all(
    far_ends: &mut [FarEnd],
    port: &ProbeSocket,
    writes: &mut [Write],
    began: Instant,
) -> io::Result<()> {
    let from = Instant::now();
    for write in writes {
        let due = from + write.at;
        while let Some(wait) = due.checked_duration_since(Instant::now())
            && !wait.is_zero()
        {
            std::thread::park_timeout(wait);
        }
        let stamp = format!("{:0STAMP_DIGITS$x}", nanos(began.elapsed()));
        for at in &write.stamps {
            write.bytes[*at..at + STAMP_DIGITS].copy_from_slice(stamp.as_bytes());
        }
        for far_end in &mut *far_ends {
            match far_end {
                FarEnd::Tcp(socket) => socket.write_all(&write.bytes)?,
                FarEnd::Udp(to) => port.send(*to, &write.bytes, write.packet_bytes)?,
            }
        }
    }
    Ok(())
}

/// Each arrival as a write; stamps that lie in two of them are left as they are.
fn stream_writes(arrivals: &[(Duration, Vec<u8>)]) -> Vec<Write> {
    let stream: Vec<u8> = arrivals
        .iter()
        .flat_map(|(_, bytes)| bytes)
        .copied()
        .collect();
    let (places, _) = camera::places(&stream);
    let mut start = 0;
    let mut writes = Vec::new();
    for (at, bytes) in arrivals {
        let end = start + bytes.len();
        let within = |place: &&usize| **place >= start && **place + STAMP_DIGITS <= end;
        let stamps = places.iter().filter(within).map(|place| place - start);
        writes.push(Write {
            at: *at,
            stamps: stamps.collect(),
            bytes: bytes.clone(),
            packet_bytes: bytes.len(),
        });
        start = end;
    }
    writes
}

/// Datagrams of one size that came together, up to a shorter one, as one send.
fn trains(arrivals: &[(Duration, Vec<u8>)]) -> Vec<Write> {
    let mut trains: Vec<Write> = Vec::new();
    let mut is_open = false;
    for (at, bytes) in arrivals {
        let place = camera::place(bytes);
        let fits = |train: &&mut Write| {
            let is_long = train.bytes.len() + bytes.len() > TRAIN_BYTES_MAX
                || train.bytes.len() / train.packet_bytes >= TRAIN_PACKETS_MAX;
            is_open && !is_long && bytes.len() <= train.packet_bytes && *at - train.at < TRAIN_WAIT
        };
        if let Some(train) = trains.last_mut().filter(fits) {
            is_open = bytes.len() == train.packet_bytes;
            let start = train.bytes.len();
            train.stamps.extend(place.map(|place| start + place));
            train.bytes.extend_from_slice(bytes);
            continue;
        }
        is_open = true;
        trains.push(Write {
            at: *at,
            bytes: bytes.clone(),
            packet_bytes: bytes.len(),
            stamps: place.into_iter().collect(),
        });
    }
    trains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_that_came_together_are_one_send_up_to_a_shorter_one() {
        let milli = Duration::from_millis;
        let arrivals: Vec<_> = [(0, 100), (0, 100), (1, 60), (1, 60), (2, 100), (40, 100)]
            .map(|(at, bytes)| (milli(at), vec![0; bytes]))
            .into();

        let trains = trains(&arrivals);
        let lengths: Vec<_> = trains.iter().map(|write| write.bytes.len()).collect();

        assert_eq!(lengths, [260, 60, 100, 100]);
    }

    #[test]
    fn stamps_are_where_the_stream_has_them() {
        let mut packet = vec![b'$', 0, 0, 40];
        packet.extend([0; 12]);
        packet.push(1);
        packet.extend([b'0'; STAMP_DIGITS]);
        packet.resize(44, 1);
        let second = [&packet[20..], &packet[..]].concat();
        let arrivals = [packet[..].to_vec(), packet[..20].to_vec(), second];
        let arrivals = arrivals.map(|bytes| (Duration::ZERO, bytes));

        let stamps: Vec<_> = stream_writes(&arrivals)
            .into_iter()
            .map(|write| write.stamps)
            .collect();

        // The second one's lies in two writes.
        assert_eq!(stamps, [vec![17], vec![], vec![24 + 17]]);
    }
}
