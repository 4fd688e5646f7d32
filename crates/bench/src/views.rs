//! How long a core's task is held by whoever looks at a node: each slice of rows, and for comparison all rows at once.
//!
//! A hub, in memory: origins that are cores too, and links whose far ends only ask for flows. No time passes. Not the
//! way of the rows to whoever asked, which is another task's. Called by `levada bench views`. Invariant: the slices are
//! those of a node, of [`ROWS_AT_ONCE`] rows.

use std::sync::Arc;
use std::time::{Duration, Instant as Wall};

use anyhow::{Context as _, ensure};
use levada_core::limits::{LINKS_MAX, ROWS_AT_ONCE, STREAMS_PER_ORIGIN_MAX};
use levada_core::view::{FlowRow, LinkRow, RouteRow, StreamRow};
use levada_core::{Control, FlowInput, Input, LinkInput, Message, Offer, Output, Settings};
use levada_wire::announce::{LayerOffer, TrackOffer};
use levada_wire::control::FlowMessage;
use levada_wire::control::flow::Request;
use levada_wire::control::link::{Hello, LinkMessage};
use levada_wire::key::Suite;
use levada_wire::{
    Bitrate, FlowId, Identity, Instant, Layer, LinkIndex, Machine as _, NetworkId, PacketSize,
    RepairBudget, TrackKind, WallTime,
};
use serde::Serialize;

use crate::stats::Spread;

/// A node whose rows are taken.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its links, those to the origins among them.
    pub links: usize,
    /// The flows that it carries.
    pub flows: usize,
    /// The links that each flow goes out over.
    pub egresses: usize,
    /// How often all rows are taken.
    pub rounds: usize,
}

/// What one table takes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub table: &'static str,
    pub links: usize,
    pub flows: usize,
    pub egresses: usize,
    pub rows: usize,
    pub slices: usize,
    /// The slice that takes longest in the median of all rounds: on a busy machine others take the processor meanwhile.
    pub longest_slice_us: Spread,
    /// All slices of each round together.
    pub all_slices_us: Spread,
    /// All rows at once.
    pub at_once_us: Spread,
}

/// A core under way, and what is around it.
struct Hub {
    core: Control,
    /// By their links.
    origins: Vec<Control>,
}

/// No time passes.
const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// Measures the tables of a node.
///
/// # Errors
///
/// When there cannot be such a node.
pub fn measure(case: &Case) -> anyhow::Result<Vec<Report>> {
    let origins = case.flows.div_ceil(STREAMS_PER_ORIGIN_MAX);
    ensure!(
        case.links <= LINKS_MAX && case.links >= origins + case.egresses,
        "a node has at most {LINKS_MAX} links; {origins} of them lead to the origins of {} flows, and {} carry each on",
        case.flows,
        case.egresses
    );
    let hub = Hub::new(case, origins)?;
    let core = &hub.core;
    let key = |row: &LinkRow| row.link.unwrap_or(LinkIndex(u32::MAX));
    let links = take(case, "links", key, |after| core.link_rows(after));
    let key = |row: &FlowRow| row.flow;
    let flows = take(case, "flows", key, |after| core.flow_rows(after));
    let key = |row: &StreamRow| (row.name.clone(), row.origin);
    let streams = take(case, "streams", key, |after| core.stream_rows(after));
    let key = |row: &RouteRow| row.origin;
    let routes = take(case, "routes", key, |after| core.route_rows(after));
    [links, flows, streams, routes].into_iter().collect()
}

/// Takes all rows of a table as often as the case says, in slices and at once.
fn take<T, K, R: Iterator<Item = T>>(
    case: &Case,
    table: &'static str,
    key: impl Fn(&T) -> K,
    rows: impl Fn(Option<K>) -> R,
) -> anyhow::Result<Report> {
    let (mut slices, mut all, mut at_once) = (Vec::<Vec<Duration>>::new(), Vec::new(), Vec::new());
    let mut count = 0;
    for _ in 0..case.rounds {
        let mut took = Vec::new();
        let mut after = None;
        count = 0;
        loop {
            let begin = Wall::now();
            let slice: Vec<T> = rows(after).take(ROWS_AT_ONCE).collect();
            took.push(begin.elapsed());
            count += slice.len();
            after = slice.last().map(&key);
            if slice.len() < ROWS_AT_ONCE {
                break;
            }
        }
        all.push(took.iter().sum());
        slices.resize_with(took.len(), Vec::new);
        slices
            .iter_mut()
            .zip(took)
            .for_each(|(slice, took)| slice.push(took));
    }
    // Apart, since what frees thousands of rows makes whoever allocates next pay for it.
    for _ in 0..case.rounds {
        let begin = Wall::now();
        let whole: Vec<T> = rows(None).collect();
        at_once.push(begin.elapsed());
        ensure!(whole.len() == count, "slices of {table} lack rows");
    }
    let spread = |times: Vec<Duration>| {
        let micros = times.into_iter().map(|time| time.as_secs_f64() * 1e6);
        Spread::of(micros).context("there was no round")
    };
    let slices: Vec<Spread> = slices.into_iter().map(spread).collect::<Result<_, _>>()?;
    let longest = slices
        .iter()
        .max_by(|one, other| one.median.total_cmp(&other.median));
    Ok(Report {
        table,
        links: case.links,
        flows: case.flows,
        egresses: case.egresses,
        rows: count,
        slices: slices.len(),
        longest_slice_us: *longest.context("there was no slice")?,
        all_slices_us: spread(all)?,
        at_once_us: spread(at_once)?,
    })
}

