//! Sealing and opening: each packet is encrypted once, at the origin, and opened once, at the consumer.
//!
//! AEAD over the body with the clear header as associated data; the nonce is the generation's salt XOR the
//! packet's number. A number is never used twice under one instance, and an instance never starts twice,
//! so no nonce repeats. Not the carry tag, which `Sealer` appends last (`carry.rs`). Called by
//! `lane::origin` and `lane::reassembly`. Invariant: bytes that do not open leave no trace but `None`.
//!
//! Wire definition: docs/wire.md section 4.2

use std::fmt;

use ring::aead::{Aad, LessSafeKey, Nonce};

use super::{CARRY_BYTES, HEADER_BYTES, Header, OVERHEAD_BYTES, carry};
use crate::id::{FlowId, InstanceId};
use crate::key::{CarryKey, ContentSecret, GENERATION_BITS, GenerationKey, Suite};
use crate::units::Number;

/// What sealer and opener have in common: the flow's secret and the key of the generation last used.
struct Keys {
    secret: ContentSecret,
    flow: FlowId,
    instance: InstanceId,
    suite: Suite,
    current: Option<Current>,
}

struct Current {
    generation: u64,
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Keys {
    /// The key and nonce of one packet. Packets come nearly in order, so one cached generation is enough.
    fn of(&mut self, number: Number) -> (&LessSafeKey, Nonce) {
        let generation = number.value() >> GENERATION_BITS;
        if self
            .current
            .as_ref()
            .is_none_or(|current| current.generation != generation)
        {
            let derived = GenerationKey::derive(
                &self.secret,
                self.flow,
                &self.instance,
                generation,
                self.suite,
            );
            self.current = Some(Current {
                generation,
                key: derived.aead(),
                salt: derived.salt,
            });
        }
        let current = self.current.as_ref().expect("set just above");
        let mut nonce = current.salt;
        for (byte, bits) in nonce[4..].iter_mut().zip(number.value().to_be_bytes()) {
            *byte ^= bits;
        }
        (&current.key, Nonce::assume_unique_for_key(nonce))
    }
}

/// Seals the packets of one flow of which this node is the origin, during one key epoch.
pub struct Sealer {
    keys: Keys,
    carry: CarryKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.keys.flow)
    }
}

impl Sealer {
    /// A sealer for `flow` of `instance`.
    #[must_use]
    pub const fn new(
        secret: ContentSecret,
        carry: CarryKey,
        flow: FlowId,
        instance: InstanceId,
        suite: Suite,
    ) -> Self {
        Self {
            keys: Keys {
                secret,
                flow,
                instance,
                suite,
                current: None,
            },
            carry,
        }
    }

    /// Appends the whole packet of `header` and `body` to `out`: header, sealed body, seal, carry tag.
    ///
    /// `header.flow` must be the sealer's flow, and no number may be sealed twice.
    pub fn seal(&mut self, header: &Header, body: &[u8], out: &mut Vec<u8>) {
        debug_assert_eq!(header.flow, self.keys.flow, "a sealer serves one flow");
        let start = out.len();
        let clear = header.encode();
        out.extend_from_slice(&clear);
        out.extend_from_slice(body);
        let (key, nonce) = self.keys.of(header.number);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(clear), &mut out[start + HEADER_BYTES..])
            .expect("a body is far below the AEAD's limit of 64 GiB");
        out.extend_from_slice(tag.as_ref());
        let carry = carry::tag_of(&self.carry, &out[start..]);
        out.extend_from_slice(&carry);
    }
}

/// Opens the packets of one flow during one key epoch.
pub struct Opener {
    keys: Keys,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({})", self.keys.flow)
    }
}

impl Opener {
    /// An opener for `flow` of `instance`.
    #[must_use]
    pub const fn new(
        secret: ContentSecret,
        flow: FlowId,
        instance: InstanceId,
        suite: Suite,
    ) -> Self {
        Self {
            keys: Keys {
                secret,
                flow,
                instance,
                suite,
                current: None,
            },
        }
    }

