//! What other programs send as RTP. Needs ffmpeg; `cargo xtask test` installs it.
//!
//! Invariant under test: each packet that ffmpeg put into its own file comes back from its RTP: the same times, the
//! same keys, in the same order.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use levada_media::rtp::{Batch, Packer, Unpacker};
use levada_media::sdp::Session;
use levada_wire::{FlowId, Frame, TrackKind};

/// Runs an ffmpeg program and gives what it wrote.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(["-hide_banner", "-loglevel", "error"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{program} does not start ({error}): install ffmpeg (Debian: apt install ffmpeg), or run cargo \
                 xtask test as root"
            )
        });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed: {said}");
    output.stdout
}

/// A second of a test picture, or of a tone, in a file.
fn encode(path: &str, codec: &[&str], is_video: bool) {
    let input = if is_video {
        "testsrc2=size=160x120:rate=25:duration=1"
    } else {
        "sine=duration=1:sample_rate=48000"
    };
    let mut arguments = vec!["-y", "-f", "lavfi", "-i", input];
    arguments.extend(codec);
    arguments.extend(["-f", "nut", path]);
    run("ffmpeg", &arguments);
}

/// Times (pts, dts, key) of a file's packets, from the first dts on, in microseconds.
fn probe(path: &str) -> Vec<(i64, i64, bool)> {
    let entries = "packet=pts_time,dts_time,flags";
    let text = run(
        "ffprobe",
        &["-show_entries", entries, "-of", "compact=p=0:nk=1", path],
    );
    // A time that the file does not know is far down, as those before the first picture.
    let micros = |text: &str| {
        text.parse::<f64>()
            .map_or(i64::MIN / 2, |seconds| (seconds * 1e6).round() as i64)
    };
    let lines = String::from_utf8(text).unwrap();
    let parse = |line: &str| {
        let fields: Vec<_> = line.split('|').collect();
        (
            micros(fields[0]),
            micros(fields[1]),
            fields[2].starts_with('K'),
        )
    };
    let lines = lines.lines().filter(|line| !line.is_empty());
    relative(lines.map(parse).collect())
}

fn relative(mut times: Vec<(i64, i64, bool)>) -> Vec<(i64, i64, bool)> {
    let first = times[0].0;
    for time in &mut times {
        time.0 -= first;
        time.1 -= first;
    }
    times
}

/// Sends a file and gives the SDP and the packets that came.
fn send(path: &str, more: &[&str]) -> (Session, Vec<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("rtp://{}?pkt_size=1200", socket.local_addr().unwrap());
    let reader = std::thread::spawn(move || {
        // Its end is the sender's farewell, or silence once it is gone.
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let (mut packets, mut bytes) = (Vec::new(), vec![0; 65_536]);
        while let Ok(length) = socket.recv(&mut bytes) {
            if length == 3 {
                break;
            }
            packets.push(bytes[..length].to_vec());
        }
        packets
    });
    // At once the second would overflow the socket.
    let mut arguments = vec!["-readrate", "5", "-i", path, "-c", "copy"];
    arguments.extend(more);
    arguments.extend(["-f", "rtp", &url]);
    let sdp = run("ffmpeg", &arguments);
    let end = url
        .trim_start_matches("rtp://")
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(b"end", end)
        .unwrap();
    let packets = reader.join().unwrap();
    // The text begins behind a line of ffmpeg's own.
    let text = String::from_utf8_lossy(&sdp).into_owned();
    let start = text.find("v=0").unwrap_or_else(|| panic!("no SDP: {text}"));
    (Session::parse(&text.as_bytes()[start..]).unwrap(), packets)
}

fn unpack(session: &Session, packets: &[Vec<u8>]) -> Vec<Frame> {
    let media = &session.media[0];
    let (mut unpacker, mut frames) = (Unpacker::new(&media.track, &media.mapping), Vec::new());
    for packet in packets {
        unpacker.push(packet, &mut frames);
    }
    unpacker.finish(&mut frames);
    let counts = unpacker.counts();
    assert_eq!(
        (counts.lost, counts.bad, counts.damaged),
        (0, 0, 0),
        "{counts:?}"
    );
    frames
}

