//! What a user gets wrong: each command says what was wrong and what to do, and its exit code is not 0.
//!
//! Not hostile networks (`hostile.rs`). A message is matched by its parts: what was wrong, and the cure.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::UdpSocket;
use std::process::Stdio;

use common::{Ended, Home, Process};

/// The command failed, and said all of this.
fn assert_refused(ended: &Ended, parts: &[&str]) {
    assert!(!ended.status.success(), "{ended:?}");
    assert_eq!(ended.output, "", "{ended:?}");
    for part in parts {
        assert!(
            ended.errors.contains(part),
            "`{part}` is not in {}",
            ended.errors
        );
    }
}

#[test]
fn an_unknown_stream_is_refused_with_those_that_are_known() {
    let home = Home::new();
    let relay = home.node(&["--source", "hall/cam=test"]);
    let out = home.path("x.ts");

    let arguments = [
        "play",
        "hall/can",
        "--join",
        &relay.address,
        "--out",
        out.to_str().unwrap(),
    ];
    let ended = home.run(&arguments);

    assert_refused(
        &ended,
        &[
            "no stream `hall/can`",
            "known: hall/cam",
            "is its origin running?",
            "--wait",
        ],
    );
    assert!(!out.exists());
}

#[test]
fn a_neighbour_that_does_not_answer_is_named() {
    let home = Home::new();
    // Bound, so that nobody else is there; and silent.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();

    let ended = home.run(&["play", "cam", "--join", &address, "--out", "-"]);

    assert_refused(
        &ended,
        &[
            "no stream `cam`",
            "no link is up",
            &address,
            "is --join right",
        ],
    );
}

#[test]
fn a_player_without_any_neighbour_is_told_to_name_one() {
    let home = Home::new();

    let ended = home.run(&["play", "cam", "--out", "-"]);

    assert_refused(
        &ended,
        &["no node runs here", "`levada run`", "--join HOST[:PORT]"],
    );
}

#[test]
fn a_busy_port_is_named() {
    let home = Home::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();

    let ended = home.run(&["run", "--listen", &address.to_string()]);

    let port = format!("UDP port {}", address.port());
    assert_refused(
        &ended,
        &[&port, "already in use", "listen on another address"],
    );
}

#[test]
fn a_locked_state_directory_is_named_and_its_node_goes_on() {
    let home = Home::new();
    let node = home.node(&[]);

    let ended = home.run(&["run", "--listen", "127.0.0.1:0"]);

    assert_refused(
        &ended,
        &[
            &node.state,
            "in use by another levada",
            "--node",
            "process",
            "--state",
        ],
    );
    assert_eq!(home.view("nodes", &node)[0]["address"], *node.address);
}

#[test]
fn a_source_that_is_no_media_is_refused_before_anything_is_announced() {
    let home = Home::new();
    let node = home.node(&[]);
    let file = home.path("notes.dat");
    std::fs::write(&file, "nothing that anybody plays").unwrap();
    let empty = home.path("empty.ts");
    std::fs::write(&empty, "").unwrap();
    let publish = |source: &str| home.run(&["publish", "cam", source]);

    let text = publish(file.to_str().unwrap());
    let nothing = publish(empty.to_str().unwrap());
    let missing = publish("/no/such/file.ts");
    let nowhere = publish("udp://239.1.1.1");
    let unknown = publish("foo://me:secret@camera/1");
    let mut command = home.levada(&["publish", "cam", file.to_str().unwrap()]);
    command.env("PATH", home.path("nothing"));
    let without = Process::start(command).end();

    assert_refused(&text, &["`cam`", "ffmpeg cannot read", "notes.dat: "]);
    assert_refused(&nothing, &["empty.ts is empty"]);
    assert_refused(
        &missing,
        &["/no/such/file.ts", "No such file", "a source is `test`"],
    );
    assert_refused(
        &nowhere,
        &["udp://239.1.1.1", "no port", "udp://GROUP:PORT"],
    );
    assert_refused(
        &unknown,
        &["ffmpeg cannot read foo://camera/1", "Protocol not found"],
    );
    assert!(!unknown.errors.contains("secret"), "{}", unknown.errors);
    assert_refused(&without, &["notes.dat", "ffmpeg", "apt install ffmpeg"]);
    assert_eq!(home.view("streams", &node), serde_json::json!([]));
}

#[test]
fn garbage_on_standard_input_is_refused() {
    use std::io::Write as _;
    let home = Home::new();
    let _node = home.node(&[]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = home.levada(&["publish", "cam", "-"]);
    command.stdin(Stdio::from(reader));

    let process = Process::start(command);
    // The command may have seen enough before all of it is written.
    let _ = writer.write_all(&[0x55; 200_000]);
    drop(writer);
    let ended = process.end();

    assert_refused(
        &ended,
        &["standard input is not an MPEG transport stream", "ffmpeg"],
    );
}

#[test]
fn a_misspelt_configuration_key_is_refused_with_the_one_that_was_meant() {
    let home = Home::new();
    let file = home.path("levada.toml");
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        home.run(&["run", "--config", file.to_str().unwrap()])
    };

    let key = refused("jion = [\"10.0.0.1\"]");
    let nested = refused("[[publish]]\nname = \"cam\"\nsorce = \"test\"");
    let value = refused("listen = \"everywhere\"");
    let mut command = home.levada(&["run"]);
    command.env("LEVADA_RELAYS", "always");
    let variable = Process::start(command).end();

    assert_refused(&key, &["levada.toml", "`jion`", "did you mean `join`"]);
    assert_refused(&nested, &["`sorce`", "did you mean `source`"]);
    assert_refused(&value, &["`everywhere`", "IP:PORT"]);
    assert_refused(
        &variable,
        &["`LEVADA_RELAYS`", "did you mean `LEVADA_RELAY`"],
    );
}

