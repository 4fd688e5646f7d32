//! The `levada` command.
//!
//! | file | what |
//! |---|---|
//! | `commands/` | one file for each command |
//! | `access`, `home` | the node a command works with; where state directories are |
//! | `config` | what stands in a configuration file above the library |
//! | `reload` | when the configuration is to be read again |
//! | `gateways`, `sessions`, `outputs` | the gateways of a node, who uses them, and what they send out |
//! | `broadcast`, `orders` | how sources are published; those that the API publishes |
//! | `sink/` | where a played stream goes: files, standard output, players |
//! | `say`, `table`, `units` | what is said, how quantities are printed and read |
//! | `logging`, `shutdown` | logs to standard error; Ctrl-C |
//!
//! Nothing here decides how a stream travels; that is the library's part. Invariant: standard output carries what was
//! asked for and nothing else; everything said to people meanwhile goes to standard error. The exit code is 0 if the
//! command did what it was told, 1 if it failed, 2 if it was not understood.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

mod access;
mod broadcast;
mod commands;
mod config;
mod gateways;
mod home;
mod logging;
mod orders;
mod outputs;
mod reload;
mod say;
mod sessions;
mod shutdown;
mod sink;
mod table;
mod units;

/// Live streams from whoever has them to everyone who wants them.
#[derive(Debug, clap::Parser)]
#[command(name = "levada", version)]
struct Cli {
    /// Log every decision to standard error; LEVADA_LOG=FILTER does it finer
    #[arg(long, global = true)]
    debug: bool,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.execute(cli.debug) {
        Ok(code) => code,
        Err(error) if say::is_unread(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say::note(format_args!("error: {}", say::failure(&error)));
            ExitCode::FAILURE
        }
    }
}
