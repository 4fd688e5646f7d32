//! The outputs of a node, from the node that has them to the command that shows them.
//!
//! Not the rows, which are `levada_gateway_udp`'s. Called by `gateways` in the node, and by `commands::outputs`.
//! Invariant: both ends are of one release, as the local socket between them demands.

use std::path::Path;

use anyhow::Context as _;
use levada::Node;
use levada::admin::Client;
use levada::view::VERSION;
use levada_gateway_udp::{Board, Row};
use serde::{Deserialize, Serialize};

/// The word by which a node answers.
const WORD: &str = "outputs";

/// Rows as `--json` prints them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rows {
    version: u32,
    pub(crate) rows: Vec<Row>,
}

/// Has a node answer. It knows the board, which does not hold the node.
pub(crate) fn answer(node: &Node, board: Board) {
    node.answer(WORD, move |_| {
        let rows = Rows {
            version: VERSION,
            rows: board.rows(),
        };
        serde_json::to_string(&rows).map_err(|error| error.to_string())
    });
}

/// The outputs of the node with that state directory.
pub(crate) async fn list(dir: &Path) -> anyhow::Result<Rows> {
    let client = Client::connect(dir).await?;
    let answer = client.ask_program(WORD, "").await?;
    serde_json::from_str(&answer).context("the node answers in another form: restart it")
}
