//! `levada demo`: a whole network on this machine, to look at.
//!
//! ```text
//!   origin ──── UDP on loopback ────▶ relay ──── UDP on loopback ────▶ player
//!   (test card)                               (Meter)                  (Meter)
//! ```
//!
//! Three nodes as everywhere else: three keys, three ports, three state directories. They live in one process so that
//! one Ctrl-C ends all, but nothing connects two of them except their sockets. Invariant: what is shown was measured at
//! a subscriber or counted by the nodes. So that the first hop is measured and not guessed, the relay has a subscriber
//! too, and is ACTIVE where a mere relay is STREAMING; no packet is added by that.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use levada::view::LinkState;
use levada::{
    Delivery, Node, PublishOptions, Relay, StreamName, SubscribeOptions, Subscriber, View, WallTime,
};
use levada_media::clock::{self, Clock};
use levada_media::source::{Options, Request};
use levada_wire::Instant;
use tokio::time::MissedTickBehavior;

use crate::access::Access;
use crate::broadcast::{self, Broadcasts, News};
use crate::logging::{self, Level};
use crate::shutdown::Shutdown;
use crate::units;

mod meter;
mod screen;
use meter::Meter;
use screen::Screen;

/// The stream's name.
const STREAM: &str = "demo/testcard";
/// How often the summary is drawn.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// Without a frame for this long something is wrong with this machine, and it is said what.
const FIRST_FRAME_MAX: Duration = Duration::from_secs(10);

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End by itself after this many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = units::whole(1..=units::SECONDS_MAX),
        allow_hyphen_values = true)]
    seconds: Option<u64>,
    /// Print one JSON object each second, and one at the end
    #[arg(long)]
    json: bool,
}

pub(crate) async fn execute(
    args: Args,
    shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let network = Network::start().await?;
    let result = show(&args, &network, shutdown).await;
    network.leave().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn show(args: &Args, network: &Network, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let stream: StreamName = STREAM.parse()?;
    let mut screen = Screen::new(args.json);
    screen.introduce(network)?;

    let mut broadcasts = network.publish(&stream, &shutdown).await?;
    let meter = Arc::new(Mutex::new(Meter::new()));
    let places: [(_, Note); 2] = [
        (&network.relay, Meter::note_at_relay),
        (&network.player, Meter::note),
    ];
    for (node, note) in places {
        let options = SubscribeOptions::default();
        let subscriber = node.subscribe(stream.clone(), options).await?;
        tokio::spawn(measure(subscriber, Arc::clone(&meter), note));
    }

    let clock = Clock::start();
    let end = args
        .seconds
        .map(|seconds| Instant::ZERO + Duration::from_secs(seconds));
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let second = lock(&meter).second();
                let views = network.views().await?;
                if second.frames_total == 0 && clock.now().since(Instant::ZERO) >= FIRST_FRAME_MAX {
                    bail!(nothing_came(&views));
                }
                screen.draw(&second, &views)?;
            }
            () = clock.wait_if(end) => break,
            () = shutdown.wait() => break,
            // The test card never ends, so this is an error.
            Some(News::Ended(_, ended)) = broadcasts.next() => ended?,
        }
    }
    let total = lock(&meter).total();
    screen.conclude(&total)?;
    anyhow::ensure!(
        total.frames_total > 0 || end.is_none(),
        "no frame arrived: {}",
        nothing_came(&network.views().await?)
    );
    Ok(())
}

/// What the meter does with something that arrived at one place.
type Note = fn(&mut Meter, &Delivery, WallTime);

/// Feeds the meter with what a subscriber gets.
async fn measure(mut subscriber: Subscriber, meter: Arc<Mutex<Meter>>, note: Note) {
    while let Some(delivery) = subscriber.next().await {
        let now = clock::wall();
        note(&mut lock(&meter), &delivery, now);
    }
}

fn lock(meter: &Mutex<Meter>) -> std::sync::MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the player waits for, and which links are not up.
fn nothing_came(views: &Views) -> String {
    let mut causes = Vec::new();
    for (name, view) in views.all() {
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
        "nothing arrived at the player ({causes}); does a firewall filter UDP on 127.0.0.1? --debug shows more"
    )
}

/// The three nodes.
#[derive(Debug)]
struct Network {
    origin: Node,
    relay: Node,
    player: Node,
}

/// What each of them sees.
#[derive(Debug)]
struct Views {
    origin: View,
    relay: View,
    player: View,
}

impl Network {
    async fn start() -> anyhow::Result<Self> {
        let builder = |name: &str| {
            let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let builder = Node::builder().temporary_state().listen(any_port);
            builder.name(name).admin(true)
        };
        let relay = builder("relay").relay(Relay::Always).start().await;
        let relay = relay.context("cannot start the relay")?;
        let address = relay.local_addr().to_string();
        let leaf = async |name| {
            let builder = builder(name).relay(Relay::Never).join(&address);
            let node = builder.start().await;
            node.with_context(|| format!("cannot start the {name}"))
        };
        Ok(Self {
            origin: leaf("origin").await?,
            player: leaf("player").await?,
            relay,
        })
    }

    async fn publish(
        &self,
        stream: &StreamName,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Broadcasts> {
        let request = Request {
            text: "test".to_owned(),
            name: stream.clone(),
            options: Options::default(),
        };
        let access = Access::Own(self.origin.clone());
        let mut broadcasts = Broadcasts::new(&access, PublishOptions::default(), shutdown);
        for ready in broadcast::open(&[request]).await?.streams {
            broadcasts.start(ready).await?;
        }
        Ok(broadcasts)
    }

    async fn views(&self) -> anyhow::Result<Views> {
        Ok(Views {
            origin: self.origin.view().await?,
            relay: self.relay.view().await?,
            player: self.player.view().await?,
        })
    }

    async fn leave(self) {
        tokio::join!(self.player.leave(), self.origin.leave());
        self.relay.leave().await;
    }
}

impl Views {
    /// In the order in which the stream flows.
    const fn all(&self) -> [(&'static str, &View); 3] {
        [
            ("origin", &self.origin),
            ("relay", &self.relay),
            ("player", &self.player),
        ]
    }
}
