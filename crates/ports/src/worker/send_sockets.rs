//! The sockets that a lane sends by: one per interface, so that a slow one keeps nobody else waiting.
//!
//! ```text
//!                 ┌─ send_socket 0: the lane's own socket     QUIC, and what finds no other
//!  sends ─▶ ways ─┼─ send_socket 1: a socket to send by       an interface
//!                 └─ ...                                 each with a queue of its own (`send.rs`)
//! ```
//!
//! The kernel counts what waits for any interface against the buffer of the socket it was sent by: on one socket an
//! interface of 500 kb/s stops all others once its packets fill that buffer. Interfaces are told apart by the address
//! that the host would send from (`sys/route.rs`), asked once per destination and again when its send_socket is
//! blocked: routes change. The node's QUIC leaves by the lane's own socket, so that one is left to it: control must
//! not wait behind a slow interface's media. Where there can be no further sockets everything goes by it. A multicast
//! channel is spoken to by a socket of its interface. Not the order of what waits: `send.rs`. Called by the worker's
//! turn. Invariant: at most [`SEND_SOCKETS_MAX`] sockets are open, and the ways of [`WAYS_MAX`] links are known.
//!
//! A way is looked up for each send, so it has its place by the number of its link; whoever has the same place is asked
//! for again, which with fewer links than places is nobody. What nothing waits for leaves at once, without a queue.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use levada_wire::{Instant, LinkIndex};
use mio::{Interest, Registry, Token};

use super::send::{SendCounters, SendQueue};
use crate::sys::{Socket, multicast, source_towards};
use levada_lane::api::{Egress, Interface, Late, Transmit};

/// The most sockets that one lane sends by; further interfaces share its own.
pub const SEND_SOCKETS_MAX: usize = 8;
/// The most links whose way is known; of more some share a place, and are asked for each time.
pub const WAYS_MAX: usize = 4_096;
/// A socket that was full is tried again after this, if nothing was heard of it sooner: 125 KB at 1 Gb/s.
const RETRY_AFTER: Duration = Duration::from_millis(1);
/// How often a blocked send_socket's destinations may be asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One socket and what waits for it.
#[derive(Debug)]
struct SendSocket {
    socket: Arc<Socket>,
    /// The host's address on its interface; `None` until something is sent.
    source: Option<IpAddr>,
    queue: SendQueue,
    /// The interface by which it speaks to channels.
    speaks_by: Option<Interface>,
    /// It was full, and nothing was heard of it since.
    is_blocked: bool,
    /// When it is tried again all the same: the poller is not asked while there is much to receive, and says nothing of
    /// an interface that is full.
    retry_at: Instant,
    /// How the poller knows it, if it is not the lane's own, and whether it is waited for.
    readiness: Option<(mio::net::UdpSocket, bool)>,
}

impl SendSocket {
    fn new(socket: Arc<Socket>, readiness: Option<mio::net::UdpSocket>) -> Self {
        Self {
            socket,
            source: None,
            speaks_by: None,
            queue: SendQueue::default(),
            is_blocked: false,
            retry_at: Instant::ZERO,
            readiness: readiness.map(|readiness| (readiness, false)),
        }
    }

    /// Sends a run that nothing waits before.
    fn send(&mut self, now: Instant, run: Transmit) {
        let socket = &self.socket;
        let send_part = |datagrams: &mut _| socket.send_part(datagrams);
        if !self.queue.send_at_once(now, run, send_part) {
            self.is_blocked = true;
            self.retry_at = now + RETRY_AFTER;
        }
    }

    fn flush(&mut self, now: Instant) {
        if !self.is_blocked || now >= self.retry_at && !self.queue.is_empty() {
            let socket = &self.socket;
            self.queue
                .flush(now, |datagrams| socket.send_part(datagrams));
            self.is_blocked = !self.queue.is_empty();
            self.retry_at = now + RETRY_AFTER;
        }
    }
}

/// How a destination is reached.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// The destination, and the source that was named.
    towards: (SocketAddr, Option<IpAddr>),
    /// Its place among the sockets.
    at: usize,
    /// The address to send from, where the system would choose another.
    source: Option<IpAddr>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct SendSockets {
    /// The lane's own socket first.
    all: Vec<SendSocket>,
    /// By the numbers of links, modulo [`WAYS_MAX`].
    ways: Vec<Option<Way>>,
    asked_again: Instant,
}

impl SendSockets {
    pub(super) fn new(own: Arc<Socket>, now: Instant) -> Self {
        Self {
            all: vec![SendSocket::new(own, None)],
            ways: Vec::new(),
            asked_again: now,
        }
    }

