use super::world::*;
use crate::backend::Backend as _;
use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::Command;
use serde_json::json;

async fn with_header(world: &World, path: &str, authorization: Option<&str>) -> Reply {
    let mut request = Request::builder().uri(path).header("host", HOST);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

const SUBSCRIPTIONS: &str = "/subscriptions?api-version=2022-12-01";

#[track_caller]
fn check_401(reply: &Reply, code: &str) {
    reply.refused(401, code, "uthentication failed");
    let challenge = reply.header("www-authenticate").unwrap();
    let start = format!("Bearer authorization_uri=\"https://{HOST}/{TENANT}\"");
    assert!(challenge.starts_with(&start), "{challenge}");
}

#[tokio::test]
async fn without_a_token_nothing_is_told() {
    let world = World::with_hub().await;
    for header in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic YTpi"),
    ] {
        check_401(
            &with_header(&world, SUBSCRIPTIONS, header).await,
            "AuthenticationFailed",
        );
    }
    // Neither what exists nor what is served.
    for path in [
        HUB,
        "/no/such/path",
        "/subscriptions/x/providers/Microsoft.Devices/foo",
    ] {
        check_401(
            &with_header(&world, path, None).await,
            "AuthenticationFailed",
        );
    }
}

#[tokio::test]
async fn every_route_but_the_open_ones_asks_for_a_token() {
    let world = World::new();
    let mut asked = 0;
    for route in crate::routes::routes() {
        let request = Request::builder()
            .method(route.method)
            .uri(route.path.replace(['{', '}'], ""));
        let reply = world
            .send(request.header("host", HOST).body(Body::empty()).unwrap())
            .await;
        if route.handler.is_open() {
            assert_ne!(reply.status.as_u16(), 401, "{}", route.path);
        } else {
            assert_eq!(
                reply.status.as_u16(),
                401,
                "{} {}",
                route.method,
                route.path
            );
            asked += 1;
        }
    }
    assert!(asked > 50);
}

#[tokio::test]
async fn tokens_of_every_accepted_audience_are_taken() {
    let world = World::new();
    for audience in [
        "https://localhost:8443",
        "https://localhost:8443/",
        "https://management.azure.com",
        "https://management.azure.com/",
        "https://management.core.windows.net/",
    ] {
        let header = format!("bearer {}", world.token_for(audience));
        with_header(&world, SUBSCRIPTIONS, Some(&header))
            .await
            .is(200);
    }
    let header = format!("Bearer {}", world.token_for("https://graph.microsoft.com"));
    check_401(
        &with_header(&world, SUBSCRIPTIONS, Some(&header)).await,
        "InvalidAuthenticationTokenAudience",
    );
}

#[tokio::test]
async fn a_token_for_hubs_data_does_not_open_the_management_api() {
    let world = World::with_hub().await;
    let domain = world.fake.state().deployment.domain.clone();
    for audience in [
        "https://iothubs.azure.net".to_owned(),
        "https://iothubs.azure.net/".to_owned(),
        format!("https://hub-one.{domain}"),
    ] {
        let token = format!("Bearer {}", world.token_for(&audience));
        let reply = with_header(&world, "/subscriptions", Some(&token)).await;
        reply.refused(401, "InvalidAuthenticationTokenAudience", "audience");
    }
}

#[tokio::test]
async fn expired_foreign_and_changed_tokens_are_refused() {
    let world = World::new();
    let get = async |token: String| {
        with_header(&world, SUBSCRIPTIONS, Some(&format!("Bearer {token}"))).await
    };
    let token = world.token();
    let parts: Vec<&str> = token.split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let mut claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    claims["appid"] = json!("someone-else");
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    check_401(
        &get(format!("{}.{payload}.{}", parts[0], parts[2])).await,
        "InvalidAuthenticationToken",
    );
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    check_401(
        &get(format!("{none}.{}.", parts[1])).await,
        "InvalidAuthenticationToken",
    );
    world.advance(3_660_000);
    check_401(&get(token).await, "ExpiredAuthenticationToken");
}

