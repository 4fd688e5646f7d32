//! Link datagrams: liveness, loss and repair between two linked nodes, sealed under a key both got from TLS.
//!
//! ```text
//! off len field
//!  0   1  kind      0x06
//!  1   3  reserved  zero
//!  4   4  steer     bytes 4-7 of the flow that the body is about, else zero
//!  8   4  index     the receiver's own number for the link
//! 12   8  counter   high byte: the sending lane; the rest counts its datagrams on this link, from 1
//! 20   n  body      sealed: one message, type first
//! +n  16  seal      ChaCha20-Poly1305, AAD = bytes 0-19, nonce = 0^4 || counter
//! ```
//!
//! Steer stands where a media packet has it, so that one rule brings both to the lane that owns the flow.
//! Loss is never guessed from gaps in a flow: a ping says how many datagrams its sender has sent, a pong how
//! many have arrived. Not the decisions made from them: `core::link`, `lane::repair`. Called by
//! `lane`, which opens, and by `core`, which reads. Invariant: no bytes make a decoder panic, and nothing
//! is decoded from a datagram that does not open.
//!
//! Wire definition: docs/wire.md section 8

use std::fmt;

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

use crate::id::{FlowId, LinkIndex};
use crate::key::LinkKey;
use crate::packet::PACKET_BYTES_MAX;
use crate::units::{Number, PacketSize};

/// Bytes before the sealed body.
pub const LINK_HEADER_BYTES: usize = 20;
/// Bytes of the seal.
const SEAL_BYTES: usize = 16;
/// The largest link datagram: a ping as large as the largest media packet.
pub const LINK_DATAGRAM_BYTES_MAX: usize = PACKET_BYTES_MAX;
/// A ping without padding.
const PING_BYTES: usize = LINK_HEADER_BYTES + 1 + 8 + 8 + SEAL_BYTES;
/// A short padded ping: as large as the pong to it, which says its size.
pub const SHORT_PING_BYTES: usize = PING_BYTES + 8 + 2;
/// The most bytes of a bitmap of numbers: 256 packets.
pub const BITMAP_BYTES_MAX: usize = 32;

/// What one link datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkDatagram {
    /// Are you there?
    Ping(Ping),
    /// I am.
    Pong(Pong),
    /// Send these again.
    Nack(Numbers),
    /// Send these again: what I hold of them is false.
    NackBad(Numbers),
    /// I lack these too: do not ask me, and do not blame my link.
    Pending(Numbers),
    /// These will not come: shed, or too late.
    Gone(Numbers),
    /// The highest number sent so far, repeated after a flow falls quiet.
    Head(Head),
    /// Send this range from your cache, once.
    Pull(Pull),
    /// A type of a later version: that it came is all it says.
    Unknown(u8),
}

/// Are you there? Answered at once by a pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The sender's clock in microseconds; comes back in the pong.
    pub time: u64,
    /// Datagrams (all kinds but QUIC and padded pings) the sender has sent on this link before this one.
    pub sent: u64,
    /// Bytes of padding behind it: the pong to a padded ping proves that a packet of that size gets through.
    pub padding: u16,
}

impl Ping {
    /// A ping whose datagram is as large as a full packet of a stream.
    #[must_use]
    pub fn padded(time: u64, sent: u64, size: PacketSize) -> Self {
        let padding = size.bytes() - PING_BYTES;
        Self {
            time,
            sent,
            padding: u16::try_from(padding).expect("a packet size has 16 bits"),
        }
    }

    /// The ping that is sent beside one as large as a packet: it gets through wherever anything does.
    #[must_use]
    pub const fn short(time: u64, sent: u64) -> Self {
        Self {
            time,
            sent,
            padding: (SHORT_PING_BYTES - PING_BYTES) as u16,
        }
    }

    /// The bytes of the whole datagram if it is padded, else zero: what its pong says.
    #[must_use]
    pub fn size(&self) -> u16 {
        match self.padding {
            0 => 0,
            padding => padding.saturating_add(PING_BYTES as u16),
        }
    }
}

/// I am.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The time that the ping brought.
    pub time: u64,
    /// The count that the ping brought.
    pub sent: u64,
    /// Datagrams of the ping's sender that had arrived on this link before the ping; padded pings are not counted.
    pub received: u64,
    /// The bytes of the ping's whole datagram if it was padded, else zero.
    pub size: u16,
}

