//! The first inputs of each target: the golden vectors of the wire, and the beginning of the test card.
//!
//! Not what the fuzzer found: that is committed beside them under other names. Called by the program `seed`, which
//! writes them, and by the replay, which finds out if one is missing. Invariant: a seed is a function of committed
//! files.

use crate::targets::{link_body, signed_body};

/// One line for each vector: its name, a space, its bytes in hex.
const VECTORS: &str = include_str!("../../crates/wire/tests/golden/vectors.txt");
const TEST_CARD: &[u8] = include_bytes!("../../crates/media/assets/testcard.ts");
/// Enough for tables, one picture and some sound; small enough to be mutated quickly.
const TEST_CARD_PACKETS: usize = 60;
const TS_PACKET_BYTES: usize = 188;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its target.
    pub target: &'static str,
    /// Its file in the target's corpus.
    pub file: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All seeds.
///
/// # Panics
///
/// If the golden vectors are not in their form.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = VECTORS.lines().flat_map(of_vector).collect();
    let card = &TEST_CARD[..TEST_CARD_PACKETS * TS_PACKET_BYTES];
    seeds.push(seed("ts", "testcard", [&[100], card].concat()));
    seeds
}

fn of_vector(line: &str) -> Vec<Seed> {
    let (name, hex) = line.split_once(' ').expect("a line has a name and bytes");
    let (kind, name) = name.split_once('/').expect("a name has a kind");
    let bytes = unhex(hex);
    let body = |target, body: Option<Vec<u8>>| {
        let body = body.expect("a golden vector is in order");
        vec![
            seed(target, name, bytes.clone()),
            seed(target, &format!("{name}-body"), body),
        ]
    };
    match kind {
        "packet" => vec![seed("packet", name, bytes)],
        "parity" => vec![seed("parity", name, bytes)],
        "link" => body("link", link_body(&bytes)),
        "site" => vec![seed("site", name, bytes)],
        // The first byte is the size of the chunks.
        "control" => vec![seed("control", name, [&[7], bytes.as_slice()].concat())],
        "frame" => vec![seed("frame", name, bytes)],
        "announce" => body("announce", signed_body(&bytes)),
        "ticket" if name == "invite" => vec![seed("ticket", name, bytes)],
        // Behind the head of the list that a chain is.
        "ticket" => body("ticket", signed_body(&bytes[1..])),
        _ => Vec::new(),
    }
}

fn seed(target: &'static str, name: &str, bytes: Vec<u8>) -> Seed {
    let file = format!("seed-{name}");
    Seed {
        target,
        file,
        bytes,
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("hex digits");
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::try_from(digit(pair[0]) << 4 | digit(pair[1])).expect("two digits"))
        .collect()
}
