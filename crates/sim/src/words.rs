//! The table between what the core says and what the datapath says.
//!
//! The same table as the node's: the two crates do not know each other, so whoever joins them translates. No decision
//! is made here; a line that needs an `if` belongs into one of the machines. Called by `node`. Invariant: nothing that
//! one side says is left out, but what the other has no ear for: deliveries go to subscribers.

use std::sync::Arc;
use std::time::Duration;

use levada_core::{FlowChange, Input};
use levada_datapath::api::{Command, Event, Originate};
use levada_wire::{Description, StreamName};

/// What a publisher knows of its stream and the core does not.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) description: Arc<Description>,
    pub(crate) flush_interval: Duration,
}

/// What the datapath is to do for a change that the core wants; `None` for a stream that nobody publishes any more.
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

/// What the core is to know of something the datapath says.
pub(crate) fn input(event: Event) -> Result<Input, Event> {
    match event {
        Event::Datagram {
            link,
            message,
            received,
        } => Ok(Input::Datagram {
            link,
            message,
            received,
        }),
        Event::Delivering { flow, link } => Ok(Input::Delivering { flow, link }),
        delivery @ Event::Delivery { .. } => Err(delivery),
    }
}
