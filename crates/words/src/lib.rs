//! The table between what the core says and what the datapath says.
//!
//! ```text
//!   levada-core   FlowChange ──command──▶ Command   levada-lane
//!                      Input ◀──input──── Event
//! ```
//!
//! The two never import each other, so whoever drives both translates: the node with sockets, the simulator with virtual
//! time. A crate of its own, because the simulator must have the very table that ships and must not have the node, with its
//! sockets and threads. No decision is made here; a line that needs an `if` belongs into one of the machines. Called by
//! `levada` and `levada-sim`. Invariant: each line says one thing in two languages; nothing that one side says is left out,
//! but what the other has no ear for.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use levada_core::{FlowChange, Input};
use levada_lane::api::{Command, EgressTerms, Event, Originate};
use levada_wire::lane::{self, FlowEvent, LinkEvent};
use levada_wire::{Bitrate, Description, RepairBudget, StreamName};

/// What a publisher knows of its stream and the core does not.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Its tracks.
    pub description: Arc<Description>,
    /// How long frames are gathered into a burst.
    pub flush_interval: Duration,
}

/// What the datapath is to do for a change that the core wants. `offered` knows the streams published here; `None` if it
/// does not know the one to originate, which then has ended meanwhile.
pub fn command(
    change: FlowChange,
    offered: impl FnOnce(&StreamName) -> Option<Offered>,
) -> Option<Command> {
    Some(match change {
        FlowChange::Open { flow } => Command::OpenFlow { flow },
        FlowChange::Carry { flow, epoch, key } => Command::SetCarryKey { flow, epoch, key },
        FlowChange::AddUpstream { flow, link } => Command::AddUpstream { flow, link },
        FlowChange::RemoveUpstream { flow, link } => Command::RemoveUpstream { flow, link },
        FlowChange::AddEgress {
            flow,
            link,
            peak,
            budget,
        } => Command::AddEgress {
            flow,
            link,
            terms: terms(peak, budget),
        },
        FlowChange::SetPeak { flow, peak } => Command::SetPeak { flow, peak },
        FlowChange::SetBudget { flow, budget } => Command::SetBudget {
            flow,
            budget: budget.time(),
        },
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

fn terms(peak: Bitrate, budget: RepairBudget) -> EgressTerms {
    EgressTerms {
        peak,
        budget: budget.time(),
    }
}

/// What the core is to know of something the datapath says.
///
/// # Errors
///
/// What is not the core's comes back: deliveries go to subscribers, and what the system refuses to the log.
pub fn input(event: Event) -> Result<Input, Event> {
    let said = match event {
        Event::Datagram {
            link,
            message,
            received,
        } => lane::Event::Link(link, LinkEvent::Datagram { message, received }),
        Event::TooLarge { link, bytes } => lane::Event::Link(link, LinkEvent::TooLarge { bytes }),
        Event::Delivering { flow, link } => lane::Event::Flow(flow, FlowEvent::Delivering(link)),
        Event::Measured { flow, rate } => lane::Event::Flow(flow, FlowEvent::Measured(rate)),
        other @ (Event::Delivery { .. }
        | Event::MulticastEnded { .. }
        | Event::CannotHear { .. }) => return Err(other),
    };
    Ok(Input::Lane(said))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_lane::api::Delivery;
    use levada_wire::key::{CarryKey, ContentSecret, Suite};
    use levada_wire::{FlowId, InstanceId, Layer, LinkIndex, PacketSize};

    use super::*;

    const FLOW: FlowId = FlowId(7);
    const LINK: LinkIndex = LinkIndex(3);

    fn originate() -> FlowChange {
        FlowChange::Originate {
            flow: FLOW,
            name: "cam".parse().unwrap(),
            layer: Layer(0),
            instance: InstanceId([1; 16]),
            suite: Suite::default(),
            packet_size: PacketSize::DEFAULT,
            epoch: 0,
            secret: ContentSecret::from_bytes([2; 32]),
            carry: CarryKey::from_bytes([3; 16]),
        }
    }

    #[test]
    fn each_change_becomes_the_command_of_the_same_flow_and_link() {
        let (flow, link) = (FLOW, LINK);
        let key = CarryKey::from_bytes([3; 16]);
        let changes = [
            (FlowChange::Open { flow }, "OpenFlow"),
            (
                FlowChange::Carry {
                    flow,
                    epoch: 0,
                    key,
                },
                "SetCarryKey",
            ),
            (FlowChange::AddUpstream { flow, link }, "AddUpstream"),
            (FlowChange::RemoveUpstream { flow, link }, "RemoveUpstream"),
            (
                FlowChange::AddEgress {
                    flow,
                    link,
                    peak: Bitrate(4_000_000),
                    budget: RepairBudget::MAX,
                },
                "AddEgress",
            ),
            (
                FlowChange::SetBudget {
                    flow,
                    budget: RepairBudget::MAX,
                },
                "SetBudget",
            ),
            (FlowChange::RemoveEgress { flow, link }, "RemoveEgress"),
            (FlowChange::StopConsuming { flow }, "StopConsuming"),
            (FlowChange::Close { flow }, "CloseFlow"),
        ];
        for (change, expected) in changes {
            let said = format!("{change:?}");

            let command = command(change, |_| None).unwrap();

            let shown = format!("{command:?}");
            assert!(shown.starts_with(expected), "{said} became {shown}");
            assert!(shown.contains(&format!("{FLOW:?}")), "{shown}");
            let names_link = |text: &str| text.contains(&format!("{LINK:?}"));
            assert_eq!(
                names_link(&said),
                names_link(&shown),
                "{said} became {shown}"
            );
        }
    }

    #[test]
    fn a_stream_is_originated_with_what_its_publisher_offered_or_not_at_all() {
        let offered = Offered {
            description: Arc::new(Description { tracks: Vec::new() }),
            flush_interval: Duration::from_millis(10),
        };

        let known = command(originate(), |name| {
            (name.as_str() == "cam").then(|| offered.clone())
        });

        let Some(Command::Originate(known)) = known else {
            panic!("{known:?}");
        };
        assert_eq!(known.flow, FLOW);
        assert_eq!(known.description, offered.description);
        assert_eq!(known.flush_interval, offered.flush_interval);
        assert!(command(originate(), |_| None).is_none());
    }

    #[test]
    fn the_core_hears_of_a_delivering_link_and_not_of_deliveries() {
        let (flow, link) = (FLOW, LINK);
        let delivery = Delivery::End;

        let heard = input(Event::Delivering { flow, link });
        let unheard = input(Event::Delivery { flow, delivery });

        assert!(matches!(
            heard,
            Ok(Input::Lane(lane::Event::Flow(
                FLOW,
                FlowEvent::Delivering(LINK)
            )))
        ));
        assert!(matches!(unheard, Err(Event::Delivery { flow: FLOW, .. })));
    }
}
