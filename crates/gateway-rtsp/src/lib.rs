//! RTSP for players, publishers and cameras: Levada's gateway to RTSP/1.0 (RFC 2326).
//!
//! | module | what it is |
//! |---|---|
//! | [`decode`], [`message`], [`header`], [`auth`] | messages: out of bytes, as values, and as bytes again |
//! | [`connection`] | the server's end of a connection as a machine without I/O |
//! | [`server`] | the same on tokio: connections, senders, publishers |
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
mod sender;
pub mod server;
mod udp;
mod url;

pub use server::{ListenError, PORT_DEFAULT, Server};
