//! Tests of the directory.

use super::*;
use crate::access::{AccessCommand, PrincipalType, RoleAssignment, roles};
use crate::testing::*;
use crate::{Answer, Command, RefusalCode, State};
use types::{UnixMillis, limits};

mod meanwhile;

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA";

fn user(id: &str, name: &str) -> User {
    User {
        object_id: id.into(),
        name: name.into(),
        display_name: name.into(),
        password: Some(Secret(HASH.into())),
        password_expired: false,
        enabled: true,
        created: UnixMillis(0),
        external: None,
        failures: 0,
        locked_until: None,
        last_sign_in: None,
    }
}

fn session(id: &str, of: &str, refresh: &str) -> Session {
    Session {
        id: id.into(),
        user: of.into(),
        client_id: "castling-cli".into(),
        groups: Vec::new(),
        created: UnixMillis(10),
        last_used: UnixMillis(10),
        expires: UnixMillis(100_000),
        address: None,
        refresh: Secret(refresh.into()),
        refresh_before: None,
    }
}

fn ask(state: &mut State, at: i64, command: DirectoryCommand) -> Answer {
    state.apply(&request("", at, Command::Directory(command)))
}

fn put(state: &mut State, user: User) -> Answer {
    let expected = state.directory.users.get(&user.object_id).cloned();
    put_over(state, user, expected)
}

fn put_over(state: &mut State, user: User, expected: Option<User>) -> Answer {
    let command = DirectoryCommand::PutUser {
        user: Box::new(user),
        expected: expected.map(Box::new),
    };
    ask(state, 10, command)
}

/// With the users `ann` (u1) and `bob` (u2).
fn people() -> State {
    let mut state = deployed();
    for (id, name) in [("u1", "ann@x"), ("u2", "bob@x")] {
        let answer = put(&mut state, user(id, name));
        assert!(
            matches!(answer, Answer::Directory(DirectoryAnswer::User(_))),
            "{answer:?}"
        );
    }
    state
}

fn found(answer: Answer) -> User {
    match answer {
        Answer::Directory(DirectoryAnswer::User(user)) => *user,
        other => panic!("{other:?}"),
    }
}

fn corp() -> IdentityProvider {
    IdentityProvider {
        name: "corp".into(),
        display_name: "Corp".into(),
        issuer: "https://login.example".into(),
        client_id: "castling".into(),
        client_secret: None,
        scopes: vec!["openid".into()],
        name_claim: "email".into(),
        groups_claim: Some("groups".into()),
        ca: None,
        enabled: true,
    }
}

fn put_provider(state: &mut State, provider: IdentityProvider) -> Answer {
    let command = DirectoryCommand::PutProvider {
        expected: state.directory.providers.get("corp").cloned().map(Box::new),
        provider: Box::new(provider),
    };
    ask(state, 10, command)
}

#[test]
fn a_deployment_makes_its_principals_applications_and_owners() {
    let state = deployed();
    let app = state.directory.application("APP").unwrap();
    assert_eq!(
        (app.object_id.as_str(), app.secrets[0].salt.as_str()),
        ("object", "salt")
    );
    assert!(app.can_sign_in(UnixMillis(5)));
    let owner = state.access.assignments.values().next().unwrap();
    assert_eq!(
        (
            owner.role.as_str(),
            owner.scope.as_str(),
            owner.principal.as_str()
        ),
        (roles::OWNER, "/", "object")
    );
    assert!(crate::access::is_guid(&owner.name));
}

#[test]
fn the_administrator_is_made_once() {
    let mut state = State::default();
    let Command::Deploy {
        mut deployment,
        subscriptions,
    } = deploy()
    else {
        unreachable!()
    };
    let mut lay = |state: &mut State, id: &str| {
        deployment.administrator = Some(crate::model::Administrator {
            object_id: id.into(),
            name: "admin@castling.localhost".into(),
            password: Secret(HASH.into()),
        });
        let command = Command::Deploy {
            deployment: deployment.clone(),
            subscriptions: subscriptions.clone(),
        };
        assert_eq!(state.apply(&request("", 5, command)), Answer::Done);
    };
    lay(&mut state, "admin-1");
    lay(&mut state, "admin-2");
    assert_eq!(
        state.directory.users.keys().collect::<Vec<_>>(),
        ["admin-1"]
    );
    assert_eq!(state.access.assignments.len(), 2);
    assert!(
        !serde_json::to_string(&state.deployment)
            .unwrap()
            .contains("argon2")
    );
}

