//! A network of namespaces: switches, routers and hosts, all of them gone when it is dropped.
//!
//! ```text
//!  lab-PID-N-studio    a LAN: one bridge, one port for each cable, 10.M.0.0/24
//!  lab-PID-N-origin    a host: eth0 with 10.M.0.PORT, default route to 10.M.0.254
//!  lab-PID-N-router    a router: one interface in each LAN, always 10.M.0.254
//! ```
//!
//! A cable carries datagrams, not trains: `gso_max_segs 1` makes the kernel cut a GSO send at the sender's interface,
//! so that counters, loss and strangers meet what a wire would carry.
//!
//! Not what runs there (`process`). Called by tests. Invariant: only namespaces named `lab-PID-` with the PID of this
//! process, or of one that is gone, are ever touched; one network at a time exists on the machine.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use levada_bench::impair::Impairment;
use tempfile::TempDir;

use crate::host::{Cable, Host};
use crate::tool::{self, ip};
use crate::way::Way;

mod namespace;

use namespace::Namespace;

/// Whoever holds it has the machine: two networks at once would disturb each other's timing.
const LOCK: &str = "/run/levada-lab.lock";
/// The last byte of a router's address in each LAN, and so the most cables a LAN can have plus one.
const ROUTER: u8 = 254;

/// The interfaces of a host.
pub(crate) const FIRST: &str = "eth0";
pub(crate) const SECOND: &str = "eth1";

static NETS: AtomicU32 = AtomicU32::new(0);

/// A network.
#[derive(Debug)]
pub struct Net {
    /// `lab-PID-N`.
    prefix: String,
    lans: u8,
    /// Declared before `dir` and `lock`: dropped before them.
    namespaces: Vec<Namespace>,
    dir: TempDir,
    _lock: File,
}

/// A LAN: one switch.
#[derive(Debug)]
pub struct Lan {
    namespace: String,
    /// The second byte of its addresses.
    number: u8,
    /// Cables plugged in so far.
    ports: u8,
}

impl Net {
    /// Waits until the machine is free, removes what dead tests left behind, and begins an empty network.
    ///
    /// # Errors
    ///
    /// Without root, `ip` or `nft`.
    pub fn new() -> anyhow::Result<Self> {
        tool::require()?;
        let lock = File::create(LOCK).with_context(|| format!("cannot open {LOCK}"))?;
        lock.lock().with_context(|| format!("cannot lock {LOCK}"))?;
        namespace::remove_leftovers()?;
        let count = NETS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            prefix: format!("{}{}-{count}", namespace::PREFIX, std::process::id()),
            lans: 0,
            namespaces: Vec::new(),
            dir: tempfile::tempdir().context("cannot make a folder for logs and files")?,
            _lock: lock,
        })
    }

    /// A folder for logs, state directories and recordings; gone with the network.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a switch with nothing plugged in. It floods multicast: see [`Lan::snoop`].
    ///
    /// # Errors
    ///
    /// When the kernel does not give it.
    pub fn lan(&mut self, name: &str) -> anyhow::Result<Lan> {
        let namespace = self.namespace(name)?;
        ip(&format!(
            "-n {namespace} link add name bridge0 type bridge mcast_snooping 0"
        ))?;
        ip(&format!("-n {namespace} link set bridge0 up"))?;
        tool::nft(&namespace, "add table netdev lab")?;
        self.lans += 1;
        Ok(Lan {
            namespace,
            number: self.lans,
            ports: 0,
        })
    }

    /// Adds a host and plugs it into a LAN.
    ///
    /// # Errors
    ///
    /// When the kernel does not give it.
    pub fn host(&mut self, name: &str, lan: &mut Lan) -> anyhow::Result<Host> {
        let namespace = self.namespace(name)?;
        let cable = lan.plug(&namespace, FIRST, None)?;
        let router = lan.address(ROUTER);
        ip(&format!("-n {namespace} route add default via {router}"))?;
        Ok(Host::new(name, namespace, cable, self.dir()))
    }

    /// Lays a second cable from a host to another LAN, and gives the host as it is there: with an address of that LAN.
    ///
    /// # Errors
    ///
    /// When the kernel does not give it.
    pub fn second_cable(&self, host: &Host, lan: &mut Lan) -> anyhow::Result<Host> {
        let cable = lan.plug(host.namespace(), SECOND, None)?;
        Ok(host.with_second_cable(cable))
    }

    /// Adds a router between LANs.
    ///
    /// # Errors
    ///
    /// When the kernel does not give it.
    pub fn router(&mut self, name: &str, lans: &mut [&mut Lan]) -> anyhow::Result<()> {
        let namespace = self.namespace(name)?;
        for (index, lan) in lans.iter_mut().enumerate() {
            lan.plug(&namespace, &format!("eth{index}"), Some(ROUTER))?;
        }
        // A bare Debian has no `sysctl`.
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        tool::run("ip", &["netns", "exec", &namespace, "sh", "-c", forward]).map(drop)
    }

    /// Adds a router between LANs that is as far and as bad as it is told, drawn from that seed. `peer` is the program
    /// `lab-peer`.
    ///
    /// # Errors
    ///
    /// When the kernel does not give it, or the program does not start.
    pub fn way(
        &mut self,
        lans: &mut [&mut Lan],
        peer: &Path,
        impairment: &Impairment,
        seed: u64,
    ) -> anyhow::Result<Way> {
        let namespace = self.namespace("way")?;
        let mut first = None;
        for (index, lan) in lans.iter_mut().enumerate() {
            let cable = lan.plug(&namespace, &format!("eth{index}"), Some(ROUTER))?;
            first.get_or_insert(cable);
        }
        let cable = first.context("a way leads from somewhere")?;
        Way::start(
            &Host::new("way", namespace, cable, self.dir()),
            peer,
            impairment,
            seed,
        )
    }

    fn namespace(&mut self, name: &str) -> anyhow::Result<String> {
        let namespace = Namespace::add(format!("{}-{name}", self.prefix))?;
        let name = namespace.name().to_owned();
        self.namespaces.push(namespace);
        ip(&format!("-n {name} link set lo up"))?;
        Ok(name)
    }
}

