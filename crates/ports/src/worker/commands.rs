//! What waits for a lane: control in one queue, what publishers hand in in another, so that neither holds up the other.
//!
//! ```text
//! Push, Describe, Finish ─▶ frames  ─┐ each turn takes some of both,
//! all others ─────────────▶ control ─┴─▶ control first
//! ```
//!
//! Within a queue the order is that of calls. Between them it is kept where it matters: a frame comes after the
//! `Originate` that was given before it. While frames of a flow wait, what would keep them from somebody, or make
//! another flow of it, waits behind them among the frames, and behind that all that the flow is told from then on.
//!
//! Not the lock around it, nor the waking (`queue`). Invariant: neither queue exceeds its limits, and one frame may
//! always wait; the commands of [`Command::Flow`] of one flow are taken in the order of calls.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use levada_lane::api::{Command, FlowCommand, PublisherCommand};
use levada_wire::FlowId;

/// The most commands that wait for a worker, but for those of publishers.
pub const COMMANDS_MAX: usize = 65_536;
/// The room for commands about links, besides [`COMMANDS_MAX`]: they go to all lanes, or to none.
pub(crate) const LINK_COMMANDS_MAX: usize = 4_096;
/// The most frames that wait for a worker: a second's worth of a thousand streams.
pub const FRAMES_MAX: usize = 65_536;
/// The most bytes of frames that wait for a worker.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// The room for ends of flows, besides [`FRAMES_MAX`]: whoever decides does not wait for publishers.
pub(super) const ENDS_MAX: usize = 4_096;

/// Commands of one turn: at 1 us each, less than a receive buffer takes to fill.
pub(super) const COMMANDS_PER_TURN: usize = 1_024;
/// Frames of one turn.
pub(super) const FRAMES_PER_TURN: usize = 1_024;
/// Bytes of frames of one turn, about a millisecond's work; one frame may always be taken.
pub(super) const FRAME_BYTES_PER_TURN: usize = 1 << 20;

/// A queue of commands is full; the command comes back.
#[derive(Debug, thiserror::Error)]
#[error("{COMMANDS_MAX} commands, {FRAMES_MAX} frames or {} MiB of them wait for the lane", FRAME_BYTES_MAX >> 20)]
pub struct Full(pub Box<Command>);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Commands {
    control: VecDeque<Command>,
    /// How many commands were ever taken of `control`.
    taken: u64,
    frames: VecDeque<Waiting>,
    /// Of the frames.
    bytes: usize,
    /// How many [`Command::Flow`] wait among the frames.
    behind: usize,
    /// What waits of each flow there.
    of_flows: BTreeMap<FlowId, OfFlow>,
    /// How many commands must be taken of `control` before a frame that is given now.
    originated: u64,
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    /// How many commands must be taken of `control` before.
    after: u64,
}

/// How much waits of a flow among the frames.
#[derive(Debug, Default)]
struct OfFlow {
    all: usize,
    /// Those of them that are [`Command::Flow`].
    behind: usize,
}

/// Which queue a command waits in, and whose room it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Control,
    /// That of frames, in the room of control.
    Behind,
    Frames,
    /// That of frames, in the room for ends.
    Ends,
}

