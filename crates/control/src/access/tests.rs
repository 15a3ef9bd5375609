//! Tests of rights, locks and approvals.

use super::*;
use crate::testing::*;
use crate::{Answer, Command, RefusalCode, Request, State};
use types::{HubId, UnixMillis, limits};

const HUB: &str =
    "/subscriptions/sub-1/resourceGroups/Group/providers/Microsoft.Devices/IotHubs/Hub-One";
const GROUP: &str = "/subscriptions/sub-1/resourceGroups/Group";

fn ask(state: &mut State, command: AccessCommand) -> Answer {
    state.apply(&request("", 100, Command::Access(command)))
}

fn assignment(n: u8, scope: &str) -> RoleAssignment {
    RoleAssignment {
        name: format!("AAAAAAAA-0000-0000-0000-0000000000{n:02}"),
        scope: scope.into(),
        role: roles::READER.to_uppercase(),
        principal: "OBJECT".into(),
        principal_type: PrincipalType::ServicePrincipal,
        description: None,
        created: UnixMillis(0),
        by: String::new(),
    }
}

fn assign(state: &mut State, assignment: RoleAssignment) -> Answer {
    ask(state, AccessCommand::Assign(Box::new(assignment)))
}

fn lock(state: &mut State, scope: &str, level: LockLevel) -> Answer {
    let lock = Lock {
        name: "Keep".into(),
        scope: scope.into(),
        level,
        notes: None,
        created: UnixMillis(0),
        by: String::new(),
    };
    ask(state, AccessCommand::PutLock(Box::new(lock)))
}

#[test]
fn an_assignment_is_kept_in_canonical_form_and_the_same_again_changes_nothing() {
    let mut state = active_hub();
    let shouted = HUB
        .to_uppercase()
        .replace("/SUBSCRIPTIONS", "//subscriptions");
    let Answer::Access(AccessAnswer::Assignment {
        assignment: made,
        created: true,
    }) = assign(&mut state, assignment(1, &shouted))
    else {
        panic!()
    };
    assert_eq!(
        (
            made.scope.as_str(),
            made.principal.as_str(),
            made.role.as_str()
        ),
        (HUB, "object", roles::READER)
    );
    assert_eq!(
        (made.by.as_str(), made.created),
        ("tester", UnixMillis(100))
    );
    let revision = state.revision;
    let again = assign(&mut state, assignment(1, HUB));
    assert!(matches!(
        again,
        Answer::Access(AccessAnswer::Assignment { created: false, .. })
    ));
    assert_eq!(state.revision, revision);
    check_refused(
        &assign(&mut state, assignment(1, GROUP)),
        RefusalCode::RoleAssignmentExists,
        "another one",
    );
    check_refused(
        &assign(&mut state, assignment(2, HUB)),
        RefusalCode::RoleAssignmentExists,
        "already exists",
    );
}

#[test]
fn every_mistake_of_an_assignment_is_named() {
    let mut state = active_hub();
    for scope in [
        "",
        "x",
        "/subscriptions",
        "/subscriptions/none",
        "/subscriptions/sub-1/resourceGroups/none",
        "/subscriptions/sub-1/x/Group",
    ] {
        check_refused(
            &assign(&mut state, assignment(1, scope)),
            RefusalCode::RoleAssignmentInvalid,
            "scope:",
        );
    }
    let mut wrong = assignment(1, "/nowhere");
    (wrong.name, wrong.role, wrong.principal) = ("n".into(), "r".into(), "p".into());
    let answer = assign(&mut state, wrong);
    for what in ["name:", "scope:", "role:", "principal:"] {
        check_refused(&answer, RefusalCode::RoleAssignmentInvalid, what);
    }
    let mut group = assignment(1, "/");
    (group.principal, group.principal_type) = ("corp:admins".into(), PrincipalType::Group);
    check_refused(
        &assign(&mut state, group),
        RefusalCode::RoleAssignmentInvalid,
        "principal:",
    );
}

#[test]
fn rights_and_locks_at_a_hub_go_with_it() {
    let mut state = active_hub();
    assign(&mut state, assignment(1, HUB));
    assign(&mut state, assignment(2, GROUP));
    let delete = Command::DeleteHub {
        subscription: SUB.into(),
        group: "group".into(),
        name: "hub-one".into(),
        operation: "gone".into(),
    };
    state.apply(&request("", 101, delete));
    state.apply(&request("", 102, finish("gone")));
    assert!(state.hubs.is_empty());
    assert!(
        state
            .access
            .assignments
            .values()
            .all(|one| one.scope != HUB)
    );
    assert_eq!(state.access.assignments.len(), 2);
    assert_eq!(
        ask(
            &mut state,
            AccessCommand::Unassign {
                name: assignment(1, HUB).name
            }
        ),
        Answer::Absent
    );
}

