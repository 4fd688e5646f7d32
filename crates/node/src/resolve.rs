//! Addresses as people write them, `[NODEID@]HOST[:PORT]`, and the tasks that look their names up.
//!
//! Not dialling, which the core orders. Called by `builder` (syntax) and `driver` (look-up). Invariant: a name
//! that is not found is looked up again, less and less often, and stays visible until it is. When one that was found is
//! looked up again, `driver::names` decides.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use levada_core::Neighbour;
use levada_wire::NodeId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::builder::PORT_DEFAULT;

/// The most results that may wait for the driver. More wait with the look-ups.
pub(crate) const RESOLVED_MAX: usize = 64;
/// The most addresses that one name may bring.
const ADDRESSES_MAX: usize = 16;
/// How long after a failed look-up the next one follows; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest host name, in bytes (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// Where a neighbour is, and who it must be if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    node: Option<NodeId>,
    host: String,
    port: u16,
}

impl Address {
    /// The text that look-ups take.
    fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The neighbour, if the address needs no look-up.
    pub(crate) fn literal(&self) -> Option<Neighbour> {
        let address = match self.host.split_once('%') {
            Some((address, zone)) => {
                let scope = scope_of(zone)?;
                SocketAddrV6::new(address.parse().ok()?, self.port, 0, scope).into()
            }
            None => SocketAddr::new(self.host.parse().ok()?, self.port),
        };
        Some(Neighbour {
            addresses: vec![address],
            node: self.node,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "{node}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |reason| AddressError {
            text: text.to_owned(),
            reason,
        };
        let (node, place) = match text.split_once('@') {
            Some((node, place)) => {
                let node = node.parse::<NodeId>();
                let node = node.map_err(|_| fail("what stands before `@` is not a node id"))?;
                (Some(node), place)
            }
            None => (None, text),
        };
        let (host, port) = split(place).ok_or_else(|| fail("the port is not a number"))?;
        let port = match port {
            None => PORT_DEFAULT,
            Some("0") => return Err(fail("port 0 cannot be reached")),
            Some(port) => port
                .parse()
                .map_err(|_| fail("the port is not a number from 1 to 65535"))?,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(is_host);
        if !is_name {
            check_address(host).map_err(fail)?;
        }
        Ok(Self {
            node,
            host: host.to_owned(),
            port,
        })
    }
}

/// Checks what is no name. A link-local address means nothing without its interface, and no other has one.
fn check_address(host: &str) -> Result<(), &'static str> {
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err("the host is neither a name nor an IP address");
    };
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match zone {
        None if is_link_local => {
            Err("a link-local address needs its interface, as in `[fe80::1%eth0]:7800`")
        }
        Some(_) if !is_link_local => Err("only a link-local address has an interface after `%`"),
        Some(zone) if scope_of(zone).is_none() => {
            Err("this machine has no interface of the name after `%`")
        }
        _ => Ok(()),
    }
}

/// The number of an interface that is written as its name or as its number.
fn scope_of(zone: &str) -> Option<u32> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    if let Ok(number) = zone.parse() {
        return (number > 0).then_some(number);
    }
    let may_be = !zone.starts_with('.') && zone.chars().all(is_name);
    let path = Path::new("/sys/class/net").join(zone).join("ifindex");
    let index = may_be.then(|| std::fs::read_to_string(path).ok())?;
    index?.trim().parse().ok()
}

/// Splits `HOST[:PORT]`, where an IPv6 address with a port stands in brackets.
fn split(place: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    Some(match place.rsplit_once(':') {
        // More than one colon without brackets: an IPv6 address alone.
        Some((host, _)) if host.contains(':') => (place, None),
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    })
}

/// What a look-up brought.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// The neighbour's addresses.
    Found {
        /// What was looked up.
        address: Address,
        /// What it stands for.
        neighbour: Neighbour,
    },
    /// Not yet, and why.
    NotYet {
        /// What was looked up.
        address: Address,
        /// Why, for people.
        cause: String,
    },
}

/// Looks `addresses` up until each is found; what comes out goes to `results`. Ends when all are, or nobody listens.
pub(crate) async fn run(addresses: Vec<Address>, results: mpsc::Sender<Resolved>) {
    run_by(addresses, results, look_up).await;
}

/// The same by any way to look a name up. None waits for another: a name server may be silent for half a minute.
async fn run_by<L, F>(addresses: Vec<Address>, results: mpsc::Sender<Resolved>, look_up: L)
where
    L: Fn(Address) -> F + Copy + Send + 'static,
    F: Future<Output = Result<Neighbour, String>> + Send + 'static,
{
    let mut look_ups = JoinSet::new();
    for address in addresses {
        look_ups.spawn(until_found(address, results.clone(), look_up));
    }
    // Dropping the set, when the node ends, ends them all.
    while look_ups.join_next().await.is_some() {}
}

async fn until_found<F>(
    address: Address,
    results: mpsc::Sender<Resolved>,
    look_up: impl Fn(Address) -> F,
) where
    F: Future<Output = Result<Neighbour, String>>,
{
    let mut delay = RETRY_MIN;
    loop {
        let found = look_up(address.clone()).await;
        let is_found = found.is_ok();
        let address = address.clone();
        let resolved = match found {
            Ok(neighbour) => Resolved::Found { address, neighbour },
            Err(cause) => Resolved::NotYet { address, cause },
        };
        if results.send(resolved).await.is_err() || is_found {
            return;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_MAX);
    }
}

