//! Who is there: the traffic of beacons, restarts, limits, and what strangers cannot do.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn said(lan: &Lan) -> u64 {
    lan.said.iter().sum()
}

#[test]
fn members_that_agree_are_nearly_silent_whatever_the_size_of_the_site() {
    let rate = |count: usize| {
        let mut lan = Lan::formed(count);
        lan.run(SECOND * 60);
        let before = said(&lan);
        lan.run(SECOND * 60);
        lan.assert_agreed();
        (said(&lan) - before) / 60
    };

    let (few, many) = (rate(3), rate(60));

    // Both channels: two a second of the hub, and a few of all others together.
    assert!(few <= 4, "{few}");
    assert!(many <= 24, "{many}");
}

#[test]
fn a_member_keeps_links_to_members_whose_streams_it_wants_and_a_while_longer() {
    let mut lan = Lan::formed(4);
    let hub = lan.assert_agreed();
    let one = lan.deputy_of(hub);
    let others: Vec<usize> = (0..4).filter(|at| *at != hub && *at != one).collect();
    let [other, third] = others[..] else {
        panic!("two others");
    };
    let id = |at: usize| identity(at).id();
    let links = |lan: &Lan, at: usize| lan.links[at].clone();

    for origin in [id(other), id(hub), NodeId([9; 32])] {
        lan.tell(one, Input::Wants(origin, true));
    }
    assert_eq!(links(&lan, one), BTreeSet::from([id(hub), id(other)]));
    let both = BTreeSet::from([id(hub), id(one)]);
    assert_eq!(
        links(&lan, third),
        both,
        "nobody else, but the hub and its deputy"
    );
    lan.tell(hub, Input::Wants(id(other), true));
    assert!(links(&lan, hub).is_empty(), "members have links to the hub");

    lan.tell(one, Input::Wants(id(other), false));
    lan.run(SOURCE_KEPT - SECOND);
    assert_eq!(links(&lan, one).len(), 2);
    lan.run(SECOND * 2);
    assert_eq!(links(&lan, one), BTreeSet::from([id(hub)]));
}

#[test]
fn links_to_so_many_members_are_kept_for_their_streams() {
    let mut lan = Lan::formed(SOURCES_MAX + 3);
    let hub = lan.assert_agreed();
    let one = lan.deputy_of(hub);
    let others = (0..lan.nodes.len()).filter(|at| *at != one && *at != hub);
    let origins: BTreeSet<NodeId> = others.map(|at| identity(at).id()).collect();
    assert!(origins.len() > SOURCES_MAX);

    for origin in origins {
        lan.tell(one, Input::Wants(origin, true));
    }

    assert_eq!(lan.links[one].len(), SOURCES_MAX + 1);
}

#[test]
fn all_rosters_become_the_same() {
    let mut lan = Lan::formed(8);
    lan.run(SECOND * 30);

    let digests: BTreeSet<[u8; 8]> = lan
        .nodes
        .iter()
        .map(|node| node.roster.digest().0)
        .collect();

    assert_eq!(digests.len(), 1);
    assert!(lan.nodes.iter().all(|node| node.roster.count() == 8));
}

#[test]
fn a_member_that_dies_is_forgotten_soon_if_its_link_is_gone_and_later_if_not() {
    let mut lan = Lan::formed(3);
    let hub = lan.assert_agreed();
    let [gone, silent] = [(hub + 1) % 3, (hub + 2) % 3];
    let knows = |lan: &Lan, at: usize| lan.nodes[hub].roster.member(lan.prefix(at)).is_some();
    let peer = lan.nodes[gone].identity.id();
    lan.kill(gone);
    lan.kill(silent);

    lan.tell(hub, Input::Linked { peer, way: None });
    lan.run(MEMBER_SUSPECT + SECOND);
    assert_eq!((knows(&lan, gone), knows(&lan, silent)), (false, true));

    lan.run(SECOND * 90);
    assert!(!knows(&lan, silent));
    assert!(lan.events[hub].contains(&Event::MemberLost { node: peer }));
}

#[test]
fn nodes_of_other_labels_and_networks_do_not_see_each_other() {
    let mut lan = Lan::formed(2);
    let mut other = settings(Willing::Auto);
    other.site = SiteTag::of_label("yard");
    let at = lan.nodes.len();
    lan.add(Willing::Auto);
    lan.nodes[at] = node(at);
    lan.tell(at, Input::Begin(other));
    lan.tell(at, Input::Interfaces(vec![wired(at)]));

    lan.run(SECOND * 10);

    assert_eq!(lan.hubs().len(), 2);
    assert_eq!(lan.hub_of(at), Some(at));
    assert_eq!(lan.nodes[at].roster.count(), 1);
    assert!(lan.nodes[at].counts().foreign > 0);
}

