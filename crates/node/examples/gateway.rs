//! A gateway in a hundred lines: `cargo run -p levada --example gateway -- NEIGHBOUR`, then
//! `echo NAME | nc localhost 9000`.
//!
//! ```text
//!   client ── NAME\n ──▶ gateway ── subscribe ──▶ node
//!          ◀── TIME TRACK BYTES\n ─────────────── a line for each frame
//! ```
//!
//! A protocol of its own, which shows what all gateways do: the client's words are bounded and checked, each client has
//! a subscriber, and one that does not read loses its own frames and nobody else's. Run by `tests/examples.rs` too.
//! Invariant: no client waits for another.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use levada::{Delivery, Node, StreamName, SubscribeOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Clients at once.
const CLIENTS_MAX: usize = 100;
/// Bytes of a client's request.
const REQUEST_MAX: u64 = 256;
/// How long a client may take to ask, and to take a line.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves clients for as long as the node runs.
pub(crate) async fn serve(node: Node, listener: TcpListener) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let (client, _) = listener.accept().await?;
        // One client too many is closed; a gateway for people says why.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let node = node.clone();
        tokio::spawn(async move {
            // However a client ends, it is no error of the gateway.
            let _ = play(node, client).await;
            drop(place);
        });
    }
}

async fn play(node: Node, client: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (reading, mut writing) = client.into_split();
    let mut request = String::new();
    let mut reader = BufReader::new(reading.take(REQUEST_MAX));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut request)).await??;
    let name: StreamName = match request.trim().parse() {
        Ok(name) => name,
        Err(why) => {
            writing
                .write_all(format!("error: {why}\n").as_bytes())
                .await?;
            return Ok(());
        }
    };
    let mut subscriber = node.subscribe(name, SubscribeOptions::default()).await?;
    while let Some(delivery) = subscriber.next().await {
        let line = match delivery {
            Delivery::Frame { frame, .. } => {
                format!("{} {} {}\n", frame.dts, frame.track.0, frame.data.len())
            }
            Delivery::State(state) => format!("# {state:?}\n"),
            Delivery::Gap(gap) => format!("# lost {} packets\n", gap.packets),
            Delivery::End => "# end\n".to_owned(),
            _ => continue,
        };
        // A client that takes nothing is let go; meanwhile its subscriber skips, and the node waits for nobody.
        tokio::time::timeout(PATIENCE, writing.write_all(line.as_bytes())).await??;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let any_port = ([0, 0, 0, 0], 0).into();
    let builder = Node::builder().temporary_state().listen(any_port);
    let builder = std::env::args()
        .skip(1)
        .fold(builder, levada::Builder::join);
    let node = builder.start().await?;
    serve(node, TcpListener::bind("127.0.0.1:9000").await?).await?;
    Ok(())
}
