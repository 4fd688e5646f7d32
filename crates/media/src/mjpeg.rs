//! Motion JPEG: images one after another, in a multipart body, or each behind its length; and the multipart writer.
//!
//! ```text
//! FF D8 ... FF D9  FF D8 ... FF D9               one after another: files, pipes
//! --boundary CRLF header CRLF ... CRLF image     multipart/x-mixed-replace: cameras over HTTP (RFC 2046 5.1)
//! 00123 image                                    five digits of length: the `.Mjpeg` of teaching laboratories
//! ```
//!
//! What comes next is seen anew behind each image, so the form need not be known. Where no length is said, the image's
//! own segments are followed to its end. Not RTP (`rtp/jpeg.rs`). There are no times in any of this: frames follow
//! each other in even steps. Called by sources and gateways. Invariant: at most [`FRAME_BYTES_MAX`] and a part's
//! header are held, and what comes out does not depend on how the bytes were cut.

use bytes::{Bytes, BytesMut};
use levada_wire::frame::FRAME_BYTES_MAX;
use levada_wire::{Description, Frame, Track, TrackId, TrackKind};

use crate::jpeg::{EOI, SOI, SOS};
use crate::ticks::TS_TIMESCALE;

/// The longest header of a part.
pub const HEADER_BYTES_MAX: usize = 4_096;
/// The type of a body of parts that [`part`] writes.
pub const CONTENT_TYPE: &str = "multipart/x-mixed-replace; boundary=levada-frame";

const DIGITS: usize = 5;
const TRACK: TrackId = TrackId(1);

/// The beginning of a part, for an image of that many bytes; the image and CRLF follow.
#[must_use]
pub fn part(image_bytes: usize) -> String {
    format!("--levada-frame\r\nContent-Type: image/jpeg\r\nContent-Length: {image_bytes}\r\n\r\n")
}

/// Cuts bytes into images.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
    state: State,
    /// Bytes that belonged to no image.
    junk: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Behind an image.
    #[default]
    Between,
    /// Something was wrong: an image is looked for.
    Hunting,
    /// An image of that many bytes.
    Sized(usize),
    /// An image whose segments are followed.
    Segments {
        /// Where the next one begins, or where in the scan to go on.
        at: usize,
        in_scan: bool,
    },
}

/// What a look at the buffer finds.
enum Look {
    /// An image of that many bytes, whole.
    Image(usize),
    /// Bytes at the front that are part of no image.
    Pass(usize),
    /// The same, and they should not be there.
    Junk(usize),
    /// Another state, behind this many bytes that are part of no image.
    Become(usize, State),
    /// More bytes are needed.
    Wait,
}

impl Splitter {
    /// A splitter at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, cut anywhere, and gives images to `on_image`.
    pub fn push(&mut self, bytes: &[u8], mut on_image: impl FnMut(Bytes)) {
        // Small steps, so that the buffer never grows beyond what the limit allows.
        for bytes in bytes.chunks(1 << 16) {
            self.buffer.extend_from_slice(bytes);
            self.cut(&mut on_image);
        }
    }

    /// Bytes that belonged to no image.
    #[must_use]
    pub const fn junk(&self) -> u64 {
        self.junk
    }

    fn cut(&mut self, on_image: &mut impl FnMut(Bytes)) {
        loop {
            match self.look() {
                Look::Image(bytes) => {
                    on_image(self.buffer.split_to(bytes).freeze());
                    self.state = State::Between;
                }
                Look::Pass(bytes) => drop(self.buffer.split_to(bytes)),
                Look::Junk(bytes) => {
                    self.junk += bytes as u64;
                    drop(self.buffer.split_to(bytes));
                    self.state = State::Hunting;
                }
                Look::Become(bytes, state) => {
                    drop(self.buffer.split_to(bytes));
                    self.state = state;
                }
                Look::Wait => return,
            }
        }
    }

    fn look(&self) -> Look {
        match self.state {
            State::Between => look_between(&self.buffer),
            State::Hunting => hunt(&self.buffer),
            State::Sized(bytes) if self.buffer.len() < bytes => Look::Wait,
            State::Sized(bytes) if self.buffer.starts_with(&[0xFF, SOI]) => Look::Image(bytes),
            State::Sized(bytes) => Look::Junk(bytes),
            State::Segments { at, in_scan } => {
                let look = look_segments(&self.buffer, at, in_scan);
                let is_large = self.buffer.len() > FRAME_BYTES_MAX;
                match look {
                    Look::Wait if is_large => Look::Junk(2),
                    Look::Image(bytes) if bytes > FRAME_BYTES_MAX => Look::Junk(2),
                    look => look,
                }
            }
        }
    }
}

