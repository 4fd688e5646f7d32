//! Packs numbers into link datagrams: a first one and a bitmap of those after it.
//!
//! Not a choice of what to say: callers give the numbers. Called by `repair` for each message that lists numbers.
//! Invariant: what is unpacked from the messages is what was packed, and no message is longer than the wire allows.

use levada_wire::datagram::link::Numbers;
use levada_wire::{FlowId, Number};

use crate::limits::NUMBERS_PER_DATAGRAM;

/// Messages that name the numbers, which are in order.
pub(crate) fn pack(flow: FlowId, numbers: &[Number]) -> Vec<Numbers> {
    let mut packed: Vec<Numbers> = Vec::new();
    for &number in numbers {
        let fits = packed.last_mut().is_some_and(|last| add(last, number));
        if !fits {
            packed.push(Numbers {
                flow,
                first: number,
                bitmap: Vec::new(),
            });
        }
    }
    packed
}

/// Whether one datagram can name both.
pub(crate) const fn fit_together(first: Number, number: Number) -> bool {
    number.since(first) < NUMBERS_PER_DATAGRAM
}

fn add(numbers: &mut Numbers, number: Number) -> bool {
    if !fit_together(numbers.first, number) {
        return false;
    }
    let Some(bit) = number.since(numbers.first).checked_sub(1) else {
        return true; // it is the first itself
    };
    let byte = usize::try_from(bit / 8).expect("a bitmap has 32 bytes");
    if numbers.bitmap.len() <= byte {
        numbers.bitmap.resize(byte + 1, 0);
    }
    numbers.bitmap[byte] |= 0x80 >> (bit % 8);
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::collections::BTreeSet;

    use levada_wire::datagram::link::BITMAP_BYTES_MAX;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(values in prop::collection::btree_set(0..3_000_u64, 0..200)) {
            let numbers: Vec<Number> = values.iter().map(|&value| Number::new(value).unwrap()).collect();

            let packed = pack(FlowId(7), &numbers);

            let unpacked: BTreeSet<u64> = packed.iter().flat_map(|n| n.iter().map(Number::value)).collect();
            prop_assert_eq!(unpacked, values);
            prop_assert!(packed.iter().all(|n| n.bitmap.len() <= BITMAP_BYTES_MAX && n.flow == FlowId(7)));
        }
    }

    #[test]
    fn a_datagram_names_257_packets_in_a_row_and_no_more() {
        let numbers: Vec<Number> = (0..258).map(|value| Number::new(value).unwrap()).collect();

        let packed = pack(FlowId(1), &numbers);

        assert_eq!(packed[0].iter().count() as u64, NUMBERS_PER_DATAGRAM);
        assert_eq!((packed.len(), packed[1].first.value()), (2, 257));
        assert_eq!(packed[0].bitmap.len(), BITMAP_BYTES_MAX);
    }
}
