//! What a lane's processor takes at 70% load, by the traffic's own clock: beside the relay floor at the same traffic,
//! and the same lane whose egresses are paced, as those beyond a wire are.
//!
//! At saturation bursts wait and go together; at its own pace traffic comes in single bursts, between which the thread
//! sleeps. Not latency: `hop.rs`. Called by `fanout`. Invariant: what is compared was given the same flows in the same
//! round, for the same time.

use std::time::Duration;

use levada_wire::Bitrate;
use serde::Serialize;

use crate::contender::{Contender, Kind as Who};
use crate::drive::{self, Latencies, Work};
use crate::fanout::Case;
use crate::hop;
use crate::origin::Feed;
use crate::receivers::Receivers;
use crate::stats::Spread;

/// The part of what a lane can do.
const LOAD: f64 = 0.7;

/// What was measured at that load.
#[derive(Clone, Debug, Serialize)]
pub struct AtLoad {
    /// As many as make the load.
    pub flows: usize,
    /// The part of a processor that the lane took.
    pub load: Spread,
    /// What the relay floor takes by what the lane takes.
    pub of_floor: Spread,
    /// What the lane takes with paced egresses by what it takes without.
    pub paced_cost: Spread,
    /// Bytes that a receiver did not get. Not zero: do not trust the line.
    pub missing_bytes: u64,
}

/// Gives one contender a case's traffic by the traffic's own clock.
pub(crate) fn at_pace(
    who: Who,
    case: Case,
    receivers: &mut Receivers,
    long: Duration,
) -> anyhow::Result<(Work, Latencies)> {
    let contender = Contender::start(who, case.task, &receivers.addresses())?;
    let mut feed = Feed::new(case.task.flows, case.camera);
    let paced = drive::pace(&contender, &mut feed, receivers, long)?;
    contender.finish()?;
    Ok(paced)
}

/// Measures a case of which a lane was seen to send so much in a second of its processor.
pub(crate) fn measure(
    mut case: Case,
    capacity: Bitrate,
    rounds: usize,
    long: Duration,
) -> anyhow::Result<AtLoad> {
    // Stamped arrivals cost the receivers' part of a send, so both sides are measured without.
    let mut receivers = Receivers::new(case.egresses, case.receivers, false)?;
    case.task.flows = hop::flows_for(capacity.0 as f64 * LOAD, case.egresses, case.camera);
    let mut measured = Vec::with_capacity(rounds);
    let mut missing_bytes = 0;
    for round in 0..rounds {
        let mut order = [Who::Relay, Who::Lane, Who::PacedLane];
        order.rotate_left(round % 3);
        let mut works = Vec::with_capacity(order.len());
        for who in order {
            let (work, _) = at_pace(who, case, &mut receivers, long)?;
            missing_bytes += work.missing_bytes;
            works.push(work.load());
        }
        works.rotate_right(round % 3);
        measured.push([works[0], works[1], works[2]]);
    }
    let spread = |of: fn(&[f64; 3]) -> f64| {
        let spread = Spread::of(measured.iter().map(of));
        spread.ok_or_else(|| anyhow::anyhow!("nothing was measured"))
    };
    Ok(AtLoad {
        flows: case.task.flows,
        load: spread(|[_, lane, _]| *lane)?,
        of_floor: spread(|[floor, lane, _]| floor / lane)?,
        paced_cost: spread(|[_, lane, paced]| paced / lane)?,
        missing_bytes,
    })
}
