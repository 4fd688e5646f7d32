//! `levada bench soak`: it ends by itself, shows what it looked at, and its exit code says whether all was well.
//!
//! Not the soak itself, which takes minutes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use common::Home;
use serde_json::Value;

#[test]
fn a_short_soak_shows_each_sample_and_what_came_of_it() {
    let home = Home::new();
    let arguments = "bench soak --flows 5 --egresses 4 --fanout 2 --rate 300kb/s --minutes 0.03 --every 1 --json";

    let json = home.run(&arguments.split(' ').collect::<Vec<_>>());

    assert!(json.status.success(), "{json:?}");
    let rows: Vec<Value> = json
        .output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (report, samples) = rows.split_last().unwrap();
    assert!(!samples.is_empty());
    for sample in samples {
        assert_eq!(sample["bench"], "soak-sample");
        assert_eq!(sample["ledgers_are_zero"], true);
        assert!(sample["rss_bytes"].as_u64() > Some(1 << 20), "{sample}");
        assert!(sample["cached_bytes"].as_u64() > Some(0), "{sample}");
    }
    assert_eq!(report["bench"], "soak");
    assert_eq!(report["faults"], serde_json::json!([]));
    assert!(report["packets_sent"].as_u64() > Some(100), "{report}");
    assert!(report["lanes_rss_bytes_max"].as_u64() >= report["lanes_rss_bytes"].as_u64());
}

#[test]
fn a_soak_of_no_time_is_refused_with_what_to_write() {
    let home = Home::new();

    let refused = home.run(&["bench", "soak", "--minutes", "0"]);

    assert!(!refused.status.success());
    assert!(
        refused.errors.contains("write a number of minutes"),
        "{refused:?}"
    );
}
