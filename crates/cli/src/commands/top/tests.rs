//! Keys are pressed and screens are read, over the rows of a real node.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::Ipv4Addr;

use levada::{Description, Node, PublishOptions, Publisher, SubscribeOptions, Subscriber};
use levada_media::TestCard;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::super::draw::draw;
use super::*;

/// A node with a stream that is played, one that is not, and a neighbour that does not answer.
struct House {
    node: Node,
    _publishers: Vec<Publisher>,
    _subscriber: Subscriber,
}

impl House {
    async fn new() -> Self {
        let builder = Node::builder().temporary_state().name("hall").lanes(1);
        let builder = builder.listen((Ipv4Addr::LOCALHOST, 0).into());
        let node = builder.join("127.0.0.1:1").start().await.unwrap();
        let description: Description = TestCard::new().description().clone();
        let mut publishers = Vec::new();
        for name in ["lobby/cam", "stage/wide"] {
            let options = PublishOptions::default();
            let published = node.publish(name.parse().unwrap(), description.clone(), options);
            publishers.push(published.await.unwrap());
        }
        let name = "lobby/cam".parse().unwrap();
        let subscriber = node.subscribe(name, SubscribeOptions::default());
        Self {
            _subscriber: subscriber.await.unwrap(),
            node,
            _publishers: publishers,
        }
    }

    async fn snapshot(&self) -> Snapshot {
        Snapshot {
            view: self.node.view().await.unwrap(),
            map: Some(self.node.rows().await.unwrap()),
        }
    }

    async fn app(&self) -> App {
        App::new(self.snapshot().await)
    }
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal.backend().to_string()
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        app.on_key(match key {
            '\t' => Key::Next,
            '\n' => Key::Enter,
            letter => Key::Letter(letter),
        });
    }
}

#[tokio::test]
async fn a_node_fits_80_columns_and_24_lines() {
    let house = House::new().await;
    let mut app = house.app().await;

    let streams = screen(&app, 80, 24);
    press(&mut app, "2");
    let links = screen(&app, 80, 24);
    press(&mut app, "4");
    let events = screen(&app, 80, 24);
    press(&mut app, "h");
    let help = screen(&app, 80, 24);

    for word in [
        "hall",
        "2 streams",
        "lobby/cam",
        "ACTIVE",
        "stage/wide",
        "HOLD",
        "F10Quit",
    ] {
        assert!(streams.contains(word), "{word}: {streams}");
    }
    assert!(links.contains("127.0.0.1:1 "), "{links}");
    assert!(events.contains("nothing has happened"), "{events}");
    assert!(help.contains("the tree of the selected stream"), "{help}");
}

#[tokio::test]
async fn no_size_of_the_terminal_is_a_problem() {
    let house = House::new().await;
    let mut app = house.app().await;

    for tab in ["1", "2", "3", "4"] {
        press(&mut app, tab);
        for (width, height) in [(1, 1), (3, 2), (20, 5), (80, 4), (400, 100)] {
            screen(&app, width, height);
        }
    }
    press(&mut app, "h");
    screen(&app, 10, 3);
}

#[tokio::test]
async fn the_keys_are_those_of_htop() {
    let house = House::new().await;
    let mut app = house.app().await;
    let names = |app: &App| -> Vec<String> {
        app.streams()
            .iter()
            .map(|row| row.name.to_string())
            .collect()
    };

    app.on_key(Key::End);
    assert_eq!(app.selected, 1);
    press(&mut app, "/wide");
    assert_eq!(
        (names(&app), app.selected),
        (vec!["stage/wide".to_owned()], 0)
    );
    press(&mut app, "\n");
    assert!(!app.is_typing);
    app.on_key(Key::Escape);
    assert_eq!(names(&app).len(), 2);
    app.on_key(Key::Function(6));
    assert_eq!(app.order, Order::Rate);
    app.on_key(Key::Home);
    press(&mut app, "\n");
    assert_eq!(
        (app.tab, app.tree_of().as_deref()),
        (Tab::Tree, Some("lobby/cam"))
    );
    press(&mut app, "\t");
    assert_eq!(app.tab, Tab::Events);
    app.on_key(Key::Function(1));
    press(&mut app, "q");
    assert!(!app.is_over(), "any key goes back from the help");
    press(&mut app, "q");
    assert!(app.is_over());
}

