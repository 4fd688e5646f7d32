//! Who publishes how, and who then reads it how: real programs on both sides of a chain of three nodes.
//!
//! ```text
//!  publishers ─▶ studio ─▶ relay ─▶ venue        readers: at the studio, and two hops away at the venue
//! ```
//!
//! Each reading has to show the clip's pictures, one after another from the start of a group, of the right size and as
//! fast as they were recorded, with sound, and without a complaint of the player; and the session's record has to say
//! the transport that was asked for. `cargo xtask trial rtsp-matrix` reads everything in every way; the test alone
//! reads each stream in two and one of them in all.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it looked at"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use levada_lab::pictures::FRAMECRC;
use levada_lab::{Host, Net, Node, Process, Shown, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// Set by `cargo xtask trial rtsp-matrix`.
const LONG: &str = "LEVADA_MATRIX_LONG";
/// Readers at once: as many as two cores decode with ease.
const READERS: usize = 6;
/// Of the clips: one group lasts a second.
const GROUP_PICTURES: usize = 25;
const PICTURE_BYTES: usize = 160 * 120 * 3 / 2;
/// What a reader has to show: two seconds, but for what a decoder still holds when it is told to end, and for the time
/// by which a publisher's sound begins before its pictures.
const PICTURES_LEAST: usize = 40;
const SOUND_LEAST: f64 = 1.5;

/// A stream of the matrix: how it is published, and what of.
struct Stream {
    name: &'static str,
    clip: &'static str,
    by: By,
    /// RTP for its pictures is read by GStreamer too, and shown bit by bit as ffmpeg does.
    is_for_gstreamer: bool,
}

/// The program that a stream comes from, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// `levada publish FILE`.
    File,
    /// `levada publish udp://`, and ffmpeg.
    Datagrams,
    /// ffmpeg, by RTSP over this transport.
    Ffmpeg(&'static str),
    /// GStreamer's `rtspclientsink`.
    Gstreamer,
}

const fn stream(name: &'static str, clip: &'static str, by: By, is_for_gstreamer: bool) -> Stream {
    Stream {
        name,
        clip,
        by,
        is_for_gstreamer,
    }
}

const STREAMS: [Stream; 10] = [
    stream("mp4", "h264.mp4", By::File, true),
    stream("ts", "h264.ts", By::File, true),
    stream("hevc", "hevc.mp4", By::File, true),
    stream("vp9", "vp9.mp4", By::File, true),
    // GStreamer decodes JPEG by another transform.
    stream("mjpeg", "jpeg.mjpeg", By::File, false),
    stream("sound", "sound.m4a", By::File, false),
    stream("rtsp-tcp", "h264.mp4", By::Ffmpeg("tcp"), true),
    stream("rtsp-udp", "h264.mp4", By::Ffmpeg("udp"), true),
    stream("ts-udp", "h264.ts", By::Datagrams, true),
    stream("gst", "h264.mp4", By::Gstreamer, true),
];

/// What no player of Debian reads by RTSP: neither its ffmpeg nor its GStreamer has a depayloader. That it arrives two
/// hops away as what it is, is looked at all the same.
const UNREAD: Stream = stream("av1", "av1.mp4", By::File, false);

/// How the clips are made; each lasts long enough for all readers of the test.
const CLIPS: [(&str, &str); 6] = [
    (
        "h264.mp4",
        "-c:v libx264 -preset veryfast -bf 2 -x264-params keyint=25:scenecut=0:open-gop=0 -c:a aac",
    ),
    (
        "hevc.mp4",
        "-c:v libx265 -x265-params keyint=25:min-keyint=25:scenecut=0:open-gop=0:bframes=2:log-level=none -c:a libopus",
    ),
    (
        "av1.mp4",
        "-c:v libaom-av1 -cpu-used 8 -g 25 -b:v 200k -c:a aac",
    ),
    (
        "vp9.mp4",
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -b:v 200k -c:a libopus",
    ),
    ("jpeg.mjpeg", "-c:v mjpeg -huffman default -q:v 4 -an"),
    ("sound.m4a", "-vn -c:a aac"),
];
const CLIP_SECONDS: u32 = 20;
/// What GStreamer publishes does not repeat: it must last until the last reader has what it reads.
const LONG_CLIP_SECONDS: u32 = 300;
/// What ffmpeg says of any VP9 in RTP.
const EXPERIMENTAL: &str = "RTP/VP9 support is still experimental";

/// Where and how something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    is_at_venue: bool,
    is_gstreamer: bool,
    transport: &'static str,
}

fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for is_at_venue in [false, true] {
        for is_gstreamer in [false, true] {
            for transport in ["tcp", "udp", "multicast"] {
                ways.push(Way {
                    is_at_venue,
                    is_gstreamer,
                    transport,
                });
            }
        }
    }
    ways
}

