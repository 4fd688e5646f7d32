//! The network of `demo` as a table: which nodes there are, what lies between them, what becomes of it in `--story`.
//!
//! ```text
//!   funchal ── lisboa ──┬── paris ──┬── wien (this process: the page, the players of the figures)
//!   testcard,    │  │   │     │     │
//!   sound        │  │ madrid ─┤     │
//!                │  └── london ──── hamburg ── oslo (waves)
//!              porto      dublin      helsinki, roma: players at the edge
//! ```
//!
//! Nothing here runs. Called by `network` and `story`. Invariant: a node dials only nodes that stand before it in
//! [`NODES`], so that their addresses are known when it starts; every node but `funchal` has two ways into the network.

use std::time::Duration;

/// The stream that is shown and measured hop by hop.
pub(super) const TEST_CARD: &str = "demo/testcard";
/// A second picture, from the other end.
pub(super) const WAVES: &str = "demo/waves";
/// Sound without a picture.
pub(super) const SOUND: &str = "demo/sound";
/// All streams, each with the node that has it and its source.
pub(super) const STREAMS: [(&str, &str, &str); 3] = [
    (TEST_CARD, "funchal", "test"),
    (WAVES, "oslo", "test-waves"),
    (SOUND, "funchal", "test-sound"),
];
/// The node of this process, which has the page.
pub(super) const HERE: &str = "wien";
/// The first node behind the origin of the test card, whatever happens: the first hop is measured to it.
pub(super) const FIRST_HOP: &str = "lisboa";

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Origin,
    Relay,
    Player,
}

/// One node.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodePlan {
    pub(super) name: &'static str,
    pub(super) does: Does,
    /// The streams that it plays.
    pub(super) plays: &'static [&'static str],
}

/// One cable, and the node that dials the other over it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CablePlan {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) line: Line,
}

/// How a cable treats datagrams, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) delay: Duration,
    /// Of each thousand datagrams, how many are lost.
    pub(super) loss_permille: u32,
    /// Nothing gets through.
    pub(super) is_cut: bool,
}

const fn node(name: &'static str, does: Does, plays: &'static [&'static str]) -> NodePlan {
    NodePlan { name, does, plays }
}

/// In the order in which they start.
pub(super) const NODES: [NodePlan; 12] = [
    node("paris", Does::Relay, &[]),
    node("london", Does::Relay, &[]),
    node("lisboa", Does::Relay, &[]),
    node("madrid", Does::Relay, &[]),
    node("hamburg", Does::Relay, &[]),
    node("funchal", Does::Origin, &[]),
    node("oslo", Does::Origin, &[]),
    node("porto", Does::Player, &[WAVES]),
    node("dublin", Does::Player, &[TEST_CARD, SOUND]),
    node("roma", Does::Player, &[TEST_CARD, WAVES]),
    node("helsinki", Does::Player, &[SOUND]),
    node(HERE, Does::Player, &[TEST_CARD, WAVES, SOUND]),
];

const fn cable(from: &'static str, to: &'static str, millis: u64, loss_permille: u32) -> CablePlan {
    CablePlan {
        from,
        to,
        line: Line {
            delay: Duration::from_millis(millis),
            loss_permille,
            is_cut: false,
        },
    }
}

/// Delays are about those of light in glass between these places.
pub(super) const CABLES: [CablePlan; 19] = [
    cable("london", "paris", 4, 0),
    cable("lisboa", "paris", 12, 5),
    cable("lisboa", "london", 14, 0),
    cable("madrid", "lisboa", 5, 0),
    cable("madrid", "paris", 9, 0),
    cable("hamburg", "london", 7, 10),
    cable("funchal", "lisboa", 8, 0),
    cable("oslo", "hamburg", 6, 0),
    cable("oslo", "london", 10, 0),
    cable("porto", "lisboa", 2, 0),
    cable("porto", "madrid", 4, 0),
    cable("dublin", "london", 4, 0),
    cable("dublin", "lisboa", 13, 0),
    cable("roma", "paris", 10, 0),
    cable("roma", "madrid", 12, 5),
    cable("helsinki", "hamburg", 8, 0),
    cable("helsinki", "london", 15, 0),
    cable(HERE, "paris", 9, 0),
    cable(HERE, "hamburg", 7, 0),
];

/// What is done to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Kill(&'static str),
    Start(&'static str),
    /// The cable between two nodes becomes this.
    Lay(&'static str, &'static str, Line),
    /// The cable becomes what it was at first.
    Mend(&'static str, &'static str),
}

/// One act of the story, and what is said of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) act: Act,
    pub(super) text: &'static str,
}

