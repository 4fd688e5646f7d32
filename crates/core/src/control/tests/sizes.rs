//! Streams whose packets are too large for a link: refused there, and taken over another neighbour if there is one.

use levada_wire::control::flow::RefuseReason;

use super::*;
use crate::limits::{LINK_AVOIDED, SIZE_PACE, SIZE_SHORT_PONGS};
use crate::view::FlowCause;

/// As long as it takes to find out that one size is too large.
const VERDICT: Duration = Duration::from_millis(100 * (SIZE_SHORT_PONGS as u64 + 2));

impl Net {
    fn publish_large(&mut self, node: usize, text: &str) {
        self.wall += 1_000_000;
        let large = Offer {
            packet_size: PacketSize::MAX,
            ..offer(text, self.wall)
        };
        self.command(node, FlowInput::Publish(large));
        self.settle();
    }

    /// Nothing larger than the default gets over a link any more.
    fn narrow(&mut self, a: usize, b: usize) {
        self.narrow.insert((a, b));
        self.narrow.insert((b, a));
    }

    fn refused(&self, node: usize) -> Vec<RefuseReason> {
        let refused = |event: &Event| match event {
            Event::Subscription {
                state: SubscriptionState::Refused { reason, .. },
                ..
            } => Some(*reason),
            _ => None,
        };
        self.events[node].iter().filter_map(refused).collect()
    }
}

#[test]
fn over_a_narrow_link_a_large_stream_is_refused_with_the_reason_and_a_small_one_flows() {
    let mut net = Net::new(2, &[(0, 1)]);
    net.narrow(0, 1);
    net.publish_large(0, "large");
    net.publish(0, "cam");

    net.subscribe(1, 1, "large");
    net.subscribe(1, 2, "cam");
    assert_eq!(
        net.refused(1),
        [],
        "it may still be found to be wide enough"
    );
    net.pass(VERDICT);

    let refused = net.refused(1);
    assert!(
        !refused.is_empty()
            && refused
                .iter()
                .all(|reason| *reason == RefuseReason::TooLarge)
    );
    assert_eq!(net.egresses(0, "large"), Vec::<usize>::new());
    assert_eq!(net.egresses(0, "cam"), [1]);
    let row = net.nodes[1].view().flows;
    let cause = row.iter().find(|row| row.name == name("large")).unwrap();
    let reason = RefuseReason::TooLarge;
    assert_eq!(cause.cause, Some(FlowCause::Refused { reason }));
}

#[test]
fn a_link_that_is_wide_enough_costs_a_child_no_time() {
    let mut net = Net::new(2, &[(0, 1)]);
    net.publish_large(0, "large");

    net.subscribe(1, 1, "large");

    assert_eq!(net.egresses(0, "large"), [1]);
}

/// An origin, two relays, and a player at both.
fn diamond() -> Net {
    Net::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)])
}

#[test]
fn what_the_nearest_link_does_not_carry_comes_over_another_neighbour() {
    let mut net = diamond();
    net.narrow(1, 3);
    net.publish_large(0, "large");
    net.publish(0, "cam");
    net.pass(VERDICT);

    net.subscribe(3, 1, "large");
    net.subscribe(3, 2, "cam");

    assert_eq!(net.egresses(2, "large"), [3]);
    assert_eq!(net.egresses(1, "large"), Vec::<usize>::new());
    assert_eq!(net.egresses(1, "cam"), [3]);
    net.pass(3 * LINK_AVOIDED);
    assert_eq!(net.egresses(2, "large"), [3], "it stays there");
    assert_eq!(active(&net.states(3)).len(), 2);
}

#[test]
fn a_link_that_becomes_narrow_is_left_and_one_that_is_wide_again_comes_back() {
    let mut net = diamond();
    net.publish_large(0, "large");
    net.subscribe(3, 1, "large");
    assert_eq!(net.egresses(1, "large"), [3]);
    net.told(1);

    net.input(
        1,
        Input::Lane(lane::Event::Link(
            index(3),
            LinkEvent::TooLarge { bytes: 1_440 },
        )),
    );
    net.settle();
    assert_eq!(net.egresses(2, "large"), [3]);
    let flow = net.flow(3, "large").unwrap().flow;
    let link = index(3);
    assert!(
        net.told(1)
            .contains(&(flow, FlowCommand::RemoveEgress(link)))
    );

    net.pass(Duration::from_secs(90));
    let delivering = Input::Lane(lane::Event::Flow(flow, FlowEvent::CaughtUp(index(1))));
    net.input(3, delivering);
    net.pass(SIZE_PACE);
    assert_eq!(net.egresses(1, "large"), [3]);
    assert_eq!(net.egresses(2, "large"), Vec::<usize>::new());
}

#[test]
fn a_stream_that_ends_while_a_link_is_avoided_lets_its_nodes_rest() {
    let mut net = diamond();
    net.narrow(1, 3);
    net.publish_large(0, "large");
    net.pass(VERDICT);
    net.subscribe(3, 1, "large");
    net.pass(LINK_AVOIDED - ENDING / 2);

    net.command(
        0,
        FlowInput::Unpublish {
            name: name("large"),
        },
    );
    net.settle();

    let until = net.now + 2 * ENDING;
    while let Some(due) = net.nodes[3].poll_timeout().filter(|due| due.at <= until) {
        net.nodes[3].handle_timeout(due.at);
        while net.nodes[3].poll_output().is_some() {}
        let next = net.nodes[3].poll_timeout();
        assert!(
            next.is_none_or(|next| next.at > due.at),
            "{due:?} is due again at once: {next:?}"
        );
    }
    assert_eq!(net.flow(3, "large"), None);
}
