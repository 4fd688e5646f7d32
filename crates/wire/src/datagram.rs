//! Datagrams that are not media packets: what linked nodes tell each other beside the media, and what the
//! nodes of a site tell the LAN.
//!
//! Not control messages, which are reliable and ordered (`control`): a datagram here is small, may be lost,
//! and takes the path that media takes, because it measures that path. Invariant: nothing in a datagram is
//! looked at before its tag is checked.

pub mod link;
pub mod site;
