//! Secrets and what is made from them.
//!
//! ```text
//! content secret[epoch] ─HKDF(flow, instance, number >> 22, suite)─▶ AEAD key + salt   origin and consumers
//! carry secret ─HKDF(flow)─▶ carry key[255] ─SHA-256─▶ ... key[0] ─▶ carry end     + whoever forwards; the end: all
//! network secret[epoch] ─HKDF(network)─────────────────────────────▶ site key          members of the network
//! TLS exporter          ───────────────────────────────────────────▶ two link keys     the two ends of a link
//! ```
//!
//! The secrets are independent: a carry key opens nothing. Not how they travel (`grant` in this file's
//! sibling `identity.rs` seals them to a node id) and not how packets use them (`packet::seal`,
//! `packet::carry`). Invariant: no secret has a `Display`, each `Debug` says nothing but the type, and memory
//! is wiped on drop.
//!
//! Wire definition: docs/wire.md section 3

use std::fmt;

use ring::hkdf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::{CarryEnd, FlowId, InstanceId, NetworkId};

/// Packets per AEAD key: 2^22, below the 2^23 that RFC 9001 section 6.6 allows AES-GCM.
pub const GENERATION_BITS: u32 = 22;

/// How packets are sealed. The origin chooses by its CPU; the announce says it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Suite {
    /// AES-128-GCM.
    #[default]
    #[n(0)]
    Aes128Gcm,
    /// ChaCha20-Poly1305, for CPUs without AES instructions.
    #[n(1)]
    ChaCha20Poly1305,
}

impl Suite {
    /// The AEAD of the suite.
    #[must_use]
    pub fn algorithm(self) -> &'static ring::aead::Algorithm {
        match self {
            Self::Aes128Gcm => &ring::aead::AES_128_GCM,
            Self::ChaCha20Poly1305 => &ring::aead::CHACHA20_POLY1305,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Aes128Gcm => 0,
            Self::ChaCha20Poly1305 => 1,
        }
    }
}

