//! The state directory: what makes a node the same node after a restart, and one node at a time.
//!
//! ```text
//! DIR/              0700
//!   node.key        the private key, 64 hex digits, 0600
//!   lock            held while a node runs; says its process id
//!   levada.sock     the local socket of the running node (`admin`)
//! ```
//!
//! Not the configuration, which the user writes. Called by `driver` at start and by `admin` clients for paths.
//! Invariant: whoever holds a `StateDir` holds its lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use levada_wire::Identity;
use zeroize::Zeroizing;

const KEY_FILE: &str = "node.key";
const LOCK_FILE: &str = "lock";
const SOCKET_FILE: &str = "levada.sock";
/// What is read of a key file: 64 digits and an end of line, and enough more to see that it is something else.
const KEY_BYTES_MAX: u64 = 256;

/// The state directory that is used when none is named: `$XDG_STATE_HOME/levada`, else
/// `$HOME/.local/state/levada`, and `/var/lib/levada` where there is no home.
#[must_use]
pub fn default_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match (variable("XDG_STATE_HOME"), variable("HOME")) {
        (Some(state), _) => PathBuf::from(state).join("levada"),
        (None, Some(home)) => PathBuf::from(home).join(".local/state/levada"),
        (None, None) => PathBuf::from("/var/lib/levada"),
    }
}

/// The local socket of the node whose state is in `dir`.
#[must_use]
pub fn socket_path(dir: &Path) -> PathBuf {
    dir.join(SOCKET_FILE)
}

/// A locked state directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    identity: Identity,
    /// Held for as long as the node runs.
    _lock: File,
    temporary: bool,
}

impl StateDir {
    /// Makes the directory if need be, locks it, and reads or makes the node's key.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        make_dir(path)?;
        let lock = lock(path)?;
        let identity = identity(path)?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            _lock: lock,
            temporary: false,
        })
    }

    /// A fresh directory of its own, removed when this is dropped.
    pub(crate) fn temporary() -> Result<Self, StateError> {
        let mut random = [0; 8];
        let parent = std::env::temp_dir();
        getrandom::fill(&mut random).map_err(|error| StateError::Unusable {
            path: parent.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        let path = parent.join(format!("levada-{:016x}", u64::from_be_bytes(random)));
        let mut state = Self::open(&path)?;
        state.temporary = true;
        Ok(state)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl StateDir {
    /// Removes a temporary directory.
    fn remove(&self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::debug!(%error, "temporary state directory stays");
        }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        self.remove();
    }
}

fn make_dir(path: &Path) -> Result<(), StateError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| StateError::Unusable {
        path: path.to_owned(),
        source,
    })
}

/// Takes the lock, and writes into it whose it is.
fn lock(dir: &Path) -> Result<File, StateError> {
    let unusable = |source| StateError::Unusable {
        path: dir.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(dir.join(LOCK_FILE)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only to say who it is; without it the message is less helpful and as right.
            let _ = file.take(32).read_to_string(&mut holder);
            return Err(StateError::InUse {
                path: dir.to_owned(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    file.set_len(0).map_err(unusable)?;
    file.rewind().map_err(unusable)?;
    writeln!(file, "{}", std::process::id()).map_err(unusable)?;
    Ok(file)
}

/// Reads the key, or makes one at the first start.
fn identity(dir: &Path) -> Result<Identity, StateError> {
    let path = dir.join(KEY_FILE);
    match File::open(&path) {
        Ok(file) => read_key(&path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(dir, &path),
        Err(source) => Err(StateError::Unusable { path, source }),
    }
}

fn read_key(path: &Path, file: File) -> Result<Identity, StateError> {
    warn_if_others_may_read(path, &file);
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|source| StateError::Unusable {
            path: path.to_owned(),
            source,
        })?;
    let secret = unhex(text.trim()).ok_or_else(|| StateError::Key {
        path: path.to_owned(),
    })?;
    Ok(Identity::from_secret(&secret))
}

/// Makes the key under another name first, so that a crash never leaves half a key.
fn make_key(dir: &Path, path: &Path) -> Result<Identity, StateError> {
    let unusable = |source| StateError::Unusable {
        path: path.to_owned(),
        source,
    };
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).map_err(|error| unusable(io::Error::other(error.to_string())))?;
    let draft = dir.join("node.key.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(unusable)?;
    file.write_all(hex(&secret).as_bytes()).map_err(unusable)?;
    file.sync_all().map_err(unusable)?;
    fs::rename(&draft, path).map_err(unusable)?;
    Ok(Identity::from_secret(&secret))
}

#[cfg(unix)]
fn warn_if_others_may_read(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(metadata) = file.metadata() else {
        return;
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "the node's private key can be read by other users: run `chmod 600` on it"
        );
    }
}

#[cfg(not(unix))]
fn warn_if_others_may_read(_: &Path, _: &File) {}

fn hex(secret: &[u8; 32]) -> Zeroizing<String> {
    use std::fmt::Write as _;
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in secret {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut secret = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(secret)
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A node runs in it.
    #[error("state directory {} is in use by another levada{}: stop it, or give another directory with --state", path.display(), process(holder))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id that the lock names; may be empty.
        holder: String,
    },
    /// The system does not let us.
    #[error("cannot use {} for the node's state: {source}; give a directory that this user may write with --state", path.display())]
    Unusable {
        /// What could not be used.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is in the key file is no key.
    #[error("{} does not hold a node key (64 hex digits): put the right file back, or remove it to start as a new node", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
    },
}

fn process(holder: &str) -> String {
    if holder.is_empty() {
        String::new()
    } else {
        format!(" (process {holder})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_restart_finds_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");

        let first = StateDir::open(&path).unwrap().identity().id();
        let second = StateDir::open(&path).unwrap().identity().id();

        assert_eq!(first, second);
    }

    #[test]
    fn a_second_node_in_one_directory_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateDir::open(dir.path()).unwrap();

        let error = StateDir::open(dir.path()).unwrap_err().to_string();

        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        assert!(error.contains("--state"), "{error}");
        drop(held);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "",
            "hello",
            &"g".repeat(64),
            &"é".repeat(32),
            &"a".repeat(300),
        ] {
            fs::write(dir.path().join(KEY_FILE), text).unwrap();

            let error = StateDir::open(dir.path()).unwrap_err();

            assert!(matches!(error, StateError::Key { .. }), "{text:?}: {error}");
            assert_eq!(fs::read_to_string(dir.path().join(KEY_FILE)).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_the_key_and_the_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");

        let state = StateDir::open(&path).unwrap();

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(state.path()), 0o700);
        assert_eq!(mode(&path.join(KEY_FILE)), 0o600);
    }

    #[test]
    fn a_temporary_directory_is_gone_after_use() {
        let state = StateDir::temporary().unwrap();
        let path = state.path().to_owned();
        assert!(path.join(KEY_FILE).exists());

        drop(state);

        assert!(!path.exists());
    }

    #[test]
    fn a_place_that_is_a_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();

        let error = StateDir::open(&path).unwrap_err().to_string();

        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