impl Lan {
    /// Makes the switch watch IGMP and send multicast to members only. It is the LAN's querier too, because without one
    /// a switch forgets who asked, and begins after the response interval, which is short here.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn snoop(&self) -> anyhow::Result<()> {
        let set = format!("-n {} link set bridge0 type bridge", self.namespace);
        // In hundredths of a second.
        ip(&format!("{set} mcast_query_response_interval 20"))?;
        ip(&format!("{set} mcast_snooping 1 mcast_querier 1")).map(drop)
    }

    /// Copies all that hosts plugged in so far send to one of them, which so hears everything.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn mirror_to(&self, listener: &Host) -> anyhow::Result<()> {
        let to = listener.cable().port();
        let others = (1..=self.ports).map(port_name).filter(|port| port != to);
        for port in others {
            let script = format!(
                "add chain netdev lab mirror_{port} {{ type filter hook ingress device {port} priority 5; }}\n\
                 add rule netdev lab mirror_{port} dup to {to}"
            );
            tool::nft(&self.namespace, &script)?;
        }
        Ok(())
    }

    /// Lays a cable to an interface of `namespace`, with the next address or the one that ends with `last`.
    fn plug(
        &mut self,
        namespace: &str,
        interface: &str,
        last: Option<u8>,
    ) -> anyhow::Result<Cable> {
        self.ports += 1;
        anyhow::ensure!(self.ports < ROUTER, "all addresses of the LAN are taken");
        let switch = &self.namespace;
        let port = port_name(self.ports);
        let address = self.address(last.unwrap_or(self.ports));
        ip(&format!(
            "link add name {interface} netns {namespace} gso_max_segs 1 \
             type veth peer name {port} netns {switch} gso_max_segs 1"
        ))?;
        ip(&format!("-n {switch} link set {port} master bridge0 up"))?;
        ip(&format!(
            "-n {namespace} address add {address}/24 dev {interface}"
        ))?;
        ip(&format!("-n {namespace} link set {interface} up"))?;
        Cable::new(switch.clone(), port, address)
    }

    fn address(&self, last: u8) -> std::net::Ipv4Addr {
        [10, self.number, 0, last].into()
    }
}

fn port_name(number: u8) -> String {
    format!("port{number}")
}
