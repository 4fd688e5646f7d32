//! The trace: one hash over everything that crossed a network, and when; and, on request, a line for people for each
//! event.
//!
//! Two runs with one trace hash did the same. The hash takes bytes in network order and whole nanoseconds, so it is the
//! same in debug and release and on every machine. Not a log of the machines: what they decided shows in what they
//! send. Called by `world`. Invariant: nothing that depends on an address in memory, on real time or on a float goes
//! in.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use levada_wire::Instant;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// The hash of all that was sent, with its times, and of all faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceHash(pub u128);

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Takes in what happens.
pub(crate) struct Trace<'w> {
    hash: SipHasher13,
    lines: Option<&'w mut dyn Write>,
}

impl fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({})", self.hash())
    }
}

impl<'w> Trace<'w> {
    pub(crate) fn new(lines: Option<&'w mut dyn Write>) -> Self {
        Self {
            hash: SipHasher13::new(),
            lines,
        }
    }

    pub(crate) fn hash(&self) -> TraceHash {
        TraceHash(self.hash.finish128().as_u128())
    }

    /// A datagram leaves a node.
    pub(crate) fn datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        self.head(now, b'd');
        self.address(from);
        self.address(to);
        self.bytes(bytes);
        let kind = levada_wire::packet::Kind::of(bytes);
        self.line(now, || {
            format!("{from} > {to} {kind:?} {} bytes", bytes.len())
        });
    }

    /// A segment of a connection leaves a node: control bytes, or what sets a connection up and ends it.
    pub(crate) fn segment(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        what: &str,
        bytes: &[u8],
    ) {
        self.head(now, b's');
        self.address(from);
        self.address(to);
        self.bytes(what.as_bytes());
        self.bytes(bytes);
        self.line(now, || {
            format!("{from} > {to} {what} {} bytes", bytes.len())
        });
    }

    /// A fault begins or ends, or the script does something.
    pub(crate) fn event(&mut self, now: Instant, what: &str) {
        self.head(now, b'h');
        self.bytes(what.as_bytes());
        self.line(now, || format!("=== {what}"));
    }

    /// Something a person may want to read; not part of the hash.
    pub(crate) fn line(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            // A trace that cannot be written is no reason to stop a run; the next line fails too, and the file is
            // short.
            let _ = writeln!(lines, "{now:?} {}", text());
        }
    }

    fn head(&mut self, now: Instant, tag: u8) {
        self.write(&[tag]);
        self.write(&now.as_nanos().to_be_bytes());
    }

    fn address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => self.write(&ip.octets()),
            IpAddr::V6(ip) => self.write(&ip.octets()),
        }
        self.write(&address.port().to_be_bytes());
    }

    /// Bytes with their length first, so that two neighbours in the hash cannot trade bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.write(&(bytes.len() as u64).to_be_bytes());
        self.write(bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        std::hash::Hasher::write(&mut self.hash, bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn hash_of(at: u64, bytes: &[u8]) -> TraceHash {
        let mut trace = Trace::new(None);
        let address = "10.0.0.1:7800".parse().unwrap();
        trace.datagram(Instant::from_nanos(at), address, address, bytes);
        trace.hash()
    }

    #[test]
    fn the_hash_covers_bytes_and_time() {
        let hash = hash_of(5, b"abc");

        assert_eq!(hash, hash_of(5, b"abc"));
        assert_ne!(hash, hash_of(6, b"abc"));
        assert_ne!(hash, hash_of(5, b"abd"));
    }

    #[test]
    fn lines_are_written_for_people_and_do_not_change_the_hash() {
        let mut file = Vec::new();
        let mut trace = Trace::new(Some(&mut file));
        let silent = trace.hash();

        trace.line(Instant::from_nanos(1_500_000), || "hello".to_owned());
        assert_eq!(trace.hash(), silent);
        trace.event(Instant::ZERO, "crash of relay");
        assert_ne!(trace.hash(), silent);

        let text = String::from_utf8(file).unwrap();
        assert_eq!(text, "0.001500s hello\n0.000000s === crash of relay\n");
    }
}
