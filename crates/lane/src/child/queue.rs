//! Whose turn it is among the newcomers: children that are sent the cached group before they are live.
//!
//! ```text
//!  interface   being sent, at most 4: a run each in turn          wait, first come first served
//!  10.0.0.1    ( flow 1 → link 7 ) ( flow 1 → link 9 ) ...  ◀──  ( flow 3 → link 7 ) ( flow 1 → link 8 )
//!              └── together a quarter of the interface's rate     └ not before the link has paid for the last time
//! ```
//!
//! A crowd that joins at one moment must not push the live packets of others off the wire: an interface uses a quarter
//! of its rate for newcomers. And the way beyond it may be far narrower, so no newcomer is sent more than
//! [`CATCH_UP_HASTE`] times its flow's peak: a first picture at once, and no burst of a whole group that would fill the
//! queue of every router on the way; whoever is paced has its own pace, and takes no place from those who are done
//! sooner: [`PACED_NEWCOMERS_MAX`] of those are served at a time. Interfaces are told apart by the address that a link
//! is sent from. Rate and slots are the node's, not the lane's (`shared.rs`). Not the sending: [`super`]. Called by it.
//! Invariant: at most [`INTERFACES_MAX`] interfaces are told apart, and at most [`QUEUED_MAX`] newcomers wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use levada_wire::{Bitrate, FlowId, Instant, LinkIndex};

use super::bucket::Bucket;
use crate::limits::{
    CATCH_UP_AT_ONCE, CATCH_UP_HASTE, INTERFACES_MAX, PACED_NEWCOMERS_MAX, QUEUED_MAX,
    SLOT_LOOK_EVERY,
};
use crate::link::SourceAddress;
use crate::settings::LaneSettings;
use crate::shared::{InterfaceShare, InterfaceShares};

/// A child that is to be sent the cached group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newcomer {
    pub(crate) flow: FlowId,
    pub(crate) link: LinkIndex,
    /// It has cost so much before that it waits until then.
    not_before: Instant,
    /// What it is sent now, if it is not paced.
    bucket: Bucket,
    /// When its pace lets it be sent more.
    paced: Option<Instant>,
}

impl Newcomer {
    /// A newcomer to a flow of that peak.
    pub(crate) fn new(flow: FlowId, link: LinkIndex, peak: Bitrate, not_before: Instant) -> Self {
        let rate = Bitrate(peak.0.saturating_mul(CATCH_UP_HASTE));
        Self {
            flow,
            link,
            not_before,
            bucket: Bucket::new(rate, CATCH_UP_AT_ONCE),
            paced: None,
        }
    }

    /// A newcomer that has a pace of its own.
    pub(crate) fn paced(flow: FlowId, link: LinkIndex, not_before: Instant) -> Self {
        Self {
            paced: Some(Instant::ZERO),
            ..Self::new(flow, link, Bitrate(u64::MAX), not_before)
        }
    }

    /// From when on it may be sent something.
    fn ready_at(&self) -> Instant {
        self.paced.unwrap_or_else(|| self.bucket.ready_at())
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) source: SourceAddress,
    pub(crate) newcomer: Newcomer,
}

#[derive(Debug)]
struct Interface {
    served: VecDeque<Newcomer>,
    waiting: VecDeque<Newcomer>,
    /// What the lanes of the node share of it.
    shared: Arc<InterfaceShare>,
}

/// How many more newcomers an interface may serve.
#[derive(Clone, Copy, Debug)]
struct Room {
    paced: usize,
    others: usize,
}

