//! `levada bench micro`: what each step of a packet's way costs by itself, in memory, on one thread.
//!
//! | row | what |
//! |---|---|
//! | copy | a packet copied: the floor of anything that touches all of its bytes |
//! | seal, open | AES-128-GCM and its keys' bookkeeping; sealing includes the carry tag |
//! | carry | the check of a carry tag |
//! | forward | a whole lane without a socket: train in, header, flow, tag, upstream, window; nothing is kept |
//! | cache | what keeping the packets adds to that |
//! | egress | what each egress adds, by packet: from no egress to many, divided |
//! | parity | eight shards made over a block of forty packets, for a loss of a tenth; by packet of the block |
//! | recovered | four packets of such a block recovered from its parity; by packet of the block |
//!
//! Not the kernel's part, which is the larger one. Called by the command. Invariant: every row is measured in every
//! round, and the same packets serve all of them.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use levada_lane::{
    Command, Datagrams, EgressTerms, FlowCommand, Input, Lane, LaneSettings, LinkCommand, Path,
    Train,
};
use levada_wire::key::{LinkKey, Suite};
use levada_wire::packet::parity::code::{self, Words};
use levada_wire::packet::parity::{ParityHeader, unit_bytes, unit_of};
use levada_wire::packet::seal::{Opener, Sealer};
use levada_wire::packet::{OVERHEAD_BYTES, carry};
use levada_wire::{Bitrate, Header, LinkIndex, Machine as _, PacketSize};
use serde::Serialize;

use crate::origin::{self, Camera, Due, Feed};
use crate::stats::Spread;

/// Traffic whose bursts have about as many packets as those the design counts with.
const RATE: Bitrate = Bitrate(4_000_000);
/// Runs of one round: with their packets less than a processor's second cache.
const RUNS: usize = 60;
/// How often a row goes over them within a round.
const PASSES: usize = 12;
/// Egresses of the lane that has many.
const EGRESSES: usize = 100;
/// Packets in memory that the rows without a lane go over.
const PACKETS: usize = 500;
/// A full block of parity, what is sent of it where a tenth gets lost, and that tenth.
const BLOCK: usize = 40;
const SHARDS: usize = 8;
const LOST: usize = 4;

/// One row of results.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    bench: &'static str,
    pub step: &'static str,
    pub ns_per_packet: f64,
    pub ns_per_packet_spread: Spread,
    /// By copies of a packet.
    pub times_copy: f64,
    pub packets: usize,
}

