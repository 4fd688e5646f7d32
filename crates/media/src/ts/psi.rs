//! The tables of a transport stream: PAT (which programs there are) and PMT (what a program is made of).
//!
//! ```text
//! section   table:8 syntax:1 0:1 reserved:2 length:12 | body | crc:32          ISO 13818-1 2.4.4
//! body      id:16 reserved:2 version:5 current:1 section:8 last:8 | entries
//! PAT entry program:16 reserved:3 pid:13
//! PMT       reserved:3 pcr pid:13 reserved:4 length:12 descriptors | entries
//! PMT entry type:8 reserved:3 pid:13 reserved:4 length:12 descriptors
//! ```
//!
//! Not the meaning of stream types (`codec.rs`). Called by the demuxer and the muxer. Invariant: a section whose
//! checksum is wrong changes nothing.

use std::collections::BTreeMap;

use levada_wire::NetworkId;

use super::packet::Pid;

/// The largest PAT or PMT section, header and checksum included (ISO 13818-1 2.4.4.3).
pub(super) const SECTION_BYTES_MAX: usize = 1_024;
/// Table, length, and the checksum at the end.
const HEADER_BYTES: usize = 3;
const CRC_BYTES: usize = 4;
/// Id, version, section numbers.
const SYNTAX_BYTES: usize = 5;
const TABLE_PAT: u8 = 0;
const TABLE_PMT: u8 = 2;
/// Fills what is left of a packet behind a section.
pub(super) const STUFFING: u8 = 0xFF;

/// The checksum of MPEG-2 sections: CRC-32, not reflected, no final inversion (ISO 13818-1 annex A).
///
/// Over a section and its own checksum it is zero.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = (crc >> 24) as u8 ^ byte;
        crc << 8 ^ CRC_TABLE[usize::from(index)]
    })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x04C1_1DB7
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Puts sections together from the payloads of one PID.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    buffer: Vec<u8>,
    /// A section's beginning has been seen and nothing was lost since.
    open: bool,
}

impl Assembler {
    /// Takes the payload of a packet; calls `on_section` for each section that is whole, its checksum not yet checked.
    pub(super) fn push(
        &mut self,
        starts_unit: bool,
        payload: &[u8],
        mut on_section: impl FnMut(&[u8]),
    ) {
        if !starts_unit {
            if self.open {
                self.buffer.extend_from_slice(payload);
                self.cut(&mut on_section);
            }
            return;
        }
        let Some((&pointer, rest)) = payload.split_first() else {
            return;
        };
        let Some((end_of_last, next)) = rest.split_at_checked(usize::from(pointer)) else {
            return self.lose();
        };
        if self.open {
            self.buffer.extend_from_slice(end_of_last);
            self.cut(&mut on_section);
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(next);
        self.open = true;
        self.cut(&mut on_section);
    }

    /// Bytes were lost: the section in the making is given up.
    pub(super) fn lose(&mut self) {
        self.open = false;
        self.buffer.clear();
    }

    fn cut(&mut self, on_section: &mut impl FnMut(&[u8])) {
        while let [table, high, low, ..] = self.buffer[..] {
            let length = HEADER_BYTES + usize::from(u16::from_be_bytes([high & 0x0F, low]));
            if table == STUFFING || length > SECTION_BYTES_MAX {
                return self.lose();
            }
            if self.buffer.len() < length {
                return;
            }
            on_section(&self.buffer[..length]);
            self.buffer.drain(..length);
        }
    }
}

/// What is wrong with a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its checksum.
    Crc,
    /// It ends before what it announces.
    Form,
}

/// The inside of a section.
struct Body<'a> {
    id: u16,
    version: u8,
    /// Its place among the sections of its table, and the last one's.
    number: u8,
    last: u8,
    entries: &'a [u8],
}

