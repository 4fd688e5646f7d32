//! The program that is being read: its tracks, its description, and the order in which events leave.
//!
//! A track's word or configuration may show in its first frame only (AAC, MPEG audio). Until every track has
//! shown itself, events are held, within limits; then the description leaves, and the held events behind it.
//! Not packets and tables (`demux.rs`), not the cutting of frames (`elementary.rs`). Called by the demuxer.
//! Invariant: a frame leaves only behind a description that has its track.

use levada_wire::frame::TRACKS_MAX;
use levada_wire::{Description, Frame, Track, TrackId, TrackKind};

use super::codec::{self, Meaning};
use super::demux::Event;
use super::elementary::{Elementary, Seen, Trouble, Unit};
use super::error::{ErrorKind, Notes};
use super::packet::Pid;
use super::pes;
use super::psi::Entry;
use super::timeline::Timeline;
use crate::marks::Times;
use crate::ticks::TS_TIMESCALE;

/// Events held for a track that has not shown itself; then the description leaves as it is.
pub(super) const HELD_EVENTS_MAX: usize = 1_024;
/// Bytes of frames held.
const HELD_BYTES_MAX: usize = 16 << 20;
/// Media time held: two seconds.
pub(super) const HELD_TICKS_MAX: i64 = 180_000;
/// A track whose time steps further than this, or back, is reported as discontinuous: ten seconds.
const JUMP_TICKS: u64 = 900_000;

#[derive(Debug, Default)]
pub(super) struct Program {
    tracks: Vec<Slot>,
    timeline: Timeline,
    /// The description that left last no longer holds, or none has left.
    changed: bool,
    held: Held,
}

#[derive(Debug, Default)]
struct Held {
    events: Vec<Event>,
    bytes: usize,
    /// The first time among them.
    since: Option<i64>,
}

#[derive(Debug)]
struct Slot {
    pid: Pid,
    entry: Entry,
    track: Track,
    /// Its word and configuration are known.
    shown: bool,
    reader: pes::Reader,
    elementary: Elementary,
    last_dts: Option<i64>,
    /// Something was lost since its last frame.
    broken: bool,
}

/// Where events and notes go.
pub(super) struct Out<'a> {
    pub(super) events: &'a mut Vec<Event>,
    pub(super) notes: &'a mut Notes,
}

impl Program {
    /// Whether packets of `pid` belong to a track.
    pub(super) fn has(&self, pid: Pid) -> bool {
        self.tracks.iter().any(|slot| slot.pid == pid)
    }

    /// Takes the payload of a packet.
    pub(super) fn push(&mut self, pid: Pid, starts_unit: bool, payload: &[u8], out: &mut Out<'_>) {
        let Some(at) = self.tracks.iter().position(|slot| slot.pid == pid) else {
            return;
        };
        let slot = &mut self.tracks[at];
        let mut units = Vec::new();
        let (timeline, notes) = (&mut self.timeline, &mut *out.notes);
        let mut feed = Feed {
            pid,
            elementary: &mut slot.elementary,
            timeline,
            units: &mut units,
            notes,
        };
        if slot.reader.push(starts_unit, payload, &mut feed).is_err() {
            slot.broken = true;
            out.notes.add(Some(pid), ErrorKind::PesHeader);
        }
        self.emit(at, units, out);
    }

    /// Packets of `pid` were lost.
    pub(super) fn lose(&mut self, pid: Pid) {
        for slot in self.tracks.iter_mut().filter(|slot| slot.pid == pid) {
            slot.reader = pes::Reader::default();
            slot.elementary.lose();
            slot.broken = true;
        }
    }

    /// The next frame of `pid` does not join its last one.
    pub(super) fn interrupt(&mut self, pid: Pid) {
        for slot in self.tracks.iter_mut().filter(|slot| slot.pid == pid) {
            slot.broken = true;
        }
    }

