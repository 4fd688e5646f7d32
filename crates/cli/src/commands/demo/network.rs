//! The nodes of `demo`, each a process of its own, the cables between them, and the node of this process.
//!
//! Not the plan of them (`plan`), nor what is shown (`screen`). Called by `demo`. Invariant: however this process ends,
//! the others end: each of them reads standard input and leaves when that is closed.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use levada::{Node, Relay, View};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::cable::Cable;
use super::homes::Homes;
use super::plan::{self, Act, CABLES, Does, HERE, NODES, NodePlan, STREAMS};
use crate::access;
use crate::config::{Program, RawProgram};
use crate::gateways::Gateways;

/// How long a node may take to start, and to leave.
const PATIENCE: Duration = Duration::from_secs(20);
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// How long a node's rows are waited for: one that was killed has none.
const VIEW_MAX: Duration = Duration::from_millis(800);
/// Where the page is, if that port is free.
const HTTP: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 8080);
const RTSP: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 8554);
/// Lines of a node's log that are shown when it did not start.
const LOG_LINES: usize = 3;

/// A whole network.
#[derive(Debug)]
pub(super) struct Network {
    /// In the order of [`NODES`]; the last is the node of this process.
    nodes: Vec<Running>,
    cables: BTreeMap<(&'static str, &'static str), Cable>,
    here: Node,
    gateways: Gateways,
    // Last, so that nodes end before their directories go.
    homes: Homes,
}

/// A node, and its process if it has one of its own and was not killed.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) plan: NodePlan,
    pub(super) state: PathBuf,
    pub(super) address: SocketAddr,
    process: Option<Child>,
}

impl Network {
    /// Starts all nodes. `http` is where the page is wanted.
    pub(super) async fn start(http: Option<SocketAddr>) -> anyhow::Result<Self> {
        let homes = Homes::make().await?;
        let mut cables = BTreeMap::new();
        let mut nodes: Vec<Running> = Vec::new();
        for plan in &NODES[..NODES.len() - 1] {
            lay(plan.name, &nodes, &mut cables).await?;
            let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let running = start(plan, &homes, &cables, any_port).await;
            nodes.push(running.with_context(|| format!("cannot start the node {}", plan.name))?);
        }
        lay(HERE, &nodes, &mut cables).await?;
        let here = start_here(&homes, &cables).await?;
        let gateways = Gateways::start(&here, &program(http)?).await?;
        nodes.push(Running {
            plan: NODES[NODES.len() - 1],
            state: here.state_dir().to_owned(),
            address: here.local_addr(),
            process: None,
        });
        Ok(Self {
            nodes,
            cables,
            here,
            gateways,
            homes,
        })
    }

    /// The node of this process.
    pub(super) const fn here(&self) -> &Node {
        &self.here
    }

    pub(super) const fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    pub(super) fn node(&self, name: &str) -> &Running {
        let found = self.nodes.iter().find(|node| node.plan.name == name);
        found.expect("the plan names its own nodes only")
    }

    pub(super) fn nodes(&self) -> &[Running] {
        &self.nodes
    }

    /// Does to the network what the story says.
    pub(super) async fn act(&mut self, act: Act) -> anyhow::Result<()> {
        match act {
            Act::Kill(name) => {
                let node = self.nodes.iter_mut().find(|node| node.plan.name == name);
                if let Some(mut process) = node.and_then(|node| node.process.take()) {
                    process.kill().await.context("cannot kill a node")?;
                }
            }
            Act::Start(name) => {
                let found = self.nodes.iter().position(|node| node.plan.name == name);
                let at = found.expect("the plan names its own nodes only");
                let (plan, address) = (self.nodes[at].plan, self.nodes[at].address);
                self.nodes[at] = start(&plan, &self.homes, &self.cables, address).await?;
            }
            Act::Lay(from, to, line) => self.cable(from, to).become_line(line),
            Act::Mend(from, to) => {
                let is_it = |cable: &&plan::CablePlan| (cable.from, cable.to) == (from, to);
                let planned = CABLES.iter().find(is_it);
                let planned = planned.expect("the plan names its own cables only");
                self.cable(from, to).become_line(planned.line);
            }
        }
        Ok(())
    }

    fn cable(&self, from: &'static str, to: &'static str) -> &Cable {
        let cable = self.cables.get(&(from, to));
        cable.expect("the plan names its own cables only")
    }

