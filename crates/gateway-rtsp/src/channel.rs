//! Multicast channels: a stream to all who hear its address, sent once by a node to a LAN.
//!
//! Address and ports follow from the stream's name alone, so that another node could go on. A channel is sent for as
//! long as one client holds it. IPv4 only, and one hop far. Not who asked for it, which `server` knows; not a node's
//! own multicast. Called by `server`. Invariant: no two tracks of a stream have a port in common, and streams of one
//! port have other addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;
use std::{fmt, io};

use levada::StreamName;
use levada_gateway::{Cursor, EncodedStream, EndReason, Join, Session};
use tokio::sync::{oneshot, watch};

use crate::burst::Tracks;
use crate::connection::TRACKS_MAX;
use crate::format::Rtp;
use crate::header::transport::Pair;
use crate::sender::{Command, Counted, Handle, Listeners, Play, Way};
use crate::udp::Udp;

/// How far packets go: the LAN.
pub(crate) const TTL: u8 = 1;
/// The first port.
const PORT_MIN: u16 = 20_000;
/// Ports of one stream.
const PORTS: u16 = 2 * TRACKS_MAX as u16;
/// Sets of ports.
const PORT_SETS: u64 = 512;

/// Where a track of a stream is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: Ipv4Addr,
    pub(crate) ports: Pair<u16>,
}

impl Address {
    /// The address of the track at that place.
    pub(crate) fn of(name: &StreamName, track: usize) -> Self {
        // FNV-1a: any hash does, as long as it stays.
        let hash = |seed: u64| {
            let step =
                |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
            name.as_str().as_bytes().iter().fold(seed, step)
        };
        let hash = hash(0xCBF2_9CE4_8422_2325);
        let [a, b, c, ..] = (hash ^ hash >> 32).to_le_bytes();
        // RFC 2365 section 6.2: within an organisation. Never x.0.0.y nor x.128.0.y, which switches flood.
        let ip = Ipv4Addr::new(239, 192 | a & 3, b | 1, c);
        let set = u16::try_from((hash >> 40) % PORT_SETS).unwrap_or(0);
        let place = u16::try_from(track.min(TRACKS_MAX - 1)).unwrap_or(0);
        let rtp = PORT_MIN + PORTS * set + 2 * place;
        let ports = Pair { rtp, rtcp: rtp + 1 };
        Self { ip, ports }
    }

    fn sockets(self) -> [SocketAddr; 2] {
        [self.ports.rtp, self.ports.rtcp].map(|port| SocketAddr::from((self.ip, port)))
    }
}

/// A stream that is being sent to its channel.
pub(crate) struct Channel {
    client: u64,
    sender: Handle,
    ended: watch::Receiver<Option<EndReason>>,
    listeners: Arc<Listeners>,
    /// Keeps the stream coming.
    _stream: EncodedStream<Rtp>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({})", self.client)
    }
}

impl Channel {
    async fn ended(&self) -> EndReason {
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|reason| *reason)
            .unwrap_or(EndReason::Stopped)
    }
}

/// One client's part of a channel: its record counts what is sent for as long as this is held.
#[derive(Debug)]
pub(crate) struct Hearing {
    channel: Arc<Channel>,
    session: u64,
}

impl Hearing {
    pub(crate) fn new(channel: Arc<Channel>, session: Arc<Session>, tracks: Tracks) -> Self {
        let id = session.id();
        channel.listeners.join(session, tracks);
        Self {
            channel,
            session: id,
        }
    }

    /// Waits until the stream is over.
    pub(crate) async fn ended(&self) -> EndReason {
        self.channel.ended().await
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.channel.listeners.leave(self.session);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let (client, sender) = (self.client, self.sender.clone());
        // Without a runtime there is no sender any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { sender.tell(Command::Remove { client }).await });
        }
    }
}

/// The channels that are sent, by stream and by the address that they are sent from.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    table: Mutex<BTreeMap<(StreamName, Ipv4Addr), Weak<Channel>>>,
}

impl Channels {
    /// The channel of a stream on the LAN that has this address of ours. Started if nobody holds it; `number` and
    /// `sender` are for that.
    pub(crate) async fn channel(
        &self,
        name: &StreamName,
        from: Ipv4Addr,
        source: &EncodedStream<Rtp>,
        tracks: usize,
        (number, sender): (u64, Handle),
    ) -> io::Result<Arc<Channel>> {
        let key = (name.clone(), from);
        let table = || {
            self.table
                .lock()
                .expect("no code that can panic runs under this lock")
        };
        if let Some(known) = table().get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let udp = Arc::new(Udp::multicast(from, TTL).await?);
        let to = (0..tracks).map(|track| Some(Address::of(name, track).sockets()));
        let way = Way::Udp(udp, to.collect());
        let (ended, over) = oneshot::channel();
        let (tell, ended_for_all) = watch::channel(None);
        let listeners = Arc::<Listeners>::default();
        let channel = Arc::new(Channel {
            client: number,
            sender: sender.clone(),
            ended: ended_for_all,
            listeners: Arc::clone(&listeners),
            _stream: source.clone(),
        });
        {
            let mut table = table();
            // Somebody else may have been faster.
            if let Some(known) = table.get(&key).and_then(Weak::upgrade) {
                return Ok(known);
            }
            table.retain(|_, known| known.strong_count() > 0);
            table.insert(key, Arc::downgrade(&channel));
        }
        tokio::spawn(async move {
            let reason = over.await.unwrap_or(EndReason::Stopped);
            tell.send_replace(Some(reason));
        });
        let client = number;
        sender.tell(Command::Add { client, way, ended }).await;
        let ring = Arc::clone(source.ring());
        // Whoever asked for it needs a moment to hear it.
        let cursor = Cursor::join(&ring, Join::Next, Instant::now());
        let play = Box::new(Play {
            ring,
            cursor,
            tracks: Tracks::first(tracks),
            counted: Counted::Listeners(listeners),
            bytes_max: None,
        });
        sender.tell(Command::Play { client, play }).await;
        Ok(channel)
    }
}

/// The address of ours that multicast is sent from: that of the client's connection.
pub(crate) fn source_of(local: SocketAddr) -> Option<Ipv4Addr> {
    match local.ip().to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_address_of_a_stream_never_changes() {
        let address = Address::of(&"lobby/cam".parse().unwrap(), 1);

        let expected = Address {
            ip: Ipv4Addr::new(239, 195, 123, 253),
            ports: Pair {
                rtp: 52_514,
                rtcp: 52_515,
            },
        };
        assert_eq!(address, expected);
    }

    #[test]
    fn addresses_are_spread_and_in_range() {
        let names = (0..500).map(|n| format!("cam{n}").parse().unwrap());
        let all: Vec<Address> = names.map(|name| Address::of(&name, TRACKS_MAX)).collect();

        let ips: BTreeSet<_> = all.iter().map(|address| address.ip).collect();
        assert!(ips.len() > 490, "{}", ips.len());
        for Address { ip, ports } in all {
            let [first, second, third, _] = ip.octets();
            assert_eq!((first, second & !3), (239, 192));
            assert_ne!(third, 0, "switches flood x.0.0.y");
            assert!(ports.rtp >= PORT_MIN && ports.rtp % 2 == 0 && ports.rtcp == ports.rtp + 1);
        }
    }
}
