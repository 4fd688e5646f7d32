//! Holds the table of limits in `docs/wire.md` to the constants of this crate.
//!
//! Not what happens at a limit: tests beside the code reach each one. Invariant: a row here, a row there, one value.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use levada_wire::announce::{LAYERS_MAX, SIGNED_BYTES_MAX};
use levada_wire::control::flow::COLLECTION_MAX;
use levada_wire::control::link::NODE_NAME_BYTES_MAX;
use levada_wire::control::route::HOPS_MAX;
use levada_wire::control::survey::{OVERVIEW_ROWS_MAX, SURVEY_PATH_MAX};
use levada_wire::control::{MESSAGE_BYTES_MAX, MESSAGE_HEADER_BYTES};
use levada_wire::datagram::link::{BITMAP_BYTES_MAX, LINK_DATAGRAM_BYTES_MAX, LINK_HEADER_BYTES};
use levada_wire::datagram::site::{MAC_BYTES, SITE_DATAGRAM_BYTES_MAX, SITE_HEADER_BYTES};
use levada_wire::frame::{CONFIG_BYTES_MAX, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, TRACKS_MAX};
use levada_wire::key::GENERATION_BITS;
use levada_wire::packet::parity::{BLOCK_PACKETS_MAX, BLOCK_SHARDS_MAX, PARITY_HEADER_BYTES};
use levada_wire::packet::{
    BURST_PACKETS_MAX, CARRY_BYTES, HEADER_BYTES, OVERHEAD_BYTES, PACKET_BYTES_MAX, SEAL_BYTES,
};
use levada_wire::ticket::chain::{CHAIN_MAX, CLOCK_SKEW, GRACE};
use levada_wire::ticket::invite::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, INVITE_CHARS_MAX};
use levada_wire::ticket::{GRANTS_MAX, LIFETIME, TICKET_BYTES_MAX};
use levada_wire::unknown::UNKNOWN_BYTES_MAX;
use levada_wire::{Number, PacketSize, RepairBudget, StreamName};

const DOCUMENT: &str = include_str!("../../../docs/wire.md");

/// The rows of section 12: constant and value.
fn documented() -> BTreeMap<String, String> {
    let section = DOCUMENT
        .split("\n## ")
        .find(|text| text.starts_with("12 Limits"));
    let rows = section
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())
    })
    .collect()
}

/// The constants themselves.
fn constants() -> BTreeMap<String, String> {
    let seconds = |limit: std::time::Duration| format!("{} s", limit.as_secs());
    let other = [
        ("PacketSize::MIN", PacketSize::MIN.bytes().to_string()),
        ("PacketSize::MAX", PacketSize::MAX.bytes().to_string()),
        (
            "RepairBudget::MAX",
            format!("{} ms", RepairBudget::MAX.time().as_millis()),
        ),
        ("Number::MAX", Number::MAX.value().to_string()),
        ("GENERATION_BITS", GENERATION_BITS.to_string()),
        ("LIFETIME", seconds(LIFETIME)),
        ("GRACE", seconds(GRACE)),
        ("CLOCK_SKEW", seconds(CLOCK_SKEW)),
    ];
    let sizes = [
        ("StreamName::BYTES_MAX", StreamName::BYTES_MAX),
        ("NODE_NAME_BYTES_MAX", NODE_NAME_BYTES_MAX),
        ("HEADER_BYTES", HEADER_BYTES),
        ("SEAL_BYTES", SEAL_BYTES),
        ("CARRY_BYTES", CARRY_BYTES),
        ("OVERHEAD_BYTES", OVERHEAD_BYTES),
        ("PACKET_BYTES_MAX", PACKET_BYTES_MAX),
        ("BURST_PACKETS_MAX", BURST_PACKETS_MAX),
        ("PARITY_HEADER_BYTES", PARITY_HEADER_BYTES),
        ("BLOCK_PACKETS_MAX", BLOCK_PACKETS_MAX),
        ("BLOCK_SHARDS_MAX", BLOCK_SHARDS_MAX),
        ("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES),
        ("FRAME_BYTES_MAX", FRAME_BYTES_MAX),
        ("TRACKS_MAX", TRACKS_MAX),
        ("CONFIG_BYTES_MAX", CONFIG_BYTES_MAX),
        ("SIGNED_BYTES_MAX", SIGNED_BYTES_MAX),
        ("LAYERS_MAX", LAYERS_MAX),
        ("UNKNOWN_BYTES_MAX", UNKNOWN_BYTES_MAX),
        ("MESSAGE_HEADER_BYTES", MESSAGE_HEADER_BYTES),
        ("MESSAGE_BYTES_MAX", MESSAGE_BYTES_MAX),
        ("HOPS_MAX", HOPS_MAX),
        ("COLLECTION_MAX", COLLECTION_MAX),
        ("SURVEY_PATH_MAX", SURVEY_PATH_MAX),
        ("OVERVIEW_ROWS_MAX", OVERVIEW_ROWS_MAX),
        ("LINK_HEADER_BYTES", LINK_HEADER_BYTES),
        ("LINK_DATAGRAM_BYTES_MAX", LINK_DATAGRAM_BYTES_MAX),
        ("BITMAP_BYTES_MAX", BITMAP_BYTES_MAX),
        ("SITE_HEADER_BYTES", SITE_HEADER_BYTES),
        ("MAC_BYTES", MAC_BYTES),
        ("SITE_DATAGRAM_BYTES_MAX", SITE_DATAGRAM_BYTES_MAX),
        ("TICKET_BYTES_MAX", TICKET_BYTES_MAX),
        ("GRANTS_MAX", GRANTS_MAX),
        ("CHAIN_MAX", CHAIN_MAX),
        ("ADDRESSES_MAX", ADDRESSES_MAX),
        ("ADDRESS_BYTES_MAX", ADDRESS_BYTES_MAX),
        ("INVITE_CHARS_MAX", INVITE_CHARS_MAX),
    ];
    let sizes = sizes.map(|(name, value)| (name, value.to_string()));
    let all = sizes.into_iter().chain(other);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

// spec: WIRE 12
#[test]
fn every_limit_in_the_document_is_that_of_the_code() {
    assert_eq!(documented(), constants());
}
