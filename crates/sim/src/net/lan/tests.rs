//! The switch, with plain probes at its ports.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::chance::{Chance, Probability};

const CHANNEL: Ipv4Addr = Ipv4Addr::new(239, 7, 8, 1);
const LOAD: Load = Load {
    bytes: 1_232,
    media: true,
};

/// A switch with four probes; sends from the first and says which of the others hear.
struct Probes {
    lan: Lan,
    rng: Rng,
    ports: [Port; 4],
}

impl Probes {
    fn on(settings: LanSettings) -> Self {
        let mut lan = Lan::new(settings);
        let ports = std::array::from_fn(|_| lan.attach());
        let rng = Chance::new(1).split("test", 0);
        Self { lan, rng, ports }
    }

    fn hear(&mut self, now: Instant, channel: Ipv4Addr) -> Vec<usize> {
        let heard = self
            .lan
            .multicast(now, &mut self.rng, self.ports[0], channel, LOAD);
        heard.iter().map(|(port, _)| port.0 as usize).collect()
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn only_members_hear_a_group_and_the_sender_never_does() {
    let mut probes = Probes::on(LanSettings::wired());
    for probe in [0, 1, 3] {
        probes.lan.join(at(0), probes.ports[probe], CHANNEL);
    }

    assert_eq!(probes.hear(at(1), CHANNEL), [1, 3]);

    probes.lan.leave(at(1), probes.ports[3], CHANNEL);
    assert_eq!(probes.hear(at(2), CHANNEL), [1]);
}

#[test]
fn a_port_is_forgotten_after_260_seconds_unless_somebody_asks() {
    let no_querier = LanSettings {
        querier: false,
        ..LanSettings::wired()
    };
    let mut silent = Probes::on(no_querier);
    let mut asked = Probes::on(LanSettings::wired());
    for probes in [&mut silent, &mut asked] {
        probes.lan.join(at(0), probes.ports[1], CHANNEL);
    }
    asked.lan.on_query(at(125));
    asked.lan.on_query(at(250));

    assert_eq!(silent.hear(at(259), CHANNEL), [1]);
    assert_eq!(silent.hear(at(260), CHANNEL), [0; 0]);
    assert_eq!(asked.hear(at(260), CHANNEL), [1]);
    assert!(!silent.lan.has_querier() && asked.lan.has_querier());
}

#[test]
fn without_a_querier_a_leave_is_only_noticed_when_the_entry_runs_out() {
    let no_querier = LanSettings {
        querier: false,
        ..LanSettings::wired()
    };
    let mut silent = Probes::on(no_querier);
    let mut asked = Probes::on(LanSettings::wired());

    for (probes, until) in [(&mut silent, 260), (&mut asked, 10 + 2)] {
        let port = probes.ports[1];
        probes.lan.join(at(0), port, CHANNEL);
        probes.lan.leave(at(10), port, CHANNEL);

        assert_eq!(
            probes.lan.ports_of(at(until - 1), probes.ports[0], CHANNEL),
            [port]
        );
        assert_eq!(probes.lan.ports_of(at(until), probes.ports[0], CHANNEL), []);
    }
}

#[test]
fn link_local_groups_and_their_aliases_reach_every_port() {
    let probes = Probes::on(LanSettings::wired());
    let reached = |channel: [u8; 4]| {
        probes
            .lan
            .ports_of(at(0), probes.ports[0], channel.into())
            .len()
    };

    assert_eq!(reached([224, 0, 0, 251]), 3);
    assert_eq!(reached([239, 0, 0, 7]), 3);
    assert_eq!(reached([239, 128, 0, 7]), 3);
    assert_eq!(reached([239, 1, 0, 7]), 0);
}

#[test]
fn groups_of_one_mac_share_an_entry_but_a_host_hears_only_its_own() {
    let mut probes = Probes::on(LanSettings::wired());
    let alias = Ipv4Addr::new(238, 135, 8, 1);
    probes.lan.join(at(0), probes.ports[1], CHANNEL);
    probes.lan.join(at(0), probes.ports[1], alias);

    probes.lan.leave(at(0), probes.ports[1], alias);

    assert_eq!(
        probes.lan.ports_of(at(100), probes.ports[0], alias),
        [probes.ports[1]]
    );
    assert_eq!(probes.hear(at(100), alias), [0; 0]);
    assert_eq!(probes.hear(at(100), CHANNEL), [1]);
}

#[test]
fn unknown_groups_are_flooded_only_by_switches_that_do() {
    let floods = LanSettings {
        floods_unknown: true,
        ..LanSettings::wired()
    };

    for (settings, ports) in [(floods, 3), (LanSettings::wired(), 0)] {
        let probes = Probes::on(settings);
        assert_eq!(
            probes.lan.ports_of(at(0), probes.ports[0], CHANNEL).len(),
            ports
        );
    }
}

#[test]
fn each_port_loses_by_itself() {
    let mut probes = Probes::on(LanSettings::wired());
    for probe in [1, 2] {
        probes.lan.join(at(0), probes.ports[probe], CHANNEL);
    }
    let tenth = Probability::from_millionths(100_000).unwrap();
    probes.lan.set_port_loss(probes.ports[2], Loss::Even(tenth));

    let heard: Vec<_> = (0..1_000)
        .flat_map(|_| probes.hear(at(1), CHANNEL))
        .collect();

    let count = |probe| heard.iter().filter(|heard| **heard == probe).count();
    assert_eq!(count(1), 1_000);
    assert!((860..940).contains(&count(2)), "{}", count(2));
}

#[test]
fn a_pulled_cable_neither_sends_nor_hears() {
    let mut probes = Probes::on(LanSettings::wired());
    let [a, b, ..] = probes.ports;
    probes.lan.join(at(0), b, CHANNEL);
    let mut carried =
        |lan: &mut Lan, from, to| lan.unicast(at(0), &mut probes.rng, from, to, LOAD) != Step::Lost;

    probes.lan.plug(b, false);
    assert!(!carried(&mut probes.lan, Some(a), Some(b)));
    assert!(!carried(&mut probes.lan, Some(b), Some(a)));
    assert!(carried(&mut probes.lan, Some(a), None));

    probes.lan.plug(b, true);
    assert!(carried(&mut probes.lan, None, Some(b)));
}
