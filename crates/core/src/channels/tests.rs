//! Stories of one sender or one receiver of channels: what it says to what it is told.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{ChannelEnd, ChannelOffer, ChannelReport, Hearing};
use levada_wire::datagram::site::probe::{Probe, Slot};
use levada_wire::datagram::site::{SiteTag, channel};
use levada_wire::lane::{Channel, FlowCommand, Heard, Interface};
use levada_wire::machine::harness::check_contract;
use levada_wire::{Identity, NetworkId, Number, PacketSize};
use rand_core::Rng as _;

use super::*;
use crate::limits::{
    CHANNEL_AGAIN, CHANNEL_AGAIN_MAX, CHANNEL_LIFETIME, CHANNEL_RENEWAL, CHANNEL_STEADY,
    CHANNEL_UNHEARD, CHANNELS_OF_FLOW_MAX, OFFERS_OF_FLOW_MAX, PROBE_FIRST, PROBE_INTERVAL_MAX,
    PROBES_PER_TRAIN,
};

const FLOW: FlowId = FlowId(7);
const SECOND: Duration = Duration::from_secs(1);

fn id(number: u8) -> NodeId {
    Identity::from_secret(&[number; 32]).id()
}

fn link(number: u8) -> LinkIndex {
    LinkIndex(number.into())
}

fn local(index: u32, is_wired: bool) -> Local {
    let address = Some([10, 0, 0, 99].into());
    Local {
        interface: Interface { index, address },
        is_wired,
    }
}

/// One node, and what it has said.
struct Story {
    channels: Channels,
    now: Instant,
    said: Vec<Output>,
}

impl Story {
    fn new() -> Self {
        let mut story = Self {
            channels: Channels::new(id(0)),
            now: Instant::from_nanos(1_000_000_000),
            said: Vec::new(),
        };
        story.hear(Input::Begin(NetworkId::OPEN, SiteTag::NONE));
        story
    }

    fn hear(&mut self, input: Input) {
        self.channels.handle_input(self.now, input);
        self.said
            .extend(std::iter::from_fn(|| self.channels.poll_output()));
    }

    fn sleep(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(wakeup) = self
            .channels
            .poll_timeout()
            .filter(|wakeup| wakeup.at <= until)
        {
            self.now = wakeup.at;
            self.channels.handle_timeout(self.now);
            self.said
                .extend(std::iter::from_fn(|| self.channels.poll_output()));
        }
        self.now = until;
    }

    /// A link to a node at a place on the LAN.
    fn link(&mut self, number: u8, at: Option<Local>) {
        let peer = id(number);
        let remote = SocketAddr::from(([10, 0, 0, number], 7_800));
        self.hear(Input::LinkUp {
            link: link(number),
            peer,
            remote,
        });
        self.hear(Input::Local { peer, at });
    }

    fn shape(&mut self, from: Option<u8>, to: &[u8]) {
        self.hear(Input::Shape(Shape {
            flow: FLOW,
            name: "cam".parse().unwrap(),
            packet_size: PacketSize::DEFAULT,
            from: from.map(link),
            to: to.iter().copied().map(link).collect(),
            is_here: true,
        }));
    }

    fn report(&mut self, from: u8, hearing: Hearing, have: Option<u64>) {
        let report = ChannelReport {
            flow: FLOW,
            slot: Slot::A,
            hearing,
            have: have.and_then(Number::new),
        };
        self.hear(Input::Message(link(from), Message::Report(report)));
    }

    fn offer(&mut self, from: u8) {
        let offer = ChannelOffer {
            flow: FLOW,
            slot: Slot::A,
        };
        self.hear(Input::Message(link(from), Message::Offer(offer)));
    }

    fn lane(&mut self, event: FlowEvent) {
        self.hear(Input::Lane(FLOW, event));
    }

    fn heard(&mut self, packets: u64, lost: u64, is_whole: bool) {
        let heard = Heard {
            link: link(1),
            packets,
            lost,
            is_whole,
        };
        self.lane(FlowEvent::Heard(heard));
    }