/// Some numbers of a flow: `first`, and `first + 1 + i` for each bit `i` that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The flow.
    pub flow: FlowId,
    /// The first of the numbers.
    pub first: Number,
    /// Which of those after it; at most [`BITMAP_BYTES_MAX`] bytes, most significant bit first.
    pub bitmap: Vec<u8>,
}

/// The highest number of a flow sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The flow.
    pub flow: FlowId,
    /// The highest number.
    pub highest: Number,
}

/// A range of a flow is wanted from the receiver's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The flow.
    pub flow: FlowId,
    /// The first number wanted.
    pub first: Number,
    /// How many numbers are wanted from `first` on.
    pub count: u16,
}

impl LinkDatagram {
    /// The flow it is about, if any: it steers the datagram to the lane that owns the flow.
    #[must_use]
    pub const fn flow(&self) -> Option<FlowId> {
        match self {
            Self::Ping(_) | Self::Pong(_) | Self::Unknown(_) => None,
            Self::Nack(numbers)
            | Self::NackBad(numbers)
            | Self::Pending(numbers)
            | Self::Gone(numbers) => Some(numbers.flow),
            Self::Head(head) => Some(head.flow),
            Self::Pull(pull) => Some(pull.flow),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ping(Ping {
                time,
                sent,
                padding,
            }) => {
                put(out, 1, &[time.to_be_bytes(), sent.to_be_bytes()]);
                out.resize(out.len() + usize::from(*padding), 0);
            }
            Self::Pong(Pong {
                time,
                sent,
                received,
                size,
            }) => {
                put(
                    out,
                    2,
                    &[
                        time.to_be_bytes(),
                        sent.to_be_bytes(),
                        received.to_be_bytes(),
                    ],
                );
                if *size > 0 {
                    out.extend_from_slice(&size.to_be_bytes());
                }
            }
            Self::Nack(numbers) => numbers.encode(3, out),
            Self::NackBad(numbers) => numbers.encode(4, out),
            Self::Pending(numbers) => numbers.encode(5, out),
            Self::Gone(numbers) => numbers.encode(6, out),
            Self::Head(Head { flow, highest }) => {
                put(
                    out,
                    7,
                    &[flow.0.to_be_bytes(), highest.value().to_be_bytes()],
                );
            }
            Self::Pull(Pull { flow, first, count }) => {
                put(out, 8, &[flow.0.to_be_bytes(), first.value().to_be_bytes()]);
                out.extend_from_slice(&count.to_be_bytes());
            }
            Self::Unknown(code) => out.push(*code),
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (&code, mut rest) = body.split_first()?;
        let rest = &mut rest;
        Some(match code {
            1 => Self::Ping(Ping {
                time: take_u64(rest)?,
                sent: take_u64(rest)?,
                padding: u16::try_from(rest.len()).ok()?,
            }),
            2 => Self::Pong(Pong {
                time: take_u64(rest)?,
                sent: take_u64(rest)?,
                received: take_u64(rest)?,
                size: take(rest).map_or(0, u16::from_be_bytes),
            }),
            3 => Self::Nack(Numbers::decode(rest)?),
            4 => Self::NackBad(Numbers::decode(rest)?),
            5 => Self::Pending(Numbers::decode(rest)?),
            6 => Self::Gone(Numbers::decode(rest)?),
            7 => Self::Head(Head {
                flow: FlowId(take_u64(rest)?),
                highest: take_number(rest)?,
            }),
            8 => Self::Pull(Pull {
                flow: FlowId(take_u64(rest)?),
                first: take_number(rest)?,
                count: u16::from_be_bytes(take(rest)?),
            }),
            // spec: WIRE 8.2 a message of an unknown type counts as received, and is ignored otherwise
            _ => Self::Unknown(code),
        })
    }
}

impl Numbers {
    fn encode(&self, code: u8, out: &mut Vec<u8>) {
        put(
            out,
            code,
            &[self.flow.0.to_be_bytes(), self.first.value().to_be_bytes()],
        );
        out.extend_from_slice(&self.bitmap[..self.bitmap.len().min(BITMAP_BYTES_MAX)]);
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let (flow, first) = (FlowId(take_u64(rest)?), take_number(rest)?);
        // spec: WIRE 8.2 a bitmap of more than 32 bytes MUST NOT decode
        (rest.len() <= BITMAP_BYTES_MAX).then(|| Self {
            flow,
            first,
            bitmap: rest.to_vec(),
        })
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = Number> + '_ {
        let set = |i: &usize| self.bitmap[i / 8] & (0x80 >> (i % 8)) != 0;
        let after = (0..self.bitmap.len() * 8)
            .filter(set)
            .map(|i| self.first.plus(i as u64 + 1));
        std::iter::once(self.first).chain(after)
    }
}

fn put(out: &mut Vec<u8>, code: u8, fields: &[[u8; 8]]) {
    out.push(code);
    for field in fields {
        out.extend_from_slice(field);
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_be_bytes)
}

fn take_number(rest: &mut &[u8]) -> Option<Number> {
    take_u64(rest).and_then(Number::new)
}

/// The clear header of a link datagram: enough to find the link whose key may open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkHeader {
    /// The receiver's own number for the link.
    pub index: LinkIndex,
    /// The sending lane and its count.
    pub counter: Counter,
}

