//! `levada bench` and `levada check`: each command ends by itself and says what it measured or tried.
//!
//! Not how fast anything is: a test machine does other things too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use common::Home;
use serde_json::Value;

fn lines(output: &str) -> Vec<Value> {
    let lines = output.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A number above zero.
fn is_measured(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number > 0.0)
}

#[test]
fn fanout_prints_each_figure_beside_its_floors() {
    let home = Home::new();

    let json = home.run(&[
        "bench",
        "fanout",
        "--egresses",
        "3",
        "--repeat",
        "1",
        "--seconds",
        "0.05",
        "--json",
    ]);

    assert!(json.status.success(), "{json:?}");
    let rows = lines(&json.output);
    let kinds: Vec<_> = rows.iter().map(|row| row["receivers"].as_str()).collect();
    assert_eq!(kinds, [Some("gro"), Some("plain")]);
    for row in &rows {
        for key in [
            "of_floor",
            "of_send_floor",
            "gbit_per_cpu_s",
            "floor_gbit_per_cpu_s",
            "send_floor_gbit_per_cpu_s",
            "packets",
        ] {
            assert!(is_measured(&row[key]), "{key}: {row}");
        }
        assert_eq!(
            (&row["egresses"], &row["rate_bps"]),
            (&3.into(), &4_000_000.into())
        );
    }
    assert!(is_measured(&rows[0]["sends"]) && rows[1]["sends"].is_null());
}

#[test]
fn fanout_shows_a_table_and_takes_two_lanes() {
    let home = Home::new();

    let table = home.run(&[
        "bench",
        "fanout",
        "--egresses",
        "2",
        "--receivers",
        "gro",
        "--lanes",
        "2",
        "--flows",
        "2",
        "--repeat",
        "1",
        "--seconds",
        "0.05",
    ]);

    assert!(table.status.success(), "{table:?}");
    let mut lines = table.output.lines();
    assert!(lines.any(|line| line.starts_with("EGRESSES")));
    assert!(lines.any(|line| line.starts_with("2 lanes by one, gro: ")));
}

#[test]
fn two_lanes_are_printed_beside_one_and_beside_two_threads_of_the_floor() {
    let home = Home::new();

    let json = home.run(&[
        "bench",
        "fanout",
        "--egresses",
        "70",
        "--receivers",
        "gro",
        "--lanes",
        "2",
        "--flows",
        "2",
        "--repeat",
        "1",
        "--seconds",
        "0.05",
        "--json",
    ]);

    assert!(json.status.success(), "{json:?}");
    let scale = &lines(&json.output)[0]["scale"];
    for key in [
        "throughput",
        "floor_throughput",
        "efficiency",
        "floor_efficiency",
    ] {
        assert!(is_measured(&scale[key]["median"]), "{key}: {scale}");
    }
}

#[test]
fn fanout_takes_a_thousand_egresses_or_says_which_limit_of_the_system_is_too_low() {
    let home = Home::new();

    let table = home.run(&[
        "bench",
        "fanout",
        "--egresses",
        "2,1000",
        "--receivers",
        "gro",
        "--rate",
        "1Mb/s",
        "--repeat",
        "1",
        "--seconds",
        "0.05",
    ]);

    if table.status.success() {
        assert!(
            table.output.contains("2 to 1000 egresses at 1.0 Mb/s, gro"),
            "{table:?}"
        );
    } else {
        assert!(table.errors.contains("ulimit -n"), "{table:?}");
    }
}

#[test]
fn hop_prints_latencies_or_says_that_the_machine_is_too_busy() {
    let home = Home::new();

    let json = home.run(&[
        "bench",
        "hop",
        "--egresses",
        "2",
        "--flows",
        "2",
        "--repeat",
        "1",
        "--seconds",
        "0.05",
        "--json",
    ]);

    if json.status.success() {
        let row = &lines(&json.output)[0];
        for key in ["p50_us", "p99_us", "last_p99_us", "load"] {
            assert!(is_measured(&row["lane"][key]["median"]), "{key}: {row}");
            assert!(is_measured(&row["floor"][key]["median"]), "{key}: {row}");
        }
    } else {
        assert!(json.errors.contains("even pace"), "{json:?}");
    }
}

#[test]
fn join_prints_both_newcomers() {
    let home = Home::new();

    let json = home.run(&["bench", "join", "--repeat", "2", "--json"]);

    assert!(json.status.success(), "{json:?}");
    let rows = lines(&json.output);
    let newcomers: Vec<_> = rows.iter().map(|row| row["newcomer"].as_str()).collect();
    assert_eq!(newcomers, [Some("consume"), Some("egress")]);
    for row in &rows {
        assert!(is_measured(&row["lane"]["p50_us"]) && is_measured(&row["floor"]["p50_us"]));
    }
}

