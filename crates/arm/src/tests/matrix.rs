//! Who may use which route: every route with every role at every kind of scope, compared with docs/permissions.md.

use super::world::*;
use crate::backend::Backend;
use crate::call::{Caller, CallerKind};
use crate::routes::{Handler, Route, routes};
use crate::{Asked, Found, carry_out, guard, rights, routes as table};
use axum::body::Body;
use axum::http::Request as HttpRequest;
use control::State;
use control::access::roles::{self, ROLES};
use control::access::{Asker, PrincipalType, RoleAssignment};
use std::fmt::Write;
use std::sync::Arc;
use types::UnixMillis;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/permissions.md");
const GROUP: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/RG";
const SCOPES: [(char, &str); 4] = [
    ('d', "/"),
    ('s', "/subscriptions/33333333-3333-3333-3333-333333333333"),
    ('g', GROUP),
    ('h', HUB),
];
/// What only who has signed in is asked for, and no role.
const OF_ANYONE: [&str; 4] = ["Permissions_", "Me_", "OwnSessions_", "Regions_List"];
/// What changes nothing, though it is called an action, and is no secret.
const HARMLESS: [&str; 1] = ["Microsoft.Devices/checkNameAvailability/action"];

fn caller(who: &str) -> Caller {
    Caller {
        kind: CallerKind::Application,
        object_id: who.into(),
        name: format!("name of {who}"),
        display_name: who.into(),
        groups: Vec::new(),
        session: None,
    }
}

fn give(state: &mut State, who: &str, role: &str, scope: &str) {
    let name = format!("{who} {role} {scope}");
    let assignment = RoleAssignment {
        name: name.clone(),
        scope: scope.into(),
        role: role.into(),
        principal: who.into(),
        principal_type: PrincipalType::ServicePrincipal,
        description: None,
        created: UnixMillis(START),
        by: "test".into(),
    };
    state.access.assignments.insert(name, assignment);
}

fn role_named(name: &str) -> &'static str {
    ROLES.iter().find(|role| role.name == name).unwrap().id
}

/// The path of a route with names of things that are there.
fn example(route: &Route) -> String {
    let word = |word: &str| match word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
        None => word.to_owned(),
        Some("subscription") => SUB.into(),
        Some("tenant") => TENANT.into(),
        Some("group") => "RG".into(),
        Some("hub") => "Hub-One".into(),
        Some("region") => "westus2".into(),
        Some("namespace") => "Microsoft.Devices".into(),
        Some("assignment") => "99999999-9999-9999-9999-999999999999".into(),
        Some("endpoint") => "events".into(),
        Some(_) => "x".into(),
    };
    route
        .path
        .split('/')
        .map(word)
        .collect::<Vec<_>>()
        .join("/")
}

fn scope(route: &Route) -> String {
    let found = table::find(route.method, &table::segments(&example(route)).unwrap());
    match found {
        Found::Route(found, params) if std::ptr::eq(found, route) => {
            rights::scope_of(&params).unwrap()
        }
        _ => panic!("{} {} is not found", route.method, route.path),
    }
}

/// At which scopes a role must be given so that a route may be used.
fn cell(route: &Route, role: &str) -> String {
    let scope = scope(route);
    let given = |at: &str| {
        let mut state = State::default();
        give(&mut state, "one", role, at);
        rights::allows(&state, &caller("one"), route, &scope)
    };
    SCOPES
        .iter()
        .filter(|(_, at)| given(at))
        .map(|(letter, _)| *letter)
        .collect()
}

/// As `caller`, past the sign-in.
async fn ask(world: &World, who: &str, route: &Route) -> (u16, String) {
    let query = if route.versioned {
        "?api-version=2023-06-30"
    } else {
        ""
    };
    let (method, path) = (route.method, example(route));
    let body = match method {
        "GET" | "HEAD" | "DELETE" => Body::empty(),
        _ => Body::from("{}"),
    };
    let request = HttpRequest::builder()
        .method(method)
        .uri(format!("{path}{query}"));
    let (parts, body) = request.body(body).unwrap().into_parts();
    let segments = table::segments(&path).unwrap();
    let asked = Asked {
        state: world.fake.state(),
        now: UnixMillis(*world.fake.now.lock().unwrap()),
        host: HOST.into(),
        address: None,
        correlation: "correlation".into(),
        caller: caller(who),
    };
    // Requests are counted: time passes.
    world.advance(1_000);
    let found = table::find(method, &segments);
    let outcome = carry_out(world.api.clone(), parts, body, found, &segments, asked).await;
    tokio::task::yield_now().await;
    match outcome {
        Ok(response) => (response.status().as_u16(), String::new()),
        Err(failure) => (failure.status.as_u16(), failure.code.into_owned()),
    }
}

fn needs_right(route: &Route) -> bool {
    !route.handler.is_open() && !route.permission.is_empty()
}

async fn world_with(roles_of_one: &[(&str, &str)]) -> World {
    let world = World::with_hub().await;
    let mut state = world.fake.state.lock().unwrap();
    for (role, scope) in roles_of_one {
        give(Arc::make_mut(&mut *state), "one", role_named(role), scope);
    }
    drop(state);
    world
}

