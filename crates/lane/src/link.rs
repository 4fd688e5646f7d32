//! What a lane knows of its links: where each peer is, how datagrams to and from it are sealed, and both counts.
//!
//! A media packet names no link, so the link it came over is found by its source address; a link datagram names
//! its link and is proven by its seal. Loss of a link is the difference of two counts that never guess: what one
//! side has sent (all but QUIC) and what the other side has proven. Not liveness and not a verdict: `core::link`
//! reads the counts and decides. Called by `forward` and `lane`. Invariant: a link datagram that does not open,
//! or that was here before, changes nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use levada_wire::LinkIndex;
use levada_wire::datagram::link::{Counter, LinkDatagram, LinkHeader, LinkSeal, Ping};
use levada_wire::key::LinkKey;
use levada_wire::lane::Path;

use crate::api::{Datagrams, Egress, FlowCounters};
use crate::flow::run::Run;
use crate::ledger::{DropReason, Ledger};
use crate::limits::PEER_LANES_MAX;
use crate::outbox::Outbox;
use crate::repair::trip::RoundTrip;

pub(crate) mod loss;
pub(crate) mod overflow;
pub(crate) mod totals;

use loss::{Follower, Loss};
use overflow::{Overflow, Share};
use totals::Counts;

/// Room for any link datagram but a padded ping: header, seal, and a list of numbers with its bitmap.
const USUAL_BYTES: usize = 96;

/// The address that links are sent from: one interface. `None` for what is not known.
pub(crate) type SourceAddress = Option<IpAddr>;

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    /// This node's number for it.
    pub(crate) index: LinkIndex,
    /// Where the peer is.
    pub(crate) remote: SocketAddr,
    /// Which interface it is sent by.
    pub(crate) source: SourceAddress,
    /// What lies between this host and the peer.
    pub(crate) path: Path,
    /// Datagrams sent and received.
    pub(crate) counts: Counts,
    remote_index: LinkIndex,
    seal: LinkSeal,
    opener: LinkSeal,
    /// How long a question over this link takes to be answered, as far as this lane asked.
    trip: RoundTrip,
    /// How much of what is sent over it gets lost, as this lane read in pongs.
    loss: Follower,
    /// Its share of what this node's own receive buffer lost.
    share: Share,
    /// Link datagrams sealed so far by this lane.
    sealed: u64,
    replays: BTreeMap<u8, Replay>,
}

impl Link {
    pub(crate) fn new(
        index: LinkIndex,
        remote: SocketAddr,
        remote_index: LinkIndex,
        send: &LinkKey,
        receive: &LinkKey,
    ) -> Self {
        Self {
            index,
            remote: canonical(remote),
            source: None,
            path: Path::Unknown,
            counts: Counts::alone(),
            remote_index,
            seal: LinkSeal::new(send),
            opener: LinkSeal::new(receive),
            trip: RoundTrip::default(),
            loss: Follower::default(),
            share: Share::default(),
            sealed: 0,
            replays: BTreeMap::new(),
        }
    }

    /// The same link, sent by that interface over that path.
    pub(crate) fn sent_from(self, source: SourceAddress, path: Path) -> Self {
        Self {
            source,
            path,
            ..self
        }
    }

    /// The same link, counted together with the other lanes, when so much was lost here already.
    pub(crate) fn counted(self, counts: Counts, overflow: Overflow) -> Self {
        let share = Share::from(overflow, counts.received.own());
        Self {
            counts,
            share,
            ..self
        }
    }

    /// A packet that was proven came over it.
    #[inline]
    pub(crate) fn received(&mut self, overflow: &mut Overflow) {
        self.counts.received += 1;
        overflow.arrived += 1;
        if self.share.is_due(overflow) {
            self.share_loss(overflow);
        }
    }

    /// Counts as received what found this node's own buffer full: the network brought it.
    #[cold]
    fn share_loss(&mut self, overflow: &Overflow) {
        let received = self.counts.received.own();
        self.counts.received += self.share.take(overflow, received);
    }

    /// What came over it to this lane.
    pub(crate) const fn datagrams_in(&self) -> u64 {
        self.counts.received.own() - self.share.given
    }

    /// A question over this link was answered after `trip`: all lanes may know.
    pub(crate) fn answered_after(&mut self, trip: Duration) {
        self.trip.sample(trip);
        self.counts.show_trip(self.trip);
    }

    /// How long a question over this link takes to be answered: only the lane that pings finds out by itself.
    pub(crate) fn trip(&self) -> RoundTrip {
        self.trip.or(self.counts.trip())
    }

