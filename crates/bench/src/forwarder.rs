//! Bad paths between real sockets: a thread that takes datagrams, lets [`crate::impair`] decide, and sends them on.
//!
//! ```text
//!   parent ─▶ near socket ─▶ Direction forth ─▶ far socket ─▶ child
//!          ◀─             ◀─ Direction back  ◀─            ◀─
//! ```
//!
//! Each node knows the other by the forwarder's socket, so everything between them is impaired: media, repairs,
//! requests for them, pings. What went in is counted by kind before it can be lost, which no node could fake. Not a
//! node: it opens nothing. Called by `chain.rs`. Invariant: per direction and kind, what was taken is lost or sent on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use levada_ports::sys::{ProbeSettings, ProbeSocket};
use levada_wire::Header;
use levada_wire::packet::Kind;

use crate::impair::{Direction, Fate, Impairment};

/// How the system names the thread.
const THREAD: &str = "bench-forwarder";
/// How long there is nothing to do before looking again: what a delay is longer than was said.
const NAP: Duration = Duration::from_micros(150);
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// What a socket asks for: a whole sync frame at any rate.
const BUFFER_BYTES: usize = 4 << 20;
/// Reads of one socket before the next has its turn.
const READS_PER_TURN: usize = 256;
/// IPv4 and UDP headers, which are on the wire too.
const HEADERS_BYTES: usize = 28;
/// Packets that are told from their repetitions; further ones count as new. A minute at 100 Mb/s has a twentieth.
const NUMBERS_MAX: usize = 1 << 24;

/// Which packets a forwarder sends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    All,
    /// Media towards the child, and nothing else: no request for what is missing gets through, so nothing is repaired.
    /// The first burst is spared: without the tracks that it names a consumer would take nothing at all.
    MediaAlone,
}

/// What a forwarder does on all its paths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) impairment: Impairment,
    pub(crate) passes: Passes,
    pub(crate) seed: u64,
}

/// Datagrams of one kind in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Taken, before any could be lost.
    pub(crate) taken: u64,
    /// Their bytes with IPv4 and UDP headers.
    pub(crate) bytes: u64,
    /// Of those, lost here.
    pub(crate) lost: u64,
}

/// What one path took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Packets for the first time.
    pub(crate) first: Tally,
    /// Packets that were here before.
    pub(crate) again: Tally,
    /// Parity.
    pub(crate) parity: Tally,
    /// All else from the parent: answers, pings.
    pub(crate) forth: Tally,
    /// From the child: requests, pings.
    pub(crate) back: Tally,
    /// Datagrams for which there was no room: the measurement is spoiled.
    pub(crate) overruns: u64,
}

/// The nodes at both ends of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) parent: SocketAddr,
    pub(crate) child: SocketAddr,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Forwarder {
    /// Where each path takes what goes to the child, and what goes to the parent.
    sides: Vec<(SocketAddr, SocketAddr)>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Taken>>>,
}

impl Forwarder {
    /// Starts one with a path between each two nodes.
    pub(crate) fn start(paths: &[Ends], plan: Plan) -> anyhow::Result<Self> {
        let paths = (0_u64..).zip(paths);
        let paths: Vec<_> = paths
            .map(|(place, &ends)| Path::open(ends, plan, place))
            .collect::<io::Result<_>>()
            .context("cannot open the forwarder's sockets on loopback")?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_over);
        let sides = paths.iter().map(|path| {
            let sockets = (&path.near, &path.far);
            (sockets.0.local_addr(), sockets.1.local_addr())
        });
        let sides = sides.collect();
        let thread = std::thread::Builder::new().name(THREAD.to_owned());
        let thread = thread
            .spawn(move || forward(paths, &ended))
            .context("the system gives no thread")?;
        Ok(Self {
            sides,
            is_over,
            thread,
        })
    }

    /// What the parent of that path knows its child by.
    pub(crate) fn towards_child(&self, path: usize) -> SocketAddr {
        self.sides[path].0
    }

    /// What the child of that path knows its parent by.
    pub(crate) fn towards_parent(&self, path: usize) -> SocketAddr {
        self.sides[path].1
    }

    /// Ends it; gives what each path took.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<Taken>> {
        self.is_over.store(true, Ordering::Relaxed);
        let result = self.thread.join();
        let result = result.map_err(|_| anyhow::anyhow!("the forwarder panicked"))?;
        result.context("the forwarder failed")
    }
}