    /// Takes on the tracks of a new table. A track that is listed as before goes on untouched.
    pub(super) fn update(&mut self, entries: &[Entry], out: &mut Out<'_>) {
        for at in 0..self.tracks.len() {
            if !entries.contains(&self.tracks[at].entry) {
                self.finish_track(at, out);
            }
        }
        let mut old = std::mem::take(&mut self.tracks);
        for entry in entries {
            let Some(meaning) = codec::read(entry) else {
                continue;
            };
            if self.has(entry.pid) {
                continue;
            }
            if self.tracks.len() == TRACKS_MAX {
                out.notes.add(None, ErrorKind::TooManyTracks);
                break;
            }
            let kept = old.iter().position(|slot| slot.entry == *entry);
            self.tracks
                .push(kept.map_or_else(|| Slot::new(entry, meaning), |at| old.remove(at)));
        }
        self.lead();
        self.number();
        self.changed = true;
        self.describe(false, out);
    }

    /// Puts the leading track first: video, else audio.
    fn lead(&mut self) {
        let first = |kind| self.tracks.iter().position(|slot| slot.track.kind == kind);
        if let Some(at) = first(TrackKind::Video).or_else(|| first(TrackKind::Audio)) {
            self.tracks[..=at].rotate_right(1);
        }
    }

    /// Gives new tracks the lowest numbers that are free.
    fn number(&mut self) {
        for at in 0..self.tracks.len() {
            if self.tracks[at].track.id == TrackId::CONTROL {
                let free = |id: &u8| self.tracks.iter().all(|slot| slot.track.id != TrackId(*id));
                let id = (1..=u8::MAX)
                    .find(free)
                    .expect("there are at most 32 tracks");
                self.tracks[at].track.id = TrackId(id);
            }
        }
    }

    /// Nothing more will come: what is in hand leaves.
    pub(super) fn finish(&mut self, out: &mut Out<'_>) {
        for at in 0..self.tracks.len() {
            self.finish_track(at, out);
        }
        self.describe(true, out);
    }

    fn finish_track(&mut self, at: usize, out: &mut Out<'_>) {
        let slot = &mut self.tracks[at];
        let (pid, mut units) = (slot.pid, Vec::new());
        let (timeline, notes) = (&mut self.timeline, &mut *out.notes);
        let elementary = &mut slot.elementary;
        slot.reader.finish(&mut Feed {
            pid,
            elementary,
            timeline,
            units: &mut units,
            notes,
        });
        if let Err(trouble) = slot.elementary.finish(|unit| units.push(unit)) {
            out.notes.add(Some(pid), trouble.into());
        }
        self.emit(at, units, out);
    }

    fn emit(&mut self, at: usize, units: Vec<Unit>, out: &mut Out<'_>) {
        for unit in units {
            let slot = &mut self.tracks[at];
            if let Some(seen) = unit.seen {
                self.changed |= slot.show(seen);
            }
            let Some(times) = slot.times(unit.times, self.timeline.last()) else {
                out.notes.add(Some(slot.pid), ErrorKind::Untimed);
                continue;
            };
            let broken = slot.note_time(times.dts);
            let frame = Frame {
                track: slot.track.id,
                sync: unit.picture.sync,
                discardable: unit.picture.discardable,
                dts: times.dts,
                pts: times.pts,
                data: unit.data,
            };
            self.describe(false, out);
            if broken {
                self.leave(Event::Discontinuity(frame.track), out);
            }
            self.leave(Event::Frame(frame), out);
        }
    }

    fn leave(&mut self, event: Event, out: &mut Out<'_>) {
        if !self.changed {
            out.events.push(event);
            return;
        }
        self.held.push(event);
        if self.held.is_full() {
            self.describe(true, out);
        }
    }

