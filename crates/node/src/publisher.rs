//! A stream's way in: frames from a program to the datapath.
//!
//! Not the cutting and sealing of frames, which the datapath does. Used by sources, gateways and `admin`.
//! Invariant: a publisher is the only one that pushes to its flow, and its end, however it comes, takes the
//! offer back.

use std::sync::Arc;
use std::time::Duration;

use levada_core::api::PEAK_DEFAULT;
use levada_lane::api::{Command, PublisherCommand};
use levada_lane::{FrameRefusal, check_frame};
use levada_wire::announce::{LayerOffer, TrackOffer};
use levada_wire::frame::DescriptionError;
use levada_wire::{Bitrate, Description, FlowId, Frame, Layer, PacketSize, StreamName};

use crate::driver::{Request, Slot};
use crate::node::Stopped;

/// How a stream is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// The highest rate of the stream over a second: what nodes reserve for it, and what they hold it to. Unless it is
    /// said, it is measured; until that is done, 20 Mb/s are declared.
    pub peak: Option<Bitrate>,
    /// The size of full packets. 1,232 bytes unless said otherwise, which fits any path.
    pub packet_size: PacketSize,
    /// How long a frame may wait for others to share its burst; zero sends each at once. 10 ms unless said otherwise.
    pub flush_interval: Duration,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            peak: None,
            packet_size: PacketSize::DEFAULT,
            flush_interval: Duration::from_millis(10),
        }
    }
}

impl PublishOptions {
    /// Declares the highest rate.
    #[must_use]
    pub const fn with_peak(mut self, peak: Bitrate) -> Self {
        self.peak = Some(peak);
        self
    }

    /// Sets the size of full packets.
    #[must_use]
    pub const fn with_packet_size(mut self, packet_size: PacketSize) -> Self {
        self.packet_size = packet_size;
        self
    }

    /// Sets how long a frame may wait for others.
    #[must_use]
    pub const fn with_flush_interval(mut self, flush_interval: Duration) -> Self {
        self.flush_interval = flush_interval;
        self
    }
}

/// Hands in the frames of one stream. Made by [`crate::Node::publish`].
///
/// Dropping it takes the stream back like [`Publisher::finish`], without waiting.
#[derive(Debug)]
pub struct Publisher {
    name: StreamName,
    flow: FlowId,
    peak: Option<Bitrate>,
    description: Arc<Description>,
    /// Takes the offer back when it is dropped.
    slot: Slot,
}

impl Publisher {
    pub(crate) const fn new(
        slot: Slot,
        name: StreamName,
        flow: FlowId,
        peak: Option<Bitrate>,
        description: Arc<Description>,
    ) -> Self {
        Self {
            name,
            flow,
            peak,
            description,
            slot,
        }
    }

    /// The stream's name.
    #[must_use]
    pub const fn name(&self) -> &StreamName {
        &self.name
    }

    /// The tracks as they were last described.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Hands in one frame. Frames of all tracks come in the order in which they are to be sent. Waits while the
    /// datapath is behind; it never drops one.
    ///
    /// # Errors
    ///
    /// When the frame is of no described track or beyond a limit (it is not sent, the next may be), or the node
    /// is gone.
    pub async fn send(&mut self, frame: Frame) -> Result<(), SendError> {
        self.check(&frame)?;
        let command = Command::Publisher(
            self.flow,
            PublisherCommand::Push {
                frame,
                wall: self.slot.node().wall(),
            },
        );
        Ok(self.slot.node().datapath(command).await?)
    }

    /// Changes the tracks, from the next group on.
    ///
    /// # Errors
    ///
    /// When the description is not sound (the former one stays), or the node is gone.
    pub async fn describe(&mut self, description: Description) -> Result<(), SendError> {
        description.check()?;
        self.description = Arc::new(description);
        let command = Command::Publisher(
            self.flow,
            PublisherCommand::Describe(Arc::clone(&self.description)),
        );
        self.slot.node().datapath(command).await?;
        let revise = Request::Revise {
            name: self.name.clone(),
            layers: layers(&self.description, self.peak),
        };
        Ok(self.slot.node().request(revise).await?)
    }

    /// Ends the stream on purpose: what was handed in is sent, subscribers are told, the offer is taken back.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn finish(self) -> Result<(), SendError> {
        let slot = self.slot.id();
        let node = self.slot.node();
        Ok(node.ask(|reply| Request::Finish { slot, reply }).await?)
    }

    fn check(&self, frame: &Frame) -> Result<(), SendError> {
        check_frame(&self.description, frame).map_err(|source| SendError::Frame {
            track: frame.track.0,
            source,
        })
    }
}

/// The one layer that a publisher offers: all tracks.
pub(crate) fn layers(description: &Description, peak: Option<Bitrate>) -> Vec<LayerOffer> {
    let tracks = description.tracks.iter().map(|track| TrackOffer {
        kind: track.kind,
        codec: track.codec.clone(),
    });
    vec![LayerOffer {
        layer: Layer(0),
        peak: peak.unwrap_or(PEAK_DEFAULT),
        tracks: tracks.collect(),
    }]
}

/// Why a stream cannot be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// This node offers a stream of that name already.
    #[error("this node publishes `{name}` already: stop that, or choose another name")]
    AlreadyPublished {
        /// The name.
        name: StreamName,
    },
    /// The description is not sound.
    #[error("the description of `{name}` is not sound: {source}")]
    Description {
        /// The stream's name.
        name: StreamName,
        /// The rule of descriptions that it breaks.
        source: DescriptionError,
    },
    /// The node is at its limit.
    #[error(
        "this node has {max} publishers and subscribers, which is all it may have: end one first"
    )]
    Full {
        /// The limit.
        max: usize,
    },
    /// The core did not take the offer.
    #[error("this node did not accept `{name}`: it knows as many streams as it may")]
    NotAccepted {
        /// The name.
        name: StreamName,
    },
    /// The node is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a frame or a description was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The frame is of no track, or beyond a limit.
    #[error("a frame of track {track} was not taken: {source}")]
    Frame {
        /// The track's number.
        track: u8,
        /// The rule of descriptions that it breaks.
        source: FrameRefusal,
    },
    /// The new description is not sound.
    #[error("the new description is not sound: {0}")]
    Description(#[from] DescriptionError),
    /// The node is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
