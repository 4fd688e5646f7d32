//! The gateways of a node: RTSP for players and publishers.
//!
//! Not a protocol: each has a crate. Called by `run`. Invariant: a port that another program has is a warning with its
//! cure, never the end of the node; all gateways share one kit.

use std::net::SocketAddr;

use levada::Node;
use levada_gateway::Kit;
use levada_gateway_rtsp::{ListenError, PORT_DEFAULT, Server};

use crate::config::{self, Program, RawProgram};
use crate::sessions;

/// What the user wants of gateways.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// The TCP address of the RTSP gateway [default: port 8554 on all addresses]
    #[arg(long, value_name = "IP[:PORT]", conflicts_with = "no_gateways", value_parser = rtsp)]
    rtsp: Option<SocketAddr>,
    /// Serve no players and take no publishers but those of `levada`
    #[arg(long)]
    no_gateways: bool,
}

impl GatewayArgs {
    /// What the flags say, as a file would.
    pub(crate) fn raw(&self) -> RawProgram {
        RawProgram {
            rtsp: self.rtsp.map(|address| address.to_string()),
            // A flag for one gateway wants gateways, whatever the file says.
            gateways: match self {
                Self {
                    no_gateways: true, ..
                } => Some(false),
                Self { rtsp: Some(_), .. } => Some(true),
                _ => None,
            },
            ..RawProgram::default()
        }
    }
}

/// The gateways that run. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Gateways {
    kit: Kit,
    rtsp: Option<Server>,
}

impl Gateways {
    /// Starts what is wanted, and lets other commands see its sessions.
    pub(crate) async fn start(node: &Node, program: &Program) -> anyhow::Result<Self> {
        let kit = Kit::new(program.settings.clone())?;
        sessions::answer(node, kit.registry().clone());
        let rtsp = match program.rtsp {
            Some(address) => {
                let builder = Server::builder(node.clone()).kit(kit.clone());
                let started = builder.start(address).await;
                started
                    .map_err(|error| tracing::warn!("{}", cure(&error)))
                    .ok()
            }
            None => None,
        };
        Ok(Self { kit, rtsp })
    }

    /// The users, limits and sessions of all of them.
    pub(crate) const fn kit(&self) -> &Kit {
        &self.kit
    }

    /// Where the RTSP gateway listens, if it does.
    pub(crate) fn rtsp(&self) -> Option<SocketAddr> {
        self.rtsp.as_ref().map(Server::local_addr)
    }
}

fn cure(error: &ListenError) -> String {
    let address = error.address;
    if error.is_in_use() {
        format!(
            "no RTSP here: TCP port {} is already in use on {}, perhaps by another levada; the node goes on without. \
             Stop that program, give `--rtsp IP:PORT` with a free port, or `--no-gateways`",
            address.port(),
            address.ip()
        )
    } else {
        format!(
            "no RTSP here: {error}; the node goes on without. Give `--rtsp IP:PORT` with an address of this machine"
        )
    }
}

fn rtsp(text: &str) -> anyhow::Result<SocketAddr> {
    config::address(text, PORT_DEFAULT)
}
