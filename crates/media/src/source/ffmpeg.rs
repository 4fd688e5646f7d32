//! What ffmpeg can read and we cannot: it repacks that into MPEG-TS, with `-c copy`, and we read its output.
//!
//! Not the transport stream (`demux.rs`). Called by `clip.rs` for files, which can be played again, and by `source.rs`
//! for URLs, which are live. Invariant: an ffmpeg that was started is ended with its source, and what it says of its
//! input never shows the credentials of a URL.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use levada_wire::Description;
use tokio::sync::mpsc;

use super::clip::CHUNK_BYTES;
use super::pipe::{CHUNKS_MAX, Origin, Pipe};
use super::{Error, Opened, Request, without_credentials};

/// The program.
const PROGRAM: &str = "ffmpeg";
/// Lines of what it says that are kept for an error.
const LINES_MAX: usize = 4;
/// Of such a line.
const LINE_BYTES_MAX: u64 = 1_024;
/// The codec of a track that it wraps in something which only it understands.
const PRIVATE: &str = "ts-06";

/// Opens a URL.
pub(super) async fn open(request: &Request) -> Result<Opened, Error> {
    let mut running = Running::start(&request.text, Way::Live)?;
    let origin = Origin::Ffmpeg {
        shown: running.shown.clone(),
        end: running.end(),
    };
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    let read = move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match running.read(&mut chunk) {
                Ok(0) => return,
                Ok(bytes) => Ok(Bytes::copy_from_slice(&chunk[..bytes])),
                Err(error) => Err(error),
            };
            let is_end = read.is_err();
            if sender.blocking_send(read).is_err() || is_end {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name(PROGRAM.to_owned())
        .spawn(read)
        .map_err(Error::unreadable("ffmpeg's output in a thread of its own"))?;
    let pipe = Pipe::open(chunks, origin, request.options).await?;
    Ok(Opened::One(Box::new(pipe)))
}

/// Refuses what ffmpeg passed on in a form of its own.
pub(super) fn check(description: &Description, shown: &str) -> Result<(), Error> {
    let is_private = description
        .tracks
        .iter()
        .any(|track| track.codec == PRIVATE);
    if is_private {
        return Err(Error::NotCarried(shown.to_owned()));
    }
    Ok(())
}

/// What its input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A file, whatever its name looks like.
    File,
    /// A URL.
    Live,
}

/// An ffmpeg that runs.
#[derive(Debug)]
pub(super) struct Running {
    input: String,
    way: Way,
    /// The input, as it may be shown.
    shown: String,
    child: Arc<Mutex<Child>>,
    output: ChildStdout,
    said: Option<JoinHandle<Vec<String>>>,
}

/// Ends an ffmpeg when it is dropped, so that whoever waits for its output goes on.
#[derive(Debug)]
pub(super) struct End(Arc<Mutex<Child>>);

impl Running {
    /// Starts one.
    pub(super) fn start(input: &str, way: Way) -> Result<Self, Error> {
        let shown = without_credentials(input).into_owned();
        let input_url = match way {
            // Otherwise a name with a colon is taken for a protocol.
            Way::File => format!("file:{input}"),
            Way::Live => input.to_owned(),
        };
        let mut command = Command::new(PROGRAM);
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-i"]);
        command.arg(&input_url);
        // Pictures but for covers, and sound; tracks without times get some.
        command.args(["-map", "0:V?", "-map", "0:a?", "-c", "copy", "-f", "mpegts"]);
        command.args([
            "-muxdelay",
            "0",
            "-muxpreload",
            "0",
            "-flush_packets",
            "1",
            "pipe:1",
        ]);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoFfmpeg(shown.clone()),
            _ => Error::unreadable(format!("{shown} with ffmpeg"))(error),
        })?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let output = output.expect("its output is piped");
        let errors = errors.expect("its errors are piped");
        let hidden = (input.to_owned(), shown.clone());
        Ok(Self {
            input: input.to_owned(),
            way,
            shown,
            child: Arc::new(Mutex::new(child)),
            output,
            said: Some(std::thread::spawn(move || listen(errors, &hidden))),
        })
    }

    /// Reads what it writes; 0 when it has ended, an error if that was not in order.
    pub(super) fn read(&mut self, chunk: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.output.read(chunk) {
                Ok(0) => break,
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::unreadable("what ffmpeg writes")(error)),
            }
        }
        // It has closed its errors too once these are all read, and is about to end.
        let said = self.said.take().and_then(|said| said.join().ok());
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.wait();
        match status.map_err(Error::unreadable("how ffmpeg ended"))? {
            status if status.success() => Ok(0),
            status => Err(Error::Ffmpeg {
                what: self.shown.clone(),
                said: match said.unwrap_or_default() {
                    lines if lines.is_empty() => status.to_string(),
                    lines => lines.join("; "),
                },
            }),
        }
    }

    /// Starts it anew.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        *self = Self::start(&self.input, self.way)?;
        Ok(())
    }

    /// The input, as it may be shown.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// What ends it from elsewhere.
    fn end(&self) -> End {
        End(Arc::clone(&self.child))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&self.child);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        kill(&self.0);
    }
}

fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // One that has ended cannot be killed, and that is as well.
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads what ffmpeg says to its end, and keeps the last of it.
fn listen(errors: ChildStderr, (input, shown): &(String, String)) -> Vec<String> {
    let (mut errors, mut kept) = (BufReader::new(errors), VecDeque::new());
    loop {
        let mut line = Vec::new();
        let read = (&mut errors)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !read.is_ok_and(|bytes| bytes > 0) {
            return kept.into();
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim().replace(input.as_str(), shown);
        if kept.len() == LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