/// What is read in the short form: the first stream in all ways, the others in two.
fn is_read(stream: &Stream, way: Way, is_long: bool) -> bool {
    let is_possible = !way.is_gstreamer || stream.is_for_gstreamer;
    let few = match (way.is_at_venue, way.transport) {
        (false, "tcp") => !way.is_gstreamer,
        (true, "udp") => way.is_gstreamer || !stream.is_for_gstreamer,
        _ => false,
    };
    is_possible && (is_long || stream.name == "mp4" || few)
}

/// Makes the clips in a folder, and says what is in them.
fn make_clips(folder: &Path) -> BTreeMap<&'static str, Shown> {
    let mut made = BTreeMap::new();
    for (name, codecs) in CLIPS {
        let is_long = name == "h264.mp4";
        let seconds = if is_long {
            LONG_CLIP_SECONDS
        } else {
            CLIP_SECONDS
        };
        let picture = format!("testsrc2=size=160x120:rate=25:duration={seconds}");
        let sound = format!("sine=duration={seconds}:sample_rate=48000");
        let mut command = ffmpeg();
        command.args(["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound]);
        command
            .args(codecs.split(' '))
            .args(["-pix_fmt", "yuv420p"]);
        if name == "jpeg.mjpeg" {
            command.args(["-pix_fmt", "yuvj420p"]);
        }
        let output = command.arg(folder.join(name)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        made.insert(name, Shown::of_file(&folder.join(name)).unwrap());
    }
    let mut copy = ffmpeg();
    copy.arg("-i")
        .arg(folder.join("h264.mp4"))
        .args(["-c", "copy"]);
    assert!(copy.arg(folder.join("h264.ts")).status().unwrap().success());
    made.insert("h264.ts", made["h264.mp4"].clone());
    made
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
    command
}

/// Starts whoever publishes a stream at the studio, and goes on for as long as it is held.
fn publish(stream: &Stream, studio: &Node, host: &Host, folder: &Path) -> Vec<Process> {
    let file = folder.join(stream.clip);
    let file = file.to_str().unwrap();
    let url = format!("rtsp://{}:8554/{}", host.address(), stream.name);
    let start = |label: &str, program: &str, words: &str| {
        let words = words.split(' ').filter(|word| !word.is_empty());
        Process::start_as(host, label, Path::new(program), words).unwrap()
    };
    let endless = format!("-nostdin -loglevel error -re -stream_loop -1 -i {file} -c copy");
    match stream.by {
        By::File => vec![studio.publish(stream.name, file).unwrap()],
        By::Datagrams => vec![
            studio.publish(stream.name, "udp://127.0.0.1:5000").unwrap(),
            start(
                "udp-in",
                "ffmpeg",
                &format!("{endless} -f mpegts udp://127.0.0.1:5000?pkt_size=1316"),
            ),
        ],
        By::Ffmpeg(transport) => {
            let to = format!("-f rtsp -rtsp_transport {transport} {url}");
            vec![start(transport, "ffmpeg", &format!("{endless} {to}"))]
        }
        By::Gstreamer => {
            let pipeline = format!(
                "-q rtspclientsink name=sink location={url} protocols=tcp \
                 filesrc location={file} ! qtdemux name=file \
                 file.video_0 ! queue ! h264parse config-interval=-1 ! identity sync=true ! sink. \
                 file.audio_0 ! queue ! aacparse ! identity sync=true ! sink."
            );
            vec![start("gst-in", "gst-launch-1.0", &pipeline)]
        }
    }
}

/// A player, and where it writes what it shows.
struct Reader<'a> {
    stream: &'a Stream,
    way: Way,
    label: String,
    process: Process,
    pictures: PathBuf,
    sound: PathBuf,
}

impl<'a> Reader<'a> {
    fn start(stream: &'a Stream, way: Way, host: &Host, node: &Host) -> Self {
        let label = format!(
            "{}-{}-{}-{}",
            stream.name,
            if way.is_at_venue { "far" } else { "near" },
            if way.is_gstreamer { "gst" } else { "ffmpeg" },
            way.transport
        );
        let url = format!("rtsp://{}:8554/{}", node.address(), stream.name);
        let pictures = host.file(&format!("{label}.pictures"));
        let sound = host.file(&format!("{label}.sound"));
        let process = if way.is_gstreamer {
            let protocol = way.transport.replace("multicast", "udp-mcast");
            let words = format!(
                "-q rtspsrc location={url} protocols={protocol} latency=1000 name=in \
                 in. ! application/x-rtp,media=video ! queue ! decodebin ! videoconvert ! video/x-raw,format=I420 \
                 ! filesink sync=false location={} \
                 in. ! application/x-rtp,media=audio ! queue ! decodebin ! audioconvert ! audioresample \
                 ! audio/x-raw,format=S16LE,channels=1,rate=48000 ! filesink sync=false location={}",
                pictures.display(),
                sound.display()
            );
            let words = words.split(' ').filter(|word| !word.is_empty());
            Process::start_as(host, &label, Path::new("gst-launch-1.0"), words)
        } else {
            let transport = way.transport.replace("multicast", "udp_multicast");
            let words = [
                "-nostdin",
                "-hide_banner",
                "-loglevel",
                "warning",
                "-rtsp_transport",
            ];
            // A channel is joined in the middle of a group.
            let is_channel = way.transport == "multicast";
            let seconds = if is_channel { "4" } else { "2" };
            let words = words
                .into_iter()
                .chain([&*transport, "-i", &url, "-t", seconds]);
            let words = words.chain(FRAMECRC).chain([pictures.to_str().unwrap()]);
            Process::start_as(host, &label, Path::new("ffmpeg"), words)
        };
        Self {
            stream,
            way,
            label,
            process: process.unwrap(),
            pictures,
            sound,
        }
    }

    /// Waits until it has shown enough, ends it, and says what it showed.
    fn shown(&mut self) -> anyhow::Result<Shown> {
        if !self.way.is_gstreamer {
            let status = self.process.ended(SOON);
            let said = self.process.log()?;
            // A channel is joined in the middle of a group, and ffmpeg complains until the next one.
            let is_allowed = |line: &str| line.is_empty() || line.contains(EXPERIMENTAL);
            let is_quiet = said.lines().all(is_allowed) || self.way.transport == "multicast";
            ensure!(status.success() && is_quiet, "{status}: {said}");
            return Shown::of_framecrc(&std::fs::read_to_string(&self.pictures)?);
        }
        let bytes = |file: &Path| std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        let (pictures, sound) = (PICTURES_LEAST * PICTURE_BYTES, 2 * 48_000 * 3 / 2);
        let begun = Instant::now();
        let is_enough = eventually(SOON * 2, &self.label, || {
            let has_pictures = bytes(&self.pictures) >= pictures as u64;
            let has_sound = bytes(&self.sound) >= sound as u64;
            let is_late = begun.elapsed() > SOON;
            (has_pictures && has_sound || is_late).then_some(!is_late)
        });
        self.process.interrupt()?;
        self.process.ended(SOON);
        let (pictures, sound) = (bytes(&self.pictures), bytes(&self.sound));
        let said = self.process.log()?;
        ensure!(
            is_enough,
            "it shows {pictures} bytes of pictures and {sound} of sound: {said}"
        );
        let raw = std::fs::read(&self.pictures)?;
        Ok(Shown {
            size: Some((160, 120)),
            pictures: Shown::checksums(&raw, PICTURE_BYTES),
            picture_seconds: 0.0,
            sound_seconds: SOUND_LEAST,
        })
    }

    /// Checks what it showed against its clip.
    fn check(&mut self, clip: &Shown) -> anyhow::Result<()> {
        let shown = self.shown()?;
        if clip.size.is_some() {
            ensure!(shown.size == clip.size, "{:?}", shown.size);
            let count = shown.pictures.len();
            ensure!(count >= PICTURES_LEAST, "{count} pictures");
            let place = clip.place(&shown.pictures)?;
            let is_start = place.is_multiple_of(GROUP_PICTURES) || self.stream.clip == "jpeg.mjpeg";
            ensure!(is_start, "it begins with picture {place}");
            // Where the clip begins anew, sound that is longer than the pictures makes a pause.
            let has_seam = place + count > clip.pictures.len();
            if !self.way.is_gstreamer && !has_seam {
                let due = (count - 2) as f64 / 25.0;
                let off = (shown.picture_seconds - due).abs();
                ensure!(off < 0.1, "{} s for {due}", shown.picture_seconds);
            }
        }
        let seconds = shown.sound_seconds;
        ensure!(
            clip.sound_seconds <= 0.0 || seconds >= SOUND_LEAST,
            "{seconds} s of sound"
        );
        Ok(())
    }
}

impl Reader<'_> {
    /// Checks that the node has recorded it, with the transport that was asked for.
    fn check_record(&self, node: &Node) -> anyhow::Result<()> {
        let agent = if self.way.is_gstreamer {
            "GStreamer"
        } else {
            "Lavf"
        };
        let transport = self.way.transport;
        let is_so = is_recorded(node, "play", self.stream.name, agent, transport);
        ensure!(is_so, "no record says so: {:?}", node.sessions());
        Ok(())
    }
}

