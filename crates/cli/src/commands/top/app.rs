//! What `top` shows at the moment: a tab, a selected line, a filter, an order, rates of the last minutes, events.
//!
//! ```text
//!   Snapshot ─▶ rates (difference to the last one), events (what is other than before)
//!   Key ──────▶ tab, selection, filter, order, help
//! ```
//!
//! Not the terminal (`draw`, `top`), so that a test can press keys. Invariant: [`RATES_MAX`] rates and [`EVENTS_MAX`]
//! events are kept, and the selected line exists if any does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use levada::view::{FlowRow, FlowState, LinkRow, LinkState, MapRow, StreamRow};
use levada::{NodeId, View};

/// Rates that are kept, one for each look.
pub(super) const RATES_MAX: usize = 240;
/// Events that are kept.
pub(super) const EVENTS_MAX: usize = 500;
/// Lines that a page has, for the keys that turn pages.
const PAGE: usize = 10;
/// Letters of a filter.
const FILTER_MAX: usize = 40;

/// The node at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) view: View,
    /// The nodes around it, if they were asked this time.
    pub(super) map: Option<Vec<MapRow>>,
}

/// A key, whatever the terminal calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Next,
    Previous,
    Enter,
    Escape,
    Backspace,
    Quit,
    Function(u8),
    Letter(char),
}

/// What the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Streams,
    Links,
    Tree,
    Events,
}

impl Tab {
    pub(super) const ALL: [Self; 4] = [Self::Streams, Self::Links, Self::Tree, Self::Events];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Streams => "Streams",
            Self::Links => "Links",
            Self::Tree => "Tree",
            Self::Events => "Events",
        }
    }
}

/// By what lines are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Name,
    /// The most first.
    Rate,
    /// The worst first.
    Loss,
}

impl Order {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Loss => "loss",
        }
    }
}

/// A line of the tree of the selected stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) depth: usize,
    pub(super) name: String,
    /// Half of the round trip of the hop to it, in seconds; none of the origin.
    pub(super) latency: Option<std::time::Duration>,
    pub(super) loss_permille: u16,
    pub(super) repaired: u64,
    /// Players and programs there.
    pub(super) consumers: u32,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct App {
    pub(super) view: View,
    pub(super) map: Vec<MapRow>,
    pub(super) tab: Tab,
    pub(super) selected: usize,
    pub(super) order: Order,
    pub(super) filter: String,
    /// Whether letters go into the filter.
    pub(super) is_typing: bool,
    pub(super) shows_help: bool,
    pub(super) is_paused: bool,
    /// Why the node does not answer.
    pub(super) silence: Option<String>,
    /// Bit/s that came and went, the newest last.
    pub(super) received: VecDeque<u64>,
    pub(super) sent: VecDeque<u64>,
    /// Bit/s of each flow that came.
    pub(super) rates: BTreeMap<u64, u64>,
    /// What happened, the newest last, each with the seconds that the node had run.
    pub(super) events: VecDeque<(u64, String)>,
    /// The stream whose tree is shown.
    pub(super) chosen: Option<String>,
    is_over: bool,
}

