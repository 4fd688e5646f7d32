//! The sockets of all lanes: one port, opened together, closed together.
//!
//! ```text
//! steered by the kernel      socket 0: QUIC, flows of lane 0     socket 1: flows of lane 1     ...
//! steered in user space      socket 0: everything                handles of socket 0, to send by
//! ```
//!
//! The first socket is bound **before** it agrees to share, so that a busy port is an error whoever has it and
//! however it was opened; then it agrees and the others join: one more per lane, and later, behind them, those by
//! which lanes send to further interfaces (`worker/send_sockets.rs`). Another process of the same user may join after
//! them if it says that it shares (a second node does not: its first socket does not say so). It gets nothing: the
//! kernel appends it to the group, and the program names none but the first places.
//!
//! Not a loop and not a lane. Called by [`crate::lanes`]. Invariant: the place in the set is the place in the kernel's
//! group, which changes when a socket of a lane is closed alone; nobody does. (Closing one behind them renumbers none
//! of them.)

use std::net::SocketAddr;

use super::socket::BindError;
use super::{Feature, NOT_WANTED, Socket, SocketSettings, reuseport};
use crate::lanes::LANES_MAX;

/// See the module's head.
#[derive(Debug)]
pub struct SocketSet {
    sockets: Vec<Socket>,
    steering: Feature,
}

impl SocketSet {
    /// Opens sockets for that many lanes, at least one and at most [`LANES_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Socket::bind`].
    pub fn bind(
        address: SocketAddr,
        settings: &SocketSettings,
        lanes: usize,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let mut sockets = vec![Socket::bind(address, settings)?];
        let lanes = lanes.clamp(1, LANES_MAX);
        let steering = match settings.steering {
            false => Feature::Off(NOT_WANTED),
            true if !reuseport::IS_POSSIBLE => {
                Feature::Off("the system has no SO_REUSEPORT to steer")
            }
            true => join(&mut sockets, settings, lanes),
        };
        while sockets.len() < lanes {
            let handle = sockets[0].try_clone().map_err(failed)?;
            sockets.push(handle);
        }
        Ok(Self { sockets, steering })
    }

    /// Where all of them are bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.sockets[0].local_addr()
    }

    /// Whether the kernel brings each datagram to the lane of its flow.
    #[must_use]
    pub const fn steering(&self) -> Feature {
        self.steering
    }

    #[cfg(test)]
    pub(crate) fn each(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter()
    }

    /// The socket of each lane, in their order.
    pub(crate) fn into_sockets(self) -> Vec<Socket> {
        self.sockets
    }
}

/// Opens the other sockets and has the kernel steer; on any failure the first one is alone again.
fn join(sockets: &mut Vec<Socket>, settings: &SocketSettings, lanes: usize) -> Feature {
    match try_join(sockets, settings, lanes) {
        Ok(()) => Feature::On,
        Err(error) => {
            tracing::debug!(%error, "the kernel does not steer: lanes pass datagrams on by themselves");
            sockets.truncate(1);
            // The first one shares with nobody again; where even that fails there was no sharing.
            let _ = reuseport::share(sockets[0].io(), false);
            Feature::Off("the system does not steer sockets of one port")
        }
    }
}

fn try_join(
    sockets: &mut Vec<Socket>,
    settings: &SocketSettings,
    lanes: usize,
) -> std::io::Result<()> {
    let address = sockets[0].local_addr();
    reuseport::share(sockets[0].io(), true)?;
    // There is no group to give a program to before a second socket joins, which a single lane then closes again.
    while sockets.len() < lanes.max(2) {
        sockets.push(Socket::bind_beside(address, settings)?);
    }
    reuseport::steer(sockets[0].io(), lanes)?;
    sockets.truncate(lanes);
    sockets.iter_mut().for_each(Socket::set_shared);
    Ok(())
}

#[cfg(test)]
mod tests;
