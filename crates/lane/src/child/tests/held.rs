//! Tests of egresses that are held: streams beyond what was admitted, what is shed, skipped and said.

use bytes::Bytes;
use levada_wire::datagram::link::{LinkDatagram, Numbers};
use levada_wire::packet::{Class, Kind};
use levada_wire::{Header, Instant, LinkIndex, Machine, Number};

use super::*;
use crate::api::{Channel, Egress, FlowCommand, Input, Interface, Late, LinkCommand};
use crate::child::Children;
use crate::child::repairs::{Repaired, Request};
use crate::limits::{FORMER_MAX, REPAIR_CREDIT};

/// Pictures of that many bytes, 25 a second, for that long: as a stream of its own pace.
pub(super) fn play(
    net: &mut Net,
    from: i64,
    pictures: i64,
    every: i64,
    bytes: usize,
) -> Vec<Frame> {
    let mut sent = Vec::new();
    for at in from..from + pictures {
        let frame = frame(1, at % every == 0, at * 3_600, bytes);
        net.push(frame.clone());
        sent.push(frame);
        net.sleep(40 * MS);
    }
    sent
}

#[test]
fn whoever_keeps_to_the_admitted_peak_is_never_held_large_pictures_and_all() {
    let mut net = crowd(1, &LaneSettings::default());
    add_egress(&mut net, 1, 1_000_000);
    let mut sent = Vec::new();
    for second in 0..10 {
        // Half a second's bytes in the first picture of each second.
        for at in 0..25 {
            let bytes = if at == 0 { 60_000 } else { 2_500 };
            let frame = frame(1, at == 0, (second * 25 + at) * 3_600, bytes);
            net.push(frame.clone());
            sent.push(frame);
            assert_eq!(row(&net, 0).behind, 0);
            net.sleep(40 * MS);
        }
    }

    assert_eq!(net.frames(1), sent);
    assert_eq!(row(&net, 0).withheld, 0);
}

#[test]
fn a_stream_beyond_its_peak_is_held_to_a_quarter_more_than_it_and_plays_whole_beginnings_of_groups()
{
    let mut net = crowd(2, &LaneSettings::default());
    add_egress(&mut net, 1, 1_000_000);
    add_egress(&mut net, 2, u64::MAX);

    let sent = play(&mut net, 0, 500, 25, 10_000); // 2 Mb/s for 20 s

    assert_eq!(net.frames(2), sent, "the other egress loses nothing");
    let got = net.frames(1);
    assert!((200..400).contains(&got.len()), "{}", got.len());
    // Of each group that came there is a beginning without a hole.
    for group in got.chunk_by(|_, next| !next.sync) {
        let first = sent
            .iter()
            .position(|frame| frame.dts == group[0].dts)
            .unwrap();
        assert_eq!(group, &sent[first..first + group.len()]);
        assert!(group[0].sync);
    }
    let repair = net.lanes[1].ledger().repair;
    assert_eq!(repair.nacks_sent, 0, "it does not ask for what is gone");
    let ledger = net.lanes[0].ledger();
    assert!(ledger.unsent(DropReason::Skipped) > 0 && ledger.repair.gones_pushed > 0);
    assert_eq!(row(&net, 0).withheld, ledger.unsent(DropReason::Skipped));
}

#[test]
fn a_moment_beyond_the_peak_costs_a_moment_of_a_long_group_and_not_the_rest_of_it() {
    let mut net = crowd(1, &LaneSettings::default());
    add_egress(&mut net, 1, 1_000_000);
    play(&mut net, 0, 100, 10_000, 4_000);
    net.frames(1);

    play(&mut net, 100, 25, 10_000, 40_000); // 8 Mb/s for a second
    net.frames(1);
    play(&mut net, 125, 25, 10_000, 4_000);
    net.frames(1);
    let calm = play(&mut net, 150, 50, 10_000, 4_000);

    assert_eq!(net.frames(1), calm);
    let row = row(&net, 0);
    assert_eq!((row.behind, row.withheld > 100), (0, true), "{row:?}");
}

