//! The connection to a client: TCP as it is, or TLS, which a task beside it takes off.
//!
//! ```text
//!   client ══TLS══▶ task: TLS on the one side, plain bytes on the other ──pair of local sockets──▶ Socket
//! ```
//!
//! So whoever reads and writes need not know of TLS: writes that do not fit, readiness and the end are the same. What
//! TLS costs, a copy and a cipher for each client, is paid by those who want it. Not the certificate, which is
//! `levada_gateway::tls`. Called by `server` and `sender`. Invariant: a client that does not read fills its own pair of
//! sockets and nothing else.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::net::TcpStream;
#[cfg(unix)]
use {levada_gateway::tls::TlsStream, tokio::net::UnixStream};

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    /// The plain end of the pair, and the address of ours that the client called.
    #[cfg(unix)]
    Tls(UnixStream, SocketAddr),
}

/// Does the same with whichever it is.
macro_rules! each {
    ($socket:expr, $stream:ident => $done:expr) => {
        match $socket {
            Self::Tcp($stream) => $done,
            #[cfg(unix)]
            Self::Tls($stream, _) => $done,
        }
    };
}

impl Socket {
    /// Takes TLS off a connection: what is left, and what has to run for as long as it lasts.
    #[cfg(unix)]
    pub(crate) fn tls(
        mut stream: TlsStream,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let local = stream.get_ref().0.local_addr()?;
        let (plain, mut other) = UnixStream::pair()?;
        let copy = async move {
            // However it ends, the client or the server has closed.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut other).await;
        };
        Ok((Self::Tls(plain, local), copy))
    }

    pub(crate) const fn is_secure(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            #[cfg(unix)]
            Self::Tls(..) => true,
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            #[cfg(unix)]
            Self::Tls(_, local) => Ok(*local),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        each!(self, stream => stream.readable().await)
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        each!(self, stream => stream.writable().await)
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_write_ready(context))
    }

    pub(crate) fn try_read_buf(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        each!(self, stream => stream.try_read_buf(buffer))
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(bytes))
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, stream => stream.try_write_vectored(slices))
    }
}
