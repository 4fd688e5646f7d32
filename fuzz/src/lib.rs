//! The fuzz targets: one plain function per decoder that is given bytes by strangers.
//!
//! | what | where |
//! |---|---|
//! | the table of targets, by name | [`TARGETS`] |
//! | what each does with its bytes | [`targets`], [`media`] |
//! | inputs that were kept | `fuzz/corpus/TARGET/` |
//! | replay of those inputs, part of `cargo xtask test` | `fuzz/tests/replay.rs` |
//! | fuzzing proper, with libFuzzer | `fuzz/libfuzzer/`, see `fuzz/README.md` |
//!
//! Not a fuzzer: nothing here makes inputs. To add a decoder: write its function, give it a line in [`TARGETS`] and one
//! in `fuzz/libfuzzer/Cargo.toml`, and commit at least one input. Called by `replay.rs` and by `fuzz/libfuzzer`.
//! Invariant: a target panics for a bug and for nothing else, and does the same for the same bytes.

#![forbid(unsafe_code)]

pub mod media;
pub mod seeds;
pub mod targets;

/// One decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its corpus and of its libFuzzer program.
    pub name: &'static str,
    /// Gives it an input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "announce",
        run: targets::announce,
    },
    Target {
        name: "control",
        run: targets::control,
    },
    Target {
        name: "frame",
        run: targets::frame,
    },
    Target {
        name: "http",
        run: targets::http,
    },
    Target {
        name: "link",
        run: targets::link,
    },
    Target {
        name: "mjpeg",
        run: media::mjpeg,
    },
    Target {
        name: "mp4",
        run: media::mp4,
    },
    Target {
        name: "packet",
        run: targets::packet,
    },
    Target {
        name: "parity",
        run: targets::parity,
    },
    Target {
        name: "playlist",
        run: targets::playlist,
    },
    Target {
        name: "rtcp",
        run: media::rtcp,
    },
    Target {
        name: "rtp",
        run: media::rtp,
    },
    Target {
        name: "rtsp",
        run: targets::rtsp,
    },
    Target {
        name: "sdp",
        run: media::sdp,
    },
    Target {
        name: "site",
        run: targets::site,
    },
    Target {
        name: "ticket",
        run: targets::ticket,
    },
    Target {
        name: "ts",
        run: media::ts,
    },
];

/// Gives the target of that name an input.
///
/// # Panics
///
/// If there is none of that name; or for the bug it found.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target
        .expect("each program of fuzz/libfuzzer is named after a target")
        .run)(input);
}
