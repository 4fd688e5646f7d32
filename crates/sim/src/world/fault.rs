//! What goes wrong, and when it is over.
//!
//! The seed chooses whether, when and for how long, within the scenario's bounds. To add a fault: a variant of
//! `scenario::FaultKind`, its form in `scenario::raw`, and its two lines here. Called by `world`. Invariant: what
//! begins ends exactly once, or is over at once; the checkers are told of both.

use std::time::Duration;

use levada_core::Input;
use levada_wire::Instant;

use super::{Event, World};
use crate::scenario::FaultKind;

/// What a node that leaves needs to say farewell.
const FAREWELL: Duration = Duration::from_secs(1);

impl World<'_> {
    /// Chooses which faults happen, and plans them.
    pub(super) fn plan_faults(&mut self) {
        for (index, plan) in self.scenario.faults.iter().enumerate() {
            let mut rng = self.chance.split("fault", index as u64);
            if !rng.hits(plan.chance) {
                continue;
            }
            let begins = Instant::ZERO + plan.at.choose(&mut rng);
            self.queue.push(begins, Event::FaultBegins(index));
            let lasts = plan.lasts.map(|lasts| lasts.choose(&mut rng));
            self.faults[index] = Some(lasts);
        }
    }

    pub(super) fn on_fault_begins(&mut self, index: usize) {
        let kind = &self.scenario.faults[index].kind;
        self.trace.event(
            self.now,
            &format!("fault {index} begins: {}", self.named(kind)),
        );
        let is_harmless = kind.is_harmless();
        if !is_harmless {
            self.checks.fault_begins();
        }
        match kind {
            FaultKind::Crash { node } => self.kill(*node),
            FaultKind::Leave { node } => self.leave(*node),
            FaultKind::Pause { node } => self.nodes[*node].pauses += 1,
            FaultKind::Unplug { node } => self.net.plug(self.nodes[*node].address.ip(), false),
            FaultKind::ClockJump { node, leap } => {
                let node_index = *node;
                let node = &mut self.nodes[node_index];
                node.clock.leap(*leap);
                node.wake = None;
                self.plan_wake(node_index);
            }
            FaultKind::Down { ways } => ways
                .iter()
                .for_each(|(wan, toward)| self.net.wan_mut(*wan).take_down(*toward)),
            FaultKind::Loss { wan, loss } => self.net.wan_mut(*wan).set_loss(Some(*loss)),
            FaultKind::Stranger { .. } => self.queue.push(self.now, Event::Stranger(index)),
            FaultKind::Hostile { node, .. } => {
                self.turn_hostile(*node, true);
                self.queue.push(self.now, Event::Hostile(index));
            }
        }
        match self.faults[index].flatten() {
            Some(lasts) => self.queue.push(self.now + lasts, Event::FaultEnds(index)),
            // It is over at once, or the way things are from now on.
            None if !is_harmless => self.checks.fault_ends(self.now),
            None => {}
        }
    }

    pub(super) fn on_fault_ends(&mut self, index: usize) {
        let kind = &self.scenario.faults[index].kind;
        self.trace.event(
            self.now,
            &format!("fault {index} ends: {}", self.named(kind)),
        );
        self.faults[index] = None;
        match kind {
            FaultKind::Crash { node } | FaultKind::Leave { node } => self.boot(*node),
            FaultKind::Pause { node } => {
                self.nodes[*node].pauses -= 1;
                if !self.nodes[*node].is_paused() {
                    self.resume(*node);
                }
            }
            FaultKind::Unplug { node } => self.net.plug(self.nodes[*node].address.ip(), true),
            FaultKind::Down { ways } => ways
                .iter()
                .for_each(|(wan, toward)| self.net.wan_mut(*wan).bring_up(*toward)),
            FaultKind::Loss { wan, .. } => self.net.wan_mut(*wan).set_loss(None),
            FaultKind::Hostile { node, .. } => self.turn_hostile(*node, false),
            FaultKind::ClockJump { .. } | FaultKind::Stranger { .. } => {}
        }
        if !kind.is_harmless() {
            self.checks.fault_ends(self.now);
        }
    }

    fn leave(&mut self, index: usize) {
        if self.nodes[index].is_paused() {
            return;
        }
        self.end_script(index);
        self.input(index, Input::Leave);
        let boot = self.nodes[index].boots;
        self.queue
            .push(self.now + FAREWELL, Event::Gone { node: index, boot });
    }

    /// A fault in words, with names in place of numbers.
    fn named(&self, kind: &FaultKind) -> String {
        let name = |node: &usize| &self.scenario.nodes[*node].name;
        match kind {
            FaultKind::Crash { node } => format!("crash of {}", name(node)),
            FaultKind::Leave { node } => format!("{} leaves", name(node)),
            FaultKind::Pause { node } => format!("{} stands still", name(node)),
            FaultKind::Unplug { node } => format!("{} is unplugged", name(node)),
            FaultKind::ClockJump { node, leap } => {
                format!("the clocks of {} leap: {leap:?}", name(node))
            }
            FaultKind::Down { ways } => format!("links down: {ways:?}"),
            FaultKind::Loss { wan, loss } => format!("link {wan} loses: {loss:?}"),
            FaultKind::Stranger { node, .. } => format!("a stranger sends to {}", name(node)),
            FaultKind::Hostile { node, acts, .. } => {
                format!("{} turns hostile: {acts:?}", name(node))
            }
        }
    }
}
