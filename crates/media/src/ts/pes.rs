//! PES packets: the pieces an elementary stream is cut into, with the times of what begins in them.
//!
//! ```text
//! off len field                                                       ISO 13818-1 2.4.3.6
//!  0   3  00 00 01
//!  3   1  stream id
//!  4   2  bytes that follow; 0 = until the next one begins (video)
//!  6   1  10:2 scrambling:2 priority:1 aligned:1 copyright:1 original:1
//!  7   1  pts:1 dts:1 others:6
//!  8   1  bytes of header that follow: pts, dts (5 each), others
//! ```
//!
//! Not what the payload means: that goes to a [`Sink`]. Called by the demuxer and the muxer. Invariant: a sink
//! hears `start`, any number of `data`, then `end` or `lose`, and a packet that never ends holds no memory here.

use std::ops::RangeInclusive;

/// Timestamps of a transport stream count modulo 2^33.
pub(super) const CLOCK_BITS: u32 = 33;

const FIXED_BYTES: usize = 6;
const FLAGS_BYTES: usize = 3;
const TIME_BYTES: usize = 5;
/// Fixed part, flags and the longest header a PES packet can have.
const HEADER_BYTES_MAX: usize = FIXED_BYTES + FLAGS_BYTES + 255;
/// What the length field can say.
const LENGTH_MAX: usize = 0xFFFF;
/// Stream ids whose packets may leave their length open.
const VIDEO_STREAMS: RangeInclusive<u8> = 0xE0..=0xEF;
const STREAM_PADDING: u8 = 0xBE;
const STREAM_PRIVATE_2: u8 = 0xBF;

/// The stream ids that go without flags and times: maps, private 2, ECM, EMM, DSM-CC, H.222.1 E, directory.
const BARE_STREAMS: [u8; 7] = [0xBC, STREAM_PRIVATE_2, 0xF0, 0xF1, 0xF2, 0xF8, 0xFF];

/// What the header of a PES packet says. Times are raw: 33 bits of 90 kHz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) pts: Option<u64>,
    pub(super) dts: Option<u64>,
    /// The payload begins with an access unit.
    pub(super) aligned: bool,
    /// Its length is known, so its end shows without the next packet.
    pub(super) bounded: bool,
    /// It is as long as the length field can say, so what it carries may go on in the next one.
    pub(super) full: bool,
}

impl Header {
    /// Whether a unit begins here, or the rest of one that did not fit a packet.
    pub(super) const fn begins(&self) -> bool {
        self.aligned || self.pts.is_some()
    }
}

/// Who takes the payload.
pub(super) trait Sink {
    fn start(&mut self, header: Header);
    fn data(&mut self, bytes: &[u8]);
    fn end(&mut self);
    /// Bytes are missing: what began is not to be completed.
    fn lose(&mut self);
}

/// Reads the PES packets of one PID.
#[derive(Debug, Default)]
pub(super) struct Reader {
    state: State,
    header: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Waits for the next packet to begin.
    #[default]
    Idle,
    /// Gathers a header.
    Header,
    /// Passes on a payload; `left` is the rest of it, when its length is known.
    Body { left: Option<usize> },
}

/// A PES packet did not begin as one must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadHeader;

impl Reader {
    pub(super) fn push(
        &mut self,
        starts_unit: bool,
        payload: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), BadHeader> {
        if starts_unit {
            self.finish(sink);
            self.state = State::Header;
        }
        match self.state {
            State::Idle => Ok(()),
            State::Header => self.take_header(payload, sink),
            State::Body { left } => {
                self.take_body(left, payload, sink);
                Ok(())
            }
        }
    }

    /// Ends the packet in hand, even if it announced more bytes: some multiplexers announce wrongly.
    pub(super) fn finish(&mut self, sink: &mut impl Sink) {
        if matches!(self.state, State::Body { .. }) {
            sink.end();
        }
        self.reset();
    }

    /// Bytes were lost: the packet in hand is given up.
    pub(super) fn lose(&mut self, sink: &mut impl Sink) {
        self.reset();
        sink.lose();
    }

    fn reset(&mut self) {
        self.state = State::Idle;
        self.header.clear();
    }

    fn take_header(&mut self, payload: &[u8], sink: &mut impl Sink) -> Result<(), BadHeader> {
        let room = HEADER_BYTES_MAX - self.header.len();
        let (head, mut rest) = payload.split_at(payload.len().min(room));
        self.header.extend_from_slice(head);
        let (header, header_bytes, left) = match parse_header(&self.header) {
            Parsed::Incomplete => return Ok(()),
            Parsed::Bad => {
                self.lose(sink);
                return Err(BadHeader);
            }
            Parsed::Padding => {
                self.reset();
                return Ok(());
            }
            Parsed::Whole {
                header,
                bytes,
                left,
            } => (header, bytes, left),
        };
        sink.start(header);
        self.state = State::Body { left };
        let buffered = std::mem::take(&mut self.header);
        self.take_body(left, &buffered[header_bytes..], sink);
        if let State::Body { left } = self.state {
            self.take_body(left, std::mem::take(&mut rest), sink);
        }
        Ok(())
    }

