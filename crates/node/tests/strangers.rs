//! Strangers at the port: whatever they send changes nothing but counters.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kit::*;
use levada::{Node, View};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::UdpSocket;

/// The first byte of a media packet.
const MEDIA: u8 = 0x04;

#[tokio::test]
async fn garbage_datagrams_change_nothing_but_counters() {
    let bench = Bench::start().await;
    let before = bench.relay_view().await;
    let stranger = Stranger::new(&bench.relay).await;

    for kind in [0x00, 0x04, 0x05, 0x06, 0x07, 0x10, 0x3F, 0x80] {
        for length in [1, 2, 31, 32, 55, 56, 200, 1_232, 1_440] {
            stranger.send(&garbage(kind, length)).await;
        }
    }
    let sent = 8 * 9;

    let after = bench.arrived(&before, sent, dropped).await;
    assert_eq!(
        dropped(&after) - dropped(&before),
        sent,
        "each has one fate: dropped"
    );
    assert_same(&before, &after);
    bench.streams_on().await;
}

#[tokio::test]
async fn garbage_quic_changes_nothing_but_counters() {
    let bench = Bench::start().await;
    let before = bench.relay_view().await;
    let stranger = Stranger::new(&bench.relay).await;

    for first in [0x40, 0x41, 0x7F, 0xC0, 0xC3, 0xD5, 0xE0, 0xFF] {
        for length in [1, 7, 20, 21, 100, 1_200, 1_400] {
            stranger.send(&garbage(first, length)).await;
        }
    }
    // Initial packets of version 1 whose insides make no sense.
    for tail in 0..50 {
        let mut packet = garbage(0xC3, 1_200);
        packet[1..5].copy_from_slice(&1_u32.to_be_bytes());
        packet[5] = 8;
        packet[14] = 0;
        packet[15] = 0;
        packet[100] = tail;
        stranger.send(&packet).await;
    }
    let sent = 8 * 7 + 50;

    let after = bench.arrived(&before, sent, foreign).await;
    assert_eq!(
        dropped(&after),
        dropped(&before),
        "QUIC is quinn's to judge"
    );
    assert_same(&before, &after);
    bench.streams_on().await;
}

#[tokio::test]
async fn forged_media_changes_nothing_but_one_counter() {
    let bench = Bench::start().await;
    let heard = bench.heard_media();
    let before = bench.relay_view().await;
    let stranger = Stranger::new(&bench.relay).await;

    // What a stranger who hears everything can make: true packets with another number, group, body or tag.
    let mut sent = 0;
    for packet in &heard {
        for at in [12, 17, 20, 32, packet.len() - 24, packet.len() - 1] {
            let mut forged = packet.clone();
            forged[at] ^= 0x01;
            stranger.send(&forged).await;
            sent += 1;
        }
    }

    let after = bench.arrived(&before, sent, dropped).await;
    let bad_tags = |view: &View| view.counter_for("packets_dropped", "bad_tag");
    assert_eq!(bad_tags(&after) - bad_tags(&before), sent);
    assert_eq!(dropped(&after) - dropped(&before), sent);
    assert_same(&before, &after);
    bench.streams_on().await;
}

#[tokio::test]
async fn replayed_datagrams_change_nothing_but_counters() {
    let bench = Bench::start().await;
    let heard = bench.heard();
    let before = bench.relay_view().await;
    let stranger = Stranger::new(&bench.relay).await;

    let ours = heard.iter().filter(|datagram| datagram[0] & 0x40 == 0);
    let mut sent = 0;
    for datagram in ours.clone().chain(ours) {
        stranger.send(datagram).await;
        sent += 1;
    }
    assert!(sent > 0, "the stranger heard something");

    let after = bench.arrived(&before, sent, dropped).await;
    assert_same(&before, &after);
    bench.streams_on().await;
}

#[tokio::test]
async fn quic_without_our_protocol_is_refused() {
    let relay = start(node("relay")).await;

    let refused = knock(
        &relay,
        Knock {
            alpn: b"h3",
            ..Knock::right()
        },
    )
    .await;

    assert!(refused.contains("known protocol"), "{refused}");
    assert_eq!(links(&relay).await, 0);
}

