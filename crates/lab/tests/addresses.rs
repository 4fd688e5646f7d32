//! A host with several addresses: whoever asks one of them is answered from that one, and served.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::Ipv4Addr;
use std::time::Duration;

use levada_lab::{Net, Node, clip_file};

const SOON: Duration = Duration::from_secs(20);
/// One second of the clip, which has 312,456 bytes in 8 s.
const ONE_SECOND: u64 = 312_456 / 8;

#[test]
fn a_node_is_reached_by_a_second_address_and_by_a_link_local_one() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let [origin, player] = ["origin", "player"].map(|name| net.host(name, &mut lan).unwrap());
    let [a, b, c, d] = origin.address().octets();
    let second = Ipv4Addr::from([a, b, c, d + 100]);
    origin.add_address(&format!("{second}/24")).unwrap();
    origin.add_address("fe80::77/64").unwrap();
    player.add_address("fe80::78/64").unwrap();
    let port = origin.node_address().port();
    let _publishes = Node::origin_on_all_addresses(&origin, "cam", &clip_file()).unwrap();

    for address in [
        format!("{second}:{port}"),
        format!("[fe80::77%eth0]:{port}"),
    ] {
        let mut watcher = Node::player_through(&player, "cam", &address).unwrap();
        watcher.records(ONE_SECOND, SOON);

        let links = watcher.view("links").unwrap();
        let remote = links[0]["remote"].as_str().unwrap().to_owned();
        let numbered = address.replace("%eth0", "%");
        assert!(
            remote.starts_with(numbered.split(']').next().unwrap()),
            "{remote}"
        );
        watcher.process().kill().unwrap();
    }
}
