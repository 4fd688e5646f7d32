//! Origins in virtual time: real lanes that cut and seal traffic, as fast as somebody takes what they make.
//!
//! Not a socket and not a clock: a run has the time at which a real origin would have sent it, and whoever drives the
//! measurement sends it then, or at once. Called by all measurements. Invariant: runs are those of a real origin, burst
//! by burst, sealed and numbered once.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use levada_lane::{
    Command, Datagrams, EgressTerms, FlowCommand, Input, Lane, LaneSettings, LinkCommand,
    Originate, Output, Path, PublisherCommand,
};
use levada_wire::key::{CarryKey, ContentSecret, LinkKey, Suite};
use levada_wire::{
    Bitrate, FlowId, InstanceId, Instant, LinkIndex, Machine as _, Number, PacketSize, WallTime,
};

use crate::traffic::{self, Timed, Traffic};

/// The key epoch of all flows here.
pub(crate) const EPOCH: u8 = 1;
/// How all packets here are sealed: what an origin takes on a processor with AES instructions.
pub(crate) const SUITE: Suite = Suite::Aes128Gcm;
/// What a publisher waits unless it says otherwise.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// The one link of an origin, to the lane under test.
const LINK: LinkIndex = LinkIndex(0);
/// A group each second: over this, the traffic of several flows starts evenly spread.
pub(crate) const GROUP: Duration = Duration::from_secs(1);

/// The flow of that place.
pub(crate) fn flow(place: usize) -> FlowId {
    FlowId(0x6265_6E63_6800_0000 | place as u64)
}

/// The place of that flow.
pub(crate) fn place(flow: FlowId) -> usize {
    usize::try_from(flow.0 & 0x00FF_FFFF).expect("24 bits")
}

/// The instance of all flows here.
pub(crate) const fn instance() -> InstanceId {
    InstanceId([3; 16])
}

/// What opens the packets of all flows here.
pub(crate) const fn secret() -> ContentSecret {
    ContentSecret::from_bytes([5; 32])
}

/// The key of the carry tags.
pub(crate) const fn carry() -> CarryKey {
    CarryKey::from_bytes([4; 16])
}

/// A run and what the measurement must know of it.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    /// When a real origin would send it, since the traffic's start.
    pub(crate) at: Instant,
    /// The place of its flow.
    pub(crate) flow: usize,
    /// The number of its first packet.
    pub(crate) first: Number,
    pub(crate) run: Datagrams,
}

impl Due {
    pub(crate) fn packets(&self) -> usize {
        self.run.bytes.len().div_ceil(self.run.segment_bytes)
    }
}

/// What makes the frames of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Camera {
    pub rate: Bitrate,
    /// How long a frame waits for others to share its burst.
    pub flush_interval: Duration,
}

impl Camera {
    /// One that waits as long as publishers do.
    pub const fn usual(rate: Bitrate) -> Self {
        Self {
            rate,
            flush_interval: FLUSH_INTERVAL,
        }
    }
}

/// One origin: a lane of its own and its traffic.
#[derive(Debug)]
struct OriginLane {
    place: usize,
    lane: Lane,
    traffic: Traffic,
    /// When its traffic starts.
    phase: Duration,
    next: Timed,
}

impl OriginLane {
    fn new(place: usize, camera: Camera, phase: Duration) -> Self {
        let mut lane = Lane::new(0, LaneSettings::default());
        let key = || LinkKey::from_bytes([6; 32]);
        let link = Command::Link(
            LINK,
            LinkCommand::Add {
                remote_index: LINK,
                remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                source: None,
                path: Path::Wire,
                send: key(),
                receive: key(),
            },
        );
        let originate = Originate {
            instance: instance(),
            suite: SUITE,
            epoch: EPOCH,
            secret: secret(),
            carry: carry(),
            packet_size: PacketSize::DEFAULT,
            description: traffic::description(),
            flush_interval: camera.flush_interval,
        };
        let egress = Command::Flow(
            flow(place),
            FlowCommand::AddEgress(LINK, EgressTerms::UNLIMITED),
        );
        for command in [
            link,
            Command::Flow(flow(place), FlowCommand::Originate(Box::new(originate))),
            egress,
        ] {
            lane.handle_input(Instant::ZERO, Input::Command(command));
        }
        debug_assert_eq!(lane.counters().commands_refused, 0, "an origin is set up");
        let mut traffic = Traffic::new(camera.rate, place as u64 + 1);
        Self {
            place,
            lane,
            phase,
            next: traffic.next(),
            traffic,
        }
    }

