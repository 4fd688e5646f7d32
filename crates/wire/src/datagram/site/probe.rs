//! The probe: finds out whether packets of a stream's real size reach a receiver on a multicast channel.
//!
//! ```text
//! off len field
//! 40   8  flow      whose channel is probed
//! 48   4  train     counts the sender's trains of probes
//! 52   2  sequence  place in its train, from 0
//! 54   2  count     how many the train has
//! 56   1  slot      0: channel A of the flow, 1: channel B
//! 57   -  padding   zero, up to the size of the stream's full packets less the MAC; ignored
//! ```
//!
//! Small packets pass where large ones do not, so a probe is the one site datagram that exceeds 250 bytes: it is
//! exactly as large as a full packet of the stream. Not the verdict, nor the answer, which receivers give on their
//! links. Invariant: a probe that decodes has the size of a possible packet.
//!
//! Wire definition: docs/wire.md section 9.4

use super::layout::{MAC_BYTES, SITE_HEADER_BYTES, take};
use crate::id::FlowId;
use crate::units::PacketSize;

/// Do you hear packets of this size on this channel?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The flow whose channel is probed.
    pub flow: FlowId,
    /// Which train of probes.
    pub train: u32,
    /// Its place in the train, from 0.
    pub sequence: u16,
    /// How many the train has.
    pub count: u16,
    /// Which of the flow's two channels.
    pub slot: Slot,
    /// The size of the whole datagram.
    pub size: PacketSize,
}

/// Which of a flow's two multicast channels: they take turns, so that reports stay fresh where nobody asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// As it is written: 0 or 1.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The other way round; `None` for what no flow has.
    #[must_use]
    pub const fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::A),
            1 => Some(Self::B),
            _ => None,
        }
    }
}

impl Probe {
    pub(super) fn encode(&self, start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.flow.0.to_be_bytes());
        out.extend_from_slice(&self.train.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.push(self.slot.code());
        out.resize(start + self.size.bytes() - MAC_BYTES, 0);
    }

    pub(super) fn decode(unmarked: &[u8]) -> Option<Self> {
        let bytes = u16::try_from(unmarked.len() + MAC_BYTES).ok()?;
        let rest = &mut unmarked.get(SITE_HEADER_BYTES..)?;
        Some(Self {
            flow: FlowId(u64::from_be_bytes(take(rest)?)),
            train: u32::from_be_bytes(take(rest)?),
            sequence: u16::from_be_bytes(take(rest)?),
            count: u16::from_be_bytes(take(rest)?),
            slot: Slot::of_code(u8::from_be_bytes(take(rest)?))?,
            size: PacketSize::new(bytes)?,
        })
    }
}