    /// Takes what was said to the lanes.
    fn commands(&mut self) -> Vec<FlowCommand> {
        let said = std::mem::take(&mut self.said).into_iter();
        let commands = said.filter_map(|output| match output {
            Output::Command(FLOW, command) => Some(command),
            _ => None,
        });
        commands.collect()
    }

    /// Takes what was said to the peer of a link.
    fn told(&mut self, number: u8) -> Vec<FlowMessage> {
        let said = std::mem::take(&mut self.said).into_iter();
        let told = said.filter_map(|output| match output {
            Output::Send(to, message) if to == link(number) => Some(message),
            _ => None,
        });
        told.collect()
    }

    /// Takes who gets the flow by a channel from now on, or not any more.
    fn by_channel(&mut self) -> Vec<(LinkIndex, bool, Option<Number>)> {
        let said = std::mem::take(&mut self.said).into_iter();
        let by = said.filter_map(|output| match output {
            Output::ByChannel {
                link, is_so, have, ..
            } => Some((link, is_so, have)),
            _ => None,
        });
        by.collect()
    }

    fn probes(&mut self) -> usize {
        let said = std::mem::take(&mut self.said).into_iter();
        said.filter(|output| matches!(output, Output::Probe { .. }))
            .count()
    }

    fn mode(&self) -> Option<(Mode, String)> {
        let rows = self.channels.receptions(id(0));
        rows.first().map(|row| (row.mode, row.cause.clone()))
    }
}

/// A hub with that many children on its LAN.
fn hub(children: &[u8]) -> Story {
    let mut story = Story::new();
    for child in children {
        story.link(*child, Some(local(2, true)));
    }
    story.shape(None, children);
    story
}

/// A hub whose two children, and more, get the flow by a channel.
fn speaking(children: &[u8]) -> Story {
    let mut story = hub(children);
    for child in children {
        story.report(*child, Hearing::Probes, None);
    }
    for child in children {
        story.report(*child, Hearing::Media, None);
    }
    story.said.clear();
    story
}

/// A member whose parent, node 1, has offered a channel.
fn member() -> Story {
    let mut story = Story::new();
    story.link(1, Some(local(2, true)));
    story.shape(Some(1), &[]);
    story.offer(1);
    story
}

/// A member that gets the flow by the channel.
fn listening() -> Story {
    let mut story = member();
    story.heard(40, 0, true);
    story.said.clear();
    story
}

fn channel() -> Channel {
    Channel {
        address: channel::media(
            NetworkId::OPEN,
            SiteTag::NONE,
            FLOW,
            Slot::A,
            [10, 0, 0, 1].into(),
        ),
        interface: local(2, true).interface,
    }
}

#[test]
fn two_children_on_a_wire_are_offered_a_channel_which_is_probed_until_both_hear_it() {
    let mut story = hub(&[1, 2]);
    let offer = |message: &FlowMessage| matches!(message, FlowMessage::ChannelOffer(_));
    assert!(story.told(1).iter().any(offer));

    story.sleep(PROBE_FIRST);
    assert_eq!(story.probes(), usize::from(PROBES_PER_TRAIN));
    story.report(1, Hearing::Probes, None);
    assert_eq!(
        story.commands(),
        [],
        "one alone costs the same by its own copy"
    );
    story.report(2, Hearing::Probes, None);

    let add = FlowCommand::AddChannel {
        channel: channel(),
        lifetime: CHANNEL_LIFETIME,
    };
    assert_eq!(story.commands(), std::slice::from_ref(&add));
    story.sleep(CHANNEL_RENEWAL);
    assert_eq!(story.commands(), [add]);
    story.sleep(SECOND);
    assert_eq!(story.probes(), 0, "media are proof enough");
}

#[test]
fn one_child_or_children_elsewhere_or_on_radio_are_offered_nothing() {
    let mut alone = hub(&[1]);
    let mut story = Story::new();
    story.link(1, Some(local(2, true)));
    story.link(2, Some(local(2, false)));
    story.link(3, None);
    story.link(4, Some(local(3, true)));
    story.shape(None, &[1, 2, 3, 4]);

    for story in [&mut alone, &mut story] {
        story.sleep(SECOND * 30);
        assert!(story.said.is_empty(), "{:?}", story.said);
    }
}

