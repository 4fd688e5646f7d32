//! The gateways of a node: RTSP for players and publishers, HTTP for browsers and players, outputs for televisions.
//!
//! Not a protocol: each has a crate. Called by `run`. Invariant: a port that another program has is a warning with its
//! cure, never the end of the node; all gateways share one kit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use levada::Node;
use levada_api::actions::Publishing;
use levada_api::{Api, Extensions};
use levada_gateway::{Kit, Tls, UsersError};
use levada_gateway_http as http;
use levada_gateway_http::serve::Peer;
use levada_gateway_rtsp as rtsp;
use levada_gateway_rtsp::Pulls;
use levada_gateway_udp::Outputs;

use crate::config::{self, Program, RawOutput, RawProgram};
use crate::{outputs, sessions};

/// What the user wants of gateways.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Be here for players and publishers alone: dial the neighbours until one answers, accept no node, forward
    /// nothing, and stay small
    #[arg(long, conflicts_with_all = ["no_gateways", "relay", "client"])]
    gateway_only: bool,
    /// The TCP address of the RTSP gateway [default: port 8554 on all addresses]
    #[arg(long, value_name = "IP[:PORT]", conflicts_with = "no_gateways", value_parser = rtsp_address)]
    rtsp: Option<SocketAddr>,
    /// The TCP address for RTSP by TLS; port 8322 unless it is said [default: none]
    #[arg(long, value_name = "IP[:PORT]", conflicts_with = "no_gateways", value_parser = rtsps_address)]
    rtsps: Option<SocketAddr>,
    /// The certificate for TLS, a file in PEM [default: the node's own, which nobody vouches for]
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of the certificate, a file in PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// The TCP address of the web page and the HTTP gateway [default: port 8080 on all addresses]
    #[arg(long, value_name = "IP[:PORT]", conflicts_with = "no_gateways", value_parser = http_address)]
    http: Option<SocketAddr>,
    /// Send a stream out as MPEG-TS datagrams, for televisions: `NAME=udp://GROUP:PORT`, or `rtp://`; may be given
    /// several times. Constant rate and more are keys of `[[output]]` in the file
    #[arg(long, value_name = "NAME=URL")]
    output: Vec<String>,
    /// Serve no players and take no publishers but those of `levada`
    #[arg(long)]
    no_gateways: bool,
    /// Have no page that shows the node; its API stays
    #[arg(long)]
    no_gui: bool,
}

impl GatewayArgs {
    /// What the flags say, as a file would.
    ///
    /// # Errors
    ///
    /// When an output is not written as one.
    pub(crate) fn raw(&self) -> anyhow::Result<RawProgram> {
        let outputs = self.output.iter().map(|text| output(text));
        let outputs = outputs.collect::<anyhow::Result<Vec<_>>>()?;
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        Ok(RawProgram {
            output: (!outputs.is_empty()).then_some(outputs),
            gateway_only: self.gateway_only.then_some(true),
            rtsp: text(self.rtsp),
            rtsps: text(self.rtsps),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            http: text(self.http),
            gui: self.no_gui.then_some(false),
            // A flag for one gateway wants gateways, whatever the file says.
            gateways: match self {
                Self {
                    no_gateways: true, ..
                } => Some(false),
                Self { rtsp: Some(_), .. }
                | Self { rtsps: Some(_), .. }
                | Self { http: Some(_), .. } => Some(true),
                _ => None,
            },
            ..RawProgram::default()
        })
    }
}

/// Reads `NAME=URL`.
fn output(text: &str) -> anyhow::Result<RawOutput> {
    let (name, to) = text.split_once('=').with_context(|| {
        format!(
            "`--output {text}`: write NAME=URL, for example `--output cam=udp://239.1.1.1:5000`"
        )
    })?;
    Ok(RawOutput {
        name: Some(name.to_owned()),
        to: Some(to.to_owned()),
        ..RawOutput::default()
    })
}

/// The gateways that run. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Gateways {
    kit: Kit,
    pulls: Pulls,
    hls_pulls: http::pull::Pulls,
    outputs: Outputs,
    rtsp: Option<rtsp::Server>,
    http: Option<http::Server>,
    api: Option<Api>,
}

