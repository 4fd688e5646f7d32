//! The carry keys of a flow, by epoch: what proves its packets.
//!
//! Not the content's keys, which a consumer alone has (`reassembly.rs`). Set by commands, read for each packet.
//! Invariant: at most [`EPOCHS_MAX`] are held.

use levada_wire::key::CarryKey;

use crate::limits::EPOCHS_MAX;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<(u8, CarryKey)>);

impl Keys {
    /// Holds a key; the oldest goes when there are too many.
    pub(crate) fn set(&mut self, epoch: u8, key: CarryKey) {
        self.0.retain(|&(held, _)| held != epoch);
        if self.0.len() == EPOCHS_MAX {
            self.0.remove(0);
        }
        self.0.push((epoch, key));
    }

    pub(crate) fn get(&self, epoch: u8) -> Option<&CarryKey> {
        let found = self.0.iter().find(|&&(held, _)| held == epoch);
        found.map(|(_, key)| key)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_two_epochs_are_held_and_the_oldest_goes() {
        let mut keys = Keys::default();
        for epoch in [1, 2, 2, 3] {
            keys.set(epoch, CarryKey::from_bytes([epoch; 16]));
        }

        assert_eq!(keys.0.len(), EPOCHS_MAX);
        assert_eq!(keys.get(1), None);
        assert_eq!(keys.get(2), Some(&CarryKey::from_bytes([2; 16])));
        assert_eq!(keys.get(3), Some(&CarryKey::from_bytes([3; 16])));
    }
}