#[test]
fn a_child_that_hears_the_media_needs_no_copy_of_its_own_until_it_says_so() {
    let mut story = hub(&[1, 2]);
    story.report(1, Hearing::Media, None);
    assert_eq!(story.by_channel(), [], "nothing is sent there yet");
    let mut story = speaking(&[1, 2]);

    story.report(1, Hearing::Silent, Some(50));

    let have = Number::new(50);
    let said = story.said.clone();
    assert_eq!(story.by_channel(), [(link(1), false, have)]);
    let remove = FlowCommand::RemoveMember {
        channel: channel(),
        link: link(1),
    };
    assert!(said.contains(&Output::Command(FLOW, remove)));
    let row = &story.channels.receptions(id(1))[0];
    assert!(
        row.mode == Mode::Unicast && row.cause.contains("heard nothing"),
        "{row:?}"
    );
    assert_eq!(story.channels.receptions(id(2))[0].mode, Mode::Multicast);
    story.sleep(SECOND * 20);
    assert!(!story.commands().is_empty(), "it goes on for the other");
    story.report(1, Hearing::Media, None);
    assert_eq!(story.by_channel(), [(link(1), true, None)]);
}

#[test]
fn a_channel_that_nobody_gets_media_by_is_proven_anew() {
    let mut story = hub(&[1, 2]);
    story.report(1, Hearing::Probes, None);
    story.report(2, Hearing::Probes, None);
    story.said.clear();

    story.sleep(CHANNEL_UNHEARD + CHANNEL_RENEWAL);

    let commands = story.commands();
    assert_eq!(
        commands.last(),
        Some(&FlowCommand::RemoveChannel(channel()))
    );
    story.sleep(PROBE_INTERVAL_MAX * 6);
    assert_eq!(story.probes(), usize::from(PROBES_PER_TRAIN) * 6);
}

#[test]
fn a_channel_ends_with_its_last_members_and_a_lane_that_let_it_lapse_is_told_again() {
    let mut story = speaking(&[1, 2]);
    story.lane(FlowEvent::ChannelEnded(channel()));
    let members = |command: &FlowCommand| matches!(command, FlowCommand::AddMember { .. });
    let commands = story.commands();
    assert!(
        matches!(commands[0], FlowCommand::AddChannel { .. }),
        "{commands:?}"
    );
    assert_eq!(commands.iter().filter(|one| members(one)).count(), 2);

    story.shape(None, &[2]);
    let remove = FlowCommand::RemoveChannel(channel());
    assert!(
        !story.commands().contains(&remove),
        "one is left, and its copy costs the same"
    );
    story.shape(None, &[]);

    assert!(story.commands().contains(&remove));
    assert_eq!(story.channels.poll_timeout(), None);
}

#[test]
fn a_child_that_comes_later_is_offered_the_channel_and_one_whose_link_goes_is_forgotten() {
    let mut story = speaking(&[1, 2]);
    story.link(3, Some(local(2, true)));
    story.shape(None, &[1, 2, 3]);
    assert_eq!(story.told(3).len(), 1);
    story.report(3, Hearing::Media, None);
    assert_eq!(story.by_channel(), [(link(3), true, None)]);

    story.hear(Input::LinkDown(link(3)));

    assert_eq!(story.commands(), [], "the lanes know by themselves");
    assert!(story.channels.receptions(id(3)).is_empty());
}

#[test]
fn a_flow_has_channels_on_so_many_interfaces_and_no_more() {
    let mut story = Story::new();
    let count = u8::try_from(CHANNELS_OF_FLOW_MAX).unwrap() + 1;
    for number in 1..=count * 2 {
        story.link(number, Some(local(u32::from(number.div_ceil(2)), true)));
    }
    let all: Vec<u8> = (1..=count * 2).collect();
    story.shape(None, &all);

    let offers = story
        .said
        .iter()
        .filter(|output| matches!(output, Output::Send(..)));
    assert_eq!(offers.count(), CHANNELS_OF_FLOW_MAX * 2);
}

