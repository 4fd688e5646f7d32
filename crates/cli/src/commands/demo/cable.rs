//! A cable between two nodes of this machine: carries their datagrams late, loses some, or none get through.
//!
//! ```text
//!   node that dials ⇄ near socket ═ Direction, each way ═ far socket ⇄ node that is dialled
//! ```
//!
//! In user space, so that it needs no rights; neither node knows of it. Not what the network is (`plan`). Called by
//! `network`. Invariant: datagrams of one direction leave in the order in which they came, and at most
//! [`WAITING_MAX`] of them wait.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use levada_media::clock::Clock;
use levada_wire::Instant;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::plan::Line;

/// Datagrams under way in one direction; one more is lost.
const WAITING_MAX: usize = 8_192;
/// The largest datagram that UDP has.
const DATAGRAM_MAX: usize = 65_536;
/// Datagrams that are taken or sent before the other does something.
const AT_ONCE: usize = 64;

/// A cable that lies. It is taken away when this is dropped.
#[derive(Debug)]
pub(super) struct Cable {
    near: SocketAddr,
    line: Arc<Mutex<Line>>,
    _ways: JoinSet<()>,
}

impl Cable {
    /// Lays one to a node's address. `seed` says which datagrams are lost.
    pub(super) async fn lay(to: SocketAddr, line: Line, seed: u64) -> io::Result<Self> {
        let any_port = (Ipv4Addr::LOCALHOST, 0);
        let near = Arc::new(UdpSocket::bind(any_port).await?);
        let far = Arc::new(UdpSocket::bind(any_port).await?);
        far.connect(to).await?;
        let address = near.local_addr()?;
        let line = Arc::new(Mutex::new(line));
        // Who dials is known once it does.
        let dials = Arc::new(Mutex::new(None));
        let way = |seed| Way {
            direction: Direction::new(seed),
            line: Arc::clone(&line),
            dials: Arc::clone(&dials),
            clock: Clock::start(),
        };
        let mut ways = JoinSet::new();
        ways.spawn(way(seed).carry(End::Near(Arc::clone(&near)), End::Far(Arc::clone(&far))));
        ways.spawn(way(!seed).carry(End::Far(far), End::Near(near)));
        Ok(Self {
            near: address,
            line,
            _ways: ways,
        })
    }

    /// What to dial instead of the node.
    pub(super) const fn near(&self) -> SocketAddr {
        self.near
    }

    /// Makes it another one. What is under way stays so.
    pub(super) fn become_line(&self, line: Line) {
        *lock(&self.line) = line;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One end of a cable.
enum End {
    /// Towards the node that dials.
    Near(Arc<UdpSocket>),
    /// Towards the node that is dialled.
    Far(Arc<UdpSocket>),
}

/// One direction, with what it needs to run.
struct Way {
    direction: Direction,
    line: Arc<Mutex<Line>>,
    dials: Arc<Mutex<Option<SocketAddr>>>,
    clock: Clock,
}

impl Way {
    async fn carry(mut self, from: End, to: End) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let due = self.direction.due();
            tokio::select! {
                ready = from.socket().readable() => {
                    if ready.is_err() {
                        return;
                    }
                    self.take(&from, &mut buffer);
                }
                () = self.clock.wait_if(due) => {}
            }
            let now = self.clock.now();
            for _ in 0..AT_ONCE {
                let Some(datagram) = self.direction.pop(now) else {
                    break;
                };
                let dials = *lock(&self.dials);
                // What a full or closed socket does not take is lost, as on any cable.
                let _ = match (&to, dials) {
                    (End::Far(socket), _) => socket.send(&datagram).await,
                    (End::Near(socket), Some(dials)) => socket.send_to(&datagram, dials).await,
                    (End::Near(_), None) => Ok(0),
                };
            }
        }
    }

