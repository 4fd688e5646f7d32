//! RTP that an SDP file describes as a source: each track on a port of its own, unicast or multicast.
//!
//! ```text
//! c=IN IP4 239.1.1.1/4          where: a group is joined, any other address is taken to be ours
//! m=video 5004 RTP/AVP 96       RTP on 5004, RTCP on 5005 (RFC 3550 11)
//! ```
//!
//! Not the SDP (`sdp.rs` of the crate) and not the placing of tracks in time (`rtp/align.rs`). Called by `file.rs`.
//! Invariant: a packet that does not come holds the others up for [`REORDER_WAIT`] at most.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use levada_wire::Frame;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::socket::{self, Listen};
use super::timeline::Timeline;
use super::udp::REORDER_WAIT;
use super::{Error, Item, Pending, Source};
use crate::rtp::{Align, Unpacker};
use crate::sdp::{Media, Session};

/// Datagrams between the sockets and the source. When they are full the kernel's buffers fill.
const DATAGRAMS_MAX: usize = 256;
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// After so long without a packet somebody is told.
const SILENCE: Duration = Duration::from_secs(5);

/// Opens what the SDP describes.
pub(super) async fn open(path: &Path, text: &[u8]) -> Result<Receiver, Error> {
    let session = Session::parse(text).map_err(|source| Error::Sdp {
        path: path.to_owned(),
        source,
    })?;
    for omission in &session.omitted {
        tracing::warn!("{} is published without {omission}", path.display());
    }
    let (sender, datagrams) = mpsc::channel(DATAGRAMS_MAX);
    let mut tracks = Vec::new();
    for media in &session.media {
        let (rtp, rtcp) = listen(path, &session, media)?;
        let place = tracks.len();
        tokio::spawn(receive(rtp, place, false, sender.clone()));
        if let Some(rtcp) = rtcp {
            tokio::spawn(receive(rtcp, place, true, sender.clone()));
        }
        tracks.push(Received {
            unpacker: Unpacker::new(&media.track, &media.mapping),
            waiting: None,
        });
    }
    let description = session.description();
    let mut timeline = Timeline::new();
    timeline.describe(&description);
    let clocks = session.media.iter().map(|media| media.mapping.clock);
    Ok(Receiver {
        what: path.display().to_string(),
        datagrams,
        align: Align::new(clocks),
        tracks,
        timeline,
        items: [Item::Description(description)].into(),
        quiet_at: Instant::now() + SILENCE,
    })
}

/// The sockets of a track: for RTP, and for its reports if that port is free.
fn listen(
    path: &Path,
    session: &Session,
    media: &Media,
) -> Result<(UdpSocket, Option<UdpSocket>), Error> {
    if media.port == 0 {
        return Err(Error::NoPort {
            path: path.to_owned(),
            codec: media.track.codec.clone(),
        });
    }
    let address = media.address.as_ref().or(session.address.as_ref());
    // `GROUP/TTL`, `GROUP/TTL/COUNT`.
    let address = address.and_then(|address| address.split('/').next()?.parse::<IpAddr>().ok());
    let ip = address.filter(IpAddr::is_multicast);
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let at = |port| Listen {
        address: SocketAddr::new(ip, port),
        interface: None,
    };
    let what = path.display().to_string();
    let rtp = socket::open(at(media.port), &what)?;
    let rtcp = media.port.checked_add(1);
    let rtcp = rtcp.and_then(|port| socket::open(at(port), &what).ok());
    Ok((rtp, rtcp))
}

/// A datagram of a track.
#[derive(Debug)]
struct Datagram {
    track: usize,
    is_report: bool,
    bytes: Bytes,
}

async fn receive(
    socket: UdpSocket,
    track: usize,
    is_report: bool,
    datagrams: mpsc::Sender<Datagram>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = datagrams.closed() => return,
        };
        // What a peer's ICMP makes of a receive is no end.
        let Ok((bytes, _)) = received else { continue };
        let datagram = Datagram {
            track,
            is_report,
            bytes: Bytes::copy_from_slice(&buffer[..bytes]),
        };
        if datagrams.send(datagram).await.is_err() {
            return;
        }
    }
}

/// RTP that is being received.
#[derive(Debug)]
pub(super) struct Receiver {
    what: String,
    datagrams: mpsc::Receiver<Datagram>,
    align: Align,
    tracks: Vec<Received>,
    timeline: Timeline,
    items: VecDeque<Item>,
    /// When to say that nothing comes.
    quiet_at: Instant,
}

/// A track.
#[derive(Debug)]
struct Received {
    unpacker: Unpacker,
    /// Since when packets wait for one that is missing.
    waiting: Option<Instant>,
}

impl Receiver {
    async fn due(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(item);
            }
            let waiting = self.tracks.iter().filter_map(|track| track.waiting);
            let wakes_at = waiting.map(|since| since + REORDER_WAIT).min();
            let until = wakes_at.map_or(self.quiet_at, |at| at.min(self.quiet_at));
            let mut frames = Vec::new();
            match timeout_at(until, self.datagrams.recv()).await {
                Ok(Some(datagram)) => {
                    self.quiet_at = Instant::now() + SILENCE;
                    self.take(datagram, &mut frames);
                }
                Ok(None) => return None,
                Err(_) if Instant::now() >= self.quiet_at => {
                    self.quiet_at += Duration::from_secs(60);
                    tracing::warn!(
                        "nothing comes by {}: is the sender running, does it send to the ports that are named there, \
                         and does a firewall let it through?",
                        self.what
                    );
                }
                Err(_) => {}
            }
            for track in &mut self.tracks {
                track.give_up(&mut frames);
            }
            let placed = frames
                .into_iter()
                .filter_map(|frame| self.timeline.place(frame));
            self.items.extend(placed.map(Item::Frame));
        }
    }

    fn take(&mut self, datagram: Datagram, frames: &mut Vec<Frame>) {
        if datagram.is_report {
            return self.align.on_report(datagram.track, &datagram.bytes);
        }
        let (tracks, now) = (&mut self.tracks, std::time::Instant::now());
        self.align.on_packet(
            datagram.track,
            datagram.bytes,
            now,
            |track, start, packet| {
                let unpacker = &mut tracks[track].unpacker;
                if let Some(start) = start {
                    unpacker.align(start.rtp_time, start.ticks);
                }
                unpacker.push(packet, frames);
            },
        );
    }
}

impl Received {
    fn give_up(&mut self, frames: &mut Vec<Frame>) {
        if !self.unpacker.is_waiting() {
            self.waiting = None;
            return;
        }
        let now = Instant::now();
        let since = *self.waiting.get_or_insert(now);
        if now.duration_since(since) >= REORDER_WAIT {
            self.unpacker.give_up(frames);
            self.waiting = None;
        }
    }
}

impl Source for Receiver {
    fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>> {
        Box::pin(async { Ok(self.due().await) })
    }
}

#[cfg(test)]
mod tests;
