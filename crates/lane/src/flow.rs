//! The state of one flow that a lane owns, and the table of all of them.
//!
//! ```text
//! keys ─▶ upstreams ─▶ window ─▶ cache ─▶ children      the path of a packet, in `forward.rs`; links and multicast
//!                                     └─▶ consumer      reassembly, if somebody here wants frames
//! early: packets that came before the key               origin: if the flow starts here
//! missing, tail, encoder, decoder: what repair knows of it
//! ```
//!
//! Not a decision about a flow: the core makes those and commands them. Called by `forward` and `lane`.
//! Invariant: each flow has at most one place in the timer set, and it is that of its next wake-up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use levada_wire::{Bitrate, FlowId, Instant, LinkIndex, Number, Wakeup};

use crate::api::FlowCounters;
use crate::child::Children;
use crate::child::progress::Progress;
use crate::limits::{BLOCK_AGE_PART, PEAK_UNTOLD, UPSTREAMS_MAX};
use crate::link;
use crate::origin::Origin;
use crate::reassembly::Reassembly;
use crate::repair::backoff::Backoff;
use crate::repair::missing::{Missing, Shown};
use crate::repair::parity::decode::ParityDecoder;
use crate::repair::parity::encode::ParityEncoder;
use crate::repair::tail::Tail;
use crate::settings::LaneSettings;

pub(crate) mod cache;
pub(crate) mod closed;
pub(crate) mod haste;
pub(crate) mod heard;
pub(crate) mod ingress;
pub(crate) mod keys;
pub(crate) mod line;
pub(crate) mod multicast;
pub(crate) mod pauses;
pub(crate) mod rate;
pub(crate) mod reach;
pub(crate) mod rhythm;
pub(crate) mod run;
pub(crate) mod stray;
pub(crate) mod suspicion;
pub(crate) mod upstream;
pub(crate) mod window;

use cache::{Cache, Room};
use haste::Haste;
use heard::Hearing;
use ingress::Ingress;
use keys::Keys;
use line::Line;
use multicast::MulticastEgresses;
use pauses::Pauses;
use rate::FlowRate;
use reach::{Reach, early_max};
use rhythm::Rhythm;
use run::Run;
use upstream::Upstreams;
use window::Window;

/// A packet that came before its flow's key: unproven, and untouched until it is.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) came: Ingress,
    pub(crate) packet: Bytes,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) id: FlowId,
    pub(crate) keys: Keys,
    pub(crate) upstreams: Upstreams,
    pub(crate) window: Window,
    pub(crate) line: Line,
    pub(crate) haste: Haste,
    /// What it needs of a path.
    pub(crate) rate: FlowRate,
    pub(crate) cache: Cache,
    pub(crate) children: Children,
    pub(crate) multicast: MulticastEgresses,
    pub(crate) early: VecDeque<Early>,
    pub(crate) origin: Option<Box<Origin>>,
    pub(crate) consumer: Option<Box<Reassembly>>,
    /// What is missing here, and the end of what was sent.
    pub(crate) missing: Missing,
    pub(crate) tail: Tail,
    pub(crate) backoff: Backoff,
    /// How well it is heard on channels.
    pub(crate) hearing: Hearing,
    /// How long its groups last.
    pub(crate) rhythm: Rhythm,
    /// How long it pauses, and when it is looked which upstream is silent for longer.
    pub(crate) pauses: Pauses,
    pub(crate) suspicion: Option<Instant>,
    /// Parity: what is made for children, and what came from upstreams.
    pub(crate) parity_encoder: ParityEncoder,
    pub(crate) parity_decoder: ParityDecoder,
    pub(crate) counters: FlowCounters,
    /// What the origin declares that it needs at most.
    peak: Bitrate,
    wakeup: Option<Wakeup>,
}

impl Flow {
    pub(crate) fn new(id: FlowId, settings: &LaneSettings) -> Self {
        Self {
            id,
            keys: Keys::default(),
            upstreams: Upstreams::default(),
            window: Window::new(),
            line: Line::default(),
            haste: Haste::default(),
            rate: FlowRate::default(),
            cache: Cache::new(settings.flow_cache_bytes_max, settings.repair_budget),
            children: Children::default(),
            multicast: MulticastEgresses::default(),
            early: VecDeque::new(),
            origin: None,
            consumer: None,
            missing: Missing::new(settings.repair_budget),
            tail: Tail::default(),
            backoff: Backoff::new(settings.seed ^ id.0),
            hearing: Hearing::default(),
            pauses: Pauses::default(),
            rhythm: Rhythm::default(),
            suspicion: None,
            parity_encoder: ParityEncoder::default(),
            parity_decoder: ParityDecoder::default(),
            counters: FlowCounters {
                flow: id.0,
                ..FlowCounters::default()
            },
            peak: PEAK_UNTOLD,
            wakeup: None,
        }
    }

