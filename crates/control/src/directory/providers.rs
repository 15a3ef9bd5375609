//! External OpenID Connect providers, and the keys that sign our own tokens.

use super::DirectoryAnswer;
use super::apply::{Mistakes, as_read, full, invalid};
use super::model::{DeviceCodeStanding, IdentityProvider, SigningKey};
use crate::access::PrincipalType;
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::naming::shown;
use crate::refusal::{Refusal, RefusalCode};
use types::limits;

const PROVIDER_NAME_CHARS_MAX: usize = 64;
const SCOPES_MAX: usize = 20;

impl State {
    pub(super) fn put_provider(
        &mut self,
        wanted: &IdentityProvider,
        expected: Option<&IdentityProvider>,
    ) -> Result<Answer, Refusal> {
        provider_mistakes(wanted)?;
        let known = self.directory.providers.get(&wanted.name);
        as_read(known, expected, wanted, PartialEq::eq)?;
        // Its subjects and groups are other people's at another issuer.
        if let Some(known) = known.filter(|known| known.issuer != wanted.issuer) {
            return Err(invalid(format!(
                "issuer: that of a provider is never changed, it is '{}'. Delete the provider first.",
                shown(&known.issuer)
            )));
        }
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
        if !self.directory.providers.contains_key(&name) {
            return Ok(Answer::Absent);
        }
        let before: Vec<_> = self.users_by(&name);
        let mut users = before.iter();
        let refused = users.find_map(|(user, _)| self.part_from_provider(user).err());
        if let Some(refusal) = refused {
            for (user, external) in before {
                if let Some(user) = self.directory.users.get_mut(&user) {
                    user.external = Some(external);
                }
            }
            return Err(refusal);
        }
        self.changed();
        for (user, _) in &before {
            self.directory.end_sessions_of(user, None);
        }
        self.forget_groups_of(&name);
        self.directory.providers.remove(&name);
        Ok(Answer::Done)
    }

    /// Takes the external identity of a user away, unless nobody could sign in as Owner then.
    fn part_from_provider(&mut self, user: &str) -> Result<(), Refusal> {
        let Some(known) = self.directory.users.get(user) else {
            return Ok(());
        };
        if known.enabled && known.password.is_none() {
            self.not_last_owner(user)?;
        }
        if let Some(known) = self.directory.users.get_mut(user) {
            known.external = None;
        }
        Ok(())
    }

    /// What its groups had, and who came in as one of them: the next provider of its name is another one.
    fn forget_groups_of(&mut self, provider: &str) {
        let of = |group: &str| {
            group
                .split_once(':')
                .is_some_and(|(name, _)| name.eq_ignore_ascii_case(provider))
        };
        let any = |groups: &[String]| groups.iter().any(|group| of(group));
        self.access.assignments.retain(|_, known| {
            known.principal_type != PrincipalType::Group || !of(&known.principal)
        });
        let directory = &mut self.directory;
        directory.sessions.retain(|_, known| !any(&known.groups));
        directory.codes.retain(|_, known| !any(&known.groups));
        directory.device_codes.retain(|_, known| {
            !matches!(&known.standing, DeviceCodeStanding::Approved { groups, .. } if any(groups))
        });
    }

    /// Who came in by a provider that is not trusted any more goes out.
    fn end_sessions_by(&mut self, provider: &str) {
        for (user, _) in self.users_by(provider) {
            self.directory.end_sessions_of(&user, None);
        }
    }

    /// Object ids and external identities of a provider's people.
    fn users_by(&self, provider: &str) -> Vec<(String, (String, String))> {
        let users = self.directory.users.values();
        users
            .filter_map(|user| {
                let external = user.external.clone()?;
                (external.0 == provider).then(|| (user.object_id.clone(), external))
            })
            .collect()
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
