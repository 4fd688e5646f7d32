//! Takes a whole burst apart: frame headers, the control track, the description, the origin's clock.
//!
//! Not the order of packets: `reassembly.rs`. Called by it, once per burst. Invariant: a burst gives all of its
//! frames or none, and none without the description that they need.

use std::sync::Arc;

use bytes::Bytes;
use levada_wire::frame::{ControlFrame, FRAME_HEADER_BYTES, FrameHeader};
use levada_wire::{Description, Frame, Header, Number, OriginTime, TrackId, WallTime};

use crate::api::{Delivery, GapReason};
use crate::limits::FRAMES_PER_BURST_MAX;

/// The origin's wall clock at one moment of its own clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall: WallTime,
    sent: OriginTime,
}

impl Clock {
    fn at(self, sent: OriginTime) -> WallTime {
        let since = i64::from(sent.micros_since(self.sent));
        WallTime(self.wall.0.saturating_add_signed(since))
    }
}

/// What must be remembered from burst to burst.
#[derive(Clone, Debug, Default)]
pub(super) struct Unpacker {
    description: Option<(u8, Arc<Description>)>,
    clock: Option<Clock>,
    end: Option<Number>,
}

impl Unpacker {
    /// The last number of the stream, once it was told.
    pub(super) const fn end(&self) -> Option<Number> {
        self.end
    }

    /// Whether the tracks are known.
    pub(super) const fn has_description(&self) -> bool {
        self.description.is_some()
    }

    /// Takes a burst apart; `header` is that of its last packet.
    pub(super) fn unpack(
        &mut self,
        header: &Header,
        body: &Bytes,
    ) -> Result<Vec<Delivery>, GapReason> {
        let mut after = self.clone();
        let deliveries = after.unpack_all(header, body)?;
        *self = after; // a burst that is false in one place changes nothing
        Ok(deliveries)
    }

    fn unpack_all(&mut self, header: &Header, body: &Bytes) -> Result<Vec<Delivery>, GapReason> {
        let frames = frames(body).ok_or(GapReason::Bad)?;
        let mut deliveries = Vec::with_capacity(frames.len());
        for (frame, data) in frames {
            if frame.track == TrackId::CONTROL {
                let control = minicbor::decode(&data).map_err(|_| GapReason::Bad)?;
                self.on_control(header, control, &mut deliveries)?;
                continue;
            }
            match &self.description {
                Some((version, _)) if *version == header.description => {}
                // The group's start, which has the description, was lost.
                _ => return Err(GapReason::Lost),
            }
            let pts = frame.dts.checked_add(i64::from(frame.pts_offset));
            deliveries.push(Delivery::Frame {
                group: header.group,
                frame: Frame {
                    track: frame.track,
                    sync: frame.sync,
                    discardable: frame.discardable,
                    dts: frame.dts,
                    pts: pts.ok_or(GapReason::Bad)?,
                    data,
                },
                wall: self.clock.map(|clock| clock.at(header.sent)),
            });
        }
        Ok(deliveries)
    }

    fn on_control(
        &mut self,
        header: &Header,
        control: ControlFrame,
        deliveries: &mut Vec<Delivery>,
    ) -> Result<(), GapReason> {
        if let Some(wall) = control.wall {
            self.clock = Some(Clock {
                wall: WallTime(wall),
                sent: header.sent,
            });
        }
        if let Some(description) = control.description {
            description.check().map_err(|_| GapReason::Bad)?;
            self.on_description(header.description, description, deliveries);
        }
        self.end = control.end.or(self.end);
        Ok(())
    }

    fn on_description(&mut self, version: u8, new: Description, deliveries: &mut Vec<Delivery>) {
        let description = match &self.description {
            Some((_, held)) if **held == new => Arc::clone(held),
            _ => {
                let new = Arc::new(new);
                let delivery = Delivery::Description(Arc::clone(&new));
                deliveries.push(delivery);
                new
            }
        };
        self.description = Some((version, description));
    }
}

/// The frames of a body; `None` if a header is false or says more than there is.
fn frames(body: &Bytes) -> Option<Vec<(FrameHeader, Bytes)>> {
    let mut frames = Vec::new();
    let mut rest = body.clone();
    while !rest.is_empty() {
        if frames.len() == FRAMES_PER_BURST_MAX {
            return None;
        }
        let header = FrameHeader::decode(&rest)?;
        let end = FRAME_HEADER_BYTES + usize::try_from(header.length).ok()?;
        if end > rest.len() {
            return None;
        }
        let data = rest.split_to(end).slice(FRAME_HEADER_BYTES..);
        frames.push((header, data));
    }
    Some(frames)
}
