//! From a scenario as written to a checked one: defaults filled in, names replaced by indices.
//!
//! Not the form of the file, which is `raw`. Called by `scenario` only. Invariant: every complaint names the item, what
//! is wrong with it, and what there is instead.

use std::time::Duration;

use levada_core::Paths;
use levada_wire::{PacketSize, RepairBudget};

use super::value::{Share, Span, Time};
use super::{
    Bounds, FaultKind, FaultPlan, ITEMS_MAX, Network, NodePlan, Scenario, StreamPlan,
    SubscriptionPlan, TrackPlan, WanLink, raw,
};
use crate::chance::Probability;
use crate::media;
use crate::net::{LanSettings, Loss, Toward, WanSettings};

type Checked<T> = Result<T, String>;

pub(super) fn build(path: &str, file: raw::File) -> Checked<Scenario> {
    let networks: Vec<Network> = file.network.into_iter().map(network).collect();
    unique(
        "network",
        networks.iter().map(|network| network.name.as_str()),
    )?;
    let names = Names {
        networks: networks
            .iter()
            .map(|network| network.name.clone())
            .collect(),
        nodes: file.node.iter().map(|node| node.name.clone()).collect(),
    };
    unique("node", names.nodes.iter().map(String::as_str))?;
    let wans = file
        .wan
        .into_iter()
        .map(|wan| wan_link(&names, wan))
        .collect::<Checked<Vec<_>>>()?;
    let nodes = file
        .node
        .into_iter()
        .map(|raw| node(&names, raw))
        .collect::<Checked<_>>()?;
    let streams = file
        .stream
        .into_iter()
        .map(|raw| stream(&names, raw))
        .collect::<Checked<Vec<_>>>()?;
    let mut subscriptions = Vec::new();
    for raw in file.subscription {
        subscriptions.extend(subscription(&names, &streams, raw)?);
    }
    let faults = file
        .fault
        .into_iter()
        .map(|raw| fault(&names, &wans, &raw))
        .collect::<Checked<Vec<_>>>()?;
    let scenario = Scenario {
        path: path.to_owned(),
        about: file.about,
        duration: file.duration.0,
        bounds: bounds(&file.bounds),
        networks,
        wans,
        nodes,
        streams,
        subscriptions,
        faults,
    };
    within_limits(&scenario)?;
    Ok(scenario)
}

/// The names of what others refer to.
struct Names {
    networks: Vec<String>,
    nodes: Vec<String>,
}

impl Names {
    fn network(&self, of: &str, name: &str) -> Checked<usize> {
        place("network", &self.networks, of, name)
    }

    fn node(&self, of: &str, name: &str) -> Checked<usize> {
        place("node", &self.nodes, of, name)
    }
}

fn place(kind: &str, names: &[String], of: &str, name: &str) -> Checked<usize> {
    names.iter().position(|known| known == name).ok_or_else(|| {
        format!(
            "{of}: there is no {kind} `{name}`, only {}",
            names.join(", ")
        )
    })
}

fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Checked<()> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two {kind}s are named `{}`", pair[0])),
        None => Ok(()),
    }
}

fn within_limits(scenario: &Scenario) -> Checked<()> {
    let counts = [
        ("networks", scenario.networks.len()),
        ("wan links", scenario.wans.len()),
        ("nodes", scenario.nodes.len()),
        ("streams", scenario.streams.len()),
        ("subscriptions", scenario.subscriptions.len()),
        ("faults", scenario.faults.len()),
    ];
    if let Some((what, count)) = counts.iter().find(|(_, count)| *count > ITEMS_MAX) {
        return Err(format!("{count} {what}; the limit is {ITEMS_MAX}"));
    }
    Ok(())
}

fn bounds(raw: &raw::Bounds) -> Bounds {
    let or = |time: Option<Time>, seconds| {
        time.map_or_else(|| Duration::from_secs(seconds), |time| time.0)
    };
    Bounds {
        loops: or(raw.loops, 2),
        frames: or(raw.frames, 6),
        answers: or(raw.answers, 3),
        quiet: or(raw.quiet, 6),
        unwanted: or(raw.unwanted, 8),
        continuity: raw.continuity.map(|time| time.0),
        steady: raw.steady.map(|time| time.0),
        late: raw.late.map(|time| time.0),
    }
}

fn network(raw: raw::Network) -> Network {
    let wired = LanSettings::wired();
    let settings = LanSettings {
        delay: raw.delay.map_or(wired.delay, |time| time.0),
        loss: raw.loss.map_or(wired.loss, |share| Loss::Even(share.0)),
        querier: raw.querier.unwrap_or(wired.querier),
        floods_unknown: raw.floods_unknown.unwrap_or(wired.floods_unknown),
    };
    Network {
        name: raw.name,
        settings,
        is_site: raw.site,
    }
}

