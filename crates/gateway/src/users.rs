//! Users, their passwords and tokens, and what they may do with which streams.
//!
//! A right is a role and a prefix of names: `play sports/`. Where no user and no token exists, everybody may do
//! everything. Passwords are kept as Argon2 hashes; a user for whom digest authentication is wanted has its two HA1
//! beside it, which are as good as the password to whoever reads the file, so they are an option. Tokens are random, so
//! that their SHA-256 is enough.
//!
//! Not the file, which the configuration has, and not a protocol's header. Called by gateways. Invariant: secrets are
//! compared in constant time, and neither they nor what was tried instead is ever formatted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use levada::StreamName;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::session::Role;

mod right;
pub use right::{Right, RightError};

/// What gateways call themselves to digest authentication. HA1 depends on it.
pub const REALM: &str = "levada";
/// How long a failed try waits for its answer.
pub const FAILURE_DELAY: Duration = Duration::from_secs(1);
/// Argon2 runs at the same time: each takes 19 MiB and tens of milliseconds.
const HASHING_MAX: usize = 2;

/// A hash of digest authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hash {
    /// MD5.
    #[default]
    Md5,
    /// SHA-256.
    Sha256,
}

impl Hash {
    /// Reads the name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Md5, Self::Sha256];
        all.into_iter()
            .find(|hash| hash.name().eq_ignore_ascii_case(name))
    }

    /// Its name in headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The hash of a text, in hex.
    #[must_use]
    pub fn hex(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&md5::Md5::digest(text)),
            Self::Sha256 => hex(&sha2::Sha256::digest(text)),
        }
    }
}

/// A user as the file has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password's Argon2 hash.
    pub password: String,
    /// The HA1 of both hashes, for digest authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Ha1>,
    /// What the user may do.
    pub rights: Vec<Right>,
}

/// What digest authentication needs of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ha1 {
    /// By MD5, in hex.
    pub md5: String,
    /// By SHA-256, in hex.
    pub sha256: String,
}

/// A token as the file has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it is for; shown as the user of its sessions.
    pub name: String,
    /// The token's SHA-256, in hex.
    pub hash: String,
    /// What its bearer may do.
    pub rights: Vec<Right>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.name)
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.name)
    }
}

impl User {
    /// A user with that password. With `digest`, it can be proven by digest authentication too.
    ///
    /// # Errors
    ///
    /// When the name or the password cannot be used.
    pub fn new(
        name: &str,
        password: &str,
        digest: bool,
        rights: Vec<Right>,
    ) -> Result<Self, UsersError> {
        if name.is_empty() || name.contains([':', '"', '\\']) || name.contains(char::is_control) {
            return Err(UsersError::Name {
                name: name.to_owned(),
            });
        }
        if password.is_empty() {
            return Err(UsersError::Password {
                name: name.to_owned(),
            });
        }
        let hash = Argon2::default().hash_password(password.as_bytes());
        let hash = hash.map_err(|_| UsersError::Password {
            name: name.to_owned(),
        })?;
        let text = format!("{name}:{REALM}:{password}");
        Ok(Self {
            name: name.to_owned(),
            password: hash.to_string(),
            digest: digest.then(|| Ha1 {
                md5: Hash::Md5.hex(&text),
                sha256: Hash::Sha256.hex(&text),
            }),
            rights,
        })
    }
}

impl Token {
    /// A new token and its secret, which is shown once.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn new(name: &str, rights: Vec<Right>) -> Result<(Self, String), UsersError> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|_| UsersError::Random)?;
        let secret = hex(&secret);
        let token = Self {
            name: name.to_owned(),
            hash: Hash::Sha256.hex(&secret),
            rights,
        };
        Ok((token, secret))
    }
}

/// How somebody proves to be somebody.
#[derive(Clone)]
#[non_exhaustive]
pub enum Proof {
    /// No proof.
    None,
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password, or a token.
        password: String,
    },
    /// A token alone.
    Token(String),
    /// A response that is right if it equals what is expected of the user's HA1.
    Digest {
        /// The user.
        user: String,
        /// Which HA1.
        hash: Hash,
        /// The response, in hex.
        response: String,
        /// From HA1 to the response that is right.
        expected: Arc<dyn Fn(&str) -> String + Send + Sync>,
    },
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::Digest { .. } => "Digest",
        })
    }
}