impl Hub {
    fn new(case: &Case, origins: usize) -> anyhow::Result<Self> {
        let mut hub = Self {
            core: Control::new(settings(0)),
            origins: (1..=origins).map(|at| Control::new(settings(at))).collect(),
        };
        for at in 0..origins {
            let (core, origin) = (hub.core.id(), hub.origins[at].id());
            hub.input(connected(index(at), origin));
            hub.origins[at].handle_input(NOW, connected(index(0), core));
        }
        hub.settle();
        for number in 0..case.flows {
            let publish = FlowInput::Publish(offer(number));
            hub.origins[number % origins].handle_input(NOW, publish.into());
        }
        hub.settle();
        for link in (origins..case.links).map(index) {
            hub.join(link);
        }
        let flows: Vec<FlowId> = hub.core.stream_rows(None).map(|row| row.flow).collect();
        let children = case.links - origins;
        for (at, flow) in flows.iter().enumerate() {
            for child in at..at + case.egresses {
                hub.request(index(origins + child % children), *flow);
            }
        }
        let carried = hub.core.flow_rows(None);
        let is_fed = |row: &FlowRow| row.egresses.len() == case.egresses;
        let fed = carried.filter(is_fed).count();
        ensure!(fed == case.flows, "{fed} of {} flows are fed", case.flows);
        Ok(hub)
    }

    /// A neighbour that wants flows, and does nothing else.
    fn join(&mut self, link: LinkIndex) {
        let peer = settings(usize::MAX - link.0 as usize).identity.id();
        self.input(connected(link, peer));
        let hello = Hello {
            network: NetworkId::OPEN,
            boot: 1,
            index: link,
            name: format!("child-{}", link.0),
            relay: false,
        };
        self.hear(link, Message::Link(LinkMessage::Hello(hello)));
        self.settle();
    }

    fn request(&mut self, link: LinkIndex, flow: FlowId) {
        let request = Request {
            flow,
            needs_key: false,
            have: None,
            budget: RepairBudget::DEFAULT,
        };
        self.hear(link, Message::Flow(FlowMessage::Request(request)));
        self.settle();
    }

    fn hear(&mut self, link: LinkIndex, message: Message) {
        self.input(LinkInput::Message { link, message }.into());
    }

    fn input(&mut self, input: Input) {
        self.core.handle_input(NOW, input);
    }

    /// Brings what the cores say to each other, until they have said all. What is said to others goes nowhere.
    fn settle(&mut self) {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            while let Some(output) = self.core.poll_output() {
                match output {
                    Output::Mark { link, concern } => self.input(Input::Written { link, concern }),
                    Output::Send { link, message } => {
                        if let Some(origin) = self.origins.get_mut(link.0 as usize) {
                            let link = index(0);
                            let message = LinkInput::Message { link, message };
                            origin.handle_input(NOW, message.into());
                            is_quiet = false;
                        }
                    }
                    _ => {}
                }
            }
            for at in 0..self.origins.len() {
                while let Some(output) = self.origins[at].poll_output() {
                    match output {
                        Output::Mark { link, concern } => {
                            let written = Input::Written { link, concern };
                            self.origins[at].handle_input(NOW, written);
                        }
                        Output::Send { message, .. } => {
                            self.hear(index(at), message);
                            is_quiet = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn settings(number: usize) -> Settings {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&number.to_le_bytes());
    Settings {
        identity: Identity::from_secret(&secret),
        network: NetworkId::OPEN,
        name: format!("node-{number}"),
        relay: true,
        accept: true,
        uplink: None,
        seed: secret,
    }
}

fn index(number: usize) -> LinkIndex {
    LinkIndex(u32::try_from(number).expect("a link's number is small"))
}

fn connected(link: LinkIndex, peer: levada_wire::NodeId) -> Input {
    let remote = ([127, 0, 0, 1], 7_800).into();
    let dial = None;
    LinkInput::Connected {
        link,
        peer,
        remote,
        dial,
    }
    .into()
}

fn offer(number: usize) -> Offer {
    let track = |kind, codec: &str| TrackOffer {
        kind,
        codec: codec.to_owned(),
    };
    Offer {
        name: format!("hall/cam-{number}").parse().expect("a sound name"),
        wall: WallTime(1_700_000_000_000_000),
        packet_size: PacketSize::DEFAULT,
        suite: Suite::Aes128Gcm,
        layers: vec![LayerOffer {
            layer: Layer(0),
            peak: Bitrate(4_000_000),
            tracks: vec![
                track(TrackKind::Video, "h264"),
                track(TrackKind::Audio, "aac"),
            ],
        }],
        description: Arc::default(),
        flush_interval: Duration::ZERO,
        is_measured: false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn each_table_of_a_small_hub_is_taken_whole() {
        let case = Case {
            links: 8,
            flows: 2 * ROWS_AT_ONCE + 3,
            egresses: 4,
            rounds: 2,
        };

        let reports = measure(&case).unwrap();

        let taken: Vec<_> = reports
            .iter()
            .map(|one| (one.table, one.rows, one.slices))
            .collect();
        assert_eq!(
            taken,
            [
                ("links", 8, 1),
                ("flows", case.flows, 3),
                ("streams", case.flows, 3),
                ("routes", 1, 1)
            ]
        );
    }
}