#[test]
fn what_waits_is_at_most_200_ms_old() {
    let mut net = crowd(1, &LaneSettings::default());
    add_egress(&mut net, 1, 1_000_000);
    let mut latest = Duration::ZERO;
    for at in 0..250 {
        let pushed = frame(1, at % 25 == 0, at * 3_600, 10_000);
        net.push(pushed);
        for _ in 0..40 {
            net.sleep(MS);
            for got in net.frames(1) {
                let made = Instant::from_nanos(1_000_000_000)
                    + 40 * MS * u32::try_from(got.dts / 3_600).unwrap();
                latest = latest.max(net.now.since(made));
            }
        }
    }

    assert!(latest > 100 * MS, "{latest:?}");
    // A run of one picture takes 66 ms, and the next may begin just before the limit.
    assert!(latest < 400 * MS, "{latest:?}");
}

/// A lane that relays packets made by hand, so that they have classes: lane 0 is its upstream, lane 2 its child.
pub(super) struct Relay {
    pub(super) net: Net,
    pub(super) next: u64,
    pub(super) offset: u32,
}

impl Relay {
    pub(super) fn new(peak: u64) -> Self {
        Self::with_settings(peak, &LaneSettings::default())
    }

    fn with_settings(peak: u64, settings: &LaneSettings) -> Self {
        let mut net = Net::with_settings(3, settings);
        let (flow, link) = (FLOW, link_to(0));
        net.command(1, Command::Flow(flow, FlowCommand::Open));
        net.command(1, testkit::set_carry_key());
        net.command(1, Command::Flow(flow, FlowCommand::AddUpstream(link)));
        let (link, terms) = (link_to(2), terms(peak));
        net.command(1, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));
        Self {
            net,
            next: 0,
            offset: 0,
        }
    }

    /// One burst of that many packets of 1,000 bytes arrives; gives its numbers.
    pub(super) fn burst(&mut self, packets: u16, discardable: bool, class: u8) -> Vec<u64> {
        let packets = (0..packets).map(|index| self.packet(index, packets, discardable, class));
        packets.collect()
    }

    /// The bucket is empty from now on, for 8 ms: a second of 800 kb/s has gone, and one packet more.
    pub(super) fn drain(&mut self) {
        for _ in 0..101 {
            self.burst(1, false, 0);
        }
        assert_eq!(self.take().0.len(), 101);
    }

    fn packet(&mut self, index: u16, of: u16, discardable: bool, class: u8) -> u64 {
        let number = self.next;
        let header = Header {
            last: index + 1 == of,
            discardable,
            class: Class::new(class).unwrap(),
            index,
            offset: self.offset,
            sent: levada_wire::OriginTime::from_instant(self.net.now),
            ..testkit::header(number)
        };
        let packet = testkit::seal(&header, &[7; 1_000 - levada_wire::packet::OVERHEAD_BYTES]);
        self.net.arrive_alone(0, 1, packet);
        self.next += 1;
        self.offset += 1;
        number
    }

    /// A group begins with the next burst.
    pub(super) const fn begin_group(&mut self) {
        self.offset = 0;
    }

    /// What went to the child: the numbers of packets, and those that it heard are gone.
    pub(super) fn take(&mut self) -> (Vec<u64>, Vec<u64>) {
        let mut packets = Vec::new();
        let mut gone = Vec::new();
        for (from, transmit) in std::mem::take(&mut self.net.wires) {
            if from != 1 || transmit.to != testkit::address(2) {
                continue;
            }
            for datagram in testkit::datagrams(&transmit) {
                match Kind::of(&datagram) {
                    Kind::Media => packets.push(Header::peek(&datagram).unwrap().number.value()),
                    _ => gone.extend(gone_in(&datagram)),
                }
            }
        }
        (packets, gone)
    }

    pub(super) fn sleep(&mut self, time: Duration) {
        let end = self.net.now + time;
        while let Some(wakeup) = self.net.lanes[1].poll_timeout().filter(|it| it.at <= end) {
            self.net.now = wakeup.at;
            self.net.timeout(1);
        }
        self.net.now = end;
    }

    pub(super) fn ask(&mut self, numbers: &[u64]) {
        for &value in numbers {
            let numbers = Numbers {
                flow: FLOW,
                first: Number::new(value).unwrap(),
                bitmap: Vec::new(),
            };
            let (link, message) = (link_to(1), LinkDatagram::Nack(numbers));
            self.net
                .command(2, Command::Link(link, LinkCommand::Send(message)));
            let (_, transmit) = self.net.wires.pop_back().unwrap();
            self.net.arrive(2, &transmit);
        }
    }
}

/// The numbers that a datagram to lane 2 says are gone.
fn gone_in(datagram: &Bytes) -> Vec<u64> {
    match testkit::open(1, 2, datagram) {
        LinkDatagram::Gone(numbers) => numbers.iter().map(Number::value).collect(),
        _ => Vec::new(),
    }
}

