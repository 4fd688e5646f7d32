//! The announce: a signed statement that a node offers a stream; the withdraw: that it no longer does.
//!
//! Both spread epidemically, so they prove themselves: the origin signs the exact bytes, and every node
//! passes those bytes on untouched, fields it does not know included, and so those of the envelope around them.
//! Nothing in them is secret. Not the
//! description that decoders need: that travels sealed on the control track. Whoever passes one on to
//! many neighbours shares it: a clone costs no memory. Called by `core::flow`.
//! Invariant: a value of [`SignedAnnounce`] or [`SignedWithdraw`] that came from bytes was verified.
//!
//! Wire definition: docs/wire.md section 6

use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::frame::{TRACKS_MAX, TrackKind};
use crate::id::{CarryEnd, FlowId, InstanceId, NodeId, StreamName};
use crate::identity::{self, Identity, Purpose, SIGNATURE_BYTES};
use crate::key::Suite;
use crate::units::{Bitrate, Layer, PacketSize};
use crate::unknown::{Unknown, passed_on};

/// The largest signed announce or withdraw, in bytes.
pub const SIGNED_BYTES_MAX: usize = 4_096;
/// The most layers of a stream.
pub const LAYERS_MAX: usize = 8;

/// A stream as its origin offers it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Announce {
    /// The origin's node id, whose key signs the announce.
    #[n(0)]
    pub origin: NodeId,
    /// Its name.
    #[n(1)]
    pub name: StreamName,
    /// This start of it.
    #[n(2)]
    pub instance: InstanceId,
    /// Unix time of the start in units of 50 ms: later starts are larger, and group numbers build on it.
    #[n(3)]
    pub group_base: u64,
    /// Grows with every new announce of one instance.
    #[n(4)]
    pub version: u32,
    /// How packets are sealed.
    #[n(5)]
    pub suite: Suite,
    /// The size of full packets.
    #[n(6)]
    pub packet_size: PacketSize,
    /// What can be requested.
    #[n(7)]
    pub layers: Vec<LayerOffer>,
    /// The ends of the chains of carry keys of its layers, in their order: each key is proven by them. An origin of a
    /// version before commits to none.
    #[n(8)]
    pub carry: Option<Vec<CarryEnd>>,
}

/// One layer of an announced stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LayerOffer {
    /// Its index.
    #[n(0)]
    pub layer: Layer,
    /// The rate that admission reserves.
    #[n(1)]
    pub peak: Bitrate,
    /// What is in it, for tables and for gateways that must refuse.
    #[n(2)]
    pub tracks: Vec<TrackOffer>,
}

/// One track of an announced layer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TrackOffer {
    /// Video, audio or data.
    #[n(0)]
    pub kind: TrackKind,
    /// The codec in one word.
    #[n(1)]
    pub codec: String,
}

impl Announce {
    /// The flow of one of its layers.
    #[must_use]
    pub fn flow(&self, layer: Layer) -> FlowId {
        FlowId::derive(&self.origin, &self.name, &self.instance, layer)
    }

    /// What proves the carry keys of the layer at that place, if its origin commits to them.
    #[must_use]
    pub fn carry_end(&self, place: usize) -> Option<CarryEnd> {
        self.carry.as_ref()?.get(place).copied()
    }

    /// The offer of one of its layers.
    #[must_use]
    pub fn layer(&self, layer: Layer) -> Option<&LayerOffer> {
        self.layers.iter().find(|offer| offer.layer == layer)
    }

    /// Whether this announce takes the place of `other`, of the same origin and name: a later start, or a newer
    /// version of the same start. Equal starts of two instances are ordered by instance, so that all nodes agree.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        (self.group_base, self.instance, self.version)
            > (other.group_base, other.instance, other.version)
    }

    /// Whether other nodes will take it. An origin asks before it signs.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        let body = minicbor::to_vec(self).expect("writing to memory does not fail");
        self.parts_are_within_limits() && body.len() <= SIGNED_BYTES_MAX
    }

    fn parts_are_within_limits(&self) -> bool {
        let ends = self.carry.as_ref().map(Vec::len);
        (1..=LAYERS_MAX).contains(&self.layers.len())
            && ends.is_none_or(|ends| ends == self.layers.len())
            && self.layers.iter().all(|offer| {
                offer.tracks.len() <= TRACKS_MAX
                    && offer.tracks.iter().all(|track| track.codec.len() <= 32)
            })
    }
}

/// The statement that an instance was taken back on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Withdraw {
    /// The origin's node id, whose key signs the withdraw.
    #[n(0)]
    pub origin: NodeId,
    /// Its name.
    #[n(1)]
    pub name: StreamName,
    /// The start that ends.
    #[n(2)]
    pub instance: InstanceId,
}

