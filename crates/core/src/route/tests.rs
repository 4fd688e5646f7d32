//! Routes in a small net: machines joined by links that deliver in order, after a while.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use levada_wire::machine::harness::check_contract;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::limits::{NEWS_PER_CALL_MAX, ORIGIN_KEPT, ORIGINS_PER_CALL_MAX};

fn id(node: usize) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    NodeId(bytes)
}

/// Nodes and what is under way between them. A link between `a` and `b` is index `b` at `a` and `a` at `b`.
struct Net {
    now: Instant,
    nodes: Vec<Routes>,
    linked: BTreeMap<(usize, usize), VecDeque<RouteMessage>>,
    /// What each node's routes said last, per origin.
    selected: Vec<BTreeMap<NodeId, Route>>,
    alternatives: Vec<BTreeMap<NodeId, Vec<Alternative>>>,
    messages: usize,
}

impl Net {
    fn new(nodes: usize, links: &[(usize, usize)]) -> Self {
        let mut net = Self {
            now: Instant::ZERO,
            nodes: (0..nodes).map(|node| Routes::new(id(node), true)).collect(),
            linked: BTreeMap::new(),
            selected: vec![BTreeMap::new(); nodes],
            alternatives: vec![BTreeMap::new(); nodes],
            messages: 0,
        };
        for (a, b) in links {
            net.link(*a, *b);
        }
        net
    }

    fn input(&mut self, node: usize, input: Input) {
        self.nodes[node].handle_input(self.now, input);
        self.collect(node);
    }

    fn collect(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                Output::Send { link, message } => {
                    self.messages += 1;
                    // Nobody hears what is sent before the end of a link is noticed.
                    if let Some(under_way) = self.linked.get_mut(&(node, link.0 as usize)) {
                        under_way.push_back(message);
                    }
                }
                Output::Mark { link } => self.input(node, Input::Written { link }),
                Output::Alternatives {
                    origin,
                    alternatives,
                } => {
                    let links = alternatives.iter().map(|alternative| alternative.link);
                    let links: BTreeSet<LinkIndex> = links.collect();
                    assert_eq!(links.len(), alternatives.len());
                    let selected = self.nodes[node].route(&origin).map(|route| route.link);
                    assert!(selected.is_none_or(|link| !links.contains(&link)));
                    self.alternatives[node].insert(origin, alternatives);
                }
                Output::Changed { origin, route } => {
                    match route {
                        Some(route) => self.selected[node].insert(origin, route),
                        None => self.selected[node].remove(&origin),
                    };
                }
            }
        }
    }

    fn link(&mut self, a: usize, b: usize) {
        if self.linked.contains_key(&(a, b)) {
            return;
        }
        for (at, to) in [(a, b), (b, a)] {
            self.linked.insert((at, to), VecDeque::new());
            let link = LinkIndex(u32::try_from(to).unwrap());
            self.input(at, Input::LinkUp { link, peer: id(to) });
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        if self.linked.remove(&(a, b)).is_none() {
            return;
        }
        self.linked.remove(&(b, a));
        for (at, to) in [(a, b), (b, a)] {
            self.input(
                at,
                Input::LinkDown {
                    link: LinkIndex(u32::try_from(to).unwrap()),
                },
            );
        }
    }

    /// Delivers the oldest message of one link.
    fn deliver(&mut self, from: usize, to: usize) {
        let Some(message) = self
            .linked
            .get_mut(&(from, to))
            .and_then(VecDeque::pop_front)
        else {
            return;
        };
        let link = LinkIndex(u32::try_from(from).unwrap());
        self.input(to, Input::Message { link, message });
    }

    /// Delivers everything, each link in turn, checking for loops after each message.
    fn deliver_all(&mut self) {
        for _ in 0..100_000 {
            let busy = self
                .linked
                .iter()
                .find(|(_, under_way)| !under_way.is_empty());
            let Some((&(from, to), _)) = busy else { return };
            self.deliver(from, to);
            self.check_no_loop();
        }
        panic!("the net does not come to rest");
    }

    /// Lets time pass with every timer fired and everything delivered.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            self.deliver_all();
            let due = self
                .nodes
                .iter()
                .filter_map(Routes::poll_timeout)
                .map(|w| w.at)
                .min();
            let Some(at) = due.filter(|at| *at <= until) else {
                break;
            };
            self.now = at;
            for node in 0..self.nodes.len() {
                self.nodes[node].handle_timeout(self.now);
                self.collect(node);
            }
        }
        self.now = until;
    }

    fn next(&self, node: usize, origin: usize) -> Option<usize> {
        Some(self.nodes[node].route(&id(origin))?.link.0 as usize)
    }

    /// The nodes that a node may take a flow of that origin from: the next one, and those that are as good.
    fn ways(&self, node: usize, origin: usize) -> Vec<usize> {
        let alternatives = self.alternatives[node]
            .get(&id(origin))
            .into_iter()
            .flatten();
        let feasible = alternatives.filter(|alternative| alternative.is_feasible);
        let feasible = feasible.map(|alternative| alternative.link.0 as usize);
        self.next(node, origin)
            .into_iter()
            .chain(feasible)
            .collect()
    }

    /// Whatever way each node takes of those that it may: it must end at the origin or nowhere, and never come back.
    /// That is so if nodes can be left out one after the other that all ways of which lead to nodes left out before.
    fn check_no_loop(&self) {
        for origin in 0..self.nodes.len() {
            let mut left: BTreeSet<usize> = (0..self.nodes.len()).collect();
            loop {
                let ends = |node: &usize| {
                    let ways = self.ways(*node, origin);
                    *node == origin || !ways.iter().any(|next| left.contains(next))
                };
                let ended: Vec<usize> = left.iter().copied().filter(ends).collect();
                if ended.is_empty() {
                    break;
                }
                left.retain(|node| !ended.contains(node));
            }
            assert!(left.is_empty(), "a loop toward {origin} among {left:?}");
        }
    }

    /// Whether `node` and `origin` are joined by links that are up.
    fn joined(&self, node: usize, origin: usize) -> bool {
        let mut reached = vec![node];
        let mut at = 0;
        while at < reached.len() {
            for (a, b) in self.linked.keys() {
                if *a == reached[at] && !reached.contains(b) {
                    reached.push(*b);
                }
            }
            at += 1;
        }
        reached.contains(&origin)
    }
}

