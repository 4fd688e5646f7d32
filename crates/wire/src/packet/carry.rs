//! The carry tag: proves to whoever carries a flow that a packet is the origin's, without letting it read.
//!
//! SipHash-1-3 under the flow's carry key over all of the packet before the tag: a copy in which any byte was
//! changed is dropped at the first hop, and can neither take the place of the true one in a cache nor travel on.
//! Why all of it, and why this hash: `docs/decisions/0009-the-carry-tag-covers-the-body.md`. Not the AEAD
//! (`seal.rs`), which also keeps out those who hold the carry key. Called by `lane::forward` before it touches
//! window, cache or any counter but its own. Invariant: no bytes make [`check`] panic, and one changed bit fails.
//!
//! Wire definition: docs/wire.md section 4.3

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::{CARRY_BYTES, HEADER_BYTES, OVERHEAD_BYTES, SEAL_BYTES};
use crate::key::CarryKey;

/// Whether the last eight bytes of `packet` are its carry tag under `key`.
#[must_use]
#[inline]
pub fn check(key: &CarryKey, packet: &[u8]) -> bool {
    if packet.len() < OVERHEAD_BYTES {
        return false;
    }
    let Some((rest, claimed)) = packet.split_last_chunk::<CARRY_BYTES>() else {
        return false;
    };
    // spec: WIRE 4.3 a packet of which any bit was changed MUST fail the check
    // One 64-bit comparison: no early exit that would tell how many bytes were right.
    tag(key, rest) == u64::from_le_bytes(*claimed)
}

/// The carry tag of a packet that has its header, body and seal but not its tag.
///
/// # Panics
///
/// If `sealed` is shorter than header and seal.
#[must_use]
pub fn tag_of(key: &CarryKey, sealed: &[u8]) -> [u8; CARRY_BYTES] {
    assert!(
        sealed.len() >= HEADER_BYTES + SEAL_BYTES,
        "the packet is sealed before it is tagged"
    );
    tag(key, sealed).to_le_bytes()
}

/// The tag of a packet without its tag.
fn tag(key: &CarryKey, sealed: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key.bytes());
    hasher.write(sealed);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tagged(key: &CarryKey) -> Vec<u8> {
        let mut packet = vec![7; 200];
        packet.extend_from_slice(&tag_of(key, &packet));
        packet
    }

    proptest! {
        // spec: WIRE 4.3 a packet of which any bit was changed MUST fail the check
        #[test]
        fn a_changed_bit_fails(at in 0..208_usize, bit in 0..8) {
            let key = CarryKey::from_bytes([3; 16]);
            let mut packet = tagged(&key);
            prop_assert!(check(&key, &packet));

            packet[at] ^= 1_u8 << bit;

            prop_assert!(!check(&key, &packet));
        }

        #[test]
        fn no_bytes_make_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
            prop_assert!(!check(&CarryKey::from_bytes([9; 16]), &bytes));
        }
    }

    #[test]
    fn a_packet_cut_short_or_tagged_by_another_key_fails() {
        let key = CarryKey::from_bytes([3; 16]);
        let packet = tagged(&key);

        assert!(!check(&key, &packet[..packet.len() - 1]));
        assert!(!check(&CarryKey::from_bytes([4; 16]), &packet));
    }
}
