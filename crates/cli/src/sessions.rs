//! The sessions of a node's gateways, from the node that has them to the command that shows them.
//!
//! Not the records, which are `levada_gateway::session`'s. Called by `gateways` in the node, and by
//! `commands::sessions`. Invariant: both ends are of one release, as the local socket between them demands.

use std::path::Path;

use anyhow::Context as _;
use levada::Node;
use levada::admin::Client;
use levada::view::VERSION;
use levada_gateway::Registry;
use levada_gateway::session::Row;
use serde::{Deserialize, Serialize};

/// The word by which a node answers.
const WORD: &str = "sessions";

/// What a node is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    /// For the sessions, also those that ended if so wanted.
    List { ended: bool },
    /// To end one.
    Kick(u64),
}

/// Rows as `--json` prints them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rows {
    version: u32,
    pub(crate) rows: Vec<Row>,
}

/// Has a node answer. It knows the registry, which does not hold the node.
pub(crate) fn answer(node: &Node, registry: Registry) {
    node.answer(WORD, move |question| {
        let question = serde_json::from_str(question).map_err(|error| error.to_string())?;
        let rows = match question {
            Question::List { ended: true } => registry.rows(),
            Question::List { ended: false } => registry.live(),
            Question::Kick(id) if registry.kick(id) => Vec::new(),
            Question::Kick(id) => {
                return Err(format!(
                    "no session {id} goes on: `levada sessions` shows those that do"
                ));
            }
        };
        let version = VERSION;
        serde_json::to_string(&Rows { version, rows }).map_err(|error| error.to_string())
    });
}

/// The sessions of the node with that state directory.
pub(crate) async fn list(dir: &Path, ended: bool) -> anyhow::Result<Rows> {
    ask(dir, &Question::List { ended }).await
}

/// Ends a session there.
pub(crate) async fn kick(dir: &Path, id: u64) -> anyhow::Result<()> {
    ask(dir, &Question::Kick(id)).await.map(|_| ())
}

async fn ask(dir: &Path, question: &Question) -> anyhow::Result<Rows> {
    let question = serde_json::to_string(question)?;
    let client = Client::connect(dir).await?;
    let answer = client.ask_program(WORD, &question).await?;
    serde_json::from_str(&answer).context("the node answers in another form: restart it")
}
