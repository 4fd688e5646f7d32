//! Origin, relay and player as three processes: what comes out is what went in.
//!
//! Not what travels between them (the laboratory counts that), nor failures (`restart.rs`).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::Bytes;
use common::media::{CLIP, Recording, demux, mux};
use common::{Home, ffprobe, until};
use levada_wire::{Frame, TrackKind};

#[test]
fn the_output_equals_the_source_access_unit_by_access_unit() {
    let home = Home::new();
    let out = home.path("x.ts");
    let relay = home.node(&[]);
    let mut origin = home.start(&["publish", "cam", "test", "--join", &relay.address]);
    origin.says("publishing `cam`");

    let join = [
        "--join",
        &relay.address,
        "--out",
        out.to_str().unwrap(),
        "--seconds",
        "4",
    ];
    let played = home.run(&[&["play", "cam"], &join[..]].concat());

    assert!(played.status.success(), "{played:?}");
    let recording = Recording::read_file(&out);
    assert!(
        recording.pictures.len() >= 100,
        "{}",
        recording.pictures.len()
    );
    assert!(recording.pictures[0].sync);
    recording.assert_is_part_of(&Recording::of_card(60));
    assert_eq!(ffprobe(&out), "");
}

#[test]
fn a_running_node_serves_players_of_two_streams_and_never_mixes_them() {
    let home = Home::new();
    let files = [home.path("a.ts"), home.path("b.ts")];
    let clips = [marked(0), marked(1)];
    let mut config = String::new();
    for ((file, clip), name) in files.iter().zip(&clips).zip(["a", "b"]) {
        std::fs::write(file, clip).unwrap();
        config += &format!("[[publish]]\nname = \"{name}\"\nsource = {file:?}\nloop = true\n");
    }
    let config_file = home.path("levada.toml");
    std::fs::write(&config_file, config).unwrap();
    let (state, other) = (home.path("origin"), home.path("player"));
    let arguments = [
        "--config",
        config_file.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ];
    let origin = home.node(&arguments);
    let node = home.node(&["--state", other.to_str().unwrap(), &origin.address]);

    let outs = [home.path("a.out.ts"), home.path("b.out.ts")];
    let players = [("a", &outs[0]), ("b", &outs[1])].map(|(name, out)| {
        let out = out.to_str().unwrap();
        home.start(&[
            "play",
            name,
            "--node",
            &node.state,
            "--out",
            out,
            "--seconds",
            "4",
            "--wait",
        ])
    });

    for (process, (out, clip)) in players.into_iter().zip(outs.iter().zip(&clips)) {
        let ended = process.end();
        assert!(ended.status.success(), "{ended:?}");
        let recording = Recording::read_file(out);
        assert!(
            recording.pictures.len() >= 90,
            "{}",
            recording.pictures.len()
        );
        recording.assert_is_part_of(&looped(clip, 20));
    }
}

/// Two seconds of the clip, each frame marked with bytes that no other clip has.
fn marked(mark: u8) -> Vec<u8> {
    let (description, frames) = demux(CLIP);
    let end = frames[0].dts + 2 * 90_000;
    let is_video = |frame: &Frame| {
        let track = description.track(frame.track).unwrap();
        track.kind == TrackKind::Video
    };
    let mark = |frame: &Frame| {
        // A picture may be followed by filler data (H.264 7.3.2.7); of sound, any bytes will do.
        let tail: &[u8] = if is_video(frame) {
            &[0, 0, 0, 1, 0x0C, 0xF0 | mark, 0x80]
        } else {
            &[mark]
        };
        let data = Bytes::from([&frame.data[..], tail].concat());
        Frame {
            data,
            ..frame.clone()
        }
    };
    let kept = frames.iter().filter(|frame| frame.dts < end).map(mark);
    mux(&description, &kept.collect::<Vec<_>>())
}

