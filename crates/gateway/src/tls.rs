//! TLS for gateways: a certificate from files, or the node's own.
//!
//! The own one is made once and kept in the state directory: who has accepted it in a player or a browser is not asked
//! again. Nobody vouches for it; its fingerprint is logged, for comparing. Not a protocol. Called by `levada-cli`
//! (which certificate) and by gateways (accepting). Invariant: no key is ever formatted, and the own one is readable
//! for its owner alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A connection by TLS.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Where the own certificate is, within the state directory.
const CERTIFICATE: &str = "tls-certificate.pem";
const KEY: &str = "tls-key.pem";

/// A certificate and its key. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.fingerprint)
    }
}

impl Tls {
    /// The certificate (with those that vouch for it behind it) and the key of these files, in PEM.
    ///
    /// # Errors
    ///
    /// When one cannot be read or they do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let unreadable = |path: &Path, why: String| TlsError::File {
            path: path.to_owned(),
            why,
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(certificate, error.to_string()))?;
        let secret = PrivateKeyDer::from_pem_file(key);
        let secret = secret.map_err(|error| unreadable(key, error.to_string()))?;
        let first = chain
            .first()
            .ok_or_else(|| unreadable(certificate, "it holds no certificate".to_owned()))?;
        let digest = sha2::Sha256::digest(first);
        let fingerprint = digest.iter().map(|byte| format!("{byte:02X}"));
        let fingerprint = fingerprint.collect::<Vec<_>>().join(":");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let builder = builder.with_no_client_auth();
                builder.with_single_cert(chain, secret)
            })
            .map_err(|error| TlsError::Unfit {
                path: certificate.to_owned(),
                why: error.to_string(),
            })?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            fingerprint,
        })
    }

    /// The node's own, for these names; made if there is none in its state directory.
    ///
    /// # Errors
    ///
    /// When it cannot be made or read.
    pub fn own(state_dir: &Path, names: Vec<String>) -> Result<Self, TlsError> {
        let (certificate, key) = (state_dir.join(CERTIFICATE), state_dir.join(KEY));
        if !(certificate.exists() && key.exists()) {
            make(&certificate, &key, names)?;
        }
        Self::from_files(&certificate, &key)
    }

    /// SHA-256 of the certificate, as players and browsers show it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Takes a connection's handshake.
    ///
    /// # Errors
    ///
    /// When the client speaks something else, or says nothing in time.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let accepted = tokio::time::timeout(HANDSHAKE_PATIENCE, self.acceptor.accept(stream));
        accepted.await.map_err(io::Error::other)?
    }
}

fn make(certificate: &Path, key: &Path, names: Vec<String>) -> Result<(), TlsError> {
    let made = rcgen::generate_simple_self_signed(names);
    let made = made.map_err(|error| TlsError::Make(error.to_string()))?;
    write(key, &made.signing_key.serialize_pem())?;
    write(certificate, &made.cert.pem())
}

fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let written = options.open(path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| TlsError::File {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or written, or is not what it should be.
    #[error("{}: {why}", path.display())]
    File {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate that cannot be used, or not with that key.
    #[error("the certificate of {} cannot be used with its key: {why}", path.display())]
    Unfit {
        /// Where the certificate is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No certificate could be made.
    #[error("no certificate can be made: {0}")]
    Make(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn the_own_certificate_is_made_once_and_its_key_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let names = || vec!["localhost".to_owned()];

        let first = Tls::own(dir.path(), names()).unwrap();
        let second = Tls::own(dir.path(), names()).unwrap();

        assert_eq!(first.fingerprint(), second.fingerprint());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.path().join(KEY))
                .unwrap()
                .permissions();
            assert_eq!(mode.mode() & 0o077, 0);
        }
    }

    #[test]
    fn files_that_are_no_certificate_or_of_another_key_are_named() {
        let [a, b] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        for dir in [&a, &b] {
            Tls::own(dir.path(), vec!["localhost".to_owned()]).unwrap();
        }
        let certificate = a.path().join(CERTIFICATE);
        let none = a.path().join("none.pem");

        let missing = Tls::from_files(&none, &a.path().join(KEY)).unwrap_err();
        let swapped = Tls::from_files(&certificate, &certificate).unwrap_err();
        let foreign = Tls::from_files(&certificate, &b.path().join(KEY)).unwrap_err();

        assert!(missing.to_string().contains("none.pem"), "{missing}");
        assert!(matches!(swapped, TlsError::File { .. }), "{swapped}");
        assert!(matches!(foreign, TlsError::Unfit { .. }), "{foreign}");
    }
}
