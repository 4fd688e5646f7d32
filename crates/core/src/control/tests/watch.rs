//! A watch that applies each change it is given has the rows of the streams, at every node, whatever happens between
//! them.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::*;
use crate::view::{StreamChange, StreamRow};

#[derive(Debug, Default)]
struct Watch(BTreeMap<(StreamName, NodeId), StreamRow>);

impl Watch {
    /// Applies what changed at a node, and says whether that is what there is.
    fn follows(&mut self, node: &mut Control) -> bool {
        while node.has_stream_changes() {
            for change in node.take_stream_changes(2) {
                match change {
                    StreamChange::Known(row) => self.0.insert((row.name.clone(), row.origin), row),
                    StreamChange::Gone { name, origin } => self.0.remove(&(name, origin)),
                };
            }
        }
        node.stream_rows(None).eq(self.0.values().cloned())
    }
}

/// Something that a user, a cable or time does. Whatever is there already, or is not there, changes nothing.
fn happens(net: &mut Net, rng: &mut ChaCha20Rng) {
    let mut any = |count: u32| rng.next_u32() % count;
    let (consumer, id) = (2 + any(2) as usize, u64::from(any(2)));
    match any(9) {
        0 => net.publish(0, "cam"),
        1 => net.publish(3, "other"),
        2 => {
            let name = name("cam");
            net.command(0, FlowInput::Unpublish { name });
        }
        3 | 4 => net.subscribe(consumer, id, ["cam", "other"][id as usize]),
        5 => net.unsubscribe(consumer, id),
        6 if net.linked.contains_key(&(1, consumer)) => net.unlink(1, consumer),
        6 => net.link(1, consumer),
        _ => net.pass(Duration::from_millis(u64::from(any(4_000)))),
    }
    net.settle();
}

#[test]
fn what_each_watch_was_given_is_what_there_is_whatever_happened() {
    let mut states = BTreeSet::new();
    for seed in 0..12 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut net = Net::new(4, &[(0, 1), (1, 2), (1, 3)]);
        let mut watches: [Watch; 4] = std::array::from_fn(|_| Watch::default());
        net.nodes
            .iter_mut()
            .for_each(|node| node.watch_streams(true));
        for step in 0..60 {
            happens(&mut net, &mut rng);

            for (at, (watch, node)) in watches.iter_mut().zip(&mut net.nodes).enumerate() {
                assert!(watch.follows(node), "seed {seed}, step {step}, node {at}");
                states.extend(watch.0.values().map(|row| (at, row.state)));
            }
        }
    }
    let at_relay = (1, FlowState::Streaming);
    assert!(
        states.contains(&at_relay) && states.contains(&(2, FlowState::Active)),
        "{states:?}"
    );
}
