//! The limits of a lane that a node sets.
//!
//! Not those that are the same in every node: `limits.rs`. Made by the node, `lanes` of the ports share them out.
//! Invariant: the defaults are those of a node with one lane.

use std::time::Duration;

use levada_wire::{Bitrate, RepairBudget};

use crate::limits::EARLY_PACKETS_MAX;

/// The limits of a lane, with the defaults of a node.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// The most flows; opening one more is refused.
    pub flows_max: usize,
    /// The most links; adding one more is refused.
    pub links_max: usize,
    /// The most packets of a flow that wait for its key; more are dropped.
    pub early_packets_max: usize,
    /// The most bytes cached of one flow; a group that is larger is not kept.
    pub flow_cache_bytes_max: usize,
    /// The most bytes cached of all flows together. When it is short flows share it by their declared peaks.
    pub cache_bytes_max: usize,
    /// How late a flow's packets may be before [`crate::api::FlowCommand::SetBudget`] says otherwise.
    pub repair_budget: Duration,
    /// Where its draws begin: nodes need different ones, so that not all ask at once for what all have lost.
    pub seed: u64,
    /// What an interface carries. Newcomers are sent cached groups at a quarter of it, together.
    pub interface_rate: Bitrate,
    /// The most newcomers that are sent something at once by one interface; further ones wait for their turn.
    pub newcomers_max: usize,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self {
            flows_max: 4_096,
            links_max: 1_024,
            early_packets_max: EARLY_PACKETS_MAX,
            flow_cache_bytes_max: 16 << 20,
            cache_bytes_max: 64 << 20,
            repair_budget: RepairBudget::DEFAULT.time(),
            seed: 0,
            interface_rate: Bitrate(1_000_000_000),
            newcomers_max: 4,
        }
    }
}
