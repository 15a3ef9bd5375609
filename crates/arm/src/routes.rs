//! Every operation in one table, and how a path finds its row.
//!
//! Fixed words compare without case; doubled and trailing slashes count as one. Source: control-plane notes sections 5, 8, 10.

use crate::answer::Outcome;
use crate::backend::BoxFuture;
use crate::call::Call;
use crate::failure::Failure;
use crate::{
    check_name, consumer_groups, drills, failover, failovers, figures, forced, groups, hubs,
    identity, metadata, operations, policies, providers, resources, salvage, subscriptions,
};
use wire::percent;

/// How an operation is carried out.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Needs no token and touches nothing but the deployment's own description.
    Open(fn(&Call) -> Outcome),
    /// Answers from this region's copy of the control plane; cannot wait.
    Read(fn(&Call) -> Outcome),
    /// May wait for the control plane's leader or for another region.
    Act(fn(Call) -> BoxFuture<'static, Outcome>),
    /// Known from the real service, not served here.
    Missing(&'static str),
}

pub struct Route {
    pub method: &'static str,
    /// `{name}` takes one segment.
    pub path: &'static str,
    /// An api-version must be given.
    pub versioned: bool,
    /// What the operation is called in permissions and in the list of operations; empty where no token is needed.
    pub permission: &'static str,
    pub handler: Handler,
}

pub type Params = Vec<(&'static str, String)>;

/// What stands at a path.
pub enum Found {
    Route(&'static Route, Params),
    /// Only these methods.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// The segments of a path, decoded; empty ones are left out.
///
/// # Errors
/// 400 if a segment is not properly percent-encoded.
pub fn segments(path: &str) -> Result<Vec<String>, Failure> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let decoded = percent::decode(segment).map_err(|error| {
                Failure::bad(
                    "InvalidRequestUri",
                    format!("The path is malformed: {error}."),
                )
            })?;
            Ok(decoded.into_owned())
        })
        .collect()
}

/// Finds the operation of a request; the first row of the table that fits.
pub fn find(method: &str, segments: &[String]) -> Found {
    let mut others = Vec::new();
    for route in ROUTES {
        let Some(params) = fit(route.path, segments) else {
            continue;
        };
        if route.method == method {
            return Found::Route(route, params);
        }
        if !others.contains(&route.method) {
            others.push(route.method);
        }
    }
    match others.is_empty() {
        true => Found::Nothing,
        false => Found::OtherMethods(others),
    }
}

fn fit(pattern: &'static str, segments: &[String]) -> Option<Params> {
    let mut params = Vec::new();
    let mut given = segments.iter();
    for word in pattern.split('/').filter(|word| !word.is_empty()) {
        let segment = given.next()?;
        match word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
            Some(name) => params.push((name, segment.clone())),
            None if word.eq_ignore_ascii_case(segment) => {}
            None => return None,
        }
    }
    given.next().is_none().then_some(params)
}

macro_rules! subscription {
    ($rest:literal) => {
        concat!("/subscriptions/{subscription}", $rest)
    };
}
macro_rules! group {
    ($rest:literal) => {
        concat!(
            "/subscriptions/{subscription}/resourceGroups/{group}",
            $rest
        )
    };
}
macro_rules! hub {
    ($rest:literal) => {
        concat!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Devices/IotHubs/{hub}",
            $rest
        )
    };
}

const fn open(method: &'static str, path: &'static str, answer: fn(&Call) -> Outcome) -> Route {
    Route {
        method,
        path,
        versioned: false,
        permission: "",
        handler: Handler::Open(answer),
    }
}

const fn read(
    method: &'static str,
    path: &'static str,
    permission: &'static str,
    answer: fn(&Call) -> Outcome,
) -> Route {
    Route {
        method,
        path,
        versioned: true,
        permission,
        handler: Handler::Read(answer),
    }
}

