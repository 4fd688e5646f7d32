//! `levada run`: a node that runs until it is told to stop.
//!
//! Flags, environment and file are merged by the library's `config`. Invariant: what cannot be published stops the
//! start, before anything is announced; what fails later stops nothing else.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use levada::config::{Config, RawConfig, RawPublish};
use levada::{Node, PublishOptions};
use levada_media::source::{Options, Request};
use levada_ports::LANES_MAX;

use crate::access::Access;
use crate::broadcast::{self, Broadcasts, News, report};
use crate::gateways::{GatewayArgs, Gateways};
use crate::home;
use crate::logging::{self, Level};
use crate::say;
use crate::shutdown::Shutdown;
use crate::units;

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A neighbour to keep a link to: `HOST[:PORT]`, or `NODEID@HOST[:PORT]` if nobody else may answer there
    #[arg(value_name = "NEIGHBOUR")]
    neighbours: Vec<String>,
    /// The same as NEIGHBOUR
    #[arg(long, value_name = "HOST[:PORT]")]
    join: Vec<String>,
    /// What the node calls itself [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// The UDP address to listen on [default: port 7800 on all addresses]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Whether to forward streams for others [default: auto]
    #[arg(long, value_name = "always|auto|never")]
    relay: Option<String>,
    /// Dial the neighbours until one answers, keep that one, accept nobody
    #[arg(long)]
    client: bool,
    /// How many threads move packets, 1 to 8 [default: one per processor]
    #[arg(long, value_name = "N", value_parser = units::whole(1..=LANES_MAX), allow_hyphen_values = true)]
    lanes: Option<usize>,
    /// The rate to promise to other nodes at most, for example `50Mb/s` [default: no limit]
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    uplink: Option<String>,
    /// Publish a stream from the start; may be given several times. SOURCE is as for `levada publish`
    #[arg(long, value_name = "NAME=SOURCE")]
    source: Vec<String>,
    /// The state directory: the node's key, its lock, its local socket
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A configuration file (TOML); flags and LEVADA_* go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    gateways: GatewayArgs,
    /// Print what the node is as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn execute(
    args: Args,
    mut shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    let (json, wanted) = (args.json, args.gateways.clone());
    let config = args.config()?;
    logging::start_with(&config.log, debug)?;
    let requests = requests(&config);
    let mut opening = tokio::select! {
        opening = broadcast::open(&requests) => opening?,
        () = shutdown.wait() => return Ok(ExitCode::SUCCESS),
    };
    let node = config.builder().start().await?;
    let gateways = Gateways::start(&node, &wanted).await;
    introduce(&node, &gateways, json)?;

    let access = Access::Own(node.clone());
    let mut broadcasts = Broadcasts::new(&access, PublishOptions::default(), &shutdown);
    for ready in std::mem::take(&mut opening.streams) {
        let name = ready.name.clone();
        if let Err(error) = broadcasts.start(ready).await {
            tracing::warn!(stream = %name, "is not published: {}", say::failure(&error));
        }
    }
    broadcasts.watch(&mut opening);
    loop {
        tokio::select! {
            Some(news) = broadcasts.next() => on_news(news),
            () = shutdown.wait() => break,
            stopped = node.stopped() => return stopped.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        }
    }
    while let Some(news) = broadcasts.next().await {
        on_news(news);
    }
    drop(gateways);
    access.leave().await;
    node.leave().await;
    Ok(ExitCode::SUCCESS)
}

fn on_news(news: News) {
    match news {
        News::Begun(name, description) => {
            let codecs = broadcast::codecs(&description);
            tracing::info!(stream = %name, codecs, "a file came, and is published");
        }
        News::Ended(name, ended) => report(&name, ended),
    }
}

/// Says what runs: for people on standard output too, because it is what they asked for.
fn introduce(node: &Node, gateways: &Gateways, json: bool) -> std::io::Result<()> {
    if json {
        let about = serde_json::json!({
            "id": node.id().to_string(),
            "name": node.name(),
            "listen": node.local_addr().to_string(),
            "state": node.state_dir().display().to_string(),
            "rtsp": gateways.rtsp().map(|address| address.to_string()),
        });
        say::result(about)
    } else {
        say::result(format_args!(
            "node {} ({}) listens on {}; state in {}",
            node.name(),
            node.id().short(),
            node.local_addr(),
            node.state_dir().display()
        ))?;
        let Some(rtsp) = gateways.rtsp() else {
            return Ok(());
        };
        let host = if rtsp.ip().is_unspecified() {
            "localhost".to_owned()
        } else {
            match rtsp.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            }
        };
        say::result(format_args!(
            "players and publishers: rtsp://{host}:{}/NAME",
            rtsp.port()
        ))
    }
}

fn requests(config: &Config) -> Vec<Request> {
    let request = |publish: &levada::config::Publish| Request {
        text: publish.source.clone(),
        name: publish.name.clone(),
        options: Options {
            repeats: publish.repeats,
            program: publish.program,
            rate: publish.rate,
        },
    };
    config.publish.iter().map(request).collect()
}

impl Args {
    /// Flags before the environment, that before the file, that before the defaults.
    fn config(self) -> anyhow::Result<Config> {
        let file = self
            .config
            .as_deref()
            .map(RawConfig::from_file)
            .transpose()?;
        let variables = std::env::vars().filter(|(name, _)| name != home::VARIABLE);
        let environment = RawConfig::from_env(variables)?;
        let mut default = RawConfig::default();
        default.state = Some(home::node_dir());
        default.log = Some(logging::filter(Level::Info));
        let raw = self.raw()?;
        let raw = raw.or(environment).or(file.unwrap_or_default()).or(default);
        Ok(Config::resolve(raw)?)
    }

    fn raw(self) -> anyhow::Result<RawConfig> {
        let mut raw = RawConfig::default();
        let join: Vec<_> = self.neighbours.into_iter().chain(self.join).collect();
        raw.join = (!join.is_empty()).then_some(join);
        raw.name = self.name;
        raw.listen = self.listen;
        raw.relay = self.relay;
        raw.client = self.client.then_some(true);
        raw.lanes = self.lanes;
        raw.uplink = self.uplink;
        raw.state = self.state;
        let publish = self.source.iter().map(|text| publish(text));
        let publish = publish.collect::<anyhow::Result<Vec<_>>>()?;
        raw.publish = (!publish.is_empty()).then_some(publish);
        Ok(raw)
    }
}

/// Reads `NAME=SOURCE`.
fn publish(text: &str) -> anyhow::Result<RawPublish> {
    let (name, source) = text.split_once('=').with_context(|| {
        format!("`--source {text}`: write NAME=SOURCE, for example `--source cam=test`")
    })?;
    let mut publish = RawPublish::default();
    publish.name = Some(name.to_owned());
    publish.source = Some(source.to_owned());
    Ok(publish)
}
