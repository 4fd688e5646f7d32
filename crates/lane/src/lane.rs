//! A lane: the machine that owns flows and does with their packets what it was commanded.
//!
//! ```text
//!  Train ───▶ forward ─┐                       ┌─▶ Transmit   one per egress and run
//!  Command ─▶ commands ├─▶ flows, links ─▶ drive ─▶ Event     deliveries, first packets, link datagrams
//!  time ────▶ timers ──┘                       └─▶ Foreign    QUIC
//! ```
//!
//! No I/O, no clock, no thread: a worker thread drives it over a socket, the simulator drives the same code over
//! virtual links. Not a decision: those are the core's. Called by the workers of `levada-ports` and by `sim`.
//! Invariant: the contract of [`levada_wire::Machine`]; whatever comes in, nothing panics and both ledgers sum to zero.

use levada_wire::{FlowId, Instant, Machine, Wakeup};

use crate::api::{Channel, Event, FlowEvent, Input, LaneCounters, LinkCounters, Output};
use crate::child::{join, pace};
use crate::flow::{Flow, suspicion};
use crate::forward;
use crate::ledger::Ledger;
use crate::limits::CONTINUE_AFTER;
use crate::repair::{self, parity};
use crate::settings::LaneSettings;
use crate::shared::Shared;
use crate::state::{Io, State};

mod commands;

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
        let shared = Shared::new(1, settings.interface_rate);
        Self::among(number, settings, shared)
    }

    /// A lane that has its counts and budgets together with others.
    #[must_use]
    pub fn among(number: u8, settings: LaneSettings, shared: Shared) -> Self {
        Self {
            state: State::new(number, settings, shared),
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
        &self.state.io.ledger
    }

    /// Everything that is counted, for tables.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        let State { flows, io } = &self.state;
        let links = io.links.iter().map(|link| LinkCounters {
            link: link.index,
            datagrams_in: link.datagrams_in(),
            datagrams_out: link.counts.sent.own(),
        });
        LaneCounters {
            ledger: io.ledger.clone(),
            flows: flows.rows(),
            links: links.collect(),
            cached_bytes: io.room.used as u64,
            commands_refused: io.commands_refused,
            frames_refused: io.frames_refused.clone(),
        }
    }

    /// Whether another lane of the node waits for room that this one may give back: with its next call it does.
    #[must_use]
    pub fn is_asked_for_room(&self) -> bool {
        self.state.io.room.is_asked()
    }

    /// Begins a call: time never goes back, and the timers due come first.
    fn begin(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.state.io.outbox.begin_call();
        let State { flows, io } = &mut self.state;
        if io.room.hear() {
            flows.give_back(&mut io.room);
        }
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
        self.serve_queue();
        while let Some(id) = self.state.io.touched.pop() {
            drive(&mut self.state, id, self.now);
            self.serve_queue();
        }
        self.state.io.room.say();
        debug_assert!(self.ledger().check().is_zero(), "{:?}", self.ledger());
    }

    fn cannot_join(&mut self, channel: Channel, reason: &str) {
        for flow in self.state.io.joined.fail(channel) {
            self.state.io.outbox.event(Event::CannotJoin {
                flow,
                channel,
                reason: reason.to_owned(),
            });
        }
    }

    fn serve_queue(&mut self) {
        let wake = self.state.io.queue.wake();
        if wake.is_some_and(|at| at <= self.now) {
            join::serve_queue(&mut self.state, self.now);
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
            Input::Overflow(datagrams) => self.state.io.overflow.lost += datagrams,
            Input::Late(late) => pace::on_late(&mut self.state, &late, self.now),
            Input::Command(command) => commands::apply(&mut self.state, command, self.now),
            Input::CannotJoin { channel, reason } => self.cannot_join(channel, &reason),
        }
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.begin(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.state.io.outbox.pop()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let newcomers = self.state.io.queue.wake().map(|at| Wakeup {
            at,
            why: "send on to a newcomer",
        });
        let flows = self.state.flows.next_wakeup().map(|(_, wakeup)| wakeup);
        Wakeup::earlier(flows, newcomers)
    }
}