    /// A pong says that of so many datagrams so many had come: all lanes may know what gets lost.
    pub(crate) fn delivered(&mut self, sent: u64, arrived: u64) {
        if let Some(loss) = self.loss.sample(sent, arrived) {
            self.counts.show_loss(loss);
        }
    }

    /// What gets lost of what is sent over this link; nothing while nobody knows.
    pub(crate) fn loss(&self) -> Loss {
        self.counts.loss().unwrap_or_default()
    }

    /// How long its path is and what it loses, as far as is known.
    pub(crate) fn known(&self) -> (RoundTrip, Option<Loss>) {
        (self.trip(), self.counts.loss())
    }

    /// Seals a message, counts it as sent, and fills in the count of a ping. A padded ping is not counted: it finds out
    /// what the path is too narrow for, and that is not loss.
    pub(crate) fn seal(&mut self, lane: u8, mut message: LinkDatagram) -> Bytes {
        if let LinkDatagram::Ping(Ping { sent, .. }) = &mut message {
            *sent = self.counts.sent.total();
        }
        self.sealed += 1;
        self.counts.sent += u64::from(counts(&message));
        let header = LinkHeader {
            index: self.remote_index,
            counter: Counter::new(lane, self.sealed),
        };
        let mut out = Vec::with_capacity(USUAL_BYTES);
        self.seal.seal(header, &message, &mut out);
        out.into()
    }

    /// Sends packets of a flow.
    #[inline]
    pub(crate) fn send(
        &mut self,
        run: &Run,
        outbox: &mut Outbox,
        ledger: &mut Ledger,
        counters: &mut FlowCounters,
    ) {
        let packets = run.packets() as u64;
        self.counts.sent += packets;
        let way = (Egress::Link(self.index), self.remote, self.source);
        outbox.send((run, packets), way, ledger, counters);
    }

    /// Sends parity: datagrams of that size end to end.
    pub(crate) fn send_parity(&mut self, bytes: Bytes, datagram_bytes: usize, outbox: &mut Outbox) {
        self.counts.sent += (bytes.len() / datagram_bytes) as u64;
        self.send_other(bytes, datagram_bytes, outbox);
    }

    fn send_other(&self, bytes: Bytes, segment_bytes: usize, outbox: &mut Outbox) {
        let datagrams = Datagrams {
            source: self.source,
            to: self.remote,
            bytes,
            segment_bytes,
        };
        outbox.send_other(self.index, datagrams);
    }

    /// Seals a message and leaves it to be sent.
    pub(crate) fn say(&mut self, message: LinkDatagram, outbox: &mut Outbox) {
        let datagram = self.seal(outbox.lane, message);
        let bytes = datagram.len();
        self.send_other(datagram, bytes, outbox);
    }

    /// Opens a datagram; gives its message and how many datagrams had been brought before it.
    pub(crate) fn open(
        &mut self,
        header: LinkHeader,
        datagram: &[u8],
        overflow: &mut Overflow,
    ) -> Result<(LinkDatagram, u64), DropReason> {
        let (lane, count) = (header.counter.lane(), header.counter.count());
        let replay = self.replays.get(&lane).copied().unwrap_or_default();
        if usize::from(lane) >= PEER_LANES_MAX || !replay.is_new(count) {
            return Err(DropReason::Replayed);
        }
        let message = self.opener.open(datagram).ok_or(DropReason::BadSeal)?;
        self.replays.insert(lane, replay.with(count));
        if matches!(message, LinkDatagram::Ping(_)) {
            self.share_loss(overflow); // what it is a share of is from this ping to the next, or shorter
        }
        let before = self.counts.received.total();
        if counts(&message) {
            self.received(overflow);
        }
        Ok((message, before))
    }
}

/// Whether a link datagram counts for the loss of its link.
// spec: WIRE 8.2 padded pings are not counted
const fn counts(message: &LinkDatagram) -> bool {
    !matches!(message, LinkDatagram::Ping(Ping { padding: 1.., .. }))
}

/// The last 64 counts of one lane of the peer (RFC 4303 section 3.4.3).
#[derive(Clone, Copy, Debug, Default)]
struct Replay {
    highest: u64,
    /// Bit `i` stands for `highest - i`.
    seen: u64,
}

impl Replay {
    const fn is_new(self, count: u64) -> bool {
        if count > self.highest {
            return true;
        }
        let behind = self.highest - count;
        behind < 64 && self.seen >> behind & 1 == 0
    }

    const fn with(self, count: u64) -> Self {
        if count > self.highest {
            let ahead = count - self.highest;
            let seen = if ahead < 64 { self.seen << ahead } else { 0 };
            return Self {
                highest: count,
                seen: seen | 1,
            };
        }
        Self {
            highest: self.highest,
            seen: self.seen | 1 << (self.highest - count),
        }
    }
}

