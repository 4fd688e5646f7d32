//! Which lane a datagram belongs to, and the dividing of trains that hold datagrams of several.
//!
//! ```text
//! media, parity, link   bytes 4-7 (FlowId::steer) mod lanes: the lane that owns the flow; 0 for a link's own business
//! QUIC and the rest     nobody's: whoever received it handles it
//! ```
//!
//! The same rule as the kernel's program (`sys/reuseport.rs`), which looks at the first datagram of a train only: GRO
//! joins by addresses, so flows of several lanes, and QUIC, come in one train. Not the passing on: that is the
//! worker's. Called by [`crate::worker`] and [`crate::lanes`]. Invariant: what belongs to a lane stays in the order of
//! arrival.

use bytes::Bytes;
use levada_wire::FlowId;
use levada_wire::packet::Kind;

use crate::lanes::LANES_MAX;
use levada_lane::api::{Command, LinkCommand, Train};
use levada_lane::{RUN_PACKETS_MAX, SegmentMask};

/// The lane of a flow.
pub(crate) const fn lane_of(flow: FlowId, lanes: usize) -> usize {
    lane_of_steer(flow.steer(), lanes)
}

const fn lane_of_steer(steer: u32, lanes: usize) -> usize {
    steer as usize % lanes
}

/// Who takes a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    /// One lane.
    Lane(usize),
    /// All of them.
    All,
}

/// Who takes a command: the lane of its flow, or all lanes for what concerns a link.
pub(crate) fn taker(command: &Command, lanes: usize) -> Taker {
    match command {
        // A message is sent by the lane that its answer comes back to.
        Command::Link(_, LinkCommand::Send(message)) => {
            Taker::Lane(message.flow().map_or(0, |flow| lane_of(flow, lanes)))
        }
        Command::Link(..) => Taker::All,
        Command::Flow(flow, _) | Command::Publisher(flow, _) => Taker::Lane(lane_of(*flow, lanes)),
    }
}

/// The lane of a datagram; `None` if it is nobody's.
fn owner(datagram: &[u8], lanes: usize) -> Option<usize> {
    if !matches!(Kind::of(datagram), Kind::Media | Kind::Parity | Kind::Link) {
        return None;
    }
    let steer = datagram.get(4..8)?.try_into().ok()?;
    Some(lane_of_steer(u32::from_be_bytes(steer), lanes))
}

/// Divides a train into one part for each lane that has datagrams in it, in the order of arrival within each lane; what
/// is nobody's stays here. A part that lies together and is most of the train is a slice of it; others are copied
/// together, so that a burst stays one send and no small part holds a whole train.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What is not divided yet.
    rest: Train,
    /// What is, as many datagrams at a time as [`SegmentMask`] can tell apart, and where in it each lane's lie.
    divided: Train,
    places: [SegmentMask; LANES_MAX],
    lanes: usize,
    /// Who has received it.
    here: usize,
}

impl Parts {
    pub(crate) const fn new(train: Train, lanes: usize, here: usize) -> Self {
        Self {
            divided: Train {
                to: train.to,
                from: train.from,
                bytes: Bytes::new(),
                segment_bytes: train.segment_bytes,
            },
            rest: train,
            places: [SegmentMask::NONE; LANES_MAX],
            lanes,
            here,
        }
    }

    /// Divides the next datagrams; `false` if there are none.
    fn divide(&mut self) -> bool {
        let step = self.rest.segment_bytes.max(1);
        let most = self.rest.bytes.len().min(step * RUN_PACKETS_MAX);
        self.divided.bytes = self.rest.bytes.split_to(most);
        for (place, datagram) in self.divided.bytes.chunks(step).enumerate() {
            self.places[owner(datagram, self.lanes).unwrap_or(self.here)].add(place);
        }
        most > 0
    }
}

impl Iterator for Parts {
    type Item = (usize, Train);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(lane) = self.places.iter().position(|places| !places.is_empty()) {
                let places = std::mem::take(&mut self.places[lane]);
                let (range, all) = (places.range(&self.divided), self.divided.bytes.len());
                let bytes = if places.is_together() && 2 * range.len() > all {
                    self.divided.bytes.slice(range)
                } else {
                    let mut bytes = Vec::with_capacity(places.bytes(&self.divided));
                    places.copy(&self.divided, &mut bytes);
                    bytes.into()
                };
                let (from, segment_bytes) = (self.divided.from, self.divided.segment_bytes);
                let part = Train {
                    to: self.divided.to,
                    from,
                    bytes,
                    segment_bytes,
                };
                return Some((lane, part));
            }
            if !self.divide() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_lane::api::FlowCommand;
    use levada_wire::LinkIndex;
    use levada_wire::datagram::link::{LinkDatagram, Numbers, Ping};
    use levada_wire::key::LinkKey;
    use proptest::prelude::*;

