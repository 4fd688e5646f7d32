//! The two UDP ports of a server, RTP and RTCP, which all clients share.
//!
//! Packets of one size leave in one system call where the kernel has GSO. What arrives is a client's by the address
//! that it comes from: the address of its connection, and a port that it named in SETUP. Not RTP. Called by `sender`
//! (sending) and by the connections (receiving). Invariant: packets go to the address of a client's connection only,
//! whatever its requests say.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::header::transport::Pair;

/// The port of RTP, unless it is taken or set otherwise; RTCP has the next one.
pub(crate) const RTP_PORT_DEFAULT: u16 = 8_000;
/// The longest that one send can be: 64 KiB less headers.
pub(crate) const SEND_BYTES_MAX: usize = 60_000;
/// The most datagrams that one send can be (UDP_MAX_SEGMENTS of include/linux/udp.h is 64 or 128).
const SEND_PACKETS_MAX: usize = 64;
/// The buffers to ask for: a burst to some hundred clients, and some publishers' key frames.
const BUFFER_BYTES: usize = 4 << 20;
/// Datagrams that wait for a connection's task. More are lost, as on any network.
pub(crate) const DATAGRAMS_MAX: usize = 2_048;
/// What is received at once: datagrams that were sent as one train arrive as one where the kernel has GRO.
const RECEIVE_BYTES: usize = 64 << 10;
/// The longest datagram that is taken.
const DATAGRAM_BYTES_MAX: usize = 2_048;
/// Tries to find two consecutive free ports.
const TRIES: usize = 32;

/// What came for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// The place of the track.
    pub(crate) track: usize,
    /// Whether it came to the port of RTCP.
    pub(crate) is_report: bool,
    pub(crate) bytes: Bytes,
}

/// The two ports.
#[derive(Debug)]
pub(crate) struct Udp {
    rtp: Port,
    rtcp: Port,
    peers: Mutex<BTreeMap<SocketAddr, Peer>>,
}

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    number: u16,
}

#[derive(Debug)]
struct Peer {
    connection: u64,
    track: usize,
    inbox: mpsc::Sender<Datagram>,
}

impl Port {
    async fn bind(ip: IpAddr, port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(ip, port)).await?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Less than wanted is no error.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        let number = socket.local_addr()?.port();
        Ok(Self {
            socket,
            state,
            number,
        })
    }

    fn try_send(&self, to: SocketAddr, bytes: &[u8], packet_bytes: usize) -> io::Result<()> {
        let transmit = |contents, segment_size| Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        };
        let send = |transmit: &Transmit<'_>| {
            let call = || {
                self.state
                    .try_send(UdpSockRef::from(&self.socket), transmit)
            };
            self.socket.try_io(Interest::WRITABLE, call)
        };
        if bytes.len() <= packet_bytes {
            return send(&transmit(bytes, None));
        }
        let packets = self.state.max_gso_segments().clamp(1, SEND_PACKETS_MAX);
        for chunk in bytes.chunks(packet_bytes * packets) {
            let size = (chunk.len() > packet_bytes).then_some(packet_bytes);
            send(&transmit(chunk, size))?;
        }
        Ok(())
    }
}

impl Port {
    /// Receives a train: datagrams of one length, but for a shorter last one.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let mut train = [RecvMeta::default()];
        let receive = || {
            let socket = UdpSockRef::from(&self.socket);
            self.state
                .recv(socket, &mut [IoSliceMut::new(buffer)], &mut train)
        };
        self.socket.async_io(Interest::READABLE, receive).await?;
        let [train] = train;
        Ok(train)
    }
}