/// One address for one peer, however a socket writes it: IPv4 as IPv4, and without IPv6 flow labels.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => {
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
        v4 => v4,
    }
}

/// All links of a lane.
#[derive(Debug, Default)]
pub(crate) struct Table {
    links: BTreeMap<LinkIndex, Link>,
    /// Two links may for a moment have one address: both ends dialled.
    addresses: BTreeSet<(SocketAddr, LinkIndex)>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn get(&self, link: LinkIndex) -> Option<&Link> {
        self.links.get(&link)
    }

    pub(crate) fn get_mut(&mut self, link: LinkIndex) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    /// How long a question over a link takes to be answered.
    pub(crate) fn trip(&self, link: LinkIndex) -> RoundTrip {
        self.get(link).map(Link::trip).unwrap_or_default()
    }

    /// The same, and what gets lost of what is sent over it, if that is known.
    pub(crate) fn known(&self, link: LinkIndex) -> (RoundTrip, Option<Loss>) {
        self.get(link).map(Link::known).unwrap_or_default()
    }

    pub(crate) fn contains(&self, link: LinkIndex) -> bool {
        self.links.contains_key(&link)
    }

    pub(crate) fn insert(&mut self, link: Link) {
        self.addresses.insert((link.remote, link.index));
        self.links.insert(link.index, link);
    }

    /// Follows a peer to another address. Its seals and counts go on, since no counter may be used twice.
    pub(crate) fn move_to(
        &mut self,
        index: LinkIndex,
        remote: SocketAddr,
        (source, path): (SourceAddress, Path),
    ) {
        let remote = canonical(remote);
        if let Some(link) = self.links.get_mut(&index) {
            self.addresses.remove(&(link.remote, index));
            (link.remote, link.source, link.path) = (remote, source, path);
            self.addresses.insert((remote, index));
        }
    }

    pub(crate) fn remove(&mut self, index: LinkIndex) -> bool {
        let Some(link) = self.links.remove(&index) else {
            return false;
        };
        self.addresses.remove(&(link.remote, index))
    }