#[test]
fn the_contract_holds() {
    check_contract(
        0..300,
        |_| Routes::new(id(0), true),
        |rng| {
            let link = LinkIndex(rng.next_u32() % 3);
            let peer = id(link.0 as usize + 1);
            let origin = id(rng.next_u32() as usize % 5);
            match rng.next_u32() % 6 {
                0 => Input::LinkUp { link, peer },
                1 => Input::LinkDown { link },
                2 => Input::Originate(rng.next_u32() % 2 == 0),
                3 => Input::Message {
                    link,
                    message: RouteMessage::SequenceRequest(SequenceRequest {
                        origin,
                        sequence: Sequence(rng.next_u32() as u16 % 4),
                        hops_left: rng.next_u32() as u8 % 3,
                    }),
                },
                _ => Input::Message {
                    link,
                    message: any_update(rng, origin, peer),
                },
            }
        },
    );
}

fn any_update(rng: &mut ChaCha8Rng, origin: NodeId, teller: NodeId) -> RouteMessage {
    let distance = match rng.next_u32() % 4 {
        0 => Distance::INFINITE,
        _ => Distance::from_tenth_millis(rng.next_u32() % 200),
    };
    RouteMessage::Update(Update {
        origin,
        sequence: Sequence(rng.next_u32() as u16 % 4),
        distance,
        hops: Hops::origin(origin.prefix())
            .through(teller.prefix())
            .unwrap(),
    })
}

