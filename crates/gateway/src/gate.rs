//! How many clients there may be, and how many from one address that have not yet done anything of use.
//!
//! Not who they are, which is [`crate::users`]. Called by gateways at each connection. Invariant: what a permit counts
//! is given back when it is dropped, whatever ended the client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The limits of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Clients in all.
    pub clients_max: usize,
    /// Connections from one address that have no session yet.
    pub handshakes_per_address_max: usize,
    /// Bytes to one client, after which its session ends; no limit if none.
    pub client_bytes_max: Option<u64>,
    /// How long a client may take nothing of what is sent to it.
    pub stall_max: Duration,
}

impl Default for Limits {
    /// 10,000 clients; 64 handshakes from one address, since many may sit behind one; bytes without limit; 10 s.
    fn default() -> Self {
        Self {
            clients_max: 10_000,
            handshakes_per_address_max: 64,
            client_bytes_max: None,
            stall_max: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Sets the number of clients.
    #[must_use]
    pub const fn with_clients(mut self, max: usize) -> Self {
        self.clients_max = max;
        self
    }

    /// Sets the number of handshakes from one address.
    #[must_use]
    pub const fn with_handshakes_per_address(mut self, max: usize) -> Self {
        self.handshakes_per_address_max = max;
        self
    }

    /// Sets how long a client may take nothing.
    #[must_use]
    pub const fn with_stall(mut self, max: Duration) -> Self {
        self.stall_max = max;
        self
    }

    /// Sets the bytes to one client.
    #[must_use]
    pub const fn with_client_bytes(mut self, max: u64) -> Self {
        self.client_bytes_max = Some(max);
        self
    }
}

/// Counts clients. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    limits: Limits,
    clients: usize,
    handshakes: BTreeMap<IpAddr, usize>,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// There are as many clients as there may be.
    #[error("there are {max} clients, which is all this gateway may have")]
    Clients {
        /// The limit.
        max: usize,
    },
    /// Too many from this address have not said what they want.
    #[error("{max} connections from that address have no session yet, which is all there may be")]
    Handshakes {
        /// The limit.
        max: usize,
    },
}

impl Gate {
    /// A gate without clients.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let gate = Self::default();
        gate.set_limits(limits);
        gate
    }

    /// The limits at the moment.
    #[must_use]
    pub fn limits(&self) -> Limits {
        lock(&self.counts).limits
    }

    /// Sets other limits. They are for clients that come from now on; who is in stays.
    pub fn set_limits(&self, limits: Limits) {
        lock(&self.counts).limits = limits;
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        lock(&self.counts).clients
    }

    /// Lets a client in.
    ///
    /// # Errors
    ///
    /// When a limit is reached.
    pub fn enter(&self, address: IpAddr) -> Result<Permit, GateError> {
        let address = address.to_canonical();
        let mut counts = lock(&self.counts);
        let limits = counts.limits;
        if counts.clients >= limits.clients_max {
            let max = limits.clients_max;
            return Err(GateError::Clients { max });
        }
        let handshakes = counts.handshakes.get(&address).copied().unwrap_or(0);
        if handshakes >= limits.handshakes_per_address_max {
            let max = limits.handshakes_per_address_max;
            return Err(GateError::Handshakes { max });
        }
        counts.clients += 1;
        counts.handshakes.insert(address, handshakes + 1);
        drop(counts);
        Ok(Permit {
            counts: Arc::clone(&self.counts),
            handshake: Some(address),
        })
    }
}

/// A client that was let in.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<Mutex<Counts>>,
    handshake: Option<IpAddr>,
}

impl Permit {
    /// The client has a session: it does not count as a handshake any more.
    pub fn settle(&mut self) {
        if let Some(address) = self.handshake.take() {
            lock(&self.counts).settle(address);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle();
        lock(&self.counts).clients -= 1;
    }
}

impl Counts {
    fn settle(&mut self, address: IpAddr) {
        if let Some(count) = self.handshakes.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.handshakes.remove(&address);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts
        .lock()
        .expect("no code that can panic runs under this lock")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn more_clients_than_the_limit_are_refused_until_one_goes() {
        let gate = Gate::new(Limits::default().with_clients(2));
        let first = gate.enter(A).unwrap();
        let _second = gate.enter(B).unwrap();

        assert_eq!(gate.enter(A).unwrap_err(), GateError::Clients { max: 2 });
        drop(first);
        assert!(gate.enter(A).is_ok());
    }

    #[test]
    fn other_limits_are_for_those_who_come_later() {
        let gate = Gate::new(Limits::default());
        let first = gate.enter(A).unwrap();

        gate.set_limits(Limits::default().with_clients(1));

        assert_eq!(gate.enter(A).unwrap_err(), GateError::Clients { max: 1 });
        assert_eq!(gate.clients(), 1);
        drop(first);
        assert!(gate.enter(A).is_ok());
    }

    #[test]
    fn handshakes_count_per_address_until_they_settle() {
        let gate = Gate::new(Limits::default().with_handshakes_per_address(1));
        let mut settled = gate.enter(A).unwrap();

        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        let refused = gate.enter(mapped.into()).unwrap_err();
        assert_eq!(refused, GateError::Handshakes { max: 1 });
        assert!(gate.enter(B).is_ok());
        settled.settle();
        assert!(gate.enter(A).is_ok());
        drop(settled);
        assert!(lock(&gate.counts).handshakes.is_empty());
    }
}
