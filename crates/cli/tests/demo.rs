//! `levada demo` by itself: three nodes, real sockets, nothing lost.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Home;
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
    let seconds = lines.iter().filter(|line| line["nodes"].is_array());
    assert!(seconds.count() >= 2);
}

#[test]
fn the_demo_is_a_network_that_others_can_join() {
    let home = Home::new();
    let demo = home.start(&["demo", "--json"]);
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