impl Room {
    const fn has_some_for(self, newcomer: &Newcomer) -> bool {
        let room = if newcomer.paced.is_some() {
            self.paced
        } else {
            self.others
        };
        room > 0
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Queue {
    interfaces: BTreeMap<SourceAddress, Interface>,
    shared: Arc<InterfaceShares>,
    /// The number of this lane.
    lane: usize,
    at_once_max: usize,
    waiting: usize,
    wake: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(settings: &LaneSettings, lane: usize, shared: Arc<InterfaceShares>) -> Self {
        Self {
            interfaces: BTreeMap::new(),
            shared,
            lane,
            at_once_max: settings.newcomers_max.max(1),
            waiting: 0,
            wake: None,
        }
    }

    /// All that stand in a row.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> Vec<(FlowId, LinkIndex)> {
        let all = self
            .interfaces
            .values()
            .flat_map(|one| one.served.iter().chain(&one.waiting));
        all.map(|newcomer| (newcomer.flow, newcomer.link)).collect()
    }

    /// When [`Queue::turn`] has something.
    pub(crate) const fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Puts a child in the row of its interface; `false` if too many wait.
    pub(crate) fn add(&mut self, source: SourceAddress, newcomer: Newcomer, now: Instant) -> bool {
        if self.waiting >= QUEUED_MAX {
            return false;
        }
        let is_known = self.interfaces.contains_key(&source);
        let is_apart = is_known || self.interfaces.len() < INTERFACES_MAX;
        let source = source.filter(|_| is_apart);
        let interface = self.interfaces.entry(source);
        let shared = &self.shared;
        let interface = interface.or_insert_with(|| Interface {
            served: VecDeque::new(),
            waiting: VecDeque::new(),
            shared: shared.interface(source),
        });
        interface.waiting.push_back(newcomer);
        self.waiting += 1;
        self.wake = Some(now);
        true
    }

    /// Takes all those out that are meant: they are no children any more.
    pub(crate) fn remove(&mut self, now: Instant, is_meant: impl Fn(FlowId, LinkIndex) -> bool) {
        let stays = |newcomer: &Newcomer| !is_meant(newcomer.flow, newcomer.link);
        self.waiting = 0;
        for interface in self.interfaces.values_mut() {
            let before = interface.slots();
            interface.served.retain(stays);
            interface.shared.let_out(before - interface.slots());
            interface.waiting.retain(stays);
            self.waiting += interface.waiting.len();
        }
        self.wake = Some(now);
    }

    /// Whose turn it is; `None` if nobody's is now, and then the next wake-up is set.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Turn> {
        self.wake = None;
        let is_idle = |one: &Interface| one.served.is_empty() && one.waiting.is_empty();
        self.interfaces
            .retain(|_, interface| !is_idle(interface) || !interface.shared.bucket().is_full(now));
        for (&source, interface) in &mut self.interfaces {
            self.waiting -= interface.let_in(self.at_once_max, now);
            if let Some(newcomer) = interface.turn(self.lane, now) {
                return Some(Turn { source, newcomer });
            }
            let wake = interface.wake(self.lane, self.at_once_max, now);
            self.wake = [self.wake, wake].into_iter().flatten().min();
        }
        None
    }

    /// The one whose turn it was has been sent that much: the next one's turn.
    /// Whoever is paced is not sent more before `then`.
    pub(crate) fn sent(&mut self, turn: Turn, bytes: usize, then: Instant, now: Instant) {
        if let Some(interface) = self.interfaces.get_mut(&turn.source) {
            interface.shared.take(self.lane, bytes, now);
            if let Some(newcomer) = interface.served.front_mut() {
                newcomer.bucket.take(bytes, now);
                newcomer.paced = newcomer.paced.map(|_| then);
            }
            interface.served.rotate_left(1);
        }
    }

    /// The one whose turn it was is no newcomer any more.
    pub(crate) fn done(&mut self, turn: Turn) {
        if let Some(interface) = self.interfaces.get_mut(&turn.source) {
            let first = interface.served.pop_front();
            let has_slot = first.is_some_and(|first| first.paced.is_none());
            interface.shared.let_out(usize::from(has_slot));
        }
    }

    /// There is no room for outputs: go on then.
    pub(crate) const fn put_off(&mut self, until: Instant) {
        self.wake = Some(until);
    }
}

impl Interface {
    /// Lets those in whose turn has come; says how many.
    fn let_in(&mut self, at_once_max: usize, now: Instant) -> usize {
        let before = self.waiting.len();
        let mut has_slots = true;
        loop {
            let mut room = self.room(at_once_max);
            if !has_slots {
                room.others = 0;
            }
            let may_come = |one: &Newcomer| one.not_before <= now && room.has_some_for(one);
            let Some(at) = self.waiting.iter().position(may_come) else {
                break;
            };
            let is_paced = self.waiting[at].paced.is_some();
            if is_paced || self.shared.let_in(self.slots(), at_once_max) {
                self.served.extend(self.waiting.remove(at));
            } else {
                has_slots = false; // other lanes serve as many as may be
            }
        }
        before - self.waiting.len()
    }

    /// How many more may be served.
    fn room(&self, at_once_max: usize) -> Room {
        let slots = self.slots();
        Room {
            paced: PACED_NEWCOMERS_MAX.saturating_sub(self.served.len() - slots),
            others: at_once_max.saturating_sub(slots),
        }
    }

    /// How many are served that take a slot: all but those that are paced.
    fn slots(&self) -> usize {
        self.served.iter().filter(|one| one.paced.is_none()).count()
    }

    /// The next one that may be sent something; it is the first of the row then.
    fn turn(&mut self, lane: usize, now: Instant) -> Option<Newcomer> {
        let mut served = self.served.iter();
        let at = served.position(|newcomer| newcomer.ready_at() <= now)?;
        if self.shared.ready_at(lane) > now {
            self.shared.wait(lane);
            return None;
        }
        self.served.rotate_left(at);
        self.served.front().copied()
    }