    /// What each node sees, in their order; none of one that does not answer.
    pub(super) async fn views(&self) -> Vec<Option<View>> {
        let mut looks = JoinSet::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let state = node.state.clone();
            looks.spawn(async move {
                let view = tokio::time::timeout(VIEW_MAX, access::view(&state)).await;
                (at, view.ok().and_then(Result::ok))
            });
        }
        let mut views = vec![None; self.nodes.len()];
        while let Some(Ok((at, view))) = looks.join_next().await {
            views[at] = view;
        }
        views
    }

    /// Ends all nodes in order, the players first.
    pub(super) async fn leave(self) {
        drop(self.gateways);
        self.here.leave().await;
        let mut ends = JoinSet::new();
        for mut process in self.nodes.into_iter().filter_map(|node| node.process) {
            // Which it takes as the word to leave.
            drop(process.stdin.take());
            ends.spawn(async move {
                if tokio::time::timeout(LEAVE_MAX, process.wait())
                    .await
                    .is_err()
                {
                    // One that has ended meanwhile is no error.
                    let _ = process.kill().await;
                }
            });
        }
        while ends.join_next().await.is_some() {}
        drop(self.homes);
    }
}

/// Lays the cables that a node dials over.
async fn lay(
    from: &str,
    nodes: &[Running],
    cables: &mut BTreeMap<(&'static str, &'static str), Cable>,
) -> anyhow::Result<()> {
    for (seed, plan) in (1..).zip(CABLES).filter(|(_, plan)| plan.from == from) {
        let to = nodes.iter().find(|node| node.plan.name == plan.to);
        let to = to.expect("a node dials those that run already").address;
        let cable = Cable::lay(to, plan.line, seed).await;
        let cable = cable.context("cannot open UDP sockets on 127.0.0.1")?;
        cables.insert((plan.from, plan.to), cable);
    }
    Ok(())
}

/// What a node dials.
fn joins<'a>(
    name: &'a str,
    cables: &'a BTreeMap<(&'static str, &'static str), Cable>,
) -> impl Iterator<Item = String> + 'a {
    let its = cables.iter().filter(move |((from, _), _)| *from == name);
    its.map(|(_, cable)| cable.near().to_string())
}

async fn start(
    plan: &NodePlan,
    homes: &Homes,
    cables: &BTreeMap<(&'static str, &'static str), Cable>,
    listen: SocketAddr,
) -> anyhow::Result<Running> {
    let log = homes.log(plan.name);
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    // What is meant for a node of this user is not meant for these.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LEVADA_") {
            command.env_remove(name);
        }
    }
    let relay = match plan.does {
        Does::Relay => "always",
        Does::Origin | Does::Player => "never",
    };
    command
        .args(["run", "--json", "--while-stdin", "--no-gateways"])
        .args(["--no-multicast", "--lanes", "1", "--relay", relay])
        .args(["--name", plan.name, "--listen", &listen.to_string()])
        .arg("--state")
        .arg(homes.state(plan.name))
        .arg("--config")
        .arg(homes.no_config()?);
    for address in joins(plan.name, cables) {
        command.args(["--join", &address]);
    }
    for (stream, _, source) in STREAMS.iter().filter(|(_, at, _)| *at == plan.name) {
        command.args(["--source", &format!("{stream}={source}")]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(output)
        .kill_on_drop(true);
    // Ctrl-C is for this process, which then ends them in order.
    #[cfg(unix)]
    command.process_group(0);
    let mut process = command.spawn().context("cannot start a process")?;
    let said = first_line(&mut process).await;
    let about: Value = serde_json::from_str(&said).unwrap_or_default();
    let address = about["listen"].as_str().and_then(|text| text.parse().ok());
    let state = homes.state(plan.name);
    Ok(Running {
        plan: *plan,
        address: address.with_context(|| last_words(&log))?,
        state,
        process: Some(process),
    })
}

/// What it says first; nothing if it ends or takes too long.
async fn first_line(process: &mut Child) -> String {
    let mut line = String::new();
    if let Some(output) = process.stdout.take() {
        let mut output = BufReader::new(output);
        // Whatever goes wrong shows in its log.
        let _ = tokio::time::timeout(PATIENCE, output.read_line(&mut line)).await;
    }
    line
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    match lines[from..].join("; ") {
        words if words.is_empty() => "it did not say that it listens".to_owned(),
        words => words,
    }
}

async fn start_here(
    homes: &Homes,
    cables: &BTreeMap<(&'static str, &'static str), Cable>,
) -> anyhow::Result<Node> {
    let builder = Node::builder()
        .state(homes.state(HERE))
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .name(HERE)
        .relay(Relay::Never)
        .lanes(1)
        .admin(true);
    let builder = joins(HERE, cables).fold(builder, levada::Builder::join);
    let started = builder.start().await;
    started.with_context(|| format!("cannot start the node {HERE}"))
}

/// The gateways of the node of this process: for this machine alone.
fn program(http: Option<SocketAddr>) -> anyhow::Result<Program> {
    let free = |wanted: (Ipv4Addr, u16)| {
        let is_free = TcpListener::bind(wanted).is_ok();
        SocketAddr::from((wanted.0, if is_free { wanted.1 } else { 0 }))
    };
    let raw = RawProgram {
        rtsp: Some(free(RTSP).to_string()),
        http: Some(http.unwrap_or_else(|| free(HTTP)).to_string()),
        ..RawProgram::default()
    };
    raw.resolve()
}