/// Gives a secret its constructor and a `Debug` that tells nothing.
macro_rules! secret {
    ($name:ident, $len:literal) => {
        impl $name {
            /// Takes the secret's bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The secret's bytes, for sealing and for hashing only.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

/// Opens a stream instance during one key epoch. Held by the origin and by nodes that may play.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ContentSecret([u8; 32]);
secret!(ContentSecret, 32);

/// Makes the carry keys of a stream instance, of all epochs. Held by the origin.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CarrySecret([u8; 32]);
secret!(CarrySecret, 32);

/// Checks the carry tags of one flow. Held by whoever forwards it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CarryKey([u8; 16]);
secret!(CarryKey, 16);

/// Seals the link datagrams of one direction of one link; made from the TLS exporter.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct LinkKey([u8; 32]);
secret!(LinkKey, 32);

/// Makes the site key of a network during one key epoch. Held by the network's members.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct NetworkSecret([u8; 32]);
secret!(NetworkSecret, 32);

/// Proves site datagrams to the members of a network.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SiteKey([u8; 32]);
secret!(SiteKey, 32);

/// Shown once by a newcomer to get its first ticket; part of an invite.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct JoinSecret([u8; 16]);
secret!(JoinSecret, 16);

impl NetworkSecret {
    /// The "secret" of the open network, known to all: 32 zero bytes.
    #[must_use]
    pub const fn open() -> Self {
        Self([0; 32])
    }

    /// The site key of `network`.
    #[must_use]
    pub fn site_key(&self, network: &NetworkId) -> SiteKey {
        let mut key = [0; 32];
        expand(&self.0, &[b"levada/1 site", &network.0], &mut key);
        SiteKey(key)
    }
}

impl CarrySecret {
    /// The carry key of `flow` in `epoch`, of a chain that is as long as there are epochs.
    #[must_use]
    pub fn carry_key_in(&self, flow: FlowId, epoch: u8) -> CarryKey {
        let later = (0..u8::MAX - epoch).map(|back| u8::MAX - back);
        later.fold(self.carry_key(flow), |key, epoch| key.before(flow, epoch))
    }

    /// The end of that chain.
    #[must_use]
    pub fn carry_end(&self, flow: FlowId) -> CarryEnd {
        self.carry_key_in(flow, 0).end(flow)
    }

    /// The carry key of `flow` in the last epoch: the chain begins with it.
    #[must_use]
    pub fn carry_key(&self, flow: FlowId) -> CarryKey {
        let mut key = [0; 16];
        expand(
            &self.0,
            &[b"levada/1 carry", &flow.0.to_be_bytes()],
            &mut key,
        );
        CarryKey(key)
    }
}

impl CarryKey {
    /// The key of the epoch before `epoch`, whose key this is.
    #[must_use]
    pub fn before(&self, flow: FlowId, epoch: u8) -> Self {
        let mut hash = self.step(flow, epoch);
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        hash.zeroize();
        Self(key)
    }

    /// The end of the chain whose key of epoch 0 this is.
    #[must_use]
    pub fn end(&self, flow: FlowId) -> CarryEnd {
        CarryEnd(self.step(flow, 0))
    }

    /// Whether it is the key of `epoch` in the chain with that end.
    // spec: WIRE 3.2 a carry key that does not lead to the carry end MUST NOT be used
    #[must_use]
    pub fn is_proven_by(&self, end: &CarryEnd, flow: FlowId, epoch: u8) -> bool {
        let earlier = (1..=epoch).rev();
        let first = earlier.fold(self.clone(), |key, epoch| key.before(flow, epoch));
        first.end(flow) == *end
    }

    fn step(&self, flow: FlowId, epoch: u8) -> [u8; 32] {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(b"levada/1 carry chain");
        hash.update(&flow.0.to_be_bytes());
        hash.update(&[epoch]);
        hash.update(&self.0);
        let mut all = [0; 32];
        all.copy_from_slice(hash.finish().as_ref());
        all
    }
}

/// The AEAD key material of one flow during one generation of 2^22 packets.
#[derive(ZeroizeOnDrop)]
pub struct GenerationKey {
    /// Key bytes; AES-128 uses the first 16.
    key: [u8; 32],
    /// XORed with the packet's number to make the nonce.
    #[zeroize(skip)]
    pub(crate) salt: [u8; 12],
    #[zeroize(skip)]
    suite: Suite,
}

impl fmt::Debug for GenerationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GenerationKey(..)")
    }
}

impl GenerationKey {
    /// Derives the key of `flow` for the packets whose number, shifted by [`GENERATION_BITS`], is `generation`.
    #[must_use]
    pub fn derive(
        secret: &ContentSecret,
        flow: FlowId,
        instance: &InstanceId,
        generation: u64,
        suite: Suite,
    ) -> Self {
        let mut okm = [0; 44];
        let info: [&[u8]; 5] = [
            b"levada/1 content",
            &flow.0.to_be_bytes(),
            &instance.0,
            &generation.to_be_bytes(),
            &[suite.code()],
        ];
        expand(&secret.0, &info, &mut okm);
        let (mut key, mut salt) = ([0; 32], [0; 12]);
        key.copy_from_slice(&okm[..32]);
        salt.copy_from_slice(&okm[32..]);
        okm.zeroize();
        Self { key, salt, suite }
    }

    /// The key, ready for use.
    pub(crate) fn aead(&self) -> ring::aead::LessSafeKey {
        let algorithm = self.suite.algorithm();
        let unbound = ring::aead::UnboundKey::new(algorithm, &self.key[..algorithm.key_len()])
            .expect("the key has the algorithm's own length");
        ring::aead::LessSafeKey::new(unbound)
    }
}

/// HKDF-SHA256 (RFC 5869) with an empty salt.
pub(crate) fn expand(secret: &[u8], info: &[&[u8]], out: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(secret)
        .expand(info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("HKDF gives up to 8,160 bytes and no caller asks for more than 64");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            ContentSecret::from_bytes([0x41; 32]),
            CarrySecret::from_bytes([0x41; 32]),
            CarryKey::from_bytes([0x41; 16]),
            LinkKey::from_bytes([0x41; 32]),
            NetworkSecret::from_bytes([0x41; 32]),
            SiteKey::from_bytes([0x41; 32]),
            JoinSecret::from_bytes([0x41; 16]),
        );

        assert_eq!(
            shown,
            "ContentSecret(..) CarrySecret(..) CarryKey(..) LinkKey(..) \
             NetworkSecret(..) SiteKey(..) JoinSecret(..)"
        );
    }

    #[test]
    fn each_flow_and_each_generation_has_keys_of_its_own() {
        let content = ContentSecret::from_bytes([1; 32]);
        let carry = CarrySecret::from_bytes([1; 32]);
        let instance = InstanceId([2; 16]);
        let key = |flow, generation| {
            GenerationKey::derive(
                &content,
                FlowId(flow),
                &instance,
                generation,
                Suite::Aes128Gcm,
            )
            .key
        };

        assert_ne!(key(1, 0), key(2, 0));
        assert_ne!(key(1, 0), key(1, 1));
        assert_ne!(carry.carry_key(FlowId(1)), carry.carry_key(FlowId(2)));
    }

    // spec: WIRE 3.2 a carry key that does not lead to the carry end MUST NOT be used
    #[test]
    fn the_end_of_a_chain_proves_the_keys_of_all_epochs_and_no_other() {
        let (carry, flow) = (CarrySecret::from_bytes([1; 32]), FlowId(7));
        let end = carry.carry_end(flow);

        for epoch in [0, 1, 2, 100, 254, 255] {
            let key = carry.carry_key_in(flow, epoch);
            assert!(key.is_proven_by(&end, flow, epoch), "epoch {epoch}");
            assert!(!key.is_proven_by(&end, FlowId(8), epoch));
            assert!(!key.is_proven_by(&end, flow, epoch ^ 1));
            let other = CarrySecret::from_bytes([2; 32]).carry_key_in(flow, epoch);
            assert!(!other.is_proven_by(&end, flow, epoch));
            let mut bytes = *key.bytes();
            bytes[15] ^= 1;
            let changed = CarryKey::from_bytes(bytes);
            assert!(!changed.is_proven_by(&end, flow, epoch));
        }
    }

    #[test]
    fn a_later_key_gives_the_earlier_ones_and_the_chain_begins_with_the_last() {
        let (carry, flow) = (CarrySecret::from_bytes([1; 32]), FlowId(7));

        for epoch in 1..=u8::MAX {
            let later = carry.carry_key_in(flow, epoch);
            assert_eq!(
                later.before(flow, epoch),
                carry.carry_key_in(flow, epoch - 1)
            );
        }
        assert_eq!(carry.carry_key_in(flow, u8::MAX), carry.carry_key(flow));
    }
}
