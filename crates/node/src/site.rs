//! A node's part in its site: the sockets that beacons go over, and the interfaces of the host as they come and go.
//!
//! ```text
//!  host's interfaces ──every 2 s──▶┐
//!  channel and answer sockets ─────▶ Input ──▶ driver ──▶ Listen: open and close sockets
//!                                                     └─▶ Say: send
//! ```
//!
//! Not a decision: the site machine of the core has those. Called by `driver`. Invariant: a site datagram waits in a
//! bounded queue, and one that finds it full is dropped: beacons are repeated.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use levada_core::site::{self, Choice, Input, Interface, Kind, Listener, Way, Willing};
use levada_lane::api;
use levada_ports::sys::{self, HostInterface, InterfaceKind};
use levada_wire::WallTime;
use levada_wire::datagram::site::SiteTag;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::MissedTickBehavior;

use crate::builder::StartError;

/// How often the host's interfaces are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The most site datagrams that wait for the driver. More are dropped.
const WAITING_MAX: usize = 256;
/// Larger than any datagram that is of a site.
const DATAGRAM_BYTES: usize = 2_048;

/// How a node takes part in a site. See [`crate::Builder::site`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteOptions {
    /// Nodes of other labels on the same LAN are other sites.
    pub label: Option<String>,
    /// The interfaces to take part on. Without any: each that is wired or Wi-Fi and has a private network, or the one
    /// whose address the node listens on; never loopback, containers or tunnels.
    pub interfaces: Vec<String>,
}

/// The node's sockets for its site.
#[derive(Debug)]
pub(crate) struct SitePorts {
    heard: mpsc::Sender<Input>,
    open: BTreeMap<u32, Open>,
}

/// The sockets of one interface.
#[derive(Debug, Default)]
struct Open {
    of: Option<Listener>,
    speak_v4: Option<Arc<UdpSocket>>,
    speak_v6: Option<Arc<UdpSocket>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Open {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What the core is told of the site at the start.
pub(crate) fn settings(
    options: &SiteOptions,
    listen: SocketAddr,
    willing: Willing,
    wall: WallTime,
) -> site::Settings {
    let label = options.label.as_deref();
    let choice = if !options.interfaces.is_empty() {
        Choice::Named(options.interfaces.clone())
    } else if listen.ip().is_unspecified() {
        Choice::Auto
    } else {
        Choice::Address(listen.ip())
    };
    site::Settings {
        site: label.map_or(SiteTag::NONE, SiteTag::of_label),
        choice,
        port: listen.port(),
        wall,
        willing,
    }
}

/// Refuses an interface that does not exist: a slip of the pen would leave the node alone in silence.
pub(crate) fn check(options: &SiteOptions) -> Result<(), StartError> {
    if options.interfaces.is_empty() {
        return Ok(());
    }
    let known = sys::interfaces().map_err(|source| StartError::System {
        what: "its network interfaces",
        source,
    })?;
    let known: Vec<String> = known.into_iter().map(|one| one.name).collect();
    let unknown = options.interfaces.iter().find(|name| !known.contains(name));
    unknown.map_or(Ok(()), |name| {
        Err(StartError::Interface {
            name: name.clone(),
            known: known.join(", "),
        })
    })
}

impl SitePorts {
    /// Without a socket yet; what is heard comes out of the receiver.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Input>) {
        let (heard, inputs) = mpsc::channel(WAITING_MAX);
        let open = BTreeMap::new();
        (Self { heard, open }, inputs)
    }

    /// Begins to look at the host's interfaces, with addresses that the node's own port can be reached at.
    pub(crate) fn watch(&self, listen: SocketAddr) -> JoinHandle<()> {
        let heard = self.heard.clone();
        tokio::spawn(watch(listen, heard))
    }

    /// Hears and speaks on these interfaces, and on no other. What fails is tried again with the next change.
    pub(crate) fn listen(&mut self, listeners: Vec<Listener>) {
        let names: Vec<&str> = listeners.iter().map(|one| one.name.as_str()).collect();
        tracing::info!(interfaces = names.join(", "), "the site is looked for");
        self.open.retain(|index, open| {
            let wanted = listeners.iter().find(|one| one.index == *index);
            wanted.is_some() && wanted == open.of.as_ref()
        });
        for listener in listeners {
            let index = listener.index;
            if !self.open.contains_key(&index) {
                let mut open = self.open_on(&listener);
                open.of = Some(listener);
                self.open.insert(index, open);
            }
        }
    }

    /// Sends a datagram by an interface. One that the system does not take is lost, as on the wire.
    pub(crate) fn say(&self, interface: u32, to: SocketAddr, datagram: &[u8]) {
        let Some(open) = self.open.get(&interface) else {
            return;
        };
        let socket = if to.is_ipv6() {
            &open.speak_v6
        } else {
            &open.speak_v4
        };
        if let Some(socket) = socket
            && let Err(error) = socket.try_send_to(datagram, to)
        {
            tracing::debug!(%error, "a site datagram was not sent");
        }
    }

    fn open_on(&self, listener: &Listener) -> Open {
        let mut open = Open::default();
        let interface = api::Interface {
            index: listener.index,
            address: listener.ipv4,
        };
        for (way, channel) in &listener.channels {
            match self.hear(*channel, interface, *way) {
                Ok(task) => open.tasks.push(task),
                Err(error) => {
                    tracing::warn!(
                        %channel, interface = listener.name, %error,
                        "a site channel cannot be heard"
                    );
                }
            }
        }
        for is_ipv6 in [false, true] {
            let has_it = if is_ipv6 {
                listener.ipv6
            } else {
                listener.ipv4.is_some()
            };
            if !has_it {
                continue;
            }
            match self.speak(interface, is_ipv6) {
                Ok((socket, task)) => {
                    open.tasks.push(task);
                    *(if is_ipv6 {
                        &mut open.speak_v6
                    } else {
                        &mut open.speak_v4
                    }) = Some(socket);
                }
                Err(error) => {
                    tracing::warn!(
                        interface = listener.name, %error,
                        "nothing can be sent to the channels of the site"
                    );
                }
            }
        }
        open
    }

    fn hear(
        &self,
        channel: SocketAddr,
        interface: api::Interface,
        way: Way,
    ) -> io::Result<AbortHandle> {
        let socket = UdpSocket::from_std(sys::hear_channel(channel, interface)?)?;
        let task = receive(Arc::new(socket), interface.index, way, self.heard.clone());
        Ok(tokio::spawn(task).abort_handle())
    }

    fn speak(
        &self,
        interface: api::Interface,
        is_ipv6: bool,
    ) -> io::Result<(Arc<UdpSocket>, AbortHandle)> {
        let socket = UdpSocket::from_std(sys::speak_to_channels(interface, is_ipv6)?)?;
        let socket = Arc::new(socket);
        let answers = receive(
            Arc::clone(&socket),
            interface.index,
            Way::Direct,
            self.heard.clone(),
        );
        Ok((socket, tokio::spawn(answers).abort_handle()))
    }
}

/// Hands on what comes to a socket.
async fn receive(socket: Arc<UdpSocket>, interface: u32, way: Way, heard: mpsc::Sender<Input>) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok((bytes, from)) = socket.recv_from(&mut buffer).await else {
            // A port that answered "unreachable", or an interface that is going: the next change closes the socket.
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let input = Input::Heard {
            interface,
            way,
            from,
            datagram: buffer[..bytes].to_vec(),
        };
        if let Err(mpsc::error::TrySendError::Closed(_)) = heard.try_send(input) {
            return;
        }
    }
}

