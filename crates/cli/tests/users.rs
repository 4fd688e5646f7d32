//! Users, limits and sessions of a running node, as its owner and as real players see them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::Command;

use common::{Home, Node, Process, until};
use serde_json::Value;

/// What ffprobe complains about at a URL; nothing if it finds pictures.
fn complaints(url: &str) -> String {
    let mut command = Command::new("ffprobe");
    command.args([
        "-hide_banner",
        "-loglevel",
        "error",
        "-rtsp_transport",
        "tcp",
    ]);
    command.args(["-show_entries", "stream=codec_name", "-of", "csv=p=0", url]);
    let ended = Process::start(command).end();
    assert_eq!(
        ended.output.contains("h264"),
        ended.errors.is_empty(),
        "{ended:?}"
    );
    ended.errors
}

/// Adds a user with the password `geheim`.
fn add_user(home: &Home, arguments: &[&str]) {
    let file = home.path("password");
    std::fs::write(&file, "geheim\n").unwrap();
    let password = ["--password-file", file.to_str().unwrap()];
    let ended = home.run(&[&["user", "add"], arguments, &password].concat());
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.output, "", "{ended:?}");
}

fn url(node: &Node, user: &str, name: &str) -> String {
    format!("rtsp://{user}{}/{name}", node.rtsp)
}

fn sessions(home: &Home, node: &Node, more: &[&str]) -> Vec<Value> {
    let ended = home.run(&[&["sessions", "--json", "--node", &node.state], more].concat());
    assert!(ended.status.success(), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!(answer["version"], 1);
    answer["rows"].as_array().unwrap().clone()
}

/// A player of a stream for as long as it is held.
fn play(url: &str) -> Process {
    let mut play = Command::new("ffmpeg");
    play.args(["-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp"]);
    play.args(["-i", url, "-f", "null", "-"]);
    Process::start(play)
}

#[test]
fn who_was_added_may_what_the_rights_say_and_nobody_else_anything() {
    let home = Home::new();
    add_user(&home, &["anna", "--play", "lobby/"]);
    add_user(&home, &["berta", "--play", "--digest"]);
    let sources = ["--source", "lobby/cam=test", "--source", "office/cam=test"];
    let node = home.node(&sources);
    home.wait_for_stream("office/cam", &node);

    assert_eq!(complaints(&url(&node, "anna:geheim@", "lobby/cam")), "");
    assert_eq!(complaints(&url(&node, "berta:geheim@", "office/cam")), "");
    for (user, name, status) in [
        ("", "lobby/cam", "401"),
        ("anna:falsch@", "lobby/cam", "401"),
        ("carl:geheim@", "lobby/cam", "401"),
        ("anna:geheim@", "office/cam", "403"),
    ] {
        let said = complaints(&url(&node, user, name));
        assert!(said.contains(status), "{user}{name}: {said}");
    }

    let ended = sessions(&home, &node, &["--ended"]);
    let users: Vec<_> = ended.iter().map(|row| row["user"].clone()).collect();
    assert_eq!(users, ["anna", "berta"]);
}

#[test]
fn a_token_is_made_shown_once_and_good_in_a_url() {
    let home = Home::new();
    let made = home.run(&["user", "add", "wall", "--token", "--play", "lobby/"]);
    assert!(made.status.success(), "{made:?}");
    let token = made.output.trim();
    let file = std::fs::read_to_string(home.path("state/levada.toml")).unwrap();
    assert!(
        token.len() == 32 && !file.contains(token),
        "{made:?} {file}"
    );
    let node = home.node(&["--source", "lobby/cam=test"]);
    home.wait_for_stream("lobby/cam", &node);

    let with_it = complaints(&url(&node, "", &format!("lobby/cam?token={token}")));
    let with_another = complaints(&url(&node, "", "lobby/cam?token=0123456789abcdef"));

    assert_eq!(with_it, "");
    assert!(with_another.contains("401"), "{with_another}");
}

#[test]
fn a_session_is_shown_and_ended_by_its_number() {
    let home = Home::new();
    let node = home.node(&["--source", "lobby/cam=test"]);
    home.wait_for_stream("lobby/cam", &node);
    let player = play(&url(&node, "", "lobby/cam"));
    let row = until("a session with bytes", || {
        let rows = sessions(&home, &node, &[]);
        rows.into_iter().find(|row| row["bytes"].as_u64() > Some(0))
    });
    for (key, value) in [
        ("role", "play"),
        ("stream", "lobby/cam"),
        ("protocol", "rtsp"),
        ("transport", "tcp"),
    ] {
        assert_eq!(row[key], value, "{row}");
    }
    let table = home.run(&["sessions", "--node", &node.state]);
    assert!(
        table.output.contains("lobby/cam") && table.output.contains("Lavf"),
        "{table:?}"
    );

    let kicked = home.run(&[
        "sessions",
        "--node",
        &node.state,
        "--kick",
        &row["id"].to_string(),
    ]);

    assert!(kicked.status.success(), "{kicked:?}");
    player.end();
    let ended = sessions(&home, &node, &["--ended"]);
    assert_eq!(ended[0]["ended"], "kicked", "{ended:?}");
    assert_eq!(sessions(&home, &node, &[]), Vec::<Value>::new());
    let again = home.run(&["sessions", "--node", &node.state, "--kick", "77"]);
    assert!(!again.status.success());
    assert!(again.errors.contains("no session 77"), "{again:?}");
}

#[test]
fn limits_of_the_file_hold() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("state")).unwrap();
    let file = home.path("state/levada.toml");
    std::fs::write(&file, "[limits]\nclients = 1\n").unwrap();
    let node = home.node(&["--source", "lobby/cam=test"]);
    home.wait_for_stream("lobby/cam", &node);
    let first = play(&url(&node, "", "lobby/cam"));
    until("the first session", || sessions(&home, &node, &[]).pop());

    let second = complaints(&url(&node, "", "lobby/cam"));

    assert!(second.contains("453"), "{second}");
    drop(first);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written_or_started() {
    let home = Home::new();
    let file = home.path("x.toml");
    let file = file.to_str().unwrap();
    for (arguments, cure) in [
        (vec!["user", "add", "anna", "--config", file], "--play"),
        (
            vec!["user", "add", "an:na", "--play", "--config", file],
            "leave out colons",
        ),
        (
            vec!["user", "add", "anna", "--play", "/x", "--config", file],
            "as in `sports/`",
        ),
        (
            vec![
                "user",
                "add",
                "anna",
                "--play",
                "--password-file",
                "/no/such",
                "--config",
                file,
            ],
            "/no/such",
        ),
    ] {
        let ended = home.run(&arguments);
        assert!(!ended.status.success(), "{ended:?}");
        assert!(
            ended.errors.contains(cure),
            "{arguments:?}: {}",
            ended.errors
        );
    }
    assert!(!std::path::Path::new(file).exists());

    std::fs::write(
        file,
        "[[user]]\nname = 'anna'\npassword = 'plain'\nrights = []\n",
    )
    .unwrap();
    let ended = home.run(&["run", "--listen", "127.0.0.1:0", "--config", file]);
    assert!(!ended.status.success());
    assert!(
        ended.errors.contains("levada user add") && !ended.errors.contains("plain"),
        "{ended:?}"
    );
}

