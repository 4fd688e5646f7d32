//! The SDP that a player gets (RFC 4566; RFC 6184 and RFC 3640 for the parameters of the formats).
//!
//! Not the reading of what publishers announce. Called by `format`. Invariant: what the codec's configuration cannot
//! say is left out, and the player finds it in the stream.

use base64ct::{Base64, Encoding as _};
use levada::{StreamName, Track, TrackKind};
use levada_media::nal::ParameterSets;
use levada_wire::FlowId;

/// What is said of a track.
#[derive(Debug)]
pub(crate) struct Media<'a> {
    pub(crate) track: &'a Track,
    pub(crate) payload_type: u8,
    pub(crate) sets: Option<&'a ParameterSets>,
    pub(crate) control: String,
}

/// The description of a stream.
pub(crate) fn write(name: &StreamName, flow: FlowId, tracks: &[Media<'_>]) -> String {
    let mut text = format!(
        "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns={name}\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=tool:Levada\r\na=control:*\r\n",
        flow.0 >> 1
    );
    for media in tracks {
        text.push_str(&media.write());
    }
    text
}

impl Media<'_> {
    fn write(&self) -> String {
        let (track, pt) = (self.track, self.payload_type);
        let kind = match track.kind {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
            _ => "application",
        };
        let (map, parameters) = self.format();
        let parameters = parameters
            .map(|text| format!("a=fmtp:{pt} {text}\r\n"))
            .unwrap_or_default();
        let control = &self.control;
        format!(
            "m={kind} 0 RTP/AVP {pt}\r\na=rtpmap:{pt} {map}\r\n{parameters}a=control:{control}\r\n"
        )
    }

    /// The encoding's name with its clock, and the format's parameters.
    fn format(&self) -> (String, Option<String>) {
        match self.track.codec.as_str() {
            "h264" => ("H264/90000".to_owned(), Some(self.h264())),
            "h265" => ("H265/90000".to_owned(), self.h265()),
            "aac" => self.aac(),
            "opus" => ("opus/48000/2".to_owned(), Some("sprop-stereo=1".to_owned())),
            other => (format!("{other}/90000"), None),
        }
    }

    fn h264(&self) -> String {
        let mut text = "packetization-mode=1".to_owned();
        let sets = self.sets.into_iter().flat_map(ParameterSets::iter);
        let encoded: Vec<_> = sets.map(Base64::encode_string).collect();
        if let Some(&[_, profile, constraints, level, ..]) = self.sets.and_then(ParameterSets::sps)
        {
            text.push_str(&format!(
                ";profile-level-id={profile:02X}{constraints:02X}{level:02X}"
            ));
        }
        if !encoded.is_empty() {
            text.push_str(&format!(";sprop-parameter-sets={}", encoded.join(",")));
        }
        text
    }

    /// RFC 7798 section 7.1.
    fn h265(&self) -> Option<String> {
        let of = |name: &str, kind: u8| {
            let sets: Vec<_> = self
                .sets?
                .of_kind(kind)
                .map(Base64::encode_string)
                .collect();
            (!sets.is_empty()).then(|| format!("sprop-{name}={}", sets.join(",")))
        };
        let parts = [of("vps", 32), of("sps", 33), of("pps", 34)];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(";");
        (!text.is_empty()).then_some(text)
    }

    fn aac(&self) -> (String, Option<String>) {
        let config = &self.track.config;
        let channels = config.get(1).map_or(2, |byte| byte >> 3 & 0x0F);
        let rate = levada_media::aac::AudioConfig::parse(config)
            .map_or(48_000, |config| config.rate().get());
        let hex: String = config.iter().map(|byte| format!("{byte:02X}")).collect();
        (
            format!("MPEG4-GENERIC/{rate}/{channels}"),
            Some(format!(
                "streamtype=5;profile-level-id=1;mode=AAC-hbr;\
                 sizelength=13;indexlength=3;indexdeltalength=3;config={hex}"
            )),
        )
    }
}