/// What there is, without the record of who asked for what.
fn essence(world: &World) -> State {
    let mut state = State::clone(&world.fake.state());
    let plain = State::default();
    state.activity = plain.activity;
    state.time = plain.time;
    state.revision = plain.revision;
    state
}

#[test]
fn every_route_has_a_permission_unless_it_is_known_to_need_none() {
    for route in routes() {
        let free = match route.handler {
            Handler::Open(_) | Handler::OpenAct(_) | Handler::Missing(_) => true,
            Handler::Read(_) | Handler::Act(_) => OF_ANYONE
                .iter()
                .any(|known| route.operation.starts_with(known)),
        };
        assert_eq!(
            route.permission.is_empty(),
            free,
            "{} {} ({})",
            route.method,
            route.path,
            route.operation
        );
    }
}

#[test]
fn permissions_say_what_their_methods_do() {
    for route in routes().filter(|route| needs_right(route)) {
        let verb = route.permission.rsplit('/').next().unwrap();
        let fits = match route.method {
            "GET" | "HEAD" => verb == "read",
            "DELETE" => verb == "delete",
            "PUT" | "PATCH" => verb == "write",
            _ => verb == "action" || verb == "write" || verb == "delete",
        };
        assert!(
            fits,
            "{} {}: {}",
            route.method, route.path, route.permission
        );
    }
}

