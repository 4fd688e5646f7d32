//! From PES payloads of one PID to units: access units and audio frames with their times.
//!
//! Not the tables and not the description: this knows one elementary stream only. Called by the demuxer.
//! Invariant: a unit comes out whole or not at all.

use bytes::{Bytes, BytesMut};
use levada_wire::frame::FRAME_BYTES_MAX;

use super::codec::Framing;
use super::pes::Header;
use crate::marks::Times;
use crate::nal::{self, Picture};
use crate::{aac, ac3, audio, mpeg_audio, opus, ticks};

/// The longest step between two access units that is believed when times are missing: ten seconds.
const STEP_TICKS_MAX: i64 = 900_000;

/// A frame but for its track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) data: Bytes,
    /// `None`: the stream has not said any time yet.
    pub(super) times: Option<Times>,
    pub(super) picture: Picture,
    /// What its own header says it is.
    pub(super) seen: Option<Seen>,
}

/// What the header of an audio frame says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) codec: &'static str,
    pub(super) config: Option<[u8; 2]>,
}

/// What went wrong inside an elementary stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A unit was above [`FRAME_BYTES_MAX`].
    TooLarge,
    /// This many bytes were in no unit.
    Junk(usize),
}

#[derive(Debug)]
pub(super) struct Elementary {
    body: Body,
    /// The packet in hand holds whole access units, its end included.
    whole: bool,
    /// The sender's mark that packets are aligned has proved wrong.
    distrusted: bool,
    steps: Steps,
}

#[derive(Debug)]
enum Body {
    Nal(nal::splitter::Splitter),
    Audio(audio::Splitter),
    Whole(Collector, Framing),
}

impl Elementary {
    pub(super) fn new(framing: Framing) -> Self {
        let body = match framing {
            Framing::Nal(codec) => Body::Nal(nal::splitter::Splitter::new(codec)),
            Framing::Adts => Body::Audio(audio::Splitter::new(aac::parse_adts)),
            Framing::MpegAudio => Body::Audio(audio::Splitter::new(mpeg_audio::parse)),
            Framing::Ac3 => Body::Audio(audio::Splitter::new(ac3::parse)),
            framing => Body::Whole(Collector::default(), framing),
        };
        Self {
            body,
            whole: false,
            distrusted: false,
            steps: Steps::default(),
        }
    }

    /// A PES packet begins.
    pub(super) fn start(
        &mut self,
        header: Header,
        times: Option<Times>,
        on_unit: impl FnMut(Unit),
    ) {
        // Whoever packs whole access units gives each packet a time.
        self.distrusted |= header.aligned && times.is_none();
        self.whole = header.aligned && header.bounded && !self.distrusted;
        match &mut self.body {
            Body::Nal(splitter) => {
                if let Some(times) = times {
                    splitter.mark(times);
                }
            }
            Body::Audio(splitter) => splitter.mark(times, header.aligned),
            Body::Whole(collector, framing) => {
                let goes_on = collector.full && !header.begins();
                if !goes_on {
                    collector.end(*framing, on_unit);
                    collector.start(times);
                }
                collector.full = header.full;
            }
        }
    }

    pub(super) fn data(
        &mut self,
        bytes: &[u8],
        mut on_unit: impl FnMut(Unit),
    ) -> Result<(), Trouble> {
        match &mut self.body {
            Body::Nal(splitter) => splitter
                .push(bytes, |unit| on_unit(self.steps.time(unit)))
                .map_err(|nal::splitter::TooLarge| Trouble::TooLarge),
            Body::Audio(splitter) => {
                splitter.push(bytes, |unit| on_unit(unit.into()));
                trouble(splitter.take_junk())
            }
            Body::Whole(collector, _) => collector.data(bytes),
        }
    }

    /// The PES packet has ended.
    pub(super) fn end(&mut self, mut on_unit: impl FnMut(Unit)) {
        match &mut self.body {
            Body::Nal(splitter) if self.whole => {
                splitter.flush(|unit| on_unit(self.steps.time(unit)));
            }
            Body::Nal(_) | Body::Audio(_) => {}
            // The next packet says whether the unit goes on.
            Body::Whole(collector, _) if collector.full => {}
            Body::Whole(collector, framing) => collector.end(*framing, on_unit),
        }
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self, mut on_unit: impl FnMut(Unit)) -> Result<(), Trouble> {
        match &mut self.body {
            Body::Nal(splitter) => splitter.flush(|unit| on_unit(self.steps.time(unit))),
            Body::Audio(splitter) => {
                splitter.finish(|unit| on_unit(unit.into()));
                return trouble(splitter.take_junk());
            }
            Body::Whole(collector, framing) => collector.end(*framing, on_unit),
        }
        Ok(())
    }

