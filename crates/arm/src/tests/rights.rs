//! Role assignments, locks and approvals over the API, and what stands before every operation.

use super::world::*;
use control::Command;
use control::access::{AccessCommand, PrincipalType, RoleAssignment};
use types::UnixMillis;

const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const NAME: &str = "99999999-9999-9999-9999-999999999999";
const AT_GROUP: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/RG/providers/Microsoft.Authorization";

fn assignment(role: &str) -> String {
    format!(
        r#"{{"properties":{{"roleDefinitionId":"/subscriptions/{SUB}/providers/Microsoft.Authorization/roleDefinitions/{role}","principalId":"{APP}","principalType":"ServicePrincipal"}}}}"#
    )
}

#[tokio::test]
async fn a_role_is_given_listed_and_taken_away_as_az_does_it() {
    let world = World::with_hub().await;
    let found = world
        .get(&format!("{AT_GROUP}/roleDefinitions?api-version=2022-05-01-preview&$filter=roleName%20eq%20%27Reader%27"))
        .await
        .is(200)
        .json();
    let role = found["value"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(found["value"].as_array().unwrap().len(), 1);
    assert!(role.ends_with(READER), "{role}");

    let path = format!("{AT_GROUP}/roleAssignments/{NAME}");
    let made = world.put(&path, &assignment(READER)).await.is(201).json();
    assert_eq!(made["id"], path);
    assert_eq!(made["properties"]["roleDefinitionId"], role.as_str());
    assert_eq!(
        made["properties"]["scope"],
        format!("/subscriptions/{SUB}/resourceGroups/RG")
    );
    world.put(&path, &assignment(READER)).await.is(200);
    let other = path.replace("9999-999999999999", "9999-999999999998");
    world
        .put(&other, &assignment(READER))
        .await
        .refused(409, "RoleAssignmentExists", NAME);

    let count = |reply: Reply| reply.is(200).json()["value"].as_array().unwrap().len();
    let at_scope = "api-version=2022-04-01&$filter=atScope()";
    let list = |at: &str| format!("{at}/roleAssignments?{at_scope}");
    // With the Owner of `/` above it; the subscription's own list does not reach below.
    assert_eq!(count(world.get(&list(AT_GROUP)).await), 2);
    let above = format!("/subscriptions/{SUB}/providers/Microsoft.Authorization");
    assert_eq!(count(world.get(&list(&above)).await), 1);
    let all = format!("{above}/roleAssignments?api-version=2022-04-01");
    assert_eq!(count(world.get(&all).await), 2);

    // Not by way of another scope.
    let elsewhere = format!("{HUB}/providers/Microsoft.Authorization/roleAssignments/{NAME}");
    world.get(&elsewhere).await.is(404);
    world.delete(&elsewhere).await.is(204);
    world.get(&path).await.is(200);
    world.delete(&path).await.is(200);
    world.delete(&path).await.is(204);
    world
        .get(&path)
        .await
        .refused(404, "RoleAssignmentNotFound", NAME);
}

#[tokio::test]
async fn an_assignment_that_makes_no_sense_is_refused_with_every_mistake() {
    let world = World::with_group().await;
    let path = format!("{AT_GROUP}/roleAssignments/{NAME}");
    let reply = world
        .put(
            &path,
            r#"{"properties":{"principalType":"Robot","condition":"x"}}"#,
        )
        .await;
    reply.refused(400, "InvalidRoleAssignment", "principalId");
    for part in ["roleDefinitionId", "principalType", "condition"] {
        assert!(
            reply.message().contains(part),
            "{part}: {}",
            reply.message()
        );
    }
    let unknown = assignment("00000000-0000-0000-0000-000000000000");
    let reply = world.put(&path, &unknown).await;
    reply.refused(400, "InvalidRoleAssignment", "there is no role");
    world
        .put(&path.replace(NAME, "no-guid"), &assignment(READER))
        .await
        .refused(400, "InvalidRoleAssignment", "GUID");
    world
        .get(&format!(
            "{AT_GROUP}/roleAssignments?api-version=2022-04-01&$filter=nonsense"
        ))
        .await
        .refused(400, "InvalidFilterInQueryString", "nonsense");
}

#[tokio::test]
async fn the_last_owner_stays() {
    let world = World::with_group().await;
    let all = "/providers/Microsoft.Authorization/roleAssignments";
    let found = world.get(all).await.is(200).json();
    let id = found["value"][0]["id"].as_str().unwrap().to_owned();
    let reply = world.delete(&id).await;
    reply.refused(400, "InvalidRoleAssignment", "last Owner");
}

#[tokio::test]
async fn locks_keep_things_until_they_are_removed() {
    let world = World::with_hub().await;
    let path = format!("{AT_GROUP}/locks/Keep");
    let body = r#"{"properties":{"level":"CanNotDelete","notes":"why"}}"#;
    let made = world.put(&path, body).await.is(201).json();
    assert_eq!(made["properties"]["level"], "CanNotDelete");
    world.put(&path, body).await.is(200);
    world.delete(HUB).await.refused(409, "ScopeLocked", "Keep");
    world.put(HUB, BODY).await.is(200);
    let read_only = r#"{"properties":{"level":"ReadOnly"}}"#;
    world.put(&path, read_only).await.is(200);
    world
        .put(HUB, BODY)
        .await
        .refused(409, "ScopeLocked", "Keep");
    let failover = format!("{HUB}/failover");
    world
        .post(&failover, r#"{"failoverRegion":"westcentralus"}"#)
        .await
        .refused(409, "ScopeLocked", "Keep");
    world.get(HUB).await.is(200);
    let locks = format!("{HUB}/providers/Microsoft.Authorization/locks");
    let found = world.get(&locks).await.is(200).json();
    assert_eq!(found["value"][0]["name"], "Keep");
    world
        .put(&path, r#"{"properties":{"level":"Some"}}"#)
        .await
        .refused(400, "InvalidProperties", "level");
    world.delete(&path).await.is(200);
    world.delete(&path).await.is(204);
    world.get(&path).await.refused(404, "LockNotFound", "Keep");
    world.delete(HUB).await.is(202);
}

#[tokio::test]
async fn what_the_caller_may_do_is_told() {
    let world = World::with_group().await;
    let found = world
        .get(&format!("{AT_GROUP}/permissions"))
        .await
        .is(200)
        .json();
    assert_eq!(found["value"][0]["actions"][0], "*");
}

#[tokio::test]
async fn every_answer_has_headers_that_protect_a_browser() {
    let world = World::with_group().await;
    for path in ["/subscriptions", "/no/such/path", "/metadata/endpoints"] {
        let reply = world.get(path).await;
        assert_eq!(
            reply.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert_eq!(reply.header("strict-transport-security"), None, "{path}");
    }
}

#[tokio::test]
async fn requests_are_read_strictly() {
    let world = World::with_group().await;
    let group = format!("/subscriptions/{SUB}/resourceGroups/RG");
    let twice = format!("{group}?api-version=2021-04-01&API-version=2021-04-01");
    world
        .get(&twice)
        .await
        .refused(400, "InvalidQueryParameter", "given twice");
    let reply = world
        .put(&group, r#"{"location":"westus2","location":"eastus"}"#)
        .await;
    reply.refused(400, "InvalidRequestContent", "stands twice");
    let deep = format!(r#"{{"location":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    world
        .put(&group, &deep)
        .await
        .refused(400, "InvalidRequestContent", "levels deep");
    world
        .call("GET", &group, "{}", &[])
        .await
        .refused(400, "InvalidRequestContent", "no content");
    world
        .get(&format!(
            "/subscriptions/{SUB}%2FresourceGroups/resourceGroups/RG"
        ))
        .await
        .refused(400, "InvalidRequestUri", "slash");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let world = World::with_group().await;
    let most = types::limits::MANAGEMENT_READS_PER_MINUTE / 3;
    for _ in 0..most {
        world.get("/tenants").await.is(200);
    }
    let reply = world.get("/tenants").await.is(429);
    assert_eq!(reply.code(), "TooManyRequests");
    let seconds = reply.header("retry-after").unwrap().parse::<i64>().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    // Writes are counted apart.
    let group = format!("/subscriptions/{SUB}/resourceGroups/RG");
    world.put(&group, r#"{"location":"westus2"}"#).await.is(200);
    world.advance(seconds * 1_000);
    world.get("/tenants").await.is(200);
}

#[tokio::test]
async fn reading_keys_is_written_down() {
    let world = World::with_hub().await;
    world.post(&format!("{HUB}/listkeys"), "").await.is(200);
    tokio::task::yield_now().await;
    let submitted = world.fake.submitted.lock().unwrap();
    let noted = submitted.iter().any(|command| {
        matches!(command, Command::NoteAction { action, resource, .. }
            if action.ends_with("listkeys/action") && resource == HUB)
    });
    assert!(noted, "{submitted:?}");
}

#[tokio::test]
async fn another_person_approves_a_failover() {
    let world = World::with_hub().await;
    {
        let mut state = world.fake.state.lock().unwrap();
        let state = std::sync::Arc::make_mut(&mut *state);
        state.deployment.policy.second_approver = true;
    }
    world.advance(2 * HOUR);
    let failover = format!("{HUB}/failover");
    let body = r#"{"failoverRegion":"westcentralus"}"#;
    let refused = world.post(&failover, body).await;
    refused.refused(403, "ApprovalRequired", "second person");
    let approvals = format!("{HUB}/providers/Castling.Failover/approvals");
    let found = world.get(&approvals).await.is(200).json();
    let id = found["value"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(found["value"][0]["properties"]["status"], "Pending");
    let own = world.post(&format!("{approvals}/{id}/approve"), "").await;
    own.refused(409, "ApprovalInvalid", "another person");
    world
        .post(&format!("{approvals}/none/deny"), "")
        .await
        .refused(404, "ApprovalNotFound", "none");
    // `apply` speaks as somebody else.
    world.fake.apply(Command::Access(AccessCommand::Decide {
        approval: id.clone(),
        approve: true,
    }));
    let found = world.get(&format!("{approvals}/{id}")).await.is(200).json();
    assert_eq!(found["properties"]["status"], "Approved");
    world.post(&failover, body).await.is(202);
    let found = world.get(&format!("{approvals}/{id}")).await.is(200).json();
    assert_eq!(found["properties"]["status"], "Used");
}

#[tokio::test]
async fn a_role_at_one_group_shows_that_group_alone() {
    let world = World::with_hub().await;
    let other = format!("/subscriptions/{SUB}/resourceGroups/Other");
    world.put(&other, r#"{"location":"westus2"}"#).await.is(201);
    {
        let mut state = world.fake.state.lock().unwrap();
        let state = std::sync::Arc::make_mut(&mut *state);
        for known in state.access.assignments.values_mut() {
            *known = RoleAssignment {
                scope: other.clone(),
                role: READER.into(),
                principal_type: PrincipalType::ServicePrincipal,
                created: UnixMillis(START),
                ..known.clone()
            };
        }
    }
    let names = |reply: Reply| {
        let found = reply.is(200).json();
        let all = found["value"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let groups = format!("/subscriptions/{SUB}/resourceGroups");
    assert_eq!(names(world.get(&groups).await), ["Other"]);
    let hubs = format!("/subscriptions/{SUB}/providers/Microsoft.Devices/IotHubs");
    assert_eq!(names(world.get(&hubs).await), Vec::<String>::new());
    let resources = format!("/subscriptions/{SUB}/resources");
    assert_eq!(names(world.get(&resources).await), Vec::<String>::new());
    world.get(&other).await.is(200);
    world.get(HUB).await.is(403);
    world
        .put(&other, r#"{"location":"westus2"}"#)
        .await
        .refused(403, "AuthorizationFailed", "resourceGroups/write");
}
