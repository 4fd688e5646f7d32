//! The node's end of the local socket.
//!
//! Not the protocol's bytes (`message`). Started by `driver`. Invariant: the socket file is made and replaced only
//! by whoever holds the state directory's lock, so a file that is there already is a dead node's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use levada_core::Paths;
use levada_wire::{Bitrate, Layer, PacketSize, StreamName};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::GREETING;
use super::message::{self, FrameBody, Kind, Message, PlayRequest, PublishRequest, Request};
use crate::driver::{Handle, WeakHandle};
use crate::node::{Node, Stopped};
use crate::publisher::{PublishOptions, Publisher};
use crate::subscriber::SubscribeOptions;
use crate::view::{
    CounterRow, FlowRow, LinkRow, MapRow, MemberRow, NodeRow, RouteRow, Row, Rows, StreamRow, Table,
};

/// The most clients at once. One more is told so.
const CLIENTS_MAX: usize = 64;
/// How long a client may take to say what it wants.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

type Reader = BufReader<OwnedReadHalf>;
type Writer = BufWriter<OwnedWriteHalf>;

/// The socket in the state directory. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket. The caller holds the state directory's lock.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the local socket's file stays");
        }
    }
}

/// Answers clients until the node is gone.
pub(crate) async fn serve(listener: Listener, node: WeakHandle) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors or the like: those who knock wait until some are free.
                tracing::warn!(%error, "the local socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Some(node) = node.upgrade() else {
            return;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(stream).await;
            continue;
        };
        clients.spawn(async move {
            if let Err(error) = client(stream, node).await {
                tracing::debug!(%error, "a client of the local socket broke off");
            }
            drop(place);
        });
    }
}

/// Tells one client too many why. A fresh socket has room for these few bytes, so this does not wait.
async fn refuse(stream: UnixStream) {
    let text = format!("the node serves {CLIENTS_MAX} local commands already: end one first");
    let mut writer = BufWriter::new(stream.into_split().1);
    let told = async {
        writer.write_all(GREETING).await?;
        answer(&mut writer, &Message::error(text)).await
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "a client of the local socket broke off");
    }
}

/// Serves one client.
async fn client(stream: UnixStream, node: Handle) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut writer = BufWriter::new(writer);
    let request = tokio::time::timeout(REQUEST_DEADLINE, greet(&mut reader, &mut writer));
    let request = request.await.map_err(io::Error::other)??;
    match request {
        Request::View => {
            let view = Node::from_handle(node).view().await;
            answer(&mut writer, &shown(view)).await
        }
        Request::Rows(table) => {
            let node = Node::from_handle(node);
            let reply = match table {
                Table::Streams => rows::<StreamRow>(&node).await,
                Table::Nodes => rows::<NodeRow>(&node).await,
                Table::Links => rows::<LinkRow>(&node).await,
                Table::Routes => rows::<RouteRow>(&node).await,
                Table::Flows => rows::<FlowRow>(&node).await,
                Table::Counters => rows::<CounterRow>(&node).await,
                Table::Members => rows::<MemberRow>(&node).await,
                Table::Map => rows::<MapRow>(&node).await,
            };
            answer(&mut writer, &reply).await
        }
        Request::Trace(name) => {
            let reply = match name.parse::<StreamName>() {
                Ok(name) => match Node::from_handle(node).trace(&name).await {
                    Ok(rows) => Message::json(Kind::Ok, &Rows::new(rows)),
                    Err(error) => Message::error(error),
                },
                Err(error) => Message::error(error),
            };
            answer(&mut writer, &reply).await
        }
        Request::Leave => {
            answer(&mut writer, &Message::json(Kind::Ok, &())).await?;
            // The client sees the end of the node by the end of its connection.
            Node::from_handle(node).leave().await;
            Ok(())
        }
        Request::Program(request) => {
            let reply = match node.program_answer(&request.word, &request.question) {
                Some(Ok(text)) => Message::json(Kind::Ok, &text),
                Some(Err(text)) => Message::error(text),
                None => Message::error(format!(
                    "this node's program has no `{}`: it runs without gateways, or is no `levada run`",
                    request.word
                )),
            };
            answer(&mut writer, &reply).await
        }
        Request::Publish(request) => publish(request, node, reader, writer).await,
        Request::Play(request) => play(request, node, reader, writer).await,
    }
}

