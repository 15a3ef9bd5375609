//! The generic list of resources; IoT hubs are the only ones.

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use crate::hub_body;
use crate::hubs;
use control::Hub;
use serde_json::json;

pub fn of_subscription(call: &Call) -> Outcome {
    let hubs = call.state.hubs_of_subscription(&call.subscription()?.id);
    list(call, hubs)
}

pub fn of_group(call: &Call) -> Outcome {
    let group = call.group()?;
    list(
        call,
        call.state.hubs_of_group(&group.subscription, &group.name),
    )
}

fn list<'a>(call: &Call, hubs: impl Iterator<Item = &'a Hub>) -> Outcome {
    let filter = Filter::read(call.query("$filter").unwrap_or_default())?;
    let item = |hub: &Hub| {
        json!({
            "id": hub.path(),
            "name": hub.name,
            "type": hub_body::TYPE,
            "sku": hub_body::sku(hub),
            "location": hub.home,
            "tags": hub.tags,
        })
    };
    let reach = call.reach(hubs::READ);
    let seen = hubs.filter(|hub| filter.passes(hub) && reach.covers(&hub.path()));
    answer::list(seen.map(item).collect())
}

/// Conditions `FIELD eq 'VALUE'`, joined by `and`.
struct Filter(Vec<(Field, String)>);

#[derive(Clone, Copy)]
enum Field {
    Group,
    Type,
    Name,
    Location,
}

impl Filter {
    fn read(text: &str) -> Result<Filter, Failure> {
        let wrong = |part: &str| {
            Failure::bad(
                "InvalidFilterInQueryString",
                format!(
                    "The filter '{}' is not understood: only resourceGroup, resourceType, name and location with eq and and are.",
                    shown(part)
                ),
            )
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(Filter(Vec::new()));
        }
        let condition = |part: &str| {
            let mut words = part.trim().splitn(3, ' ');
            let (name, verb, value) = (words.next()?, words.next()?, words.next()?);
            let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            let field = match name.to_ascii_lowercase().as_str() {
                "resourcegroup" => Field::Group,
                "resourcetype" => Field::Type,
                "name" => Field::Name,
                "location" => Field::Location,
                _ => return None,
            };
            (verb.eq_ignore_ascii_case("eq") && !value.contains('\''))
                .then(|| (field, value.to_owned()))
        };
        text.split(" and ")
            .map(|part| condition(part).ok_or_else(|| wrong(part)))
            .collect::<Result<Vec<_>, _>>()
            .map(Filter)
    }

    fn passes(&self, hub: &Hub) -> bool {
        self.0.iter().all(|(field, value)| {
            let found = match field {
                Field::Group => &hub.resource_group,
                Field::Type => hub_body::TYPE,
                Field::Name => hub.name.as_str(),
                Field::Location => hub.home.as_str(),
            };
            found.to_lowercase() == value.to_lowercase()
        })
    }
}
