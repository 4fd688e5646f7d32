//! A node's identity: its Ed25519 key, what it signs, and secrets sealed to it.
//!
//! Whoever knows a node id can seal a secret to it: HPKE (RFC 9180) base mode, X25519 with HKDF-SHA256 and
//! ChaCha20-Poly1305, to the Montgomery form of the node's Edwards key (the two uses of one key are sound
//! together: Thormarker, <https://eprint.iacr.org/2021/509>). Not TLS, which `node` does with the same key.
//! Called by `core` (signing announces, granting keys) and by `node` (state directory, TLS).
//! Invariant: the signing key leaves this file only through [`Identity::secret_bytes`].
//!
//! Wire definition: docs/wire.md section 3.4

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use minicbor::{Decode, Encode};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::id::NodeId;

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of an HPKE encapsulated key.
const ENCAPPED_BYTES: usize = 32;
/// The longest secret that is ever sealed, with its tag and encapsulated key.
const SEALED_BYTES_MAX: usize = ENCAPPED_BYTES + 32 + 16;

/// The key pair of one node.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id())
    }
}

impl Identity {
    /// The identity whose private key is `secret`.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(secret),
        }
    }

    /// The private key, for the state directory and for TLS.
    #[must_use]
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The node id: the public key.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    /// Signs `message`, told apart from all other uses of the key by `purpose`.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(&purpose.frame(message)).to_bytes()
    }

    /// Opens a secret of `N` bytes that was sealed to this node for `context`; `None` if it was not.
    #[must_use]
    pub fn open_secret<const N: usize>(
        &self,
        sealed: &SealedSecret,
        context: &[u8],
    ) -> Option<Zeroizing<[u8; N]>> {
        let (encapped, ciphertext) = sealed.0.split_at_checked(ENCAPPED_BYTES)?;
        let scalar = Zeroizing::new(self.key.to_scalar_bytes());
        let private = PrivateKey::from_bytes(&*scalar).ok()?;
        let clear = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &EncappedKey::from_bytes(encapped).ok()?,
            context,
            ciphertext,
            &[],
        );
        let clear = Zeroizing::new(clear.ok()?);
        Some(Zeroizing::new(clear.as_slice().try_into().ok()?))
    }
}

/// What a signature is for. A signature made for one purpose never verifies for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A stream is offered.
    Announce,
    /// A stream is taken back.
    Withdraw,
    /// A ticket.
    Ticket,
    /// A claim to be hub.
    Claim,
    /// Hashes of packets.
    Manifest,
    /// A content secret is given to a consumer.
    KeyGrant,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Announce => b"levada/1 announce\0",
            Self::Withdraw => b"levada/1 withdraw\0",
            Self::Ticket => b"levada/1 ticket\0",
            Self::Claim => b"levada/1 claim\0",
            Self::Manifest => b"levada/1 manifest\0",
            Self::KeyGrant => b"levada/1 key grant\0",
        }
    }

    fn frame(self, message: &[u8]) -> Vec<u8> {
        [self.label(), message].concat()
    }
}

/// Whether `signature` is `signer`'s over `message` for `purpose`.
#[must_use]
pub fn verify(signer: &NodeId, purpose: Purpose, message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&signer.0) else {
        return false;
    };
    let Ok(signature) = Signature::from_slice(signature) else {
        return false;
    };
    // spec: WIRE 3.5 verification MUST be strict, so that all nodes agree
    key.verify_strict(&purpose.frame(message), &signature)
        .is_ok()
}

/// A secret only one node can open: encapsulated key, then ciphertext.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret(Vec<u8>);

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({} bytes)", self.0.len())
    }
}

