//! A file that a played stream is written to.
//!
//! Not the form in which it is written (`writer.rs`). Called by `play` and gateways. Invariant: a file that exists is
//! emptied only when something is written, and one that was made for nothing is removed.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

/// A file and what must be known to leave no trace.
#[derive(Debug)]
pub struct OutFile {
    path: PathBuf,
    file: File,
    is_new: bool,
    has_begun: bool,
}

impl OutFile {
    /// Opens it, and makes it if it is not there. What it holds stays until the first write.
    ///
    /// # Errors
    ///
    /// When the system does not let it be written.
    pub async fn open(path: &Path) -> io::Result<Self> {
        let is_new = !tokio::fs::try_exists(path).await.unwrap_or(true);
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .await?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_new,
            has_begun: false,
        })
    }

    /// Appends `bytes`, and first of all takes away what the file held.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // Devices and named pipes have no length.
            let is_file = self.file.metadata().await?.is_file();
            if is_file {
                self.file.set_len(0).await?;
            }
        }
        self.file.write_all(bytes).await?;
        // So that the file can be watched while it grows.
        self.file.flush().await
    }

    /// Ends it: what was written is there, and a file that was made for nothing is not.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn finish(mut self) -> io::Result<()> {
        if self.has_begun {
            return self.file.flush().await;
        }
        match self.is_new {
            true => tokio::fs::remove_file(&self.path).await,
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test]
    async fn a_file_is_left_alone_until_something_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        std::fs::write(&old, "what was there").unwrap();

        for path in [&old, &new] {
            OutFile::open(path).await.unwrap().finish().await.unwrap();
        }

        assert_eq!(std::fs::read_to_string(&old).unwrap(), "what was there");
        assert!(!new.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_written_holds_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        std::fs::write(&path, "what was there").unwrap();

        let mut file = OutFile::open(&path).await.unwrap();
        file.write(b"ne").await.unwrap();
        file.write(b"w").await.unwrap();
        file.finish().await.unwrap();

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }
}