/// Measures all rows, round by round.
pub fn measure(rounds: usize) -> anyhow::Result<Vec<Row>> {
    let material = Material::new();
    let steps: [(&'static str, Step); 9] = [
        ("copy", copy),
        ("seal AES-128-GCM", |m| seal(m, Suite::Aes128Gcm)),
        ("seal ChaCha20-Poly1305", |m| {
            seal(m, Suite::ChaCha20Poly1305)
        }),
        ("open AES-128-GCM", open),
        ("carry", check),
        ("parity", |m| parity(m, 0)),
        ("recovered", |m| parity(m, LOST)),
        ("forward", |m| lane(m, 0, false)),
        ("forward and cache", |m| lane(m, 0, true)),
    ];
    let mut times = vec![Vec::new(); steps.len()];
    let mut per_egress = Vec::new();
    for _ in 0..rounds {
        for ((_, step), times) in steps.iter().zip(&mut times) {
            times.push(step(&material));
        }
        let (none, many) = (lane(&material, 0, true), lane(&material, EGRESSES, true));
        per_egress.push((many - none) / EGRESSES as f64);
    }
    let kept = &times[steps.len() - 1];
    let bare = &times[steps.len() - 2];
    let cache = kept.iter().zip(bare).map(|(kept, bare)| kept - bare);
    let cache: Vec<f64> = cache.collect();
    let copy = Spread::of(times[0].iter().copied());
    let copy = copy.ok_or_else(|| anyhow::anyhow!("nothing was measured"))?;
    let named = steps.iter().map(|(name, _)| *name).zip(times);
    let derived = [("cache", cache), ("egress", per_egress)];
    let rows = named.chain(derived).filter_map(|(step, times)| {
        let spread = Spread::of(times)?;
        Some(Row {
            bench: "micro",
            step,
            ns_per_packet: spread.median,
            ns_per_packet_spread: spread,
            times_copy: spread.median / copy.median,
            packets: material.packets.len(),
        })
    });
    Ok(rows.collect())
}

/// Does a step to all packets; gives nanoseconds per packet.
type Step = fn(&Material) -> f64;

/// What the steps are done to.
struct Material {
    runs: Vec<Due>,
    run_packets: usize,
    packets: Vec<Bytes>,
    headers: Vec<Header>,
    body: Vec<u8>,
}

impl Material {
    fn new() -> Self {
        let mut feed = Feed::new(1, Camera::usual(RATE));
        let runs: Vec<_> = (0..RUNS).map(|_| feed.next()).collect();
        let size = PacketSize::DEFAULT.bytes();
        let full = |run: &Datagrams| {
            let at = (0..run.bytes.len() / size).map(|at| at * size);
            let cut = at.map(|at| run.bytes.slice(at..at + size));
            cut.collect::<Vec<_>>()
        };
        let packets = std::iter::repeat_with(|| feed.next()).flat_map(|due| full(&due.run));
        let packets: Vec<_> = packets.take(PACKETS).collect();
        let headers = packets.iter().filter_map(|packet| Header::peek(packet));
        Self {
            run_packets: runs.iter().map(Due::packets).sum(),
            runs,
            headers: headers.collect(),
            packets,
            body: vec![7; size - OVERHEAD_BYTES],
        }
    }
}

/// Nanoseconds for each of so many.
fn per(count: usize, took: Duration) -> f64 {
    took.as_secs_f64() * 1e9 / count as f64
}

/// Goes over all packets some times, after once without a clock.
fn over_packets(material: &Material, mut step: impl FnMut(usize)) -> f64 {
    let count = material.packets.len();
    (0..count).for_each(&mut step);
    let began = Instant::now();
    for _ in 0..PASSES {
        (0..count).for_each(&mut step);
    }
    per(count * PASSES, began.elapsed())
}

fn copy(material: &Material) -> f64 {
    let mut out = vec![0; PacketSize::DEFAULT.bytes()];
    over_packets(material, |at| {
        out.copy_from_slice(black_box(&material.packets[at]));
        black_box(&mut out);
    })
}

fn seal(material: &Material, suite: Suite) -> f64 {
    let (secret, carry, flow) = (origin::secret(), origin::carry(), origin::flow(0));
    let mut sealer = Sealer::new(secret, carry, flow, origin::instance(), suite);
    let mut out = Vec::with_capacity(PacketSize::DEFAULT.bytes());
    over_packets(material, |at| {
        out.clear();
        // The same numbers again: nobody receives these.
        sealer.seal(&material.headers[at], black_box(&material.body), &mut out);
        black_box(&out);
    })
}

fn open(material: &Material) -> f64 {
    let (secret, flow) = (origin::secret(), origin::flow(0));
    let mut opener = Opener::new(secret, flow, origin::instance(), origin::SUITE);
    let mut out = Vec::with_capacity(PacketSize::DEFAULT.bytes());
    over_packets(material, |at| {
        out.clear();
        let opened = opener.open(black_box(&material.packets[at]), &mut out);
        debug_assert!(opened.is_some(), "the origin sealed it");
        black_box(opened);
    })
}

fn check(material: &Material) -> f64 {
    let key = origin::carry();
    over_packets(material, |at| {
        let proven = carry::check(&key, black_box(&material.packets[at]));
        debug_assert!(proven, "the origin tagged it");
        black_box(proven);
    })
}

/// Makes the parity of each block; or, if some are lost, makes these anew of it.
fn parity(material: &Material, lost: usize) -> f64 {
    let bytes = unit_bytes(&material.packets[0]);
    let places: Vec<usize> = (0..if lost == 0 { SHARDS } else { lost }).collect();
    let (missing, came) = (&places[..lost], lost..BLOCK);
    let blocks = || material.packets.chunks_exact(BLOCK);
    let (key, mut unit, mut out) = (origin::carry(), Words::default(), Vec::new());
    let mut step = || {
        for block in blocks() {
            let mut sums = vec![Words::zero(bytes); places.len()];
            for place in came.clone() {
                unit_of(black_box(&block[place]), &mut unit);
                code::add(&unit, place, &mut sums, &places);
            }
            out.clear();
            if lost == 0 {
                for (shard, sum) in (0..).zip(&sums) {
                    let header = ParityHeader {
                        shard,
                        key: origin::EPOCH,
                        packets: BLOCK as u8,
                        flow: origin::flow(0),
                        first: 0,
                    };
                    header.encode(&key, sum, bytes, &mut out);
                }
            } else {
                // What was sent is not added: packets of noise cost as much.
                code::recover(&mut sums, &places, missing);
                for sum in &sums {
                    sum.append_to(bytes, &mut out);
                }
            }
            black_box(&out);
        }
    };
    step();
    let began = Instant::now();
    (0..PASSES).for_each(|_| step());
    per(blocks().count() * BLOCK * PASSES, began.elapsed())
}

/// Sends all runs through lanes that begin anew each time, because a lane takes a packet once.
fn lane(material: &Material, egresses: usize, keeps: bool) -> f64 {
    let mut took = Duration::ZERO;
    for _ in 0..PASSES {
        let mut lane = new_lane(egresses, keeps);
        let began = Instant::now();
        for due in &material.runs {
            let train = Train {
                to: None,
                from: address(0),
                bytes: due.run.bytes.clone(),
                segment_bytes: due.run.segment_bytes,
            };
            lane.handle_input(due.at, Input::Train(train));
            while let Some(output) = lane.poll_output() {
                black_box(output);
            }
        }
        took += began.elapsed();
        debug_assert!(lane.ledger().check().is_zero(), "every packet has a fate");
    }
    per(material.run_packets * PASSES, took)
}

fn address(place: usize) -> SocketAddr {
    let port = u16::try_from(place + 1).expect("a hundred");
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn new_lane(egresses: usize, keeps: bool) -> Lane {
    let mut settings = LaneSettings::default();
    if !keeps {
        settings.flow_cache_bytes_max = 0;
    }
    let mut lane = Lane::new(0, settings);
    let mut command =
        |command| lane.handle_input(levada_wire::Instant::ZERO, Input::Command(command));
    let link = |place: usize| LinkIndex(u32::try_from(place).expect("a hundred"));
    let key = || LinkKey::from_bytes([6; 32]);
    let flow = origin::flow(0);
    for place in 0..=egresses {
        command(Command::Link(
            link(place),
            LinkCommand::Add {
                remote_index: link(0),
                remote: address(place),
                source: None,
                path: Path::Wire,
                send: key(),
                receive: key(),
            },
        ));
    }
    command(Command::Flow(flow, FlowCommand::Open));
    command(Command::Flow(
        flow,
        FlowCommand::SetCarryKey {
            epoch: origin::EPOCH,
            key: origin::carry(),
        },
    ));
    command(Command::Flow(flow, FlowCommand::AddUpstream(link(0))));
    for place in 1..=egresses {
        command(Command::Flow(
            flow,
            FlowCommand::AddEgress(link(place), EgressTerms::UNLIMITED),
        ));
    }
    debug_assert_eq!(lane.counters().commands_refused, 0, "a lane is set up");
    lane
}

#[cfg(test)]
mod tests {
    use levada_lane::{Output, Transmit};

    use super::*;

    #[test]
    fn a_lane_sends_every_packet_to_every_egress_and_keeps_what_it_shall() {
        let material = Material::new();
        for keeps in [true, false] {
            let mut lane = new_lane(3, keeps);
            let mut sent = 0;
            for due in &material.runs {
                let train = Train {
                    to: None,
                    from: address(0),
                    bytes: due.run.bytes.clone(),
                    segment_bytes: due.run.segment_bytes,
                };
                lane.handle_input(due.at, Input::Train(train));
                while let Some(output) = lane.poll_output() {
                    let is_media = |run: &Transmit| run.packets.is_some();
                    sent += usize::from(matches!(&output, Output::Transmit(run) if is_media(run)));
                }
            }

            assert_eq!(sent, material.runs.len() * 3);
            assert_eq!(lane.counters().cached_bytes > 0, keeps);
        }
    }
}
