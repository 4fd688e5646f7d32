//! Ids: what things are called on the wire and in every table.
//!
//! Not units (`units.rs`) and not keys (`key.rs`): nothing here is secret. Called by everyone.
//! Invariant: an id of one kind cannot be passed for another, and a [`StreamName`] is always well formed.
//!
//! Wire definition: docs/wire.md section 2

use std::fmt;
use std::str::FromStr;

use minicbor::bytes::{DecodeBytes, EncodeBytes};
use minicbor::{Decode, Encode};

/// Gives a newtype over bytes its hex forms and its CBOR form (a byte string of exactly that length).
macro_rules! byte_id {
    ($name:ident, $len:literal, $short:literal) => {
        impl $name {
            /// The first hex digits: enough to tell nodes apart in a table.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..$short])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                ctx: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                EncodeBytes::encode_bytes(&self.0, e, ctx)
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                ctx: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                <[u8; $len] as DecodeBytes<'b, C>>::decode_bytes(d, ctx).map(Self)
            }
        }
    };
}

/// A node: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);
byte_id!(NodeId, 32, 4);

impl NodeId {
    /// The first 8 bytes: how a node is named where space counts (hop lists, site datagrams).
    #[must_use]
    pub fn prefix(&self) -> NodePrefix {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        NodePrefix(prefix)
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        unhex(text).map(Self).ok_or(IdError::NotHex {
            what: "a node id",
            digits: 64,
        })
    }
}

/// The first 8 bytes of a node id. Names a node among those one knows; proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePrefix(pub [u8; 8]);
byte_id!(NodePrefix, 8, 4);

/// The end of the chain of a flow's carry keys: what its origin commits to. Public; proves a key, makes none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarryEnd(pub [u8; 32]);
byte_id!(CarryEnd, 32, 4);

/// A network: hash of its root key; all zero for the open network of a LAN.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub [u8; 16]);
byte_id!(NetworkId, 16, 4);

impl NetworkId {
    /// The network of nodes that were given none.
    pub const OPEN: Self = Self([0; 16]);

    /// The network whose root key is `root`: the first 16 bytes of SHA-256 over a label and the key.
    #[must_use]
    pub fn of_root(root: &NodeId) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(b"levada/1 network");
        hash.update(&root.0);
        let mut first = [0; 16];
        first.copy_from_slice(&hash.finish().as_ref()[..16]);
        Self(first)
    }
}

/// One start of an origin's stream: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub [u8; 16]);
byte_id!(InstanceId, 16, 4);

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        unhex(text).map(Self).ok_or(IdError::NotHex {
            what: "an instance id",
            digits: 32,
        })
    }
}

/// A flow: (stream, instance, layer), hashed by [`FlowId::derive`]. Dies with the instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct FlowId(#[n(0)] pub u64);

impl FlowId {
    /// The first 64 bits of SHA-256 over a label, the origin, the instance, the layer and the name.
    #[must_use]
    pub fn derive(
        origin: &NodeId,
        name: &StreamName,
        instance: &InstanceId,
        layer: crate::units::Layer,
    ) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(b"levada/1 flow");
        hash.update(&origin.0);
        hash.update(&instance.0);
        hash.update(&[layer.0]);
        hash.update(name.as_str().as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finish().as_ref()[..8]);
        Self(u64::from_be_bytes(first))
    }

    /// The 32 bits at bytes 4-7 of a packet, by which receive queues and lanes are chosen.
    #[must_use]
    pub const fn steer(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for FlowId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let id = unhex(text).ok_or(IdError::NotHex {
            what: "a flow id",
            digits: 16,
        })?;
        Ok(Self(u64::from_be_bytes(id)))
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The receiver's own number for one of its links, written into each link datagram sent to it.
///
/// Each side picks its own; the pair of them means nothing to a third node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct LinkIndex(#[n(0)] pub u32);

/// The name of a stream: `sports/final`. One to [`StreamName::BYTES_MAX`] bytes of letters, digits and `-_.`,
/// in parts divided by single `/`; no part is `.` or `..`, so that a name is safe in a URL and as a file path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Box<str>);

impl StreamName {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // spec: WIRE 2.3 a name of other length, characters or parts MUST be refused
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(IdError::NameLength { bytes: text.len() });
        }
        if let Some(character) = text
            .chars()
            .find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')))
        {
            return Err(IdError::NameCharacter { character });
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(IdError::NamePart);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> Encode<C> for StreamName {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for StreamName {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?
            .parse()
            .map_err(|_| minicbor::decode::Error::message("not a stream name"))
    }
}

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not the hex digits it should be.
    #[error("{what} is {digits} hex digits")]
    NotHex {
        /// Which id was expected.
        what: &'static str,
        /// How many digits it has.
        digits: usize,
    },
    /// Empty or too long.
    #[error(
        "a stream name has 1 to {} bytes, this one has {bytes}",
        StreamName::BYTES_MAX
    )]
    NameLength {
        /// Its length.
        bytes: usize,
    },
    /// A character that is not allowed.
    #[error(
        "a stream name is made of letters, digits, `-`, `_`, `.` and `/`; {character:?} is none of them"
    )]
    NameCharacter {
        /// The first of its kind.
        character: char,
    },
    /// `a//b`, `/a`, `a/`, `a/../b`.
    #[error("each part of a stream name between `/` must have a name other than `.` and `..`")]
    NamePart,
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::units::Layer;

    #[test]
    fn a_node_id_survives_its_text_form() {
        let id = NodeId(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));

        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        assert!("zz".parse::<NodeId>().is_err());
        assert!("é".repeat(32).parse::<NodeId>().is_err());
    }

    // spec: WIRE 2.3
    #[test]
    fn a_bad_stream_name_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "1 to 128 bytes"),
            (&"x".repeat(129), "129"),
            ("a b", "' '"),
            ("a//b", "each part"),
            ("../etc", "each part"),
            ("/a", "each part"),
        ] {
            let error = text.parse::<StreamName>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        assert!("sports/final-2.1_b".parse::<StreamName>().is_ok());
    }

    #[test]
    fn each_part_of_a_flow_changes_its_id() {
        let name: StreamName = "cam".parse().unwrap();
        let other: StreamName = "cam2".parse().unwrap();
        let base = FlowId::derive(&NodeId([1; 32]), &name, &InstanceId([2; 16]), Layer(0));

        assert_ne!(
            base,
            FlowId::derive(&NodeId([3; 32]), &name, &InstanceId([2; 16]), Layer(0))
        );
        assert_ne!(
            base,
            FlowId::derive(&NodeId([1; 32]), &other, &InstanceId([2; 16]), Layer(0))
        );
        assert_ne!(
            base,
            FlowId::derive(&NodeId([1; 32]), &name, &InstanceId([3; 16]), Layer(0))
        );
        assert_ne!(
            base,
            FlowId::derive(&NodeId([1; 32]), &name, &InstanceId([2; 16]), Layer(1))
        );
    }
}
