//! How long a flow pauses: from one burst to the next by the origin's own clock, so that neither catching up nor the
//! way changes it.
//!
//! ```text
//!   pause   0.5 ms   0.6   0.7   0.8   1   1.2  ...   33   40   47  ...      four steps to each doubling
//!   count     2       0     0     1    0    3         480   9    0            halved when there are 512
//!                                                          ▲ of 99 in 100 none is longer
//! ```
//!
//! Not the judgement of who is silent: `suspicion.rs`. Called by `repair` for runs that are news. Invariant: memory and
//! time are those of [`STEPS`] counts, whatever comes.

use std::time::Duration;

use levada_wire::OriginTime;

use crate::limits::{PAUSES_KEPT, PAUSES_MIN};

/// Four to each doubling: the last is beyond half an hour.
const STEPS: usize = 96;
/// The shortest pause that is told from none, in microseconds.
const SHORTEST: u64 = 512;

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Pauses {
    counts: [u16; STEPS],
    total: u32,
    latest: Option<OriginTime>,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            counts: [0; STEPS],
            total: 0,
            latest: None,
        }
    }
}

impl Pauses {
    /// A packet was sent at that time. Nothing is known of the pause before it unless it is the `next`: what was lost
    /// is no pause of the flow; nor is what comes out of order.
    pub(crate) fn sample(&mut self, sent: OriginTime, is_next: bool) {
        let pause = self.latest.map(|latest| sent.micros_since(latest));
        if pause.is_some_and(|pause| pause <= 0) {
            return;
        }
        self.latest = Some(sent);
        let Some(pause) = pause.filter(|_| is_next) else {
            return;
        };
        self.counts[step_of(u64::from(pause.unsigned_abs()))] += 1;
        self.total += 1;
        if self.total >= PAUSES_KEPT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|&count| u32::from(count)).sum();
        }
    }

    /// The pause that one in a hundred exceeds at most; `None` while too little is known.
    pub(crate) fn usual(&self) -> Option<Duration> {
        if self.total < PAUSES_MIN {
            return None;
        }
        let mut beyond = self.total / 100;
        for (step, &count) in self.counts.iter().enumerate().rev() {
            match beyond.checked_sub(u32::from(count)) {
                Some(left) => beyond = left,
                None => return Some(Duration::from_micros(end_of(step))),
            }
        }
        None
    }
}

/// In which step a pause of that many microseconds is.
fn step_of(micros: u64) -> usize {
    let steps = (0..STEPS - 1).find(|&step| micros < end_of(step));
    steps.unwrap_or(STEPS - 1)
}

/// Where a step ends, in microseconds.
const fn end_of(step: usize) -> u64 {
    let doubling = SHORTEST << (step / 4);
    doubling + doubling / 4 * (step as u64 % 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known after those pauses, in milliseconds.
    fn after(pauses: impl IntoIterator<Item = u32>) -> Pauses {
        let mut known = Pauses::default();
        let mut sent = OriginTime(u32::MAX - 5_000); // the clock goes round
        known.sample(sent, true);
        for pause in pauses {
            sent = OriginTime(sent.0.wrapping_add(pause * 1_000));
            known.sample(sent, true);
        }
        known
    }

    fn usual(pauses: impl IntoIterator<Item = u32>) -> Option<u128> {
        let usual = after(pauses).usual();
        usual.map(|usual| usual.as_millis())
    }

    #[test]
    fn a_stream_pauses_about_as_long_as_from_frame_to_frame() {
        assert_eq!(usual([33; 31]), None, "too few");

        let found = usual([33; 200]);

        assert!(
            found.is_some_and(|found| (33..=41).contains(&found)),
            "{found:?}"
        );
    }

    #[test]
    fn one_long_pause_in_a_hundred_does_not_count_and_three_do() {
        let with = |long: usize| usual((0..200).map(|at| if at < long { 500 } else { 20 }));

        assert!(with(2).is_some_and(|found| found < 30), "{:?}", with(2));
        assert!(with(6).is_some_and(|found| found >= 500), "{:?}", with(6));
    }

    #[test]
    fn what_was_long_ago_fades() {
        let found = usual(std::iter::repeat_n(1_000, 100).chain([10; 4_000]));

        assert!(found.is_some_and(|found| found < 15), "{found:?}");
    }

    #[test]
    fn what_comes_out_of_order_or_at_once_or_after_a_loss_is_no_pause() {
        let mut known = after([20; 100]);
        let before = known.total;
        let latest = known.latest.map_or(0, |latest| latest.0);

        for back in [0, 1, 70_000] {
            known.sample(OriginTime(latest.wrapping_sub(back)), true);
        }
        known.sample(OriginTime(latest.wrapping_add(90_000)), false);

        assert_eq!(known.total, before);
    }

    #[test]
    fn every_pause_has_a_step_and_the_counts_stay_few() {
        let mut known = after([]);
        let mut sent = known.latest.map_or(0, |latest| latest.0);
        for pause in (0..31).map(|bit| 1_u32 << bit).cycle().take(5_000) {
            sent = sent.wrapping_add(pause);
            known.sample(OriginTime(sent), true);
        }

        assert!(known.total < PAUSES_KEPT);
        assert!((0..STEPS - 1).all(|step| end_of(step) < end_of(step + 1)));
        assert!(end_of(STEPS - 1) > u64::from(u32::MAX / 2));
    }
}
