//! Signing in with a browser and by device code, renewing, revoking.

use super::world::*;
use crate::backend::Backend as _;
use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::{Secret, User};
use control::{Answer, Command, DirectoryCommand};
use ring::digest;
use serde_json::{Value, json};
use std::sync::OnceLock;
use types::UnixMillis;

const AZ: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const PASSWORD: &str = "tent-river-9-lamp";
const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-0123456789";
const REDIRECT: &str = "http://localhost:8400";
const SUBSCRIPTIONS: &str = "/subscriptions?api-version=2022-12-01";

fn directory(world: &World, command: DirectoryCommand) -> Answer {
    world.fake.apply(Command::Directory(command))
}

fn user() -> User {
    static HASH: OnceLock<Secret> = OnceLock::new();
    let hash = HASH.get_or_init(|| crate::passwords::hash(PASSWORD).unwrap());
    User {
        object_id: "ada-object".into(),
        name: "ada@castling.localhost".into(),
        display_name: "Ada <b>".into(),
        password: Some(hash.clone()),
        password_expired: false,
        enabled: true,
        created: UnixMillis(START),
        external: None,
        failures: 0,
        locked_until: None,
        last_sign_in: None,
    }
}

fn with_user() -> World {
    let world = World::new();
    let put = directory(
        &world,
        DirectoryCommand::PutUser {
            user: Box::new(user()),
            expected: None,
        },
    );
    assert!(!matches!(put, Answer::Refused(_)), "{put:?}");
    world
}

fn change(world: &World, change: impl FnOnce(&mut User)) {
    let mut changed = user();
    change(&mut changed);
    let put = directory(
        world,
        DirectoryCommand::PutUser {
            user: Box::new(changed),
            expected: Some(Box::new(user())),
        },
    );
    assert!(!matches!(put, Answer::Refused(_)), "{put:?}");
}

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, VERIFIER.as_bytes()))
}

fn authorize(extra: &str) -> String {
    format!(
        "/adfs/oauth2/authorize?client_id={AZ}&response_type=code&redirect_uri=http%3A%2F%2Flocalhost%3A8400&scope=https%3A%2F%2Flocalhost%3A8443%2F%2F.default+offline_access+openid+profile&state=the%20state&nonce=n1&code_challenge={}&code_challenge_method=S256{extra}",
        challenge()
    )
}

async fn page(world: &World, path: &str) -> Reply {
    let request = Request::builder().uri(path).header("host", HOST);
    world.send(request.body(Body::empty()).unwrap()).await
}

