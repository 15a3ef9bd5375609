//! The pages: rendered here, without anything from elsewhere. Everything a client sent is escaped by the template.

use super::pending::{Pending, Purpose, Stage};
use crate::call::Call;
use crate::identity::{OauthError, client, origin};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;background:#f2f3f5;color:#1c1e21}\
main{background:#fff;width:22rem;max-width:calc(100vw - 4rem);padding:2rem;border-radius:.5rem;box-shadow:0 1px 4px #0003}\
h1{font-size:1.25rem;margin:0 0 1rem}p{margin:0 0 1rem}label{display:block;margin:0 0 1rem}\
input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem;margin-top:.25rem;border:1px solid #777;border-radius:.25rem}\
button,.button{font:inherit;padding:.5rem 1rem;border:1px solid #1b5fbf;border-radius:.25rem;background:#1b5fbf;color:#fff;cursor:pointer}\
button.other{background:none;color:inherit;border-color:#777;margin-left:.5rem}\
.mistake{border-left:.25rem solid #b3261e;padding-left:.75rem}.code{font:1.5rem monospace;letter-spacing:.1em}\
a{color:#1b5fbf}small{color:#555}\
@media(prefers-color-scheme:dark){body{background:#18191b;color:#e6e7e9}main{background:#242628}small{color:#aaa}a{color:#8ab4f8}\
input{background:#18191b;color:inherit}}";

/// Sends a form without a click; the button is for browsers without scripts.
const SEND: &str = "document.forms[0].submit()";

fn source(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(hash))
}

/// What a page may do besides showing itself.
#[derive(Default)]
struct Allowed<'a> {
    /// Where its form, or what follows it, may lead.
    to: &'a str,
    sends_itself: bool,
}

fn page(status: StatusCode, title: &str, allowed: Allowed<'_>, content: Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Castling" }
                style { (PreEscaped(STYLE)) }
            }
            body { main { h1 { (title) } (content) } }
        }
    };
    let mut response = Response::new(Body::from(page.into_string()));
    *response.status_mut() = status;
    let mut policy = format!(
        "default-src 'none'; style-src {}; form-action 'self' {}; base-uri 'none'; frame-ancestors 'none'",
        source(STYLE),
        allowed.to
    );
    if allowed.sends_itself {
        policy.push_str(&format!("; script-src {}", source(SEND)));
    }
    crate::answer::set(&mut response, header::CONTENT_SECURITY_POLICY, &policy);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store, no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The folder of these pages, as an absolute path.
fn root(tenant: &str) -> String {
    match tenant {
        "adfs" => "/adfs/oauth2".into(),
        tenant => format!("/{tenant}/oauth2/v2.0"),
    }
}

fn program(purpose: &Purpose) -> &'static str {
    client(purpose.client_id()).map_or("a program", |client| client.name)
}

/// The page of a sign-in's stage.
pub(super) fn stage(
    call: &Call,
    pending: &Pending,
    sealed: &str,
    mistake: Option<&str>,
) -> Response {
    let (title, fields) = match &pending.stage {
        Stage::SignIn => ("Sign in", sign_in(call, pending, sealed)),
        Stage::NewPassword(_) => ("Choose another password", new_password()),
        Stage::Confirm { signed_in, .. } => (
            "Sign in on the other device?",
            confirm(call, pending, &signed_in.user),
        ),
    };
    // Browsers apply the policy of a form also to where its answer leads.
    let to = match &pending.purpose {
        Purpose::Code { redirect_uri, .. } => origin(redirect_uri),
        Purpose::Device { .. } => "",
    };
    let content = html! {
        @if let Some(mistake) = mistake { p.mistake role="alert" { (mistake) } }
        form method="post" action=(format!("{}/authorize", root(&pending.tenant))) {
            input type="hidden" name="request" value=(sealed);
            (fields)
        }
    };
    let status = StatusCode::OK;
    page(
        status,
        title,
        Allowed {
            to,
            ..Allowed::default()
        },
        content,
    )
}

fn sign_in(call: &Call, pending: &Pending, sealed: &str) -> Markup {
    let hint = match &pending.purpose {
        Purpose::Code { login_hint, .. } => login_hint.as_deref().unwrap_or_default(),
        Purpose::Device { .. } => "",
    };
    let providers = call.state.directory.providers.values();
    let providers: Vec<_> = providers.filter(|provider| provider.enabled).collect();
    let external = format!("/{}/oauth2/external", pending.tenant);
    html! {
        p { "to go on with " strong { (program(&pending.purpose)) } "." }
        @if let Purpose::Device { user_code, .. } = &pending.purpose {
            p { "The other device shows the code " span.code { (user_code) } ". Go on only if you started this yourself." }
        }
        label { "Name"
            input name="username" value=(hint) autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus[hint.is_empty()];
        }
        label { "Password" input type="password" name="password" autocomplete="current-password" required autofocus[!hint.is_empty()]; }
        p {
            button name="action" value="go" { "Sign in" }
            button.other name="action" value="cancel" formnovalidate { "Cancel" }
        }
        @for provider in providers {
            p { a href=(format!("{external}/{}?request={sealed}", wire::percent::encode(&provider.name))) { "Sign in with " (provider.display_name) } }
        }
    }
}

fn new_password() -> Markup {
    html! {
        p { "The password was given to you by somebody else. Choose one that only you know: at least "
            (types::limits::PASSWORD_CHARS_MIN) " characters." }
        label { "New password" input type="password" name="new_password" autocomplete="new-password" required autofocus; }
        label { "The same again" input type="password" name="repeated" autocomplete="new-password" required; }
        p {
            button name="action" value="go" { "Change and sign in" }
            button.other name="action" value="cancel" formnovalidate { "Cancel" }
        }
    }
}

fn confirm(call: &Call, pending: &Pending, user: &str) -> Markup {
    let known = call.state.directory.users.get(user);
    let name = known.map_or("", |user| user.name.as_str());
    let code = match &pending.purpose {
        Purpose::Device { user_code, .. } => user_code.as_str(),
        Purpose::Code { .. } => "",
    };
    html! {
        p { strong { (program(&pending.purpose)) } " on the device that shows " span.code { (code) } " will be signed in as "
            strong { (name) } ". Agree only if you started it yourself." }
        p {
            button name="action" value="go" { "Yes, sign in" }
            button.other name="action" value="cancel" { "No" }
        }
    }
}

/// The page that asks for a device's code.
pub(super) fn user_code(call: &Call, typed: &str, mistake: Option<&str>) -> Response {
    let tenant = call.param("tenant").to_ascii_lowercase();
    let typed: String = typed.chars().take(32).collect();
    let content = html! {
        @if let Some(mistake) = mistake { p.mistake role="alert" { (mistake) } }
        form method="post" action=(format!("{}/deviceauth", root(&tenant))) {
            label { "The code that the other device shows"
                input.code name="user_code" value=(typed) autocomplete="off" autocapitalize="characters" spellcheck="false" required autofocus;
            }
            p { button { "Next" } }
        }
    };
    page(
        StatusCode::OK,
        "Sign in on another device",
        Allowed::default(),
        content,
    )
}

pub(super) fn device_done(approved: bool) -> Response {
    let (title, text) = match approved {
        true => (
            "The other device is signed in",
            "You can close this page and go on there.",
        ),
        false => (
            "The other device is not signed in",
            "Nothing was granted. You can close this page.",
        ),
    };
    page(
        StatusCode::OK,
        title,
        Allowed::default(),
        html! { p { (text) } },
    )
}

/// Fields for the program, in a form that sends itself.
pub(super) fn post_back(redirect_uri: &str, fields: &[(&str, &str)]) -> Response {
    let content = html! {
        form method="post" action=(redirect_uri) {
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            p { button { "Continue" } }
        }
        script { (PreEscaped(SEND)) }
    };
    let allowed = Allowed {
        to: origin(redirect_uri),
        sends_itself: true,
    };
    page(StatusCode::OK, "One moment", allowed, content)
}

/// The body of a redirect.
pub(super) fn leaving() -> Response {
    let content = html! { p { "You are sent back to the program." } };
    page(StatusCode::OK, "One moment", Allowed::default(), content)
}

pub(crate) fn signed_out(back: Option<&str>) -> Response {
    let content = html! {
        p { "You are signed out of this browser. Programs that you signed in with stay signed in until you sign out there, or end "
            "their sessions." }
        @if let Some(back) = back { p { a href=(back) { "Go back" } } }
    };
    page(StatusCode::OK, "Signed out", Allowed::default(), content)
}

/// What went wrong, and what to do now.
pub(crate) fn failed(error: &OauthError) -> Response {
    let content = html! {
        p.mistake role="alert" { (error.message) }
        p { "Go back to the program that sent you here and start again, or " a href="/adfs/oauth2/deviceauth" { "type the code of another device" } "." }
        p { small { "AADSTS" (error.number) " · " (error.kind) } }
    };
    page(
        error.status,
        "That did not work",
        Allowed::default(),
        content,
    )
}
