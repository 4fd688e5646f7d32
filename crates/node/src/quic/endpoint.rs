//! Dialling and accepting, within limits.
//!
//! Not what happens on a connection once both sides are proven (`connection`). Called by `driver`. Invariant: no
//! more connections and handshakes of others are alive than [`Limits`] allow, whoever knocks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use levada_core::DialId;
use levada_core::limits::LINKS_IN_ALL_MAX;
use levada_wire::NodeId;
use quinn::{AsyncUdpSocket, EndpointConfig, TransportConfig, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::close::{self, Code};
use super::tls::{self, Credentials};
use super::{Established, QuicEvent};

/// How many may be alive at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections. Beyond it those who knock are refused, and attempts of ours fail.
    pub(crate) connections: usize,
    /// Handshakes of others; beyond it those who knock are refused.
    pub(crate) handshakes: usize,
    /// From this many handshakes of others on, those who knock must first prove that they are where they say.
    pub(crate) handshakes_trusted: usize,
}

impl Default for Limits {
    /// A connection for each link that the core may have, one for each handshake of others, and as many again for those
    /// that the core refuses, until they have heard why.
    fn default() -> Self {
        const HANDSHAKES: usize = 64;
        Self {
            connections: LINKS_IN_ALL_MAX + 2 * HANDSHAKES,
            handshakes: HANDSHAKES,
            handshakes_trusted: 16,
        }
    }
}

/// The most first packets that may wait for the task that looks at them. quinn drops more silently; who sent them
/// repeats them.
const INCOMING_MAX: usize = 256;
/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Silence after which QUIC gives up. Not the failure detector: `core::link` is, and is much faster.
const IDLE_TIMEOUT_MS: VarInt = VarInt::from_u32(30_000);
/// Keeps the addresses of NATs alive where nothing else does.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Streams that a peer may open: one per concern, and room for concerns of later versions.
const STREAMS_MAX: VarInt = VarInt::from_u32(8);
/// What a peer may send on one stream, and on all, before it is read. All concerns but one unread leave room for that
/// one.
const STREAM_WINDOW: VarInt = VarInt::from_u32(256 << 10);
const WINDOW: VarInt = VarInt::from_u32(1 << 20);
/// A name is needed where a certificate has one; raw keys have none, and it is not sent.
const SERVER_NAME: &str = "levada";

/// This node's QUIC.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    endpoint: quinn::Endpoint,
    credentials: Credentials,
    transport: Arc<TransportConfig>,
    limits: Limits,
    connections: Arc<Semaphore>,
}