// spec: WIRE 9.1 a counter is used once, and one that is 64 or more behind is not used
#[test]
fn a_replayed_or_forged_datagram_changes_one_counter() {
    let mut lan = Lan::formed(2);
    let hub = lan.assert_agreed();
    let beacon = sealed(50, 1_000, &beacon_of(50));
    hand(&mut lan, hub, 50, beacon.clone());
    let (before, rows) = (lan.nodes[hub].counts(), lan.nodes[hub].roster.count());

    hand(&mut lan, hub, 50, beacon.clone());
    hand(&mut lan, hub, 50, sealed(50, 1_000 - 64, &beacon_of(50)));
    let mut forged = beacon;
    let last = forged.len() - 1;
    forged[last] ^= 1;
    hand(&mut lan, hub, 51, forged);

    let after = lan.nodes[hub].counts();
    assert_eq!(after.replayed, before.replayed + 2);
    assert_eq!(after.refused, before.refused + 1);
    assert_eq!(after.heard, before.heard);
    assert_eq!(lan.nodes[hub].roster.count(), rows);

    hand(&mut lan, hub, 50, sealed(50, 1_000 - 63, &beacon_of(50)));
    assert_eq!(lan.nodes[hub].counts().heard, before.heard + 1);
}

#[test]
fn more_signatures_than_are_checked_are_dropped_and_counted() {
    let mut lan = Lan::formed(2);
    let hub = lan.assert_agreed();

    for counter in 0..u64::from(SIGNATURES_BURST_MAX) * 2 {
        hand(&mut lan, hub, 60, sealed(60, counter + 1, &claim_of(60, 0)));
    }

    let counts = lan.nodes[hub].counts();
    assert!(
        counts.unchecked >= u64::from(SIGNATURES_BURST_MAX) - 1,
        "{counts:?}"
    );
    assert_eq!(lan.hubs(), [hub]);
}

#[test]
fn one_member_more_than_there_is_room_for_is_not_heard() {
    let mut lan = Lan::of(1);
    for from in 100..100 + MEMBERS_MAX {
        hand(&mut lan, 0, from, sealed(from, 5, &beacon_of(from)));
    }
    assert_eq!(lan.nodes[0].roster.members().len(), MEMBERS_MAX);

    let one_more = 100 + MEMBERS_MAX;
    hand(
        &mut lan,
        0,
        one_more,
        sealed(one_more, 5, &beacon_of(one_more)),
    );

    assert_eq!(lan.nodes[0].roster.members().len(), MEMBERS_MAX);
    assert!(
        lan.nodes[0]
            .roster
            .member(lan.nodes[0].identity.id().prefix())
            .is_none()
    );
}

#[test]
fn no_beacon_promises_more_than_it_can_say_however_large_the_site_is() {
    let mut lan = Lan::of(1);
    for from in 100..100 + MEMBERS_MAX {
        hand(&mut lan, 0, from, sealed(from, 5, &beacon_of(from)));
    }

    let longest = (0..50).map(|_| lan.nodes[0].period()).max().unwrap();

    assert!(
        longest <= BEACON_INTERVAL_MAX && longest > BEACON_INTERVAL_MAX / 2,
        "{longest:?}"
    );
}

#[test]
fn lost_beacons_are_measured_by_channel() {
    let mut lan = Lan::formed(2);
    let hub = lan.assert_agreed();
    let member = 1 - hub;
    let mut nth = 0_u32;

    lan.run_with(SECOND * 60, |_, parcel| {
        nth += u32::from(parcel.way == Way::Admin);
        if parcel.way == Way::Admin && nth.is_multiple_of(2) {
            Fate::Lost
        } else {
            Fate::Arrives
        }
    });

    let row = lan.nodes[member].rows(None).nth(1).unwrap();
    assert_eq!(row.loss_link_ratio.unwrap().permille, 0);
    assert!(
        (300..700).contains(&row.loss_admin_ratio.unwrap().permille),
        "{row:?}"
    );
}

#[test]
fn a_node_without_a_fit_interface_is_apart_and_says_why_and_more_than_fit_are_left_out() {
    let mut lan = Lan::of(1);
    let lo = Interface {
        kind: Kind::Loopback,
        name: "lo".to_owned(),
        ..wired(0)
    };
    lan.tell(0, Input::Interfaces(vec![lo]));
    let row = lan.nodes[0].rows(None).next().unwrap();
    assert!(
        row.cause
            .unwrap()
            .contains("lo: it leads to this host alone")
    );
    assert_eq!(lan.nodes[0].poll_timeout(), None);

    let many = (0..=INTERFACES_MAX).map(|at| Interface {
        index: u32::try_from(at).unwrap() + 2,
        ..wired(at)
    });
    lan.tell(0, Input::Interfaces(many.collect()));
    assert_eq!(lan.nodes[0].listeners.len(), INTERFACES_MAX);
    let row = lan.nodes[0].rows(None).next().unwrap();
    assert_eq!(row.interfaces.last().unwrap().verdict, Verdict::TooMany);
}

#[test]
fn without_a_beginning_nothing_is_said_and_nothing_waits() {
    let mut site = node(0);

    site.handle_input(Instant::ZERO, Input::Interfaces(vec![wired(0)]));

    assert_eq!(site.poll_output(), None);
    assert_eq!(site.poll_timeout(), None);
    assert_eq!(site.rows(None).count(), 0);
}