/// Packs frames for ffmpeg, which is to decode half of them without a complaint.
fn play(session: &Session, frames: &[Frame], folder: &Path) {
    let port = free_port();
    let mut media = session.media[0].clone();
    let mut packer = Packer::new(FlowId(7), &media.track, 96).unwrap();
    media.mapping = packer.mapping().clone();
    media.mapping.encoding.learn(&frames[0].data);
    media.port = port;
    let is_video = media.track.kind == TrackKind::Video;
    let sdp = Session {
        address: Some("127.0.0.1".to_owned()),
        media: vec![media],
        ..Session::default()
    };
    let path = folder.join("our.sdp");
    std::fs::write(&path, sdp.write()).unwrap();
    let half = (frames.len() / 2).to_string();
    let child = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-loglevel",
            "warning",
            "-protocol_whitelist",
            "file,udp,rtp",
        ])
        .args([
            "-threads",
            "1",
            "-analyzeduration",
            "100000",
            "-probesize",
            "20000",
        ])
        .args([
            "-i",
            path.to_str().unwrap(),
            if is_video { "-frames:v" } else { "-frames:a" },
            &half,
            "-f",
            "framecrc",
            "-",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_port(port);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for frame in frames {
        let mut batch = Batch::new();
        packer.pack(frame, &mut batch).unwrap();
        for packet in batch.packets() {
            // Gone when it has what it was to decode.
            let _ = socket.send_to(packet, ("127.0.0.1", port));
        }
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The one thing it says of any VP9.
    let mut complaints = said
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("VP9 support is still"));
    let is_good = output.status.success() && complaints.next().is_none();
    assert!(is_good, "{}: {said}", sdp.write());
    let decoded = String::from_utf8(output.stdout).unwrap();
    let decoded = decoded
        .lines()
        .filter(|line| line.starts_with("0,"))
        .count();
    assert_eq!(decoded.to_string(), half, "{}", sdp.write());
}

/// An even port with a free one behind it, for RTP and RTCP.
fn free_port() -> u16 {
    loop {
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
            & !1;
        let is_free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}

/// Until somebody has bound the port behind this one, which ffmpeg does last.
fn wait_for_port(port: u16) {
    let wanted = format!(":{:04X} ", port + 1);
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
        if sockets.contains(&wanted) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("ffmpeg does not listen");
}

fn micros(frames: &[Frame], timescale: u32) -> Vec<(i64, i64, bool)> {
    let micros = |ticks: i64| (ticks as f64 * 1e6 / f64::from(timescale)).round() as i64;
    let times = frames
        .iter()
        .map(|frame| (micros(frame.pts), micros(frame.dts), frame.sync));
    relative(times.collect())
}

/// Word, how ffmpeg encodes it, what else it wants to send it.
const CLIPS: [(&str, &[&str], &[&str]); 12] = [
    ("h264", &["-c:v", "libx264", "-g", "10", "-bf", "2"], &[]),
    (
        "h264",
        &[
            "-c:v",
            "libx264",
            "-tune",
            "zerolatency",
            "-threads",
            "1",
            "-g",
            "10",
        ],
        &[],
    ),
    (
        "h265",
        &[
            "-c:v",
            "libx265",
            "-x265-params",
            "log-level=none:keyint=10",
            "-bf",
            "2",
        ],
        &[],
    ),
    ("vp8", &["-c:v", "libvpx", "-g", "10"], &[]),
    (
        "vp9",
        &["-c:v", "libvpx-vp9", "-g", "10", "-deadline", "realtime"],
        &["-strict", "experimental"],
    ),
    (
        "mjpeg",
        &[
            "-c:v", "mjpeg", "-huffman", "default", "-pix_fmt", "yuvj420p", "-q:v", "5",
        ],
        &[],
    ),
    ("aac", &["-c:a", "aac"], &[]),
    ("aac", &["-c:a", "aac"], &["-rtpflags", "latm"]),
    ("opus", &["-c:a", "libopus"], &[]),
    (
        "pcmu",
        &["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"],
        &[],
    ),
    ("mp3", &["-c:a", "libmp3lame"], &[]),
    ("mp3", &["-c:a", "mp2", "-b:a", "384k"], &[]),
];

#[test]
fn what_ffmpeg_sends_is_what_its_file_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.nut");
    let path = path.to_str().unwrap();
    for (word, codec, more) in CLIPS {
        encode(path, codec, codec[0] == "-c:v");

        let (session, packets) = send(path, more);
        let frames = unpack(&session, &packets);

        let track = &session.media[0].track;
        assert_eq!(track.codec, word);
        play(&session, &frames, folder.path());
        let (ours, theirs) = (micros(&frames, track.timescale.get()), probe(path));
        if word == "pcmu" {
            // ffmpeg sends samples in pieces of its own.
            let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
            assert_eq!(bytes, 8_000);
            continue;
        }
        // ffmpeg gathers small frames of these and keeps what it has gathered when the file ends.
        let kept = if matches!(word, "aac" | "mp3") { 8 } else { 0 };
        assert!(
            ours.len() + kept >= theirs.len(),
            "{codec:?} {more:?}: {} of {}",
            ours.len(),
            theirs.len()
        );
        for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let near = |a: i64, b: i64| a.abs_diff(b) <= 25;
            // How long before the first picture it is decoded is our choice.
            let is_first = theirs.1 <= 0;
            assert!(
                near(ours.0, theirs.0)
                    && (is_first || near(ours.1, theirs.1))
                    && ours.2 == theirs.2,
                "{codec:?} {more:?}: packet {n} is at {ours:?} and not at {theirs:?}"
            );
        }
    }
}
