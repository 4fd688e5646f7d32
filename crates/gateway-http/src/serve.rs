//! Connections: lets them in, speaks HTTP/1.1 or 2 with each, and closes those that say or take nothing.
//!
//! Not what is answered, which is a router's. Called by `server`; whoever builds other pages can serve a router of
//! their own with it. Invariant: a connection without a request in [`HEAD_PATIENCE`] closes, and so does one that takes
//! nothing of what it was sent for [`Limits::stall_max`](levada_gateway::Limits).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use levada_gateway::{EndReason, Gate, Permit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower_service::Service as _;

use crate::playback::Progress;

/// How long a request may take to come whole, also the next one of a connection.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and of what waits for a socket behind the piece that is being written.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Requests at the same time on one connection of HTTP/2.
pub const REQUESTS_MAX: u32 = 32;
/// Bytes that wait for one of them.
const SEND_BYTES_MAX: usize = 64 << 10;
/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Looks at a client that may take nothing, in the time that it may.
const LOOKS: u32 = 8;
/// What HTTP/2 begins with (RFC 9113 section 3.4); no method of HTTP/1.1 does.
const PREFACE: &[u8; 3] = b"PRI";

/// A connection as handlers see it, an extension of each request. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Peer {
    remote: SocketAddr,
    local: Option<SocketAddr>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    permit: Mutex<Permit>,
    playing: Mutex<Vec<Weak<Progress>>>,
    has_begun: Notify,
    /// Told at the first request.
    has_asked: Notify,
}

impl Peer {
    /// Where the client is.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The address that the client reached, if the system knows.
    #[must_use]
    pub const fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Has the connection closed if this client takes nothing.
    pub(crate) fn watch(&self, progress: &Arc<Progress>) {
        let mut playing = lock(&self.state.playing);
        playing.retain(|known| known.strong_count() > 0);
        playing.push(Arc::downgrade(progress));
        self.state.has_begun.notify_one();
    }

    /// The client said something that made sense.
    fn settle(&self) {
        lock(&self.state.permit).settle();
    }

    /// Waits for ever if a request came in time.
    async fn said_nothing(&self) {
        let asked = self.state.has_asked.notified();
        if tokio::time::timeout(HEAD_PATIENCE, asked).await.is_ok() {
            std::future::pending().await
        }
    }

    /// Waits until a client of this connection has taken nothing for too long.
    async fn stalled(&self, stall_max: Duration) {
        loop {
            if lock(&self.state.playing).is_empty() {
                self.state.has_begun.notified().await;
            }
            tokio::time::sleep(stall_max / LOOKS).await;
            let now = Instant::now();
            let mut playing = lock(&self.state.playing);
            playing.retain(|known| known.strong_count() > 0);
            let stalled = playing.iter().filter_map(Weak::upgrade);
            let stalled: Vec<_> = stalled
                .filter(|known| known.is_stalled(now, stall_max))
                .collect();
            if !stalled.is_empty() {
                stalled
                    .iter()
                    .for_each(|known| known.end_with(EndReason::Slow));
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code that can panic runs under this lock")
}

/// Serves a router until it is dropped: every connection, as far as the gate lets it in.
pub async fn serve(listener: TcpListener, router: Router, gate: Gate) {
    // They end with this task.
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        match accepted {
            Ok((stream, remote)) => match gate.enter(remote.ip()) {
                Ok(permit) => {
                    let (router, stall_max) = (router.clone(), gate.limits().stall_max);
                    clients.spawn(connection(stream, remote, router, permit, stall_max));
                }
                Err(error) => refuse(&stream, &error.to_string()),
            },
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn refuse(stream: &TcpStream, why: &str) {
    tracing::debug!("a client was not let in: {why}");
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nRetry-After: 10\r\n\
         Connection: close\r\n\r\n{why}\n",
        why.len() + 1
    );
    // It fits into an empty socket, or the client does not hear why.
    let _ = stream.try_write(text.as_bytes());
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    router: Router,
    permit: Permit,
    stall_max: Duration,
) {
    // Without it a response could wait for the acknowledgement of what was sent before.
    let _ = stream.set_nodelay(true);
    let peer = Peer {
        remote,
        local: stream.local_addr().ok(),
        state: Arc::new(State {
            permit: Mutex::new(permit),
            playing: Mutex::default(),
            has_begun: Notify::new(),
            has_asked: Notify::new(),
        }),
    };
    let Ok(Ok(is_http2)) = tokio::time::timeout(HEAD_PATIENCE, is_http2(&stream)).await else {
        return;
    };
    let ended = async {
        if is_http2 {
            speak_http2(stream, router, &peer).await
        } else {
            speak_http1(stream, router, &peer).await
        }
    };
    tokio::select! {
        ended = ended => if let Err(error) = ended {
            tracing::debug!("a connection ended: {error}");
        },
        () = peer.said_nothing() => tracing::debug!("a connection was closed: it asked for nothing"),
        () = peer.stalled(stall_max) => tracing::debug!("a connection was closed: it took nothing"),
    }
}

/// Whether the client begins as HTTP/2 does. Who sends less than three bytes at first speaks HTTP/1.1.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let bytes = stream.peek(&mut first).await?;
    Ok(&first[..bytes] == PREFACE)
}

async fn speak_http1(stream: TcpStream, router: Router, peer: &Peer) -> hyper::Result<()> {
    let service =
        hyper::service::service_fn(|request| answer(router.clone(), peer.clone(), request));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn speak_http2(stream: TcpStream, router: Router, peer: &Peer) -> hyper::Result<()> {
    let service =
        hyper::service::service_fn(|request| answer(router.clone(), peer.clone(), request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(HEAD_PATIENCE)
        .keep_alive_timeout(HEAD_PATIENCE);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    mut router: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    peer.state.has_asked.notify_one();
    request.extensions_mut().insert(peer.clone());
    let response = router.call(request.map(Body::new)).await?;
    if !response.status().is_client_error() {
        peer.settle();
    }
    Ok(response)
}
