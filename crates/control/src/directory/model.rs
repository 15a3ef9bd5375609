//! What the directory keeps.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::UnixMillis;

/// Text that never shows in a log: `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Everything about who may sign in. Part of [`crate::State`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Directory {
    /// By object id.
    pub users: BTreeMap<String, User>,
    /// By lower-case client id.
    pub applications: BTreeMap<String, Application>,
    /// Sign-ins that can be renewed, by id.
    pub sessions: BTreeMap<String, Session>,
    /// Authorization codes not redeemed yet, by the hex SHA-256 of the code.
    pub codes: BTreeMap<String, AuthorizationCode>,
    /// Device codes in use, by the hex SHA-256 of the device code.
    pub device_codes: BTreeMap<String, DeviceCode>,
    /// External OpenID Connect providers, by name (lower case).
    pub providers: BTreeMap<String, IdentityProvider>,
    /// Keys that sign tokens, the oldest first.
    pub keys: Vec<SigningKey>,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub object_id: String,
    /// How they sign in, such as `admin@castling.localhost`; unique without regard to case, never changed.
    pub name: String,
    pub display_name: String,
    /// PHC text of argon2id. `None`: signs in with an external provider only.
    pub password: Option<Secret>,
    /// Must choose another password at the next sign-in.
    pub password_expired: bool,
    pub enabled: bool,
    pub created: UnixMillis,
    /// The provider whose subject this user is: (provider name, subject).
    pub external: Option<(String, String)>,
    /// Wrong passwords in a row, and until when no password counts.
    pub failures: u32,
    pub locked_until: Option<UnixMillis>,
    pub last_sign_in: Option<UnixMillis>,
}

/// A program: a service principal with secrets and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    pub client_id: String,
    pub object_id: String,
    pub display_name: String,
    pub enabled: bool,
    pub created: UnixMillis,
    pub secrets: Vec<ApplicationSecret>,
    pub certificates: Vec<ApplicationCertificate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationSecret {
    pub id: String,
    /// First characters of the secret, to tell them apart.
    pub hint: String,
    /// Hex of SHA-256(salt + secret): secrets are 32 random bytes, so no slow hash is needed.
    pub sha256: Secret,
    pub salt: String,
    pub created: UnixMillis,
    /// `None`: it does not expire.
    pub expires: Option<UnixMillis>,
}

/// A certificate whose key signs client assertions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationCertificate {
    pub id: String,
    /// DER as base64.
    pub der: String,
    /// Hex SHA-1 and SHA-256 of the DER, lower case.
    pub sha1: String,
    pub sha256: String,
    pub subject: String,
    pub created: UnixMillis,
    pub expires: UnixMillis,
}

/// A sign-in of a user that can be renewed with a refresh token, listed and ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    /// Object id of the user.
    pub user: String,
    /// The client it was made for.
    pub client_id: String,
    /// Groups an external provider named, at sign-in.
    pub groups: Vec<String>,
    pub created: UnixMillis,
    pub last_used: UnixMillis,
    pub expires: UnixMillis,
    /// Address the sign-in came from.
    pub address: Option<String>,
    /// Hex SHA-256 of the refresh token that is good now, and of the one before it: using that one again ends the session.
    pub refresh: Secret,
    pub refresh_before: Option<Secret>,
}

/// What an authorization code stands for; good once and for a short while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationCode {
    pub user: String,
    pub client_id: String,
    pub redirect_uri: String,
    /// PKCE: `S256` challenge.
    pub challenge: Option<String>,
    pub scope: String,
    pub nonce: Option<String>,
    pub groups: Vec<String>,
    pub expires: UnixMillis,
    pub address: Option<String>,
}

/// A sign-in on another device (RFC 8628).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCode {
    /// What the person types, such as `BCDF-GHJK`.
    pub user_code: String,
    pub client_id: String,
    pub scope: String,
    pub expires: UnixMillis,
    pub standing: DeviceCodeStanding,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceCodeStanding {
    Pending,
    /// By this user (object id), with groups of an external provider.
    Approved {
        user: String,
        groups: Vec<String>,
    },
    Denied,
}

/// An external OpenID Connect provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityProvider {
    pub name: String,
    pub display_name: String,
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub scopes: Vec<String>,
    /// Claim that names a person, such as `preferred_username` or `email`.
    pub name_claim: String,
    /// Claim that lists groups, such as `groups`. Role assignments name them as `PROVIDER:GROUP` with principal type `Group`.
    pub groups_claim: Option<String>,
    /// PEM of authorities to trust beside the system's.
    pub ca: Option<String>,
    pub enabled: bool,
}

/// An RSA key that signs tokens (RS256).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    pub kid: String,
    /// PKCS#8 DER as base64.
    pub pkcs8: Secret,
    /// Modulus and exponent, base64url without padding.
    pub n: String,
    pub e: String,
    pub made: UnixMillis,
}