    /// How late packets may be from now on. What is asked for already keeps its deadline.
    pub(crate) fn set_budget(&mut self, budget: Duration) {
        self.missing.set_budget(budget);
        self.cache.set_budget(budget);
        self.make_reach();
    }

    /// What the flow needs at most from now on.
    pub(crate) fn set_peak(&mut self, peak: Bitrate, room: &mut Room) {
        self.peak = peak;
        self.cache.set_peak(peak, room);
        self.make_reach();
    }

    /// How many packets may wait for its key.
    pub(crate) fn early_max(&self) -> usize {
        early_max(self.peak)
    }

    pub(crate) const fn peak(&self) -> Bitrate {
        self.peak
    }

    /// Lets what counts in packets have room for those of the budget. What is wide stays so.
    fn make_reach(&mut self) {
        let reach = Reach::of(self.peak, self.missing.budget());
        self.window.widen(reach.window);
        self.upstreams.widen(self.window.width());
        self.missing.make_room(reach.missing, self.window.width());
    }

    /// The flow's row for tables.
    pub(crate) fn row(&self) -> FlowCounters {
        let mut row = self.counters;
        row.cached_packets = self.cache.packets() as u64;
        row.cache_overflows = self.cache.overflows();
        row.cache_holes = self.cache.holes();
        row.is_joinable = self.cache.is_joinable();
        row.admitted = self.children.admitted();
        for child in &self.children.all {
            match child.progress {
                Progress::Queued { .. } | Progress::CatchingUp { .. } => row.newcomers += 1,
                Progress::Throttled { .. } | Progress::Skipping { .. } => row.behind += 1,
                Progress::ByChannel | Progress::Live | Progress::Paced { .. } => {}
            }
            if let Some(pacer) = &child.pacer {
                row.paced += 1;
                let takes = pacer.time_for(self.rate.largest_burst());
                row.paced_too_slow += u64::from(takes > child.terms().budget.time());
                let takes = u64::try_from(takes.as_millis()).unwrap_or(u64::MAX);
                row.paced_ms_max = row.paced_ms_max.max(takes);
            }
        }
        row
    }

    /// Moves the join point away from a group with a hole that will not be filled, and back when it is after all; then
    /// a consumer that waits begins there.
    pub(crate) fn judge_join_point(&mut self) {
        let has_given_up = self.missing.take_has_given_up();
        let missing = &self.missing;
        let expected = |range| missing.expected_in(range);
        let is_back = self.cache.judge(has_given_up, missing.next(), expected);
        if let Some(consumer) = self
            .consumer
            .as_mut()
            .filter(|one| is_back && one.is_seeking())
        {
            for run in self.cache.join() {
                consumer.push(run);
            }
        }
    }

    /// The group that a newcomer would join if it could: its start is here or was given up.
    pub(crate) fn unjoinable_group(&self) -> Option<Number> {
        let newest = self.cache.newest_group()?;
        let may_come = self.origin.is_none() && self.missing.expects(newest);
        (!self.cache.is_joinable() && !may_come).then_some(newest)
    }

    /// When one of its parts has something to do.
    pub(crate) fn next_wakeup(&self) -> Option<Wakeup> {
        let named = |at: Option<Instant>, why| at.map(|at| Wakeup { at, why });
        let origin = self.origin.as_ref().and_then(|origin| origin.deadline());
        let multicast = named(self.multicast.timer(), "end a multicast egress");
        let behind = named(self.children.wake, "send on to who is behind");
        let own = Wakeup::earlier(named(origin, "flush a burst"), multicast);
        let gone = named(self.multicast.says_at(), "tell members what is gone");
        let own = Wakeup::earlier(Wakeup::earlier(own, behind), gone);
        let silent = named(self.suspicion, "look who is silent");
        let own = Wakeup::earlier(own, silent);
        Wakeup::earlier(own, self.repair_wakeup())
    }

    /// How many sends one run causes at most.
    pub(crate) const fn sends(&self) -> usize {
        self.children.egresses() + self.multicast.len()
    }

    /// The outputs that one step of repair may need.
    pub(crate) const fn outputs_of_repair(&self) -> usize {
        self.sends() + self.children.memberships() + UPSTREAMS_MAX
    }

