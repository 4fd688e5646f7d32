//! What an input looks at: what it touches, however much else there is.

use super::*;
use crate::limits::FLOWS_PER_CALL_MAX;
use crate::view::looks;

/// A node that watches so many streams, each of an origin of its own.
fn watching(count: usize) -> (Flows, Vec<Identity>) {
    let origins: Vec<Identity> = (0..count).map(|at| identity(5 + at as u64)).collect();
    let mut flows = flows();
    feed(&mut flows, [link_up(UP), link_up(LinkIndex(2))]);
    for (number, origin) in origins.iter().enumerate() {
        let subscribe = FlowInput::Subscribe {
            id: SubscriptionId(number as u64),
            name: stream(number),
            layer: Layer(0),
            budget: RepairBudget::DEFAULT,
            paths: Paths::One,
        };
        let inputs = [
            Input::Outside(subscribe),
            route_to(origin, UP),
            announced(origin, number),
        ];
        feed(&mut flows, inputs);
    }
    (flows, origins)
}

/// What is looked at when the way to one origin is another, and when its stream is announced anew.
fn looked_at(count: usize) -> [usize; 2] {
    let (mut flows, origins) = watching(count);
    let moved = route_to(&origins[0], LinkIndex(2));
    let mut revised = announce(&origins[0], 0, 1);
    revised.version += 1;
    let statement = SignedAnnounce::sign(revised, &origins[0]);
    let revised = Input::Message {
        link: UP,
        message: FlowMessage::Announce(message::Announce { statement }),
    };
    [moved, revised].map(|input| {
        let before = looks();
        feed(&mut flows, [input]);
        looks() - before
    })
}

#[test]
fn a_route_and_an_announce_look_at_what_they_touch_however_much_is_watched() {
    let few = looked_at(2);

    let many = looked_at(200);

    assert!(few.iter().all(|looks| *looks > 0), "something is touched");
    assert_eq!(few, many);
}

#[test]
fn a_flow_that_found_no_room_is_carried_when_there_is_some() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP), route_to(&origin, UP)]);
    for at in 0..CARRIED_MAX {
        let mut carried = Carried::new(flows_offer(&identity(900), at));
        carried.upstream = Upstream::Origin;
        flows.carried.insert(carried);
    }
    let subscribe = FlowInput::Subscribe {
        id: SubscriptionId(1),
        name: stream(1),
        layer: Layer(0),
        budget: RepairBudget::DEFAULT,
        paths: Paths::One,
    };
    feed(
        &mut flows,
        [Input::Outside(subscribe), announced(&origin, 1)],
    );
    let wanted = announce(&origin, 1, 1).flow(Layer(0));
    assert!(!flows.carried.contains(wanted), "there is no room");

    let first = flows.flow_rows(None).next().unwrap().flow;
    flows.carried.get_mut(first).unwrap().ending_at = Some(flows.now);
    flows.settle();

    assert!(flows.carried.contains(wanted));
}

fn flows_offer(origin: &Identity, number: usize) -> catalogue::FlowOffer {
    let announce = announce(origin, number, 1);
    catalogue::FlowOffer {
        of: catalogue::instance_of(&announce),
        layer: Layer(0),
        suite: announce.suite,
        peak: Bitrate(1),
        packet_size: announce.packet_size,
        carry: None,
    }
}

#[test]
fn flows_of_a_lost_link_are_settled_in_parts_and_nothing_is_asked_over_it() {
    let count = FLOWS_PER_CALL_MAX * 2 + 1;
    let (mut flows, origins) = watching(count);
    let other = LinkIndex(2);
    for origin in &origins {
        let alternative = Alternative {
            link: other,
            is_feasible: true,
            shared: 0,
        };
        let alternatives = Input::Alternatives {
            origin: origin.id(),
            alternatives: vec![alternative],
        };
        feed(&mut flows, [alternatives]);
    }
    let asked = |flows: &mut Flows| {
        let outputs = std::iter::from_fn(|| flows.poll_output());
        let requests = outputs.filter_map(|output| match output {
            Output::Outside(api::Output::Send {
                link,
                message: Message::Flow(FlowMessage::Request(_)),
            }) => Some(link),
            _ => None,
        });
        requests.collect::<Vec<_>>()
    };
    asked(&mut flows);

    flows.handle_input(flows.now, Input::LinkDown { link: UP });
    assert_eq!(asked(&mut flows), [], "its routes are not there yet");
    let mut parts = 0;
    while let Some(due) = flows
        .poll_timeout()
        .filter(|due| due.why == "settle the rest")
    {
        assert!(due.at > flows.now);
        flows.handle_timeout(due.at);
        assert_eq!(asked(&mut flows), []);
        parts += 1;
    }
    assert_eq!(parts, 2);

    for origin in &origins {
        flows.handle_input(flows.now, route_to(origin, other));
    }
    let asked = asked(&mut flows);
    assert_eq!(asked.len(), count);
    assert!(asked.iter().all(|link| *link == other));
}
