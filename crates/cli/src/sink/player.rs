//! Players: programs of other people that show a transport stream from their standard input.
//!
//! Not gateways, to which players connect by themselves. Called by `play`. Invariant: a player that is closed by its
//! user is a normal end.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use levada::StreamName;
use tokio::process::{Child, Command};

/// A player that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Player {
    Vlc,
    Mpv,
    Ffplay,
}

/// In the order in which they are looked for.
const ALL: [Player; 3] = [Player::Mpv, Player::Vlc, Player::Ffplay];

impl Player {
    /// A player that is installed.
    pub(crate) fn installed() -> anyhow::Result<Self> {
        let found = ALL.into_iter().find(|player| player.find().is_some());
        found.context(
            "no player is installed: install mpv, VLC or ffplay (Debian: `apt install mpv`), \
             or write the stream with `--out FILE`, or to another program with `--out - | PROGRAM`",
        )
    }

    /// Makes sure that it is installed.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        let package = match self {
            Self::Vlc => "vlc",
            Self::Mpv => "mpv",
            Self::Ffplay => "ffmpeg",
        };
        self.find().map(drop).with_context(|| {
            format!(
                "{self} is not installed: install it (Debian: `apt install {package}`), or choose another with \
                 --player"
            )
        })
    }

    /// Starts it.
    pub(super) fn start(self, stream: &StreamName) -> anyhow::Result<Child> {
        let program = self.find();
        let program = program.with_context(|| format!("{self} is not installed any more"))?;
        Command::new(program)
            .args(self.arguments(stream))
            .stdin(Stdio::piped())
            // Standard output is ours; what the player has to say is for the terminal.
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {self}"))
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Vlc => "vlc",
            Self::Mpv => "mpv",
            Self::Ffplay => "ffplay",
        }
    }

    fn arguments(self, stream: &StreamName) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Vlc => &["--quiet", "--play-and-exit", "--demux=ts"],
            Self::Mpv => &[
                "--really-quiet",
                "--demuxer-lavf-format=mpegts",
                "--force-window=immediate",
            ],
            Self::Ffplay => &[
                "-hide_banner",
                "-loglevel",
                "error",
                "-autoexit",
                "-f",
                "mpegts",
            ],
        };
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::Vlc => arguments.push(format!("--meta-title={stream}")),
            Self::Mpv => arguments.push(format!("--title={stream}")),
            Self::Ffplay => arguments.extend([
                "-window_title".to_owned(),
                stream.to_string(),
                "-i".to_owned(),
            ]),
        }
        arguments.push("-".to_owned());
        arguments
    }

    fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path).map(|dir| {
            let name = format!("{}{}", self.program(), std::env::consts::EXE_SUFFIX);
            dir.join(name)
        });
        places.find(|place| place.is_file())
    }
}

impl fmt::Display for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vlc => "VLC",
            Self::Mpv => "mpv",
            Self::Ffplay => "ffplay",
        })
    }
}
