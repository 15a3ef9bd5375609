//! A hub's `routing` property, read as a whole. Conditions are compiled at the edge.

use crate::naming::shown;
use serde_json::{Map, Value};
use std::sync::Arc;
use types::{Routing, limits};

/// What the property comes to (`None`: everything goes to the built-in endpoint, as it is), and its mistakes with their path.
pub fn read(stored: &Value) -> (Option<Arc<Routing>>, Vec<String>) {
    let mut mistakes = Vec::new();
    let routing = match &stored["routing"] {
        Value::Object(routing) => routing,
        _ => return (None, mistakes),
    };
    endpoints(routing, &mut mistakes);
    let mut read = Routing::default();
    let routes = items(routing, "routes", limits::ROUTES_MAX, &mut mistakes);
    for (at, route) in routes.iter().enumerate() {
        let path = format!("routing.routes[{at}]");
        if let Some(condition) = self::route(route, &path, &mut mistakes) {
            read.conditions.push(condition);
        }
    }
    read.fallback = match routing.get("fallbackRoute") {
        // Without any route there is nothing to fall back from.
        None | Some(Value::Null) => routes.is_empty(),
        Some(fallback) => {
            self::route(fallback, "routing.fallbackRoute", &mut mistakes);
            fallback["isEnabled"] == true
        }
    };
    let enrichments = items(
        routing,
        "enrichments",
        limits::ENRICHMENTS_MAX,
        &mut mistakes,
    );
    for (at, enrichment) in enrichments.iter().enumerate() {
        let path = format!("routing.enrichments[{at}]");
        read.enrichments
            .extend(enrich(enrichment, &path, &mut mistakes));
    }
    let plain = read.fallback && read.enrichments.is_empty();
    ((!plain).then(|| Arc::new(read)), mistakes)
}

fn items<'a>(
    routing: &'a Map<String, Value>,
    name: &str,
    most: usize,
    mistakes: &mut Vec<String>,
) -> &'a [Value] {
    match routing.get(name) {
        None | Some(Value::Null) => &[],
        Some(Value::Array(items)) if items.len() <= most => items,
        Some(Value::Array(_)) => {
            mistakes.push(format!("routing.{name}: there may be at most {most}"));
            &[]
        }
        Some(_) => {
            mistakes.push(format!("routing.{name}: an array is expected"));
            &[]
        }
    }
}

/// Only the built-in endpoint is there.
fn endpoints(routing: &Map<String, Value>, mistakes: &mut Vec<String>) {
    let endpoints = match routing.get("endpoints") {
        None | Some(Value::Null) => return,
        Some(Value::Object(endpoints)) => endpoints,
        Some(_) => return mistakes.push("routing.endpoints: an object is expected".into()),
    };
    for (kind, items) in endpoints {
        match items {
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            _ => mistakes.push(format!(
                "routing.endpoints.{}: custom endpoints are not available here, only the built-in 'events'",
                shown(kind)
            )),
        }
    }
}

/// The condition of a route that is enabled.
fn route(route: &Value, path: &str, mistakes: &mut Vec<String>) -> Option<String> {
    let Some(fields) = route.as_object() else {
        mistakes.push(format!("{path}: an object is expected"));
        return None;
    };
    match fields.get("source").and_then(Value::as_str) {
        Some(source) if source.eq_ignore_ascii_case("DeviceMessages") => {}
        Some(source) => mistakes.push(format!(
            "{path}.source: '{}' is not available here, only 'DeviceMessages'",
            shown(source)
        )),
        None => mistakes.push(format!("{path}.source: a text is expected")),
    }
    names(fields, path, mistakes);
    let enabled = match fields.get("isEnabled") {
        Some(Value::Bool(enabled)) => *enabled,
        _ => {
            mistakes.push(format!("{path}.isEnabled: true or false is expected"));
            false
        }
    };
    let condition = match fields.get("condition") {
        None | Some(Value::Null) => "true",
        Some(Value::String(text)) if text.len() <= limits::ROUTE_CONDITION_BYTES_MAX => text,
        _ => {
            mistakes.push(format!(
                "{path}.condition: a text of at most 8 KiB is expected"
            ));
            return None;
        }
    };
    enabled.then(|| condition.to_owned())
}

