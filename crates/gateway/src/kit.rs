//! What all gateways of a node share, and how it changes while they run.
//!
//! A node has one [`Kit`], and each of its gateways a clone of it: a user, a limit and a session are the same for all
//! protocols. A gateway does four things with it:
//!
//! 1. at a connection, [`Gate::enter`]; the permit is kept for as long as the connection, and settled when the client
//!    has said what it wants;
//! 2. before anything about a stream is said, [`Users::check`] with the proof that the protocol carries;
//! 3. when media begin to flow, [`Registry::begin`]; the session ends when it is dropped, and
//!    [`kicked`](crate::Session::kicked) is waited for beside everything else;
//! 4. what is sent is counted by [`crate::session::Counts`], and held to [`Limits::client_bytes_max`].
//!
//! Not where settings are written, which the program knows. Made by `levada-cli`. Invariant: other settings end those
//! sessions that they no longer allow, and no other.

use crate::gate::{Gate, Limits};
use crate::session::Registry;
use crate::users::{Token, User, Users, UsersError};

/// What can be set while gateways run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Who may do what; everybody may do everything if there is neither a user nor a token.
    pub users: Vec<User>,
    /// What stands in URLs instead of a user and a password.
    pub tokens: Vec<Token>,
    /// How many clients there may be.
    pub limits: Limits,
}

/// Users, limits and sessions of all gateways of a node. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Kit {
    users: Users,
    gate: Gate,
    registry: Registry,
}

impl Kit {
    /// Nobody plays or publishes yet.
    ///
    /// # Errors
    ///
    /// As for [`Users::new`].
    pub fn new(settings: Settings) -> Result<Self, UsersError> {
        Ok(Self {
            users: Users::new(settings.users, settings.tokens)?,
            gate: Gate::new(settings.limits),
            registry: Registry::default(),
        })
    }

    /// Who may do what.
    #[must_use]
    pub const fn users(&self) -> &Users {
        &self.users
    }

    /// How many clients there may be.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Who plays and publishes.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Takes these users instead of its own.
    #[must_use]
    pub fn with_users(mut self, users: Users) -> Self {
        self.users = users;
        self
    }

    /// Takes these limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        self.gate.set_limits(limits);
        self
    }

    /// Makes other settings hold from now on. Sessions end that they no longer allow: of a user who is gone, has
    /// another password or token, or lost the right; and those of nobody, once there are users. Returns how many.
    ///
    /// # Errors
    ///
    /// As for [`Users::new`]; nothing has changed then.
    pub fn set(&self, settings: Settings) -> Result<usize, UsersError> {
        let void = self.users.replace(settings.users, settings.tokens)?;
        self.gate.set_limits(settings.limits);
        let is_void = |user: &Option<String>| user.as_ref().is_some_and(|user| void.contains(user));
        let mut ended = 0;
        for row in self.registry.live() {
            let may = self.users.may(row.user.as_deref(), row.role, &row.stream);
            let is_void = is_void(&row.user) && !self.users.is_open();
            if (is_void || !may) && self.registry.kick(row.id) {
                ended += 1;
            }
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use super::*;
    use crate::session::{About, Role, Session, Transport};
    use crate::users::Right;

    fn user(name: &str, password: &str, rights: &[&str]) -> User {
        let rights = rights.iter().map(|right| right.parse::<Right>().unwrap());
        User::new(name, password, false, rights.collect()).unwrap()
    }

    fn settings(users: &[User]) -> Settings {
        Settings {
            users: users.to_vec(),
            ..Settings::default()
        }
    }

    fn session(kit: &Kit, user: Option<&str>, stream: &str) -> Session {
        kit.registry().begin(About {
            role: Role::Play,
            stream: stream.parse().unwrap(),
            protocol: "rtsp",
            transport: Transport::Tcp,
            user: user.map(str::to_owned),
            remote: ([10, 0, 0, 1], 5_000).into(),
            agent: String::new(),
        })
    }

    async fn is_kicked(session: &Session) -> bool {
        let kicked = tokio::time::timeout(Duration::ZERO, session.kicked());
        kicked.await.is_ok()
    }

    #[tokio::test]
    async fn other_settings_end_what_they_no_longer_allow_and_nothing_else() {
        let names = ["anna", "berta", "carl", "dora"];
        let [anna, berta, carl, dora] = names.map(|name| user(name, "p", &["play"]));
        let kit = Kit::new(settings(&[anna.clone(), berta.clone(), carl, dora])).unwrap();
        let stays = session(&kit, Some("anna"), "lobby/cam");
        let narrowed = session(&kit, Some("berta"), "lobby/cam");
        let within = session(&kit, Some("berta"), "sports/final");
        let gone = session(&kit, Some("carl"), "lobby/cam");
        let renewed = session(&kit, Some("dora"), "lobby/cam");

        let narrower = User {
            rights: vec!["play sports/".parse().unwrap()],
            ..berta
        };
        let others = [anna, narrower, user("dora", "q", &["play"])];
        let ended = kit.set(settings(&others)).unwrap();

        assert_eq!(ended, 3);
        for (session, expected) in [
            (&stays, false),
            (&narrowed, true),
            (&within, false),
            (&gone, true),
            (&renewed, true),
        ] {
            assert_eq!(is_kicked(session).await, expected, "{session:?}");
        }
    }

    #[tokio::test]
    async fn the_first_user_ends_the_sessions_of_nobody_and_the_last_one_none() {
        let kit = Kit::default();
        let nobody = session(&kit, None, "lobby/cam");

        assert_eq!(
            kit.set(settings(&[user("anna", "p", &["play"])])).unwrap(),
            1
        );
        assert!(is_kicked(&nobody).await);
        drop(nobody);
        let anna = session(&kit, Some("anna"), "lobby/cam");
        assert_eq!(kit.set(Settings::default()).unwrap(), 0);

        assert!(!is_kicked(&anna).await);
    }

    #[test]
    fn settings_that_cannot_be_change_nothing() {
        let kit = Kit::default();
        let anna = user("anna", "p", &["play"]);

        let mut twice = settings(&[anna.clone(), anna]);
        twice.limits = Limits::default().with_clients(1);
        let refused = kit.set(twice);

        assert!(refused.is_err());
        assert!(kit.users().is_open());
        assert_eq!(kit.gate().limits(), Limits::default());
    }
}
