//! The invite: one string that lets a newcomer into a network.
//!
//! ```text
//! levada1 | base32, lower case, no padding, of:
//!           CBOR map { 0: root key, 1: addresses, 2: join secret } | 4 bytes checksum
//! ```
//!
//! It names the root key, so that the newcomer knows whom to trust; addresses of nodes that may answer; and a secret
//! that is good for one first ticket. Whoever has the string may join: it is handed over like a password. Not the
//! joining itself. Called by `cli` (`net invite`, `--join`).
//! Invariant: the join secret leaves an invite only through [`Invite::to_text`] and [`Invite::secret`].
//!
//! Wire definition: docs/wire.md section 10.4

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::id::{NetworkId, NodeId};
use crate::key::JoinSecret;

/// What an invite's text starts with; a later form starts otherwise.
pub const PREFIX: &str = "levada1";
/// The most addresses of an invite.
pub const ADDRESSES_MAX: usize = 8;
/// The longest address, in bytes: a host name of 253, a colon, a port.
pub const ADDRESS_BYTES_MAX: usize = 259;
/// The longest invite, in characters.
pub const INVITE_CHARS_MAX: usize = 4_096;

const CHECKSUM_BYTES: usize = 4;
/// RFC 4648 section 6, in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Where a node may be: `host:port`, `192.0.2.1:7800`, `[2001:db8::1]:7800`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Box<str>);

impl Address {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let refused = || InviteError::Address {
            text: text.chars().take(64).collect(),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_host = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
                !host.is_empty() && host.chars().all(letters)
            }
        };
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        if !is_host || !is_port || text.len() > ADDRESS_BYTES_MAX {
            return Err(refused());
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a newcomer needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    root: NodeId,
    addresses: Vec<Address>,
    secret: JoinSecret,
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Invite");
        shown.field("network", &self.network());
        shown.field("addresses", &self.addresses);
        shown.finish_non_exhaustive()
    }
}

/// The form in CBOR.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Form {
    #[n(0)]
    root: NodeId,
    #[n(1)]
    addresses: Vec<String>,
    #[cbor(n(2), with = "minicbor::bytes")]
    secret: [u8; 16],
}

impl Invite {
    /// An invite into the network of `root`.
    ///
    /// # Errors
    ///
    /// If there is no address, or more than [`ADDRESSES_MAX`].
    pub fn new(
        root: NodeId,
        addresses: Vec<Address>,
        secret: JoinSecret,
    ) -> Result<Self, InviteError> {
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(InviteError::AddressCount {
                addresses: addresses.len(),
            });
        }
        Ok(Self {
            root,
            addresses,
            secret,
        })
    }

    /// The network it leads into.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        NetworkId::of_root(&self.root)
    }

    /// The network's root key.
    #[must_use]
    pub const fn root(&self) -> &NodeId {
        &self.root
    }

    /// Nodes that may answer.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What is shown to get the first ticket.
    #[must_use]
    pub const fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// The string to hand over. It contains the join secret, which is why this is not a `Display`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let form = Form {
            root: self.root,
            addresses: self.addresses.iter().map(Address::to_string).collect(),
            secret: *self.secret.bytes(),
        };
        let mut bytes = minicbor::to_vec(form).expect("writing to memory does not fail");
        bytes.extend_from_slice(&checksum(&bytes));
        format!("{PREFIX}{}", to_base32(&bytes))
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    /// Reads an invite; upper case and white space around it are forgiven.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        if text.len() > INVITE_CHARS_MAX {
            return Err(InviteError::Damaged);
        }
        let text = text.to_ascii_lowercase();
        let digits = text.strip_prefix(PREFIX).ok_or(InviteError::NoInvite)?;
        let bytes = from_base32(digits).ok_or(InviteError::Damaged)?;
        let (form, sum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(InviteError::Damaged)?;
        // spec: WIRE 10.4 an invite whose checksum is false MUST be refused
        if checksum(form) != *sum {
            return Err(InviteError::Damaged);
        }
        let form: Form = minicbor::decode(form).map_err(|_| InviteError::Damaged)?;
        let addresses: Result<_, _> = form.addresses.iter().map(|text| text.parse()).collect();
        Self::new(form.root, addresses?, JoinSecret::from_bytes(form.secret))
    }
}

/// Tells a typing error, nothing more: the first 4 bytes of SHA-256.
fn checksum(form: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = ring::digest::digest(&ring::digest::SHA256, form);
    let first = digest.as_ref().first_chunk().copied();
    first.expect("SHA-256 has 32 bytes")
}

