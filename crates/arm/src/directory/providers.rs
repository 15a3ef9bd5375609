//! External OpenID Connect providers: listed, made, changed, deleted.

use super::users::retried;
use super::{Fields, changed, done, not_found, page, put_status, resource};
use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::Failure;
use control::directory::{IdentityProvider, Secret};
use control::{DirectoryAnswer, DirectoryCommand};
use serde_json::{Value, json};

const KNOWN: [&str; 9] = [
    "displayName",
    "issuer",
    "clientId",
    "clientSecret",
    "scopes",
    "nameClaim",
    "groupsClaim",
    "ca",
    "enabled",
];
const SHOWN: [&str; 2] = ["hasClientSecret", "redirectUri"];

pub fn list(call: &Call) -> Outcome {
    let all = call.state.directory.providers.iter();
    page(call, "identityProviders", all, |one| body(call, one))
}

pub fn get(call: &Call) -> Outcome {
    answer::ok(&body(call, find(call)?))
}

/// Makes one (201) or replaces it (200); a client secret that is not given stays.
pub async fn put(call: Call) -> Outcome {
    retried(call, put_once).await
}

async fn put_once(call: Call) -> Outcome {
    let known = call.state.directory.providers.get(&key(&call)).cloned();
    let blank = IdentityProvider {
        name: key(&call),
        display_name: call.param("provider").to_owned(),
        issuer: String::new(),
        client_id: String::new(),
        client_secret: known.as_ref().and_then(|one| one.client_secret.clone()),
        scopes: ["openid", "profile", "email"].map(str::to_owned).to_vec(),
        name_claim: "preferred_username".into(),
        groups_claim: None,
        ca: None,
        enabled: true,
    };
    write(call, blank, known).await
}

pub async fn patch(call: Call) -> Outcome {
    retried(call, patch_once).await
}

async fn patch_once(call: Call) -> Outcome {
    let known = find(&call)?.clone();
    write(call, known.clone(), Some(known)).await
}

async fn write(
    call: Call,
    mut provider: IdentityProvider,
    known: Option<IdentityProvider>,
) -> Outcome {
    let new = known.is_none();
    let mut fields = Fields::of_resource(&call, &KNOWN, &SHOWN)?;
    let mut set = |name: &str, to: &mut String| {
        if let Some(text) = fields.text(name) {
            *to = text;
        }
    };
    set("displayName", &mut provider.display_name);
    set("issuer", &mut provider.issuer);
    set("clientId", &mut provider.client_id);
    set("nameClaim", &mut provider.name_claim);
    if provider.issuer.is_empty() {
        fields.needed("issuer");
    }
    if provider.client_id.is_empty() {
        fields.needed("clientId");
    }
    if let Some(scopes) = fields.texts("scopes") {
        if !scopes.iter().any(|scope| scope == "openid") {
            fields.wrong("scopes", "'openid' must be among them");
        }
        provider.scopes = scopes;
    }
    optional(&mut fields, "groupsClaim", &mut provider.groups_claim);
    optional(&mut fields, "ca", &mut provider.ca);
    let mut secret = provider.client_secret.take().map(|secret| secret.0);
    optional(&mut fields, "clientSecret", &mut secret);
    provider.client_secret = secret.map(Secret);
    if let Some(enabled) = fields.truth("enabled") {
        provider.enabled = enabled;
    }
    if let Some(Err(why)) = provider.ca.as_deref().map(crate::external::check_ca) {
        fields.wrong("ca", why);
    }
    fields.done()?;
    let command = DirectoryCommand::PutProvider {
        provider: Box::new(provider),
        expected: known.map(Box::new),
    };
    match changed(&call, command).await? {
        DirectoryAnswer::Provider(provider) => {
            Ok(answer::json(put_status(new), &body(&call, &provider)))
        }
        _ => Err(Failure::internal(
            "The directory answered with something else.",
        )),
    }
}

/// Null takes it away.
fn optional(fields: &mut Fields, name: &str, to: &mut Option<String>) {
    match fields.text(name) {
        Some(text) => *to = Some(text),
        None if fields.is_null(name) => *to = None,
        None => {}
    }
}

/// Sessions of its people end.
pub async fn delete(call: Call) -> Outcome {
    let name = key(&call);
    done(&call, DirectoryCommand::DeleteProvider { name }).await
}

fn key(call: &Call) -> String {
    call.param("provider").to_ascii_lowercase()
}

fn find(call: &Call) -> Result<&IdentityProvider, Failure> {
    let found = call.state.directory.providers.get(&key(call));
    found.ok_or_else(|| not_found("identity provider", call.param("provider")))
}

fn body(call: &Call, provider: &IdentityProvider) -> Value {
    resource(
        "identityProviders",
        &provider.name,
        json!({
            "displayName": provider.display_name,
            "issuer": provider.issuer,
            "clientId": provider.client_id,
            "hasClientSecret": provider.client_secret.is_some(),
            "scopes": provider.scopes,
            "nameClaim": provider.name_claim,
            "groupsClaim": provider.groups_claim,
            "ca": provider.ca,
            "enabled": provider.enabled,
            "redirectUri": crate::external::redirect_uri(call),
        }),
    )
}
