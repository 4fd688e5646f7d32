//! Two tracks of RTP over loopback, as their SDP says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_wire::{Description, FlowId};

use super::*;
use crate::rtp::{Batch, Packer};
use crate::ts::{Demuxer, Event};

static CLIP: &[u8] = include_bytes!("../../../assets/testcard.ts");

fn clip() -> (Description, Vec<Frame>) {
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demuxer.push(CLIP, &mut events);
    let (mut description, mut frames) = (Description::default(), Vec::new());
    for event in events {
        match event {
            Event::Description(tracks) => description = tracks,
            Event::Frame(frame) => frames.push(frame),
            Event::Discontinuity(track) => panic!("{track:?}"),
        }
    }
    (description, frames)
}

/// A port that nobody has.
async fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap().port()
}

/// The SDP of the clip's tracks on these ports.
fn text(description: &Description, ports: &[u16]) -> String {
    let media = description.tracks.iter().zip(ports).map(|(track, port)| {
        let mapping = Packer::new(FlowId(7), track, 96).unwrap().mapping().clone();
        let mut track = track.clone();
        track.timescale = mapping.clock;
        Media {
            track,
            mapping,
            port: *port,
            address: None,
            control: None,
        }
    });
    let session = Session {
        address: Some("127.0.0.1".to_owned()),
        media: media.collect(),
        ..Session::default()
    };
    session.write()
}

#[tokio::test]
async fn rtp_is_received_on_the_ports_of_the_sdp() {
    let (description, frames) = clip();
    let ports = [free_port().await, free_port().await];
    let text = text(&description, &ports);
    let mut source = open(Path::new("cam.sdp"), text.as_bytes()).await.unwrap();
    let mut packers: Vec<_> = description
        .tracks
        .iter()
        .map(|track| Packer::new(FlowId(7), track, 96).unwrap())
        .collect();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let send = tokio::spawn(async move {
        for frame in frames.iter().cycle() {
            let at = usize::from(frame.track != description.tracks[0].id);
            let mut batch = Batch::new();
            packers[at].pack(frame, &mut batch).unwrap();
            for packet in batch.packets() {
                socket
                    .send_to(packet, ("127.0.0.1", ports[at]))
                    .await
                    .unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });

    let Some(Item::Description(tracks)) = source.next().await.unwrap() else {
        panic!("the tracks are known at once");
    };
    let mut seen = [0; 2];
    while seen.iter().any(|count| *count < 3) {
        match source.next().await.unwrap() {
            Some(Item::Frame(frame)) => {
                let at = tracks
                    .tracks
                    .iter()
                    .position(|track| track.id == frame.track);
                seen[at.unwrap()] += 1;
                assert!(frame.dts >= 0);
            }
            other => panic!("{other:?}"),
        }
    }

    send.abort();
    let codecs: Vec<_> = tracks.tracks.iter().map(|track| &*track.codec).collect();
    assert_eq!(codecs, ["h264", "aac"]);
}

#[tokio::test]
async fn an_sdp_that_cannot_be_received_by_is_refused_with_the_reason() {
    let (description, _) = clip();
    let no_port = text(&description, &[0, 0]);
    let encrypted = "v=0\r\nm=video 5004 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n";

    for (text, parts) in [
        (no_port.as_str(), ["h264", "URL of the RTSP server"]),
        (encrypted, ["cam.sdp", "cam.sdp"]),
    ] {
        let error = open(Path::new("cam.sdp"), text.as_bytes())
            .await
            .unwrap_err();

        let said = error.to_string();
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        if let Some(cause) = std::error::Error::source(&error) {
            assert!(cause.to_string().contains("not plain RTP"), "{cause}");
        }
    }
}
