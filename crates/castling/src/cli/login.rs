//! `castling login` and `castling logout`.

use super::Global;
use super::contexts::{self, Contexts, Credential, Stored};
use super::failure::Failure;
use super::http::{Door, Network, Request};
use super::json::{at, items, number, text};
use super::login_person as person;
use super::out::Out;
use super::service::unix_now_s;
use super::signing_in as signing;
use crate::world::castling_toml::MANAGEMENT_PORT;
use crate::world::deployment::{private_folder, write_private};
use crate::world::up_file::{UpFile, UpRegion};
use serde_json::{Value, json};
use std::path::PathBuf;
use ureq::http::Method;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  castling login --address https://a.example.org:8444 --ca ca.pem
  castling login --address https://a.example.org:8444 --ca ca.pem --device-code
  castling login --address … --ca … --service-principal -u CLIENT_ID -p SECRET
  castling login --data ./castling-data                  to a world of this machine

Afterwards commands use this context; `castling context use` and --context choose another.")]
pub struct Login {
    /// A region's management API [default: that of the world in --data]
    #[arg(long, value_name = "URL", requires = "ca")]
    address: Option<String>,
    /// PEM of the authority that signed the deployment's certificates
    #[arg(long, value_name = "FILE", requires = "address")]
    ca: Option<PathBuf>,
    /// What to call the context [default: the deployment's domain]
    #[arg(long, value_name = "NAME", value_parser = contexts::name)]
    name: Option<String>,
    /// Sign in on another device, by a code
    #[arg(long, conflicts_with = "service_principal")]
    device_code: bool,
    /// Print the address to sign in at, and start no browser
    #[arg(long)]
    no_browser: bool,
    /// Sign in as a program
    #[arg(long, requires = "username")]
    service_principal: bool,
    /// Its client id
    #[arg(long, short, value_name = "ID", requires = "service_principal")]
    username: Option<String>,
    /// Its secret
    #[arg(
        long,
        short,
        value_name = "SECRET",
        env = "CASTLING_CLIENT_SECRET",
        hide_env_values = true,
        conflicts_with = "certificate"
    )]
    password: Option<String>,
    /// Its certificate and RSA key, in one PEM file
    #[arg(long, value_name = "FILE", requires = "service_principal")]
    certificate: Option<PathBuf>,
}

pub fn run(login: &Login, global: &Global, out: &Out) -> Result<(), Failure> {
    let mut up = match (&login.address, &login.ca) {
        (Some(address), Some(ca)) => at_address(address, ca)?,
        _ => UpFile::read(&global.folder())?,
    };
    up.pid = 0;
    up.client_secret.clear();
    if up.tenant.is_empty() {
        up.tenant = tenant(&Network::at(up.clone())?)?;
    }
    let network = Network::at(up.clone())?;
    let (credential, token) = signed_in(login, &network)?;
    let up = discovered(up, &network, &token)?;
    let name = match &login.name {
        Some(name) => name.clone(),
        None => contexts::name(&up.domain)?,
    };
    let who = credential.who().to_owned();
    keep(&name, up, credential)?;
    let told = json!({ "context": name, "signedInAs": who });
    out.show(&told, |out| {
        out.line(format!("Signed in as {who}; context `{name}` is in use."))
    })
}

fn signed_in(login: &Login, network: &Network) -> Result<(Credential, String), Failure> {
    let Some(client_id) = login.username.clone().filter(|_| login.service_principal) else {
        let document = match login.device_code {
            true => person::by_device_code(network)?,
            false => person::by_browser(network, !login.no_browser)?,
        };
        let (access_token, life) = signing::access(&document);
        let name = ["preferred_username", "upn", "name"]
            .iter()
            .map(|claim| signing::claim(&access_token, claim))
            .find(|name| !name.is_empty())
            .unwrap_or_default();
        let user = Credential::User {
            name,
            refresh_token: text(&document, "refresh_token"),
            access_token: access_token.clone(),
            until: unix_now_s() + life.as_secs().cast_signed(),
        };
        return Ok((user, access_token));
    };
    match (&login.password, &login.certificate) {
        (_, Some(file)) => {
            let file = std::path::absolute(file).map_err(Failure::failed)?;
            let (token, _) = signing::with_certificate(network, &client_id, &file)?;
            Ok((Credential::Certificate { client_id, file }, token))
        }
        (Some(secret), None) => {
            let (token, _) = signing::with_secret(network, &client_id, secret)?;
            let secret = secret.clone();
            Ok((Credential::Secret { client_id, secret }, token))
        }
        (None, None) => Err(Failure::Usage(
            "--service-principal needs --password (or CASTLING_CLIENT_SECRET) or --certificate"
                .into(),
        )),
    }
}

fn keep(name: &str, mut up: UpFile, credential: Credential) -> Result<(), Failure> {
    let authority = std::fs::read(&up.ca_file)
        .map_err(|error| Failure::Failed(format!("{}: {error}", up.ca_file)))?;
    let file = contexts::authority_file(name)?;
    if let Some(folder) = file.parent() {
        private_folder(folder)?;
    }
    write_private(&file, &authority)?;
    up.ca_file = file.display().to_string();
    Contexts::change(|contexts| {
        let stored = Stored {
            deployment: up,
            credential,
        };
        contexts.contexts.insert(name.to_owned(), stored);
        contexts.current = Some(name.to_owned());
        Ok(())
    })
}

