//! `levada run`: a node that runs until it is told to stop.
//!
//! Flags, environment and file are merged by the library's `config` and by that of this program. Invariant: what cannot
//! be published stops the start, before anything is announced; what fails later stops nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use levada::config::{Config, RawConfig};
use levada::{Node, PublishOptions};
use levada_ports::LANES_MAX;

use crate::access::Access;
use crate::broadcast::{self, Broadcasts, News, report};
use crate::config::{self, Program, RawProgram, RawPublish};
use crate::gateways::{GatewayArgs, Gateways};
use crate::home;
use crate::logging::{self, Level};
use crate::orders::Orders;
use crate::reload::{Due, Reload};
use crate::say;
use crate::shutdown::Shutdown;
use crate::units;

/// What it can be told.
#[derive(Clone, Debug, clap::Args)]
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
    /// What each network interface carries: newcomers get a quarter of it [default: as the system says]
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    interface_rate: Option<String>,
    /// Form no site: neither find nodes on the LAN nor be found
    #[arg(long)]
    no_multicast: bool,
    /// The label of the site: nodes of other labels on the same LAN are other sites [default: none]
    #[arg(long, value_name = "LABEL")]
    site: Option<String>,
    /// An interface to form a site on; may be given several times [default: each that is wired or Wi-Fi and has a
    /// private network, or the one whose address the node listens on]
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// Publish a stream from the start; may be given several times. SOURCE is as for `levada publish`
    #[arg(long, value_name = "NAME=SOURCE")]
    source: Vec<String>,
    /// The state directory: the node's key, its lock, its local socket
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A configuration file (TOML); flags and LEVADA_* go before it [default: levada.toml beside the state
    /// directories, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    gateways: GatewayArgs,
    /// Print what the node is as JSON
    #[arg(long)]
    json: bool,
    /// End when standard input ends: for a program that starts nodes and may be killed
    #[arg(long, hide = true)]
    pub(crate) while_stdin: bool,
}

pub(crate) async fn execute(
    args: Args,
    mut shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    let json = args.json;
    let mut reload = Reload::watch(args.file()).context("cannot listen to SIGHUP")?;
    let (mut config, mut program) = args.config()?;
    logging::start_with(&config.log, debug)?;
    let mut opening = tokio::select! {
        opening = broadcast::open(&program.publish) => opening?,
        () = shutdown.wait() => return Ok(ExitCode::SUCCESS),
    };
    let node = config.builder().start().await?;
    let gateways = Gateways::start(&node, &program).await?;
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
    let (mut orders, desk) = Orders::new(program.media_dir.clone());
    gateways.publish_by(desk);
    loop {
        tokio::select! {
            step = orders.next() => orders.take(step, &mut broadcasts).await,
            Some(news) = broadcasts.next() => on_news(news),
            due = reload.due() => match due {
                Due::Reload => {
                    let before = program.publish.clone();
                    take_up(&args, &gateways, &mut config, &mut program);
                    broadcasts.change(&before, &program.publish);
                }
                Due::End => break,
            },
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

/// Reads the configuration again and does what has changed in it. One that cannot be changes nothing.
fn take_up(args: &Args, gateways: &Gateways, config: &mut Config, program: &mut Program) {
    let (new_config, new_program) = match args.config() {
        Ok(read) => read,
        Err(error) => {
            let why = say::failure(&error);
            return tracing::warn!(
                "the configuration is not taken up, the former one stays: {why}"
            );
        }
    };
    let fixed = [
        config.differs(&new_config),
        program.differs_for_good(&new_program),
    ]
    .concat();
    if !fixed.is_empty() {
        let keys = fixed.join(", ");
        tracing::warn!("the configuration has other values for what holds from a start on: {keys}");
    }
    match gateways.set(&new_program) {
        Ok(ended) => tracing::info!(sessions_ended = ended, "the configuration is taken up"),
        Err(error) => tracing::warn!("the users are not taken up, the former ones stay: {error}"),
    }
    (*config, *program) = (new_config, new_program);
}

fn on_news(news: News) {
    match news {
        News::Begun(name, description) => {
            let codecs = broadcast::codecs(&description);
            tracing::info!(stream = %name, codecs, "is published");
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
            "rtsps": gateways.rtsps().map(|address| address.to_string()),
            "http": gateways.http().map(|address| address.to_string()),
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
        if let Some(rtsp) = gateways.rtsp() {
            let text = format!("players and publishers: rtsp://{}/NAME", reachable(rtsp));
            say::result(text)?;
        }
        if let Some(rtsps) = gateways.rtsps() {
            let text = format!("the same by TLS: rtsps://{}/NAME", reachable(rtsps));
            say::result(text)?;
        }
        if let Some(http) = gateways.http() {
            say::result(format_args!(
                "in a browser: http://{host}/live/ plays, http://{host}/ui/ shows the node",
                host = reachable(http)
            ))?;
        }
        Ok(())
    }
}

/// How an address is called on this machine.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

impl Args {
    fn file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(home::config_file)
    }

    /// Flags before the environment, that before the file, that before the defaults.
    fn config(&self) -> anyhow::Result<(Config, Program)> {
        let file = self.file();
        // Only one that the user named must be there.
        let file = (self.config.is_some() || file.exists()).then(|| RawProgram::from_file(&file));
        let (file, program_file) = file.transpose()?.unwrap_or_default();
        let variables = std::env::vars().filter(|(name, _)| name != home::VARIABLE);
        let environment = RawConfig::from_env(variables, &config::KEYS_OF_ENVIRONMENT)?;
        let program_environment = RawProgram::from_env()?;
        let mut default = RawConfig::default();
        default.state = Some(home::node_dir());
        default.log = Some(logging::filter(Level::Info));
        let (raw, program) = self.clone().raw()?;
        let raw = raw.or(environment).or(file).or(default);
        let program = program.or(program_environment).or(program_file);
        let raw = program.library(raw)?;
        Ok((Config::resolve(raw)?, program.resolve()?))
    }

    fn raw(self) -> anyhow::Result<(RawConfig, RawProgram)> {
        let mut raw = RawConfig::default();
        let mut program = self.gateways.raw()?;
        let join: Vec<_> = self.neighbours.into_iter().chain(self.join).collect();
        raw.join = (!join.is_empty()).then_some(join);
        raw.name = self.name;
        raw.listen = self.listen;
        raw.relay = self.relay;
        raw.client = self.client.then_some(true);
        raw.lanes = self.lanes;
        raw.uplink = self.uplink;
        raw.interface_rate = self.interface_rate;
        raw.multicast = self.no_multicast.then_some(false);
        raw.site = self.site;
        raw.interface = (!self.interface.is_empty()).then_some(self.interface);
        raw.state = self.state;
        let publish = self.source.iter().map(|text| publish(text));
        let publish = publish.collect::<anyhow::Result<Vec<_>>>()?;
        program.publish = (!publish.is_empty()).then_some(publish);
        Ok((raw, program))
    }
}

/// Reads `NAME=SOURCE`.
fn publish(text: &str) -> anyhow::Result<RawPublish> {
    let (name, source) = text.split_once('=').with_context(|| {
        format!("`--source {text}`: write NAME=SOURCE, for example `--source cam=test`")
    })?;
    Ok(RawPublish {
        name: Some(name.to_owned()),
        source: Some(source.to_owned()),
        ..RawPublish::default()
    })
}