/// A clip as often as it may be played.
fn looped(clip: &[u8], rounds: usize) -> Recording {
    let (description, mut frames) = demux(clip);
    frames.sort_by_key(|frame| frame.dts);
    let mut looper = levada_media::Looper::new(&description);
    let mut all = Vec::new();
    for _ in 0..rounds {
        all.extend(frames.iter().map(|frame| looper.shift(frame.clone())));
        looper.rewind();
    }
    Recording::read(&mux(&description, &all))
}

#[test]
fn what_is_seen_of_a_network_is_what_is_there() {
    let home = Home::new();
    let relay = home.node(&["--name", "middle"]);
    let origin = home.start(&["publish", "hall/cam", "test", "--join", &relay.address]);
    home.wait_for_stream("hall/cam", &relay);

    let streams = home.run(&["streams"]);
    let nodes = home.view("nodes", &relay);
    let links = home.view("links", &relay);

    assert!(streams.output.starts_with("STREAM "), "{streams:?}");
    assert!(streams.output.contains("hall/cam  HOLD"), "{streams:?}");
    assert_eq!(nodes[0]["name"], "middle");
    assert_eq!(
        (&nodes[0]["role"], &nodes[1]["role"]),
        (&"this".into(), &"neighbour".into())
    );
    assert_eq!(nodes[1]["streams"], 1);
    assert_eq!(links[0]["state"], "up");
    assert!(links.as_array().unwrap().len() == 1);
    drop(origin);
}

#[test]
fn counters_name_every_reason_to_programs_and_to_people_those_that_happened() {
    let home = Home::new();
    let relay = home.node(&[]);
    let origin = home.start(&["publish", "cam", "test", "--join", &relay.address]);
    home.wait_for_stream("cam", &relay);

    let counters = home.view("counters", &relay);
    let table = home.run(&["counters", "--node", &relay.state]);

    let row = |name, reason: Option<&str>| {
        let mut rows = counters.as_array().unwrap().iter();
        let is_it =
            |row: &&serde_json::Value| row["name"] == name && row["reason"].as_str() == reason;
        rows.find(is_it).unwrap().clone()
    };
    let arrived = row("packets_arrived", None);
    assert!(arrived["value"].as_u64().unwrap() > 0, "{arrived}");
    assert_eq!(
        (&arrived["kind"], &arrived["unit"]),
        (&"counter".into(), &"packets".into())
    );
    let dropped = row("packets_dropped", Some("bad_tag"));
    assert_eq!(dropped["value"], 0);
    assert_eq!(dropped["help"], "Its carry tag is false.");
    assert!(table.output.contains("packets_arrived"), "{table:?}");
    assert!(
        table.output.contains("Datagrams that came in."),
        "{table:?}"
    );
    assert!(!table.output.contains("bad_tag"), "{table:?}");
    drop(origin);
}

#[test]
fn an_end_on_purpose_reaches_everyone_and_all_exit_cleanly() {
    let home = Home::new();
    let out = home.path("x.ts");
    let relay = home.node(&[]);
    let mut origin = home.start(&["publish", "cam", "test", "--join", &relay.address]);
    origin.says("publishing `cam`");
    let mut player = home.start(&[
        "play",
        "cam",
        "--join",
        &relay.address,
        "--out",
        out.to_str().unwrap(),
    ]);
    player.says("playing `cam`");

    origin.interrupt();
    assert!(origin.end().status.success());
    player.says("`cam` has ended");
    assert!(player.end().status.success());
    let left = home.run(&["leave", "--node", &relay.state]);

    assert!(left.status.success(), "{left:?}");
    assert!(relay.process.end().status.success());
}

#[test]
fn commands_for_one_stream_have_a_node_each_however_long_its_name_is() {
    let home = Home::new();
    let relay = home.node(&[]);
    let name = format!("hall/{}", "x".repeat(123));

    let mut origins: Vec<_> = (0..3)
        .map(|_| home.start(&["publish", &name, "test", "--join", &relay.address]))
        .collect();
    for origin in &mut origins {
        origin.says("publishing `hall/");
    }

    until("three neighbours", || {
        let nodes = home.view("nodes", &relay);
        (nodes.as_array().unwrap().len() == 4).then_some(())
    });
}
