//! What strangers may have of what there is for all, and what is said when there is no room.

use levada_wire::control::flow::AnnounceRefusal;

use super::*;
use crate::limits::{
    FLOWS_PER_ADDRESS_MAX, FULL_WARNING, KEY_REQUESTS_BURST, KEY_REQUESTS_PER_SECOND,
    KEYS_PENDING_PER_ADDRESS_MAX, REFUSALS_BURST, STREAMS_PER_ADDRESS_MAX,
};
use crate::subnet::Subnet;

/// Two links of one stranger's address, and one of another's.
const LINKS: [(LinkIndex, u8); 3] = [(LinkIndex(10), 1), (LinkIndex(11), 1), (LinkIndex(12), 2)];

fn strangers(flows: &mut Flows) -> [LinkIndex; 3] {
    LINKS.map(|(link, host)| {
        let subnet = Subnet::of(([192, 0, 2, host], 7800).into()).unwrap();
        feed(flows, [Input::Stranger { link, subnet }, link_up(link)]);
        link
    })
}

fn said(link: LinkIndex, input: Input) -> Input {
    match input {
        Input::Message { message, .. } => Input::Message { link, message },
        other => other,
    }
}

/// What is said for want of room: to neighbours, and to this node's user.
fn refused(flows: &mut Flows) -> (Vec<(LinkIndex, AnnounceRefusal)>, Vec<Event>) {
    let (mut refusals, mut events) = (Vec::new(), Vec::new());
    while let Some(output) = flows.poll_output() {
        match output {
            Output::Outside(api::Output::Send {
                link,
                message: Message::Flow(FlowMessage::AnnounceRefusal(refusal)),
            }) => refusals.push((link, refusal)),
            Output::Outside(api::Output::Event(
                event @ (Event::CatalogueFull { .. } | Event::NotListed { .. }),
            )) => events.push(event),
            _ => {}
        }
    }
    (refusals, events)
}

#[test]
fn the_strangers_of_one_address_fill_no_more_than_their_share_of_the_catalogue() {
    let mut flows = flows();
    let [one, other, elsewhere] = strangers(&mut flows);
    let origin = |number: usize| identity(5 + (number / STREAMS_PER_ORIGIN_MAX) as u64);

    for number in 0..STREAMS_PER_ADDRESS_MAX {
        let link = if number % 2 == 0 { one } else { other };
        feed(&mut flows, [said(link, announced(&origin(number), number))]);
        while flows.poll_output().is_some() {}
    }
    let number = STREAMS_PER_ADDRESS_MAX;
    feed(&mut flows, [said(one, announced(&origin(number), number))]);

    let (refusals, events) = refused(&mut flows);
    let [(link, refusal)] = &refusals[..] else {
        panic!("{refusals:?}");
    };
    assert_eq!((*link, refusal.reason), (one, RefuseReason::Full));
    assert_eq!(
        (refusal.of.name.clone(), refusal.node),
        (stream(number), flows.me)
    );
    assert!(matches!(
        &events[..],
        [Event::CatalogueFull { refused: 1, .. }]
    ));
    assert_eq!(flows.catalogue_counts().refused, 1);
    // Whoever is elsewhere has room, and so has the address when something of it goes.
    feed(
        &mut flows,
        [
            said(elsewhere, announced(&origin(number), number)),
            said(other, withdrawn(&origin(0), 0)),
            said(one, announced(&origin(number + 1), number + 1)),
        ],
    );
    assert_eq!(refused(&mut flows).0, []);
    assert_eq!(flows.catalogue_counts().streams, number as u64 + 1);
}

#[test]
fn the_user_is_told_of_a_full_catalogue_once_a_minute_and_of_how_many_were_refused() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP)]);
    let number = |extra: usize| STREAMS_PER_ORIGIN_MAX + extra;
    feed(
        &mut flows,
        (0..STREAMS_PER_ORIGIN_MAX).map(|number| announced(&origin, number)),
    );
    refused(&mut flows);

    let more = REFUSALS_BURST as usize + 10;
    feed(
        &mut flows,
        (0..more).map(|extra| announced(&origin, number(extra))),
    );
    let (refusals, first) = refused(&mut flows);
    flows.handle_input(
        Instant::ZERO + FULL_WARNING,
        announced(&origin, number(more)),
    );
    let (_, second) = refused(&mut flows);

    let counts = |events: &[Event]| {
        let count = |event: &Event| match event {
            Event::CatalogueFull { refused, .. } => Some(*refused),
            _ => None,
        };
        events.iter().filter_map(count).collect::<Vec<_>>()
    };
    assert_eq!(
        (counts(&first), counts(&second)),
        (vec![1], vec![more as u64])
    );
    assert_eq!(
        refusals.len(),
        REFUSALS_BURST as usize,
        "no more is said than that"
    );
}

