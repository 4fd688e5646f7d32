//! Frames out of a transport stream.
//!
//! Finds packets, follows the tables to one program, checks continuity, and hands payloads to the program's
//! tracks. Whatever is wrong is noted and passed over; nothing ends the stream. Not the cutting of frames
//! (`elementary.rs`) nor the order of events (`program.rs`). Called by sources, gateways and the fuzzer.
//! Invariant: events do not depend on how the bytes were cut into pushes.

use std::collections::BTreeMap;

use levada_wire::{Description, Frame, NetworkId, TrackId};

use super::error::{Error, ErrorKind, Notes};
use super::packet::{PACKET_BYTES, Packet, Pid};
use super::program::{Out, Program};
use super::psi::{self, Assembler, Entry, Fault, Pat};
use super::sync::{Finder, Found};

/// What comes out of a transport stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The tracks, before the first frame and again whenever they change.
    Description(Description),
    /// A frame of a track that was described. Times have 90,000 ticks a second, and go on where 33 bits wrap.
    Frame(Frame),
    /// The track's next frame does not join its last one: bytes were lost, or the stream's clock was set anew.
    Discontinuity(TrackId),
}

/// Turns the bytes of a transport stream, as they come, into events.
///
/// ```
/// use levada_media::ts::{Demuxer, Event};
///
/// let bytes = include_bytes!("../../assets/testcard.ts");
/// let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
/// for chunk in bytes.chunks(1_316) {
///     demuxer.push(chunk, &mut events);
/// }
/// demuxer.finish(&mut events);
///
/// assert!(matches!(&events[0], Event::Description(description) if description.tracks.len() == 2));
/// assert_eq!(demuxer.errors_total(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Demuxer {
    finder: Finder,
    notes: Notes,
    /// The program that was asked for.
    wanted: Option<u16>,
    continuity: BTreeMap<Pid, Continuity>,
    pat: Assembler,
    programs: Pat,
    pmt: Option<Pmt>,
    program: Program,
}

/// The program table that is followed.
#[derive(Debug)]
struct Pmt {
    pid: Pid,
    number: u16,
    sections: Assembler,
    network: Option<NetworkId>,
    entries: Vec<Entry>,
}

/// The newest packet of a PID.
#[derive(Debug)]
struct Continuity {
    counter: u8,
    payload: Vec<u8>,
}

/// How a packet follows the one before of its PID.
enum Order {
    Follows,
    Repeats,
    Lost,
}

impl Demuxer {
    /// A demuxer for the first program of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A demuxer for the program of that number.
    #[must_use]
    pub fn with_program(number: u16) -> Self {
        Self {
            wanted: Some(number),
            ..Self::default()
        }
    }

