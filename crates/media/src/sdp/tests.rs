//! Tests of the SDP: texts of the programs and cameras there are, and our own both ways.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::num::{NonZeroU8, NonZeroU32};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::nal::{Codec, ParameterSets};
use crate::opus;
use crate::rtp::{AacSizes, Encoding};

/// ffmpeg 5, `-f rtp`.
const FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    a=tool:libavformat 59.27.100\r\n\
    m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; \
    sprop-parameter-sets=Z2QAC6zZQoR+XARAAAADAEAAAAyDxQplgA==,aOvjyyLA; profile-level-id=64000B\r\n\
    m=audio 5006 RTP/AVP 97\r\nb=AS:128\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\n\
    a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=119056E500\r\n";

/// A camera: lines that break the rules, names in other cases, a track of metadata.
const CAMERA: &str = "v=0\no=- 1001 x IN IP4 192.168.1.64 extra\ns=Caf\u{e9}\ne=NONE\nb=AS:5050\nt=0 0\na=control:rtsp://192.168.1.64/101/\n\
    nonsense\nm=video 0 RTP/AVP 96\na=RTPMAP:96 h265/90000\n\
    a=fmtp:96 sprop-vps=QAEMAf//AWAAAAMAkAAAAwAAAwAeugJA; \
    sprop-sps=QgEBAWAAAAMAkAAAAwAAAwAeoBQgeWWVkkkyvAWgIAAAAwAgAAADAyE=\na=Control:trackID=1\n\
    m=audio 0 RTP/AVP 0\na=control:trackID=2\n\
    m=application 0 RTP/AVP 107\na=rtpmap:107 vnd.onvif.metadata/90000\na=control:trackID=3\n\
    m=video 0 RTP/SAVP 98\nm=video 0 RTP/AVP 99\nm=audio x\n";

fn tracks(session: &Session) -> Vec<(&str, u32)> {
    let tracks = session.media.iter().map(|media| &media.track);
    tracks
        .map(|track| (track.codec.as_str(), track.timescale.get()))
        .collect()
}

#[test]
fn what_ffmpeg_writes_is_read() {
    let session = Session::parse(FFMPEG.as_bytes()).unwrap();

    assert_eq!(tracks(&session), [("h264", 90_000), ("aac", 48_000)]);
    assert_eq!(session.address.as_deref(), Some("127.0.0.1"));
    assert_eq!(session.media[1].track.config, [0x11, 0x90, 0x56, 0xE5, 0]);
    assert_eq!(
        session.media[1].mapping.encoding,
        Encoding::Aac(AacSizes::HIGH)
    );
    let Encoding::Nal { parameter_sets, .. } = &session.media[0].mapping.encoding else {
        panic!("not H.264");
    };
    assert!(parameter_sets.starts_with(&[0, 0, 0, 1, 0x67, 0x64]));
    assert_eq!(session.media[1].port, 5_006);
    assert_eq!(session.description().check(), Ok(()));
}

#[test]
fn what_a_camera_writes_is_read_and_the_rest_is_named() {
    let mut bytes = CAMERA.as_bytes().to_vec();
    // In Latin-1, as it would come.
    let at = bytes
        .windows(2)
        .position(|pair| pair == "\u{e9}".as_bytes())
        .unwrap();
    bytes.splice(at..at + 2, [0xE9]);

    let session = Session::parse(&bytes).unwrap();

    let expected = [
        ("h265", 90_000),
        ("pcmu", 8_000),
        ("rtp-vnd.onvif.metadata", 90_000),
    ];
    assert_eq!(tracks(&session), expected);
    let controls: Vec<_> = session
        .media
        .iter()
        .map(|media| media.control.as_deref())
        .collect();
    assert_eq!(
        controls,
        [Some("trackID=1"), Some("trackID=2"), Some("trackID=3")]
    );
    let reasons: Vec<_> = session
        .omitted
        .iter()
        .map(|omission| omission.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            OmissionReason::Transport,
            OmissionReason::Unexplained,
            OmissionReason::Form
        ]
    );
}