/// Tells of the host's interfaces, at once and whenever they have changed.
async fn watch(listen: SocketAddr, heard: mpsc::Sender<Input>) {
    let mut told = None;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = match sys::interfaces() {
            Ok(found) => found.into_iter().map(|one| of(one, listen)).collect(),
            Err(error) => {
                if told.is_none() {
                    tracing::warn!(%error, "no site is formed: the interfaces are not known");
                }
                Vec::new()
            }
        };
        if told.as_ref() != Some(&now) {
            told = Some(now.clone());
            if heard.send(Input::Interfaces(now)).await.is_err() {
                return;
            }
        }
    }
}

/// The core's word for an interface, with the addresses at which the node's own port is reached.
fn of(host: HostInterface, listen: SocketAddr) -> Interface {
    let is_reached = |address: &IpAddr| match listen.ip() {
        // `[::]` takes IPv4 too.
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => address.is_ipv4(),
        ip => *address == ip,
    };
    let addresses = host.addresses.into_iter().map(|own| own.ip);
    Interface {
        index: host.index,
        name: host.name,
        kind: match host.kind {
            InterfaceKind::Wired => Kind::Wired,
            InterfaceKind::Wireless => Kind::Wireless,
            InterfaceKind::Tunnel => Kind::Tunnel,
            InterfaceKind::Container => Kind::Container,
            InterfaceKind::Loopback => Kind::Loopback,
        },
        is_up: host.is_up,
        addresses: addresses.filter(is_reached).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_ports::sys::HostAddress;

    use super::*;

    #[test]
    fn an_interface_that_does_not_exist_is_refused_with_those_that_do() {
        let options = SiteOptions {
            interfaces: vec!["eht0".to_owned()],
            ..SiteOptions::default()
        };

        let text = check(&options).unwrap_err().to_string();

        assert!(text.contains("eht0") && text.contains("lo"), "{text}");
    }

    #[test]
    fn a_node_takes_part_where_it_can_be_reached() {
        let own = |(ip, prefix): (&str, u32)| HostAddress {
            ip: ip.parse().unwrap(),
            prefix,
        };
        let eth0 = HostInterface {
            index: 2,
            name: "eth0".to_owned(),
            kind: InterfaceKind::Wired,
            is_up: true,
            is_wire: true,
            addresses: [("10.0.0.5", 24), ("fe80::5", 64)].map(own).to_vec(),
        };
        let counts = ["[::]:7800", "0.0.0.0:7800", "10.0.0.5:7800", "127.0.0.1:0"]
            .map(|listen| of(eth0.clone(), listen.parse().unwrap()).addresses.len());

        assert_eq!(counts, [2, 1, 1, 0]);
    }
}
