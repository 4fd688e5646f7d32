//! A hub and its members on one LAN: the datapath alone, told by hand what sites will decide.
//!
//! ```text
//! hub ── media ──▶ multicast channel ──▶ member, member, member        repair: requests by the members' links
//! ```
//!
//! Keys are the same for everybody and known to all: nothing is secret here. Not a node: there is no control. Called by
//! `main`. Invariant: a hub ends some time after its last frame, a member at the end of the stream.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use levada_lane::api::{
    Channel, Delivery, FlowCommand, Interface, LinkCommand, Path, PublisherCommand,
};
use levada_lane::{Command, Event, LaneSettings, Originate, RepairCounts};
use levada_ports::lanes::{self, Lanes};
use levada_ports::{Clock, SocketSet, SocketSettings};
use levada_wire::key::{CarryKey, ContentSecret, LinkKey, Suite};
use levada_wire::{
    Description, FlowId, Frame, InstanceId, LinkIndex, PacketSize, RepairBudget, Track, TrackId,
    TrackKind, WallTime,
};

const FLOW: FlowId = FlowId(0x1234_5678_0000_0001);
const INSTANCE: InstanceId = InstanceId([3; 16]);
/// The hub's number for a member is the member's place in its list; a member's number for the hub is this.
const HUB: LinkIndex = LinkIndex(1_000);
const PORT: u16 = 7800;
const FRAMES: i64 = 150;
const BETWEEN_FRAMES: Duration = Duration::from_millis(20);
const LIFETIME: Duration = Duration::from_secs(1);
/// What was lost last may still be asked for.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// A member whose stream does not end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lanes of one of them, and what they say.
struct Peer {
    lanes: Lanes,
    events: Receiver<Event>,
    channel: Channel,
}

impl Peer {
    fn start(address: &str) -> anyhow::Result<Self> {
        let seed = u64::from(std::process::id());
        let (say, events) = channel();
        let say = OnceLock::from(say);
        let sockets = SocketSet::bind(
            SocketAddr::new("::".parse()?, PORT),
            &SocketSettings::default(),
            2,
        )?;
        let lanes = lanes::spawn(lanes::Config {
            sockets,
            lane: LaneSettings {
                seed,
                ..LaneSettings::default()
            },
            clock: Clock::start(),
            on_event: Arc::new(move |event| {
                let said = say.get().map(|say| say.send(event));
                drop(said);
            }),
            on_foreign: Arc::new(drop),
        })?;
        Ok(Self {
            lanes,
            events,
            channel: Channel {
                address: address.parse().context("no address of a channel")?,
                interface: interface()?,
            },
        })
    }

    fn command(&self, command: Command) -> anyhow::Result<()> {
        self.lanes.send(command).context("the lane is busy")
    }

    fn add_link(
        &self,
        link: LinkIndex,
        remote_index: LinkIndex,
        remote: IpAddr,
    ) -> anyhow::Result<()> {
        self.command(Command::Link(
            link,
            LinkCommand::Add {
                remote_index,
                remote: SocketAddr::new(remote, PORT),
                source: None,
                path: Path::Wire,
                send: LinkKey::from_bytes([7; 32]),
                receive: LinkKey::from_bytes([7; 32]),
            },
        ))
    }

    /// What repair did, by name.
    fn counts(self) -> BTreeMap<&'static str, u64> {
        let counters = self.lanes.stop();
        let repair: RepairCounts = counters.lane.ledger.repair;
        let mut counts: BTreeMap<_, _> = repair
            .counts()
            .map(|(declared, count)| (declared.name.trim_start_matches("repair_"), count))
            .collect();
        counts.insert("made", counters.lane.ledger.made);
        counts
    }
}

/// The one cable of a host.
fn interface() -> anyhow::Result<Interface> {
    let index = std::fs::read_to_string("/sys/class/net/eth0/ifindex")?;
    // Towards anywhere on the cable: what answers there does not matter.
    let asking = std::net::UdpSocket::bind("0.0.0.0:0")?;
    asking.connect("10.255.255.254:9")?;
    let address: Option<Ipv4Addr> = match asking.local_addr()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    Ok(Interface {
        index: index.trim().parse()?,
        address,
    })
}

