//! A template and its parameters, read into the resources that are to be written, in their order. Pure.

use super::expression::{Resources, Scope, evaluate};
use crate::failure::shown;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use types::limits;

/// Resource types that templates may name.
const KINDS: [&str; 3] = [
    "Microsoft.Devices/IotHubs",
    "Microsoft.Devices/IotHubs/eventHubEndpoints/ConsumerGroups",
    "Microsoft.Devices/IotHubs/certificates",
];

/// Fields of a resource in a template that are not part of its body.
const NOT_BODY: [&str; 10] = [
    "type",
    "name",
    "apiVersion",
    "dependsOn",
    "condition",
    "comments",
    "resources",
    "scope",
    "copy",
    "metadata",
];

/// Where a template is deployed.
#[derive(Clone, Debug)]
pub struct Place {
    pub subscription: Value,
    pub tenant: String,
    pub group: Value,
    /// Path of the resource group.
    pub path: String,
    pub deployment: String,
}

/// A template, understood.
#[derive(Clone, Debug)]
pub struct Plan {
    pub resources: Vec<Resource>,
    /// As they are shown: secure ones without their value.
    pub shown: Value,
    parameters: BTreeMap<String, Value>,
    variables: Map<String, Value>,
    outputs: Map<String, Value>,
    /// The template leaves resources out on a condition: others may still name them.
    leaves_out: bool,
    place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub kind: String,
    pub name: String,
    pub api_version: String,
    /// Its path.
    pub id: String,
    pub body: Value,
    symbol: Option<String>,
    needs: Vec<String>,
}

/// `/providers/Namespace/type/name/subtype/subname`.
///
/// # Errors
/// When types and names do not fit together.
pub fn resource_path(kind: &str, names: &[&str]) -> Result<String, String> {
    let mut parts = kind.split('/');
    let namespace = parts.next().unwrap_or_default();
    let kinds: Vec<&str> = parts.collect();
    let names: Vec<&str> = names.iter().flat_map(|name| name.split('/')).collect();
    if kinds.is_empty() || kinds.len() != names.len() || names.iter().any(|name| name.is_empty()) {
        return Err(format!(
            "the type '{}' needs {} name(s), '{}' has {}",
            shown(kind),
            kinds.len(),
            shown(&names.join("/")),
            names.len()
        ));
    }
    let mut path = format!("/providers/{namespace}");
    for (kind, name) in kinds.iter().zip(names) {
        path.push_str(&format!("/{kind}/{name}"));
    }
    Ok(path)
}

impl Plan {
    /// Reads a deployment's `properties`.
    ///
    /// # Errors
    /// Every mistake that was found, each with its place.
    pub fn read(properties: &Value, place: Place) -> Result<Plan, Vec<String>> {
        let template = template(properties)?;
        let mut mistakes = Vec::new();
        let variables = object(template, "variables", &mut mistakes);
        if variables.contains_key("copy") {
            mistakes.push("variables.copy: copy loops are not available here".into());
        }
        let mut plan = Plan {
            resources: Vec::new(),
            shown: Value::Null,
            parameters: BTreeMap::new(),
            variables,
            outputs: object(template, "outputs", &mut mistakes),
            leaves_out: false,
            place,
        };
        plan.read_parameters(template, &properties["parameters"], &mut mistakes);
        // Without its parameters nothing else can be understood.
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let found = match &template["resources"] {
            Value::Null => Vec::new(),
            Value::Array(items) => items.iter().map(|item| (None, item)).collect(),
            Value::Object(items) => {
                let named = items.iter();
                named
                    .map(|(name, item)| (Some(name.clone()), item))
                    .collect()
            }
            _ => return Err(vec!["resources: an array is expected".into()]),
        };
        for (at, (symbol, item)) in found.into_iter().enumerate() {
            let path = match &symbol {
                Some(symbol) => format!("resources.{}", shown(symbol)),
                None => format!("resources[{at}]"),
            };
            plan.read_resource(item, symbol, None, &path, &mut mistakes);
        }
        if plan.resources.len() > limits::TEMPLATE_RESOURCES_MAX {
            mistakes.push(format!(
                "resources: there are more than {}",
                limits::TEMPLATE_RESOURCES_MAX
            ));
        }
        plan.order(&mut mistakes);
        match mistakes.is_empty() {
            true => Ok(plan),
            false => Err(mistakes),
        }
    }

