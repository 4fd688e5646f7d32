//! A command's end of the local socket.
//!
//! Not a node: it has no key and no address. Called by `cli`. Invariant: what the node says in an error reaches the
//! user word by word.

use std::io;
use std::path::{Path, PathBuf};

use levada_core::Paths;
use levada_wire::{Description, Frame, Group, StreamName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::GREETING;
use super::message::{
    self, FrameBody, Kind, Message, PlayRequest, ProgramRequest, PublishRequest, Request,
};
use crate::publisher::PublishOptions;
use crate::state::socket_path;
use crate::subscriber::{Delivery, SubscribeOptions};
use crate::view::{HopRow, Row, Rows, View};

/// A connection to a running node of this user. Good for one request.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: BufWriter<OwnedWriteHalf>,
}

impl Client {
    /// Connects to the node whose state is in `state_dir`.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`] when there is none, others when it cannot be talked to.
    pub async fn connect(state_dir: &Path) -> Result<Self, ClientError> {
        let path = socket_path(state_dir);
        let stream = UnixStream::connect(&path).await.map_err(|source| {
            let is_absent = matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotADirectory
            );
            if is_absent {
                ClientError::NotRunning {
                    state_dir: state_dir.to_owned(),
                }
            } else {
                ClientError::Broken(source)
            }
        })?;
        let (reader, writer) = stream.into_split();
        let mut client = Self {
            reader: BufReader::new(reader),
            writer: BufWriter::new(writer),
        };
        let mut greeting = [0; GREETING.len()];
        client.reader.read_exact(&mut greeting).await?;
        if greeting != GREETING {
            return Err(ClientError::OtherVersion);
        }
        client.writer.write_all(GREETING).await?;
        Ok(client)
    }

    /// The rows of one table, as [`crate::Node::rows`] gives them.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn rows<R: Row>(mut self) -> Result<Rows<R>, ClientError> {
        let reply = self.ask(&Request::Rows(R::TABLE)).await?;
        Ok(reply.parse()?)
    }

    /// All rows.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn view(mut self) -> Result<View, ClientError> {
        let reply = self.ask(&Request::View).await?;
        Ok(reply.parse()?)
    }

    /// The way of a stream to the node, as [`crate::Node::trace`] gives it.
    ///
    /// # Errors
    ///
    /// When it does not flow there, or the node is gone.
    pub async fn trace(mut self, name: &StreamName) -> Result<Rows<HopRow>, ClientError> {
        let reply = self.ask(&Request::Trace(name.to_string())).await?;
        Ok(reply.parse()?)
    }

    /// Asks the program around the node, which answers by [`crate::Node::answer`].
    ///
    /// # Errors
    ///
    /// What the program says, when it cannot; also when it answers nothing by that word.
    pub async fn ask_program(mut self, word: &str, question: &str) -> Result<String, ClientError> {
        let request = ProgramRequest {
            word: word.to_owned(),
            question: question.to_owned(),
        };
        let reply = self.ask(&Request::Program(request)).await?;
        Ok(reply.parse()?)
    }

    /// Makes the node leave, and waits until it has.
    ///
    /// # Errors
    ///
    /// When the node is gone before it heard.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        self.ask(&Request::Leave).await?;
        // However the connection ends, the node has ended.
        let _ = Message::read(&mut self.reader).await;
        Ok(())
    }

    /// Publishes a stream at the node.
    ///
    /// # Errors
    ///
    /// What [`crate::Node::publish`] says, in words.
    pub async fn publish(
        mut self,
        name: &StreamName,
        description: &Description,
        options: PublishOptions,
    ) -> Result<RemotePublisher, ClientError> {
        let request = PublishRequest {
            name: name.to_string(),
            peak_bps: options.peak.map(|peak| peak.0),
            packet_size: u16::try_from(options.packet_size.bytes()).unwrap_or(u16::MAX),
            flush_us: u64::try_from(options.flush_interval.as_micros()).unwrap_or(u64::MAX),
            description: description.into(),
        };
        self.ask(&Request::Publish(request)).await?;
        Ok(RemotePublisher { client: self })
    }

    /// Gets a stream from the node.
    ///
    /// # Errors
    ///
    /// What [`crate::Node::subscribe`] says, in words.
    pub async fn play(
        mut self,
        name: &StreamName,
        options: SubscribeOptions,
    ) -> Result<RemoteSubscriber, ClientError> {
        let request = PlayRequest {
            name: name.to_string(),
            layer: options.layer.0,
            queue_frames_max: options.queue_frames_max,
            queue_bytes_max: options.queue_bytes_max,
            repair_budget_ms: u64::try_from(options.repair_budget.as_millis()).unwrap_or(u64::MAX),
            two_paths: options.paths == Paths::Two,
        };
        self.ask(&Request::Play(request)).await?;
        Ok(RemoteSubscriber { client: self })
    }

    async fn ask(&mut self, request: &Request) -> Result<Message, ClientError> {
        let request = Message::json(Kind::Request, request);
        let written = self.write(&request).await;
        // A node that closed its end has said why, or its end is the answer.
        let reply = self.reply().await;
        if written.is_err() && reply.is_ok() {
            return Err(ClientError::Gone);
        }
        reply
    }

    async fn write(&mut self, message: &Message) -> io::Result<()> {
        message.write(&mut self.writer).await?;
        self.writer.flush().await
    }

    async fn reply(&mut self) -> Result<Message, ClientError> {
        let message = Message::read(&mut self.reader).await?;
        let message = message.ok_or(ClientError::Gone)?;
        match message.kind {
            Kind::Ok => Ok(message),
            Kind::Error => Err(refused(&message)),
            kind => Err(message::malformed(format!("a {kind:?} where a reply belongs")).into()),
        }
    }
}