impl LinkHeader {
    /// Reads the header; `None` if `datagram` is of another kind or of a length none has.
    #[must_use]
    pub fn peek(datagram: &[u8]) -> Option<Self> {
        // spec: WIRE 8.1 a link datagram has 37 to 1,440 bytes and no reserved bit set; others are dropped
        let length = LINK_HEADER_BYTES + 1 + SEAL_BYTES..=LINK_DATAGRAM_BYTES_MAX;
        if !length.contains(&datagram.len()) || datagram[..4] != [0x06, 0, 0, 0] {
            return None;
        }
        let mut rest = &datagram[8..];
        Some(Self {
            index: LinkIndex(u32::from_be_bytes(take(&mut rest)?)),
            counter: Counter(take_u64(&mut rest)?),
        })
    }
}

/// Which lane sent a datagram and how many it had sent before: unique on one link in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter(u64);

impl Counter {
    /// The `count`th datagram of `lane`.
    #[must_use]
    pub const fn new(lane: u8, count: u64) -> Self {
        Self((lane as u64) << 56 | count & ((1 << 56) - 1))
    }

    /// The sending lane.
    #[must_use]
    pub const fn lane(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Its count.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0 & ((1 << 56) - 1)
    }

    fn nonce(self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.0.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// One direction of one link: seals what is sent, or opens what is received.
pub struct LinkSeal {
    key: LessSafeKey,
}

impl fmt::Debug for LinkSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSeal(..)")
    }
}

impl LinkSeal {
    /// The seal under `key`.
    #[must_use]
    pub fn new(key: &LinkKey) -> Self {
        let unbound = UnboundKey::new(&ring::aead::CHACHA20_POLY1305, key.bytes())
            .expect("a link key has the algorithm's own length");
        Self {
            key: LessSafeKey::new(unbound),
        }
    }

    /// Appends a whole datagram to `out`. No counter may be used twice.
    pub fn seal(&self, header: LinkHeader, message: &LinkDatagram, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0x06, 0, 0, 0]);
        out.extend_from_slice(&message.flow().map_or(0, FlowId::steer).to_be_bytes());
        out.extend_from_slice(&header.index.0.to_be_bytes());
        out.extend_from_slice(&header.counter.0.to_be_bytes());
        message.encode(out);
        let (clear, body) = out[start..].split_at_mut(LINK_HEADER_BYTES);
        let tag = self
            .key
            .seal_in_place_separate_tag(header.counter.nonce(), Aad::from(&*clear), body)
            .expect("a body is far below the AEAD's limit");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens a datagram; `None` if its seal is false, or what it says is not what its type must say.
    #[must_use]
    pub fn open(&self, datagram: &[u8]) -> Option<LinkDatagram> {
        // spec: WIRE 8.1 a link datagram that was changed MUST NOT open
        let header = LinkHeader::peek(datagram)?;
        let (clear, sealed) = datagram.split_at(LINK_HEADER_BYTES);
        let mut buffer = [0; LINK_DATAGRAM_BYTES_MAX];
        let buffer = &mut buffer[..sealed.len()];
        buffer.copy_from_slice(sealed);
        let body = self
            .key
            .open_in_place(header.counter.nonce(), Aad::from(clear), buffer)
            .ok()?;
        LinkDatagram::decode(body)
    }
}

#[cfg(test)]
mod tests;
