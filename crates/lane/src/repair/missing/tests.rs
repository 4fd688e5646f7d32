//! Tests of what is missing: gaps, deadlines, tries, who is asked, limits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use levada_wire::datagram::link::Numbers;

use super::*;
use crate::limits::{
    BEGIN_BEFORE_MAX, MISSING_MIN, NACK_INTERVAL, NUMBERS_PER_DATAGRAM, WINDOW_NUMBERS,
};

const FLOW: FlowId = FlowId(9);
const BUDGET: Duration = Duration::from_millis(500);
const TRIP: Duration = Duration::from_millis(40);
const FIRST: LinkIndex = LinkIndex(1);
const SECOND: LinkIndex = LinkIndex(2);

const fn at(millis: u64) -> Instant {
    Instant::from_nanos((10_000 + millis) * 1_000_000)
}

fn number(value: u64) -> Number {
    Number::new(value).unwrap()
}

fn trip(time: Duration) -> RoundTrip {
    let mut trip = RoundTrip::default();
    for _ in 0..60 {
        trip.sample(time);
    }
    trip
}

/// A flow over upstreams whose packets come at once.
struct Rig {
    missing: Missing,
    sources: Vec<RepairPeer>,
    counts: RepairCounts,
}

impl Rig {
    fn new(links: &[LinkIndex]) -> Self {
        let source = |&link| RepairPeer {
            link,
            trip: trip(TRIP),
            ready_at: Instant::ZERO,
            is_quiet: false,
        };
        Self {
            missing: Missing::new(BUDGET),
            sources: links.iter().map(source).collect(),
            counts: RepairCounts::default(),
        }
    }

    /// Packets come now that were sent now, in one burst, over the first upstream.
    fn arrive(&mut self, first: u64, packets: usize, now: Instant) {
        let run = Run {
            first: number(first),
            group_start: number(0),
            burst: number(first),
            sent: OriginTime::from_instant(now),
            bytes: Bytes::from(vec![0; packets]),
            segment_bytes: 1,
            buffer_bytes: packets,
        };
        let shown = Shown {
            link: FIRST,
            trip: trip(TRIP),
            back_off: Duration::ZERO,
            hold: Duration::ZERO,
        };
        let time_of = |sent: OriginTime| {
            let ago = OriginTime::from_instant(now).micros_since(sent);
            now - Duration::from_micros(u64::from(ago.unsigned_abs()))
        };
        self.missing
            .arrived(&run, shown, now, time_of, &mut self.counts);
    }

    fn ask(&mut self, now: Instant) -> Vec<Ask> {
        self.missing
            .ask(FLOW, &mut self.sources, now, &mut self.counts)
    }

    /// All requests until `end`, at the moments the machine asks for: when, whom, for what.
    fn asks(&mut self, end: Instant) -> Vec<(Instant, LinkIndex, Vec<u64>)> {
        let mut all = Vec::new();
        while let Some(now) = self.missing.wake().filter(|&wake| wake <= end) {
            for ask in self.ask(now) {
                all.push((now, ask.link, values(&ask.message)));
            }
            assert!(
                self.missing.wake().is_none_or(|wake| wake > now),
                "it must move on"
            );
        }
        all
    }
}

fn values(message: &LinkDatagram) -> Vec<u64> {
    let (LinkDatagram::Nack(numbers) | LinkDatagram::NackBad(numbers)) = message else {
        panic!("not a request: {message:?}");
    };
    numbers.iter().map(Number::value).collect()
}

#[test]
fn a_gap_is_asked_for_after_the_reordering_time_and_twice_on_a_long_link() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 3, at(0));
    rig.arrive(5, 2, at(10));

    let asks = rig.asks(at(30));

    assert_eq!(
        asks,
        [(at(15), FIRST, vec![3, 4]), (at(20), FIRST, vec![3, 4])]
    );
}

#[test]
fn packets_that_were_only_overtaken_are_not_asked_for() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    rig.arrive(2, 1, at(10));
    rig.arrive(1, 1, at(14));

    assert!(rig.asks(at(1_000)).is_empty());
    assert_eq!(rig.counts, RepairCounts::default());
}