    fn take_body(&mut self, left: Option<usize>, payload: &[u8], sink: &mut impl Sink) {
        let Some(left) = left else {
            return sink.data(payload);
        };
        let payload = &payload[..payload.len().min(left)];
        sink.data(payload);
        if payload.len() == left {
            sink.end();
            self.reset();
        } else {
            self.state = State::Body {
                left: Some(left - payload.len()),
            };
        }
    }
}

enum Parsed {
    Incomplete,
    Bad,
    Padding,
    Whole {
        header: Header,
        bytes: usize,
        left: Option<usize>,
    },
}

fn parse_header(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Parsed::Incomplete;
    };
    let [0, 0, 1, stream, l0, l1] = *fixed else {
        return Parsed::Bad;
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let bounded = length > 0;
    let full = length == LENGTH_MAX;
    if stream == STREAM_PADDING {
        return Parsed::Padding;
    }
    if BARE_STREAMS.contains(&stream) {
        let header = Header {
            bounded,
            full,
            ..Header::default()
        };
        return Parsed::Whole {
            header,
            bytes: FIXED_BYTES,
            left: bounded.then_some(length),
        };
    }
    let Some((&[marks, flags, more], rest)) = rest.split_first_chunk() else {
        return Parsed::Incomplete;
    };
    let more = usize::from(more);
    let Some(rest) = rest.get(..more) else {
        return Parsed::Incomplete;
    };
    let left = length.checked_sub(FLAGS_BYTES + more);
    if bounded && left.is_none() {
        return Parsed::Bad;
    }
    let pts = rest
        .first_chunk()
        .filter(|_| flags & 0x80 != 0)
        .map(parse_time);
    let dts = rest.get(TIME_BYTES..).and_then(<[u8]>::first_chunk);
    let dts = dts.filter(|_| flags & 0xC0 == 0xC0).map(parse_time);
    let header = Header {
        pts,
        dts,
        aligned: marks & 0x04 != 0,
        bounded,
        full,
    };
    let left = left.filter(|_| bounded);
    Parsed::Whole {
        header,
        bytes: FIXED_BYTES + FLAGS_BYTES + more,
        left,
    }
}

fn parse_time([b0, b1, b2, b3, b4]: &[u8; TIME_BYTES]) -> u64 {
    let bits = |byte: u8, mask: u8| u64::from((byte & mask) >> 1);
    bits(*b0, 0x0E) << 30
        | u64::from(*b1) << 22
        | bits(*b2, 0xFE) << 15
        | u64::from(*b3) << 7
        | bits(*b4, 0xFE)
}

/// Appends `time` under its four bits of `prefix`.
fn write_time(out: &mut Vec<u8>, prefix: u8, time: u64) {
    let high = u8::try_from(time >> 30 & 0x07).expect("three bits");
    let middle = u16::try_from(time >> 15 & 0x7FFF).expect("fifteen bits");
    let low = u16::try_from(time & 0x7FFF).expect("fifteen bits");
    out.push(prefix << 4 | high << 1 | 1);
    out.extend_from_slice(&(middle << 1 | 1).to_be_bytes());
    out.extend_from_slice(&(low << 1 | 1).to_be_bytes());
}

/// A unit to be written. Times are raw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) stream: u8,
    pub(super) pts: u64,
    pub(super) dts: u64,
}

