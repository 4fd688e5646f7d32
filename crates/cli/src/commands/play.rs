//! `levada play NAME`: one stream into a player, a file, or standard output.
//!
//! ```text
//! AnySubscriber ─▶ Playout ─▶ Writer ─▶ Target
//! ```
//!
//! Not how the stream gets here. Invariant: while nothing comes, standard error says why; whatever ends it, what was
//! written is a whole transport stream.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use levada::{Delivery, Paths, StreamName, SubscribeOptions};
use levada_media::clock::Clock;
use levada_media::sink::{Playout, Writer};
use levada_wire::Instant;

use crate::access::{Access, AnySubscriber, NodeArgs};
use crate::logging::{self, Level};
use crate::say;
use crate::shutdown::Shutdown;
use crate::sink::{Destination, Player, Target};
use crate::units;

mod waiting;
use waiting::Waiting;

/// After the end of a stream, how long another origin's, or a new start, is waited for.
const END_GRACE: Duration = Duration::from_secs(2);
/// The longest latency that can be asked for.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream's name
    name: StreamName,
    /// The player to show it in [default: one that is installed]
    #[arg(long, conflicts_with = "out")]
    player: Option<Player>,
    /// Write it as MPEG-TS to this file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Play evenly, this much later than the quickest frame came, 60s at most, for example `500ms`; what is lost on the
    /// way has as long to be sent again, up to 10s [default: at once, and half a second for what is lost]
    #[arg(long, value_name = "TIME", value_parser = latency, allow_hyphen_values = true)]
    latency: Option<Duration>,
    /// Have it come over so many ways at the same time, which share as few nodes as can be told: over 2 nothing is
    /// missed when a node on one of them dies, and it costs the line the stream twice [default: 1]
    #[arg(long, value_name = "N", value_parser = paths, allow_hyphen_values = true)]
    paths: Option<Paths>,
    /// End this many seconds after the first frame
    #[arg(long, value_name = "N", value_parser = units::whole(0..=units::SECONDS_MAX), allow_hyphen_values = true)]
    seconds: Option<u64>,
    /// Wait for the stream as long as it takes: before its start, and after its end
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    node: NodeArgs,
}

fn paths(text: &str) -> Result<Paths, String> {
    match text {
        "1" => Ok(Paths::One),
        "2" => Ok(Paths::Two),
        _ => Err("write 1 or 2".to_owned()),
    }
}

fn latency(text: &str) -> Result<Duration, String> {
    let latency = units::duration(text)?;
    if latency > LATENCY_MAX {
        return Err(format!("at most {} s", LATENCY_MAX.as_secs()));
    }
    Ok(latency)
}

pub(crate) async fn execute(
    args: Args,
    shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let target = Target::open(args.destination()?, &args.name).await?;
    let access = args.node.access("play", &args.name).await?;
    if matches!(access, Access::Own(_)) && args.node.is_alone() && !args.wait {
        access.leave().await;
        target.finish().await?;
        anyhow::bail!(
            "no node runs here that could have `{}`, and no neighbour is named: \
             start a node with `levada run`, or name one with --join HOST[:PORT]",
            args.name
        );
    }
    let result = play(&args, &access, target, shutdown).await;
    access.leave().await;
    match result {
        Err(error) if say::is_unread(&error) => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

async fn play(
    args: &Args,
    access: &Access,
    target: Target,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut session = Session {
        subscriber: access.subscribe(&args.name, args.options()).await?,
        playout: Playout::new(args.latency.unwrap_or_default()),
        writer: Writer::new(),
        target,
        waiting: Waiting::new(&args.name, args.wait),
        clock: Clock::start(),
        seconds: args.seconds.map(Duration::from_secs),
        wait: args.wait,
        stops: None,
        ended: None,
        buffer: Vec::new(),
    };
    let result = tokio::select! {
        result = session.run(access) => result,
        () = shutdown.wait() => Ok(()),
    };
    let finished = session.target.finish().await;
    result.and(finished)
}

impl Args {
    /// What is lost is worth waiting for until it would be played.
    fn options(&self) -> SubscribeOptions {
        let options = SubscribeOptions::default().with_paths(self.paths.unwrap_or_default());
        match self.latency {
            Some(latency) if !latency.is_zero() => options.with_repair_budget(latency),
            _ => options,
        }
    }

    fn destination(&self) -> anyhow::Result<Destination> {
        Ok(match (&self.out, self.player) {
            (Some(path), _) if path.as_os_str() == "-" => Destination::Stdout,
            (Some(path), _) => Destination::File(path.clone()),
            (None, Some(player)) => Destination::Player(player),
            (None, None) => Destination::Player(Player::installed()?),
        })
    }
}

/// One stream being played.
#[derive(Debug)]
struct Session {
    subscriber: AnySubscriber,
    playout: Playout<Delivery>,
    writer: Writer,
    target: Target,
    waiting: Waiting,
    clock: Clock,
    /// How long to play from the first frame on.
    seconds: Option<Duration>,
    /// Whether an end is no end.
    wait: bool,
    /// When that is over.
    stops: Option<Instant>,
    /// The stream has ended; when nothing comes until then, so have we.
    ended: Option<Instant>,
    buffer: Vec<u8>,
}

impl Session {
    /// Plays until there is a reason to stop. Dropped when the user wants to.
    async fn run(&mut self, access: &Access) -> anyhow::Result<()> {
        loop {
            let (due, clock) = (self.playout.due(), self.clock);
            let end = self.stops.into_iter().chain(self.ended).min();
            tokio::select! {
                delivery = self.subscriber.next() => match delivery? {
                    Some(delivery) => self.take(delivery),
                    // Somebody told the node to leave.
                    None => return Ok(()),
                },
                () = clock.wait_if(due) => {}
                () = clock.wait_if(end) => return Ok(()),
                () = self.waiting.lapse() => self.waiting.speak(access).await?,
                () = self.target.closed() => return Ok(()),
            }
            while let Some(delivery) = self.playout.pop(self.clock.now()) {
                self.deliver(delivery).await?;
            }
        }
    }

    /// Puts what came where it waits until it is due.
    fn take(&mut self, delivery: Delivery) {
        self.waiting.note(&delivery);
        match &delivery {
            Delivery::Frame { frame, .. } => {
                let time = (frame.track, frame.dts);
                return self.playout.push_frame(delivery, time, self.clock.now());
            }
            Delivery::Description(description) => self.playout.describe(description),
            Delivery::NewInstance(_) => self.playout.start_instance(),
            _ => {}
        }
        self.playout.push(delivery);
    }

    async fn deliver(&mut self, delivery: Delivery) -> anyhow::Result<()> {
        match delivery {
            Delivery::NewInstance(_) => self.writer.new_instance(),
            Delivery::Description(description) => {
                for (track, codec, why) in self.writer.describe(&description) {
                    say::note(format_args!(
                        "track {} ({codec}) is left out: {why}",
                        track.0
                    ));
                }
            }
            Delivery::Frame { frame, .. } => {
                self.buffer.clear();
                if let Err(error) = self.writer.write(frame, &mut self.buffer) {
                    tracing::warn!(%error, "a frame is left out");
                }
                self.target.write(&self.buffer).await?;
                self.ended = None;
                if let Some(seconds) = self.seconds.take() {
                    self.stops = Some(self.clock.now() + seconds);
                }
            }
            Delivery::End if !self.wait => self.ended = Some(self.clock.now() + END_GRACE),
            // States and gaps were told when they came.
            _ => {}
        }
        Ok(())
    }
}
