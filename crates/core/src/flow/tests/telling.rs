//! What neighbours are told of streams, and when: one that does not read costs a cursor.

use std::collections::BTreeMap;

use super::*;
use crate::limits::{TELLING_BURST, TELLING_BYTES_MAX, TELLING_PER_SECOND};

const OTHER: LinkIndex = LinkIndex(2);

fn version(origin: &Identity, number: usize, version: u32) -> Input {
    let announce = Announce {
        version,
        ..announce(origin, number, 1)
    };
    let statement = SignedAnnounce::sign(announce, origin);
    Input::Message {
        link: UP,
        message: FlowMessage::Announce(message::Announce { statement }),
    }
}

/// What a neighbour is told now.
#[derive(Debug, Default)]
struct Told {
    announces: Vec<SignedAnnounce>,
    withdraws: usize,
    messages: usize,
    marks: usize,
}

impl Told {
    fn bytes(&self) -> usize {
        self.announces.iter().map(SignedAnnounce::bytes).sum()
    }

    fn versions(&self) -> BTreeMap<StreamName, u32> {
        let announces = self.announces.iter().map(SignedAnnounce::content);
        announces
            .map(|announce| (announce.name.clone(), announce.version))
            .collect()
    }
}

fn told(flows: &mut Flows, to: LinkIndex) -> Told {
    let mut told = Told::default();
    while let Some(output) = flows.poll_output() {
        match output {
            Output::Outside(api::Output::Send { link, message }) if link == to => {
                told.messages += 1;
                match message {
                    Message::Flow(FlowMessage::Announce(one)) => told.announces.push(one.statement),
                    Message::Flow(FlowMessage::Collection(all)) => {
                        told.announces.extend(all.statements);
                    }
                    Message::Flow(FlowMessage::Withdraw(_)) => told.withdraws += 1,
                    _ => {}
                }
            }
            Output::Outside(api::Output::Mark { link, .. }) if link == to => told.marks += 1,
            _ => {}
        }
    }
    told
}

const WRITTEN: Input = Input::Written { link: OTHER };

#[test]
fn a_neighbour_that_does_not_read_is_told_what_may_be_under_way_and_the_newest_once_it_reads() {
    let (mut flows, origin) = (flows(), identity(5));
    let streams = STREAMS_PER_ORIGIN_MAX;
    let all = 0..streams;
    feed(&mut flows, [link_up(UP), route_to(&origin, UP)]);
    feed(
        &mut flows,
        all.clone().map(|number| version(&origin, number, 1)),
    );
    told(&mut flows, UP);

    feed(&mut flows, [link_up(OTHER)]);
    let first = told(&mut flows, OTHER);
    for round in 2..=4 {
        feed(
            &mut flows,
            all.clone().map(|number| version(&origin, number, round)),
        );
    }
    let meanwhile = told(&mut flows, OTHER);
    let (mut rest, mut parts) = (Told::default(), 0);
    while parts == 0 || flows.listeners[&OTHER].cursor.at < flows.catalogue.cursor().begins {
        feed(&mut flows, [WRITTEN]);
        let part = told(&mut flows, OTHER);
        assert!(part.bytes() <= TELLING_BYTES_MAX + 12 * 4_160, "{part:?}");
        rest.announces.extend(part.announces);
        parts += 1;
    }

    assert!(first.bytes() >= TELLING_BYTES_MAX && first.announces.len() < streams);
    assert_eq!((first.marks, meanwhile.messages), (1, 0));
    assert_eq!(rest.announces.len(), streams, "each once, whatever changed");
    assert!(rest.versions().values().all(|version| *version == 4));
    assert!(parts > 1);
}

#[test]
fn what_is_kept_for_many_neighbours_is_kept_once() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(
        &mut flows,
        [link_up(UP), route_to(&origin, UP), version(&origin, 1, 1)],
    );
    feed(&mut flows, (10..20).map(|link| link_up(LinkIndex(link))));

    let mut statements = Vec::new();
    while let Some(output) = flows.poll_output() {
        if let Output::Outside(api::Output::Send {
            message: Message::Flow(FlowMessage::Collection(all)),
            ..
        }) = output
        {
            statements.extend(all.statements);
        }
    }

    assert_eq!(statements.len(), 10);
    let first: *const Announce = statements[0].content();
    assert!(
        statements
            .iter()
            .all(|one| std::ptr::eq(one.content(), first))
    );
}

#[test]
fn a_stream_that_is_announced_without_end_is_told_at_a_rate() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP), link_up(OTHER)]);
    // It was told so much already.
    let listener = flows.listeners.get_mut(&OTHER).unwrap();
    listener.credit.spend(Instant::ZERO, 0, TELLING_BURST);
    let (mut now, mut announces, versions) = (Instant::ZERO, Vec::new(), 400);

    for number in 1..=versions {
        now += Duration::from_millis(1);
        flows.handle_input(now, version(&origin, 1, number));
        announces.extend(told(&mut flows, OTHER).announces);
    }
    flows.handle_timeout(now + Duration::from_secs(1));
    announces.extend(told(&mut flows, OTHER).announces);

    let most = TELLING_PER_SECOND as usize * 400 / 1_000 + 1;
    assert!((2..=most).contains(&announces.len()), "{}", announces.len());
    let last = announces.last().map(|one| one.content().version);
    assert_eq!(last, Some(versions));
}

#[test]
fn what_is_over_before_it_was_told_is_told_to_nobody() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP), announced(&origin, 1)]);
    feed(&mut flows, [withdrawn(&origin, 1), link_up(OTHER)]);
    let newcomer = told(&mut flows, OTHER);

    feed(&mut flows, [announced(&origin, 2), withdrawn(&origin, 2)]);
    let present = told(&mut flows, OTHER);

    assert_eq!(newcomer.messages, 0);
    assert_eq!((present.announces.len(), present.withdraws), (1, 1));
    assert_eq!(told(&mut flows, UP).messages, 0);
}
