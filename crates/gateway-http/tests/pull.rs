//! Streams that are pulled by HLS: from a node, and from a server that answers what a test tells it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use common::{House, until};
use levada::{Description, Frame, WallTime};
use levada_gateway_http::pull::{Choice, Pulls, Spec, open};
use levada_media::TestCard;
use levada_media::source::{Item, Opened, Options, Request, Source};
use levada_media::ts::Muxer;

fn request(url: &str) -> Request {
    Request {
        text: url.to_owned(),
        name: "pulled".parse().unwrap(),
        options: Options::default(),
    }
}

async fn source(url: &str, choice: Choice) -> Result<Box<dyn Source>, String> {
    match open(request(url), choice).await {
        Ok(Opened::One(source)) => Ok(source),
        Ok(Opened::Folder(_)) => panic!("it is one stream"),
        Err(error) => Err(error.to_string()),
    }
}

/// The tracks, and so many pictures.
async fn pictures(source: &mut dyn Source, count: usize) -> (Description, Vec<Frame>) {
    let Some(Item::Description(description)) = source.next().await.unwrap() else {
        panic!("a source begins with its tracks");
    };
    let leading = description.leading().unwrap().id;
    let mut frames = Vec::new();
    while frames.len() < count {
        match source.next().await.unwrap() {
            Some(Item::Frame(frame)) if frame.track == leading => frames.push(frame),
            Some(_) => {}
            None => break,
        }
    }
    (description, frames)
}

/// A server with files, which counts how often it was asked for each.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<String, (Bytes, usize)>>>);

impl Files {
    fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        let mut files = self.0.lock().unwrap();
        let asked = files.get(path).map_or(0, |file| file.1);
        files.insert(path.to_owned(), (bytes.into(), asked));
    }

    fn asked(&self, path: &str) -> usize {
        self.0.lock().unwrap().get(path).map_or(0, |file| file.1)
    }

    async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |State(files): State<Self>, uri: Uri| async move {
            if uri.path() == "/circle.m3u8" {
                return Err((StatusCode::FOUND, [("Location", "circle.m3u8")]));
            }
            let mut files = files.0.lock().unwrap();
            match files.get_mut(uri.path()) {
                Some((bytes, asked)) => {
                    *asked += 1;
                    Ok(bytes.clone())
                }
                None => Err((StatusCode::NOT_FOUND, [("Location", "")])),
            }
        };
        let router = Router::new().fallback(answer).with_state(self.clone());
        let kit = levada_gateway::Kit::default();
        tokio::spawn(levada_gateway_http::serve::serve(
            listener,
            router,
            kit.gate().clone(),
        ));
        address
    }
}

/// Segments of MPEG-TS of a second each, of the test card from its beginning.
fn segments(count: usize) -> Vec<Vec<u8>> {
    let mut card = TestCard::new();
    let mut muxer = Muxer::for_players(card.description());
    let leading = card.description().leading().unwrap().id;
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let frame = card.next_frame(WallTime(0));
        if frame.track == leading && frame.sync {
            if all.len() == count {
                return all;
            }
            all.push(Vec::new());
        }
        if let Some(segment) = all.last_mut() {
            muxer.push(&frame, segment).unwrap();
        }
    }
}