fn names(fields: &Map<String, Value>, path: &str, mistakes: &mut Vec<String>) {
    let names = fields.get("endpointNames").and_then(Value::as_array);
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        return mistakes.push(format!(
            "{path}.endpointNames: the name of an endpoint is expected"
        ));
    };
    for name in names {
        if !name
            .as_str()
            .is_some_and(|name| name.eq_ignore_ascii_case("events"))
        {
            mistakes.push(format!(
                "{path}.endpointNames: {} is not available here, only the built-in 'events'",
                shown(&name.to_string())
            ));
        }
    }
}

fn enrich(item: &Value, path: &str, mistakes: &mut Vec<String>) -> Option<(String, String)> {
    let Some(fields) = item.as_object() else {
        mistakes.push(format!("{path}: an object is expected"));
        return None;
    };
    names(fields, path, mistakes);
    let text = |name: &str| {
        fields
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty() && text.len() <= limits::ENRICHMENT_BYTES_MAX)
    };
    let (Some(key), Some(value)) = (text("key"), text("value")) else {
        mistakes.push(format!(
            "{path}: 'key' and 'value' must be texts of at most {} bytes",
            limits::ENRICHMENT_BYTES_MAX
        ));
        return None;
    };
    if key
        .contains(|c: char| c.is_whitespace() || c.is_control() || "()<>@,;:\\\"/?={}$".contains(c))
    {
        mistakes.push(format!(
            "{path}.key: '{}' is no name of a property",
            shown(key)
        ));
        return None;
    }
    if value.starts_with('$') && !value.eq_ignore_ascii_case("$iothubname") {
        mistakes.push(format!(
            "{path}.value: '{}' is not available here, only plain texts and '$iothubname'",
            shown(value)
        ));
        return None;
    }
    Some((key.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn refused(routing: Value, path: &str) {
        let (_, mistakes) = read(&json!({ "routing": routing }));
        assert!(
            mistakes.iter().any(|mistake| mistake.starts_with(path)),
            "{mistakes:?}"
        );
    }

    fn route(condition: &str, enabled: bool) -> Value {
        json!({ "name": "r", "source": "DeviceMessages", "condition": condition, "endpointNames": ["events"], "isEnabled": enabled })
    }

    #[test]
    fn a_hub_without_routes_keeps_everything() {
        assert_eq!(read(&json!({})), (None, vec![]));
        assert_eq!(read(&json!({ "routing": {} })), (None, vec![]));
        let fallback =
            json!({ "routes": [route("a = 1", true)], "fallbackRoute": route("true", true) });
        assert_eq!(read(&json!({ "routing": fallback })), (None, vec![]));
    }

    #[test]
    fn routes_that_are_on_count_and_without_a_fallback_the_rest_is_dropped() {
        let routing = json!({ "routes": [route("a = 1", true), route("b = 1", false)] });
        let (read, mistakes) = read(&json!({ "routing": routing }));
        let expected = Routing {
            conditions: vec!["a = 1".into()],
            fallback: false,
            enrichments: vec![],
        };
        assert_eq!((read.as_deref(), mistakes), (Some(&expected), vec![]));
    }

    #[test]
    fn what_is_not_available_is_named_with_its_path() {
        refused(
            json!({ "endpoints": { "eventHubs": [{ "name": "e" }] } }),
            "routing.endpoints.eventHubs",
        );
        let other = json!({ "name": "r", "source": "TwinChangeEvents", "condition": "true", "endpointNames": ["mine"], "isEnabled": true });
        refused(
            json!({ "routes": [other.clone()] }),
            "routing.routes[0].source",
        );
        refused(
            json!({ "routes": [other] }),
            "routing.routes[0].endpointNames",
        );
        let twin = json!({ "key": "k", "value": "$twin.tags.a", "endpointNames": ["events"] });
        refused(
            json!({ "enrichments": [twin] }),
            "routing.enrichments[0].value",
        );
    }
}
