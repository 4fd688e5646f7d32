//! Ids and units in rows: how serde writes and reads them, in JSON above all.
//!
//! Not bytes between nodes: those are CBOR, beside each type. Called by the views of `core` and `node`. Invariant: what
//! is read was checked like what is parsed from text.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::control::flow::RefuseReason;
use crate::frame::TrackKind;
use crate::id::{FlowId, InstanceId, LinkIndex, NodeId, StreamName};
use crate::units::{Bitrate, Layer, PacketSize};

/// Ids are text, since a number of 64 bits is more than JavaScript can hold.
macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(from)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

as_text!(NodeId, InstanceId, FlowId, StreamName);

/// Units are numbers; the field's name says of what.
macro_rules! as_number {
    ($($name:ident),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(to)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Deserialize::deserialize(from).map(Self)
            }
        }
    )+};
}

as_number!(LinkIndex, Layer, Bitrate);

impl Serialize for PacketSize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.bytes().serialize(to)
    }
}

impl<'de> Deserialize<'de> for PacketSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(from)?)
            .ok_or_else(|| D::Error::custom("packet size out of range"))
    }
}

/// Enums are words; one from a later version is read as the variant that stands for those.
macro_rules! as_word {
    ($name:ident, else $unknown:ident, $($variant:ident => $word:literal,)+) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Ok(match &*Cow::<str>::deserialize(from)? {
                    $($word => Self::$variant,)+
                    _ => Self::$unknown,
                })
            }
        }
    };
}

as_word! { TrackKind, else Data,
    Video => "video",
    Audio => "audio",
    Data => "data",
}

as_word! { RefuseReason, else Other,
    Unknown => "unknown",
    NoRoute => "no_route",
    Loop => "loop",
    NotWilling => "not_willing",
    Full => "full",
    Timeout => "timeout",
    Forbidden => "forbidden",
    TooLarge => "too_large",
    Congested => "congested",
    Capacity => "capacity",
    FalseKey => "false_key",
    Other => "other",
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde::de::DeserializeOwned;

    use super::*;

    /// A value, written, is this JSON; read again, it is the value.
    #[track_caller]
    fn is_json<T>(value: &T, json: &str)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        assert_eq!(serde_json::to_string(value).unwrap(), json);
        assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
    }

    #[test]
    fn ids_are_text_units_are_numbers_and_reasons_are_words() {
        is_json(&NodeId([0xab; 32]), &format!("\"{}\"", "ab".repeat(32)));
        is_json(&InstanceId([1; 16]), &format!("\"{}\"", "01".repeat(16)));
        is_json(&FlowId(u64::MAX), "\"ffffffffffffffff\"");
        is_json(&"a/b".parse::<StreamName>().unwrap(), "\"a/b\"");
        is_json(&LinkIndex(7), "7");
        is_json(&Bitrate(8_000_000), "8000000");
        is_json(&PacketSize::DEFAULT, "1232");
        is_json(&TrackKind::Audio, "\"audio\"");
        for reason in RefuseReason::all() {
            let json = serde_json::to_string(&reason).unwrap();
            is_json(&reason, &json);
        }
    }

    #[test]
    fn what_is_not_well_formed_is_not_read() {
        assert!(serde_json::from_str::<NodeId>("\"ab\"").is_err());
        assert!(serde_json::from_str::<FlowId>("\"+00000000000000f\"").is_err());
        assert!(serde_json::from_str::<StreamName>("\"../etc\"").is_err());
        assert!(serde_json::from_str::<PacketSize>("9").is_err());
    }

    #[test]
    fn a_word_from_a_later_version_is_read_as_other() {
        let reason: RefuseReason = serde_json::from_str("\"asleep\"").unwrap();
        let kind: TrackKind = serde_json::from_str("\"smell\"").unwrap();

        assert_eq!((reason, kind), (RefuseReason::Other, TrackKind::Data));
    }
}