#[test]
fn a_change_of_the_file_ends_what_it_forbids_and_nothing_else() {
    let home = Home::new();
    add_user(&home, &["anna", "--play", "lobby/"]);
    add_user(&home, &["berta", "--play", "lobby/"]);
    let mut node = home.node(&["--source", "lobby/cam=test"]);
    home.wait_for_stream("lobby/cam", &node);
    let _anna = play(&url(&node, "anna:geheim@", "lobby/cam"));
    let berta = play(&url(&node, "berta:geheim@", "lobby/cam"));
    let before = until("two sessions", || {
        let rows = sessions(&home, &node, &[]);
        (rows.len() == 2).then_some(rows)
    });
    let file = home.path("state/levada.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let second = text.rfind("[[user]]").unwrap();

    std::fs::write(&file, "not toml").unwrap();
    node.process.says("the former one stays: in ");
    assert_eq!(sessions(&home, &node, &[]).len(), 2);
    std::fs::write(&file, format!("relay = 'never'\n{}", &text[..second])).unwrap();
    node.process.says("holds from a start on: relay");

    berta.end();
    let ended = sessions(&home, &node, &["--ended"]);
    let reasons: Vec<_> = ended
        .iter()
        .map(|row| (&row["user"], &row["ended"]))
        .collect();
    assert_eq!(
        reasons[0],
        (&Value::from("berta"), &Value::from("kicked")),
        "{ended:?}"
    );
    let anna = before.iter().find(|row| row["user"] == "anna").unwrap();
    let still = sessions(&home, &node, &[]);
    assert_eq!((still.len(), &still[0]["id"]), (1, &anna["id"]));
    let refused = complaints(&url(&node, "berta:geheim@", "lobby/cam"));
    assert!(refused.contains("401"), "{refused}");
}

#[test]
fn sighup_has_the_file_read_again_and_does_not_end_the_node() {
    let home = Home::new();
    let mut node = home.node(&[]);

    let id = node.process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &id])
            .status()
            .unwrap()
            .success()
    );

    node.process.says("the configuration is taken up");
    assert!(node.process.is_running());
}

#[test]
fn streams_of_the_file_come_and_go_with_it_and_the_others_go_on() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("state")).unwrap();
    let file = home.path("state/levada.toml");
    let entry = |name: &str| format!("[[publish]]\nname = '{name}'\nsource = 'test'\n");
    std::fs::write(&file, [entry("a"), entry("b")].concat()).unwrap();
    let node = home.node(&[]);
    home.wait_for_stream("b", &node);
    let _player = play(&url(&node, "", "a"));
    let before = until("a session", || sessions(&home, &node, &[]).pop());

    std::fs::write(&file, [entry("a"), entry("c")].concat()).unwrap();

    home.wait_for_stream("c", &node);
    until("b to go", || {
        let streams = home.view("streams", &node);
        let mut names = streams
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].clone());
        names.all(|name| name != "b").then_some(())
    });
    let after = until("more bytes", || {
        let row = sessions(&home, &node, &[]).pop()?;
        (row["bytes"].as_u64() > before["bytes"].as_u64()).then_some(row)
    });
    assert_eq!(after["id"], before["id"], "the session goes on");
    std::fs::write(&file, format!("{}loop = true\n", entry("c"))).unwrap();
    until("a to go, and c to be another", || {
        let streams = home.view("streams", &node);
        let names: Vec<_> = streams
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].clone())
            .collect();
        (names == ["c"]).then_some(())
    });
}
