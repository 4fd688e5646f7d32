//! Tests of multicast egresses: a hub, its members, and what they lose.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use levada_wire::{FlowId, Header, LinkIndex, Machine as _};

use super::*;
use crate::api::{
    Command, Datagrams, Delivery, Egress, Event, FlowCommand, Input, Interface, Late, LinkCommand,
    Output, Train,
};
use crate::child::Children;
use crate::ledger::DropReason;
use crate::limits::{CHANNEL_REPAIRS_MAX, MEMBERS_MAX, MULTICAST_EGRESSES_MAX};
use crate::testkit::{FLOW, Net, address, consume, frame, link_to, originate, push};

const LIFETIME: Duration = Duration::from_secs(1);
/// From one node of a LAN to another.
const WAY: Duration = Duration::from_micros(300);

fn channel(last: u8) -> Channel {
    Channel {
        address: SocketAddr::from(([239, 1, 2, last], 7_801)),
        interface: Interface {
            index: 2,
            address: None,
        },
    }
}

fn add_egress(lifetime: Duration) -> Command {
    Command::Flow(
        FLOW,
        FlowCommand::AddChannel {
            channel: channel(1),
            lifetime,
        },
    )
}

/// Lane 0 is an origin; all others consume its flow, by the channel or each by its link.
fn site(lanes: usize, by_group: bool) -> Net {
    let mut net = Net::new(lanes);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(originate()))),
    );
    net.command(0, add_egress(Duration::from_secs(60)));
    for member in 1..lanes {
        net.join(0, member);
        net.command(member, consume());
        if by_group {
            be_member(&mut net, member);
        }
    }
    net
}

fn be_member(net: &mut Net, member: usize) {
    let (flow, channel, link) = (FLOW, channel(1), link_to(member));
    net.command(0, Command::Flow(flow, FlowCommand::RemoveEgress(link)));
    net.command(
        0,
        Command::Flow(flow, FlowCommand::AddMember { channel, link }),
    );
    net.command(member, Command::Flow(flow, FlowCommand::Join(channel)));
}

fn to_group(net: &Net) -> usize {
    let sends = net
        .wires
        .iter()
        .filter(|(_, run)| run.to.ip().is_multicast());
    sends.count()
}

/// Lets time pass with a delay on every wire; `is_lost` says which sends do not reach which lane.
fn run(net: &mut Net, time: Duration, mut is_lost: impl FnMut(&Datagrams, usize) -> bool) {
    let end = net.now + time;
    let mut flying: Vec<(Instant, usize, usize, Datagrams)> = Vec::new();
    loop {
        for (from, transmit) in net.wires.drain(..) {
            let hearers = net.hearers.iter().copied();
            let to: Vec<usize> = match transmit.to.ip().is_multicast() {
                true => hearers.filter(|&to| to != from).collect(),
                false => vec![usize::from(transmit.to.port() - address(0).port())],
            };
            for to in to.into_iter().filter(|&to| !is_lost(&transmit, to)) {
                flying.push((net.now + WAY, from, to, transmit.clone()));
            }
        }
        let next_flight = flying.iter().map(|&(at, ..)| at).min();
        let wakeups = net.lanes.iter().filter_map(|lane| lane.poll_timeout());
        let next_timer = wakeups.map(|wakeup| wakeup.at).min();
        let next = next_flight.into_iter().chain(next_timer).min();
        let Some(now) = next.filter(|&at| at <= end) else {
            break;
        };
        net.now = net.now.max(now);
        let (arriving, rest) = flying.into_iter().partition(|&(at, ..)| at <= now);
        flying = rest;
        for (_, from, to, transmit) in arriving {
            arrive(net, from, to, &transmit);
        }
        for lane in 0..net.lanes.len() {
            let is_due = |wakeup: levada_wire::Wakeup| wakeup.at <= now;
            if net.lanes[lane].poll_timeout().is_some_and(is_due) {
                net.timeout(lane);
            }
        }
    }
    net.now = end;
}

