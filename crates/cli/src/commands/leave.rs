//! `levada leave`: ends a running node in order.
//!
//! Not a kill: the node takes its streams back and tells its neighbours first. Invariant: returns when the node is
//! gone.

use std::path::PathBuf;
use std::process::ExitCode;

use levada::admin::Client;

use crate::home;
use crate::logging::{self, Level};

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node whose state directory this is [default: the one of `levada run`]
    #[arg(long, value_name = "DIR")]
    node: Option<PathBuf>,
}

pub(crate) async fn execute(args: Args, debug: bool) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let dir = args.node.unwrap_or_else(home::node_dir);
    Client::connect(&dir).await?.leave().await?;
    Ok(ExitCode::SUCCESS)
}