fn to_base32(bytes: &[u8]) -> String {
    let digit = |chunk: &[u8], at: usize| {
        let mut bits = [0; 8];
        bits[3..3 + chunk.len()].copy_from_slice(chunk);
        let index = u64::from_be_bytes(bits) >> (35 - 5 * at) & 31;
        char::from(ALPHABET[usize::try_from(index).expect("five bits")])
    };
    bytes
        .chunks(5)
        .flat_map(|chunk| (0..(chunk.len() * 8).div_ceil(5)).map(move |at| digit(chunk, at)))
        .collect()
}

/// `None` if there is another character, or a bit set beyond the last whole byte: each value has one text.
fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(digit).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0 && held < 5).then_some(bytes)
}

/// Why a text is not an invite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// Does not start like one.
    #[error("an invite starts with `{PREFIX}`; get one with `levada net invite`")]
    NoInvite,
    /// Cut, or a character is wrong.
    #[error("the invite is damaged: a character is missing or wrong; copy the whole string again")]
    Damaged,
    /// An address in it, or for it, is none.
    #[error("{text:?} is not an address; write `host:port`, for example `relay.example.org:7800`")]
    Address {
        /// Its beginning.
        text: String,
    },
    /// None, or too many.
    #[error("an invite has 1 to {ADDRESSES_MAX} addresses, this one has {addresses}")]
    AddressCount {
        /// How many there are.
        addresses: usize,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    fn invite() -> Invite {
        let addresses = [
            "relay.example.org:7800",
            "192.0.2.1:7800",
            "[2001:db8::1]:7800",
        ];
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let secret = JoinSecret::from_bytes([0x41; 16]);
        Invite::new(NodeId([7; 32]), addresses, secret).unwrap()
    }

    proptest! {
        #[test]
        fn bytes_survive_base32(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(from_base32(&to_base32(&bytes)), Some(bytes));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(levada1)?[a-z2-7é]{0,80}") {
            prop_assert!(text.parse::<Invite>().is_err());
        }

        // spec: WIRE 10.4 an invite whose checksum is false MUST be refused
        #[test]
        fn a_wrong_or_missing_character_is_found(at: prop::sample::Index, letter in "[a-z2-7]") {
            let text = invite().to_text();
            let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
            prop_assume!(text[at..=at] != *letter);
            let (mut wrong, mut short) = (text.clone(), text);
            wrong.replace_range(at..=at, &letter);
            short.remove(at);

            prop_assert_eq!(wrong.parse::<Invite>(), Err(InviteError::Damaged));
            prop_assert_eq!(short.parse::<Invite>(), Err(InviteError::Damaged));
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        assert_eq!(to_base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(from_base32("mzxw6ytboj"), None);
    }

    #[test]
    fn an_invite_survives_its_text_and_a_shouting_mail_program() {
        let text = invite().to_text();
        let shouted = format!(" {}\n", text.to_ascii_uppercase());

        assert!(text.starts_with("levada1"));
        assert_eq!(text.parse(), Ok(invite()));
        assert_eq!(shouted.parse(), Ok(invite()));
    }

    #[test]
    fn an_invite_shows_its_network_and_not_its_secret() {
        let shown = format!("{:?}", invite());

        assert!(shown.contains(&invite().network().short()), "{shown}");
        assert!(!shown.contains("65") && !shown.contains("41") && !shown.contains("AAAA"));
    }

    #[test]
    fn what_is_no_invite_or_no_address_is_refused_with_its_reason() {
        assert_eq!("hello".parse::<Invite>(), Err(InviteError::NoInvite));
        for text in [
            "",
            "host",
            "host:0",
            "host:70000",
            ":7800",
            "a b:1",
            "[::1:7800",
            "[x]:1",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("host:port"), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_address_or_an_invite_that_is_too_long_is_refused() {
        let host = |bytes: usize| format!("{}:7800", "h".repeat(bytes - 5)).parse::<Address>();
        let long = format!("{PREFIX}{}", "a".repeat(INVITE_CHARS_MAX));
        let longest = host(ADDRESS_BYTES_MAX).unwrap();
        let full = vec![longest; ADDRESSES_MAX];
        let full = Invite::new(NodeId([7; 32]), full, JoinSecret::from_bytes([0; 16])).unwrap();

        assert!(host(ADDRESS_BYTES_MAX + 1).is_err());
        assert_eq!(full.to_text().parse(), Ok(full));
        assert_eq!(long.parse::<Invite>(), Err(InviteError::Damaged));
    }

    #[test]
    fn an_invite_has_one_to_eight_addresses() {
        let address: Address = "host:1".parse().unwrap();
        let invite = |count| {
            let secret = JoinSecret::from_bytes([0; 16]);
            Invite::new(NodeId([7; 32]), vec![address.clone(); count], secret)
        };

        assert!(invite(1).is_ok() && invite(ADDRESSES_MAX).is_ok());
        for addresses in [0, ADDRESSES_MAX + 1] {
            assert_eq!(
                invite(addresses),
                Err(InviteError::AddressCount { addresses })
            );
        }
    }
}
