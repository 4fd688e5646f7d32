//! Motion JPEG of ffmpeg, and ours read by it. Needs ffmpeg; `cargo xtask test` installs it.
//!
//! Invariant under test: as many images come out as went in, in each form, and nobody complains.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Stdio};

use levada_media::mjpeg::{Splitter, part};

fn run(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("ffmpeg does not start ({error}): install ffmpeg (Debian: apt install ffmpeg), or run cargo \
                 xtask test as root")
        });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    output.stdout
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut splitter, mut images) = (Splitter::new(), Vec::new());
    for chunk in bytes.chunks(1_000) {
        splitter.push(chunk, |image| images.push(image.to_vec()));
    }
    assert_eq!(splitter.junk(), 0);
    images
}

fn decoded(path: &Path, format: &str) -> usize {
    let decoded = run(&[
        "-f",
        format,
        "-i",
        path.to_str().unwrap(),
        "-f",
        "framecrc",
        "-",
    ]);
    let decoded = String::from_utf8(decoded).unwrap();
    decoded
        .lines()
        .filter(|line| line.starts_with("0,"))
        .count()
}

#[test]
fn images_go_from_ffmpeg_to_us_and_back() {
    let input = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=160x120:rate=25:duration=1",
        "-c:v",
        "mjpeg",
    ];
    let encode =
        |format: &str| run(&[&input[..], &["-pix_fmt", "yuvj420p", "-f", format, "-"]].concat());
    let folder = tempfile::tempdir().unwrap();

    let images = split(&encode("mjpeg"));

    assert_eq!(images.len(), 25);
    assert_eq!(split(&encode("mpjpeg")), images);
    let parted = images
        .iter()
        .map(|image| [part(image.len()).as_bytes(), image, b"\r\n"].concat());
    let digits = images
        .iter()
        .map(|image| [format!("{:05}", image.len()).as_bytes(), image].concat());
    assert_eq!(split(&digits.collect::<Vec<_>>().concat()), images);
    let path = folder.path().join("parts");
    std::fs::write(&path, parted.collect::<Vec<_>>().concat()).unwrap();
    assert_eq!(decoded(&path, "mpjpeg"), 25);
}
