//! Golden bytes: one fixed vector for each message, packet, datagram and derived key.
//!
//! Round trips prove that we read what we write; only these prove that we still write what we wrote. The vectors stand
//! in `vectors.txt`, one `name hex` a line, in the order of `samples`; the fuzzer takes its first inputs from the same
//! file. A vector that is there never changes; who adds a message inserts its line where this test says they differ.
//! Not a specification: that is `docs/wire.md`. Invariant: everything here is made from constants.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod control;
mod datagrams;
mod statements;

use levada_wire::control::Decoder;
use levada_wire::frame::{ControlFrame, FrameHeader};
use levada_wire::key::Suite;
use levada_wire::packet::carry;
use levada_wire::packet::parity::code::{self, Words};
use levada_wire::packet::parity::{ParityHeader, packet_of, unit_of};
use levada_wire::packet::seal::Opener;
use levada_wire::ticket::Chain;
use levada_wire::{Header, SignedAnnounce, SignedWithdraw, TrackId};

use crate::common::*;
use crate::control::*;
use crate::datagrams::*;
use crate::statements::*;

const VECTORS: &str = include_str!("vectors.txt");

fn samples() -> Vec<Sample> {
    [
        packets(),
        parity(),
        link_datagrams(),
        site_datagrams(),
        control_messages(),
        frames(),
        statements(),
        tickets(),
        derived(),
    ]
    .concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The committed bytes of one vector.
fn committed(wanted: &str) -> Vec<u8> {
    let line = VECTORS
        .lines()
        .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(' '));
    unhex(line.unwrap())
}

#[test]
fn the_bytes_are_those_that_were_committed() {
    let written: Vec<String> = samples()
        .iter()
        .map(|(name, bytes)| format!("{name} {}", hex(bytes)))
        .collect();
    let committed: Vec<&str> = VECTORS.lines().collect();

    for (written, committed) in written.iter().zip(&committed) {
        assert_eq!(written, committed, "made (left) and in vectors.txt (right)");
    }
    let new = written.get(committed.len()..).unwrap_or_default();
    assert!(new.is_empty(), "add to vectors.txt:\n{}", new.join("\n"));
    assert_eq!(
        written.len(),
        committed.len(),
        "a vector that was committed is not made any more"
    );
}

#[test]
fn every_committed_message_still_decodes_to_what_it_was() {
    for message in messages() {
        let mut decoded = Vec::new();
        let bytes = committed(&format!("control/{}", control_name(&message)));
        Decoder::default().push(&bytes, &mut decoded).unwrap();

        assert_eq!(decoded, [message]);
    }
    for (name, message) in link_messages() {
        assert_eq!(
            link_seal().open(&committed(&format!("link/{name}"))),
            Some(message)
        );
    }
    for (name, message) in site_messages() {
        let (_, opened) = site_seal()
            .open(&committed(&format!("site/{name}")))
            .unwrap();
        assert_eq!(opened, message);
    }
}

#[test]
fn every_committed_statement_still_verifies() {
    let decode_chain = |name| minicbor::decode::<Chain>(&committed(name)).unwrap();
    let text = String::from_utf8(committed("ticket/invite")).unwrap();

    let announce: SignedAnnounce = minicbor::decode(&committed("announce/announce")).unwrap();
    let withdraw: SignedWithdraw = minicbor::decode(&committed("announce/withdraw")).unwrap();

    assert_eq!((announce, withdraw), (statement(), withdrawal()));
    assert_eq!(
        (
            decode_chain("ticket/of-root"),
            decode_chain("ticket/of-issuer")
        ),
        chains()
    );
    assert_eq!(text.parse(), Ok(invite()));
}

#[test]
fn every_committed_shard_still_gives_back_a_packet() {
    let block = block();
    for name in ["parity/shard-0", "parity/shard-31"] {
        let datagram = committed(name);
        assert!(ParityHeader::check(
            &carry_secret().carry_key(flow()),
            &datagram
        ));
        let header = ParityHeader::peek(&datagram).unwrap();
        let shards = [usize::from(header.shard)];
        let (mut sum, mut unit) = ([Words::default()], Words::default());
        let shard = ParityHeader::shard_of(&datagram);
        sum[0].set(&[shard]);
        for place in [0, 2] {
            unit_of(&block[place], &mut unit);
            code::add(&unit, place, &mut sum, &shards);
        }

        code::recover(&mut sum, &shards, &[1]);

        let (beside, mut packet) = (Header::peek(&block[0]).unwrap(), Vec::new());
        let number = header.first_near(number(20)).plus(1);
        assert!(packet_of(
            &sum[0],
            shard.len(),
            number,
            &beside,
            &mut packet
        ));
        assert_eq!(packet, block[1], "{name}");
    }
}

#[test]
fn every_committed_packet_still_opens() {
    let opened = |name: &str, suite| {
        let packet = committed(name);
        let mut body = Vec::new();
        assert!(
            carry::check(&carry_secret().carry_key(flow()), &packet),
            "{name}"
        );
        Opener::new(content_secret(), flow(), INSTANCE, suite)
            .open(&packet, &mut body)
            .unwrap();
        assert_eq!(body, b"a terrace below", "{name}");
        Header::peek(&packet)
    };

    assert_eq!(
        opened("packet/aes-128-gcm", Suite::Aes128Gcm),
        Some(header(9))
    );
    assert_eq!(
        opened("packet/chacha20-poly1305", Suite::ChaCha20Poly1305),
        Some(header(9))
    );
    assert_eq!(
        opened("packet/second-generation", Suite::Aes128Gcm),
        Some(header(1 << 22))
    );
}

#[test]
fn every_committed_frame_still_decodes() {
    let header = FrameHeader::decode(&committed("frame/header")).unwrap();

    assert_eq!(
        (header.track, header.dts, header.pts_offset),
        (TrackId(1), -3_003, 6_006)
    );
    let frame: ControlFrame = minicbor::decode(&committed("frame/control")).unwrap();
    assert_eq!(frame, control_frame());
    assert_eq!(frame.description.unwrap().check(), Ok(()));
}
