//! What the kernel counted on a cable.
//!
//! Not what a node says about itself. Made by `host`, read by tests. Invariant: a claim about bytes on a wire
//! rests on these.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use crate::tool::{self, ip};

static COUNTERS: AtomicU32 = AtomicU32::new(0);

/// What is counted: datagrams by their first byte, as docs/wire.md section 1.2 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Media packets.
    Media,
    /// Link datagrams: liveness and repair.
    Link,
    /// QUIC: control.
    Quic,
    /// Every UDP datagram.
    Datagrams,
}

/// A counter of the kernel.
#[derive(Debug)]
pub struct Counter {
    namespace: String,
    name: String,
    /// What the kernel adds to the bytes of each packet where this counter is.
    header_bytes: u64,
}

/// Where packets pass and can be counted.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) header_bytes: u64,
}

/// Packets and bytes that passed a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Datagrams.
    pub packets: u64,
    /// Bytes, with the headers of IP and UDP.
    pub bytes: u64,
}

impl Traffic {
    /// As `nft` writes it. The first payload byte follows the 64 bits of the UDP header.
    pub(crate) const fn condition(self) -> &'static str {
        match self {
            Self::Media => "meta l4proto udp @th,64,8 0x04",
            Self::Link => "meta l4proto udp @th,64,8 0x06",
            Self::Quic => "meta l4proto udp @th,64,8 & 0x40 == 0x40",
            Self::Datagrams => "meta l4proto udp",
        }
    }
}

impl Counter {
    /// Counts in a chain what meets the condition.
    pub(crate) fn add(namespace: &str, chain: &Chain, condition: &str) -> anyhow::Result<Self> {
        let Chain {
            name: chain,
            header_bytes,
        } = chain;
        let name = format!("count{}", COUNTERS.fetch_add(1, Ordering::Relaxed));
        let script = format!(
            "add counter netdev lab {name}\n\
             add rule netdev lab {chain} {condition} counter name {name}"
        );
        tool::nft(namespace, &script)?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name,
            header_bytes: *header_bytes,
        })
    }

    /// What it counted until now.
    ///
    /// # Errors
    ///
    /// When the kernel has it no more.
    pub fn read(&self) -> anyhow::Result<Count> {
        let Self {
            namespace, name, ..
        } = self;
        let text = ip(&format!(
            "netns exec {namespace} nft -j list counter netdev lab {name}"
        ))?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        let rows = json["nftables"].as_array().into_iter().flatten();
        let counter = rows
            .map(|row| &row["counter"])
            .find(|counter| counter.is_object());
        let value = |key| counter.and_then(|counter| counter[key].as_u64());
        let packets = value("packets").with_context(|| format!("no packets in {text}"))?;
        let bytes = value("bytes").with_context(|| format!("no bytes in {text}"))?;
        Ok(Count {
            packets,
            bytes: bytes - packets * self.header_bytes,
        })
    }
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            bytes: self.bytes - earlier.bytes,
        }
    }
}