/// Writes the aligned PES packets of a unit, given in two pieces, and hands each to `on_packet`.
///
/// A video unit too long for the length field leaves it open, which others may not (ISO 13818-1 2.4.3.7): they go
/// on in further packets without times.
pub(super) fn write(
    head: Head,
    unit: [&[u8]; 2],
    packet: &mut Vec<u8>,
    mut on_packet: impl FnMut(&[u8]),
) {
    let with_dts = head.dts != head.pts;
    let times = if with_dts { 2 * TIME_BYTES } else { TIME_BYTES };
    let length = FLAGS_BYTES + times + unit.iter().map(|piece| piece.len()).sum::<usize>();
    let is_open = length > LENGTH_MAX && VIDEO_STREAMS.contains(&head.stream);
    let first = if is_open {
        length
    } else {
        length.min(LENGTH_MAX)
    };
    let flags = if with_dts { 0xC0 } else { 0x80 };
    let more = if with_dts { 0x0A } else { 0x05 };
    packet.clear();
    packet.extend_from_slice(&[0, 0, 1, head.stream]);
    packet.extend_from_slice(&u16::try_from(first).unwrap_or(0).to_be_bytes());
    packet.extend_from_slice(&[0x84, flags, more]);
    write_time(packet, if with_dts { 0x3 } else { 0x2 }, head.pts);
    if with_dts {
        write_time(packet, 0x1, head.dts);
    }
    let [front, data] = unit;
    let (now, mut rest) = data.split_at(first - FLAGS_BYTES - times - front.len());
    packet.extend_from_slice(front);
    packet.extend_from_slice(now);
    on_packet(packet);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(LENGTH_MAX - FLAGS_BYTES));
        let length = u16::try_from(FLAGS_BYTES + now.len()).expect("at most the longest");
        packet.clear();
        packet.extend_from_slice(&[0, 0, 1, head.stream]);
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&[0x80, 0, 0]);
        packet.extend_from_slice(now);
        on_packet(packet);
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Heard {
        headers: Vec<Header>,
        bodies: Vec<Vec<u8>>,
        ended: usize,
        lost: usize,
    }

    impl Sink for Heard {
        fn start(&mut self, header: Header) {
            self.headers.push(header);
            self.bodies.push(Vec::new());
        }

        fn data(&mut self, bytes: &[u8]) {
            self.bodies
                .last_mut()
                .expect("start comes first")
                .extend_from_slice(bytes);
        }

        fn end(&mut self) {
            self.ended += 1;
        }

        fn lose(&mut self) {
            self.lost += 1;
        }
    }

    #[test]
    fn an_open_packet_ends_where_the_next_begins() {
        let open = [0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0, 7, 8];
        let (mut reader, mut heard) = (Reader::default(), Heard::default());

        for payload in [&open[..], &open[..]] {
            assert_eq!(reader.push(true, payload, &mut heard), Ok(()));
        }

        assert_eq!(heard.bodies, [[7, 8], [7, 8]]);
        assert_eq!(heard.ended, 1);
        assert_eq!(heard.headers[0], Header::default());
    }

    #[test]
    fn padding_and_bad_beginnings_are_passed_over() {
        let (mut reader, mut heard) = (Reader::default(), Heard::default());

        assert_eq!(
            reader.push(true, &[0, 0, 1, STREAM_PADDING, 0, 9, 1, 2], &mut heard),
            Ok(())
        );
        assert_eq!(
            reader.push(true, &[0, 0, 2, 0xE0, 0, 9, 1, 2], &mut heard),
            Err(BadHeader)
        );
        assert_eq!(reader.push(false, &[5; 184], &mut heard), Ok(()));
        // A length shorter than the header it announces.
        assert_eq!(
            reader.push(true, &[0, 0, 1, 0xE0, 0, 2, 0x80, 0, 0], &mut heard),
            Err(BadHeader)
        );

        assert_eq!(
            heard,
            Heard {
                lost: 2,
                ..Heard::default()
            }
        );
    }

    #[test]
    fn only_video_leaves_a_length_open() {
        let body = vec![7; 3 * LENGTH_MAX];
        let lengths = |stream| {
            let (mut lengths, mut whole) = (Vec::new(), Vec::new());
            let head = Head {
                stream,
                pts: 1,
                dts: 1,
            };
            write(head, [&body[..9], &body[9..]], &mut Vec::new(), |packet| {
                let [.., high, low] = packet[..6] else {
                    panic!("too short")
                };
                lengths.push(usize::from(u16::from_be_bytes([high, low])));
                whole.extend_from_slice(&packet[9 + usize::from(packet[8])..]);
            });
            assert_eq!(whole, body);
            lengths
        };

        assert_eq!(lengths(0xE0), [0]);
        assert_eq!(lengths(0xC0), [LENGTH_MAX, LENGTH_MAX, LENGTH_MAX, 17]);
        assert_eq!(lengths(0xBD).len(), 4);
    }

    proptest! {
        #[test]
        fn a_packet_survives_its_bytes(
            pts in 0_u64..1 << 33,
            dts in 0_u64..1 << 33,
            body in proptest::collection::vec(any::<u8>(), 1..600),
            cut in 1_usize..184,
        ) {
            let mut bytes = Vec::new();
            let (front, data) = body.split_at(body.len() / 3);
            let head = Head { stream: 0xBD, pts, dts };
            write(head, [front, data], &mut Vec::new(), |packet| bytes.extend_from_slice(packet));
            let (mut reader, mut heard) = (Reader::default(), Heard::default());

            for (n, chunk) in bytes.chunks(cut).enumerate() {
                prop_assert_eq!(reader.push(n == 0, chunk, &mut heard), Ok(()));
            }

            let dts = (dts != pts).then_some(dts);
            let header = Header { pts: Some(pts), dts, aligned: true, bounded: true, full: false };
            prop_assert_eq!(&heard.headers, &[header]);
            prop_assert_eq!(&heard.bodies, &[body]);
            prop_assert_eq!((heard.ended, heard.lost), (1, 0));
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            cut in 1_usize..184,
        ) {
            let (mut reader, mut heard) = (Reader::default(), Heard::default());
            let bytes = [&[0, 0, 1][..], &bytes].concat();

            for (n, chunk) in bytes.chunks(cut).enumerate() {
                let _ = reader.push(n % 3 == 0, chunk, &mut heard);
            }
            reader.finish(&mut heard);

            prop_assert!(heard.ended <= heard.headers.len());
        }
    }
}