/// The rate of the tests below: 125 packets in a second leave, 100 more at once.
const PEAK: u64 = 800_000;

/// For a second every 20 ms a packet that must stay, and four bursts of a pair that may go, each of another kind in
/// turn. Gives the numbers of the former, and the pairs by kind.
fn mixed(relay: &mut Relay, kinds: &[(bool, u8)]) -> (Vec<u64>, Vec<Vec<Vec<u64>>>) {
    let (mut kept, mut pairs) = (Vec::new(), vec![Vec::new(); kinds.len()]);
    for round in 0..50 {
        kept.extend(relay.burst(1, false, 0));
        for at in 0..2 {
            let kind = (round * 2 + at) % kinds.len();
            let (discardable, class) = kinds[kind];
            pairs[kind].push(relay.burst(2, discardable, class));
            relay.sleep(10 * MS);
        }
    }
    relay.sleep(Duration::from_secs(1));
    (kept, pairs)
}

#[test]
fn bursts_that_may_go_are_shed_whole_and_said_to_be_gone() {
    for kind in [(true, 0), (true, 1), (false, 3), (false, 2), (false, 1)] {
        let mut relay = Relay::new(PEAK);
        relay.drain();

        let (kept, pairs) = mixed(&mut relay, &[kind]);

        let (sent, gone) = relay.take();
        assert!(kept.iter().all(|number| sent.contains(number)), "{kind:?}");
        for pair in &pairs[0] {
            let is_sent = sent.contains(&pair[0]);
            assert_eq!(sent.contains(&pair[1]), is_sent, "{kind:?}: {pair:?}");
            assert_eq!(gone.contains(&pair[0]), !is_sent, "{kind:?}: {pair:?}");
            assert_eq!(gone.contains(&pair[1]), !is_sent, "{kind:?}: {pair:?}");
        }
        let ledger = relay.net.lanes[1].ledger();
        assert!(gone.len() > 50 && sent.len() > 150, "{kind:?}");
        assert_eq!(ledger.unsent(DropReason::Shed), gone.len() as u64);
        assert_eq!(ledger.unsent(DropReason::Skipped), 0, "{kind:?}");
    }
}

#[test]
fn what_may_go_first_is_shed_first() {
    let kinds = [[(true, 0); 5].as_slice(), &[(false, 3)]].concat();
    let mut relay = Relay::new(PEAK);
    relay.drain();

    let (_, pairs) = mixed(&mut relay, &kinds);

    let (sent, gone) = relay.take();
    assert!(!gone.is_empty());
    assert!(
        pairs[5]
            .iter()
            .flatten()
            .all(|number| sent.contains(number))
    );
}

#[test]
fn where_nothing_may_be_shed_the_egress_skips_to_the_next_group() {
    let mut relay = Relay::new(PEAK);
    relay.drain();
    let mut skipped = Vec::new();
    for _ in 0..40 {
        skipped.extend(relay.burst(5, false, 0));
        relay.sleep(10 * MS);
    }
    let (sent, mut gone) = relay.take();
    assert!(sent.len() < 50 && gone.len() > 30);

    relay.begin_group();
    let next = relay.burst(3, false, 0);
    relay.sleep(Duration::from_secs(1));

    let (then, rest) = relay.take();
    gone.extend(rest);
    assert_eq!(then, next);
    skipped.retain(|number| !sent.contains(number));
    assert_eq!(gone, skipped);
    assert_eq!(relay.net.lanes[1].counters().flows[0].behind, 0);
    assert!(
        relay.net.lanes[1].ledger().repair.gones_pushed < 20,
        "packed in few datagrams"
    );
}

#[test]
fn a_child_that_asks_for_what_was_withheld_or_waits_is_not_sent_it_out_of_turn() {
    let mut relay = Relay::new(PEAK);
    relay.drain();
    for _ in 0..40 {
        relay.burst(5, false, 0);
        relay.sleep(10 * MS);
    }
    let (_, gone) = relay.take();
    relay.ask(&gone[..3]);
    assert_eq!(relay.take(), (Vec::new(), gone[..3].to_vec()));
    relay.begin_group();
    let waiting = relay.burst(99, false, 0);
    assert!(relay.take().0.len() < 50);

    relay.ask(&waiting[98..]);

    assert_eq!(relay.take().0, [0; 0]);
    assert_eq!(relay.net.lanes[1].ledger().repair.pendings_sent, 1);
}