#[test]
fn nobody_is_asked_for_what_cannot_come_in_time_and_it_is_given_up_at_the_deadline() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    rig.missing.joined = None; // it is no newcomer
    rig.arrive(2, 1, at(10));

    let asks = rig.asks(at(504));
    let last = asks.last().unwrap().0;
    assert!(last + TRIP <= at(505) && last > at(430), "{asks:?}");
    assert!(!rig.missing.is_hopeless(number(1)));
    assert!(rig.asks(at(506)).is_empty());

    assert!(rig.missing.is_hopeless(number(1)));
    assert!(!rig.missing.is_hopeless(number(3)));
    assert_eq!((rig.counts.given_up, rig.missing.wake()), (1, None));
}

#[test]
fn a_packet_that_comes_is_asked_for_no_more_and_one_that_was_given_up_is_late() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    rig.arrive(3, 1, at(10));
    rig.asks(at(16));

    rig.arrive(1, 1, at(50));
    let asks = rig.asks(at(5_000));
    rig.arrive(2, 1, at(5_000));

    assert!(asks.iter().all(|(_, _, numbers)| *numbers == [2]));
    assert_eq!(
        (rig.counts.repairs_received, rig.counts.repairs_late),
        (1, 1)
    );
}

#[test]
fn from_the_second_try_on_upstreams_are_asked_in_turn() {
    let mut rig = Rig::new(&[FIRST, SECOND]);
    rig.arrive(0, 1, at(0));
    rig.arrive(2, 1, at(10));

    let mut asked: Vec<LinkIndex> = rig
        .asks(at(300))
        .into_iter()
        .map(|(_, link, _)| link)
        .collect();
    asked.dedup(); // a request is said twice

    assert_eq!(asked[..4], [FIRST, SECOND, FIRST, SECOND]);
}

#[test]
fn who_has_fallen_silent_is_asked_only_where_nobody_else_can_be() {
    let mut rig = Rig::new(&[LinkIndex(1), LinkIndex(2)]);
    rig.sources[0].is_quiet = true;
    rig.arrive(0, 1, at(0));
    rig.arrive(2, 2, at(10));

    let asked: Vec<LinkIndex> = rig.asks(at(200)).iter().map(|ask| ask.1).collect();

    assert!(asked.len() > 1, "{asked:?}");
    assert!(asked.iter().all(|link| *link == LinkIndex(2)), "{asked:?}");
    let mut alone = Rig::new(&[LinkIndex(1)]);
    alone.sources[0].is_quiet = true;
    alone.arrive(0, 1, at(0));
    alone.arrive(2, 2, at(10));
    assert!(!alone.asks(at(200)).is_empty());
}

#[test]
fn a_packet_is_given_up_when_all_upstreams_say_that_it_is_gone() {
    let mut rig = Rig::new(&[FIRST, SECOND]);
    rig.arrive(0, 1, at(0));
    rig.arrive(2, 1, at(10));
    rig.asks(at(15));

    let gone = |rig: &mut Rig, link| {
        rig.missing
            .gone(number(1), link, &rig.sources, at(55), &mut rig.counts)
    };
    gone(&mut rig, FIRST);
    assert_eq!(rig.asks(at(55)), [(at(55), SECOND, vec![1])]);
    gone(&mut rig, SECOND);

    assert!(rig.missing.is_hopeless(number(1)));
    assert_eq!(rig.counts.given_up, 1);
}

#[test]
fn a_pending_packet_is_waited_for_and_asked_for_again_in_case_it_was_lost() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    rig.arrive(2, 1, at(10));
    rig.asks(at(20));

    let source = rig.sources[0];
    rig.missing.pending(number(1), &source, at(55));

    let next = rig.asks(at(200))[0].0;
    assert!(next >= at(95) && next < at(97), "{next:?}");
}

#[test]
fn requests_keep_their_distance_and_name_no_more_than_a_datagram_can() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    rig.arrive(1_001, 2, at(10));

    let asks = rig.asks(at(36));

    let first_try: Vec<u64> = asks
        .iter()
        .flat_map(|(_, _, numbers)| numbers.clone())
        .collect();
    assert!(
        asks.windows(2)
            .all(|pair| pair[1].0.since(pair[0].0) >= NACK_INTERVAL)
    );
    assert!(
        asks.iter()
            .all(|(_, _, numbers)| numbers.len() as u64 <= NUMBERS_PER_DATAGRAM)
    );
    assert_eq!(first_try[..257], (1..258).collect::<Vec<_>>());
}

