//! A television's view: a node sends a stream out to a multicast group, a plain socket on the LAN gets it, VLC finds
//! it, and no node takes it in again.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use levada_lab::{Host, Net, Node, Process, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 7, 1);
const RATE: f64 = 4e6;

/// A node that sends the test card out, and a television.
struct Scene {
    _net: Net,
    node: Node,
    television: Host,
    other: Host,
}

impl Scene {
    fn new() -> Self {
        let mut net = Net::new().unwrap();
        let mut lan = net.lan("lan").unwrap();
        let names = ["node", "television", "other"];
        let [host, television, other] = names.map(|name| net.host(name, &mut lan).unwrap());
        let config = host.file("toml");
        let address = host.address();
        std::fs::write(
            &config,
            format!(
                "[[publish]]\nname = \"card\"\nsource = \"test\"\n\
                 [[output]]\nname = \"card\"\nto = \"udp://{GROUP}:5000\"\nrate = \"4Mb/s\"\ninterface = \"{address}\"\n\
                 [[output]]\nname = \"card\"\nto = \"rtp://{GROUP}:5002\"\ninterface = \"{address}\"\nannounce = false\n"
            ),
        )
        .unwrap();
        let words = ["--no-multicast", "--config", config.to_str().unwrap()];
        let node = Node::member(&host, &words).unwrap();
        television.join(GROUP).unwrap();
        Self {
            _net: net,
            node,
            television,
            other,
        }
    }

    /// What a television says of ten seconds.
    fn watch(&self, port: u16) -> Value {
        let peer = Path::new(env!("CARGO_BIN_EXE_lab-peer"));
        let address = format!("{GROUP}:{port}");
        let mut watching =
            Process::start(&self.television, peer, ["television", &address, "10"]).unwrap();
        let status = watching.ended(SOON);
        assert!(status.success(), "{}", watching.log().unwrap());
        let report = watching.output().unwrap();
        println!("{report}");
        serde_json::from_str(report.trim()).unwrap()
    }
}

fn number(report: &Value, key: &str) -> f64 {
    report.pointer(key).and_then(Value::as_f64).unwrap()
}

#[test]
fn a_television_finds_no_fault_with_a_constant_rate() {
    let scene = Scene::new();

    let report = scene.watch(5_000);

    for fault in ["/malformed", "/continuity_breaks"] {
        assert!(number(&report, fault) == 0.0, "{fault}: {report}");
    }
    assert!(number(&report, "/null_packets") > 0.0, "{report}");
    let off = number(&report, "/rate_bps") / RATE - 1.0;
    assert!(off.abs() < 0.01, "{report}");
    assert!(number(&report, "/clock_gap_ms") <= 40.0, "{report}");
    // That the clock says when it leaves is proven where time is ours (`levada_media::ts`); here it is printed, and
    // held only against what a clock of decoding times would give.
    assert!(
        number(&report, "/clock_jitter_us/p50") < 5_000.0,
        "{report}"
    );
    let row = &scene.node.view("outputs").unwrap()[0];
    assert_eq!(row["state"], "running", "{row}");
    assert_eq!(row["frames_late"], 0, "{row}");
    let sessions = scene.node.sessions().unwrap();
    assert!(
        sessions.iter().any(|row| row["protocol"] == "udp-ts"),
        "{sessions:?}"
    );
}

#[test]
fn rtp_has_the_same_in_order_and_real_players_decode_it() {
    let scene = Scene::new();

    let report = scene.watch(5_002);

    for fault in ["/malformed", "/continuity_breaks", "/rtp_breaks"] {
        assert!(number(&report, fault) == 0.0, "{fault}: {report}");
    }
    assert_eq!(report["is_rtp"], true);
    assert!(number(&report, "/null_packets") == 0.0, "{report}");
    for url in [
        format!(
            "udp://{GROUP}:5000?localaddr={}",
            scene.television.address()
        ),
        format!(
            "rtp://{GROUP}:5002?localaddr={}",
            scene.television.address()
        ),
    ] {
        let arguments = [
            "-nostdin",
            "-loglevel",
            "fatal",
            "-i",
            &url,
            "-map",
            "0:v",
            "-frames:v",
            "50",
            "-f",
            "null",
            "-",
        ];
        let mut player = Process::start(&scene.television, Path::new("ffmpeg"), arguments).unwrap();
        let status = player.ended(SOON);
        assert!(status.success(), "{url}: {}", player.log().unwrap());
    }
}

#[test]
fn no_node_of_the_network_takes_an_output_in_again() {
    let scene = Scene::new();
    let url = format!("udp://{GROUP}:5000?localaddr={}", scene.other.address());
    let refused = || {
        let mut publisher = Process::start(
            &scene.other,
            &levada_lab::node::binary().unwrap(),
            [
                "publish",
                "again",
                &url,
                "--state",
                scene.other.file("state").to_str().unwrap(),
            ],
        )
        .unwrap();
        let status = publisher.ended(SOON);
        (status.success(), publisher.log().unwrap())
    };

    let (is_content, said) = refused();

    assert!(!is_content, "{said}");
    assert!(said.contains("output of this very network"), "{said}");
}

#[test]
fn vlc_finds_what_is_announced() {
    let scene = Scene::new();
    eventually(SOON, "the output to run", || {
        let rows = scene.node.view("outputs").ok()?;
        (rows[0]["announced"] == true).then_some(())
    });

    // VLC does not run as root.
    let words = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "HOME=/nonexistent",
        "cvlc",
        "-vv",
        "--intf",
        "dummy",
        "--services-discovery",
        "sap",
        "--miface",
        "eth0",
        "--no-audio",
        "--no-video",
    ];
    let vlc = Process::start(&scene.television, Path::new("setpriv"), words).unwrap();

    eventually(SOON, "VLC to list the stream", || {
        let said = format!("{}{}", vlc.log().unwrap(), vlc.output().unwrap());
        said.contains("adding: card").then_some(())
    });
}