impl SealedSecret {
    /// Seals `secret` so that only `to` can open it, and only for `context`.
    ///
    /// `None` if `to` is not a public key that a secret can be sealed to.
    #[must_use]
    pub fn seal(
        to: &NodeId,
        context: &[u8],
        secret: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Option<Self> {
        let key = VerifyingKey::from_bytes(&to.0).ok()?;
        // spec: WIRE 3.4 a secret MUST NOT be sealed to a key of small order
        if key.is_weak() {
            return None;
        }
        let public = PublicKey::from_bytes(&key.to_montgomery().to_bytes()).ok()?;
        let (encapped, ciphertext) = hpke::single_shot_seal_with_rng::<
            ChaCha20Poly1305,
            HkdfSha256,
            X25519HkdfSha256,
        >(&OpModeS::Base, &public, context, secret, &[], rng)
        .ok()?;
        Some(Self([encapped.to_bytes().as_slice(), &ciphertext].concat()))
    }
}

impl AsRef<[u8]> for SealedSecret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<C> Encode<C> for SealedSecret {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for SealedSecret {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        // spec: WIRE 3.4 a sealed secret of more than 80 bytes MUST NOT decode
        if bytes.len() > SEALED_BYTES_MAX {
            return Err(minicbor::decode::Error::message(
                "a sealed secret is at most 80 bytes",
            ));
        }
        Ok(Self(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    fn seal(to: &NodeId, context: &[u8], secret: &[u8]) -> Option<SealedSecret> {
        SealedSecret::seal(to, context, secret, &mut ChaCha20Rng::seed_from_u64(1))
    }

    #[test]
    fn only_the_node_it_is_sealed_to_opens_a_secret_and_only_in_its_context() {
        let (alice, eve) = (
            Identity::from_secret(&[1; 32]),
            Identity::from_secret(&[2; 32]),
        );
        let sealed = seal(&alice.id(), b"flow 1", &[9; 32]).unwrap();

        assert_eq!(
            *alice.open_secret::<32>(&sealed, b"flow 1").unwrap(),
            [9; 32]
        );
        assert!(alice.open_secret::<32>(&sealed, b"flow 2").is_none());
        assert!(alice.open_secret::<16>(&sealed, b"flow 1").is_none());
        assert!(eve.open_secret::<32>(&sealed, b"flow 1").is_none());
    }

    #[test]
    fn sealed_bytes_that_were_changed_or_cut_do_not_open() {
        let alice = Identity::from_secret(&[1; 32]);
        let sealed = seal(&alice.id(), b"", &[9; 16]).unwrap();

        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert!(
                alice.open_secret::<16>(&changed, b"").is_none(),
                "byte {at}"
            );
            let cut = SealedSecret(sealed.0[..at].to_vec());
            assert!(alice.open_secret::<16>(&cut, b"").is_none(), "cut at {at}");
        }
    }

    // spec: WIRE 3.4
    #[test]
    fn a_sealed_secret_is_at_most_80_bytes() {
        let bytes = |count: usize| minicbor::to_vec(SealedSecret(vec![0; count])).unwrap();

        assert!(minicbor::decode::<SealedSecret>(&bytes(SEALED_BYTES_MAX)).is_ok());
        assert!(minicbor::decode::<SealedSecret>(&bytes(SEALED_BYTES_MAX + 1)).is_err());
    }

    // spec: WIRE 3.5
    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // With the neutral point as key and as R, and S = 0, the equation of a lax verifier holds for any message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let signature = [neutral, [0; 32]].concat();

        assert!(!verify(
            &NodeId(neutral),
            Purpose::Claim,
            b"any",
            &signature
        ));
    }

    // spec: WIRE 3.4
    #[test]
    fn nothing_is_sealed_to_a_node_id_that_is_no_key() {
        let (mut small_order, mut off_the_curve) = ([0; 32], [0; 32]);
        small_order[0] = 1;
        off_the_curve[0] = 2;

        assert!(seal(&NodeId(small_order), b"", &[9; 32]).is_none());
        assert!(seal(&NodeId(off_the_curve), b"", &[9; 32]).is_none());
    }

    // spec: WIRE 3.5
    #[test]
    fn a_signature_holds_for_its_signer_message_and_purpose_only() {
        let alice = Identity::from_secret(&[1; 32]);
        let signature = alice.sign(Purpose::Announce, b"cam");
        let check =
            |signer: &NodeId, purpose, message: &[u8]| verify(signer, purpose, message, &signature);

        assert!(check(&alice.id(), Purpose::Announce, b"cam"));
        assert!(!check(&alice.id(), Purpose::Withdraw, b"cam"));
        assert!(!check(&alice.id(), Purpose::Announce, b"cam2"));
        assert!(!check(
            &Identity::from_secret(&[2; 32]).id(),
            Purpose::Announce,
            b"cam"
        ));
        assert!(!verify(
            &alice.id(),
            Purpose::Announce,
            b"cam",
            &signature[..63]
        ));
    }
}
