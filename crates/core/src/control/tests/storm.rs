//! Many nodes, and links that come and go, some of them narrow: whoever moves to another way must not feed itself.
//!
//! Packets are not simulated; whoever is fed, by way of others or at once, is told that each of its parents delivers.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;

const NODES: usize = 7;
const STEP: Duration = Duration::from_millis(100);

struct Storm {
    net: Net,
    rng: ChaCha20Rng,
    pairs: Vec<(usize, usize)>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut storm = Self {
            net: Net::new(NODES, &[]),
            rng: ChaCha20Rng::seed_from_u64(seed),
            pairs: Vec::new(),
        };
        for a in 0..NODES {
            for b in a + 1..NODES {
                if storm.draw(100) < 50 {
                    storm.pairs.push((a, b));
                    storm.net.link(a, b);
                    if storm.draw(100) < 35 {
                        storm.net.narrow.insert((a, b));
                        storm.net.narrow.insert((b, a));
                    }
                }
            }
        }
        storm.net.settle();
        let large = Offer {
            packet_size: PacketSize::MAX,
            ..offer("large", 1_700_000_000_000_000)
        };
        storm.net.command(0, FlowInput::Publish(large));
        storm.net.settle();
        for node in 1..NODES {
            storm.net.subscribe(node, 1, "large");
        }
        storm
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    /// Pulls a cable, or plugs one in again.
    fn turn(&mut self) {
        let count = self.pairs.len() as u64;
        if count == 0 {
            return;
        }
        let at = usize::try_from(self.draw(count)).unwrap();
        let (a, b) = self.pairs[at];
        if self.net.linked.contains_key(&(a, b)) {
            self.net.unlink(a, b);
        } else {
            self.net.link(a, b);
            self.net.settle();
        }
    }

    /// Pairs of a parent and its child.
    fn edges(&self) -> Vec<(usize, usize)> {
        let of = |node: usize| {
            self.net
                .egresses(node, "large")
                .into_iter()
                .map(move |child| (node, child))
        };
        (0..NODES).flat_map(of).collect()
    }

    /// The nodes that packets of the origin reach.
    fn fed(&self) -> BTreeSet<usize> {
        let edges = self.edges();
        let mut fed = BTreeSet::from([0]);
        loop {
            let more: Vec<usize> = edges
                .iter()
                .filter(|(from, to)| fed.contains(from) && !fed.contains(to))
                .map(|(_, to)| *to)
                .collect();
            if more.is_empty() {
                return fed;
            }
            fed.extend(more);
        }
    }

    fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            self.net.pass(STEP);
            let fed = self.fed();
            for (from, to) in self.edges() {
                if fed.contains(&from) && self.net.flow(to, "large").is_some() {
                    self.net.deliver(to, "large", from);
                }
            }
        }
    }

    fn upstream(&self, node: usize) -> Option<usize> {
        let row = self.net.flow(node, "large")?;
        row.upstream.map(|link| link.0 as usize)
    }

    /// The first node of a circle of upstreams that feed each other.
    fn circle(&self) -> Option<Vec<usize>> {
        let edges = self.edges();
        let flows = |from: usize, to: usize| edges.contains(&(from, to));
        for start in 1..NODES {
            let mut way = vec![start];
            let mut at = start;
            while let Some(from) = self.upstream(at).filter(|from| flows(*from, at)) {
                if let Some(place) = way.iter().position(|node| *node == from) {
                    return Some(way.split_off(place));
                }
                way.push(from);
                at = from;
            }
        }
        None
    }
}

/// The first are what they are; in the others two neighbours moved to each other's way at once, and held each other for
/// ever.
const SEEDS: [u64; 9] = [0, 1, 2, 3, 530, 558, 578, 689, 785];

#[test]
fn no_two_nodes_feed_each_other_when_a_storm_is_over() {
    for seed in SEEDS {
        let mut storm = Storm::new(seed);

        for _ in 0..10 {
            storm.turn();
            let steps = usize::try_from(storm.draw(40)).unwrap();
            storm.pass(steps);
        }
        storm.pass(300);

        assert_eq!(storm.circle(), None, "seed {seed}");
    }
}