#[test]
fn a_late_packet_from_before_the_cursor_is_sent_at_once() {
    let mut relay = Relay::new(PEAK);
    let late = relay.next;
    (relay.next, relay.offset) = (late + 1, relay.offset + 1);
    relay.drain();
    let waiting = relay.burst(1, false, 0);
    assert_eq!(relay.take().0, [0; 0]);

    (relay.next, relay.offset) = (late, 0);
    relay.burst(1, false, 0);

    assert_eq!(relay.take().0, [late]);
    relay.sleep(20 * MS);
    assert_eq!(relay.take().0, waiting);
}

#[test]
fn a_packet_that_waited_does_not_go_back_to_where_it_came_from() {
    let mut relay = Relay::new(PEAK);
    let (flow, link, terms) = (FLOW, link_to(0), terms(PEAK));
    relay
        .net
        .command(1, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));
    let (flow, link) = (FLOW, link_to(2));
    relay
        .net
        .command(1, Command::Flow(flow, FlowCommand::AddUpstream(link)));
    relay.drain();

    // Held by what came from lane 0, it gets one from the child itself.
    relay.burst(1, false, 0);
    let header = Header {
        offset: relay.offset,
        ..testkit::header(relay.next)
    };
    relay
        .net
        .arrive_alone(2, 1, testkit::seal(&header, b"mine"));
    relay.sleep(Duration::from_secs(1));

    assert_eq!(relay.take().0, [relay.next - 1]);
    assert!(relay.net.lanes[1].ledger().unsent(DropReason::BackToSender) > 100);
}

#[test]
fn what_is_left_of_a_full_cache_is_passed_over_and_said() {
    let settings = LaneSettings {
        flow_cache_bytes_max: 5_000,
        ..LaneSettings::default()
    };
    let mut relay = Relay::with_settings(PEAK, &settings);
    relay.drain();
    let numbers: Vec<u64> = (0..30).flat_map(|_| relay.burst(1, false, 0)).collect();
    relay.sleep(100 * MS);
    let (sent, gone) = relay.take();

    assert_eq!(sent, [0; 0]);
    assert_eq!(gone, numbers);
    assert_eq!(relay.net.lanes[1].ledger().unsent(DropReason::Skipped), 30);
}

#[test]
fn a_child_that_goes_on_live_with_the_next_group_hears_at_once_what_is_gone() {
    let settings = LaneSettings {
        flow_cache_bytes_max: 500, // nothing is kept
        ..LaneSettings::default()
    };
    let mut relay = Relay::with_settings(PEAK, &settings);
    relay.drain();
    relay.burst(1, false, 0);
    relay.sleep(Duration::from_secs(1));
    relay.take();
    let gone = relay.burst(1, false, 0);

    relay.begin_group();
    let next = relay.burst(1, false, 0);
    relay.sleep(Duration::ZERO);

    assert_eq!(relay.take(), (next, gone));
}

#[test]
fn former_children_owe_what_they_were_sent_up_to_the_limit() {
    let mut children = Children::default();
    let now = Instant::from_nanos(1_000_000_000);
    let last = u32::try_from(FORMER_MAX).unwrap();

    for link in (0..=last).map(LinkIndex) {
        let place = children.add(link, terms(PEAK));
        children.all[place].buckets.catch_up.take(10_000, now);
        assert!(children.remove(link, 0, now));
    }

    let mut owes = |link| {
        let place = children.add(LinkIndex(link), terms(PEAK));
        !children.all[place].buckets.catch_up.is_full(now)
    };
    assert!(!owes(0), "the first is forgotten");
    assert!(owes(1) && owes(last));
}

#[test]
fn former_children_keep_what_is_left_to_them_of_repairs_up_to_the_limit() {
    let (mut children, now) = (Children::default(), Instant::ZERO);
    let last = u32::try_from(FORMER_MAX).unwrap();
    let empty = |children: &mut Children, link: LinkIndex| {
        let place = children.add(link, terms(PEAK));
        let repairs = &mut children.all[place].repairs;
        let number = |value| Number::new(value).unwrap();
        let mut repaired = Repaired::default();
        let admit = |&value: &u64| {
            let request = Request {
                flow: FLOW,
                child: link,
                number: number(value),
                trip: 40 * MS,
                packets: 0,
                credit: REPAIR_CREDIT,
            };
            repairs.admit(&mut repaired, &request, now).is_ok()
        };
        (0..=REPAIR_CREDIT).filter(admit).count() as u64
    };
    for link in (0..=last).map(LinkIndex) {
        empty(&mut children, link);
        children.remove(link, 0, now);
    }

    assert_eq!(children.former.len(), FORMER_MAX);
    assert_eq!(
        empty(&mut children, LinkIndex(0)),
        REPAIR_CREDIT,
        "it is forgotten"
    );
    assert_eq!(empty(&mut children, LinkIndex(1)), 0);
    children.forget(LinkIndex(1));
    assert_eq!(
        empty(&mut children, LinkIndex(1)),
        REPAIR_CREDIT,
        "another peer"
    );
}

