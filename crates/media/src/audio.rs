//! Cuts a stream of audio frames that carry their own length: ADTS, MPEG audio, AC-3.
//!
//! Frames begin where they like in PES packets and may be spread over them. A frame takes the time of the PES
//! packet it is the first to begin in; those behind it count samples from there, so that nothing is rounded
//! twice. After a loss a header counts only if another one stands where the frame ends.
//!
//! Not the headers themselves: those are read by `aac`, `mpeg_audio` and `ac3`. Called by [`crate::ts`].
//! Invariant: the buffer holds at most one frame and a header.

use std::num::NonZeroU32;

use bytes::{Bytes, BytesMut};

use crate::marks::{Marks, Times};
use crate::ticks::{TS_TIMESCALE, rescale};

/// What the header of an audio frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the frame, header included.
    pub(crate) bytes: usize,
    /// Bytes at its front that are not handed on.
    pub(crate) skip: usize,
    pub(crate) samples: u32,
    /// Samples per second.
    pub(crate) rate: NonZeroU32,
    pub(crate) codec: &'static str,
    pub(crate) config: Option<[u8; 2]>,
}

/// What stands at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Header(Header),
    /// Too few bytes to say.
    Short,
    Bad,
}

/// An audio frame that was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) data: Bytes,
    pub(crate) times: Times,
    pub(crate) header: Header,
}

#[derive(Debug)]
pub(crate) struct Splitter {
    parse: fn(&[u8]) -> Parsed,
    buffer: BytesMut,
    marks: Marks,
    anchor: Option<Anchor>,
    /// The frame before ended where the buffer begins.
    locked: bool,
    /// Bytes that belonged to no frame, since they were last asked for.
    junk: usize,
}

/// Where counting samples began.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    times: Times,
    samples: u64,
    rate: NonZeroU32,
}

impl Splitter {
    pub(crate) fn new(parse: fn(&[u8]) -> Parsed) -> Self {
        let (buffer, marks) = (BytesMut::new(), Marks::default());
        Self {
            parse,
            buffer,
            marks,
            anchor: None,
            locked: false,
            junk: 0,
        }
    }

    /// A PES packet begins here; its times belong to the first frame that begins in it.
    ///
    /// An `aligned` one begins with a frame, so that after a loss the first header counts by itself.
    pub(crate) fn mark(&mut self, times: Option<Times>, aligned: bool) {
        self.locked |= aligned && self.buffer.is_empty();
        if let Some(times) = times {
            self.marks.set(self.buffer.len(), times);
        }
    }

    /// Takes bytes in and gives frames to `on_unit`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut on_unit: impl FnMut(Unit)) {
        self.buffer.extend_from_slice(bytes);
        self.cut(false, &mut on_unit);
    }

    /// No more bytes will come.
    pub(crate) fn finish(&mut self, mut on_unit: impl FnMut(Unit)) {
        self.cut(true, &mut on_unit);
        self.lose();
    }

    /// Bytes were lost: the frame in hand is given up.
    pub(crate) fn lose(&mut self) {
        self.junk += self.buffer.len();
        self.buffer.clear();
        self.marks.clear();
        self.anchor = None;
        self.locked = false;
    }

    /// Bytes that belonged to no frame, since the last call.
    pub(crate) fn take_junk(&mut self) -> usize {
        std::mem::take(&mut self.junk)
    }

    fn cut(&mut self, end: bool, on_unit: &mut impl FnMut(Unit)) {
        while !self.buffer.is_empty() {
            match self.look(end) {
                Look::Frame(header) => {
                    let times = self.times(&header);
                    let data = self.forget(header.bytes).freeze().slice(header.skip..);
                    self.locked = true;
                    if let Some(times) = times {
                        on_unit(Unit {
                            data,
                            times,
                            header,
                        });
                    }
                }
                Look::Wait => return,
                Look::Junk => {
                    self.forget(1);
                    self.junk += 1;
                    self.locked = false;
                }
            }
        }
    }

    fn look(&self, end: bool) -> Look {
        let header = match (self.parse)(&self.buffer) {
            Parsed::Header(header) => header,
            Parsed::Short if !end => return Look::Wait,
            Parsed::Short | Parsed::Bad => return Look::Junk,
        };
        let Some(next) = self.buffer.get(header.bytes..) else {
            return if end { Look::Junk } else { Look::Wait };
        };
        match (self.parse)(next) {
            _ if self.locked => Look::Frame(header),
            Parsed::Header(_) => Look::Frame(header),
            Parsed::Short if end => Look::Frame(header),
            Parsed::Short => Look::Wait,
            Parsed::Bad => Look::Junk,
        }
    }

    /// The times of the frame at the buffer's front; `None` before the first PES packet that says one.
    fn times(&mut self, header: &Header) -> Option<Times> {
        let mut anchor = match (self.marks.take(0), self.anchor) {
            (Some(times), _) => Anchor {
                times,
                samples: 0,
                rate: header.rate,
            },
            (None, Some(anchor)) if anchor.rate == header.rate => anchor,
            (None, anchor) => Anchor {
                times: anchor?.now(),
                samples: 0,
                rate: header.rate,
            },
        };
        let now = anchor.now();
        anchor.samples += u64::from(header.samples);
        self.anchor = Some(anchor);
        Some(now)
    }

    fn forget(&mut self, bytes: usize) -> BytesMut {
        self.marks.advance(bytes);
        self.buffer.split_to(bytes)
    }
}