#[test]
fn the_leading_track_comes_first() {
    let text = "v=0\nm=audio 0 RTP/AVP 0\nm=video 0 RTP/AVP 26\n";

    let description = Session::parse(text.as_bytes()).unwrap().description();

    let words: Vec<_> = description
        .tracks
        .iter()
        .map(|track| (&*track.codec, track.id.0))
        .collect();
    assert_eq!(words, [("mjpeg", 2), ("pcmu", 1)]);
}

#[test]
fn of_several_payload_types_the_first_known_one_is_taken() {
    let text =
        "v=0\nm=audio 9 RTP/AVPF 111 0\na=rtpmap:111 MP4A-LATM/90000\na=fmtp:111 cpresent=1\n";

    assert_eq!(
        tracks(&Session::parse(text.as_bytes()).unwrap()),
        [("pcmu", 8_000)]
    );
}

#[test]
fn latm_with_its_configuration_apart_is_aac() {
    // ffmpeg, `-rtpflags latm`, 48 kHz stereo.
    let text = "v=0\nm=audio 9 RTP/AVP 96\na=rtpmap:96 MP4A-LATM/48000/2\na=fmtp:96 \
        profile-level-id=24;cpresent=0;config=400023203fc0\n";

    let session = Session::parse(text.as_bytes()).unwrap();

    assert_eq!(session.media[0].track.config, [0x11, 0x90]);
    assert_eq!(session.media[0].mapping.encoding, Encoding::Latm);
}

#[test]
fn modes_that_are_not_read_are_left_out() {
    let reason = |lines: &str| {
        let text = format!("v=0\nm=video 9 RTP/AVP 96\na=rtpmap:96 {lines}\n");
        match Session::parse(text.as_bytes()) {
            Err(SdpError::NoTracks(omitted)) => omitted[0].reason,
            other => panic!("{other:?}"),
        }
    };

    for lines in [
        "H264/90000\na=fmtp:96 packetization-mode=2",
        "H265/90000\na=fmtp:96 sprop-max-don-diff=1",
        "MPEG4-GENERIC/48000\na=fmtp:96 mode=CELP-cbr",
        "MPEG4-GENERIC/48000\na=fmtp:96 sizelength=0",
        "MPEG4-GENERIC/48000\na=fmtp:96 sizelength=33",
        "MPEG4-GENERIC/48000\na=fmtp:96 ctsdeltalength=5",
        "MP4A-LATM/48000\na=fmtp:96 cpresent=0;config=zz",
        &format!("X/90000\na=fmtp:96 {}", "y".repeat(4_097)),
    ] {
        assert_eq!(reason(lines), OmissionReason::Mode, "{lines}");
    }
    assert_eq!(reason(&"Z".repeat(29)), OmissionReason::Unexplained);
}

#[test]
fn limits_are_named() {
    let many = format!("v=0\n{}", "m=audio 0 RTP/AVP 0\n".repeat(TRACKS_MAX + 1));
    let session = Session::parse(many.as_bytes()).unwrap();
    assert_eq!(session.media.len(), TRACKS_MAX);
    assert_eq!(session.omitted[0].reason, OmissionReason::TooMany);

    let long = format!("v=0\n{}", "x".repeat(SDP_BYTES_MAX));
    let bytes = long.len();
    assert_eq!(
        Session::parse(long.as_bytes()),
        Err(SdpError::Length { bytes })
    );
    assert_eq!(Session::parse(b"<html>"), Err(SdpError::Version));
    let error = Session::parse(b"v=0\nm=audio 0 RTP/SAVP 0\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the SDP has no track that can be carried; audio 0 RTP/SAVP 0: its transport is not plain RTP"
    );
}

