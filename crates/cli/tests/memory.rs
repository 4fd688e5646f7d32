//! What a process's memory holds: a relay the carry key of a flow and no content secret, a player both.
//!
//! The origin lives in this test, which learns the secrets from it; relay and player are the binary that ships, and are
//! looked into by the kernel's `/proc/PID/mem` (proc_pid_mem(5)). Not what nodes say or log, which is tested in the
//! library. Invariant: all memory that a process can write is looked at, to the last byte.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};

use common::{Home, until};
use levada::{PublishOptions, Tap, Tapped, WallTime};
use levada_media::TestCard;

const PAGE_BYTES: usize = 4_096;
/// Frames of some groups.
const FRAMES: usize = 1_000;

#[test]
fn a_relay_holds_the_carry_key_of_a_flow_and_no_content_secret() {
    let home = Home::new();
    let secrets = Arc::new(Secrets::default());
    let relay = home.node(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let origin = runtime.block_on(start(&relay.address, &secrets));
    let player_state = home.path("player");
    let player_state = player_state.to_str().unwrap();
    let out = home.path("x.ts");
    let join = ["--join", &relay.address, "--state", player_state];
    let player = home.start(
        &[
            &["play", "cam", "--wait", "--out", out.to_str().unwrap()],
            &join[..],
        ]
        .concat(),
    );

    let publisher = runtime.spawn(publish(origin));
    for (state, expected) in [
        (relay.state.as_str(), "STREAMING"),
        (player_state, "ACTIVE"),
    ] {
        until(&format!("packets where the flow is {expected}"), || {
            flows_at(&home, state, expected).then_some(())
        });
    }

    let content = Secrets::only(&secrets.content);
    let carry = Secrets::only(&secrets.carry);
    let [in_relay, in_player] = [relay.process.id(), player.id()].map(|process| {
        let pages = pages(process).unwrap();
        [&carry, &content].map(|secret| holds(&pages, secret))
    });
    assert_eq!(
        in_player,
        [true, true],
        "who plays has both: they can be found"
    );
    assert_eq!(
        in_relay,
        [true, false],
        "who forwards has the carry key only"
    );
    publisher.abort();
}

/// Starts the origin, linked to the relay.
async fn start(relay: &str, secrets: &Arc<Secrets>) -> levada::Node {
    let builder = levada::Node::builder().temporary_state();
    let builder = builder.listen(([127, 0, 0, 1], 0).into()).join(relay);
    builder
        .tap(Arc::clone(secrets) as Arc<dyn Tap>)
        .start()
        .await
        .unwrap()
}

/// Publishes some groups of the test card, and keeps the stream.
async fn publish(origin: levada::Node) {
    let mut card = TestCard::new();
    let (name, description) = ("cam".parse().unwrap(), card.description().clone());
    let options = PublishOptions::default();
    let mut publisher = origin.publish(name, description, options).await.unwrap();
    for _ in 0..FRAMES {
        let frame = card.next_frame(WallTime(0));
        publisher.send(frame).await.unwrap();
    }
    std::future::pending().await
}

/// Whether the flow is in that state at a node, and packets of it came in.
fn flows_at(home: &Home, state: &str, expected: &str) -> bool {
    let ended = home.run(&["flows", "--json", "--node", state]);
    let view: serde_json::Value = serde_json::from_str(&ended.output).unwrap_or_default();
    let rows = view["rows"].as_array().cloned().unwrap_or_default();
    rows.iter()
        .any(|row| row["state"] == expected && row["packets_in"].as_u64() > Some(0))
}

/// What the origin made.
#[derive(Debug, Default)]
struct Secrets {
    content: Mutex<Vec<Vec<u8>>>,
    carry: Mutex<Vec<Vec<u8>>>,
}

impl Secrets {
    fn only(seen: &Mutex<Vec<Vec<u8>>>) -> Vec<u8> {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "one flow has one");
        seen[0].clone()
    }
}

impl Tap for Secrets {
    fn see(&self, what: Tapped<'_>) {
        match what {
            Tapped::ContentSecret(secret) => self.content.lock().unwrap().push(secret.to_vec()),
            Tapped::CarryKey(key) => self.carry.lock().unwrap().push(key.to_vec()),
            _ => {}
        }
    }
}

/// All that a process can read and write, in runs of pages that are not all zero.
fn pages(process: u32) -> io::Result<Vec<Vec<u8>>> {
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps"))?;
    let mut runs = vec![Vec::new()];
    for line in maps.lines() {
        // FROM-TO PERMISSIONS ... (proc_pid_maps(5))
        let mut words = line.split(' ');
        let (from, to) = words.next().unwrap().split_once('-').unwrap();
        if !words.next().unwrap().starts_with("rw") {
            continue;
        }
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut page = [0; PAGE_BYTES];
        for address in (from..to).step_by(PAGE_BYTES) {
            // A page that went away meanwhile holds nothing.
            let is_read = memory.read_exact_at(&mut page, address).is_ok();
            if is_read && page != [0; PAGE_BYTES] {
                runs.last_mut().unwrap().extend_from_slice(&page);
            } else if !runs.last().unwrap().is_empty() {
                runs.push(Vec::new());
            }
        }
        runs.push(Vec::new());
    }
    Ok(runs)
}

fn holds(runs: &[Vec<u8>], secret: &[u8]) -> bool {
    runs.iter().any(|run| {
        run.windows(secret.len())
            .any(|window| window[0] == secret[0] && window == secret)
    })
}
