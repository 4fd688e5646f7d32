//! What each target does with its bytes: decode them, and hold what decodes to what it promises.
//!
//! A decoder behind a seal, a MAC or a signature would never see a fuzzer's bytes, so such a target also proves its
//! input itself, under the keys of the golden vectors (`crates/wire/tests/golden`), and decodes that. Not the list of
//! targets: `lib.rs`. Invariant: as there.

use std::collections::BTreeSet;

use bytes::BytesMut;
use levada_gateway_rtsp::auth::Authorization;
use levada_gateway_rtsp::decode::{DecodeError, Decoder as RtspDecoder, Item};
use levada_gateway_rtsp::header::transport::Transport;
use levada_gateway_rtsp::header::{Range, RtpInfo, Session};
use levada_wire::announce::{SignedAnnounce, SignedWithdraw};
use levada_wire::control::{Decoder, Message};
use levada_wire::datagram::link::{LINK_HEADER_BYTES, LinkHeader, LinkSeal};
use levada_wire::datagram::site::{MAC_BYTES, SiteHeader, SiteSeal};
use levada_wire::frame::{ControlFrame, FRAME_HEADER_BYTES, FrameHeader};
use levada_wire::identity::Purpose;
use levada_wire::key::{CarrySecret, ContentSecret, LinkKey, NetworkSecret, SiteKey, Suite};
use levada_wire::packet::parity::code::{self, Words};
use levada_wire::packet::parity::{BLOCK_SHARDS_MAX, ParityHeader, packet_of, unit_of};
use levada_wire::packet::seal::Opener;
use levada_wire::packet::{CARRY_BYTES, HEADER_BYTES, Kind, OVERHEAD_BYTES, SEAL_BYTES, carry};
use levada_wire::ticket::{Chain, Invite, Trust};
use levada_wire::{Description, FlowId, Header, Identity, InstanceId, NetworkId, WallTime};
use minicbor::{Decode, Encode};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

/// The link key of the golden vectors.
const LINK_KEY: [u8; 32] = [0x11; 32];
/// A second within the tickets of the golden vectors.
const NOW: WallTime = WallTime(1_800_000_001_000_000);

/// A media packet: the header, the carry tag, the seal, under the secrets of the golden vectors.
pub fn packet(input: &[u8]) {
    let header = Header::peek(input);
    let flow = header.map_or(FlowId(0), |header| header.flow);
    let key = CarrySecret::from_bytes([0xCA; 32]).carry_key(flow);
    let is_tagged = carry::check(&key, input);
    let Some(header) = header else {
        return;
    };
    assert_eq!(Kind::of(input), Kind::Media);
    assert_eq!(header.encode()[4..], input[4..HEADER_BYTES]);
    let (sealed, tag) = input.split_at(input.len() - CARRY_BYTES);
    assert_eq!(is_tagged, carry::tag_of(&key, sealed) == tag);
    let _ = (header.burst(), header.group_start());
    for suite in [Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
        let secret = ContentSecret::from_bytes([0xC0; 32]);
        let mut opener = Opener::new(secret, header.flow, InstanceId([0x1C; 16]), suite);
        let mut body = Vec::new();
        let opened = opener.open(input, &mut body);
        let bytes = opened.map_or(0, |()| input.len() - OVERHEAD_BYTES);
        assert_eq!(body.len(), bytes);
    }
}

/// A parity datagram; and its shard as all shards of a block of which one packet came, so that packets are made of it.
pub fn parity(input: &[u8]) {
    let key = CarrySecret::from_bytes([0xCA; 32]);
    let Some(header) = ParityHeader::peek(input) else {
        return;
    };
    let is_tagged = ParityHeader::check(&key.carry_key(header.flow), input);
    assert_eq!(Kind::of(input), Kind::Parity);
    let (shard, mut unit, mut again) =
        (ParityHeader::shard_of(input), Words::default(), Vec::new());
    unit.set(&[shard]);
    header.encode(&key.carry_key(header.flow), &unit, shard.len(), &mut again);
    assert_eq!(ParityHeader::peek(&again), Some(header));
    assert_eq!(is_tagged, again == input);
    let came = header_of(header);
    let packet = [&came.encode()[..], &[0; SEAL_BYTES + CARRY_BYTES]].concat();
    let lost = BLOCK_SHARDS_MAX.min(usize::from(header.packets) - 1);
    let shards: Vec<usize> = (0..lost).collect();
    let missing: Vec<usize> = (1..=lost).collect();
    let mut sums = vec![unit.clone(); lost];
    unit_of(&packet, &mut unit);
    code::add(&unit, 0, &mut sums, &shards);
    code::recover(&mut sums, &shards, &missing);
    for (sum, &place) in sums.iter().zip(&missing) {
        let (number, mut made) = (came.number.plus(place as u64), Vec::new());
        let is_made = packet_of(sum, shard.len(), number, &came, &mut made);
        let made = Header::peek(&made).map(|made| made.number);
        assert_eq!(made, is_made.then_some(number));
    }
}