/// Addresses that we gave out; whatever a client makes of their query, they work.
const fn poll(path: &'static str, answer: fn(&Call) -> Outcome) -> Route {
    Route {
        versioned: false,
        ..read(
            "GET",
            path,
            "Microsoft.Devices/locations/operationResults/read",
            answer,
        )
    }
}

const fn act(
    method: &'static str,
    path: &'static str,
    permission: &'static str,
    act: fn(Call) -> BoxFuture<'static, Outcome>,
) -> Route {
    Route {
        method,
        path,
        versioned: true,
        permission,
        handler: Handler::Act(act),
    }
}

const fn missing(method: &'static str, path: &'static str, operation: &'static str) -> Route {
    Route {
        method,
        path,
        versioned: false,
        permission: "",
        handler: Handler::Missing(operation),
    }
}

/// All operations, one row each.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    // Open: what a client asks before it has a token.
    open("GET", "/metadata/endpoints", metadata::endpoints),
    open("GET", "/{tenant}/v2.0/.well-known/openid-configuration", identity::configuration),
    open("GET", "/{tenant}/.well-known/openid-configuration", identity::configuration),
    open("GET", "/{tenant}/discovery/v2.0/keys", identity::keys),
    open("GET", "/{tenant}/discovery/keys", identity::keys),
    open("POST", "/{tenant}/oauth2/v2.0/token", identity::token),
    open("POST", "/{tenant}/oauth2/token", identity::token),
    open("POST", "/adfs/{tenant}/oauth2/v2.0/token", identity::token),
    open("POST", "/adfs/{tenant}/oauth2/token", identity::token),
    // Subscriptions.
    read("GET", "/tenants", "Microsoft.Resources/tenants/read", subscriptions::tenants),
    read("GET", "/subscriptions", "Microsoft.Resources/subscriptions/read", subscriptions::list),
    read("GET", subscription!(""), "Microsoft.Resources/subscriptions/read", subscriptions::get),
    read("GET", subscription!("/locations"), "Microsoft.Resources/subscriptions/locations/read", subscriptions::locations),
    // Providers.
    read("GET", subscription!("/providers"), "Microsoft.Resources/subscriptions/providers/read", providers::list),
    read("GET", subscription!("/providers/{namespace}"), "Microsoft.Resources/subscriptions/providers/read", providers::get),
    read("POST", subscription!("/providers/{namespace}/register"), "Microsoft.Devices/register/action", providers::get),
    read("GET", "/providers/Microsoft.Devices/operations", "Microsoft.Devices/operations/read", providers::operations),
    // Resource groups.
    read("GET", subscription!("/resourceGroups"), "Microsoft.Resources/subscriptions/resourceGroups/read", groups::list),
    read("GET", group!(""), "Microsoft.Resources/subscriptions/resourceGroups/read", groups::get),
    read("HEAD", group!(""), "Microsoft.Resources/subscriptions/resourceGroups/read", groups::exists),
    act("PUT", group!(""), "Microsoft.Resources/subscriptions/resourceGroups/write", |call| Box::pin(groups::put(call))),
    act("PATCH", group!(""), "Microsoft.Resources/subscriptions/resourceGroups/write", |call| Box::pin(groups::patch(call))),
    act("DELETE", group!(""), "Microsoft.Resources/subscriptions/resourceGroups/delete", |call| Box::pin(groups::delete(call))),
    read("GET", group!("/resources"), "Microsoft.Resources/subscriptions/resourceGroups/resources/read", resources::of_group),
    read("GET", subscription!("/resources"), "Microsoft.Resources/subscriptions/resources/read", resources::of_subscription),
    // Operations that take time.
    poll(subscription!("/operationResults/{operation}"), operations::result),
    poll(subscription!("/providers/Microsoft.Devices/locations/{region}/operationResults/{operation}"), operations::result),
    poll(subscription!("/providers/Microsoft.Devices/locations/{region}/operationStatuses/{operation}"), operations::status),
    // Hubs.
    read("POST", subscription!("/providers/Microsoft.Devices/checkNameAvailability"), "Microsoft.Devices/checkNameAvailability/action", check_name::check),
    read("GET", subscription!("/providers/Microsoft.Devices/usages"), "Microsoft.Devices/usages/read", figures::usages),
    read("GET", subscription!("/providers/Microsoft.Devices/IotHubs"), "Microsoft.Devices/IotHubs/read", hubs::of_subscription),
    read("GET", group!("/providers/Microsoft.Devices/IotHubs"), "Microsoft.Devices/IotHubs/read", hubs::of_group),
    act("GET", hub!(""), "Microsoft.Devices/IotHubs/read", |call| Box::pin(hubs::get(call))),
    act("PUT", hub!(""), "Microsoft.Devices/IotHubs/write", |call| Box::pin(hubs::put(call))),
    act("PATCH", hub!(""), "Microsoft.Devices/IotHubs/write", |call| Box::pin(hubs::patch(call))),
    act("DELETE", hub!(""), "Microsoft.Devices/IotHubs/delete", |call| Box::pin(hubs::delete(call))),
    read("POST", hub!("/listkeys"), "Microsoft.Devices/IotHubs/listkeys/action", policies::list_keys),
    read("POST", hub!("/IotHubKeys/{key}/listkeys"), "Microsoft.Devices/IotHubs/iotHubKeys/listkeys/action", policies::get_key),
    read("GET", hub!("/skus"), "Microsoft.Devices/IotHubs/skus/read", figures::skus),
    act("GET", hub!("/IotHubStats"), "Microsoft.Devices/IotHubs/IotHubStats/read", |call| Box::pin(figures::stats(call))),
    act("GET", hub!("/quotaMetrics"), "Microsoft.Devices/IotHubs/quotaMetrics/read", |call| Box::pin(figures::quotas(call))),
    read("GET", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups"), "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/read", consumer_groups::list),
    read("GET", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{name}"), "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/read", consumer_groups::get),
    act("PUT", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{name}"), "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/write", |call| Box::pin(consumer_groups::put(call))),
    act("DELETE", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{name}"), "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/delete", |call| Box::pin(consumer_groups::delete(call))),
    // Failover, in Azure's words and in ours (docs/formats/failovers-api.md).
    act("POST", hub!("/failover"), "Microsoft.Devices/IotHubs/failover/action", |call| Box::pin(failover::start(call))),
    read("GET", hub!("/providers/Castling.Failover/failovers"), "Castling.Failover/failovers/read", failovers::list),
    read("GET", hub!("/providers/Castling.Failover/failovers/{failover}"), "Castling.Failover/failovers/read", failovers::get),
    read("GET", hub!("/providers/Castling.Failover/failovers/{failover}/report"), "Castling.Failover/failovers/report/read", failovers::report),
    act("POST", hub!("/providers/Castling.Failover/failovers/{failover}/cancel"), "Castling.Failover/failovers/cancel/action", |call| Box::pin(failovers::cancel(call))),
    act("POST", hub!("/providers/Castling.Failover/failovers"), "Castling.Failover/failovers/force/action", |call| Box::pin(forced::start(call))),
    act("POST", hub!("/providers/Castling.Failover/check"), "Castling.Failover/check/action", |call| Box::pin(failovers::check(call))),
    act("GET", hub!("/providers/Castling.Failover/salvage"), "Castling.Failover/salvage/read", |call| Box::pin(salvage::list(call))),
    act("GET", hub!("/providers/Castling.Failover/salvage/{salvage}"), "Castling.Failover/salvage/read", |call| Box::pin(salvage::get(call))),
    act("POST", hub!("/providers/Castling.Failover/salvage/{salvage}/replay"), "Castling.Failover/salvage/replay/action", |call| Box::pin(salvage::replay(call))),
    act("DELETE", hub!("/providers/Castling.Failover/salvage/{salvage}"), "Castling.Failover/salvage/delete", |call| Box::pin(salvage::discard(call))),
    act("POST", hub!("/providers/Castling.Failover/drills"), "Castling.Failover/drills/write", |call| Box::pin(drills::start(call))),
    read("GET", hub!("/providers/Castling.Failover/drills"), "Castling.Failover/drills/read", drills::list),
    read("GET", hub!("/providers/Castling.Failover/drills/{drill}"), "Castling.Failover/drills/read", drills::get),
    read("GET", hub!("/providers/Castling.Failover/drills/{drill}/report"), "Castling.Failover/drills/report/read", drills::report),
    // What the real service has beyond this.
    missing("GET", hub!("/jobs"), "IotHubResource_ListJobs"),
    missing("GET", hub!("/jobs/{job}"), "IotHubResource_GetJob"),
    missing("POST", hub!("/exportDevices"), "IotHubResource_ExportDevices"),
    missing("POST", hub!("/importDevices"), "IotHubResource_ImportDevices"),
    missing("GET", hub!("/routingEndpointsHealth"), "IotHubResource_GetEndpointHealth"),
    missing("POST", hub!("/routing/routes/$testall"), "IotHubResource_TestAllRoutes"),
    missing("POST", hub!("/routing/routes/$testnew"), "IotHubResource_TestRoute"),
    missing("GET", hub!("/certificates"), "Certificates_ListByIotHub"),
    missing("GET", hub!("/certificates/{certificate}"), "Certificates_Get"),
    missing("PUT", hub!("/certificates/{certificate}"), "Certificates_CreateOrUpdate"),
    missing("DELETE", hub!("/certificates/{certificate}"), "Certificates_Delete"),
    missing("POST", hub!("/certificates/{certificate}/generateVerificationCode"), "Certificates_GenerateVerificationCode"),
    missing("POST", hub!("/certificates/{certificate}/verify"), "Certificates_Verify"),
    missing("GET", hub!("/privateLinkResources"), "PrivateLinkResources_List"),
    missing("GET", hub!("/privateLinkResources/{resource}"), "PrivateLinkResources_Get"),
    missing("GET", hub!("/privateEndpointConnections"), "PrivateEndpointConnections_List"),
    missing("GET", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Get"),
    missing("PUT", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Update"),
    missing("DELETE", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Delete"),
    missing("GET", subscription!("/providers/microsoft.insights/eventtypes/management/values"), "ActivityLogs_List"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn params(method: &str, path: &str) -> Option<(&'static str, Params)> {
        match find(method, &segments(path).unwrap()) {
            Found::Route(route, params) => Some((route.path, params)),
            _ => None,
        }
    }

    #[test]
    fn paths_match_in_any_case_with_doubled_and_trailing_slashes() {
        let (path, found) = params(
            "GET",
            "//SUBSCRIPTIONS/s/resourcegroups/My%20RG/providers/microsoft.devices//iothubs/Hub-1//",
        )
        .unwrap();
        assert_eq!(path, hub!(""));
        let names: Vec<_> = found
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(
            names,
            [("subscription", "s"), ("group", "My RG"), ("hub", "Hub-1")]
        );
    }

    #[test]
    fn no_two_rows_are_the_same_and_none_is_hidden_by_an_earlier_one() {
        for (at, route) in ROUTES.iter().enumerate() {
            let example: Vec<String> = route
                .path
                .split('/')
                .filter(|word| !word.is_empty())
                .map(|word| word.trim_matches(['{', '}']).to_owned())
                .collect();
            let first = ROUTES.iter().position(|other| {
                other.method == route.method && fit(other.path, &example).is_some()
            });
            assert_eq!(first, Some(at), "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn other_methods_are_named_and_bad_encoding_is_refused() {
        let at = segments("/subscriptions/s/resourceGroups/g").unwrap();
        let Found::OtherMethods(allowed) = find("POST", &at) else {
            panic!()
        };
        assert_eq!(allowed, ["GET", "HEAD", "PUT", "PATCH", "DELETE"]);
        assert!(matches!(
            find("GET", &segments("/no/such/path").unwrap()),
            Found::Nothing
        ));
        assert_eq!(segments("/a/%zz").unwrap_err().code, "InvalidRequestUri");
    }
}
