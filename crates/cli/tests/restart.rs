//! Nodes that are killed and started again: the player's file goes on as if it were one stream.
//!
//! Not how long that takes; the laboratory measures that.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::media::{Recording, assert_run};
use common::{Home, ffprobe, until_bytes};

/// Some seconds of the test card.
const BYTES: u64 = 100_000;

#[test]
fn the_players_file_goes_on_at_a_group_start_when_the_origin_was_killed() {
    let home = Home::new();
    let (out, state) = (home.path("x.ts"), home.path("origin"));
    let relay = home.node(&[]);
    let publish = [
        "publish",
        "cam",
        "test",
        "--join",
        &relay.address,
        "--state",
        state.to_str().unwrap(),
    ];
    let mut origin = home.start(&publish);
    origin.says("publishing `cam`");
    let mut player = home.start(&[
        "play",
        "cam",
        "--join",
        &relay.address,
        "--out",
        out.to_str().unwrap(),
    ]);
    until_bytes(&out, BYTES);

    origin.kill();
    let written = std::fs::metadata(&out).unwrap().len();
    let mut origin = home.start(&publish);
    origin.says("publishing `cam`");
    until_bytes(&out, written + BYTES);

    assert!(player.is_running());
    player.interrupt();
    assert!(player.end().status.success());
    let recording = Recording::read_file(&out);
    recording.assert_times_grow();
    assert_eq!(ffprobe(&out), "");
    // The second start shows the card from its first picture again.
    let card = Recording::of_card(60);
    let starts: Vec<_> = recording
        .pictures
        .iter()
        .enumerate()
        .filter(|(_, picture)| picture.data == card.pictures[0].data)
        .map(|(at, _)| at)
        .collect();
    let splice = *starts.last().expect("the card from its first picture");
    let (before, after) = recording.pictures.split_at(splice);
    assert!(after[0].sync);
    assert_run(before, &card.pictures, None);
    assert_run(after, &card.pictures, None);
}

#[test]
fn a_player_says_why_nothing_comes_when_its_relay_was_killed_and_goes_on_when_it_is_back() {
    let home = Home::new();
    let out = home.path("x.ts");
    let mut relay = home.node(&[]);
    let mut origin = home.start(&["publish", "cam", "test", "--join", &relay.address]);
    origin.says("publishing `cam`");
    let arguments = [
        "play",
        "cam",
        "--join",
        &relay.address,
        "--out",
        out.to_str().unwrap(),
    ];
    let mut player = home.start(&arguments);
    until_bytes(&out, BYTES);

    relay.process.kill();
    let why = player.says("waiting for `cam`");
    let _relay = home.start(&["run", "--listen", &relay.address, "--state", &relay.state]);
    player.says("`cam` goes on");
    let written = std::fs::metadata(&out).unwrap().len();
    until_bytes(&out, written + BYTES);

    assert!(why.contains("no way to that node"), "{why}");
    assert!(why.contains(&relay.address), "{why}");
    player.interrupt();
    assert!(player.end().status.success());
    Recording::read_file(&out).assert_times_grow();
    assert_eq!(ffprobe(&out), "");
}
