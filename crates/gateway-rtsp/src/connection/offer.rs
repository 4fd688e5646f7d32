//! Which of the transports that a client offers is taken.
//!
//! Interleaved channels are the same for all clients, whatever they ask for, so that the packets of a stream are made
//! once and shared: players take the channels from the response (RFC 2326 section 12.39). A publisher's channels are
//! its own. Not ports, which the server opens. Called by `methods`. Invariant: a transport that is chosen is one that
//! the settings allow.

use crate::header::transport::{Lower, Pair, Transport};

use super::{Role, Settings};

/// The first offer that can be used; otherwise why none can.
pub(super) fn choose(
    offered: &[Transport],
    track: usize,
    role: Role,
    taken: Option<Lower>,
    settings: &Settings,
) -> Result<Transport, &'static str> {
    if offered.is_empty() {
        return Err(
            "the Transport header offers nothing that this server knows: it has RTP/AVP and RTP/AVP/TCP",
        );
    }
    let possible = |offer: &&Transport| {
        is_possible(offer, role, settings) && taken.is_none_or(|lower| lower == offer.lower)
    };
    let Some(offer) = offered.iter().find(possible) else {
        return Err(
            "only TCP can be used here: choose RTP over TCP in the player (ffmpeg: -rtsp_transport tcp)",
        );
    };
    let mut chosen = offer.clone();
    chosen.is_record = role == Role::Record;
    if chosen.lower == Lower::Tcp {
        chosen.interleaved = match (role, offer.interleaved) {
            (Role::Record, Some(pair)) => Some(pair),
            _ => Some(channels_of(track)),
        };
    }
    Ok(chosen)
}

fn is_possible(offer: &Transport, role: Role, settings: &Settings) -> bool {
    if offer.is_secure {
        return false;
    }
    match offer.lower {
        Lower::Tcp => true,
        Lower::Udp => settings.udp && offer.client_port.is_some(),
        Lower::Multicast => settings.multicast && role == Role::Play,
    }
}

/// The channels of the track at that place, from 0.
pub(crate) fn channels_of(track: usize) -> Pair<u8> {
    let rtp = u8::try_from(track * 2).unwrap_or(u8::MAX - 1);
    Pair { rtp, rtcp: rtp + 1 }
}
