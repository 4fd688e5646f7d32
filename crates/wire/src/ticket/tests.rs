//! Tests of the tickets: what a chain allows, and each way in which it may allow nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::chain::CLOCK_SKEW;
use super::*;
use crate::time::WallTime;

const DAY: u64 = 24 * 3_600;
const START: u64 = 1_800_000_000;

fn root() -> Identity {
    Identity::from_secret(&[1; 32])
}

fn issuer() -> Identity {
    Identity::from_secret(&[2; 32])
}

fn holder() -> Identity {
    Identity::from_secret(&[3; 32])
}

fn name(text: &str) -> StreamName {
    text.parse().unwrap()
}

fn grant(action: Action, names: &str) -> Grant {
    Grant {
        action,
        names: names.parse().unwrap(),
    }
}

fn ticket(by: &Identity, subject: &Identity, grants: &[Grant]) -> Ticket {
    Ticket {
        network: NetworkId::of_root(&root().id()),
        issuer: by.id(),
        subject: subject.id(),
        serial: 7,
        not_before: START,
        not_after: START + 30 * DAY,
        grants: grants.to_vec(),
    }
}

fn signed(by: &Identity, subject: &Identity, grants: &[Grant]) -> SignedTicket {
    SignedTicket::sign(ticket(by, subject, grants), by)
}

/// The chain of a holder whose ticket was issued by a node that may issue and play below `sports`.
fn issued(grants: &[Grant]) -> Chain {
    let held = [
        grant(Action::Issue, "sports"),
        grant(Action::Play, "sports"),
    ];
    Chain::of_issuer(
        signed(&issuer(), &holder(), grants),
        signed(&root(), &issuer(), &held),
    )
}

fn verify_at(chain: &Chain, seconds: u64) -> Result<Rights, TicketError> {
    verify_without(chain, seconds, &BTreeSet::new())
}

fn verify_without(
    chain: &Chain,
    seconds: u64,
    revoked: &BTreeSet<u64>,
) -> Result<Rights, TicketError> {
    chain.verify(&Trust {
        root: &root().id(),
        holder: &holder().id(),
        now: WallTime(seconds * 1_000_000),
        revoked,
    })
}

fn verify(chain: &Chain) -> Result<Rights, TicketError> {
    verify_at(chain, START + DAY)
}

proptest! {
    #[test]
    fn no_bytes_make_a_chain_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(decode::<Chain>(&bytes).is_err());
    }
}

#[test]
fn a_chain_survives_its_bytes() {
    let of_root = Chain::of_root(signed(&root(), &holder(), &[grant(Action::Play, "")]));
    let of_issuer = issued(&[grant(Action::Play, "sports")]);

    for chain in [of_root, of_issuer] {
        let bytes = minicbor::to_vec(&chain).unwrap();
        assert_eq!(decode::<Chain>(&bytes).unwrap(), chain);
    }
}

#[test]
fn a_right_holds_for_its_action_and_whole_parts_of_names() {
    let grants = [grant(Action::Play, "sports"), grant(Action::Relay, "")];
    let rights = verify(&Chain::of_root(signed(&root(), &holder(), &grants))).unwrap();

    assert!(rights.allows(Action::Play, &name("sports")));
    assert!(rights.allows(Action::Play, &name("sports/final")));
    assert!(!rights.allows(Action::Play, &name("sportsbar")));
    assert!(!rights.allows(Action::Publish, &name("sports")));
    assert!(rights.allows_everywhere(Action::Relay));
    assert!(!rights.allows_everywhere(Action::Play));
}

// spec: WIRE 10.1 a ticket that its issuer did not sign MUST NOT be used
#[test]
fn a_ticket_changed_anywhere_does_not_decode() {
    let chain = Chain::of_root(signed(&root(), &holder(), &[grant(Action::Play, "sports")]));
    let bytes = minicbor::to_vec(chain).unwrap();

    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(decode::<Chain>(&changed).is_err(), "byte {at}");
    }
}

// spec: WIRE 10.1
#[test]
fn a_ticket_with_too_many_grants_or_bytes_does_not_decode() {
    let sign = |grants: Vec<Grant>| {
        let body = minicbor::to_vec(ticket(&root(), &holder(), &grants)).unwrap();
        let signature = root().sign(Purpose::Ticket, &body);
        let content = ticket(&root(), &holder(), &grants);
        minicbor::to_vec(SignedTicket {
            content,
            body,
            signature,
        })
        .unwrap()
    };
    let long = "x".repeat(StreamName::BYTES_MAX);

    let full = sign(vec![grant(Action::Play, ""); GRANTS_MAX]);
    let fuller = sign(vec![grant(Action::Play, ""); GRANTS_MAX + 1]);
    let longer = sign(vec![grant(Action::Play, &long); GRANTS_MAX]);

    assert!(decode::<SignedTicket>(&full).is_ok());
    assert!(decode::<SignedTicket>(&fuller).is_err());
    assert!(longer.len() > TICKET_BYTES_MAX && decode::<SignedTicket>(&longer).is_err());
}

// spec: WIRE 10.2 a ticket MUST be refused to any node but its subject
#[test]
fn a_stolen_ticket_is_of_no_use() {
    let chain = Chain::of_root(signed(&root(), &issuer(), &[grant(Action::Play, "")]));

    let refused = verify(&chain).unwrap_err();

    assert_eq!(
        refused,
        TicketError::NotYours {
            subject: issuer().id()
        }
    );
}

