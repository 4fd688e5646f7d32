//! Tests of what a pace learns.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
use super::*;

const START: Instant = Instant::from_nanos(5_000_000_000);
const NEEDS: Bitrate = Bitrate(8_000_000);
const MS: Duration = Duration::from_millis(1);

fn trip(millis: u64) -> RoundTrip {
    let mut trip = RoundTrip::default();
    for _ in 0..40 {
        trip.sample(Duration::from_millis(millis));
    }
    trip
}

/// A path that long, which loses so many of a thousand.
fn path(millis: u64, permille: u32) -> (RoundTrip, Option<Loss>) {
    (trip(millis), Some(Loss::permille(permille)))
}

/// A rate and a flow that sends pictures of 200 packets by it, one a second.
struct Story {
    rate: PaceRate,
    now: Instant,
    next: Number,
    path: (RoundTrip, Option<Loss>),
}

impl Story {
    fn new() -> Self {
        let mut story = Self {
            rate: PaceRate::new(START),
            now: START,
            next: Number::ZERO,
            path: path(40, 0),
        };
        story.rate.attend(NEEDS, story.path, story.now);
        story
    }

    /// A picture of 200 packets of which `is_lost` tells by place what gets lost; gives the rate after it.
    fn picture(&mut self, is_lost: impl Fn(u64) -> bool) -> u64 {
        let first = self.next;
        for send in 0..25 {
            let range = (first.plus(send * 8), first.plus(send * 8 + 8));
            self.rate.sent(range, send > 0, self.now);
            self.now += MS;
        }
        self.next = first.plus(200);
        for at in (0..200).filter(|&at| is_lost(at)) {
            self.rate.lost(first.plus(at), self.now);
        }
        self.now += 900 * MS;
        self.rate.attend(NEEDS, self.path, self.now);
        self.rate.now().0
    }
}

/// What a queue of 16 packets loses of a picture that is sent by such a rate, over a path of that one.
fn overflow(rate: u64, path: u64) -> impl Fn(u64) -> bool {
    move |at| {
        let waits = |at: u64| at.saturating_sub(at * path / rate.max(path));
        waits(at) > 16 && waits(at) > waits(at - 1)
    }
}

#[test]
fn it_begins_at_half_more_than_is_needed_and_follows_that_until_it_learns() {
    let mut rate = PaceRate::new(START);
    assert_eq!(rate.now(), PACE_MIN);

    assert!(rate.attend(NEEDS, path(40, 0), START));
    assert_eq!(rate.now(), Bitrate(12_000_000));
    rate.attend(Bitrate(4_000_000), path(40, 0), START);
    assert_eq!(rate.now(), Bitrate(6_000_000));
}

#[test]
fn it_rises_while_pictures_come_whole_up_to_the_ceiling() {
    let mut story = Story::new();
    let mut before = story.rate.now().0;
    for _ in 0..17 {
        let now = story.picture(|_| false);
        assert!(
            now > before && now <= before + before / 10 + 1,
            "{now} after {before}"
        );
        before = now;
    }
    for _ in 0..10 {
        story.picture(|_| false);
    }

    assert_eq!(story.rate.now().0, NEEDS.0 / 16 * PACE_CEILING);
}

#[test]
fn a_queue_that_eats_tails_stops_it_below_the_path_and_costs_few_packets() {
    let mut story = Story::new();
    let mut lost = 0;
    for _ in 0..60 {
        let is_lost = overflow(story.rate.now().0, 20_000_000);
        lost += (0..200).filter(|&at| is_lost(at)).count();
        story.picture(is_lost);
    }

    let rate = story.rate.now().0;
    assert!((16_000_000..=23_000_000).contains(&rate), "{rate}");
    assert!(lost < 60 * 200 / 100, "{lost} of 12,000");
}