/// Lets a flow do what it has to do by now, as far as there is room for outputs, and sets its next wake-up.
fn drive(state: &mut State, id: FlowId, now: Instant) {
    if let Some((flow, io)) = state.flow(id) {
        end_multicast(flow, io, now);
    }
    let has_more = release_early(state, id, now) | drive_origin(state, id, now);
    if let Some((flow, io)) = state.flow(id) {
        suspicion::drive(flow, io, now);
    }
    let has_more = with_flow(state, id, |flow, io| {
        pace::drive(flow, io, now) | pace::tell_members(flow, io, now)
    }) | has_more;
    // Once before the consumer, who must know what was given up, and once for what it finds to be false.
    let has_more = repair(state, id, now) | has_more;
    let has_more = with_flow(state, id, |flow, io| {
        join::judge_join_point(flow, io, now);
        drive_consumer(flow, io, now)
    }) | has_more;
    let has_more = repair(state, id, now) | has_more;
    let Some(flow) = state.flows.get_mut(id) else {
        return;
    };
    debug_assert!(flow.children.is_sound(), "{:?}", flow.children);
    let wakeup = if has_more {
        Some(Wakeup {
            at: now + CONTINUE_AFTER,
            why: "go on with what did not fit",
        })
    } else {
        flow.next_wakeup()
    };
    state.flows.schedule(id, wakeup);
}

fn with_flow(state: &mut State, id: FlowId, act: impl FnOnce(&mut Flow, &mut Io) -> bool) -> bool {
    let flow = state.flow(id);
    flow.is_some_and(|(flow, io)| act(flow, io))
}

/// Ends the multicast egresses that were not renewed. First of all: a lane that stood still must not speak where
/// another node speaks by now.
fn end_multicast(flow: &mut Flow, io: &mut Io, now: Instant) {
    while let Some(channel) = flow.multicast.expire(now) {
        join::end_channel(flow, channel, now);
        let ended = Event::ChannelEnded {
            flow: flow.id,
            channel,
        };
        io.outbox.event(ended);
    }
}

/// Takes the packets that came before the key, once it is there.
fn release_early(state: &mut State, id: FlowId, now: Instant) -> bool {
    loop {
        let Some((flow, io)) = state.flow(id).filter(|(flow, _)| !flow.keys.is_empty()) else {
            return false;
        };
        if flow.early.is_empty() {
            return false;
        }
        if io.outbox.room() <= flow.sends() {
            return true;
        }
        if let Some(early) = flow.early.pop_front() {
            forward::release(state, id, early, now);
        }
    }
}

/// Flushes the burst that is due and hands on what the origin has made.
fn drive_origin(state: &mut State, id: FlowId, now: Instant) -> bool {
    loop {
        let Some((flow, io)) = state.flow(id) else {
            return false;
        };
        let sends = flow.sends();
        let Some(origin) = &mut flow.origin else {
            return false;
        };
        origin.flush_if_due(now);
        // One more for the event of its rate.
        if io.outbox.room() <= sends + 1 {
            return origin.has_runs();
        }
        let Some((run, rate)) = origin.next_run(now) else {
            return false;
        };
        if let Some(rate) = rate {
            io.outbox.tell_flow(id, FlowEvent::Measured(rate));
        }
        for (number, _) in run.iter() {
            flow.window.take(number); // so that a copy that comes back is a duplicate
        }
        io.ledger.made += run.packets() as u64;
        forward::hand_on(state, id, &run, None, now);
    }
}

/// Makes packets anew of parity, asks again for what is missing, and says the head.
fn repair(state: &mut State, id: FlowId, now: Instant) -> bool {
    let has_more = loop {
        let Some((flow, io)) = state.flow(id) else {
            return false;
        };
        parity::drive(flow, io, now);
        if io.outbox.room() <= flow.outputs_of_repair() {
            break flow.parity_decoder.is_waiting();
        }
        match flow.parity_decoder.make(&flow.cache) {
            Some(made) => forward::take_recovered(state, id, made, now),
            None => break false,
        }
    };
    with_flow(state, id, |flow, io| repair::drive(flow, io, now)) | has_more
}

/// Delivers what the consumer has put in order.
fn drive_consumer(flow: &mut Flow, io: &mut Io, now: Instant) -> bool {
    let id = flow.id;
    let Some(consumer) = &mut flow.consumer else {
        return false;
    };
    loop {
        let missing = &flow.missing;
        let room = io.outbox.room();
        let advanced = consumer.advance(room, |number| missing.is_hopeless(number));
        for delivery in advanced.deliveries {
            io.outbox.event(Event::Delivery { flow: id, delivery });
        }
        let Some((number, sent)) = advanced.forgotten else {
            return advanced.has_more;
        };
        io.ledger.unopened += 1;
        flow.window.forget(number);
        flow.cache.forget(number, &mut io.room);
        let time = flow.upstreams.time_of(sent, now).unwrap_or(now);
        flow.missing.bad(number, time, now, &mut io.ledger.repair);
    }
}

#[cfg(test)]
mod tests;
