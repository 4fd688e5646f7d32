//! A host: a machine of its own as far as programs see, with one cable to a switch.
//!
//! Not the programs (`process`). Made by `net`, called by tests. Invariant: what a host is made to count, lose or hear
//! happens at the switch's end of its cable, where it cannot interfere.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use crate::counter::{Chain, Counter, Traffic};
use crate::net::{FIRST, SECOND};
use crate::tool;

/// Levada's port for everything unicast. Every host has an address of its own, so it is always free.
const PORT: u16 = 7800;
/// The kernel has taken the Ethernet header off before the ingress hook, and put it on before the egress hook.
const ETHERNET_HEADER: u64 = 14;

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    namespace: String,
    interface: &'static str,
    cable: Cable,
    dir: PathBuf,
}

/// The switch's end of a cable.
#[derive(Clone, Debug)]
pub struct Cable {
    switch: String,
    port: String,
    address: Ipv4Addr,
}

impl Host {
    pub(crate) fn new(name: &str, namespace: String, cable: Cable, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            namespace,
            interface: FIRST,
            cable,
            dir: dir.to_owned(),
        }
    }

    /// The same machine at its second cable.
    pub(crate) fn with_second_cable(&self, cable: Cable) -> Self {
        Self {
            interface: SECOND,
            cable,
            ..self.clone()
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.cable.address
    }

    /// Where a node listens on it.
    #[must_use]
    pub const fn node_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.cable.address, PORT)
    }

    /// A path of this host: its files are named after it.
    #[must_use]
    pub fn file(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.name))
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) const fn cable(&self) -> &Cable {
        &self.cable
    }

    /// Sends no faster than this through its cable, in kilobits per second. What does not fit waits, ten seconds of it,
    /// as behind a modem; so it is the sending socket that fills.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn slow_down(&self, kbit_per_s: u32) -> anyhow::Result<()> {
        let limit = kbit_per_s * 1_000 / 8 * 10;
        tool::ip(&format!(
            "netns exec {} tc qdisc add dev {} root tbf rate {kbit_per_s}kbit burst 5000 limit {limit}",
            self.namespace, self.interface
        ))
        .map(drop)
    }

    /// From now on its cable takes no IP packets larger than this.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_mtu(&self, bytes: u32) -> anyhow::Result<()> {
        tool::ip(&format!(
            "-n {} link set {} mtu {bytes}",
            self.namespace, self.interface
        ))
        .map(drop)
    }

    /// Joins a multicast channel, as a program on it would.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn join(&self, channel: Ipv4Addr) -> anyhow::Result<()> {
        let namespace = &self.namespace;
        tool::ip(&format!(
            "-n {namespace} address add {channel} dev eth0 autojoin"
        ))
        .map(drop)
    }

    /// Gives it one more address, at once: `fd00::1/64`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn add_address(&self, address: &str) -> anyhow::Result<()> {
        let namespace = &self.namespace;
        // Nobody else has it, so nobody is asked.
        tool::ip(&format!(
            "-n {namespace} address add {address} dev eth0 nodad"
        ))
        .map(drop)
    }

    /// Has it believe that all of `10.0.0.0/8` is on its own wire, whatever the way there: an address with that mask,
    /// and no route that would follow from it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn believe_in_a_wire(&self) -> anyhow::Result<()> {
        let (namespace, address) = (&self.namespace, self.address());
        tool::ip(&format!(
            "-n {namespace} address add {address}/8 dev eth0 noprefixroute"
        ))
        .map(drop)
    }

    /// Counts from now on what it sends.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn count_sent(&self, traffic: Traffic) -> anyhow::Result<Counter> {
        Counter::add(&self.cable.switch, &self.cable.sent(), traffic.condition())
    }

    /// Counts from now on what it sends to `to`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn count_sent_to(&self, to: &Self, traffic: Traffic) -> anyhow::Result<Counter> {
        let condition = format!("ip daddr {} {}", to.address(), traffic.condition());
        Counter::add(&self.cable.switch, &self.cable.sent(), &condition)
    }

    /// Counts from now on what reaches it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn count_received(&self, traffic: Traffic) -> anyhow::Result<Counter> {
        Counter::add(
            &self.cable.switch,
            &self.cable.received(),
            traffic.condition(),
        )
    }

    /// Loses this share of what it sends, in thousandths, after it was counted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn lose(&self, permille: u16) -> anyhow::Result<()> {
        let port = &self.cable.port;
        let script = format!(
            "add chain netdev lab lose_{port} {{ type filter hook ingress device {port} priority 10; }}\n\
             flush chain netdev lab lose_{port}\n\
             add rule netdev lab lose_{port} numgen random mod 1000 < {permille} drop"
        );
        tool::nft(&self.cable.switch, &script)
    }
}

impl Host {
    /// The switch passes nothing of admin-scope multicast channels to it any more, or does again: 239.x, and so media,
    /// but not what every switch floods.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn refuse_channels(&self, is_refused: bool) -> anyhow::Result<()> {
        let port = &self.cable.port;
        let rule = if is_refused {
            format!("\nadd rule netdev lab deaf_{port} ip daddr 239.0.0.0/8 drop")
        } else {
            String::new()
        };
        let script = format!(
            "add chain netdev lab deaf_{port} {{ type filter hook egress device {port} priority -10; }}\n\
             flush chain netdev lab deaf_{port}{rule}"
        );
        tool::nft(&self.cable.switch, &script)
    }
}

impl Cable {
    /// A cable whose traffic can be counted, in both directions.
    pub(crate) fn new(switch: String, port: String, address: Ipv4Addr) -> anyhow::Result<Self> {
        let cable = Self {
            switch,
            port,
            address,
        };
        let (sent, received, port) = (cable.sent().name, cable.received().name, &cable.port);
        let script = format!(
            "add chain netdev lab {sent} {{ type filter hook ingress device {port} priority 0; }}\n\
             add chain netdev lab {received} {{ type filter hook egress device {port} priority 0; }}"
        );
        tool::nft(&cable.switch, &script)?;
        Ok(cable)
    }

    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// What the host sends passes here.
    fn sent(&self) -> Chain {
        Chain {
            name: format!("sent_{}", self.port),
            header_bytes: 0,
        }
    }

    /// What reaches the host passes here.
    fn received(&self) -> Chain {
        Chain {
            name: format!("received_{}", self.port),
            header_bytes: ETHERNET_HEADER,
        }
    }
}
