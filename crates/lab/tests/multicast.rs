//! One copy on the LAN: a hub speaks to a multicast channel, three members hear it, and the switch loses a tenth.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::Duration;

use levada_lab::{Host, Net, Process, Traffic, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// What a hub's stream has (`lab-peer`).
const FRAMES: u64 = 150;
const MEMBERS: usize = 3;

/// Where they are, by the IP version of a channel.
struct Addresses {
    channel: &'static str,
    hub: String,
    members: Vec<String>,
}

fn addresses(is_ipv6: bool, hub: &Host, members: &[Host]) -> Addresses {
    if !is_ipv6 {
        let of = |host: &Host| host.address().to_string();
        return Addresses {
            channel: "239.70.1.1:7801",
            hub: of(hub),
            members: members.iter().map(of).collect(),
        };
    }
    let of = |place: usize| format!("fd07::{}", place + 1);
    hub.add_address("fd07::ff/64").unwrap();
    for (place, member) in members.iter().enumerate() {
        member.add_address(&format!("{}/64", of(place))).unwrap();
    }
    Addresses {
        channel: "[ff15::70:1]:7801",
        hub: "fd07::ff".to_owned(),
        members: (0..members.len()).map(of).collect(),
    }
}

fn ended(process: &mut Process) -> Value {
    assert!(process.ended(SOON).success());
    serde_json::from_str(process.output().unwrap().trim()).unwrap()
}

/// Plays the stream to all members, and says how many media packets left the hub for each that it made.
fn copies(is_ipv6: bool, loss_permille: u16) -> f64 {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    lan.snoop().unwrap();
    let hub = net.host("hub", &mut lan).unwrap();
    let names = ["member1", "member2", "member3"];
    let members: [Host; MEMBERS] = names.map(|name| net.host(name, &mut lan).unwrap());
    let addresses = addresses(is_ipv6, &hub, &members);
    let left = hub.count_sent(Traffic::Media).unwrap();
    if loss_permille > 0 {
        hub.lose(loss_permille).unwrap();
    }
    let peer = Path::new(env!("CARGO_BIN_EXE_lab-peer"));
    let listen = |(place, host): (usize, &Host)| {
        let place = place.to_string();
        let words = ["member", addresses.channel, &addresses.hub, &place];
        let member = Process::start(host, peer, words).unwrap();
        eventually(SOON, "a member listens", || {
            member
                .log()
                .unwrap()
                .contains("ready")
                .then_some(member.log())
        })
        .unwrap();
        member
    };
    let mut listening: Vec<Process> = members.iter().enumerate().map(listen).collect();

    let words = ["hub", addresses.channel].into_iter();
    let words = words.chain(addresses.members.iter().map(String::as_str));
    let mut sending = Process::start(&hub, peer, words).unwrap();

    for member in &mut listening {
        let said = ended(member);
        assert_eq!(said["frames"], FRAMES, "{said}");
        assert_eq!(said["gaps"], 0, "{said}");
    }
    let said = ended(&mut sending);
    let made = said["made"].as_u64().unwrap();
    let left = left.read().unwrap().packets;
    println!("{is_ipv6} {loss_permille}: {made} made, {left} left the hub, {said}");
    if loss_permille > 0 {
        assert!(said["repairs_sent"].as_u64().unwrap() > made / 20, "{said}");
    }
    f64::from(u32::try_from(left).unwrap()) / f64::from(u32::try_from(made).unwrap())
}

#[test]
fn one_copy_reaches_all_members_and_repair_adds_less_than_another() {
    for is_ipv6 in [false, true] {
        // A switch learns who listens from reports that may be lost: joins are before the loss, in both runs.
        let alone = copies(is_ipv6, 0);
        let lossy = copies(is_ipv6, 100);

        assert!((1.0..1.05).contains(&alone), "{alone}");
        assert!((1.05..1.5).contains(&lossy), "{lossy}");
    }
}