/// Renew it with `CASTLING_RENEW_GOLDEN=1 cargo test -p castling-arm matrix`.
#[test]
fn roles_allow_what_the_table_says() {
    let mut text = String::from(
        "# Who may use which operation\n\n\
         Made from the route table and the roles by a test (`cargo test -p castling-arm matrix`); a change of either shows here.\n\n\
         A cell names the scopes at which a role lets its holder use the operation: **d** the whole deployment (`/`), **s** the subscription,\n\
         **g** the resource group, **h** the hub. Lists hold only what their reader may read. The four data roles (IoT Hub Data Contributor, Data\n\
         Reader, Registry Contributor, Twin Contributor) give nothing here: they are for hubs' data.\n\n\
         | operation | permission | Owner | Contributor | Reader | Failover Operator |\n|---|---|---|---|---|---|\n",
    );
    let columns = [
        roles::OWNER,
        roles::CONTRIBUTOR,
        roles::READER,
        roles::FAILOVER_OPERATOR,
    ];
    for route in routes() {
        let cells: Vec<String> = match (route.handler, route.permission) {
            (Handler::Open(_) | Handler::OpenAct(_), _) => {
                vec!["everybody, without a token".into(); 4]
            }
            (Handler::Missing(_), _) => vec!["not served".into(); 4],
            (_, "") => vec!["whoever signed in".into(); 4],
            _ => columns.iter().map(|role| cell(route, role)).collect(),
        };
        writeln!(
            text,
            "| {} | {} | {} |",
            route.operation,
            route.permission,
            cells.join(" | ")
        )
        .unwrap();
    }
    if std::env::var_os("CASTLING_RENEW_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let line = text.lines().find(|line| !golden.contains(line));
    assert!(
        golden == text,
        "docs/permissions.md differs, first at {line:?}: is it meant so? Then renew it with CASTLING_RENEW_GOLDEN=1 cargo test -p castling-arm matrix"
    );
}

#[test]
fn nobody_and_the_data_roles_may_nothing() {
    let data = [
        roles::DATA_CONTRIBUTOR,
        roles::DATA_READER,
        roles::REGISTRY_CONTRIBUTOR,
        roles::TWIN_CONTRIBUTOR,
        "no role at all",
    ];
    for route in routes().filter(|route| needs_right(route)) {
        for role in data {
            assert_eq!(cell(route, role), "", "{} {role}", route.operation);
        }
    }
}

#[test]
fn owners_may_everything_at_their_scope_and_nothing_beside_it() {
    for route in routes().filter(|route| needs_right(route)) {
        let mut state = State::default();
        give(&mut state, "one", roles::OWNER, &scope(route));
        assert!(rights::allows(&state, &caller("one"), route, &scope(route)));
        let other = "/subscriptions/44444444-4444-4444-4444-444444444444";
        let mut state = State::default();
        give(&mut state, "one", roles::OWNER, other);
        let beside = rights::allows(&state, &caller("one"), route, &scope(route));
        // What is asked of the whole deployment is answered with what the caller may see.
        let finds_way = route.filtered && scope(route) == "/";
        assert_eq!(beside, finds_way, "{}", route.operation);
    }
}

#[test]
fn a_reader_may_only_read_and_no_keys() {
    for route in routes().filter(|route| needs_right(route)) {
        if !cell(route, roles::READER).is_empty() {
            let reads = guard::is_read(route) || HARMLESS.contains(&route.permission);
            assert!(reads, "{}", route.operation);
            assert!(!route.permission.to_lowercase().contains("keys"));
            assert!(!route.permission.starts_with("Castling.Identity"));
        }
    }
}

#[test]
fn a_failover_operator_may_fail_over_and_nothing_else() {
    let may = |route: &Route| !cell(route, roles::FAILOVER_OPERATOR).is_empty();
    for route in routes().filter(|route| needs_right(route) && may(route)) {
        let known = guard::is_read(route)
            || HARMLESS.contains(&route.permission)
            || route.permission == "Microsoft.Devices/IotHubs/failover/action"
            || route.permission.starts_with("Castling.Failover/");
        assert!(known, "{}", route.operation);
    }
    for operation in [
        "IotHub_ManualFailover",
        "Failovers_Check",
        "Failovers_Cancel",
        "Failovers_StartForced",
        "Drills_Start",
    ] {
        let route = routes().find(|route| route.operation == operation).unwrap();
        assert_eq!(cell(route, roles::FAILOVER_OPERATOR), "dsgh", "{operation}");
    }
    for operation in [
        "Salvage_Discard",
        "Salvage_Replay",
        "IotHubResource_ListKeys",
    ] {
        let route = routes().find(|route| route.operation == operation).unwrap();
        assert_eq!(cell(route, roles::FAILOVER_OPERATOR), "", "{operation}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_told() {
    let world = World::with_hub().await;
    let before = essence(&world);
    for route in routes().filter(|route| !route.handler.is_open()) {
        let uri = format!("{}?api-version=2023-06-30", example(route));
        let request = HttpRequest::builder()
            .method(route.method)
            .uri(uri)
            .header("host", HOST);
        let reply = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status.as_u16(), 401, "{}", route.operation);
    }
    assert_eq!(essence(&world), before);
}

#[tokio::test]
async fn without_a_role_every_route_is_refused_whatever_is_there() {
    let world = World::with_hub().await;
    let before = essence(&world);
    for route in routes().filter(|route| needs_right(route)) {
        let (status, code) = ask(&world, "one", route).await;
        assert_eq!(
            (status, code.as_str()),
            (403, "AuthorizationFailed"),
            "{}",
            route.operation
        );
    }
    assert_eq!(essence(&world), before);
}

#[tokio::test]
async fn a_reader_of_everything_changes_nothing() {
    let world = world_with(&[("Reader", "/")]).await;
    let before = essence(&world);
    for route in routes().filter(|route| needs_right(route)) {
        let (status, code) = ask(&world, "one", route).await;
        let withheld = route.permission.starts_with("Castling.Identity")
            || route.permission == "Castling.Failover/salvage/read";
        let reads = (guard::is_read(route) && !withheld) || HARMLESS.contains(&route.permission);
        match reads {
            true => assert_ne!(status, 403, "{}", route.operation),
            false => assert_eq!(code, "AuthorizationFailed", "{}", route.operation),
        }
        assert!(status < 500, "{} {status} {code}", route.operation);
    }
    assert_eq!(essence(&world), before);
}

#[tokio::test]
async fn refused_writes_are_written_down_so_many_a_minute() {
    let world = world_with(&[("Reader", "/")]).await;
    let route = routes()
        .find(|route| route.operation == "IotHub_ManualFailover")
        .unwrap();
    for _ in 0..100 {
        ask(&world, "one", route).await;
        // All in the same moment.
        world.advance(-1_000);
    }
    let submitted = world.fake.submitted.lock().unwrap();
    let noted = submitted.iter().filter(|command| {
        matches!(command, control::Command::NoteAction { action, resource, result }
            if action == route.permission && resource == HUB && result == "AuthorizationFailed")
    });
    let most = types::limits::MANAGEMENT_REFUSALS_NOTED_PER_MINUTE as usize / 3;
    assert_eq!(noted.count(), most);
}

#[tokio::test]
async fn somebody_with_a_role_at_one_hub_finds_the_way_to_it_and_nothing_else() {
    let world = world_with(&[("Failover Operator", HUB)]).await;
    world
        .put(&HUB.replace("Hub-One", "Hub-Two"), BODY)
        .await
        .is(201);
    let state = world.fake.state();
    let groups = Vec::new();
    let asker = Asker {
        object_id: "one",
        groups: &groups,
    };
    let reach = rights::Reach::of(&state, asker, "Microsoft.Devices/IotHubs/read");
    let seen: Vec<_> = state
        .hubs_of_subscription(SUB)
        .filter(|hub| reach.covers(&hub.path()))
        .map(|hub| hub.name.to_string())
        .collect();
    assert_eq!(seen, ["Hub-One"]);
    for (operation, status) in [
        ("Subscriptions_List", 200),
        ("ResourceGroups_CheckExistence", 204),
        ("IotHubResource_ListBySubscription", 200),
        ("IotHubResource_Get", 200),
        ("IotHubResource_ListKeys", 403),
        ("ResourceGroups_Delete", 403),
        ("IotHubResource_Delete", 403),
        ("Plans_List", 403),
    ] {
        let route = routes().find(|route| route.operation == operation).unwrap();
        let (found, code) = ask(&world, "one", route).await;
        assert_eq!(found, status, "{operation} {code}");
    }
}