impl Commands {
    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.frames.is_empty()
    }

    pub(super) fn give(&mut self, command: Command) -> Result<(), Full> {
        let bytes = frame_bytes(&command);
        let queue = self.queue(&command);
        let frames = self.frames.len() - self.behind;
        let has_room = match queue {
            Queue::Control | Queue::Behind => self.control.len() + self.behind < COMMANDS_MAX,
            Queue::Frames => {
                let has_bytes = self.bytes == 0 || self.bytes + bytes <= FRAME_BYTES_MAX;
                frames < FRAMES_MAX && has_bytes
            }
            Queue::Ends => frames < FRAMES_MAX + ENDS_MAX,
        };
        if !has_room {
            return Err(Full(Box::new(command)));
        }
        let after = match queue {
            Queue::Control => {
                self.put(command);
                return Ok(());
            }
            Queue::Behind => self.taken + self.control.len() as u64,
            Queue::Frames | Queue::Ends => self.originated,
        };
        self.bytes += bytes;
        if let Some(flow) = flow_of(&command) {
            let of_flow = self.of_flows.entry(flow).or_default();
            of_flow.all += 1;
            of_flow.behind += usize::from(queue == Queue::Behind);
            self.behind += usize::from(queue == Queue::Behind);
        }
        self.frames.push_back(Waiting { command, after });
        Ok(())
    }

    /// Whether [`Commands::give_about_link`] may be called.
    pub(super) fn has_room_for_links(&self) -> bool {
        self.control.len() < COMMANDS_MAX + LINK_COMMANDS_MAX
    }

    pub(super) fn give_about_link(&mut self, command: Command) {
        self.put(command);
    }

    fn put(&mut self, command: Command) {
        let originates = matches!(command, Command::Flow(_, FlowCommand::Originate(_)));
        self.control.push_back(command);
        if originates {
            self.originated = self.taken + self.control.len() as u64;
        }
    }

    /// Moves what one turn does into `into`.
    pub(super) fn take(&mut self, into: &mut Vec<Command>) {
        let count = self.control.len().min(COMMANDS_PER_TURN);
        into.extend(self.control.drain(..count));
        self.taken += count as u64;
        let (mut frames, mut bytes) = (0, 0);
        while let Some(next) = self.frames.front() {
            bytes += frame_bytes(&next.command);
            let is_over = frames == FRAMES_PER_TURN || (frames > 0 && bytes > FRAME_BYTES_PER_TURN);
            if is_over || next.after > self.taken {
                return;
            }
            frames += 1;
            into.extend(self.pop());
        }
    }

    /// Takes the first that waits among the frames.
    fn pop(&mut self) -> Option<Command> {
        let command = self.frames.pop_front()?.command;
        self.bytes -= frame_bytes(&command);
        let is_behind = usize::from(matches!(command, Command::Flow(..)));
        self.behind -= is_behind;
        let flow = flow_of(&command);
        if let Some(Entry::Occupied(mut of_flow)) = flow.map(|flow| self.of_flows.entry(flow)) {
            of_flow.get_mut().all -= 1;
            of_flow.get_mut().behind -= is_behind;
            if of_flow.get().all == 0 {
                of_flow.remove();
            }
        }
        Some(command)
    }

    fn queue(&self, command: &Command) -> Queue {
        match command {
            Command::Publisher(_, PublisherCommand::Finish) => Queue::Ends,
            Command::Publisher(..) => Queue::Frames,
            // What was handed in before is sent before.
            Command::Flow(flow, command)
                if self
                    .of_flows
                    .get(flow)
                    .is_some_and(|of_flow| of_flow.behind > 0 || stays_behind_frames(command)) =>
            {
                Queue::Behind
            }
            Command::Link(..) | Command::Flow(..) => Queue::Control,
        }
    }
}

const fn flow_of(command: &Command) -> Option<FlowId> {
    match command {
        Command::Publisher(flow, _) | Command::Flow(flow, _) => Some(*flow),
        Command::Link(..) => None,
    }
}

/// Whether frames that were handed in before would not get where they were to go if the command came first.
const fn stays_behind_frames(command: &FlowCommand) -> bool {
    matches!(
        command,
        FlowCommand::Open
            | FlowCommand::Originate(_)
            | FlowCommand::RemoveEgress(_)
            | FlowCommand::RemoveChannel(_)
            | FlowCommand::RemoveMember { .. }
            | FlowCommand::StopConsuming
            | FlowCommand::Close
    )
}

const fn frame_bytes(command: &Command) -> usize {
    match command {
        Command::Publisher(_, PublisherCommand::Push { frame, .. }) => frame.data.len(),
        Command::Publisher(..) | Command::Flow(..) | Command::Link(..) => 0,
    }
}

#[cfg(test)]
mod tests;