/// What begins behind an image.
fn look_between(bytes: &[u8]) -> Look {
    let white = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    match bytes {
        [] | [0xFF] | [b'-'] => Look::Wait,
        _ if white > 0 => Look::Pass(white),
        [0xFF, SOI, ..] => segments(2, false),
        [b'-', b'-', ..] => look_header(bytes),
        [b'0'..=b'9', ..] => look_digits(bytes),
        _ => hunt(bytes),
    }
}

/// Five digits, then an image.
fn look_digits(bytes: &[u8]) -> Look {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits > DIGITS {
        return hunt(bytes);
    }
    match bytes.get(digits..) {
        Some([] | [0xFF]) => Look::Wait,
        Some([0xFF, SOI, ..]) if digits == DIGITS => {
            let digits = bytes[..DIGITS].iter();
            let size = digits.fold(0, |size, digit| size * 10 + usize::from(digit - b'0'));
            // Behind its length, the image's own end is the surer one where the length is none.
            if size < 4 {
                Look::Pass(DIGITS)
            } else {
                Look::Become(DIGITS, State::Sized(size))
            }
        }
        _ => hunt(bytes),
    }
}

/// The header of a part.
fn look_header(bytes: &[u8]) -> Look {
    let window = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    let end = |pattern: &[u8]| {
        let at = window
            .windows(pattern.len())
            .position(|piece| piece == pattern);
        at.map(|at| at + pattern.len())
    };
    // Some cameras end lines without CR.
    let ends = [end(b"\r\n\r\n"), end(b"\n\n")];
    let Some(end) = ends.into_iter().flatten().min() else {
        return if window.len() == HEADER_BYTES_MAX {
            hunt(bytes)
        } else {
            Look::Wait
        };
    };
    let text = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok());
    match length {
        Some(length @ 4..=FRAME_BYTES_MAX) => Look::Become(end, State::Sized(length)),
        _ => Look::Pass(end),
    }
}

/// Looks for where an image may begin.
fn hunt(bytes: &[u8]) -> Look {
    match bytes.windows(2).position(|pair| pair == [0xFF, SOI]) {
        Some(0) => segments(2, false),
        Some(at) => Look::Junk(at),
        None => match bytes.len() - usize::from(bytes.last() == Some(&0xFF)) {
            0 => Look::Wait,
            junk => Look::Junk(junk),
        },
    }
}

const fn segments(at: usize, in_scan: bool) -> Look {
    Look::Become(0, State::Segments { at, in_scan })
}

/// Follows the segments of an image to its end.
fn look_segments(bytes: &[u8], mut at: usize, in_scan: bool) -> Look {
    if in_scan {
        let rest = bytes.get(at..).unwrap_or_default();
        // A marker, but for stuffed zeros, restarts and fill.
        let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7 | 0xFF);
        match rest.windows(2).position(is_marker) {
            Some(found) => at += found,
            // The last byte may be half a marker.
            None if rest.len() > 1 => return segments(bytes.len() - 1, in_scan),
            None => return Look::Wait,
        }
    }
    let Some(&[first, marker]) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
        return Look::Wait;
    };
    match (first, marker) {
        (0xFF, EOI) => Look::Image(at + 2),
        (0xFF, 0xFF) => segments(at + 1, false),
        (0xFF, 0x01 | 0xD0..=0xD7) => segments(at + 2, false),
        // The image ended before its end, and another begins.
        (0xFF, SOI) => Look::Junk(at),
        (0xFF, 0xC0..) => match bytes.get(at + 2..).and_then(<[u8]>::first_chunk) {
            None => Look::Wait,
            Some([0, 0 | 1]) => Look::Junk(2),
            Some(length) => {
                let length = usize::from(u16::from_be_bytes(*length));
                segments(at + 2 + length, marker == SOS)
            }
        },
        // Behind its first bytes the next one is looked for.
        _ => Look::Junk(2),
    }
}

/// Frames of a stream of images.
#[derive(Debug)]
pub struct Frames {
    splitter: Splitter,
    /// Ticks of 90 kHz from one to the next.
    step: i64,
    next: i64,
}

impl Frames {
    /// Frames in steps of so many ticks of 90 kHz.
    #[must_use]
    pub fn new(step: i64) -> Self {
        Self {
            splitter: Splitter::new(),
            step: step.max(1),
            next: 0,
        }
    }

    /// One track of video.
    #[must_use]
    pub fn description() -> Description {
        let track = Track {
            id: TRACK,
            kind: TrackKind::Video,
            codec: "mjpeg".into(),
            timescale: TS_TIMESCALE,
            config: Vec::new(),
            language: None,
        };
        Description {
            tracks: vec![track],
        }
    }