/// The body of a section of `table` that is in force; `None` for another table or one still to come.
fn body(section: &[u8], table: u8) -> Result<Option<Body<'_>>, Fault> {
    if section.first() != Some(&table) {
        return Ok(None);
    }
    let inner = section
        .len()
        .checked_sub(CRC_BYTES)
        .and_then(|end| section.get(HEADER_BYTES..end));
    let Some((syntax, entries)) = inner.and_then(|inner| inner.split_first_chunk::<SYNTAX_BYTES>())
    else {
        return Err(Fault::Form);
    };
    if crc32(section) != 0 {
        return Err(Fault::Crc);
    }
    let [id_high, id_low, version, number, last] = *syntax;
    let current = version & 1 != 0;
    let id = u16::from_be_bytes([id_high, id_low]);
    Ok(current.then_some(Body {
        id,
        version: version >> 1 & 0x1F,
        number,
        last,
        entries,
    }))
}

/// One program of a PAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) number: u16,
    pub(super) pmt: Pid,
}

/// A PAT in the making: it may be spread over 256 sections, which come in any order.
#[derive(Debug, Default)]
pub(super) struct Pat {
    /// What all its sections say alike: id, version, number of the last one.
    of: Option<(u16, u8, u8)>,
    sections: BTreeMap<u8, Vec<Program>>,
}

impl Pat {
    /// Takes a section. One of another table than those before begins anew.
    pub(super) fn add(&mut self, section: PatSection) {
        if self.of != Some(section.of) {
            self.of = Some(section.of);
            self.sections.clear();
        }
        self.sections.insert(section.number, section.programs);
    }

    /// The programs known so far, in the order of the sections.
    pub(super) fn programs(&self) -> impl Iterator<Item = &Program> {
        self.sections.values().flatten()
    }

    /// Whether every section is here.
    pub(super) fn is_whole(&self) -> bool {
        self.of.is_some_and(|(_, _, last)| {
            let within = self.sections.range(..=last).count();
            within == usize::from(last) + 1
        })
    }
}

/// One section of a PAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PatSection {
    of: (u16, u8, u8),
    number: u8,
    programs: Vec<Program>,
}

/// Reads a PAT section.
pub(super) fn parse_pat(section: &[u8]) -> Result<Option<PatSection>, Fault> {
    let Some(body) = body(section, TABLE_PAT)? else {
        return Ok(None);
    };
    let programs = body
        .entries
        .as_chunks()
        .0
        .iter()
        .map(|[n0, n1, p0, p1]| Program {
            number: u16::from_be_bytes([*n0, *n1]),
            pmt: Pid::from_low_bits(u16::from_be_bytes([*p0, *p1])),
        });
    // Program 0 is the network information table.
    Ok(Some(PatSection {
        of: (body.id, body.version, body.last),
        number: body.number,
        programs: programs.filter(|program| program.number != 0).collect(),
    }))
}

/// One elementary stream of a PMT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stream_type: u8,
    pub(super) pid: Pid,
    pub(super) descriptors: Vec<u8>,
}

/// What a program is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pmt {
    pub(super) program: u16,
    pub(super) version: u8,
    pub(super) pcr: Pid,
    /// Of the program as a whole.
    pub(super) descriptors: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

/// Names what follows it (ISO 13818-1 2.6.8).
const REGISTRATION: u8 = 5;
/// The name under which a node writes its network.
const FORMAT: [u8; 4] = *b"LVDA";

/// What says of a program that a node of that network writes it.
pub(super) fn network_descriptor(network: NetworkId) -> Vec<u8> {
    let length = FORMAT.len() + network.0.len();
    let length = u8::try_from(length).expect("20 bytes");
    [&[REGISTRATION, length], &FORMAT[..], &network.0].concat()
}

/// The network whose node writes a program, if one does.
pub(super) fn network_of(program: &[u8]) -> Option<NetworkId> {
    let mut found = descriptors(program).filter(|(tag, _)| *tag == REGISTRATION);
    let id = found.find_map(|(_, content)| content.strip_prefix(&FORMAT))?;
    Some(NetworkId(id.try_into().ok()?))
}