/// Sends the stream to a channel whose members these are, and prints what repair did.
#[allow(
    clippy::disallowed_methods,
    reason = "a source has its pace, and how long members still ask it cannot know"
)]
pub(crate) fn hub(address: &str, members: &[&str]) -> anyhow::Result<()> {
    let hub = Peer::start(address)?;
    hub.command(Command::Flow(
        FLOW,
        FlowCommand::Originate(Box::new(originate())),
    ))?;
    renew(&hub)?;
    for (link, member) in (0..).map(LinkIndex).zip(members) {
        hub.add_link(link, HUB, member.parse().context("no address")?)?;
        hub.command(Command::Flow(
            FLOW,
            FlowCommand::AddMember {
                channel: hub.channel,
                link,
            },
        ))?;
    }
    let begin = Instant::now();
    for at in 0..FRAMES {
        hub.command(Command::Publisher(
            FLOW,
            PublisherCommand::Push {
                frame: frame(at),
                wall: WallTime(1_700_000_000_000_000),
            },
        ))?;
        renew(&hub)?;
        let next = BETWEEN_FRAMES * u32::try_from(at + 1)?;
        thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    hub.command(Command::Publisher(FLOW, PublisherCommand::Finish))?;
    thread::sleep(AFTERWARDS);
    print(hub.counts())
}

#[allow(clippy::print_stderr, reason = "the test waits for it")]
fn say_ready() {
    eprintln!("ready");
}

/// Plays the stream that is heard on a channel, and prints what repair did, and how many frames and gaps there were.
pub(crate) fn member(address: &str, hub: &str, place: &str) -> anyhow::Result<()> {
    let member = Peer::start(address)?;
    let place = LinkIndex(place.parse().context("no place")?);
    member.add_link(HUB, place, hub.parse().context("no address")?)?;
    let (flow, channel) = (FLOW, member.channel);
    member.command(Command::Flow(flow, FlowCommand::Open))?;
    member.command(Command::Flow(flow, FlowCommand::Join(channel)))?;
    member.command(Command::Flow(
        flow,
        FlowCommand::SetBudget(RepairBudget::MAX),
    ))?;
    member.command(Command::Flow(
        flow,
        FlowCommand::SetCarryKey {
            epoch: 1,
            key: CarryKey::from_bytes([4; 16]),
        },
    ))?;
    member.command(Command::Flow(flow, FlowCommand::AddUpstream(HUB)))?;
    member.command(Command::Flow(
        flow,
        FlowCommand::Consume {
            instance: INSTANCE,
            suite: Suite::Aes128Gcm,
            epoch: 1,
            secret: ContentSecret::from_bytes([5; 32]),
        },
    ))?;
    let _ = member.lanes.fresh_counters(); // its socket has joined when it has answered
    say_ready();
    let (mut frames, mut gaps) = (0, 0);
    loop {
        match member
            .events
            .recv_timeout(PATIENCE)
            .context("no END came")?
        {
            Event::Delivery { delivery, .. } => match delivery {
                Delivery::Frame { .. } => frames += 1,
                Delivery::Gap(_) => gaps += 1,
                Delivery::End => break,
                _ => {}
            },
            Event::CannotJoin { reason, .. } => {
                anyhow::bail!("the channel cannot be heard: {reason}")
            }
            _ => {}
        }
    }
    let mut counts = member.counts();
    counts.extend([("frames", frames), ("gaps", gaps)]);
    print(counts)
}

fn renew(hub: &Peer) -> anyhow::Result<()> {
    hub.command(Command::Flow(
        FLOW,
        FlowCommand::AddChannel {
            channel: hub.channel,
            lifetime: LIFETIME,
        },
    ))
}

fn frame(at: i64) -> Frame {
    let is_sync = at % 50 == 0;
    let bytes = if is_sync { 20_000 } else { 3_000 };
    Frame {
        track: TrackId(1),
        sync: is_sync,
        discardable: false,
        dts: at * 1_800,
        pts: at * 1_800,
        data: vec![at.to_le_bytes()[0]; bytes].into(),
    }
}

fn originate() -> Originate {
    let track = Track {
        id: TrackId(1),
        kind: TrackKind::Video,
        codec: "h264".into(),
        timescale: NonZeroU32::new(90_000).expect("it is not zero"),
        config: Vec::new(),
        language: None,
    };
    Originate {
        instance: INSTANCE,
        suite: Suite::Aes128Gcm,
        epoch: 1,
        secret: ContentSecret::from_bytes([5; 32]),
        carry: CarryKey::from_bytes([4; 16]),
        packet_size: PacketSize::DEFAULT,
        description: Arc::new(Description {
            tracks: vec![track],
        }),
        flush_interval: Duration::ZERO,
    }
}

#[allow(clippy::print_stdout, reason = "this is what the test reads")]
fn print(counts: BTreeMap<&'static str, u64>) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&counts)?);
    Ok(())
}