    fn scope<'a>(&'a self, resource: Option<&'a Resources>) -> Scope<'a> {
        Scope {
            parameters: &self.parameters,
            variables: &self.variables,
            subscription: &self.place.subscription,
            tenant: &self.place.tenant,
            group: &self.place.group,
            deployment: &self.place.deployment,
            resource,
        }
    }

    fn read_parameters(&mut self, template: &Value, given: &Value, mistakes: &mut Vec<String>) {
        let known = object(template, "parameters", mistakes);
        let given = match given {
            Value::Null => Map::new(),
            Value::Object(fields) => fields.clone(),
            _ => {
                mistakes.push("parameters: an object is expected".into());
                return;
            }
        };
        for name in given.keys() {
            if !known.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                mistakes.push(format!(
                    "parameters.{}: the template has no such parameter",
                    shown(name)
                ));
            }
        }
        let mut listed = Map::new();
        for (name, definition) in &known {
            let given = super::expression::field(&given, name);
            match self.parameter(definition, given) {
                Ok(value) => {
                    let kind = definition["type"].as_str().unwrap_or_default();
                    let mut item = json!({ "type": canonical(kind) });
                    if !secure(kind) {
                        item["value"] = value.clone();
                    }
                    listed.insert(name.clone(), item);
                    self.parameters.insert(name.to_lowercase(), value);
                }
                Err(why) => mistakes.push(format!("parameters.{}: {why}", shown(name))),
            }
        }
        self.shown = Value::Object(listed);
    }

    fn parameter(&self, definition: &Value, given: Option<&Value>) -> Result<Value, String> {
        let kind = definition["type"].as_str().ok_or("its type is missing")?;
        let value = match given {
            Some(given) if !given["reference"].is_null() => {
                return Err("references to key vaults are not available here".into());
            }
            Some(given) => given
                .get("value")
                .cloned()
                .ok_or("its 'value' is missing")?,
            None => {
                let default = definition.get("defaultValue");
                evaluate(
                    default.ok_or("it is missing and has no default")?,
                    &self.scope(None),
                )?
            }
        };
        let fits = match canonical(kind) {
            "String" | "SecureString" => value.is_string(),
            "Int" => value.is_i64() || value.is_u64(),
            "Bool" => value.is_boolean(),
            "Array" => value.is_array(),
            "Object" | "SecureObject" => value.is_object(),
            _ => return Err(format!("the type '{}' is not known", shown(kind))),
        };
        if !fits {
            return Err(format!("a value of type {kind} is expected"));
        }
        bounds(definition, &value)?;
        if let Some(allowed) = definition["allowedValues"].as_array()
            && !allowed.contains(&value)
        {
            return Err("it is none of the allowed values".into());
        }
        Ok(value)
    }

    fn read_resource(
        &mut self,
        item: &Value,
        symbol: Option<String>,
        parent: Option<(&str, &str, &str)>,
        path: &str,
        mistakes: &mut Vec<String>,
    ) {
        match self.resource(item, symbol, parent) {
            Ok(None) => self.leaves_out = true,
            Ok(Some(resource)) => {
                let (kind, name, id) = (
                    resource.kind.clone(),
                    resource.name.clone(),
                    resource.id.clone(),
                );
                if self.resources.iter().any(|known| same(&known.id, &id)) {
                    mistakes.push(format!(
                        "{path}: '{}' stands twice in the template",
                        shown(&id)
                    ));
                }
                self.resources.push(resource);
                for (at, child) in item["resources"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .enumerate()
                {
                    // Types nest three deep at most, so this ends.
                    let path = format!("{path}.resources[{at}]");
                    if kind.split('/').count() > 4 {
                        mistakes.push(format!("{path}: resources are nested too deeply"));
                        continue;
                    }
                    self.read_resource(child, None, Some((&kind, &name, &id)), &path, mistakes);
                }
            }
            Err(why) => mistakes.push(format!("{path}: {why}")),
        }
    }

    /// `None`: its condition is false.
    fn resource(
        &self,
        item: &Value,
        symbol: Option<String>,
        parent: Option<(&str, &str, &str)>,
    ) -> Result<Option<Resource>, String> {
        let fields = item.as_object().ok_or("an object is expected")?;
        for unknown in ["copy", "scope"] {
            if fields.get(unknown).is_some_and(|value| !value.is_null()) {
                return Err(format!("'{unknown}' is not available here"));
            }
        }
        if fields.get("existing").and_then(Value::as_bool) == Some(true) {
            return Ok(None);
        }
        let scope = self.scope(None);
        let text = |name: &str| -> Result<String, String> {
            let value = fields
                .get(name)
                .ok_or_else(|| format!("'{name}' is missing"))?;
            match evaluate(value, &scope)? {
                Value::String(text) if !text.is_empty() => Ok(text),
                _ => Err(format!("'{name}' must be a text")),
            }
        };
        match fields
            .get("condition")
            .map(|value| evaluate(value, &scope))
            .transpose()?
        {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Ok(None),
            Some(_) => return Err("'condition' is not true or false".into()),
        }
        let (kind, name) = match parent {
            None => (text("type")?, text("name")?),
            Some((kind, name, _)) => (
                format!("{kind}/{}", text("type")?),
                format!("{name}/{}", text("name")?),
            ),
        };
        let kind = KINDS
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(&kind))
            .ok_or_else(|| {
                format!(
                    "the resource type '{}' is not available in this deployment; templates may have {}",
                    shown(&kind),
                    KINDS.join(", ")
                )
            })?;
        let id = format!("{}{}", self.place.path, resource_path(kind, &[&name])?);
        let mut body = Map::new();
        for (name, value) in fields {
            if !NOT_BODY.contains(&name.as_str()) {
                body.insert(name.clone(), evaluate(value, &scope)?);
            }
        }
        let mut needs = Vec::new();
        for need in fields
            .get("dependsOn")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            match evaluate(need, &scope)? {
                Value::String(need) => needs.push(need),
                _ => return Err("'dependsOn' must hold texts".into()),
            }
        }
        needs.extend(parent.map(|(_, _, id)| id.to_owned()));
        Ok(Some(Resource {
            kind: kind.into(),
            name,
            api_version: text("apiVersion")?,
            id,
            body: Value::Object(body),
            symbol,
            needs,
        }))
    }

    /// Puts each resource after those it depends on.
    fn order(&mut self, mistakes: &mut Vec<String>) {
        let mut waiting = std::mem::take(&mut self.resources);
        let meant = |need: &str, resource: &Resource| {
            same(need, &resource.id)
                || same(need, &resource.name)
                || same(need, &format!("{}/{}", resource.kind, resource.name))
                || resource.symbol.as_deref() == Some(need)
        };
        for resource in &waiting {
            for need in &resource.needs {
                if !waiting.iter().any(|other| meant(need, other)) && !self.leaves_out {
                    mistakes.push(format!(
                        "{}: it depends on '{}', which the template does not have",
                        shown(&resource.name),
                        shown(need)
                    ));
                }
            }
        }
        while !waiting.is_empty() {
            let next = waiting.iter().position(|resource| {
                let blocked = |need: &String| waiting.iter().any(|other| meant(need, other));
                !resource.needs.iter().any(blocked)
            });
            let Some(next) = next else {
                mistakes.push("resources: they depend on each other in a circle".into());
                return;
            };
            self.resources.push(waiting.remove(next));
        }
    }

    /// The outputs, once everything is there. `resource`: the body of a resource by its path.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn outputs(
        &self,
        resource: &(dyn Fn(&str) -> Option<Value> + Sync),
    ) -> Result<Value, String> {
        let scope = self.scope(Some(resource));
        let mut all = Map::new();
        for (name, output) in &self.outputs {
            let said = |why: String| format!("outputs.{}: {why}", shown(name));
            if let Some(condition) = output.get("condition")
                && evaluate(condition, &scope).map_err(said)? == Value::Bool(false)
            {
                continue;
            }
            let kind = output["type"].as_str().unwrap_or("Object");
            let value = evaluate(&output["value"], &scope).map_err(said)?;
            let mut item = json!({ "type": canonical(kind) });
            // Secure outputs are never shown, so they are not kept either.
            if !secure(kind) {
                item["value"] = value;
            }
            all.insert(name.clone(), item);
        }
        let all = Value::Object(all);
        match all.to_string().len() > limits::TEMPLATE_VALUES_BYTES_MAX {
            true => Err("outputs: they are too large".into()),
            false => Ok(all),
        }
    }

    /// Mistakes in outputs that can be seen before anything is done.
    ///
    /// # Errors
    /// That keys are asked for.
    pub fn check_outputs(&self) -> Result<(), Vec<String>> {
        let asks = |value: &Value| value.to_string().to_ascii_lowercase().contains("listkeys(");
        let asking = self.outputs.iter().filter(|(_, output)| asks(output));
        let mistakes: Vec<String> = asking
            .map(|(name, _)| {
                format!(
                    "outputs.{}: keys are secrets and are not kept in deployments; ask for them with listkeys afterwards",
                    shown(name)
                )
            })
            .collect();
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(mistakes),
        }
    }
}

