//! The networks: who can reach whom, how long that takes, and what gets lost on the way.
//!
//! A datagram goes from stage to stage: the sender's LAN, the WAN links to the receiver's LAN, that LAN. Routers know
//! the way with the fewest WAN links, never learn and never answer; a stage that is down swallows what it is given.
//! Not the bytes and not the hosts: the world keeps both, and asks here only when and whether something arrives.
//! Called by `world`; its parts also by their own tests with plain probes. Invariant: all chance comes from the
//! stage's own rng.
//!
//! ```text
//!   host ── LAN a ── router ══ WAN a-b ══ router ── LAN b ── host
//!            switch: ports,     rate, queue, delay,
//!            snooping, loss     jitter, loss, faults
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use levada_wire::Instant;

use crate::chance::{Chance, Rng};

pub mod lan;
pub mod loss;
pub mod wan;

pub use lan::{Lan, LanSettings, Port};
pub use loss::Loss;
pub use wan::{Toward, Wan, WanSettings};

/// The most stages of a path: two LANs and the WAN links between them.
pub const STAGES_MAX: usize = 16;

/// What a network or a direction of a link has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams, of every kind.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the media packets among them.
    pub media_bytes: u64,
    /// Datagrams that went in and were lost here: by chance, by a full queue, or because the way was down.
    pub lost: u64,
}

impl Traffic {
    fn count(&mut self, load: Load) {
        self.datagrams += 1;
        self.bytes += load.bytes as u64;
        if load.media {
            self.media_bytes += load.bytes as u64;
        }
    }
}

/// What a stage must know of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its size.
    pub bytes: usize,
    /// Whether it is a media packet; only counters care.
    pub media: bool,
}

/// A datagram on its way.
#[derive(Clone, Copy, Debug)]
pub struct Transit {
    /// The sender's address, as the receiver sees it.
    pub from: SocketAddr,
    /// The receiver's address, as the sender wrote it.
    pub to: SocketAddr,
    load: Load,
    source: Attachment,
    target: Attachment,
    passed: usize,
}

/// What a stage did with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is gone.
    Lost,
    /// It comes out of the stage, and a second time if the stage made a copy.
    Onward {
        /// The datagram.
        first: Passage,
        /// Its copy.
        copy: Option<Passage>,
    },
}

/// When a datagram comes out of a stage, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When.
    pub at: Instant,
    /// Whether its bytes were changed on the way, in a manner that UDP's checksum does not see.
    pub corrupt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attachment {
    lan: usize,
    port: Port,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Lan(usize),
    Wan(usize, Toward),
}

/// All networks of a run.
#[derive(Debug)]
pub struct Net {
    lans: Vec<(Lan, Rng)>,
    wans: Vec<(Wan, Rng)>,
    hosts: BTreeMap<IpAddr, Attachment>,
    /// From LAN, to LAN: the stages of the way, if there is one.
    paths: Vec<Vec<Option<Vec<Stage>>>>,
}

impl Net {
    /// Networks without hosts. Each WAN link joins two LANs by their index.
    ///
    /// # Panics
    ///
    /// If a WAN link joins a LAN that is not there.
    #[must_use]
    pub fn new(
        lans: Vec<LanSettings>,
        wans: Vec<([usize; 2], WanSettings)>,
        chance: Chance,
    ) -> Self {
        assert!(
            wans.iter()
                .flat_map(|(ends, _)| ends)
                .all(|end| *end < lans.len()),
            "a link joins LANs that exist"
        );
        let paths = all_paths(lans.len(), &wans);
        let rng = |kind, index: usize| chance.split(kind, index as u64);
        Self {
            lans: lans
                .into_iter()
                .enumerate()
                .map(|(i, s)| (Lan::new(s), rng("lan", i)))
                .collect(),
            wans: wans
                .into_iter()
                .enumerate()
                .map(|(i, (ends, s))| (Wan::new(ends, s), rng("wan", i)))
                .collect(),
            hosts: BTreeMap::new(),
            paths,
        }
    }

    /// Plugs a host into a LAN.
    pub fn attach(&mut self, lan: usize, address: IpAddr) {
        let port = self.lans[lan].0.attach();
        self.hosts.insert(address, Attachment { lan, port });
    }

    /// Sends a datagram on its way; `None` if no way leads there. The first [`Net::step`] is due at once.
    #[must_use]
    pub fn depart(&self, from: SocketAddr, to: SocketAddr, load: Load) -> Option<Transit> {
        let source = *self.hosts.get(&from.ip())?;
        let target = *self.hosts.get(&to.ip())?;
        self.paths[source.lan][target.lan].as_ref()?;
        Some(Transit {
            from,
            to,
            load,
            source,
            target,
            passed: 0,
        })
    }

    /// Whether a datagram has passed all stages and is at its receiver.
    #[must_use]
    pub fn has_arrived(&self, transit: &Transit) -> bool {
        self.path(transit).len() == transit.passed
    }

