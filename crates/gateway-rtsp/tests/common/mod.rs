//! A node with its RTSP server in this process, the test card as a stream, and real programs around them.
//!
//! Invariant: every port is chosen by the system, and a program that is too slow is killed and fails the test.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may panic, and each test file uses another part"
)]

use std::process::{Output, Stdio};
use std::time::Duration;

use levada::{Node, PublishOptions, StreamName};
use levada_gateway::session::Row;
use levada_gateway::{EndReason, Registry};
use levada_gateway_rtsp::Server;
use levada_media::source::{Item, Opened, Options, Request, Sources};
use tokio::process::{Child, Command};

/// The longest that anything may take on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A node and its server.
pub(crate) struct House {
    pub(crate) node: Node,
    pub(crate) server: Server,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(
        set: impl FnOnce(levada_gateway_rtsp::server::Builder) -> levada_gateway_rtsp::server::Builder,
    ) -> Self {
        let builder = Node::builder().temporary_state();
        let listening = builder.listen(([127, 0, 0, 1], 0).into()).lanes(1);
        let node = listening.start().await.unwrap();
        let builder = set(Server::builder(node.clone()));
        let server = builder.start(([127, 0, 0, 1], 0).into()).await.unwrap();
        Self { node, server }
    }

    /// A server on a node that is there already.
    pub(crate) async fn of(node: Node) -> Self {
        let builder = Server::builder(node.clone());
        let server = builder.start(([127, 0, 0, 1], 0).into()).await.unwrap();
        Self { node, server }
    }

    /// The same with another server at the same address.
    pub(crate) async fn restarted(self) -> Self {
        let Self { node, server } = self;
        let address = server.local_addr();
        drop(server);
        let started = until("the port to be free", || {
            std::net::TcpListener::bind(address).ok().map(drop)
        });
        started.await;
        let server = Server::builder(node.clone()).start(address).await.unwrap();
        Self { node, server }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("rtsp://{}/{name}", self.server.local_addr())
    }

    /// Publishes the test card for as long as the test runs.
    pub(crate) async fn show_card(&self, name: &str) {
        let name: StreamName = name.parse().unwrap();
        let card = Request {
            text: "test".to_owned(),
            name: name.clone(),
            options: Options::default(),
        };
        let Opened::One(mut feed) = Sources::new().open(card).await.unwrap() else {
            panic!("the test card is one stream");
        };
        let Item::Description(description) = feed.next().await.unwrap().unwrap() else {
            panic!("a feed begins with its description");
        };
        let options = PublishOptions::default();
        let mut publisher = self.node.publish(name, description, options).await.unwrap();
        tokio::spawn(async move {
            while let Ok(Some(item)) = feed.next().await {
                if let Item::Frame(frame) = item
                    && publisher.send(frame).await.is_err()
                {
                    return;
                }
            }
        });
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.server.registry().rows()
    }

    /// Waits until the only session has ended, and returns its record.
    pub(crate) async fn ended(&self) -> Row {
        ended(self.server.registry()).await
    }
}

async fn ended(registry: &Registry) -> Row {
    until("a session to end", || {
        let rows = registry.rows();
        assert!(rows.len() <= 1, "{rows:?}");
        rows.into_iter().find(|row| row.ended.is_some())
    })
    .await
}

/// Looks until it is so.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a program to its end.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> Output {
    let output = tokio::time::timeout(PATIENCE, command(program, arguments).output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {arguments:?} does not end"));
    output.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"))
}

/// Starts a program that goes on; it is killed when it is dropped.
pub(crate) fn start(program: &str, arguments: &[&str]) -> Child {
    let spawned = command(program, arguments).spawn();
    spawned.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"))
}

/// Standard error as text.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a row ended because its client said goodbye.
pub(crate) fn left(row: &Row) -> bool {
    row.ended == Some(EndReason::Left)
}