    /// How a gap is known that an upstream shows: where many see it at once, each waits a time of its own before it
    /// asks.
    pub(crate) fn shown(&mut self, link: LinkIndex, links: &link::Table, now: Instant) -> Shown {
        let back_off = if self.upstreams.is_multicast(link) {
            self.backoff.back_off()
        } else {
            Duration::ZERO
        };
        Shown {
            link,
            trip: links.trip(link),
            back_off,
            hold: self.hold(now),
        }
    }

    /// How much longer than otherwise a packet that is missing is waited for before it is asked for: as long as a block
    /// may stay open, while an upstream sends parity.
    fn hold(&self, now: Instant) -> Duration {
        if self.parity_decoder.hears(now) {
            self.missing.budget() / BLOCK_AGE_PART
        } else {
            Duration::ZERO
        }
    }

    /// When repair has something to do.
    pub(crate) fn repair_wakeup(&self) -> Option<Wakeup> {
        let named = |at: Option<Instant>, why| at.map(|at| Wakeup { at, why });
        let asks = Wakeup::earlier(
            named(self.missing.wake(), "ask again"),
            named(self.tail.timer(), "say the head"),
        );
        Wakeup::earlier(
            asks,
            named(self.parity_encoder.timer(), "end a block of parity"),
        )
    }
}

/// All flows of a lane.
#[derive(Debug, Default)]
pub(crate) struct Table {
    flows: BTreeMap<FlowId, Flow>,
    timers: BTreeSet<(Instant, FlowId)>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(&id)
    }

    pub(crate) fn insert(&mut self, id: FlowId, flow: Flow) {
        debug_assert!(!self.flows.contains_key(&id), "a flow is opened once");
        self.flows.insert(id, flow);
    }

    pub(crate) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(&id)?;
        if let Some(wakeup) = flow.wakeup {
            self.timers.remove(&(wakeup.at, id));
        }
        Some(flow)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.flows.values_mut()
    }

    pub(crate) fn rows(&self) -> Vec<FlowCounters> {
        self.flows.values().map(Flow::row).collect()
    }

    /// Makes room for a run of a flow that has a right to it, by taking from whoever holds most beyond its share. The
    /// last word has [`Cache::insert`]. Looks at all flows, but a flow that gave back once holds more than its share
    /// again only after there was room.
    pub(crate) fn make_room(&mut self, id: FlowId, run: &Run, room: &mut Room, now: Instant) {
        let wants = |flows: &BTreeMap<FlowId, Flow>, room: &Room| {
            flows
                .get(&id)
                .is_some_and(|flow| flow.cache.wants_room(run, room))
        };
        while wants(&self.flows, room) {
            let others = self.flows.values_mut();
            let greediest = others.max_by_key(|flow| flow.cache.excess(room));
            match greediest.filter(|flow| flow.cache.excess(room) > 0) {
                Some(flow) => flow.cache.give_back(room),
                None => return room.ask_others(now),
            }
        }
    }

    /// Other lanes have flows with a right to room: all that hold more than their share give that back.
    pub(crate) fn give_back(&mut self, room: &mut Room) {
        for flow in self.flows.values_mut() {
            flow.cache.give_back(room);
        }
    }

    /// Sets the flow's place in the timers.
    pub(crate) fn schedule(&mut self, id: FlowId, wakeup: Option<Wakeup>) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        if flow.wakeup == wakeup {
            return;
        }
        if let Some(old) = flow.wakeup {
            self.timers.remove(&(old.at, id));
        }
        if let Some(new) = wakeup {
            self.timers.insert((new.at, id));
        }
        flow.wakeup = wakeup;
    }

    /// The earliest wake-up of all flows.
    pub(crate) fn next_wakeup(&self) -> Option<(FlowId, Wakeup)> {
        let &(_, id) = self.timers.first()?;
        let wakeup = self.flows.get(&id)?.wakeup?;
        Some((id, wakeup))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_flow_has_one_place_among_the_timers() {
        let mut table = Table::default();
        let id = FlowId(1);
        table.insert(id, Flow::new(id, &LaneSettings::default()));
        let wakeup = |nanos| {
            let at = Instant::from_nanos(nanos);
            Some(Wakeup { at, why: "test" })
        };

        table.schedule(id, wakeup(5));
        table.schedule(id, wakeup(9));
        assert_eq!(table.next_wakeup(), Some((id, wakeup(9).unwrap())));

        table.schedule(id, None);
        assert_eq!(table.next_wakeup(), None);
        table.schedule(id, wakeup(7));
        table.remove(id);
        assert_eq!(table.next_wakeup(), None);
    }
}
