//! `levada demo` by itself: a dozen nodes in their processes, real sockets, nothing lost and nothing left.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use common::{Home, Process, until};
use serde_json::Value;

#[test]
fn the_demo_ends_by_itself_and_loses_nothing() {
    let home = Home::new();

    let ended = home.run(&["demo", "--seconds", "3", "--json"]);

    assert!(ended.status.success(), "{ended:?}");
    let lines: Vec<Value> = ended
        .output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let total = lines.last().unwrap();
    assert_eq!(total["final"], true);
    assert!(total["frames_total"].as_u64().unwrap() > 100, "{total}");
    assert_eq!(
        (&total["lost_frames"], &total["gaps"]),
        (&0.into(), &0.into())
    );
    for hop in ["origin_to_relay", "relay_to_player"] {
        assert!(total["hop_latency_us"][hop]["p50"].as_u64().unwrap() > 0);
        assert!(total["hop_latency_us"][hop]["p99"].as_u64().unwrap() > 0);
    }
    let seconds = || {
        lines
            .iter()
            .filter(|line| line["frames"].is_u64() && line["nodes"].is_array())
    };
    assert!(seconds().count() >= 2);
    assert_eq!(
        seconds().next().unwrap()["nodes"].as_array().unwrap().len(),
        12
    );
    for stream in total["streams"].as_array().unwrap() {
        assert!(stream["frames_total"].as_u64().unwrap() > 20, "{stream}");
    }
}

#[test]
fn the_demo_is_a_network_that_others_can_join() {
    let home = Home::new();
    let demo = home.start(&["demo", "--json", "--http", "127.0.0.1:0"]);
    let about: Value = serde_json::from_str(&demo.line()).unwrap();
    let (join, out) = (about["join"].as_str().unwrap(), home.path("x.ts"));
    let out = out.to_str().unwrap();

    let played = home.run(&[
        "play",
        "demo/testcard",
        "--join",
        join,
        "--out",
        out,
        "--seconds",
        "1",
    ]);
    let flows = home.run(&[
        "flows",
        "--json",
        "--node",
        about["state"].as_str().unwrap(),
    ]);
    demo.interrupt();

    assert!(played.status.success(), "{played:?}");
    assert!(flows.output.contains("demo/testcard"), "{flows:?}");
    let ended = demo.end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.output.contains("\"final\":true"), "{ended:?}");
}

/// The next line of a demo that says something else than a second.
fn story_of(demo: &Process) -> String {
    until("a scene of the story", || {
        let line: Value = serde_json::from_str(&demo.line()).unwrap();
        Some(line["story"].as_str()?.to_owned())
    })
}

/// The frames of the test card that came until the next second.
fn frames_of(demo: &Process) -> u64 {
    until("a second", || {
        let line: Value = serde_json::from_str(&demo.line()).unwrap();
        line["frames_total"].as_u64()
    })
}

#[test]
fn the_story_is_told_on_the_page_and_the_streams_go_on() {
    let home = Home::new();
    let demo = home.start(&["demo", "--json", "--story", "--http", "127.0.0.1:0"]);
    let about: Value = serde_json::from_str(&demo.line()).unwrap();
    let page = about["page"].as_str().unwrap();

    let killed = story_of(&demo);
    let at_the_kill = frames_of(&demo);
    let again = story_of(&demo);
    let later = frames_of(&demo);

    let host = page.split('/').nth(2).unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request =
        format!("GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut events = String::new();
    stream.read_to_string(&mut events).unwrap();
    assert!(killed.contains("paris is killed"), "{killed}");
    for scene in [&killed, &again] {
        assert!(events.contains(&**scene), "{scene}: {events}");
    }
    assert!(later > at_the_kill + 100, "{at_the_kill} and then {later}");
    demo.interrupt();
    let ended = demo.end();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn a_demo_that_is_killed_leaves_no_process_and_the_next_one_no_file() {
    let home = Home::new();
    let mut demo = home.start(&["demo", "--json", "--http", "127.0.0.1:0"]);
    let about: Value = serde_json::from_str(&demo.line()).unwrap();
    let nodes = about["nodes"].as_array().unwrap();
    let states = nodes.iter().map(|node| node["state"].as_str().unwrap());
    let processes: Vec<String> = states
        .map(|state| std::fs::read_to_string(Path::new(state).join("lock")).unwrap())
        .collect();
    let is_there = |process: &&String| Path::new("/proc").join(process.trim()).exists();
    assert_eq!(processes.iter().filter(is_there).count(), 12);

    demo.kill();

    until("the end of all nodes", || {
        (!processes.iter().any(|it| is_there(&it))).then_some(())
    });
    let left = home.path("state/demo").join(demo.id().to_string());
    assert!(left.exists());
    let next = home.run(&["demo", "--json", "--seconds", "1", "--http", "127.0.0.1:0"]);
    assert!(!left.exists(), "{next:?}");
}