async fn send(world: &World, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Reply {
    let body = crate::signin::with_query("", fields);
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .header("host", HOST)
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded");
    let body = Body::from(body.trim_start_matches('?').to_owned());
    world.send(request.body(body).unwrap()).await
}

fn cookie(reply: &Reply) -> String {
    let set = reply.header("set-cookie").unwrap();
    for word in ["HttpOnly", "Secure", "SameSite=Lax"] {
        assert!(set.contains(word), "{set}");
    }
    set.split(';').next().unwrap().to_owned()
}

/// The value of a hidden field.
fn hidden(reply: &Reply, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let at = reply
        .text
        .find(&start)
        .unwrap_or_else(|| panic!("{name}: {}", reply.text));
    let rest = &reply.text[at + start.len()..];
    rest[..rest.find('"').unwrap()].to_owned()
}

fn parameter(address: &str, name: &str) -> Option<String> {
    let (_, query) = address.split_once('?')?;
    let all = crate::call::query(query);
    all.into_iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

/// A browser at the sign-in form.
struct Browser {
    cookie: String,
    request: String,
}

impl Browser {
    async fn at(world: &World, path: &str) -> Browser {
        let reply = page(world, path).await.is(200);
        Browser {
            cookie: cookie(&reply),
            request: hidden(&reply, "request"),
        }
    }

    async fn form(&self, world: &World, fields: &[(&str, &str)]) -> Reply {
        let mut all = vec![("request", self.request.as_str())];
        all.extend_from_slice(fields);
        send(world, "/adfs/oauth2/authorize", &self.cookie, &all).await
    }

    async fn sign_in(&self, world: &World, password: &str) -> Reply {
        let name = ("username", "ADA@castling.localhost");
        self.form(world, &[name, ("password", password), ("action", "go")])
            .await
    }
}

async fn code(world: &World) -> String {
    let browser = Browser::at(world, &authorize("")).await;
    let reply = browser.sign_in(world, PASSWORD).await.is(302);
    let to = reply.header("location").unwrap();
    assert!(to.starts_with("http://localhost:8400?code="), "{to}");
    assert_eq!(parameter(to, "state").unwrap(), "the state");
    parameter(to, "code").unwrap()
}

async fn redeem(world: &World, changes: &[(&str, &str)], code: &str) -> Reply {
    let mut fields = vec![
        ("client_id", AZ),
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_info", "1"),
    ];
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    fields.retain(|(_, value)| !value.is_empty());
    send(world, "/adfs/oauth2/token", "", &fields).await
}

async fn signed_in(world: &World) -> Value {
    redeem(world, &[], &code(world).await).await.is(200).json()
}

async fn renew(world: &World, token: &str) -> Reply {
    let fields = [
        ("client_id", AZ),
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("scope", "https://localhost:8443//.default offline_access"),
    ];
    send(world, "/organizations/oauth2/v2.0/token", "", &fields).await
}

async fn list(world: &World, token: &Value) -> Reply {
    let request = Request::builder()
        .uri(SUBSCRIPTIONS)
        .header("host", HOST)
        .header(
            "authorization",
            format!("Bearer {}", token.as_str().unwrap()),
        );
    world.send(request.body(Body::empty()).unwrap()).await
}

#[track_caller]
fn check(reply: &Reply, status: u16, error: &str, number: u64) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    let body = reply.json();
    let said = (&body["error"], &body["error_codes"]);
    assert_eq!(said, (&json!(error), &json!([number])), "{}", reply.text);
}

fn claims(token: &Value) -> Value {
    let middle = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

#[tokio::test]
async fn a_person_signs_in_with_a_browser_and_gets_tokens_that_msal_understands() {
    let world = with_user();
    let tokens = signed_in(&world).await;
    let id = claims(&tokens["id_token"]);
    assert_eq!(id["aud"], AZ);
    assert_eq!(id["nonce"], "n1");
    assert_eq!(id["preferred_username"], "ada@castling.localhost");
    assert_eq!(id["iss"], format!("https://{HOST}/{TENANT}/"));
    let info = tokens["client_info"].as_str().unwrap();
    let info: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(info).unwrap()).unwrap();
    assert_eq!(info, json!({ "uid": "ada-object", "utid": TENANT }));
    let access = claims(&tokens["access_token"]);
    assert_eq!(
        (&access["scp"], &access["sid"]),
        (&json!("user_impersonation"), &id["sid"])
    );
    assert_eq!(access["aud"], "https://localhost:8443/");
    // Known: what they may see is another question.
    let status = list(&world, &tokens["access_token"]).await.status.as_u16();
    assert_ne!(status, 401);
    // An id token opens nothing.
    list(&world, &tokens["id_token"]).await.is(401);
    let state = world.fake.state();
    let user = &state.directory.users["ada-object"];
    assert_eq!(user.last_sign_in, Some(UnixMillis(START)));
}

#[tokio::test]
async fn the_sign_in_page_runs_nothing_and_escapes_everything() {
    let world = with_user();
    let reply = page(
        &world,
        &authorize("&login_hint=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"),
    )
    .await
    .is(200);
    assert!(!reply.text.contains("<script"), "{}", reply.text);
    assert!(reply.text.contains("&lt;script&gt;"));
    let policy = reply.header("content-security-policy").unwrap();
    for word in [
        "default-src 'none'",
        "frame-ancestors 'none'",
        "form-action 'self' http://localhost:8400;",
    ] {
        assert!(policy.contains(word), "{policy}");
    }
    assert!(!policy.contains("script-src"));
    assert_eq!(reply.header("x-frame-options"), Some("DENY"));
}

#[tokio::test]
async fn form_post_sends_the_fields_in_a_form() {
    let world = with_user();
    let browser = Browser::at(&world, &authorize("&response_mode=form_post")).await;
    let reply = browser.sign_in(&world, PASSWORD).await.is(200);
    assert!(reply.text.contains("action=\"http://localhost:8400\""));
    assert_eq!(hidden(&reply, "state"), "the state");
    redeem(&world, &[], &hidden(&reply, "code")).await.is(200);
}

#[tokio::test]
async fn a_request_that_leads_elsewhere_is_a_page_and_other_mistakes_go_to_the_program() {
    let world = with_user();
    for (path, number) in [
        (
            authorize("").replace("localhost%3A8400", "evil.example"),
            "AADSTS50011",
        ),
        (authorize("").replace(AZ, "nobody"), "AADSTS700016"),
        (authorize("&state=twice"), "AADSTS9000411"),
        ("/adfs/oauth2/authorize".into(), "AADSTS900144"),
        (authorize("").replace("/adfs/", "/stranger/"), "AADSTS90002"),
    ] {
        let reply = page(&world, &path).await.is(400);
        assert!(reply.text.contains(number), "{number}: {}", reply.text);
        assert_eq!(reply.header("location"), None);
    }
    for (path, error) in [
        (authorize("").replace("S256", "plain"), "invalid_request"),
        (
            authorize("").replace("code_challenge=", "x="),
            "invalid_request",
        ),
        (
            authorize("").replace("response_type=code", "response_type=token"),
            "unsupported_response_type",
        ),
        (authorize("&prompt=none"), "login_required"),
        (
            authorize("").replace("localhost%3A8443", "graph.example"),
            "invalid_resource",
        ),
    ] {
        let reply = page(&world, &path).await.is(302);
        let to = reply.header("location").unwrap();
        assert_eq!(parameter(to, "error").as_deref(), Some(error), "{to}");
        assert_eq!(parameter(to, "state").as_deref(), Some("the state"));
    }
}

#[tokio::test]
async fn a_form_counts_in_the_browser_it_was_given_to_and_for_a_while() {
    let world = with_user();
    let mut browser = Browser::at(&world, &authorize("")).await;
    let other = Browser::at(&world, &authorize("")).await;
    let own = std::mem::replace(&mut browser.cookie, other.cookie);
    for cookie in [
        browser.cookie.clone(),
        String::new(),
        "castling_signin=".into(),
    ] {
        browser.cookie = cookie;
        let reply = browser.sign_in(&world, PASSWORD).await.is(400);
        assert!(reply.text.contains("AADSTS90014"), "{}", reply.text);
    }
    browser.cookie = own;
    world.advance(types::limits::SIGN_IN_FORM_MS);
    browser.sign_in(&world, PASSWORD).await.is(400);
    browser.request = "forged".into();
    browser.sign_in(&world, PASSWORD).await.is(400);
}

#[tokio::test]
async fn five_wrong_passwords_lock_an_account_for_a_quarter_of_an_hour() {
    let world = with_user();
    let browser = Browser::at(&world, &authorize("")).await;
    for n in 1..=5 {
        let reply = browser.sign_in(&world, "wrong").await.is(200);
        let locked = reply.text.contains("locked");
        assert_eq!(locked, n == 5, "{n}: {}", reply.text);
    }
    let reply = browser.sign_in(&world, PASSWORD).await.is(200);
    assert!(reply.text.contains("locked"), "the right one waits too");
    world.advance(types::limits::SIGN_IN_LOCK_MS);
    code(&world).await;
}

#[tokio::test]
async fn unknown_and_disabled_people_learn_nothing() {
    let world = with_user();
    let browser = Browser::at(&world, &authorize("")).await;
    let fields = [("username", "nobody@x"), ("password", PASSWORD)];
    let unknown = browser.form(&world, &fields).await.is(200);
    assert!(unknown.text.contains("Name or password is wrong."));
    change(&world, |user| user.enabled = false);
    let disabled = browser.sign_in(&world, PASSWORD).await.is(200);
    assert!(disabled.text.contains("Name or password is wrong."));
}

#[tokio::test]
async fn a_password_from_somebody_else_must_be_replaced_first() {
    let world = with_user();
    change(&world, |user| user.password_expired = true);
    let mut browser = Browser::at(&world, &authorize("")).await;
    let reply = browser.sign_in(&world, PASSWORD).await.is(200);
    assert!(reply.text.contains("Choose another password"));
    browser.request = hidden(&reply, "request");
    for (new, repeated, why) in [
        ("short", "short", "at least 12"),
        ("another-good-one-7", "another-good-one-8", "differ"),
        (PASSWORD, PASSWORD, "must be another one"),
    ] {
        let fields = [("new_password", new), ("repeated", repeated)];
        let reply = browser.form(&world, &fields).await.is(200);
        assert!(reply.text.contains(why), "{why}: {}", reply.text);
    }
    let new = "another-good-one-7";
    let fields = [("new_password", new), ("repeated", new)];
    let reply = browser.form(&world, &fields).await.is(302);
    let code = parameter(reply.header("location").unwrap(), "code").unwrap();
    redeem(&world, &[], &code).await.is(200);
    let browser = Browser::at(&world, &authorize("")).await;
    browser.sign_in(&world, PASSWORD).await.is(200);
    browser.sign_in(&world, new).await.is(302);
}

#[tokio::test]
async fn cancelling_tells_the_program() {
    let world = with_user();
    let browser = Browser::at(&world, &authorize("")).await;
    let reply = browser.form(&world, &[("action", "cancel")]).await.is(302);
    let to = reply.header("location").unwrap();
    assert_eq!(parameter(to, "error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn a_code_is_good_once_for_its_program_with_its_verifier_and_redirect() {
    let world = with_user();
    let used = code(&world).await;
    redeem(&world, &[], &used).await.is(200);
    check(
        &redeem(&world, &[], &used).await,
        400,
        "invalid_grant",
        70_008,
    );
    for (name, value, error, number) in [
        ("code_verifier", "another", "invalid_grant", 501_481),
        (
            "redirect_uri",
            "http://localhost:8401",
            "invalid_grant",
            500_112,
        ),
        ("client_id", "castling-cli", "invalid_grant", 700_005),
        ("client_id", "nobody", "unauthorized_client", 700_016),
        ("code_verifier", "", "invalid_request", 900_144),
        ("code", "unknown", "invalid_grant", 70_008),
    ] {
        let code = code(&world).await;
        let reply = redeem(&world, &[(name, value)], &code).await;
        check(&reply, 400, error, number);
    }
    let late = code(&world).await;
    world.advance(types::limits::AUTHORIZATION_CODE_MS);
    check(
        &redeem(&world, &[], &late).await,
        400,
        "invalid_grant",
        70_008,
    );
}

#[tokio::test]
async fn a_refresh_token_is_changed_each_time_and_using_an_old_one_ends_the_session() {
    let world = with_user();
    let first = signed_in(&world).await;
    let refresh = |tokens: &Value| tokens["refresh_token"].as_str().unwrap().to_owned();
    let second = renew(&world, &refresh(&first)).await.is(200).json();
    assert_ne!(refresh(&first), refresh(&second));
    assert_ne!(
        list(&world, &second["access_token"]).await.status.as_u16(),
        401
    );
    check(
        &renew(&world, &refresh(&first)).await,
        400,
        "invalid_grant",
        50_173,
    );
    check(
        &renew(&world, &refresh(&second)).await,
        400,
        "invalid_grant",
        50_173,
    );
    let reply = list(&world, &second["access_token"]).await;
    reply.refused(401, "InvalidAuthenticationToken", "session");
}

#[tokio::test]
async fn a_session_that_is_revoked_ended_or_whose_user_is_disabled_is_refused_at_once() {
    let world = with_user();
    let refresh = |tokens: &Value| tokens["refresh_token"].as_str().unwrap().to_owned();
    for end in ["revoke", "revoke-access", "logout", "expire", "disable"] {
        let tokens = signed_in(&world).await;
        let access = tokens["access_token"].clone();
        match end {
            "revoke" | "revoke-access" => {
                let token = match end {
                    "revoke" => refresh(&tokens),
                    _ => access.as_str().unwrap().to_owned(),
                };
                send(&world, "/adfs/oauth2/revoke", "", &[("token", &token)])
                    .await
                    .is(200);
            }
            "logout" => {
                let id = tokens["id_token"].as_str().unwrap();
                let path = format!("/adfs/oauth2/logout?id_token_hint={id}");
                page(&world, &path).await.is(200);
            }
            "expire" => {
                world.advance(types::limits::SESSION_MS);
                let reply = renew(&world, &refresh(&tokens)).await;
                check(&reply, 400, "invalid_grant", 700_082);
                continue;
            }
            _ => change(&world, |user| user.enabled = false),
        }
        list(&world, &access).await.is(401);
        let reply = renew(&world, &refresh(&tokens)).await;
        check(&reply, 400, "invalid_grant", 50_173);
    }
    // What is no token is no error.
    send(&world, "/adfs/oauth2/revoke", "", &[("token", "x.y")])
        .await
        .is(200);
}

async fn device(world: &World) -> Value {
    let fields = [
        ("client_id", AZ),
        (
            "scope",
            "https://localhost:8443//.default offline_access openid",
        ),
    ];
    send(world, "/adfs/oauth2/devicecode", "", &fields)
        .await
        .is(200)
        .json()
}

async fn poll(world: &World, device: &Value) -> Reply {
    world.advance(types::limits::DEVICE_CODE_INTERVAL_S * 1000);
    let code = device["device_code"].as_str().unwrap();
    let fields = [
        ("client_id", AZ),
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", code),
        ("client_info", "1"),
    ];
    send(world, "/adfs/oauth2/token", "", &fields).await
}

/// To the question whether to sign the other device in.
async fn at_other_device(world: &World, device: &Value) -> Browser {
    let typed = device["user_code"]
        .as_str()
        .unwrap()
        .to_lowercase()
        .replace('-', " ");
    let reply = send(
        world,
        "/adfs/oauth2/deviceauth",
        "",
        &[("user_code", &typed)],
    )
    .await
    .is(200);
    let mut browser = Browser {
        cookie: cookie(&reply),
        request: hidden(&reply, "request"),
    };
    let reply = browser.sign_in(world, PASSWORD).await.is(200);
    assert!(
        reply.text.contains(device["user_code"].as_str().unwrap()),
        "{}",
        reply.text
    );
    browser.request = hidden(&reply, "request");
    browser
}

#[tokio::test]
async fn a_device_code_waits_for_a_person_and_is_good_once() {
    let world = with_user();
    let device = device(&world).await;
    for field in ["verification_uri", "message"] {
        assert!(
            device[field]
                .as_str()
                .unwrap()
                .contains("https://localhost:8443/adfs/oauth2/deviceauth")
        );
    }
    assert_eq!(
        (&device["interval"], &device["expires_in"]),
        (&json!(5), &json!(900))
    );
    check(
        &poll(&world, &device).await,
        400,
        "authorization_pending",
        70_016,
    );
    let code = device["device_code"].as_str().unwrap();
    let fields = [
        ("client_id", AZ),
        ("grant_type", "device_code"),
        ("device_code", code),
    ];
    let soon = send(&world, "/adfs/oauth2/token", "", &fields).await;
    check(&soon, 400, "slow_down", 70_017);
    let browser = at_other_device(&world, &device).await;
    check(
        &poll(&world, &device).await,
        400,
        "authorization_pending",
        70_016,
    );
    browser.form(&world, &[("action", "go")]).await.is(200);
    let tokens = poll(&world, &device).await.is(200).json();
    assert_eq!(claims(&tokens["access_token"])["oid"], "ada-object");
    renew(&world, tokens["refresh_token"].as_str().unwrap())
        .await
        .is(200);
    check(&poll(&world, &device).await, 400, "invalid_grant", 70_018);
}

#[tokio::test]
async fn a_device_code_that_is_denied_expired_or_unknown_says_so() {
    let world = with_user();
    let denied = device(&world).await;
    let browser = at_other_device(&world, &denied).await;
    browser.form(&world, &[("action", "cancel")]).await.is(200);
    check(&poll(&world, &denied).await, 400, "access_denied", 70_019);
    let late = device(&world).await;
    world.advance(types::limits::DEVICE_CODE_MS);
    check(&poll(&world, &late).await, 400, "expired_token", 70_020);
    let typed = late["user_code"].as_str().unwrap();
    let reply = send(
        &world,
        "/adfs/oauth2/deviceauth",
        "",
        &[("user_code", typed)],
    )
    .await
    .is(200);
    assert!(reply.text.contains("not known, or has expired"));
    check(
        &poll(&world, &json!({ "device_code": "nonsense" })).await,
        400,
        "invalid_grant",
        70_018,
    );
}

#[tokio::test]
async fn without_a_leader_nobody_signs_in_and_wrong_passwords_are_not_answered() {
    let world = with_user();
    let browser = Browser::at(&world, &authorize("")).await;
    *world.fake.broken.lock().unwrap() = Some(crate::backend::ControlUnavailable {
        why: "nobody leads".into(),
        may_have_happened: false,
    });
    for password in [PASSWORD, "wrong"] {
        browser.sign_in(&world, password).await.is(503);
    }
}

#[tokio::test]
async fn applications_that_are_disabled_or_bring_an_assertion_that_is_not_good_get_no_token() {
    let world = World::new();
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", APP),
        ("client_assertion", "x.y.z"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("scope", "https://localhost:8443//.default"),
    ];
    let reply = send(&world, "/adfs/oauth2/token", "", &fields).await;
    check(&reply, 401, "invalid_client", 700_027);
    let token = json!(world.token());
    let mut application = world.fake.state().directory.applications[APP].clone();
    application.enabled = false;
    std::sync::Arc::make_mut(&mut *world.fake.state.lock().unwrap())
        .directory
        .applications
        .insert(APP.into(), application);
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", APP),
        ("client_secret", SECRET),
        ("scope", "https://localhost:8443//.default"),
    ];
    let reply = send(&world, "/adfs/oauth2/token", "", &fields).await;
    check(&reply, 401, "unauthorized_client", 7_000_112);
    list(&world, &token).await.is(401);
}

#[tokio::test]
async fn refusing_a_device_code_again_and_again_writes_nothing() {
    let world = with_user();
    let denied = device(&world).await;
    let typed = denied["user_code"].as_str().unwrap();
    let fields = [("user_code", typed)];
    let reply = send(&world, "/adfs/oauth2/deviceauth", "", &fields).await;
    let browser = Browser {
        cookie: cookie(&reply),
        request: hidden(&reply, "request"),
    };
    let entries = || world.fake.state().activity.len();
    let submitted = || world.fake.submitted.lock().unwrap().len();
    let before = entries();
    // Nobody has signed in.
    browser.form(&world, &[("action", "cancel")]).await.is(200);
    assert_eq!(entries(), before + 1);
    let sent = submitted();
    for _ in 0..3 {
        let reply = browser.form(&world, &[("action", "cancel")]).await.is(400);
        assert!(reply.text.contains("AADSTS70020"), "{}", reply.text);
    }
    assert_eq!((entries(), submitted()), (before + 1, sent));
    // Nor when it comes to the control plane by way of another region.
    let again = DirectoryCommand::DecideDeviceCode {
        user_code: typed.into(),
        standing: control::directory::DeviceCodeStanding::Denied,
    };
    assert!(matches!(directory(&world, again), Answer::Refused(_)));
    assert_eq!(entries(), before + 1);
}

fn set_password(world: &World, expired: bool) {
    let command = DirectoryCommand::SetPassword {
        object_id: "ada-object".into(),
        password: crate::passwords::hash("given-by-an-admin-1").unwrap(),
        expired,
        keep: None,
    };
    let set = directory(world, command);
    assert!(!matches!(set, Answer::Refused(_)), "{set:?}");
}

fn lock(world: &World) {
    for _ in 0..5 {
        let object_id = "ada-object".into();
        directory(world, DirectoryCommand::SignInFailed { object_id });
    }
}

#[tokio::test]
async fn a_form_for_a_new_password_ends_with_the_old_one_and_waits_while_locked() {
    for (reset, why) in [(true, "changed already"), (false, "locked")] {
        let world = with_user();
        change(&world, |user| user.password_expired = true);
        let mut browser = Browser::at(&world, &authorize("")).await;
        let reply = browser.sign_in(&world, PASSWORD).await.is(200);
        browser.request = hidden(&reply, "request");
        match reset {
            true => set_password(&world, true),
            false => lock(&world),
        }
        let before = world.fake.state().directory.users["ada-object"].clone();
        let new = "another-good-one-7";
        let fields = [("new_password", new), ("repeated", new)];
        let reply = browser.form(&world, &fields).await.is(200);
        assert!(reply.text.contains(why), "{why}: {}", reply.text);
        assert_eq!(world.fake.state().directory.users["ada-object"], before);
    }
}

#[tokio::test]
async fn a_device_is_not_approved_after_a_reset_or_while_locked() {
    for (reset, number) in [(true, "AADSTS50133"), (false, "AADSTS50053")] {
        let world = with_user();
        let device = device(&world).await;
        let browser = at_other_device(&world, &device).await;
        match reset {
            true => set_password(&world, false),
            false => lock(&world),
        }
        let reply = browser.form(&world, &[("action", "go")]).await.is(400);
        assert!(reply.text.contains(number), "{number}: {}", reply.text);
        let waiting = poll(&world, &device).await;
        check(&waiting, 400, "authorization_pending", 70_016);
    }
}
