use super::*;
use crate::tests::world::{HOST, START, TENANT, World};
use control::{Command, DirectoryCommand};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use serde_json::json;

const CLIENT: &str = "builder";

struct Signer {
    world: World,
    key: KeyPair,
    sha256: String,
}

impl Signer {
    fn new() -> Signer {
        let world = World::new();
        let made = crate::tokens::new_key().unwrap();
        let pkcs8 = STANDARD.decode(&made.pkcs8.0).unwrap();
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &pkcs8.as_slice().into(),
            &rcgen::PKCS_RSA_SHA256,
        )
        .unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["builder".into()])
            .unwrap()
            .self_signed(&pair)
            .unwrap();
        let read = read_certificate(&certificate.pem(), "one".into(), UnixMillis(START)).unwrap();
        let sha256 = read.sha256.clone();
        world
            .fake
            .apply(Command::Directory(DirectoryCommand::PutApplication {
                expected: None,
                application: Box::new(Application {
                    client_id: CLIENT.into(),
                    object_id: "builder-object".into(),
                    display_name: "Builder".into(),
                    enabled: true,
                    created: UnixMillis(START),
                    secrets: Vec::new(),
                    certificates: vec![read],
                }),
            }));
        let key = KeyPair::from_pkcs8(&pkcs8).unwrap();
        Signer { world, key, sha256 }
    }

    fn claims(&self) -> Value {
        json!({
            "aud": format!("https://{HOST}/{TENANT}/oauth2/v2.0/token"), "iss": CLIENT, "sub": CLIENT, "jti": "1",
            "exp": START / 1000 + 600, "nbf": START / 1000,
        })
    }

    fn sign(&self, algorithm: &str, claims: &Value) -> String {
        let print: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&self.sha256[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let header = json!({ "alg": algorithm, "x5t#S256": URL_SAFE_NO_PAD.encode(print) });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let padding: &'static dyn ring::signature::RsaEncoding = match algorithm {
            "PS256" => &RSA_PSS_SHA256,
            _ => &RSA_PKCS1_SHA256,
        };
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                padding,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn send(&self, assertion: &str) -> (u16, String) {
        let form = format!(
            "grant_type=client_credentials&client_id={CLIENT}&scope=https%3A%2F%2Fmanagement.azure.com%2F.default&\
             client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={assertion}"
        );
        let request = axum::http::Request::post(format!("/{TENANT}/oauth2/v2.0/token"))
            .header("host", HOST)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(axum::body::Body::from(form))
            .unwrap();
        let reply = self.world.send(request).await;
        (reply.status.as_u16(), reply.text)
    }
}

#[tokio::test]
async fn a_certificates_key_signs_in_with_both_paddings_and_each_assertion_once() {
    let signer = Signer::new();
    let first = signer.sign("PS256", &signer.claims());
    assert_eq!(signer.send(&first).await.0, 200);
    let (status, text) = signer.send(&first).await;
    assert_eq!(status, 401);
    assert!(text.contains("used before"), "{text}");
    let mut second = signer.claims();
    second["jti"] = json!("2");
    assert_eq!(signer.send(&signer.sign("RS256", &second)).await.0, 200);
}

#[tokio::test]
async fn what_is_not_right_in_an_assertion_is_named() {
    let signer = Signer::new();
    for (name, value, text) in [
        (
            "aud",
            json!("https://elsewhere.example/oauth2/v2.0/token"),
            "'aud'",
        ),
        ("iss", json!("another"), "'iss'"),
        ("sub", Value::Null, "'iss'"),
        ("exp", json!(START / 1000 - 120), "expired"),
        ("exp", json!(START / 1000 + 100_000), "more than"),
        ("exp", Value::Null, "'exp'"),
        ("nbf", json!(START / 1000 + 300), "not good yet"),
        ("jti", Value::Null, "'jti'"),
    ] {
        let mut claims = signer.claims();
        claims[name] = value;
        let (status, answer) = signer.send(&signer.sign("PS256", &claims)).await;
        assert_eq!(status, 401, "{name}: {answer}");
        assert!(answer.contains(text), "{name}: {answer}");
    }
    let good = signer.sign("PS256", &signer.claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    for forged in [
        format!("{signed}."),
        format!("{signed}.AAAA"),
        "a.b.c".into(),
        "nothing".into(),
    ] {
        assert_eq!(signer.send(&forged).await.0, 401, "{forged}");
    }
}

#[test]
fn a_memory_that_is_full_of_good_assertions_takes_no_more() {
    let used = Used::default();
    for n in 0..limits::ASSERTIONS_REMEMBERED_MAX {
        used.note(n.to_string(), 100, 0).unwrap();
    }
    assert!(used.note("more".into(), 100, 0).is_err());
    assert_eq!(used.note("more".into(), 300, 101), Ok(()));
}