/// Whether a row of streams says that one of them has such a track.
fn has_track(streams: &Value, name: &str, codec: &str) -> bool {
    let mut rows = streams.as_array().unwrap().iter();
    let row = rows.find(|row| row["name"].as_str() == Some(name));
    row.is_some_and(|row| row["tracks"].to_string().contains(codec))
}

/// Whether a record says that somebody played or published this, and that media really travelled so.
fn is_recorded(node: &Node, role: &str, stream: &str, agent: &str, transport: &str) -> bool {
    node.sessions().unwrap().iter().any(|row| {
        let is = |key: &str, value: &str| row[key].as_str() == Some(value);
        let says = row["agent"]
            .as_str()
            .is_some_and(|text| text.contains(agent));
        is("role", role) && is("stream", stream) && is("transport", transport) && says
    })
}

#[test]
fn what_anybody_publishes_anybody_plays_at_once_and_whole() {
    let is_long = std::env::var_os(LONG).is_some();
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    lan.snoop().unwrap();
    let names = ["studio", "relay", "venue", "player"];
    let [studio_host, relay_host, venue_host, player] =
        names.map(|name| net.host(name, &mut lan).unwrap());
    let folder = net.dir().to_owned();
    let clips = make_clips(&folder);
    let studio = Node::relay(&studio_host).unwrap();
    let _relay = Node::relay_beside(&relay_host, &studio_host).unwrap();
    let venue = Node::relay_beside(&venue_host, &relay_host).unwrap();
    studio.answers(SOON);
    let _publishers: Vec<_> = STREAMS
        .iter()
        .chain([&UNREAD])
        .map(|stream| publish(stream, &studio, &studio_host, &folder))
        .collect();
    for stream in &STREAMS {
        venue.learns(stream.name, SOON);
    }

    venue.learns(UNREAD.name, SOON);
    let streams = venue.view("streams").unwrap();
    assert!(has_track(&streams, UNREAD.name, "av1"), "{streams}");

    let places = [(&studio, &studio_host), (&venue, &venue_host)];
    let wrong = read_all(is_long, &clips, &player, places);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    for (name, agent, transport) in [
        ("rtsp-tcp", "Lavf", "tcp"),
        ("rtsp-udp", "Lavf", "udp"),
        ("gst", "GStreamer", "tcp"),
    ] {
        assert!(
            is_recorded(&studio, "publish", name, agent, transport),
            "{name}"
        );
    }
    check_controls(&clips, &studio, &studio_host, &player);
}

