//! Files that ffmpeg makes and looks at, for the tests of MP4.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};

use levada_media::mp4::Reader;
use levada_wire::{Frame, TrackId};

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(["-hide_banner", "-loglevel", "error"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} does not start ({error}): install ffmpeg (Debian: apt install ffmpeg), or run cargo \
                 xtask test as root")
        });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed: {said}");
    assert_eq!(said, "", "{program} {arguments:?} complains");
    String::from_utf8(output.stdout).unwrap()
}

/// A second and a half of picture and sound.
pub(crate) fn encode(path: &Path, codecs: &[&str]) -> Vec<u8> {
    let path = path.to_str().unwrap();
    let picture = "testsrc2=size=160x120:rate=25:duration=1.5";
    let sound = "sine=duration=1.5:sample_rate=48000";
    let mut arguments = vec![
        "-y", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound,
    ];
    arguments.extend(codecs);
    arguments.push(path);
    run("ffmpeg", &arguments);
    std::fs::read(path).unwrap()
}

/// Times of the packets of each stream, in ticks, but for sound that ends before zero.
pub(crate) fn probe(path: &Path) -> BTreeMap<usize, Vec<(i64, i64)>> {
    let entries = "packet=stream_index,pts,dts,duration";
    let text = run(
        "ffprobe",
        &[
            "-show_entries",
            entries,
            "-of",
            "compact=p=0:nk=1",
            path.to_str().unwrap(),
        ],
    );
    let mut times: BTreeMap<usize, Vec<(i64, i64)>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<i64> = line
            .split('|')
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let stream = usize::try_from(fields[0]).unwrap();
        if stream == 0 || fields[1] >= 0 || fields[1] + fields[3] > 0 {
            times
                .entry(stream)
                .or_default()
                .push((fields[1], fields[2]));
        }
    }
    times
}

pub(crate) fn read(bytes: &[u8]) -> (Reader<Cursor<&[u8]>>, Vec<Frame>) {
    let mut reader = Reader::open(Cursor::new(bytes)).unwrap();
    let frames = std::iter::from_fn(|| reader.next_frame().unwrap()).collect();
    (reader, frames)
}

pub(crate) fn of(frames: &[Frame], track: u8) -> Vec<(i64, i64)> {
    let own = frames.iter().filter(|frame| frame.track == TrackId(track));
    own.map(|frame| (frame.pts, frame.dts)).collect()
}
