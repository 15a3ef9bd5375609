use super::id_token::check;
use super::*;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Value, json};

const NOW: i64 = 1_795_403_045;

fn provider() -> IdentityProvider {
    IdentityProvider {
        name: "acme".into(),
        display_name: "Acme".into(),
        issuer: "https://id.example".into(),
        client_id: "castling".into(),
        client_secret: None,
        scopes: vec!["openid".into()],
        name_claim: "email".into(),
        groups_claim: Some("groups".into()),
        ca: None,
        enabled: true,
    }
}

struct Mint {
    key: KeyPair,
    keys: Value,
}

impl Mint {
    fn new() -> Mint {
        use base64::engine::general_purpose::STANDARD;
        let made = crate::tokens::new_key().unwrap();
        let key = KeyPair::from_pkcs8(&STANDARD.decode(&made.pkcs8.0).unwrap()).unwrap();
        let keys = json!({ "keys": [{ "kty": "RSA", "kid": "k", "n": made.n, "e": made.e }] });
        Mint { key, keys }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let text = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", text(header), text(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &random,
                signed.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn check(&self, header: &Value, claims: &Value) -> Result<id_token::Person, String> {
        let token = self.token(header, claims);
        check(&provider(), &token, &self.keys, "n", UnixMillis(NOW * 1000))
    }
}

fn header() -> Value {
    json!({ "alg": "RS256", "kid": "k" })
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": "castling", "sub": "s1", "nonce": "n", "iat": NOW, "exp": NOW + 300,
        "email": "kim@acme.example", "groups": ["ops", 7],
    })
}

#[test]
fn a_good_id_token_names_the_person_and_their_groups() {
    let mint = Mint::new();
    let person = mint.check(&header(), &claims()).unwrap();
    assert_eq!(
        (person.subject.as_str(), person.name.as_str()),
        ("s1", "kim@acme.example")
    );
    assert_eq!(person.groups, ["ops"]);
    let mut one = claims();
    one["groups"] = json!("ops");
    assert_eq!(mint.check(&header(), &one).unwrap().groups, ["ops"]);
}

#[test]
fn whatever_is_wrong_with_an_id_token_it_is_refused() {
    let mint = Mint::new();
    for (name, value, text) in [
        ("iss", json!("https://other.example"), "another issuer"),
        ("aud", json!("other"), "another client"),
        ("aud", json!(["castling", "other"]), "another client"),
        ("azp", json!("other"), "another client"),
        ("nonce", json!("m"), "another sign-in"),
        ("nonce", Value::Null, "another sign-in"),
        ("exp", json!(NOW - 61), "expired"),
        ("exp", Value::Null, "'exp'"),
        ("iat", json!(NOW + 120), "not good yet"),
        ("sub", Value::Null, "'sub'"),
        ("email", Value::Null, "'email'"),
        ("groups", json!(5), "groups"),
    ] {
        let mut wrong = claims();
        wrong[name] = value;
        let why = mint.check(&header(), &wrong).unwrap_err();
        assert!(why.contains(text), "{name}: {why}");
    }
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256", "kid": "k" }),
        json!({ "alg": "RS256", "kid": "other" }),
    ] {
        assert!(mint.check(&header, &claims()).is_err(), "{header}");
    }
    let other = Mint::new().token(&header(), &claims());
    assert!(check(&provider(), &other, &mint.keys, "n", UnixMillis(NOW * 1000)).is_err());
}

#[test]
fn only_https_is_asked_and_plain_http_on_this_machine_alone() {
    for (issuer, address, good) in [
        ("https://id.example", "https://id.example/token", true),
        ("https://id.example", "http://127.0.0.1/token", false),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/token", true),
        ("http://127.0.0.1:9", "http://id.example/token", false),
        ("https://id.example", "https://user@id.example/token", false),
        ("https://id.example", "file:///etc/passwd", false),
    ] {
        assert_eq!(
            web::allowed(issuer, address).is_ok(),
            good,
            "{issuer} {address}"
        );
    }
}

#[test]
fn what_was_sealed_is_opened_unless_it_was_changed() {
    let sealed = sealed::seal(&json!({ "a": 1 })).unwrap();
    assert_eq!(sealed::open::<Value>(&sealed), Some(json!({ "a": 1 })));
    assert_eq!(sealed::open::<Value>(&sealed[1..]), None);
    assert_eq!(sealed::open::<Value>(""), None);
}
