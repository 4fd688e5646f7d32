//! The API of a real node, asked as a browser and a program would: rows, changes, events, metrics, actions, the page.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use futures_core::Stream;
use levada::{Description, Node, PublishOptions, StreamName, Track, TrackId, TrackKind};
use levada_api::Api;
use levada_api::actions::{Order, Pending, Publishing};
use levada_api::watch::WATCHERS_MAX;
use levada_gateway::session::About;
use levada_gateway::{Registry, Role, Transport};
use serde_json::Value;
use tower_service::Service;

const HERE: &str = "127.0.0.1:5000";
const BODY_MAX: usize = 4 << 20;
/// The longest that anything may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);

struct House {
    node: Node,
    registry: Registry,
    api: Api,
    router: Router,
}

impl House {
    async fn new() -> Self {
        let builder = Node::builder().temporary_state();
        let listening = builder.listen(([127, 0, 0, 1], 0).into()).lanes(1);
        let node = listening.start().await.unwrap();
        let registry = Registry::default();
        let peer = |extensions: &axum::http::Extensions| extensions.get::<SocketAddr>().copied();
        let api = Api::start(node.clone(), registry.clone(), peer);
        let router = api.router().merge(api.page());
        Self {
            node,
            registry,
            api,
            router,
        }
    }

    /// Sends JSON.
    async fn send(&self, path: &str, body: &str) -> Response {
        let request = Request::builder().method(Method::POST).uri(path);
        let request = request
            .header("host", "localhost:8080")
            .header("content-type", "application/json");
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        let here: SocketAddr = HERE.parse().unwrap();
        request.extensions_mut().insert(here);
        self.router.clone().call(request).await.unwrap()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        from: &str,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", "localhost:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let from: SocketAddr = from.parse().unwrap();
        request.extensions_mut().insert(from);
        self.router.clone().call(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[], HERE).await
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        json(answer).await
    }

    async fn publish(&self, name: &str) -> levada::Publisher {
        let name: StreamName = name.parse().unwrap();
        let track = Track {
            id: TrackId(1),
            kind: TrackKind::Video,
            codec: "h264".into(),
            timescale: NonZeroU32::new(90_000).unwrap(),
            config: vec![1, 2, 3],
            language: None,
        };
        let description = Description {
            tracks: vec![track],
        };
        self.node
            .publish(name, description, PublishOptions::default())
            .await
            .unwrap()
    }
}

