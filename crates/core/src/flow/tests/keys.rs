//! The limits of asking for secrets and of passing the answers on.

use levada_wire::control::Decoder;
use levada_wire::control::flow::{KeyGrant, KeyRefusal};
use levada_wire::identity::SealedSecret;
use levada_wire::key::CarryKey;

use super::*;
use crate::limits::{KEY_ASKERS_MAX, KEY_GRANTS_KEPT_MAX, KEY_RETRY_MAX, KEY_RETRY_MIN};

fn instance(origin: &Identity) -> InstanceRef {
    InstanceRef {
        origin: origin.id(),
        name: stream(1),
        instance: InstanceId([1; 16]),
    }
}

fn ask(link: LinkIndex, of: &InstanceRef, consumer: NodeId) -> Input {
    let request = KeyRequest {
        of: of.clone(),
        consumer,
        hops_left: 5,
        unknown: Unknown::default(),
    };
    Input::Message {
        link,
        message: FlowMessage::KeyRequest(request),
    }
}

#[test]
fn keys_of_an_origin_that_commits_to_none_are_believed() {
    let (mut flows, origin) = (flows(), identity(5));
    let flow = announce(&origin, 1, 1).flow(Layer(0));
    assert_eq!(announce(&origin, 1, 1).carry, None);
    let subscribe = FlowInput::Subscribe {
        id: SubscriptionId(1),
        name: stream(1),
        layer: Layer(0),
        budget: RepairBudget::DEFAULT,
        paths: Paths::One,
    };
    feed(
        &mut flows,
        [
            link_up(UP),
            announced(&origin, 1),
            route_to(&origin, UP),
            Input::Outside(subscribe),
        ],
    );
    let mut rng = chance::generator(&[1; 32], 1);
    let context = message::carry_context(flow, 0);
    let sealed = SealedSecret::seal(&identity(0).id(), &context, &[7; 16], &mut rng).unwrap();
    let key = Some(message::CarryGrant { epoch: 0, sealed });

    let accept = FlowMessage::Accept(message::Accept { flow, key });
    let link = UP;
    feed(
        &mut flows,
        [Input::Message {
            link,
            message: accept,
        }],
    );

    let key = CarryKey::from_bytes([7; 16]);
    let set = api::Output::Flow(flow, FlowCommand::SetCarryKey { epoch: 0, key });
    let set = Output::Outside(set);
    assert!(std::iter::from_fn(|| flows.poll_output()).any(|output| output == set));
}

#[test]
fn a_child_whose_packets_overtake_its_cancel_is_fed_no_more() {
    let (mut flows, origin, child) = (flows(), identity(5), LinkIndex(2));
    let flow = announce(&origin, 1, 1).flow(Layer(0));
    let accept = |link, key| Input::Message {
        link,
        message: FlowMessage::Accept(message::Accept { flow, key }),
    };
    let subscribe = FlowInput::Subscribe {
        id: SubscriptionId(1),
        name: stream(1),
        layer: Layer(0),
        budget: RepairBudget::DEFAULT,
        paths: Paths::One,
    };
    let mut rng = chance::generator(&[1; 32], 1);
    let context = message::carry_context(flow, 0);
    let sealed = SealedSecret::seal(&identity(0).id(), &context, &[7; 16], &mut rng).unwrap();
    let key = Some(message::CarryGrant { epoch: 0, sealed });
    feed(
        &mut flows,
        [
            link_up(UP),
            link_up(child),
            announced(&origin, 1),
            route_to(&origin, UP),
            Input::Outside(subscribe),
            request(child, flow),
            accept(UP, key),
        ],
    );
    assert_eq!(flows.carried.get(flow).unwrap().granted().count(), 1);

    // The way leads through the child now, which has another.
    feed(&mut flows, [route_to(&origin, child)]);
    let delivers = Input::Lane(flow, FlowEvent::CaughtUp(child));
    feed(&mut flows, [delivers]);

    let carried = flows.carried.get(flow).unwrap();
    assert_eq!(carried.upstream.link(), Some(child));
    assert_eq!(carried.granted().count(), 0);
}

#[test]
fn of_more_neighbours_that_ask_for_one_consumer_the_first_few_are_answered() {
    let (mut flows, origin) = (flows(), identity(5));
    let (of, consumer) = (instance(&origin), identity(6).id());
    let children = (10..).take(KEY_ASKERS_MAX + 1).map(LinkIndex);
    feed(&mut flows, [link_up(UP), route_to(&origin, UP)]);
    feed(&mut flows, children.clone().map(link_up));
    feed(&mut flows, children.map(|child| ask(child, &of, consumer)));
    refusals(&mut flows);

    let reason = RefuseReason::Unknown;
    let refusal = KeyRefusal {
        of,
        consumer,
        reason,
        unknown: Unknown::default(),
    };
    let answer = Input::Message {
        link: UP,
        message: FlowMessage::KeyRefusal(refusal),
    };
    feed(&mut flows, [answer]);

    let answered = refusals(&mut flows);
    assert_eq!(answered.len(), KEY_ASKERS_MAX);
    assert_eq!(answered[0], (LinkIndex(10), reason));
}