/// Whether somebody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; as this user, if there are users.
    Granted(Option<String>),
    /// Who it is was not said or not proven.
    Unproven,
    /// Who it is is proven, and may not.
    Forbidden,
}

/// All users and tokens. Clones are the same, also after [`Users::replace`].
#[derive(Clone, Debug)]
pub struct Users {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: RwLock<Arc<Table>>,
    failures: AtomicU64,
    hashing: Semaphore,
}

#[derive(Debug, Default)]
struct Table {
    users: BTreeMap<String, User>,
    tokens: BTreeMap<String, Token>,
}

impl Default for Users {
    /// Nobody is known: everybody may do everything.
    fn default() -> Self {
        Self::of(Table::default())
    }
}

impl Users {
    fn of(table: Table) -> Self {
        let shared = Shared {
            table: RwLock::new(Arc::new(table)),
            failures: AtomicU64::new(0),
            hashing: Semaphore::new(HASHING_MAX),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// These users and tokens, and nobody else.
    ///
    /// # Errors
    ///
    /// When a name is used twice or a hash is not one.
    pub fn new(users: Vec<User>, tokens: Vec<Token>) -> Result<Self, UsersError> {
        Table::new(users, tokens).map(Self::of)
    }

    /// These users and tokens from now on, and nobody else. Returns whose proof is void: those who are gone, or have
    /// another password or token now.
    ///
    /// # Errors
    ///
    /// As for [`Users::new`]; the former ones stay.
    pub fn replace(
        &self,
        users: Vec<User>,
        tokens: Vec<Token>,
    ) -> Result<BTreeSet<String>, UsersError> {
        let table = Arc::new(Table::new(users, tokens)?);
        let mut held = self
            .shared
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *held, Arc::clone(&table));
        let names = before.users.keys().chain(before.tokens.keys());
        let is_void = |name: &&String| before.proof_of(name) != table.proof_of(name);
        Ok(names.filter(is_void).cloned().collect())
    }

    fn table(&self) -> Arc<Table> {
        let held = self
            .shared
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&held)
    }

    /// Whether who was let in as `user` may still do that with a stream of that name.
    #[must_use]
    pub fn may(&self, user: Option<&str>, role: Role, name: &str) -> bool {
        let table = self.table();
        if table.is_open() {
            return true;
        }
        let rights = user.and_then(|user| table.rights_of(user));
        rights.is_some_and(|rights| rights.iter().any(|right| right.covers(role, name)))
    }

    /// Whether nobody is known, so that everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.table().is_open()
    }

    /// Whether every user can use digest authentication, so that it may be offered: players take it where it is.
    #[must_use]
    pub fn has_digest(&self) -> bool {
        let table = self.table();
        let mut users = table.users.values();
        !table.users.is_empty() && users.all(|user| user.digest.is_some())
    }

    /// How many proofs were wrong.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Whether whoever gives that proof may do that with that stream. A wrong proof is counted and answered
    /// [`FAILURE_DELAY`] later.
    pub async fn check(&self, proof: Proof, role: Role, name: &StreamName) -> Decision {
        let table = self.table();
        if table.is_open() {
            return Decision::Granted(None);
        }
        let Some((who, rights)) = self.prove(table, proof).await else {
            return Decision::Unproven;
        };
        if rights.iter().any(|right| right.covers(role, name.as_str())) {
            Decision::Granted(Some(who))
        } else {
            Decision::Forbidden
        }
    }

    /// Decides who a client is, whatever it may do: [`Self::may`] says that of each stream. Never
    /// [`Decision::Forbidden`].
    pub async fn identify(&self, proof: Proof) -> Decision {
        let table = self.table();
        if table.is_open() {
            return Decision::Granted(None);
        }
        let found = self.prove(table, proof).await;
        found.map_or(Decision::Unproven, |(who, _)| Decision::Granted(Some(who)))
    }

    /// Whose proof it is, and that one's rights. A wrong one waits for its answer.
    async fn prove(&self, table: Arc<Table>, proof: Proof) -> Option<(String, Vec<Right>)> {
        let found = match proof {
            Proof::None => return None,
            Proof::Token(token) => table.token(&token),
            Proof::Password { user, password } => match table.token(&password) {
                Some(found) => Some(found),
                None => self.password(table, user, password).await,
            },
            Proof::Digest {
                user,
                hash,
                response,
                expected,
            } => table.digest(&user, hash, &response, &*expected),
        };
        if found.is_none() {
            let failures = self.shared.failures.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(failures, "a client gave a wrong password or token");
            tokio::time::sleep(FAILURE_DELAY).await;
        }
        found
    }

    async fn password(
        &self,
        table: Arc<Table>,
        user: String,
        password: String,
    ) -> Option<(String, Vec<Right>)> {
        let _permit = self.shared.hashing.acquire().await.ok()?;
        let check = move || {
            let known = table.users.get(&user)?;
            let hash = PasswordHash::new(&known.password).ok()?;
            let verified = Argon2::default().verify_password(password.as_bytes(), &hash);
            verified.ok()?;
            Some((user, known.rights.clone()))
        };
        tokio::task::spawn_blocking(check).await.ok()?
    }
}