fn media() -> impl Strategy<Value = (TrackKind, &'static str, Vec<u8>, u32, Encoding)> {
    let sets = |codec, nals: &[&[u8]]| Encoding::Nal {
        codec,
        parameter_sets: ParameterSets::from_nals(codec, nals.iter().copied()).to_annex_b(),
    };
    let (video, audio) = (TrackKind::Video, TrackKind::Audio);
    let h264: [&[u8]; 2] = [&[0x67, 0x64, 0, 0x1F, 9], &[0x68, 7, 7]];
    let h265: [&[u8]; 3] = [&[0x40, 1, 9], &[0x42, 1, 9], &[0x44, 1, 9]];
    let plain = |codec| Encoding::Nal {
        codec,
        parameter_sets: Bytes::new(),
    };
    let g711 = |channels| Encoding::G711 {
        channels: NonZeroU8::new(channels).unwrap(),
    };
    prop::sample::select(vec![
        (video, "h264", vec![], 90_000, sets(Codec::H264, &h264)),
        (video, "h264", vec![], 90_000, plain(Codec::H264)),
        (video, "h265", vec![], 90_000, sets(Codec::H265, &h265)),
        (video, "h265", vec![], 90_000, plain(Codec::H265)),
        (video, "av1", vec![], 90_000, Encoding::Av1),
        (video, "vp8", vec![], 90_000, Encoding::Vp8),
        (video, "vp9", vec![], 90_000, Encoding::Vp9),
        (video, "mjpeg", vec![], 90_000, Encoding::Jpeg),
        (
            audio,
            "aac",
            vec![0x11, 0x90],
            48_000,
            Encoding::Aac(AacSizes::HIGH),
        ),
        (
            audio,
            "aac",
            vec![0x11, 0x88],
            48_000,
            Encoding::Aac(AacSizes::LOW),
        ),
        (audio, "aac", vec![0x11, 0x90], 48_000, Encoding::Latm),
        (audio, "opus", opus::head(1), 48_000, Encoding::Opus),
        (audio, "opus", opus::head(2), 48_000, Encoding::Opus),
        (audio, "pcma", vec![], 8_000, g711(1)),
        (audio, "pcmu", vec![2], 16_000, g711(2)),
        (audio, "mp3", vec![], 90_000, Encoding::MpegAudio),
        (TrackKind::Data, "mpegts", vec![], 90_000, Encoding::MpegTs),
        (
            audio,
            "rtp-l16",
            b"L16/44100/2\n".to_vec(),
            44_100,
            Encoding::Opaque,
        ),
        (
            TrackKind::Data,
            "rtp-smpte336m",
            b"smpte336m/90000\na=1; b=2".to_vec(),
            90_000,
            Encoding::Opaque,
        ),
    ])
}

proptest! {
    #[test]
    fn a_session_survives_its_text(
        id: u64, name in "[a-z/]{1,9}", address in prop::option::of(prop::sample::select(vec!["239.1.2.3/16", "::1"])),
        media in prop::collection::vec((media(), 0_u8..128, any::<u16>(), prop::option::of("[a-z]{1,5}")), 1..6),
    ) {
        let address = address.map(str::to_owned);
        let make = |(at, ((kind, codec, config, clock, encoding), payload_type, port, control)): (u8, _)| {
            let clock = NonZeroU32::new(clock).unwrap();
            let language = (at == 2).then(|| "deu".to_owned());
            let codec = str::to_owned(codec);
            let track = Track { id: TrackId(at), kind, codec, timescale: clock, config, language };
            let mapping = Mapping { payload_type, clock, encoding };
            Media { track, mapping, port, address: (at == 3).then(|| "10.0.0.1".to_owned()), control }
        };
        let media = (1..).zip(media).map(make).collect();
        let session = Session { id, name, address, control: Some("*".into()), media, omitted: vec![] };

        let text = session.write();

        prop_assert_eq!(Session::parse(text.as_bytes()), Ok(session));
    }

    #[test]
    fn any_text_is_read_without_panic(
        lines in prop::collection::vec("[acmos]=[ -~]{0,40}", 0..20),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let text = ["v=0", &lines.join("\n")].join("\n");
        let bytes = [text.as_bytes(), &tail].concat();
        if let Ok(session) = Session::parse(&bytes) {
            prop_assert_eq!(session.description().check(), Ok(()));
        }
    }
}
