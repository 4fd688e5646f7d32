//! Recordings: what a file holds, part by part.
//!
//! | kind | how it is known | times |
//! |---|---|---|
//! | MPEG-TS | sync bytes | its own |
//! | MP4, MOV | the type of its first box | its own |
//! | motion JPEG | an image, five digits of length before one, or a multipart boundary | even steps |
//! | what ffmpeg turns into MPEG-TS | anything else | its own |
//!
//! Reading blocks: it is done on a thread that may wait (`file.rs`). Not the order of frames, and not when they are
//! due. Called by `file.rs`. Invariant: of a recording at most what its reader holds is in memory.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};

use crate::ticks::TS_TIMESCALE;
use crate::{mjpeg, mp4, ts};

use super::demux::{Part, Reader};
use super::{Error, Options, ffmpeg};

/// What is read at once.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// Frames of an MP4 file that are read at once.
const FRAMES_AT_ONCE: usize = 32;
/// Pictures in a second of motion JPEG, if nobody says.
const RATE_DEFAULT: NonZeroU32 = NonZeroU32::new(25).expect("not zero");

/// A recording that is open.
pub(super) trait Clip: Debug + Send {
    /// Reads on and appends what that gives, which may be nothing yet; false at the end.
    fn read(&mut self, parts: &mut Vec<Part>) -> Result<bool, Error>;
    /// Goes back to the beginning.
    fn rewind(&mut self) -> Result<(), Error>;
}

/// What a file is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A recording.
    Clip(Box<dyn Clip>),
    /// The text of an SDP, which describes RTP that comes from elsewhere.
    Session(Vec<u8>),
}

/// Opens a file by what its first bytes are.
pub(super) fn open(path: &Path, options: Options) -> Result<Kind, Error> {
    let shown = path.display().to_string();
    let mut file = File::open(path).map_err(Error::unreadable(shown.clone()))?;
    let mut beginning = Vec::new();
    let mut limited = (&mut file).take(CHUNK_BYTES as u64);
    let read = limited.read_to_end(&mut beginning);
    read.map_err(Error::unreadable(shown.clone()))?;
    file.seek(SeekFrom::Start(0))
        .map_err(Error::unreadable(shown.clone()))?;
    let clip: Box<dyn Clip> = match &beginning[..] {
        [] => return Err(Error::Empty(path.to_owned())),
        text if text.starts_with(b"v=0") => return Ok(Kind::Session(beginning)),
        bytes if ts::looks_like(bytes) => {
            Box::new(Packets::new(Input::File(file, shown), options.program))
        }
        bytes if is_mp4(bytes) => Box::new(Samples::open(file, path)?),
        bytes if is_motion_jpeg(bytes) => Box::new(Images::new(file, path, options.rate)),
        _ => {
            let running = ffmpeg::Running::start(&shown, ffmpeg::Way::File)?;
            Box::new(Packets::new(Input::Ffmpeg(running), options.program))
        }
    };
    Ok(Kind::Clip(clip))
}

/// Whether the first box is one that such files begin with.
fn is_mp4(bytes: &[u8]) -> bool {
    const FIRST: [&[u8; 4]; 8] = [
        b"ftyp", b"moov", b"styp", b"mdat", b"free", b"skip", b"wide", b"pnot",
    ];
    let kind = bytes.get(4..8);
    kind.is_some_and(|kind| FIRST.iter().any(|first| *first == kind))
}

fn is_motion_jpeg(bytes: &[u8]) -> bool {
    const IMAGE: &[u8] = &[0xFF, 0xD8, 0xFF];
    let is_sized = bytes
        .get(..5)
        .is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
        && bytes[5..].starts_with(IMAGE);
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(mjpeg::HEADER_BYTES_MAX)]);
    let is_parted =
        header.trim_start().starts_with("--") && header.to_ascii_lowercase().contains("image/jpeg");
    bytes.starts_with(IMAGE) || is_sized || is_parted
}

/// A transport stream.
#[derive(Debug)]
struct Packets {
    input: Input,
    chunk: Vec<u8>,
    reader: Reader,
}

/// Where a transport stream comes from.
#[derive(Debug)]
enum Input {
    /// A file, and what it is called.
    File(File, String),
    Ffmpeg(ffmpeg::Running),
}

impl Packets {
    fn new(input: Input, program: Option<NonZeroU16>) -> Self {
        Self {
            input,
            chunk: vec![0; CHUNK_BYTES],
            reader: Reader::new(program),
        }
    }
}

