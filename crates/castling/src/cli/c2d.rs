//! `castling c2d …`.

use super::Context;
use super::failure::Failure;
use super::json::text;
use super::service::{Service, unix_now_s};
use clap::{Subcommand, ValueEnum};
use types::UnixMillis;
use ureq::http::Method;

#[derive(Subcommand)]
pub enum C2d {
    /// Put a message into a device's queue; it waits there until the device takes it or it expires
    #[command(after_help = "Examples:
  castling c2d send my-hub thermostat-1 'reboot'
  castling c2d send my-hub thermostat-1 '{\"mode\":\"eco\"}' --ack full --expiry-seconds 600 --property prio=high")]
    Send(Send),
}

#[derive(clap::Args)]
pub struct Send {
    hub: String,
    device: String,
    /// Body of the message
    text: String,
    /// Seconds until it expires [default: the hub's setting, 1 h]
    #[arg(long, value_name = "SECONDS")]
    expiry_seconds: Option<u32>,
    /// What to report back: nothing, its delivery, its failure, or both
    #[arg(long, value_enum, default_value = "none")]
    ack: Ack,
    /// Property of the message, key=value, several times if wanted; keys in lower case
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// Id of the message [default: the hub makes one]
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Ack {
    None,
    Positive,
    Negative,
    Full,
}

pub fn run(command: &C2d, context: &Context) -> Result<(), Failure> {
    let C2d::Send(send) = command;
    let service = Service::open(&context.network, &send.hub)?;
    let path = format!(
        "/devices/{}/messages/deviceBound",
        wire::percent::encode(&send.device)
    );
    let headers = headers(send, UnixMillis(unix_now_s() * 1000));
    let headers: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let queued = service
        .call(Method::POST, &path, &headers, Some(send.text.as_bytes()))?
        .json()?;
    context.out.show(&queued, |out| {
        out.line(format!(
            "Queued as {} for {}.",
            text(&queued, "messageId"),
            send.device
        ))
    })
}

fn headers(send: &Send, now: UnixMillis) -> Vec<(String, String)> {
    let ack = match send.ack {
        Ack::None => "none",
        Ack::Positive => "positive",
        Ack::Negative => "negative",
        Ack::Full => "full",
    };
    let mut headers = vec![("iothub-ack".to_owned(), ack.to_owned())];
    if let Some(id) = &send.message_id {
        headers.push(("iothub-messageid".into(), id.clone()));
    }
    if let Some(seconds) = send.expiry_seconds {
        headers.push((
            "iothub-expiry".into(),
            wire::timestamp::iso(now.plus(i64::from(seconds) * 1000)),
        ));
    }
    headers.extend(
        send.properties
            .iter()
            .map(|(key, value)| (format!("iothub-app-{key}"), value.clone())),
    );
    headers
}

/// HTTP carries keys as header names, which this program's client writes in lower case: another spelling would be lost.
fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not key=value"))?;
    let fits =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    if key.is_empty() || !key.bytes().all(fits) {
        return Err(format!(
            "key `{key}`: only lower-case letters, digits and !#$%&'*+-.^_`|~ are possible over HTTPS"
        ));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("the value of `{key}` has a control character"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_headers() {
        let send = Send {
            hub: "h".into(),
            device: "d".into(),
            text: "t".into(),
            expiry_seconds: Some(60),
            ack: Ack::Full,
            properties: vec![("a".into(), "1".into())],
            message_id: Some("m".into()),
        };
        let expiry = wire::timestamp::iso(UnixMillis(60_000));
        let expected = [
            ("iothub-ack", "full"),
            ("iothub-messageid", "m"),
            ("iothub-expiry", &expiry),
            ("iothub-app-a", "1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers(&send, UnixMillis(0)), expected);
    }

    #[test]
    fn properties_that_would_arrive_otherwise_are_refused() {
        assert_eq!(property("a=b=c"), Ok(("a".into(), "b=c".into())));
        for bad in ["a", "=b", "Upper=1", "a b=1", "a=x\ny"] {
            assert!(property(bad).is_err(), "{bad}");
        }
    }
}
