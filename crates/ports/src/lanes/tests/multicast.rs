//! Tests of multicast over real sockets on loopback: one copy for all who hear a channel.

use std::net::Ipv4Addr;
use std::time::Duration;

use levada_wire::RepairBudget;

use super::*;
use levada_lane::api::{Channel, FlowCommand, Interface, PublisherCommand};

const MINUTE: Duration = Duration::from_secs(60);

/// A channel on a port that was free a moment ago.
fn channel(last: u8) -> Channel {
    let free = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = free.local_addr().unwrap().port();
    Channel {
        address: (Ipv4Addr::new(239, 9, 9, last), port).into(),
        interface: Interface {
            index: 1, // loopback
            address: Some(Ipv4Addr::LOCALHOST),
        },
    }
}

/// A node that consumes the flow from the channel.
fn member(origin: &Node, link: LinkIndex, flow: FlowId, channel: Channel) -> Node {
    let member = Node::start("127.0.0.1:0", 2, true);
    member.add_link(LINK, origin.lanes.local_addr());
    origin.add_link(link, member.lanes.local_addr());
    member.consume(flow);
    member.command(Command::Flow(flow, FlowCommand::Join(channel)));
    let budget = MINUTE; // however slow the machine is
    member.command(Command::Flow(
        flow,
        FlowCommand::SetBudget(RepairBudget::new(budget)),
    ));
    // Its socket has joined when it has answered.
    let _ = member.lanes.fresh_counters();
    origin.command(Command::Flow(
        flow,
        FlowCommand::AddMember { channel, link },
    ));
    member
}

/// The frames until the end of the stream.
fn played(node: &Node) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        if let Event::Delivery { delivery, .. } = node.events.recv().unwrap() {
            match delivery {
                Delivery::Frame { frame, .. } => frames.push(frame),
                Delivery::Gap(gap) => panic!("{gap:?}"),
                Delivery::End => return frames,
                Delivery::Description(_) => {}
            }
        }
    }
}

#[test]
fn one_copy_reaches_all_nodes_that_hear_the_channel() {
    for steering in [true, false] {
        let (flow, channel) = (flow_of(1), channel(1 + u8::from(steering)));
        let origin = Node::start("127.0.0.1:0", 2, steering);
        origin.originate(flow);
        origin.command(Command::Flow(
            flow,
            FlowCommand::AddChannel {
                channel,
                lifetime: MINUTE,
            },
        ));
        let members: Vec<Node> = (2..5)
            .map(|link| member(&origin, LinkIndex(link), flow, channel))
            .collect();

        for frame in some_frames() {
            origin.push(flow, frame);
        }
        origin.command(Command::Publisher(flow, PublisherCommand::Finish));

        for member in &members {
            assert_eq!(played(member), some_frames());
        }
        let sent = origin.lanes.stop();
        let ledger = &sent.lane.ledger;
        // Unless a socket was full there is no repair.
        assert_eq!(ledger.sent, ledger.made + ledger.repair.repairs_sent);
        assert_eq!(sent.send.refused, 0);
        for member in members {
            let counters = member.lanes.stop();
            assert!(counters.lane.ledger.check().is_zero());
            assert_eq!(counters.lane.ledger.consumed, sent.lane.ledger.made);
        }
    }
}

#[test]
fn a_node_that_left_the_channel_hears_no_more() {
    let (flow, channel) = (flow_of(0), channel(9));
    let origin = Node::start("127.0.0.1:0", 2, true);
    origin.originate(flow);
    origin.command(Command::Flow(
        flow,
        FlowCommand::AddChannel {
            channel,
            lifetime: MINUTE,
        },
    ));
    let stays = member(&origin, LinkIndex(2), flow, channel);
    let leaves = member(&origin, LinkIndex(3), flow, channel);
    leaves.command(Command::Flow(flow, FlowCommand::Leave(channel)));
    let _ = leaves.lanes.fresh_counters();

    origin.push(flow, frame(1, true, 0, 10));
    origin.command(Command::Publisher(flow, PublisherCommand::Finish));
    assert_eq!(played(&stays).len(), 1);

    // HEAD and the like still come over the link; media does not.
    let counters = leaves.lanes.stop();
    let flows = &counters.lane.flows;
    assert!(flows.iter().all(|row| row.packets_in == 0), "{flows:?}");
}

#[test]
fn a_channel_that_cannot_be_joined_is_reported() {
    let node = Node::start("127.0.0.1:0", 1, true);
    let (flow, mut channel) = (flow_of(0), channel(10));
    channel.address.set_ip(Ipv4Addr::new(10, 0, 0, 1).into());

    node.command(Command::Flow(flow, FlowCommand::Open));
    node.command(Command::Flow(flow, FlowCommand::Join(channel)));

    let Event::CannotJoin { reason, .. } = node.events.recv().unwrap() else {
        panic!("another event")
    };
    assert!(!reason.is_empty());
}