    /// Takes a run, to be sent by the next [`SendSockets::flush`]; says how many bytes wait with it.
    pub(super) fn push(&mut self, now: Instant, mut run: Transmit) -> usize {
        let way = match &run.egress {
            Egress::Channel(channel) => self.way_by(channel.interface),
            &Egress::Link(link) => {
                let way = self.way(now, link, (run.datagrams.to, run.datagrams.source));
                run.datagrams.source = way.source;
                Some(way.at)
            }
        };
        let Some(at) = way else {
            self.all[0].queue.refuse(&run);
            return 0;
        };
        let send_socket = &mut self.all[at];
        if !send_socket.is_blocked && send_socket.queue.is_empty() {
            send_socket.send(now, run);
            return 0;
        }
        send_socket.queue.push(now, run);
        send_socket.queue.bytes()
    }

    /// Counts runs as dropped that no lane has room for.
    pub(super) fn drop_runs(&mut self, runs: &mut Vec<Transmit>) {
        self.all[0].queue.drop_runs(runs);
    }

    /// Sends what can be sent.
    pub(super) fn flush(&mut self, now: Instant) {
        for send_socket in &mut self.all {
            send_socket.flush(now);
        }
    }

    /// Says over which links datagrams did not go because of their size, each with the least such size.
    pub(super) fn take_too_large(&mut self, mut say: impl FnMut(LinkIndex, usize)) {
        for send_socket in &mut self.all {
            for (link, bytes) in send_socket.queue.take_too_large() {
                say(link, bytes);
            }
        }
    }

    /// Says what was not sent since it waited too long.
    pub(super) fn take_late(&mut self, into: &mut Vec<Late>) {
        for send_socket in &mut self.all {
            into.extend(send_socket.queue.take_late());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all
            .iter()
            .all(|send_socket| send_socket.queue.is_empty())
    }

    /// When a socket that is full is tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let blocked = self.all.iter().filter(|one| one.is_blocked);
        blocked.map(|one| one.retry_at).min()
    }

    /// Whether the lane's own socket is full.
    pub(super) fn is_own_blocked(&self) -> bool {
        self.all[0].is_blocked
    }

    /// The lane's own socket has room again.
    pub(super) fn own_is_writable(&mut self) {
        self.all[0].is_blocked = false;
    }

    /// Has the poller tell when sockets that are full have room. The lane's own one is the worker's business.
    pub(super) fn arm(&mut self, registry: &Registry, first: Token) {
        for (at, send_socket) in self.all.iter_mut().enumerate() {
            let Some((readiness, is_armed)) = &mut send_socket.readiness else {
                continue;
            };
            let result = match (send_socket.is_blocked, *is_armed) {
                (true, false) => {
                    registry.register(readiness, Token(first.0 + at), Interest::WRITABLE)
                }
                (false, true) => registry.deregister(readiness),
                _ => continue,
            };
            if result.is_ok() {
                *is_armed = send_socket.is_blocked;
            }
        }
    }

    /// One of the sockets that the poller was asked about has room again.
    pub(super) fn is_writable(&mut self, token: Token, first: Token) {
        if let Some(send_socket) = self.all.get_mut(token.0.wrapping_sub(first.0)) {
            send_socket.is_blocked = false;
        }
    }

    pub(super) fn counters(&self) -> SendCounters {
        let mut sum = SendCounters::default();
        for send_socket in &self.all {
            sum += &send_socket.queue.counters;
            sum.gso_failed += send_socket.socket.refusing_runs() as u64;
        }
        sum
    }

    /// The way to a link's destination, from that address of this host if one is named.
    #[inline]
    fn way(&mut self, now: Instant, link: LinkIndex, towards: (SocketAddr, Option<IpAddr>)) -> Way {
        let place = link.0 as usize % WAYS_MAX;
        let known = self.ways.get(place).copied().flatten();
        match known.filter(|way| way.towards == towards) {
            Some(way) if !self.all[way.at].is_blocked => way,
            Some(way) if now.since(self.asked_again) < ASK_AGAIN_AFTER => way,
            known => {
                if known.is_some() {
                    self.asked_again = now;
                    self.ways.clear();
                }
                self.find_way(place, towards)
            }
        }
    }