// spec: WIRE 10.2 a chain that does not end at the root key MUST be refused
#[test]
fn a_chain_must_end_at_the_root_without_a_break() {
    let play = [grant(Action::Play, "")];
    let self_made = Chain::of_root(signed(&holder(), &holder(), &play));
    let other_root = Chain::of_issuer(
        signed(&issuer(), &holder(), &play),
        signed(
            &issuer(),
            &issuer(),
            &[grant(Action::Issue, ""), grant(Action::Play, "")],
        ),
    );
    let broken = Chain::of_issuer(
        signed(&holder(), &holder(), &play),
        signed(
            &root(),
            &issuer(),
            &[grant(Action::Issue, ""), grant(Action::Play, "")],
        ),
    );

    for (chain, issuer) in [
        (self_made, holder()),
        (other_root, issuer()),
        (broken, holder()),
    ] {
        let issuer = issuer.id();
        assert_eq!(verify(&chain), Err(TicketError::UnknownIssuer { issuer }));
    }
}

// spec: WIRE 10.2 a ticket that grants more than its issuer holds, or the issue right, MUST be refused
#[test]
fn an_issuer_hands_on_only_what_it_holds() {
    let rights = verify(&issued(&[grant(Action::Play, "sports/final")])).unwrap();

    assert!(rights.allows(Action::Play, &name("sports/final")));
    for beyond in [
        grant(Action::Play, ""),
        grant(Action::Play, "news"),
        grant(Action::Publish, "sports"),
        grant(Action::Issue, "sports"),
        grant(Action::Admin, "sports"),
    ] {
        let refused = verify(&issued(&[grant(Action::Play, "sports"), beyond.clone()]));
        assert_eq!(refused, Err(TicketError::NotTheIssuers { grant: beyond }));
    }
}

// spec: WIRE 10.2
#[test]
fn who_may_play_but_not_issue_makes_no_tickets() {
    let play = [grant(Action::Play, "")];
    let chain = Chain::of_issuer(
        signed(&issuer(), &holder(), &play),
        signed(&root(), &issuer(), &play),
    );

    assert!(matches!(
        verify(&chain),
        Err(TicketError::NotTheIssuers { .. })
    ));
}

// spec: WIRE 10.2 a chain of more than two tickets MUST NOT decode
#[test]
fn a_chain_of_three_or_none_does_not_decode() {
    let link = signed(&root(), &holder(), &[]);
    let two = minicbor::to_vec([&link, &link]).unwrap();
    let three = minicbor::to_vec([&link, &link, &link]).unwrap();

    assert!(decode::<Chain>(&two).is_ok());
    assert!(decode::<Chain>(&three).is_err());
    assert!(decode::<Chain>(&[0x80]).is_err());
}

// spec: WIRE 10.2
#[test]
fn a_ticket_of_another_network_or_a_revoked_one_is_refused() {
    let elsewhere = NetworkId([9; 16]);
    let foreign = Ticket {
        network: elsewhere,
        ..ticket(&root(), &holder(), &[])
    };
    let foreign = Chain::of_root(SignedTicket::sign(foreign, &root()));
    let chain = issued(&[grant(Action::Play, "sports")]);

    assert_eq!(
        verify(&foreign),
        Err(TicketError::WrongNetwork { network: elsewhere })
    );
    let revoked = verify_without(&chain, START + DAY, &BTreeSet::from([7]));
    assert_eq!(revoked, Err(TicketError::Revoked { serial: 7 }));
}

// spec: WIRE 10.3 an expired ticket MUST be taken for 14 days more, and be shown as such
#[test]
fn an_expired_ticket_lives_14_days_on_grace() {
    let chain = Chain::of_root(signed(&root(), &holder(), &[]));
    let end = START + 30 * DAY;
    let grace_end = end + 14 * DAY;
    let standing = |seconds| verify_at(&chain, seconds).map(|rights| rights.standing());

    assert_eq!(
        standing(START - CLOCK_SKEW.as_secs() - 1),
        Err(TicketError::NotYet { not_before: START })
    );
    assert_eq!(
        standing(START - CLOCK_SKEW.as_secs()),
        Ok(Standing::Valid { until: end })
    );
    assert_eq!(standing(end - 1), Ok(Standing::Valid { until: end }));
    assert_eq!(standing(end), Ok(Standing::Grace { until: grace_end }));
    assert_eq!(
        standing(grace_end - 1),
        Ok(Standing::Grace { until: grace_end })
    );
    assert_eq!(
        standing(grace_end),
        Err(TicketError::Expired { not_after: end })
    );
}

// spec: WIRE 10.3
#[test]
fn a_chain_is_as_good_as_its_worst_ticket() {
    let short = Ticket {
        not_after: START + DAY,
        ..ticket(&root(), &issuer(), &[grant(Action::Issue, "")])
    };
    let chain = Chain::of_issuer(
        signed(&issuer(), &holder(), &[]),
        SignedTicket::sign(short, &root()),
    );
    let standing = |days| verify_at(&chain, START + days * DAY).map(|rights| rights.standing());

    assert_eq!(standing(0), Ok(Standing::Valid { until: START + DAY }));
    assert_eq!(
        standing(2),
        Ok(Standing::Grace {
            until: START + 15 * DAY
        })
    );
    assert_eq!(
        standing(15),
        Err(TicketError::Expired {
            not_after: START + DAY
        })
    );
}

// spec: WIRE 11
#[test]
fn an_action_from_the_future_decodes_and_allows_nothing() {
    let bytes = minicbor::to_vec(9_u8).unwrap();
    let action: Action = decode(&bytes).unwrap();
    let rights = verify(&Chain::of_root(signed(
        &root(),
        &holder(),
        &[grant(action, "")],
    )));

    assert_eq!(action, Action::Other);
    assert!(!rights.unwrap().allows(Action::Other, &name("cam")));
}
