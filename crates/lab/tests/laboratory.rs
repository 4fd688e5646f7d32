//! The laboratory itself: its instruments are right, and it leaves nothing behind.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use levada_lab::{Host, Net, Process, Traffic, eventually};

/// IP and UDP headers.
const HEADERS: u64 = 28;

fn send(host: &Host, to: &Host, first: &str, count: u64, size: u64) {
    send_to(host, to.node_address(), first, count, size);
}

fn send_to(host: &Host, to: SocketAddrV4, first: &str, count: u64, size: u64) {
    let to = to.to_string();
    let (count, size) = (count.to_string(), size.to_string());
    let program = Path::new(env!("CARGO_BIN_EXE_lab-peer"));
    let mut sender = Process::start(host, program, ["send", &to, first, &count, &size]).unwrap();
    assert!(sender.ended(Duration::from_secs(10)).success());
}

fn namespaces() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_kernel_counts_every_datagram_by_its_first_byte_on_both_sides_of_a_router() {
    let mut net = Net::new().unwrap();
    let (mut near, mut far) = (net.lan("near").unwrap(), net.lan("far").unwrap());
    let alice = net.host("alice", &mut near).unwrap();
    let bob = net.host("bob", &mut far).unwrap();
    net.router("router", &mut [&mut near, &mut far]).unwrap();
    let media = alice.count_sent(Traffic::Media).unwrap();
    let media_to_bob = alice.count_sent_to(&bob, Traffic::Media).unwrap();
    let received = bob.count_received(Traffic::Media).unwrap();
    let link = bob.count_received(Traffic::Link).unwrap();
    let quic = bob.count_received(Traffic::Quic).unwrap();
    let all = bob.count_received(Traffic::Datagrams).unwrap();

    send(&alice, &bob, "04", 50, 1_232);
    send(&alice, &bob, "06", 30, 60);
    send(&alice, &bob, "c3", 20, 1_200);

    for counter in [media, media_to_bob, received] {
        let count = counter.read().unwrap();
        assert_eq!((count.packets, count.bytes), (50, 50 * (1_232 + HEADERS)));
    }
    assert_eq!(link.read().unwrap().packets, 30);
    assert_eq!(quic.read().unwrap().packets, 20);
    assert_eq!(all.read().unwrap().packets, 100);
}

#[test]
fn a_cable_loses_the_share_it_was_told_to() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let alice = net.host("alice", &mut lan).unwrap();
    let bob = net.host("bob", &mut lan).unwrap();
    let received = bob.count_received(Traffic::Datagrams).unwrap();
    alice.lose(200).unwrap();

    send(&alice, &bob, "04", 4_000, 100);

    // 3,200 are expected, and 25 is the standard deviation: eight of them.
    let count = received.read().unwrap().packets;
    assert!((3_000..3_400).contains(&count), "{count}");
}

#[test]
fn a_switch_floods_multicast_until_it_snoops_and_then_spares_those_who_did_not_ask() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let [alice, bob, carol] =
        ["alice", "bob", "carol"].map(|name| net.host(name, &mut lan).unwrap());
    let channel: SocketAddrV4 = "239.1.2.3:7801".parse().unwrap();
    let received = [&bob, &carol].map(|host| host.count_received(Traffic::Media).unwrap());
    let sent = || {
        let before = received
            .each_ref()
            .map(|counter| counter.read().unwrap().packets);
        send_to(&alice, channel, "04", 5, 100);
        let after = received
            .each_ref()
            .map(|counter| counter.read().unwrap().packets);
        [after[0] - before[0], after[1] - before[1]]
    };

    let flooded = sent();
    lan.snoop().unwrap();
    carol.join(*channel.ip()).unwrap();

    assert_eq!(flooded, [5, 5]);
    eventually(
        Duration::from_secs(10),
        "bob is spared and carol is not",
        || (sent() == [0, 5]).then_some(()),
    );
}

#[test]
fn a_mirror_hears_what_others_say_to_each_other() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let alice = net.host("alice", &mut lan).unwrap();
    let bob = net.host("bob", &mut lan).unwrap();
    let eve = net.host("eve", &mut lan).unwrap();
    let heard = eve.count_received(Traffic::Media).unwrap();

    send(&alice, &bob, "04", 10, 100);
    let before = heard.read().unwrap().packets;
    lan.mirror_to(&eve).unwrap();
    send(&alice, &bob, "04", 10, 100);

    assert_eq!((before, heard.read().unwrap().packets), (0, 10));
}

#[test]
fn nothing_is_left_of_a_network_whose_test_panicked() {
    let panicked = std::panic::catch_unwind(|| {
        let mut net = Net::new().unwrap();
        let mut lan = net.lan("doomed").unwrap();
        let host = net.host("doomed-host", &mut lan).unwrap();
        let _process = Process::start(&host, Path::new("tail"), ["-f", "/dev/null"]).unwrap();
        assert!(namespaces().contains("doomed-host"));
        panic!("as tests do");
    });

    assert!(panicked.is_err());
    assert!(!namespaces().contains("doomed"), "{}", namespaces());
}

#[test]
fn what_a_killed_test_left_behind_is_removed_with_its_processes_by_the_next() {
    // No process has this id: kernels stop at 2^22.
    let name = format!("lab-{}-0-orphan", 1 << 23);
    let ip = |words: &str| {
        let status = Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(status.success(), "{words}");
    };
    // While this network is there nobody else begins one, and so nobody removes the orphan too early.
    let net = Net::new().unwrap();
    ip(&format!("netns add {name}"));
    let mut orphan = Command::new("ip")
        .args(["netns", "exec", &name, "tail", "-f", "/dev/null"])
        .spawn()
        .unwrap();
    eventually(
        Duration::from_secs(10),
        "the orphan in its namespace",
        || {
            let output = Command::new("ip").args(["netns", "pids", &name]).output();
            (!output.unwrap().stdout.is_empty()).then_some(())
        },
    );
    drop(net);

    drop(Net::new().unwrap());

    let end = eventually(Duration::from_secs(10), "the orphan's end", || {
        orphan.try_wait().unwrap()
    });
    assert_eq!(end.code(), None, "killed, not ended: {end}");
    assert!(!namespaces().contains(&name));
}
