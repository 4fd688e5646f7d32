//! A stranger who hears everything, has no key, and does what can be done without one.
//!
//! A millisecond apart it sends one forged datagram and one that it heard before. Both carry the addresses of the
//! genuine sender and receiver. A forged media packet is a genuine one with a false carry tag, and each time with
//! another lie: it comes next, it comes from far ahead, it begins a new group, or its body is another. A forged link
//! datagram is a genuine one with a false seal and a counter that has not been yet. Media and link datagrams take
//! turns, and so do receivers.
//!
//! Not clever with QUIC: that is replayed, not forged. Called by `main`. Invariant: every forged datagram
//! differs from every genuine one.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::datagram::{Capture, Datagram, RawSender};

/// Between two forged packets.
const BEAT: Duration = Duration::from_millis(1);
/// How long media is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Heard and kept to be replayed: the oldest goes first.
const MEMORY_MAX: usize = 4_096;

/// Heard and not yet kept: when it is full, the kernel keeps what comes, and then loses it.
const HEARD_MAX: usize = 256;

/// Whom it forges for and of what kind: all in a small network, and a bound in any.
const GENUINE_MAX: usize = 32;

/// Kinds, docs/wire.md section 1.2, and offsets in them, sections 4 and 8.
const MEDIA: u8 = 0x04;
const LINK: u8 = 0x06;
const HEADER: usize = 32;
const NUMBER: Range<usize> = 12..18;
const COUNTER: Range<usize> = 12..20;
const GROUP: Range<usize> = 20..24;
/// The carry tag of a media packet; the seal of a link datagram is longer.
const TAG: usize = 8;

/// What was heard and may be used.
#[derive(Debug, Default)]
struct Memory {
    heard: VecDeque<Datagram>,
    /// The newest of each kind and receiver.
    genuine: BTreeMap<(u8, SocketAddrV4), Datagram>,
}

/// How many datagrams of each kind were sent.
#[derive(Debug, Default)]
struct Done {
    forged_media: u64,
    forged_link: u64,
    replayed: u64,
}

