//! Certificates of authorities, private links, the health of endpoints.

use super::world::*;
use crate::backend::Backend as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
    der: Vec<u8>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 2, 3);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    Authority {
        pem: made.pem(),
        der: made.der().to_vec(),
        params,
        key,
    }
}

impl Authority {
    /// Proves possession of the key to whoever gave the code.
    fn prove(self, code: &str) -> String {
        let issuer = Issuer::new(self.params, self.key);
        let key = KeyPair::generate().unwrap();
        params(code).signed_by(&key, &issuer).unwrap().pem()
    }
}

fn path(rest: &str) -> String {
    format!("{HUB}/certificates{rest}")
}

fn upload(certificate: &str, verified: bool) -> String {
    json!({ "properties": { "certificate": certificate, "isVerified": verified } }).to_string()
}

async fn with_etag(world: &World, method: &str, rest: &str, body: &str, etag: &str) -> Reply {
    world
        .call(method, &path(rest), body, &[("if-match", etag)])
        .await
}

fn etag(body: &Value) -> String {
    body["etag"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_certificate_is_uploaded_proven_and_deleted() {
    let world = World::with_hub().await;
    let ca = authority("My Root");
    let der = STANDARD.encode(&ca.der);
    let made = world
        .put(&path("/ca"), &upload(&der, false))
        .await
        .is(201)
        .json();
    assert_eq!(made["id"], path("/ca"));
    assert_eq!(made["type"], "Microsoft.Devices/IotHubs/Certificates");
    let properties = &made["properties"];
    assert_eq!(properties["subject"], "CN=My Root");
    assert_eq!(properties["expiry"], "Fri, 03 Feb 2040 00:00:00 GMT");
    assert_eq!(
        (&properties["isVerified"], &properties["certificate"]),
        (&json!(false), &json!(der))
    );
    let print = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &ca.der);
    let print = crate::tokens::hex(print.as_ref()).to_uppercase();
    assert_eq!(properties["thumbprint"], print);
    assert_eq!(world.get(&path("/CA")).await.is(200).json(), made);
    assert_eq!(
        world.get(&path("")).await.is(200).json(),
        json!({ "value": [made] })
    );

    let coded = with_etag(
        &world,
        "POST",
        "/ca/generateVerificationCode",
        "",
        &etag(&made),
    )
    .await;
    let coded = coded.is(200).json();
    let code = coded["properties"]["verificationCode"].as_str().unwrap();
    assert_eq!(code.len(), 48);
    let plain = world.get(&path("/ca")).await.json();
    assert_eq!(
        plain["properties"]["verificationCode"],
        Value::Null,
        "only its asker learns it"
    );

    let proof = json!({ "certificate": ca.prove(code) }).to_string();
    let proven = with_etag(&world, "POST", "/ca/verify", &proof, &etag(&coded)).await;
    let proven = proven.is(200).json();
    assert_eq!(proven["properties"]["isVerified"], true);

    world
        .delete(&path("/ca"))
        .await
        .refused(412, "PreconditionFailed", "If-Match");
    with_etag(&world, "DELETE", "/ca", "", &etag(&coded))
        .await
        .refused(412, "PreconditionFailed", "another one");
    with_etag(&world, "DELETE", "/ca", "", &etag(&proven))
        .await
        .is(200);
    with_etag(&world, "DELETE", "/ca", "", "*").await.is(204);
    world
        .get(&path("/ca"))
        .await
        .refused(404, "CertificateNotFound", "'ca'");
}

#[tokio::test]
async fn what_proves_nothing_is_refused() {
    let world = World::with_hub().await;
    let ca = authority("Root");
    let made = world
        .put(&path("/ca"), &upload(&ca.pem, false))
        .await
        .is(201)
        .json();
    let verify = async |proof: &str| {
        let body = json!({ "certificate": proof }).to_string();
        with_etag(&world, "POST", "/ca/verify", &body, "*").await
    };
    verify(&ca.pem)
        .await
        .refused(400, "CertificateInvalid", "generate one first");
    let coded = with_etag(
        &world,
        "POST",
        "/ca/generateVerificationCode",
        "",
        &etag(&made),
    )
    .await;
    let coded = coded.is(200).json();
    let code = coded["properties"]["verificationCode"].as_str().unwrap();
    verify(&ca.pem)
        .await
        .refused(400, "CertificateInvalid", "common name");
    // The same name, another key.
    let stranger = authority("Root").prove(code);
    verify(&stranger)
        .await
        .refused(400, "CertificateInvalid", "not signed with the key");
    let other = authority("Other").prove(code);
    verify(&other)
        .await
        .refused(400, "CertificateInvalid", "not issued by");
    verify("!!")
        .await
        .refused(400, "CertificateInvalid", "neither base64 nor PEM");
    assert_eq!(
        world.get(&path("/ca")).await.json()["properties"]["isVerified"],
        false
    );
}

#[tokio::test]
async fn certificates_come_as_the_clients_write_them() {
    let world = World::with_hub().await;
    let ca = authority("Root");
    for (name, text) in [
        ("pem", ca.pem.clone()),
        ("pem64", STANDARD.encode(&ca.pem)),
        ("der64", STANDARD.encode(&ca.der)),
    ] {
        let made = world
            .put(&path(&format!("/{name}")), &upload(&text, true))
            .await;
        let made = made.is(201).json();
        assert_eq!(made["properties"]["isVerified"], true);
        assert_eq!(made["properties"]["certificate"], STANDARD.encode(&ca.der));
        with_etag(&world, "DELETE", &format!("/{name}"), "", "*")
            .await
            .is(200);
    }
}

#[tokio::test]
async fn what_is_no_certificate_of_an_authority_is_refused() {
    let world = World::with_hub().await;
    let key = KeyPair::generate().unwrap();
    let mut leaf = params("leaf");
    leaf.is_ca = IsCa::ExplicitNoCa;
    let leaf = leaf.self_signed(&key).unwrap().pem();
    let mut old = params("old");
    old.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let old = old.self_signed(&key).unwrap().pem();
    let ca = authority("Root");
    let mut cut = ca.der.clone();
    cut.pop();
    let mut longer = ca.der.clone();
    longer.push(0);
    for (text, why) in [
        (leaf, "not the certificate of an authority"),
        (old, "has expired"),
        (STANDARD.encode(cut), "not an X.509 certificate"),
        (STANDARD.encode(longer), "something follows it"),
        ("AAAA".into(), "not an X.509 certificate"),
        ("A".repeat(70_000), "too large"),
        ("-----BEGIN CERTIFICATE-----".into(), "does not end"),
        (String::new(), "is expected"),
    ] {
        let reply = world.put(&path("/ca"), &upload(&text, false)).await;
        reply.refused(400, "CertificateInvalid", why);
    }
    let name = path("/no%20good");
    let reply = world.put(&name, &upload(&ca.pem, false)).await;
    reply.refused(400, "CertificateInvalid", "1 to 64");
    assert!(
        world
            .fake
            .state()
            .hub_named("hub-one")
            .unwrap()
            .certificates
            .is_empty()
    );
}

#[tokio::test]
async fn a_replaced_certificate_wants_the_etag() {
    let world = World::with_hub().await;
    let (one, two) = (authority("One"), authority("Two"));
    let made = world
        .put(&path("/ca"), &upload(&one.pem, true))
        .await
        .is(201)
        .json();
    let body = upload(&two.pem, false);
    world
        .put(&path("/ca"), &body)
        .await
        .refused(412, "PreconditionFailed", "If-Match");
    let other = with_etag(&world, "PUT", "/ca", &body, &etag(&made))
        .await
        .is(200)
        .json();
    assert_eq!(other["properties"]["subject"], "CN=Two");
    assert_eq!(other["properties"]["isVerified"], false);
}

#[tokio::test]
async fn there_are_no_private_links() {
    let world = World::with_hub().await;
    let links = format!("{HUB}/privateLinkResources");
    assert_eq!(
        world.get(&links).await.is(200).json(),
        json!({ "value": [] })
    );
    world.get(&format!("{links}/iotHub")).await.refused(
        404,
        "PrivateLinkResourceNotFound",
        "'iotHub'",
    );
    let connections = format!("{HUB}/privateEndpointConnections");
    assert_eq!(world.get(&connections).await.is(200).json(), json!([]));
    let one = format!("{connections}/one");
    let code = "PrivateEndpointConnectionNotFound";
    world.get(&one).await.refused(404, code, "'one'");
    world.put(&one, "{}").await.refused(404, code, "'one'");
    world.delete(&one).await.is(204);
    let none = HUB.replace("Hub-One", "Hub-None");
    world
        .delete(&format!("{none}/privateEndpointConnections/one"))
        .await
        .refused(404, "ResourceNotFound", "Hub-None");
}

#[tokio::test]
async fn the_built_in_endpoint_is_as_well_as_its_primary() {
    let world = World::with_hub().await;
    let health = async || {
        let path = format!("{HUB}/routingEndpointsHealth");
        world.get(&path).await.is(200).json()["value"][0].clone()
    };
    assert_eq!(
        health().await,
        json!({ "endpointId": "events", "healthStatus": "healthy" })
    );
    if let Some(figures) = world.fake.figures.lock().unwrap().as_mut() {
        figures.lease.held = false;
    }
    let ill = health().await;
    assert_eq!(ill["healthStatus"], "unhealthy");
    assert!(ill["lastKnownError"].as_str().unwrap().contains("lease"));
    *world.fake.figures.lock().unwrap() = None;
    assert_eq!(health().await["healthStatus"], "unknown");
}
