//! The HTTP gateway: a page that plays a stream, a list of what is on, and streams for players and televisions.
//!
//! | path | what |
//! |---|---|
//! | `/live/` | the list: a page, or JSON with `?json` |
//! | `/live/NAME` | the page that plays; `/live/NAME/` where the name ends like one of the next |
//! | `/live/NAME.mp4` | fragmented MP4, one fragment a burst, for browsers; `?only=video` or `?only=audio` |
//! | `/live/NAME/index.m3u8` | HLS, whose names mean the same on every node |
//! | `/live/NAME/ll.m3u8` | the same for players that know LL-HLS |
//! | `/live/NAME.ts` | an MPEG transport stream |
//! | `/live/NAME.mjpeg` | motion JPEG, where the stream is that |
//! | `/live/NAME.m3u` | what a player opens from a link |
//!
//! ```text
//!   listener ─▶ gate ─▶ connection: hyper ─▶ router ─▶ handler: name, rights, format
//!                                                          ▼
//!                             Streams: one encoder per (stream, format) ─▶ Ring ─▶ Playback: a client's body
//! ```
//!
//! Not formats, which are `levada-media`'s. [`Server`] is what `levada run` starts; whoever has other pages for the
//! same port merges them by [`server::Builder::merge`], or serves a router by [`serve::serve`]. Invariant: what a
//! client sends is answered within a named time or the connection closes, and no client waits for another.

#![forbid(unsafe_code)]

pub mod pull;
pub mod serve;
pub mod server;

#[doc(hidden)]
pub mod fuzz;

mod access;
mod assets;
mod catalogue;
mod format;
mod hls;
mod list;
mod live;
mod playback;
mod problem;
mod target;

pub use server::{Builder, ListenError, PORT_DEFAULT, Server};