#[test]
fn a_read_only_lock_stops_writes_below_it_and_a_delete_lock_only_deletes() {
    let delete_group = || Command::DeleteGroup {
        subscription: SUB.into(),
        name: "GROUP".into(),
        operation: "d".into(),
    };
    for (level, start_passes) in [
        (LockLevel::ReadOnly, false),
        (LockLevel::CanNotDelete, true),
    ] {
        let mut state = active_hub();
        assert!(matches!(
            lock(&mut state, GROUP, level),
            Answer::Access(AccessAnswer::Lock { created: true, .. })
        ));
        let started = state.apply(&request("", 101, start_failover(1, "east", "op")));
        assert_eq!(
            matches!(started, Answer::Operation(_)),
            start_passes,
            "{started:?}"
        );
        check_refused(
            &state.apply(&request("", 102, delete_group())),
            RefusalCode::ScopeLocked,
            "Keep",
        );
    }
    // A lock of a hub keeps its group from being deleted, but not from being changed.
    let mut state = active_hub();
    lock(&mut state, &HUB.to_lowercase(), LockLevel::CanNotDelete);
    check_refused(
        &state.apply(&request("", 102, delete_group())),
        RefusalCode::ScopeLocked,
        HUB,
    );
    assert!(matches!(
        state.apply(&request("", 103, put_group("Group"))),
        Answer::Group { .. }
    ));
}

#[test]
fn a_lock_keeps_nobody_from_removing_it_from_signing_in_or_from_noting() {
    let mut state = active_hub();
    lock(&mut state, "/", LockLevel::ReadOnly);
    check_refused(
        &state.apply(&request("", 101, put_hub("other"))),
        RefusalCode::ScopeLocked,
        "'/'",
    );
    let note = Command::NoteAction {
        action: "a/write".into(),
        resource: HUB.into(),
        result: "refused".into(),
    };
    assert_eq!(state.apply(&request("", 102, note)), Answer::Done);
    let end = Command::Directory(crate::DirectoryCommand::EndSession { id: "x".into() });
    assert_eq!(state.apply(&request("", 102, end)), Answer::Absent);
    let delete = AccessCommand::DeleteLock {
        scope: "/".into(),
        name: "KEEP".into(),
    };
    assert_eq!(ask(&mut state, delete.clone()), Answer::Done);
    assert_eq!(ask(&mut state, delete), Answer::Absent);
    assert!(matches!(
        state.apply(&request("", 103, put_hub("other"))),
        Answer::Hub { .. }
    ));
}

#[test]
fn a_lock_does_not_strand_a_drill_nor_an_operation_that_runs() {
    let mut state = active_hub();
    let drill = Command::StartDrill {
        hub: HubId(1),
        drill: "d".into(),
        reason: String::new(),
        hold_ms: 0,
    };
    assert!(matches!(
        state.apply(&request("", 101, drill)),
        Answer::Drill(_)
    ));
    lock(&mut state, HUB, LockLevel::ReadOnly);
    let leg = Command::StartFailover {
        hub: HubId(1),
        to: region("east"),
        operation: "d-there".into(),
        reason: String::new(),
        excluded: false,
        drill: Some("d".into()),
    };
    assert!(matches!(
        state.apply(&request("", 102, leg)),
        Answer::Operation(_)
    ));
    for n in 0..20 {
        turn(&mut state, "d-there", 110 + n);
    }
    assert!(!state.operations["d-there"].is_running());
}

fn two_eyes() -> State {
    let mut state = active_hub();
    state.deployment.policy.second_approver = true;
    state
}

fn by(who: &str, at: i64, command: Command) -> Request {
    Request {
        by: who.into(),
        ..request("", at, command)
    }
}

fn asked(state: &mut State, who: &str, at: i64, op: &str) -> Answer {
    state.apply(&by(who, at, start_failover(1, "east", op)))
}

fn decided(state: &mut State, who: &str, at: i64, approve: bool) -> Answer {
    let approval = approval_id(HubId(1), &region("east"), false, "ann");
    state.apply(&by(
        who,
        at,
        Command::Access(AccessCommand::Decide { approval, approve }),
    ))
}

