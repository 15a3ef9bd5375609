use super::*;
use control::directory::{ApplicationSecret, Secret};
use std::sync::OnceLock;

const NOW: UnixMillis = UnixMillis(1_795_403_045_678);
const TENANT: &str = "11111111-1111-1111-1111-111111111111";

/// Making one takes long in a debug build.
pub(crate) fn test_key() -> SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    let made = UnixMillis(0);
    let key = KEY.get_or_init(|| new_key().unwrap());
    SigningKey {
        made,
        ..key.clone()
    }
}

fn other_key() -> SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| new_key().unwrap()).clone()
}

fn state(keys: &[SigningKey]) -> State {
    let mut state = State::default();
    state.directory.keys = keys.to_vec();
    state
}

fn application() -> Application {
    Application {
        client_id: "app".into(),
        object_id: "object".into(),
        display_name: "App".into(),
        enabled: true,
        created: NOW,
        secrets: vec![secret(None)],
        certificates: Vec::new(),
    }
}

fn secret(expires: Option<UnixMillis>) -> ApplicationSecret {
    ApplicationSecret {
        id: "s".into(),
        hint: "sec".into(),
        // SHA-256 of "salt" + "secret", made with another program.
        sha256: Secret("bede90386d450cea8b77b822f8887065e4e5abf132c2f9dccfcc7fbd4cba5e35".into()),
        salt: "salt".into(),
        created: NOW,
        expires,
    }
}

fn issue(state: &State, audience: &str) -> String {
    let application = application();
    let grant = Grant {
        authority: "localhost:8443",
        audience,
        tenant: TENANT,
        subject: Subject::Application(&application),
    };
    TokenAuthority::new().issue(state, &grant, NOW).unwrap()
}

const OWN: &str = "https://localhost:8443/";

fn expected() -> Expected<'static> {
    Expected {
        authority: "localhost:8443",
        domain: "hubs.localhost",
        tenant: TENANT,
    }
}

fn verify(state: &State, token: &str) -> Result<Claims, TokenError> {
    TokenAuthority::new().verify(state, token, &expected(), NOW)
}

