//! Who is hub: at the start, after a crash, a pause, a partition, with a deaf and with a mute node.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn deaf(lan: &mut Lan, at: usize) {
    for other in 0..lan.nodes.len() {
        lan.unheard.insert((other, at));
    }
}

fn gone_within(interval: Duration) -> Duration {
    interval * (HUB_SILENT_INTERVALS + 1) + CLAIM_WAIT + DELAY * 3
}

fn runs_until_hub(lan: &mut Lan, not: usize) -> Duration {
    let begin = lan.now;
    while lan.hubs().iter().all(|hub| *hub == not) {
        lan.run(Duration::from_millis(5));
        assert!(lan.now.since(begin) < SECOND * 60, "no hub");
    }
    lan.now.since(begin)
}

#[test]
fn nodes_that_start_at_once_elect_one_hub_and_link_to_it_and_its_deputy_alone() {
    let mut lan = Lan::formed(10);
    lan.run(SECOND * 10);

    let hub = lan.assert_agreed();

    let deputy = lan.deputy_of(hub);
    let [id, next] = [hub, deputy].map(|at| identity(at).id());
    for at in (0..10).filter(|at| *at != hub && *at != deputy) {
        assert_eq!(lan.links[at], BTreeSet::from([id, next]));
    }
    assert_eq!(lan.links[deputy], BTreeSet::from([id]));
    assert!(lan.links[hub].is_empty());
    assert_eq!(lan.two_hubs, Duration::ZERO);
}

#[test]
fn a_newcomer_finds_the_hub_at_once_and_does_not_replace_it() {
    let mut lan = Lan::formed(3);
    let hub = lan.assert_agreed();
    let begin = lan.now;

    let newcomer = lan.add(Willing::Always);
    while lan.hub_of(newcomer).is_none() {
        lan.run(DELAY);
    }

    assert!(
        lan.now.since(begin) < Duration::from_millis(50),
        "{:?}",
        lan.now.since(begin)
    );
    lan.run(SECOND * 5);
    assert_eq!(lan.assert_agreed(), hub);
}

#[test]
fn the_deputy_follows_a_killed_hub_within_four_beacons() {
    for (is_active, interval) in [(true, BEACON_ACTIVE), (false, BEACON_IDLE)] {
        let mut lan = Lan::formed(4);
        for at in 0..4 {
            lan.tell(at, Input::Active(is_active));
        }
        lan.run(SECOND * 2);
        let hub = lan.assert_agreed();
        let deputy = lan.deputy_of((hub + 1) % 4);

        lan.kill(hub);
        let took = runs_until_hub(&mut lan, hub);

        assert!(took <= gone_within(interval), "{took:?}");
        lan.run(SECOND * 3);
        assert_eq!(lan.assert_agreed(), deputy);
        assert_eq!(lan.two_hubs, Duration::ZERO);
    }
}

#[test]
fn a_hub_that_leaves_resigns_and_its_deputy_claims_at_once() {
    let mut lan = Lan::formed(4);
    let hub = lan.assert_agreed();
    let deputy = lan.deputy_of(hub);

    lan.tell(hub, Input::Leave);
    let took = runs_until_hub(&mut lan, hub);

    assert!(took <= CLAIM_WAIT + DELAY * 10, "{took:?}");
    lan.kill(hub);
    lan.run(SECOND);
    assert_eq!(lan.assert_agreed(), deputy);
}

#[test]
fn two_parts_of_a_site_agree_within_a_beacon_when_they_meet_again() {
    let mut lan = Lan::formed(4);
    for pair in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        lan.cut.extend([pair, (pair.1, pair.0)]);
    }
    lan.run(SECOND * 10);
    assert_eq!(lan.hubs().len(), 2);

    lan.cut.clear();
    lan.two_since = None;
    lan.two_hubs = Duration::ZERO;
    lan.run(SECOND * 10);

    lan.assert_agreed();
    assert!(
        lan.two_hubs <= BEACON_IDLE + DELAY * 2,
        "{:?}",
        lan.two_hubs
    );
}