fn listed(count: usize, more: impl Fn(usize) -> &'static str) -> String {
    let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n".to_owned();
    for at in 0..count {
        list.push_str(&format!("{}#EXTINF:1.0,\n{at}.ts\n", more(at)));
    }
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_shows_by_hls_is_what_another_network_pulls() {
    let house = House::new().await;
    house.show_card("card").await;
    house.learns("card").await;

    let mut source = source(&house.url("/live/card/index.m3u8"), Choice::Best)
        .await
        .unwrap();
    let (description, frames) = pictures(&mut *source, 60).await;

    let codecs: Vec<_> = description
        .tracks
        .iter()
        .map(|track| &*track.codec)
        .collect();
    assert_eq!(codecs, ["h264", "aac"]);
    assert!(frames[0].sync);
    // Neither lost nor doubled: times go on in equal steps.
    let steps: Vec<_> = frames
        .windows(2)
        .map(|pair| pair[1].dts - pair[0].dts)
        .collect();
    let (least, most) = (steps.iter().min().unwrap(), steps.iter().max().unwrap());
    assert!(most - least <= 1, "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_plays_over_jumps_gaps_and_holes_to_its_end() {
    let files = Files::default();
    let address = files.serve().await;
    // The fourth is the first again, the fifth is a gap, the sixth is listed and not there.
    let list = listed(6, |at| match at {
        3 => "#EXT-X-DISCONTINUITY\n",
        4 => "#EXT-X-GAP\n",
        _ => "",
    });
    let all = segments(3);
    for (at, segment) in all.iter().chain(&all[..1]).enumerate() {
        files.put(&format!("/{at}.ts"), segment.clone());
    }
    files.put("/vod.m3u8", format!("{list}#EXT-X-ENDLIST\n"));

    let mut source = source(&format!("http://{address}/vod.m3u8"), Choice::Best)
        .await
        .unwrap();
    let (_, frames) = pictures(&mut *source, 1_000).await;

    let segment = frames.iter().skip(1).position(|frame| frame.sync).unwrap() + 1;
    // The last picture of what goes on nowhere may not be known to be whole.
    let expected = segment * 4;
    assert!(
        frames.len() + 2 >= expected && frames.len() <= expected,
        "{} of {expected}",
        frames.len()
    );
    assert!(
        frames.windows(2).all(|pair| pair[1].dts > pair[0].dts),
        "times never fall"
    );
    assert_eq!((files.asked("/0.ts"), files.asked("/4.ts")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_variants_one_is_taken_and_what_cannot_be_is_said() {
    let files = Files::default();
    let address = files.serve().await;
    let base = format!("http://{address}");
    let variants = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=640x360\nlow/i.m3u8\n\
                    #EXT-X-STREAM-INF:BANDWIDTH=2,RESOLUTION=1280x720\nhigh/i.m3u8\n";
    files.put("/i.m3u8", variants);
    for (folder, segment) in [("low", &segments(2)[0]), ("high", &segments(2)[1])] {
        files.put(
            &format!("/{folder}/i.m3u8"),
            format!("{}#EXT-X-ENDLIST\n", listed(1, |_| "")),
        );
        files.put(&format!("/{folder}/0.ts"), segment.clone());
    }
    files.put(
        "/secret.m3u8",
        listed(1, |_| "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n"),
    );
    files.put("/page.m3u8", "<html></html>");
    files.put(
        "/text.m3u8",
        format!(
            "{}#EXT-X-ENDLIST\n",
            listed(1, |_| "").replace("0.ts", "page.m3u8")
        ),
    );

    files.put("/large.m3u8", listed(1, |_| ""));
    files.put("/0.ts", vec![0; (64 << 20) + 1]);

    for (choice, folder) in [
        (Choice::Best, "high"),
        (Choice::Place(1), "low"),
        (Choice::Height(480), "low"),
    ] {
        let before = files.asked(&format!("/{folder}/0.ts"));
        source(&format!("{base}/i.m3u8"), choice.clone())
            .await
            .unwrap();
        assert_eq!(
            files.asked(&format!("/{folder}/0.ts")),
            before + 1,
            "{choice:?}"
        );
    }
    for (path, choice, said) in [
        ("i.m3u8", Choice::Place(3), "1 (360p), 2 (720p)"),
        ("i.m3u8", Choice::Height(240), "240p or lower"),
        ("secret.m3u8", Choice::Best, "encrypted"),
        ("page.m3u8", Choice::Best, "#EXTM3U"),
        ("text.m3u8", Choice::Best, "neither MPEG-TS nor"),
        ("nothing.m3u8", Choice::Best, "404"),
        ("circle.m3u8", Choice::Best, "more than 5 times"),
        ("large.m3u8", Choice::Best, "more than 67108864 bytes"),
    ] {
        let error = source(&format!("{base}/{path}"), choice).await.unwrap_err();
        assert!(error.contains(said), "{path}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_offered_at_once_and_fetched_when_somebody_wants_it() {
    let files = Files::default();
    let address = files.serve().await;
    files.put("/live.m3u8", listed(3, |_| ""));
    for (at, segment) in segments(3).iter().enumerate() {
        files.put(&format!("/{at}.ts"), segment.clone());
    }
    let house = House::new().await;
    let pulls = Pulls::new(house.node.clone());
    let spec = Spec::new(&format!("http://{address}/live.m3u8")).unwrap();

    pulls.set(BTreeMap::from([("pulled".parse().unwrap(), spec.clone())]));
    house.learns("pulled").await;
    assert_eq!(files.asked("/live.m3u8"), 0, "nobody wants it");
    let (_player, head) = house.open("/live/pulled.ts").await;

    assert!(head.contains("200"), "{head}");
    assert!(files.asked("/0.ts") >= 1);
    assert_eq!(
        pulls.set(BTreeMap::from([("pulled".parse().unwrap(), spec)])),
        0
    );
    assert_eq!(pulls.set(BTreeMap::new()), 1);
    until("the stream to be taken back", || {
        house
            .rows()
            .iter()
            .any(|row| row.ended.is_some())
            .then_some(())
    })
    .await;
}