fn refused(message: &Message) -> ClientError {
    ClientError::Refused(String::from_utf8_lossy(&message.body).into_owned())
}

/// A stream that this process publishes at a running node. Like [`crate::Publisher`].
#[derive(Debug)]
pub struct RemotePublisher {
    client: Client,
}

impl RemotePublisher {
    /// Hands in one frame. Waits while the node is behind.
    ///
    /// # Errors
    ///
    /// When the node is gone, or refused an earlier frame.
    pub async fn send(&mut self, frame: Frame) -> Result<(), ClientError> {
        let body = FrameBody {
            group: Group(0),
            wall: None,
            frame,
        };
        let message = body.encode().ok_or_else(|| {
            ClientError::Refused("dts and pts are more than 2^31 ticks apart".to_owned())
        })?;
        self.write(&message).await
    }

    /// Changes the tracks, from the next group on.
    ///
    /// # Errors
    ///
    /// When the node is gone, or refused an earlier frame.
    pub async fn describe(&mut self, description: &Description) -> Result<(), ClientError> {
        self.write(&message::description(description)).await
    }

    /// Ends the stream on purpose, and waits until the node has sent all of it.
    ///
    /// # Errors
    ///
    /// When the node is gone, or refused an earlier frame.
    pub async fn finish(mut self) -> Result<(), ClientError> {
        let finish = Message {
            kind: Kind::Finish,
            body: bytes::Bytes::new(),
        };
        self.write(&finish).await?;
        self.client.reply().await?;
        Ok(())
    }

    async fn write(&mut self, message: &Message) -> Result<(), ClientError> {
        if self.client.write(message).await.is_ok() {
            return Ok(());
        }
        // The node closed its end; it may have said why.
        match self.client.reply().await {
            Ok(_) => Err(ClientError::Gone),
            Err(error) => Err(error),
        }
    }
}

/// A stream that this process gets from a running node. Like [`crate::Subscriber`].
#[derive(Debug)]
pub struct RemoteSubscriber {
    client: Client,
}

impl RemoteSubscriber {
    /// Waits for what comes next; `None` once the node is gone. Must not be dropped before it is ready: use it in one
    /// place, not in a `select!`.
    ///
    /// # Errors
    ///
    /// When what comes makes no sense.
    pub async fn next(&mut self) -> Result<Option<Delivery>, ClientError> {
        let Some(message) = Message::read(&mut self.client.reader).await? else {
            return Ok(None);
        };
        if message.kind == Kind::Error {
            return Err(refused(&message));
        }
        Ok(Some(message::parse_delivery(&message)?))
    }
}

/// Why a running node cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is none.
    #[error(
        "no levada runs with the state directory {}: start one with `levada run`, or name another with `--node`",
        state_dir.display()
    )]
    NotRunning {
        /// Where it was looked for.
        state_dir: PathBuf,
    },
    /// It is of another version.
    #[error("the running levada is of another version than this command: restart it")]
    OtherVersion,
    /// It said no, in these words.
    #[error("{0}")]
    Refused(String),
    /// It ended meanwhile.
    #[error("the running levada has stopped")]
    Gone,
    /// The connection to it broke.
    #[error("the connection to the running levada broke: {0}")]
    Broken(#[from] io::Error),
}