#[test]
fn the_nearest_way_is_selected_and_the_next_nearest_is_ready() {
    // 0 - 1 - 2, and the long way 0 - 3 - 4 - 2.
    let mut net = Net::new(5, &[(0, 1), (1, 2), (0, 3), (3, 4), (4, 2)]);
    net.input(0, Input::Originate(true));

    net.pass(Duration::from_secs(1));

    assert_eq!(net.next(2, 0), Some(1));
    assert_eq!(
        net.nodes[2].route(&id(0)).unwrap().distance,
        Distance::from_tenth_millis(60)
    );
    assert_eq!(
        net.selected[2].get(&id(0)),
        net.nodes[2].route(&id(0)).as_ref()
    );
    let row = net.nodes[2]
        .rows(None)
        .find(|row| row.origin == id(0))
        .unwrap();
    assert_eq!(
        row.feasible_backups, 0,
        "the long way is told 60, which 2 told itself"
    );
}

#[test]
fn when_the_parent_dies_the_other_way_is_taken_within_round_trips() {
    let mut net = Net::new(5, &[(0, 1), (1, 2), (0, 3), (3, 4), (4, 2)]);
    net.input(0, Input::Originate(true));
    net.pass(Duration::from_secs(1));

    net.unlink(1, 2);
    net.deliver_all();

    assert_eq!(net.next(2, 0), Some(4), "without waiting for a timer");
}

#[test]
fn a_restarted_origin_is_found_again_at_once() {
    let mut net = Net::new(3, &[(0, 1), (1, 2)]);
    net.input(0, Input::Originate(true));
    net.pass(Duration::from_secs(35));

    // Its sequence begins anew, behind what the others remember.
    net.unlink(0, 1);
    net.deliver_all();
    net.nodes[0] = Routes::new(id(0), true);
    net.link(0, 1);
    net.input(0, Input::Originate(true));
    net.deliver_all();

    assert_eq!((net.next(1, 0), net.next(2, 0)), (Some(0), Some(1)));
}

#[test]
fn an_origin_that_stops_is_retracted_everywhere() {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (2, 3), (3, 1)]);
    net.input(0, Input::Originate(true));
    net.pass(Duration::from_secs(1));

    net.input(0, Input::Originate(false));
    net.pass(Duration::from_secs(5));

    for node in 1..4 {
        assert_eq!(net.next(node, 0), None);
        assert!(net.selected[node].is_empty());
    }
}

#[test]
fn an_origin_nobody_tells_of_is_forgotten_and_not_too_early() {
    let mut net = Net::new(2, &[(0, 1)]);
    net.input(0, Input::Originate(true));
    net.pass(Duration::from_secs(1));

    net.unlink(0, 1);
    net.pass(ORIGIN_KEPT - Duration::from_secs(1));
    let before = net.nodes[1].rows(None).count();
    net.pass(Duration::from_secs(2));

    assert_eq!((before, net.nodes[1].rows(None).count()), (1, 0));
}

#[test]
fn one_origin_too_many_is_ignored() {
    let mut routes = Routes::new(id(0), true);
    routes.handle_input(
        Instant::ZERO,
        Input::LinkUp {
            link: LinkIndex(1),
            peer: id(1),
        },
    );
    for origin in 0..=ORIGINS_MAX {
        let origin = id(origin + 10);
        let update = Update {
            origin,
            sequence: Sequence(1),
            distance: Distance::from_tenth_millis(30),
            hops: Hops::origin(origin.prefix())
                .through(id(1).prefix())
                .unwrap(),
        };
        let message = RouteMessage::Update(update);
        routes.handle_input(
            Instant::ZERO,
            Input::Message {
                link: LinkIndex(1),
                message,
            },
        );
    }

    assert_eq!(routes.rows(None).count(), ORIGINS_MAX);
}

