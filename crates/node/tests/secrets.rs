//! No secret in what nodes say, log or show; and no content secret where it is not needed.
//!
//! A test binary of its own: it takes the whole process's log, at the finest level.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::io;
use std::sync::{Arc, Mutex};

use kit::*;
use levada::Node;
use tracing_subscriber::fmt::MakeWriter;

#[tokio::test]
async fn no_secret_is_in_control_bytes_announces_logs_or_views_and_a_relay_holds_no_content_secret()
{
    let log = Log::default();
    let written = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone());
    written
        .try_init()
        .expect("this test is the first to log in this process");
    let [of_relay, of_origin, of_consumer] = std::array::from_fn(|_| Witness::new());
    let relay = start(node("relay").tap(of_relay.clone())).await;
    let origin = start_linked(node("origin").tap(of_origin.clone()), &relay).await;
    let consumer = start_linked(node("consumer").tap(of_consumer.clone()), &relay).await;

    let mut publisher = publish(&origin, "cam").await;
    let mut subscriber = subscribe(&consumer, "cam").await;
    push(&mut publisher, 0..20).await;
    expect(&mut subscriber, 0..20).await;
    let mut shown = String::new();
    for node in [&relay, &origin, &consumer] {
        let view = within("a view", node.view()).await.unwrap();
        shown.push_str(&serde_json::to_string(&view).unwrap());
        shown.push_str(&format!("{node:?} {view:?} {publisher:?} {subscriber:?}"));
    }

    let witnesses = [&of_relay, &of_origin, &of_consumer];
    let mut secrets = Vec::new();
    for witness in witnesses {
        secrets.extend(witness.content_secrets.lock().unwrap().clone());
        secrets.extend(witness.carry_keys.lock().unwrap().clone());
        secrets.extend(witness.link_keys.lock().unwrap().clone());
    }
    secrets.extend([&relay, &origin, &consumer].map(private_key));
    assert!(
        secrets.len() >= 10,
        "there is something to look for: {}",
        secrets.len()
    );
    let control: Vec<u8> = witnesses
        .iter()
        .flat_map(|witness| witness.control.lock().unwrap().clone())
        .collect();
    assert!(
        contains(&control, b"cam"),
        "the announce is among the control bytes"
    );
    let log = log.taken();
    assert!(contains(&log, b"KeyGrant"), "the log is as fine as it gets");
    for (place, bytes) in [
        ("control", &control),
        ("log", &log),
        ("view", &shown.into_bytes()),
    ] {
        for secret in &secrets {
            assert_absent(place, bytes, secret);
        }
    }

    assert_eq!(of_relay.content_secrets.lock().unwrap().len(), 0);
    assert_eq!(
        *of_relay.carry_keys.lock().unwrap(),
        *of_consumer.carry_keys.lock().unwrap()
    );
    assert_eq!(
        of_origin.content_secrets.lock().unwrap()[0],
        of_consumer.content_secrets.lock().unwrap()[0],
        "who may play has the secret"
    );
}

/// A node's private key, as its state directory has it.
fn private_key(node: &Node) -> Vec<u8> {
    let text = std::fs::read_to_string(node.state_dir().join("node.key")).unwrap();
    let digits = text.trim().as_bytes();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// In no form: raw, hex, or as Rust or JSON shows a list of numbers. Eight bytes of it are enough to be found.
fn assert_absent(place: &str, bytes: &[u8], secret: &[u8]) {
    let part = &secret[..8];
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = part.iter().map(u8::to_string).collect::<Vec<_>>();
    for form in [
        part.to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        list.join(", ").into_bytes(),
        list.join(",").into_bytes(),
    ] {
        assert!(!contains(bytes, &form), "a secret is in the {place}");
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// All that the process logs.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn taken(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
