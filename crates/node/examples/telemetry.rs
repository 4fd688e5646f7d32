//! What sensors measure, as streams: `cargo run -p levada --example telemetry`.
//!
//! Ten sensors publish a value each, of four bytes; whoever is interested subscribes to those it wants, and nobody
//! else's values travel. Invariant: a sensor that nobody reads sends nothing.

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use levada::{
    Delivery, Description, Frame, Node, PublishOptions, Publisher, SubscribeOptions, Track,
    TrackId, TrackKind,
};

/// How many sensors there are.
pub(crate) const SENSORS: usize = 10;

fn description() -> Description {
    let track = Track {
        id: TrackId(1),
        kind: TrackKind::Data,
        codec: "celsius-f32".into(),
        timescale: NonZeroU32::new(1_000).expect("it is not zero"),
        config: Vec::new(),
        language: None,
    };
    Description {
        tracks: vec![track],
    }
}

/// Measures every `pause`, for ever.
pub(crate) async fn measure(
    node: Node,
    pause: Duration,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut sensors: Vec<Publisher> = Vec::new();
    for number in 0..SENSORS {
        let name = format!("sensors/{number}").parse()?;
        let options = PublishOptions::default().with_flush_interval(Duration::ZERO);
        sensors.push(node.publish(name, description(), options).await?);
    }
    for at in 0.. {
        for (number, sensor) in sensors.iter_mut().enumerate() {
            let celsius = 20.0 + number as f32 + (at as f32 / 10.0).sin();
            let time = at * i64::try_from(pause.as_millis())?;
            let frame = Frame {
                track: TrackId(1),
                sync: true,
                discardable: false,
                dts: time,
                pts: time,
                data: celsius.to_be_bytes().to_vec().into(),
            };
            sensor.send(frame).await?;
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Reads `count` values of a sensor.
pub(crate) async fn read(
    node: &Node,
    sensor: usize,
    count: usize,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let name = format!("sensors/{sensor}").parse()?;
    let mut values = node.subscribe(name, SubscribeOptions::default()).await?;
    let mut read = Vec::new();
    while read.len() < count {
        match values.next().await {
            Some(Delivery::Frame { frame, .. }) => {
                let bytes = <[u8; 4]>::try_from(&*frame.data)?;
                read.push(f32::from_be_bytes(bytes));
            }
            Some(_) => {}
            None => return Err("the node has stopped".into()),
        }
    }
    Ok(read)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let local = || {
        Node::builder()
            .temporary_state()
            .listen(([127, 0, 0, 1], 0).into())
    };
    let field = local().name("field").start().await?;
    let desk = local().join(field.local_addr().to_string()).start().await?;
    tokio::spawn(measure(field, Duration::from_millis(500)));
    loop {
        let [value] = read(&desk, 7, 1).await?[..] else {
            return Ok(());
        };
        writeln_value(7, value)?;
    }
}

fn writeln_value(sensor: usize, value: f32) -> std::io::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "sensor {sensor}: {value:.2} °C")
}
