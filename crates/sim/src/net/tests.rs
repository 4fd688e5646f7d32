//! Networks with plain probes: which way a datagram takes, and when it arrives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use super::*;

const LOAD: Load = Load {
    bytes: 100,
    media: false,
};

fn address(lan: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([10, lan, 0, host], 7800))
}

/// LANs 0, 1, 2 in a row, 10 ms and 20 ms apart, LAN 3 alone; one host on each, two on LAN 0.
fn net() -> Net {
    let wan = |ends, ms| (ends, WanSettings::with_delay(Duration::from_millis(ms)));
    let mut net = Net::new(
        vec![LanSettings::wired(); 4],
        vec![wan([0, 1], 10), wan([2, 1], 20)],
        Chance::new(1),
    );
    for (lan, host) in [(0, 1), (0, 2), (1, 1), (2, 1), (3, 1)] {
        net.attach(usize::from(lan), address(lan, host).ip());
    }
    net
}

/// Takes a datagram through all stages; when it arrives.
fn travel(net: &mut Net, from: SocketAddr, to: SocketAddr) -> Option<Duration> {
    let mut transit = net.depart(from, to, LOAD)?;
    let mut now = Instant::ZERO;
    while !net.has_arrived(&transit) {
        let Step::Onward { first, .. } = net.step(now, &mut transit) else {
            return None;
        };
        now = first.at;
    }
    Some(now.since(Instant::ZERO))
}

#[test]
fn a_datagram_crosses_both_lans_and_the_links_between() {
    let mut net = net();
    let micros = Duration::from_micros;

    assert_eq!(
        travel(&mut net, address(0, 1), address(0, 2)),
        Some(micros(100))
    );
    assert_eq!(
        travel(&mut net, address(0, 1), address(1, 1)),
        Some(micros(10_200))
    );
    assert_eq!(
        travel(&mut net, address(0, 1), address(2, 1)),
        Some(micros(30_200))
    );
    assert_eq!(
        net.lan(1).traffic().datagrams,
        1,
        "a router in the middle is no switch"
    );
}

#[test]
fn where_no_link_leads_nothing_arrives() {
    let mut net = net();

    assert_eq!(travel(&mut net, address(0, 1), address(3, 1)), None);
    assert_eq!(travel(&mut net, address(0, 1), address(9, 1)), None);
    assert!(!net.is_open(address(0, 1).ip(), address(3, 1).ip()));
}

#[test]
fn a_link_that_is_down_one_way_closes_one_way() {
    let mut net = net();
    let (a, c) = (address(0, 1), address(2, 1));

    net.wan_mut(0).take_down(Toward::Second);

    assert_eq!(travel(&mut net, a, c), None);
    assert!(travel(&mut net, c, a).is_some());
    assert!(!net.is_open(a.ip(), c.ip()));
    assert!(net.is_open(c.ip(), a.ip()));
}

#[test]
fn a_pulled_cable_closes_both_ways() {
    let mut net = net();
    let (a, b) = (address(0, 1), address(0, 2));

    net.plug(b.ip(), false);

    assert!(!net.is_open(a.ip(), b.ip()) && !net.is_open(b.ip(), a.ip()));
    assert_eq!(travel(&mut net, a, b), None);
}

#[test]
fn a_group_is_heard_on_its_lan_only() {
    let mut net = net();
    let channel = Ipv4Addr::new(239, 7, 8, 1);
    for host in [address(0, 2), address(1, 1)] {
        net.join(Instant::ZERO, host.ip(), channel);
    }

    let heard = net.multicast(Instant::ZERO, address(0, 1), channel, LOAD);
    net.leave(Instant::ZERO, address(0, 2).ip(), channel);
    let later = net.multicast(
        Instant::ZERO + lan::LEAVE_INTERVAL,
        address(0, 1),
        channel,
        LOAD,
    );

    assert_eq!(
        heard,
        [(
            address(0, 2).ip(),
            Instant::ZERO + Duration::from_micros(100)
        )]
    );
    assert_eq!(later, []);
}

#[test]
fn a_way_of_more_stages_than_the_limit_is_none() {
    let count = STAGES_MAX + 2;
    let wan = |from| {
        (
            [from, from + 1],
            WanSettings::with_delay(Duration::from_millis(1)),
        )
    };
    let wans = (0..count - 1).map(wan).collect();
    let mut net = Net::new(vec![LanSettings::wired(); count], wans, Chance::new(1));
    for lan in 0..count {
        let lan_byte = u8::try_from(lan).unwrap();
        net.attach(lan, address(lan_byte, 1).ip());
    }
    let reaches = |lan: usize| {
        net.depart(address(0, 1), address(u8::try_from(lan).unwrap(), 1), LOAD)
            .is_some()
    };

    let farthest = (0..count).rev().find(|lan| reaches(*lan));

    // Two LANs and the links between them.
    assert_eq!(farthest, Some(STAGES_MAX - 2));
}