#[test]
fn a_principal_that_was_deleted_does_not_come_back_with_the_next_start() {
    let mut state = people();
    give_owner(&mut state, "u1");
    let gone = DirectoryCommand::DeleteApplication {
        client_id: "app".into(),
    };
    assert_eq!(ask(&mut state, 11, gone), Answer::Done);
    state.apply(&request("", 12, deploy()));
    assert!(state.directory.application("app").is_none());
    assert!(
        state
            .access
            .assignments
            .values()
            .all(|one| one.principal == "u1")
    );
}

#[test]
fn a_state_from_before_there_was_a_directory_gets_its_principals() {
    let mut state = State::restore(include_bytes!("../../tests/fixtures/state-1.json")).unwrap();
    assert!(state.directory.applications.is_empty());
    state.apply(&request("", 99_000, deploy()));
    assert!(state.directory.application("app").is_some());
    assert_eq!(state.access.assignments.len(), 1);
}

fn give_owner(state: &mut State, principal: &str) {
    let assignment = RoleAssignment {
        name: "11111111-2222-3333-4444-555555555555".into(),
        scope: "/".into(),
        role: roles::OWNER.into(),
        principal: principal.into(),
        principal_type: PrincipalType::User,
        description: None,
        created: UnixMillis(0),
        by: String::new(),
    };
    let answer = state.apply(&request(
        "",
        10,
        Command::Access(AccessCommand::Assign(Box::new(assignment))),
    ));
    assert!(matches!(answer, Answer::Access(_)), "{answer:?}");
}

#[test]
fn every_mistake_of_a_user_is_named() {
    let mut state = deployed();
    let mut wrong = user("u 1", "has space");
    wrong.display_name.clear();
    wrong.password = Some(Secret("hunter2".into()));
    let answer = put(&mut state, wrong);
    for what in ["objectId", "name", "displayName", "argon2id"] {
        check_refused(&answer, RefusalCode::DirectoryObjectInvalid, what);
    }
    assert!(
        !serde_json::to_string(&state.activity)
            .unwrap()
            .contains("hunter2")
    );
}

#[test]
fn names_and_ids_belong_to_one_principal_only() {
    let mut state = people();
    for (id, name) in [
        ("u3", "ANN@x"),
        ("U1", "new"),
        ("object", "new"),
        ("u3", "App"),
    ] {
        let answer = put(&mut state, user(id, name));
        check_refused(&answer, RefusalCode::DirectoryObjectExists, "in use");
    }
    check_refused(
        &put(&mut state, user("u1", "other")),
        RefusalCode::DirectoryObjectInvalid,
        "never changed",
    );
}

#[test]
fn five_wrong_passwords_lock_and_time_or_an_administrator_unlocks() {
    let mut state = people();
    let fail = |state: &mut State, at| {
        ask(
            state,
            at,
            DirectoryCommand::SignInFailed {
                object_id: "u1".into(),
            },
        )
    };
    let sign_in = |state: &mut State, at| {
        ask(
            state,
            at,
            DirectoryCommand::SignedIn {
                object_id: "u1".into(),
            },
        )
    };
    for n in 1..=limits::SIGN_IN_FAILURES_MAX {
        let user = found(fail(&mut state, 100));
        assert_eq!(
            user.locked_until.is_some(),
            n == limits::SIGN_IN_FAILURES_MAX
        );
    }
    let entry = state.activity.last().unwrap();
    assert!(
        entry.result.contains("WrongPassword") && entry.result.contains("locked now"),
        "{}",
        entry.result
    );
    assert_eq!(entry.resource, "/providers/Castling.Identity/users/ann@x");
    check_refused(
        &sign_in(&mut state, 101),
        RefusalCode::UserLocked,
        "locked until",
    );
    check_refused(&fail(&mut state, 101), RefusalCode::UserLocked, "ann@x");
    let over = 100 + limits::SIGN_IN_LOCK_MS;
    let mut later = state.clone();
    let back = found(sign_in(&mut later, over));
    assert_eq!(
        (back.failures, back.locked_until, back.last_sign_in),
        (0, None, Some(UnixMillis(over)))
    );
    found(ask(
        &mut state,
        102,
        DirectoryCommand::UnlockUser {
            object_id: "u1".into(),
        },
    ));
    assert_eq!(found(sign_in(&mut state, 103)).failures, 0);
    assert!(matches!(
        ask(
            &mut state,
            104,
            DirectoryCommand::SignedIn {
                object_id: "u9".into()
            }
        ),
        Answer::Refused(_)
    ));
}