fn template(properties: &Value) -> Result<&Value, Vec<String>> {
    let one = |why: &str| Err(vec![why.to_owned()]);
    if !properties.is_object() {
        return one("properties: it is missing");
    }
    match properties["mode"].as_str() {
        Some(mode) if mode.eq_ignore_ascii_case("Incremental") => {}
        Some(_) => return one("properties.mode: only 'Incremental' is available here"),
        None => return one("properties.mode: it is missing"),
    }
    for other in ["templateLink", "parametersLink", "onErrorDeployment"] {
        if !properties[other].is_null() {
            return Err(vec![format!(
                "properties.{other}: it is not available here; send the template itself"
            )]);
        }
    }
    match &properties["template"] {
        template @ Value::Object(_) => Ok(template),
        _ => one("properties.template: it is missing"),
    }
}

fn object(template: &Value, name: &str, mistakes: &mut Vec<String>) -> Map<String, Value> {
    match &template[name] {
        Value::Null => Map::new(),
        Value::Object(fields) => fields.clone(),
        _ => {
            mistakes.push(format!("{name}: an object is expected"));
            Map::new()
        }
    }
}

fn bounds(definition: &Value, value: &Value) -> Result<(), String> {
    let size = match value {
        Value::String(text) => Some(text.chars().count()),
        Value::Array(items) => Some(items.len()),
        _ => None,
    };
    let number = value.as_i64();
    let length = size.and_then(|size| i64::try_from(size).ok());
    for (name, of, least) in [
        ("minLength", length, true),
        ("maxLength", length, false),
        ("minValue", number, true),
        ("maxValue", number, false),
    ] {
        if let (Some(bound), Some(of)) = (definition[name].as_i64(), of)
            && (if least { of < bound } else { of > bound })
        {
            return Err(format!("it does not fit '{name}' ({bound})"));
        }
    }
    Ok(())
}

