//! A WAN link between the routers of two LANs, each direction by itself.
//!
//! A datagram waits until those before it are sent (rate and queue), travels (delay and jitter, in order), and may be
//! lost, overtaken, doubled or changed on the way. Not routing, which is `net`. Called by `net`, changed by faults.
//! Invariant: one direction never touches the other.

use std::time::Duration;

use levada_wire::{Bitrate, Instant};

use super::loss::{Loser, Loss};
use super::{Load, Passage, Step, Traffic};
use crate::chance::{Probability, Rng};

/// What IP and UDP add to a datagram on a link with a rate (IPv4: 20 + 8).
const HEADERS_BYTES: u64 = 28;

/// How a WAN link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanSettings {
    /// From one router to the other.
    pub delay: Duration,
    /// The most that is added to it, drawn evenly; keeps the order.
    pub jitter: Duration,
    /// The share of datagrams that others overtake: held back by up to `reorder_by` more.
    pub reorder: Probability,
    /// How long an overtaken datagram is held back at most.
    pub reorder_by: Duration,
    /// The model of loss: even, or in bursts.
    pub loss: Loss,
    /// The share that arrives twice.
    pub duplicate: Probability,
    /// The share whose bytes change in a way that UDP's checksum does not see.
    pub corrupt: Probability,
    /// What the link carries in each direction; unlimited if not given.
    pub rate: Option<Bitrate>,
    /// How long a datagram may wait to be sent; longer, and it is dropped.
    pub queue: Duration,
    /// The largest UDP payload that gets through; a larger one is lost without a word.
    pub packet_size_max: usize,
}

impl WanSettings {
    /// A link that is perfect but for its delay.
    #[must_use]
    pub const fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            reorder: Probability::NEVER,
            reorder_by: Duration::from_millis(5),
            loss: Loss::NONE,
            duplicate: Probability::NEVER,
            corrupt: Probability::NEVER,
            rate: None,
            queue: Duration::from_millis(100),
            packet_size_max: usize::MAX,
        }
    }
}

/// A direction of a link: toward the first or the second of the two LANs it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Toward {
    /// The first.
    First,
    /// The second.
    Second,
}

impl Toward {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];
}

/// A link and how it is at the moment.
#[derive(Debug)]
pub struct Wan {
    ends: [usize; 2],
    settings: WanSettings,
    directions: [Direction; 2],
}

#[derive(Debug)]
struct Direction {
    /// The way of losing that the settings or a fault ask for.
    loser: Loser,
    /// How many faults keep it down.
    down: u32,
    /// When the last datagram has been sent.
    free_at: Instant,
    /// When the last datagram that keeps the order arrives.
    last_arrival: Instant,
    traffic: Traffic,
}

impl Wan {
    pub(super) fn new(ends: [usize; 2], settings: WanSettings) -> Self {
        let direction = || Direction {
            loser: Loser::new(settings.loss),
            down: 0,
            free_at: Instant::ZERO,
            last_arrival: Instant::ZERO,
            traffic: Traffic::default(),
        };
        Self {
            ends,
            directions: [direction(), direction()],
            settings,
        }
    }

    /// The two LANs it joins.
    #[must_use]
    pub const fn ends(&self) -> [usize; 2] {
        self.ends
    }

    /// What one direction has carried.
    #[must_use]
    pub fn traffic(&self, toward: Toward) -> Traffic {
        self.direction(toward).traffic
    }

    /// Whether a direction carries anything.
    #[must_use]
    pub fn is_up(&self, toward: Toward) -> bool {
        self.direction(toward).down == 0
    }

    /// Takes a direction down; as often as it went down it must come up.
    pub fn take_down(&mut self, toward: Toward) {
        self.direction_mut(toward).down += 1;
    }

    /// Undoes one [`Wan::take_down`].
    pub fn bring_up(&mut self, toward: Toward) {
        let direction = self.direction_mut(toward);
        direction.down = direction.down.saturating_sub(1);
    }

    /// Loses datagrams in another way, in both directions; `None` returns to the settings.
    pub fn set_loss(&mut self, loss: Option<Loss>) {
        let loss = loss.unwrap_or(self.settings.loss);
        for direction in &mut self.directions {
            direction.loser = Loser::new(loss);
        }
    }

    /// Takes a datagram at the sender's router and says when it is at the receiver's.
    pub(super) fn pass(&mut self, now: Instant, rng: &mut Rng, toward: Toward, load: Load) -> Step {
        let settings = &self.settings;
        let direction = &mut self.directions[toward as usize];
        direction.traffic.count(load);
        let waited = direction.free_at.since(now);
        let is_too_large = load.bytes > settings.packet_size_max;
        let is_stopped = direction.down > 0 || waited > settings.queue || is_too_large;
        if is_stopped || direction.loser.loses(now, rng) {
            direction.traffic.lost += 1;
            return Step::Lost;
        }
        direction.free_at = now + waited + sending_time(settings.rate, load);
        let first = direction.arrival(settings, rng);
        let copy = rng
            .hits(settings.duplicate)
            .then(|| direction.arrival(settings, rng));
        Step::Onward { first, copy }
    }

    fn direction(&self, toward: Toward) -> &Direction {
        &self.directions[toward as usize]
    }

    fn direction_mut(&mut self, toward: Toward) -> &mut Direction {
        &mut self.directions[toward as usize]
    }
}

impl Direction {
    /// When a datagram that has just been sent arrives.
    fn arrival(&mut self, settings: &WanSettings, rng: &mut Rng) -> Passage {
        let travelled = self.free_at + settings.delay + rng.up_to(settings.jitter);
        let at = if rng.hits(settings.reorder) {
            travelled + rng.up_to(settings.reorder_by)
        } else {
            self.last_arrival = self.last_arrival.max(travelled);
            self.last_arrival
        };
        Passage {
            at,
            corrupt: rng.hits(settings.corrupt),
        }
    }
}

