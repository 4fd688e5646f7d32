//! What this node's own receive buffer lost, as the share of each link: the network did not lose it.
//!
//! ```text
//!   since the last share     link 7   ▮▮▮▮▮▮▮▮▮  90 came                the buffer was full for 10 datagrams, of which
//!                            link 9   ▮          10 came                nobody knows whose: 9 of link 7, 1 of link 9
//! ```
//!
//! A link's loss is what its peer has sent and this node has not received, so what the buffer lost would count as loss
//! of every link: peers would make parity, and take a path for congested that is not. The system counts those datagrams
//! for a socket (`SO_RXQ_OVFL`), so each link is given the part that it had of what came since it was given one last.
//! They count as received in pongs, and nowhere else. Not repair: what was lost is asked for all the same. Called by
//! `link.rs`. Invariant: what arrives costs one comparison while the buffer loses nothing.

/// What a lane's sockets brought, and what they lost, of all links together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// Datagrams that came over links.
    pub(crate) arrived: u64,
    /// Datagrams that found the receive buffer full.
    pub(crate) lost: u64,
}

/// What a link was given of it, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// What there was when it was given some last, or pinged.
    then: Overflow,
    /// What the link had received then.
    received: u64,
    /// All that it was given.
    pub(super) given: u64,
}

impl Share {
    /// A link that begins now.
    pub(super) const fn from(then: Overflow, received: u64) -> Self {
        Self {
            then,
            received,
            given: 0,
        }
    }

    /// Whether something was lost since the last share.
    #[inline]
    pub(super) const fn is_due(&self, overflow: &Overflow) -> bool {
        self.then.lost != overflow.lost
    }

    /// Gives a link that has `received` so many its share of what was lost.
    pub(super) fn take(&mut self, overflow: &Overflow, received: u64) -> u64 {
        let lost = overflow.lost.saturating_sub(self.then.lost);
        let arrived = overflow.arrived.saturating_sub(self.then.arrived).max(1);
        let own = received.saturating_sub(self.received).min(arrived);
        let part =
            (u128::from(lost) * u128::from(own) + u128::from(arrived / 2)) / u128::from(arrived);
        let part = u64::try_from(part).unwrap_or(lost);
        *self = Self {
            then: *overflow,
            received: received + part,
            given: self.given + part,
        };
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_share_what_was_lost_by_what_they_received() {
        let mut overflow = Overflow {
            arrived: 1_000,
            lost: 50,
        };
        let (mut busy, mut calm) = (Share::from(overflow, 700), Share::from(overflow, 3));
        assert!(!busy.is_due(&overflow));

        overflow.arrived += 100;
        overflow.lost += 10;

        assert!(busy.is_due(&overflow));
        assert_eq!(
            (busy.take(&overflow, 790), calm.take(&overflow, 13)),
            (9, 1)
        );
        assert!(!busy.is_due(&overflow) && !calm.is_due(&overflow));
        overflow.arrived += 10;
        overflow.lost += 4;
        assert_eq!(
            busy.take(&overflow, 799 + 10),
            4,
            "what it was given is not what came"
        );
        assert_eq!((busy.given, calm.given), (13, 1));
    }

    #[test]
    fn counts_that_make_no_sense_give_no_more_than_was_lost() {
        let mut share = Share::from(Overflow::default(), 10);
        let overflow = Overflow {
            arrived: 0,
            lost: u64::MAX,
        };

        assert_eq!(share.take(&overflow, 5), 0);
        assert!(share.take(&Overflow::default(), u64::MAX / 2) == 0);
    }
}
