//! Transport streams over loopback: bare, in RTP out of order, to a multicast group, and from two senders.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_wire::Description;

use super::*;
use crate::source::{Item, Options, Source};

static CLIP: &[u8] = include_bytes!("../../../assets/testcard.ts");
/// What everybody puts in a datagram.
const DATAGRAM_BYTES: usize = 7 * 188;

fn request(text: &str) -> Request {
    Request {
        text: text.to_owned(),
        name: "cam".parse().unwrap(),
        options: Options::default(),
    }
}

/// A socket that sends, and a port of this machine that nobody has.
async fn sender() -> (UdpSocket, u16) {
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    (UdpSocket::bind("127.0.0.1:0").await.unwrap(), port)
}

fn rtp(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 33];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 7]);
    packet.extend_from_slice(payload);
    packet
}

/// Somebody who sends until this is dropped.
struct Sending(tokio::task::JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends the clip in datagrams to a port of this machine, over and over.
fn send_for_ever(
    socket: UdpSocket,
    port: u16,
    wrap: impl Fn(u16, &[u8]) -> Vec<u8> + Send + 'static,
) -> Sending {
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    Sending(tokio::spawn(async move {
        let mut sequence = 0_u16;
        for payload in CLIP.chunks(DATAGRAM_BYTES).cycle() {
            // Until somebody listens, nobody takes them.
            let _ = socket.send_to(&wrap(sequence, payload), to).await;
            sequence = sequence.wrapping_add(1);
            tokio::task::yield_now().await;
        }
    }))
}

async fn opened(url: &str) -> Result<Box<dyn Source>, Error> {
    match open(request(url)).await? {
        Opened::One(source) => Ok(source),
        Opened::Folder(_) => panic!("it is one stream"),
    }
}

async fn tracks(source: &mut Box<dyn Source>) -> Description {
    match source.next().await.unwrap() {
        Some(Item::Description(description)) => description,
        other => panic!("{other:?}"),
    }
}

async fn frames(source: &mut Box<dyn Source>, count: usize) -> usize {
    let mut seen = 0;
    while seen < count {
        match source.next().await.unwrap() {
            Some(Item::Frame(_)) => seen += 1,
            Some(Item::Description(_)) => {}
            None => break,
        }
    }
    seen
}

#[tokio::test]
async fn a_transport_stream_in_datagrams_is_a_source() {
    let (socket, port) = sender().await;
    let _sending = send_for_ever(socket, port, |_, payload| payload.to_vec());

    let mut source = opened(&format!("udp://127.0.0.1:{port}")).await.unwrap();

    assert_eq!(tracks(&mut source).await.tracks.len(), 2);
    assert_eq!(frames(&mut source, 5).await, 5);
}

#[tokio::test]
async fn rtp_is_seen_by_itself() {
    let (socket, port) = sender().await;
    let _sending = send_for_ever(socket, port, rtp);

    let mut source = opened(&format!("udp://:{port}")).await.unwrap();

    assert_eq!(tracks(&mut source).await.tracks.len(), 2);
}

#[test]
fn packets_of_rtp_are_put_in_order() {
    let mut payload = Payload::Unknown;
    let mut chunk = BytesMut::new();
    let datagrams: Vec<_> = CLIP.chunks(DATAGRAM_BYTES).take(4).collect();

    for at in [0, 2, 1, 3] {
        let packet = rtp(u16::try_from(at).unwrap(), datagrams[at]);
        payload.take(&packet, &mut chunk);
    }

    assert_eq!(chunk, CLIP[..4 * DATAGRAM_BYTES]);
}

#[tokio::test]
async fn a_second_sender_is_left_out_while_the_first_sends() {
    let (first, port) = sender().await;
    let socket = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
    let mut receiver = Receiver {
        socket,
        url: "udp://:1".to_owned(),
        following: None,
        payload: Payload::Unknown,
        strangers: 0,
    };
    let (mut chunk, from) = (BytesMut::new(), first.local_addr().unwrap());
    let other = SocketAddr::from(([127, 0, 0, 1], 9));

    receiver.take(&CLIP[..188], from, &mut chunk);
    receiver.take(&CLIP[188..376], other, &mut chunk);

    assert_eq!((chunk.len(), receiver.strangers), (188, 1));
    // Once the first has fallen silent, the other is followed.
    let long_ago = Instant::now().checked_sub(SENDER_SILENCE).unwrap();
    receiver.following = Some((from, long_ago));
    receiver.take(&CLIP[188..376], other, &mut chunk);
    assert_eq!(chunk.len(), 376);
}

#[tokio::test]
async fn something_else_than_a_transport_stream_is_refused_by_the_url() {
    let (socket, port) = sender().await;
    let _sending = send_for_ever(socket, port, |_, _| vec![0x55; 1_000]);

    let refused = opened(&format!("udp://127.0.0.1:{port}")).await;

    let error = refused.unwrap_err().to_string();
    assert!(error.contains(&port.to_string()), "{error}");
    assert!(error.contains("no MPEG transport stream"), "{error}");
}

#[tokio::test]
async fn an_address_that_cannot_be_is_refused_with_the_cure() {
    let (taken, _) = sender().await;
    let port = taken.local_addr().unwrap().port();
    for (url, part) in [
        ("udp://239.1.1.1".to_owned(), "no port"),
        ("udp://239.1.1.1:0".to_owned(), "no port (1 to 65535)"),
        ("udp://:5000?iface=eth0".to_owned(), "localaddr=IP"),
        ("udp://:5000?localaddr=eth0".to_owned(), "no IPv4 address"),
        (
            "udp://203.0.113.7:5000".to_owned(),
            "no address of this machine",
        ),
        (
            format!("udp://127.0.0.1:{port}"),
            "another program has UDP port",
        ),
    ] {
        let error = open(request(&url)).await.unwrap_err().to_string();

        assert!(error.contains(&url) && error.contains(part), "{error}");
    }
}