#[track_caller]
fn check(state: &State, token: &str, error: TokenError) {
    assert_eq!(verify(state, token), Err(error), "{token}");
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn a_token_says_who_for_what_and_until_when() {
    let state = state(&[test_key()]);
    let token = issue(&state, OWN);
    let claims = verify(&state, &token).unwrap();
    assert_eq!(
        (claims.iat, claims.nbf, claims.exp),
        (1_795_403_045, 1_795_403_045, 1_795_406_645)
    );
    assert_eq!(claims.iss, format!("https://localhost:8443/{TENANT}/"));
    let who = [&claims.appid, &claims.azp, &claims.oid, &claims.sub];
    assert_eq!(who, ["app", "app", "object", "object"]);
    let what = [&claims.tid, &claims.idtyp, &claims.ver];
    assert_eq!(what, [TENANT, "app", "1.0"]);
    assert_eq!(claims.user, None);
    let header: Value = part(token.split('.').next().unwrap()).unwrap();
    assert_eq!(
        (&header["alg"], &header["kid"]),
        (&json!("RS256"), &key_set(&state)["keys"][0]["kid"])
    );
}

#[test]
fn a_users_token_names_them_their_session_and_their_groups() {
    let state = state(&[test_key()]);
    let user = user();
    let groups = ["corp:ops".to_owned()];
    let grant = Grant {
        authority: "localhost:8443",
        audience: OWN,
        tenant: TENANT,
        subject: Subject::User {
            user: &user,
            client_id: "castling-cli",
            session: "session",
            groups: &groups,
        },
    };
    let token = TokenAuthority::new().issue(&state, &grant, NOW).unwrap();
    let claims = verify(&state, &token).unwrap();
    assert_eq!(
        (claims.idtyp.as_str(), claims.appid.as_str()),
        ("user", "castling-cli")
    );
    let said = claims.user.unwrap();
    assert_eq!(said.upn, "ada@castling.localhost");
    assert_eq!(
        (said.sid.as_str(), said.scp.as_str()),
        ("session", "user_impersonation")
    );
    assert_eq!(said.groups, groups);
}

fn user() -> User {
    User {
        object_id: "u".into(),
        name: "ada@castling.localhost".into(),
        display_name: "Ada".into(),
        password: None,
        password_expired: false,
        enabled: true,
        created: NOW,
        external: None,
        failures: 0,
        locked_until: None,
        last_sign_in: None,
    }
}

#[test]
fn without_a_key_nothing_is_signed() {
    let grant = Grant {
        authority: "localhost:8443",
        audience: OWN,
        tenant: TENANT,
        subject: Subject::Application(&application()),
    };
    let error = TokenAuthority::new()
        .issue(&state(&[]), &grant, NOW)
        .unwrap_err();
    assert!(error.contains("no signing key"), "{error}");
}

#[test]
fn a_new_key_signs_once_it_is_settled_and_the_old_ones_tokens_stay_good() {
    let mut new = other_key();
    new.made = NOW.plus(1 - limits::SIGNING_KEY_SETTLE_MS);
    let old = state(&[test_key()]);
    let mut both = state(&[test_key(), new]);
    let kid = |token: &str| part::<Value>(token.split('.').next().unwrap()).unwrap()["kid"].clone();
    assert_eq!(kid(&issue(&both, OWN)), both.directory.keys[0].kid.as_str());
    both.directory.keys[1].made = NOW.plus(-limits::SIGNING_KEY_SETTLE_MS);
    assert_eq!(kid(&issue(&both, OWN)), both.directory.keys[1].kid.as_str());
    assert!(verify(&both, &issue(&old, OWN)).is_ok());
    check(&old, &issue(&both, OWN), TokenError::Signature);
    assert_eq!(key_set(&both)["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn another_key_is_due_without_one_and_after_thirty_days() {
    assert!(key_is_due(&state(&[]), NOW));
    let mut key = test_key();
    key.made = NOW;
    let state = state(&[key]);
    let later = |millis| key_is_due(&state, NOW.plus(millis));
    assert!(!later(limits::SIGNING_KEY_ROTATE_MS - 1));
    assert!(later(limits::SIGNING_KEY_ROTATE_MS));
}

#[test]
fn a_token_is_good_for_an_hour_with_a_minute_of_skew() {
    let state = state(&[test_key()]);
    let token = issue(&state, OWN);
    let at = |seconds: i64| {
        TokenAuthority::new()
            .verify(&state, &token, &expected(), NOW.plus(seconds * 1000))
            .map(|_| ())
    };
    assert_eq!(at(3659), Ok(()));
    assert_eq!(at(3660), Err(TokenError::Expired));
    assert_eq!(at(-60), Ok(()));
    assert_eq!(at(-61), Err(TokenError::NotYetValid));
}

#[test]
fn changed_tokens_are_refused() {
    let mine = state(&[test_key()]);
    let token = issue(&mine, OWN);
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = part(parts[1]).unwrap();
    claims["exp"] = json!(9_999_999_999_i64);
    let changed = format!("{}.{}.{}", parts[0], encoded(&claims), parts[2]);
    check(&mine, &changed, TokenError::Signature);
    let mut flipped = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    flipped[10] ^= 1;
    let flipped = URL_SAFE_NO_PAD.encode(flipped);
    check(
        &mine,
        &format!("{}.{}.{flipped}", parts[0], parts[1]),
        TokenError::Signature,
    );
}

#[test]
fn the_algorithm_is_not_the_tokens_choice() {
    let state = state(&[test_key()]);
    let token = issue(&state, OWN);
    let parts: Vec<&str> = token.split('.').collect();
    let kid = &state.directory.keys[0].kid;
    for alg in ["none", "None", "HS256", "ES256", "RS512", "PS256", ""] {
        let header = encoded(&json!({ "alg": alg, "kid": kid, "typ": "JWT" }));
        let given = format!("{header}.{}.{}", parts[1], parts[2]);
        check(&state, &given, TokenError::Algorithm);
        check(
            &state,
            &format!("{header}.{}.", parts[1]),
            TokenError::Algorithm,
        );
    }
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    check(&state, &unsigned, TokenError::Signature);
}

#[test]
fn malformed_tokens_are_refused() {
    let state = state(&[test_key()]);
    for bad in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.e30",
        &"x".repeat(100_000),
    ] {
        let error = verify(&state, bad).unwrap_err();
        assert!(
            matches!(error, TokenError::Malformed | TokenError::Algorithm),
            "{bad}: {error:?}"
        );
    }
}

#[test]
fn tenant_issuer_and_audience_must_be_ours() {
    let state = state(&[test_key()]);
    let token = issue(&state, OWN);
    let as_seen = |expected: Expected<'_>| {
        TokenAuthority::new()
            .verify(&state, &token, &expected, NOW)
            .map(|_| ())
    };
    let tenant = "other";
    assert_eq!(
        as_seen(Expected {
            tenant,
            ..expected()
        }),
        Err(TokenError::Issuer)
    );
    let foreign = issue(&state, "https://graph.example.com/");
    check(&state, &foreign, TokenError::Audience);
    // Another region of the deployment issued it under another of its names.
    let authority = "127.0.0.2:8443";
    assert_eq!(
        as_seen(Expected {
            authority,
            ..expected()
        }),
        Ok(())
    );
}

#[test]
fn audiences_of_the_deployment_and_the_well_known_ones_are_taken() {
    let own = |audience: &str| is_own_audience(audience, "10.1.2.3:8443", "hubs.example.com");
    for good in [
        "https://management.azure.com",
        "https://management.azure.com/",
        "https://management.core.windows.net/",
        "https://10.1.2.3:8443",
        "https://10.1.2.3:8443/",
        "https://LOCALHOST:9443/",
        "https://127.0.0.2:8443",
        "https://[::1]:8443/",
        "https://hubs.example.com",
        "https://west.region.hubs.example.com:8443/",
    ] {
        assert!(own(good), "{good}");
    }
    for bad in [
        "",
        "https://",
        "https:///",
        "http://localhost:8443/",
        "https://10.1.2.3:8443//",
        "https://10.1.2.4:8443",
        "https://graph.microsoft.com",
        "https://evilhubs.example.com",
        "https://hubs.example.com.evil.org",
        "https://evil.org/@localhost",
        "localhost:8443",
    ] {
        assert!(!own(bad), "{bad}");
    }
}

fn check_secret(
    authority: &TokenAuthority,
    given: &str,
    at: UnixMillis,
) -> Result<(), SecretError> {
    authority.check_secret(&application(), given, at)
}

#[test]
fn secrets_are_compared_with_their_salted_hash() {
    let authority = TokenAuthority::new();
    assert_eq!(check_secret(&authority, "secret", NOW), Ok(()));
    for wrong in ["", "Secret", "secret ", "saltsecret"] {
        assert_eq!(
            check_secret(&authority, wrong, NOW),
            Err(SecretError::Wrong)
        );
    }
}

#[test]
fn a_secret_counts_until_it_expires() {
    let authority = TokenAuthority::new();
    let mut known = application();
    known.secrets = vec![secret(Some(NOW.plus(1)))];
    assert_eq!(authority.check_secret(&known, "secret", NOW), Ok(()));
    let later = authority.check_secret(&known, "secret", NOW.plus(1));
    assert_eq!(later, Err(SecretError::Expired));
    known.secrets.push(secret(None));
    assert_eq!(
        authority.check_secret(&known, "secret", NOW.plus(1)),
        Ok(())
    );
}

#[test]
fn after_ten_wrong_secrets_even_the_right_one_waits_a_minute() {
    let authority = TokenAuthority::new();
    for _ in 0..10 {
        assert_eq!(check_secret(&authority, "no", NOW), Err(SecretError::Wrong));
    }
    assert_eq!(
        check_secret(&authority, "secret", NOW),
        Err(SecretError::TooManyAttempts)
    );
    let other = Application {
        client_id: "other".into(),
        ..application()
    };
    assert_eq!(authority.check_secret(&other, "secret", NOW), Ok(()));
    assert_eq!(check_secret(&authority, "secret", NOW.plus(60_000)), Ok(()));
}
