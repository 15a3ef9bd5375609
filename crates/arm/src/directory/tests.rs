//! The directory over the API, against the real state machine.

use crate::tests::world::*;
use serde_json::{Value, json};

const USERS: &str = "/providers/Castling.Identity/users";
const APPLICATIONS: &str = "/providers/Castling.Identity/applications";
const PROVIDERS: &str = "/providers/Castling.Identity/identityProviders";

async fn put(world: &World, path: &str, properties: Value) -> Reply {
    world
        .put(path, &json!({ "properties": properties }).to_string())
        .await
}

#[tokio::test]
async fn a_user_is_made_with_a_password_that_is_told_once() {
    let world = World::new();
    let path = format!("{USERS}/kim@castling.localhost");
    let made = put(&world, &path, json!({ "displayName": "Kim" }))
        .await
        .is(201)
        .json();
    let password = made["properties"]["password"].as_str().unwrap();
    assert!(password.len() >= 16);
    assert_eq!(made["properties"]["passwordExpired"], true);
    let again = world.get(&path).await.is(200);
    assert!(!again.text.contains(password) && !again.text.contains("argon2"));
    assert_eq!(again.json()["properties"]["hasPassword"], true);
    let by_id = made["properties"]["objectId"].as_str().unwrap();
    assert_eq!(
        world.get(&format!("{USERS}/{by_id}")).await.is(200).json()["name"],
        by_id
    );
}

#[tokio::test]
async fn every_mistake_of_a_user_is_named() {
    let world = World::new();
    let wrong = json!({ "displayName": 1, "enabled": "yes", "password": "short", "colour": "red" });
    let refused = put(&world, &format!("{USERS}/kim"), wrong).await;
    for part in ["displayName", "enabled", "password", "colour"] {
        refused.refused(400, "InvalidProperties", &format!("properties.{part}"));
    }
}

#[tokio::test]
async fn a_secret_is_told_once_and_gone_when_removed() {
    let world = World::new();
    let path = format!("{APPLICATIONS}/builder");
    put(&world, &path, json!({})).await.is(201);
    let made = world
        .post(&format!("{path}/addSecret"), "{}")
        .await
        .is(200)
        .json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    let shown = world.get(&path).await.is(200);
    assert!(!shown.text.contains(&secret) && !shown.text.contains("sha256\":\""));
    assert_eq!(shown.json()["properties"]["secrets"][0]["id"], made["id"]);
    let id = json!({ "id": made["id"] }).to_string();
    world
        .post(&format!("{path}/removeSecret"), &id)
        .await
        .is(200);
    let gone = world.post(&format!("{path}/removeSecret"), &id).await;
    gone.refused(404, "DirectoryObjectNotFound", "secret");
}

#[tokio::test]
async fn lists_come_in_pages_that_lead_to_each_other() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        put(&world, &format!("{APPLICATIONS}/{name}"), json!({}))
            .await
            .is(201);
    }
    let first = world
        .get(&format!("{APPLICATIONS}?$top=3&api-version=2023-06-30"))
        .await
        .is(200)
        .json();
    assert_eq!(first["value"].as_array().unwrap().len(), 3);
    let next = first["nextLink"]
        .as_str()
        .unwrap()
        .strip_prefix(&format!("https://{HOST}"))
        .unwrap();
    let rest = world.get(next).await.is(200).json();
    assert_eq!(rest["value"].as_array().unwrap().len(), 1);
    assert_eq!(rest["nextLink"], Value::Null);
    let wrong = world
        .get(&format!("{APPLICATIONS}?$top=0&api-version=2023-06-30"))
        .await;
    wrong.refused(400, "InvalidQueryParameter", "$top");
}

#[tokio::test]
async fn a_provider_keeps_its_client_secret_to_itself() {
    let world = World::new();
    let path = format!("{PROVIDERS}/acme");
    let wanted = json!({ "issuer": "https://id.example", "clientId": "c", "clientSecret": "hush-hush", "groupsClaim": "groups" });
    let made = put(&world, &path, wanted).await.is(201);
    assert!(!made.text.contains("hush-hush"));
    assert_eq!(made.json()["properties"]["hasClientSecret"], true);
    let plain = json!({ "issuer": "http://id.example", "clientId": "c" });
    put(&world, &path, plain)
        .await
        .refused(400, "DirectoryObjectInvalid", "issuer");
    put(&world, &path, json!({ "ca": "nonsense" }))
        .await
        .refused(400, "InvalidProperties", "properties.ca");
}

#[tokio::test]
async fn an_application_learns_who_it_is_and_has_no_password() {
    let world = World::new();
    let me = world
        .get("/providers/Castling.Identity/me")
        .await
        .is(200)
        .json();
    assert_eq!(me["properties"]["kind"], "ServicePrincipal");
    assert_eq!(me["properties"]["roles"][0]["role"], "Owner");
    let refused = world
        .post("/providers/Castling.Identity/me/endSessions", "{}")
        .await;
    refused.refused(400, "NotAUser", "application");
}

#[tokio::test]
async fn a_change_that_read_an_old_user_is_made_again_on_the_new_one() {
    let world = World::new();
    let path = format!("{USERS}/kim@castling.localhost");
    put(&world, &path, json!({})).await.is(201);
    let change = |properties: Value| {
        let body = json!({ "properties": properties }).to_string();
        let (world, path) = (&world, &path);
        async move { world.call("PATCH", path, &body, &[]).await }
    };
    // The first has read the user, and is busy with the password as the second disables it.
    let slow = change(json!({ "password": "correct horse battery staple 7" }));
    let (slow, quick) = tokio::join!(slow, change(json!({ "enabled": false })));
    quick.is(200);
    assert_eq!(slow.is(200).json()["properties"]["enabled"], false);
    let submitted = world.fake.submitted.lock().unwrap();
    let puts = submitted.iter().filter(|command| {
        use control::{Command, DirectoryCommand};
        matches!(
            command,
            Command::Directory(DirectoryCommand::PutUser { .. })
        )
    });
    assert_eq!(puts.count(), 4, "made, disabled, refused, made again");
}
