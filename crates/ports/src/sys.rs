//! The kernel's side: sockets, and one file per kernel feature with its fall-back.
//!
//! The only place of what ships with unsafe code: system calls that neither std nor socket2 offers. Each
//! feature says whether it is on and, if not, why; where it is missing, portable code does the same with more
//! system calls. Not when to send: that is [`crate::worker`]. Called by it and, for QUIC, by the node. Invariant:
//! the bytes that arrive are the same with each feature on or off.

mod beacon;
mod errors;
#[cfg(all(test, target_os = "linux"))]
mod failing;
mod gro;
mod gso;
mod interface_rate;
mod interfaces;
pub(crate) mod multicast;
mod option;
mod path;
mod pktinfo;
mod probe;
mod reuseport;
mod route;
mod set;
mod socket;

pub use beacon::{hear_channel, speak_to_channels};
pub use interface_rate::interface_rate;
pub use interfaces::{HostAddress, HostInterface, InterfaceKind, interfaces};
pub use path::path_to;
pub use probe::{ProbeArrival, ProbeSettings, ProbeSocket};
pub use route::source_towards;
pub use set::SocketSet;
pub use socket::{BindError, BufferBytes, Socket, SocketSettings};
pub(crate) use socket::{ReceiveBuffer, is_too_large};

/// Whether a kernel feature is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// It is.
    On,
    /// It is not, for this reason.
    Off(&'static str),
}

impl Feature {
    /// Whether it is in use.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

const NOT_WANTED: &str = "switched off in the settings";
