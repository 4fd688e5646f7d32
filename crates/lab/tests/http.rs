//! Players and a browser at a node that is two hops away from the publisher, by HTTP.
//!
//! ```text
//!   origin ──▶ hub ──▶ edge ──HTTP──▶ viewer: ffmpeg, GStreamer, Chromium
//! ```

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::Duration;

use levada_lab::{Browser, Host, Net, Node, Process, clip_file, eventually};

const SOON: Duration = Duration::from_secs(60);

/// The network of all stories here.
struct Scene {
    _net: Net,
    viewer: Host,
    second: Host,
    origin: Node,
    _nodes: [Node; 2],
    base: String,
}

impl Scene {
    fn new() -> Self {
        let mut net = Net::new().unwrap();
        let mut lan = net.lan("lan").unwrap();
        let names = ["origin", "hub", "edge", "viewer", "second"];
        let [origin, hub, edge, viewer, second] =
            names.map(|name| net.host(name, &mut lan).unwrap());
        let hub_node = Node::relay(&hub).unwrap();
        let edge_node = Node::relay_beside(&edge, &hub).unwrap();
        let origin = Node::origin(&origin, "cam", &clip_file(), &hub).unwrap();
        edge_node.learns("cam", SOON);
        let base = format!("http://{}:8080/live", edge.address());
        Self {
            _net: net,
            viewer,
            second,
            origin,
            _nodes: [hub_node, edge_node],
            base,
        }
    }

    /// Runs a player to its end: whether it was content, and what it said.
    fn play(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let mut player = Process::start(&self.viewer, Path::new(program), arguments).unwrap();
        let status = player.ended(SOON);
        let said = format!("{}{}", player.log().unwrap(), player.output().unwrap());
        (status.success(), said)
    }

    /// Has ffmpeg decode four seconds, and fail at the first error.
    fn ffmpeg(&self, path: &str) -> (bool, String) {
        let url = format!("{}/{path}", self.base);
        let arguments = [
            "-nostdin",
            "-loglevel",
            "error",
            "-xerror",
            "-i",
            &url,
            "-t",
            "4",
            "-f",
            "null",
            "-",
        ];
        self.play("ffmpeg", &arguments)
    }

    /// Has GStreamer decode a hundred pictures.
    fn gstreamer(&self, path: &str, demuxer: &str) -> (bool, String) {
        let location = format!("location={}/{path}", self.base);
        let pipeline = [
            "-q",
            "souphttpsrc",
            &location,
            "!",
            demuxer,
            "!",
            "h264parse",
            "!",
            "avdec_h264",
            "!",
        ];
        let arguments = [&pipeline[..], &["fakesink", "num-buffers=100"]].concat();
        self.play("gst-launch-1.0", &arguments)
    }
}

#[test]
fn real_players_decode_every_form_two_hops_away() {
    let scene = Scene::new();

    for path in ["cam.ts", "cam.mp4", "cam/index.m3u8"] {
        let (is_content, said) = scene.ffmpeg(path);
        assert!(is_content, "ffmpeg, {path}: {said}");
    }
    for (path, demuxer) in [("cam.ts", "tsdemux"), ("cam.mp4", "qtdemux")] {
        let (is_content, said) = scene.gstreamer(path, demuxer);
        assert!(is_content, "GStreamer, {path}: {said}");
    }
    // The control: what nobody offers pleases no player.
    for path in ["nobody.ts", "nobody.mp4", "nobody/index.m3u8"] {
        assert!(!scene.ffmpeg(path).0, "ffmpeg plays {path}");
    }
    assert!(!scene.gstreamer("nobody.ts", "tsdemux").0);
}

/// A number made of all that is painted at the moment.
const PAINTED: &str = "(() => { const video = document.getElementById('video'); \
    const canvas = document.createElement('canvas'); canvas.width = 160; canvas.height = 90; \
    const context = canvas.getContext('2d'); context.drawImage(video, 0, 0, 160, 90); \
    return context.getImageData(0, 0, 160, 90).data.reduce((sum, byte) => (sum * 31 + byte) % 1000003, 7); })()";

/// What the page says of itself, without the single latencies.
const STATE: &str =
    "(() => { const { latencies, ...rest } = window.levada; return JSON.stringify(rest); })()";

#[test]
fn a_browser_paints_changing_pictures_and_says_how_old_they_are() {
    let scene = Scene::new();
    let mut browser = Browser::open(&scene.viewer, &format!("{}/cam", scene.base)).unwrap();
    let frames = |browser: &mut Browser| {
        browser
            .evaluate("window.levada?.frames ?? 0")
            .unwrap()
            .as_u64()
            .unwrap()
    };

    eventually(SOON, "a hundred painted frames", || {
        (frames(&mut browser) >= 100).then_some(())
    });
    let first = browser.evaluate(PAINTED).unwrap();
    eventually(SOON, "another picture", || {
        (browser.evaluate(PAINTED).unwrap() != first).then_some(())
    });
    eventually(SOON, "a latency", || {
        browser
            .evaluate("Number(document.getElementById('latency').value)")
            .unwrap()
            .as_f64()
            .filter(|latency| *latency > 0.0)
    });

    let state = browser.evaluate(STATE).unwrap();
    println!("{state}");
    assert_eq!(browser.evaluate("window.levada.way").unwrap(), "MSE");
    assert_eq!(
        browser
            .evaluate("document.getElementById('status').textContent")
            .unwrap(),
        "Playing"
    );

    // The other way, for where something between holds back what has no end.
    let mut other = Browser::open(&scene.second, &format!("{}/cam?way=hls", scene.base)).unwrap();
    eventually(SOON, "a hundred painted frames by LL-HLS", || {
        (frames(&mut other) >= 100).then_some(())
    });
    let state = other.evaluate(STATE).unwrap();
    println!("{state}");
    assert_eq!(other.evaluate("window.levada.way").unwrap(), "LL-HLS");
    drop(other);

    // The control: without the origin no picture comes, and the same number says so.
    let mut origin = scene.origin;
    origin.process().kill().unwrap();
    let mut last = (frames(&mut browser), 0);
    eventually(SOON, "the pictures to stand still", || {
        let now = frames(&mut browser);
        last = if now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        (last.1 >= 50).then_some(())
    });
    let still = browser.evaluate(PAINTED).unwrap();
    assert_eq!(browser.evaluate(PAINTED).unwrap(), still);
}
