//! Every operation in one table, and how a path finds its row.
//!
//! Fixed words compare without case; doubled and trailing slashes count as one. Source: control-plane notes sections 5, 8, 10.

macro_rules! root {
    ($rest:literal) => {
        $rest
    };
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

mod authorization;
mod deployment;
mod devices;
mod directory;
mod failover;
mod identity;
mod insights;
mod resources;
mod templates;

use crate::answer::Outcome;
use crate::backend::BoxFuture;
use crate::call::Call;
use crate::failure::Failure;
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
    /// Needs no token, and may wait: signing in.
    OpenAct(fn(Call) -> BoxFuture<'static, Outcome>),
    /// Known from the real service, not served here.
    Missing(&'static str),
}

impl Handler {
    /// Whether anybody may ask.
    pub fn is_open(&self) -> bool {
        matches!(self, Handler::Open(_) | Handler::OpenAct(_))
    }
}

pub struct Route {
    pub method: &'static str,
    /// `{name}` takes one segment.
    pub path: &'static str,
    /// An api-version must be given.
    pub versioned: bool,
    /// Names the operation in the API's description (openapi.json).
    pub operation: &'static str,
    /// What the operation is called in permissions and in the list of operations; empty where no token is needed.
    pub permission: &'static str,
    /// Enough that the permission is given at something below the path's scope; the answer holds only what the caller may see.
    pub filtered: bool,
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

/// The tables, one per family.
static TABLES: &[&[Route]] = &[
    identity::ROUTES,
    directory::CALLBACK,
    directory::ROUTES,
    resources::ROUTES,
    authorization::OF_DEPLOYMENT,
    authorization::OF_SUBSCRIPTION,
    authorization::OF_GROUP,
    authorization::OF_HUB,
    templates::ROUTES,
    devices::ROUTES,
    failover::ROUTES,
    insights::ROUTES,
    deployment::ROUTES,
];

/// All operations.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// Finds the operation of a request; the first row of the table that fits.
pub fn find(method: &str, segments: &[String]) -> Found {
    let mut others = Vec::new();
    for route in routes() {
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

const fn open(
    method: &'static str,
    path: &'static str,
    operation: &'static str,
    answer: fn(&Call) -> Outcome,
) -> Route {
    Route {
        method,
        path,
        operation,
        versioned: false,
        permission: "",
        filtered: false,
        handler: Handler::Open(answer),
    }
}

const fn open_act(
    method: &'static str,
    path: &'static str,
    operation: &'static str,
    act: fn(Call) -> BoxFuture<'static, Outcome>,
) -> Route {
    Route {
        method,
        path,
        operation,
        versioned: false,
        permission: "",
        filtered: false,
        handler: Handler::OpenAct(act),
    }
}

const fn read(
    method: &'static str,
    path: &'static str,
    operation: &'static str,
    permission: &'static str,
    answer: fn(&Call) -> Outcome,
) -> Route {
    Route {
        method,
        path,
        operation,
        versioned: true,
        permission,
        filtered: false,
        handler: Handler::Read(answer),
    }
}

/// Addresses that we gave out; whatever a client makes of their query, they work.
const fn poll(path: &'static str, operation: &'static str, answer: fn(&Call) -> Outcome) -> Route {
    Route {
        versioned: false,
        filtered: true,
        ..read(
            "GET",
            path,
            operation,
            "Microsoft.Devices/locations/operationResults/read",
            answer,
        )
    }
}

/// A list, or what must be known to find one's way to something below.
const fn filtered(route: Route) -> Route {
    Route {
        filtered: true,
        ..route
    }
}

/// What anybody who has signed in may ask.
const fn of_anyone(
    method: &'static str,
    path: &'static str,
    operation: &'static str,
    answer: fn(&Call) -> Outcome,
) -> Route {
    read(method, path, operation, "", answer)
}

const fn act(
    method: &'static str,
    path: &'static str,
    operation: &'static str,
    permission: &'static str,
    act: fn(Call) -> BoxFuture<'static, Outcome>,
) -> Route {
    Route {
        method,
        path,
        operation,
        versioned: true,
        permission,
        filtered: false,
        handler: Handler::Act(act),
    }
}

const fn missing(method: &'static str, path: &'static str, operation: &'static str) -> Route {
    Route {
        method,
        path,
        operation,
        versioned: false,
        permission: "",
        filtered: false,
        handler: Handler::Missing(operation),
    }
}

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
        for (at, route) in routes().enumerate() {
            let example: Vec<String> = route
                .path
                .split('/')
                .filter(|word| !word.is_empty())
                .map(|word| word.trim_matches(['{', '}']).to_owned())
                .collect();
            let first = routes().position(|other| {
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
