//! Publishes a stream of text: `cargo run -p levada --example publish -- NAME [NEIGHBOUR]`.
//!
//! Invariant: frames have times that grow, and each begins a group.

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use levada::{Description, Frame, Node, PublishOptions, Track, TrackId, TrackKind};

// ANCHOR: body
/// Ticks of the track in a second.
const TIMESCALE: u32 = 1_000;

/// One track of text.
fn description() -> Description {
    let track = Track {
        id: TrackId(1),
        kind: TrackKind::Data,
        codec: "text".into(),
        timescale: NonZeroU32::new(TIMESCALE).expect("it is not zero"),
        config: Vec::new(),
        language: Some("en".into()),
    };
    Description {
        tracks: vec![track],
    }
}

/// Says `lines` lines, one in `pause`.
pub(crate) async fn run(
    node: &Node,
    name: &str,
    lines: i64,
    pause: Duration,
) -> Result<(), Box<dyn Error>> {
    let mut publisher = node
        .publish(name.parse()?, description(), PublishOptions::default())
        .await?;
    for line in 0..lines {
        let time = line * i64::try_from(pause.as_millis())?;
        publisher
            .send(Frame {
                track: TrackId(1),
                sync: true,
                discardable: false,
                dts: time,
                pts: time,
                data: format!("line {line}").into(),
            })
            .await?;
        tokio::time::sleep(pause).await;
    }
    publisher.finish().await?;
    Ok(())
}
// ANCHOR_END: body

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("which name? `publish NAME [NEIGHBOUR]`")?;
    let builder = Node::builder().temporary_state();
    let builder = arguments.fold(builder, levada::Builder::join);
    let node = builder.start().await?;
    run(&node, &name, i64::MAX, Duration::from_secs(1)).await
}
