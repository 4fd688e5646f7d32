//! Reads a stream: `cargo run -p levada --example subscribe -- NAME NEIGHBOUR`.
//!
//! Invariant: whatever comes between frames is told, not skipped.

use std::error::Error;
use std::io::Write;

use levada::{Delivery, Node, SubscribeOptions};

// ANCHOR: body
/// Writes each frame of a stream as a line, until the stream ends or `most` came.
pub(crate) async fn run(
    node: &Node,
    name: &str,
    most: usize,
    to: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let mut subscriber = node
        .subscribe(name.parse()?, SubscribeOptions::default())
        .await?;
    let mut frames = 0;
    while let Some(delivery) = subscriber.next().await {
        match delivery {
            Delivery::Description(description) => {
                let codecs = description.tracks.iter().map(|track| &*track.codec);
                writeln!(to, "tracks: {}", codecs.collect::<Vec<_>>().join(", "))?;
            }
            Delivery::Frame { frame, .. } => {
                writeln!(to, "{} {}", frame.dts, String::from_utf8_lossy(&frame.data))?;
                frames += 1;
            }
            Delivery::Gap(gap) => writeln!(to, "lost: {} packets", gap.packets)?,
            Delivery::End => break,
            // Why nothing comes at the moment; and a new start of the origin.
            other => writeln!(to, "{other:?}")?,
        }
        if frames == most {
            break;
        }
    }
    Ok(())
}
// ANCHOR_END: body

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("which name? `subscribe NAME NEIGHBOUR`")?;
    let any_port = ([0, 0, 0, 0], 0).into();
    let builder = Node::builder().temporary_state().listen(any_port);
    let builder = arguments.fold(builder, levada::Builder::join);
    let node = builder.start().await?;
    run(&node, &name, usize::MAX, &mut std::io::stdout()).await
}
