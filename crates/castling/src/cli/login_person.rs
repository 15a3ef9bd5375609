//! How a person signs in: in a browser of this machine (authorization code with PKCE), or on another device (RFC 8628).

use super::failure::Failure;
use super::http::Network;
use super::json::{number, text};
use super::signing_in::{CLIENT, SCOPE, granted, post, query};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wire::percent;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: u64 = 16 * 1024;
/// How often a device code is asked for when the service does not say.
const INTERVAL_S: i64 = 5;

fn scope() -> String {
    format!("{SCOPE} openid profile offline_access")
}

/// Sends a browser to the sign-in page and waits for it to come back.
pub fn by_browser(network: &Network, open: bool) -> Result<Value, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::failed)?;
    let port = listener.local_addr().map_err(Failure::failed)?.port();
    let redirect = format!("http://127.0.0.1:{port}/");
    let (state, verifier) = (region::random_text(16), region::random_text(32));
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
    let asked = query(&[
        ("client_id", CLIENT),
        ("response_type", "code"),
        ("redirect_uri", &redirect),
        ("scope", &scope()),
        ("state", &state),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let tenant = network.up().tenant;
    let address = format!("{}/{tenant}/oauth2/v2.0/authorize?{asked}", network.base());
    eprintln!("Sign in at:\n\n  {address}\n");
    if open && !opened(&address) {
        eprintln!("No browser could be started: open the address yourself, or use --device-code.");
    }
    let code = wait_for_code(&listener, &state)?;
    granted(
        network,
        &[
            ("client_id", CLIENT),
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect),
            ("code_verifier", &verifier),
            ("scope", &scope()),
        ],
    )
}

fn opened(address: &str) -> bool {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let quiet = || Stdio::null();
    let mut command = Command::new(program);
    command
        .arg(address)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet());
    command.spawn().is_ok()
}

fn wait_for_code(listener: &TcpListener, state: &str) -> Result<String, Failure> {
    listener.set_nonblocking(true).map_err(Failure::failed)?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            Err(error) => return Err(Failure::failed(error)),
        };
        // Anything on this machine may connect: only an answer with our state counts.
        if let Some(outcome) = came_back(stream, state) {
            return outcome;
        }
    }
    Err(Failure::Failed(
        "nobody signed in within five minutes".into(),
    ))
}

/// What a browser brings; `None` if it is something else.
fn came_back(mut stream: TcpStream, state: &str) -> Option<Result<String, Failure>> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
    let mut head = Vec::new();
    let mut byte = [0];
    let mut limited = (&mut stream).take(REQUEST_BYTES_MAX);
    while !head.ends_with(b"\r\n\r\n") && limited.read(&mut byte).ok()? == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let outcome = brought(head.lines().next().unwrap_or_default(), state);
    let (status, page) = match &outcome {
        Some(Ok(_)) => ("200 OK", "You are signed in. This window may be closed."),
        Some(Err(_)) => (
            "200 OK",
            "Signing in did not succeed. The terminal says why.",
        ),
        None => ("404 Not Found", "There is nothing here."),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    // The code is here already: whether the browser shows the page does not matter.
    let _ = stream.write_all(answer.as_bytes());
    outcome
}

/// The code in a request line, if it is the answer to our question.
fn brought(line: &str, state: &str) -> Option<Result<String, Failure>> {
    let target = line.strip_prefix("GET /?")?.split(' ').next()?;
    let field = |name: &str| {
        target
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(found, _)| *found == name)
            .and_then(|(_, value)| {
                percent::decode(&value.replace('+', " "))
                    .ok()
                    .map(|v| v.into_owned())
            })
    };
    if field("state")? != state {
        return None;
    }
    match (field("code"), field("error")) {
        (Some(code), _) => Some(Ok(code)),
        (None, error) => Some(Err(Failure::Failed(format!(
            "signing in failed: {} {}",
            error.unwrap_or_default(),
            field("error_description").unwrap_or_default()
        )))),
    }
}

/// Shows a code to be typed on another device, and waits until it was.
pub fn by_device_code(network: &Network) -> Result<Value, Failure> {
    let tenant = network.up().tenant;
    let path = format!("/{tenant}/oauth2/v2.0/devicecode");
    let answer = post(
        network,
        &path,
        &[("client_id", CLIENT), ("scope", &scope())],
    )?;
    let begun = answer.json()?;
    let code = text(&begun, "device_code");
    if !answer.is_success() || code.is_empty() {
        return Err(Failure::Failed(format!(
            "no device code was given: {} {}",
            answer.status,
            text(&begun, "error_description")
        )));
    }
    eprintln!(
        "Open {} on any device and type the code {}",
        text(&begun, "verification_uri"),
        text(&begun, "user_code")
    );
    let form = [
        ("client_id", CLIENT),
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", code.as_str()),
    ];
    let mut interval = number(&begun, "interval")
        .unwrap_or(INTERVAL_S)
        .clamp(1, 60);
    let life = number(&begun, "expires_in").unwrap_or(900).clamp(1, 3_600);
    let until = Instant::now() + Duration::from_secs(life.unsigned_abs());
    while Instant::now() < until {
        std::thread::sleep(Duration::from_secs(interval.unsigned_abs()));
        let answer = post(network, &format!("/{tenant}/oauth2/v2.0/token"), &form)?;
        let document = answer.json()?;
        if answer.is_success() {
            return Ok(document);
        }
        match text(&document, "error").as_str() {
            "authorization_pending" => {}
            "slow_down" => interval += INTERVAL_S,
            error => {
                return Err(Failure::Failed(format!(
                    "signing in failed: {error} {}",
                    text(&document, "error_description")
                )));
            }
        }
    }
    Err(Failure::Failed("the code was not used in time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_our_question_counts() {
        let ok = brought("GET /?code=a%2Fb&state=s HTTP/1.1", "s");
        assert_eq!(ok, Some(Ok("a/b".into())));
        for other in [
            "GET /favicon.ico HTTP/1.1",
            "GET /?code=a&state=other HTTP/1.1",
            "GET /?code=a HTTP/1.1",
            "POST /?code=a&state=s HTTP/1.1",
            "",
        ] {
            assert_eq!(brought(other, "s"), None, "{other}");
        }
        let refused = brought("GET /?error=access_denied&state=s HTTP/1.1", "s");
        assert!(
            matches!(refused, Some(Err(Failure::Failed(why))) if why.contains("access_denied"))
        );
    }
}
