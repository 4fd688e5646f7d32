//! One client of a sender: what is being written to it, and how far its socket takes it.
//!
//! Not the order in which clients have their turn, which is the parent's. Called by the parent alone. Invariant: a
//! write that does not fit is continued where it stopped, before anything else is written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use levada_gateway::{EndReason, Next, Piece};
use tokio::sync::oneshot;

use super::credit::Credit;
use super::play::{Counted, Play};
use crate::burst::Burst;
use crate::socket::Socket;
use crate::udp::{SEND_BYTES_MAX, Udp};

/// Pieces that are gathered for one write to a client that is behind.
const GATHERED_MAX: usize = 16;
/// How long a send by UDP waits that found the socket full.
const FULL_WAIT: Duration = Duration::from_millis(2);

/// How packets reach a client.
#[derive(Debug)]
pub(crate) enum Way {
    /// Between the messages of its connection.
    Tcp(Arc<Socket>),
    /// In datagrams, each track to two ports of its own; by the places of the tracks.
    Udp(Arc<Udp>, Vec<Option<[SocketAddr; 2]>>),
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) way: Way,
    pub(super) ended: Option<oneshot::Sender<EndReason>>,
    pub(super) play: Option<Play>,
    /// What is being written; of the first, what is left.
    pub(super) out: VecDeque<Bytes>,
    /// What is being sent by UDP, and its first run that was not sent.
    piece: Option<(Arc<Piece<Burst>>, usize)>,
    credit: Credit,
    /// When it may be sent more.
    pub(super) paced: Option<Instant>,
    /// Since when the socket takes nothing.
    pub(super) blocked: Option<Instant>,
    /// Forgotten once `out` is written.
    pub(super) leaves: bool,
}

/// How a client stands after it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It has all there is, or its socket is full.
    Waits,
    /// It may be sent more at that time.
    Paced(Instant),
    /// Its stream is over for it.
    Ended(EndReason),
    /// It is gone.
    Gone(EndReason),
}

impl Way {
    /// Whether the connection takes bytes again; if not, the task is woken when it does.
    pub(super) fn is_writable(&self, context: &mut Context<'_>) -> bool {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(context).is_ready(),
            Self::Udp(..) => false,
        }
    }
}

impl Client {
    /// A client that is sent nothing yet.
    pub(super) fn new(way: Way, ended: oneshot::Sender<EndReason>) -> Self {
        Self {
            way,
            ended: Some(ended),
            play: None,
            out: VecDeque::new(),
            piece: None,
            credit: Credit::new(Instant::now()),
            paced: None,
            blocked: None,
            leaves: false,
        }
    }

    pub(super) fn end(&mut self, reason: EndReason) {
        if let Some(Counted::Client(session)) = self.play.as_ref().map(|play| &play.counted) {
            session.end_with(reason);
        }
        if let Some(ended) = self.ended.take() {
            // The connection's task may be gone already.
            let _ = ended.send(reason);
        }
    }

    pub(super) fn write(&mut self, now: Instant) -> Stand {
        if let Way::Udp(udp, to) = &self.way {
            let (udp, to) = (Arc::clone(udp), to.clone());
            return self.send(&udp, &to, now);
        }
        loop {
            if let Some(reason) = self.gather(now) {
                return Stand::Ended(reason);
            }
            if self.out.is_empty() {
                return Stand::Waits;
            }
            match self.try_write() {
                Ok(written) => {
                    self.blocked = None;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.get_or_insert(now);
                    return Stand::Waits;
                }
                Err(_) => return Stand::Gone(EndReason::Closed),
            }
        }
    }

    /// Takes what comes next of the stream, if nothing else is being written.
    fn gather(&mut self, now: Instant) -> Option<EndReason> {
        let play = self.play.as_mut()?;
        while self.out.len() < GATHERED_MAX {
            // A client whose socket is full may be skipped, so no more than one write is taken out of the ring for it.
            if !self.out.is_empty() && self.blocked.is_some() {
                break;
            }
            match play.cursor.next(&play.ring, now) {
                Next::Piece(piece) => {
                    let bytes = piece.body.framed(play.tracks);
                    let is_beyond = play.count(bytes.len());
                    if !bytes.is_empty() {
                        self.out.push_back(bytes);
                    }
                    if is_beyond {
                        return Some(EndReason::Quota);
                    }
                }
                Next::Wait => break,
                Next::Ended(reason) if self.out.is_empty() => return Some(reason),
                Next::Ended(_) => break,
            }
        }
        play.note_skips();
        None
    }

    /// Sends what there is by UDP, as far as the client's credit goes.
    fn send(&mut self, udp: &Udp, to: &[Option<[SocketAddr; 2]>], now: Instant) -> Stand {
        let Some(play) = self.play.as_mut() else {
            return Stand::Waits;
        };
        loop {
            let (piece, at) = match self.piece.take() {
                Some(pending) => pending,
                None => match play.cursor.next(&play.ring, now) {
                    Next::Piece(piece) => (piece, 0),
                    Next::Wait => return Stand::Waits,
                    Next::Ended(reason) => return Stand::Ended(reason),
                },
            };
            for (at, run) in piece.body.runs(SEND_BYTES_MAX).iter().enumerate().skip(at) {
                let Some([rtp, rtcp]) = to.get(run.track).copied().flatten() else {
                    continue;
                };
                if let Some(later) = self.credit.wait(now) {
                    self.piece = Some((Arc::clone(&piece), at));
                    return Stand::Paced(later);
                }
                let to = if run.is_report { rtcp } else { rtp };
                match udp.try_send(run.is_report, to, &run.bytes, run.packet_bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.piece = Some((Arc::clone(&piece), at));
                        return Stand::Paced(now + FULL_WAIT);
                    }
                    // Others are of the client's way, which shows by its silence.
                    _ => {}
                }
                self.credit.take(run.bytes.len());
                if play.count_track(run.track, run.bytes.len()) {
                    return Stand::Ended(EndReason::Quota);
                }
            }
            play.note_skips();
        }
    }

    fn try_write(&self) -> io::Result<usize> {
        let Way::Tcp(stream) = &self.way else {
            return Ok(0);
        };
        if let [only] = self.out.as_slices().0
            && self.out.len() == 1
        {
            return stream.try_write(only);
        }
        let slices: Vec<_> = self.out.iter().map(|bytes| IoSlice::new(bytes)).collect();
        stream.try_write_vectored(&slices)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.out.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.out.pop_front();
        }
    }
}