impl Clip for Packets {
    fn read(&mut self, parts: &mut Vec<Part>) -> Result<bool, Error> {
        let bytes = match &mut self.input {
            Input::File(file, path) => read_on(file, &mut self.chunk, path)?,
            Input::Ffmpeg(running) => running.read(&mut self.chunk)?,
        };
        let take = |part| parts.push(part);
        match bytes {
            0 => self.reader.finish(take),
            bytes => self.reader.push(&self.chunk[..bytes], take),
        }
        self.reader.check()?;
        if let Input::Ffmpeg(running) = &self.input {
            for part in &*parts {
                if let Part::Description(description) = part {
                    ffmpeg::check(description, running.shown())?;
                }
            }
        }
        Ok(bytes > 0)
    }

    fn rewind(&mut self) -> Result<(), Error> {
        match &mut self.input {
            Input::File(file, path) => rewind(file, path)?,
            Input::Ffmpeg(running) => running.restart()?,
        }
        self.reader.restart();
        Ok(())
    }
}

/// The samples of an MP4 file.
#[derive(Debug)]
struct Samples {
    path: PathBuf,
    reader: mp4::Reader<File>,
    is_described: bool,
}

impl Samples {
    fn open(file: File, path: &Path) -> Result<Self, Error> {
        let reader = mp4::Reader::open(file).map_err(|source| Error::Mp4 {
            path: path.to_owned(),
            source,
        })?;
        for omission in reader.omitted() {
            tracing::warn!("{} is published without {omission}", path.display());
        }
        Ok(Self {
            path: path.to_owned(),
            reader,
            is_described: false,
        })
    }
}

impl Clip for Samples {
    fn read(&mut self, parts: &mut Vec<Part>) -> Result<bool, Error> {
        if !std::mem::replace(&mut self.is_described, true) {
            parts.push(Part::Description(self.reader.description().clone()));
        }
        for _ in 0..FRAMES_AT_ONCE {
            let frame = self.reader.next_frame();
            let shown = || format!("on in {}", self.path.display());
            match frame.map_err(|error| Error::unreadable(shown())(error))? {
                Some(frame) => parts.push(Part::Frame(frame)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn rewind(&mut self) -> Result<(), Error> {
        let left_out = self.reader.left_out();
        if left_out > 0 {
            tracing::debug!(left_out, "frames of {} are left out", self.path.display());
        }
        self.reader.rewind();
        Ok(())
    }
}

/// Images one after another.
#[derive(Debug)]
struct Images {
    file: File,
    path: String,
    chunk: Vec<u8>,
    step: i64,
    frames: mjpeg::Frames,
    is_described: bool,
}

impl Images {
    fn new(file: File, path: &Path, rate: Option<NonZeroU32>) -> Self {
        let rate = rate.unwrap_or(RATE_DEFAULT);
        let step = i64::from(TS_TIMESCALE.get() / rate);
        Self {
            file,
            path: path.display().to_string(),
            chunk: vec![0; CHUNK_BYTES],
            step,
            frames: mjpeg::Frames::new(step),
            is_described: false,
        }
    }
}

impl Clip for Images {
    fn read(&mut self, parts: &mut Vec<Part>) -> Result<bool, Error> {
        let bytes = read_on(&mut self.file, &mut self.chunk, &self.path)?;
        let mut frames = Vec::new();
        self.frames.push(&self.chunk[..bytes], &mut frames);
        // Without an image there is no stream.
        if !frames.is_empty() && !std::mem::replace(&mut self.is_described, true) {
            parts.push(Part::Description(mjpeg::Frames::description()));
        }
        parts.extend(frames.into_iter().map(Part::Frame));
        Ok(bytes > 0)
    }

    fn rewind(&mut self) -> Result<(), Error> {
        rewind(&mut self.file, &self.path)?;
        self.frames = mjpeg::Frames::new(self.step);
        Ok(())
    }
}

fn read_on(file: &mut File, chunk: &mut [u8], path: &str) -> Result<usize, Error> {
    loop {
        match file.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(Error::unreadable(format!("on in {path}"))),
        }
    }
}

fn rewind(file: &mut File, path: &str) -> Result<(), Error> {
    let start = file.seek(SeekFrom::Start(0));
    start.map_err(Error::unreadable(format!("{path} again from its start")))?;
    Ok(())
}
