//! TLS of a link: version 1.3 only, both sides proven by raw Ed25519 public keys (RFC 7250), which *are* the
//! node ids. There is no certificate, no authority, and nothing to expire.
//!
//! Not tickets, which say what a node id may do. Called by `quic::endpoint`. Invariant: a handshake that ends
//! well has proven the peer's node id, and the expected one if one was.

use std::sync::{Arc, OnceLock};

use levada_wire::{Identity, NodeId};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureScheme,
};
use zeroize::Zeroizing;

/// What both sides must say they speak.
pub(crate) const ALPN: &[u8] = b"levada/1";

/// RFC 8410 section 7: PKCS #8 version 0, algorithm 1.3.101.112, an octet string in an octet string of 32 bytes.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// RFC 8410 section 4: a public key of algorithm 1.3.101.112, a bit string of 32 bytes.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The node's key in the form that rustls signs with.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Credentials {
    pub(crate) fn new(identity: &Identity) -> Self {
        let secret = identity.secret_bytes();
        let pkcs8 = Zeroizing::new([PKCS8_PREFIX.as_slice(), secret.as_slice()].concat());
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        let provider = rustls::crypto::ring::default_provider();
        let signing = provider
            .key_provider
            .load_private_key(pkcs8.clone_key())
            .expect("any 32 bytes are an Ed25519 key");
        let public = CertificateDer::from([SPKI_PREFIX.as_slice(), &identity.id().0].concat());
        Self {
            key: Arc::new(CertifiedKey::new(vec![public], signing)),
            provider: Arc::new(provider),
        }
    }

    /// For accepting: any node may connect, and proves which it is.
    pub(crate) fn server(&self) -> QuicServerConfig {
        let verifier = Verifier::new(&self.provider, None);
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(
                rustls::server::AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&self.key)),
            ));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Every link proves its keys anew: no tickets, nothing stored, no early data.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.max_early_data_size = 0;
        QuicServerConfig::try_from(config)
            .expect("the provider has the suite of QUIC's first packets")
    }

    /// For dialling: the node that answers proves who it is, and must be `expected` if that is known.
    pub(crate) fn client(&self, expected: Option<NodeId>) -> (QuicClientConfig, Arc<Verifier>) {
        let verifier = Verifier::new(&self.provider, expected);
        let resolver =
            rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.key));
        let checked: Arc<dyn ServerCertVerifier> = Arc::<Verifier>::clone(&verifier);
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(checked)
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        let config = QuicClientConfig::try_from(config)
            .expect("the provider has the suite of QUIC's first packets");
        (config, verifier)
    }
}

/// The node id in what a peer presented, if that is an Ed25519 public key and nothing else.
pub(crate) fn node_id(presented: &[u8]) -> Option<NodeId> {
    let key = presented.strip_prefix(&SPKI_PREFIX)?;
    Some(NodeId(key.try_into().ok()?))
}

/// Takes a raw Ed25519 public key for what it is. On the dialling side, only the expected one.
#[derive(Debug)]
pub(crate) struct Verifier {
    provider: Arc<CryptoProvider>,
    expected: Option<NodeId>,
    /// Whom it saw, for a message that names both.
    seen: OnceLock<NodeId>,
}

impl Verifier {
    fn new(provider: &Arc<CryptoProvider>, expected: Option<NodeId>) -> Arc<Self> {
        Arc::new(Self {
            provider: Arc::clone(provider),
            expected,
            seen: OnceLock::new(),
        })
    }

    /// Says who answered instead of whom, if that is why the handshake failed.
    pub(crate) fn wrong_node(&self) -> Option<String> {
        let (expected, seen) = (self.expected?, self.seen.get()?);
        (*seen != expected).then(|| {
            format!(
                "the node that answers there is {seen}, not {expected}: correct the node id or the address"
            )
        })
    }

    fn check(
        &self,
        presented: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let Some(id) = node_id(presented).filter(|_| rest.is_empty()) else {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        };
        // A handshake presents one key; a second call would bring the same one.
        let _ = self.seen.set(id);
        if self.expected.is_some_and(|expected| expected != id) {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        }
        Ok(())
    }

    fn signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(presented.as_ref()),
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(presented, rest)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, presented, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // One verifier serves all who connect, so there is nobody to remember.
        let is_node = node_id(presented).is_some() && rest.is_empty();
        is_node
            .then(ClientCertVerified::assertion)
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, presented, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_a_node_presents_is_its_node_id() {
        let identity = Identity::from_secret(&[7; 32]);

        let credentials = Credentials::new(&identity);

        let presented = credentials.key.cert[0].as_ref();
        assert_eq!(node_id(presented), Some(identity.id()));
        let signer = credentials.key.key.public_key().unwrap();
        assert_eq!(
            signer.as_ref(),
            presented,
            "the key that signs is the key that is shown"
        );
    }

    #[test]
    fn anything_but_one_ed25519_key_is_no_node_id() {
        let identity = Identity::from_secret(&[7; 32]);
        let good = [SPKI_PREFIX.as_slice(), &identity.id().0].concat();

        assert!(node_id(&good).is_some());
        assert_eq!(node_id(&good[..43]), None);
        assert_eq!(node_id(&[good.as_slice(), &[0]].concat()), None);
        assert_eq!(node_id(&[]), None);
        let mut other = good;
        other[8] = 0x6e;
        assert_eq!(node_id(&other), None, "X25519 is not Ed25519");
    }
}