fn arrive(net: &mut Net, from: usize, to: usize, transmit: &Datagrams) {
    let train = Train {
        to: None,
        from: address(from),
        bytes: transmit.bytes.clone(),
        segment_bytes: transmit.segment_bytes,
    };
    let input = match transmit.to.ip().is_multicast() {
        true => Input::Heard(train),
        false => Input::Train(train),
    };
    net.input(to, input);
}

/// What all members have asked for together, in requests.
fn requests(net: &Net) -> u64 {
    let members = net.lanes.iter().skip(1);
    members.map(|lane| lane.ledger().repair.nacks_sent).sum()
}

/// Plays 20 frames of which the fifth reaches nobody, and gives how many requests that caused.
fn requests_after_a_common_loss(members: usize, by_group: bool) -> u64 {
    let mut net = site(members + 1, by_group);
    let mut heard_before = BTreeSet::new();
    for dts in 0..20 {
        net.command(0, push(frame(1, dts == 0, dts, 900)));
        run(&mut net, Duration::from_millis(33), |transmit, to| {
            let is_media = transmit.bytes[0] == 4;
            dts == 5 && is_media && heard_before.insert(to)
        });
    }
    for member in 1..=members {
        assert_eq!(net.frames(member).len(), 20, "member {member}");
    }
    requests(&net)
}

#[test]
fn a_group_gets_one_copy_and_all_who_hear_it_get_the_stream() {
    let mut net = site(5, true);

    for dts in 0..50 {
        net.push(frame(1, dts == 0, dts, 3_000));
        net.deliver();
    }

    let made = net.lanes[0].ledger().made;
    assert_eq!(net.lanes[0].ledger().sent, made);
    for member in 1..5 {
        assert_eq!(net.frames(member).len(), 50);
        assert_eq!(net.lanes[member].ledger().consumed, made);
    }
}

#[test]
fn what_a_switch_lost_is_asked_for_by_few_and_repaired_for_all() {
    let by_group = requests_after_a_common_loss(100, true);
    let by_links = requests_after_a_common_loss(100, false);

    assert!((1..=10).contains(&by_group), "{by_group}");
    assert!(by_links >= 100, "{by_links}");
}

#[test]
fn who_does_not_hear_the_repair_either_gets_it_alone() {
    let mut net = site(3, true);
    let mut lost = None;
    for dts in 0..20 {
        net.command(0, push(frame(1, dts == 0, dts, 100)));
        run(&mut net, Duration::from_millis(33), |transmit, to| {
            let is_heard = transmit.to.ip().is_multicast();
            let number = Header::peek(&transmit.bytes).map(|header| header.number);
            if is_heard && dts == 5 && lost.is_none() {
                lost = number;
            }
            is_heard && to == 1 && lost.is_some() && number == lost
        });
    }

    assert_eq!(net.frames(1).len(), 20);
    let repair = net.lanes[0].ledger().repair;
    assert_eq!(repair.repairs_sent, 2, "to the channel, then to the member");
    let copies = net.lanes[2].ledger().dropped(DropReason::Duplicate);
    assert_eq!(copies, 1, "of the channel's");
}

