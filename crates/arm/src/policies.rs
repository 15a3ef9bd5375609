//! Shared access policies: their rights as text, their keys, and who may see them (only these two routes).

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use crate::ids;
use serde_json::{Value, json};
use types::{Policy, Rights};

const READ: &str = "RegistryRead";
const WRITE: &str = "RegistryWrite";
const SERVICE: &str = "ServiceConnect";
const DEVICE: &str = "DeviceConnect";

/// The five policies of a new hub, by the rights that the public service gives them.
const DEFAULTS: [(&str, &str); 5] = [
    (
        "iothubowner",
        "RegistryWrite, ServiceConnect, DeviceConnect",
    ),
    ("service", SERVICE),
    ("device", DEVICE),
    ("registryRead", READ),
    ("registryReadWrite", WRITE),
];

/// Five policies with fresh keys.
pub fn defaults() -> Result<Vec<Policy>, Failure> {
    DEFAULTS
        .into_iter()
        .map(|(name, rights)| {
            Ok(Policy {
                name: name.into(),
                primary_key: ids::key()?,
                secondary_key: ids::key()?,
                rights: read_rights(rights).unwrap_or_default(),
            })
        })
        .collect()
}

/// Reads `RegistryRead, ServiceConnect`. Who may write the registry may read it too, and it is shown so.
///
/// # Errors
/// The word that is no right.
pub fn read_rights(text: &str) -> Result<Rights, String> {
    let mut rights = Rights::default();
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        let is = |right: &str| word.eq_ignore_ascii_case(right);
        if is(WRITE) {
            rights.registry_write = true;
            rights.registry_read = true;
        } else if is(READ) {
            rights.registry_read = true;
        } else if is(SERVICE) {
            rights.service_connect = true;
        } else if is(DEVICE) {
            rights.device_connect = true;
        } else {
            return Err(shown(word));
        }
    }
    Ok(rights)
}

/// Writes rights in their fixed order.
pub fn rights_text(rights: Rights) -> String {
    [
        (rights.registry_read, READ),
        (rights.registry_write, WRITE),
        (rights.service_connect, SERVICE),
        (rights.device_connect, DEVICE),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect::<Vec<_>>()
    .join(", ")
}

pub fn list_keys(call: &Call) -> Outcome {
    let mut response = answer::list(call.hub()?.policies.iter().map(rule).collect())?;
    answer::set(
        &mut response,
        axum::http::header::CACHE_CONTROL,
        "no-store, no-cache",
    );
    Ok(response)
}

pub fn get_key(call: &Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = call.param("key");
    let policy = hub
        .policies
        .iter()
        .find(|policy| policy.name.eq_ignore_ascii_case(wanted));
    let policy = policy.ok_or_else(|| {
        Failure::not_found(
            "ResourceNotFound",
            format!(
                "IotHub '{}' has no shared access policy '{}'.",
                hub.name,
                shown(wanted)
            ),
        )
    })?;
    let mut response = answer::ok(&rule(policy))?;
    answer::set(
        &mut response,
        axum::http::header::CACHE_CONTROL,
        "no-store, no-cache",
    );
    Ok(response)
}

fn rule(policy: &Policy) -> Value {
    json!({
        "keyName": policy.name,
        "primaryKey": policy.primary_key,
        "secondaryKey": policy.secondary_key,
        "rights": rights_text(policy.rights),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_written_in_their_fixed_order_and_writing_includes_reading() {
        for (given, written) in [
            ("DeviceConnect,registryread", "RegistryRead, DeviceConnect"),
            (
                "RegistryWrite, ServiceConnect",
                "RegistryRead, RegistryWrite, ServiceConnect",
            ),
            ("ServiceConnect", "ServiceConnect"),
            ("", ""),
        ] {
            assert_eq!(rights_text(read_rights(given).unwrap()), written);
        }
        assert_eq!(read_rights("RegistryRead, Root"), Err("Root".into()));
    }

    #[test]
    fn every_default_key_is_fresh_and_of_32_bytes() {
        let policies = defaults().unwrap();
        let keys: std::collections::BTreeSet<_> = policies
            .iter()
            .flat_map(|p| [p.primary_key.clone(), p.secondary_key.clone()])
            .collect();
        assert_eq!(keys.len(), 10);
        assert!(keys.iter().all(|key| key.len() == 44));
        assert!(policies.iter().all(|p| p.rights != Rights::default()));
    }
}