#[test]
fn a_hub_that_stood_still_listens_before_it_goes_on_and_finds_the_next_one() {
    let mut lan = Lan::formed(4);
    for at in 0..4 {
        lan.tell(at, Input::Active(true));
    }
    lan.run(SECOND);
    let hub = lan.assert_agreed();

    lan.pause(hub, SECOND * 2);
    lan.run(SECOND * 5);

    assert_ne!(lan.assert_agreed(), hub);
    assert!(lan.events[hub].contains(&Event::Paused));
    assert_eq!(lan.two_hubs, Duration::ZERO);
}

#[test]
fn a_deaf_node_learns_that_it_is_deaf_and_the_hub_stays() {
    let mut lan = Lan::formed(4);
    let hub = lan.assert_agreed();
    let node = (hub + 1) % 4;

    deaf(&mut lan, node);
    lan.run(SECOND * 20);

    assert_eq!(lan.hubs(), [hub]);
    assert!(lan.events[node].contains(&Event::Deaf));
    assert!(lan.nodes[node].election.is_deaf(lan.now));
    let others = (0..4).filter(|at| *at != node);
    for at in others {
        assert_eq!(lan.hub_of(at), Some(hub));
    }
    lan.unheard.clear();
    lan.run(DEAF_MIN * 2);
    assert_eq!(lan.assert_agreed(), hub);
}

#[test]
fn a_deaf_node_that_is_better_than_the_hub_does_not_push_it_out_either() {
    let mut lan = Lan::formed(3);
    let hub = lan.assert_agreed();
    let node = lan.add(Willing::Always);
    deaf(&mut lan, node);

    lan.run(SECOND * 25);

    assert_eq!(lan.hubs(), [hub]);
    assert!(lan.events[node].contains(&Event::Deaf));
}

#[test]
fn a_node_that_stays_deaf_tries_more_and_more_rarely_up_to_a_limit() {
    let mut lan = Lan::formed(3);
    let hub = lan.assert_agreed();
    let node = (hub + 1) % 3;
    deaf(&mut lan, node);

    lan.run(DEAF_MAX * 3);
    let before = lan.events[node]
        .iter()
        .filter(|event| **event == Event::Deaf)
        .count();
    lan.run(DEAF_MAX + SECOND * 30);
    let after = lan.events[node]
        .iter()
        .filter(|event| **event == Event::Deaf)
        .count();

    // Doubled five times: 60, 120, 240, 480, 960 s, and so long again and again.
    assert!((5..=7).contains(&before), "{before}");
    assert_eq!(after, before + 1);
    assert_eq!(lan.hubs(), [hub]);
}

#[test]
fn a_mute_hub_is_replaced_and_gives_way() {
    let mut lan = Lan::formed(4);
    let hub = lan.assert_agreed();
    for other in 0..4 {
        lan.cut.insert((hub, other));
    }

    lan.run(SECOND * 20);

    let next = lan.hubs();
    assert_eq!(next.len(), 1);
    assert_ne!(next[0], hub);
    assert_eq!(lan.hub_of(hub), Some(next[0]));
}

#[test]
fn a_much_better_node_is_handed_over_to_after_half_a_minute_without_two_hubs() {
    let mut lan = Lan::formed(3);
    let hub = lan.assert_agreed();
    let better = lan.add(Willing::Always);
    lan.run(SECOND * 20);
    assert_eq!(lan.assert_agreed(), hub);

    lan.run(SECOND * 15);

    assert_eq!(lan.assert_agreed(), better);
    assert_eq!(lan.two_hubs, Duration::ZERO);
    let handed = |event: &Event| {
        matches!(
            event,
            Event::HubChanged {
                cause: Cause::HandedOver,
                hub: Some(_)
            }
        )
    };
    assert!(lan.events[hub].iter().any(handed));
}