fn canonical(kind: &str) -> &'static str {
    match kind.to_ascii_lowercase().as_str() {
        "string" => "String",
        "securestring" => "SecureString",
        "int" => "Int",
        "bool" => "Bool",
        "array" => "Array",
        "object" => "Object",
        "secureobject" => "SecureObject",
        _ => "Unknown",
    }
}

fn secure(kind: &str) -> bool {
    canonical(kind).starts_with("Secure")
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(template: Value, parameters: Value) -> Result<Plan, Vec<String>> {
        let properties =
            json!({ "mode": "Incremental", "template": template, "parameters": parameters });
        Plan::read(
            &properties,
            Place {
                subscription: json!({ "subscriptionId": "s" }),
                tenant: "t".into(),
                group: json!({ "name": "rg", "location": "westus2" }),
                path: "/subscriptions/s/resourceGroups/rg".into(),
                deployment: "d".into(),
            },
        )
    }

    fn hub(name: &str, more: Value) -> Value {
        let mut hub = json!({ "type": "Microsoft.Devices/IotHubs", "apiVersion": "2023-06-30", "name": name, "location": "[resourceGroup().location]" });
        for (name, value) in more.as_object().unwrap() {
            hub[name] = value.clone();
        }
        hub
    }

    #[track_caller]
    fn refused(template: Value, parameters: Value, why: &str) {
        let mistakes = read(template, parameters).unwrap_err().join("; ");
        assert!(mistakes.contains(why), "{mistakes}");
    }

    #[test]
    fn resources_come_after_what_they_depend_on_and_children_after_their_parent() {
        let group = json!({ "type": "Microsoft.Devices/IotHubs/eventHubEndpoints/ConsumerGroups", "apiVersion": "2023-06-30",
            "name": "[concat(parameters('hub'), '/events/cg')]",
            "dependsOn": ["[resourceId('Microsoft.Devices/IotHubs', parameters('hub'))]"] });
        let child = json!({ "type": "eventHubEndpoints/ConsumerGroups", "apiVersion": "2023-06-30", "name": "events/two" });
        let template = json!({ "parameters": { "hub": { "type": "string" } },
            "resources": [group, hub("[parameters('hub')]", json!({ "resources": [child] }))] });
        let plan = read(template, json!({ "hub": { "value": "h" } })).unwrap();
        let names: Vec<_> = plan.resources.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["h", "h/events/cg", "h/events/two"]);
        assert_eq!(plan.resources[0].body, json!({ "location": "westus2" }));
        assert_eq!(
            plan.resources[1].id,
            "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Devices/IotHubs/h/eventHubEndpoints/events/ConsumerGroups/cg"
        );
    }

    #[test]
    fn every_mistake_of_the_parameters_is_named() {
        let template = json!({ "parameters": { "a": { "type": "int" }, "b": { "type": "string" }, "c": { "type": "string", "allowedValues": ["x"] } } });
        let given = json!({ "a": { "value": "1" }, "c": { "value": "y" }, "d": { "value": 1 } });
        let mistakes = read(template, given).unwrap_err();
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        let disk =
            json!({ "type": "Microsoft.Compute/disks", "apiVersion": "2020-01-01", "name": "d" });
        refused(
            json!({ "resources": [disk] }),
            Value::Null,
            "Microsoft.Compute/disks",
        );
        refused(
            json!({ "resources": [hub("h", json!({ "copy": { "count": 2 } }))] }),
            Value::Null,
            "'copy'",
        );
        let circle = json!([
            hub("a", json!({ "dependsOn": ["b"] })),
            hub("b", json!({ "dependsOn": ["a"] }))
        ]);
        refused(json!({ "resources": circle }), Value::Null, "circle");
        refused(
            json!({ "resources": [hub("a", json!({ "dependsOn": ["z"] }))] }),
            Value::Null,
            "'z'",
        );
    }

    #[test]
    fn secure_values_are_not_shown_and_keys_are_refused() {
        let template = json!({ "parameters": { "p": { "type": "secureString" } },
            "outputs": { "o": { "type": "secureString", "value": "[parameters('p')]" }, "k": { "type": "object", "value": "[listKeys('x', '1')]" } } });
        let plan = read(template, json!({ "p": { "value": "hidden" } })).unwrap();
        assert!(!plan.shown.to_string().contains("hidden"));
        assert!(plan.check_outputs().unwrap_err()[0].contains("outputs.k"));
    }

    #[test]
    fn a_resource_whose_condition_is_false_is_left_out() {
        let plan = read(
            json!({ "resources": [hub("h", json!({ "condition": "[equals(1, 2)]" }))] }),
            Value::Null,
        );
        assert!(plan.unwrap().resources.is_empty());
    }
}
