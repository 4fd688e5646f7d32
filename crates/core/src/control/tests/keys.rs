//! Keys through whole nodes: who gets which, and whose answers count.

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{Accept, InstanceRef, KeyGrant, KeyRefusal, RefuseReason};
use levada_wire::identity::SealedSecret;
use levada_wire::key::CarryKey;
use rand_core::SeedableRng as _;

use super::flows::star;
use super::*;
use crate::view::FlowCause;

#[test]
fn no_secret_is_in_any_control_byte() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.subscribe(3, 1, "cam");
    net.pass(Duration::from_secs(5));

    let mut checked = 0;
    for node in 0..4 {
        for (_, command) in net.told(node) {
            match command {
                FlowCommand::Originate(originate) => {
                    assert!(!contains(&net.wire, originate.secret.bytes()));
                    assert!(!contains(&net.wire, originate.carry.bytes()));
                    checked += 1;
                }
                FlowCommand::Consume { secret, .. } => {
                    assert!(!contains(&net.wire, secret.bytes()));
                    checked += 1;
                }
                FlowCommand::SetCarryKey { key, .. } => {
                    assert!(!contains(&net.wire, key.bytes()));
                    checked += 1;
                }
                _ => {}
            }
        }
    }
    assert_eq!(checked, 6, "one origin, two consumers, three carriers");
    assert!(
        contains(&net.wire, b"cam"),
        "the search finds what is there"
    );
}

/// A chain 0 - 1 - 2 in which everything reaches the player 2 but the answer to its key request, which is returned.
fn without_secret() -> (Net, KeyGrant) {
    let mut net = Net::new(3, &[(0, 1), (1, 2)]);
    net.publish(0, "cam");
    net.withhold_grants = true;
    net.subscribe(2, 1, "cam");
    let grant = net.withheld.pop().expect("the origin answered");
    net.withhold_grants = false;
    net.told(2);
    (net, grant)
}

fn grant_comes(net: &mut Net, grant: KeyGrant) {
    let message = Message::Flow(FlowMessage::KeyGrant(grant));
    net.input(
        2,
        Input::Link(LinkInput::Message {
            link: index(1),
            message,
        }),
    );
}

#[test]
fn a_secret_from_anyone_but_the_origin_is_not_taken() {
    let (mut net, grant) = without_secret();
    let consumer = net.nodes[2].id();
    let context = levada_wire::control::flow::content_context(&grant.of, grant.epoch);
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let sealed = SealedSecret::seal(&consumer, &context, &[7; 32], &mut rng).unwrap();

    for signature in [vec![], vec![0; 64], grant.signature.clone()] {
        let sealed = sealed.clone();
        grant_comes(
            &mut net,
            KeyGrant {
                sealed,
                signature,
                ..grant.clone()
            },
        );
    }
    let forged = secrets(&net.told(2));
    grant_comes(&mut net, grant);

    assert_eq!(forged, []);
    let origin = net.told(0);
    assert_eq!(
        secrets(&net.told(2)),
        secrets(&origin)[..1],
        "the true one is taken after them"
    );
}

/// The carry keys that a node was told to use or to make.
fn carry_keys(told: &[(FlowId, FlowCommand)]) -> Vec<CarryKey> {
    let key = |(_, command): &(FlowId, FlowCommand)| match command {
        FlowCommand::SetCarryKey { key, .. } => Some(key.clone()),
        FlowCommand::Originate(originate) => Some(originate.carry.clone()),
        _ => None,
    };
    told.iter().filter_map(key).collect()
}

/// `from` accepts the request of `to` with a key of its own making.
fn false_accept(net: &mut Net, from: usize, to: usize, flow: FlowId) {
    let context = levada_wire::control::flow::carry_context(flow, 0);
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let node = net.nodes[to].id();
    let sealed = SealedSecret::seal(&node, &context, &[7; 16], &mut rng).unwrap();
    let key = Some(levada_wire::control::flow::CarryGrant { epoch: 0, sealed });
    let message = Message::Flow(FlowMessage::Accept(Accept { flow, key }));
    let link = index(from);
    net.input(to, Input::Link(LinkInput::Message { link, message }));
    net.settle();
}

