use super::*;
use std::os::unix::fs::PermissionsExt;

const NOW: UnixMillis = UnixMillis(1_795_403_045_678);
const TENANT: &str = "11111111-1111-1111-1111-111111111111";

fn authority() -> (tempfile::TempDir, Arc<TokenAuthority>) {
    let folder = tempfile::tempdir().unwrap();
    let authority = TokenAuthority::load_or_make(&folder.path().join("tokens.key")).unwrap();
    (folder, authority)
}

fn principal() -> Principal {
    Principal {
        client_id: "app".into(),
        object_id: "object".into(),
        // SHA-256 of "salt" + "secret", made with another program.
        secret_sha256: "bede90386d450cea8b77b822f8887065e4e5abf132c2f9dccfcc7fbd4cba5e35".into(),
        salt: "salt".into(),
    }
}

fn issue(authority: &TokenAuthority, audience: &str) -> String {
    let principal = principal();
    let grant = Grant {
        authority: "localhost:8443",
        audience,
        tenant: TENANT,
        principal: &principal,
    };
    authority.issue(&grant, NOW).unwrap()
}

fn expected() -> Expected<'static> {
    Expected {
        authority: "localhost:8443",
        domain: "hubs.localhost",
        tenant: TENANT,
    }
}

fn check(authority: &TokenAuthority, token: &str, error: TokenError) {
    assert_eq!(
        authority.verify(token, &expected(), NOW),
        Err(error),
        "{token}"
    );
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn a_token_says_who_for_what_and_until_when() {
    let (_folder, authority) = authority();
    let token = issue(&authority, "https://localhost:8443/");
    let claims = authority.verify(&token, &expected(), NOW).unwrap();
    assert_eq!(
        (claims.iat, claims.nbf, claims.exp),
        (1_795_403_045, 1_795_403_045, 1_795_406_645)
    );
    assert_eq!(claims.iss, format!("https://localhost:8443/{TENANT}/"));
    assert_eq!(
        (
            claims.appid.as_str(),
            claims.oid.as_str(),
            claims.sub.as_str()
        ),
        ("app", "object", "object")
    );
    assert_eq!(
        (
            claims.tid.as_str(),
            claims.idtyp.as_str(),
            claims.ver.as_str()
        ),
        (TENANT, "app", "1.0")
    );
    let header: Value = part(token.split('.').next().unwrap()).unwrap();
    assert_eq!(
        (&header["alg"], &header["kid"]),
        (&json!("ES256"), &authority.key_set()["keys"][0]["kid"])
    );
}

#[test]
fn the_published_key_verifies_the_signature() {
    let (_folder, authority) = authority();
    let token = issue(&authority, "https://localhost:8443/");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let key = &authority.key_set()["keys"][0];
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    assert_eq!(point.len(), 65);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(
            signed.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
}

#[test]
fn a_token_is_good_for_an_hour_with_a_minute_of_skew() {
    let (_folder, authority) = authority();
    let token = issue(&authority, "https://localhost:8443/");
    let at = |seconds: i64| {
        authority
            .verify(&token, &expected(), NOW.plus(seconds * 1000))
            .map(|_| ())
    };
    assert_eq!(at(3659), Ok(()));
    assert_eq!(at(3660), Err(TokenError::Expired));
    assert_eq!(at(-60), Ok(()));
    assert_eq!(at(-61), Err(TokenError::NotYetValid));
}

#[test]
fn changed_and_foreign_tokens_are_refused() {
    let (_folder, mine) = authority();
    let (_other_folder, other) = authority();
    check(
        &mine,
        &issue(&other, "https://localhost:8443/"),
        TokenError::Signature,
    );
    let token = issue(&mine, "https://localhost:8443/");
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = part(parts[1]).unwrap();
    claims["exp"] = json!(9_999_999_999_i64);
    check(
        &mine,
        &format!("{}.{}.{}", parts[0], encoded(&claims), parts[2]),
        TokenError::Signature,
    );
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
    let (_folder, authority) = authority();
    let token = issue(&authority, "https://localhost:8443/");
    let parts: Vec<&str> = token.split('.').collect();
    let kid = &authority.key_set()["keys"][0]["kid"];
    for alg in ["none", "None", "HS256", "RS256", "ES384", ""] {
        let header = encoded(&json!({ "alg": alg, "kid": kid, "typ": "JWT" }));
        check(
            &authority,
            &format!("{header}.{}.{}", parts[1], parts[2]),
            TokenError::Algorithm,
        );
        check(
            &authority,
            &format!("{header}.{}.", parts[1]),
            TokenError::Algorithm,
        );
    }
    check(
        &authority,
        &format!("{}.{}.", parts[0], parts[1]),
        TokenError::Signature,
    );
}

#[test]
fn malformed_tokens_are_refused() {
    let (_folder, authority) = authority();
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
        let error = authority.verify(bad, &expected(), NOW).unwrap_err();
        assert!(
            matches!(error, TokenError::Malformed | TokenError::Algorithm),
            "{bad}: {error:?}"
        );
    }
}

#[test]
fn tenant_issuer_and_audience_must_be_ours() {
    let (_folder, authority) = authority();
    let token = issue(&authority, "https://localhost:8443/");
    let other = Expected {
        tenant: "other",
        ..expected()
    };
    assert_eq!(
        authority.verify(&token, &other, NOW),
        Err(TokenError::Issuer)
    );
    check(
        &authority,
        &issue(&authority, "https://graph.example.com/"),
        TokenError::Audience,
    );
    // Another region of the deployment issued it under another of its names.
    let elsewhere = Expected {
        authority: "127.0.0.2:8443",
        ..expected()
    };
    assert!(authority.verify(&token, &elsewhere, NOW).is_ok());
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

#[test]
fn secrets_are_compared_with_their_salted_hash() {
    let (_folder, authority) = authority();
    let principal = principal();
    assert_eq!(authority.check_secret(&principal, "secret", NOW), Ok(()));
    for wrong in ["", "Secret", "secret ", "saltsecret"] {
        assert_eq!(
            authority.check_secret(&principal, wrong, NOW),
            Err(SecretError::Wrong)
        );
    }
}

#[test]
fn after_ten_wrong_secrets_even_the_right_one_waits_a_minute() {
    let (_folder, authority) = authority();
    let principal = principal();
    for _ in 0..10 {
        assert_eq!(
            authority.check_secret(&principal, "no", NOW),
            Err(SecretError::Wrong)
        );
    }
    assert_eq!(
        authority.check_secret(&principal, "secret", NOW),
        Err(SecretError::TooManyAttempts)
    );
    let other = Principal {
        client_id: "other".into(),
        ..principal.clone()
    };
    assert_eq!(authority.check_secret(&other, "secret", NOW), Ok(()));
    assert_eq!(
        authority.check_secret(&principal, "secret", NOW.plus(60_000)),
        Ok(())
    );
}

#[test]
fn the_key_is_made_once_for_its_owner_only_and_found_again() {
    let (folder, made) = authority();
    let path = folder.path().join("tokens.key");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let found = TokenAuthority::load_or_make(&path).unwrap();
    let token = issue(&made, "https://localhost:8443/");
    assert!(found.verify(&token, &expected(), NOW).is_ok());
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "no temporary file is left");
}

#[test]
fn a_key_that_others_may_read_is_refused_with_what_to_do() {
    let (folder, _) = authority();
    let path = folder.path().join("tokens.key");
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = TokenAuthority::load_or_make(&path).err().unwrap();
        assert!(
            error.contains("tokens.key") && error.contains("chmod 600"),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_key_is_an_error_and_is_not_replaced() {
    let (folder, _) = authority();
    let path = folder.path().join("tokens.key");
    for damage in [
        "",
        "nonsense",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        std::fs::write(&path, damage).unwrap();
        let error = TokenAuthority::load_or_make(&path).err().unwrap();
        assert!(error.contains("tokens.key"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damage);
    }
}