pub(crate) fn run(count: u64) -> anyhow::Result<()> {
    let heard = listen()?;
    let sender = RawSender::new()?;
    let mut memory = Memory::default();
    wait_for_media(&heard, &mut memory)?;
    let begin = Instant::now();
    let (mut beats, mut done) = (0, Done::default());
    while u64::from(beats) < count {
        let due = begin + BEAT * beats;
        let wait = due.saturating_duration_since(Instant::now());
        match heard.recv_timeout(wait) {
            Ok(datagram) => memory.keep(datagram?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("cannot receive any more"),
        }
        if Instant::now() < due {
            continue;
        }
        if let Some(genuine) = memory.genuine(beats) {
            sender.send(&forge(genuine, beats))?;
            match genuine.payload[0] {
                MEDIA => done.forged_media += 1,
                _ => done.forged_link += 1,
            }
        }
        if let Some(old) = memory.heard.pop_front() {
            sender.send(&old)?;
            done.replayed += 1;
        }
        beats += 1;
    }
    done.print(begin.elapsed());
    Ok(())
}

/// Receives in a thread of its own: the time limit of a socket counts in ticks of the kernel, which are longer than a
/// beat.
fn listen() -> anyhow::Result<Receiver<anyhow::Result<Datagram>>> {
    let mut capture = Capture::new()?;
    let (sender, receiver) = sync_channel(HEARD_MAX);
    thread::spawn(move || while sender.send(capture.receive()).is_ok() {});
    Ok(receiver)
}

impl Done {
    #[expect(clippy::print_stdout, reason = "it is what the test reads")]
    fn print(&self, took: Duration) {
        let report = serde_json::json!({
            "forged_media": self.forged_media,
            "forged_link": self.forged_link,
            "replayed": self.replayed,
            "millis": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        println!("{report}");
    }
}

fn wait_for_media(
    heard: &Receiver<anyhow::Result<Datagram>>,
    memory: &mut Memory,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !memory.genuine.keys().any(|(kind, _)| *kind == MEDIA) {
        let left = deadline.saturating_duration_since(Instant::now());
        let datagram = heard
            .recv_timeout(left)
            .with_context(|| format!("no media was heard in {PATIENCE:?}"))?;
        memory.keep(datagram?);
    }
    Ok(())
}

impl Memory {
    fn keep(&mut self, datagram: Datagram) {
        let kind = datagram.payload.first().copied().unwrap_or_default();
        let key = (kind, datagram.to);
        let is_whole = match kind {
            MEDIA => datagram.payload.len() > HEADER + TAG,
            LINK => datagram.payload.len() > COUNTER.end + TAG,
            _ => false,
        };
        let has_room = self.genuine.len() < GENUINE_MAX || self.genuine.contains_key(&key);
        if is_whole && has_room {
            self.genuine.insert(key, datagram.clone());
        }
        if self.heard.len() == MEMORY_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(datagram);
    }

    /// What is forged at this beat: each kind and receiver has four beats, one for each lie.
    fn genuine(&self, beat: u32) -> Option<&Datagram> {
        let turn = usize::try_from(beat / 4).ok()? % self.genuine.len().max(1);
        self.genuine.values().nth(turn)
    }
}

/// A datagram that only a key can tell from a genuine one.
fn forge(genuine: &Datagram, beat: u32) -> Datagram {
    let mut forged = genuine.clone();
    let packet = &mut forged.payload;
    let length = packet.len();
    match (packet[0], beat % 4) {
        (MEDIA, 0) => add(&mut packet[NUMBER], 1),
        (MEDIA, 1) => add(&mut packet[NUMBER], 1 << 20),
        (MEDIA, 2) => {
            add(&mut packet[NUMBER], 1);
            add(&mut packet[GROUP], 1);
        }
        (MEDIA, _) => packet[HEADER] ^= 0xff,
        (_, 0) => add(&mut packet[COUNTER], 1),
        (_, 1) => add(&mut packet[COUNTER], 2),
        (_, 2) => add(&mut packet[COUNTER], 1 << 20),
        // The counter's high byte is the sender's lane.
        (_, _) => add(&mut packet[COUNTER], 1 << 56),
    }
    let tag = &mut packet[length - TAG..];
    tag.iter_mut().for_each(|byte| *byte = !*byte);
    forged
}

/// Adds to a big-endian integer of any length.
fn add(bytes: &mut [u8], number: u64) {
    let old = bytes
        .iter()
        .fold(0_u64, |old, byte| old << 8 | u64::from(*byte));
    let new = old.wrapping_add(number).to_be_bytes();
    let length = bytes.len();
    bytes.copy_from_slice(&new[8 - length..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn genuine(kind: u8) -> Datagram {
        let mut payload = vec![7; 100];
        payload[0] = kind;
        Datagram {
            from: "10.1.0.1:7800".parse().unwrap(),
            to: "10.1.0.2:7800".parse().unwrap(),
            payload,
        }
    }

    #[test]
    fn what_is_forged_keeps_kind_flow_and_addresses_and_has_another_tag() {
        for (kind, beat) in [MEDIA, LINK]
            .into_iter()
            .flat_map(|kind| (0..8).map(move |beat| (kind, beat)))
        {
            let genuine = genuine(kind);

            let forged = forge(&genuine, beat);

            assert_eq!(forged.payload[..12], genuine.payload[..12]);
            assert_eq!((forged.from, forged.to), (genuine.from, genuine.to));
            assert_ne!(forged.payload[92..], genuine.payload[92..]);
        }
    }

    #[test]
    fn kinds_and_receivers_take_turns() {
        let mut memory = Memory::default();
        memory.keep(genuine(MEDIA));
        memory.keep(genuine(LINK));

        let kinds = [0, 3, 4, 8].map(|beat| memory.genuine(beat).unwrap().payload[0]);

        assert_eq!(kinds, [MEDIA, MEDIA, LINK, MEDIA]);
    }

    #[test]
    fn a_number_grows_over_its_bytes() {
        let mut number = [0, 0, 0, 1, 0xff, 0xff];

        add(&mut number, 1);

        assert_eq!(number, [0, 0, 0, 2, 0, 0]);
    }
}