/// Reads what is to be read, some at once; says what is wrong. The places are those near and far.
fn read_all(
    is_long: bool,
    clips: &BTreeMap<&str, Shown>,
    player: &Host,
    places: [(&Node, &Host); 2],
) -> Vec<String> {
    let all = STREAMS
        .iter()
        .flat_map(|stream| ways().into_iter().map(move |way| (stream, way)));
    let all: Vec<_> = all
        .filter(|(stream, way)| is_read(stream, *way, is_long))
        .collect();
    let mut wrong = Vec::new();
    for some in all.chunks(READERS) {
        let mut readers: Vec<_> = some
            .iter()
            .map(|(stream, way)| {
                let (_, host) = places[usize::from(way.is_at_venue)];
                Reader::start(stream, *way, player, host)
            })
            .collect();
        for reader in &mut readers {
            let (node, _) = places[usize::from(reader.way.is_at_venue)];
            let mut result = reader.check(&clips[reader.stream.clip]);
            // Now and then GStreamer shows nothing by UDP, and why is not known yet: it may try once more, and says so.
            if reader.way.is_gstreamer
                && reader.way.transport == "udp"
                && let Err(error) = &result
            {
                println!("{}: once more, after {error:#}", reader.label);
                let (_, host) = places[usize::from(reader.way.is_at_venue)];
                *reader = Reader::start(reader.stream, reader.way, player, host);
                result = reader.check(&clips[reader.stream.clip]);
            }
            match result.and_then(|()| reader.check_record(node)) {
                Ok(()) => println!("{}: as it should be", reader.label),
                Err(error) => wrong.push(format!("{}: {error:#}", reader.label)),
            }
        }
    }
    println!("{} readings", all.len());
    wrong
}

/// What must fail does: a stream that nobody publishes, and pictures, records and complaints that are not the ones.
fn check_controls(clips: &BTreeMap<&str, Shown>, studio: &Node, host: &Host, player: &Host) {
    let nobody = stream("nobody", "h264.mp4", By::File, true);
    let way = Way {
        is_at_venue: false,
        is_gstreamer: false,
        transport: "tcp",
    };
    let mut reader = Reader::start(&nobody, way, player, host);
    assert!(!reader.process.ended(SOON).success());
    assert!(reader.process.log().unwrap().contains("404"));

    let wrong = &clips["vp9.mp4"].pictures;
    assert!(clips["h264.mp4"].place(wrong).is_err());
    assert!(!is_recorded(studio, "play", "nobody", "Lavf", "tcp"));
}