    fn frame_at(&self) -> Instant {
        Instant::ZERO + self.phase + self.next.at
    }

    /// When it has something to do.
    fn next_at(&self) -> Instant {
        let timer = self.lane.poll_timeout().map(|wakeup| wakeup.at);
        let frame = self.frame_at();
        timer.map_or(frame, |timer| timer.min(frame))
    }

    /// Does it.
    fn step(&mut self, ready: &mut VecDeque<Due>) {
        let now = self.next_at();
        if self.frame_at() <= now {
            let frame = std::mem::replace(&mut self.next, self.traffic.next()).frame;
            let push = Command::Publisher(
                flow(self.place),
                PublisherCommand::Push {
                    frame,
                    wall: WallTime(now.as_micros()),
                },
            );
            self.lane.handle_input(now, Input::Command(push));
        } else {
            self.lane.handle_timeout(now);
        }
        while let Some(output) = self.lane.poll_output() {
            let Output::Transmit(run) = output else {
                continue;
            };
            let Some(packets) = run.packets else {
                continue; // what it says to its neighbour, which no floor would understand
            };
            ready.push_back(Due {
                at: now,
                flow: self.place,
                first: packets.first,
                run: run.datagrams,
            });
        }
    }
}

/// The traffic of several origins, in the order of its times.
#[derive(Debug)]
pub(crate) struct Feed {
    origins: Vec<OriginLane>,
    order: BTreeSet<(Instant, usize)>,
    ready: VecDeque<Due>,
}

impl Feed {
    /// That many such flows, each of which begins in its own moment of the first group.
    pub(crate) fn new(flows: usize, camera: Camera) -> Self {
        let phase = |place: usize| GROUP.mul_f64(place as f64 / flows as f64);
        let origins: Vec<_> = (0..flows)
            .map(|place| OriginLane::new(place, camera, phase(place)))
            .collect();
        let order = origins
            .iter()
            .map(|origin| (origin.next_at(), origin.place));
        Self {
            order: order.collect(),
            origins,
            ready: VecDeque::new(),
        }
    }

    /// From when on all flows are in full swing.
    pub(crate) fn full_swing(&self) -> Instant {
        let last = self.origins.iter().map(|origin| origin.phase).max();
        Instant::ZERO + last.unwrap_or_default()
    }

    /// The next run; there is always one more.
    pub(crate) fn next(&mut self) -> Due {
        self.make();
        self.ready.pop_front().expect("one was made")
    }

    /// When that is due.
    pub(crate) fn next_at(&mut self) -> Instant {
        self.make();
        self.ready.front().expect("one was made").at
    }

    /// Has the next run made if none is ready.
    fn make(&mut self) {
        while self.ready.is_empty() {
            let (_, place) = self.order.pop_first().expect("a feed has a flow");
            let origin = &mut self.origins[place];
            origin.step(&mut self.ready);
            self.order.insert((origin.next_at(), place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_all_flows_come_in_order_and_no_number_is_missing() {
        let mut feed = Feed::new(3, Camera::usual(Bitrate(1_000_000)));
        let mut next = [Number::ZERO; 3];
        let mut latest = Instant::ZERO;

        for _ in 0..600 {
            let due = feed.next();

            assert!(due.at >= latest);
            assert_eq!(due.first, next[due.flow]);
            latest = due.at;
            next[due.flow] = due.first.plus(due.packets() as u64);
        }

        assert!(next.iter().all(|number| number.value() > 300), "{next:?}");
        assert!(feed.full_swing() < latest);
        assert!(latest > Instant::ZERO + Duration::from_secs(2));
    }

    #[test]
    fn a_flow_is_found_again_by_its_place() {
        for at in [0, 1, 4_095] {
            assert_eq!(place(flow(at)), at);
        }
    }
}
