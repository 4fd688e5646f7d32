//! Checker `secret`: secrets stay where they belong.
//!
//! No content secret, carry key or link key is ever part of the bytes that cross a network; and a content secret comes
//! only to a node where somebody subscribes, never to one that merely forwards. Called by `check` for each datagram,
//! chunk and command. Invariant: the search is exact: whole secrets, at every place.

use std::collections::BTreeMap;

use levada_wire::FlowId;
use levada_wire::lane::FlowCommand;

use super::Facts;

/// Secrets are looked up by their first bytes.
const HEAD_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct Secrets {
    by_head: BTreeMap<[u8; HEAD_BYTES], Vec<(&'static str, Vec<u8>)>>,
    /// One bit for each pair of first bytes of a secret, so that most places are passed without a look-up.
    pairs: Vec<u64>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            by_head: BTreeMap::new(),
            pairs: vec![0; (1 << 16) / 64],
        }
    }
}

impl Secrets {
    /// Remembers what is secret in a command.
    pub(super) fn learn(&mut self, command: &FlowCommand) {
        match command {
            FlowCommand::SetCarryKey { key, .. } => self.learn_bytes("a carry key", key.bytes()),
            FlowCommand::Consume { secret, .. } => {
                self.learn_bytes("a content secret", secret.bytes())
            }
            FlowCommand::Originate(originate) => {
                self.learn_bytes("a content secret", originate.secret.bytes());
                self.learn_bytes("a carry key", originate.carry.bytes());
            }
            _ => {}
        }
    }

    /// Remembers a secret.
    pub(super) fn learn_bytes(&mut self, what: &'static str, secret: &[u8]) {
        let head = *secret
            .first_chunk()
            .expect("the shortest secret has 16 bytes");
        let known = self.by_head.entry(head).or_default();
        if !known.iter().any(|(_, other)| other == secret) {
            known.push((what, secret.to_vec()));
        }
        let pair = pair(&head);
        self.pairs[pair / 64] |= 1 << (pair % 64);
    }

    /// What secret is in these bytes, if any is.
    pub(super) fn find_in(&self, bytes: &[u8]) -> Option<&'static str> {
        let places = bytes.windows(HEAD_BYTES).enumerate();
        let candidates = places.filter(|(_, window)| {
            let pair = pair(window);
            self.pairs[pair / 64] & (1 << (pair % 64)) != 0
        });
        candidates.into_iter().find_map(|(at, window)| {
            let head: &[u8; HEAD_BYTES] = window.first_chunk()?;
            let known = self.by_head.get(head)?;
            known
                .iter()
                .find(|(_, secret)| bytes[at..].starts_with(secret))
                .map(|(what, _)| *what)
        })
    }
}

fn pair(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

/// Whether a node gets a content secret although nobody there subscribes to the stream.
pub(super) fn misplaced(facts: &Facts, node: usize, flow: FlowId) -> Option<String> {
    let name = facts.stream_of(flow);
    let is_wanted = name.is_some_and(|name| facts.is_watched(name, Some(node)));
    (!is_wanted).then(|| {
        format!(
            "{} got the content secret of flow {flow}, and nobody there subscribes",
            facts.name(node)
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_core::SubscriptionId;
    use levada_wire::key::CarryKey;

    use super::*;
    use crate::check::fixture::{FLOW, cam, facts};

    #[test]
    fn a_secret_is_found_at_any_place_and_only_whole() {
        let mut secrets = Secrets::default();
        let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap() + 1);
        secrets.learn(&FlowCommand::SetCarryKey {
            epoch: 0,
            key: CarryKey::from_bytes(key),
        });

        for before in [0, 1, 500] {
            let clean = vec![7; before];
            assert_eq!(
                secrets.find_in(&[&clean, &key[..]].concat()),
                Some("a carry key")
            );
            assert_eq!(secrets.find_in(&[&clean, &key[..15]].concat()), None);
        }
    }

    #[test]
    fn a_content_secret_where_nobody_subscribes_is_reported() {
        let mut facts = facts();
        facts.subscribed(2, SubscriptionId(1), cam());

        assert_eq!(misplaced(&facts, 2, FLOW), None);
        assert!(
            misplaced(&facts, 1, FLOW)
                .unwrap()
                .contains("b got the content secret")
        );
        assert!(misplaced(&facts, 2, FlowId(99)).is_some());
    }
}
