//! Strangers at a running node's port: garbage, and QUIC that leads nowhere.
//!
//! Not insiders, and not replayed packets (the simulator and the laboratory have those). A stream flows meanwhile, and
//! every frame of it must arrive.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::media::Recording;
use common::{Home, until_bytes};

/// Datagrams of each kind.
const DATAGRAMS: u32 = 2_000;
/// Between two of them: a flood that fills the socket's buffer is another matter, which no node can help.
const EVERY: Duration = Duration::from_millis(1);

#[test]
fn garbage_at_a_nodes_port_changes_nothing() {
    let home = Home::new();
    let out = home.path("x.ts");
    let relay = home.node(&[]);
    let mut origin = home.start(&["publish", "cam", "test", "--join", &relay.address]);
    origin.says("publishing `cam`");
    let player = home.start(&[
        "play",
        "cam",
        "--join",
        &relay.address,
        "--out",
        out.to_str().unwrap(),
    ]);
    until_bytes(&out, 50_000);
    let links = home.view("links", &relay).as_array().unwrap().len();

    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(&relay.address).unwrap();
    let mut chance = Chance(7);
    for count in 0..DATAGRAMS {
        for datagram in [chance.garbage(count), chance.quic()] {
            stranger.send(&datagram).unwrap();
        }
        std::thread::park_timeout(EVERY);
    }
    let written = std::fs::metadata(&out).unwrap().len();
    until_bytes(&out, written + 50_000);

    assert_eq!(home.view("links", &relay).as_array().unwrap().len(), links);
    assert_eq!(home.view("streams", &relay).as_array().unwrap().len(), 1);
    player.interrupt();
    assert!(player.end().status.success());
    let recording = Recording::read_file(&out);
    recording.assert_is_part_of(&Recording::of_card(60));
    assert!(origin.is_running());
}

/// Bytes without meaning, the same every time (xorshift64, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_be_bytes());
        words.flatten().take(count).collect()
    }

    /// A datagram that claims to be of each kind in turn, of any length.
    fn garbage(&mut self, count: u32) -> Vec<u8> {
        let length = usize::try_from(self.next() % 1_400).unwrap();
        let mut bytes = self.bytes(length);
        if let Some(kind) = bytes.first_mut() {
            *kind = u8::try_from(count % 16).unwrap();
        }
        bytes
    }

    /// What begins like the first packet of a QUIC connection (RFC 9000 17.2.2) and is noise after that.
    fn quic(&mut self) -> Vec<u8> {
        let mut bytes = vec![0xC3, 0, 0, 0, 1, 8];
        bytes.extend(self.bytes(8));
        bytes.extend([8]);
        bytes.extend(self.bytes(8));
        bytes.extend([0, 0x44, 0xB0]);
        bytes.extend(self.bytes(1_200));
        bytes.truncate(1_200);
        bytes
    }
}