#[test]
fn more_missing_numbers_than_the_limit_and_the_oldest_are_given_up() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    let most = MISSING_MIN as u64;

    rig.arrive(most + 11, 1, at(1));
    assert_eq!(
        (rig.missing.wants.len(), rig.counts.given_up),
        (MISSING_MIN, 10)
    );
    rig.arrive(most + 20, 1, at(1));

    assert_eq!(
        (rig.missing.wants.len(), rig.counts.given_up),
        (MISSING_MIN, 18)
    );
    assert!(rig.missing.is_hopeless(number(18)));
    assert!(!rig.missing.is_hopeless(number(19)));
}

#[test]
fn a_head_shows_the_tail_and_one_far_ahead_shows_nothing() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 3, at(0));
    let shown = Shown {
        link: FIRST,
        trip: trip(TRIP),
        back_off: Duration::ZERO,
        hold: Duration::ZERO,
    };
    let head = |rig: &mut Rig, value| rig.missing.head(number(value), shown, at(100));

    head(&mut rig, 2);
    assert_eq!(rig.missing.wake(), None);
    head(&mut rig, 3 + WINDOW_NUMBERS);
    assert_eq!(rig.missing.wake(), None);
    head(&mut rig, 4);

    assert_eq!(rig.asks(at(105)), [(at(105), FIRST, vec![3, 4])]);
}

#[test]
fn the_head_of_one_upstream_asks_him_alone_and_gives_up_nothing() {
    let mut rig = Rig::new(&[FIRST, SECOND]);
    rig.arrive(0, 3, at(0));
    let shown = Shown {
        link: SECOND,
        trip: trip(TRIP),
        back_off: Duration::ZERO,
        hold: Duration::ZERO,
    };

    for lie in 0..100 {
        let ahead = number(8_000 + lie);
        rig.missing.head(ahead, shown, at(10));
    }
    let asks = rig.asks(at(2_000));

    assert!(asks.iter().all(|(_, link, _)| *link == SECOND) && !asks.is_empty());
    assert!((3..8_000).all(|value| rig.missing.expects(number(value))));
    assert!(rig.missing.wants.is_empty() && rig.missing.told_in_vain.len() <= MISSING_MIN);

    // What the other one shows to be missing is asked for as if nobody had lied.
    rig.arrive(3, 1, at(2_000));
    rig.arrive(6, 2, at(2_010));
    assert_eq!(rig.asks(at(2_015)), [(at(2_015), FIRST, vec![4, 5])]);
    assert!(
        rig.missing
            .told_in_vain
            .keys()
            .all(|value| *value >= number(8))
    );
}

#[test]
fn a_head_before_the_first_packet_is_no_beginning() {
    let mut rig = Rig::new(&[FIRST, SECOND]);
    let shown = Shown {
        link: SECOND,
        trip: trip(TRIP),
        back_off: Duration::ZERO,
        hold: Duration::ZERO,
    };

    rig.missing.head(number(1 << 40), shown, at(0));
    rig.arrive(0, 3, at(10));
    rig.arrive(4, 2, at(20));

    let is_asked = |(_, link, asked): &(_, _, Vec<u64>)| *link == FIRST && *asked == [3];
    assert!(rig.asks(at(25)).iter().any(is_asked));
    assert!((6..9_000).all(|value| rig.missing.expects(number(value))));
}

#[test]
fn what_packets_show_displaces_what_is_only_told() {
    let mut rig = Rig::new(&[FIRST, SECOND]);
    rig.arrive(0, 3, at(0));
    let shown = Shown {
        link: SECOND,
        trip: trip(TRIP),
        back_off: Duration::ZERO,
        hold: Duration::ZERO,
    };
    rig.missing.head(number(8_000), shown, at(1));
    assert_eq!(rig.missing.wants.len(), MISSING_MIN);

    rig.missing.joined = None;
    rig.arrive(20, 2, at(1));
    rig.missing.head(number(8_001), shown, at(1));

    assert!(rig.missing.wants.len() <= MISSING_MIN);
    assert!((3..20).all(|value| rig.missing.wants[&number(value)].only.is_none()));
    assert_eq!(rig.counts.given_up, 0);
}

#[test]
fn what_a_head_showed_and_came_counts_for_the_deadline_of_what_is_missing_next() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    let shown = Shown {
        link: FIRST,
        trip: trip(TRIP),
        back_off: Duration::ZERO,
        hold: Duration::ZERO,
    };
    rig.missing.head(number(1), shown, at(350));
    rig.arrive(1, 1, at(400));
    rig.missing.joined = None; // it is no newcomer

    rig.arrive(3, 1, at(600));

    // Number 2 was sent between 400 and 600 ms, not between 0 and 600.
    rig.asks(at(999));
    assert!(!rig.missing.is_hopeless(number(2)));
    rig.asks(at(1_000));
    assert!(rig.missing.is_hopeless(number(2)));
}