    /// Opens `packet` and appends its clear body to `out`. `None`, with `out` as it was, if the seal is false.
    pub fn open(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let header = Header::peek(packet)?;
        debug_assert!(packet.len() >= OVERHEAD_BYTES, "peek checks the length");
        let (clear, rest) = packet.split_at(HEADER_BYTES);
        let sealed = &rest[..rest.len() - CARRY_BYTES];
        let start = out.len();
        out.extend_from_slice(sealed);
        let (key, nonce) = self.keys.of(header.number);
        match key.open_in_place(nonce, Aad::from(clear), &mut out[start..]) {
            Ok(body) => {
                let end = start + body.len();
                out.truncate(end);
                Some(())
            }
            // spec: WIRE 4.2 what does not open MUST leave no trace
            Err(ring::error::Unspecified) => {
                out.truncate(start);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::super::{Class, PACKET_BYTES_MAX};
    use super::*;
    use crate::time::OriginTime;
    use crate::units::Group;

    const FLOW: FlowId = FlowId(0xABCD);

    fn pair(suite: Suite) -> (Sealer, Opener) {
        let secret = ContentSecret::from_bytes([5; 32]);
        let instance = InstanceId([6; 16]);
        let carry = CarryKey::from_bytes([7; 16]);
        (
            Sealer::new(secret.clone(), carry, FLOW, instance, suite),
            Opener::new(secret, FLOW, instance, suite),
        )
    }

    fn header(number: u64) -> Header {
        Header {
            last: true,
            discardable: false,
            class: Class::KEEP,
            key: 1,
            description: 2,
            flow: FLOW,
            number: Number::new(number).unwrap(),
            index: 0,
            group: Group(1),
            offset: 0,
            sent: OriginTime(99),
        }
    }

    fn sealed(sealer: &mut Sealer, number: u64, body: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        sealer.seal(&header(number), body, &mut packet);
        packet
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            body in prop::collection::vec(any::<u8>(), 0..PACKET_BYTES_MAX - OVERHEAD_BYTES),
            number in 0..=Number::MAX.value(),
            chacha in any::<bool>(),
        ) {
            let suite = if chacha { Suite::ChaCha20Poly1305 } else { Suite::Aes128Gcm };
            let (mut sealer, mut opener) = pair(suite);
            let packet = sealed(&mut sealer, number, &body);
            let mut out = b"kept".to_vec();

            prop_assert_eq!(packet.len(), body.len() + OVERHEAD_BYTES);
            prop_assert!(opener.open(&packet, &mut out).is_some());
            prop_assert_eq!(&out[4..], &body[..]);
        }

        // spec: WIRE 4.2 a packet whose header or body was changed MUST NOT open
        #[test]
        fn a_changed_bit_under_the_seal_does_not_open(at in 0..148_usize, bit in 0..8) {
            let (mut sealer, mut opener) = pair(Suite::Aes128Gcm);
            let mut packet = sealed(&mut sealer, 3, &[1; 100]);
            packet[at] ^= 1_u8 << bit;
            let mut out = Vec::new();

            prop_assert!(opener.open(&packet, &mut out).is_none());
            prop_assert!(out.is_empty());
        }
    }

    #[test]
    fn keys_change_with_the_generation_and_back() {
        let (mut sealer, mut opener) = pair(Suite::Aes128Gcm);
        let border = 1 << GENERATION_BITS;
        let before = sealed(&mut sealer, border - 1, b"before");
        let after = sealed(&mut sealer, border, b"after");
        let mut out = Vec::new();

        opener.open(&after, &mut out).unwrap();
        opener.open(&before, &mut out).unwrap();

        assert_eq!(out, b"afterbefore");
    }

    #[test]
    fn a_sealed_packet_carries_its_tag() {
        let (mut sealer, _) = pair(Suite::Aes128Gcm);
        let packet = sealed(&mut sealer, 3, b"body");

        assert!(carry::check(&CarryKey::from_bytes([7; 16]), &packet));
    }

    #[test]
    fn the_same_body_never_looks_the_same_twice() {
        let (mut sealer, _) = pair(Suite::Aes128Gcm);
        let first = sealed(&mut sealer, 1, &[0; 64]);
        let second = sealed(&mut sealer, 2, &[0; 64]);

        assert_ne!(first[HEADER_BYTES..], second[HEADER_BYTES..]);
    }
}