async fn look_up(address: Address) -> Result<Neighbour, String> {
    let found = tokio::net::lookup_host(address.endpoint()).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(found) => found.take(ADDRESSES_MAX).collect(),
        Err(error) => return Err(format!("the name is not found: {error}")),
    };
    if addresses.is_empty() {
        return Err("the name has no address".to_owned());
    }
    Ok(Neighbour {
        addresses,
        node: address.node,
    })
}

/// Why a text is no neighbour's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a neighbour's address: {reason}; write `HOST[:PORT]`, `[IPV6]:PORT` or `NODEID@HOST[:PORT]`"
)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn an_address_without_a_port_means_the_default_port() {
        let address: Address = "relay.example".parse().unwrap();

        assert_eq!(address.to_string(), "relay.example:7800");
        assert_eq!(address.literal(), None);
    }

    #[test]
    fn an_ipv6_address_is_known_with_and_without_its_port() {
        for (text, shown) in [
            ("fd00::7", "[fd00::7]:7800"),
            ("[fd00::7]", "[fd00::7]:7800"),
            ("[fd00::7]:99", "[fd00::7]:99"),
            ("10.0.0.7:99", "10.0.0.7:99"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(address.literal().is_some(), "{text} needs no look-up");
        }
    }

    #[test]
    fn a_link_local_address_has_its_interface_by_name_or_by_number() {
        let scope = |text: &str| {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), format!("[{}]:7800", address.host));
            match address.literal().unwrap().addresses[..] {
                [SocketAddr::V6(v6)] => v6.scope_id(),
                _ => panic!("it is one of IPv6"),
            }
        };

        assert_eq!(scope("fe80::7%3"), 3);
        #[cfg(target_os = "linux")]
        assert_eq!(
            scope("[fe80::7%lo]:7800"),
            1,
            "the first interface of every host"
        );
    }

    #[test]
    fn a_node_id_before_the_address_is_who_must_answer() {
        let id = NodeId([0x5a; 32]);

        let address: Address = format!("{id}@127.0.0.1:7").parse().unwrap();

        assert_eq!(address.literal().unwrap().node, Some(id));
        assert_eq!(address.to_string(), format!("{id}@127.0.0.1:7"));
    }

    #[test]
    fn a_malformed_address_is_refused_with_its_reason_and_the_right_form() {
        for (text, reason) in [
            ("", "neither a name nor"),
            ("a b:7800", "neither a name nor"),
            ("host:port", "1 to 65535"),
            ("host:0", "port 0"),
            ("host:70000", "1 to 65535"),
            ("me@host", "not a node id"),
            ("[fd00::7]x", "not a number"),
            ("fe80::7", "needs its interface"),
            ("[fe80::7]:7800", "needs its interface"),
            ("fd00::7%1", "only a link-local address"),
            ("10.0.0.7%1", "only a link-local address"),
            ("fe80::7%nothing0", "no interface of the name"),
            ("fe80::7%../lo", "no interface of the name"),
            ("fe80::7%0", "no interface of the name"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
            assert!(error.contains("HOST[:PORT]"), "{text:?}: {error}");
        }
    }
    #[tokio::test]
    async fn results_too_many_wait_with_the_look_up_and_none_is_lost() {
        let (results, mut resolved) = mpsc::channel(RESOLVED_MAX);
        let ports = 1..=u16::try_from(RESOLVED_MAX + 3).unwrap();
        let addresses = ports.clone().map(|port| Address {
            node: None,
            host: "127.0.0.1".to_owned(),
            port,
        });
        let mut look_ups = tokio::spawn(run(addresses.collect(), results.clone()));

        tokio::select! {
            _ = &mut look_ups => panic!("more were told than there is room for"),
            () = async {
                while results.capacity() > 0 {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        drop(results);
        let mut told = Vec::new();
        while let Some(Resolved::Found { address, .. }) = resolved.recv().await {
            told.push(address.port);
        }

        told.sort_unstable();
        assert_eq!(told, ports.collect::<Vec<_>>());
        look_ups.await.unwrap();
    }

    #[tokio::test]
    async fn a_name_whose_look_up_hangs_delays_no_other() {
        let (results, mut resolved) = mpsc::channel(RESOLVED_MAX);
        let names = ["hangs.example", "answers.example"];
        let names = names.map(|name| name.parse().unwrap()).to_vec();

        let look_ups = tokio::spawn(run_by(names, results, |address: Address| async move {
            if address.host.starts_with("hangs") {
                std::future::pending::<()>().await;
            }
            Err("no".to_owned())
        }));

        let first = tokio::time::timeout(Duration::from_secs(20), resolved.recv());
        let first = first.await.expect("it does not wait for the other");
        assert!(
            matches!(first, Some(Resolved::NotYet { address, .. }) if address.host.starts_with("answers"))
        );
        look_ups.abort();
    }
}
