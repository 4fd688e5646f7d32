//! A source of somebody else's, from the outside: the worked example of CONTRIBUTING.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU32;

use bytes::Bytes;
use levada_media::clock::Clock;
use levada_media::source::{Error, Item, Opened, Options, Pending, Request, Source, Sources};
use levada_wire::{Description, Frame, Instant, Track, TrackId, TrackKind};

/// A track of text that says the time each second.
#[derive(Debug)]
struct Ticker {
    seconds: i64,
    clock: Clock,
}

impl Source for Ticker {
    fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>> {
        Box::pin(async {
            self.seconds += 1;
            if self.seconds == 0 {
                return Ok(Some(Item::Description(description())));
            }
            let at = Instant::from_nanos(self.seconds.unsigned_abs() * 1_000_000_000);
            self.clock.wait(at).await;
            Ok(Some(Item::Frame(frame(self.seconds))))
        })
    }
}

fn description() -> Description {
    let track = Track {
        id: TrackId(1),
        kind: TrackKind::Data,
        codec: "text".into(),
        timescale: NonZeroU32::MIN,
        config: Vec::new(),
        language: None,
    };
    Description {
        tracks: vec![track],
    }
}

fn frame(seconds: i64) -> Frame {
    Frame {
        track: TrackId(1),
        sync: true,
        discardable: false,
        dts: seconds - 1,
        pts: seconds - 1,
        data: Bytes::from(format!("{seconds} s")),
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_of_ones_own_plugs_in_by_a_scheme() {
    let sources = Sources::new().with_scheme("ticker", |request| {
        Box::pin(async move {
            if request.text != "ticker://now" {
                let said = format!("`{}`: write `ticker://now`", request.text);
                return Err(Error::Other(said));
            }
            Ok(Opened::One(Box::new(Ticker {
                seconds: -1,
                clock: Clock::start(),
            })))
        })
    });
    let open = |text: &str| {
        sources.open(Request {
            text: text.to_owned(),
            name: "time".parse().unwrap(),
            options: Options::default(),
        })
    };

    let refused = open("ticker://then").await.unwrap_err().to_string();
    let Opened::One(mut source) = open("ticker://now").await.unwrap() else {
        panic!("it is one stream");
    };

    assert_eq!(refused, "`ticker://then`: write `ticker://now`");
    assert_eq!(
        source.next().await.unwrap(),
        Some(Item::Description(description()))
    );
    assert_eq!(source.next().await.unwrap(), Some(Item::Frame(frame(1))));
    assert_eq!(source.next().await.unwrap(), Some(Item::Frame(frame(2))));
}