#[test]
fn an_uplink_makes_a_node_the_better_hub() {
    let mut lan = Lan::formed(3);
    let hub = lan.assert_agreed();
    let node = (hub + 1) % 3;
    let relay = identity(900).id();

    lan.tell(
        node,
        Input::Linked {
            peer: relay,
            way: Some(("192.0.2.9:7800".parse().unwrap(), true)),
        },
    );
    lan.run(SECOND * 40);

    assert_eq!(lan.assert_agreed(), node);
}

#[test]
fn nodes_that_never_relay_have_no_hub_and_link_to_each_other() {
    let mut lan = Lan::new();
    for _ in 0..3 {
        lan.add(Willing::Never);
    }

    lan.run(SECOND * 10);

    assert!(lan.hubs().is_empty());
    assert!(lan.links.iter().all(|links| links.len() == 2));
    let cause = lan.nodes[0].rows(None).next().unwrap().cause.unwrap();
    assert!(cause.contains("--relay never"), "{cause}");
}

#[test]
fn of_many_such_nodes_each_keeps_a_few_links() {
    let mut lan = Lan::new();
    for _ in 0..MESH_MAX + 4 {
        lan.add(Willing::Never);
    }

    lan.run(SECOND * 10);

    assert!(lan.links.iter().all(|links| links.len() == MESH_MAX));
}

#[test]
fn a_claim_with_an_absurd_epoch_and_an_objector_that_lies_do_not_stop_elections() {
    let mut lan = Lan::formed(4);
    let hub = lan.assert_agreed();
    for at in (0..4).filter(|at| *at != hub) {
        let absurd = lan.nodes[at].election.hub().unwrap().1.0 + EPOCH_AHEAD_MAX + 9;
        hand(&mut lan, at, 77, sealed(77, 5, &claim_of(77, absurd)));
    }
    lan.run(SECOND);
    assert_eq!(lan.assert_agreed(), hub);

    // From now on node 77 objects to whatever is claimed.
    lan.kill(hub);
    let begin = lan.now;
    let mut counter = 10;
    while lan.now.since(begin) < SECOND * 20 {
        lan.run(Duration::from_millis(20));
        for at in 0..4 {
            let Role::Claiming { epoch, .. } = lan.nodes[at].election.role().clone() else {
                continue;
            };
            counter += 1;
            let lie = SiteDatagram::Objection(levada_wire::datagram::site::Objection {
                claimer: lan.prefix(at),
                claimed: epoch,
                hub: lan.prefix(hub),
                epoch,
                age_millis: 1,
            });
            hand(&mut lan, at, 77, sealed(77, counter, &lie));
        }
    }
    assert_eq!(lan.hubs().len(), 1);
}

#[test]
fn random_sites_with_loss_crashes_and_pauses_agree_in_the_end() {
    for seed in 0..60_u64 {
        let mut rng = chance::generator(&[u8::try_from(seed).unwrap(); 32], 9);
        let count = 3 + usize::try_from(rng.next_u64() % 10).unwrap();
        let mut lan = Lan::of(count);
        for _ in 0..6 {
            let at = usize::try_from(rng.next_u64() % count as u64).unwrap();
            match rng.next_u64() % 4 {
                0 if lan.alive.iter().filter(|alive| **alive).count() > 2 => lan.kill(at),
                1 => lan.pause(at, Duration::from_millis(rng.next_u64() % 3_000)),
                2 => lan.tell(at, Input::Active(rng.next_u64().is_multiple_of(2))),
                _ => {}
            }
            let time = Duration::from_millis(rng.next_u64() % 2_500);
            lan.run_with(time, |_, _| match rng.next_u64() % 20 {
                0 | 1 => Fate::Lost,
                2 => Fate::Late,
                _ => Fate::Arrives,
            });
        }

        lan.run(SECOND * 25);

        let hub = lan.assert_agreed();
        assert!(lan.alive[hub], "seed {seed}");
    }
}