    /// Takes the next bytes, cut anywhere, and appends the frames that are whole with them.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) {
        let (next, step) = (&mut self.next, self.step);
        self.splitter.push(bytes, |data| {
            out.push(Frame {
                track: TRACK,
                sync: true,
                discardable: false,
                dts: *next,
                pts: *next,
                data,
            });
            *next = next.saturating_add(step);
        });
    }

    /// Bytes that belonged to no image.
    #[must_use]
    pub const fn junk(&self) -> u64 {
        self.splitter.junk()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    /// An image with a thumbnail in its header, restarts and stuffed bytes in its scan.
    fn image(scan: &[u8]) -> Vec<u8> {
        let thumbnail = [0xFF, SOI, 1, 2, 0xFF, EOI];
        let mut image = vec![0xFF, SOI, 0xFF, 0xE1, 0, 8];
        image.extend(thumbnail);
        image.extend([0xFF, SOS, 0, 3, 9]);
        image.extend(scan);
        image.extend([0xFF, 0, 0xFF, 0xD3, 7, 0xFF, EOI]);
        image
    }

    fn split(bytes: &[u8], cut: usize) -> (Vec<Vec<u8>>, u64) {
        let (mut splitter, mut images) = (Splitter::new(), Vec::new());
        for chunk in bytes.chunks(cut) {
            splitter.push(chunk, |image| images.push(image.to_vec()));
        }
        (images, splitter.junk())
    }

    #[test]
    fn images_are_found_in_every_form() {
        let (a, b) = (image(&[1, 2, 3]), image(&[4; 300]));
        let digits = |image: &[u8]| [format!("{:05}", image.len()).as_bytes(), image].concat();
        let parted = |image: &[u8]| [part(image.len()).as_bytes(), image, b"\r\n"].concat();
        let bare = |image: &[u8]| [b"--x\nContent-Type: image/jpeg\n\n", image, b"\n"].concat();

        for bytes in [
            [a.clone(), b.clone()].concat(),
            [digits(&a), digits(&b)].concat(),
            [parted(&a), parted(&b)].concat(),
            [bare(&a), bare(&b), b"--x--\n".to_vec()].concat(),
            [digits(&a), parted(&b)].concat(),
        ] {
            assert_eq!(split(&bytes, bytes.len()), (vec![a.clone(), b.clone()], 0));
        }
    }

    #[test]
    fn junk_is_passed_over_and_counted() {
        let whole = image(&[5; 40]);
        let cut = &whole[..30];
        let bytes = [
            b"HTTP/1.0 200 OK",
            &whole[..],
            b"123456",
            cut,
            &whole,
            &[0xFF, SOI, 7],
            &whole,
        ]
        .concat();

        let (images, junk) = split(&bytes, 7);

        assert_eq!(images, [&whole[..], &whole, &whole]);
        assert_eq!(junk, 15 + 6 + 30 + 3);
    }

    #[test]
    fn what_is_above_a_limit_is_left_out() {
        let whole = image(&[5; 40]);
        let large = image(&vec![5; FRAME_BYTES_MAX]);
        let header = [b"--", &[b'x'; HEADER_BYTES_MAX][..]].concat();

        assert_eq!(
            split(&[&large[..], &whole].concat(), 1 << 20).0,
            [&whole[..]]
        );
        assert_eq!(
            split(&[&header[..], &whole].concat(), 999),
            (vec![whole.clone()], header.len() as u64)
        );
        let announced = format!("--x\r\nContent-Length: {}\r\n\r\n", FRAME_BYTES_MAX + 1);
        assert_eq!(
            split(&[announced.as_bytes(), &whole].concat(), 999).0,
            [&whole[..]]
        );
    }

    #[test]
    fn frames_follow_each_other_in_even_steps() {
        let (mut frames, mut out) = (Frames::new(3_600), Vec::new());

        frames.push(&image(&[1]).repeat(3), &mut out);

        let times: Vec<_> = out
            .iter()
            .map(|frame| (frame.dts, frame.pts, frame.sync))
            .collect();
        assert_eq!(
            times,
            [(0, 0, true), (3_600, 3_600, true), (7_200, 7_200, true)]
        );
        assert_eq!((Frames::description().check(), frames.junk()), (Ok(()), 0));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(pieces in proptest::collection::vec(prop_oneof![
            Just(image(&[1, 2])), Just(b"00025".to_vec()), Just(part(25).into_bytes()), Just(b"\r\n".to_vec()),
            Just(vec![0xFF]), Just(vec![0xFF, SOI]), proptest::collection::vec(any::<u8>(), 0..20),
        ], 0..12), cut in 1_usize..40) {
            let bytes = pieces.concat();

            prop_assert_eq!(split(&bytes, cut), split(&bytes, bytes.len().max(1)));
        }
    }
}
