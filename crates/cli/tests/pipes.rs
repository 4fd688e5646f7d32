//! Programs on either side of a pipe: a stream from standard input, to standard output, into a player.
//!
//! The player is a script of the test's own. Invariant: whoever closes a pipe ends the command in order.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::media::{CLIP, Recording};
use common::{Home, Process, until};

#[test]
fn a_fast_pipe_is_published_whole_and_as_fast_as_it_was_recorded() {
    let home = Home::new();
    let node = home.node(&[]);
    let out = home.path("x.ts");
    let player = home.start(&["play", "cam", "--wait", "--out", out.to_str().unwrap()]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = home.levada(&["publish", "cam", "-", "--node", &node.state]);
    command.stdin(Stdio::from(reader));

    let began = Instant::now();
    let mut origin = Process::start(command);
    let write = std::thread::spawn(move || writer.write_all(CLIP).unwrap());
    origin.says("publishing `cam`");
    let ended = origin.end();

    assert!(ended.status.success(), "{ended:?}");
    write.join().unwrap();
    // Eight seconds, at most one of them ahead of time.
    assert!(
        began.elapsed() >= Duration::from_millis(6_500),
        "{:?}",
        began.elapsed()
    );
    player.interrupt();
    assert!(player.end().status.success());
    let (recording, clip) = (Recording::read_file(&out), Recording::read(CLIP));
    recording.assert_is_part_of(&clip);
    assert_eq!(recording.pictures.len(), clip.pictures.len());
}

#[test]
fn standard_output_carries_the_stream_and_nothing_else_until_its_reader_closes_it() {
    let home = Home::new();
    let _node = home.node(&["--source", "cam=test"]);
    let mut command = home.levada(&["play", "cam", "--out", "-"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut bytes = vec![0; 188 * 300];

    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut bytes).unwrap();
    drop(output);
    let status = until("the end of the process", || child.try_wait().unwrap());

    assert!(status.success());
    assert!(bytes.chunks(188).all(|packet| packet[0] == 0x47));
}

#[test]
fn a_player_gets_the_stream_and_closing_it_is_a_normal_end() {
    let home = Home::new();
    let _node = home.node(&["--source", "cam=test"]);
    let (folder, seen) = (home.path("bin"), home.path("seen.ts"));
    std::fs::create_dir(&folder).unwrap();
    let script = folder.join("ffplay");
    // Takes what it wants and is closed, as by its user.
    let text = format!(
        "#!/bin/sh\necho said by the player\nexec head -c 56400 > {}\n",
        seen.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = home.levada(&["play", "cam", "--player", "ffplay"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.display()));

    let ended = Process::start(command).end();

    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.output, "");
    let bytes = std::fs::read(&seen).unwrap();
    assert_eq!(bytes.len(), 56_400);
    assert!(bytes.chunks(188).all(|packet| packet[0] == 0x47));
}

#[test]
fn a_stream_played_with_latency_is_the_same_stream() {
    let home = Home::new();
    let _node = home.node(&["--source", "cam=test"]);
    let out = home.path("x.ts");
    let arguments = [
        "play",
        "cam",
        "--latency",
        "700ms",
        "--seconds",
        "3",
        "--out",
        out.to_str().unwrap(),
    ];

    let ended = home.run(&arguments);

    assert!(ended.status.success(), "{ended:?}");
    let recording = Recording::read_file(&out);
    assert!(
        recording.pictures.len() >= 60,
        "{}",
        recording.pictures.len()
    );
    recording.assert_is_part_of(&Recording::of_card(60));
}