fn sending_time(rate: Option<Bitrate>, load: Load) -> Duration {
    let Some(Bitrate(rate)) = rate else {
        return Duration::ZERO;
    };
    let bits = (load.bytes as u64 + HEADERS_BYTES) * 8;
    Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::chance::Chance;

    const LOAD: Load = Load {
        bytes: 972,
        media: true,
    };
    const MS: Duration = Duration::from_millis(1);

    fn percent(percent: u32) -> Probability {
        Probability::from_millionths(percent * 10_000).unwrap()
    }

    /// Sends one datagram each `every` and gives back all arrivals with the datagram's place.
    fn arrivals(wan: &mut Wan, count: u64, every: Duration) -> Vec<(Instant, u64)> {
        let mut rng = Chance::new(1).split("test", 0);
        let mut arrivals = Vec::new();
        let mut now = Instant::ZERO;
        for place in 0..count {
            if let Step::Onward { first, copy } = wan.pass(now, &mut rng, Toward::Second, LOAD) {
                arrivals.extend(
                    [Some(first), copy]
                        .into_iter()
                        .flatten()
                        .map(|passage| (passage.at, place)),
                );
            }
            now += every;
        }
        arrivals.sort();
        arrivals
    }

    fn in_order(arrivals: &[(Instant, u64)]) -> bool {
        arrivals.is_sorted_by_key(|(_, place)| *place)
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let jitter = WanSettings {
            jitter: 10 * MS,
            ..WanSettings::with_delay(20 * MS)
        };
        let reorder = WanSettings {
            reorder: percent(10),
            ..WanSettings::with_delay(20 * MS)
        };

        let jittered = arrivals(&mut Wan::new([0, 1], jitter), 1_000, MS);
        let reordered = arrivals(&mut Wan::new([0, 1], reorder), 1_000, MS);

        assert!(jittered.len() == 1_000 && in_order(&jittered));
        assert!(reordered.len() == 1_000 && !in_order(&reordered));
    }

    #[test]
    fn a_rate_spreads_a_burst_and_a_full_queue_drops() {
        // 1,000 bytes with headers are 1 ms at 8 Mb/s; 20 ms of queue hold 20 of them, one more is being sent.
        let slow = WanSettings {
            rate: Some(Bitrate(8_000_000)),
            queue: 20 * MS,
            ..WanSettings::with_delay(10 * MS)
        };
        let mut wan = Wan::new([0, 1], slow);

        let arrivals = arrivals(&mut wan, 30, Duration::ZERO);

        assert_eq!(arrivals.len(), 21);
        assert_eq!(arrivals[0].0, Instant::ZERO + 11 * MS);
        assert_eq!(arrivals[20].0, Instant::ZERO + 31 * MS);
        assert_eq!(wan.traffic(Toward::Second).lost, 9);
        assert_eq!(wan.traffic(Toward::First), Traffic::default());
    }

    #[test]
    fn what_is_too_large_does_not_get_through() {
        let narrow = WanSettings {
            packet_size_max: 971,
            ..WanSettings::with_delay(MS)
        };
        let mut wan = Wan::new([0, 1], narrow);
        let mut rng = Chance::new(1).split("test", 0);
        let fits = Load { bytes: 971, ..LOAD };

        let larger = wan.pass(Instant::ZERO, &mut rng, Toward::First, LOAD);
        let fitting = wan.pass(Instant::ZERO, &mut rng, Toward::First, fits);

        assert_eq!(larger, Step::Lost);
        assert_ne!(fitting, Step::Lost);
    }

    #[test]
    fn some_arrive_twice_and_some_changed() {
        let settings = WanSettings {
            duplicate: percent(10),
            corrupt: percent(10),
            ..WanSettings::with_delay(MS)
        };
        let mut wan = Wan::new([0, 1], settings);
        let mut rng = Chance::new(1).split("test", 0);

        let steps: Vec<_> = (0..1_000)
            .map(|_| wan.pass(Instant::ZERO, &mut rng, Toward::First, LOAD))
            .collect();

        let copies = steps
            .iter()
            .filter(|step| matches!(step, Step::Onward { copy: Some(_), .. }))
            .count();
        let changed = steps
            .iter()
            .filter(|step| matches!(step, Step::Onward { first, .. } if first.corrupt))
            .count();
        assert!((70..130).contains(&copies), "{copies}");
        assert!((70..130).contains(&changed), "{changed}");
    }

    #[test]
    fn one_direction_goes_down_alone_and_as_often_as_it_comes_up() {
        let mut wan = Wan::new([0, 1], WanSettings::with_delay(MS));
        let mut rng = Chance::new(1).split("test", 0);
        let mut lost =
            |wan: &mut Wan, toward| wan.pass(Instant::ZERO, &mut rng, toward, LOAD) == Step::Lost;

        wan.take_down(Toward::First);
        wan.take_down(Toward::First);
        wan.bring_up(Toward::First);
        assert!(lost(&mut wan, Toward::First));
        assert!(!lost(&mut wan, Toward::Second));

        wan.bring_up(Toward::First);
        assert!(!lost(&mut wan, Toward::First));
    }

    #[test]
    fn a_fault_replaces_the_loss_and_its_end_restores_it() {
        let mut wan = Wan::new([0, 1], WanSettings::with_delay(MS));

        wan.set_loss(Some(Loss::Even(Probability::ALWAYS)));
        assert_eq!(arrivals(&mut wan, 10, MS).len(), 0);
        wan.set_loss(None);

        assert_eq!(arrivals(&mut wan, 10, MS).len(), 10);
    }
}