impl App {
    pub(super) fn new(first: Snapshot) -> Self {
        Self {
            view: first.view,
            map: first.map.unwrap_or_default(),
            tab: Tab::Streams,
            selected: 0,
            order: Order::Name,
            filter: String::new(),
            is_typing: false,
            shows_help: false,
            is_paused: false,
            silence: None,
            received: VecDeque::new(),
            sent: VecDeque::new(),
            rates: BTreeMap::new(),
            events: VecDeque::new(),
            chosen: None,
            is_over: false,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The node does not answer; what was seen last stays.
    pub(super) fn on_silence(&mut self, why: String) {
        if self.silence.is_none() {
            self.event(format!("the node does not answer: {why}"));
        }
        self.silence = Some(why);
    }

    pub(super) fn on_snapshot(&mut self, snapshot: Snapshot) {
        self.silence = None;
        if self.is_paused {
            return;
        }
        let Snapshot { view, map } = snapshot;
        self.compare(&view);
        self.measure(&view);
        self.view = view;
        if let Some(map) = map {
            self.map = map;
        }
        self.selected = self.selected.min(self.lines().saturating_sub(1));
    }

    /// Notes what is other than before.
    fn compare(&mut self, now: &View) {
        let up = |view: &View| -> BTreeMap<NodeId, String> {
            let rows = view.links.iter().map(|row| &row.control);
            let rows = rows.filter(|row| row.state.is_up());
            rows.filter_map(|row| Some((row.peer?, row.name.clone())))
                .collect()
        };
        let streams = |view: &View| -> BTreeMap<String, FlowState> {
            let rows = view.streams.iter();
            rows.map(|row| (row.name.to_string(), row.state)).collect()
        };
        let (before, after) = (up(&self.view), up(now));
        for (peer, name) in &after {
            if !before.contains_key(peer) {
                self.event(format!("the link to {name} ({}) is up", peer.short()));
            }
        }
        for (peer, name) in &before {
            if !after.contains_key(peer) {
                self.event(format!("the link to {name} ({}) is down", peer.short()));
            }
        }
        let (before, after) = (streams(&self.view), streams(now));
        for (name, state) in &after {
            match before.get(name) {
                None => self.event(format!("`{name}` came: {state}")),
                Some(was) if was != state => self.event(format!("`{name}` is {state} now")),
                Some(_) => {}
            }
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.event(format!("`{name}` went"));
        }
    }

    fn event(&mut self, text: String) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        let at = self.view.node.uptime_seconds.0.as_secs();
        self.events.push_back((at, text));
    }

    fn measure(&mut self, now: &View) {
        let took = now.node.uptime_seconds.0;
        let took = took.saturating_sub(self.view.node.uptime_seconds.0);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = |now: u64, then: u64| now.saturating_sub(then).saturating_mul(8_000) / millis;
        let before: BTreeMap<_, _> = self
            .view
            .flows
            .iter()
            .map(|row| (row.control.flow.0, row.counters))
            .collect();
        let (mut received, mut sent) = (0, 0);
        self.rates.clear();
        for row in &now.flows {
            let flow = row.control.flow.0;
            let Some(then) = before.get(&flow) else {
                continue;
            };
            let came = rate(row.counters.bytes_in, then.bytes_in);
            self.rates.insert(flow, came);
            received += came;
            sent += rate(row.counters.bytes_out, then.bytes_out);
        }
        for (rates, rate) in [(&mut self.received, received), (&mut self.sent, sent)] {
            if rates.len() == RATES_MAX {
                rates.pop_front();
            }
            rates.push_back(rate);
        }
    }

    pub(super) fn on_key(&mut self, key: Key) {
        if self.shows_help {
            self.shows_help = false;
            if !matches!(key, Key::Quit | Key::Function(10)) {
                return;
            }
        }
        if self.is_typing && self.type_into_filter(key) {
            return;
        }
        match key {
            Key::Quit | Key::Function(10) | Key::Letter('q') => self.is_over = true,
            Key::Function(1) | Key::Letter('h' | '?') => self.shows_help = true,
            Key::Function(4) | Key::Letter('/' | '\\') => self.is_typing = true,
            Key::Function(5) | Key::Letter('t') => self.show(Tab::Tree),
            Key::Function(6) | Key::Letter('s' | '>') => self.order = self.next_order(),
            Key::Letter(' ') => self.is_paused = !self.is_paused,
            Key::Letter(number @ '1'..='4') => {
                let at = usize::from(number as u8 - b'1');
                self.show(Tab::ALL[at]);
            }
            Key::Next => self.turn(1),
            Key::Previous => self.turn(Tab::ALL.len() - 1),
            Key::Enter if self.tab == Tab::Streams => {
                if let Some(row) = self.streams().get(self.selected) {
                    self.chosen = Some(row.name.to_string());
                    self.show(Tab::Tree);
                }
            }
            Key::Escape => self.filter.clear(),
            Key::Up | Key::Letter('k') => self.select(self.selected.saturating_sub(1)),
            Key::Down | Key::Letter('j') => self.select(self.selected + 1),
            Key::PageUp => self.select(self.selected.saturating_sub(PAGE)),
            Key::PageDown => self.select(self.selected + PAGE),
            Key::Home => self.select(0),
            Key::End => self.select(usize::MAX),
            _ => {}
        }
    }

    /// Whether the key was for the filter.
    fn type_into_filter(&mut self, key: Key) -> bool {
        match key {
            Key::Letter(letter) if self.filter.chars().count() < FILTER_MAX => {
                self.filter.push(letter);
            }
            Key::Letter(_) => {}
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            _ => return false,
        }
        self.select(self.selected);
        true
    }

    const fn next_order(&self) -> Order {
        match self.order {
            Order::Name => Order::Rate,
            Order::Rate => Order::Loss,
            Order::Loss => Order::Name,
        }
    }

    fn turn(&mut self, by: usize) {
        let at = Tab::ALL.iter().position(|tab| *tab == self.tab);
        let next = (at.unwrap_or(0) + by) % Tab::ALL.len();
        self.show(Tab::ALL[next]);
    }

    fn show(&mut self, tab: Tab) {
        self.tab = tab;
        self.selected = 0;
    }

    fn select(&mut self, line: usize) {
        self.selected = line.min(self.lines().saturating_sub(1));
    }

    /// How many lines the tab has.
    fn lines(&self) -> usize {
        match self.tab {
            Tab::Streams => self.streams().len(),
            Tab::Links => self.links().len(),
            Tab::Tree => self.tree().len(),
            Tab::Events => self.shown_events().len(),
        }
    }

    fn has(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    pub(super) fn flow_of(&self, stream: &StreamRow) -> Option<&FlowRow> {
        let mut flows = self.view.flows.iter();
        flows.find(|row| row.control.flow == stream.flow)
    }

    pub(super) fn rate_of(&self, stream: &StreamRow) -> u64 {
        self.rates.get(&stream.flow.0).copied().unwrap_or(0)
    }

    /// The streams that the filter lets through, in order.
    pub(super) fn streams(&self) -> Vec<&StreamRow> {
        let rows = self.view.streams.iter();
        let mut rows: Vec<_> = rows.filter(|row| self.has(row.name.as_str())).collect();
        if self.order == Order::Rate {
            rows.sort_by_key(|row| Reverse(self.rate_of(row)));
        }
        rows
    }

    pub(super) fn loss(row: &LinkRow) -> u16 {
        let ways = [row.control.loss_in_ratio, row.control.loss_out_ratio];
        let worst = ways.into_iter().flatten().map(|ratio| ratio.permille);
        worst.max().unwrap_or(0)
    }

    /// The links that the filter lets through, in order; those that are not up first.
    pub(super) fn links(&self) -> Vec<&LinkRow> {
        let shown = |row: &&LinkRow| {
            self.has(&row.control.name) || self.has(&row.control.remote.to_string())
        };
        let mut rows: Vec<_> = self.view.links.iter().filter(shown).collect();
        match self.order {
            Order::Name => rows.sort_by_key(|row| row.control.name.clone()),
            Order::Rate => rows.sort_by_key(|row| Reverse(row.counters.datagrams_out)),
            Order::Loss => rows.sort_by_key(|row| Reverse(Self::loss(row))),
        }
        rows.sort_by_key(|row| row.control.state == LinkState::Up);
        rows
    }

    pub(super) fn shown_events(&self) -> Vec<&(u64, String)> {
        let events = self.events.iter().rev();
        events.filter(|(_, text)| self.has(text)).collect()
    }

    /// The stream whose tree is shown: the one that was chosen, or the first that flows here.
    pub(super) fn tree_of(&self) -> Option<String> {
        let flows = |row: &&StreamRow| row.state != FlowState::Hold;
        let first = || self.view.streams.iter().find(flows);
        let chosen = self.chosen.clone();
        chosen.or_else(|| first().map(|row| row.name.to_string()))
    }

    /// The way of that stream over the nodes that answered, the origin first.
    pub(super) fn tree(&self) -> Vec<Branch> {
        let Some(stream) = self.tree_of() else {
            return Vec::new();
        };
        let mut children: BTreeMap<Option<NodeId>, Vec<&MapRow>> = BTreeMap::new();
        for row in &self.map {
            let flow = row.flows.iter().find(|flow| flow.name.as_str() == stream);
            if let Some(flow) = flow {
                let known = |id: &NodeId| self.map.iter().any(|row| row.id == *id);
                let parent = flow.upstream.filter(known);
                children.entry(parent).or_default().push(row);
            }
        }
        let mut branches = Vec::new();
        let roots = children.get(&None).cloned().unwrap_or_default();
        let mut waiting: Vec<_> = roots.into_iter().rev().map(|row| (0, row)).collect();
        while let Some((depth, row)) = waiting.pop() {
            // What nodes say need not be true: a circle ends.
            if branches.len() == self.map.len() {
                break;
            }
            let flow = row.flows.iter().find(|flow| flow.name.as_str() == stream);
            let upstream = flow.and_then(|flow| flow.upstream);
            let link = row.links.iter().find(|link| Some(link.peer) == upstream);
            branches.push(Branch {
                depth,
                name: row.name.clone(),
                latency: link.and_then(|link| link.rtt_seconds).map(|rtt| rtt.0 / 2),
                loss_permille: link.map_or(0, |link| link.loss_in_ratio.permille),
                repaired: flow.map_or(0, |flow| flow.repaired),
                consumers: flow.map_or(0, |flow| flow.subscriptions),
            });
            let below = children.get(&Some(row.id)).into_iter().flatten();
            waiting.extend(below.rev().map(|row| (depth + 1, *row)));
        }
        branches
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