#[test]
fn a_misspelt_command_or_flag_is_refused_with_the_one_that_was_meant() {
    let home = Home::new();

    let command = home.run(&["publsh", "cam", "test"]);
    let flag = home.run(&["publish", "cam", "test", "--jion", "10.0.0.1"]);
    let value = home.run(&["play", "cam", "--latency", "500"]);
    let name = home.run(&["play", "my cam"]);
    let address = home.run(&["play", "cam", "--join", "10.0.0.1:0"]);
    let part = home.run(&["sim", "run", "x.toml", "--sabotage", "router"]);

    assert_refused(
        &command,
        &["`publsh`", "`publish`"].map(|part| part.trim_matches('`')),
    );
    assert_refused(&flag, &["--jion", "--join"]);
    assert_refused(&value, &["500", "say the unit: `500ms` or `500s`"]);
    assert_refused(&name, &["my cam"]);
    assert_refused(&address, &["10.0.0.1:0", "port 0"]);
    assert_refused(&part, &["router", "checker, machine or link"]);
}

#[test]
fn a_view_of_a_node_that_does_not_run_says_how_to_get_one() {
    let home = Home::new();

    for command in ["streams", "nodes", "links", "flows", "leave"] {
        let ended = home.run(&[command]);

        assert_refused(&ended, &["no levada runs", "`levada run`", "--node"]);
    }
}

#[test]
fn a_player_that_is_not_installed_is_refused_with_how_to_get_it() {
    let home = Home::new();
    let _node = home.node(&["--source", "cam=test"]);
    let with_no_path = |arguments: &[&str]| {
        let mut command = home.levada(arguments);
        command.env("PATH", home.path("nothing"));
        Process::start(command).end()
    };

    let named = with_no_path(&["play", "cam", "--player", "vlc"]);
    let any = with_no_path(&["play", "cam"]);

    assert_refused(
        &named,
        &["VLC is not installed", "apt install vlc", "--player"],
    );
    assert_refused(&any, &["no player is installed", "--out FILE"]);
}

#[test]
fn a_stream_that_is_published_already_is_refused_and_goes_on() {
    let home = Home::new();
    let node = home.node(&["--source", "cam=test"]);

    let ended = home.run(&["publish", "cam", "test", "--node", &node.state]);

    assert_refused(&ended, &["`cam` already", "choose another name"]);
    assert_eq!(home.view("streams", &node)[0]["name"], "cam");
}

#[test]
fn a_number_that_cannot_be_is_refused_by_the_name_of_its_flag_with_what_can() {
    let home = Home::new();

    for (arguments, parts) in [
        (
            "run --uplink -5Mb/s",
            ["`uplink` is `-5Mb/s`", "as in `4Mb/s`"],
        ),
        ("publish cam test --peak -1", ["--peak", "as in `4Mb/s`"]),
        ("play cam --latency -1ms", ["--latency", "as in `500ms`"]),
        ("run --lanes two", ["--lanes", "from 1 to 8"]),
        (
            "play cam --seconds x",
            ["--seconds", "whole number from 0 to"],
        ),
        ("demo --seconds 0", ["--seconds", "whole number from 1 to"]),
        ("sim run x.toml --seeds 0", ["--seeds", "from 1 to 1000000"]),
        (
            "bench fanout --egresses -1",
            ["--egresses", "from 1 to 10000"],
        ),
        (
            "bench soak --fanout 3 --egresses 2",
            ["`--fanout 3`", "2 of `--egresses`"],
        ),
    ] {
        let words: Vec<_> = arguments.split(' ').collect();

        let ended = home.run(&words);

        assert_refused(&ended, &parts);
    }
}

#[test]
fn a_check_takes_the_addresses_that_a_node_takes_and_says_how_they_are_written() {
    let home = Home::new();

    let refused = home.run(&["check", "--listen", "nonsense"]);
    let taken = home.run(&["check", "--listen", "127.0.0.1", "--json"]);

    assert_refused(&refused, &["`nonsense`", "write `IP:PORT`"]);
    assert!(taken.output.contains("127.0.0.1:7800"), "{taken:?}");
}

#[test]
fn a_file_is_no_state_directory_of_a_running_node() {
    let home = Home::new();
    let file = home.path("file");
    std::fs::write(&file, "").unwrap();

    let ended = home.run(&["links", "--node", file.to_str().unwrap()]);

    assert_refused(&ended, &["no levada runs with", "`levada run`", "`--node`"]);
}
