//! The gateways of a node: RTSP for players and publishers.
//!
//! Not a protocol: each has a crate. Called by `run`. Invariant: a port that another program has is a warning with its
//! cure, never the end of the node.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use levada::Node;
use levada_gateway_rtsp::{ListenError, PORT_DEFAULT, Server};

/// What the user wants of gateways.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// The TCP address of the RTSP gateway [default: port 8554 on all addresses]
    #[arg(long, value_name = "IP[:PORT]", conflicts_with = "no_gateways", value_parser = address)]
    rtsp: Option<SocketAddr>,
    /// Serve no players and take no publishers but those of `levada`
    #[arg(long)]
    no_gateways: bool,
}

/// The gateways that run. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Gateways {
    rtsp: Option<Server>,
}

impl Gateways {
    /// Starts what is wanted.
    pub(crate) async fn start(node: &Node, args: &GatewayArgs) -> Self {
        if args.no_gateways {
            return Self { rtsp: None };
        }
        let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT_DEFAULT));
        let address = args.rtsp.unwrap_or(all);
        let started = Server::builder(node.clone()).start(address).await;
        let rtsp = started
            .map_err(|error| tracing::warn!("{}", cure(&error)))
            .ok();
        Self { rtsp }
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

/// Reads `IP:PORT`, or an IP address alone, which means the default port.
fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let alone = |text: &str| Some(SocketAddr::new(text.parse().ok()?, PORT_DEFAULT));
    let parsed = text.parse().ok().or_else(|| alone(text));
    parsed.context(
        "this is not an address: write `IP:PORT`, for example `0.0.0.0:8554` or `[::]:8554`",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn an_address_may_leave_out_the_port() {
        assert_eq!(address("10.0.0.1").unwrap().to_string(), "10.0.0.1:8554");
        assert_eq!(address("[::1]:554").unwrap().to_string(), "[::1]:554");
        assert!(address("localhost").is_err());
    }
}