#[test]
fn what_the_flows_parent_offers_is_joined_and_nothing_else() {
    let mut story = Story::new();
    story.link(1, Some(local(2, true)));
    story.link(2, Some(local(2, true)));
    story.offer(1);
    assert_eq!(story.commands(), [], "of a flow that is not here");
    story.shape(Some(1), &[]);
    story.offer(2);
    assert_eq!(story.commands(), [], "of a neighbour that does not send it");

    story.offer(1);
    assert_eq!(story.commands(), [FlowCommand::Join(channel())]);
    story.shape(None, &[]);
    story.shape(Some(2), &[]);
    let left = FlowCommand::Leave(channel());
    assert_eq!(story.commands(), [left], "and its offers went with it");
    story.offer(2);
    assert_eq!(story.commands(), [FlowCommand::Join(channel())]);

    let end = ChannelEnd {
        flow: FLOW,
        slot: Slot::A,
    };
    story.hear(Input::Message(link(2), Message::End(end)));
    assert_eq!(story.commands(), [FlowCommand::Leave(channel())]);
}

#[test]
fn of_so_many_parents_offers_are_remembered() {
    let mut story = Story::new();
    let count = u8::try_from(OFFERS_OF_FLOW_MAX).unwrap() + 1;
    (1..=count).for_each(|number| story.link(number, Some(local(2, true))));
    story.shape(Some(1), &[]);
    (1..=count).for_each(|number| story.offer(number));

    story.shape(Some(count - 1), &[]);
    assert_eq!(story.commands().len(), 2 + 1, "joined, left and joined");
    story.shape(Some(count), &[]);

    assert_eq!(story.commands(), [FlowCommand::Leave(channel())]);
}

fn probe(train: u32, sequence: u16) -> Probe {
    Probe {
        flow: FLOW,
        train,
        sequence,
        count: PROBES_PER_TRAIN,
        slot: Slot::A,
        size: PacketSize::DEFAULT,
    }
}