/// The outer form of both: the signed bytes as they are, then the signature.
struct Envelope {
    body: Vec<u8>,
    signature: Vec<u8>,
    unknown: Unknown,
}
passed_on!(Envelope { 0 => body: bytes, 1 => signature: bytes, });

/// What all clones of a signed statement share.
#[derive(Debug, PartialEq, Eq)]
struct Signed<T> {
    content: T,
    body: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
    unknown: Unknown,
}

/// Makes the signed form of a statement: built by its signer, or decoded and verified in one step.
macro_rules! signed {
    ($signed:ident, $body:ident, $purpose:expr, $check:expr) => {
        #[doc = concat!("A [`", stringify!($body), "`] with its origin's signature, verified.")]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $signed(Arc<Signed<$body>>);

        impl $signed {
            /// Signs `content` as its origin.
            ///
            /// # Panics
            ///
            /// If `identity` is not the origin it names.
            #[must_use]
            pub fn sign(content: $body, identity: &Identity) -> Self {
                assert_eq!(
                    content.origin,
                    identity.id(),
                    "only the origin speaks for its streams"
                );
                let body = minicbor::to_vec(&content).expect("writing to memory does not fail");
                let signature = identity.sign($purpose, &body);
                Self(Arc::new(Signed {
                    content,
                    body,
                    signature,
                    unknown: Unknown::default(),
                }))
            }

            /// The content, which the signature covers.
            #[must_use]
            pub fn content(&self) -> &$body {
                &self.0.content
            }

            /// How many bytes it has on the wire, without the few that frame its parts.
            #[must_use]
            pub fn bytes(&self) -> usize {
                self.0.body.len() + SIGNATURE_BYTES + self.0.unknown.bytes().len()
            }
        }

        impl<C> Encode<C> for $signed {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                let Signed {
                    body,
                    signature,
                    unknown,
                    ..
                } = &*self.0;
                e.map(2 + unknown.fields())?;
                e.u8(0)?.bytes(body)?.u8(1)?.bytes(signature)?;
                unknown.write(e)
            }
        }

        impl<'b, C> Decode<'b, C> for $signed {
            /// Fails for anything but a statement within its limits, signed by the origin it names.
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                ctx: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let refuse = minicbor::decode::Error::message;
                let Envelope {
                    body,
                    signature,
                    unknown,
                } = Envelope::decode(d, ctx)?;
                if body.len() > SIGNED_BYTES_MAX {
                    return Err(refuse("a signed statement is at most 4096 bytes"));
                }
                let content: $body = minicbor::decode(&body)?;
                let check: fn(&$body) -> bool = $check;
                if !check(&content) {
                    return Err(refuse("a statement beyond its limits"));
                }
                // spec: WIRE 6.1 an announce or withdraw that its origin did not sign MUST be ignored
                if !identity::verify(&content.origin, $purpose, &body, &signature) {
                    return Err(refuse("not signed by its origin"));
                }
                let signature = signature
                    .try_into()
                    .map_err(|_| refuse("a signature has 64 bytes"))?;
                Ok(Self(Arc::new(Signed {
                    content,
                    body,
                    signature,
                    unknown,
                })))
            }
        }
    };
}

