//! A hostile neighbour: a node as it ships, properly linked, with somebody in it who says what no node would say.
//!
//! | lie | made of |
//! |---|---|
//! | streams and origins that are not, ways that flap, keys asked for consumers that are not | [`levada_sim::hostile`] |
//! | carry keys that are false, for each flow that it knows, to each neighbour | the same |
//! | packets with a true carry tag and a far number, to each neighbour | a packet that came, and the key for it |
//!
//! Besides, it wants every stream there is, and reads all. Not a stranger, who has no key at all (`stranger`). Started
//! by tests. Invariant: it prints what it has said so far, a line each second, and the test ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, thread};

use anyhow::Context as _;
use levada::view::{LinkRow, StreamRow};
use levada::{FlowId, Node, NodeId, Relay, StreamName, SubscribeOptions, Tap, Tapped};
use levada_sim::chance::Chance;
use levada_sim::hostile::{Act, Hostile};
use levada_wire::control::flow::InstanceRef;
use levada_wire::key::CarryKey;
use levada_wire::packet::{CARRY_BYTES, carry};

use crate::datagram::{Capture, Datagram, RawSender};

/// Between two rounds of lies.
const BEAT: Duration = Duration::from_millis(20);
/// Rounds between two looks at what there is to lie about, and between two reports.
const LOOK_BEATS: u64 = 50;
/// Streams that it wants.
const WANTED_MAX: usize = 64;
/// Where a number stands in a media packet, docs/wire.md section 4, and how far it is moved: 2^40.
const NUMBER_TOP: usize = 12;
/// Of the packets that came, one in so many is sent on with a far number.
const FAR_EVERY: u64 = 20;

const ACTS: [Act; 4] = [Act::Catalogue, Act::Routes, Act::Keys, Act::FalseKey];

/// The carry keys that came with accepted requests.
#[derive(Default)]
struct Keys(Mutex<BTreeSet<[u8; 16]>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Tap for Keys {
    fn see(&self, what: Tapped<'_>) {
        if let Tapped::CarryKey(key) = what
            && let (Ok(key), Ok(mut keys)) = (key.try_into(), self.0.lock())
        {
            keys.insert(key);
        }
    }
}

/// What it has said so far.
#[derive(Debug, Default)]
struct Said {
    messages: u64,
    false_keys: u64,
    wanted: BTreeSet<StreamName>,
}

pub(crate) fn run(listen: &str, state: &str, neighbours: &[&str]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let keys = Arc::new(Keys::default());
    let far = Arc::new(Mutex::new(0));
    let addresses: Result<Vec<SocketAddrV4>, _> =
        neighbours.iter().map(|one| one.parse()).collect();
    let forger = Forger {
        me: listen.parse().context("no address")?,
        neighbours: addresses.context("no address of a neighbour")?,
        keys: Arc::clone(&keys),
        far: Arc::clone(&far),
    };
    thread::spawn(move || forger.run());
    runtime.block_on(async {
        let builder = Node::builder()
            .listen(listen.parse()?)
            .state(state)
            .relay(Relay::Always)
            .name("hostile")
            .tap(keys);
        let builder = neighbours
            .iter()
            .fold(builder, |builder, one| builder.join(*one));
        lie(&builder.start().await?, &far).await
    })
}

/// Lies for as long as the process lives.
async fn lie(node: &Node, far: &Mutex<u64>) -> anyhow::Result<()> {
    let mut hostile = Hostile::new(node.id(), &ACTS, Chance::new(1).split("hostile", 0));
    let (mut said, mut flows) = (Said::default(), BTreeMap::new());
    let mut peers: BTreeSet<NodeId> = BTreeSet::new();
    let mut beat = tokio::time::interval(BEAT);
    for at in 0_u64.. {
        beat.tick().await;
        if at % LOOK_BEATS == 0 {
            let links = node.rows::<LinkRow>().await?.into_iter();
            peers = links.filter_map(|link| link.control.peer).collect();
            for stream in node.rows::<StreamRow>().await? {
                want(node, &stream, &mut said).await?;
                hostile.know(InstanceRef {
                    origin: stream.origin,
                    name: stream.name,
                    instance: stream.instance,
                });
                flows.insert(stream.flow, ());
            }
            print(
                &said,
                *far.lock()
                    .map_err(|_| anyhow::anyhow!("the forger is gone"))?,
            );
        }
        let mut messages = hostile.messages();
        let pairs = flows
            .keys()
            .flat_map(|flow| peers.iter().map(move |peer| (*flow, *peer)));
        let false_keys =
            pairs.filter_map(|(flow, peer): (FlowId, NodeId)| hostile.false_key(peer, flow));
        let false_keys: Vec<_> = false_keys.collect();
        said.false_keys += false_keys.len() as u64;
        messages.extend(false_keys);
        for message in messages {
            said.messages += 1;
            node.say(message).await?;
        }
    }
    Ok(())
}

/// Wants a stream, and reads it.
async fn want(node: &Node, stream: &StreamRow, said: &mut Said) -> anyhow::Result<()> {
    if said.wanted.len() >= WANTED_MAX || !said.wanted.insert(stream.name.clone()) {
        return Ok(());
    }
    let mut subscriber = node
        .subscribe(stream.name.clone(), SubscribeOptions::default())
        .await?;
    tokio::spawn(async move { while subscriber.next().await.is_some() {} });
    Ok(())
}

/// Sends packets with far numbers, as if they came from the node's own socket.
struct Forger {
    me: SocketAddrV4,
    neighbours: Vec<SocketAddrV4>,
    keys: Arc<Keys>,
    /// How many it has sent.
    far: Arc<Mutex<u64>>,
}

impl Forger {
    fn run(&self) -> anyhow::Result<()> {
        let (mut capture, sender) = (Capture::new()?, RawSender::new()?);
        for at in 0_u64.. {
            let heard = capture.receive()?;
            if heard.to != self.me || at % FAR_EVERY != 0 {
                continue;
            }
            let Some(payload) = self.far_away(&heard.payload) else {
                continue;
            };
            for to in &self.neighbours {
                let (from, to, payload) = (self.me, *to, payload.clone());
                sender.send(&Datagram { from, to, payload })?;
                *self
                    .far
                    .lock()
                    .map_err(|_| anyhow::anyhow!("nobody listens"))? += 1;
            }
        }
        Ok(())
    }

    /// The same packet far ahead, with a true carry tag, if its key is known.
    fn far_away(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.0.lock().ok()?;
        let mut keys = keys.iter().map(|key| CarryKey::from_bytes(*key));
        let key = keys.find(|key| carry::check(key, packet))?;
        let sealed = packet.len() - CARRY_BYTES;
        let mut far = packet[..sealed].to_vec();
        far[NUMBER_TOP] = far[NUMBER_TOP].wrapping_add(1);
        let tag = carry::tag_of(&key, &far);
        far.extend(tag);
        Some(far)
    }
}

#[expect(clippy::print_stdout, reason = "it is what the test reads")]
fn print(said: &Said, far: u64) {
    let report = serde_json::json!({
        "messages": said.messages,
        "false_keys": said.false_keys,
        "wanted": said.wanted.len(),
        "far": far,
    });
    println!("{report}");
}
