//! Whether a hub may be as its owner wants it: every mistake is named at once.

use crate::command::HubSpec;
use crate::hub_properties::{self, DATA_RESIDENCY};
use crate::model::{Hub, Sku, State};
use crate::naming::{self, shown, tag_mistakes};
use crate::refusal::{Refusal, RefusalCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use types::{CloudToDevice, PartnerAway, Policy, RegionName, Replication, limits};

/// The free SKU.
pub(crate) const FREE: &str = "F1";

/// A spec with its gaps filled, ready to be kept.
pub(crate) struct Settled {
    pub sku: Sku,
    pub partner: Option<RegionName>,
    pub partition_count: u16,
    pub retention_days: u8,
    pub replication: Replication,
    pub partner_away: PartnerAway,
    pub lag_max_ms: Option<u32>,
    pub cloud_to_device: CloudToDevice,
    pub policies: Vec<Policy>,
    pub stored_properties: Value,
}

impl State {
    /// Fills the gaps of a spec from the hub that is there, or from the defaults, and checks the result.
    pub(crate) fn settle(
        &self,
        spec: &HubSpec,
        existing: Option<&Hub>,
    ) -> Result<Settled, Refusal> {
        let sku = Sku {
            name: spec.sku_name.to_ascii_uppercase(),
            capacity: spec.sku_capacity,
        };
        let free = sku.name == FREE;
        let partitions = if free {
            limits::PARTITIONS_MIN
        } else {
            limits::PARTITIONS_DEFAULT
        };
        let settled = Settled {
            partner: existing
                .map_or_else(|| self.partner_that_runs(spec), |hub| hub.partner.clone()),
            partition_count: spec
                .partition_count
                .unwrap_or(existing.map_or(partitions, |hub| hub.partition_count)),
            retention_days: spec
                .retention_days
                .unwrap_or(existing.map_or(limits::RETENTION_DAYS_MIN, |hub| hub.retention_days)),
            replication: spec
                .replication
                .unwrap_or(existing.map_or(Replication::default(), |hub| hub.replication)),
            partner_away: spec
                .partner_away
                .unwrap_or(existing.map_or(PartnerAway::default(), |hub| hub.partner_away)),
            lag_max_ms: match spec.lag_max_ms {
                Some(0) => None,
                Some(bound) => Some(bound),
                None => existing.and_then(|hub| hub.lag_max_ms),
            },
            cloud_to_device: (spec.cloud_to_device.clone()).unwrap_or_else(|| {
                existing.map_or_else(CloudToDevice::default, |hub| hub.cloud_to_device.clone())
            }),
            policies: (spec.policies.clone()).unwrap_or_else(|| {
                existing.map_or_else(|| spec.default_policies.clone(), |hub| hub.policies.clone())
            }),
            stored_properties: stored_properties(spec, existing),
            sku,
        };
        let mut mistakes = sku_mistakes(&settled, existing);
        mistakes.extend(event_mistakes(&settled, existing));
        mistakes.extend(cloud_to_device_mistakes(&settled.cloud_to_device));
        mistakes.extend(policy_mistakes(&settled.policies));
        mistakes.extend(tag_mistakes(&spec.tags));
        mistakes.extend(stored_mistakes(&spec.stored_properties));
        mistakes.extend(hub_properties::read(&spec.stored_properties).1);
        mistakes.extend(crate::routing::read(&spec.stored_properties).1);
        mistakes.extend(residency_mistake(&settled, existing));
        self.refuse_mistakes(spec, existing, mistakes)?;
        Ok(settled)
    }

    /// The pair counts only where it runs: a hub whose pair does not run here has no secondary.
    fn partner_that_runs(&self, spec: &HubSpec) -> Option<RegionName> {
        spec.partner.clone().filter(|partner| {
            *partner != spec.location
                && self.deployment.regions.contains(partner)
                && !hub_properties::stays_home(&spec.stored_properties)
        })
    }

    /// A wrong location alone has a code of its own; together with others it is one mistake among them.
    fn refuse_mistakes(
        &self,
        spec: &HubSpec,
        existing: Option<&Hub>,
        mut mistakes: Vec<String>,
    ) -> Result<(), Refusal> {
        let located = match existing {
            None => self.location_runs(&spec.location),
            Some(hub) if hub.home == spec.location => Ok(()),
            Some(hub) => {
                mistakes.insert(
                    0,
                    format!(
                        "location: it cannot be changed from '{}' to '{}'",
                        hub.home, spec.location
                    ),
                );
                Ok(())
            }
        };
        match located {
            Err(refusal) if mistakes.is_empty() => return Err(refusal),
            Err(refusal) => mistakes.insert(0, format!("location: {}", refusal.message)),
            Ok(()) => {}
        }
        if mistakes.is_empty() {
            return Ok(());
        }
        let message = format!("IotHub '{}': {}", spec.name, mistakes.join("; "));
        Err(Refusal::new(RefusalCode::InvalidProperties, message))
    }
}

fn sku_mistakes(settled: &Settled, existing: Option<&Hub>) -> Vec<String> {
    let Some(range) = naming::sku(&settled.sku.name) else {
        let known: Vec<_> = naming::SKUS.iter().map(|sku| sku.name).collect();
        return vec![format!(
            "sku.name: '{}' is not one of {}",
            shown(&settled.sku.name),
            known.join(", ")
        )];
    };
    let mut mistakes = Vec::new();
    mistakes.extend(outside(
        "sku.capacity",
        settled.sku.capacity,
        1..=range.capacity_max,
    ));
    if existing.is_some_and(|hub| (hub.sku.name == FREE) != (range.name == FREE)) {
        mistakes.push("sku.name: a hub cannot change between the free tier and another".into());
    }
    mistakes
}

fn event_mistakes(settled: &Settled, existing: Option<&Hub>) -> Vec<String> {
    const PARTITIONS: &str = "eventHubEndpoints.events.partitionCount";
    const RETENTION: &str = "eventHubEndpoints.events.retentionTimeInDays";
    let mut mistakes = Vec::new();
    let (mut partitions, mut days) = (
        limits::PARTITIONS_MIN..=limits::PARTITIONS_MAX,
        limits::RETENTION_DAYS_MIN..=limits::RETENTION_DAYS_MAX,
    );
    if settled.sku.name == FREE {
        partitions = limits::PARTITIONS_MIN..=limits::PARTITIONS_MIN;
        days = limits::RETENTION_DAYS_MIN..=limits::RETENTION_DAYS_MIN;
    }
    match existing {
        Some(hub) if hub.partition_count != settled.partition_count => mistakes.push(format!(
            "{PARTITIONS}: it is fixed at creation and cannot be changed from {} to {}",
            hub.partition_count, settled.partition_count
        )),
        Some(_) => {}
        None => mistakes.extend(outside(PARTITIONS, settled.partition_count, partitions)),
    }
    mistakes.extend(outside(RETENTION, settled.retention_days, days));
    if settled.replication == Replication::Sync && settled.partner.is_none() {
        mistakes.push("replication: 'sync' needs a paired region that runs here".into());
    }
    if let Some(bound) = settled.lag_max_ms {
        let bounds = limits::LAG_MAX_MS_MIN..=limits::LAG_MAX_MS_MAX;
        mistakes.extend(outside("castling.lagMaxSeconds in ms", bound, bounds));
        if settled.partner.is_none() {
            mistakes.push("castling.lagMaxSeconds: it needs a paired region that runs here".into());
        }
    }
    mistakes
}

fn cloud_to_device_mistakes(c2d: &CloudToDevice) -> Vec<String> {
    let counts = 1..=limits::C2D_DELIVERY_COUNT_MAX;
    let lives = limits::C2D_TTL_MIN_MS..=limits::C2D_TTL_MAX_MS;
    let locks = limits::FEEDBACK_LOCK_MIN_MS..=limits::FEEDBACK_LOCK_MAX_MS;
    let feedback = &c2d.feedback;
    [
        outside(
            "cloudToDevice.maxDeliveryCount",
            c2d.max_delivery_count,
            counts.clone(),
        ),
        outside(
            "cloudToDevice.defaultTtlAsIso8601 in ms",
            c2d.default_ttl_ms,
            lives.clone(),
        ),
        outside(
            "cloudToDevice.feedback.lockDurationAsIso8601 in ms",
            feedback.lock_ms,
            locks,
        ),
        outside(
            "cloudToDevice.feedback.ttlAsIso8601 in ms",
            feedback.ttl_ms,
            lives,
        ),
        outside(
            "cloudToDevice.feedback.maxDeliveryCount",
            feedback.max_delivery_count,
            counts,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Names of policies may stand in the text, keys never.
fn policy_mistakes(policies: &[Policy]) -> Vec<String> {
    let mut mistakes = Vec::new();
    if policies.len() > limits::POLICIES_MAX {
        mistakes.push(format!(
            "authorizationPolicies: at most {} are allowed",
            limits::POLICIES_MAX
        ));
    }
    let mut seen = BTreeSet::new();
    for policy in policies.iter().take(limits::POLICIES_MAX) {
        let name = shown(&policy.name);
        let mut wrong = |why: &str| mistakes.push(format!("authorizationPolicies '{name}': {why}"));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.!".contains(&b);
        if !(1..=limits::POLICY_NAME_CHARS_MAX).contains(&policy.name.len())
            || !policy.name.bytes().all(allowed)
        {
            wrong("keyName must have 1 to 64 letters, digits and - _ . !");
        }
        if !seen.insert(naming::key(&policy.name)) {
            wrong("keyName stands twice");
        }
        if !is_key(&policy.primary_key) {
            wrong("primaryKey must be the base64 of 16 to 64 bytes");
        }
        if !is_key(&policy.secondary_key) {
            wrong("secondaryKey must be the base64 of 16 to 64 bytes");
        }
        if policy.rights == types::Rights::default() {
            wrong("rights must name at least one right");
        }
    }
    mistakes
}

fn is_key(text: &str) -> bool {
    let longest = limits::KEY_BYTES_MAX.div_ceil(3) * 4;
    text.len() <= longest
        && STANDARD.decode(text).is_ok_and(|bytes| {
            (limits::KEY_BYTES_MIN..=limits::KEY_BYTES_MAX).contains(&bytes.len())
        })
}

/// As given, with what is fixed at creation where it is not named.
fn stored_properties(spec: &HubSpec, existing: Option<&Hub>) -> Value {
    let mut stored = spec.stored_properties.clone();
    let before = existing.and_then(|hub| hub.stored_properties.get(DATA_RESIDENCY));
    if let (Some(before), Some(fields)) = (before, stored.as_object_mut())
        && fields.get(DATA_RESIDENCY).is_none_or(Value::is_null)
    {
        fields.insert(DATA_RESIDENCY.into(), before.clone());
    }
    stored
}

fn residency_mistake(settled: &Settled, existing: Option<&Hub>) -> Option<String> {
    let before = hub_properties::stays_home(&existing?.stored_properties);
    let changed = hub_properties::stays_home(&settled.stored_properties) != before;
    changed.then(|| format!("{DATA_RESIDENCY}: it is fixed at creation and cannot be changed"))
}

fn stored_mistakes(stored: &serde_json::Value) -> Option<String> {
    if !stored.is_object() && !stored.is_null() {
        return Some("properties: an object is expected".into());
    }
    let bytes = stored.to_string().len();
    (bytes > limits::HUB_STORED_PROPERTIES_BYTES_MAX).then(|| {
        format!(
            "properties: {bytes} bytes exceed {}",
            limits::HUB_STORED_PROPERTIES_BYTES_MAX
        )
    })
}

fn outside<N: PartialOrd + std::fmt::Display>(
    what: &str,
    value: N,
    range: RangeInclusive<N>,
) -> Option<String> {
    (!range.contains(&value)).then(|| {
        format!(
            "{what}: {value} is not from {} to {}",
            range.start(),
            range.end()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Answer;
    use crate::testing::*;

    /// Creates a hub with one thing changed and gives what is said about it; `None`: it was taken.
    fn said(change: impl FnOnce(&mut HubSpec)) -> Option<(RefusalCode, String)> {
        let mut wanted = spec("Hub-New");
        change(&mut wanted);
        match deployed().apply(&request("r", 2_000, put(wanted))) {
            Answer::Refused(refusal) => Some((refusal.code, refusal.message)),
            _ => None,
        }
    }

    fn check_bad(text: &str, change: impl FnOnce(&mut HubSpec)) {
        let (code, message) = said(change).unwrap_or_else(|| panic!("taken: {text}"));
        assert_eq!(code, RefusalCode::InvalidProperties);
        assert!(message.contains(text), "{message}");
    }

    #[test]
    fn stored_properties_are_read_as_a_whole() {
        let stored =
            |value: serde_json::Value| move |spec: &mut HubSpec| spec.stored_properties = value;
        check_bad(
            "minTlsVersion: '1.0'",
            stored(serde_json::json!({ "minTlsVersion": "1.0" })),
        );
        check_bad(
            "ipFilterRules[0].ipMask: 'x'",
            stored(
                serde_json::json!({ "ipFilterRules": [{ "filterName": "a", "action": "Accept", "ipMask": "x" }] }),
            ),
        );
        check_bad(
            "enableFileUploadNotifications",
            stored(serde_json::json!({ "enableFileUploadNotifications": true })),
        );
    }

    #[test]
    fn a_hub_whose_data_stays_home_has_no_partner_for_ever() {
        let mut state = deployed();
        let mut wanted = spec("Hub-New");
        wanted.stored_properties = serde_json::json!({ DATA_RESIDENCY: true });
        let Answer::Hub { hub, operation, .. } =
            state.apply(&request("a", 2_000, put(wanted.clone())))
        else {
            panic!("refused")
        };
        assert_eq!(hub.partner, None);
        let finish = crate::Command::Finish {
            operation: operation.unwrap().id,
            report: None,
            error: None,
        };
        state.apply(&request("f", 3_000, finish));
        wanted.stored_properties = serde_json::json!({ "comments": "kept" });
        let answer = state.apply(&request("b", 4_000, put(wanted.clone())));
        let Answer::Hub { hub, .. } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(
            hub.stored_properties[DATA_RESIDENCY], true,
            "not named: it stays"
        );
        wanted.stored_properties = serde_json::json!({ DATA_RESIDENCY: false });
        let answer = state.apply(&request("c", 5_000, put(wanted)));
        let Answer::Refused(refusal) = answer else {
            panic!("{answer:?}")
        };
        assert!(
            refusal.message.contains("fixed at creation"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn who_may_reach_a_hub_stands_in_its_settings() {
        let mut state = deployed();
        let mut wanted = spec("Hub-New");
        wanted.stored_properties =
            serde_json::json!({ "publicNetworkAccess": "Disabled", "disableLocalAuth": true });
        state.apply(&request("a", 2_000, put(wanted)));
        let access = state.hub_named("hub-new").unwrap().settings().access;
        assert!(!access.public_network && !access.policy_tokens && access.device_tokens);
    }

    #[test]
    fn units_follow_the_sku() {
        for (sku, max) in [
            ("F1", 1),
            ("B1", 200),
            ("B2", 200),
            ("B3", 10),
            ("S1", 200),
            ("S2", 200),
            ("S3", 10),
        ] {
            let with = |units| {
                said(move |spec| {
                    (spec.sku_name, spec.sku_capacity) = (sku.into(), units);
                    (spec.partition_count, spec.retention_days) = (Some(2), Some(1));
                })
            };
            assert_eq!((with(1), with(max)), (None, None), "{sku}");
            assert!(with(0).is_some() && with(max + 1).is_some(), "{sku}");
        }
        check_bad("sku.name: 'S4' is not one of F1", |spec| {
            spec.sku_name = "S4".into()
        });
    }

    #[test]
    fn partitions_and_retention_have_ranges_and_the_free_tier_has_one_choice() {
        for good in [2, 32] {
            assert_eq!(said(|spec| spec.partition_count = Some(good)), None);
        }
        for bad in [0, 1, 33] {
            check_bad("partitionCount", |spec| spec.partition_count = Some(bad));
        }
        for bad in [0, 8] {
            check_bad("retentionTimeInDays", |spec| {
                spec.retention_days = Some(bad)
            });
        }
        check_bad("partitionCount: 4 is not from 2 to 2", |spec| {
            (spec.sku_name, spec.partition_count) = ("F1".into(), Some(4));
        });
        check_bad("retentionTimeInDays: 2 is not from 1 to 1", |spec| {
            (spec.sku_name, spec.retention_days) = ("F1".into(), Some(2));
        });
        assert_eq!(said(|spec| spec.sku_name = "f1".into()), None);
    }

    #[test]
    fn cloud_to_device_settings_have_ranges() {
        let c2d = |change: fn(&mut CloudToDevice)| {
            move |spec: &mut HubSpec| {
                let mut wanted = CloudToDevice::default();
                change(&mut wanted);
                spec.cloud_to_device = Some(wanted);
            }
        };
        check_bad(
            "cloudToDevice.maxDeliveryCount",
            c2d(|c| c.max_delivery_count = 0),
        );
        check_bad(
            "cloudToDevice.maxDeliveryCount",
            c2d(|c| c.max_delivery_count = 101),
        );
        check_bad(
            "cloudToDevice.defaultTtl",
            c2d(|c| c.default_ttl_ms = 59_999),
        );
        check_bad(
            "cloudToDevice.defaultTtl",
            c2d(|c| c.default_ttl_ms = 172_800_001),
        );
        check_bad("feedback.lockDuration", c2d(|c| c.feedback.lock_ms = 4_999));
        check_bad(
            "feedback.lockDuration",
            c2d(|c| c.feedback.lock_ms = 300_001),
        );
        check_bad("feedback.ttl", c2d(|c| c.feedback.ttl_ms = 0));
        check_bad(
            "feedback.maxDeliveryCount",
            c2d(|c| c.feedback.max_delivery_count = 0),
        );
        assert_eq!(said(c2d(|c| c.feedback.lock_ms = 5_000)), None);
    }

    #[test]
    fn policies_need_a_name_of_their_own_two_keys_and_a_right() {
        let with = |policies: Vec<Policy>| move |spec: &mut HubSpec| spec.policies = Some(policies);
        check_bad("keyName must have", with(vec![policy("a b", KEY)]));
        check_bad(
            "stands twice",
            with(vec![policy("a", KEY), policy("A", KEY)]),
        );
        check_bad("primaryKey must be", with(vec![policy("a", "c2hvcnQ=")]));
        check_bad(
            "at most 16",
            with((0..17).map(|n| policy(&format!("p{n}"), KEY)).collect()),
        );
        check_bad("at least one right", |spec| {
            let mut none = policy("a", KEY);
            none.rights = types::Rights::default();
            spec.policies = Some(vec![none]);
        });
        assert_eq!(said(with(vec![policy("a", KEY)])), None);
    }

    #[test]
    fn a_wrong_location_alone_has_its_own_code() {
        let (code, message) = said(|spec| spec.location = region("mars")).unwrap();
        assert_eq!(code, RefusalCode::LocationNotAvailable);
        assert!(message.contains("mars") && message.contains("west, east"));
    }

    #[test]
    fn all_mistakes_are_named_together() {
        let (code, message) = said(|spec| {
            spec.location = region("mars");
            (spec.sku_capacity, spec.partition_count, spec.retention_days) =
                (201, Some(1), Some(9));
            spec.tags = [(String::new(), String::new())].into();
            spec.stored_properties = serde_json::json!([1]);
        })
        .unwrap();
        assert_eq!(code, RefusalCode::InvalidProperties);
        for part in [
            "location:",
            "sku.capacity: 201",
            "partitionCount: 1",
            "retentionTimeInDays: 9",
            "tags:",
            "properties:",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }

    #[test]
    fn stored_properties_are_bounded() {
        check_bad("exceed", |spec| {
            spec.stored_properties =
                serde_json::json!({"x": "y".repeat(limits::HUB_STORED_PROPERTIES_BYTES_MAX)});
        });
    }

    #[test]
    fn the_lag_bound_has_a_range_needs_a_pair_and_zero_takes_it_away() {
        let lag = |bound: u32| move |spec: &mut HubSpec| spec.lag_max_ms = Some(bound);
        for good in [0, limits::LAG_MAX_MS_MIN, limits::LAG_MAX_MS_MAX] {
            assert_eq!(said(lag(good)), None, "{good}");
        }
        for bad in [1, limits::LAG_MAX_MS_MIN - 1, limits::LAG_MAX_MS_MAX + 1] {
            check_bad("castling.lagMaxSeconds", lag(bad));
        }
        check_bad("needs a paired region", |spec| {
            (spec.partner, spec.lag_max_ms) = (None, Some(1_000));
        });
        let mut state = deployed();
        let mut put = |bound: Option<u32>| {
            let mut spec = spec("hub-one");
            spec.lag_max_ms = bound;
            state.apply(&request("", 1, crate::testing::put(spec)));
            state.apply(&request("", 1, finish("create-hub-one")));
            state.hub_named("hub-one").unwrap().lag_max_ms
        };
        assert_eq!(
            [put(Some(1_000)), put(None), put(Some(0)), put(None)],
            [Some(1_000), Some(1_000), None, None]
        );
    }

    #[test]
    fn what_a_hub_does_without_its_partner_is_kept_until_it_is_changed() {
        use types::PartnerAway;
        let mut state = deployed();
        let mut put = |away: Option<PartnerAway>| {
            let mut spec = spec("hub-one");
            spec.partner_away = away;
            state.apply(&request("", 1, crate::testing::put(spec)));
            state.apply(&request("", 1, finish("create-hub-one")));
            state.hub_named("hub-one").unwrap().partner_away
        };
        assert_eq!(put(None), PartnerAway::Wait);
        assert_eq!(put(Some(PartnerAway::Degrade)), PartnerAway::Degrade);
        assert_eq!(put(None), PartnerAway::Degrade);
    }

    #[test]
    fn sync_needs_a_pair_that_runs_here() {
        let sync = |partner: Option<&str>| {
            let partner = partner.map(region);
            said(|spec| (spec.partner, spec.replication) = (partner, Some(Replication::Sync)))
        };
        assert_eq!(sync(Some("east")), None);
        for without in [None, Some("mars"), Some("west")] {
            assert!(
                sync(without)
                    .unwrap()
                    .1
                    .contains("'sync' needs a paired region")
            );
        }
    }
}
