//! SDP (RFC 8866): tracks and how they travel in RTP, as text, both ways.
//!
//! The reader takes what cameras and players write: only lines that are needed are looked at (`c`, `m`, `a`, the
//! name), in any order, with any line ends; what cannot be carried is named and left out. Lines that a strict parser
//! would refuse a whole text for, an `o=` without numbers say, are passed over, which is why no such parser is used.
//! `format` knows what `rtpmap` and `fmtp` mean for each codec, `text` the writing of bytes. Not RTSP. Called by
//! gateways and sources. Invariant: what is written reads back as the same.

mod format;
mod text;

use std::fmt::Write as _;

use levada_wire::frame::TRACKS_MAX;
use levada_wire::{Description, Track, TrackId, TrackKind};

use crate::rtp::Mapping;
use format::Format;

/// The longest text that is read.
pub const SDP_BYTES_MAX: usize = 64 << 10;

/// What an SDP describes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Names the session among those of its origin; the flow's id serves.
    pub id: u64,
    /// The name people see; one line.
    pub name: String,
    /// Where media go, unless one says otherwise; a multicast address may have `/TTL`.
    pub address: Option<String>,
    /// What RTSP calls the whole of it.
    pub control: Option<String>,
    /// What can be carried.
    pub media: Vec<Media>,
    /// What cannot, and why. Not written.
    pub omitted: Vec<Omission>,
}

/// One track of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Its times count RTP ticks.
    pub track: Track,
    /// The payload type, the clock and the encoding.
    pub mapping: Mapping,
    /// Of RTP; 0 if it is not decided here, as in RTSP.
    pub port: u16,
    /// Where it goes, if not where the session says.
    pub address: Option<String>,
    /// What RTSP calls it.
    pub control: Option<String>,
}

/// A media line that is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {reason}")]
pub struct Omission {
    /// The line behind `m=`.
    pub line: String,
    /// Why it is left out.
    pub reason: OmissionReason,
}

/// Why a media line is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OmissionReason {
    /// It is not `media port protocol format`.
    #[error("the line cannot be read")]
    Form,
    /// Not RTP, or RTP that is encrypted.
    #[error("its transport is not plain RTP")]
    Transport,
    /// A dynamic payload type that no `rtpmap` explains.
    #[error("no rtpmap says what its payload type is")]
    Unexplained,
    /// A way of the payload format that is not read.
    #[error("it uses a mode of its payload format that is not supported")]
    Mode,
    /// More tracks than a stream may have.
    #[error("a stream has at most {TRACKS_MAX} tracks")]
    TooMany,
}

/// Why a text is no SDP of any use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Longer than [`SDP_BYTES_MAX`].
    #[error("the SDP has {bytes} bytes, more than {SDP_BYTES_MAX}")]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// It does not begin with `v=0`.
    #[error("this is no SDP: it does not begin with v=0")]
    Version,
    /// No track that can be carried.
    #[error("the SDP has no track that can be carried{}", Listed(.0))]
    NoTracks(Vec<Omission>),
}

/// Lists what was left out.
struct Listed<'a>(&'a [Omission]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|omission| write!(f, "; {omission}"))
    }
}

/// What is said of one `m=` line.
#[derive(Default)]
struct Section<'a> {
    line: &'a str,
    address: Option<&'a str>,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Section<'a> {
    /// The first attribute of that name, in any case.
    fn attribute(&self, wanted: &str) -> Option<&'a str> {
        self.attributes
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| *value)
    }

    /// What `rtpmap` or `fmtp` says of a payload type.
    fn of_type(&self, wanted: &str, payload_type: u8) -> Option<&'a str> {
        self.attributes
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .filter_map(|(_, value)| value.trim_start().split_once([' ', '\t']))
            .find(|(number, _)| number.parse() == Ok(payload_type))
            .map(|(_, rest)| rest.trim())
    }
}

