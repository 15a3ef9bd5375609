//! External OpenID Connect providers, and the keys that sign our own tokens.

use super::DirectoryAnswer;
use super::apply::{Mistakes, full};
use super::model::{IdentityProvider, SigningKey};
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::naming::shown;
use crate::refusal::{Refusal, RefusalCode};
use types::limits;

const PROVIDER_NAME_CHARS_MAX: usize = 64;
const SCOPES_MAX: usize = 20;

impl State {
    pub(super) fn put_provider(&mut self, wanted: &IdentityProvider) -> Result<Answer, Refusal> {
        provider_mistakes(wanted)?;
        let known = self.directory.providers.get(&wanted.name);
        if known.is_none() && self.directory.providers.len() >= limits::IDENTITY_PROVIDERS_MAX {
            return Err(full("identity providers", limits::IDENTITY_PROVIDERS_MAX));
        }
        if known != Some(wanted) {
            self.changed();
            if !wanted.enabled {
                self.end_sessions_by(&wanted.name);
            }
            self.directory
                .providers
                .insert(wanted.name.clone(), wanted.clone());
        }
        Ok(Answer::Directory(DirectoryAnswer::Provider(Box::new(
            wanted.clone(),
        ))))
    }

    pub(super) fn delete_provider(&mut self, name: &str) -> Result<Answer, Refusal> {
        let name = name.to_ascii_lowercase();
        if self.directory.providers.remove(&name).is_none() {
            return Ok(Answer::Absent);
        }
        self.changed();
        self.end_sessions_by(&name);
        Ok(Answer::Done)
    }

    /// Who came in by a provider that is not trusted any more goes out.
    fn end_sessions_by(&mut self, provider: &str) {
        let by = |external: &Option<(String, String)>| {
            external.as_ref().is_some_and(|(name, _)| name == provider)
        };
        let users: Vec<_> = self
            .directory
            .users
            .values()
            .filter(|user| by(&user.external))
            .map(|user| user.object_id.clone())
            .collect();
        for user in users {
            self.directory.end_sessions_of(&user, None);
        }
    }

    /// A key that is there already changes nothing.
    pub(super) fn add_key(&mut self, call: Call<'_>, key: &SigningKey) -> Result<Answer, Refusal> {
        let mut mistakes = Mistakes::default();
        let ids = limits::DIRECTORY_ID_CHARS_MAX;
        mistakes.plain("kid", &key.kid, "-_.", ids);
        let parts = [&key.pkcs8.0, &key.n, &key.e];
        let bad = |part: &&String| part.is_empty() || part.len() > 8 * 1024;
        mistakes.wrong(parts.iter().any(bad), || {
            "key: a part of it is missing or too long".into()
        });
        mistakes.refuse(RefusalCode::DirectoryObjectInvalid)?;
        let keys = &mut self.directory.keys;
        if keys.iter().any(|known| known.kid == key.kid) {
            return Ok(Answer::Done);
        }
        let old =
            |known: &SigningKey| call.at.since(known.made) > 2 * limits::SIGNING_KEY_ROTATE_MS;
        if keys.iter().filter(|known| !old(known)).count() >= limits::SIGNING_KEYS_MAX {
            return Err(full("signing keys", limits::SIGNING_KEYS_MAX));
        }
        keys.retain(|known| !old(known));
        keys.push(SigningKey {
            // A clock that runs ahead must not keep a key from being used, or from being replaced.
            made: key.made.min(call.at),
            ..key.clone()
        });
        keys.sort_by(|a, b| (a.made, &a.kid).cmp(&(b.made, &b.kid)));
        self.changed();
        Ok(Answer::Done)
    }
}

fn provider_mistakes(wanted: &IdentityProvider) -> Result<(), Refusal> {
    let mut mistakes = Mistakes::default();
    let (ids, texts) = (
        limits::DIRECTORY_ID_CHARS_MAX,
        limits::DIRECTORY_TEXT_CHARS_MAX,
    );
    mistakes.plain("name", &wanted.name, "-", PROVIDER_NAME_CHARS_MAX);
    mistakes.wrong(wanted.name.chars().any(|c| c.is_ascii_uppercase()), || {
        "name: it must be lower case".into()
    });
    mistakes.text("displayName", &wanted.display_name, texts);
    mistakes.text(
        "issuer",
        &wanted.issuer,
        limits::DIRECTORY_ADDRESS_CHARS_MAX,
    );
    mistakes.wrong(!trustworthy(&wanted.issuer), || {
        "issuer: it must begin with https:// (http:// on this machine only)".into()
    });
    mistakes.text("clientId", &wanted.client_id, texts);
    mistakes.plain("nameClaim", &wanted.name_claim, "-_.:/", ids);
    if let Some(claim) = &wanted.groups_claim {
        mistakes.plain("groupsClaim", claim, "-_.:/", ids);
    }
    mistakes.wrong(wanted.scopes.len() > SCOPES_MAX, || {
        format!("scopes: at most {SCOPES_MAX} are allowed")
    });
    for scope in wanted.scopes.iter().take(SCOPES_MAX) {
        let good = (1..=texts).contains(&scope.len()) && !scope.contains(char::is_whitespace);
        mistakes.wrong(!good, || {
            format!("scopes: '{}' is not one scope", shown(scope))
        });
    }
    let secret = wanted.client_secret.as_ref();
    mistakes.wrong(
        secret.is_some_and(|secret| secret.0.len() > 4 * 1024),
        || "clientSecret: it is too long".into(),
    );
    if let Some(ca) = &wanted.ca {
        let most = limits::IDENTITY_PROVIDER_CA_BYTES_MAX;
        mistakes.wrong(
            ca.len() > most || !ca.contains("-----BEGIN CERTIFICATE-----"),
            || format!("ca: certificates in PEM of at most {most} bytes are expected"),
        );
    }
    mistakes.refuse(RefusalCode::DirectoryObjectInvalid)
}

fn trustworthy(issuer: &str) -> bool {
    let Some(host) = issuer.strip_prefix("http://") else {
        return issuer.starts_with("https://");
    };
    let authority = host.split('/').next().unwrap_or_default();
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}