#[test]
fn the_strangers_of_one_address_bring_no_more_than_their_share_of_the_origins() {
    let mut routes = Routes::new(id(0), true);
    let input = |routes: &mut Routes, input| routes.handle_input(Instant::ZERO, input);
    let subnet = Subnet::of(([192, 0, 2, 1], 7800).into()).unwrap();
    let link = LinkIndex(1);
    input(&mut routes, Input::Stranger { link, subnet });
    input(&mut routes, up(1));
    input(&mut routes, up(2));

    for origin in 0..=ORIGINS_PER_ADDRESS_MAX {
        input(&mut routes, told_by_first(1_000 + origin, 30));
    }
    let of_strangers = routes.rows(None).count();
    let last = 1_000 + ORIGINS_PER_ADDRESS_MAX;
    let hops = Hops::origin(id(last).prefix());
    let update = Update {
        origin: id(last),
        sequence: Sequence(1),
        distance: Distance::from_tenth_millis(30),
        hops: hops.through(id(2).prefix()).unwrap(),
    };
    let (link, message) = (LinkIndex(2), RouteMessage::Update(update));
    input(&mut routes, Input::Message { link, message });

    assert_eq!(of_strangers, ORIGINS_PER_ADDRESS_MAX);
    assert_eq!(routes.rows(None).count(), ORIGINS_PER_ADDRESS_MAX + 1);
}

#[test]
fn a_route_that_passes_here_or_was_not_made_by_its_teller_is_no_route() {
    let mut routes = Routes::new(id(0), true);
    routes.handle_input(
        Instant::ZERO,
        Input::LinkUp {
            link: LinkIndex(1),
            peer: id(1),
        },
    );
    let origin = Hops::origin(id(5).prefix());
    let through_me = origin
        .through(id(0).prefix())
        .and_then(|h| h.through(id(1).prefix()));
    let by_another = origin.through(id(2).prefix());

    for hops in [through_me.unwrap(), by_another.unwrap()] {
        let update = Update {
            origin: id(5),
            sequence: Sequence(1),
            distance: Distance::from_tenth_millis(60),
            hops,
        };
        let message = RouteMessage::Update(update);
        routes.handle_input(
            Instant::ZERO,
            Input::Message {
                link: LinkIndex(1),
                message,
            },
        );
    }

    assert_eq!(routes.route(&id(5)), None);
}

/// Storms: links come and go and messages cross in any order between links, for many seeds. At no moment is there
/// a loop; once it is quiet, whoever is joined to an origin has a way to it.
#[test]
fn no_storm_makes_a_loop_and_every_storm_heals() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = 3 + rng.next_u32() as usize % 6;
        let mut net = Net::new(nodes, &[]);
        let origins = [0, 1];
        for origin in origins {
            net.input(origin, Input::Originate(true));
        }
        for _ in 0..400 {
            let (a, b) = (
                rng.next_u32() as usize % nodes,
                rng.next_u32() as usize % nodes,
            );
            match rng.next_u32() % 20 {
                _ if a == b => {}
                0..3 => net.link(a, b),
                3 => net.unlink(a, b),
                4 => {
                    net.now += Duration::from_millis(u64::from(rng.next_u32() % 400));
                    net.nodes[a].handle_timeout(net.now);
                    net.collect(a);
                }
                5 => {
                    let weight = [Weight::Usual, Weight::Near, Weight::Standby];
                    let weight = weight[rng.next_u32() as usize % 3];
                    net.input(a, Input::Weigh(id(b), weight));
                }
                _ => net.deliver(a, b),
            }
            net.check_no_loop();
        }
        // Who has a link on standby tells of no way over it.
        for (a, b) in (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))) {
            net.input(a, Input::Weigh(id(b), Weight::Usual));
            net.check_no_loop();
        }

        net.pass(2 * SEQUENCE_INTERVAL);

        for node in 0..nodes {
            for origin in origins.into_iter().filter(|origin| *origin != node) {
                let has_way = net.next(node, origin).is_some();
                assert_eq!(
                    has_way,
                    net.joined(node, origin),
                    "seed {seed}: {node} to {origin}"
                );
            }
        }
    }
}

