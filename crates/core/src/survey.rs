//! Questions about nodes, hop by hop: this node's own, those that it passes on, and those that it is asked.
//!
//! ```text
//!   Question from a link ─┬─ no budget, too many under way ──▶ dropped
//!                         ├─ path empty ──▶ Describe ──▶ Described ──▶ Answer
//!                         ├─ next is a peer ──▶ Question to it, remembered ──▶ its Answer goes back
//!                         └─ next is none ──▶ Answer without an overview
//! ```
//!
//! For maps and traces: nothing is decided by it. Not what a node says of itself, which whoever drives the core
//! gathers. Called by `Control`. Invariant: for each question that is taken at most one message is sent to a peer, and
//! at most one back; questions are taken at a bounded rate from each link, and from all together.

use std::collections::{BTreeMap, VecDeque};

use levada_wire::control::link::LinkMessage;
use levada_wire::control::survey::{Answer, Overview, Question, SURVEY_PATH_MAX};
use levada_wire::id::NodePrefix;
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::{FlowId, Instant, LinkIndex, NodeId};

use crate::credit::Bucket;
use crate::limits::{
    QUESTIONS_ALL_BURST, QUESTIONS_ALL_PER_SECOND, QUESTIONS_BURST, QUESTIONS_MAX,
    QUESTIONS_PER_SECOND, SURVEY_WAIT,
};

#[cfg(test)]
mod tests;

/// What may happen to a survey.
#[derive(Clone, Debug)]
pub enum Input {
    /// A link came up.
    LinkUp {
        /// This node's number for the link.
        link: LinkIndex,
        /// Its proven peer.
        peer: NodeId,
    },
    /// A link went down.
    LinkDown {
        /// This node's number for the link.
        link: LinkIndex,
    },
    /// A peer asks.
    Asked {
        /// From where.
        link: LinkIndex,
        /// As it came.
        question: Question,
    },
    /// A peer answers.
    Answered {
        /// From where.
        link: LinkIndex,
        /// As it came.
        answer: Answer,
    },
    /// The node's user asks. Answered by [`Output::Heard`].
    Ask(Ask),
    /// What this node says of itself, after [`Output::Describe`].
    Described {
        /// The number of that question.
        question: u32,
        /// Its links, flows and counts at the moment.
        overview: Overview,
    },
}

/// A question of the node's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The caller's number for it.
    pub ask: u64,
    /// The way: a neighbour first, who is asked last.
    pub path: Vec<NodePrefix>,
    /// Only this flow.
    pub flow: Option<FlowId>,
}

/// What a survey wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message of the concern of links.
    Send {
        /// On which link.
        link: LinkIndex,
        /// A question or an answer.
        message: LinkMessage,
    },
    /// A peer asks what this node is: say it by [`Input::Described`].
    Describe {
        /// The number of the question.
        question: u32,
        /// Only this flow.
        flow: Option<FlowId>,
    },
    /// The end of an [`Ask`].
    Heard {
        /// The caller's number for it.
        ask: u64,
        /// The overview, or why there is none.
        heard: Result<Overview, Unheard>,
    },
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// A node of the path has no link to the next.
    NoWay,
    /// Nothing came back in time: a node of the path knows no questions, or has no time for them.
    Silent,
    /// This node asks as much as it may.
    Busy,
}

/// All questions under way.
#[derive(Debug)]
pub struct Survey {
    now: Instant,
    peers: BTreeMap<LinkIndex, Peer>,
    links: BTreeMap<NodePrefix, LinkIndex>,
    all: Bucket,
    pending: BTreeMap<u32, Pending>,
    /// By when they end, which is the order in which they began.
    ends: VecDeque<(Instant, u32)>,
    next: u32,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Peer {
    prefix: NodePrefix,
    bucket: Bucket,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Pending {
    from: From,
    /// Who is to answer; none for this node itself.
    to: Option<LinkIndex>,
}

#[derive(Clone, Copy, Debug)]
enum From {
    Here(u64),
    Link(LinkIndex, u32),
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            now: Instant::ZERO,
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            all: Bucket::new(QUESTIONS_ALL_BURST, QUESTIONS_ALL_PER_SECOND),
            pending: BTreeMap::new(),
            ends: VecDeque::new(),
            next: 0,
            outputs: VecDeque::new(),
        }
    }
}

