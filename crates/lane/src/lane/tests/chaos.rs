//! A lane under random trains and commands: it never panics, keeps the machine contract, and its ledgers balance.

use bytes::Bytes;
use levada_wire::datagram::link::{Head, Numbers, Pong, Pull};
use levada_wire::machine::harness::check_contract;
use levada_wire::{Number, RepairBudget};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::api::{
    Channel, Datagrams, Egress, EgressTerms, FlowCommand, Interface, Late, LinkCommand, Path,
    PublisherCommand, Train,
};
use crate::child::progress::Progress;
use crate::testkit::address;

/// Everything that a hostile or confused world may do to a lane, drawn from a pool of real datagrams.
struct Chaos {
    pool: Vec<Datagrams>,
}

impl Chaos {
    fn new() -> Self {
        let mut net = Net::chain(2);
        let ping = LinkDatagram::Ping(Ping {
            time: 1,
            sent: 0,
            padding: 0,
        });
        // The link is slow and loses a tenth, so that parity is in the pool.
        pongs(&mut net, 1, 0);
        net.deliver();
        for frame in (0..4).flat_map(second) {
            net.push(frame);
            net.command(
                0,
                Command::Link(link_to(1), LinkCommand::Send(ping.clone())),
            );
        }
        for message in (0..200).flat_map(repair_messages) {
            let link = link_to(1);
            net.command(0, Command::Link(link, LinkCommand::Send(message)));
        }
        net.command(0, Command::Publisher(FLOW, PublisherCommand::Finish));
        assert!(net.lanes[0].ledger().repair.parity_sent > 0);
        let pool = net.wires.into_iter().map(|(_, transmit)| transmit);
        Self {
            pool: pool.collect(),
        }
    }

    /// What a lane begins with that is to send parity: a link that is slow and loses a tenth.
    fn slow_link() -> Vec<Input> {
        let mut net = Net::chain(2);
        net.intercept();
        pongs(&mut net, 0, 1);
        let key = levada_wire::key::LinkKey::from_bytes([1; 32]);
        let link = link_to(0);
        let add = Command::Link(
            link,
            LinkCommand::Add {
                remote_index: link,
                remote: address(0),
                send: key.clone(),
                receive: key,
                source: None,
                path: Path::Unknown,
            },
        );
        let pongs = net.intercept().into_iter().map(|bytes| {
            Input::Train(Train {
                to: None,
                from: address(0),
                segment_bytes: bytes.len(),
                bytes,
            })
        });
        std::iter::once(Input::Command(add)).chain(pongs).collect()
    }

    fn draw(&self, rng: &mut impl Rng) -> Input {
        match rng.next_u32() % 5 {
            _ if rng.next_u32().is_multiple_of(16) => Input::Late(Late {
                egress: Self::egress(rng),
                flow: FLOW,
                first: Number::new(u64::from(rng.next_u32() % 50)).unwrap(),
                end: Number::new(u64::from(rng.next_u32() % 50)).unwrap(),
            }),
            0 => Input::Command(Self::command(rng)),
            1 => Input::Train(self.train(rng, true)),
            2 => Input::Heard(self.train(rng, false)),
            _ => Input::Train(self.train(rng, false)),
        }
    }

    fn train(&self, rng: &mut impl Rng, junk: bool) -> Train {
        let any = &self.pool[rng.next_u32() as usize % self.pool.len()];
        let mut bytes = any.bytes.to_vec();
        let mut segment_bytes = any.segment_bytes;
        if junk {
            for _ in 0..rng.next_u32() % 4 {
                let at = rng.next_u32() as usize % bytes.len();
                bytes[at] ^= 1 << (rng.next_u32() % 8);
            }
            bytes.truncate(rng.next_u32() as usize % 1_200);
            segment_bytes = rng.next_u32() as usize % 1_200;
        }
        Train {
            to: None,
            from: address(rng.next_u32() as usize % 3),
            bytes: Bytes::from(bytes),
            segment_bytes,
        }
    }