const fn scene(act: Act, text: &'static str) -> Scene {
    Scene { act, text }
}

const CUT: Line = Line {
    delay: Duration::ZERO,
    loss_permille: 0,
    is_cut: true,
};
const SLOW: Line = Line {
    delay: Duration::from_millis(90),
    loss_permille: 30,
    is_cut: false,
};

/// The story, again and again.
pub(super) const STORY: [Scene; 6] = [
    scene(
        Act::Kill("paris"),
        "the relay paris is killed: streams look for another way",
    ),
    scene(Act::Start("paris"), "paris runs again"),
    scene(
        Act::Lay("lisboa", "paris", CUT),
        "the cable between lisboa and paris is cut",
    ),
    scene(
        Act::Mend("lisboa", "paris"),
        "the cable between lisboa and paris is mended",
    ),
    scene(
        Act::Lay(HERE, "paris", SLOW),
        "the link between wien and paris gets slow: 90 ms each way, 3% lost",
    ),
    scene(
        Act::Mend(HERE, "paris"),
        "the link between wien and paris is as before",
    ),
];
/// From the start to the first act, and between two: long enough to see what becomes of it.
pub(super) const SCENE_EVERY: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn place(name: &str) -> usize {
        let found = NODES.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("{name} is no node"))
    }

    #[test]
    fn each_cable_leads_to_a_node_that_runs_already() {
        for cable in CABLES {
            assert!(place(cable.from) > place(cable.to), "{cable:?}");
        }
        for (stream, at, _) in STREAMS {
            assert_eq!(NODES[place(at)].does, Does::Origin, "{stream}");
        }
    }

    #[test]
    fn every_node_but_the_island_has_two_ways_and_the_story_cuts_off_nobody() {
        for node in NODES.iter().filter(|node| node.name != "funchal") {
            let ends = |cable: &CablePlan| [cable.from, cable.to].contains(&node.name);
            assert!(
                CABLES.into_iter().filter(ends).count() >= 2,
                "{}",
                node.name
            );
        }
        for scene in STORY {
            let is_gone = |cable: &CablePlan| match scene.act {
                Act::Kill(name) => [cable.from, cable.to].contains(&name),
                Act::Lay(from, to, line) => line.is_cut && (cable.from, cable.to) == (from, to),
                _ => false,
            };
            // From this node over what is left.
            let mut reached = BTreeSet::from([HERE]);
            for _ in 0..NODES.len() {
                for cable in CABLES.into_iter().filter(|cable| !is_gone(cable)) {
                    if [cable.from, cable.to]
                        .iter()
                        .any(|end| reached.contains(end))
                    {
                        reached.extend([cable.from, cable.to]);
                    }
                }
            }
            let lost = matches!(scene.act, Act::Kill(_));
            assert_eq!(reached.len(), NODES.len() - usize::from(lost), "{scene:?}");
        }
    }

    #[test]
    fn what_the_story_breaks_it_mends() {
        let mut broken = Vec::new();
        for scene in STORY {
            match scene.act {
                Act::Kill(name) => broken.push((name, name)),
                Act::Lay(from, to, _) => broken.push((from, to)),
                Act::Start(name) => broken.retain(|it| *it != (name, name)),
                Act::Mend(from, to) => broken.retain(|it| *it != (from, to)),
            }
        }

        assert_eq!(broken, []);
    }
}
