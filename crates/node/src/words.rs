//! The table between the core's words and the datapath's.
//!
//! The two never import each other; here is where they meet, line by line, without a decision. Called by
//! `driver`. Invariant: each line says one thing in two languages; what needs more than the words in front of it
//! (a description, a link's keys) is looked up, never invented.

use std::sync::Arc;
use std::time::Duration;

use levada_core::{FlowChange, Input};
use levada_datapath::api::{Command, Event, Originate};
use levada_wire::{Description, StreamName};

use crate::quic::connection::LinkKeys;
use crate::tap::{Tap, Tapped};

/// What the core does not know of a stream that is published here.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) description: Arc<Description>,
    pub(crate) flush_interval: Duration,
}

/// What the datapath is to do for a change that the core wants. `offered` knows the streams published here;
/// `None` if it does not know the one to originate, which then has ended meanwhile.
pub(crate) fn command(
    change: FlowChange,
    offered: impl FnOnce(&StreamName) -> Option<Offered>,
) -> Option<Command> {
    Some(match change {
        FlowChange::Open { flow } => Command::OpenFlow { flow },
        FlowChange::Carry { flow, epoch, key } => Command::SetCarryKey { flow, epoch, key },
        FlowChange::AddUpstream { flow, link } => Command::AddUpstream { flow, link },
        FlowChange::RemoveUpstream { flow, link } => Command::RemoveUpstream { flow, link },
        FlowChange::AddEgress { flow, link } => Command::AddEgress { flow, link },
        FlowChange::RemoveEgress { flow, link } => Command::RemoveEgress { flow, link },
        FlowChange::Consume {
            flow,
            instance,
            suite,
            epoch,
            secret,
        } => Command::Consume {
            flow,
            instance,
            suite,
            epoch,
            secret,
        },
        FlowChange::StopConsuming { flow } => Command::StopConsuming { flow },
        FlowChange::Originate {
            flow,
            name,
            layer: _,
            instance,
            suite,
            packet_size,
            epoch,
            secret,
            carry,
        } => {
            let Offered {
                description,
                flush_interval,
            } = offered(&name)?;
            Command::Originate(Box::new(Originate {
                flow,
                instance,
                suite,
                epoch,
                secret,
                carry,
                packet_size,
                description,
                flush_interval,
            }))
        }
        FlowChange::Close { flow } => Command::CloseFlow { flow },
    })
}

/// What the core is to know of something that the datapath says; `None` for what is not the core's.
pub(crate) fn input(event: Event) -> Option<Input> {
    match event {
        Event::Datagram {
            link,
            message,
            received,
        } => Some(Input::Datagram {
            link,
            message,
            received,
        }),
        Event::Delivering { flow, link } => Some(Input::Delivering { flow, link }),
        Event::Delivery { .. } => None,
    }
}

/// Shows a tap the secrets in a change.
pub(crate) fn show_secrets(change: &FlowChange, tap: &dyn Tap) {
    match change {
        FlowChange::Carry { key, .. } => tap.see(Tapped::CarryKey(key.bytes())),
        FlowChange::Consume { secret, .. } => tap.see(Tapped::ContentSecret(secret.bytes())),
        FlowChange::Originate { secret, carry, .. } => {
            tap.see(Tapped::ContentSecret(secret.bytes()));
            tap.see(Tapped::CarryKey(carry.bytes()));
        }
        _ => {}
    }
}

/// Shows a tap the keys of a link.
pub(crate) fn show_link_keys(keys: &LinkKeys, tap: &dyn Tap) {
    tap.see(Tapped::LinkKey(keys.send.bytes()));
    tap.see(Tapped::LinkKey(keys.receive.bytes()));
}
