//! What a bad path does to datagrams: it delays them, evenly or not, loses them evenly or in bursts, lets one overtake
//! another, doubles some, is silent for a while, and has a rate and a queue that is short.
//!
//! Bursts follow Gilbert's model (E. N. Gilbert, "Capacity of a Burst-Noise Channel", 1960): in the bad state
//! everything is lost.
//!
//! ```text
//!            begin = end x loss / (1 - loss)
//!    good ─────────────────────────────────▶ bad: lost
//!         ◀─────────────────────────────────
//!            end = 1 / mean length of a burst
//! ```
//!
//! Pure: time and seed are given, so that the same datagrams meet the same fate. Not sockets: `forwarder.rs`. Called by
//! it and by the laboratory, one for each direction. Invariant: a datagram is lost, or comes out once, or twice if it
//! was doubled; at most [`UNDER_WAY_MAX`] are under way.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::Bitrate;
use serde::{Deserialize, Serialize};

/// The most datagrams under way in one direction: 100 Mb/s for five seconds.
pub const UNDER_WAY_MAX: usize = 65_536;
/// The longest that a datagram is held back so that others overtake it.
pub const HELD_BACK_MAX: Duration = Duration::from_millis(10);
/// An outage comes once in this time.
pub const OUTAGE_EVERY: Duration = Duration::from_secs(2);
/// When the first one begins: nodes have found each other by then, and media flows.
pub const OUTAGE_FIRST: Duration = Duration::from_secs(1);

/// What a path does in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Impairment {
    /// How long each datagram is under way.
    pub delay: Duration,
    /// How much longer at most; each by chance, so that they overtake each other.
    pub jitter: Duration,
    /// The share that is lost.
    pub loss: f64,
    /// Losses come in bursts of so many datagrams in the mean; zero: evenly.
    pub burst: f64,
    /// The share that is held back for up to [`HELD_BACK_MAX`].
    pub reorder: f64,
    /// The share that comes twice.
    pub duplicate: f64,
    /// How long nothing passes, once in [`OUTAGE_EVERY`].
    pub outage: Duration,
    /// What it carries in a second; `None` for no limit.
    pub rate: Option<Bitrate>,
    /// The bytes that may wait before it, with IPv4 and UDP headers; what comes when they do is lost.
    pub queue_bytes: usize,
}

impl Impairment {
    /// The same path when nothing but its length is wrong with it: it has no rate either.
    pub(crate) fn delay_alone(self) -> Self {
        Self {
            delay: self.delay,
            ..Self::default()
        }
    }
}

/// Random numbers by xorshift (Marsaglia 2003), the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        // Near seeds must not begin alike: Steele and others, "Fast Splittable Pseudorandom Number Generators", 2014.
        let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// From zero on and below one.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn hits(&mut self, probability: f64) -> bool {
        self.share() < probability
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    /// It is under way, once.
    Passes,
    /// It is under way twice.
    Doubled,
    /// As many are under way as may be: the measurement is spoiled.
    Overrun,
}

/// One direction of a path. Times count from the start of the measurement.
#[derive(Debug)]
pub struct Direction<T> {
    impairment: Impairment,
    chance: Chance,
    in_burst: bool,
    /// When all that was taken has left the queue.
    free_at: Duration,
    /// By the time at which each comes out, then in the order in which they went in.
    under_way: BTreeMap<(Duration, u64), T>,
    taken: u64,
}