    fn take(&mut self, from: &End, buffer: &mut [u8]) {
        let line = *lock(&self.line);
        for _ in 0..AT_ONCE {
            match from.socket().try_recv_from(buffer) {
                Ok((length, sender)) => {
                    if matches!(from, End::Near(_)) {
                        *lock(&self.dials) = Some(sender);
                    }
                    let datagram = Bytes::copy_from_slice(&buffer[..length]);
                    self.direction.push(datagram, line, self.clock.now());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The node there does not run at the moment (ICMP port unreachable).
                Err(_) => {}
            }
        }
    }
}

impl End {
    fn socket(&self) -> &UdpSocket {
        match self {
            Self::Near(socket) | Self::Far(socket) => socket,
        }
    }
}

/// Datagrams under way in one direction.
#[derive(Debug)]
struct Direction {
    waiting: VecDeque<(Instant, Bytes)>,
    chance: u64,
}

impl Direction {
    const fn new(seed: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            chance: seed,
        }
    }

    fn push(&mut self, datagram: Bytes, line: Line, now: Instant) {
        let is_lost = self.draw() < u64::from(line.loss_permille);
        if line.is_cut || is_lost || self.waiting.len() == WAITING_MAX {
            return;
        }
        let last = self.waiting.back().map_or(now, |(at, _)| *at);
        self.waiting
            .push_back((last.max(now + line.delay), datagram));
    }

    fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|(at, _)| *at)
    }

    fn pop(&mut self, now: Instant) -> Option<Bytes> {
        let (_, datagram) = self.waiting.pop_front_if(|(at, _)| *at <= now)?;
        Some(datagram)
    }

    /// A number below 1,000 (SplitMix64).
    const fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 1_000
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::Duration;

    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn line(millis: u64, loss_permille: u32) -> Line {
        Line {
            delay: Duration::from_millis(millis),
            loss_permille,
            is_cut: false,
        }
    }

    #[test]
    fn a_datagram_leaves_when_its_delay_is_over_and_none_overtakes() {
        let mut way = Direction::new(7);
        let at = |millis| NOW + Duration::from_millis(millis);

        way.push(Bytes::from_static(b"first"), line(20, 0), NOW);
        way.push(Bytes::from_static(b"second"), line(1, 0), at(1));

        assert_eq!(way.pop(at(19)), None);
        assert_eq!(way.due(), Some(at(20)));
        assert_eq!(way.pop(at(20)).unwrap(), "first");
        assert_eq!(way.pop(at(20)).unwrap(), "second");
        assert_eq!((way.pop(at(99)), way.due()), (None, None));
    }

    #[test]
    fn as_many_are_lost_as_it_says_and_all_where_it_is_cut() {
        let mut way = Direction::new(7);
        let cut = Line {
            is_cut: true,
            ..Line::default()
        };

        for _ in 0..1_000 {
            way.push(Bytes::new(), line(0, 100), NOW);
            way.push(Bytes::new(), cut, NOW);
        }

        let arrived = std::iter::from_fn(|| way.pop(NOW)).count();
        assert!((870..930).contains(&arrived), "{arrived}");
    }

    #[test]
    fn one_datagram_too_many_is_lost() {
        let mut way = Direction::new(7);

        for _ in 0..=WAITING_MAX {
            way.push(Bytes::new(), line(5, 0), NOW);
        }

        assert_eq!(way.waiting.len(), WAITING_MAX);
    }

    #[tokio::test]
    async fn both_ways_lead_through_it() {
        let local = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (dials, dialled) = (local().await.unwrap(), local().await.unwrap());
        let cable = Cable::lay(dialled.local_addr().unwrap(), line(1, 0), 7);
        let cable = cable.await.unwrap();
        let mut buffer = [0; 16];

        dials.send_to(b"there", cable.near()).await.unwrap();
        let (length, from) = dialled.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"there");
        dialled.send_to(b"back", from).await.unwrap();
        let (length, from) = dials.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"back"[..], cable.near()));
    }
}
