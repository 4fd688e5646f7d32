//! A client's stream as the body of its response: piece after piece, each shared with all others.
//!
//! ```text
//!   Ring ──Cursor──▶ poll_frame: one piece, one write ──▶ hyper ──▶ socket
//!                         └─ not asked for more, for too long: the client is dropped by its connection
//! ```
//!
//! Not the making of pieces, which is `format`. Made by `live`, polled by hyper, watched by `serve`. Invariant: the
//! first data that a client gets begin a group, behind their head, and a body that ends too early ends with an error,
//! so that no client takes it for whole.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use levada_gateway::{Cursor, Encode, EncodedStream, EndReason, Join, Next, Session};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::format::Chunk;

/// What a body and its connection both know of a client.
#[derive(Debug)]
pub(crate) struct Progress {
    session: Session,
    start: Instant,
    /// Milliseconds from the start to when the client was handed something, plus one; 0 since it asked for more.
    handed: AtomicU64,
}

impl Progress {
    fn new(session: Session) -> Self {
        Self {
            session,
            start: Instant::now(),
            handed: AtomicU64::new(0),
        }
    }

    fn hand(&self, now: Instant) {
        let since = now.saturating_duration_since(self.start).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1);
        self.handed.store(since, Ordering::Relaxed);
    }

    fn ask(&self) {
        self.handed.store(0, Ordering::Relaxed);
    }

    /// Whether the client has taken nothing of what it was handed for that long.
    pub(crate) fn is_stalled(&self, now: Instant, stall_max: Duration) -> bool {
        let handed = match self.handed.load(Ordering::Relaxed) {
            0 => return false,
            handed => self.start + Duration::from_millis(handed - 1),
        };
        now.saturating_duration_since(handed) >= stall_max
    }

    /// Says why the session will end.
    pub(crate) fn end_with(&self, reason: EndReason) {
        self.session.end_with(reason);
    }
}

/// The body. See the module's head.
pub(crate) struct Playback<E: Encode<Body = Chunk>> {
    source: EncodedStream<E>,
    cursor: Cursor,
    news: Arc<Notify>,
    next: Pin<Box<OwnedNotified>>,
    kicked: Pin<Box<dyn Future<Output = ()> + Send>>,
    progress: Arc<Progress>,
    bytes_max: Option<u64>,
    /// The head that the client has.
    head: Option<Bytes>,
    has_begun: bool,
    /// What follows the head that was just given out.
    data: Option<Bytes>,
    is_over: bool,
}

/// A body that ended before its stream did.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CutOff(EndReason);

impl<E: Encode<Body = Chunk>> Playback<E> {
    pub(crate) fn new(source: EncodedStream<E>, session: Session, bytes_max: Option<u64>) -> Self {
        let news = Arc::new(Notify::new());
        source.ring().notify(&news);
        let progress = Arc::new(Progress::new(session));
        let watched = Arc::clone(&progress);
        Self {
            cursor: Cursor::join(source.ring(), Join::Burst, Instant::now()),
            source,
            next: Box::pin(Arc::clone(&news).notified_owned()),
            news,
            kicked: Box::pin(async move { watched.session.kicked().await }),
            progress,
            bytes_max,
            head: None,
            has_begun: false,
            data: None,
            is_over: false,
        }
    }

    pub(crate) const fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The bytes that are next to be written of a piece; none if the client cannot begin with it.
    fn take(&mut self, chunk: &Chunk) -> Option<Bytes> {
        self.has_begun |= chunk.begins;
        if !self.has_begun {
            return None;
        }
        match &chunk.head {
            Some(head) if self.head.as_ref() != Some(head) => {
                // Only what begins can do with another head.
                if self.head.is_some() && !chunk.begins {
                    return None;
                }
                self.head = Some(head.clone());
                self.data = Some(chunk.data.clone());
                Some(head.clone())
            }
            _ => Some(chunk.data.clone()),
        }
    }

    fn end(&mut self, reason: EndReason) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        self.is_over = true;
        self.progress.end_with(reason);
        let is_whole = matches!(
            reason,
            EndReason::StreamEnded | EndReason::TracksChanged | EndReason::Stopped
        );
        Poll::Ready((!is_whole).then(|| Err(CutOff(reason))))
    }

    fn give(&self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        self.progress.hand(Instant::now());
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl<E: Encode<Body = Chunk>> Body for Playback<E> {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        this.progress.ask();
        if let Some(data) = this.data.take() {
            return this.give(data);
        }
        if this.kicked.as_mut().poll(context).is_ready() {
            return this.end(EndReason::Kicked);
        }
        loop {
            match this.cursor.next(this.source.ring(), Instant::now()) {
                Next::Piece(piece) => {
                    let counts = this.progress.session.counts();
                    counts.set_skips(this.cursor.skips());
                    let total = counts.add_bytes(piece.body.data.len());
                    if this.bytes_max.is_some_and(|max| total > max) {
                        return this.end(EndReason::Quota);
                    }
                    if let Some(bytes) = this.take(&piece.body) {
                        return this.give(bytes);
                    }
                }
                Next::Ended(reason) => return this.end(reason),
                Next::Wait => {
                    ready!(this.next.as_mut().poll(context));
                    this.next.set(Arc::clone(&this.news).notified_owned());
                }
            }
        }
    }
}
