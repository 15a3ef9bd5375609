//! Deployments as `az` sends them.

use crate::tests::world::{HUB, SUB, World};
use serde_json::{Value, json};

fn path(name: &str) -> String {
    format!(
        "/subscriptions/{SUB}/resourcegroups/RG/providers/Microsoft.Resources/deployments/{name}"
    )
}

/// In the form the CLI splices together: comments and a name without quotes.
fn request(outputs: &str) -> String {
    format!(
        r#"{{"properties": {{"mode": "Incremental", "parameters": {{"name": {{"value": "hub-t"}}}}, template:{{
    // made by hand
    "$schema": "x", "contentVersion": "1.0.0.0",
    "parameters": {{ "name": {{ "type": "string" }} }},
    "resources": [
        {{ "type": "Microsoft.Devices/IotHubs", "apiVersion": "2023-06-30", "name": "[parameters('name')]",
           "location": "[resourceGroup().location]", "sku": {{ "name": "S1", "capacity": 1 }}, "properties": {{}} }},
        {{ "type": "Microsoft.Devices/IotHubs/eventHubEndpoints/ConsumerGroups", "apiVersion": "2023-06-30",
           "name": "[concat(parameters('name'), '/events/cg1')]", "properties": {{ "name": "cg1" }},
           "dependsOn": ["[resourceId('Microsoft.Devices/IotHubs', parameters('name'))]"] }}
    ],
    "outputs": {outputs}
}}}}}}"#
    )
}

const OUTPUTS: &str =
    r#"{ "host": { "type": "string", "value": "[reference(parameters('name')).hostName]" } }"#;

/// Lets the driver go on, activating what it made, until its deployment has ended.
async fn ended(world: &World, name: &str) -> Value {
    for _ in 0..200 {
        world.finish_running();
        let seen = world.get(&path(name)).await.is(200).json();
        if seen["properties"]["provisioningState"] != "Running" {
            return seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the deployment does not end");
}

#[tokio::test(start_paused = true)]
async fn a_template_makes_a_hub_with_its_consumer_group_and_gives_outputs() {
    let world = World::with_group().await;
    let valid = world
        .post(&format!("{}/validate", path("d1")), &request(OUTPUTS))
        .await
        .is(200);
    assert_eq!(
        valid.json()["properties"]["validatedResources"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let begun = world.put(&path("d1"), &request(OUTPUTS)).await.is(201);
    let address = begun.header("azure-asyncoperation").unwrap().to_owned();
    let seen = ended(&world, "d1").await;
    assert_eq!(
        seen["properties"]["provisioningState"], "Succeeded",
        "{seen}"
    );
    assert_eq!(
        seen["properties"]["outputs"]["host"]["value"],
        "hub-t.hubs.localhost"
    );
    assert_eq!(
        world.follow(&address).await.is(200).json()["status"],
        "Succeeded"
    );
    let operations = format!("/subscriptions/{SUB}/resourcegroups/RG/deployments/d1/operations");
    let operations = world.get(&operations).await.is(200).json();
    assert_eq!(operations["value"].as_array().unwrap().len(), 2);
    assert_eq!(
        operations["value"][0]["properties"]["statusCode"],
        "Created"
    );
    let groups = HUB.replace("Hub-One", "hub-t");
    world
        .get(&format!(
            "{groups}/eventHubEndpoints/events/ConsumerGroups/cg1"
        ))
        .await
        .is(200);
    // Another deployment of the name has taken its place: nobody is told of it as of this one.
    let again = world.put(&path("d1"), &request(OUTPUTS)).await.is(201);
    assert_ne!(again.header("azure-asyncoperation").unwrap(), address);
    world
        .follow(&address)
        .await
        .refused(404, "DeploymentOperationNotFound", "again");
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_refused_fails_the_deployment_with_its_own_code() {
    let world = World::with_hub().await;
    let body = request(OUTPUTS)
        .replace("hub-t", "Hub-One")
        .replace(r#""capacity": 1"#, r#""capacity": 1 }, "tags": { "a": "b""#);
    let body = body.replace("/events/cg1", "/other/cg1");
    world.put(&path("d1"), &body).await.is(201);
    let seen = ended(&world, "d1").await;
    assert_eq!(seen["properties"]["provisioningState"], "Failed");
    assert_eq!(seen["properties"]["error"]["code"], "DeploymentFailed");
    assert_eq!(
        seen["properties"]["error"]["details"][0]["code"],
        "ResourceNotFound"
    );
}

#[tokio::test]
async fn templates_with_mistakes_are_refused_before_anything_is_done() {
    let world = World::with_group().await;
    let keys =
        r#"{ "k": { "type": "object", "value": "[listKeys(parameters('name'), '2023-06-30')]" } }"#;
    for (body, code, text) in [
        (request(keys), "InvalidTemplate", "outputs.k"),
        (
            request(OUTPUTS).replace("Incremental", "Complete"),
            "InvalidTemplate",
            "properties.mode",
        ),
        (
            request(OUTPUTS).replace("Microsoft.Devices/IotHubs\"", "Microsoft.Compute/disks\""),
            "InvalidTemplate",
            "Microsoft.Compute/disks",
        ),
        (
            request(OUTPUTS).replace("\"S1\"", "\"S9\""),
            "InvalidProperties",
            "sku",
        ),
        ("{".into(), "InvalidRequestContent", "could not be read"),
    ] {
        world.put(&path("d1"), &body).await.refused(400, code, text);
        world
            .post(&format!("{}/validate", path("d1")), &body)
            .await
            .refused(400, code, text);
    }
    world
        .get(&path("d1"))
        .await
        .refused(404, "DeploymentNotFound", "d1");
    world.call("HEAD", &path("d1"), "", &[]).await.is(404);
}

#[tokio::test]
async fn a_deployment_whose_node_is_lost_ends_as_failed() {
    let world = World::with_group().await;
    let deployment = serde_json::from_value(json!({
        "id": "x", "name": "lost", "subscription": SUB, "group": "RG", "correlation": "", "by": "", "status": "Running",
        "started": 0, "ended": null, "touched": 0, "cancelled": false, "parameters": {}, "outputs": null, "error": null, "steps": []
    }));
    let command = control::templates::TemplateCommand::Start {
        deployment: deployment.unwrap(),
    };
    world.fake.apply(control::Command::Template(command));
    assert_eq!(
        world.get(&path("lost")).await.json()["properties"]["provisioningState"],
        "Running"
    );
    world.advance(types::limits::TEMPLATE_SILENCE_MS + 1);
    let seen = world.get(&path("lost")).await.is(200).json();
    assert_eq!(seen["properties"]["error"]["code"], "DeploymentAbandoned");
    world.delete(&path("lost")).await.is(204);
    world.delete(&path("lost")).await.is(204);
}

#[tokio::test]
async fn an_exported_group_is_a_template_that_is_taken_and_has_no_keys() {
    let world = World::with_hub().await;
    let export = format!("/subscriptions/{SUB}/resourcegroups/RG/exportTemplate");
    let exported = world.post(&export, r#"{"resources":["*"]}"#).await.is(200);
    assert!(!exported.text.contains("primaryKey"), "{}", exported.text);
    let template = exported.json()["template"].clone();
    let again = json!({ "properties": { "mode": "Incremental", "template": template } });
    world
        .post(&format!("{}/validate", path("d")), &again.to_string())
        .await
        .is(200);
}