    #[cold]
    fn find_way(&mut self, place: usize, towards: (SocketAddr, Option<IpAddr>)) -> Way {
        let (to, wanted) = towards;
        let chosen = source_towards(to);
        let at = wanted.or(chosen).map_or(0, |source| self.towards(source));
        // The system is told only what it would not do by itself.
        let source = wanted.filter(|_| wanted != chosen);
        let way = Way {
            towards,
            at,
            source,
        };
        if self.ways.len() <= place {
            self.ways.resize(place + 1, None);
        }
        self.ways[place] = Some(way);
        way
    }

    /// The send_socket that speaks to channels by an interface; `None` if there can be none.
    fn way_by(&mut self, interface: Interface) -> Option<usize> {
        let known = |one: &SendSocket| one.speaks_by == Some(interface);
        if let Some(at) = self.all.iter().position(known) {
            return Some(at);
        }
        // A socket has one interface for all channels, so each interface has a socket; where there can be only one, it
        // speaks by one interface.
        let at = match self.open() {
            Some(at) => at,
            None if self.all[0].speaks_by.is_none() => 0,
            None => return None,
        };
        if multicast::speak_by(&self.all[at].socket, &interface).is_err() {
            if at > 0 {
                self.all.pop(); // it was opened for this alone
            }
            return None;
        }
        self.all[at].speaks_by = Some(interface);
        Some(at)
    }

    /// The send_socket of an interface, opened now if there is none and can be one.
    fn towards(&mut self, source: IpAddr) -> usize {
        let known = self.all.iter().position(|one| one.source == Some(source));
        if let Some(at) = known {
            return at;
        }
        let Some(at) = self.open() else {
            return 0;
        };
        self.all[at].source = Some(source);
        at
    }