impl Machine for Survey {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::LinkUp { link, peer } => {
                let prefix = peer.prefix();
                let bucket = Bucket::new(QUESTIONS_BURST, QUESTIONS_PER_SECOND);
                self.peers.insert(link, Peer { prefix, bucket });
                self.links.insert(prefix, link);
            }
            Input::LinkDown { link } => self.on_link_down(link),
            Input::Asked { link, question } => self.on_asked(link, question),
            Input::Answered { link, answer } => {
                let is_its = |pending: &Pending| pending.to == Some(link);
                if self.pending.get(&answer.id).is_some_and(is_its) {
                    let heard = answer.overview.ok_or(Unheard::NoWay);
                    self.end(answer.id, heard);
                }
            }
            Input::Ask(ask) => self.on_ask(ask),
            Input::Described { question, overview } => {
                let is_ours = |pending: &Pending| pending.to.is_none();
                if self.pending.get(&question).is_some_and(is_ours) {
                    self.end(question, Ok(overview));
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some((_, id)) = self.ends.pop_front_if(|(at, _)| *at <= self.now) {
            // Who asked for it waits as long as this node, and ends it by itself.
            if let Some(Pending {
                from: From::Here(ask),
                ..
            }) = self.pending.remove(&id)
            {
                let heard = Err(Unheard::Silent);
                self.outputs.push_back(Output::Heard { ask, heard });
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let (at, _) = self.ends.front()?;
        Some(Wakeup {
            at: *at,
            why: "answer",
        })
    }
}

impl Survey {
    fn on_link_down(&mut self, link: LinkIndex) {
        let Some(peer) = self.peers.remove(&link) else {
            return;
        };
        // A newer link to the same peer may have taken its place already.
        if self.links.get(&peer.prefix) == Some(&link) {
            self.links.remove(&peer.prefix);
        }
    }

    fn on_asked(&mut self, link: LinkIndex, question: Question) {
        let Question { id, mut path, flow } = question;
        // spec: WIRE 7.1 a node SHOULD take questions at a bounded rate
        if path.len() > SURVEY_PATH_MAX || !self.takes(link) || self.pending.len() >= QUESTIONS_MAX
        {
            return;
        }
        let from = From::Link(link, id);
        if path.is_empty() {
            let question = self.begin(from, None);
            self.outputs.push_back(Output::Describe { question, flow });
            return;
        }
        let next = path.remove(0);
        match self.links.get(&next).copied().filter(|to| *to != link) {
            Some(to) => self.ask(from, to, path, flow),
            None => self.answer(link, id, None),
        }
    }

    fn on_ask(&mut self, ask: Ask) {
        let Ask {
            ask,
            mut path,
            flow,
        } = ask;
        let link = path.first().and_then(|first| self.links.get(first));
        let heard = match link.copied() {
            _ if self.pending.len() >= QUESTIONS_MAX => Unheard::Busy,
            Some(to) if path.len() <= SURVEY_PATH_MAX => {
                path.remove(0);
                return self.ask(From::Here(ask), to, path, flow);
            }
            _ => Unheard::NoWay,
        };
        let heard = Err(heard);
        self.outputs.push_back(Output::Heard { ask, heard });
    }

    /// Whether one more question over that link is taken now; counts it if so.
    fn takes(&mut self, link: LinkIndex) -> bool {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&link) else {
            return false;
        };
        let has = |bucket: &Bucket| bucket.ready_at(now).is_none();
        if !has(&peer.bucket) || !has(&self.all) {
            return false;
        }
        peer.bucket.take(now, 1);
        self.all.take(now, 1);
        true
    }

    fn begin(&mut self, from: From, to: Option<LinkIndex>) -> u32 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.pending.insert(id, Pending { from, to });
        self.ends.push_back((self.now + SURVEY_WAIT, id));
        id
    }

    fn ask(&mut self, from: From, to: LinkIndex, path: Vec<NodePrefix>, flow: Option<FlowId>) {
        let id = self.begin(from, Some(to));
        let message = LinkMessage::Question(Question { id, path, flow });
        self.outputs.push_back(Output::Send { link: to, message });
    }

    fn end(&mut self, id: u32, heard: Result<Overview, Unheard>) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        match pending.from {
            From::Here(ask) => self.outputs.push_back(Output::Heard { ask, heard }),
            From::Link(link, id) if self.peers.contains_key(&link) => {
                self.answer(link, id, heard.ok());
            }
            From::Link(..) => {}
        }
    }

    fn answer(&mut self, link: LinkIndex, id: u32, overview: Option<Overview>) {
        let message = LinkMessage::Answer(Answer { id, overview });
        self.outputs.push_back(Output::Send { link, message });
    }
}