signed!(
    SignedAnnounce,
    Announce,
    Purpose::Announce,
    Announce::parts_are_within_limits
);
signed!(SignedWithdraw, Withdraw, Purpose::Withdraw, |_| true);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn announce(identity: &Identity) -> Announce {
        Announce {
            origin: identity.id(),
            name: "sports/final".parse().unwrap(),
            instance: InstanceId([4; 16]),
            group_base: 35_000_000_000,
            version: 1,
            suite: Suite::Aes128Gcm,
            packet_size: PacketSize::DEFAULT,
            layers: vec![LayerOffer {
                layer: Layer(0),
                peak: Bitrate(4_000_000),
                tracks: vec![TrackOffer {
                    kind: TrackKind::Video,
                    codec: "h264".into(),
                }],
            }],
            carry: None,
        }
    }

    #[test]
    fn a_signed_announce_survives_its_bytes() {
        let identity = Identity::from_secret(&[1; 32]);
        let signed = SignedAnnounce::sign(announce(&identity), &identity);

        let bytes = minicbor::to_vec(&signed).unwrap();

        assert_eq!(minicbor::decode::<SignedAnnounce>(&bytes).unwrap(), signed);
    }

    // spec: WIRE 6.1 an announce that its origin did not sign MUST be ignored
    #[test]
    fn an_announce_changed_anywhere_does_not_decode() {
        let identity = Identity::from_secret(&[1; 32]);
        let bytes = minicbor::to_vec(SignedAnnounce::sign(announce(&identity), &identity)).unwrap();

        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            assert!(
                minicbor::decode::<SignedAnnounce>(&changed).is_err(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_field_from_the_future_is_carried_and_ignored() {
        let identity = Identity::from_secret(&[1; 32]);
        let mut body = minicbor::to_vec(announce(&identity)).unwrap();
        // A map of eight fields becomes a map of nine: key 30, text "x".
        assert_eq!(body[0], 0xA8);
        body[0] = 0xA9;
        body.extend_from_slice(&[0x18, 30, 0x61, b'x']);
        let signature = identity.sign(Purpose::Announce, &body).to_vec();
        let bytes = envelope(body, signature);

        let decoded: SignedAnnounce = minicbor::decode(&bytes).unwrap();

        assert_eq!(decoded.content(), &announce(&identity));
        assert_eq!(minicbor::to_vec(&decoded).unwrap(), bytes);
    }

    fn envelope(body: Vec<u8>, signature: Vec<u8>) -> Vec<u8> {
        let unknown = Unknown::default();
        minicbor::to_vec(Envelope {
            body,
            signature,
            unknown,
        })
        .unwrap()
    }

    // spec: WIRE 6.1 fields of the envelope that a node does not know MUST be passed on
    #[test]
    fn an_envelope_keeps_fields_from_the_future() {
        let identity = Identity::from_secret(&[1; 32]);
        let signed = SignedAnnounce::sign(announce(&identity), &identity);
        let mut bytes = minicbor::to_vec(&signed).unwrap();
        // Two fields become three: key 2, text "x".
        assert_eq!(bytes[0], 0xA2);
        bytes[0] = 0xA3;
        bytes.extend_from_slice(&[2, 0x61, b'x']);

        let decoded: SignedAnnounce = minicbor::decode(&bytes).unwrap();

        assert_eq!(decoded.content(), signed.content());
        assert_eq!(minicbor::to_vec(&decoded).unwrap(), bytes);
    }

    #[test]
    fn a_later_start_replaces_an_earlier_one_and_never_the_reverse() {
        let identity = Identity::from_secret(&[1; 32]);
        let old = announce(&identity);
        let restarted = Announce {
            instance: InstanceId([1; 16]),
            group_base: old.group_base + 1,
            ..old.clone()
        };
        let revised = Announce {
            version: 2,
            ..old.clone()
        };

        assert!(restarted.replaces(&old) && !old.replaces(&restarted));
        assert!(revised.replaces(&old) && !old.replaces(&revised));
        assert!(!old.replaces(&old.clone()));
    }

    // spec: WIRE 6.1 an announce beyond a limit MUST be ignored, even if its origin signed it
    #[test]
    fn an_announce_beyond_a_limit_does_not_decode_even_if_it_is_signed() {
        let identity = Identity::from_secret(&[1; 32]);
        let base = announce(&identity);
        let survives = |content: &Announce| {
            let signed = SignedAnnounce::sign(content.clone(), &identity);
            let bytes = minicbor::to_vec(signed).unwrap();
            let taken = minicbor::decode::<SignedAnnounce>(&bytes).is_ok();
            assert_eq!(taken, content.is_within_limits());
            taken
        };
        let ends = |count: usize| Announce {
            carry: Some(vec![CarryEnd([1; 32]); count]),
            ..base.clone()
        };
        let layers = |count: usize| Announce {
            layers: vec![base.layers[0].clone(); count],
            ..base.clone()
        };
        let tracks = |count: usize, codec: usize| {
            let mut changed = base.clone();
            let track = &mut changed.layers[0].tracks[0];
            track.codec = "x".repeat(codec);
            changed.layers[0].tracks = vec![track.clone(); count];
            changed
        };

        assert!(survives(&layers(LAYERS_MAX)) && survives(&tracks(TRACKS_MAX, 32)));
        assert!(survives(&ends(1)));
        for beyond in [
            ends(0),
            ends(2),
            layers(0),
            layers(LAYERS_MAX + 1),
            tracks(TRACKS_MAX + 1, 1),
            tracks(1, 33),
        ] {
            assert!(!survives(&beyond));
        }
        let mut large = tracks(TRACKS_MAX, 32);
        large.layers = vec![large.layers[0].clone(); LAYERS_MAX];
        assert!(minicbor::to_vec(&large).unwrap().len() > SIGNED_BYTES_MAX);
        assert!(!survives(&large));
    }
}