impl Udp {
    /// Binds both: to `port` and the next, or to any two consecutive ones if it is zero.
    pub(crate) async fn bind(ip: IpAddr, port: u16) -> io::Result<Self> {
        let mut error = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            let rtp = Port::bind(ip, port).await?;
            let Some(next) = rtp.number.checked_add(1) else {
                continue;
            };
            match Port::bind(ip, next).await {
                Ok(rtcp) => {
                    let peers = Mutex::default();
                    return Ok(Self { rtp, rtcp, peers });
                }
                Err(taken) => error = taken,
            }
            if port != 0 {
                break;
            }
        }
        Err(error)
    }

    /// Two ports that send to channels on the LAN that has this address of ours.
    pub(crate) async fn multicast(from: Ipv4Addr, ttl: u8) -> io::Result<Self> {
        let udp = Self::bind(from.into(), 0).await?;
        for port in [&udp.rtp, &udp.rtcp] {
            port.socket.set_multicast_ttl_v4(ttl.into())?;
            // Players on this very machine hear it too.
            port.socket.set_multicast_loop_v4(true)?;
            socket2::SockRef::from(&port.socket).set_multicast_if_v4(&from)?;
        }
        Ok(udp)
    }

    /// The ports, as SETUP is answered.
    pub(crate) const fn ports(&self) -> Pair<u16> {
        Pair {
            rtp: self.rtp.number,
            rtcp: self.rtcp.number,
        }
    }

    /// Sends packets of one size, but for a shorter last one.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket is full; otherwise what the kernel says. Some of the packets may have left.
    pub(crate) fn try_send(
        &self,
        is_report: bool,
        to: SocketAddr,
        bytes: &[u8],
        packet_bytes: usize,
    ) -> io::Result<()> {
        let port = if is_report { &self.rtcp } else { &self.rtp };
        port.try_send(to, bytes, packet_bytes)
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Peer>> {
        self.peers
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// What comes from these two addresses is of that track of a connection, until it leaves. Another connection's are
    /// not taken over.
    pub(crate) fn join(
        &self,
        connection: u64,
        track: usize,
        from: [SocketAddr; 2],
        inbox: &mpsc::Sender<Datagram>,
    ) {
        let mut peers = self.peers();
        for address in from {
            let is_own = |peer: &Peer| peer.connection == connection;
            if peers.get(&address).is_none_or(is_own) {
                let inbox = inbox.clone();
                peers.insert(
                    address,
                    Peer {
                        connection,
                        track,
                        inbox,
                    },
                );
            }
        }
    }

    /// Forgets a connection's addresses.
    pub(crate) fn leave(&self, connection: u64) {
        self.peers().retain(|_, peer| peer.connection != connection);
    }

    /// Hands what comes to the connections; ends only when it is dropped.
    pub(crate) async fn receive(self: Arc<Self>) {
        tokio::join!(self.receive_at(false), self.receive_at(true));
    }

    async fn receive_at(&self, is_report: bool) {
        let port = if is_report { &self.rtcp } else { &self.rtp };
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            // An error is of one datagram that was sent: its receiver is gone.
            let Ok(train) = port.receive(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let peers = self.peers();
            let Some(peer) = peers.get(&train.addr) else {
                continue;
            };
            for bytes in buffer[..train.len].chunks(train.stride.max(1)) {
                if bytes.len() > DATAGRAM_BYTES_MAX {
                    continue;
                }
                let datagram = Datagram {
                    track: peer.track,
                    is_report,
                    bytes: Bytes::copy_from_slice(bytes),
                };
                // A task that is behind loses it.
                let _ = peer.inbox.try_send(datagram);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn client() -> UdpSocket {
        UdpSocket::bind((HERE, 0)).await.unwrap()
    }

    #[tokio::test]
    async fn packets_of_one_size_arrive_one_by_one() {
        let (udp, client) = (Udp::bind(HERE, 0).await.unwrap(), client().await);
        let bytes: Vec<u8> = (0..250).collect();

        udp.rtp.socket.writable().await.unwrap();
        udp.try_send(false, client.local_addr().unwrap(), &bytes, 100)
            .unwrap();

        let mut got = Vec::new();
        for _ in 0..3 {
            let mut buffer = [0; 300];
            let receive = client.recv_from(&mut buffer);
            let (length, from) = tokio::time::timeout(PATIENCE, receive)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(from.port(), udp.ports().rtp);
            got.push(buffer[..length].to_vec());
        }
        let sizes: Vec<_> = got.iter().map(Vec::len).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert_eq!(got.concat(), bytes);
    }

    #[tokio::test]
    async fn what_arrives_is_the_connections_that_named_its_port() {
        let udp = Arc::new(Udp::bind(HERE, 0).await.unwrap());
        let receiving = tokio::spawn(Arc::clone(&udp).receive());
        let (known, stranger) = (client().await, client().await);
        let (inbox, mut mine) = mpsc::channel(DATAGRAMS_MAX);
        let (other_inbox, mut other) = mpsc::channel(DATAGRAMS_MAX);
        let from = [known.local_addr().unwrap(); 2];
        udp.join(1, 3, from, &inbox);
        udp.join(2, 0, from, &other_inbox);

        stranger
            .send_to(b"x", (HERE, udp.ports().rtp))
            .await
            .unwrap();
        known
            .send_to(b"report", (HERE, udp.ports().rtcp))
            .await
            .unwrap();

        let got = tokio::time::timeout(PATIENCE, mine.recv())
            .await
            .unwrap()
            .unwrap();
        let expected = Datagram {
            track: 3,
            is_report: true,
            bytes: Bytes::from_static(b"report"),
        };
        assert_eq!(got, expected);
        assert!(other.try_recv().is_err(), "a port is taken from nobody");
        udp.leave(1);
        assert!(udp.peers().is_empty());
        receiving.abort();
    }

    #[tokio::test]
    async fn what_was_sent_as_a_train_arrives_as_the_datagrams_it_was() {
        let [from, to] = [
            Udp::bind(HERE, 0).await.unwrap(),
            Udp::bind(HERE, 0).await.unwrap(),
        ];
        let to = Arc::new(to);
        let receiving = tokio::spawn(Arc::clone(&to).receive());
        let (inbox, mut mine) = mpsc::channel(DATAGRAMS_MAX);
        let ports = from.ports();
        to.join(
            1,
            0,
            [ports.rtp, ports.rtcp].map(|port| (HERE, port).into()),
            &inbox,
        );
        let bytes: Vec<u8> = (0..250).collect();

        from.rtp.socket.writable().await.unwrap();
        let address = (HERE, to.ports().rtp).into();
        from.try_send(false, address, &bytes, 100).unwrap();

        let mut got = Vec::new();
        for _ in 0..3 {
            let next = tokio::time::timeout(PATIENCE, mine.recv()).await;
            got.push(next.unwrap().unwrap().bytes);
        }
        assert_eq!(
            got.iter().map(Bytes::len).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        assert_eq!(got.concat(), bytes);
        receiving.abort();
    }

    #[tokio::test]
    async fn a_connection_that_is_behind_loses_datagrams_beyond_the_limit() {
        let udp = Arc::new(Udp::bind(HERE, 0).await.unwrap());
        let receiving = tokio::spawn(Arc::clone(&udp).receive());
        let known = client().await;
        let (inbox, mut mine) = mpsc::channel(2);
        udp.join(1, 0, [known.local_addr().unwrap(); 2], &inbox);
        let marker = client().await;
        let (marker_inbox, mut marked) = mpsc::channel(1);
        udp.join(2, 0, [marker.local_addr().unwrap(); 2], &marker_inbox);

        for _ in 0..5 {
            known.send_to(b"a", (HERE, udp.ports().rtp)).await.unwrap();
        }
        marker.send_to(b"b", (HERE, udp.ports().rtp)).await.unwrap();
        tokio::time::timeout(PATIENCE, marked.recv())
            .await
            .unwrap()
            .unwrap();

        assert!(mine.try_recv().is_ok() && mine.try_recv().is_ok() && mine.try_recv().is_err());
        receiving.abort();
    }
}