impl Table {
    fn new(users: Vec<User>, tokens: Vec<Token>) -> Result<Self, UsersError> {
        let mut table = Self::default();
        for token in tokens {
            if let Some(twice) = table.tokens.insert(token.name.clone(), token) {
                return Err(UsersError::Twice { name: twice.name });
            }
        }
        for user in users {
            if PasswordHash::new(&user.password).is_err() {
                return Err(UsersError::Hash { name: user.name });
            }
            let is_twice = table.tokens.contains_key(&user.name);
            let name = user.name.clone();
            if table.users.insert(name.clone(), user).is_some() || is_twice {
                return Err(UsersError::Twice { name });
            }
        }
        Ok(table)
    }

    fn is_open(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }

    fn rights_of(&self, name: &str) -> Option<&[Right]> {
        let user = self.users.get(name).map(|user| &user.rights);
        let token = || self.tokens.get(name).map(|token| &token.rights);
        user.or_else(token).map(Vec::as_slice)
    }

    /// What somebody of that name has to prove.
    fn proof_of(&self, name: &str) -> Option<&str> {
        let user = self.users.get(name).map(|user| &user.password);
        let token = || self.tokens.get(name).map(|token| &token.hash);
        user.or_else(token).map(String::as_str)
    }

    fn token(&self, token: &str) -> Option<(String, Vec<Right>)> {
        let hash = Hash::Sha256.hex(token);
        let mut found = None;
        for known in self.tokens.values() {
            if is_equal(&known.hash, &hash) {
                found = Some((known.name.clone(), known.rights.clone()));
            }
        }
        found
    }

    fn digest(
        &self,
        user: &str,
        hash: Hash,
        response: &str,
        expected: &(dyn Fn(&str) -> String + Send + Sync),
    ) -> Option<(String, Vec<Right>)> {
        let known = self.users.get(user)?;
        let ha1 = known.digest.as_ref()?;
        let ha1 = match hash {
            Hash::Md5 => &ha1.md5,
            Hash::Sha256 => &ha1.sha256,
        };
        is_equal(&expected(ha1), response).then(|| (user.to_owned(), known.rights.clone()))
    }
}

/// In constant time, for texts of one length.
fn is_equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// What is wrong with a user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// A name that headers cannot carry.
    #[error("a user cannot be called `{name}`: leave out colons, quotes and backslashes")]
    Name {
        /// The name.
        name: String,
    },
    /// An empty password, or one that is too long.
    #[error("the password of `{name}` cannot be used: it is empty or too long")]
    Password {
        /// The user.
        name: String,
    },
    /// Two users or tokens of one name.
    #[error("two users or tokens are called `{name}`: remove one, or give it another name")]
    Twice {
        /// The name.
        name: String,
    },
    /// What should be an Argon2 hash is none.
    #[error("the password of `{name}` is not an Argon2 hash: make one with `levada user add`")]
    Hash {
        /// The user.
        name: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

#[cfg(test)]
mod tests;