#[tokio::test]
async fn a_token_of_another_tenant_or_of_a_principal_that_is_gone_is_refused() {
    let world = World::new();
    let token = world.token();
    let set = |change: fn(&mut control::State)| {
        let mut state = world.fake.state.lock().unwrap();
        change(std::sync::Arc::make_mut(&mut *state));
    };
    set(|state| state.directory.applications.clear());
    let header = format!("Bearer {token}");
    check_401(
        &with_header(&world, SUBSCRIPTIONS, Some(&header)).await,
        "InvalidAuthenticationToken",
    );
    set(|state| state.deployment.tenant = "another".into());
    let reply = with_header(&world, SUBSCRIPTIONS, Some(&header)).await;
    reply.refused(401, "InvalidAuthenticationTokenTenant", "issuer");
}

async fn ask(world: &World, path: &str, form: &str) -> Reply {
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .header("host", HOST);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    world
        .send(request.body(Body::from(form.to_owned())).unwrap())
        .await
}

fn form(secret: &str, scope: &str) -> String {
    format!(
        "client_id={APP}&client_secret={secret}&grant_type=client_credentials&scope={scope}&client_info=1&claims=%7B%22access_token%22%3A%7B%7D%7D"
    )
}

const SCOPE: &str = "https%3A%2F%2Flocalhost%3A8443%2F%2F.default";

#[tokio::test]
async fn a_secret_gets_a_token_that_works_at_every_token_endpoint() {
    let world = World::new();
    for path in [
        "/adfs/oauth2/token".to_owned(),
        format!("/{TENANT}/oauth2/v2.0/token"),
        format!("/{TENANT}/oauth2/v2.0/token?client-request-id=x"),
        "/organizations/oauth2/v2.0/token".into(),
        format!("/adfs/{TENANT}/oauth2/v2.0/token"),
        format!("/{TENANT}/oauth2/token"),
    ] {
        let reply = ask(&world, &path, &form(SECRET, SCOPE)).await.is(200);
        assert!(reply.header("cache-control").unwrap().contains("no-store"));
        let body = reply.json();
        assert_eq!(
            (&body["token_type"], &body["expires_in"]),
            (&json!("Bearer"), &json!(3599))
        );
        let header = format!("Bearer {}", body["access_token"].as_str().unwrap());
        with_header(&world, SUBSCRIPTIONS, Some(&header))
            .await
            .is(200);
    }
    let form = form(SECRET, "https%3A%2F%2Fmanagement.azure.com%2F.default");
    ask(&world, "/adfs/oauth2/token", &form).await.is(200);
    let older = format!(
        "client_id={APP}&client_secret={SECRET}&grant_type=client_credentials&resource=https%3A%2F%2Fmanagement.core.windows.net%2F"
    );
    ask(&world, "/adfs/oauth2/token", &older).await.is(200);
}

async fn check_oauth(world: &World, form: &str, status: u16, error: &str, number: u64, text: &str) {
    let reply = ask(world, "/adfs/oauth2/token", form).await.is(status);
    let body = reply.json();
    assert_eq!(
        (&body["error"], &body["error_codes"]),
        (&json!(error), &json!([number]))
    );
    let description = body["error_description"].as_str().unwrap();
    assert!(
        description.starts_with(&format!("AADSTS{number}: ")) && description.contains(text),
        "{description}"
    );
    for field in ["correlation_id", "trace_id", "timestamp"] {
        assert!(body[field].is_string(), "{field}");
    }
    assert_eq!(body["timestamp"], "2026-11-23 03:04:05Z");
    assert!(!reply.text.contains("bad-secret"));
}

