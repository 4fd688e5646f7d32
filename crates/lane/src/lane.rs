//! A lane: the machine that owns flows and does with their packets what it was commanded.
//!
//! ```text
//!  Train ───▶ forward ─┐                       ┌─▶ Transmit   one per egress and run
//!  Command ─▶ commands ├─▶ flows, links ─▶ drive ─▶ Event     deliveries, first packets, link datagrams
//!  time ────▶ timers ──┘                       └─▶ Foreign    QUIC
//! ```
//!
//! No I/O, no clock, no thread: a worker thread drives it over a socket, the simulator drives the same code over
//! virtual links. Not a decision: those are the core's. Called by [`crate::worker`] and by `sim`. Invariant: the
//! contract of [`levada_wire::Machine`]; whatever comes in, nothing panics and both ledgers sum to zero.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use levada_wire::{Bitrate, FlowId, Instant, LinkIndex, Machine, RepairBudget, Wakeup};

use crate::api::{Event, Input, LaneCounters, LinkCounters, Output};
use crate::flow;
use crate::flow::cache::Room;
use crate::flow::closed::ClosedFlows;
use crate::flow::run::Growing;
use crate::forward;
use crate::ledger::Ledger;
use crate::limits::{CONTINUE_AFTER, EARLY_PACKETS_MAX};
use crate::link::{self, totals::Totals};
use crate::origin::FrameRefusal;
use crate::outbox::Outbox;
use crate::pace::{self, Newcomers};
use crate::repair;

mod commands;

/// The limits of a lane, with the defaults of a node.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// The most flows; opening one more is refused.
    pub flows_max: usize,
    /// The most links; adding one more is refused.
    pub links_max: usize,
    /// The most packets of a flow that wait for its key; more are dropped.
    pub early_packets_max: usize,
    /// The most bytes cached of one flow; a group that is larger is not kept.
    pub flow_cache_bytes_max: usize,
    /// The most bytes cached of all flows together. When it is short flows share it by their declared peaks.
    pub cache_bytes_max: usize,
    /// How late a flow's packets may be before [`crate::api::Command::SetBudget`] says otherwise.
    pub repair_budget: Duration,
    /// Where its draws begin: nodes need different ones, so that not all ask at once for what all have lost.
    pub seed: u64,
    /// What an interface carries. Newcomers are sent cached groups at a quarter of it, together.
    pub interface_rate: Bitrate,
    /// The most newcomers that are sent something at once by one interface; further ones wait for their turn.
    pub newcomers_max: usize,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self {
            flows_max: 4_096,
            links_max: 1_024,
            early_packets_max: EARLY_PACKETS_MAX,
            flow_cache_bytes_max: 16 << 20,
            cache_bytes_max: 64 << 20,
            repair_budget: RepairBudget::DEFAULT.time(),
            seed: 0,
            interface_rate: Bitrate(1_000_000_000),
            newcomers_max: 4,
        }
    }
}

/// All that a lane owns. `forward` and `commands` work on it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) number: u8,
    /// The counts of links over all lanes.
    pub(crate) totals: Arc<Totals>,
    pub(crate) settings: LaneSettings,
    pub(crate) flows: flow::Table,
    pub(crate) closed: ClosedFlows,
    pub(crate) links: link::Table,
    pub(crate) newcomers: Newcomers,
    pub(crate) cache_room: Room,
    pub(crate) outbox: Outbox,
    pub(crate) ledger: Ledger,
    /// The runs of the train that is being forwarded; empty between calls, and kept for its memory.
    pub(crate) runs: Vec<Growing>,
    /// Flows that must be driven before the call returns.
    pub(crate) touched: Vec<FlowId>,
    pub(crate) commands_refused: u64,
    pub(crate) frames_refused: BTreeMap<FrameRefusal, u64>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Lane {
    state: State,
    now: Instant,
}

impl Lane {
    /// The lane of that number: it is written into the counter of each link datagram that this lane sends.
    #[must_use]
    pub fn new(number: u8, settings: LaneSettings) -> Self {
        Self::among(number, settings, Arc::new(Totals::new(1)))
    }

    /// A lane that counts its links together with others.
    #[must_use]
    pub fn among(number: u8, settings: LaneSettings, totals: Arc<Totals>) -> Self {
        let cache_room = Room::new(settings.cache_bytes_max);
        Self {
            state: State {
                number,
                totals,
                newcomers: Newcomers::new(&settings),
                settings,
                flows: flow::Table::default(),
                closed: ClosedFlows::default(),
                links: link::Table::default(),
                cache_room,
                outbox: Outbox::default(),
                ledger: Ledger::default(),
                runs: Vec::new(),
                touched: Vec::new(),
                commands_refused: 0,
                frames_refused: BTreeMap::new(),
            },
            now: Instant::ZERO,
        }
    }

