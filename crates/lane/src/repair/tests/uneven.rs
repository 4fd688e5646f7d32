//! Tests of ways with uneven delays: what is taken for loss there, and how a newcomer begins.

use levada_wire::Bitrate;

use super::*;

/// 40 ms there and back, and up to 16 ms more each way.
const JITTERY: Hop = Hop {
    delay: millis(20),
    jitter: millis(16),
    loss: Loss::Even(0),
    duplicated: 0,
};

#[test]
fn what_was_only_overtaken_is_hardly_ever_sent_twice() {
    for hops in [1, 3] {
        let report = played(&vec![JITTERY; hops], 500, 1);
        println!("{hops} hops, 40 ms, 16 ms jitter: {report}");

        assert_eq!(report.lost_packets, 0);
        assert!(report.extra_percent() <= 3.0, "{report}");
    }
}

#[test]
fn what_is_lost_on_an_uneven_way_is_repaired_in_time_and_little_more_is_sent() {
    let lossy = Hop {
        loss: Loss::Even(20),
        duplicated: 10,
        ..JITTERY
    };
    let report = played(&[lossy], 300, 1);
    println!("one hop, 40 ms, 16 ms jitter, 2% lost, 1% duplicated: {report}");

    assert_eq!(report.lost_packets, 0);
    assert!(report.extra_percent() <= 2.0 + 3.0, "{report}");
}

/// The last of a chain of lanes asks for a stream that none but the origin has, with groups of 2 s, at some moment of
/// a group; gives how long it took to the first frame, and to the last frame that was there when it asked.
fn join_cold(hops: usize, seed: u64) -> (Duration, Duration) {
    let hop = Hop {
        loss: Loss::Even(10),
        duplicated: 10,
        ..JITTERY
    };
    let mut chain = Chain::of_links(&vec![hop; hops], millis(500), seed);
    chain.admit(Bitrate(10_000_000));
    chain.begin(60);
    chain.play(millis(4_000 + 97 * seed));
    let asked = chain.now();
    // Requests go up, accepts with the key come back hop by hop, and the content key after two round trips of the way.
    for child in 1..=hops {
        let before_it = u32::try_from(child).unwrap() - 1;
        let [open, key, upstream, egress] = chain.joining(child);
        let at = millis(40) * before_it;
        for (after, (lane, command)) in [
            (millis(0), open),
            (millis(0), upstream),
            (millis(20), egress),
            (millis(40) + millis(seed % 5 * 10), key),
        ] {
            chain.command_after(at + after, lane, command);
        }
    }
    let way = millis(40) * u32::try_from(hops).unwrap();
    chain.command_after(2 * way, hops, testkit::consume());
    let newest = (4_000 + 97 * i64::try_from(seed).unwrap()) * 30 / 1_000;
    chain.play(millis(3_000));

    let first = chain.got().next().expect("something is played").0;
    let numbers: Vec<i64> = chain.got().map(|(_, frame)| frame).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "seed {seed}: {numbers:?}"
    );
    assert_eq!(numbers[0] % 60, 0, "it begins with a group");
    let caught_up = chain.got().find(|&(_, frame)| frame >= newest);
    let caught_up = caught_up.expect("it goes on").0;
    (first.since(asked), caught_up.since(asked))
}

#[test]
fn a_newcomer_over_an_uneven_way_completes_the_group_that_it_has_begun() {
    for hops in [1, 2] {
        let joins: Vec<_> = (0..20).map(|seed| join_cold(hops, seed)).collect();
        println!("{hops} hops: {joins:?}");

        for (seed, (first, caught_up)) in joins.into_iter().enumerate() {
            assert!(first <= millis(600), "{hops} hops, seed {seed}: {first:?}");
            assert!(
                caught_up <= millis(1_000),
                "{hops} hops, seed {seed}: {caught_up:?}"
            );
        }
    }
}