fn loss(of: &str, even: Option<Share>, bursts: Option<&raw::Bursts>) -> Checked<Option<Loss>> {
    match (even, bursts) {
        (Some(_), Some(_)) => Err(format!("{of}: give `loss` or `bursts`, not both")),
        (Some(share), None) => Ok(Some(Loss::Even(share.0))),
        (None, Some(raw)) => Ok(Some(Loss::Bursts {
            begin: raw.begin.0,
            end: raw.end.0,
            inside: raw.inside.0,
        })),
        (None, None) => Ok(None),
    }
}

fn wan_link(names: &Names, raw: raw::Wan) -> Checked<WanLink> {
    let of = format!("wan between {} and {}", raw.between[0], raw.between[1]);
    let ends = [
        names.network(&of, &raw.between[0])?,
        names.network(&of, &raw.between[1])?,
    ];
    if ends[0] == ends[1] {
        return Err(format!("{of}: a link joins two networks"));
    }
    let plain = WanSettings::with_delay(raw.delay.0);
    let share = |share: Option<Share>| share.map_or(Probability::NEVER, |share| share.0);
    let settings = WanSettings {
        jitter: raw.jitter.map_or(plain.jitter, |time| time.0),
        reorder: share(raw.reorder),
        reorder_by: raw.reorder_by.map_or(plain.reorder_by, |time| time.0),
        loss: loss(&of, raw.loss, raw.bursts.as_ref())?.unwrap_or(plain.loss),
        duplicate: share(raw.duplicate),
        corrupt: share(raw.corrupt),
        rate: raw.rate.map(|rate| rate.0),
        queue: raw.queue.map_or(plain.queue, |time| time.0),
        packet_size_max: raw.packet_size_max.unwrap_or(plain.packet_size_max),
        ..plain
    };
    Ok(WanLink { ends, settings })
}

fn node(names: &Names, raw: raw::Node) -> Checked<NodePlan> {
    let of = format!("node `{}`", raw.name);
    let neighbours = raw
        .neighbours
        .iter()
        .map(|name| names.node(&of, name))
        .collect::<Checked<Vec<_>>>()?;
    if raw.neighbours.contains(&raw.name) {
        return Err(format!("{of}: it cannot be its own neighbour"));
    }
    let soon = Span {
        least: Duration::ZERO,
        most: Duration::from_millis(200),
    };
    Ok(NodePlan {
        network: names.network(&of, &raw.network)?,
        relay: raw.relay,
        uplink: raw.uplink.map(|rate| rate.0),
        neighbours,
        start: raw.start.unwrap_or(soon),
        name: raw.name,
    })
}

fn stream(names: &Names, raw: raw::Stream) -> Checked<StreamPlan> {
    let of = format!("stream `{}`", raw.name);
    let mut tracks = vec![TrackPlan {
        frames_per_second: raw.video.frames_per_second,
        bytes: raw.video.bytes,
        sync_every: raw.video.sync_every,
        sync_bytes: raw.video.sync_bytes,
    }];
    tracks.extend(raw.audio.map(|audio| TrackPlan {
        frames_per_second: audio.frames_per_second,
        bytes: audio.bytes,
        sync_every: 1,
        sync_bytes: audio.bytes,
    }));
    for track in &tracks {
        let sizes = media::FRAME_BYTES;
        if !(1..=1_000).contains(&track.frames_per_second) || track.sync_every == 0 {
            return Err(format!(
                "{of}: 1 to 1000 frames_per_second, and sync_every of 1 or more"
            ));
        }
        if !sizes.contains(&track.bytes) || !sizes.contains(&track.sync_bytes) {
            return Err(format!(
                "{of}: frames have {} to {} bytes",
                sizes.start(),
                sizes.end()
            ));
        }
    }
    let size = raw
        .packet_bytes
        .map_or(Some(PacketSize::DEFAULT), PacketSize::new);
    Ok(StreamPlan {
        name: raw.name.parse().map_err(|error| format!("{of}: {error}"))?,
        origin: names.node(&of, &raw.origin)?,
        from: raw.from.unwrap_or_default(),
        until: raw.until,
        packet_size: size.ok_or_else(|| format!("{of}: packet_bytes is 576 to 1440"))?,
        flush: raw.flush.map_or(Duration::from_millis(10), |time| time.0),
        peak: raw.peak.map(|rate| rate.0),
        tracks,
    })
}