#[tokio::test]
async fn quic_without_a_node_key_is_refused() {
    let relay = start(node("relay")).await;

    let refused = knock(
        &relay,
        Knock {
            key: false,
            ..Knock::right()
        },
    )
    .await;

    assert!(!refused.is_empty());
    assert_eq!(links(&relay).await, 0);
}

#[tokio::test]
async fn quic_that_wants_a_certificate_is_refused() {
    let relay = start(node("relay")).await;

    let refused = knock(
        &relay,
        Knock {
            raw_keys: false,
            ..Knock::right()
        },
    )
    .await;

    assert!(!refused.is_empty());
    assert_eq!(links(&relay).await, 0);
}

#[tokio::test]
async fn a_proven_stranger_that_breaks_the_protocol_is_told_and_closed() {
    let relay = start(node("relay")).await;
    for (bytes, words) in [
        (vec![1, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1], "the limit is"),
        (vec![1, 0, 0, 0, 1, 1, 1, 0xFF], "does not decode"),
        // The other streams are not read before a message on the link's: a flow's cancel on that one.
        (vec![1, 0, 0, 0, 3, 3, 0x13, 0xA1, 0, 9], "another concern"),
    ] {
        let connection = connect(&relay, Knock::right()).await.unwrap();

        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let end = within("the close", connection.closed()).await;

        assert!(end.to_string().contains(words), "{end}");
    }
}

#[tokio::test]
async fn a_second_stream_of_one_concern_closes_the_connection() {
    let relay = start(node("relay")).await;
    let connection = connect(&relay, Knock::right()).await.unwrap();

    for _ in 0..2 {
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&[1]).await.unwrap();
        let _ = stream.finish();
    }

    let end = within("the close", connection.closed()).await;
    assert!(
        end.to_string().contains("two streams of one concern"),
        "{end}"
    );
}

#[tokio::test]
async fn a_stream_of_a_later_concern_is_stopped_and_the_connection_kept() {
    let relay = start(node("relay")).await;
    let connection = connect(&relay, Knock::right()).await.unwrap();

    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&[99, 1, 2, 3]).await.unwrap();
    let stopped = within("the stop", stream.stopped()).await;

    assert_eq!(stopped.unwrap().map(|code| code.into_inner()), Some(0));
    assert!(connection.close_reason().is_none());
}