/// Reads a PMT section. Entries that do not fit in it make it a [`Fault::Form`].
pub(super) fn parse_pmt(section: &[u8]) -> Result<Option<Pmt>, Fault> {
    let Some(body) = body(section, TABLE_PMT)? else {
        return Ok(None);
    };
    let (&[p0, p1, l0, l1], rest) = body.entries.split_first_chunk().ok_or(Fault::Form)?;
    let (of_program, mut rest) = rest
        .split_at_checked(length_12(l0, l1))
        .ok_or(Fault::Form)?;
    let mut entries = Vec::new();
    while let Some((&[stream_type, e0, e1, l0, l1], tail)) = rest.split_first_chunk() {
        let (descriptors, tail) = tail
            .split_at_checked(length_12(l0, l1))
            .ok_or(Fault::Form)?;
        let pid = Pid::from_low_bits(u16::from_be_bytes([e0, e1]));
        entries.push(Entry {
            stream_type,
            pid,
            descriptors: descriptors.to_vec(),
        });
        rest = tail;
    }
    let pcr = Pid::from_low_bits(u16::from_be_bytes([p0, p1]));
    Ok(Some(Pmt {
        program: body.id,
        version: body.version,
        pcr,
        descriptors: of_program.to_vec(),
        entries,
    }))
}

fn length_12(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high & 0x0F, low]))
}

/// The descriptors at the front of `bytes`: tag and content.
pub(super) fn descriptors(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[tag, length], rest) = bytes.split_first_chunk()?;
        let (content, rest) = rest.split_at_checked(usize::from(length))?;
        bytes = rest;
        Some((tag, content))
    })
}

/// Writes a PAT with one program.
pub(super) fn write_pat(transport_stream: u16, program: Program) -> Vec<u8> {
    let mut entries = program.number.to_be_bytes().to_vec();
    entries.extend_from_slice(&(0xE000 | program.pmt.value()).to_be_bytes());
    section(TABLE_PAT, transport_stream, 0, &entries)
}

impl Pmt {
    /// Bytes an entry takes in a section.
    pub(super) const fn entry_bytes(descriptors: &[u8]) -> usize {
        5 + descriptors.len()
    }

    /// Bytes of entries that fit in a section.
    pub(super) const ENTRIES_BYTES_MAX: usize =
        SECTION_BYTES_MAX - HEADER_BYTES - SYNTAX_BYTES - CRC_BYTES - 4;

    /// Writes the section; descriptors and entries have to fit ([`Self::ENTRIES_BYTES_MAX`]).
    pub(super) fn write(&self) -> Vec<u8> {
        let mut body = (0xE000 | self.pcr.value()).to_be_bytes().to_vec();
        let length = u16::try_from(self.descriptors.len()).expect("the entries fit a section");
        body.extend_from_slice(&(0xF000 | length).to_be_bytes());
        body.extend_from_slice(&self.descriptors);
        for entry in &self.entries {
            let length = u16::try_from(entry.descriptors.len()).expect("the entries fit a section");
            body.push(entry.stream_type);
            body.extend_from_slice(&(0xE000 | entry.pid.value()).to_be_bytes());
            body.extend_from_slice(&(0xF000 | length).to_be_bytes());
            body.extend_from_slice(&entry.descriptors);
        }
        section(TABLE_PMT, self.program, self.version, &body)
    }
}

fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let length = SYNTAX_BYTES + body.len() + CRC_BYTES;
    let length = u16::try_from(length).expect("a section is at most 1,024 bytes long");
    let mut section = vec![table];
    section.extend_from_slice(&(0xB000 | length).to_be_bytes());
    section.extend_from_slice(&id.to_be_bytes());
    section.extend_from_slice(&[0xC1 | (version & 0x1F) << 1, 0, 0]);
    section.extend_from_slice(body);
    let crc = crc32(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    section
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    fn pmt() -> Pmt {
        let entry = |pid, descriptors: &[u8]| Entry {
            stream_type: 0x1B,
            pid: Pid::from_low_bits(pid),
            descriptors: descriptors.to_vec(),
        };
        Pmt {
            program: 1,
            version: 7,
            pcr: Pid::from_low_bits(0x101),
            descriptors: network_descriptor(NetworkId([9; 16])),
            entries: vec![
                entry(0x101, &[]),
                entry(0x102, &[0x0A, 4, b'e', b'n', b'g', 0]),
            ],
        }
    }

    fn assemble(payloads: &[(bool, &[u8])]) -> Vec<Vec<u8>> {
        let (mut assembler, mut sections) = (Assembler::default(), Vec::new());
        for (starts_unit, payload) in payloads {
            assembler.push(*starts_unit, payload, |section| {
                sections.push(section.to_vec())
            });
        }
        sections
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
    }

    #[test]
    fn tables_survive_their_bytes() {
        let program = Program {
            number: 1,
            pmt: Pid::from_low_bits(0x1000),
        };

        let section = parse_pat(&write_pat(1, program));
        assert_eq!(section.map(|s| s.unwrap().programs), Ok(vec![program]));
        assert_eq!(parse_pmt(&pmt().write()), Ok(Some(pmt())));
        assert_eq!(parse_pmt(&write_pat(1, program)), Ok(None));
        assert_eq!(network_of(&pmt().descriptors), Some(NetworkId([9; 16])));
        assert_eq!(network_of(b"\x05\x04HDMV\x05\x06LVDA\x01\x02"), None);
    }

    #[test]
    fn a_pat_is_whole_with_its_last_section_in_any_order() {
        let part = |version, number, program| PatSection {
            of: (1, version, 2),
            number,
            programs: vec![Program {
                number: program,
                pmt: Pid::from_low_bits(0x1000),
            }],
        };
        let mut pat = Pat::default();
        let numbers = |pat: &Pat| pat.programs().map(|p| p.number).collect::<Vec<_>>();

        for (number, whole) in [(2, false), (0, false), (2, false), (1, true)] {
            pat.add(part(0, number, u16::from(number) + 5));
            assert_eq!(pat.is_whole(), whole);
        }
        assert_eq!(numbers(&pat), [5, 6, 7]);

        // A new version forgets the one before.
        pat.add(part(1, 0, 9));
        assert_eq!((pat.is_whole(), numbers(&pat)), (false, vec![9]));
    }

    #[test]
    fn a_wrong_checksum_is_a_fault() {
        let mut section = pmt().write();
        section[14] ^= 1;

        assert_eq!(parse_pmt(&section), Err(Fault::Crc));
    }

    #[test]
    fn a_section_is_put_together_from_payloads() {
        let section = pmt().write();
        let first = [&[0], &section[..10]].concat();
        let second = [
            &[u8::try_from(section.len() - 10).unwrap()],
            &section[10..],
            &section,
        ]
        .concat();

        let whole = assemble(&[(true, &first), (true, &second), (false, &[STUFFING; 20])]);

        assert_eq!(whole, [section.clone(), section]);
    }

    #[test]
    fn a_section_longer_than_allowed_is_given_up() {
        let long = [&[0, TABLE_PMT, 0x0F, 0xFF][..], &[0; 180]].concat();
        let section = pmt().write();
        let next = [&[0], &section[..]].concat();

        let whole = assemble(&[(true, &long), (false, &[0; 184]), (true, &next)]);

        assert_eq!(whole, [section]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            starts_unit: bool,
        ) {
            for section in assemble(&[(starts_unit, &bytes), (true, &bytes), (false, &bytes)]) {
                prop_assert!(parse_pat(&section).is_err() || section[0] != TABLE_PAT);
                prop_assert!(parse_pmt(&section).is_err() || section[0] != TABLE_PMT);
            }
            for (_, content) in descriptors(&bytes) {
                prop_assert!(content.len() < bytes.len());
            }
        }
    }
}