#[tokio::test]
async fn refused_token_requests_say_why_as_the_directory_does() {
    let world = World::new();
    let good = form(SECRET, SCOPE);
    check_oauth(
        &world,
        &form("bad-secret", SCOPE),
        401,
        "invalid_client",
        7_000_215,
        "Invalid client secret provided.",
    )
    .await;
    let unknown = good.replace(APP, "nobody");
    check_oauth(
        &world,
        &unknown,
        400,
        "unauthorized_client",
        700_016,
        "nobody",
    )
    .await;
    let other = good.replace("client_credentials", "password");
    check_oauth(
        &world,
        &other,
        400,
        "unsupported_grant_type",
        70_003,
        "password",
    )
    .await;
    for (field, form) in [
        (
            "client_secret",
            good.replace(&format!("client_secret={SECRET}&"), ""),
        ),
        ("client_id", good.replace(&format!("client_id={APP}&"), "")),
        ("grant_type", String::new()),
    ] {
        check_oauth(&world, &form, 400, "invalid_request", 900_144, field).await;
    }
    check_oauth(
        &world,
        &form(SECRET, "openid"),
        400,
        "invalid_scope",
        70_011,
        "scope",
    )
    .await;
    let graph = form(SECRET, "https%3A%2F%2Fgraph.microsoft.com%2F.default");
    check_oauth(
        &world,
        &graph,
        400,
        "invalid_resource",
        500_011,
        "graph.microsoft.com",
    )
    .await;
    let doubled = format!("{good}&client_id=x");
    check_oauth(
        &world,
        &doubled,
        400,
        "invalid_request",
        9_000_411,
        "client_id",
    )
    .await;
}

#[tokio::test]
async fn too_many_wrong_secrets_lock_a_client_out_for_a_minute() {
    let world = World::new();
    for _ in 0..10 {
        check_oauth(
            &world,
            &form("bad-secret", SCOPE),
            401,
            "invalid_client",
            7_000_215,
            "Invalid",
        )
        .await;
    }
    check_oauth(
        &world,
        &form(SECRET, SCOPE),
        401,
        "invalid_client",
        50_053,
        "too many attempts",
    )
    .await;
    world.advance(60_000);
    ask(&world, "/adfs/oauth2/token", &form(SECRET, SCOPE))
        .await
        .is(200);
}

#[tokio::test]
async fn unknown_tenants_are_refused_and_a_large_form_is_not_read() {
    let world = World::new();
    let reply = ask(&world, "/stranger/oauth2/v2.0/token", &form(SECRET, SCOPE))
        .await
        .is(400);
    assert_eq!(
        (&reply.json()["error"], &reply.json()["error_codes"]),
        (&json!("invalid_tenant"), &json!([90_002]))
    );
    let large = "x".repeat(70_000);
    ask(&world, "/adfs/oauth2/token", &large)
        .await
        .refused(413, "RequestEntityTooLarge", "65536");
}

#[tokio::test]
async fn a_region_that_does_not_know_its_deployment_yet_gives_no_token() {
    let world = World::new();
    *world.fake.state.lock().unwrap() = Default::default();
    let reply = ask(&world, "/adfs/oauth2/token", &form(SECRET, SCOPE))
        .await
        .is(503);
    assert_eq!(reply.json()["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn the_openid_configuration_points_to_this_deployment() {
    let world = World::new();
    for (path, token) in [
        (
            "/adfs/.well-known/openid-configuration".to_owned(),
            "https://localhost:8443/adfs/oauth2/token".to_owned(),
        ),
        (
            format!("/{TENANT}/v2.0/.well-known/openid-configuration"),
            format!("https://localhost:8443/{TENANT}/oauth2/v2.0/token"),
        ),
        (
            "/organizations/v2.0/.well-known/openid-configuration".into(),
            "https://localhost:8443/organizations/oauth2/v2.0/token".into(),
        ),
    ] {
        let body = with_header(&world, &path, None).await.is(200).json();
        assert_eq!(body["token_endpoint"], token);
        assert!(
            body["authorization_endpoint"]
                .as_str()
                .unwrap()
                .starts_with("https://localhost:8443/")
        );
        assert_eq!(body["issuer"], format!("https://localhost:8443/{TENANT}/"));
        let keys = body["jwks_uri"]
            .as_str()
            .unwrap()
            .strip_prefix("https://localhost:8443")
            .unwrap();
        assert_eq!(
            with_header(&world, keys, None).await.is(200).json()["keys"][0]["alg"],
            "RS256"
        );
    }
}

#[tokio::test]
async fn commands_carry_the_client_id_of_who_asked() {
    let world = World::with_hub().await;
    let state = world.fake.state();
    let made = state
        .activity
        .iter()
        .find(|entry| entry.action == "Microsoft.Devices/IotHubs/write")
        .unwrap();
    assert_eq!(made.by, APP);
    assert!(matches!(
        world.fake.submitted.lock().unwrap()[0],
        Command::PutGroup { .. }
    ));
}