#[test]
fn a_refusal_goes_the_way_to_the_origin_and_its_user_is_told_once_a_minute() {
    let (mut flows, origin, child) = (flows(), identity(5), LinkIndex(2));
    feed(
        &mut flows,
        [link_up(UP), link_up(child), route_to(&origin, UP)],
    );
    let refusal = |of: InstanceRef| AnnounceRefusal {
        of,
        node: identity(8).id(),
        hops_left: 3,
        reason: RefuseReason::Full,
        unknown: Unknown::default(),
    };
    let from_child = |of: InstanceRef| Input::Message {
        link: child,
        message: FlowMessage::AnnounceRefusal(refusal(of)),
    };
    let of = |origin: &Identity| InstanceRef {
        origin: origin.id(),
        name: stream(1),
        instance: InstanceId([1; 16]),
    };

    feed(
        &mut flows,
        [from_child(of(&origin)), from_child(of(&identity(6)))],
    );
    let (passed, _) = refused(&mut flows);
    feed(&mut flows, [Input::Outside(FlowInput::Publish(offer(1)))]);
    let own = flows.published[&stream(1)].of.clone();
    feed(
        &mut flows,
        [from_child(own.clone()), from_child(own.clone())],
    );
    let (_, told) = refused(&mut flows);
    flows.handle_input(Instant::ZERO + FULL_WARNING, from_child(own));
    let (_, again) = refused(&mut flows);

    let expected = AnnounceRefusal {
        hops_left: 2,
        ..refusal(of(&origin))
    };
    assert_eq!(passed, [(UP, expected)], "only where there is a way");
    let not_listed = Event::NotListed {
        name: stream(1),
        node: identity(8).id(),
        reason: RefuseReason::Full,
    };
    assert_eq!((told, again), (vec![not_listed.clone()], vec![not_listed]));
}

fn key_request(link: LinkIndex, origin: &Identity, consumer: u32) -> Input {
    let mut id = [3; 32];
    id[..4].copy_from_slice(&consumer.to_le_bytes());
    let request = KeyRequest {
        of: InstanceRef {
            origin: origin.id(),
            name: stream(1),
            instance: InstanceId([1; 16]),
        },
        consumer: NodeId(id),
        hops_left: 5,
        unknown: Unknown::default(),
    };
    Input::Message {
        link,
        message: FlowMessage::KeyRequest(request),
    }
}

#[test]
fn invented_consumers_of_one_address_take_no_more_than_their_share_of_the_answers() {
    let (mut flows, origin) = (flows(), identity(5));
    let [one, other, elsewhere] = strangers(&mut flows);
    feed(&mut flows, [link_up(UP), route_to(&origin, UP)]);
    let most = u32::try_from(KEYS_PENDING_PER_ADDRESS_MAX).unwrap();

    feed(
        &mut flows,
        (0..most).map(|consumer| key_request(one, &origin, consumer)),
    );
    assert_eq!(refusals(&mut flows), []);
    feed(
        &mut flows,
        [
            key_request(other, &origin, most),
            key_request(other, &origin, 0),
            key_request(elsewhere, &origin, most),
        ],
    );

    assert_eq!(refusals(&mut flows), [(other, RefuseReason::Full)]);
    feed(&mut flows, [Input::LinkDown { link: one }]);
    feed(&mut flows, [key_request(other, &origin, most + 1)]);
    assert_eq!(
        refusals(&mut flows),
        [],
        "who waits for nothing takes no place"
    );
}

#[test]
fn key_requests_of_one_address_are_answered_at_a_rate() {
    let (mut flows, origin) = (flows(), identity(5));
    let [one, other, elsewhere] = strangers(&mut flows);
    // Nobody leads there, so each is refused for that, until too many have come.
    feed(
        &mut flows,
        (0..KEY_REQUESTS_BURST).map(|consumer| key_request(one, &origin, consumer)),
    );
    let answered = refusals(&mut flows);
    feed(
        &mut flows,
        [other, elsewhere].map(|link| key_request(link, &origin, 0)),
    );
    let beyond = refusals(&mut flows);
    let later = Instant::ZERO + Duration::from_secs(1) / KEY_REQUESTS_PER_SECOND;
    flows.handle_input(later, key_request(other, &origin, 0));

    assert!(
        answered
            .iter()
            .all(|(_, reason)| *reason == RefuseReason::NoRoute)
    );
    let expected = [
        (other, RefuseReason::Full),
        (elsewhere, RefuseReason::NoRoute),
    ];
    assert_eq!(beyond, expected);
    assert_eq!(refusals(&mut flows), [(other, RefuseReason::NoRoute)]);
}

#[test]
fn whoever_asks_for_everything_leaves_room_for_others() {
    let mut flows = flows();
    let [one, other, elsewhere] = strangers(&mut flows);
    feed(&mut flows, [link_up(UP)]);
    let origin = |number: usize| identity(5 + (number / STREAMS_PER_ORIGIN_MAX) as u64);
    let flow = |number: usize| announce(&origin(number), number, 1).flow(Layer(0));
    for number in 0..=FLOWS_PER_ADDRESS_MAX {
        feed(&mut flows, [announced(&origin(number), number)]);
    }
    for number in (0..=FLOWS_PER_ADDRESS_MAX).step_by(STREAMS_PER_ORIGIN_MAX) {
        feed(&mut flows, [route_to(&origin(number), UP)]);
    }
    while flows.poll_output().is_some() {}

    for number in 0..FLOWS_PER_ADDRESS_MAX {
        let link = if number % 2 == 0 { one } else { other };
        feed(&mut flows, [request(link, flow(number))]);
    }
    assert_eq!(refusals(&mut flows), []);
    let last = flow(FLOWS_PER_ADDRESS_MAX);
    feed(
        &mut flows,
        [
            request(one, last),
            request(other, flow(0)),
            request(elsewhere, last),
        ],
    );

    let full = RefuseReason::Full;
    assert_eq!(refusals(&mut flows), [(one, full), (other, full)]);
}
