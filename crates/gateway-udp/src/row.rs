//! What can be seen of an output, as `levada outputs --json` prints it.
//!
//! Not how it came to be. Made by `output`. Invariant: a field's unit is last in its name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Nothing of the stream has come yet.
    Waiting,
    /// The stream comes and is sent.
    Running,
    /// The stream is away; with a constant rate, null packets are sent on.
    Held,
    /// Nothing can be sent; why, the reason says. It is tried again.
    Failed,
    /// Somebody in charge ended its session: it stays so until the configuration changes.
    Ended,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Ended => "ended",
        })
    }
}

/// One output as a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// The stream's name.
    pub stream: String,
    /// Where it is sent to: `udp://239.1.1.1:5000`.
    pub to: String,
    /// How far it is.
    pub state: State,
    /// Why it is not running, or what is wrong though it is; with what to do.
    pub reason: Option<String>,
    /// The constant rate; none where frames leave as they come.
    pub rate_bps: Option<u64>,
    /// What the frames alone needed, in the busiest of the last ten seconds.
    pub needed_bps: u64,
    /// The address of ours that it is sent from; none if the system chooses.
    pub interface: Option<String>,
    /// How many routers it passes at most.
    pub ttl: u32,
    /// Whether it is announced by SAP.
    pub announced: bool,
    /// Bytes of datagrams.
    pub bytes: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// Datagrams that left more than half a millisecond late.
    pub datagrams_late: u64,
    /// Datagrams that the system refused.
    pub datagrams_refused: u64,
    /// Packets that fill up the rate.
    pub null_packets: u64,
    /// Frames that left.
    pub frames: u64,
    /// Frames that the rate had no room for.
    pub frames_over_rate: u64,
    /// Frames that refer to one that did not leave.
    pub frames_skipped: u64,
    /// Frames that came too late, or before the first group.
    pub frames_late: u64,
}