    /// Takes the next bytes of the stream, cut anywhere, and appends what they complete to `events`.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        self.finder.push(bytes);
        self.drain(events);
    }

    /// Nothing more will come: the frames in hand leave. To be called once, last.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        self.finder.finish();
        self.drain(events);
        self.program.finish(&mut Out {
            events,
            notes: &mut self.notes,
        });
    }

    /// The errors since the last call, the first 64 of them.
    pub fn take_errors(&mut self) -> Vec<Error> {
        self.notes.take()
    }

    /// The numbers of the stream's programs, once its table is whole; empty before.
    pub fn programs(&self) -> impl Iterator<Item = u16> {
        let is_whole = self.programs.is_whole();
        let programs = self.programs.programs().filter(move |_| is_whole);
        programs.map(|program| program.number)
    }

    /// The program that is followed, if one is yet.
    #[must_use]
    pub fn program(&self) -> Option<u16> {
        self.pmt.as_ref().map(|pmt| pmt.number)
    }

    /// The network whose node writes the program that is followed, if one does.
    #[must_use]
    pub fn network(&self) -> Option<NetworkId> {
        self.pmt.as_ref().and_then(|pmt| pmt.network)
    }

    /// How many errors there were in all.
    #[must_use]
    pub const fn errors_total(&self) -> u64 {
        self.notes.total()
    }

    fn drain(&mut self, events: &mut Vec<Event>) {
        while let Some(found) = self.finder.find() {
            match found {
                Found::Packet { at, bytes } => {
                    self.notes.at = at;
                    self.on_packet(&bytes, events);
                }
                Found::Junk(junk) => {
                    self.notes.at = junk.at;
                    self.notes.add(None, ErrorKind::Junk { bytes: junk.bytes });
                }
            }
        }
    }

    fn on_packet(&mut self, bytes: &[u8; PACKET_BYTES], events: &mut Vec<Event>) {
        let Some(packet) = Packet::parse(bytes).filter(|packet| !packet.damaged) else {
            return self.notes.add(None, ErrorKind::Damaged);
        };
        let pid = packet.pid;
        let is_pmt = self.pmt.as_ref().is_some_and(|pmt| pmt.pid == pid);
        let is_track = self.program.has(pid);
        if pid != Pid::PAT && !is_pmt && !is_track {
            return;
        }
        if packet.adaptation.discontinuity {
            self.program.interrupt(pid);
        }
        let Some(payload) = packet.payload else {
            return;
        };
        if packet.scrambled {
            self.lose(pid);
            return self.notes.add(Some(pid), ErrorKind::Scrambled);
        }
        match self.follow(&packet, payload) {
            Order::Follows => {}
            Order::Repeats => return,
            Order::Lost => {
                self.lose(pid);
                if !packet.adaptation.discontinuity {
                    self.notes.add(Some(pid), ErrorKind::Lost);
                }
            }
        }
        if pid == Pid::PAT {
            self.on_pat(packet.starts_unit, payload);
        } else if is_pmt {
            self.on_pmt(packet.starts_unit, payload, events);
        } else {
            let out = &mut Out {
                events,
                notes: &mut self.notes,
            };
            self.program.push(pid, packet.starts_unit, payload, out);
        }
    }

    /// Checks a packet's counter against the one before. A packet may be sent twice (ISO 13818-1 2.4.3.3).
    fn follow(&mut self, packet: &Packet<'_>, payload: &[u8]) -> Order {
        let counter = packet.continuity;
        let Some(last) = self.continuity.get_mut(&packet.pid) else {
            let payload = payload.to_vec();
            self.continuity
                .insert(packet.pid, Continuity { counter, payload });
            return Order::Follows;
        };
        let order = if counter == (last.counter + 1) & 0x0F {
            Order::Follows
        } else if counter == last.counter && last.payload == payload {
            Order::Repeats
        } else {
            Order::Lost
        };
        last.counter = counter;
        last.payload.clear();
        last.payload.extend_from_slice(payload);
        order
    }

    fn lose(&mut self, pid: Pid) {
        self.program.lose(pid);
        match &mut self.pmt {
            _ if pid == Pid::PAT => self.pat.lose(),
            Some(pmt) if pmt.pid == pid => pmt.sections.lose(),
            _ => {}
        }
    }

    fn on_pat(&mut self, starts_unit: bool, payload: &[u8]) {
        let (notes, programs) = (&mut self.notes, &mut self.programs);
        self.pat.push(starts_unit, payload, |section| {
            match psi::parse_pat(section) {
                Err(fault) => notes.add(Some(Pid::PAT), fault.into()),
                Ok(Some(section)) => programs.add(section),
                // Another table, or one still to come.
                Ok(None) => {}
            }
        });
        if let Some(program) = self.choose()
            && self.pmt.as_ref().is_none_or(|pmt| !pmt.is_of(program))
        {
            self.pmt = Some(Pmt::new(program));
        }
        self.forget_strangers();
    }

    /// The program to follow. One that is followed is followed until a whole table no longer has it.
    fn choose(&self) -> Option<psi::Program> {
        let number = self
            .wanted
            .or_else(|| self.pmt.as_ref().map(|pmt| pmt.number));
        let mut programs = self.programs.programs();
        let same = programs.find(|program| Some(program.number) == number);
        let first = || {
            let is_free = self.wanted.is_none() && self.programs.is_whole();
            self.programs.programs().next().filter(|_| is_free)
        };
        same.or_else(first).copied()
    }

    /// Drops what is known of PIDs that are not followed.
    fn forget_strangers(&mut self) {
        let pmt = self.pmt.as_ref().map(|pmt| pmt.pid);
        let program = &self.program;
        self.continuity
            .retain(|pid, _| *pid == Pid::PAT || Some(*pid) == pmt || program.has(*pid));
    }

    fn on_pmt(&mut self, starts_unit: bool, payload: &[u8], events: &mut Vec<Event>) {
        let Some(pmt) = &mut self.pmt else { return };
        let (notes, number, mut newest) = (&mut self.notes, pmt.number, None);
        pmt.sections.push(starts_unit, payload, |section| {
            match psi::parse_pmt(section) {
                Err(fault) => notes.add(Some(pmt.pid), fault.into()),
                Ok(Some(table)) if table.program == number => newest = Some(table),
                Ok(_) => {}
            }
        });
        let Some(table) = newest else { return };
        pmt.network = psi::network_of(&table.descriptors);
        if table.entries != pmt.entries {
            let entries = table.entries;
            let out = &mut Out {
                events,
                notes: &mut self.notes,
            };
            self.program.update(&entries, out);
            pmt.entries = entries;
            self.forget_strangers();
        }
    }
}

impl Pmt {
    fn new(program: psi::Program) -> Self {
        let (sections, entries) = (Assembler::default(), Vec::new());
        Self {
            pid: program.pmt,
            number: program.number,
            sections,
            network: None,
            entries,
        }
    }

    fn is_of(&self, program: psi::Program) -> bool {
        self.pid == program.pmt && self.number == program.number
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Crc => Self::TableChecksum,
            Fault::Form => Self::TableForm,
        }
    }
}