// spec: WIRE 3.2 a carry key that does not lead to the carry end MUST NOT be used
#[test]
fn a_false_carry_key_is_neither_used_nor_handed_on_and_its_giver_is_left() {
    // 2 asks 1, which lies, though 3 leads to the origin too; 4 asks 2.
    let mut net = Net::new(5, &[(0, 1), (0, 3), (1, 2), (3, 2), (2, 4)]);
    net.publish(0, "cam");
    net.deaf = Some((2, 1));
    net.subscribe(4, 1, "cam");
    let flow = net.flow(4, "cam").unwrap().flow;
    assert_eq!(net.flow(2, "cam").unwrap().upstream, Some(index(1)));

    false_accept(&mut net, 1, 2, flow);

    let row = net.flow(2, "cam").unwrap();
    let (link, reason) = (index(1), RefuseReason::FalseKey);
    assert_eq!(row.upstream, Some(index(3)));
    assert_eq!(row.cause, Some(FlowCause::Elsewhere { link, reason }));
    let origins = carry_keys(&net.told(0));
    assert_eq!(origins.len(), 1);
    for node in [2, 4] {
        assert_eq!(carry_keys(&net.told(node)), origins, "node {node}");
    }
}

#[test]
fn a_carry_key_that_was_not_asked_for_is_not_taken() {
    // 3 is a neighbour of the player 2 that nobody asks for anything.
    let mut net = Net::new(4, &[(0, 1), (1, 2), (3, 2)]);
    net.publish(0, "cam");
    net.subscribe(2, 1, "cam");
    let flow = net.flow(2, "cam").unwrap().flow;
    net.told(2);

    for (from, epoch) in [(3, 0), (3, 1), (1, 1), (1, 2)] {
        let context = levada_wire::control::flow::carry_context(flow, epoch);
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let node = net.nodes[2].id();
        let sealed = SealedSecret::seal(&node, &context, &[7; 16], &mut rng).unwrap();
        let key = Some(levada_wire::control::flow::CarryGrant { epoch, sealed });
        let message = Message::Flow(FlowMessage::Accept(Accept { flow, key }));
        net.input(
            2,
            Input::Link(LinkInput::Message {
                link: index(from),
                message,
            }),
        );
    }

    assert_eq!(net.told(2), []);
}

#[test]
fn a_refusal_or_a_grant_that_was_not_asked_of_a_neighbour_takes_nobodys_answer() {
    // 3 answers the question that 1 passed on to 0.
    let mut net = Net::new(4, &[(0, 1), (1, 2), (3, 1)]);
    net.publish(0, "cam");
    net.deaf = Some((0, 1));
    net.subscribe(2, 1, "cam");
    let announce = net.nodes[2].stream_rows(None).next().unwrap();
    let of = InstanceRef {
        origin: announce.origin,
        name: announce.name,
        instance: announce.instance,
    };
    let consumer = net.nodes[2].id();

    let refusal = KeyRefusal {
        unknown: Default::default(),
        of,
        consumer,
        reason: RefuseReason::Forbidden,
    };
    let message = Message::Flow(FlowMessage::KeyRefusal(refusal));
    let before = net.linked[&(1, 2)].len();
    net.input(
        1,
        Input::Link(LinkInput::Message {
            link: index(3),
            message: message.clone(),
        }),
    );
    let from_a_stranger = net.linked[&(1, 2)].len();
    net.input(
        1,
        Input::Link(LinkInput::Message {
            link: index(0),
            message,
        }),
    );

    assert_eq!(from_a_stranger, before);
    assert_eq!(
        net.linked[&(1, 2)].len(),
        before + 1,
        "of the one that was asked it counts"
    );
}
