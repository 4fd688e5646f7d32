//! Recordings made by hand, so that each fault is known to be found.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

/// Between two pictures; much longer than [`INTERLEAVE`], so that a hole is beside one picture only.
const PICTURE: i64 = 30_000;
const SOUND: i64 = 2 * PICTURE;
const LENGTH: i64 = 8 * PICTURE;

/// Eight pictures and four sounds; every fourth picture is a key.
fn clip() -> Recording {
    let unit = |medium: &str, at: i64, ticks: i64| Unit {
        dts: at * ticks,
        pts: at * ticks + ticks,
        hash: format!("{medium} {at}"),
        is_key: at % 4 == 0,
    };
    Recording {
        video: (0..8).map(|at| unit("picture", at, PICTURE)).collect(),
        audio: (0..4).map(|at| unit("sound", at, SOUND)).collect(),
    }
}

/// The clip twice round, from picture `from` to picture `to`, with 7,000 added to all times.
fn recorded(from: i64, to: i64) -> Recording {
    let twice = |units: Vec<Unit>| -> Vec<Unit> {
        let again = units.iter().cloned().map(|unit| later(unit, LENGTH));
        let all: Vec<_> = units.iter().cloned().chain(again).collect();
        let within = |unit: &Unit| (from * PICTURE..to * PICTURE).contains(&unit.dts);
        all.into_iter()
            .filter(within)
            .map(|unit| later(unit, 7_000))
            .collect()
    };
    Recording {
        video: twice(clip().video),
        audio: twice(clip().audio),
    }
}

fn later(unit: Unit, ticks: i64) -> Unit {
    Unit {
        dts: unit.dts + ticks,
        pts: unit.pts + ticks,
        ..unit
    }
}

#[test]
fn a_part_of_the_clip_that_goes_round_is_whole() {
    let comparison = recorded(3, 13).compare(&clip()).unwrap();

    assert!(comparison.is_whole(), "{comparison:?}");
    assert_eq!(
        (comparison.runs[0].first, comparison.runs[0].pictures),
        (3, 10)
    );
}

#[test]
fn a_missing_picture_divides_the_recording() {
    let mut recording = recorded(0, 8);
    recording.video.remove(5);

    let comparison = recording.compare(&clip()).unwrap();

    assert!(!comparison.is_whole());
    let firsts: Vec<_> = comparison.runs.iter().map(|run| run.first).collect();
    assert_eq!(firsts, [0, 6]);
    assert!(!comparison.runs[1].starts_with_key);
}

#[test]
fn a_missing_sound_is_a_hole() {
    let mut recording = recorded(0, 8);
    recording.audio.remove(2);

    assert_eq!(recording.compare(&clip()).unwrap().holes, 1);
}

#[test]
fn a_sound_that_is_missing_together_with_its_picture_is_no_hole_of_its_own() {
    let mut recording = recorded(0, 8);
    recording.video.remove(4);
    recording.audio.remove(2);

    let comparison = recording.compare(&clip()).unwrap();

    assert_eq!((comparison.runs.len(), comparison.holes), (2, 0));
}

#[test]
fn a_sound_that_is_missing_elsewhere_than_a_picture_is_a_hole() {
    let mut recording = recorded(0, 12);
    recording.video.remove(1);
    recording.audio.remove(3);

    let comparison = recording.compare(&clip()).unwrap();

    assert_eq!((comparison.runs.len(), comparison.holes), (2, 1));
}

#[test]
fn a_picture_out_of_time_divides_the_recording() {
    let mut recording = recorded(0, 8);
    recording.video[7].dts += 1;
    recording.video[7].pts += 1;

    assert_eq!(recording.compare(&clip()).unwrap().runs.len(), 2);
}

#[test]
fn a_restart_is_a_second_run_and_its_sound_moves_with_it() {
    let mut recording = recorded(0, 6);
    let again = recorded(0, 8);
    recording.video.extend(
        again
            .video
            .into_iter()
            .map(|unit| later(unit, 6 * PICTURE + 617)),
    );
    recording.audio.extend(
        again
            .audio
            .into_iter()
            .map(|unit| later(unit, 6 * PICTURE + 617)),
    );

    let comparison = recording.compare(&clip()).unwrap();

    assert_eq!((comparison.runs.len(), comparison.holes), (2, 0));
    assert!(comparison.runs[1].starts_with_key);
}

#[test]
fn sound_that_is_not_in_step_with_the_pictures_is_refused() {
    let mut recording = recorded(0, 8);
    recording.audio = recording
        .audio
        .into_iter()
        .map(|unit| later(unit, 7))
        .collect();

    let error = recording.compare(&clip()).unwrap_err().to_string();

    assert!(error.contains("is not where the pictures say"), "{error}");
}

#[test]
fn a_foreign_picture_is_refused() {
    let mut recording = recorded(0, 8);
    recording.video[2].hash = "another".to_owned();

    let error = recording.compare(&clip()).unwrap_err().to_string();

    assert!(error.contains("picture 2"), "{error}");
}

#[test]
fn time_that_goes_back_is_refused() {
    let mut recording = recorded(0, 8);
    recording.video[3].dts = recording.video[1].dts;

    assert!(recording.compare(&clip()).is_err());
}
