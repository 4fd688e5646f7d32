//! A stranger who hears everything, has no key, and does what can be done without one.
//!
//! A millisecond apart it sends one forged media packet and one datagram that it heard before. Both carry the addresses
//! of the genuine sender and receiver. A forged packet is a genuine one with a false carry tag, and each time
//! with another lie: it comes next, it comes from far ahead, it begins a new group, or its body is another.
//!
//! Not clever with QUIC: that is replayed, not forged. Called by `main`. Invariant: every forged packet differs from
//! every genuine one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::datagram::{Datagram, Ear, Mouth};

/// Between two forged packets.
const BEAT: Duration = Duration::from_millis(1);
/// How long media is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Heard and kept to be replayed: the oldest goes first.
const MEMORY_MAX: usize = 4_096;

/// Offsets in a media packet, docs/wire.md section 4.
const MEDIA: u8 = 0x04;
const HEADER: usize = 32;
const NUMBER: std::ops::Range<usize> = 12..18;
const GROUP: std::ops::Range<usize> = 20..24;
const CARRY_TAG: usize = 8;

/// What was heard and may be used.
#[derive(Debug, Default)]
struct Memory {
    heard: VecDeque<Datagram>,
    /// The newest media packet of each direction, in turn.
    media: Option<Datagram>,
}

pub(crate) fn run(count: u64) -> anyhow::Result<()> {
    let (mut ear, mouth) = (Ear::new()?, Mouth::new()?);
    let mut memory = Memory::default();
    wait_for_media(&mut ear, &mut memory)?;
    let begin = Instant::now();
    let (mut beats, mut replayed) = (0_u32, 0_u64);
    while u64::from(beats) < count {
        let due = begin + BEAT * beats;
        let wait = due.saturating_duration_since(Instant::now());
        if let Some(datagram) = ear.hear(wait)? {
            memory.keep(datagram);
        }
        if Instant::now() < due {
            continue;
        }
        if let Some(genuine) = &memory.media {
            mouth.say(&forge(genuine, beats))?;
        }
        if let Some(old) = memory.heard.pop_front() {
            mouth.say(&old)?;
            replayed += 1;
        }
        beats += 1;
    }
    print(begin.elapsed(), beats, replayed);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what the test reads")]
fn print(took: Duration, forged: u32, replayed: u64) {
    let report = serde_json::json!({
        "forged": forged,
        "replayed": replayed,
        "millis": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    println!("{report}");
}

fn wait_for_media(ear: &mut Ear, memory: &mut Memory) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while memory.media.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "no media was heard in {PATIENCE:?}");
        if let Some(datagram) = ear.hear(left)? {
            memory.keep(datagram);
        }
    }
    Ok(())
}

impl Memory {
    fn keep(&mut self, datagram: Datagram) {
        if datagram.payload.first() == Some(&MEDIA) && datagram.payload.len() > HEADER + CARRY_TAG {
            self.media = Some(datagram.clone());
        }
        if self.heard.len() == MEMORY_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(datagram);
    }
}

/// A packet that only a key can tell from a genuine one.
fn forge(genuine: &Datagram, beat: u32) -> Datagram {
    let mut forged = genuine.clone();
    let packet = &mut forged.payload;
    let length = packet.len();
    match beat % 4 {
        0 => add(&mut packet[NUMBER], 1),
        1 => add(&mut packet[NUMBER], 1 << 20),
        2 => {
            add(&mut packet[NUMBER], 1);
            add(&mut packet[GROUP], 1);
        }
        _ => packet[HEADER] ^= 0xff,
    }
    let tag = &mut packet[length - CARRY_TAG..];
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

    fn genuine() -> Datagram {
        let mut payload = vec![7; 100];
        payload[0] = MEDIA;
        Datagram {
            from: "10.1.0.1:7800".parse().unwrap(),
            to: "10.1.0.2:7800".parse().unwrap(),
            payload,
        }
    }

    #[test]
    fn every_forged_packet_keeps_kind_flow_and_addresses_and_has_another_tag() {
        let genuine = genuine();

        for beat in 0..8 {
            let forged = forge(&genuine, beat);

            assert_eq!(forged.payload[..12], genuine.payload[..12]);
            assert_eq!((forged.from, forged.to), (genuine.from, genuine.to));
            assert_ne!(forged.payload[92..], genuine.payload[92..]);
        }
    }

    #[test]
    fn a_number_grows_over_its_bytes() {
        let mut number = [0, 0, 0, 1, 0xff, 0xff];

        add(&mut number, 1);

        assert_eq!(number, [0, 0, 0, 2, 0, 0]);
    }
}
