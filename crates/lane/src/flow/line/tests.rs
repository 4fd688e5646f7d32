//! Tests of where a flow is: one liar who holds the carry key, and what comes truly far from where it was.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bytes::Bytes;
use levada_wire::datagram::link::{Head, LinkDatagram, Numbers};
use levada_wire::{Header, OriginTime};

use super::*;
use crate::api::{Command, FlowCommand, LinkCommand};
use crate::ledger::DropReason;
use crate::limits::{LINE_GAP_MAX, UPSTREAMS_MAX};
use crate::testkit::{self, FLOW, Net, frame, header, link_to, seal};

const FAR: u64 = 1 << 40;
/// A chain of origin, relay, consumer, and a liar who is the second upstream of whom a test says.
const RELAY: usize = 1;
const CONSUMER: usize = 2;
const LIAR: usize = 3;

const fn number(value: u64) -> Number {
    Number::from_low_bits(value)
}

const fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// A packet that passes its tag and does not open.
fn lie(number: u64) -> Bytes {
    testkit::falsify(&seal(&header(number), b"lie"))
}

fn lied_to(victim: usize) -> Net {
    let mut net = Net::new(4);
    let originate = FlowCommand::Originate(Box::new(testkit::originate()));
    net.command(0, Command::Flow(FLOW, originate));
    net.join(0, RELAY);
    net.join(RELAY, CONSUMER);
    net.command(CONSUMER, testkit::consume());
    let upstream = FlowCommand::AddUpstream(link_to(LIAR));
    net.command(victim, Command::Flow(FLOW, upstream));
    net
}

/// Frames, 33 ms apart, before each of which the liar does something; gives what the consumer got.
fn play(
    net: &mut Net,
    frames: std::ops::Range<i64>,
    mut lies: impl FnMut(&mut Net, i64),
) -> Vec<i64> {
    for dts in frames {
        lies(net, dts);
        net.push(frame(1, dts % 30 == 0, dts, 3_000));
        net.sleep(Duration::from_millis(33));
    }
    net.frames(CONSUMER).iter().map(|frame| frame.dts).collect()
}

#[test]
fn one_far_number_does_not_end_a_flow() {
    for victim in [RELAY, CONSUMER] {
        let mut net = lied_to(victim);
        let got = play(&mut net, 0..90, |net, dts| {
            if dts == 30 {
                net.arrive_alone(LIAR, victim, lie(FAR));
            }
        });

        assert_eq!(got, (0..90).collect::<Vec<_>>(), "lane {victim}");
        let ledger = net.lanes[victim].ledger();
        assert_eq!(ledger.dropped(DropReason::FarNumber), 1, "lane {victim}");
        assert_eq!(ledger.dropped(DropReason::TooOld), 0, "lane {victim}");
    }
}

#[test]
fn all_frames_come_before_while_and_after_a_liar_sends_for_5_s() {
    for victim in [RELAY, CONSUMER] {
        let mut net = lied_to(victim);
        let mut next = FAR;
        // In a row, at random, creeping, and all of it together.
        let got = play(&mut net, 0..300, |net, dts| {
            for at in 0..20_u64 {
                if !(30..180).contains(&dts) {
                    continue;
                }
                let far = FAR + 7_919 * at * u64::try_from(dts * dts).unwrap() % (1 << 39);
                net.arrive_alone(LIAR, victim, lie(next));
                net.arrive_alone(LIAR, victim, lie(far));
                next += 1;
            }
            if dts == 180 {
                let retire = FlowCommand::RemoveUpstream(link_to(LIAR));
                net.command(victim, Command::Flow(FLOW, retire));
            }
        });

        assert_eq!(got, (0..300).collect::<Vec<_>>(), "lane {victim}");
        assert!(net.lanes[victim].ledger().dropped(DropReason::FarNumber) > 5_000);
    }
}

#[test]
fn what_a_liar_says_of_numbers_to_come_costs_no_frame() {
    for victim in [RELAY, CONSUMER] {
        let mut net = lied_to(victim);
        let got = play(&mut net, 0..300, |net, dts| {
            if !(30..180).contains(&dts) {
                return;
            }
            let next = net.lanes[victim].state_mut().flows.get_mut(FLOW);
            let first = next.unwrap().window.next().plus(8_000);
            let head = LinkDatagram::Head(Head {
                flow: FLOW,
                highest: first,
            });
            let gone = LinkDatagram::Gone(Numbers {
                flow: FLOW,
                first: first.minus(7_900).unwrap(),
                bitmap: vec![0xFF; 32],
            });
            for message in [head, gone] {
                let send = LinkCommand::Send(message);
                net.command(LIAR, Command::Link(link_to(victim), send));
                net.deliver();
            }
        });

        assert_eq!(got, (0..300).collect::<Vec<_>>(), "lane {victim}");
    }
}

