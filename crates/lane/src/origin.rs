//! The origin of a flow: frames in, sealed and numbered packets out.
//!
//! ```text
//! frame ─▶ gather: a burst is whole frames of one discard class within the flush interval
//!       ─▶ lay end to end, behind the control frame in the first burst of a group
//!       ─▶ cut (`origin/cut.rs`): equal packets but the last, each sealed once
//!       ─▶ runs: what one send per egress can take
//! ```
//!
//! Knows no codec: a group starts at a sync frame of the leading track, whatever that is. Not the sending: the
//! lane hands runs on like any other. Called by the lane. Invariant: frames of a track leave in the order they
//! came, a group's first packet is the first of a burst, and no number is sealed twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use levada_wire::frame::{
    ControlFrame, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, TRACKS_MAX,
};
use levada_wire::packet::BURST_PACKETS_MAX;
use levada_wire::{Bitrate, Description, FlowId, Frame, Instant, TrackId, WallTime};

use crate::api::{FrameRefusal, Originate};
use crate::flow::run::Run;
use crate::limits::{FLUSH_INTERVAL_MAX, GROUP_MIN, GROUP_MIN_ALL_SYNC, RUN_BYTES_MAX};

mod cut;
mod meter;

/// Says what is wrong with a frame by itself, so that a publisher can be told at once.
///
/// # Errors
///
/// Names the first thing that is wrong.
pub fn check_frame(description: &Description, frame: &Frame) -> Result<(), FrameRefusal> {
    if frame.data.len() > FRAME_BYTES_MAX {
        return Err(FrameRefusal::TooLarge);
    }
    if pts_offset(frame).is_none() {
        return Err(FrameRefusal::TimesApart);
    }
    match description.track(frame.track) {
        Some(_) => Ok(()),
        None => Err(FrameRefusal::UnknownTrack),
    }
}

fn pts_offset(frame: &Frame) -> Option<i32> {
    i32::try_from(frame.pts.checked_sub(frame.dts)?).ok()
}

/// Frames that wait for others to share their burst.
#[derive(Debug)]
struct Pending {
    /// No other frame needs any of them.
    discardable: bool,
    starts_group: bool,
    /// The frames, end to end.
    body: Vec<u8>,
    /// When the first of them came, on both clocks.
    since: Instant,
    wall: Option<WallTime>,
}

/// What decides where the next group starts.
#[derive(Debug)]
struct Lead {
    /// Decoding time of the leading frame at the group's start; `None` if the group has none there.
    dts: Option<i64>,
    /// Each leading frame of the group so far is a sync frame.
    all_sync: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Origin {
    cutter: cut::Cutter,
    flush_interval: Duration,
    /// As many bytes of frames as one send holds.
    burst_bytes: usize,
    description: Arc<Description>,
    /// Valid from the next group on.
    next_description: Option<Arc<Description>>,
    description_version: u8,
    /// The count of each track's frames; at most [`TRACKS_MAX`] at a time, and 256 over a life.
    sequences: BTreeMap<TrackId, u32>,
    lead: Option<Lead>,
    pending: Option<Pending>,
    meter: meter::Meter,
    is_finished: bool,
}

impl Origin {
    /// An origin that starts at number zero. `None` if its description is not in order.
    pub(crate) fn new(flow: FlowId, originate: &Originate) -> Option<Self> {
        originate.description.check().ok()?;
        debug_assert!(originate.description.tracks.len() <= TRACKS_MAX, "checked");
        let packet_bytes = originate.packet_size.bytes();
        let cutter = cut::Cutter::new(flow, originate);
        let packets = BURST_PACKETS_MAX.min(RUN_BYTES_MAX / packet_bytes);
        Some(Self {
            burst_bytes: packets * cutter.body_bytes(),
            cutter,
            flush_interval: originate.flush_interval.min(FLUSH_INTERVAL_MAX),
            description: Arc::clone(&originate.description),
            next_description: None,
            description_version: 0,
            sequences: BTreeMap::new(),
            lead: None,
            pending: None,
            meter: meter::Meter::default(),
            is_finished: false,
        })
    }