impl Session {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// It is too long, no SDP, or has no track that can be carried.
    pub fn parse(text: &[u8]) -> Result<Self, SdpError> {
        if text.len() > SDP_BYTES_MAX {
            let bytes = text.len();
            return Err(SdpError::Length { bytes });
        }
        // A name in Latin-1 must not cost the rest.
        let text = String::from_utf8_lossy(text);
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(SdpError::Version);
        }
        let (mut session, mut sections) = (Self::default(), vec![Section::default()]);
        for line in lines {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let section = sections.last_mut().expect("there is the session's own");
            match key {
                "m" => sections.push(Section {
                    line: value,
                    ..Section::default()
                }),
                "c" => section.address = value.split_whitespace().nth(2),
                "a" => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    section.attributes.push((name.trim(), value.trim()));
                }
                "s" => session.name = value.trim().into(),
                "o" => session.id = text::origin_id(value),
                _ => {}
            }
        }
        session.take(&sections)?;
        Ok(session)
    }

    fn take(&mut self, sections: &[Section<'_>]) -> Result<(), SdpError> {
        let (own, media) = sections.split_first().expect("there is the session's own");
        self.address = own.address.map(Into::into);
        self.control = own.attribute("control").map(Into::into);
        for section in media {
            match read_media(section, self.media.len()) {
                Ok(media) => self.media.push(media),
                Err(reason) => self.omitted.push(Omission {
                    line: section.line.into(),
                    reason,
                }),
            }
        }
        if self.media.is_empty() {
            return Err(SdpError::NoTracks(std::mem::take(&mut self.omitted)));
        }
        Ok(())
    }

    /// The tracks, the leading one first: video, else audio.
    #[must_use]
    pub fn description(&self) -> Description {
        let mut tracks: Vec<Track> = self.media.iter().map(|media| media.track.clone()).collect();
        let first = |kind| self.media.iter().position(|media| media.track.kind == kind);
        if let Some(at) = first(TrackKind::Video).or_else(|| first(TrackKind::Audio)) {
            tracks[..=at].rotate_right(1);
        }
        Description { tracks }
    }

    /// Writes the text.
    #[must_use]
    pub fn write(&self) -> String {
        let mut out = String::new();
        // A line end in a name would begin a line of its own.
        let name: String = self.name.chars().filter(|c| !c.is_control()).collect();
        let name = if name.is_empty() { "-" } else { &name };
        let id = self.id;
        let written = write!(
            out,
            "v=0\r\no=- {id} 1 IN IP4 127.0.0.1\r\ns={name}\r\n{}t=0 0\r\n",
            text::connection(self.address.as_deref())
        );
        written.expect("writing to memory does not fail");
        put_attribute(&mut out, "control", self.control.as_deref());
        for media in &self.media {
            media.put(&mut out);
        }
        out
    }
}

impl Media {
    fn put(&self, out: &mut String) {
        let kind = match self.track.kind {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
            _ => "application",
        };
        // A transport stream is video to everybody (RFC 3551 5).
        let is_ts = self.track.codec == "mpegts";
        let kind = if is_ts { "video" } else { kind };
        let (port, payload_type) = (self.port, self.mapping.payload_type);
        let written = write!(
            out,
            "m={kind} {port} RTP/AVP {payload_type}\r\n{}",
            text::connection(self.address.as_deref())
        );
        written.expect("writing to memory does not fail");
        let format = Format::write(&self.track, &self.mapping);
        let of_type = |value: String| format!("{payload_type} {value}");
        put_attribute(out, "rtpmap", Some(&of_type(format.map)));
        put_attribute(out, "fmtp", format.parameters.map(of_type).as_deref());
        put_attribute(out, "lang", self.track.language.as_deref());
        put_attribute(out, "control", self.control.as_deref());
    }
}

fn put_attribute(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        write!(out, "a={name}:{value}\r\n").expect("writing to memory does not fail");
    }
}

fn read_media(section: &Section<'_>, before: usize) -> Result<Media, OmissionReason> {
    let mut words = section.line.split_whitespace();
    let (Some(kind), Some(port), Some(transport)) = (words.next(), words.next(), words.next())
    else {
        return Err(OmissionReason::Form);
    };
    let port = port.split('/').next().unwrap_or_default();
    let port = port.parse().map_err(|_| OmissionReason::Form)?;
    // `RTP/AVP/TCP` and `RTP/AVPF` are the same to us; `RTP/SAVP` is encrypted, and so is DTLS.
    let transport = transport.to_ascii_uppercase();
    if !transport.starts_with("RTP/AVP") {
        return Err(OmissionReason::Transport);
    }
    if before >= TRACKS_MAX {
        return Err(OmissionReason::TooMany);
    }
    let kind = match kind.to_ascii_lowercase().as_str() {
        "video" => TrackKind::Video,
        "audio" => TrackKind::Audio,
        _ => TrackKind::Data,
    };
    let id = u8::try_from(before + 1).map_err(|_| OmissionReason::TooMany)?;
    // Of several formats the first one that can be carried.
    let mut result = Err(OmissionReason::Form);
    for payload_type in words.filter_map(|word| word.parse::<u8>().ok().filter(|n| *n < 128)) {
        let map = section.of_type("rtpmap", payload_type);
        let parameters = section.of_type("fmtp", payload_type).unwrap_or_default();
        match format::read(kind, payload_type, map, parameters) {
            Ok((codec, mapping)) => {
                result = Ok((codec, mapping));
                break;
            }
            Err(reason) if result == Err(OmissionReason::Form) => result = Err(reason),
            Err(_) => {}
        }
    }
    let (codec, mapping) = result?;
    let language = section.attribute("lang").filter(|code| !code.is_empty());
    Ok(Media {
        track: Track {
            id: TrackId(id),
            kind: codec.kind,
            codec: codec.word,
            timescale: mapping.clock,
            config: codec.config,
            language: language.map(|code| code.chars().take(16).collect()),
        },
        mapping,
        port,
        address: section.address.map(Into::into),
        control: section.attribute("control").map(Into::into),
    })
}

#[cfg(test)]
mod tests;