/// One path.
struct Path {
    ends: Ends,
    near: ProbeSocket,
    far: ProbeSocket,
    passes: Passes,
    forth: Direction<Vec<u8>>,
    back: Direction<Vec<u8>>,
    seen: Seen,
    /// The flow's first burst has been here.
    has_begun: bool,
    taken: Taken,
}

impl Path {
    fn open(ends: Ends, plan: Plan, place: u64) -> io::Result<Self> {
        let settings = ProbeSettings {
            receive_buffer: BUFFER_BYTES,
            ..ProbeSettings::default()
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let direction = |which| {
            let seed = plan.seed.wrapping_mul(1_000).wrapping_add(2 * place);
            Direction::new(plan.impairment, seed.wrapping_add(which))
        };
        Ok(Self {
            ends,
            near: ProbeSocket::bind(any, &settings)?,
            far: ProbeSocket::bind(any, &settings)?,
            passes: plan.passes,
            forth: direction(0),
            back: direction(1),
            seen: Seen::default(),
            has_begun: false,
            taken: Taken::default(),
        })
    }

    /// Takes what is there and sends what is due; says whether there was anything.
    fn turn(&mut self, start: Instant, buffer: &mut [u8]) -> io::Result<bool> {
        let mut has_done = false;
        for _ in 0..READS_PER_TURN {
            let Some(bytes) = receive(&self.near, buffer)? else {
                break;
            };
            has_done = true;
            self.take_forth(start.elapsed(), &buffer[..bytes]);
        }
        for _ in 0..READS_PER_TURN {
            let Some(bytes) = receive(&self.far, buffer)? else {
                break;
            };
            has_done = true;
            self.take_back(start.elapsed(), &buffer[..bytes]);
        }
        while let Some(datagram) = self.forth.next_due(start.elapsed()) {
            has_done = true;
            self.far.send(self.ends.child, &datagram, datagram.len())?;
        }
        while let Some(datagram) = self.back.next_due(start.elapsed()) {
            has_done = true;
            let to = self.ends.parent;
            self.near.send(to, &datagram, datagram.len())?;
        }
        Ok(has_done)
    }

    fn take_forth(&mut self, now: Duration, datagram: &[u8]) {
        let kind = Kind::of(datagram);
        let header = Header::peek(datagram);
        let taken = &mut self.taken;
        let tally = match (kind, header) {
            (Kind::Media, Some(header)) if self.seen.is_new(header.number.value()) => {
                &mut taken.first
            }
            (Kind::Media, _) => &mut taken.again,
            (Kind::Parity, _) => &mut taken.parity,
            _ => &mut taken.forth,
        };
        tally.count(datagram);
        let fate = match self.passes {
            Passes::All => self
                .forth
                .take(now, on_the_wire(datagram), datagram.to_vec()),
            Passes::MediaAlone if kind != Kind::Media => Fate::Lost,
            Passes::MediaAlone if self.has_begun => {
                self.forth
                    .take(now, on_the_wire(datagram), datagram.to_vec())
            }
            Passes::MediaAlone => self.forth.spare(now, datagram.to_vec()),
        };
        self.has_begun |= header.is_some_and(|header| header.last);
        tally.lost += u64::from(fate == Fate::Lost);
        taken.overruns += u64::from(fate == Fate::Overrun);
    }

    fn take_back(&mut self, now: Duration, datagram: &[u8]) {
        self.taken.back.count(datagram);
        let fate = match self.passes {
            Passes::All => self
                .back
                .take(now, on_the_wire(datagram), datagram.to_vec()),
            Passes::MediaAlone => Fate::Lost,
        };
        self.taken.back.lost += u64::from(fate == Fate::Lost);
        self.taken.overruns += u64::from(fate == Fate::Overrun);
    }

    fn next_at(&self) -> Option<Duration> {
        let both = self.forth.next_at().into_iter().chain(self.back.next_at());
        both.min()
    }
}

impl Tally {
    fn count(&mut self, datagram: &[u8]) {
        self.taken += 1;
        self.bytes += on_the_wire(datagram) as u64;
    }
}

/// The bytes of a datagram with its headers.
const fn on_the_wire(datagram: &[u8]) -> usize {
    datagram.len() + HEADERS_BYTES
}

/// Which numbers of the one flow have been here.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn is_new(&mut self, number: u64) -> bool {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if number >= NUMBERS_MAX {
            return true;
        }
        let (word, bit) = (number / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word];
        self.0[word] |= bit;
        was & bit == 0
    }
}

