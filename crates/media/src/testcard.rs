//! The built-in test card: colour bars, a running clock, a beep each second, and the wall clock as data.
//!
//! Pictures and sound come from a clip of 8 seconds (`assets/make-testcard.sh`, `assets/make-waves.sh`) that loops
//! without a seam. With each picture, or with each frame of sound where there is no picture, goes a [`Clock`]: the wall
//! clock at the moment it was handed over, so that whoever receives it can say how long it was under way. Not a timer:
//! the caller waits until a frame is due ([`crate::Pacer`]) and says what time it is. Called by `publish NAME test` and
//! by tests. Invariant: the first frame is decoded at zero, frames come in the order of their times, and no track ever
//! has a gap.

use bytes::Bytes;
use levada_wire::{Description, Frame, MediaTime, Track, TrackId, TrackKind, WallTime};

use crate::ticks::TS_TIMESCALE;
use crate::ts::{Demuxer, Event};

/// The codec word of the data track.
pub const CLOCK_CODEC: &str = "levada-clock";
/// Pictures per second.
pub const PICTURES_PER_SECOND: u32 = 30;

/// What the clip lasts, in all its tracks: 8 s.
const CLIP_TICKS: i64 = 720_000;

static CLIP: &[u8] = include_bytes!("../assets/testcard.ts");
static WAVES: &[u8] = include_bytes!("../assets/waves.ts");

/// What the data track carries, one with each picture: 12 bytes, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// When the picture, or the frame of sound, was handed over.
    pub wall: WallTime,
    /// Its count from the start, wrapping.
    pub picture: u32,
}

impl Clock {
    /// Writes it as a frame's data.
    #[must_use]
    pub fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.wall.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.picture.to_be_bytes());
        bytes
    }

    /// Reads it; `None` if `data` is not 12 bytes.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        let (wall, rest) = data.split_first_chunk()?;
        let picture = u32::from_be_bytes(rest.try_into().ok()?);
        Some(Self {
            wall: WallTime(u64::from_be_bytes(*wall)),
            picture,
        })
    }
}

/// The test card, an endless source of frames.
///
/// ```
/// use levada_media::TestCard;
/// use levada_wire::WallTime;
///
/// let mut card = TestCard::new();
/// assert_eq!(card.description().tracks.len(), 3);
/// assert_eq!(card.next_due().ticks, 0);
/// let picture = card.next_frame(WallTime(1_700_000_000_000_000));
/// assert!(picture.sync);
/// ```
#[derive(Clone, Debug)]
pub struct TestCard {
    description: Description,
    /// The clip's tracks, the leading one first.
    reels: Vec<Reel>,
    /// The clock that goes with the picture that just left.
    clock: Option<Frame>,
    pictures: u32,
}

/// One track of the clip, played again and again.
#[derive(Clone, Debug)]
struct Reel {
    frames: Vec<Frame>,
    next: usize,
    /// Added to the times of this round.
    offset: i64,
}

impl TestCard {
    /// The test card from its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::of(CLIP, |_| true)
    }

    /// Another picture, without sound: waves of water.
    #[must_use]
    pub fn waves() -> Self {
        Self::of(WAVES, |_| true)
    }

    /// The test card's sound without its picture.
    #[must_use]
    pub fn sound() -> Self {
        Self::of(CLIP, |track| track.kind == TrackKind::Audio)
    }

    /// The tracks of a clip that are wanted, from their beginning.
    fn of(clip: &[u8], is_wanted: fn(&Track) -> bool) -> Self {
        let (mut description, mut clip) = read_clip(clip);
        description.tracks.retain(is_wanted);
        clip.retain(|frame| {
            let mut tracks = description.tracks.iter();
            tracks.any(|track| track.id == frame.track)
        });
        let zero = clip.iter().map(|frame| frame.dts).min().unwrap_or(0);
        for frame in &mut clip {
            frame.dts -= zero;
            frame.pts -= zero;
        }
        let reel = |track: &Track| Reel {
            frames: clip
                .iter()
                .filter(|frame| frame.track == track.id)
                .cloned()
                .collect(),
            next: 0,
            offset: 0,
        };
        let reels = description.tracks.iter().map(reel).collect();
        let last = description
            .tracks
            .iter()
            .map(|track| track.id.0)
            .max()
            .unwrap_or(0);
        description.tracks.push(Track {
            id: TrackId(last + 1),
            kind: TrackKind::Data,
            codec: CLOCK_CODEC.into(),
            timescale: TS_TIMESCALE,
            config: Vec::new(),
            language: None,
        });
        Self {
            description,
            reels,
            clock: None,
            pictures: 0,
        }
    }

    /// Its tracks: H.264, AAC, and the clock.
    #[must_use]
    pub const fn description(&self) -> &Description {
        &self.description
    }

    /// When the next frame is to be decoded, from the start: when to call [`Self::next_frame`].
    #[must_use]
    pub fn next_due(&self) -> MediaTime {
        let of_clip = || self.earliest().1;
        let ticks = self.clock.as_ref().map_or_else(of_clip, |clock| clock.dts);
        MediaTime {
            ticks,
            timescale: TS_TIMESCALE,
        }
    }

    /// The next frame, handed over at `wall`.
    pub fn next_frame(&mut self, wall: WallTime) -> Frame {
        if let Some(clock) = self.clock.take() {
            return clock;
        }
        let (reel, _) = self.earliest();
        let frame = self.reels[reel].take();
        if reel == 0 {
            self.clock = Some(self.clock_with(&frame, wall));
            self.pictures = self.pictures.wrapping_add(1);
        }
        frame
    }

    /// The reel whose next frame is due first, and when; the leading one of two.
    fn earliest(&self) -> (usize, i64) {
        let due = self.reels.iter().map(Reel::next_dts).enumerate();
        due.min_by_key(|(_, dts)| *dts)
            .expect("the clip has tracks")
    }

    fn clock_with(&self, picture: &Frame, wall: WallTime) -> Frame {
        let data = Clock {
            wall,
            picture: self.pictures,
        }
        .encode();
        let track = self
            .description
            .tracks
            .last()
            .map_or(TrackId::CONTROL, |track| track.id);
        let data = Bytes::copy_from_slice(&data);
        Frame {
            track,
            sync: true,
            discardable: false,
            data,
            ..*picture
        }
    }
}

impl Reel {
    fn next_dts(&self) -> i64 {
        self.frames[self.next].dts + self.offset
    }

    fn take(&mut self) -> Frame {
        let frame = self.frames[self.next].clone();
        let (dts, pts) = (frame.dts + self.offset, frame.pts + self.offset);
        self.next += 1;
        if self.next == self.frames.len() {
            self.next = 0;
            self.offset += CLIP_TICKS;
        }
        Frame { dts, pts, ..frame }
    }
}

impl Default for TestCard {
    fn default() -> Self {
        Self::new()
    }
}

/// A clip's tracks and frames.
fn read_clip(clip: &[u8]) -> (Description, Vec<Frame>) {
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demuxer.push(clip, &mut events);
    demuxer.finish(&mut events);
    let (mut description, mut frames) = (Description::default(), Vec::new());
    for event in events {
        match event {
            Event::Description(tracks) => description = tracks,
            Event::Frame(frame) => frames.push(frame),
            Event::Discontinuity(track) => unreachable!("the clip is whole, track {track:?} too"),
        }
    }
    (description, frames)
}