/// The same message as a later version writes it: with a field 200, which is "x".
fn of_a_later_version(message: FlowMessage) -> FlowMessage {
    let mut bytes = Vec::new();
    Message::Flow(message).encode(&mut bytes);
    bytes[6] += 1;
    bytes.extend_from_slice(&[0x18, 200, 0x61, b'x']);
    let length = u32::try_from(bytes.len() - 6).unwrap();
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    let mut messages = Vec::new();
    Decoder::default().push(&bytes, &mut messages).unwrap();
    match messages.pop() {
        Some(Message::Flow(message)) => message,
        other => panic!("{other:?}"),
    }
}

// spec: WIRE 7.3 fields of a key request and of its answer that a node does not know MUST be passed on
#[test]
fn a_relay_passes_on_what_it_does_not_know_of_a_key_request_and_of_its_answer() {
    let (mut flows, origin, child) = (flows(), identity(5), LinkIndex(2));
    let (of, consumer) = (instance(&origin), identity(6).id());
    feed(
        &mut flows,
        [link_up(UP), link_up(child), route_to(&origin, UP)],
    );
    let request = of_a_later_version(FlowMessage::KeyRequest(KeyRequest {
        of: of.clone(),
        consumer,
        hops_left: 5,
        unknown: Unknown::default(),
    }));
    let refusal = of_a_later_version(FlowMessage::KeyRefusal(KeyRefusal {
        of: of.clone(),
        consumer,
        reason: RefuseReason::Forbidden,
        unknown: Unknown::default(),
    }));
    let before = of_a_later_version(FlowMessage::KeyRequest(KeyRequest {
        of,
        consumer,
        hops_left: 4,
        unknown: Unknown::default(),
    }));
    while flows.poll_output().is_some() {}

    let said = |link, message| Input::Message { link, message };
    feed(&mut flows, [said(child, request)]);
    feed(&mut flows, [said(UP, refusal.clone())]);

    let sent = |output| match output {
        Output::Outside(api::Output::Send {
            link,
            message: Message::Flow(message),
        }) => Some((link, message)),
        _ => None,
    };
    let outputs = std::iter::from_fn(|| flows.poll_output());
    let passed: Vec<_> = outputs.filter_map(sent).collect();
    assert_eq!(passed, [(UP, before), (child, refusal)]);
}

/// The grants that were sent.
fn grants(flows: &mut Flows) -> Vec<KeyGrant> {
    let grant = |output| match output {
        Output::Outside(api::Output::Send {
            message: Message::Flow(FlowMessage::KeyGrant(grant)),
            ..
        }) => Some(grant),
        _ => None,
    };
    let outputs = std::iter::from_fn(|| flows.poll_output());
    outputs.filter_map(grant).collect()
}

#[test]
fn a_grant_is_made_once_until_more_were_made_than_are_kept() {
    let mut flows = flows();
    feed(
        &mut flows,
        [link_up(UP), Input::Outside(FlowInput::Publish(offer(1)))],
    );
    let of = flows.published[&stream(1)].of.clone();
    let granted = |flows: &mut Flows, consumer: NodeId| {
        feed(flows, [ask(UP, &of, consumer)]);
        grants(flows).pop().unwrap()
    };
    let consumer = identity(7).id();
    let first = granted(&mut flows, consumer);
    assert_eq!(granted(&mut flows, consumer), first);
    // The one with the least id goes first: the others' are above any that a key has here.
    let others = (1..KEY_GRANTS_KEPT_MAX as u64).map(|number| {
        let mut id = [0xFF; 32];
        id[24..].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    });
    let published = flows.published.get_mut(&stream(1)).unwrap();
    published
        .grants
        .extend(others.map(|id| (id, first.clone())));
    assert_eq!(published.grants.len(), KEY_GRANTS_KEPT_MAX);

    granted(&mut flows, identity(8).id());

    assert_eq!(
        flows.published[&stream(1)].grants.len(),
        KEY_GRANTS_KEPT_MAX
    );
    assert_ne!(granted(&mut flows, consumer), first);
}

#[test]
fn who_gets_no_answer_asks_less_and_less_often_and_never_stops() {
    let of = instance(&identity(5));
    let mut keys = Keys::default();
    keys.want(Instant::ZERO, of, true);

    let mut asked = Vec::new();
    while asked.len() < 12 {
        let at = keys.wakeup().unwrap().at;
        assert_eq!(keys.due(at).len(), 1);
        asked.push(at);
    }

    let pauses: Vec<Duration> = asked.windows(2).map(|two| two[1].since(two[0])).collect();
    assert_eq!((pauses[0], pauses[1]), (KEY_RETRY_MIN, KEY_RETRY_MIN * 2));
    assert_eq!(pauses.last(), Some(&KEY_RETRY_MAX));
    assert!(pauses.is_sorted());
}