fn subscription(
    names: &Names,
    streams: &[StreamPlan],
    raw: raw::Subscribers,
) -> Checked<Vec<SubscriptionPlan>> {
    let of = format!("subscription to `{}`", raw.stream);
    let Some(stream) = streams
        .iter()
        .find(|stream| stream.name.as_str() == raw.stream)
    else {
        let known: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        return Err(format!(
            "{of}: there is no such stream, only {}",
            known.join(", ")
        ));
    };
    let plan = |name: &String| {
        Ok(SubscriptionPlan {
            stream: stream.name.clone(),
            node: names.node(&of, name)?,
            from: raw.from.unwrap_or_default(),
            until: raw.until,
            budget: raw
                .budget
                .map_or(RepairBudget::DEFAULT, |time| RepairBudget::new(time.0)),
            paths: match raw.paths {
                None | Some(1) => Paths::One,
                Some(2) => Paths::Two,
                Some(other) => return Err(format!("{of}: `paths` is {other}: write 1 or 2")),
            },
        })
    };
    raw.nodes.iter().map(plan).collect()
}

fn fault(names: &Names, wans: &[WanLink], raw: &raw::Fault) -> Checked<FaultPlan> {
    let (at, lasts, chance) = raw.times();
    let chance = chance.map_or(Probability::ALWAYS, |share| share.0);
    Ok(FaultPlan {
        kind: fault_kind(names, wans, raw)?,
        at,
        lasts,
        chance,
    })
}

fn fault_kind(names: &Names, wans: &[WanLink], raw: &raw::Fault) -> Checked<FaultKind> {
    use raw::Fault as F;
    let node = |name: &str| names.node("fault", name);
    Ok(match raw {
        F::Crash { node: name, .. } => FaultKind::Crash { node: node(name)? },
        F::Leave { node: name, .. } => FaultKind::Leave { node: node(name)? },
        F::Pause { node: name, .. } => FaultKind::Pause { node: node(name)? },
        F::Unplug { node: name, .. } => FaultKind::Unplug { node: node(name)? },
        F::ClockJump { node: name, by, .. } => FaultKind::ClockJump {
            node: node(name)?,
            leap: by.0,
        },
        F::Stranger {
            node: name, every, ..
        } => FaultKind::Stranger {
            node: node(name)?,
            every: every.0.max(Duration::from_micros(1)),
        },
        F::Hostile {
            node: name,
            does,
            every,
            ..
        } => FaultKind::Hostile {
            node: node(name)?,
            acts: does.clone(),
            every: every.0.max(Duration::from_micros(1)),
        },
        F::Partition {
            network, direction, ..
        } => {
            let network = names.network("fault", network)?;
            let links = wans
                .iter()
                .enumerate()
                .filter(|(_, link)| link.ends.contains(&network));
            let ways = links.flat_map(|(index, link)| ways_of(index, link, network, *direction));
            FaultKind::Down {
                ways: ways.collect(),
            }
        }
        F::LinkDown {
            between, direction, ..
        } => {
            let (index, first) = link_between(names, wans, between)?;
            FaultKind::Down {
                ways: ways_of(index, &wans[index], first, *direction),
            }
        }
        F::Loss {
            between,
            loss: even,
            bursts,
            ..
        } => {
            let (wan, _) = link_between(names, wans, between)?;
            let loss = loss("fault", *even, bursts.as_ref())?;
            FaultKind::Loss {
                wan,
                loss: loss.ok_or("fault: a loss needs `loss` or `bursts`")?,
            }
        }
    })
}

/// The link between two networks, and the place of the first of them.
fn link_between(names: &Names, wans: &[WanLink], between: &[String; 2]) -> Checked<(usize, usize)> {
    let [a, b] = [
        names.network("fault", &between[0])?,
        names.network("fault", &between[1])?,
    ];
    let index = wans
        .iter()
        .position(|link| link.ends == [a, b] || link.ends == [b, a]);
    let index = index
        .ok_or_else(|| format!("fault: no wan link joins {} and {}", between[0], between[1]))?;
    Ok((index, a))
}

/// The directions of a link that lead out of a network, into it, or both.
fn ways_of(
    index: usize,
    link: &WanLink,
    network: usize,
    direction: Option<raw::Direction>,
) -> Vec<(usize, Toward)> {
    let (out, into) = if link.ends[0] == network {
        (Toward::Second, Toward::First)
    } else {
        (Toward::First, Toward::Second)
    };
    let ways = match direction.unwrap_or_default() {
        raw::Direction::Both => vec![out, into],
        raw::Direction::Out => vec![out],
        raw::Direction::In => vec![into],
    };
    ways.into_iter().map(|toward| (index, toward)).collect()
}
