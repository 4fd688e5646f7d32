//! The local socket by which `levada publish`, `levada play` and the tables find a running node.
//!
//! ```text
//!  client                                   node
//!    "levada-admin 1\n" ──────────────────▶
//!                       ◀────────────────── "levada-admin 1\n"
//!    Request (JSON)     ──────────────────▶
//!                       ◀────────────────── Ok (JSON), or Error (text)
//!    publish: Frame, Description, Finish ──▶        play: ◀── Frame, Description, Gap, ... End
//! ```
//!
//! Who may open the socket is this user: it lies in the state directory, which nobody else may enter. Not a
//! network protocol, and not a stable one: both ends are of one release, and the first line says so. Server:
//! started by `driver` for a node with [`crate::Builder::admin`]. Client: [`Client`], used by `cli`. Invariant:
//! no message is longer than its kind allows, either way.

#[cfg(unix)]
mod client;
mod message;
#[cfg(unix)]
mod server;

#[cfg(unix)]
pub use client::{Client, ClientError, RemotePublisher, RemoteSubscriber};
#[cfg(unix)]
pub(crate) use server::{Listener, serve};

/// The first line of either side: protocol and version.
const GREETING: &[u8] = b"levada-admin 1\n";
