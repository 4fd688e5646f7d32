//! The far ends of a measurement: sockets that take everything and keep only counts.
//!
//! Not players and not nodes: their work is not what is measured, so they read as little as tells what came. Nobody
//! waits on them either: a reader asleep in a socket would cost the sender a wake-up that no distant receiver costs.
//! Called by whoever drives a measurement. Invariant: what a socket was sent is counted, or was dropped by the kernel.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use clap::ValueEnum;
use levada_ports::sys::{ProbeArrival, ProbeSettings, ProbeSocket};
use levada_wire::packet;
use serde::Serialize;

/// What is asked for a receiver: with the kernel's own default limit it is what a window of runs needs at most.
const BUFFER_BYTES: usize = 4 << 20;
/// The head of a packet, and a little more: enough for [`levada_wire::Header::peek`].
const PEEK_BYTES: usize = 64;
/// Reads of one socket before the next one has its turn.
const READS_PER_TURN: usize = 64;

/// The two kinds of receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Takes a run as one train, like another node
    Gro,
    /// Takes datagrams one by one, like a program that knows nothing of trains
    Plain,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gro => "gro",
            Self::Plain => "plain",
        }
    }
}

/// What one receiver, or all, got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    /// Reads: trains, where receivers take trains.
    pub(crate) reads: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Receivers {
    sockets: Vec<ProbeSocket>,
    got: Vec<Got>,
    /// Whose turn it is.
    turn: usize,
}

impl Receivers {
    /// That many receivers, on ports that the system chooses.
    pub(crate) fn new(count: usize, kind: Kind, timestamps: bool) -> anyhow::Result<Self> {
        let settings = ProbeSettings {
            receive_buffer: BUFFER_BYTES,
            gro: kind == Kind::Gro,
            timestamps,
            patience: None,
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bind = |_| ProbeSocket::bind(any, &settings);
        let sockets: Vec<_> = (0..count).map(bind).collect::<io::Result<_>>().with_context(|| {
            format!(
                "cannot open {count} receivers; if there are too many open files, `ulimit -n {}`",
                count + 100
            )
        })?;
        let has_gro = sockets.iter().all(ProbeSocket::has_gro);
        anyhow::ensure!(
            kind == Kind::Plain || has_gro,
            "this system has no UDP_GRO: only `--receivers plain` can be measured"
        );
        Ok(Self {
            got: vec![Got::default(); count],
            sockets,
            turn: 0,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(ProbeSocket::local_addr).collect()
    }

    /// The smallest receive buffer that the kernel gave.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let buffers = self.sockets.iter().map(ProbeSocket::receive_buffer);
        buffers.min().unwrap_or(0)
    }

    /// Takes what is there, a little of each in turn, and shows each arrival; gives the number of reads. Stops when
    /// each had a turn, or after `most` reads or a few more.
    pub(crate) fn drain(
        &mut self,
        most: u64,
        mut see: impl FnMut(usize, &[u8], &ProbeArrival),
    ) -> anyhow::Result<u64> {
        let mut reads = 0;
        let mut buffer = [0; PEEK_BYTES];
        for _ in 0..self.sockets.len() {
            if reads >= most {
                break;
            }
            let place = self.turn;
            self.turn = (place + 1) % self.sockets.len();
            for _ in 0..READS_PER_TURN {
                let arrival = match self.sockets[place].receive(&mut buffer) {
                    Ok(arrival) => arrival,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error).context("a receiver failed"),
                };
                if packet::Kind::of(&buffer) != packet::Kind::Media {
                    continue; // a lane's own words, which no floor says
                }
                let got = &mut self.got[place];
                got.bytes += arrival.bytes as u64;
                got.packets += arrival.bytes.div_ceil(arrival.segment_bytes) as u64;
                got.reads += 1;
                reads += 1;
                see(place, &buffer[..arrival.bytes.min(PEEK_BYTES)], &arrival);
            }
        }
        Ok(reads)
    }

    /// What the one with the least has.
    pub(crate) fn least_bytes(&self) -> u64 {
        self.got.iter().map(|got| got.bytes).min().unwrap_or(0)
    }

    /// What all have together.
    pub(crate) fn total(&self) -> Got {
        self.got.iter().fold(Got::default(), |sum, got| Got {
            bytes: sum.bytes + got.bytes,
            packets: sum.packets + got.packets,
            reads: sum.reads + got.reads,
        })
    }

    /// Forgets what was counted, and what still lies in the sockets.
    pub(crate) fn reset(&mut self) -> anyhow::Result<()> {
        while self.drain(u64::MAX, |_, _, _| {})? > 0 {}
        self.got.fill(Got::default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_counts_what_it_was_sent() -> anyhow::Result<()> {
        let sender = ProbeSocket::bind(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            &ProbeSettings::default(),
        )?;
        let mut receivers = Receivers::new(2, Kind::Plain, false)?;
        let to = receivers.addresses();

        sender.send(to[0], &[4; 300], 100)?;
        sender.send(to[1], &[4; 100], 100)?;
        let mut seen = 0;
        while seen < 4 {
            seen += receivers.drain(u64::MAX, |_, head, _| assert_eq!(head, [4; PEEK_BYTES]))?;
        }

        let total = receivers.total();
        assert_eq!((total.bytes, total.packets, total.reads), (400, 4, 4));
        assert_eq!(receivers.least_bytes(), 100);
        receivers.reset()?;
        assert_eq!(receivers.total(), Got::default());
        Ok(())
    }
}
