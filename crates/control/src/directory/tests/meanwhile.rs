//! Writes over what changed meanwhile, providers that come and go, and how long external sign-ins last.

use super::*;

#[test]
fn what_changed_meanwhile_is_not_written_over() {
    let mut state = people();
    let read = state.directory.users["u1"].clone();
    let fail = DirectoryCommand::SignInFailed {
        object_id: "u1".into(),
    };
    found(ask(&mut state, 10, fail));
    let mut renamed = read.clone();
    (renamed.display_name, renamed.password) = ("Ann".into(), None);
    let after = found(put_over(&mut state, renamed.clone(), Some(read.clone())));
    assert_eq!((after.failures, after.password), (1, read.password.clone()));
    renamed.enabled = false;
    for expected in [Some(read.clone()), None] {
        check_refused(
            &put_over(&mut state, renamed.clone(), expected),
            RefusalCode::PreconditionFailed,
            "meanwhile",
        );
    }
    let gone = DirectoryCommand::DeleteUser {
        object_id: "u1".into(),
    };
    ask(&mut state, 11, gone);
    check_refused(
        &put_over(&mut state, read.clone(), Some(read)),
        RefusalCode::PreconditionFailed,
        "meanwhile",
    );

    let read = state.directory.application("app").unwrap().clone();
    let write = |display: &str| DirectoryCommand::PutApplication {
        application: Box::new(Application {
            display_name: display.into(),
            ..read.clone()
        }),
        expected: Some(Box::new(read.clone())),
    };
    for _ in 0..2 {
        let same = ask(&mut state, 12, write("one"));
        assert!(matches!(same, Answer::Directory(_)), "{same:?}");
    }
    check_refused(
        &ask(&mut state, 12, write("two")),
        RefusalCode::PreconditionFailed,
        "meanwhile",
    );

    put_provider(&mut state, corp());
    let stale = DirectoryCommand::PutProvider {
        provider: Box::new(IdentityProvider {
            enabled: false,
            ..corp()
        }),
        expected: None,
    };
    check_refused(
        &ask(&mut state, 12, stale),
        RefusalCode::PreconditionFailed,
        "meanwhile",
    );
}

#[test]
fn a_provider_leaves_nothing_to_the_next_of_its_name() {
    let mut state = people();
    put_provider(&mut state, corp());
    let other = IdentityProvider {
        issuer: "https://other.example".into(),
        ..corp()
    };
    check_refused(
        &put_provider(&mut state, other.clone()),
        RefusalCode::DirectoryObjectInvalid,
        "Delete the provider first",
    );
    let mut guest = user("u3", "guest");
    (guest.password, guest.external) = (None, Some(("corp".into(), "subject".into())));
    found(put(&mut state, guest));
    let mut one = session("s", "u2", "r");
    one.groups = vec!["corp:ops".into()];
    ask(&mut state, 10, DirectoryCommand::PutSession(Box::new(one)));
    for (name, principal, principal_type) in [
        ("a", "corp:ops", PrincipalType::Group),
        ("b", "corporate:ops", PrincipalType::Group),
        ("c", "u3", PrincipalType::User),
    ] {
        let mut given = state.access.assignments.values().next().unwrap().clone();
        (given.name, given.principal) = (name.into(), principal.into());
        given.principal_type = principal_type;
        state.access.assignments.insert(name.into(), given);
    }
    let gone = DirectoryCommand::DeleteProvider {
        name: "corp".into(),
    };
    let mut alone = state.clone();
    alone
        .access
        .assignments
        .retain(|name, _| ["a", "b", "c"].contains(&name.as_str()));
    check_refused(
        &ask(&mut alone, 11, gone.clone()),
        RefusalCode::RoleAssignmentInvalid,
        "last Owner",
    );
    assert!(alone.directory.users["u3"].external.is_some());
    assert_eq!(ask(&mut state, 11, gone), Answer::Done);
    assert_eq!(state.directory.users["u3"].external, None);
    assert!(state.directory.sessions.is_empty());
    let left = &state.access.assignments;
    assert!(!left.contains_key("a") && left.contains_key("b") && left.contains_key("c"));
    let answer = put_provider(&mut state, other);
    assert!(matches!(answer, Answer::Directory(_)), "{answer:?}");
}

#[test]
fn sessions_of_external_people_end_however_often_they_are_renewed() {
    let mut state = people();
    let mut guest = user("u3", "guest");
    guest.external = Some(("corp".into(), "subject".into()));
    found(put(&mut state, guest));
    let end = UnixMillis(10 + limits::SESSION_EXTERNAL_MS_MAX);
    for (id, of, groups, bounded) in [
        ("s1", "u1", vec![], false),
        ("s2", "u2", vec!["corp:ops".to_owned()], true),
        ("s3", "u3", vec![], true),
    ] {
        let mut one = session(id, of, id);
        (one.groups, one.expires) = (groups, UnixMillis(limits::SESSION_MS));
        ask(&mut state, 10, DirectoryCommand::PutSession(Box::new(one)));
        assert_eq!(state.directory.sessions[id].expires == end, bounded, "{id}");
        let renew = |next: &str| DirectoryCommand::RenewSession {
            given: Secret(id.into()),
            next: Secret(next.into()),
            until: UnixMillis(2 * limits::SESSION_MS),
        };
        let mut old = state.clone();
        old.directory.sessions.get_mut(id).unwrap().expires = UnixMillis(limits::SESSION_MS);
        let late = ask(&mut old, end.0, renew("late"));
        assert_eq!(matches!(late, Answer::Refused(_)), bounded, "{id}");
        ask(&mut state, 20, renew("next"));
        assert_eq!(state.directory.sessions[id].expires == end, bounded, "{id}");
    }
    let mut ann = state.directory.users["u1"].clone();
    ann.external = Some(("corp".into(), "ann".into()));
    found(put(&mut state, ann));
    assert_eq!(state.directory.sessions["s1"].expires, end);
}
