//! The commands of `levada`, one file each.
//!
//! Not what they share: nodes (`access.rs`), sources, sinks, tables. Called by `main`. Invariant: a command that
//! fails returns an error that says what failed, why, and what to do.

use std::process::ExitCode;

use levada::view::{CounterRow, FlowRow, LinkRow, MapRow, MemberRow, NodeRow, StreamRow};

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod leave;
pub(crate) mod outputs;
pub(crate) mod play;
pub(crate) mod publish;
pub(crate) mod reference;
pub(crate) mod run;
pub(crate) mod sessions;
pub(crate) mod sim;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod user;
pub(crate) mod views;

use crate::shutdown::Shutdown;

/// What `levada` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show a whole network on this machine: a dozen nodes, three streams, players, and the page that shows them
    Demo(demo::Args),
    /// Run a node
    Run(Box<run::Args>),
    /// Publish a stream
    Publish(publish::Args),
    /// Play a stream: in a player, into a file, or to standard output
    Play(play::Args),
    /// Show the streams that a running node knows
    Streams(views::Args),
    /// Show the nodes that a running node knows
    Nodes(views::Args),
    /// Show the links of a running node
    Links(views::Args),
    /// Show what flows through a running node
    Flows(views::Args),
    /// Show the site of a running node: who is on its LAN, who is hub, and why
    Site(views::Args),
    /// Show the network around a running node: each node that answers, hop by hop
    Map(views::Args),
    /// Show the way of a stream to a running node: each hop with its latency, loss and repairs
    Trace(trace::Args),
    /// Watch a running node in a terminal: streams, links, trees, events
    Top(top::Args),
    /// Print a generated chapter of the book
    #[command(subcommand, hide = true)]
    Reference(reference::Chapter),
    /// Show what a running node counted: packets, drops by reason, sends
    Counters(views::Args),
    /// Show who plays and publishes by the gateways of a running node, and end a session
    Sessions(sessions::Args),
    /// Show what a running node sends out as datagrams, and what is wrong with it
    Outputs(views::Args),
    /// Say who may play and publish
    #[command(subcommand)]
    User(user::Command),
    /// Make a running node leave: streams are taken back, neighbours told
    Leave(leave::Args),
    /// Run simulated networks
    #[command(subcommand)]
    Sim(sim::Command),
    /// Try whether a node can run here, and how fast
    Check(check::Args),
    /// Measure the datapath on this machine, each figure beside its floor
    #[command(subcommand)]
    Bench(bench::Command),
}

impl Command {
    /// Does it.
    pub(crate) fn execute(self, debug: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::Sim(command) => sim::execute(command, debug),
            Self::Bench(command) => bench::execute(command, debug),
            Self::User(command) => user::execute(command, debug),
            command => on_runtime(command, debug),
        }
    }
}

fn on_runtime(command: Command, debug: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            anyhow::anyhow!("the system does not give the threads that are needed: {error}")
        })?;
    let result = runtime.block_on(async {
        // `run` reads its configuration again instead.
        let hang_up_ends = !matches!(command, Command::Run(_));
        let while_stdin = matches!(&command, Command::Run(args) if args.while_stdin);
        let shutdown = Shutdown::listen(hang_up_ends, while_stdin)
            .map_err(|error| anyhow::anyhow!("cannot listen to signals: {error}"))?;
        match command {
            Command::Demo(args) => demo::execute(args, shutdown, debug).await,
            Command::Run(args) => run::execute(*args, shutdown, debug).await,
            Command::Publish(args) => publish::execute(args, shutdown, debug).await,
            Command::Play(args) => play::execute(args, shutdown, debug).await,
            Command::Streams(args) => views::execute::<StreamRow>(args, shutdown, debug).await,
            Command::Nodes(args) => views::execute::<NodeRow>(args, shutdown, debug).await,
            Command::Links(args) => views::execute::<LinkRow>(args, shutdown, debug).await,
            Command::Flows(args) => views::execute::<FlowRow>(args, shutdown, debug).await,
            Command::Site(args) => views::execute::<MemberRow>(args, shutdown, debug).await,
            Command::Map(args) => views::execute::<MapRow>(args, shutdown, debug).await,
            Command::Trace(args) => trace::execute(args, shutdown, debug).await,
            Command::Top(args) => top::execute(args, shutdown, debug).await,
            Command::Reference(chapter) => reference::execute(chapter, debug).await,
            Command::Counters(args) => views::execute::<CounterRow>(args, shutdown, debug).await,
            Command::Sessions(args) => sessions::execute(args, shutdown, debug).await,
            Command::Outputs(args) => outputs::execute(args, shutdown, debug).await,
            Command::User(command) => user::execute(command, debug),
            Command::Leave(args) => leave::execute(args, debug).await,
            Command::Sim(command) => sim::execute(command, debug),
            Command::Check(args) => check::execute(args, debug).await,
            Command::Bench(command) => bench::execute(command, debug),
        }
    });
    // A thread may still wait in a read of a terminal or a file; it ends with the process.
    runtime.shutdown_background();
    result
}
