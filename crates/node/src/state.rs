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
//! Invariant: whoever holds a `StateDir` holds its lock, and no other user may look into it.

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
        keep_private(path)?;
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

/// Sees to it that the directory is ours and that nobody else may look into it. Access is taken away only where nothing
/// but a node's state can be hurt by that.
#[cfg(unix)]
fn keep_private(path: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let unusable = |source| StateError::Unusable {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unusable)?;
    let mode = metadata.mode() & 0o777;
    if metadata.uid() != own_uid(path).map_err(unusable)? {
        let path = path.to_owned();
        let owner = metadata.uid();
        return Err(StateError::Foreign { path, owner });
    }
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let is_state = is_state(path).map_err(unusable)?;
    if mode & 0o022 != 0 || !is_state {
        let path = path.to_owned();
        return Err(StateError::Open { path, mode });
    }
    tracing::info!(path = %path.display(), "other users may not look into the state directory from now on");
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unusable)
}

/// Whether a directory is a node's, or holds nothing that could be anybody else's.
#[cfg(unix)]
fn is_state(path: &Path) -> io::Result<bool> {
    let mut only_ours = true;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name == KEY_FILE {
            return Ok(true);
        }
        only_ours &= name == LOCK_FILE || name == SOCKET_FILE;
    }
    Ok(only_ours)
}

#[cfg(not(unix))]
fn keep_private(_: &Path) -> Result<(), StateError> {
    Ok(())
}

/// Who we are to the file system: the owner of what we make.
#[cfg(unix)]
fn own_uid(dir: &Path) -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let probe = dir.join(format!("owner-{}", std::process::id()));
    // Left by a process of that number that was killed right here.
    let _ = fs::remove_file(&probe);
    let made = OpenOptions::new().write(true).create_new(true).open(&probe);
    let owner = made?.metadata().map(|metadata| metadata.uid());
    fs::remove_file(&probe)?;
    owner
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
    #[error(
        "state directory {} is in use by another levada{}: have commands use that node with `--node {}`, stop it, or \
         give another directory with --state",
        path.display(), process(holder), path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id that the lock names; may be empty.
        holder: String,
    },
    /// The system does not let us.
    #[error(
        "cannot use {} for the node's state: {source}; give a directory that this user may write with --state",
        path.display()
    )]
    Unusable {
        /// What could not be used.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is another user's.
    #[error(
        "{} belongs to another user (id {owner}), who could read the node's key: start levada as that user, or give a \
         directory of your own with --state",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The uid of the directory's owner.
        owner: u32,
    },
    /// Other users may change it, or it holds more than a node's state, and they may read it.
    #[error(
        "{} is open to other users (mode {mode:03o}), and is not only a node's state: look what is in it and run \
         `chmod 700` on it, or give a directory of its own with --state",
        path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is in the key file is no key.
    #[error(
        "{} does not hold a node key (64 hex digits): put the right file back, or remove it to start as a new node",
        path.display()
    )]
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

    #[cfg(unix)]
    fn with_mode(mode: u32, file: Option<&str>) -> (tempfile::TempDir, impl Fn() -> u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        if let Some(name) = file {
            fs::write(dir.path().join(name), "a".repeat(64)).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let path = dir.path().to_owned();
        let now = move || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        (dir, now)
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_read_is_closed_to_them_if_it_is_a_nodes_or_empty() {
        for file in [None, Some(KEY_FILE)] {
            let (dir, mode) = with_mode(0o755, file);

            StateDir::open(dir.path()).unwrap();

            assert_eq!(mode(), 0o700);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_write_or_that_is_used_for_more_is_refused_and_left_alone() {
        for (before, file) in [
            (0o777, None),
            (0o770, Some(KEY_FILE)),
            (0o702, None),
            (0o755, Some("diary.txt")),
        ] {
            let (dir, mode) = with_mode(before, file);

            let error = StateDir::open(dir.path()).unwrap_err().to_string();

            assert!(error.contains(&format!("{before:03o}")), "{error}");
            assert!(error.contains("chmod 700"), "{error}");
            assert_eq!(mode(), before);
            let left = fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(left, usize::from(file.is_some()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn another_users_directory_is_refused() {
        let (dir, _) = with_mode(0o700, None);
        // Only root can give a directory away; whoever is not root has none that is not his.
        let is_given = std::os::unix::fs::chown(dir.path(), Some(65_534), None).is_ok();
        let path = if is_given { dir.path() } else { Path::new("/") };

        let error = StateDir::open(path).unwrap_err().to_string();

        assert!(error.contains("--state"), "{error}");
        assert_eq!(error.contains("65534"), is_given, "{error}");
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
