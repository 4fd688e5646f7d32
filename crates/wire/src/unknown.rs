//! The fields of a CBOR map that this version does not know, kept so that a relay passes them on.
//!
//! A statement, a key request and its answer are read by every node on their way and written again. A relay of the
//! version before would drop what the two ends of the way have agreed on since; so it keeps such fields as the bytes
//! they came in and writes them behind its own. Not for messages that end at the neighbour: those ignore what they do
//! not know. Called by `announce` and `control::flow`. Invariant: at most [`UNKNOWN_BYTES_MAX`] bytes are kept.
//!
//! Wire definition: docs/wire.md section 3.6

use minicbor::data::Type;
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder, decode, encode};

/// The most bytes of unknown fields in one map, their keys included.
pub const UNKNOWN_BYTES_MAX: usize = 512;

/// Unknown fields, in the order and the bytes they came in. Rare: a message that has none should not be larger for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Option<Box<Fields>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    count: u64,
    bytes: Vec<u8>,
}

impl Unknown {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many fields they are.
    pub(crate) fn fields(&self) -> u64 {
        self.0.as_ref().map_or(0, |fields| fields.count)
    }

    /// Key and value of each, end to end.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |fields| &fields.bytes)
    }

    /// Reads a map: `known` reads the value of each key that it knows, and says whether it does. What it does not know
    /// is kept.
    pub(crate) fn read<'b>(
        d: &mut Decoder<'b>,
        mut known: impl FnMut(i64, &mut Decoder<'b>) -> Result<bool, decode::Error>,
    ) -> Result<Self, decode::Error> {
        let mut unknown = Self::default();
        let mut left = d.map()?;
        loop {
            match &mut left {
                Some(0) => return Ok(unknown),
                Some(left) => *left -= 1,
                None if d.datatype()? == Type::Break => {
                    d.skip()?;
                    return Ok(unknown);
                }
                None => {}
            }
            let start = d.position();
            let key = d.i64()?;
            if !known(key, d)? {
                d.skip()?;
                unknown.keep(&d.input()[start..d.position()])?;
            }
        }
    }

    fn keep(&mut self, field: &[u8]) -> Result<(), decode::Error> {
        // spec: WIRE 3.6 more than 512 bytes of unknown fields to be passed on MUST NOT decode
        if self.bytes().len() + field.len() > UNKNOWN_BYTES_MAX {
            let words = "at most 512 bytes of unknown fields are passed on";
            return Err(decode::Error::message(words));
        }
        let fields = self.0.get_or_insert_default();
        fields.count += 1;
        fields.bytes.extend_from_slice(field);
        Ok(())
    }

    /// Writes the fields behind those of a map whose header counts them.
    pub(crate) fn write<W: Write>(
        &self,
        e: &mut Encoder<W>,
    ) -> Result<(), encode::Error<W::Error>> {
        e.writer_mut()
            .write_all(self.bytes())
            .map_err(encode::Error::write)
    }
}

/// Gives a struct with a field `unknown` the encoding of a map of its other fields and what `unknown` keeps. A field is
/// a `value`, or `bytes`.
macro_rules! passed_on {
    ($name:ident { $($key:literal => $field:ident: $kind:ident,)+ }) => {
        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                ctx: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                let known = [$($key),+].len() as u64;
                e.map(known + self.unknown.fields())?;
                $(
                    e.u8($key)?;
                    $crate::unknown::passed_on!(@write $kind, &self.$field, e, ctx);
                )+
                self.unknown.write(e)
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                ctx: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let start = d.position();
                $(let mut $field = None;)+
                let unknown = $crate::unknown::Unknown::read(d, |key, d| {
                    match key {
                        $($key => $field = Some($crate::unknown::passed_on!(@read $kind, d, ctx)),)+
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                let lacks = |key| minicbor::decode::Error::missing_value(key).at(start);
                Ok(Self {
                    $($field: $field.ok_or_else(|| lacks($key))?,)+
                    unknown,
                })
            }
        }
    };
    (@write value, $field:expr, $e:ident, $ctx:ident) => {
        minicbor::Encode::encode($field, $e, $ctx)?
    };
    (@write bytes, $field:expr, $e:ident, $ctx:ident) => {
        minicbor::bytes::encode($field, $e, $ctx)?
    };
    (@read value, $d:ident, $ctx:ident) => {
        minicbor::Decode::decode($d, $ctx)?
    };
    (@read bytes, $d:ident, $ctx:ident) => {
        minicbor::bytes::decode($d, $ctx)?
    };
}
pub(crate) use passed_on;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Sample {
        number: u32,
        bytes: Vec<u8>,
        unknown: Unknown,
    }
    passed_on!(Sample { 0 => number: value, 4 => bytes: bytes, });

    fn read(bytes: &[u8]) -> Result<Sample, decode::Error> {
        decode(bytes)
    }

    #[test]
    fn unknown_fields_keep_their_bytes_and_follow_the_known_ones() {
        // {1: [_ 1, 2], 0: 7, 4: h'AA', 5: "x"}, where 1 and 5 are from the future.
        let came = b"\xa4\x01\x9f\x01\x02\xff\x00\x07\x04\x41\xaa\x05\x61x";

        let sample = read(came).unwrap();
        let written = minicbor::to_vec(&sample).unwrap();

        assert_eq!((sample.number, &sample.bytes[..]), (7, &[0xAA][..]));
        assert_eq!(
            written,
            b"\xa4\x00\x07\x04\x41\xaa\x01\x9f\x01\x02\xff\x05\x61x"
        );
        assert_eq!(read(&written).unwrap(), sample);
    }

    #[test]
    fn a_map_without_an_end_is_read_as_one_with_a_length() {
        let endless = read(b"\xbf\x00\x07\x04\x41\xaa\x05\x61x\xff").unwrap();

        assert_eq!(endless, read(b"\xa3\x00\x07\x04\x41\xaa\x05\x61x").unwrap());
        assert!(read(b"\xbf\x00\x07\x04\x41\xaa").is_err());
    }

    #[test]
    fn a_map_that_lacks_a_known_field_does_not_decode() {
        assert!(read(b"\xa2\x00\x07\x05\x61x").is_err());
        assert!(read(b"\xa1\x04\x41\xaa").is_err());
    }

    // spec: WIRE 3.6 more than 512 bytes of unknown fields to be passed on MUST NOT decode
    #[test]
    fn unknown_fields_beyond_their_limit_do_not_decode() {
        // Key 5 with a byte string: four bytes beside its content.
        let with = |length: u16| {
            let mut bytes = b"\xa3\x00\x07\x04\x41\xaa\x05\x59".to_vec();
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.resize(bytes.len() + usize::from(length), 0);
            read(&bytes)
        };
        let most = u16::try_from(UNKNOWN_BYTES_MAX - 4).unwrap();

        assert_eq!(with(most).unwrap().unknown.bytes().len(), UNKNOWN_BYTES_MAX);
        assert!(with(most + 1).is_err());
    }
}
