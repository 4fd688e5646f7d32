//! A link under too much pressure: its newest flows are cut, and come back slowly.

use levada_wire::control::flow::RefuseReason;
use levada_wire::datagram::link::Pong;

use super::*;
use crate::limits::{BREAKER_PAUSE_MIN, BREAKER_STEP, LOSS_WINDOW};

impl Net {
    /// A stream that any link carries: the pings that would prove larger sizes are lost here.
    fn publish_small(&mut self, node: usize, text: &str) {
        self.wall += 1_000_000;
        let small = Offer {
            packet_size: PacketSize::MIN,
            ..offer(text, self.wall)
        };
        self.command(node, FlowInput::Publish(small));
        self.settle();
    }
}

/// What the peer of node 0 says of the way to it, in packets a second and percent of loss, at 40 ms.
struct Way {
    net: Net,
    sent: u64,
    received: u64,
}

impl Way {
    /// A link with some flows over it, told to have lost nothing yet.
    fn with(flows: u64) -> Self {
        let mut net = Net::new(2, &[(0, 1)]);
        for flow in 0..flows {
            let text = format!("cam{flow}");
            net.publish_small(0, &text);
            net.subscribe(1, flow, &text);
            net.pass(Duration::from_millis(10));
        }
        // What its pongs say is said by the test.
        net.mute = Some(0);
        let mut way = Self {
            net,
            sent: 0,
            received: 0,
        };
        way.windows(1, 0, 0);
        way
    }

    fn windows(&mut self, windows: u64, packets_per_second: u64, lost_percent: u64) {
        for _ in 0..windows * 20 {
            self.net.pass(LOSS_WINDOW / 20);
            let sent = packets_per_second / 10;
            self.sent += sent;
            self.received += sent * (100 - lost_percent) / 100;
            let pong = Pong {
                time: (self.net.now.as_micros()).saturating_sub(40_000),
                sent: self.sent,
                received: self.received,
                size: 0,
            };
            let datagram = Input::Lane(lane::Event::Link(
                index(1),
                LinkEvent::Datagram {
                    message: LinkDatagram::Pong(pong),
                    received: 0,
                },
            ));
            self.net.input(0, datagram);
        }
    }

    fn flows(&self) -> usize {
        let rows = self.net.nodes[0].view().flows;
        rows.iter().filter(|row| !row.egresses.is_empty()).count()
    }

    /// The pauses of all times that the breaker opened.
    fn opened(&self) -> Vec<Duration> {
        let pause = |event: &Event| match event {
            Event::Congested { pause, .. } => Some(*pause),
            _ => None,
        };
        self.net.events[0].iter().filter_map(pause).collect()
    }
}

#[test]
fn two_fifths_of_loss_at_a_high_rate_cut_the_newer_half_and_then_the_rest() {
    let mut way = Way::with(3);

    way.windows(2, 4_000, 40);
    assert_eq!(way.flows(), 3, "not at once");
    way.windows(2, 4_000, 40);
    assert_eq!(way.flows(), 1);
    let kept = way.net.egresses(0, "cam0");
    assert_eq!(kept, [1], "the oldest stays");
    assert!(way.net.nodes[0].view().links[0].is_congested);
    let refused = way.net.events[1].iter().any(|event| {
        let refused = |reason: &RefuseReason| *reason == RefuseReason::Congested;
        matches!(event, Event::Subscription { state: SubscriptionState::Refused { reason, .. }, .. } if refused(reason))
    });
    assert!(refused, "the child is told why");

    way.windows(4, 4_000, 40);
    assert_eq!(way.flows(), 0);
}

#[test]
fn a_tenth_of_loss_at_eight_megabits_hurts_nobody_while_the_round_trip_is_steady() {
    let mut way = Way::with(1);

    // 8 Mb/s, and an eighth more for repair.
    way.windows(60, 915, 10);

    assert_eq!((way.flows(), way.opened()), (1, vec![]));
}

#[test]
fn what_was_cut_comes_back_one_by_one_after_a_pause_that_doubles() {
    let mut way = Way::with(4);
    way.windows(4, 9_000, 40);
    assert_eq!((way.flows(), way.opened().len()), (2, 1));

    let windows = |time: Duration| time.as_secs().div_ceil(LOSS_WINDOW.as_secs());
    way.windows(windows(BREAKER_PAUSE_MIN) - 2, 0, 0);
    assert_eq!(way.flows(), 2, "the pause is not over");
    way.windows(3, 0, 0);
    assert_eq!(way.flows(), 3);
    way.windows(windows(BREAKER_STEP) + 1, 0, 0);
    assert_eq!(way.flows(), 4);

    way.windows(4, 9_000, 40);
    assert_eq!(way.opened(), [BREAKER_PAUSE_MIN, BREAKER_PAUSE_MIN * 2]);
}

#[test]
fn a_link_that_loses_much_and_has_no_flow_yet_lets_the_first_one_in() {
    let mut way = Way::with(0);
    way.windows(10, 40, 25);

    way.net.publish_small(0, "cam");
    way.net.subscribe(1, 1, "cam");

    assert_eq!((way.flows(), way.opened()), (1, vec![]));
    assert!(!way.net.nodes[0].view().links[0].is_congested);
}
