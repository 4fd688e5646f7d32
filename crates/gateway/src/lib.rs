//! The gateway kit: what all gateways share, so that the crate of a protocol holds the protocol alone.
//!
//! | module | what it is |
//! |---|---|
//! | [`kit`] | what all gateways of a node share, and what a gateway does with it |
//! | [`session`] | typed records of who plays and publishes what, and the registry of them |
//! | [`users`] | users, passwords, tokens, and rights by the prefix of a stream's name |
//! | [`gate`] | how many clients there may be, and how many that have not said anything yet from one address |
//! | [`ring`] | the pieces of a stream in one format, shared by all its clients |
//! | [`cursor`] | where one client is in a ring: how it joins, when it is skipped, when it is dropped |
//! | [`encode`] | the task that turns a stream into a format once, and holds its clients while the source is away |
//! | [`offers`], [`demand`] | who offers a stream and who wants it; a stream whose source runs only then |
//! | [`tls`] | the certificate for those that encrypt |
//! | [`streams`] | the rings that exist at the moment |
//!
//! ```text
//!  Subscriber ──▶ encode: one task per (stream, format) ──▶ Ring ──▶ Cursor ──▶ client
//!                                                             └────▶ Cursor ──▶ client ...
//! ```
//!
//! Not a protocol, and no socket: gateways have those. Called by the `levada-gateway-*` crates. Invariant: what a
//! client costs does not depend on the size of a frame, and no client waits for another.

#![forbid(unsafe_code)]

pub mod cursor;
pub mod demand;
pub mod encode;
pub mod gate;
pub mod kit;
pub mod offers;
pub mod ring;
pub mod session;
pub mod streams;
pub mod tls;
pub mod users;

pub use cursor::{Cursor, Join, Next};
pub use demand::{Demanded, OnDemand};
pub use encode::{Encode, Phase, Unsuitable};
pub use gate::{Gate, Limits, Permit};
pub use kit::{Kit, Settings};
pub use offers::Offers;
pub use ring::{Piece, Ring};
pub use session::{EndReason, Registry, Role, Row, Session, Transport};
pub use streams::{EncodedStream, Streams};
pub use tls::Tls;
pub use users::{Users, UsersError};