#[test]
fn loss_tells_of_every_hop_what_was_lost_and_repaired_beside_both_floors() {
    let home = Home::new();

    let json = home.run(&[
        "bench",
        "loss",
        "--hops",
        "2",
        "--rate",
        "1Mb/s",
        "--loss",
        "10%",
        "--rtt",
        "10ms",
        "--budget",
        "2s",
        "--seconds",
        "1",
        "--json",
    ]);

    assert!(json.status.success(), "{json:?}");
    let row = &lines(&json.output)[0];
    let hops = row["hops"].as_array().unwrap();
    assert_eq!(hops.len(), 2);
    for hop in hops {
        for key in [
            "packets",
            "lost",
            "nacks",
            "repaired",
            "extra",
            "extra_bytes",
        ] {
            assert!(is_measured(&hop[key]), "{key}: {row}");
        }
    }
    assert!(is_measured(&row["frames"]));
    assert!(
        row["floor"]["frames_lost"].as_u64() > row["frames_lost"].as_u64(),
        "{row}"
    );
    for end in [row, &row["floor"], &row["control"]] {
        assert!(end["contradiction"].is_null(), "{row}");
    }
    assert!(is_measured(&row["control"]["late"]["p50_ms"]));
}

#[test]
fn loss_shows_hops_and_frames_in_two_tables() {
    let home = Home::new();

    let table = home.run(&[
        "bench",
        "loss",
        "--rate",
        "1Mb/s",
        "--bursts",
        "--reorder",
        "--duplicate",
        "--rtt",
        "10ms",
        "--seconds",
        "0.2",
    ]);

    assert!(table.status.success(), "{table:?}");
    let text = &table.output;
    assert!(
        text.contains("10% lost in bursts of 4, 2% up to 10 ms late, 2% twice"),
        "{text}"
    );
    let heads = text.lines().filter(|line| line.starts_with("CASE"));
    assert_eq!(heads.count(), 2, "{text}");
}

#[test]
fn a_path_that_cannot_be_is_refused_with_the_cure() {
    let home = Home::new();

    let refused = home.run(&["bench", "loss", "--outage", "3s"]);

    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.errors.contains("--outage"), "{refused:?}");
}

#[test]
fn micro_prints_every_step() {
    let home = Home::new();

    let json = home.run(&["bench", "micro", "--repeat", "1", "--json"]);

    assert!(json.status.success(), "{json:?}");
    let rows = lines(&json.output);
    let has = |step: &str| {
        let mut named = rows
            .iter()
            .filter(|row| row["step"].as_str().unwrap().starts_with(step));
        named.next().is_some()
    };
    for step in [
        "copy", "seal", "open", "carry", "forward", "cache", "egress",
    ] {
        assert!(has(step), "{step}");
    }
}

#[test]
fn more_egresses_than_a_lane_takes_are_refused_with_the_cure() {
    let home = Home::new();

    let refused = home.run(&[
        "bench",
        "fanout",
        "--egresses",
        "2000",
        "--receivers",
        "gro",
        "--repeat",
        "1",
        "--seconds",
        "0.01",
    ]);

    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        refused.errors.contains("ask for fewer") || refused.errors.contains("ulimit -n"),
        "{refused:?}"
    );
}

#[test]
fn check_tells_what_it_tried_and_a_taken_port_stops() {
    let home = Home::new();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let good = home.run(&["check", "--listen", "127.0.0.1:0", "--json"]);
    let stopped = home.run(&["check", "--listen", &address]);

    assert!(good.status.success(), "{good:?}");
    let found: Value = serde_json::from_str(&good.output).unwrap();
    let checks: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|found| &found["check"])
        .collect();
    assert_eq!(
        checks,
        [
            "port",
            "gso",
            "gro",
            "receive buffer",
            "send buffer",
            "lanes"
        ]
    );
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
    assert!(stopped.output.contains("STOPS") && stopped.output.contains("ss -lunp"));
}

#[test]
fn check_knows_the_node_that_has_the_port() {
    let home = Home::new();
    let node = home.start(&["run", "--json", "--listen", "127.0.0.1:0"]);
    let about: Value = serde_json::from_str(&node.line()).unwrap();

    let found = home.run(&["check", "--listen", about["listen"].as_str().unwrap()]);

    assert!(found.status.success(), "{found:?}");
    assert!(
        found.output.contains("is bound by the node that runs in"),
        "{found:?}"
    );
}
