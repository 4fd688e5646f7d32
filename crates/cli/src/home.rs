//! Where the state of this user's nodes is.
//!
//! ```text
//! BASE              $LEVADA_STATE, else $XDG_STATE_HOME/levada, else ~/.local/state/levada
//!   levada.toml     the configuration that `levada run` reads unless it is given another
//!   node/           the node of `levada run`, which other commands look for
//!   own/            nodes that `publish` and `play` run for themselves
//!     publish-cam/
//!     play-cam/
//!     play-cam-2/   while another command has the first
//!   demo/           the nodes of `demo`, while it runs
//! ```
//!
//! Not what is in a state directory, which is the library's. Called by every command that has or seeks a node.
//! Invariant: two commands of the same kind and stream never share a state directory at the same time.

use std::path::{Path, PathBuf};

use levada::state::StateError;
use levada::{Builder, Node, StartError, StreamName};

/// Of one command for one stream, how many may run at once.
const OWN_MAX: usize = 64;
/// Of a stream's name, what goes into a directory's. The path of a local socket has at most 107 bytes (unix(7)); two
/// streams that begin alike take turns like two commands for one stream.
const STEM_CHARS_MAX: usize = 32;

/// Names the directory above all state directories.
pub(crate) const VARIABLE: &str = "LEVADA_STATE";

/// Above all state directories.
fn base() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    named.map_or_else(levada::state::default_dir, PathBuf::from)
}

/// The state directory of `levada run`, unless the user names another.
pub(crate) fn node_dir() -> PathBuf {
    base().join("node")
}

/// Above the directories of demos.
pub(crate) fn demos_dir() -> PathBuf {
    base().join("demo")
}

/// The configuration file of `levada run`, unless the user names another.
pub(crate) fn config_file() -> PathBuf {
    base().join("levada.toml")
}

/// Starts a node of a command's own, in the first state directory that is free; in `state` if the user named one.
pub(crate) async fn start_own(
    builder: Builder,
    state: Option<&Path>,
    command: &str,
    stream: &StreamName,
) -> Result<Node, StartError> {
    if let Some(state) = state {
        return builder.state(state).start().await;
    }
    let own = base().join("own");
    let name = stream.as_str().replace('/', "-");
    let name: String = name.chars().take(STEM_CHARS_MAX).collect();
    let stem = format!("{command}-{name}");
    let mut count = 1;
    loop {
        let dir = match count {
            1 => own.join(&stem),
            _ => own.join(format!("{stem}-{count}")),
        };
        match builder.clone().state(dir).start().await {
            Err(StartError::State(StateError::InUse { .. })) if count < OWN_MAX => count += 1,
            started => return started,
        }
    }
}
