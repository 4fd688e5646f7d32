//! Files of other servers by HTTP/1.1, with and without TLS: one connection, kept for as long as the server lets it.
//!
//! Not what is in them. Called by `source`. Invariant: an answer has at most as many bytes as its asker allows, and
//! comes within [`ANSWER_MAX`] or not at all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::playlist::Range;
use super::url::Url;

/// How long a connection may take to stand.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take, from the request to its last byte.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How often an answer may send us elsewhere.
pub(crate) const REDIRECTS_MAX: usize = 5;
/// Where systems keep the certificates that they trust.
const TRUSTED: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why a file is not had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{server} cannot be reached: {why}")]
    Connect { server: String, why: String },
    #[error("{url} is answered with {status}{cure}")]
    Status {
        url: String,
        status: u16,
        cure: &'static str,
    },
    #[error("{url} has more than {max} bytes")]
    TooLarge { url: String, max: usize },
    #[error("{url} is not answered within {} s", ANSWER_MAX.as_secs())]
    Silent { url: String },
    #[error("{url}: the answer breaks off: {why}")]
    Broken { url: String, why: String },
    #[error("{url} sends us elsewhere more than {REDIRECTS_MAX} times, or to no place that can be")]
    Redirects { url: String },
}

/// Asks servers, one at a time: a request to another closes the connection to the one before.
#[derive(Debug, Default)]
pub(crate) struct Client {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    server: Url,
    send: SendRequest<Body>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Gets a file, or a part of it; and where it really was.
    pub(crate) async fn get(
        &mut self,
        url: &Url,
        range: Option<Range>,
        bytes_max: usize,
    ) -> Result<(Url, Bytes), FetchError> {
        let getting = self.follow(url, range, bytes_max);
        let got = tokio::time::timeout(ANSWER_MAX, getting).await;
        got.unwrap_or_else(|_| {
            // What is on the way is of no use any more.
            self.open = None;
            Err(FetchError::Silent {
                url: url.to_string(),
            })
        })
    }

    async fn follow(
        &mut self,
        url: &Url,
        range: Option<Range>,
        bytes_max: usize,
    ) -> Result<(Url, Bytes), FetchError> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.ask(&at, range).await?;
            let status = response.status();
            if status.is_redirection() {
                let to = response.headers().get(header::LOCATION);
                let to = to.and_then(|to| at.join(to.to_str().ok()?).ok());
                let Some(to) = to else { break };
                // The body that nobody reads would stand before the next answer.
                self.open = None;
                at = to;
                continue;
            }
            if !status.is_success() {
                self.open = None;
                return Err(refused(&at, status));
            }
            let is_part = range.is_some() && status == StatusCode::PARTIAL_CONTENT;
            let bytes = read(response, &at, bytes_max).await?;
            return match range.filter(|_| !is_part) {
                // A server that knows no ranges gives the whole.
                Some(range) => Ok((at, part(&bytes, range))),
                None => Ok((at, bytes)),
            };
        }
        Err(FetchError::Redirects {
            url: url.to_string(),
        })
    }

    async fn ask(
        &mut self,
        url: &Url,
        range: Option<Range>,
    ) -> Result<Response<Incoming>, FetchError> {
        let broken = |why: hyper::Error| FetchError::Broken {
            url: url.to_string(),
            why: why.to_string(),
        };
        if let Some(open) = &mut self.open
            && open.server.is_same_server(url)
            && open.send.ready().await.is_ok()
            && let Ok(response) = open.send.send_request(request(url, range)).await
        {
            return Ok(response);
        }
        // A connection that was kept may have been closed meanwhile.
        self.open = None;
        let mut open = connect(url).await?;
        let response = open.send.send_request(request(url, range)).await;
        let response = response.map_err(broken)?;
        self.open = Some(open);
        Ok(response)
    }
}

fn refused(url: &Url, status: StatusCode) -> FetchError {
    let cure = match status.as_u16() {
        401 | 403 => ": write user and password into the URL, http://USER:PASSWORD@HOST/...",
        404 | 410 => ": look whether the address is right",
        _ => "",
    };
    FetchError::Status {
        url: url.to_string(),
        status: status.as_u16(),
        cure,
    }
}

async fn read(response: Response<Incoming>, url: &Url, max: usize) -> Result<Bytes, FetchError> {
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large = || FetchError::TooLarge {
        url: url.to_string(),
        max,
    };
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let bytes = to_bytes(Body::new(response.into_body()), max).await;
    bytes.map_err(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string);
        match why {
            Some(why) if !why.contains("length limit") => FetchError::Broken {
                url: url.to_string(),
                why,
            },
            _ => too_large(),
        }
    })
}

fn part(bytes: &Bytes, range: Range) -> Bytes {
    let from = usize::try_from(range.from).unwrap_or(usize::MAX);
    let from = from.min(bytes.len());
    let length = usize::try_from(range.bytes).unwrap_or(usize::MAX);
    bytes.slice(from..from.saturating_add(length).min(bytes.len()))
}

fn request(url: &Url, range: Option<Range>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = url.path().parse().unwrap_or_default();
    let headers = request.headers_mut();
    let mut set = |name, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    set(header::HOST, url.authority());
    set(
        header::USER_AGENT,
        concat!("levada/", env!("CARGO_PKG_VERSION")).to_owned(),
    );
    if let Some(text) = url.authorization() {
        set(header::AUTHORIZATION, text);
    }
    if let Some(Range { bytes, from }) = range {
        let last = from.saturating_add(bytes).saturating_sub(1);
        set(header::RANGE, format!("bytes={from}-{last}"));
    }
    request
}

async fn connect(url: &Url) -> Result<Open, FetchError> {
    let failed = |why: String| FetchError::Connect {
        server: url.authority(),
        why,
    };
    let opening = async {
        let (host, port) = url.endpoint();
        let stream = TcpStream::connect((host, port)).await?;
        // Requests are small and waited for.
        let _ = stream.set_nodelay(true);
        if !url.is_https() {
            return start(stream).await;
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::other(error.to_string()))?;
        let stream = tls()?.connect(name, stream).await?;
        start(stream).await
    };
    let opened = tokio::time::timeout(CONNECT_MAX, opening).await;
    let (send, task) = match opened {
        Ok(opened) => opened.map_err(|error| failed(error.to_string()))?,
        Err(_) => {
            return Err(failed(format!(
                "no answer within {} s",
                CONNECT_MAX.as_secs()
            )));
        }
    };
    Ok(Open {
        server: url.clone(),
        send,
        task,
    })
}

async fn start<S>(stream: S) -> io::Result<(SendRequest<Body>, AbortHandle)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (send, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // How it ended, whoever asks next learns.
    let task = tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok((send, task.abort_handle()))
}

/// TLS that trusts whom this system trusts; `SSL_CERT_FILE` names others.
fn tls() -> io::Result<TlsConnector> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let paths = named.iter().map(String::as_str).chain(TRUSTED);
    let mut roots = RootCertStore::empty();
    for path in paths {
        if let Ok(certificates) = CertificateDer::pem_file_iter(path) {
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        if !roots.is_empty() {
            break;
        }
    }
    if roots.is_empty() {
        return Err(io::Error::other(
            "no certificates are found that this system trusts: install `ca-certificates`, or name a file of them by \
             SSL_CERT_FILE",
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
