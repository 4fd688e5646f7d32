//! RTSP for players, publishers and cameras: Levada's gateway to RTSP/1.0 (RFC 2326).
//!
//! | module | what it is |
//! |---|---|
//! | [`decode`], [`message`], [`header`], [`auth`] | messages: out of bytes, as values, and as bytes again |
//! | [`connection`] | the server's end of a connection as a machine without I/O |
//! | [`server`] | the same on tokio: connections, senders, publishers |
//! | [`pull`] | streams that are fetched from cameras and other servers |
//!
//! Not RTP, which is `levada_media::rtp`, and not what gateways share, which is `levada_gateway`. Called by
//! `levada-cli`. Invariant: what a client sends costs no other client anything, and memory for it is bounded by the
//! constants of [`decode`] and [`connection`].

#![forbid(unsafe_code)]

pub mod auth;
mod burst;
mod channel;
pub mod connection;
pub mod decode;
mod format;
pub mod header;
mod intake;
pub mod message;
pub mod pull;
mod sender;
pub mod server;
mod socket;
mod udp;
mod url;

pub use pull::Pulls;
pub use server::{ListenError, PORT_DEFAULT, SECURE_PORT_DEFAULT, Server};

/// A number that nobody can guess, in hex.
fn random() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