    /// Takes a frame.
    pub(crate) fn push(
        &mut self,
        frame: &Frame,
        wall: WallTime,
        now: Instant,
    ) -> Result<(), FrameRefusal> {
        if self.is_finished {
            return Err(FrameRefusal::Finished);
        }
        let starts_group = self.starts_group(frame);
        let next = self.next_description.as_ref().filter(|_| starts_group);
        let description = Arc::clone(next.unwrap_or(&self.description));
        check_frame(&description, frame)?;
        let leads = description
            .leading()
            .is_some_and(|track| track.id == frame.track);
        let lead_has_started = self.lead.as_ref().is_some_and(|lead| lead.dts.is_some());
        if leads && !frame.sync && !lead_has_started {
            return Err(FrameRefusal::BeforeFirstSync);
        }
        if !self.cutter.has_numbers_left() {
            return Err(FrameRefusal::NumbersExhausted);
        }
        if starts_group {
            self.flush(now);
            self.begin_group(description, leads.then_some(frame.dts));
        } else if leads && let Some(lead) = &mut self.lead {
            lead.all_sync &= frame.sync;
        }
        self.gather(frame, starts_group, wall, now);
        Ok(())
    }

    /// Makes that the description from the next group on.
    pub(crate) fn describe(&mut self, description: Arc<Description>) -> bool {
        if description.check().is_err() {
            return false;
        }
        self.next_description = (*description != *self.description).then_some(description);
        true
    }

    /// Ends the stream: the last packet says that it is the last.
    pub(crate) fn finish(&mut self, now: Instant) {
        if self.is_finished {
            return;
        }
        self.flush(now);
        if self.lead.is_none() {
            // A stream without a frame still has a first group, so that a consumer can learn of its end.
            self.begin_group(Arc::clone(&self.description), None);
            self.pending = Some(self.empty(true, None, now));
            self.flush(now);
        }
        let end = ControlFrame {
            end: Some(self.cutter.next_number()),
            ..ControlFrame::default()
        };
        let mut body = Vec::new();
        self.append_control(&end, &mut body);
        debug_assert!(
            body.len() <= self.cutter.body_bytes(),
            "it names its own number"
        );
        self.cutter.cut(&body, false, self.description_version, now);
        self.is_finished = true;
    }

    /// When a burst that waits must leave.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pending = self.pending.as_ref()?;
        Some(pending.since + self.flush_interval)
    }