#[test]
fn who_lies_in_a_pause_of_the_origin_does_not_keep_its_next_packet_out() {
    for victim in [RELAY, CONSUMER] {
        let mut net = lied_to(victim);
        let mut next = FAR;
        let mut got = Vec::new();
        for round in 0..6 {
            got.extend(play(&mut net, round * 30..round * 30 + 30, |net, dts| {
                for _ in 0..if dts == 0 { 0 } else { 20 } {
                    net.arrive_alone(LIAR, victim, lie(next));
                    next += 1;
                }
            }));
            for _ in 0..40 {
                net.arrive_alone(LIAR, victim, lie(next));
                next += 1;
                net.sleep(Duration::from_millis(20));
            }
        }

        assert_eq!(got, (0..180).collect::<Vec<_>>(), "lane {victim}");
        assert!(
            net.lanes[RELAY]
                .state_mut()
                .flows
                .get_mut(FLOW)
                .unwrap()
                .line
                .former
                .len()
                <= FORMER_LINES_MAX
        );
    }
}

#[test]
fn a_line_that_a_liar_began_is_left_when_he_is_retired_or_falls_silent() {
    for is_retired in [true, false] {
        let mut net = lied_to(RELAY);
        net.arrive_alone(LIAR, RELAY, lie(FAR)); // the first of all
        net.arrive_alone(LIAR, RELAY, lie(FAR + 1));
        if is_retired {
            let retire = FlowCommand::RemoveUpstream(link_to(LIAR));
            net.command(RELAY, Command::Flow(FLOW, retire));
        }

        let got = play(&mut net, 0..60, |_, _| {});

        assert_eq!(got, (0..60).collect::<Vec<_>>(), "retired: {is_retired}");
    }
}

#[test]
fn eight_in_a_row_of_one_upstream_confirm_one_another_once_it_is_quiet() {
    let (mut line, link) = (Line::default(), LinkIndex(1));
    line.took(LinkIndex(2), at(0));
    for step in 0..20 {
        assert!(!line.confirms(number(FAR + step), link, at(49)));
    }
    assert!(line.confirms(number(FAR + 20), link, at(50)));

    let mut line = Line::default();
    for step in 0..u64::from(STRAYS_CONFIRM) {
        // Said again, or farther apart than any send is long, it confirms nothing.
        assert!(!line.confirms(number(FAR), link, at(60)));
        assert!(!line.confirms(number(2 * FAR + step * STRAY_STEP_MAX * 2), link, at(60)));
    }
}

#[test]
fn no_upstream_displaces_what_is_remembered_of_another() {
    let mut line = Line::default();
    let most = u32::try_from(UPSTREAMS_MAX).unwrap();
    for step in 0..u64::from(STRAYS_CONFIRM) {
        for link in 1..most {
            for lie in 0..9 {
                line.confirms(
                    number(FAR + (step * 9 + lie) * 1_000),
                    LinkIndex(link),
                    at(1),
                );
            }
        }
        let is_confirmed = line.confirms(number(500 + step), LinkIndex(most), at(1));
        assert_eq!(is_confirmed, step + 1 == u64::from(STRAYS_CONFIRM));
    }

    assert_eq!(
        line.strays.len(),
        (UPSTREAMS_MAX - 1) * STRAYS_PER_UPSTREAM + 1
    );
    line.retire(LinkIndex(1));
    assert!(line.strays.iter().all(|stray| stray.link != LinkIndex(1)));
}

#[test]
fn of_too_many_former_lines_the_one_with_the_fewest_packets_goes() {
    let mut line = Line::default();
    for began in 0..10_u64 {
        let mut window = Window::new();
        window.take(number(began * FAR));
        for _ in 0..if began == 3 { 100 } else { 10 } {
            line.took(LinkIndex(1), at(1));
        }
        line.leave(window, Reached::default(), 0);
    }

    assert_eq!(line.former.len(), FORMER_LINES_MAX);
    assert!(line.take_former(number(3 * FAR)).is_none());
    assert!(line.take_former(number(3 * FAR + 1)).is_some());
}

#[test]
fn losses_of_a_second_of_100_mbit_are_gone_over_and_what_confirmed_that_is_asked_for() {
    // So far ahead that it is another line, nothing in between is missing.
    for (lost, is_gap) in [(10_400, true), (LINE_GAP_MAX + 1, false)] {
        let mut net = lied_to(RELAY);
        play(&mut net, 0..30, |_, _| {});
        let next = |net: &mut Net| {
            let flow = net.lanes[RELAY].state_mut().flows.get_mut(FLOW);
            flow.unwrap().window.next()
        };
        let heard = next(&mut net);
        net.sleep(Duration::from_secs(1));

        for step in 0..20 {
            let header = Header {
                sent: OriginTime::from_instant(net.now),
                ..header(heard.value() + lost + step)
            };
            net.arrive_alone(0, RELAY, seal(&header, b""));
        }

        let ledger = net.lanes[RELAY].ledger();
        let confirming = u64::from(STRAYS_CONFIRM) - 1;
        assert_eq!(ledger.dropped(DropReason::FarNumber), confirming);
        assert_eq!(ledger.dropped(DropReason::TooOld), 0);
        assert_eq!(ledger.repair.given_up > 0, is_gap);
        assert_eq!(next(&mut net), heard.plus(lost + 20));
        let flow = net.lanes[RELAY].state_mut().flows.get_mut(FLOW).unwrap();
        assert_eq!(flow.missing.expects(heard.plus(lost)), is_gap);
    }
}