    fn wake(&self, lane: usize, at_once_max: usize, now: Instant) -> Option<Instant> {
        let ready = self.served.iter().map(Newcomer::ready_at);
        let sends = ready
            .min()
            .map(|ready| ready.max(self.shared.ready_at(lane)));
        let room = self.room(at_once_max);
        let waiting = self.waiting.iter().filter(|one| room.has_some_for(one));
        let lets_in = waiting.map(|newcomer| newcomer.not_before).min();
        // Whoever could come in now waits for a slot that another lane has: nobody tells when that is free.
        let lets_in = lets_in.map(|at| if at <= now { now + SLOT_LOOK_EVERY } else { at });
        [sends, lets_in].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    fn newcomer(link: u32) -> Newcomer {
        of_peak(link, u64::MAX)
    }

    fn of_peak(link: u32, peak: u64) -> Newcomer {
        Newcomer::new(FlowId(1), LinkIndex(link), Bitrate(peak), NOW)
    }

    fn queue() -> Queue {
        let settings = LaneSettings::default();
        let shared = Arc::new(InterfaceShares::new(settings.interface_rate));
        Queue::new(&settings, 0, shared)
    }

    fn newcomers(links: impl Iterator<Item = u32>) -> Queue {
        let mut newcomers = queue();
        for link in links {
            assert!(newcomers.add(None, newcomer(link), NOW));
        }
        newcomers
    }

    /// Lets each in turn send that much until `end`; gives the links that did.
    fn send(newcomers: &mut Queue, bytes: usize, end: Instant) -> Vec<u32> {
        let (mut links, mut now) = (Vec::new(), NOW);
        while now <= end {
            while let Some(turn) = newcomers.turn(now) {
                links.push(turn.newcomer.link.0);
                newcomers.sent(turn, bytes, now, now);
            }
            let Some(wake) = newcomers.wake() else { break };
            assert!(wake > now);
            now = wake;
        }
        links
    }

    #[test]
    fn at_most_four_are_sent_something_in_turns_and_the_fifth_when_one_is_done() {
        let mut newcomers = newcomers(1..=5);

        let turns = send(&mut newcomers, 60_000, NOW);
        assert_eq!(turns, [1, 2, 3]);
        let turn = newcomers.turn(NOW + MS * 10).unwrap();
        assert_eq!(turn.newcomer.link, LinkIndex(4));
        newcomers.done(turn);

        let links = (0..5).map(|_| {
            let turn = newcomers.turn(NOW + MS * 10).unwrap();
            newcomers.sent(turn, 1, NOW, NOW);
            turn.newcomer.link.0
        });
        assert_eq!(links.collect::<Vec<_>>(), [1, 2, 3, 5, 1]);
    }

    #[test]
    fn together_they_get_a_quarter_of_the_interface() {
        let mut newcomers = newcomers(1..=3);

        let runs = send(&mut newcomers, 50_000, NOW + MS * 400).len();

        // 250 Mb/s are 12.5 MB in 400 ms, and 156 kB leave at once.
        assert!((250..=256).contains(&runs), "{runs}");
    }

    #[test]
    fn interfaces_have_rows_of_their_own_up_to_the_limit() {
        let mut newcomers = newcomers(0..0);
        for last in 0..70 {
            let source = Some(IpAddr::from([10, 0, 0, last]));
            newcomers.add(source, newcomer(u32::from(last)), NOW);
        }

        let links = send(&mut newcomers, 1_000_000, NOW + MS);

        assert_eq!(newcomers.interfaces.len(), INTERFACES_MAX + 1);
        assert_eq!(links.len(), INTERFACES_MAX + 1);
        assert_eq!(newcomers.interfaces[&None].served.len(), 4);
    }

    #[test]
    fn one_more_than_may_wait_is_not_taken() {
        let mut newcomers = newcomers(0..u32::try_from(QUEUED_MAX).unwrap());

        assert!(!newcomers.add(None, newcomer(9_999), NOW));

        newcomers.turn(NOW).unwrap();
        assert!(newcomers.add(None, newcomer(9_999), NOW));
    }

    #[test]
    fn nobody_is_sent_more_than_a_few_times_its_peak_and_the_others_go_on_meanwhile() {
        let mut newcomers = newcomers(0..0);
        // 8 Mb/s: a millisecond for each 1,000 bytes.
        newcomers.add(None, of_peak(1, 1_000_000), NOW);
        newcomers.add(None, newcomer(2), NOW);

        let turns = send(&mut newcomers, 1_000, NOW + MS * 100);

        let of_first = turns.iter().filter(|&&link| link == 1).count();
        // 250 Mb/s are 31 of them in a millisecond.
        assert!((100..=107).contains(&of_first), "{of_first}");
        assert!((2_900..=3_200).contains(&(turns.len() - of_first)));
    }

    #[test]
    fn who_is_paced_takes_no_place_from_others_up_to_a_limit_of_its_own() {
        let mut newcomers = newcomers(0..0);
        let paced = |link| Newcomer::paced(FlowId(1), LinkIndex(link), NOW);
        let most = u32::try_from(PACED_NEWCOMERS_MAX).unwrap();
        (0..most + 9).for_each(|link| assert!(newcomers.add(None, paced(link), NOW)));
        (900..906).for_each(|link| assert!(newcomers.add(None, newcomer(link), NOW)));

        let first = newcomers.turn(NOW).unwrap();
        newcomers.sent(first, 1_000, NOW + MS * 6, NOW);

        let served = &newcomers.interfaces[&None].served;
        let of_pace = served.iter().filter(|one| one.paced.is_some()).count();
        assert_eq!((of_pace, served.len() - of_pace), (PACED_NEWCOMERS_MAX, 4));
        let again = served.iter().find(|one| one.link == first.newcomer.link);
        assert_eq!(again.map(Newcomer::ready_at), Some(NOW + MS * 6));
    }

    #[test]
    fn who_must_wait_keeps_nobody_behind_it_waiting() {
        let mut newcomers = newcomers(0..0);
        let late = Newcomer {
            not_before: NOW + MS * 500,
            ..newcomer(1)
        };
        newcomers.add(None, late, NOW);
        newcomers.add(None, newcomer(2), NOW);

        let turn = newcomers.turn(NOW).unwrap();
        newcomers.done(turn);

        assert_eq!(turn.newcomer.link, LinkIndex(2));
        assert_eq!(newcomers.turn(NOW), None);
        assert_eq!(newcomers.wake(), Some(late.not_before));
        assert_eq!(newcomers.turn(late.not_before).unwrap().newcomer, late);
    }

    #[test]
    fn who_left_has_no_turn_and_an_idle_interface_is_forgotten() {
        let mut newcomers = newcomers(1..=6);
        newcomers.turn(NOW).unwrap();

        newcomers.remove(NOW, |_, link| link != LinkIndex(6));

        assert_eq!(newcomers.turn(NOW).unwrap().newcomer, newcomer(6));
        newcomers.remove(NOW, |flow, _| flow == FlowId(1));
        assert_eq!(newcomers.turn(NOW), None);
        assert!(newcomers.interfaces.is_empty() && newcomers.wake().is_none());
    }

    /// Which of two lanes each of a crowd of one interface is sent by: the shares of time until all have theirs.
    #[test]
    fn a_lane_alone_has_what_two_have_together_and_none_keeps_the_other_waiting() {
        let settings = LaneSettings::default();
        let shared = Arc::new(InterfaceShares::new(settings.interface_rate));
        let mut lanes = [0, 1].map(|lane| Queue::new(&settings, lane, Arc::clone(&shared)));
        for link in 0..8 {
            lanes[0].add(None, newcomer(link), NOW);
        }
        lanes[1].add(None, newcomer(9), NOW);
        let (mut runs, mut now) = ([0, 0], NOW);
        while now < NOW + MS * 400 {
            for (lane, runs) in lanes.iter_mut().zip(&mut runs) {
                while let Some(turn) = lane.turn(now) {
                    lane.sent(turn, 50_000, now, now);
                    *runs += 1;
                }
            }
            let served: usize = lanes
                .iter()
                .map(|lane| lane.interfaces[&None].served.len())
                .sum();
            assert!(served <= 5 && !lanes[1].interfaces[&None].served.is_empty());
            let wake = lanes.iter().filter_map(Queue::wake).min().unwrap();
            assert!(wake > now);
            now = wake;
        }

        // As one lane in `together_they_get_a_quarter_of_the_interface`.
        assert!((250..=258).contains(&(runs[0] + runs[1])), "{runs:?}");
        assert!(runs[1] > 25, "{runs:?}");
    }

    #[test]
    fn who_waits_for_a_slot_of_another_lane_looks_again_and_gets_it() {
        let settings = LaneSettings::default();
        let shared = Arc::new(InterfaceShares::new(settings.interface_rate));
        let [mut one, mut other] =
            [0, 1].map(|lane| Queue::new(&settings, lane, Arc::clone(&shared)));
        for link in 0..4 {
            one.add(None, newcomer(link), NOW);
        }
        let turn = one.turn(NOW).unwrap();
        other.add(None, newcomer(8), NOW);
        other.add(None, newcomer(9), NOW);
        one.sent(turn, 500_000, NOW, NOW);
        assert_eq!(other.turn(NOW), None);
        assert_eq!(other.interfaces[&None].served.len(), 1, "one in any case");
        assert_eq!(other.wake(), Some(NOW + SLOT_LOOK_EVERY));

        one.remove(NOW, |_, _| true);
        other.turn(NOW + SLOT_LOOK_EVERY);

        assert_eq!(other.interfaces[&None].served.len(), 2);
    }
}