    /// The links to that address.
    pub(crate) fn at(&self, remote: SocketAddr) -> impl Iterator<Item = LinkIndex> + '_ {
        self.addresses
            .range((remote, LinkIndex(0))..=(remote, LinkIndex(u32::MAX)))
            .map(|&(_, index)| index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::PacketSize;
    use levada_wire::datagram::link::Pong;

    use super::*;

    fn pair() -> (Link, Link) {
        let (a, b) = (LinkKey::from_bytes([1; 32]), LinkKey::from_bytes([2; 32]));
        let remote = "127.0.0.1:9".parse().unwrap();
        (
            Link::new(LinkIndex(1), remote, LinkIndex(7), &a, &b),
            Link::new(LinkIndex(2), remote, LinkIndex(8), &b, &a),
        )
    }

    fn pong(time: u64) -> LinkDatagram {
        LinkDatagram::Pong(Pong {
            time,
            sent: 0,
            received: 0,
            size: 0,
        })
    }

    fn ping(time: u64) -> LinkDatagram {
        LinkDatagram::Ping(Ping {
            time,
            sent: 0,
            padding: 0,
        })
    }

    fn open(link: &mut Link, datagram: &[u8]) -> Result<(LinkDatagram, u64), DropReason> {
        let header = LinkHeader::peek(datagram).unwrap();
        link.open(header, datagram, &mut Overflow::default())
    }

    #[test]
    fn a_ping_says_what_was_sent_before_it() {
        let (mut a, mut b) = pair();
        a.counts.sent += 41;
        a.seal(0, pong(1));

        let ping = a.seal(0, ping(5));

        let sent = Ping {
            time: 5,
            sent: 42,
            padding: 0,
        };
        assert_eq!(open(&mut b, &ping), Ok((LinkDatagram::Ping(sent), 0)));
        assert_eq!((a.counts.sent.own(), b.counts.received.own()), (43, 1));
    }

    // spec: WIRE 8.2 padded pings are not counted
    #[test]
    fn a_padded_ping_is_counted_at_neither_end() {
        let (mut a, mut b) = pair();
        let padded = Ping::padded(5, 0, PacketSize::MAX);
        let sealed = a.seal(0, LinkDatagram::Ping(padded));

        let opened = open(&mut b, &sealed);

        assert_eq!(sealed.len(), PacketSize::MAX.bytes());
        assert_eq!(opened, Ok((LinkDatagram::Ping(padded), 0)));
        assert_eq!((a.counts.sent.own(), b.counts.received.own()), (0, 0));
    }

    #[test]
    fn what_found_the_own_buffer_full_counts_as_received_and_not_as_come() {
        let (mut a, mut b) = pair();
        let mut overflow = Overflow::default();
        let sealed: Vec<Bytes> = (0..3).map(|time| a.seal(0, ping(time))).collect();
        let mut open = |place: usize, overflow: &mut Overflow| {
            let header = LinkHeader::peek(&sealed[place]).unwrap();
            b.open(header, &sealed[place], overflow).unwrap().1
        };

        assert_eq!(open(0, &mut overflow), 0);
        overflow.lost += 1; // the second ping

        assert_eq!(open(2, &mut overflow), 2);
        assert_eq!((b.datagrams_in(), b.counts.received.own()), (2, 3));
    }

    // spec: WIRE 8.2 a message of an unknown type counts as received
    #[test]
    fn a_datagram_of_a_later_version_is_no_loss_of_the_link() {
        let (mut a, mut b) = pair();
        let sealed = a.seal(0, LinkDatagram::Unknown(200));

        let opened = open(&mut b, &sealed);

        assert_eq!(opened, Ok((LinkDatagram::Unknown(200), 0)));
        assert_eq!((a.counts.sent.own(), b.counts.received.own()), (1, 1));
    }

    #[test]
    fn every_lane_knows_the_round_trip_that_one_of_them_measured() {
        let totals = totals::Totals::new(2);
        let (mut pings, repairs) = pair();
        pings = pings.counted(totals.counts(LinkIndex(1), 0), Overflow::default());
        let repairs = repairs.counted(totals.counts(LinkIndex(1), 1), Overflow::default());

        pings.answered_after(Duration::from_millis(40));

        assert_eq!(repairs.trip().time(), Duration::from_millis(40));
    }

    #[test]
    fn a_replayed_or_changed_datagram_changes_nothing() {
        let (mut a, mut b) = pair();
        let first = a.seal(0, pong(1));
        let mut changed = a.seal(0, pong(2)).to_vec();
        *changed.last_mut().unwrap() ^= 1;
        open(&mut b, &first).unwrap();

        assert_eq!(open(&mut b, &first), Err(DropReason::Replayed));
        assert_eq!(open(&mut b, &changed), Err(DropReason::BadSeal));
        assert_eq!(b.counts.received.own(), 1);
    }

    #[test]
    fn datagrams_of_one_lane_may_come_in_any_order_and_once_each() {
        let (mut a, mut b) = pair();
        let all: Vec<Bytes> = (0..64).map(|time| a.seal(3, pong(time))).collect();

        assert!(
            all.iter()
                .rev()
                .all(|datagram| open(&mut b, datagram).is_ok())
        );
        assert!(all.iter().all(|datagram| open(&mut b, datagram).is_err()));
        assert_eq!(b.counts.received.own(), 64);
    }

    #[test]
    fn each_lane_of_the_peer_counts_by_itself_up_to_the_limit() {
        let (mut a, mut b) = pair();
        for _ in 0..100 {
            a.seal(0, pong(0));
        }
        let far = a.seal(0, pong(1));
        a.sealed = 0;
        let most = u8::try_from(PEER_LANES_MAX).unwrap();
        let other = a.seal(most - 1, pong(2));
        let beyond = a.seal(most, pong(3));

        assert!(open(&mut b, &far).is_ok());
        assert!(open(&mut b, &other).is_ok());
        assert_eq!(open(&mut b, &beyond), Err(DropReason::Replayed));
    }

    #[test]
    fn one_peer_has_one_address() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:5".parse().unwrap();
        let labelled = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 77, 3);

        assert_eq!(canonical(mapped), "10.0.0.1:5".parse().unwrap());
        let SocketAddr::V6(plain) = canonical(labelled.into()) else {
            panic!("an IPv6 address stays one");
        };
        assert_eq!((plain.flowinfo(), plain.scope_id()), (0, 3));
    }

    #[test]
    fn a_link_that_moved_is_found_at_its_new_address_only() {
        let (link, other) = pair();
        let (here, there) = (link.remote, "[::1]:3".parse().unwrap());
        let mut table = Table::default();
        table.insert(link);
        table.insert(other);

        table.move_to(LinkIndex(1), there, (None, Path::Wire));

        assert_eq!(table.at(here).collect::<Vec<_>>(), [LinkIndex(2)]);
        assert_eq!(table.at(there).collect::<Vec<_>>(), [LinkIndex(1)]);
        assert!(table.remove(LinkIndex(1)));
        assert_eq!(table.at(there).count(), 0);
    }
}