#[test]
fn a_refresh_token_changes_with_each_use_and_one_used_twice_ends_the_session() {
    let mut state = people();
    let put = DirectoryCommand::PutSession(Box::new(session("s1", "u1", "r1")));
    assert!(matches!(ask(&mut state, 10, put), Answer::Directory(_)));
    let renew = |state: &mut State, at, given: &str, next: &str| {
        let command = DirectoryCommand::RenewSession {
            given: Secret(given.into()),
            next: Secret(next.into()),
            until: UnixMillis(200_000),
        };
        ask(state, at, command)
    };
    let before = state.activity.len();
    let Answer::Directory(DirectoryAnswer::Session(renewed)) = renew(&mut state, 20, "r1", "r2")
    else {
        panic!()
    };
    assert_eq!(
        (renewed.last_used, renewed.expires),
        (UnixMillis(20), UnixMillis(200_000))
    );
    check_refused(
        &renew(&mut state, 21, "guess", "r3"),
        RefusalCode::GrantInvalid,
        "not known",
    );
    assert_eq!(state.activity.len(), before, "guesses do not fill the log");
    check_refused(
        &renew(&mut state, 22, "r1", "r4"),
        RefusalCode::GrantInvalid,
        "used before",
    );
    assert!(state.directory.sessions.is_empty());
    assert_eq!(state.activity.len(), before + 1);
    check_refused(
        &renew(&mut state, 23, "r2", "r5"),
        RefusalCode::GrantInvalid,
        "",
    );
}

#[test]
fn sessions_of_one_user_are_bounded_and_expire() {
    let mut state = people();
    for n in 0..limits::SESSIONS_PER_USER_MAX + 3 {
        let mut one = session(&format!("s{n}"), "u1", &format!("r{n}"));
        one.last_used = UnixMillis(10 + n as i64);
        ask(&mut state, 50, DirectoryCommand::PutSession(Box::new(one)));
    }
    assert_eq!(
        state.directory.sessions.len(),
        limits::SESSIONS_PER_USER_MAX
    );
    assert!(
        !state.directory.sessions.contains_key("s2") && state.directory.sessions.contains_key("s3")
    );
    let mut late = session("late", "u2", "r");
    late.expires = UnixMillis(300_000);
    ask(
        &mut state,
        100_001,
        DirectoryCommand::PutSession(Box::new(late)),
    );
    assert_eq!(
        state.directory.sessions.keys().collect::<Vec<_>>(),
        ["late"]
    );
    let orphan = DirectoryCommand::PutSession(Box::new(session("x", "nobody", "r")));
    check_refused(
        &ask(&mut state, 1, orphan),
        RefusalCode::DirectoryObjectNotFound,
        "nobody",
    );
}

#[test]
fn what_a_user_had_goes_with_it() {
    let mut state = people();
    give_owner(&mut state, "u1");
    ask(
        &mut state,
        10,
        DirectoryCommand::PutSession(Box::new(session("s1", "u1", "r1"))),
    );
    ask(
        &mut state,
        10,
        DirectoryCommand::PutSession(Box::new(session("s2", "u2", "r2"))),
    );
    let gone = DirectoryCommand::DeleteUser {
        object_id: "u1".into(),
    };
    assert_eq!(ask(&mut state, 11, gone.clone()), Answer::Done);
    assert_eq!(state.directory.sessions.keys().collect::<Vec<_>>(), ["s2"]);
    assert!(
        state
            .access
            .assignments
            .values()
            .all(|one| one.principal != "u1")
    );
    assert_eq!(ask(&mut state, 12, gone), Answer::Absent);
}

#[test]
fn a_new_password_or_a_disabled_user_ends_sessions() {
    let mut state = people();
    for n in ["s1", "s2"] {
        ask(
            &mut state,
            10,
            DirectoryCommand::PutSession(Box::new(session(n, "u1", n))),
        );
    }
    let set = DirectoryCommand::SetPassword {
        object_id: "u1".into(),
        password: Secret(format!("{HASH}2")),
        expired: false,
        keep: Some("s1".into()),
    };
    found(ask(&mut state, 11, set));
    assert_eq!(state.directory.sessions.keys().collect::<Vec<_>>(), ["s1"]);
    let mut off = state.directory.users["u1"].clone();
    off.enabled = false;
    found(put(&mut state, off));
    assert!(state.directory.sessions.is_empty());
    let again = DirectoryCommand::PutSession(Box::new(session("s3", "u1", "r")));
    check_refused(
        &ask(&mut state, 12, again),
        RefusalCode::DirectoryObjectInvalid,
        "disabled",
    );
}