/// An origin, a relay, a hub, its deputy and two members, which have links to both.
#[test]
fn a_deputy_is_a_feasible_way_for_all_members_that_none_takes_while_the_hub_lives() {
    let [origin, relay, hub, deputy, one, other] = [0, 1, 2, 3, 4, 5];
    let links = [(origin, relay), (relay, hub), (hub, deputy)];
    let mut net = Net::new(6, &links);
    for member in [one, other] {
        net.link(hub, member);
        net.link(deputy, member);
    }
    net.input(deputy, Input::Weigh(id(hub), Weight::Near));
    net.input(deputy, Input::Weigh(id(relay), Weight::Standby));
    net.link(relay, deputy);
    for from in [origin, one] {
        net.input(from, Input::Originate(true));
    }

    net.pass(SEQUENCE_INTERVAL * 2);

    assert_eq!(net.ways(deputy, origin), [hub, relay]);
    assert_eq!(net.ways(other, origin), [hub, deputy]);
    assert_eq!(
        net.ways(relay, one),
        [hub],
        "the deputy carries nothing outward"
    );

    for at in [relay, deputy, one, other] {
        net.unlink(hub, at);
    }
    net.deliver_all();
    assert_eq!(net.next(deputy, origin), Some(relay));
    assert_eq!(net.next(other, origin), Some(deputy));
    net.input(deputy, Input::Weigh(id(relay), Weight::Usual));
    net.deliver_all();
    assert_eq!(net.next(relay, one), Some(deputy), "it is hub now");
}

#[test]
fn a_quiet_net_says_little() {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (2, 3), (3, 0)]);
    net.input(0, Input::Originate(true));
    net.pass(Duration::from_secs(5));
    net.messages = 0;

    net.pass(10 * SEQUENCE_INTERVAL);

    // One raise of the sequence crosses each link at most twice each way.
    assert!(net.messages <= 10 * 4 * 4, "{} messages", net.messages);
}

/// An update of an origin that neighbour 1 tells.
fn told_by_first(origin: usize, distance: u32) -> Input {
    let origin = id(origin);
    let hops = Hops::origin(origin.prefix());
    let update = Update {
        origin,
        sequence: Sequence(1),
        distance: Distance::from_tenth_millis(distance),
        hops: hops.through(id(1).prefix()).unwrap(),
    };
    Input::Message {
        link: LinkIndex(1),
        message: RouteMessage::Update(update),
    }
}

fn up(node: usize) -> Input {
    let link = LinkIndex(u32::try_from(node).unwrap());
    let peer = id(node);
    Input::LinkUp { link, peer }
}

/// What neighbour 2 is told now: origin and distance; and whether a mark comes with it.
fn told_to_second(routes: &mut Routes) -> (Vec<(NodeId, Distance)>, bool) {
    let (mut told, mut is_marked) = (Vec::new(), false);
    while let Some(output) = routes.poll_output() {
        match output {
            Output::Send {
                link: LinkIndex(2),
                message: RouteMessage::Update(update),
            } => told.push((update.origin, update.distance)),
            Output::Mark { link: LinkIndex(2) } => is_marked = true,
            _ => {}
        }
    }
    (told, is_marked)
}

#[test]
fn a_neighbour_that_does_not_read_costs_no_more_than_what_may_be_under_way() {
    let mut routes = Routes::new(id(0), true);
    let input = |routes: &mut Routes, input| routes.handle_input(Instant::ZERO, input);
    input(&mut routes, up(1));
    input(&mut routes, up(2));
    let origins = 3 * UPDATES_UNDER_WAY_MAX;

    for round in 1..=3 {
        for origin in 0..origins {
            input(&mut routes, told_by_first(1_000 + origin, 120 - 30 * round));
        }
    }
    let (first, is_marked) = told_to_second(&mut routes);
    let mut rest = BTreeMap::new();
    for _ in 0..3 {
        input(&mut routes, Input::Written { link: LinkIndex(2) });
        rest.extend(told_to_second(&mut routes).0);
    }

    assert_eq!((first.len(), is_marked), (UPDATES_UNDER_WAY_MAX, true));
    // The newest of each, once it reads; what changed meanwhile is told once.
    let newest = Distance::from_tenth_millis(30).plus(LINK_COST);
    assert_eq!(rest.len(), origins);
    assert!(rest.values().all(|distance| *distance == newest));
    assert_eq!(told_to_second(&mut routes), (vec![], false));
}