#[test]
fn a_member_that_is_sent_the_flow_over_its_link_too_stays_when_that_ends() {
    let (mut children, now) = (Children::default(), Instant::ZERO);
    let channel = Channel {
        address: ([239, 1, 2, 3], 7_801).into(),
        interface: Interface {
            index: 1,
            address: None,
        },
    };
    let link = LinkIndex(7);
    children.add(link, terms(PEAK));
    assert!(children.add_member(channel, link));

    assert!(children.remove(link, 0, now));
    assert!(!children.remove(link, 0, now), "it is none any more");

    assert_eq!((children.egresses(), children.memberships()), (0, 1));
    assert_eq!(children.told().collect::<Vec<_>>(), [link]);
    assert!(children.remove_member(channel, link, 0, now));
    assert!(children.all.is_empty());
}

/// Of packets that had been sent to the child those numbers did not go out.
fn late(relay: &mut Relay, numbers: std::ops::Range<u64>) {
    let late = Late {
        egress: Egress::Link(link_to(2)),
        flow: FLOW,
        first: Number::new(numbers.start).unwrap(),
        end: Number::new(numbers.end).unwrap(),
    };
    relay.net.input(1, Input::Late(late));
}

#[test]
fn whoever_misses_what_was_late_hears_gone_and_is_parked_until_the_next_group() {
    let mut relay = Relay::new(u64::MAX);
    relay.burst(9, false, 0);
    relay.take();

    late(&mut relay, 4..9);
    let rest = relay.burst(3, false, 0);
    relay.sleep(60 * MS);
    let gone = [vec![4, 5, 6, 7, 8], rest].concat();
    assert_eq!(relay.take(), (vec![], gone));
    assert_eq!(relay.net.lanes[1].counters().flows[0].behind, 1);
    relay.begin_group();
    let next = relay.burst(3, false, 0);

    assert_eq!(relay.take(), (next, vec![]));
    let row = relay.net.lanes[1].counters().flows[0];
    assert_eq!((row.behind, row.withheld), (0, 8));
}

#[test]
fn what_was_late_in_the_middle_of_a_long_group_is_all_that_is_missed() {
    let mut net = crowd(1, &LaneSettings::default());
    add_egress(&mut net, 1, u64::MAX);
    let before = play(&mut net, 0, 100, 10_000, 2_000);
    assert_eq!(net.frames(1), before);
    let made = row(&net, 0).packets_in;

    let late = Late {
        egress: Egress::Link(link_to(1)),
        flow: FLOW,
        first: Number::new(made - 2).unwrap(),
        end: Number::new(made).unwrap(),
    };
    net.input(0, Input::Late(late));
    let after = play(&mut net, 100, 20, 10_000, 2_000);

    assert_eq!(net.frames(1), after);
    assert_eq!(row(&net, 0).withheld, 2);
}

#[test]
fn a_group_that_is_on_its_way_when_packets_before_it_were_late_goes_on() {
    let mut relay = Relay::new(u64::MAX);
    let before = relay.burst(9, false, 0);
    relay.begin_group();
    relay.burst(3, false, 0);
    relay.take();

    late(&mut relay, 4..9);
    let next = relay.burst(3, false, 0);

    let (sent, gone) = relay.take();
    assert_eq!((sent, gone), (next, before[4..].to_vec()));
}

#[test]
fn an_egress_that_is_held_when_its_packets_are_late_skips_what_waits_too() {
    let mut relay = Relay::new(PEAK);
    relay.drain();
    let waiting = relay.burst(3, false, 0);

    late(&mut relay, 90..101);

    let said: Vec<u64> = (90..101).chain(waiting).collect();
    assert_eq!(relay.take(), (vec![], said));
    let ledger = relay.net.lanes[1].ledger();
    assert_eq!(ledger.unsent(DropReason::Skipped), 3);
}