    /// Takes a datagram through its next stage.
    pub fn step(&mut self, now: Instant, transit: &mut Transit) -> Step {
        let stage = self.path(transit)[transit.passed];
        let (first, last) = (
            transit.passed == 0,
            transit.passed + 1 == self.path(transit).len(),
        );
        transit.passed += 1;
        match stage {
            Stage::Lan(index) => {
                let from = first.then_some(transit.source.port);
                let to = last.then_some(transit.target.port);
                let (lan, rng) = &mut self.lans[index];
                lan.unicast(now, rng, from, to, transit.load)
            }
            Stage::Wan(index, toward) => {
                let (wan, rng) = &mut self.wans[index];
                wan.pass(now, rng, toward, transit.load)
            }
        }
    }

    /// Sends one datagram to a channel on the sender's LAN; a TTL of 1 never leaves it. Says who hears it, and when.
    pub fn multicast(
        &mut self,
        now: Instant,
        from: SocketAddr,
        channel: Ipv4Addr,
        load: Load,
    ) -> Vec<(IpAddr, Instant)> {
        let Some(source) = self.hosts.get(&from.ip()).copied() else {
            return Vec::new();
        };
        let (lan, rng) = &mut self.lans[source.lan];
        let heard = lan.multicast(now, rng, source.port, channel, load);
        let address = |port: Port| {
            let place = Attachment {
                lan: source.lan,
                port,
            };
            self.hosts
                .iter()
                .find(|(_, host)| **host == place)
                .map(|(address, _)| *address)
        };
        heard
            .into_iter()
            .filter_map(|(port, at)| Some((address(port)?, at)))
            .collect()
    }

    /// A host joins a channel on its LAN.
    pub fn join(&mut self, now: Instant, host: IpAddr, channel: Ipv4Addr) {
        if let Some(place) = self.hosts.get(&host).copied() {
            self.lans[place.lan].0.join(now, place.port, channel);
        }
    }

    /// A host leaves a channel on its LAN.
    pub fn leave(&mut self, now: Instant, host: IpAddr, channel: Ipv4Addr) {
        if let Some(place) = self.hosts.get(&host).copied() {
            self.lans[place.lan].0.leave(now, place.port, channel);
        }
    }

    /// A LAN, by its index.
    #[must_use]
    pub fn lan(&self, index: usize) -> &Lan {
        &self.lans[index].0
    }

    /// A LAN, to change it.
    pub fn lan_mut(&mut self, index: usize) -> &mut Lan {
        &mut self.lans[index].0
    }

    /// A WAN link, by its index.
    #[must_use]
    pub fn wan(&self, index: usize) -> &Wan {
        &self.wans[index].0
    }

    /// A WAN link, to change it.
    pub fn wan_mut(&mut self, index: usize) -> &mut Wan {
        &mut self.wans[index].0
    }

    /// Pulls a host's cable, or puts it back.
    pub fn plug(&mut self, host: IpAddr, plugged: bool) {
        if let Some(place) = self.hosts.get(&host).copied() {
            self.lans[place.lan].0.plug(place.port, plugged);
        }
    }

    /// Whether datagrams could get from one host to the other, loss aside.
    #[must_use]
    pub fn is_open(&self, from: IpAddr, to: IpAddr) -> bool {
        let (Some(source), Some(target)) = (self.hosts.get(&from), self.hosts.get(&to)) else {
            return false;
        };
        let plugged = |place: &Attachment| self.lans[place.lan].0.is_plugged(place.port);
        let open = |stage: &Stage| match stage {
            Stage::Lan(_) => true,
            Stage::Wan(index, toward) => self.wans[*index].0.is_up(*toward),
        };
        let path = self.paths[source.lan][target.lan].as_ref();
        plugged(source) && plugged(target) && path.is_some_and(|path| path.iter().all(open))
    }

    fn path(&self, transit: &Transit) -> &[Stage] {
        self.paths[transit.source.lan][transit.target.lan]
            .as_deref()
            .expect("`depart` found the path and paths stay")
    }
}

fn all_paths(lans: usize, wans: &[([usize; 2], WanSettings)]) -> Vec<Vec<Option<Vec<Stage>>>> {
    (0..lans).map(|from| paths_from(from, lans, wans)).collect()
}

/// Breadth first, links in their order: the fewest links, and of equals the ones named first.
fn paths_from(
    from: usize,
    lans: usize,
    wans: &[([usize; 2], WanSettings)],
) -> Vec<Option<Vec<Stage>>> {
    let mut paths: Vec<Option<Vec<Stage>>> = vec![None; lans];
    paths[from] = Some(vec![Stage::Lan(from)]);
    let mut open = VecDeque::from([from]);
    while let Some(here) = open.pop_front() {
        for (index, ([a, b], _)) in wans.iter().enumerate() {
            let (there, toward) = match here {
                _ if here == *a => (*b, Toward::Second),
                _ if here == *b => (*a, Toward::First),
                _ => continue,
            };
            let path = paths[here].clone().expect("only reached LANs are open");
            if paths[there].is_none() && path.len() < STAGES_MAX {
                let mut path = path;
                // Between two LANs of a way lies a router, not a switch: the LAN in the middle is no stage.
                if here != from {
                    path.pop();
                }
                path.extend([Stage::Wan(index, toward), Stage::Lan(there)]);
                paths[there] = Some(path);
                open.push_back(there);
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests;