#[test]
fn the_last_owner_can_neither_go_nor_be_locked_out() {
    let mut state = deployed();
    let gone = DirectoryCommand::DeleteApplication {
        client_id: "app".into(),
    };
    check_refused(
        &ask(&mut state, 10, gone.clone()),
        RefusalCode::RoleAssignmentInvalid,
        "last Owner",
    );
    for change in [
        |app: &mut Application| app.enabled = false,
        |app: &mut Application| app.secrets.clear(),
    ] {
        let mut app = state.directory.application("app").unwrap().clone();
        change(&mut app);
        let put_app = DirectoryCommand::PutApplication {
            expected: state.directory.application("app").cloned().map(Box::new),
            application: Box::new(app),
        };
        let answer = ask(&mut state, 10, put_app);
        check_refused(&answer, RefusalCode::RoleAssignmentInvalid, "last Owner");
    }
    let name = state.access.assignments.keys().next().unwrap().clone();
    let unassign = Command::Access(AccessCommand::Unassign { name });
    check_refused(
        &state.apply(&request("", 10, unassign.clone())),
        RefusalCode::RoleAssignmentInvalid,
        "last Owner",
    );
    put(&mut state, user("u1", "ann@x"));
    give_owner(&mut state, "u1");
    assert_eq!(state.apply(&request("", 11, unassign)), Answer::Done);
    assert_eq!(ask(&mut state, 12, gone), Answer::Done);
    let last = DirectoryCommand::DeleteUser {
        object_id: "u1".into(),
    };
    check_refused(
        &ask(&mut state, 13, last),
        RefusalCode::RoleAssignmentInvalid,
        "last Owner",
    );
}

#[test]
fn a_code_is_good_once_and_for_a_while() {
    let mut state = people();
    let code = AuthorizationCode {
        user: "u1".into(),
        client_id: "castling-cli".into(),
        redirect_uri: "http://localhost:1".into(),
        challenge: None,
        scope: "openid".into(),
        nonce: None,
        groups: Vec::new(),
        expires: UnixMillis(1_000),
        address: None,
    };
    let put = |state: &mut State, hash: &str| {
        ask(
            state,
            10,
            DirectoryCommand::PutCode {
                hash: hash.into(),
                code: code.clone(),
            },
        )
    };
    let take = |state: &mut State, at, hash: &str| {
        ask(state, at, DirectoryCommand::TakeCode { hash: hash.into() })
    };
    assert_eq!(put(&mut state, "aa"), Answer::Done);
    assert_eq!(put(&mut state, "bb"), Answer::Done);
    check_refused(
        &put(&mut state, "aa"),
        RefusalCode::DirectoryObjectExists,
        "",
    );
    assert!(matches!(
        take(&mut state, 11, "aa"),
        Answer::Directory(DirectoryAnswer::Code(_))
    ));
    check_refused(&take(&mut state, 12, "aa"), RefusalCode::GrantInvalid, "");
    check_refused(
        &take(&mut state, 1_000, "bb"),
        RefusalCode::GrantInvalid,
        "",
    );
}

#[test]
fn a_device_code_waits_for_a_person_and_is_redeemed_once() {
    let mut state = people();
    let put = |state: &mut State, hash: &str, user_code: &str| {
        let code = DeviceCode {
            user_code: user_code.into(),
            client_id: "castling-cli".into(),
            scope: String::new(),
            expires: UnixMillis(1_000),
            standing: DeviceCodeStanding::Pending,
        };
        ask(
            state,
            10,
            DirectoryCommand::PutDeviceCode {
                hash: hash.into(),
                code,
            },
        )
    };
    let take = |state: &mut State| {
        ask(
            state,
            11,
            DirectoryCommand::TakeDeviceCode { hash: "aa".into() },
        )
    };
    let decide = |state: &mut State| {
        let standing = DeviceCodeStanding::Approved {
            user: "u1".into(),
            groups: Vec::new(),
        };
        ask(
            state,
            12,
            DirectoryCommand::DecideDeviceCode {
                user_code: "bcdfghjk".into(),
                standing,
            },
        )
    };
    assert_eq!(put(&mut state, "aa", "BCDF-GHJK"), Answer::Done);
    check_refused(
        &put(&mut state, "bb", "bcdf-ghjk"),
        RefusalCode::DirectoryObjectExists,
        "",
    );
    for _ in 0..2 {
        let Answer::Directory(DirectoryAnswer::DeviceCode(code)) = take(&mut state) else {
            panic!()
        };
        assert_eq!(code.standing, DeviceCodeStanding::Pending);
    }
    assert!(matches!(decide(&mut state), Answer::Directory(_)));
    check_refused(&decide(&mut state), RefusalCode::GrantInvalid, "");
    let Answer::Directory(DirectoryAnswer::DeviceCode(code)) = take(&mut state) else {
        panic!()
    };
    assert!(matches!(code.standing, DeviceCodeStanding::Approved { user, .. } if user == "u1"));
    check_refused(&take(&mut state), RefusalCode::GrantInvalid, "");
}

