use super::world::*;
use serde_json::json;

fn group(name: &str) -> String {
    format!("/subscriptions/{SUB}/resourceGroups/{name}")
}

#[tokio::test]
async fn a_group_is_created_updated_read_and_listed() {
    let world = World::new();
    let made = world
        .put(
            &group("My-RG"),
            r#"{"location":"West US 2","tags":{"a":"b"}}"#,
        )
        .await
        .is(201)
        .json();
    let expected = json!({
        "id": group("My-RG"), "name": "My-RG", "type": "Microsoft.Resources/resourceGroups", "location": "westus2",
        "tags": {"a": "b"}, "properties": {"provisioningState": "Succeeded"},
    });
    assert_eq!(made, expected);
    world
        .put(&group("my-rg"), r#"{"location":"westus2"}"#)
        .await
        .is(200);
    let read = world.get(&group("MY-rg")).await.is(200).json();
    assert_eq!(
        (&read["name"], &read["tags"]),
        (&json!("My-RG"), &json!({}))
    );
    let list = world
        .get(&format!("/subscriptions/{SUB}/resourcegroups"))
        .await
        .is(200)
        .json();
    assert_eq!(list["value"].as_array().unwrap().len(), 1);
    let patched = world
        .call("PATCH", &group("my-rg"), r#"{"tags":{"x":"y"}}"#, &[])
        .await
        .is(200)
        .json();
    assert_eq!(patched["tags"], json!({"x": "y"}));
}

#[tokio::test]
async fn existence_is_told_by_the_status_alone() {
    let world = World::with_group().await;
    for (name, status) in [("rg", 204), ("other", 404)] {
        let reply = world.call("HEAD", &group(name), "", &[]).await.is(status);
        assert_eq!(reply.text, "");
    }
    world.get(&group("other")).await.refused(
        404,
        "ResourceGroupNotFound",
        "'other' could not be found",
    );
    world
        .get("/subscriptions/nope/resourceGroups/rg")
        .await
        .refused(404, "SubscriptionNotFound", "nope");
}

#[tokio::test]
async fn bad_groups_are_refused_with_their_codes() {
    let world = World::with_group().await;
    let cases = [
        (
            "ends.",
            r#"{"location":"westus2"}"#,
            400,
            "InvalidResourceGroup",
            "period",
        ),
        ("new", "{}", 400, "LocationRequired", "location"),
        (
            "new",
            r#"{"location":"westus3"}"#,
            400,
            "LocationNotAvailableForResourceGroup",
            "'westus3' is not running here",
        ),
        (
            "new",
            r#"{"location":"West_X"}"#,
            400,
            "LocationNotAvailableForResourceGroup",
            "not the name of a region",
        ),
        (
            "RG",
            r#"{"location":"eastus"}"#,
            409,
            "InvalidResourceGroupLocation",
            "westus2",
        ),
        (
            "new",
            r#"{"location":"westus2","tags":{"a":1}}"#,
            400,
            "InvalidProperties",
            "'a' must be a text",
        ),
        (
            "new",
            "{",
            400,
            "InvalidRequestContent",
            "could not be read",
        ),
        ("new", "", 400, "InvalidRequestContent", "empty"),
        ("new", "[]", 400, "InvalidRequestContent", "object"),
    ];
    for (name, body, status, code, text) in cases {
        world
            .put(&group(name), body)
            .await
            .refused(status, code, text);
    }
}

#[tokio::test]
async fn deleting_a_group_takes_its_hubs_along_and_is_told_at_its_location() {
    let world = World::with_hub().await;
    let reply = world.delete(&group("rg")).await.is(202);
    assert_eq!(
        (reply.text.as_str(), reply.header("retry-after")),
        ("", Some("1"))
    );
    assert_eq!(reply.header("azure-asyncoperation"), None);
    let location = reply.header("location").unwrap().to_owned();
    assert!(
        location.starts_with(&format!(
            "https://{HOST}/subscriptions/{SUB}/operationresults/"
        )),
        "{location}"
    );
    let poll = world.follow(&location).await.is(202);
    assert_eq!(poll.header("retry-after"), Some("1"));
    assert_eq!(
        poll.header("location").map(str::to_owned),
        Some(location.clone())
    );
    assert_eq!(
        world.get(&group("rg")).await.json()["properties"]["provisioningState"],
        "Deleting"
    );
    assert_eq!(
        world.get(HUB).await.json()["properties"]["state"],
        "Deleting"
    );
    let again = world.delete(&group("rg")).await.is(202);
    assert_eq!(
        again.header("location").map(str::to_owned),
        Some(location.clone())
    );
    world.finish_running();
    let end = world.follow(&location).await.is(200);
    assert_eq!(
        (end.text.as_str(), end.header("retry-after")),
        ("", Some("1"))
    );
    world.get(&group("rg")).await.is(404);
    assert_eq!(
        world.delete(&group("rg")).await.is(200).text,
        "",
        "nothing to do"
    );
}
