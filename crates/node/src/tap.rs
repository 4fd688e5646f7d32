//! A look at what the node says and at what it must not say, for the tests that compare the two.
//!
//! Not logging and not for operators: without a tap, none of this costs anything. Called by `quic` for bytes and
//! by `driver` for secrets. Invariant: a tap sees; it changes nothing.

use std::fmt;

use levada_wire::lane::FlowCommand;

use crate::quic::connection::LinkKeys;

/// Something that passed.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Tapped<'a> {
    /// Bytes of a control stream, either way, as inside the encrypted connection.
    Control(&'a [u8]),
    /// A content secret that this node holds.
    ContentSecret(&'a [u8]),
    /// A carry key that this node holds.
    CarryKey(&'a [u8]),
    /// A link key that this node holds.
    LinkKey(&'a [u8]),
}

/// Somebody who looks.
#[doc(hidden)]
pub trait Tap: fmt::Debug + Send + Sync {
    /// Looks at one thing. Called on the node's tasks: must not block.
    fn see(&self, what: Tapped<'_>);
}

/// Shows a tap the secrets in a command.
pub(crate) fn show_secrets(command: &FlowCommand, tap: &dyn Tap) {
    match command {
        FlowCommand::SetCarryKey { key, .. } => tap.see(Tapped::CarryKey(key.bytes())),
        FlowCommand::Consume { secret, .. } => tap.see(Tapped::ContentSecret(secret.bytes())),
        FlowCommand::Originate(originate) => {
            tap.see(Tapped::ContentSecret(originate.secret.bytes()));
            tap.see(Tapped::CarryKey(originate.carry.bytes()));
        }
        _ => {}
    }
}

/// Shows a tap the keys of a link.
pub(crate) fn show_link_keys(keys: &LinkKeys, tap: &dyn Tap) {
    tap.see(Tapped::LinkKey(keys.send.bytes()));
    tap.see(Tapped::LinkKey(keys.receive.bytes()));
}
