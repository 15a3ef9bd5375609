//! Routes of a hub, tried on a message.

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::Failure;
use crate::fields::Mistakes;
use crate::hub_body::{Shape, body};
use serde_json::{Map, Value, json};
use wire::condition::{Condition, ConditionError};
use wire::property_bag::Builder;
use wire::routing::Sample;

/// Names every condition of a hub's `routing` that is not understood.
pub fn check(properties: Option<&Map<String, Value>>, mistakes: &mut Mistakes) {
    let Some(routing) = properties.and_then(|properties| properties.get("routing")) else {
        return;
    };
    let routes = routing["routes"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate();
    let routes = routes.map(|(at, route)| (format!("routing.routes[{at}]"), route));
    let fallback = (
        "routing.fallbackRoute".to_owned(),
        &routing["fallbackRoute"],
    );
    for (path, route) in routes.chain([fallback]) {
        if let Some(Err(error)) = route["condition"].as_str().map(Condition::parse) {
            mistakes.add(&format!("{path}.condition"), error);
        }
    }
}

/// Tries one route: `true`, `false`, or `undefined` with what is not understood.
pub fn test_one(call: &Call) -> Outcome {
    call.hub()?;
    let wanted = call.json()?;
    let route = &wanted["route"];
    if !route.is_object() {
        return Err(Failure::bad(
            "InvalidProperties",
            "route: an object is expected",
        ));
    }
    let (result, errors) = match compiled(route) {
        Err(error) => ("undefined", vec![compilation(&error)]),
        Ok(condition) => {
            let message = sample(&wanted["message"])?;
            let errors = twin(&condition).into_iter().collect();
            match condition.holds(&message) {
                Some(true) => ("true", errors),
                Some(false) => ("false", errors),
                None => ("undefined", errors),
            }
        }
    };
    answer::ok(&json!({ "result": result, "details": { "compilationErrors": errors } }))
}

/// The routes of the hub that a message takes.
pub fn test_all(call: &Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = call.json()?;
    let source = wanted["routingSource"].as_str();
    let message = sample(&wanted["message"])?;
    let shown = body(call, hub, &Shape::Listed);
    let routing = &shown["properties"]["routing"];
    let fits = |route: &&Value| {
        let of = route["source"].as_str().unwrap_or_default();
        route["isEnabled"] == true
            && source.is_none_or(|source| source.eq_ignore_ascii_case(of))
            && compiled(route).is_ok_and(|condition| condition.holds(&message) == Some(true))
    };
    let mut taken: Vec<&Value> = routing["routes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(fits)
        .collect();
    if taken.is_empty() {
        taken.extend(Some(&routing["fallbackRoute"]).filter(fits));
    }
    let routes: Vec<Value> = taken
        .into_iter()
        .map(|route| json!({ "properties": route }))
        .collect();
    answer::ok(&json!({ "routes": routes }))
}

fn compiled(route: &Value) -> Result<Condition, ConditionError> {
    Condition::parse(route["condition"].as_str().unwrap_or("true"))
}

fn compilation(error: &ConditionError) -> Value {
    let at = |position: usize| json!({ "line": 1, "column": position + 1 });
    json!({
        "message": error.message,
        "severity": "error",
        "location": { "start": at(error.start), "end": at(error.end) },
    })
}

fn twin(condition: &Condition) -> Option<Value> {
    condition.reads_twin().then(|| {
        json!({
            "message": "$twin is not available in routes here; it is always undefined",
            "severity": "warning",
        })
    })
}

/// A message as the request describes it.
fn sample(message: &Value) -> Result<Sample, Failure> {
    let mut builder = Builder::new();
    for (field, is_system) in [("systemProperties", true), ("appProperties", false)] {
        let fields = match &message[field] {
            Value::Null => continue,
            Value::Object(fields) => fields,
            _ => return Err(wrong(field, "an object is expected")),
        };
        for (name, value) in fields {
            let value = value
                .as_str()
                .ok_or_else(|| wrong(field, "its values must be texts"))?;
            builder = match is_system {
                true => builder.system(wire::routing::short_name(name).unwrap_or(name), value),
                false => builder.application(name, Some(value)),
            };
        }
    }
    let body = match &message["body"] {
        Value::Null => "",
        Value::String(text) => text,
        _ => return Err(wrong("body", "a text is expected")),
    };
    Ok(Sample::of("", &builder.finish(), body.as_bytes(), true))
}

fn wrong(field: &str, why: &str) -> Failure {
    Failure::bad("InvalidProperties", format!("message.{field}: {why}"))
}

#[cfg(test)]
mod tests {
    use crate::tests::world::{HUB, World};
    use serde_json::json;

    #[tokio::test]
    async fn a_route_is_tried_on_a_message_and_mistakes_are_placed() {
        let world = World::with_hub().await;
        let test = format!("{HUB}/routing/routes/$testnew");
        for (condition, result, errors) in [
            ("kind = 'a' AND $body.t > 3", "true", 0),
            ("kind = 'b'", "false", 0),
            ("$twin.tags.x = 1", "undefined", 1),
            ("kind =", "undefined", 1),
        ] {
            let body = json!({
                "message": { "body": "{\"t\":4}", "appProperties": { "kind": "a" },
                    "systemProperties": { "contentType": "application/json", "contentEncoding": "utf-8" } },
                "route": { "name": "r", "source": "DeviceMessages", "condition": condition, "endpointNames": ["events"], "isEnabled": true },
            });
            let seen = world.post(&test, &body.to_string()).await.is(200).json();
            assert_eq!(seen["result"], result, "{condition}");
            assert_eq!(
                seen["details"]["compilationErrors"]
                    .as_array()
                    .unwrap()
                    .len(),
                errors
            );
        }
    }

    #[tokio::test]
    async fn without_a_route_that_fits_the_fallback_is_taken() {
        let world = World::with_hub().await;
        let test = format!("{HUB}/routing/routes/$testall");
        let seen = world
            .post(&test, r#"{"routingSource":"DeviceMessages","message":{}}"#)
            .await
            .is(200);
        assert_eq!(seen.json()["routes"][0]["properties"]["name"], "$fallback");
    }
}
