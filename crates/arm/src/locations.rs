//! Locations as clients write them, and whether they run here.

use crate::call::Call;
use crate::failure::{Failure, shown};
use control::Hub;
use serde_json::Value;
use types::RegionName;

/// A location for a new hub must run here; that of an existing one is compared by the control plane.
pub fn of_hub(call: &Call, body: &Value, existing: Option<&Hub>) -> Result<RegionName, Failure> {
    let given = match body.get("location") {
        Some(Value::String(text)) if !text.trim().is_empty() => text,
        None | Some(Value::Null | Value::String(_)) => {
            let message = "The location property is required for this definition.";
            return Err(Failure::bad("LocationRequired", message));
        }
        Some(_) => {
            return Err(Failure::bad(
                "LocationRequired",
                "The location property must be a text.",
            ));
        }
    };
    let name = region_named(call, given);
    match name {
        Some(name) if existing.is_some() || call.state.deployment.regions.contains(&name) => {
            Ok(name)
        }
        _ => Err(Failure::bad(
            "LocationNotAvailableForResourceType",
            format!(
                "The provided location '{}' is not available for resource type 'Microsoft.Devices/IotHubs'. {}",
                shown(given),
                why_not_running(call, given)
            ),
        )),
    }
}

/// A region by its display name or its short name.
pub fn region_named(call: &Call, given: &str) -> Option<RegionName> {
    let given = given.trim();
    let mut catalogue = call.api.backend.catalogue().iter();
    catalogue
        .find(|region| region.display_name.eq_ignore_ascii_case(given))
        .map(|region| region.name.clone())
        .or_else(|| RegionName::parse(given).ok())
}

/// Says whether a region is known at all, and which ones run here.
pub fn why_not_running(call: &Call, given: &str) -> String {
    let known =
        region_named(call, given).filter(|name| call.api.backend.catalogue().get(name).is_some());
    let running: Vec<&str> = call
        .state
        .deployment
        .regions
        .iter()
        .map(RegionName::as_str)
        .collect();
    let what = match known {
        Some(name) => format!("The region '{name}' is not running here"),
        None => format!("'{}' is not the name of a region", shown(given)),
    };
    format!(
        "{what}; the regions running here are: {}.",
        running.join(", ")
    )
}

/// The pair that the catalogue names, if it runs here.
pub fn pair_of(call: &Call, home: &RegionName) -> Option<RegionName> {
    let pair = call
        .api
        .backend
        .catalogue()
        .get(home)?
        .paired_with
        .clone()?;
    call.state
        .deployment
        .regions
        .contains(&pair)
        .then_some(pair)
}