#[test]
fn what_waited_too_long_for_the_socket_is_gone_for_each_member_and_nobody_asks() {
    let mut net = site(4, false);
    be_member(&mut net, 1);
    be_member(&mut net, 2);
    net.push(frame(1, true, 0, 100));
    net.deliver();
    for member in 1..4 {
        net.frames(member);
    }

    let late = Late {
        egress: Egress::Channel(channel(1)),
        flow: FLOW,
        first: Number::new(1).unwrap(),
        end: Number::new(3).unwrap(),
    };
    net.push(frame(1, false, 1, 100));
    net.push(frame(1, false, 2, 100));
    net.wires.retain(|(_, sent)| !sent.to.ip().is_multicast());
    net.input(0, Input::Late(late));
    net.sleep(GONE_INTERVAL * 2);
    net.push(frame(1, false, 3, 100)); // a gap is told with what comes after it
    net.deliver();
    let gaps = |net: &mut Net, member| {
        let gap = |delivery: &Delivery| matches!(delivery, Delivery::Gap(_));
        net.deliveries(member).iter().filter(|it| gap(it)).count()
    };

    assert_eq!(
        (1..4).map(|member| gaps(&mut net, member)).sum::<usize>(),
        2
    );
    assert_eq!(net.lanes[0].ledger().repair.gones_pushed, 2);
    assert_eq!(net.lanes[0].counters().flows[0].withheld, 2);
    for member in [1, 2] {
        assert_eq!(net.lanes[member].ledger().repair.nacks_sent, 0);
    }
}

#[test]
fn an_egress_that_is_not_renewed_ends_and_says_so() {
    let mut net = site(1, false);
    net.command(0, add_egress(LIFETIME));
    net.sleep(LIFETIME * 3 / 4);
    net.command(0, add_egress(LIFETIME));
    net.sleep(LIFETIME * 3 / 4);
    net.push(frame(1, true, 0, 10));
    assert_eq!(to_group(&net), 1);
    net.wires.clear();

    net.sleep(LIFETIME / 2);
    net.push(frame(1, false, 1, 10));

    assert_eq!(to_group(&net), 0);
    let ended = |event: &Event| matches!(event, Event::ChannelEnded { .. });
    assert_eq!(net.events[0].iter().filter(|event| ended(event)).count(), 1);
}

#[test]
fn a_lane_that_stood_still_says_nothing_where_another_speaks_by_now() {
    let mut net = site(1, false);
    net.command(0, add_egress(LIFETIME));

    net.now += LIFETIME * 10;
    net.push(frame(1, true, 0, 10));

    assert_eq!(to_group(&net), 0);
}

#[test]
fn what_was_heard_is_not_said_again() {
    let mut net = site(3, true);
    net.command(2, add_egress(LIFETIME));

    net.push(frame(1, true, 0, 10));
    net.deliver();

    let ledger = net.lanes[2].ledger();
    assert_eq!(ledger.unsent(DropReason::BackToSender), ledger.due);
    assert_eq!((ledger.due, ledger.sent), (1, 0));
}

#[test]
fn only_media_is_heard() {
    let mut net = site(2, true);
    net.lanes[0].handle_input(
        net.now,
        Input::Command(Command::Link(
            link_to(1),
            LinkCommand::Send(levada_wire::datagram::link::LinkDatagram::Head(
                levada_wire::datagram::link::Head {
                    flow: FLOW,
                    highest: Number::ZERO,
                },
            )),
        )),
    );
    let Output::Transmit(datagram) = net.lanes[0].poll_output().unwrap() else {
        panic!("a datagram is sent")
    };
    let train = Train {
        to: None,
        from: address(0),
        segment_bytes: datagram.datagrams.segment_bytes,
        bytes: datagram.datagrams.bytes,
    };

    net.input(1, Input::Heard(train.clone()));
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::UnknownKind), 1);
    assert_eq!(net.lanes[1].ledger().control, 0);

    net.input(1, Input::Train(train));
    assert_eq!(net.lanes[1].ledger().control, 1);
}

#[test]
fn what_is_heard_counts_on_no_link() {
    let mut net = site(2, true);

    net.push(frame(1, true, 0, 10));
    net.deliver();

    assert_eq!(net.frames(1).len(), 1);
    let sent = net.lanes[0].counters().links;
    let received = net.lanes[1].counters().links;
    assert!(sent.iter().all(|row| row.datagrams_out == 0), "{sent:?}");
    assert!(
        received.iter().all(|row| row.datagrams_in == 0),
        "{received:?}"
    );
}

