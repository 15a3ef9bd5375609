//! Tokens of the deployment at a hub.

use super::world::*;
use crate::backend::Backend as _;
use crate::{HubTokenError, verify_for_hub};
use control::access::{AccessCommand, PrincipalType, RoleAssignment, roles};
use control::{Answer, Command};

const READ: &str = "Microsoft.Devices/IotHubs/devices/read";
const WRITE: &str = "Microsoft.Devices/IotHubs/devices/write";
const AUDIENCE: &str = "https://iothubs.azure.net";

fn asked(world: &World, audience: &str, action: &str) -> Result<(), HubTokenError> {
    let token = world.token_for(audience);
    let state = world.fake.state();
    let hub = state.hub_named("hub-one").unwrap();
    verify_for_hub(&state, &token, hub, action, world.fake.now())
}

fn give(world: &World, role: &str, scope: &str) {
    let state = world.fake.state();
    let application = state.directory.applications.values().next().unwrap();
    let assignment = RoleAssignment {
        name: "77777777-7777-7777-7777-777777777777".into(),
        scope: scope.into(),
        role: role.into(),
        principal: application.object_id.clone(),
        principal_type: PrincipalType::ServicePrincipal,
        description: None,
        created: world.fake.now(),
        by: "test".into(),
    };
    let answer = (world.fake).apply(Command::Access(AccessCommand::Assign(Box::new(assignment))));
    assert!(matches!(answer, Answer::Access(_)), "{answer:?}");
}

#[tokio::test]
async fn a_role_at_or_above_the_hub_lets_in() {
    let world = World::with_hub().await;
    let Err(HubTokenError::NotAllowed(why)) = asked(&world, AUDIENCE, READ) else {
        panic!("managing a hub is no right to its data")
    };
    assert!(why.contains(READ) && why.contains("Hub-One"), "{why}");
    give(
        &world,
        roles::DATA_READER,
        &format!("/subscriptions/{SUB}/resourceGroups/rg"),
    );
    assert_eq!(asked(&world, AUDIENCE, READ), Ok(()));
    assert!(matches!(
        asked(&world, AUDIENCE, WRITE),
        Err(HubTokenError::NotAllowed(_))
    ));
}

#[tokio::test]
async fn only_tokens_for_hubs_count_and_those_for_hubs_only_there() {
    let world = World::with_hub().await;
    give(&world, roles::DATA_CONTRIBUTOR, "/");
    for good in [
        AUDIENCE,
        "https://iothubs.azure.net/",
        "https://Hub-One.hubs.localhost",
    ] {
        assert_eq!(asked(&world, good, WRITE), Ok(()), "{good}");
    }
    for bad in [
        "https://management.azure.com/",
        "https://hub-two.hubs.localhost",
        "https://localhost:8443/",
    ] {
        assert!(
            matches!(asked(&world, bad, WRITE), Err(HubTokenError::Unproven(_))),
            "{bad}"
        );
    }
    let request = axum::http::Request::builder()
        .uri("/subscriptions?api-version=2022-12-01")
        .header("host", HOST)
        .header(
            "authorization",
            format!("Bearer {}", world.token_for(AUDIENCE)),
        );
    world
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await
        .refused(401, "InvalidAuthenticationTokenAudience", "audience");
}

#[tokio::test]
async fn what_is_no_token_or_lapsed_proves_nothing() {
    let world = World::with_hub().await;
    give(&world, roles::DATA_CONTRIBUTOR, "/");
    let token = world.token_for(AUDIENCE);
    let state = world.fake.state();
    let hub = state.hub_named("hub-one").unwrap();
    let now = world.fake.now();
    for bad in ["", "abc", "a.b.c", &token[..token.len() - 4]] {
        let said = verify_for_hub(&state, bad, hub, READ, now);
        assert!(matches!(said, Err(HubTokenError::Unproven(_))), "{bad}");
    }
    let late = now.plus(2 * 3600 * 1000);
    assert!(matches!(
        verify_for_hub(&state, &token, hub, READ, late),
        Err(HubTokenError::Unproven(_))
    ));
}