impl Gateways {
    /// Starts what is wanted, and lets other commands see its sessions.
    pub(crate) async fn start(node: &Node, program: &Program) -> anyhow::Result<Self> {
        let kit = Kit::new(program.settings.clone())?;
        sessions::answer(node, kit.registry().clone());
        let pulls = Pulls::new(node.clone(), kit.registry().clone());
        pulls.set(program.pull.clone());
        pulls.allow(program.pull_allow.clone());
        let hls_pulls = http::pull::Pulls::new(node.clone());
        hls_pulls.set(program.pull_hls.clone());
        let outputs = Outputs::new(node.clone(), kit.registry().clone());
        outputs.set(program.output.clone());
        outputs::answer(node, outputs.board());
        let mut gateways = Self {
            kit,
            pulls,
            hls_pulls,
            outputs,
            rtsp: None,
            http: None,
            api: None,
        };
        if let Some(address) = program.rtsp {
            let builder = rtsp::Server::builder(node.clone())
                .kit(gateways.kit.clone())
                .pulls(gateways.pulls.clone());
            gateways.rtsp = match builder.start(address).await {
                Ok(server) => Some(server),
                Err(error) => {
                    Refused::new("RTSP", "--rtsp", address, error.is_in_use()).warn(&error);
                    None
                }
            };
        }
        if let (Some(server), Some(address)) = (&mut gateways.rtsp, program.rtsps) {
            let tls = certificate(node, program)?;
            if let Err(error) = server.listen_secure(address, tls).await {
                Refused::new("RTSP by TLS", "--rtsps", address, error.is_in_use()).warn(&error);
            }
        }
        if let Some(address) = program.http {
            let peer = |extensions: &Extensions| Some(extensions.get::<Peer>()?.remote());
            let api = Api::start(node.clone(), gateways.kit.registry().clone(), peer);
            let builder = http::Server::builder(node.clone()).kit(gateways.kit.clone());
            let mut builder = builder.merge(api.router());
            if program.has_gui {
                builder = builder.merge(api.page());
            }
            let port = gateways.rtsp().map(|rtsp| rtsp.port());
            gateways.http = match builder.rtsp_port(port).start(address).await {
                Ok(server) => {
                    gateways.api = Some(api);
                    Some(server)
                }
                Err(error) => {
                    Refused::new("HTTP", "--http", address, error.is_in_use()).warn(&error);
                    None
                }
            };
        }
        Ok(gateways)
    }

    /// Does what a configuration says otherwise than before. Returns how many sessions ended by it.
    pub(crate) fn set(&self, program: &Program) -> Result<usize, UsersError> {
        let ended = self.kit.set(program.settings.clone())?;
        self.pulls.allow(program.pull_allow.clone());
        let ended = ended + self.hls_pulls.set(program.pull_hls.clone());
        let ended = ended + self.outputs.set(program.output.clone());
        Ok(ended + self.pulls.set(program.pull.clone()))
    }

    /// Lets the API publish, if there is one.
    pub(crate) fn publish_by(&self, publishing: Arc<dyn Publishing>) {
        if let Some(api) = &self.api {
            api.publish_by(publishing);
        }
    }

    /// Puts a note among the events of the page, if there is one.
    pub(crate) fn note(&self, text: &str) {
        if let Some(api) = &self.api {
            api.note(text);
        }
    }

    /// Where the RTSP gateway listens, if it does.
    pub(crate) fn rtsp(&self) -> Option<SocketAddr> {
        self.rtsp.as_ref().map(rtsp::Server::local_addr)
    }

    /// Where it listens for TLS, if it does.
    pub(crate) fn rtsps(&self) -> Option<SocketAddr> {
        self.rtsp.as_ref().and_then(rtsp::Server::secure_addr)
    }

    /// Where the HTTP gateway listens, if it does.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(http::Server::local_addr)
    }
}

/// A gateway that does not listen.
struct Refused {
    protocol: &'static str,
    flag: &'static str,
    address: SocketAddr,
    is_in_use: bool,
}

impl Refused {
    const fn new(
        protocol: &'static str,
        flag: &'static str,
        address: SocketAddr,
        is_in_use: bool,
    ) -> Self {
        Self {
            protocol,
            flag,
            address,
            is_in_use,
        }
    }

    fn warn(&self, error: &dyn std::error::Error) {
        let (protocol, flag, address) = (self.protocol, self.flag, self.address);
        if self.is_in_use {
            tracing::warn!(
                "no {protocol} here: TCP port {} is already in use on {}, perhaps by another levada; the node goes on \
                 without. Stop that program, give `{flag} IP:PORT` with a free port, or `--no-gateways`",
                address.port(),
                address.ip()
            );
        } else {
            tracing::warn!(
                "no {protocol} here: {error}; the node goes on without. Give `{flag} IP:PORT` with an address of this \
                 machine"
            );
        }
    }
}

/// The certificate of the user's files, or the node's own.
fn certificate(node: &Node, program: &Program) -> anyhow::Result<Tls> {
    if let Some((certificate, key)) = &program.certificate {
        return Tls::from_files(certificate, key).context("`certificate` and `key`");
    }
    let names = vec![node.name().to_owned(), "localhost".to_owned()];
    let own = Tls::own(node.state_dir(), names);
    let tls = own.context("cannot make a certificate in the state directory")?;
    tracing::info!(
        sha256 = tls.fingerprint(),
        "TLS has the node's own certificate, which players must be told to trust"
    );
    Ok(tls)
}

fn rtsps_address(text: &str) -> anyhow::Result<SocketAddr> {
    config::address(text, rtsp::SECURE_PORT_DEFAULT)
}

fn rtsp_address(text: &str) -> anyhow::Result<SocketAddr> {
    config::address(text, rtsp::PORT_DEFAULT)
}

fn http_address(text: &str) -> anyhow::Result<SocketAddr> {
    config::address(text, http::PORT_DEFAULT)
}