#[test]
fn a_path_that_loses_by_chance_does_not_stop_it() {
    let mut story = Story::new();

    // Every twentieth, heads and tails alike.
    for picture in 0..40 {
        story.picture(|at| (at * 7 + picture * 3) % 20 == 0);
    }

    assert!(story.rate.now().0 > 40_000_000, "{:?}", story.rate.now());
}

#[test]
fn whatever_is_asked_for_it_never_falls_below_what_is_needed() {
    let mut story = Story::new();

    for _ in 0..40 {
        story.picture(|at| at > 8);
    }

    assert_eq!(story.rate.now().0, NEEDS.0 / 16 * PACE_FLOOR);
}

#[test]
fn a_round_trip_that_grows_slows_it_down() {
    let mut story = Story::new();
    for _ in 0..5 {
        story.picture(|_| false);
    }
    let before = story.rate.now().0;

    story.path.0 = trip(120);
    let slower = story.picture(|_| false);

    assert!(slower < before, "{slower} after {before}");
}

#[test]
fn a_rate_that_was_too_high_is_tried_again_and_each_time_later() {
    let mut story = Story::new();
    let mut tries = Vec::new();
    for picture in 0..400_u32 {
        let is_high = story.rate.now().0 > 20_000_000;
        if is_high {
            tries.push(picture);
        }
        story.picture(|at| is_high && at > 150);
    }

    assert!((3..=9).contains(&tries.len()), "{tries:?}");
    let pauses: Vec<_> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses[0] >= 10 && pauses.is_sorted(), "{pauses:?}");
    let most = u64::from(*pauses.last().unwrap());
    assert!(most <= PACE_RETRY_MAX.as_secs() + 20, "{pauses:?}");
}

#[test]
fn at_most_so_many_stretches_are_remembered() {
    let mut rate = PaceRate::new(START);

    for at in 0..2 * STRETCHES_MAX as u64 {
        let first = Number::ZERO.plus(at * 8);
        rate.sent((first, first.plus(8)), false, START);
    }

    assert_eq!(rate.stretches.len(), STRETCHES_MAX);
    assert!(!rate.lost(Number::ZERO, START));
    assert!(rate.stretches.iter().all(|one| one.lost_of_head == 0));
}

#[test]
fn without_time_for_a_second_try_it_begins_at_the_ceiling_until_a_tail_is_lost() {
    let mut story = Story::new();
    story.rate.hurry(true);

    assert_eq!(story.picture(|_| false), NEEDS.0 / 16 * PACE_CEILING);
    let slower = story.picture(|at| at > 100);

    assert!(slower <= NEEDS.0 * 5, "{slower}");
    assert!(story.picture(|_| false) < NEEDS.0 * 6);
}

#[test]
fn without_time_for_a_second_try_losses_in_a_row_slow_nothing_down() {
    let mut story = Story::new();
    story.path = path(100, 100);
    // Four in a row, and one or two of them in a picture's head now and then; a tenth in all.
    let in_a_row = |picture: u64| move |at: u64| (at + picture * 13) % 40 < 4;

    story.picture(in_a_row(0));
    story.picture(|at| at > 100);
    assert!(
        story.rate.now() < Bitrate(12_000_000),
        "as if a queue were full"
    );
    story.rate.hurry(true);

    for picture in 1..40 {
        assert_eq!(
            story.picture(in_a_row(picture)),
            NEEDS.0 / 16 * PACE_CEILING
        );
    }
}

#[test]
fn a_path_whose_loss_is_known_is_not_taken_for_a_full_queue_before_a_head_was_lost() {
    let (mut known, mut unknown) = (Story::new(), Story::new());
    known.path = path(40, 50);
    let lost = |at| at % 25 == 24;

    let rates = [&mut known, &mut unknown].map(|story| {
        story.rate.attend(NEEDS, story.path, story.now);
        story.picture(lost)
    });

    assert!(rates[0] >= 12_000_000 && rates[1] < 12_000_000, "{rates:?}");
}