#[test]
fn a_flow_that_begins_in_the_middle_of_a_group_asks_from_there_unless_that_is_far() {
    let first_asked = |begin: u64, first: u64| {
        let mut rig = Rig::new(&[FIRST]);
        rig.missing.begin_at(number(begin));
        rig.arrive(first, 2, at(0));
        rig.missing.first().map(Number::value)
    };

    assert_eq!(first_asked(5_000, 5_003), Some(5_000));
    assert_eq!(first_asked(5_000, 5_000), None);
    assert_eq!(
        first_asked(5_003, 5_000),
        None,
        "more comes than was hoped for"
    );
    let most = BEGIN_BEFORE_MAX;
    assert_eq!(first_asked(100, 100 + most), Some(100));
    assert_eq!(first_asked(100, 101 + most), Some(0), "like any newcomer");
}

#[test]
fn a_newcomer_asks_for_its_group_from_the_start_however_old_it_is() {
    let mut rig = Rig::new(&[FIRST]);
    let run = Run {
        first: number(12),
        group_start: number(10),
        burst: number(10),
        sent: OriginTime(0),
        bytes: Bytes::from(vec![0; 2]),
        segment_bytes: 1,
        buffer_bytes: 2,
    };
    let shown = Shown {
        link: FIRST,
        trip: trip(TRIP),
        back_off: Duration::ZERO,
        hold: Duration::ZERO,
    };

    // Its own time was two seconds ago.
    rig.missing.arrived(
        &run,
        shown,
        at(0),
        |_| at(0) - Duration::from_secs(2),
        &mut rig.counts,
    );

    assert_eq!(rig.asks(at(5)), [(at(5), FIRST, vec![10, 11])]);
    assert!(!rig.missing.is_hopeless(number(10)));
    rig.asks(at(501));
    assert!(rig.missing.is_hopeless(number(10)));
}

#[test]
fn what_was_lost_between_bursts_is_taken_to_have_been_sent_between_them() {
    let after = Run {
        first: number(12),
        group_start: number(0),
        burst: number(10),
        sent: OriginTime(300),
        bytes: Bytes::from(vec![0; 2]),
        segment_bytes: 1,
        buffer_bytes: 2,
    };
    let sent = |value| sent_of(number(value), (number(8), OriginTime(0)), &after).0;

    assert_eq!([8, 9, 10, 11].map(sent), [100, 200, 300, 300]);
}

#[test]
fn a_false_packet_is_asked_for_with_the_bad_mark_in_a_datagram_of_its_own() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 1, at(0));
    rig.arrive(2, 1, at(10));
    rig.missing.bad(number(0), at(10), at(10), &mut rig.counts);

    let asks: Vec<LinkDatagram> = [15, 20, 25]
        .map(|millis| rig.ask(at(millis)))
        .into_iter()
        .flatten()
        .map(|ask| ask.message)
        .collect();

    let bad = Numbers {
        flow: FLOW,
        first: number(0),
        bitmap: Vec::new(),
    };
    let lost = Numbers {
        first: number(1),
        ..bad.clone()
    };
    let expected = [
        LinkDatagram::NackBad(bad.clone()),
        LinkDatagram::NackBad(bad),
        LinkDatagram::Nack(lost),
    ];
    assert_eq!(asks, expected);
}

#[test]
fn nobody_is_asked_where_there_is_no_upstream() {
    let mut rig = Rig::new(&[]);
    rig.arrive(0, 1, at(0));
    rig.arrive(2, 1, at(10));

    assert!(rig.asks(at(2_000)).is_empty());
    assert_eq!((rig.counts.nacks_sent, rig.counts.given_up), (0, 1));
}

#[test]
fn another_budget_is_that_of_what_is_missed_from_then_on() {
    let mut rig = Rig::new(&[FIRST]);
    rig.arrive(0, 3, at(0));
    rig.arrive(4, 2, at(1));
    rig.missing.set_budget(2 * BUDGET);
    rig.arrive(7, 2, at(2));

    let _ = rig.asks(at(2) + BUDGET);
    let after_the_old = (
        rig.missing.expects(number(3)),
        rig.missing.expects(number(6)),
    );
    let _ = rig.asks(at(2) + 2 * BUDGET);

    assert_eq!(after_the_old, (false, true));
    assert!(!rig.missing.expects(number(6)));
}