impl<T: Clone> Direction<T> {
    /// A direction in which nothing is under way.
    pub const fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            chance: Chance::new(seed),
            in_burst: false,
            free_at: Duration::ZERO,
            under_way: BTreeMap::new(),
            taken: 0,
        }
    }

    /// Takes a datagram of that many bytes, headers and all.
    pub fn take(&mut self, now: Duration, bytes: usize, datagram: T) -> Fate {
        // Every datagram draws the same numbers, whatever happens to it: one option must not change the chance of
        // another.
        let is_lost = self.is_lost();
        let held_back = HELD_BACK_MAX.mul_f64(self.chance.share());
        let is_held_back = self.chance.hits(self.impairment.reorder);
        let is_doubled = self.chance.hits(self.impairment.duplicate);
        let jitter = self.impairment.jitter.mul_f64(self.chance.share());
        if is_lost || self.is_silent(now) {
            return Fate::Lost;
        }
        if self.under_way.len() + 2 > UNDER_WAY_MAX {
            return Fate::Overrun;
        }
        let held_back = if is_held_back {
            held_back
        } else {
            Duration::ZERO
        };
        let Some(left) = self.leave(now, bytes) else {
            return Fate::Lost;
        };
        let out = left + self.impairment.delay + held_back + jitter;
        if is_doubled {
            self.put(out, datagram.clone());
        }
        self.put(out, datagram);
        if is_doubled {
            Fate::Doubled
        } else {
            Fate::Passes
        }
    }

    /// When a datagram has left the queue; `None` if there is no room for it.
    fn leave(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.impairment.rate else {
            return Some(now);
        };
        let time = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / rate.0 as f64);
        let waits = self.free_at.saturating_sub(now);
        if !waits.is_zero() && waits + time(bytes) > time(self.impairment.queue_bytes) {
            return None;
        }
        self.free_at = self.free_at.max(now) + time(bytes);
        Some(self.free_at)
    }

    /// Takes a datagram that is to be spared: nothing but its way delays it.
    pub(crate) fn spare(&mut self, now: Duration, datagram: T) -> Fate {
        if self.under_way.len() >= UNDER_WAY_MAX {
            return Fate::Overrun;
        }
        self.put(now + self.impairment.delay, datagram);
        Fate::Passes
    }

    /// When the next datagram comes out.
    pub fn next_at(&self) -> Option<Duration> {
        let first = self.under_way.first_key_value();
        first.map(|(&(at, _), _)| at)
    }

    /// The next datagram that has come out by now.
    pub fn next_due(&mut self, now: Duration) -> Option<T> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn put(&mut self, out: Duration, datagram: T) {
        self.under_way.insert((out, self.taken), datagram);
        self.taken += 1;
    }

    fn is_lost(&mut self) -> bool {
        let Impairment { loss, burst, .. } = self.impairment;
        if burst <= 0.0 {
            return self.chance.hits(loss);
        }
        let end = (1.0 / burst).min(1.0);
        let turn = if self.in_burst {
            end
        } else {
            end * loss / (1.0 - loss)
        };
        self.in_burst ^= self.chance.hits(turn);
        self.in_burst
    }

    fn is_silent(&self, now: Duration) -> bool {
        let Some(since_first) = now.checked_sub(OUTAGE_FIRST) else {
            return false;
        };
        let into = since_first.as_nanos() % OUTAGE_EVERY.as_nanos();
        into < self.impairment.outage.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A datagram a millisecond, named by its place: each one's fate, and when which came out.
    fn run(impairment: Impairment, count: u64) -> (Vec<Fate>, Vec<(Duration, u64)>) {
        let mut direction = Direction::new(impairment, 7);
        let fates = (0..count).map(|at| direction.take(millis(at), 100, at));
        let fates = fates.collect();
        let out = std::iter::from_fn(|| {
            let at = direction.next_at()?;
            let early = at.checked_sub(Duration::from_nanos(1));
            assert!(early.is_none_or(|early| direction.next_due(early).is_none()));
            Some((at, direction.next_due(at)?))
        });
        (fates, out.collect())
    }

    fn share(fates: &[Fate], fate: Fate) -> f64 {
        fates.iter().filter(|&&one| one == fate).count() as f64 / fates.len() as f64
    }

    #[test]
    fn a_good_path_delays_and_does_nothing_else() {
        let delay = Impairment {
            delay: millis(20),
            ..Impairment::default()
        };

        let (_, out) = run(delay, 100);

        let all = (0..100).map(|at| (millis(at + 20), at));
        assert_eq!(out, all.collect::<Vec<_>>());
    }

    #[test]
    fn even_loss_takes_its_share_and_the_same_datagrams_every_time() {
        let loss = Impairment {
            loss: 0.1,
            ..Impairment::default()
        };

        let (fates, out) = run(loss, 50_000);

        let lost = share(&fates, Fate::Lost);
        assert!((0.095..0.105).contains(&lost), "{lost}");
        assert_eq!(out.len(), fates.len() - (lost * 50_000.0).round() as usize);
        assert_eq!(run(loss, 50_000).0, fates);
    }

    #[test]
    fn losses_in_bursts_take_the_same_share_and_are_as_long_as_was_said() {
        let bursts = Impairment {
            loss: 0.1,
            burst: 5.0,
            ..Impairment::default()
        };

        let (fates, _) = run(bursts, 200_000);

        let lost = share(&fates, Fate::Lost);
        let begins = fates.windows(2).filter(|two| two[0] != two[1]).count() as f64 / 2.0;
        let mean = lost * fates.len() as f64 / begins;
        assert!((0.09..0.11).contains(&lost), "{lost}");
        assert!((4.5..5.5).contains(&mean), "{mean}");
    }

    #[test]
    fn what_is_held_back_is_overtaken_and_comes_within_the_limit() {
        let reorder = Impairment {
            delay: millis(20),
            reorder: 0.05,
            ..Impairment::default()
        };

        let (_, out) = run(reorder, 10_000);

        assert_eq!(out.len(), 10_000);
        let overtaken = out.windows(2).filter(|two| two[0].1 > two[1].1).count();
        assert!(overtaken > 300, "{overtaken}");
        assert!(
            out.iter()
                .all(|&(at, sent)| at <= millis(sent + 20) + HELD_BACK_MAX)
        );
    }

    #[test]
    fn jitter_is_spread_evenly_from_nothing_to_its_most() {
        let jitter = Impairment {
            delay: millis(20),
            jitter: millis(16),
            ..Impairment::default()
        };

        let (_, out) = run(jitter, 10_000);

        let later = |&(at, sent): &(Duration, u64)| at - millis(sent + 20);
        let (least, most) = (out.iter().map(later).min(), out.iter().map(later).max());
        let mean = out.iter().map(later).sum::<Duration>() / 10_000;
        assert_eq!(out.len(), 10_000);
        assert!(least < Some(millis(1)) && most > Some(millis(15)) && most <= Some(millis(16)));
        assert!(mean > Duration::from_micros(7_700) && mean < Duration::from_micros(8_300));
    }

    #[test]
    fn what_is_doubled_comes_out_twice() {
        let duplicate = Impairment {
            duplicate: 0.05,
            ..Impairment::default()
        };

        let (fates, out) = run(duplicate, 10_000);

        let doubled = fates.iter().filter(|&&fate| fate == Fate::Doubled).count();
        assert!((400..600).contains(&doubled), "{doubled}");
        assert_eq!(out.len(), 10_000 + doubled);
    }

    #[test]
    fn an_outage_is_silence_for_as_long_as_was_said() {
        let outage = Impairment {
            outage: millis(100),
            ..Impairment::default()
        };

        let (fates, _) = run(outage, 4_000);

        let lost: Vec<usize> = (0..4_000).filter(|&at| fates[at] == Fate::Lost).collect();
        assert_eq!(lost, (1_000..1_100).chain(3_000..3_100).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_are_under_way_than_the_limit() {
        let forever = Impairment {
            delay: Duration::from_secs(3_600),
            duplicate: 1.0,
            ..Impairment::default()
        };

        let (fates, out) = run(forever, 40_000);

        assert_eq!(out.len(), UNDER_WAY_MAX);
        assert_eq!(fates.last(), Some(&Fate::Overrun));
    }

    #[test]
    fn what_is_spared_comes_out_however_bad_the_path_is() {
        let bad = Impairment {
            delay: millis(20),
            loss: 0.5,
            reorder: 0.5,
            duplicate: 0.5,
            ..Impairment::default()
        };
        let mut direction = Direction::new(bad, 7);

        let fates = (0..100).map(|at| direction.spare(millis(at), at));
        assert!(fates.into_iter().all(|fate| fate == Fate::Passes));

        let out = (0..100).map(|_| direction.next_due(millis(200)));
        assert!(out.eq((0..100).map(Some)));
    }

    #[test]
    fn a_burst_that_the_queue_does_not_hold_loses_its_end_and_the_rest_leaves_at_the_rate() {
        let narrow = Impairment {
            delay: millis(20),
            rate: Some(Bitrate(8_000_000)),
            queue_bytes: 10_000,
            ..Impairment::default()
        };
        let mut direction = Direction::new(narrow, 1);

        // A millisecond each.
        let fates = (0..15).map(|at| direction.take(millis(0), 1_000, at));
        let fates: Vec<_> = fates.collect();
        assert_eq!(share(&fates[..10], Fate::Passes), 1.0);
        assert_eq!(share(&fates[10..], Fate::Lost), 1.0);
        assert_eq!(direction.take(millis(5), 1_000, 15), Fate::Passes);

        let out = std::iter::from_fn(|| {
            let at = direction.next_at()?;
            Some((at, direction.next_due(at)?))
        });
        let rest = (0..10).map(|at| (millis(21 + at), at));
        let all: Vec<_> = rest.chain([(millis(31), 15)]).collect();
        assert_eq!(out.collect::<Vec<_>>(), all);
    }

    #[test]
    fn near_seeds_give_other_losses() {
        let loss = Impairment {
            loss: 0.5,
            ..Impairment::default()
        };
        let fates = |seed| {
            let mut direction = Direction::new(loss, seed);
            let fates = (0..64).map(|at| direction.take(millis(at), 100, ()));
            fates.collect::<Vec<_>>()
        };

        assert_ne!(fates(1), fates(2));
        assert_ne!(fates(0), fates(1));
    }
}