/// The first packet of a block.
fn header_of(parity: ParityHeader) -> Header {
    let mut bytes = vec![0x04];
    bytes.resize(OVERHEAD_BYTES, 0);
    let header = Header::peek(&bytes).expect("a packet of zeros is one");
    Header {
        key: parity.key,
        flow: parity.flow,
        number: parity.first_near(header.number),
        ..header
    }
}

/// A link datagram as it comes, and the input as the body of one.
pub fn link(input: &[u8]) {
    let seal = LinkSeal::new(&LinkKey::from_bytes(LINK_KEY));
    let opened = LinkHeader::peek(input).and_then(|_| seal.open(input));
    assert!(opened.is_none() || Kind::of(input) == Kind::Link);
    let mut sealed = vec![0; LINK_HEADER_BYTES];
    sealed[0] = 0x06;
    sealed.extend_from_slice(input);
    let (clear, body) = sealed.split_at_mut(LINK_HEADER_BYTES);
    let tag = link_key().seal_in_place_separate_tag(zero_nonce(), Aad::from(&*clear), body);
    sealed.extend_from_slice(tag.expect("an input is short").as_ref());
    let Some(message) = seal.open(&sealed) else {
        return;
    };
    let header = LinkHeader::peek(&sealed).expect("it was opened");
    let mut again = Vec::new();
    seal.seal(header, &message, &mut again);
    assert_eq!(seal.open(&again), Some(message));
}

/// The body of a link datagram that was sealed with the key of the golden vectors.
#[must_use]
pub fn link_body(datagram: &[u8]) -> Option<Vec<u8>> {
    let (clear, sealed) = datagram.split_at_checked(LINK_HEADER_BYTES)?;
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&clear[12..]);
    let (nonce, mut body) = (Nonce::assume_unique_for_key(nonce), sealed.to_vec());
    let opened = link_key().open_in_place(nonce, Aad::from(clear), &mut body);
    opened.ok().map(|body| body.to_vec())
}

fn link_key() -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &LINK_KEY);
    LessSafeKey::new(key.expect("the key has the algorithm's length"))
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// A site datagram as it comes, and again with a MAC that is true.
pub fn site(input: &[u8]) {
    let key = site_key();
    let seal = SiteSeal::new(&key);
    let _ = SiteHeader::peek(input).and_then(|_| seal.open(input));
    let unmarked = &input[..input.len().saturating_sub(MAC_BYTES)];
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.bytes()), unmarked);
    let marked = [unmarked, &mac.as_ref()[..MAC_BYTES]].concat();
    let Some((header, message)) = seal.open(&marked) else {
        return;
    };
    assert_eq!(Kind::of(&marked), Kind::Site);
    assert!(
        message
            .node()
            .is_none_or(|node| node.prefix() == header.sender)
    );
    let own = identity();
    if header.sender == own.id().prefix() && message.node().is_none_or(|node| node == own.id()) {
        let mut again = Vec::new();
        seal.seal(&own, header.scope, header.counter, &message, &mut again);
        assert_eq!(seal.open(&again), Some((header, message)));
    }
}

/// The site key of the golden vectors.
fn site_key() -> SiteKey {
    let network = NetworkId::of_root(&root().id());
    NetworkSecret::from_bytes([0x4E; 32]).site_key(&network)
}

/// A control stream, all at once and in chunks of the size that the first byte says.
pub fn control(input: &[u8]) {
    let Some((&chunk, stream)) = input.split_first() else {
        return;
    };
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let at_once = Decoder::default().push(stream, &mut whole);
    let mut decoder = Decoder::default();
    let mut chunks = stream.chunks(usize::from(chunk).max(1));
    let in_parts = chunks.try_for_each(|chunk| decoder.push(chunk, &mut parts));
    assert_eq!(at_once.is_err(), in_parts.is_err());
    assert_eq!(whole, parts);
    for message in whole {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let mut again: Vec<Message> = Vec::new();
        let decoded = Decoder::default().push(&bytes, &mut again);
        assert!(
            decoded.is_ok(),
            "what was decoded and encoded decodes again"
        );
        assert_eq!(again, [message]);
    }
}

/// The body of a burst: frame headers, the description, the control frame.
pub fn frame(input: &[u8]) {
    if let Some(header) = FrameHeader::decode(input) {
        let bytes = header.encode();
        assert_eq!(FrameHeader::decode(&bytes), Some(header));
        assert_eq!(bytes[2..], input[2..FRAME_HEADER_BYTES]);
    }
    if let Some(description) = survives::<Description>(input) {
        let _ = description.check();
        let _ = description.leading();
    }
    survives::<ControlFrame>(input);
}