    /// Makes packets of the burst that waits, if its time has come.
    pub(crate) fn flush_if_due(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.flush(now);
        }
    }

    /// Takes the next packets, which leave now; and the flow's rate, when it is to be said.
    pub(crate) fn next_run(&mut self, now: Instant) -> Option<(Run, Option<Bitrate>)> {
        let run = self.cutter.runs.pop_front()?;
        let rate = self.meter.count(run.bytes.len(), now);
        Some((run, rate))
    }

    /// Whether packets wait to be taken.
    pub(crate) fn has_runs(&self) -> bool {
        !self.cutter.runs.is_empty()
    }

    fn starts_group(&self, frame: &Frame) -> bool {
        let Some(lead) = &self.lead else {
            return true; // whatever comes first starts the first group
        };
        if self.cutter.group_is_full() {
            return true;
        }
        let description = self.next_description.as_ref().unwrap_or(&self.description);
        let Some(track) = description
            .leading()
            .filter(|track| track.id == frame.track)
        else {
            return false;
        };
        let Some(start) = lead.dts.filter(|_| self.next_description.is_none()) else {
            return frame.sync;
        };
        let all_sync = lead.all_sync && frame.sync;
        let least = if all_sync {
            GROUP_MIN_ALL_SYNC
        } else {
            GROUP_MIN
        };
        let millis =
            (i128::from(frame.dts) - i128::from(start)) * 1_000 / i128::from(track.timescale.get());
        // Time that runs backwards is another timeline, which starts with a group of its own.
        frame.sync && (millis < 0 || millis.unsigned_abs() >= least.as_millis())
    }

    fn begin_group(&mut self, description: Arc<Description>, lead_dts: Option<i64>) {
        if self.next_description.take().is_some() {
            self.description = description;
            self.description_version = self.description_version.wrapping_add(1);
        }
        self.lead = Some(Lead {
            dts: lead_dts,
            all_sync: true,
        });
    }

    /// Puts a frame into the burst that waits, or into a new one.
    fn gather(&mut self, frame: &Frame, starts_group: bool, wall: WallTime, now: Instant) {
        // A group cannot be decoded without its start, so the start is never discardable.
        let discardable = frame.discardable && !starts_group;
        let bytes = FRAME_HEADER_BYTES + frame.data.len();
        let fits = self.pending.as_ref().is_none_or(|pending| {
            pending.discardable == discardable && pending.body.len() + bytes <= self.burst_bytes
        });
        if !fits {
            self.flush(now);
        }
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => Pending {
                discardable,
                ..self.empty(starts_group, Some(wall), now)
            },
        };
        let header = FrameHeader {
            track: frame.track,
            sync: frame.sync,
            discardable: frame.discardable,
            length: u32::try_from(frame.data.len()).expect("checked: at most 8 MiB"),
            sequence: self.next_sequence(frame.track),
            dts: frame.dts,
            pts_offset: pts_offset(frame).expect("checked by check_frame"),
        };
        pending.body.reserve(bytes);
        pending.body.extend_from_slice(&header.encode());
        pending.body.extend_from_slice(&frame.data);
        let is_full = pending.body.len() >= self.burst_bytes;
        self.pending = Some(pending);
        if is_full || self.flush_interval.is_zero() {
            self.flush(now);
        }
    }

    const fn empty(&self, starts_group: bool, wall: Option<WallTime>, since: Instant) -> Pending {
        Pending {
            discardable: false,
            starts_group,
            body: Vec::new(),
            since,
            wall,
        }
    }

    /// Makes packets of the burst that waits.
    fn flush(&mut self, now: Instant) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        if !pending.starts_group {
            let version = self.description_version;
            self.cutter
                .cut(&pending.body, pending.discardable, version, now);
            return;
        }
        // The wall clock at this moment, not at the first frame's: it is read against the packet's `sent`.
        let waited = u64::try_from(now.since(pending.since).as_micros()).unwrap_or(u64::MAX);
        let control = ControlFrame {
            description: Some((*self.description).clone()),
            wall: pending.wall.map(|wall| wall.0.saturating_add(waited)),
            end: None,
        };
        let mut body = Vec::new();
        self.append_control(&control, &mut body);
        body.extend_from_slice(&pending.body);
        self.cutter.begin_group();
        self.cutter.cut(&body, false, self.description_version, now);
    }

    fn append_control(&mut self, control: &ControlFrame, body: &mut Vec<u8>) {
        let data = minicbor::to_vec(control).expect("writing to memory cannot fail");
        let header = FrameHeader {
            track: TrackId::CONTROL,
            sync: control.description.is_some(),
            discardable: false,
            length: u32::try_from(data.len()).expect("32 tracks of 4 KiB are 128 KiB"),
            sequence: self.next_sequence(TrackId::CONTROL),
            dts: 0,
            pts_offset: 0,
        };
        body.extend_from_slice(&header.encode());
        body.extend_from_slice(&data);
    }

    fn next_sequence(&mut self, track: TrackId) -> u32 {
        let next = self.sequences.entry(track).or_insert(0);
        let sequence = *next;
        *next = next.wrapping_add(1);
        sequence
    }
}

#[cfg(test)]
mod tests;