/// Origin and relay with a wiretap between them, and a consumer at the relay.
struct Bench {
    relay: Node,
    consumer: Node,
    _origin: Node,
    publisher: tokio::sync::Mutex<levada::Publisher>,
    subscriber: tokio::sync::Mutex<levada::Subscriber>,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Bench {
    async fn start() -> Self {
        let relay = start(node("relay")).await;
        let heard = Arc::default();
        let wire = wiretap(relay.local_addr(), Arc::clone(&heard)).await;
        let mut events = relay.events();
        let origin = start(node("origin").join(wire.to_string())).await;
        link_up(&mut events, &origin).await;
        let consumer = start_linked(node("consumer"), &relay).await;
        let mut publisher = publish(&origin, "cam").await;
        let mut subscriber = subscribe(&consumer, "cam").await;
        push(&mut publisher, 0..20).await;
        expect(&mut subscriber, 0..20).await;
        Self {
            relay,
            consumer,
            _origin: origin,
            publisher: publisher.into(),
            subscriber: subscriber.into(),
            heard,
        }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }

    fn heard_media(&self) -> Vec<Vec<u8>> {
        let media: Vec<_> = self
            .heard()
            .into_iter()
            .filter(|one| one[0] == MEDIA)
            .collect();
        assert!(media.len() >= 20, "the stranger heard the stream");
        media
    }

    async fn relay_view(&self) -> View {
        within("a view", self.relay.view()).await.unwrap()
    }

    /// Waits until the relay has counted `sent` more since `before`. All arrivals would not do: neighbours ping.
    async fn arrived(&self, before: &View, sent: u64, count: impl Fn(&View) -> u64) -> View {
        let since = count(before);
        within("the stranger's datagrams", async {
            loop {
                let view = self.relay_view().await;
                if count(&view) >= since + sent {
                    return view;
                }
            }
        })
        .await
    }

    /// The stream goes on as if nothing had happened.
    async fn streams_on(&self) {
        push(&mut *self.publisher.lock().await, 20..60).await;
        expect(&mut *self.subscriber.lock().await, 20..60).await;
        let view = within("a view", self.consumer.view()).await.unwrap();
        assert_eq!(view.counter("packets_unopened"), 0);
    }
}

/// Links, streams and flows are what they were; the flow took no packet in and sent none.
fn assert_same(before: &View, after: &View) {
    let flows = |view: &View| {
        let rows = view.flows.iter();
        rows.map(|row| {
            (
                row.control.flow,
                row.control.state,
                row.counters.packets_in,
                row.counters.packets_out,
            )
        })
        .collect::<Vec<_>>()
    };
    let links = |view: &View| {
        let rows = view.links.iter().map(|row| &row.control);
        rows.map(|row| (row.link, row.peer, row.state, row.remote.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(flows(before), flows(after));
    assert_eq!(links(before), links(after));
    assert_eq!(before.streams, after.streams);
    assert_eq!(before.routes, after.routes);
}

fn dropped(view: &View) -> u64 {
    view.counter("packets_dropped")
}

fn foreign(view: &View) -> u64 {
    view.counter("packets_foreign")
}

async fn links(node: &Node) -> usize {
    within("a view", node.view()).await.unwrap().links.len()
}

/// Bytes without sense behind a first byte.
fn garbage(first: u8, length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32 ^ u32::from(first);
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect();
    bytes[0] = first;
    bytes
}

/// Somebody with a socket and nothing else.
struct Stranger {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Stranger {
    async fn new(to: &Node) -> Self {
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            to: to.local_addr(),
        }
    }

    async fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.to).await.unwrap();
    }
}

/// A forwarder in front of `to` that remembers what goes there. Good for one node behind it.
async fn wiretap(to: SocketAddr, heard: Arc<Mutex<Vec<Vec<u8>>>>) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
        let mut caller = None;
        loop {
            tokio::select! {
                got = front.recv_from(&mut there) => {
                    let (length, from) = got.unwrap();
                    caller = Some(from);
                    heard.lock().unwrap().push(there[..length].to_vec());
                    back.send_to(&there[..length], to).await.unwrap();
                }
                got = back.recv_from(&mut here) => {
                    let (length, _) = got.unwrap();
                    let caller = caller.expect("nobody answers before somebody calls");
                    front.send_to(&here[..length], caller).await.unwrap();
                }
            }
        }
    });
    address
}

/// How a stranger knocks with QUIC.
#[derive(Clone, Copy)]
struct Knock {
    alpn: &'static [u8],
    /// Shows an Ed25519 key.
    key: bool,
    /// Offers and wants raw public keys, not certificates.
    raw_keys: bool,
}

impl Knock {
    const fn right() -> Self {
        Self {
            alpn: b"levada/1",
            key: true,
            raw_keys: true,
        }
    }
}

/// Knocks, and says how that was refused.
async fn knock(node: &Node, knock: Knock) -> String {
    match connect(node, knock).await {
        Err(error) => error.to_string(),
        // TLS 1.3 lets the client believe in success until the server has looked at its key.
        Ok(connection) => within("the refusal", connection.closed()).await.to_string(),
    }
}

async fn connect(node: &Node, knock: Knock) -> Result<quinn::Connection, quinn::ConnectionError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible {
            raw_keys: knock.raw_keys,
        }));
    let mut config = if knock.key {
        // Any 32 bytes are an Ed25519 key, here in PKCS #8.
        let mut pkcs8 = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        pkcs8.extend_from_slice(&[42; 32]);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shown = CertificateDer::from(key.public_key().unwrap().as_ref().to_vec());
        let shown = Arc::new(CertifiedKey::new(vec![shown], key));
        let resolver = rustls::client::AlwaysResolvesClientRawPublicKeys::new(shown);
        builder.with_client_cert_resolver(Arc::new(resolver))
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![knock.alpn.to_vec()];
    let config = QuicClientConfig::try_from(config).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint
        .connect_with(
            quinn::ClientConfig::new(Arc::new(config)),
            node.local_addr(),
            "x",
        )
        .unwrap();
    within("the handshake", connecting).await
}

/// Believes any server.
#[derive(Debug)]
struct Gullible {
    raw_keys: bool,
}

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw_keys
    }
}