    fn command(rng: &mut impl Rng) -> Command {
        let flow = if rng.next_u32().is_multiple_of(8) {
            FlowId(rng.next_u64() % 3)
        } else {
            FLOW
        };
        let link = link_to(rng.next_u32() as usize % 3);
        let dts = i64::from(rng.next_u32()) * 1_000;
        let bytes = rng.next_u32() as usize % 30_000;
        match rng.next_u32() % 25 {
            0 => Command::Link(link, Self::add_link(rng, link)),
            1 if rng.next_u32().is_multiple_of(4) => Command::Link(link, LinkCommand::Remove),
            2 => Command::Link(
                link,
                LinkCommand::Send(LinkDatagram::Ping(Ping {
                    time: 0,
                    sent: 0,
                    padding: 0,
                })),
            ),
            3 | 4 => Command::Flow(flow, FlowCommand::Open),
            5 | 6 => testkit::set_carry_key(),
            7 => Command::Flow(flow, FlowCommand::AddUpstream(link)),
            8 => Command::Flow(flow, FlowCommand::RemoveUpstream(link)),
            9 | 10 => Command::Flow(
                flow,
                FlowCommand::AddEgress(
                    link,
                    EgressTerms {
                        peak: Bitrate([u64::MAX, 0, 100_000][rng.next_u32() as usize % 3]),
                        ..EgressTerms::UNLIMITED
                    },
                ),
            ),
            11 => Command::Flow(flow, FlowCommand::RemoveEgress(link)),
            12 | 13 => testkit::consume(),
            14 => Command::Flow(flow, FlowCommand::StopConsuming),
            15 => Command::Flow(
                flow,
                FlowCommand::Originate(Box::new(crate::Originate {
                    flush_interval: Duration::from_millis(u64::from(rng.next_u32() % 20)),
                    ..testkit::originate()
                })),
            ),
            16 => Command::Publisher(flow, PublisherCommand::Describe(testkit::description())),
            17 if rng.next_u32().is_multiple_of(4) => {
                Command::Publisher(flow, PublisherCommand::Finish)
            }
            18 if rng.next_u32().is_multiple_of(4) => Command::Flow(flow, FlowCommand::Close),
            19 => Command::Flow(
                flow,
                FlowCommand::SetBudget(RepairBudget::new(Duration::from_millis(u64::from(
                    rng.next_u32() % 1_000,
                )))),
            ),
            20..24 => Self::multicast_command(rng, flow, link),
            _ => testkit::push(frame(
                1 + (dts % 3).unsigned_abs() as u8,
                dts % 2 == 0,
                dts,
                bytes,
            )),
        }
    }
}

impl Chaos {
    fn add_link(rng: &mut impl Rng, link: LinkIndex) -> LinkCommand {
        let key = levada_wire::key::LinkKey::from_bytes([1; 32]);
        LinkCommand::Add {
            remote_index: link,
            remote: address(rng.next_u32() as usize % 3),
            source: [None, Some([10, 0, 0, 7].into())][rng.next_u32() as usize % 2],
            path: [Path::Wire, Path::Unknown][rng.next_u32() as usize % 2],
            send: key.clone(),
            receive: key,
        }
    }

    fn channel(rng: &mut impl Rng) -> Channel {
        let interface = Interface {
            index: 1,
            address: None,
        };
        Channel {
            address: ([239, 7, 0, (rng.next_u32() % 3) as u8], 7_801).into(),
            interface,
        }
    }

    fn egress(rng: &mut impl Rng) -> Egress {
        match rng.next_u32() % 4 {
            0 => Egress::Channel(Self::channel(rng)),
            link => Egress::Link(link_to(link as usize - 1)),
        }
    }

    fn multicast_command(rng: &mut impl Rng, flow: FlowId, link: LinkIndex) -> Command {
        let channel = Self::channel(rng);
        match rng.next_u32() % 7 {
            0 | 1 => Command::Flow(
                flow,
                FlowCommand::AddChannel {
                    channel,
                    lifetime: Duration::from_millis(u64::from(rng.next_u32() % 3_000)),
                },
            ),
            2 => Command::Flow(flow, FlowCommand::RemoveChannel(channel)),
            5 if link.0.is_multiple_of(2) => Command::Flow(flow, FlowCommand::Join(channel)),
            5 => Command::Flow(flow, FlowCommand::Leave(channel)),
            3 | 4 => Command::Flow(flow, FlowCommand::AddMember { channel, link }),
            _ => Command::Flow(flow, FlowCommand::RemoveMember { channel, link }),
        }
    }
}