    fn open(&mut self) -> Option<usize> {
        if self.all.len() >= SEND_SOCKETS_MAX {
            return None;
        }
        let socket = self.all[0].socket.open_to_send().ok()?;
        let readiness = mio::net::UdpSocket::from_std(socket.try_clone_io().ok()?);
        self.all
            .push(SendSocket::new(Arc::new(socket), Some(readiness)));
        Some(self.all.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::sys::{ProbeSettings, ProbeSocket, SocketSet, SocketSettings};
    use crate::testkit;

    const NOW: Instant = Instant::ZERO;

    fn send_sockets(steering: bool) -> SendSockets {
        let settings = SocketSettings {
            steering,
            ..SocketSettings::default()
        };
        let set = SocketSet::bind("[::]:0".parse().unwrap(), &settings, 1).unwrap();
        let own = set.into_sockets().remove(0);
        SendSockets::new(Arc::new(own), NOW)
    }

    fn receiver(address: &str) -> ProbeSocket {
        ProbeSocket::bind(address.parse().unwrap(), &ProbeSettings::default()).unwrap()
    }

    fn run(to: &ProbeSocket) -> Transmit {
        testkit::sent_over(LinkIndex(1), to.local_addr(), vec![6; 50], 50)
    }

    fn received(socket: &ProbeSocket) -> usize {
        let mut buffer = [0; 100];
        std::iter::from_fn(|| socket.receive(&mut buffer).ok()).count()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_that_takes_nothing_keeps_no_other_waiting() {
        let mut send_sockets = send_sockets(true);
        let (slow, fast) = (receiver("127.0.0.1:0"), receiver("[::1]:0"));
        send_sockets.push(NOW, run(&slow));
        send_sockets.push(NOW, run(&fast));
        assert_eq!(
            send_sockets.all.len(),
            3,
            "the two are reached from two addresses, and the lane's own socket is for control"
        );
        send_sockets.flush(NOW);
        assert_eq!((received(&fast), received(&slow)), (1, 1));
        send_sockets.all[1].is_blocked = true;

        for _ in 0..9 {
            send_sockets.push(NOW, run(&fast));
            send_sockets.push(NOW, run(&slow));
        }
        send_sockets.flush(NOW);

        assert_eq!((received(&fast), received(&slow)), (9, 0));
        assert_eq!(
            (
                send_sockets.counters().sent,
                send_sockets.counters().waiting
            ),
            (11, 9)
        );
        assert!(!send_sockets.is_own_blocked());
        send_sockets.is_writable(Token(3), Token(2));
        send_sockets.flush(NOW);
        assert_eq!(received(&slow), 9);
        assert!(send_sockets.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_link_has_its_own_source_and_a_socket_with_others_of_that() {
        let mut send_sockets = send_sockets(true);
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let to = peer.local_addr().unwrap();
        let second: IpAddr = [127, 0, 0, 2].into();
        let from = |source| {
            let mut run = testkit::sent_over(LinkIndex(1), to, vec![6; 50], 50);
            run.datagrams.source = source;
            run
        };

        for source in [
            None,
            Some([127, 0, 0, 1].into()),
            Some(second),
            Some(second),
        ] {
            send_sockets.push(NOW, from(source));
        }
        let waiting = |at: usize| send_sockets.all[at].queue.counters.given;
        assert_eq!((send_sockets.all.len(), waiting(1), waiting(2)), (3, 2, 2));
        send_sockets.flush(NOW);

        let mut buffer = [0; 100];
        let came = std::iter::from_fn(|| peer.recv_from(&mut buffer).ok());
        let mut sources: Vec<IpAddr> = came.map(|(_, from)| from.ip()).collect();
        sources.sort_unstable();
        let first: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(sources, [first, first, second, second]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_that_was_full_is_tried_again_though_the_poller_says_nothing() {
        let mut send_sockets = send_sockets(true);
        let slow = receiver("127.0.0.1:0");
        send_sockets.push(NOW, run(&slow));
        assert_eq!(received(&slow), 1, "what nothing waits for leaves at once");
        send_sockets.all[1].is_blocked = true;
        send_sockets.all[1].retry_at = NOW + RETRY_AFTER;
        send_sockets.push(NOW, run(&slow));
        assert_eq!(send_sockets.retry_at(), Some(NOW + RETRY_AFTER));

        send_sockets.flush(NOW);
        assert_eq!(received(&slow), 0);
        send_sockets.flush(NOW + RETRY_AFTER);

        assert_eq!(received(&slow), 1);
        assert_eq!(send_sockets.retry_at(), None);
    }

    #[test]
    fn where_the_port_is_not_shared_all_goes_by_the_lanes_own_socket() {
        let mut send_sockets = send_sockets(false);
        let (one, other) = (receiver("127.0.0.1:0"), receiver("[::1]:0"));

        send_sockets.push(NOW, run(&one));
        send_sockets.push(NOW, run(&other));
        send_sockets.flush(NOW);

        assert_eq!(send_sockets.all.len(), 1);
        assert_eq!((received(&one), received(&other)), (1, 1));
    }

    #[test]
    fn an_interface_that_cannot_be_spoken_by_leaves_no_socket_behind() {
        let mut send_sockets = send_sockets(true);
        let missing = Interface {
            index: 9_999_999,
            address: Some([192, 0, 2, 77].into()),
        };

        for _ in 0..3 {
            assert_eq!(send_sockets.way_by(missing), None);
        }

        assert_eq!(send_sockets.all.len(), 1);
        assert_eq!(send_sockets.towards([10, 0, 0, 1].into()), 1);
    }

    #[test]
    fn more_interfaces_than_the_limit_share_the_lanes_own_socket() {
        let mut send_sockets = send_sockets(true);

        let ways: Vec<usize> = (1..12_u8)
            .map(|last| send_sockets.towards([10, 0, 0, last].into()))
            .collect();

        let own = SEND_SOCKETS_MAX - 1;
        assert!(send_sockets.all.len() <= SEND_SOCKETS_MAX);
        assert!(ways[..own].iter().all(|&way| way > 0), "{ways:?}");
        assert!(ways[own..].iter().all(|&way| way == 0), "{ways:?}");
    }

    #[test]
    fn ways_share_places_at_the_limit_and_are_forgotten_when_a_blocked_one_is_old() {
        let mut send_sockets = send_sockets(true);
        let to = |port: u16| (([127, 0, 0, 1], port).into(), None);
        let known = |send_sockets: &SendSockets| send_sockets.ways.iter().flatten().count();
        let most = u32::try_from(WAYS_MAX).unwrap();
        for link in 0..most + 10 {
            let way = send_sockets.way(NOW, LinkIndex(link), to(5_000));
            assert_eq!(way.at, 1);
        }
        assert_eq!(known(&send_sockets), WAYS_MAX);

        // A link whose peer has moved, and one that shares its place.
        for (link, port) in [(3, 6_000), (3, 6_001), (most + 3, 6_002)] {
            let way = send_sockets.way(NOW, LinkIndex(link), to(port));
            assert_eq!(way.towards, to(port));
        }
        assert_eq!(known(&send_sockets), WAYS_MAX);

        send_sockets.all[1].is_blocked = true;
        send_sockets.way(NOW, LinkIndex(4), to(5_000));
        assert_eq!(known(&send_sockets), WAYS_MAX, "not so soon");
        send_sockets.way(NOW + ASK_AGAIN_AFTER, LinkIndex(4), to(5_000));
        assert_eq!(known(&send_sockets), 1);
    }
}