    /// Bytes were lost.
    pub(super) fn lose(&mut self) {
        match &mut self.body {
            Body::Nal(splitter) => splitter.lose(),
            Body::Audio(splitter) => {
                splitter.lose();
                // What a loss cuts off is reported as the loss, not as junk too.
                splitter.take_junk();
            }
            Body::Whole(collector, _) => collector.lose(),
        }
    }
}

const fn trouble(junk: usize) -> Result<(), Trouble> {
    if junk > 0 {
        Err(Trouble::Junk(junk))
    } else {
        Ok(())
    }
}

impl From<audio::Unit> for Unit {
    fn from(unit: audio::Unit) -> Self {
        let seen = Seen {
            codec: unit.header.codec,
            config: unit.header.config,
        };
        Self {
            data: unit.data,
            times: Some(unit.times),
            picture: SOUND,
            seen: Some(seen),
        }
    }
}

/// Every frame that is not a picture can be decoded by itself.
const SOUND: Picture = Picture {
    sync: true,
    discardable: false,
};

/// Gives times to access units that have none because they share a PES packet.
#[derive(Debug, Default)]
struct Steps {
    newest: Option<Times>,
    /// Access units since then.
    untimed: i64,
    /// Ticks from one access unit to the next.
    step: i64,
}

impl Steps {
    fn time(&mut self, unit: nal::splitter::Unit) -> Unit {
        let times = match (unit.times, self.newest) {
            (Some(times), newest) => {
                let span = newest.map_or(0, |newest| times.dts.saturating_sub(newest.dts));
                if (1..=STEP_TICKS_MAX).contains(&span) {
                    self.step = span / (self.untimed + 1);
                }
                self.untimed = 0;
                self.newest = Some(times);
                Some(times)
            }
            (None, Some(newest)) => {
                self.untimed += 1;
                let ahead = self.untimed.saturating_mul(self.step.max(1));
                let later = |ticks: i64| ticks.saturating_add(ahead);
                Some(Times {
                    dts: later(newest.dts),
                    pts: later(newest.pts),
                })
            }
            (None, None) => None,
        };
        Unit {
            data: unit.data,
            times,
            picture: unit.picture,
            seen: None,
        }
    }
}

/// Gathers the payload of one PES packet, and of those it goes on in.
#[derive(Debug, Default)]
struct Collector {
    buffer: BytesMut,
    times: Option<Times>,
    open: bool,
    /// The newest packet was full.
    full: bool,
}

impl Collector {
    fn start(&mut self, times: Option<Times>) {
        self.buffer.clear();
        self.times = times;
        self.open = true;
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        if !self.open {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > FRAME_BYTES_MAX {
            self.lose();
            return Err(Trouble::TooLarge);
        }
        Ok(())
    }

    fn end(&mut self, framing: Framing, mut on_unit: impl FnMut(Unit)) {
        let data = self.buffer.split().freeze();
        self.full = false;
        if !std::mem::take(&mut self.open) {
            return;
        }
        match framing {
            Framing::Opus => opus_units(data, self.times, &mut on_unit),
            Framing::Mpeg2Video => {
                let picture = inspect_mpeg2(&data);
                on_unit(Unit {
                    data,
                    times: self.times,
                    picture,
                    seen: None,
                });
            }
            _ => on_unit(Unit {
                data,
                times: self.times,
                picture: SOUND,
                seen: None,
            }),
        }
    }

    fn lose(&mut self) {
        self.buffer.clear();
        self.open = false;
        self.full = false;
    }
}

/// Takes the Opus packets of a PES packet apart; each begins where the one before ends.
fn opus_units(mut data: Bytes, times: Option<Times>, on_unit: &mut impl FnMut(Unit)) {
    let mut samples = 0;
    while let Some(packet) = opus::next_packet(&mut data) {
        // 48 kHz to 90 kHz.
        let ahead = samples * i64::from(ticks::TS_TIMESCALE.get()) / i64::from(opus::RATE);
        let later = |ticks: i64| ticks.saturating_add(ahead);
        let times = times.map(|times| Times {
            dts: later(times.dts),
            pts: later(times.pts),
        });
        samples += opus::packet_samples(&packet).map_or(0, i64::from);
        on_unit(Unit {
            data: packet,
            times,
            picture: SOUND,
            seen: None,
        });
    }
}

/// MPEG-2 video: decoding starts at a sequence header; B pictures are not referred to (ISO 13818-2 6.2.2, 6.2.3).
fn inspect_mpeg2(access_unit: &[u8]) -> Picture {
    let mut sync = false;
    let (mut pictures, mut discardable) = (0, true);
    for unit in nal::units(access_unit) {
        match unit {
            [0xB3, ..] => sync = true,
            [0x00, _, coding, ..] => {
                pictures += 1;
                discardable &= coding >> 3 & 7 == 3;
            }
            _ => {}
        }
    }
    Picture {
        sync,
        discardable: pictures > 0 && discardable && !sync,
    }
}

#[cfg(test)]
mod tests;