/// Ends the session of the context at the service, and forgets it.
pub fn logout(context: Option<&str>, out: &Out) -> Result<(), Failure> {
    let known = Contexts::read()?;
    let name = context.map(str::to_owned).or_else(|| known.current.clone());
    let name =
        name.ok_or_else(|| Failure::Usage("no context is in use; name one with --context".into()))?;
    let stored = known.get(&name)?.clone();
    let mut unsaid = None;
    if let Credential::User { refresh_token, .. } = &stored.credential {
        let network = Network::at(stored.deployment.clone())?;
        let path = format!("/{}/oauth2/v2.0/revoke", stored.deployment.tenant);
        let form = [("client_id", signing::CLIENT), ("token", refresh_token)];
        // It is forgotten here whatever the deployment says.
        match signing::post(&network, &path, &form) {
            Ok(answer) if answer.is_success() => {}
            Ok(answer) => unsaid = Some(format!("the deployment answered {}", answer.status)),
            Err(failure) => unsaid = Some(failure.lines().join(" ")),
        }
    }
    forget(&name)?;
    if let Some(why) = unsaid {
        eprintln!("warning: the session was not ended at the deployment: {why}");
    }
    out.show(&json!({ "context": name, "signedOut": true }), |out| {
        out.line(format!("Signed out of `{name}`."))
    })
}

/// Removes a context with its authority.
pub fn forget(name: &str) -> Result<(), Failure> {
    Contexts::change(|contexts| {
        contexts.get(name)?;
        contexts.contexts.remove(name);
        if contexts.current.as_deref() == Some(name) {
            contexts.current = None;
        }
        Ok(())
    })?;
    let file = contexts::authority_file(name)?;
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::Failed(format!("{}: {error}", file.display())))
        }
        _ => Ok(()),
    }
}

/// What is known of a deployment before anybody signed in: one region's management API.
fn at_address(address: &str, ca: &std::path::Path) -> Result<UpFile, Failure> {
    let (host, port) = host_and_port(address).map_err(Failure::Usage)?;
    let region = UpRegion {
        name: host.clone(),
        address: host,
        https_port: 0,
        mqtt_port: 0,
        amqp_port: None,
        management_port: port,
        plain_mqtt_port: None,
    };
    let ca = std::path::absolute(ca).map_err(Failure::failed)?;
    Ok(UpFile {
        format: 1,
        pid: 0,
        ca_file: ca.display().to_string(),
        management_url: address.trim_end_matches('/').to_owned(),
        portal_url: None,
        subscription: String::new(),
        tenant: String::new(),
        client_id: String::new(),
        client_secret: String::new(),
        domain: String::new(),
        regions: vec![region],
        witnesses: Vec::new(),
        notes: Vec::new(),
    })
}

fn host_and_port(address: &str) -> Result<(String, u16), String> {
    let wrong = || format!("`{address}` is not https://HOST:PORT");
    let rest = address.strip_prefix("https://").ok_or_else(wrong)?;
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (rest, MANAGEMENT_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    match !host.is_empty() && host.chars().all(fits) && port != 0 {
        true => Ok((host.to_owned(), port)),
        false => Err(wrong()),
    }
}

fn get(network: &Network, path: &str, token: Option<&str>) -> Result<Value, Failure> {
    let headers = token.map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
    let answer = network.send(&Request {
        method: Method::GET,
        door: Door::Management,
        host: None,
        path_and_query: path.to_owned(),
        headers: headers.into_iter().collect(),
        body: None,
    })?;
    match answer.is_success() {
        true => answer.json(),
        false => Err(super::management::refusal(&answer)),
    }
}

/// The tenant, as the openid configuration's issuer names it.
fn tenant(network: &Network) -> Result<String, Failure> {
    let path = "/organizations/v2.0/.well-known/openid-configuration";
    let issuer = text(&get(network, path, None)?, "issuer");
    let found = issuer
        .split('/')
        .find(|part| part.len() == 36 && part.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()));
    found.map(str::to_owned).ok_or_else(|| {
        Failure::Failed(format!("the deployment's issuer names no tenant: {issuer}"))
    })
}

/// The deployment as it describes itself to those who signed in.
fn discovered(mut up: UpFile, network: &Network, token: &str) -> Result<UpFile, Failure> {
    let path = "/providers/Castling.Deployment/regions?api-version=2023-06-30";
    let told = get(network, path, Some(token))?;
    up.domain = text(&told, "domain");
    up.subscription = items(&told, "subscriptions")
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let port = |region: &Value, path: &str| {
        number(region, path)
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default()
    };
    let regions: Vec<UpRegion> = items(&told, "value")
        .iter()
        .filter(|region| at(region, "properties.managementPort").is_some())
        .map(|region| UpRegion {
            name: text(region, "name"),
            address: text(region, "properties.address"),
            https_port: port(region, "properties.httpsPort"),
            mqtt_port: port(region, "properties.mqttPort"),
            amqp_port: None,
            management_port: port(region, "properties.managementPort"),
            plain_mqtt_port: match port(region, "properties.plainMqttPort") {
                0 => None,
                port => Some(port),
            },
        })
        .collect();
    if !regions.is_empty() {
        up.regions = regions;
    }
    Ok(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_with_a_host() {
        let good = |text: &str, host: &str, port| {
            assert_eq!(host_and_port(text), Ok((host.to_owned(), port)), "{text}");
        };
        good("https://a.example.org", "a.example.org", 8444);
        good("https://a.example.org:1/", "a.example.org", 1);
        good("https://[::1]:8444", "::1", 8444);
        good("https://[::1]", "::1", 8444);
        for bad in [
            "http://a",
            "a:1",
            "https://",
            "https://a:x",
            "https://a:0",
            "https://a/b",
        ] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