/// Announces and withdraws as they come, and the input as the body of one.
pub fn announce(input: &[u8]) {
    survives::<SignedAnnounce>(input);
    survives::<SignedWithdraw>(input);
    if let Some(signed) = survives::<SignedAnnounce>(&signed(Purpose::Announce, input)) {
        let content = signed.content();
        for layer in &content.layers {
            let _ = (content.flow(layer.layer), content.layer(layer.layer));
        }
        assert!(!content.replaces(content));
    }
    survives::<SignedWithdraw>(&signed(Purpose::Withdraw, input));
}

/// Chains of tickets, the input as the body of a ticket, and invites.
pub fn ticket(input: &[u8]) {
    let own = signed(Purpose::Ticket, input);
    let chain = [&[0x81], own.as_slice()].concat();
    for chain in [input, &chain] {
        let Some(chain) = survives::<Chain>(chain) else {
            continue;
        };
        let trust = Trust {
            root: &identity().id(),
            holder: &chain.own().subject.clone(),
            now: NOW,
            revoked: &BTreeSet::new(),
        };
        if let Ok(rights) = chain.verify(&trust) {
            assert!(chain.own().grants.is_empty() || chain.own().issuer == identity().id());
            let _ = rights.standing();
        }
    }
    let invite = std::str::from_utf8(input).map(str::parse::<Invite>);
    if let Ok(Ok(invite)) = invite {
        assert_eq!(invite.to_text().parse(), Ok(invite));
    }
}

/// What an HTTP request says: path, query, `Authorization` and `Range`, a line each.
pub fn http(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut lines = text.split('\n').chain(std::iter::repeat(""));
    let mut line = || lines.next().unwrap_or_default();
    let (path, query, authorization, range) = (line(), line(), line(), line());
    let page = levada_gateway_http::fuzz::request(path, query, authorization, range);
    // The page of a stream that a path names can be linked to, and the link names that stream.
    if let Some(page) = page {
        let path = page.strip_prefix("/live/").expect("all pages are below it");
        assert_eq!(
            levada_gateway_http::fuzz::request(path, "", "", ""),
            Some(page.clone())
        );
    }
}

/// A playlist of another server.
pub fn playlist(input: &[u8]) {
    levada_gateway_http::fuzz::playlist(&String::from_utf8_lossy(input));
}

/// An RTSP connection, all at once and in chunks of the size that the first byte says; and the headers of its messages.
pub fn rtsp(input: &[u8]) {
    let Some((&chunk, stream)) = input.split_first() else {
        return;
    };
    let (at_once, whole) = cut(stream, stream.len().max(1));
    let (in_parts, parts) = cut(stream, usize::from(chunk).max(1));
    assert_eq!(at_once.is_err(), in_parts.is_err());
    assert_eq!(whole, parts);
    for item in whole {
        let (headers, again) = match &item {
            Item::Request(request) => (&request.headers, request.encode()),
            Item::Response(response) => (&response.headers, response.encode()),
            Item::Interleaved { .. } => continue,
        };
        assert!(!again.is_empty());
        for (_, value) in headers.iter() {
            let _ = (
                Session::parse(value),
                Range::parse(value),
                RtpInfo::parse(value),
            );
            let _ = Authorization::parse(value);
            for transport in Transport::parse(value) {
                assert_eq!(Transport::parse(&transport.write()), [transport]);
            }
        }
    }
}

fn cut(stream: &[u8], chunk: usize) -> (Result<(), DecodeError>, Vec<Item>) {
    let (mut decoder, mut buffer, mut items) = (RtspDecoder::default(), BytesMut::new(), vec![]);
    for chunk in stream.chunks(chunk) {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (Err(error), items),
            }
        }
    }
    (Ok(()), items)
}

/// The origin and issuer of the golden vectors.
fn identity() -> Identity {
    Identity::from_secret(&[1; 32])
}

/// The root of the golden vectors.
fn root() -> Identity {
    Identity::from_secret(&[3; 32])
}

/// A statement of [`identity`]: its body, then its signature.
fn signed(purpose: Purpose, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let signature = identity().sign(purpose, body);
    let mut encoder = minicbor::Encoder::new(&mut out);
    let written = encoder
        .map(2)
        .and_then(|e| e.u8(0)?.bytes(body)?.u8(1)?.bytes(&signature));
    written.expect("writing to memory does not fail");
    out
}

/// The bytes that were signed in a statement.
#[must_use]
pub fn signed_body(statement: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = minicbor::Decoder::new(statement);
    decoder.map().ok()?;
    decoder.u8().ok()?;
    decoder.bytes().ok().map(<[u8]>::to_vec)
}

/// Decodes `bytes`; what it gives must decode to the same again once encoded.
fn survives<T>(bytes: &[u8]) -> Option<T>
where
    T: for<'b> Decode<'b, ()> + Encode<()> + PartialEq + std::fmt::Debug,
{
    let value: T = minicbor::decode(bytes).ok()?;
    let again = minicbor::to_vec(&value).expect("writing to memory does not fail");
    let decoded: T = minicbor::decode(&again).expect("what was decoded and encoded decodes again");
    assert_eq!(decoded, value);
    Some(value)
}