    /// What only tests of a part may touch.
    #[cfg(test)]
    pub(crate) const fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The ledgers alone: cheap enough for a checker to read after every call.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    /// Everything that is counted, for tables.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        let links = self.state.links.iter().map(|(index, link)| LinkCounters {
            link: index,
            sent: link.counts.sent.own(),
            received: link.counts.received.own(),
        });
        LaneCounters {
            ledger: self.state.ledger.clone(),
            flows: self.state.flows.rows(),
            links: links.collect(),
            cached_bytes: self.state.cache_room.used as u64,
            commands_refused: self.state.commands_refused,
            frames_refused: self.state.frames_refused.clone(),
        }
    }

    /// The links to that address.
    pub fn links_at(&self, remote: SocketAddr) -> impl Iterator<Item = LinkIndex> + '_ {
        self.state.links.at(remote)
    }

    /// Begins a call: time never goes back, and the timers due come first.
    fn begin(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.state.outbox.begin_call();
        while let Some((id, wakeup)) = self.state.flows.next_wakeup() {
            if wakeup.at > self.now {
                break;
            }
            drive(&mut self.state, id, self.now);
        }
        self.settle(); // newcomers have a timer too
    }

    /// Ends a call: newcomers go on, and flows that were touched have their say.
    fn settle(&mut self) {
        self.serve_newcomers();
        while let Some(id) = self.state.touched.pop() {
            drive(&mut self.state, id, self.now);
            self.serve_newcomers();
        }
    }

    fn serve_newcomers(&mut self) {
        let wake = self.state.newcomers.wake();
        if wake.is_some_and(|at| at <= self.now) {
            pace::serve_newcomers(&mut self.state, self.now);
        }
    }
}

impl Machine for Lane {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.begin(now);
        match input {
            Input::Train(train) => forward::forward(&mut self.state, &train, false, self.now),
            Input::Heard(train) => forward::forward(&mut self.state, &train, true, self.now),
            Input::Late(late) => pace::on_late(&mut self.state, &late, self.now),
            Input::Command(command) => commands::apply(&mut self.state, command, self.now),
        }
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.begin(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.state.outbox.pop()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let newcomers = self.state.newcomers.wake().map(|at| Wakeup {
            at,
            why: "send on to a newcomer",
        });
        let flows = self.state.flows.next_wakeup().map(|(_, wakeup)| wakeup);
        Wakeup::earlier(flows, newcomers)
    }
}

/// Lets a flow do what it has to do by now, as far as there is room for outputs, and sets its next wake-up.
fn drive(state: &mut State, id: FlowId, now: Instant) {
    end_multicast(state, id, now);
    let has_more = release_early(state, id, now) | drive_origin(state, id, now);
    let has_more = pace::drive(state, id, now) | has_more;
    // Once before the consumer, who must know what was given up, and once for what it finds to be false.
    let has_more = repair::drive(state, id, now) | has_more;
    pace::judge_join_point(state, id, now);
    let has_more = drive_consumer(state, id, now) | has_more;
    let has_more = repair::drive(state, id, now) | has_more;
    let wakeup = if has_more {
        Some(Wakeup {
            at: now + CONTINUE_AFTER,
            why: "go on with what did not fit",
        })
    } else {
        state.flows.get_mut(id).and_then(|flow| flow.next_wakeup())
    };
    state.flows.schedule(id, wakeup);
}

/// Ends the multicast egresses that were not renewed. First of all: a lane that stood still must not speak where another
/// node speaks by now.
fn end_multicast(state: &mut State, id: FlowId, now: Instant) {
    let Some(flow) = state.flows.get_mut(id) else {
        return;
    };
    while let Some(group) = flow.multicast.expire(now) {
        let ended = Event::MulticastEnded { flow: id, group };
        state.outbox.event(ended);
    }
}

/// Takes the packets that came before the key, once it is there.
fn release_early(state: &mut State, id: FlowId, now: Instant) -> bool {
    loop {
        let room = state.outbox.room();
        let Some(flow) = state.flows.get_mut(id).filter(|flow| !flow.keys.is_empty()) else {
            return false;
        };
        if flow.early.is_empty() {
            return false;
        }
        if room <= flow.sends() {
            return true;
        }
        if let Some(early) = flow.early.pop_front() {
            forward::release(state, early, now);
        }
    }
}

/// Flushes the burst that is due and hands on what the origin has made.
fn drive_origin(state: &mut State, id: FlowId, now: Instant) -> bool {
    loop {
        let room = state.outbox.room();
        let Some(flow) = state.flows.get_mut(id) else {
            return false;
        };
        let sends = flow.sends();
        let Some(origin) = &mut flow.origin else {
            return false;
        };
        origin.flush_if_due(now);
        // One more for the event of its rate.
        if room <= sends + 1 {
            return origin.has_runs();
        }
        let Some((run, rate)) = origin.next_run(now) else {
            return false;
        };
        if let Some(rate) = rate {
            state.outbox.event(Event::Measured { flow: id, rate });
        }
        for (number, _) in run.iter() {
            flow.window.take(number); // so that a copy that comes back is a duplicate
        }
        state.ledger.made += run.packets() as u64;
        forward::hand_on(state, id, &run, None, now);
    }
}

/// Delivers what the consumer has put in order.
fn drive_consumer(state: &mut State, id: FlowId, now: Instant) -> bool {
    loop {
        let room = state.outbox.room();
        let Some(flow) = state.flows.get_mut(id) else {
            return false;
        };
        let Some(consumer) = &mut flow.consumer else {
            return false;
        };
        let missing = &flow.missing;
        let advanced = consumer.advance(room, |number| missing.is_hopeless(number));
        for delivery in advanced.deliveries {
            state.outbox.event(Event::Delivery { flow: id, delivery });
        }
        let Some((number, sent)) = advanced.forgotten else {
            return advanced.has_more;
        };
        state.ledger.unopened += 1;
        flow.window.forget(number);
        flow.cache.forget(number, &mut state.cache_room);
        let time = flow.upstreams.time_of(sent, now).unwrap_or(now);
        flow.missing
            .bad(number, time, now, &mut state.ledger.repair);
    }
}

#[cfg(test)]
mod tests;
