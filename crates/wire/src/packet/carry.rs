//! The carry tag: proves to whoever carries a flow that a packet is the origin's, without letting it read.
//!
//! SipHash-2-4 under the flow's carry key over the clear header, the packet's length and the seal. The seal
//! stands for the body: who cannot make the seal cannot change the body, and who can only carry cannot
//! either. Not the AEAD (`seal.rs`). Called by `datapath::forward` before it touches window, cache or any
//! counter but its own. Invariant: no bytes make [`check`] panic, and a tag that differs in one bit fails.
//!
//! Wire definition: docs/wire.md section 4.3

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

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
    // spec: WIRE 4.3 a changed header, length, seal or tag MUST fail the check
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
    let mut input = [0_u8; HEADER_BYTES + 2 + SEAL_BYTES];
    let length = u16::try_from(sealed.len() + CARRY_BYTES).unwrap_or(u16::MAX);
    input[..HEADER_BYTES].copy_from_slice(&sealed[..HEADER_BYTES]);
    input[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&length.to_be_bytes());
    input[HEADER_BYTES + 2..].copy_from_slice(&sealed[sealed.len() - SEAL_BYTES..]);
    let mut hasher = SipHasher24::new_with_key(key.bytes());
    hasher.write(&input);
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
        // spec: WIRE 4.3 a changed header, length, seal or tag MUST fail the check
        #[test]
        fn a_changed_bit_outside_the_body_fails(at in 0..208_usize, bit in 0..8) {
            let key = CarryKey::from_bytes([3; 16]);
            let mut packet = tagged(&key);
            prop_assert!(check(&key, &packet));

            packet[at] ^= 1_u8 << bit;

            let in_body = (HEADER_BYTES..200 - SEAL_BYTES).contains(&at);
            prop_assert_eq!(check(&key, &packet), in_body);
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