    /// Lets the description leave once every track has shown itself, or when `now` it must.
    fn describe(&mut self, now: bool, out: &mut Out<'_>) {
        let ready = now || self.tracks.iter().all(|slot| slot.shown);
        if !self.changed || !ready || self.tracks.is_empty() {
            return;
        }
        self.changed = false;
        let tracks = self.tracks.iter().map(|slot| slot.track.clone()).collect();
        out.events.push(Event::Description(Description { tracks }));
        out.events
            .append(&mut std::mem::take(&mut self.held).events);
    }
}

impl Held {
    fn push(&mut self, event: Event) {
        if let Event::Frame(frame) = &event {
            self.bytes += frame.data.len();
            self.since.get_or_insert(frame.dts);
        }
        self.events.push(event);
    }

    fn is_full(&self) -> bool {
        let span = match (self.events.last(), self.since) {
            (Some(Event::Frame(frame)), Some(since)) => frame.dts.saturating_sub(since),
            _ => 0,
        };
        self.events.len() >= HELD_EVENTS_MAX
            || self.bytes >= HELD_BYTES_MAX
            || span >= HELD_TICKS_MAX
    }
}

impl Slot {
    fn new(entry: &Entry, meaning: Meaning) -> Self {
        let shown = !meaning.shows_later();
        let Meaning {
            kind,
            codec,
            config,
            language,
            framing,
        } = meaning;
        // Numbers are given when the order is known.
        let id = TrackId::CONTROL;
        let track = Track {
            id,
            kind,
            codec,
            timescale: TS_TIMESCALE,
            config,
            language,
        };
        Self {
            pid: entry.pid,
            entry: entry.clone(),
            track,
            shown,
            reader: pes::Reader::default(),
            elementary: Elementary::new(framing),
            last_dts: None,
            broken: false,
        }
    }

    /// Takes on what a frame's header says; says whether that is news.
    fn show(&mut self, seen: Seen) -> bool {
        let config = seen.config.map_or_else(Vec::new, |config| config.to_vec());
        let news = !self.shown || self.track.codec != seen.codec || self.track.config != config;
        if news {
            self.shown = true;
            self.track.codec = seen.codec.into();
            self.track.config = config;
        }
        news
    }

    /// The times of a frame. Data without any stands where the program stands.
    fn times(&self, own: Option<Times>, program: Option<i64>) -> Option<Times> {
        own.or_else(|| {
            let now = program.filter(|_| self.track.kind != TrackKind::Video)?;
            let dts = self.last_dts.map_or(now, |last| now.max(last));
            Some(Times { dts, pts: dts })
        })
    }

    /// Notes the time of a frame; says whether it does not join the one before.
    fn note_time(&mut self, dts: i64) -> bool {
        let jumped = self
            .last_dts
            .is_some_and(|last| dts < last || dts.abs_diff(last) > JUMP_TICKS);
        self.last_dts = Some(dts);
        std::mem::take(&mut self.broken) || jumped
    }
}

/// Takes PES payloads to one elementary stream and gathers its units.
struct Feed<'a> {
    pid: Pid,
    elementary: &'a mut Elementary,
    timeline: &'a mut Timeline,
    units: &'a mut Vec<Unit>,
    notes: &'a mut Notes,
}

impl pes::Sink for Feed<'_> {
    fn start(&mut self, header: pes::Header) {
        let times = self.timeline.times(header);
        self.elementary
            .start(header, times, |unit| self.units.push(unit));
    }

    fn data(&mut self, bytes: &[u8]) {
        if let Err(trouble) = self.elementary.data(bytes, |unit| self.units.push(unit)) {
            self.notes.add(Some(self.pid), trouble.into());
        }
    }

    fn end(&mut self) {
        self.elementary.end(|unit| self.units.push(unit));
    }

    fn lose(&mut self) {
        self.elementary.lose();
    }
}

impl From<Trouble> for ErrorKind {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::TooLarge => Self::FrameTooLarge,
            Trouble::Junk(bytes) => Self::AudioJunk { bytes },
        }
    }
}

#[cfg(test)]
mod tests;
