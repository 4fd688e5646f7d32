//! `levada demo`: a whole network on this machine, to look at.
//!
//! ```text
//!   eleven processes `levada run` ──── cables: UDP on loopback, late and lossy ──── the node of this process
//!   (origins, relays, players)                                                      (page, gateways, Meters)
//! ```
//!
//! A dozen nodes as everywhere else (`plan`): keys, ports, state directories of their own, connected by nothing but
//! their sockets (`network`, `cable`). With `--story` things break and are mended (`plan::STORY`), and the streams go
//! on. Invariant: what is shown was measured at a subscriber or counted by the nodes. So that the first hop is measured
//! and not guessed, the relay there has a subscriber too, and is ACTIVE where a mere relay is STREAMING; no packet is
//! added by that.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use levada::view::LinkState;
use levada::{Delivery, StreamName, SubscribeOptions, View, WallTime};
use levada_media::clock::{self, Clock};
use levada_wire::Instant;
use tokio::time::MissedTickBehavior;

use crate::access::Access;
use crate::config;
use crate::logging::{self, Level};
use crate::shutdown::Shutdown;
use crate::units;

mod cable;
mod desktop;
mod homes;
mod meter;
mod network;
mod plan;
mod screen;
use meter::{Meter, Second};
use network::Network;
use plan::{FIRST_HOP, HERE, SCENE_EVERY, STORY, STREAMS, TEST_CARD};
use screen::Screen;

/// How often the summary is drawn.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// Without a frame for this long something is wrong with this machine, and it is said what.
const FIRST_FRAME_MAX: Duration = Duration::from_secs(20);
/// A node that was killed is asked again for its stream this much later.
const AGAIN: Duration = Duration::from_millis(500);

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tell a story: a relay is killed, a cable cut, a link slowed, and all of it mended, again and again
    #[arg(long)]
    story: bool,
    /// End by itself after this many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = units::whole(1..=units::SECONDS_MAX),
        allow_hyphen_values = true)]
    seconds: Option<u64>,
    /// Print one JSON object each second, and one at the end
    #[arg(long)]
    json: bool,
    /// The TCP address of the page [default: port 8080 of this machine, or any free one]
    #[arg(long, value_name = "IP[:PORT]", value_parser = http_address)]
    http: Option<SocketAddr>,
    /// Do not open the page in a browser, even where there is a desktop
    #[arg(long)]
    no_open: bool,
}

fn http_address(text: &str) -> anyhow::Result<SocketAddr> {
    config::address(text, levada_gateway_http::PORT_DEFAULT)
}

pub(crate) async fn execute(
    args: Args,
    mut shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let mut network = tokio::select! {
        network = Network::start(args.http) => network?,
        () = shutdown.wait() => return Ok(ExitCode::SUCCESS),
    };
    let result = show(&args, &mut network, shutdown).await;
    network.leave().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn show(args: &Args, network: &mut Network, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let mut screen = Screen::new(args.json);
    screen.introduce(network)?;
    if !args.json && !args.no_open {
        desktop::open(network.gateways().http());
    }
    let meters = play(network)?;

    let clock = Clock::start();
    let end = args
        .seconds
        .map(|seconds| Instant::ZERO + Duration::from_secs(seconds));
    let mut story = STORY.iter().cycle();
    let mut next_scene = args.story.then_some(Instant::ZERO + SCENE_EVERY);
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let views = network.views().await;
                let seconds = meters.each(Meter::second);
                if seconds[0].frames_total == 0 && clock.now().since(Instant::ZERO) >= FIRST_FRAME_MAX {
                    bail!(nothing_came(network, &views));
                }
                screen.draw(&seconds, network, &views)?;
            }
            () = clock.wait_if(next_scene) => {
                let scene = story.next().expect("it begins anew at its end");
                network.gateways().note(scene.text);
                screen.tell(scene.text)?;
                network.act(scene.act).await?;
                next_scene = next_scene.map(|at| at + SCENE_EVERY);
            }
            () = clock.wait_if(end) => break,
            () = shutdown.wait() => break,
        }
    }
    let totals = meters.each(|meter| meter.total());
    screen.conclude(&totals)?;
    anyhow::ensure!(
        totals[0].frames_total > 0 || end.is_none(),
        "no frame arrived: {}",
        nothing_came(network, &network.views().await)
    );
    Ok(())
}

/// A meter for each of [`STREAMS`], at the node of this process.
#[derive(Clone, Debug)]
struct Meters([Arc<Mutex<Meter>>; STREAMS.len()]);

impl Meters {
    fn each(&self, look: fn(&mut Meter) -> Second) -> [Second; STREAMS.len()] {
        std::array::from_fn(|at| look(&mut lock(&self.0[at])))
    }
}

/// Has all players play.
fn play(network: &Network) -> anyhow::Result<Meters> {
    let meters = Meters(std::array::from_fn(|_| Arc::default()));
    for node in network.nodes() {
        for name in node.plan.plays {
            let (access, note): (_, Note) = if node.plan.name == HERE {
                (Access::Own(network.here().clone()), Meter::note)
            } else {
                (Access::Running(node.state.clone()), |_, _, _| {})
            };
            let at = STREAMS.iter().position(|(stream, ..)| stream == name);
            let meter = &meters.0[at.expect("players play the plan's streams")];
            tokio::spawn(measure(access, name.parse()?, Arc::clone(meter), note));
        }
    }
    let first_hop = Access::Running(network.node(FIRST_HOP).state.clone());
    let note: Note = Meter::note_at_relay;
    let meter = Arc::clone(&meters.0[0]);
    tokio::spawn(measure(first_hop, TEST_CARD.parse()?, meter, note));
    Ok(meters)
}

/// What the meter does with something that arrived at one place.
type Note = fn(&mut Meter, &Delivery, WallTime);

/// Feeds the meter with what a subscriber gets, for as long as this process runs: who was killed is asked again.
async fn measure(access: Access, stream: StreamName, meter: Arc<Mutex<Meter>>, note: Note) {
    loop {
        if let Ok(mut subscriber) = access.subscribe(&stream, SubscribeOptions::default()).await {
            while let Ok(Some(delivery)) = subscriber.next().await {
                let now = clock::wall();
                note(&mut lock(&meter), &delivery, now);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn lock(meter: &Mutex<Meter>) -> std::sync::MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the players wait for, and which links are not up.
fn nothing_came(network: &Network, views: &[Option<View>]) -> String {
    let mut causes = Vec::new();
    for (node, view) in network.nodes().iter().zip(views) {
        let name = node.plan.name;
        let Some(view) = view else {
            causes.push(format!("{name} does not answer"));
            continue;
        };
        for cause in view.flows.iter().filter_map(|flow| flow.control.cause) {
            causes.push(format!("{name}: {cause}"));
        }
        let links = view.links.iter().map(|link| &link.control);
        for link in links.filter(|link| link.state != LinkState::Up) {
            let cause = link.cause.as_deref().unwrap_or_default();
            let how = format!("link to {} is {} {cause}", link.remote, link.state);
            causes.push(format!("{name}: {}", how.trim_end()));
        }
    }
    let causes = if causes.is_empty() {
        "the nodes see nothing wrong".to_owned()
    } else {
        causes.join("; ")
    };
    format!(
        "nothing arrived at {HERE} ({causes}); does a firewall filter UDP on 127.0.0.1? --debug shows more"
    )
}