#[test]
fn a_train_of_probes_is_reported_once_when_most_of_it_came_from_the_parent() {
    let mut story = member();
    story.said.clear();
    let hear = |story: &mut Story, sender, train, sequence| {
        let (sender, probe) = (id(sender), probe(train, sequence));
        story.hear(Input::Probe { sender, probe });
    };

    (0..3).for_each(|sequence| hear(&mut story, 9, 1, sequence));
    hear(&mut story, 1, 1, 0);
    hear(&mut story, 1, 2, 0);
    assert_eq!(story.told(1), []);
    (1..3).for_each(|sequence| hear(&mut story, 1, 2, sequence));

    let told = story.told(1);
    let [FlowMessage::ChannelReport(report)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(report.hearing, Hearing::Probes);
}

#[test]
fn a_member_that_hears_all_splices_and_goes_back_when_it_falls_silent() {
    let mut story = member();
    story.said.clear();
    story.heard(40, 0, false);
    assert_eq!(story.told(1), [], "something from before is missing");
    story.heard(40, 5, true);
    assert_eq!(story.told(1), [], "too much is lost");
    story.heard(40, 0, true);
    assert!(
        matches!(&story.told(1)[..], [FlowMessage::ChannelReport(report)] if report.hearing == Hearing::Media)
    );
    assert_eq!(story.mode().unwrap().0, Mode::Multicast);

    story.lane(FlowEvent::Suspect(link(1)));
    assert_eq!(story.commands(), [FlowCommand::Reach(link(1))]);
    let have = Number::new(80);
    story.lane(FlowEvent::Reached {
        link: link(1),
        have,
    });

    let told = story.told(1);
    let [FlowMessage::ChannelReport(report)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((report.hearing, report.have), (Hearing::Silent, have));
    assert!(story.mode().unwrap().1.contains("heard nothing"));
    story.sleep(CHANNEL_AGAIN - Duration::from_millis(1));
    story.heard(40, 0, true);
    assert_eq!(story.told(1), [], "not so soon");
    story.sleep(Duration::from_millis(2));
    story.heard(40, 0, true);
    assert_eq!(story.told(1).len(), 1);
}

#[test]
fn a_member_that_loses_too_much_goes_back_for_twice_as_long_each_time() {
    let mut story = listening();
    let mut waited = Vec::new();

    for _ in 0..10 {
        story.sleep(SECOND);
        story.heard(100, 6, true);
        story.lane(FlowEvent::Reached {
            link: link(1),
            have: None,
        });
        assert!(
            story.mode().unwrap().1.contains("lost 5.6%"),
            "{:?}",
            story.mode()
        );
        let begin = story.now;
        while story.mode().unwrap().0 == Mode::Unicast {
            story.sleep(SECOND);
            story.heard(100, 0, true);
        }
        waited.push(story.now.since(begin));
    }

    assert_eq!(
        waited[..3],
        [CHANNEL_AGAIN, CHANNEL_AGAIN * 2, CHANNEL_AGAIN * 4]
    );
    assert_eq!(waited.last(), Some(&CHANNEL_AGAIN_MAX));
    story.sleep(CHANNEL_STEADY + SECOND);
    story.heard(100, 0, true);
    story.sleep(SECOND);
    story.heard(1_000, 100, true);
    story.lane(FlowEvent::Reached {
        link: link(1),
        have: None,
    });
    story.sleep(CHANNEL_AGAIN);
    story.heard(100, 0, true);
    assert_eq!(
        story.mode().unwrap().0,
        Mode::Multicast,
        "it was well for long"
    );
}

#[test]
fn five_in_a_hundred_and_a_short_burst_of_losses_are_left_to_repair() {
    let mut story = listening();

    story.heard(10, 30, true);
    for _ in 0..10 {
        story.sleep(SECOND);
        story.heard(950, 20, true);
    }

    assert_eq!(story.mode().unwrap().0, Mode::Multicast);
}

#[test]
fn a_channel_that_cannot_be_joined_is_said_with_its_cause() {
    let mut story = member();
    story.said.clear();

    story.lane(FlowEvent::CannotJoin(channel()));
    story.lane(FlowEvent::Reached {
        link: link(1),
        have: None,
    });

    assert!(
        matches!(&story.told(1)[..], [FlowMessage::ChannelReport(report)] if report.hearing == Hearing::Unjoined)
    );
    assert!(story.mode().unwrap().1.contains("did not let it join"));
}

#[test]
fn channels_keep_the_contract_whatever_they_are_told() {
    check_contract(
        0..200,
        |_| Channels::new(id(0)),
        |rng| {
            let number = (rng.next_u32() % 5) as u8;
            let hearing: Vec<Hearing> = Hearing::all().collect();
            match rng.next_u32() % 12 {
                0 => Input::Begin(NetworkId::OPEN, SiteTag::NONE),
                1 => Input::LinkUp {
                    link: link(number),
                    peer: id(number),
                    remote: SocketAddr::from(([10, 0, 0, number], 7_800)),
                },
                2 => Input::LinkDown(link(number)),
                3 => Input::Local {
                    peer: id(number),
                    at: (rng.next_u32() % 4 > 0).then(|| local(rng.next_u32() % 2, number != 3)),
                },
                4..=6 => Input::Shape(Shape {
                    flow: FlowId(rng.next_u64() % 2),
                    name: "cam".parse().unwrap(),
                    packet_size: PacketSize::DEFAULT,
                    from: (number > 2).then(|| link(number)),
                    to: (0..rng.next_u32() % 4).map(LinkIndex).collect(),
                    is_here: number > 0,
                }),
                7 => Input::Message(
                    link(number),
                    Message::Offer(ChannelOffer {
                        flow: FlowId(rng.next_u64() % 2),
                        slot: Slot::A,
                    }),
                ),
                8 => Input::Message(
                    link(number),
                    Message::Report(ChannelReport {
                        flow: FlowId(rng.next_u64() % 2),
                        slot: Slot::A,
                        hearing: hearing[rng.next_u32() as usize % hearing.len()],
                        have: None,
                    }),
                ),
                9 => Input::Probe {
                    sender: id(number),
                    probe: probe(rng.next_u32() % 3, 0),
                },
                10 => Input::Lane(FLOW, FlowEvent::Suspect(link(number))),
                _ => Input::Lane(
                    FlowId(rng.next_u64() % 2),
                    FlowEvent::Heard(Heard {
                        link: link(number),
                        packets: rng.next_u64() % 100,
                        lost: rng.next_u64() % 10,
                        is_whole: true,
                    }),
                ),
            }
        },
    );
}
