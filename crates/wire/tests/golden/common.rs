//! Constants from which the golden samples are made: who speaks, of which stream, under which secrets.
//!
//! Not the samples. Used by the other files of this test. Invariant: nothing here ever changes, or every vector would.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_wire::key::{CarrySecret, ContentSecret};
use levada_wire::{FlowId, Identity, InstanceId, Layer, NetworkId, Number, StreamName};

pub(crate) const INSTANCE: InstanceId = InstanceId([0x1C; 16]);

pub(crate) type Sample = (String, Vec<u8>);

pub(crate) fn origin() -> Identity {
    Identity::from_secret(&[1; 32])
}

pub(crate) fn consumer() -> Identity {
    Identity::from_secret(&[2; 32])
}

pub(crate) fn root() -> Identity {
    Identity::from_secret(&[3; 32])
}

pub(crate) fn network() -> NetworkId {
    NetworkId::of_root(&root().id())
}

pub(crate) fn name() -> StreamName {
    "sports/final".parse().unwrap()
}

pub(crate) fn flow() -> FlowId {
    FlowId::derive(&origin().id(), &name(), &INSTANCE, Layer(0))
}

pub(crate) fn number(value: u64) -> Number {
    Number::new(value).unwrap()
}

pub(crate) fn content_secret() -> ContentSecret {
    ContentSecret::from_bytes([0xC0; 32])
}

pub(crate) fn carry_secret() -> CarrySecret {
    CarrySecret::from_bytes([0xCA; 32])
}