impl Endpoint {
    /// Starts QUIC on `socket`. Without `accepts`, whoever knocks gets no answer.
    pub(crate) fn new(
        socket: Arc<dyn AsyncUdpSocket>,
        credentials: Credentials,
        accepts: bool,
        limits: Limits,
    ) -> io::Result<Self> {
        let mut config = EndpointConfig::default();
        // Bit 0x40 of the first byte is how the datapath knows QUIC.
        config.grease_quic_bit(false);
        let transport = Arc::new(transport());
        let server = accepts.then(|| {
            let mut server = quinn::ServerConfig::with_crypto(Arc::new(credentials.server()));
            server
                .transport_config(Arc::clone(&transport))
                .migration(false)
                .max_incoming(INCOMING_MAX);
            server
        });
        let runtime = Arc::new(quinn::TokioRuntime);
        Ok(Self {
            endpoint: quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime)?,
            credentials,
            transport,
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
        })
    }

    /// Tries to reach a node, and tells the driver how that went.
    pub(crate) async fn dial(
        self,
        dial: DialId,
        remote: SocketAddr,
        expected: Option<NodeId>,
        quic_events: mpsc::Sender<QuicEvent>,
    ) {
        let event = match self.connect(dial, remote, expected).await {
            Ok(established) => QuicEvent::Established(established),
            Err(reason) => QuicEvent::DialFailed { dial, reason },
        };
        // The node may be gone; then nobody wants to know.
        let _ = quic_events.send(event).await;
    }

    async fn connect(
        &self,
        dial: DialId,
        remote: SocketAddr,
        expected: Option<NodeId>,
    ) -> Result<Established, String> {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            let most = self.limits.connections;
            return Err(format!(
                "this node has {most} connections, which is all it may"
            ));
        };
        let (crypto, verifier) = self.credentials.client(expected);
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.transport));
        let connecting = self
            .endpoint
            .connect_with(config, remote, SERVER_NAME)
            .map_err(|error| error.to_string())?;
        let connection = match tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(verifier.wrong_node().unwrap_or_else(|| why(&error)));
            }
            Err(_) => return Err(no_answer()),
        };
        let peer = proven(&connection).ok_or("the peer has proven no node id")?;
        Ok(Established {
            connection,
            peer,
            dial: Some(dial),
            permit,
        })
    }

    /// Accepts until the endpoint closes.
    pub(crate) async fn accept(self, quic_events: mpsc::Sender<QuicEvent>) {
        let handshakes = Arc::new(Semaphore::new(self.limits.handshakes));
        while let Some(incoming) = self.endpoint.accept().await {
            let busy = self.limits.handshakes - handshakes.available_permits();
            if busy >= self.limits.handshakes_trusted && !incoming.remote_address_validated() {
                // Fails only if the address is validated.
                let _ = incoming.retry();
                continue;
            }
            let places = Arc::clone(&handshakes)
                .try_acquire_owned()
                .ok()
                .zip(Arc::clone(&self.connections).try_acquire_owned().ok());
            let Some((handshake, permit)) = places else {
                tracing::debug!("too many connections: one more is refused");
                incoming.refuse();
                continue;
            };
            tokio::spawn(answer(incoming, handshake, permit, quic_events.clone()));
        }
    }

    /// Closes all connections at once and waits until the peers know, or `deadline` has passed.
    pub(crate) async fn close(&self, deadline: Duration) {
        self.endpoint.close(Code::Done.number(), b"the node ends");
        // Who does not hear it now finds out by silence.
        let _ = tokio::time::timeout(deadline, self.endpoint.wait_idle()).await;
    }
}

/// Ends one handshake of another node's.
async fn answer(
    incoming: quinn::Incoming,
    handshake: OwnedSemaphorePermit,
    permit: OwnedSemaphorePermit,
    quic_events: mpsc::Sender<QuicEvent>,
) {
    let connection = match tokio::time::timeout(HANDSHAKE_DEADLINE, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            return;
        }
    };
    drop(handshake);
    let Some(peer) = proven(&connection) else {
        connection.close(Code::Wrong.number(), b"no node id was proven");
        return;
    };
    let established = Established {
        connection,
        peer,
        dial: None,
        permit,
    };
    // The node may be gone; then the connection ends with it.
    let _ = quic_events.send(QuicEvent::Established(established)).await;
}

/// The node id that the peer proved in the handshake.
fn proven(connection: &quinn::Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?;
    let presented = identity
        .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
        .ok()?;
    tls::node_id(presented.first()?)
}

/// Why a handshake of ours failed, for people.
fn why(error: &quinn::ConnectionError) -> String {
    match error {
        quinn::ConnectionError::TimedOut => no_answer(),
        quinn::ConnectionError::ConnectionClosed(_) | quinn::ConnectionError::TransportError(_) => {
            close::shorten(&format!(
                "what answers there is no Levada node, or refuses: {error}"
            ))
        }
        other => close::shorten(&other.to_string()),
    }
}

fn no_answer() -> String {
    format!(
        "no answer within {} s: is a node running there, and may UDP pass?",
        HANDSHAKE_DEADLINE.as_secs()
    )
}

/// What QUIC takes a round trip for before it has measured one: three times that passes before it repeats the first
/// packet of a handshake. Its own 333 ms would make a lost one cost a second; on a longer way than this one packet more
/// is sent.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .initial_rtt(INITIAL_ROUND_TRIP)
        .max_concurrent_uni_streams(STREAMS_MAX)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(WINDOW)
        .send_window(WINDOW.into_inner())
        // QUIC's congestion control would delay media: datagrams are the datapath's.
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IDLE_TIMEOUT_MS.into()))
        .keep_alive_interval(Some(KEEP_ALIVE));
    config
}
