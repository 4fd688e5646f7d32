//! A folder as a catalogue: one stream for each file in it, and for each that comes.
//!
//! ```text
//! look ─▶ new file ── the same at the next look ──▶ Added
//!      ─▶ file gone, or other than it was ────────▶ Removed, and as new if it is there
//! ```
//!
//! A file that is still being copied changes from look to look, so a new one waits for the next. Not the contents
//! (`file.rs`), and not folders within. Called by `source.rs`. Invariant: one file that cannot be published does not
//! keep the others from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use levada_wire::StreamName;

use super::{Error, Options, Request, Source, file};

/// What media files are called: of the formats that are read here, and of those that ffmpeg is asked for.
const EXTENSIONS: [&str; 23] = [
    "ts", "mts", "m2ts", "m2t", "mpegts", "mp4", "m4v", "m4a", "mov", "mjpeg", "mjpg", "mkv",
    "webm", "flv", "avi", "mpg", "mpeg", "wmv", "ogg", "mp3", "aac", "flac", "wav",
];
/// The most files of a folder that are published.
const FILES_MAX: usize = 256;
/// How often the folder is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A folder that is being watched.
#[derive(Debug)]
pub struct Catalogue {
    path: PathBuf,
    prefix: StreamName,
    options: Options,
    files: BTreeMap<PathBuf, Known>,
    changes: VecDeque<Change>,
    /// The log knows that the folder cannot be read, or has too many files.
    is_said: bool,
}

/// What became of a file.
#[derive(Debug)]
pub enum Change {
    /// It is a stream now.
    Added(StreamName, Box<dyn Source>),
    /// It is none any more.
    Removed(StreamName),
}

/// What a file looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    bytes: u64,
    changed: Option<SystemTime>,
}

#[derive(Debug)]
struct Known {
    look: Look,
    /// The stream that it is; none if it is not settled, or cannot be one.
    name: Option<StreamName>,
    /// It was opened as it is, or refused.
    is_settled: bool,
}

impl Catalogue {
    /// Looks for the first time and opens each file as `NAME/FILE` without its extension.
    pub(super) async fn open(request: Request) -> Result<Self, Error> {
        let path = PathBuf::from(&request.text);
        let looks = list(&path).await;
        let looks = looks.map_err(Error::unreadable(format!("the folder {}", path.display())))?;
        if looks.is_empty() {
            return Err(Error::NoFiles {
                path,
                extensions: EXTENSIONS
                    .map(|extension| format!(".{extension}"))
                    .join(", "),
            });
        }
        let mut catalogue = Self {
            path,
            prefix: request.name,
            options: request.options,
            files: BTreeMap::new(),
            changes: VecDeque::new(),
            is_said: false,
        };
        let mut refused = Vec::new();
        for (file, look) in looks.into_iter().take(FILES_MAX) {
            refused.extend(catalogue.settle(file, look).await.err());
        }
        if catalogue.changes.is_empty() {
            return Err(Error::NoFileFits {
                path: catalogue.path,
                reasons: refused.join("; "),
            });
        }
        for reason in refused {
            tracing::warn!("left out: {reason}");
        }
        Ok(catalogue)
    }

    /// The streams that are there already; none once [`Self::next`] has given a change.
    pub fn take_first(&mut self) -> Vec<(StreamName, Box<dyn Source>)> {
        let added = std::mem::take(&mut self.changes).into_iter();
        let added = added.filter_map(|change| match change {
            Change::Added(name, source) => Some((name, source)),
            Change::Removed(_) => None,
        });
        added.collect()
    }

    /// Waits for what changes next. May be dropped before it is ready.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return change;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let looks = match list(&self.path).await {
            Ok(looks) => looks,
            Err(error) => {
                return self.say(format_args!("cannot look into the folder: {error}"));
            }
        };
        if looks.len() > FILES_MAX {
            self.say(format_args!(
                "more than {FILES_MAX} files: the others are left out"
            ));
        } else {
            self.is_said = false;
        }
        let gone: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|file| !looks.contains_key(*file))
            .cloned()
            .collect();
        for file in gone {
            self.forget(&file);
        }
        for (file, look) in looks {
            match self.files.get(&file) {
                Some(known) if known.look == look && known.is_settled => {}
                Some(known) if known.look == look => {
                    if let Err(reason) = self.settle(file, look).await {
                        tracing::warn!("left out: {reason}");
                    }
                }
                None if self.files.len() >= FILES_MAX => {}
                _ => {
                    self.forget(&file);
                    let (name, is_settled) = (None, false);
                    self.files.insert(
                        file,
                        Known {
                            look,
                            name,
                            is_settled,
                        },
                    );
                }
            }
        }
    }

    fn say(&mut self, what: fmt::Arguments<'_>) {
        if !std::mem::replace(&mut self.is_said, true) {
            tracing::warn!("{}: {what}", self.path.display());
        }
    }

    fn forget(&mut self, file: &Path) {
        let known = self.files.remove(file);
        let name = known.and_then(|known| known.name);
        self.changes.extend(name.map(Change::Removed));
    }

    /// Opens a file; says why not if it cannot be.
    async fn settle(&mut self, file: PathBuf, look: Look) -> Result<(), String> {
        let names: BTreeSet<_> = self
            .files
            .values()
            .filter_map(|known| known.name.clone())
            .collect();
        let opened = open_one(&file, &self.prefix, self.options, &names).await;
        let name = opened.as_ref().ok().map(|(name, _)| name.clone());
        let is_settled = true;
        self.files.insert(
            file,
            Known {
                look,
                name,
                is_settled,
            },
        );
        let (name, source) = opened?;
        self.changes.push_back(Change::Added(name, source));
        Ok(())
    }
}

async fn list(path: &Path) -> std::io::Result<BTreeMap<PathBuf, Look>> {
    let mut files = BTreeMap::new();
    let mut entries = tokio::fs::read_dir(path).await?;
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_media = extension.is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(extension))
        });
        // One that went away meanwhile is not there.
        let Ok(metadata) = tokio::fs::metadata(&path).await else {
            continue;
        };
        if is_media && metadata.is_file() {
            let look = Look {
                bytes: metadata.len(),
                changed: metadata.modified().ok(),
            };
            files.insert(path, look);
        }
    }
    Ok(files)
}

async fn open_one(
    path: &Path,
    prefix: &StreamName,
    options: Options,
    taken: &BTreeSet<StreamName>,
) -> Result<(StreamName, Box<dyn Source>), String> {
    let name = stream_name(path, prefix)?;
    if taken.contains(&name) {
        return Err(format!(
            "{}: another file is `{name}` already; rename one",
            path.display()
        ));
    }
    match file::open(path, options).await {
        Ok(source) => Ok((name, source)),
        Err(error) => Err(match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }),
    }
}

/// `NAME/FILE`, where what a stream's name may not have becomes `-`.
fn stream_name(path: &Path, prefix: &StreamName) -> Result<StreamName, String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let stem: String = stem
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let name = format!("{prefix}/{stem}");
    name.parse()
        .map_err(|error| format!("{} does not make a stream's name: {error}", path.display()))
}

#[cfg(test)]
mod tests;