#[test]
fn device_codes_in_use_are_bounded_and_stay() {
    let mut state = deployed();
    let put = |state: &mut State, at, n: usize| {
        let code = DeviceCode {
            user_code: format!("C{n}"),
            client_id: "c".into(),
            scope: String::new(),
            expires: UnixMillis(at + 1_000),
            standing: DeviceCodeStanding::Pending,
        };
        ask(
            state,
            at,
            DirectoryCommand::PutDeviceCode {
                hash: format!("{n:x}"),
                code,
            },
        )
    };
    for n in 0..limits::DEVICE_CODES_MAX {
        assert_eq!(put(&mut state, 10, n), Answer::Done);
    }
    check_refused(
        &put(&mut state, 10, 999_999),
        RefusalCode::QuotaExceeded,
        "device codes",
    );
    assert_eq!(put(&mut state, 1_010, 999_999), Answer::Done);
    assert_eq!(state.directory.device_codes.len(), 1);
}

#[test]
fn providers_are_checked_and_who_came_in_by_one_goes_out_with_it() {
    let mut state = people();
    let provider = corp();
    for issuer in [
        "http://login.example",
        "ftp://x",
        "http://localhost.evil.example",
    ] {
        let wrong = IdentityProvider {
            issuer: issuer.into(),
            ..provider.clone()
        };
        check_refused(
            &put_provider(&mut state, wrong),
            RefusalCode::DirectoryObjectInvalid,
            "issuer",
        );
    }
    let local = IdentityProvider {
        issuer: "http://127.0.0.1:9000/x".into(),
        ..provider.clone()
    };
    assert!(matches!(
        put_provider(&mut state, local),
        Answer::Directory(_)
    ));
    let mut guest = user("u3", "guest@corp");
    (guest.password, guest.external) = (None, Some(("corp".into(), "subject".into())));
    found(put(&mut state, guest));
    let mut twin = user("u4", "other@corp");
    twin.external = Some(("corp".into(), "subject".into()));
    check_refused(
        &put(&mut state, twin),
        RefusalCode::DirectoryObjectInvalid,
        "another user",
    );
    ask(
        &mut state,
        10,
        DirectoryCommand::PutSession(Box::new(session("s", "u3", "r"))),
    );
    assert_eq!(
        ask(
            &mut state,
            11,
            DirectoryCommand::DeleteProvider {
                name: "Corp".into()
            }
        ),
        Answer::Done
    );
    assert!(state.directory.sessions.is_empty());
}

#[test]
fn old_signing_keys_go_and_a_key_is_added_once() {
    let mut state = deployed();
    let add = |state: &mut State, kid: &str, at: i64| {
        let key = SigningKey {
            kid: kid.into(),
            pkcs8: Secret("secret-key".into()),
            n: "n".into(),
            e: "AQAB".into(),
            made: UnixMillis(at + 999_999),
        };
        ask(state, at, DirectoryCommand::AddKey(key))
    };
    for (kid, periods) in [("a", 0), ("a", 0), ("b", 1), ("c", 2), ("d", 3)] {
        let at = 10 + periods * (limits::SIGNING_KEY_ROTATE_MS + 1);
        assert_eq!(add(&mut state, kid, at), Answer::Done);
        assert!(state.directory.keys.last().unwrap().made.0 <= at);
    }
    let kids: Vec<_> = state
        .directory
        .keys
        .iter()
        .map(|key| key.kid.as_str())
        .collect();
    assert_eq!(kids, ["c", "d"]);
    assert!(!format!("{state:?}").contains("secret-key"));
}

#[test]
fn no_secret_stands_in_the_activity_log() {
    let mut state = people();
    ask(
        &mut state,
        10,
        DirectoryCommand::PutSession(Box::new(session("s1", "u1", "topsecret"))),
    );
    let set = DirectoryCommand::SetPassword {
        object_id: "u1".into(),
        password: Secret(format!("{HASH}x")),
        expired: false,
        keep: None,
    };
    ask(&mut state, 11, set);
    let log = serde_json::to_string(&state.activity).unwrap();
    assert!(log.contains("Castling.Identity/users/setPassword/action"));
    assert!(!log.contains("argon2") && !log.contains("topsecret"));
    assert_eq!(State::restore(&state.snapshot()).unwrap(), state);
}
