//! Who may do what, and who may not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn right(role: Role, prefix: &str) -> Right {
    let prefix = prefix.to_owned();
    Right { role, prefix }
}

fn anna(digest: bool) -> User {
    let rights = vec![right(Role::Play, ""), right(Role::Publish, "sports/")];
    User::new("anna", "pa:ss", digest, rights).unwrap()
}

fn password(user: &str, password: &str) -> Proof {
    Proof::Password {
        user: user.into(),
        password: password.into(),
    }
}

async fn check(users: &Users, proof: Proof, role: Role, name: &str) -> Decision {
    users.check(proof, role, &name.parse().unwrap()).await
}

fn granted(name: &str) -> Decision {
    Decision::Granted(Some(name.to_owned()))
}

#[tokio::test]
async fn without_users_everybody_may() {
    let decision = check(&Users::default(), Proof::None, Role::Publish, "cam").await;

    assert_eq!(decision, Decision::Granted(None));
}

#[tokio::test(start_paused = true)]
async fn a_user_may_what_its_rights_say() {
    let users = Users::new(vec![anna(false)], vec![]).unwrap();
    let proof = || password("anna", "pa:ss");

    assert_eq!(
        check(&users, proof(), Role::Play, "cam").await,
        granted("anna")
    );
    assert_eq!(
        check(&users, proof(), Role::Publish, "sports/final").await,
        granted("anna")
    );
    assert_eq!(
        check(&users, proof(), Role::Publish, "cam").await,
        Decision::Forbidden
    );
    assert_eq!(users.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_proof_is_counted_and_answered_late() {
    let users = Users::new(vec![anna(true)], vec![]).unwrap();
    let before = tokio::time::Instant::now();

    for proof in [
        password("anna", "pass"),
        password("berta", "pa:ss"),
        Proof::Token("x".into()),
    ] {
        assert_eq!(
            check(&users, proof, Role::Play, "cam").await,
            Decision::Unproven
        );
    }

    assert_eq!(users.failures(), 3);
    assert!(before.elapsed() >= FAILURE_DELAY * 3);
    let nothing = check(&users, Proof::None, Role::Play, "cam").await;
    assert_eq!(nothing, Decision::Unproven);
    assert_eq!(users.failures(), 3, "no proof is no wrong proof");
}

#[tokio::test(start_paused = true)]
async fn a_digest_is_checked_against_the_right_hash() {
    let users = Users::new(vec![anna(true)], vec![]).unwrap();
    let proof = |hash: Hash, password: &str| Proof::Digest {
        user: "anna".into(),
        hash,
        response: hash.hex(&hash.hex(&format!("anna:{REALM}:{password}"))),
        expected: Arc::new(move |ha1| hash.hex(ha1)),
    };

    for hash in [Hash::Md5, Hash::Sha256] {
        assert_eq!(
            check(&users, proof(hash, "pa:ss"), Role::Play, "cam").await,
            granted("anna")
        );
        assert_eq!(
            check(&users, proof(hash, "pass"), Role::Play, "cam").await,
            Decision::Unproven
        );
    }
    assert!(users.has_digest());
    let mixed = Users::new(vec![anna(false)], vec![]).unwrap();
    assert!(!mixed.has_digest());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_alone_and_as_a_password() {
    let (token, secret) = Token::new("wall", vec![right(Role::Play, "lobby/")]).unwrap();
    let users = Users::new(vec![], vec![token]).unwrap();

    for proof in [Proof::Token(secret.clone()), password("anybody", &secret)] {
        assert_eq!(
            check(&users, proof, Role::Play, "lobby/cam").await,
            granted("wall")
        );
    }
    let other = check(&users, Proof::Token(secret), Role::Play, "cam").await;
    assert_eq!(other, Decision::Forbidden);
}

#[test]
fn a_file_of_users_is_checked() {
    let twice = Users::new(vec![anna(false), anna(false)], vec![]);
    let no_hash = Users::new(
        vec![User {
            password: "secret".into(),
            ..anna(false)
        }],
        vec![],
    );

    assert!(matches!(twice, Err(UsersError::Twice { .. })));
    assert!(matches!(no_hash, Err(UsersError::Hash { .. })));
    for name in ["", "a:b", "a\"b", "a\nb"] {
        assert!(User::new(name, "x", false, vec![]).is_err(), "{name:?}");
    }
    assert!(User::new("a", "", false, vec![]).is_err());
}

#[test]
fn no_secret_is_ever_formatted() {
    let (token, secret) = Token::new("wall", vec![]).unwrap();
    let user = anna(true);
    let ha1 = user.digest.clone().unwrap();
    let proof = password("anna", "pa:ss");
    let users = Users::new(vec![user.clone()], vec![token.clone()]).unwrap();

    let text = format!("{token:?} {user:?} {ha1:?} {proof:?} {users:?}");

    for part in [
        &*secret,
        &token.hash,
        &user.password,
        &ha1.md5,
        &ha1.sha256,
        "pa:ss",
    ] {
        assert!(!text.contains(part), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn others_take_over_while_the_handle_stays_the_same() {
    let users = Users::new(vec![anna(false)], vec![]).unwrap();
    let handle = users.clone();
    let renewed = User::new("anna", "other", false, vec![right(Role::Play, "")]).unwrap();
    let same = anna(false);

    let void = users.replace(
        vec![
            renewed.clone(),
            User {
                name: "berta".into(),
                ..same
            },
        ],
        vec![],
    );

    assert_eq!(void.unwrap().into_iter().collect::<Vec<_>>(), ["anna"]);
    let with = |text: &str| password("anna", text);
    assert_eq!(
        check(&handle, with("other"), Role::Play, "cam").await,
        granted("anna")
    );
    assert_eq!(
        check(&handle, with("pa:ss"), Role::Play, "cam").await,
        Decision::Unproven
    );
    assert!(handle.may(Some("anna"), Role::Play, "cam"));
    assert!(!handle.may(Some("anna"), Role::Publish, "sports/final"));
    assert!(!handle.may(None, Role::Play, "cam") && !handle.may(Some("carl"), Role::Play, "cam"));
    assert_eq!(
        handle.replace(vec![renewed.clone()], vec![]).unwrap().len(),
        1
    );
    assert!(
        handle
            .replace(vec![renewed.clone(), renewed], vec![])
            .is_err()
    );
    assert!(!handle.is_open(), "what cannot be changes nothing");
}

#[test]
fn a_user_and_a_token_have_two_names() {
    let (token, _) = Token::new("anna", vec![]).unwrap();

    let twice = Users::new(vec![anna(false)], vec![token]);

    assert!(matches!(twice, Err(UsersError::Twice { .. })));
}
