//! What a token says, and whether that is good here and now.

use super::{Expected, Grant, Subject, is_own_audience};
use serde::{Deserialize, Serialize};
use std::fmt;
use types::{UnixMillis, limits};

/// The claims of an access token. Times in seconds since 1970.
///
/// Source: control-plane notes section 4, "JWT claims".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub aud: String,
    pub iss: String,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
    pub tid: String,
    pub oid: String,
    pub sub: String,
    /// The client id: of the application, or of the program that a user signed in with.
    pub appid: String,
    #[serde(default)]
    pub azp: String,
    /// `app` or `user`.
    pub idtyp: String,
    pub ver: String,
    /// Always empty: rights are asked of the control plane for every request.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Users only, from here on.
    #[serde(flatten)]
    pub user: Option<UserClaims>,
}

/// What the token of a user says besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserClaims {
    pub upn: String,
    pub unique_name: String,
    pub preferred_username: String,
    pub name: String,
    pub scp: String,
    /// The session, which must still be there.
    pub sid: String,
    /// Groups of an external provider, as `PROVIDER:GROUP`.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    Malformed,
    Algorithm,
    Signature,
    Expired,
    NotYetValid,
    Issuer,
    Tenant,
    Audience,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenError::Malformed => "the access token is malformed",
            TokenError::Algorithm => "the access token is not signed with RS256",
            TokenError::Signature => {
                "the access token is not signed by this deployment, or was changed"
            }
            TokenError::Expired => "the access token has expired",
            TokenError::NotYetValid => "the access token is not valid yet",
            TokenError::Issuer => "the access token is from another issuer",
            TokenError::Tenant => "the access token is from another tenant",
            TokenError::Audience => "the access token is for another audience",
        })
    }
}

impl std::error::Error for TokenError {}

impl Claims {
    pub(super) fn new(grant: &Grant<'_>, now: UnixMillis) -> Claims {
        let second = now.0.div_euclid(1000);
        let claims = Claims {
            aud: grant.audience.into(),
            iss: issuer(grant.authority, grant.tenant),
            iat: second,
            nbf: second,
            exp: second.saturating_add(limits::MANAGEMENT_TOKEN_S),
            tid: grant.tenant.into(),
            ver: "1.0".into(),
            ..Claims::default()
        };
        match grant.subject {
            Subject::Application(application) => Claims {
                oid: application.object_id.clone(),
                sub: application.object_id.clone(),
                appid: application.client_id.clone(),
                azp: application.client_id.clone(),
                idtyp: "app".into(),
                ..claims
            },
            Subject::User {
                user,
                client_id,
                session,
                groups,
            } => Claims {
                oid: user.object_id.clone(),
                sub: user.object_id.clone(),
                appid: client_id.into(),
                azp: client_id.into(),
                idtyp: "user".into(),
                user: Some(UserClaims {
                    upn: user.name.clone(),
                    unique_name: user.name.clone(),
                    preferred_username: user.name.clone(),
                    name: user.display_name.clone(),
                    scp: "user_impersonation".into(),
                    sid: session.into(),
                    groups: groups.to_vec(),
                }),
                ..claims
            },
        }
    }

    pub(super) fn check(&self, expected: &Expected<'_>, now: UnixMillis) -> Result<(), TokenError> {
        self.check_origin(expected.tenant, now)?;
        let own = is_own_audience(&self.aud, expected.authority, expected.domain);
        // A token for hubs' data must not open the management API, whatever name the request was sent to.
        match own && !crate::hub_tokens::is_hubs_audience(&self.aud) {
            true => Ok(()),
            false => Err(TokenError::Audience),
        }
    }

    /// Times, issuer and tenant.
    pub(super) fn check_origin(&self, tenant: &str, now: UnixMillis) -> Result<(), TokenError> {
        let second = now.0.div_euclid(1000);
        let skew = limits::MANAGEMENT_TOKEN_SKEW_S;
        if second >= self.exp.saturating_add(skew) {
            return Err(TokenError::Expired);
        }
        if second < self.nbf.saturating_sub(skew) {
            return Err(TokenError::NotYetValid);
        }
        // Any region may have issued it, under any of its names; the path names the tenant.
        let path = self
            .iss
            .strip_prefix("https://")
            .and_then(|rest| rest.split_once('/'))
            .map(|(_, path)| path);
        if path.and_then(|path| path.strip_suffix('/')) != Some(tenant) {
            return Err(TokenError::Issuer);
        }
        if self.tid != tenant {
            return Err(TokenError::Tenant);
        }
        Ok(())
    }
}

/// The issuer of a tenant's tokens, with the authority under which the asker came.
pub(crate) fn issuer(authority: &str, tenant: &str) -> String {
    format!("https://{authority}/{tenant}/")
}