async fn rows<R: Row>(node: &Node) -> Message {
    shown(node.rows::<R>().await.map(Rows::new))
}

fn shown(rows: Result<impl Serialize, Stopped>) -> Message {
    match rows {
        Ok(rows) => Message::json(Kind::Ok, &rows),
        Err(error) => Message::error(error),
    }
}

async fn greet(reader: &mut Reader, writer: &mut Writer) -> io::Result<Request> {
    writer.write_all(GREETING).await?;
    writer.flush().await?;
    let mut greeting = [0; GREETING.len()];
    reader.read_exact(&mut greeting).await?;
    if greeting != GREETING {
        return Err(message::malformed(
            "a greeting of another protocol or version",
        ));
    }
    let request = Message::read(reader).await?;
    request
        .ok_or_else(|| message::malformed("no request"))?
        .parse()
}

async fn answer(writer: &mut Writer, message: &Message) -> io::Result<()> {
    message.write(writer).await?;
    writer.flush().await
}

async fn publish(
    request: PublishRequest,
    node: Handle,
    mut reader: Reader,
    mut writer: Writer,
) -> io::Result<()> {
    let published = begin(request, node).await;
    let ended = match published {
        Ok(publisher) => {
            answer(&mut writer, &Message::json(Kind::Ok, &())).await?;
            take_frames(publisher, &mut reader).await?
        }
        Err(text) => Err(text),
    };
    let reply = match ended {
        Ok(()) => Message::json(Kind::Ok, &()),
        Err(text) => Message::error(text),
    };
    answer(&mut writer, &reply).await
}

async fn begin(request: PublishRequest, node: Handle) -> Result<Publisher, String> {
    let name: StreamName = request.name.parse().map_err(in_words)?;
    let packet_size =
        PacketSize::new(request.packet_size).ok_or("the packet size is out of range")?;
    let mut options = PublishOptions::default()
        .with_packet_size(packet_size)
        .with_flush_interval(Duration::from_micros(request.flush_us));
    options.peak = request.peak_bps.map(Bitrate);
    let node = Node::from_handle(node);
    let description = request.description.into();
    node.publish(name, description, options)
        .await
        .map_err(in_words)
}

/// Takes what the client publishes until it says that it is done, or is gone, which ends the stream as well. The inner
/// result is for the client, the outer one for the log.
async fn take_frames(
    mut publisher: Publisher,
    reader: &mut Reader,
) -> io::Result<Result<(), String>> {
    while let Some(message) = Message::read(reader).await? {
        let taken = match message.kind {
            Kind::Frame => publisher.send(FrameBody::decode(&message)?.frame).await,
            Kind::Description => {
                let description = message::parse_description(&message)?;
                publisher.describe((*description).clone()).await
            }
            Kind::Finish => return Ok(publisher.finish().await.map_err(in_words)),
            kind => return Err(message::malformed(format!("a {kind:?} from a publisher"))),
        };
        if let Err(error) = taken {
            return Ok(Err(in_words(error)));
        }
    }
    Ok(Ok(()))
}

async fn play(
    request: PlayRequest,
    node: Handle,
    mut reader: Reader,
    mut writer: Writer,
) -> io::Result<()> {
    let options = SubscribeOptions::default()
        .with_layer(Layer(request.layer))
        .with_queue(request.queue_frames_max, request.queue_bytes_max)
        .with_repair_budget(Duration::from_millis(request.repair_budget_ms))
        .with_paths(if request.two_paths {
            Paths::Two
        } else {
            Paths::One
        });
    let subscribed = match request.name.parse::<StreamName>() {
        Ok(name) => node.subscribe(name, options).await.map_err(in_words),
        Err(error) => Err(in_words(error)),
    };
    let mut subscriber = match subscribed {
        Ok(subscriber) => subscriber,
        Err(text) => return answer(&mut writer, &Message::error(text)).await,
    };
    // The subscriber keeps the node alive from here on.
    drop(node);
    answer(&mut writer, &Message::json(Kind::Ok, &())).await?;
    loop {
        let delivery = tokio::select! {
            delivery = subscriber.next() => delivery,
            // A client that plays says nothing more; this is its end.
            _ = reader.read_u8() => return Ok(()),
        };
        let Some(delivery) = delivery else {
            return Ok(());
        };
        if let Some(message) = message::delivery(delivery) {
            answer(&mut writer, &message).await?;
        }
    }
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
