//! A long way between LANs: hears what hosts of one send to hosts of another, lets [`levada_bench::impair`] decide, and
//! sends it on with the addresses that it had.
//!
//! ```text
//!   10.1.0.0/24 ── eth0 ─▶ Capture ─▶ Direction 1 to 2 ─▶ RawSender ─▶ eth1 ── 10.2.0.0/24
//!                              └────▶ Direction 1 to 3 ─▶     "     ─▶ eth2 ── 10.3.0.0/24
//! ```
//!
//! Each ordered pair of LANs is a way of its own, with chance, rate and queue of its own, and all are alike. The kernel
//! of this host forwards nothing, so all that passes came by here. Not ARP, which every cable has for itself, and not
//! IPv6. Started by [`levada_lab::Way`], which kills it. Invariant: of what it heard each datagram is lost or sent on,
//! and what it printed last says how many, and how late it was itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use levada_bench::impair::{Direction, Fate, Impairment};
use serde_json::json;

use crate::datagram::{Capture, Datagram, RawSender};

/// What the kernel keeps while this host does something else: what the machine allows.
const CAPTURE_BYTES: usize = 4 << 20;
/// Heard and not yet taken.
const HEARD_MAX: usize = 4_096;
/// Between two reports.
const REPORT: Duration = Duration::from_millis(100);
/// Ways in one network: an ordered pair of LANs each.
const WAYS_MAX: usize = 64;
/// Headers of IPv4 and UDP.
const HEADERS: usize = 28;

type Heard = (Instant, Datagram);

/// What became of what was heard.
#[derive(Debug, Default)]
struct Done {
    taken: u64,
    lost: u64,
    doubled: u64,
    /// How late the latest left, after it was due.
    late: Duration,
}

/// By the LANs that a datagram comes from and goes to.
struct Ways {
    impairment: Impairment,
    seed: u64,
    directions: BTreeMap<(u8, u8), Direction<Datagram>>,
    done: Done,
}

pub(crate) fn run(seed: u64, impairment: &str) -> anyhow::Result<()> {
    let heard = listen()?;
    let sender = RawSender::new()?;
    let mut ways = Ways {
        impairment: serde_json::from_str(impairment)?,
        seed,
        directions: BTreeMap::new(),
        done: Done::default(),
    };
    let begin = Instant::now();
    ways.done.print();
    let mut report_at = REPORT;
    loop {
        let now = begin.elapsed();
        ways.send_due(&sender, now)?;
        if now >= report_at {
            ways.done.print();
            report_at = now + REPORT;
        }
        let next = ways.next_at().map_or(report_at, |at| at.min(report_at));
        match heard.recv_timeout(next.saturating_sub(begin.elapsed())) {
            Ok(first) => {
                let first = first?;
                ways.take(first, begin)?;
                while let Ok(next) = heard.try_recv() {
                    ways.take(next?, begin)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("cannot receive any more"),
        }
    }
}

/// In a thread of its own, so that what is heard has the time at which it came.
fn listen() -> anyhow::Result<Receiver<anyhow::Result<Heard>>> {
    let mut capture = Capture::new()?;
    capture.set_buffer_bytes(CAPTURE_BYTES)?;
    let (sender, receiver) = sync_channel(HEARD_MAX);
    let mut hear = move || {
        let datagram = capture.receive()?;
        Ok((Instant::now(), datagram))
    };
    thread::spawn(move || while sender.send(hear()).is_ok() {});
    Ok(receiver)
}

/// The number of a host's LAN; none for what is not a host's.
fn lan(address: Ipv4Addr) -> Option<u8> {
    let [10, lan, 0, host] = address.octets() else {
        return None;
    };
    (host != 0).then_some(lan)
}

impl Ways {
    fn take(&mut self, (at, datagram): Heard, begin: Instant) -> anyhow::Result<()> {
        let Some(from) = lan(*datagram.from.ip()) else {
            return Ok(());
        };
        // A broadcast, or a packet for this host itself.
        let Some(to) = lan(*datagram.to.ip()).filter(|to| *to != from) else {
            return Ok(());
        };
        let (impairment, seed) = (self.impairment, self.seed);
        let way = self.directions.entry((from, to)).or_insert_with(|| {
            let own = u64::from(from) << 8 | u64::from(to);
            Direction::new(impairment, seed << 16 | own)
        });
        let bytes = HEADERS + datagram.payload.len();
        self.done.taken += 1;
        match way.take(at.saturating_duration_since(begin), bytes, datagram) {
            Fate::Lost => self.done.lost += 1,
            Fate::Passes => {}
            Fate::Doubled => self.done.doubled += 1,
            Fate::Overrun => bail!("more is under way than a way holds"),
        }
        anyhow::ensure!(self.directions.len() <= WAYS_MAX, "too many LANs");
        Ok(())
    }

    fn next_at(&self) -> Option<Duration> {
        self.directions
            .values()
            .filter_map(Direction::next_at)
            .min()
    }

    fn send_due(&mut self, sender: &RawSender, now: Duration) -> anyhow::Result<()> {
        for way in self.directions.values_mut() {
            while let Some(due) = way.next_at().filter(|due| *due <= now) {
                self.done.late = self.done.late.max(now - due);
                if let Some(datagram) = way.next_due(now) {
                    sender.send(&datagram)?;
                }
            }
        }
        Ok(())
    }
}

impl Done {
    #[expect(clippy::print_stdout, reason = "it is what the test reads")]
    fn print(&self) {
        let report = json!({
            "taken": self.taken,
            "lost": self.lost,
            "doubled": self.doubled,
            "late_us": u64::try_from(self.late.as_micros()).unwrap_or(u64::MAX),
        });
        println!("{report}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_lan_and_broadcasts_and_others_have_none() {
        assert_eq!(lan([10, 3, 0, 7].into()), Some(3));
        assert_eq!(lan([239, 3, 0, 7].into()), None);
        assert_eq!(lan([255, 255, 255, 255].into()), None);
    }
}