#[test]
fn a_way_that_flaps_is_told_less_often_than_it_flaps_and_as_it_is_then() {
    let mut routes = Routes::new(id(0), true);
    let mut now = Instant::ZERO;
    routes.handle_input(now, up(1));
    routes.handle_input(now, up(2));
    let flaps = 20_000;

    let (mut told, mut last) = (0, None);
    for flap in 0..flaps {
        now += Duration::from_micros(100);
        routes.handle_input(now, told_by_first(1_000, 30 + flap % 7));
        let (news, is_marked) = told_to_second(&mut routes);
        told += news.len();
        last = news.last().copied().or(last);
        if is_marked {
            routes.handle_input(now, Input::Written { link: LinkIndex(2) });
        }
    }
    routes.handle_timeout(now + Duration::from_secs(1));
    last = told_to_second(&mut routes).0.last().copied().or(last);

    // Its burst, and two seconds at the rate.
    let most = UPDATES_BURST as usize + 2 * UPDATES_PER_SECOND as usize + 1;
    assert!(told <= most, "{told}");
    let present = Distance::from_tenth_millis(30 + (flaps - 1) % 7).plus(LINK_COST);
    assert_eq!(last, Some((id(1_000), present)));
}

#[test]
fn more_news_than_one_call_may_tell_is_told_in_parts() {
    let origins = 100;
    let links = NEWS_PER_CALL_MAX / origins + 2;
    let link = |node: usize| LinkIndex(u32::try_from(node).unwrap());
    let mut routes = told_of(origins);
    for node in 2..links + 2 {
        routes.handle_input(
            Instant::ZERO,
            Input::LinkUp {
                link: link(node),
                peer: id(node),
            },
        );
    }
    let mut told = || std::iter::from_fn(|| routes.poll_output()).count();
    told();

    routes.handle_input(Instant::ZERO, Input::LinkDown { link: link(1) });
    let parts = parts(&mut routes, "tell the rest", |output| {
        matches!(output, Output::Send { .. })
    });

    assert_eq!(parts.iter().sum::<usize>(), origins * links);
    assert_eq!(parts.len(), 2, "{parts:?}");
}

#[test]
fn a_lost_link_is_forgotten_for_as_many_origins_at_once_as_one_call_may() {
    let mut routes = told_of(2 * ORIGINS_PER_CALL_MAX + 1);
    while routes.poll_output().is_some() {}

    routes.handle_input(Instant::ZERO, Input::LinkDown { link: LinkIndex(1) });
    let parts = parts(&mut routes, "forget a lost link", |output| {
        matches!(output, Output::Changed { route: None, .. })
    });

    assert_eq!(parts, [ORIGINS_PER_CALL_MAX, ORIGINS_PER_CALL_MAX, 1]);
}

/// How many such outputs there are at once, and each time that it goes on for that reason.
fn parts(routes: &mut Routes, why: &str, is_such: impl Fn(&Output) -> bool) -> Vec<usize> {
    let mut parts = Vec::new();
    loop {
        let outputs = std::iter::from_fn(|| routes.poll_output());
        parts.push(outputs.filter(&is_such).count());
        match routes.poll_timeout() {
            Some(wakeup) if wakeup.why == why => routes.handle_timeout(wakeup.at),
            _ => return parts,
        }
    }
}

/// A node that its only neighbour told of so many origins.
fn told_of(origins: usize) -> Routes {
    let mut routes = Routes::new(id(0), true);
    let link = |node: usize| LinkIndex(u32::try_from(node).unwrap());
    routes.handle_input(
        Instant::ZERO,
        Input::LinkUp {
            link: link(1),
            peer: id(1),
        },
    );
    for origin in 0..origins {
        let origin = id(origin + 1_000);
        let update = Update {
            origin,
            sequence: Sequence(1),
            distance: Distance::from_tenth_millis(30),
            hops: Hops::origin(origin.prefix())
                .through(id(1).prefix())
                .unwrap(),
        };
        let message = RouteMessage::Update(update);
        routes.handle_input(
            Instant::ZERO,
            Input::Message {
                link: link(1),
                message,
            },
        );
    }
    routes
}
