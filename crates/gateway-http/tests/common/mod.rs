//! A node with its HTTP server in this process, the test card as a stream, real programs and bare connections.
//!
//! Invariant: every port is chosen by the system, and what is too slow fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test may panic, and each test file uses another part"
)]

use std::num::NonZeroU32;
use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use levada::{
    Description, Frame, Node, PublishError, PublishOptions, Publisher, StreamName, Track, TrackId,
    TrackKind,
};
use levada_gateway::session::Row;
use levada_gateway_http::{Builder, Server};
use levada_media::source::{Item, Opened, Options, Request, Sources};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;

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

    pub(crate) async fn with(set: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = Node::builder().temporary_state();
        let listening = builder.listen(([127, 0, 0, 1], 0).into()).lanes(1);
        let node = listening.start().await.unwrap();
        let builder = set(Server::builder(node.clone()));
        let server = builder.start(([127, 0, 0, 1], 0).into()).await.unwrap();
        Self { node, server }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.local_addr())
    }

    /// Publishes the test card until the task that is returned is aborted.
    pub(crate) async fn show_card(&self, name: &str) -> JoinHandle<()> {
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
        let mut publisher = self.publish(name.as_str(), description).await;
        tokio::spawn(async move {
            while let Ok(Some(item)) = feed.next().await {
                if let Item::Frame(frame) = item
                    && publisher.send(frame).await.is_err()
                {
                    return;
                }
            }
        })
    }

    /// Publishes motion JPEG of one picture that need not be one, 25 times a second.
    pub(crate) async fn show_images(&self, name: &str, image: &[u8]) {
        let track = Track {
            id: TrackId(1),
            kind: TrackKind::Video,
            codec: "mjpeg".into(),
            timescale: NonZeroU32::new(1_000).unwrap(),
            config: vec![],
            language: None,
        };
        let tracks = vec![track];
        let mut publisher = self.publish(name, Description { tracks }).await;
        let data = Bytes::copy_from_slice(image);
        tokio::spawn(async move {
            for dts in (0..).step_by(40) {
                let frame = Frame {
                    track: TrackId(1),
                    sync: true,
                    discardable: false,
                    dts,
                    pts: dts,
                    data: data.clone(),
                };
                if publisher.send(frame).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });
    }

    pub(crate) async fn publish(&self, name: &str, description: Description) -> Publisher {
        let options = PublishOptions::default();
        let name: StreamName = name.parse().unwrap();
        loop {
            let asked = self
                .node
                .publish(name.clone(), description.clone(), options);
            match asked.await {
                // The node hears of a publisher that is gone a moment after.
                Err(PublishError::AlreadyPublished { .. }) => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                published => return published.unwrap(),
            }
        }
    }

    /// Waits until the server knows a stream.
    pub(crate) async fn learns(&self, name: &str) {
        self.learns_as(name, "").await;
    }

    /// The same where there are users, by a token that may play it.
    pub(crate) async fn learns_as(&self, name: &str, token: &str) {
        let said = format!("\"name\":\"{name}\"");
        let list = format!("/live/?json&token={token}");
        while !self.get(&list).await.contains(&said) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.server.registry().rows()
    }

    /// Waits until the only session has ended, and returns its record.
    pub(crate) async fn ended(&self) -> Row {
        until("a session to end", || {
            let rows = self.rows();
            assert!(rows.len() <= 1, "{rows:?}");
            rows.into_iter().find(|row| row.ended.is_some())
        })
        .await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.local_addr()).await.unwrap()
    }

    /// The body of an answer.
    pub(crate) async fn bytes(&self, path: &str) -> Vec<u8> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        let mut answer = self.exchange(request.as_bytes()).await;
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
        answer.split_off(end.map_or(0, |end| end + 4))
    }

    /// Sends bytes on a connection of their own, and returns all that comes until it closes, as text.
    pub(crate) async fn say(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(&self.exchange(bytes).await).into_owned()
    }

    async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // A reset behind the answer is an answer.
        let _ = read.unwrap_or_else(|_| panic!("the connection stays open"));
        answer
    }

    /// The answer to a request for a path, with more lines in its head.
    pub(crate) async fn ask(&self, method: &str, path: &str, lines: &str) -> String {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{lines}\r\n");
        self.say(request.as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.ask("GET", path, "").await
    }

    /// Asks for a stream, and reads what it is told before the first byte.
    pub(crate) async fn open(&self, path: &str) -> (TcpStream, String) {
        let mut stream = self.connect().await;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
            head.push(read.unwrap_or_else(|_| panic!("no head")).unwrap());
        }
        (stream, String::from_utf8(head).unwrap())
    }
}

/// The number in the first line of an answer.
pub(crate) fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
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

/// Runs a program to its end.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {arguments:?} does not end"));
    output.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"))
}

/// Standard error as text.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
