//! A folder as a source: one stream for each file in it.
//!
//! Files are read once, at the start; not their contents (`file.rs`), and not folders within. Called by `source.rs`.
//! Invariant: one file that cannot be published does not keep the others from it.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use levada_wire::StreamName;

use super::{Error, Feed, Kind, Options, file};

/// What files of transport streams are called.
const EXTENSIONS: [&str; 4] = ["ts", "mts", "m2ts", "mpegts"];
/// The most files of a folder that are published.
const FILES_MAX: usize = 256;

/// Opens each file of a folder as `NAME/FILE` without its extension.
pub(super) async fn open(
    path: &Path,
    name: &StreamName,
    options: Options,
) -> Result<Vec<(StreamName, Feed)>, Error> {
    let files = list(path).await;
    let mut files = files.map_err(Error::unreadable(format!("the folder {}", path.display())))?;
    if files.is_empty() {
        return Err(Error::NoFiles {
            path: path.to_owned(),
            extensions: EXTENSIONS
                .map(|extension| format!(".{extension}"))
                .join(", "),
        });
    }
    if files.len() > FILES_MAX {
        tracing::warn!(
            files = files.len(),
            "publishes the first {FILES_MAX} files of the folder only"
        );
        files.truncate(FILES_MAX);
    }
    let (mut feeds, mut refused): (Vec<(StreamName, Feed)>, Vec<String>) = <_>::default();
    for file in files {
        match open_one(&file, name, options).await {
            Ok((name, _)) if feeds.iter().any(|(taken, _)| *taken == name) => {
                refused.push(format!(
                    "{}: another file is `{name}` already; rename one",
                    file.display()
                ));
            }
            Ok(feed) => feeds.push(feed),
            Err(reason) => refused.push(reason),
        }
    }
    if feeds.is_empty() {
        return Err(Error::NoFileFits {
            path: path.to_owned(),
            reasons: refused.join("; "),
        });
    }
    for reason in refused {
        tracing::warn!("left out: {reason}");
    }
    Ok(feeds)
}

async fn list(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut entries = tokio::fs::read_dir(path).await?;
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_media = extension.is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(extension))
        });
        if is_media && entry.metadata().await?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

async fn open_one(
    path: &Path,
    prefix: &StreamName,
    options: Options,
) -> Result<(StreamName, Feed), String> {
    let name = stream_name(path, prefix)?;
    match file::Feed::open(path, options).await {
        Ok(feed) => Ok((name, Feed(Kind::File(Box::new(feed))))),
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    static CLIP: &[u8] = include_bytes!("../../assets/testcard.ts");

    fn prefix() -> StreamName {
        "tv".parse().unwrap()
    }

    #[tokio::test]
    async fn each_file_is_a_stream_and_what_is_no_media_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b é.ts", "a.TS", "a.m2ts"] {
            std::fs::write(folder.path().join(name), CLIP).unwrap();
        }
        std::fs::write(folder.path().join("c.ts"), "no media").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no media").unwrap();

        let feeds = open(folder.path(), &prefix(), Options::default())
            .await
            .unwrap();

        let names: Vec<_> = feeds.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tv/a", "tv/b--"]);
    }

    #[tokio::test]
    async fn a_folder_without_media_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();

        let error = open(folder.path(), &prefix(), Options::default()).await;

        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(&folder.path().display().to_string()),
            "{error}"
        );
        assert!(error.contains(".m2ts"), "{error}");
    }
}