#[tokio::test]
async fn what_changes_is_an_event_and_what_is_kept_is_bounded() {
    let house = House::new().await;
    let mut app = house.app().await;
    let mut without = house.snapshot().await;
    let gone = without.view.streams.remove(0);

    app.on_snapshot(without.clone());
    let first = app.events.back().unwrap().1.clone();
    for _ in 0..EVENTS_MAX.max(RATES_MAX) {
        app.on_snapshot(house.snapshot_of(&without, &gone, true));
        app.on_snapshot(house.snapshot_of(&without, &gone, false));
    }
    app.on_silence("it has stopped".to_owned());

    assert_eq!(first, "`lobby/cam` went");
    assert_eq!(
        (app.events.len(), app.received.len()),
        (EVENTS_MAX, RATES_MAX)
    );
    assert!(screen(&app, 80, 24).contains("it has stopped"));
    app.is_typing = true;
    press(&mut app, &"x".repeat(2 * FILTER_MAX));
    assert_eq!(app.filter.len(), FILTER_MAX);
}

impl House {
    fn snapshot_of(&self, without: &Snapshot, row: &StreamRow, is_there: bool) -> Snapshot {
        let mut snapshot = without.clone();
        if is_there {
            snapshot.view.streams.insert(0, row.clone());
        }
        snapshot
    }
}

/// A node of a map: what comes to it, and from whom.
fn place(id: u8, name: &str, upstream: Option<u8>, rtt: f64) -> MapRow {
    let id_of = |id: u8| format!("{id:02x}").repeat(32);
    let link = |peer: u8| {
        json!({ "peer": id_of(peer), "name": "", "rtt_seconds": rtt, "loss_in_ratio": 0.02,
            "loss_out_ratio": 0.0, "datagrams_in": 0, "datagrams_out": 0 })
    };
    let flow: Value = json!({ "flow": "0000000000000001", "name": "lobby/cam", "origin": id_of(1),
        "upstream": upstream.map(id_of), "subscriptions": 1, "egresses": 1, "packets_in": 1, "bytes_in": 1,
        "packets_out": 1, "repaired": 7, "withheld": 0 });
    let links: Vec<_> = upstream.map(link).into_iter().collect();
    serde_json::from_value(
        json!({ "id": id_of(id), "name": name, "hops": 0, "via": null, "is_relay": true,
        "is_hub": false, "uptime_seconds": 1.0, "cause": null, "links": links,
        "flows": [flow], "links_total": 1, "streams_total": 1 }),
    )
    .unwrap()
}

#[tokio::test]
async fn a_tree_begins_at_the_origin_and_has_each_node_once_even_in_a_circle() {
    let house = House::new().await;
    let mut app = house.app().await;
    press(&mut app, "3");

    app.map = vec![
        place(3, "wien", Some(2), 0.018),
        place(2, "paris", Some(1), 0.024),
        place(1, "funchal", None, 0.0),
    ];
    let text = screen(&app, 80, 24);
    let depths: Vec<_> = app.tree().iter().map(|branch| branch.depth).collect();
    app.map = vec![place(1, "a", Some(2), 0.0), place(2, "b", Some(1), 0.0)];
    let circle = app.tree();

    assert_eq!(depths, [0, 1, 2]);
    assert!(
        text.contains("└─ paris") && text.contains("12.0 ms"),
        "{text}"
    );
    assert!(
        text.contains("   └─ wien") && text.contains("2.0%"),
        "{text}"
    );
    assert!(circle.len() <= 2);
}