async fn text(answer: Response) -> String {
    let bytes = to_bytes(answer.into_body(), BODY_MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn json(answer: Response) -> Value {
    serde_json::from_str(&text(answer).await).unwrap()
}

/// Reads server-sent events until one is what is looked for.
async fn heard(body: &mut BodyDataStream, is_it: impl Fn(&str) -> bool) -> String {
    let mut unread = String::new();
    let reading = async {
        loop {
            let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_next(cx));
            let chunk = next.await.expect("it goes on").unwrap();
            unread.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some(end) = unread.find("\n\n") {
                let message: String = unread.drain(..end + 2).collect();
                if is_it(&message) {
                    return message;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("nobody said it")
}

#[tokio::test]
async fn a_table_has_the_rows_that_the_command_line_prints() {
    let house = House::new().await;
    let _publisher = house.publish("lobby/cam").await;

    let streams = house.json("/api/v1/streams").await;
    let node = house.json("/api/v1/node").await;
    let index = house.json("/api/v1").await;

    let rows = house.node.rows::<levada::view::StreamRow>().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(streams["rows"], serde_json::to_value(&rows).unwrap());
    assert_eq!(streams["version"], levada::view::VERSION);
    assert_eq!(node["id"], house.node.id().to_string());
    for table in index["tables"].as_array().unwrap() {
        assert!(
            house.json(table.as_str().unwrap()).await["rows"].is_array(),
            "{table}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_that_says_what_is() {
    let house = House::new().await;

    for (path, word) in [
        ("/api/v1/stream", "streams, nodes, links"),
        ("/api/v1/watch?tables=stream", "streams, nodes, links"),
        ("/api/v1/trace/no/such", "does not flow here"),
        ("/ui/nothing.js", "the page"),
    ] {
        let answer = house.get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem = json(answer).await;
        assert!(
            problem["detail"].as_str().unwrap().contains(word),
            "{problem}"
        );
        assert_eq!(problem["status"], 404);
    }
    let answer = house.get("/api/v1/watch").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

/// Whether a value is of the type that a schema says.
fn is_of(value: &Value, schema: &Value) -> bool {
    let is = |kind: &str| match kind {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("a schema says {other}"),
    };
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        kind => is(kind.as_str().unwrap()),
    }
}

#[tokio::test]
async fn rows_are_what_the_openapi_document_says() {
    let house = House::new().await;
    let _publisher = house.publish("lobby/cam").await;
    let session = house.registry.begin(About {
        role: Role::Play,
        stream: "lobby/cam".parse().unwrap(),
        protocol: "rtsp",
        transport: Transport::Tcp,
        user: None,
        remote: HERE.parse().unwrap(),
        agent: String::new(),
    });
    let other = Node::builder().temporary_state().lanes(1);
    let other = other.listen(([127, 0, 0, 1], 0).into());
    let other = other.join(house.node.local_addr().to_string());
    let _other = other.start().await.unwrap();
    let links = async || {
        while house.json("/api/v1/links").await["rows"] == serde_json::json!([]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, links()).await.unwrap();

    let document = house.json("/api/v1/openapi.json").await;

    assert_eq!(document["openapi"], "3.1.0");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (table, schema) in schemas {
        let rows = house.json(&format!("/api/v1/{table}")).await;
        let rows = rows["rows"].as_array().unwrap();
        // A node that listens on the loopback interface alone forms no site.
        assert_eq!(rows.is_empty(), table == "site", "{table}");
        for row in rows {
            for (name, schema) in schema["properties"].as_object().unwrap() {
                assert!(is_of(&row[name], schema), "{table}.{name}: {row}");
                assert!(row.get(name).is_some(), "{table}.{name} is missing: {row}");
            }
        }
    }
    drop(session);
}

#[tokio::test]
async fn the_paths_of_the_openapi_document_are_those_that_there_are() {
    let house = House::new().await;
    let document = house.json("/api/v1/openapi.json").await;

    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            if path == "/api/v1/leave" {
                continue;
            }
            let path = path
                .replace("{name}", "no/such")
                .replace("{id}", "77")
                .replace("{link}", "77");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = house.ask(method, &path, &[], HERE).await;
            // What is not there at all has no problem of its own, and another method is 405.
            let is_known = answer.status() != StatusCode::METHOD_NOT_ALLOWED
                && (answer.status() != StatusCode::NOT_FOUND
                    || answer.headers()["content-type"] == "application/problem+json");
            assert!(is_known, "{path}: {}", answer.status());
        }
    }
    let index = house.json("/api/v1").await;
    for table in index["tables"].as_array().unwrap() {
        let path = table.as_str().unwrap();
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
}

#[tokio::test]
async fn strangers_and_pages_of_other_sites_get_nothing_and_change_nothing() {
    let house = House::new().await;
    let paths = [
        "/ui/",
        "/api/v1/node",
        "/api/v1/streams",
        "/api/v1/events",
        "/api/v1/history",
        "/metrics",
    ];

    for path in paths {
        let stranger = house.ask(Method::GET, path, &[], "192.0.2.7:1").await;
        assert_eq!(stranger.status(), StatusCode::FORBIDDEN, "{path}");
        let elsewhere = [("origin", "http://elsewhere.example")];
        let page = house.ask(Method::GET, path, &elsewhere, HERE).await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(page.headers().get("access-control-allow-origin").is_none());
    }
    let elsewhere = [("sec-fetch-site", "cross-site")];
    let page = house
        .ask(Method::POST, "/api/v1/leave", &elsewhere, HERE)
        .await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        house.get("/ready").await.status(),
        StatusCode::OK,
        "it has not left"
    );
    let health = house.ask(Method::GET, "/health", &[], "192.0.2.7:1").await;
    assert_eq!(health.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_watches_gets_the_table_and_then_what_changes() {
    let house = House::new().await;
    let _first = house.publish("first").await;
    let answer = house.get("/api/v1/watch?tables=streams,sessions").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body().into_data_stream();

    let of_streams = |message: &str| message.contains("\"table\":\"streams\"");
    let snapshot = heard(&mut body, of_streams).await;
    let second = house.publish("second").await;
    let delta = heard(&mut body, of_streams).await;
    second.finish().await.unwrap();
    let gone = heard(&mut body, |message| {
        of_streams(message) && message.contains("second ")
    })
    .await;

    assert!(
        snapshot.starts_with("event: snapshot\n") && snapshot.contains("first"),
        "{snapshot}"
    );
    assert!(
        delta.starts_with("event: delta\n") && delta.contains("second"),
        "{delta}"
    );
    assert!(
        !delta.contains("first"),
        "what did not change is not told: {delta}"
    );
    assert!(gone.contains("\"changed\":[]"), "{gone}");
}

#[tokio::test]
async fn only_so_many_watch_one_table_at_once() {
    let house = House::new().await;
    let path = "/api/v1/watch?tables=streams";
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS_MAX {
        let answer = house.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        watchers.push(answer);
    }

    let refused = house.get(path).await;
    let other = house.get("/api/v1/watch?tables=links").await;

    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(refused).await.contains("too many watch"));
    assert_eq!(other.status(), StatusCode::OK, "each table by itself");
}

#[tokio::test]
async fn events_are_remembered_and_told() {
    let house = House::new().await;
    let accept = [("accept", "text/event-stream")];
    let answer = house
        .ask(Method::GET, "/api/v1/events", &accept, HERE)
        .await;
    let mut body = answer.into_body().into_data_stream();

    let _publisher = house.publish("cam").await;
    let told = heard(&mut body, |message| message.contains("streams_changed")).await;
    let history = house.json("/api/v1/events").await;

    assert!(told.contains("`cam` came, changed or went"), "{told}");
    let events = history["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["stream"] == "cam"),
        "{history}"
    );
}

#[tokio::test]
async fn metrics_say_what_counters_say() {
    let house = House::new().await;
    let _publisher = house.publish("cam").await;

    let answer = house.get("/metrics").await;
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = text(answer).await;

    assert!(text.contains("\nlevada_streams 1\n"), "{text}");
    assert!(
        text.contains("levada_sessions{role=\"play\"} 0\n"),
        "{text}"
    );
    let rows = house.node.rows::<levada::view::CounterRow>().await.unwrap();
    let typed = |line: &&str| line.starts_with("# TYPE levada_");
    assert!(text.lines().filter(typed).count() > 10);
    for line in text.lines().filter(|line| line.contains("_total")) {
        let name = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ");
        let name = name.trim_start_matches("levada_");
        let is_known = rows.iter().any(|row| name.starts_with(&*row.name));
        assert!(is_known, "{line}");
    }
}

#[tokio::test]
async fn a_session_is_ended_by_its_number() {
    let house = House::new().await;
    let session = house.registry.begin(About {
        role: Role::Play,
        stream: "cam".parse().unwrap(),
        protocol: "rtsp",
        transport: Transport::Tcp,
        user: None,
        remote: ([127, 0, 0, 1], 9).into(),
        agent: "test".into(),
    });

    let rows = house.json("/api/v1/sessions").await;
    let id = rows["rows"][0]["id"].as_u64().unwrap();
    let path = format!("/api/v1/sessions/{id}");
    let kicked = house.ask(Method::DELETE, &path, &[], HERE).await;
    tokio::time::timeout(PATIENCE, session.kicked())
        .await
        .unwrap();
    drop(session);

    assert_eq!(kicked.status(), StatusCode::NO_CONTENT);
    for path in [&*path, "/api/v1/sessions/none"] {
        let again = house.ask(Method::DELETE, path, &[], HERE).await;
        assert_eq!(again.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

/// A program around the node that publishes one name only.
#[derive(Debug)]
struct OneName;

impl Publishing for OneName {
    fn publish(&self, order: Order) -> Pending<Result<(), String>> {
        let is_it = order.name == "cam" && order.source == "test" && !order.r#loop;
        Box::pin(async move { is_it.then_some(()).ok_or_else(|| "no such file".to_owned()) })
    }

    fn take_back(&self, name: StreamName) -> Pending<Result<(), String>> {
        let is_it = name.as_str() == "lobby/cam";
        Box::pin(async move {
            is_it
                .then_some(())
                .ok_or_else(|| "not from here".to_owned())
        })
    }
}

#[tokio::test]
async fn streams_are_published_by_the_program_and_refused_in_its_words() {
    let house = House::new().await;
    let order = r#"{"name":"cam","source":"test"}"#;

    let before = house.send("/api/v1/streams", order).await;
    house.api.publish_by(Arc::new(OneName));
    let published = house.send("/api/v1/streams", order).await;
    let other = r#"{"name":"cam","source":"none.ts"}"#;
    let refused = house.send("/api/v1/streams", other).await;
    let nonsense = house.send("/api/v1/streams", r#"{"nmae":"cam"}"#).await;
    let delete = async |path: &str| house.ask(Method::DELETE, path, &[], HERE).await;
    let gone = delete("/api/v1/streams/lobby/cam").await;
    let foreign = delete("/api/v1/streams/cam").await;

    assert_eq!(before.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(published.status(), StatusCode::CREATED);
    for (answer, words) in [
        (refused, "no such file"),
        (nonsense, "\"source\""),
        (foreign, "not from here"),
    ] {
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let problem = json(answer).await;
        assert!(
            problem["detail"].as_str().unwrap().contains(words),
            "{problem}"
        );
    }
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_neighbour_is_connected_and_disconnected_and_stays_so() {
    let (house, other) = (House::new().await, House::new().await);
    let address = other.node.local_addr();
    let row = async |is_there: bool| {
        let look = async {
            loop {
                let links = house.json("/api/v1/links").await;
                let up = links["rows"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|row| row["state"] == "up");
                if up.is_some() == is_there {
                    return up.cloned();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    };

    let body = format!(r#"{{"address":"{address}"}}"#);
    let connected = house.send("/api/v1/links", &body).await;
    let link = row(true).await.unwrap()["link"].clone();
    let path = format!("/api/v1/links/{link}");
    let disconnected = house.ask(Method::DELETE, &path, &[], HERE).await;
    row(false).await;
    let refused = house.send("/api/v1/links", r#"{"address":"a b:c"}"#).await;

    assert_eq!(connected.status(), StatusCode::ACCEPTED);
    assert_eq!(disconnected.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        house.json("/api/v1/links").await["rows"],
        serde_json::json!([])
    );
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    for path in [&*path, "/api/v1/links/none"] {
        let again = house.ask(Method::DELETE, path, &[], HERE).await;
        assert_eq!(again.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_node_that_was_told_to_leave_is_ready_no_more() {
    let house = House::new().await;

    let answer = house.ask(Method::POST, "/api/v1/leave", &[], HERE).await;
    tokio::time::timeout(PATIENCE, house.node.stopped())
        .await
        .unwrap()
        .unwrap();

    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let ready = house.get("/ready").await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_page_asks_nobody_but_this_node() {
    let house = House::new().await;

    let answer = house.get("/ui/").await;
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    let page = text(answer).await;

    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!policy.contains("http"), "{policy}");
    for (name, media_type) in [("app.js", "text/javascript"), ("app.css", "text/css")] {
        assert!(page.contains(&format!("/ui/{name}")), "{page}");
        let file = house.get(&format!("/ui/{name}")).await;
        let of = file.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(of.starts_with(media_type), "{of}");
        assert!(text(file).await.len() > 1_000);
    }
}