/// Tells a lane that its link to another takes as long as it has been running, and loses a tenth.
fn pongs(net: &mut Net, from: usize, to: usize) {
    for pong in 0..10 {
        let link = link_to(to);
        let message = LinkDatagram::Pong(Pong {
            time: 1,
            sent: 1_000 * pong,
            received: 900 * pong,
            size: 0,
        });
        net.command(from, Command::Link(link, LinkCommand::Send(message)));
    }
}

/// One of each message of repair, about numbers around that one.
fn repair_messages(value: u64) -> [LinkDatagram; 6] {
    let first = Number::new(value).unwrap();
    let flow = FLOW;
    let bitmap = vec![0b1010_0110; usize::try_from(value % 33).unwrap()];
    let numbers = Numbers {
        flow,
        first,
        bitmap,
    };
    let highest = Number::new(value * 3).unwrap();
    let count = u16::try_from(value).unwrap();
    [
        LinkDatagram::Nack(numbers.clone()),
        LinkDatagram::NackBad(numbers.clone()),
        LinkDatagram::Pending(numbers.clone()),
        LinkDatagram::Gone(numbers),
        LinkDatagram::Head(Head { flow, highest }),
        LinkDatagram::Pull(Pull { flow, first, count }),
    ]
}

/// A lane that checks after every call that its ledgers balance and that nobody is behind for ever.
struct Checked(Lane);

impl Checked {
    fn check(&mut self) {
        assert!(self.0.ledger().check().is_zero());
        let state = self.0.state_mut();
        let mut rows = state.io.queue.rows();
        rows.sort_unstable();
        assert!(rows.is_sorted_by(|one, other| one < other), "{rows:?}");
        for flow in state.flows.values_mut() {
            let id = flow.id;
            for child in &flow.children.all {
                let progress = child.progress;
                let is_newcomer = matches!(
                    progress,
                    Progress::Queued { .. } | Progress::CatchingUp { .. }
                );
                if is_newcomer {
                    assert!(
                        rows.contains(&(id, child.link)),
                        "{progress:?} outside the row"
                    );
                }
                if let Some(at) = child.wake() {
                    let next = flow.next_wakeup().expect("something wakes it");
                    assert!(next.at <= at, "{progress:?} sleeps on");
                }
            }
        }
    }
}

impl Machine for Checked {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.0.handle_input(now, input);
        self.check();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
        self.check();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.0.poll_output()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        self.0.poll_timeout()
    }
}

#[test]
fn a_lane_keeps_the_machine_contract_whatever_comes_in() {
    let chaos = Chaos::new();

    check_contract(
        350..500, // 441 found that newcomers were served after an input that came at their moment
        |_| Checked(Lane::new(0, LaneSettings::default())),
        |rng| chaos.draw(rng),
    );
}

#[test]
fn chaos_reaches_every_fate_of_a_packet() {
    let chaos = Chaos::new();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut ledger = Ledger::default();
    let mut frames = 0;
    for _ in 0..20 {
        let mut lane = Lane::new(0, LaneSettings::default());
        let begin = Instant::from_nanos(1_000_000_000);
        for input in Chaos::slow_link() {
            lane.handle_input(begin, input);
        }
        for step in 0..1_000 {
            let now = begin + Duration::from_millis(step);
            lane.handle_input(now, chaos.draw(&mut rng));
            frames += std::iter::from_fn(|| lane.poll_output())
                .filter(|output| matches!(output, Output::Event(Event::Delivery { .. })))
                .count();
        }
        ledger += lane.ledger();
    }

    assert!(frames > 0 && ledger.unopened > 0);
    for (declared, count) in ledger.repair.counts() {
        // A burst comes whole or not at all here: `repair::parity` has its own tests.
        assert!(
            count > 0 || declared.name == "repair_recovered",
            "{declared:?}"
        );
    }
    for count in [
        ledger.made,
        ledger.forwarded,
        ledger.consumed,
        ledger.kept,
        ledger.control,
    ] {
        assert!(count > 0, "{ledger:?}");
    }
    for reason in [
        DropReason::UnknownFlow,
        DropReason::NoKey,
        DropReason::BadTag,
        DropReason::NotUpstream,
        DropReason::Duplicate,
        DropReason::UnknownLink,
    ] {
        assert!(ledger.dropped(reason) > 0, "{reason:?}");
    }
    for reason in [DropReason::BackToSender, DropReason::Skipped] {
        assert!(ledger.unsent(reason) > 0, "{reason:?}");
    }
}