    use super::*;
    use crate::testkit;

    const SEGMENT: usize = 20;

    /// A train with a datagram per mark: a lane of three, or `9` for QUIC; the last one is short.
    fn train(marks: &[u8]) -> Train {
        let mut bytes = Vec::new();
        for (at, &mark) in marks.iter().enumerate() {
            let mut datagram = [0; SEGMENT];
            datagram[0] = if mark == 9 { 0x40 } else { 0x04 };
            datagram[7] = mark;
            datagram[8] = u8::try_from(at).unwrap();
            bytes.extend_from_slice(&datagram);
        }
        bytes.truncate(bytes.len().saturating_sub(5));
        Train {
            to: None,
            from: testkit::address(1),
            bytes: Bytes::from(bytes),
            segment_bytes: SEGMENT,
        }
    }

    fn lengths(marks: &[u8], here: usize) -> Vec<(usize, usize)> {
        let parts = Parts::new(train(marks), 3, here);
        let row = |(lane, part): (usize, Train)| (lane, part.bytes.len().div_ceil(SEGMENT));
        parts.map(row).collect()
    }

    #[test]
    fn a_train_of_one_lane_stays_whole() {
        assert_eq!(lengths(&[2, 2, 9, 2], 2), [(2, 4)]);
        assert_eq!(lengths(&[9, 9], 1), [(1, 2)]);
    }

    #[test]
    fn each_lane_gets_its_part_of_a_mixed_train_in_one_piece() {
        let parts = lengths(&[1, 1, 9, 0, 2, 2, 2, 1], 0);

        assert_eq!(parts, [(0, 2), (1, 3), (2, 3)]);
    }

    #[test]
    fn a_command_goes_to_the_lane_of_its_flow_and_a_link_is_known_to_all() {
        let flow = FlowId(5 << 32 | 7);
        let link = LinkIndex(1);
        let numbers = Numbers {
            flow,
            first: levada_wire::Number::ZERO,
            bitmap: Vec::new(),
        };
        let ping = LinkDatagram::Ping(Ping {
            time: 0,
            sent: 0,
            padding: 0,
        });
        let send = |message| Command::Link(link, LinkCommand::Send(message));
        let key = LinkKey::from_bytes([0; 32]);
        let add = Command::Link(
            link,
            LinkCommand::Add {
                remote_index: link,
                remote: testkit::address(1),
                source: None,
                path: levada_wire::lane::Path::Wire,
                send: key.clone(),
                receive: key,
            },
        );

        assert_eq!(
            taker(&Command::Flow(flow, FlowCommand::Open), 3),
            Taker::Lane(2)
        );
        assert_eq!(taker(&send(LinkDatagram::Nack(numbers)), 3), Taker::Lane(2));
        assert_eq!(taker(&send(ping), 3), Taker::Lane(0));
        assert_eq!(taker(&add, 3), Taker::All);
        assert_eq!(
            taker(&Command::Link(link, LinkCommand::Remove), 3),
            Taker::All
        );
    }

    proptest! {
        #[test]
        fn each_datagram_comes_out_once_in_order_and_at_its_lane(
            marks in prop::collection::vec(prop_oneof![0u8..3, Just(9u8)], 0..150),
            here in 0usize..3,
        ) {
            let whole = train(&marks);
            let datagrams = || whole.bytes.chunks(SEGMENT);
            for lane in 0..3 {
                let is_of_lane = |datagram: &&[u8]| owner(datagram, 3).unwrap_or(here) == lane;
                let parts = Parts::new(whole.clone(), 3, here).filter(|part| part.0 == lane);
                let got: Vec<u8> = parts.flat_map(|(_, part)| part.bytes.to_vec()).collect();

                let wanted: Vec<u8> = datagrams().filter(is_of_lane).flatten().copied().collect();
                prop_assert_eq!(got, wanted);
            }
        }
    }
}