#[test]
fn a_failover_waits_for_another_persons_word_and_uses_it_up() {
    let mut state = two_eyes();
    let id = approval_id(HubId(1), &region("east"), false, "ann");
    check_refused(
        &asked(&mut state, "ann", 100, "op"),
        RefusalCode::ApprovalRequired,
        &id,
    );
    check_refused(
        &asked(&mut state, "ann", 101, "op"),
        RefusalCode::ApprovalRequired,
        &id,
    );
    check_refused(
        &decided(&mut state, "ANN", 102, true),
        RefusalCode::ApprovalInvalid,
        "another person",
    );
    assert!(matches!(
        decided(&mut state, "bob", 103, true),
        Answer::Access(AccessAnswer::Approval(_))
    ));
    assert!(
        matches!(decided(&mut state, "bob", 103, true), Answer::Access(_)),
        "again is the same"
    );
    check_refused(
        &decided(&mut state, "eve", 104, false),
        RefusalCode::ApprovalInvalid,
        "approved by 'bob'",
    );
    // It is ann's: another one needs their own, and a forced one is another one.
    check_refused(
        &asked(&mut state, "bob", 105, "op"),
        RefusalCode::ApprovalRequired,
        "",
    );
    let everything = crate::AcceptedLoss {
        all: true,
        ..Default::default()
    };
    let forced = state.apply(&by("ann", 106, start_forced(1, "east", "f", everything)));
    check_refused(&forced, RefusalCode::ApprovalRequired, "");
    let started = asked(&mut state, "ann", 107, "op");
    assert!(matches!(started, Answer::Operation(_)), "{started:?}");
    assert!(
        matches!(asked(&mut state, "ann", 107, "op"), Answer::Operation(_)),
        "the same request again"
    );
    assert_eq!(
        state.access.approvals[&id].standing,
        ApprovalStanding::Used {
            operation: "op".into()
        }
    );
    state.apply(&request("", 108, roll_back("op")));
    state.apply(&request("", 109, finish("op")));
    check_refused(
        &asked(&mut state, "ann", 110, "op2"),
        RefusalCode::ApprovalRequired,
        &id,
    );
}

#[test]
fn an_approval_expires_and_a_denial_stands_for_a_while() {
    let mut state = two_eyes();
    asked(&mut state, "ann", 100, "op");
    let mut late = state.clone();
    let over = 100 + limits::APPROVAL_MS;
    check_refused(
        &decided(&mut late, "bob", over, true),
        RefusalCode::ApprovalNotFound,
        "expired",
    );
    decided(&mut late, "bob", over, true);
    decided(&mut state, "bob", 200, true);
    check_refused(
        &asked(&mut state, "ann", 200 + limits::APPROVAL_MS, "op"),
        RefusalCode::ApprovalRequired,
        "",
    );
    let mut state = two_eyes();
    asked(&mut state, "ann", 100, "op");
    decided(&mut state, "bob", 200, false);
    check_refused(
        &asked(&mut state, "ann", 300, "op"),
        RefusalCode::ApprovalRequired,
        "denied",
    );
    let entry = state.activity.iter().rev().nth(1).unwrap();
    assert_eq!(entry.action, "Castling.Failover/approvals/decide/action");
    assert!(entry.resource.starts_with(HUB), "{}", entry.resource);
}

#[test]
fn what_could_not_start_anyway_asks_for_nobodys_word_and_drills_need_none() {
    let mut state = two_eyes();
    let answer = state.apply(&by("ann", 100, start_failover(1, "west", "op")));
    check_refused(&answer, RefusalCode::FailoverRegionMismatch, "");
    assert!(state.access.approvals.is_empty());
    let drill = Command::StartDrill {
        hub: HubId(1),
        drill: "d".into(),
        reason: String::new(),
        hold_ms: 0,
    };
    state.apply(&by("ann", 101, drill));
    let leg = Command::StartFailover {
        hub: HubId(1),
        to: region("east"),
        operation: "d-there".into(),
        reason: String::new(),
        excluded: false,
        drill: Some("d".into()),
    };
    assert!(matches!(
        state.apply(&by("ann", 102, leg)),
        Answer::Operation(_)
    ));
}

#[test]
fn rights_locks_and_approvals_survive_a_snapshot() {
    let mut state = two_eyes();
    assign(&mut state, assignment(1, GROUP));
    lock(&mut state, HUB, LockLevel::CanNotDelete);
    asked(&mut state, "ann", 101, "op");
    decided(&mut state, "bob", 102, true);
    assert_eq!(State::restore(&state.snapshot()).unwrap(), state);
}