enum Look {
    Frame(Header),
    Wait,
    Junk,
}

impl Anchor {
    fn now(&self) -> Times {
        let samples = i64::try_from(self.samples).unwrap_or(i64::MAX);
        let ticks = rescale(samples, self.rate, TS_TIMESCALE);
        let Times { dts, pts } = self.times;
        Times {
            dts: dts.saturating_add(ticks),
            pts: pts.saturating_add(ticks),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::aac::{AudioConfig, parse_adts};

    fn adts(rate_index: u8, data: &[u8]) -> Vec<u8> {
        let config =
            AudioConfig::parse(&(2 << 11 | u16::from(rate_index) << 7 | 2 << 3).to_be_bytes());
        [&config.unwrap().adts_header(data.len()).unwrap()[..], data].concat()
    }

    fn times(dts: i64) -> Times {
        Times { dts, pts: dts }
    }

    fn split(packets: &[(Option<i64>, &[u8])]) -> (Vec<(i64, Vec<u8>)>, usize) {
        let mut splitter = Splitter::new(parse_adts);
        let mut units = Vec::new();
        for (dts, bytes) in packets {
            splitter.mark(dts.map(times), false);
            splitter.push(bytes, |unit| {
                units.push((unit.times.dts, unit.data.to_vec()))
            });
        }
        splitter.finish(|unit| units.push((unit.times.dts, unit.data.to_vec())));
        let junk = splitter.take_junk();
        (units, junk)
    }

    #[test]
    fn frames_are_cut_and_counted_without_rounding_twice() {
        // 44.1 kHz: a frame lasts 2089.795... ticks.
        let bytes = adts(4, &[1; 20]).repeat(1_000);

        let (units, _) = split(&[(Some(500), &bytes)]);

        assert_eq!(units[1].0, 500 + 2_090);
        assert_eq!(units[2].0, 500 + 4_180);
        assert_eq!(units[999].0, 500 + 999 * 1_024 * 90_000 / 44_100);
    }

    #[test]
    fn a_frame_spread_over_packets_takes_the_time_of_the_first() {
        let frames: Vec<_> = (0..4).map(|n| adts(3, &[n; 30])).collect();
        let bytes = frames.concat();
        // The third frame begins in the first packet and ends in the second.
        let (first, second) = bytes.split_at(90);

        let (units, junk) = split(&[(Some(0), first), (Some(9_000), second)]);

        let starts: Vec<_> = units.iter().map(|(dts, _)| *dts).collect();
        assert_eq!(starts, [0, 1_920, 3_840, 9_000]);
        assert!(
            units
                .iter()
                .zip(0..)
                .all(|((_, data), n)| data[..] == [n; 30])
        );
        assert_eq!(junk, 0);
    }

    #[test]
    fn after_junk_a_header_counts_only_before_another_one() {
        let whole = adts(3, &[7; 30]);
        // Looks like a header, but nothing stands where its frame ends.
        let bytes = [&whole[..7], &[9; 5], &whole, &whole].concat();

        let (units, junk) = split(&[(Some(0), &bytes)]);

        assert_eq!(units.len(), 2);
        assert_eq!(junk, 12);
    }

    #[test]
    fn frames_before_the_first_time_are_left_out() {
        let whole = adts(3, &[7; 30]);

        let (units, _) = split(&[(None, &whole), (Some(5), &whole)]);

        assert_eq!(units.len(), 1);
        assert_eq!(units[0].0, 5);
    }

    #[test]
    fn a_new_rate_counts_from_where_the_old_one_ended() {
        let bytes = [
            adts(3, &[1; 9]),
            adts(3, &[2; 9]),
            adts(4, &[3; 9]),
            adts(4, &[4; 9]),
        ]
        .concat();

        let (units, _) = split(&[(Some(0), &bytes)]);

        let starts: Vec<_> = units.iter().map(|(dts, _)| *dts).collect();
        assert_eq!(starts, [0, 1_920, 3_840, 5_930]);
    }
}