#[test]
fn more_egresses_or_members_than_the_limits_are_refused() {
    let mut egresses = MulticastEgresses::default();
    let until = Instant::ZERO + LIFETIME;
    for last in 0..u8::try_from(MULTICAST_EGRESSES_MAX).unwrap() {
        assert!(egresses.renew(channel(last), until));
    }
    let (mut children, members) = (Children::default(), u32::try_from(MEMBERS_MAX).unwrap());
    assert!((0..members).all(|link| children.add_member(channel(0), LinkIndex(link))));

    assert!(!egresses.renew(channel(99), until));
    assert!(!children.add_member(channel(0), LinkIndex(members)));
    assert!(children.add_member(channel(1), LinkIndex(members)));
    assert!(
        egresses.renew(channel(0), until),
        "what is there may last longer"
    );
    assert!(children.remove_member(channel(0), LinkIndex(7), 0, Instant::ZERO));
    assert!(children.add_member(channel(0), LinkIndex(members)));
}

#[test]
fn nobody_is_a_member_of_a_group_that_is_not_sent_to_or_of_one_that_has_ended() {
    let mut net = site(3, true);
    let (flow, link) = (FLOW, link_to(1));
    let refused = |net: &Net| net.lanes[0].counters().commands_refused;
    let of_other = Command::Flow(
        flow,
        FlowCommand::AddMember {
            link,
            channel: channel(99),
        },
    );

    net.command(0, of_other);
    assert_eq!(refused(&net), 1);
    let end = Command::Flow(flow, FlowCommand::RemoveChannel(channel(1)));
    net.command(0, end);
    net.push(frame(1, true, 0, 10));

    assert_eq!(net.lanes[0].ledger().due, 0);
    let flow = net.lanes[0].state_mut().flows.get_mut(FLOW).unwrap();
    assert!(flow.children.all.is_empty());
}

#[test]
fn what_is_remembered_of_repairs_is_bounded() {
    let mut egresses = MulticastEgresses::default();
    egresses.renew(channel(0), Instant::ZERO + LIFETIME);
    for number in 0..CHANNEL_REPAIRS_MAX as u64 * 2 {
        egresses.forwarded(Number::new(number).unwrap(), Instant::ZERO);
    }

    assert_eq!(egresses.0[0].repaired.len(), CHANNEL_REPAIRS_MAX);
}

#[test]
fn a_channel_is_joined_for_flows_that_are_here_and_left_with_the_last_of_them() {
    let mut net = Net::new(1);
    let join = |flow| Command::Flow(flow, FlowCommand::Join(channel(1)));
    let other = FlowId(9);
    net.command(0, join(FLOW));
    assert_eq!(net.hearers, [0_usize; 0], "the flow is not here");
    assert_eq!(net.lanes[0].counters().commands_refused, 1);

    for flow in [FLOW, other] {
        net.command(0, Command::Flow(flow, FlowCommand::Open));
        net.command(0, join(flow));
    }
    assert_eq!(net.hearers, [0]);

    net.command(0, Command::Flow(FLOW, FlowCommand::Close));
    assert_eq!(net.hearers, [0]);
    net.command(0, Command::Flow(other, FlowCommand::Leave(channel(1))));
    assert!(net.hearers.is_empty());
}

#[test]
fn each_flow_is_told_that_its_channel_cannot_be_joined() {
    let mut net = Net::new(1);
    let other = FlowId(9);
    for flow in [FLOW, other] {
        net.command(0, Command::Flow(flow, FlowCommand::Open));
        net.command(0, Command::Flow(flow, FlowCommand::Join(channel(1))));
    }

    let failed = Input::CannotJoin {
        channel: channel(1),
        reason: "as the system says".to_owned(),
    };
    net.lanes[0].handle_input(net.now, failed);

    let told: Vec<FlowId> = std::iter::from_fn(|| net.lanes[0].poll_output())
        .map(|output| match output {
            Output::Event(Event::CannotJoin { flow, .. }) => flow,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [FLOW, other]);
}
