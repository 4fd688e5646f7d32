//! For which flows there is room: a node with a limited uplink promises each child the flow's peak, and no more than it
//! has.
//!
//! ```text
//!   uplink 50 Mb/s │ cam 8 │ cam 8 │ final 20 │  14 left  │     one place for each child of each flow
//!                                              cam 8: yes;  final 20: refused, for want of capacity
//! ```
//!
//! A promise is kept: when an origin declares a higher peak, no child is cut, but nobody is admitted until there is
//! room again. A child that is refused asks another neighbour if there is a way (`eligible`). Not the holding to the
//! peak, which the datapath does at each egress. Called by [`Flows`]. Invariant: what is admitted exceeds the uplink
//! only by peaks that grew after they were admitted.

use levada_wire::Bitrate;
use levada_wire::control::flow::RefuseReason;

use super::Flows;
use crate::view::Admission;

impl Flows {
    /// What is promised, and of how much.
    #[must_use]
    pub fn admission(&self) -> Admission {
        Admission {
            uplink_bps: self.uplink,
            admitted_bps: self.carried.reserved(),
        }
    }

    /// Refuses a peak that does not fit beside what is admitted.
    pub(super) fn admit(&self, peak: Bitrate) -> Result<(), RefuseReason> {
        let wanted = self.carried.reserved().0.saturating_add(peak.0);
        let fits = self.uplink.is_none_or(|uplink| wanted <= uplink.0);
        fits.then_some(()).ok_or(RefuseReason::Capacity)
    }
}
