//! Pipes of every kind, in a time of their own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const FRAME: i64 = 40_000;

/// Plays `count` frames through a governor; `comes` says when the frame of that number came, and whether it was waited
/// for, given when the one before it left. Returns when each left, in microseconds.
fn play(count: i64, mut comes: impl FnMut(i64, u64) -> (u64, bool)) -> Vec<u64> {
    let mut governor = Governor::default();
    let mut left = 0;
    let mut times = Vec::new();
    for n in 0..count {
        let (came, waited) = comes(n, left);
        let now = came.max(left);
        let due = governor.due(n * FRAME, waited, Instant::from_nanos(now * 1_000));
        left = now.max(due.as_nanos().div_ceil(1_000));
        times.push(left);
    }
    times
}

fn recorded(n: i64) -> u64 {
    u64::try_from(n * FRAME).unwrap()
}

#[test]
fn a_live_pipe_is_never_held_up_whatever_its_jitter() {
    // Up to 300 ms early or late, by a fixed pattern.
    let came = |n: i64| recorded(n) + u64::try_from(n * 7_919 % 600).unwrap() * 1_000;

    let left = play(10_000, |n, left| (came(n), came(n) > left));

    let mut newest = 0;
    for (n, left) in (0..).zip(left) {
        newest = newest.max(came(n));
        assert_eq!(left, newest, "frame {n}");
    }
}

#[test]
fn a_live_pipe_whose_clock_is_fast_is_never_held_up() {
    // 200 parts in a million, for ten hours.
    let came = |n: i64| recorded(n) - recorded(n) / 5_000;

    let left = play(900_000, |n, _| (came(n), true));

    for (n, left) in (0..).zip(left) {
        assert_eq!(left, came(n), "frame {n}");
    }
}

#[test]
fn a_fast_pipe_leaves_as_fast_as_it_was_recorded_and_at_most_a_second_ahead() {
    let left = play(2_500, |_, _| (0, false));

    for (n, left) in (0..).zip(&left) {
        assert!(*left + 1_000_000 >= recorded(n), "frame {n}");
        assert!(*left <= recorded(n), "frame {n}");
    }
    // No flood at the beginning: a fifth of a second's frames in at least a sixth of a second.
    assert!(left[5] >= 160_000);
    // And the pace does not creep.
    assert_eq!(left[2_499] - left[1_249], recorded(1_250));
}

#[test]
fn a_pipe_that_is_a_little_too_fast_is_held_at_a_second() {
    // An encoder at three times real time: it lets us wait for each frame until it is held up itself.
    let left = play(2_500, |n, left| (recorded(n) / 3, recorded(n) / 3 > left));

    for (n, left) in (0..).zip(&left) {
        // A thousandth of the time in which it let us wait is forgiven.
        assert!(*left + 1_001_000 >= recorded(n), "frame {n}");
    }
}

#[test]
fn a_live_pipe_that_begins_with_a_backlog_gets_rid_of_it() {
    // Two seconds of backlog, ready at once; behind it frames come live.
    let came = |n: i64| recorded(n).saturating_sub(2_000_000);

    let left = play(1_000, |n, left| (came(n), came(n) > left));

    let late = |n: i64| left[usize::try_from(n).unwrap()] - came(n);
    assert!(late(60) > 0);
    assert!(late(999) <= 1_000_000, "{}", late(999));
}

#[test]
fn a_pipe_that_was_stopped_starts_afresh() {
    let minute = 60_000_000;
    let came = |n: i64| recorded(n) + if n < 100 { 0 } else { minute };

    // The writer was stopped for a minute and goes on where it was, with all it has, at once.
    let left = play(200, |n, _| {
        if n < 100 {
            (came(n), true)
        } else {
            (minute + recorded(100), false)
        }
    });

    assert_eq!(left[100], minute + recorded(100));
    assert!(left[199] >= left[100] + recorded(79));
}

#[tokio::test]
async fn garbage_on_a_pipe_is_refused_with_the_cure() {
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    for _ in 0..4 {
        sender
            .send(Ok(Bytes::from(vec![0x55; 8_192])))
            .await
            .unwrap();
    }

    let error = Pipe::open(chunks, Origin::Stdin, Options::default())
        .await
        .unwrap_err()
        .to_string();

    assert!(error.contains("not an MPEG transport stream"), "{error}");
    assert!(error.contains("ffmpeg"), "{error}");
}

#[tokio::test]
async fn a_pipe_closed_before_anything_came_is_refused() {
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    drop(sender);

    let error = Pipe::open(chunks, Origin::Stdin, Options::default())
        .await
        .unwrap_err()
        .to_string();

    assert!(error.contains("before anything came"), "{error}");
}

#[tokio::test]
async fn a_pipe_in_pieces_is_the_same_stream() {
    let clip = include_bytes!("../../../assets/testcard.ts");
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    let send = tokio::spawn(async move {
        for chunk in clip[..188 * 200].chunks(1_000) {
            sender.send(Ok(Bytes::from_static(chunk))).await.unwrap();
        }
    });

    let mut feed = Pipe::open(chunks, Origin::Stdin, Options::default())
        .await
        .unwrap();
    let mut items = Vec::new();
    while let Some(item) = feed.next().await.unwrap() {
        items.push(item);
    }

    send.await.unwrap();
    assert!(matches!(&items[0], Item::Description(description) if description.tracks.len() == 2));
    let frames = items.iter().filter(|item| matches!(item, Item::Frame(_)));
    assert!(frames.count() > 20);
}