fn forward(mut paths: Vec<Path>, is_over: &AtomicBool) -> io::Result<Vec<Taken>> {
    let start = Instant::now();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !is_over.load(Ordering::Relaxed) {
        let mut has_done = false;
        for path in &mut paths {
            has_done |= path.turn(start, &mut buffer)?;
        }
        if !has_done {
            let next = paths.iter().filter_map(Path::next_at).min();
            let left = next.map(|next| next.saturating_sub(start.elapsed()));
            std::thread::park_timeout(left.unwrap_or(NAP).min(NAP));
        }
    }
    Ok(paths.into_iter().map(|path| path.taken).collect())
}

/// The length of the next datagram, if there is one.
fn receive(socket: &ProbeSocket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match socket.receive(buffer) {
        Ok(arrival) => Ok(Some(arrival.bytes.min(buffer.len()))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Camera, Feed};

    /// Longer than any machine takes to hand a datagram to itself.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn node() -> anyhow::Result<ProbeSocket> {
        let settings = ProbeSettings {
            patience: Some(PATIENCE),
            ..ProbeSettings::default()
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(ProbeSocket::bind(any, &settings)?)
    }

    fn between(parent: &ProbeSocket, child: &ProbeSocket, plan: Plan) -> anyhow::Result<Forwarder> {
        let ends = Ends {
            parent: parent.local_addr(),
            child: child.local_addr(),
        };
        Forwarder::start(&[ends], plan)
    }

    /// The first packet of a flow, and something that is none.
    fn packet() -> Vec<u8> {
        let due = Feed::new(1, Camera::usual(levada_wire::Bitrate(1_000_000))).next();
        due.run.bytes[..due.run.segment_bytes].to_vec()
    }

    const OTHER: [u8; 40] = [6; 40];

    #[test]
    fn both_directions_are_delayed_and_counted_by_kind() -> anyhow::Result<()> {
        let (parent, child) = (node()?, node()?);
        let delay = Duration::from_millis(20);
        let plan = Plan {
            impairment: Impairment {
                delay,
                ..Impairment::default()
            },
            passes: Passes::All,
            seed: 1,
        };
        let forwarder = between(&parent, &child, plan)?;
        let (packet, mut buffer, began) = (packet(), [0; 2_048], Instant::now());

        for datagram in [&packet[..], &packet, &OTHER] {
            parent.send(forwarder.towards_child(0), datagram, datagram.len())?;
            child.receive(&mut buffer)?;
            assert_eq!(buffer[..datagram.len()], *datagram);
        }
        child.send(forwarder.towards_parent(0), &OTHER, OTHER.len())?;
        parent.receive(&mut buffer)?;

        assert!(began.elapsed() >= 4 * delay);
        let taken = forwarder.finish()?[0];
        let counts = [taken.first, taken.again, taken.forth, taken.back];
        assert_eq!(counts.map(|tally| (tally.taken, tally.lost)), [(1, 0); 4]);
        assert_eq!(taken.back.bytes, 68);
        Ok(())
    }

    #[test]
    fn without_repair_media_alone_passes() -> anyhow::Result<()> {
        let (parent, child) = (node()?, node()?);
        let plan = Plan {
            impairment: Impairment::default(),
            passes: Passes::MediaAlone,
            seed: 1,
        };
        let forwarder = between(&parent, &child, plan)?;
        let (packet, mut buffer) = (packet(), [0; 2_048]);

        child.send(forwarder.towards_parent(0), &OTHER, OTHER.len())?;
        parent.send(forwarder.towards_child(0), &OTHER, OTHER.len())?;
        parent.send(forwarder.towards_child(0), &packet, packet.len())?;
        let arrival = child.receive(&mut buffer)?;

        assert_eq!(buffer[..arrival.bytes], packet);
        let taken = forwarder.finish()?[0];
        assert_eq!((taken.forth.lost, taken.first.lost), (1, 0));
        Ok(())
    }

    #[test]
    fn a_number_is_new_once_and_beyond_the_limit_always() {
        let mut seen = Seen::default();
        let far = NUMBERS_MAX as u64;

        let new = [0, 200, 0, 200, far, far].map(|number| seen.is_new(number));

        assert_eq!(new, [true, true, false, false, true, true]);
        assert!(seen.0.len() * 64 < 400);
    }
}
