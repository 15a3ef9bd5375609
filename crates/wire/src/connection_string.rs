//! Connection strings of devices and services (data-plane notes section 2.2).

use crate::sas::BASE64;
use base64::Engine;
use std::fmt;
use types::{DeviceId, limits};

/// Every mistake of a connection string; none shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection string is wrong: {}", self.0.join("; "))
    }
}

impl std::error::Error for Mistakes {}

/// How a device proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A key of the device, base64.
    Key(String),
    /// A token made elsewhere, used as it is.
    Token(String),
    /// A client certificate (`x509=true`).
    Certificate,
}

/// `HostName=…;DeviceId=…;SharedAccessKey=…[;ModuleId=…][;GatewayHostName=…]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    pub host_name: String,
    pub device: DeviceId,
    pub module: Option<String>,
    /// The host to dial instead of `host_name`, which stays in tokens and user names.
    pub gateway_host_name: Option<String>,
    pub credential: Credential,
}

/// `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Service {
    pub host_name: String,
    pub policy: String,
    /// Base64.
    pub key: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Key(_) => "Key(..)",
            Credential::Token(_) => "Token(..)",
            Credential::Certificate => "Certificate",
        })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("host_name", &self.host_name)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("host_name", &self.host_name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// # Errors
    /// [`Mistakes`] lists all of them.
    pub fn parse(text: &str) -> Result<Device, Mistakes> {
        const KNOWN: &[&str] = &[
            "HostName",
            "DeviceId",
            "ModuleId",
            "SharedAccessKey",
            "SharedAccessSignature",
            "x509",
            "GatewayHostName",
        ];
        let mut fields = Fields::parse(text, KNOWN);
        let host_name = fields.host("HostName", true);
        let gateway_host_name = fields.host("GatewayHostName", false);
        let device = fields.id("DeviceId", true);
        let module = fields.id("ModuleId", false);
        let credential = fields.credential();
        match (host_name, device, credential) {
            (Some(host_name), Some(device), Some(credential)) if fields.mistakes.is_empty() => {
                Ok(Device {
                    host_name,
                    device,
                    module: module.map(String::from),
                    gateway_host_name,
                    credential,
                })
            }
            _ => Err(Mistakes(fields.mistakes)),
        }
    }

    /// The string clients are given; it holds the credential.
    pub fn to_text(&self) -> String {
        let mut text = format!("HostName={};DeviceId={}", self.host_name, self.device);
        if let Some(module) = &self.module {
            text.push_str(&format!(";ModuleId={module}"));
        }
        match &self.credential {
            Credential::Key(key) => text.push_str(&format!(";SharedAccessKey={key}")),
            Credential::Token(token) => text.push_str(&format!(";SharedAccessSignature={token}")),
            Credential::Certificate => text.push_str(";x509=true"),
        }
        if let Some(gateway) = &self.gateway_host_name {
            text.push_str(&format!(";GatewayHostName={gateway}"));
        }
        text
    }
}

impl Service {
    /// # Errors
    /// [`Mistakes`] lists all of them.
    pub fn parse(text: &str) -> Result<Service, Mistakes> {
        let mut fields = Fields::parse(
            text,
            &["HostName", "SharedAccessKeyName", "SharedAccessKey"],
        );
        let host_name = fields.host("HostName", true);
        let policy = fields.required("SharedAccessKeyName");
        let key = fields.required("SharedAccessKey");
        fields.check_key(key.as_deref());
        match (host_name, policy, key) {
            (Some(host_name), Some(policy), Some(key)) if fields.mistakes.is_empty() => {
                Ok(Service {
                    host_name,
                    policy,
                    key,
                })
            }
            _ => Err(Mistakes(fields.mistakes)),
        }
    }

    /// The string clients are given; it holds the key.
    pub fn to_text(&self) -> String {
        format!(
            "HostName={};SharedAccessKeyName={};SharedAccessKey={}",
            self.host_name, self.policy, self.key
        )
    }
}

/// The fields read so far and what was wrong with them.
struct Fields<'a> {
    values: Vec<(&'static str, &'a str)>,
    mistakes: Vec<String>,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str, known: &[&'static str]) -> Self {
        let mut fields = Fields {
            values: Vec::new(),
            mistakes: Vec::new(),
        };
        for (index, field) in text.trim().split(';').enumerate() {
            if field.trim().is_empty() {
                continue;
            }
            let Some((name, value)) = field.split_once('=') else {
                fields
                    .mistakes
                    .push(format!("field {} has no `=`", index + 1));
                continue;
            };
            let name = name.trim();
            match known.iter().find(|k| k.eq_ignore_ascii_case(name)) {
                None => fields.mistakes.push(format!(
                    "`{name}` is not a field of this kind of connection string"
                )),
                Some(known) if fields.get(known).is_some() => {
                    fields.mistakes.push(format!("`{known}` stands twice"))
                }
                Some(known) => fields.values.push((known, value.trim())),
            }
        }
        fields
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.values
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    fn required(&mut self, name: &str) -> Option<String> {
        let value = self.get(name).filter(|value| !value.is_empty());
        if value.is_none() {
            self.mistakes.push(format!("`{name}` is missing"));
        }
        value.map(str::to_owned)
    }

    fn host(&mut self, name: &str, required: bool) -> Option<String> {
        if !required && self.get(name).is_none() {
            return None;
        }
        let host = self.required(name)?;
        if host
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "/?#@&".contains(c))
        {
            self.mistakes.push(format!("`{name}` is not a host name"));
            return None;
        }
        Some(host)
    }

    fn id(&mut self, name: &str, required: bool) -> Option<DeviceId> {
        if !required && self.get(name).is_none() {
            return None;
        }
        let text = self.required(name)?;
        // Modules follow the rule of devices.
        DeviceId::parse(&text)
            .map_err(|invalid| self.mistakes.push(format!("`{name}`: {}", invalid.why)))
            .ok()
    }

    fn credential(&mut self) -> Option<Credential> {
        let key = self
            .get("SharedAccessKey")
            .map(|key| Credential::Key(key.to_owned()));
        let token = self
            .get("SharedAccessSignature")
            .map(|token| Credential::Token(token.to_owned()));
        let certificate = match self.get("x509") {
            Some(value) if value.eq_ignore_ascii_case("true") => Some(Credential::Certificate),
            None => None,
            Some(value) if value.eq_ignore_ascii_case("false") => None,
            Some(_) => {
                self.mistakes.push("`x509` must be true or false".into());
                None
            }
        };
        let mut given = [key, token, certificate].into_iter().flatten();
        let first = given.next();
        if given.next().is_some() {
            self.mistakes.push("more than one of `SharedAccessKey`, `SharedAccessSignature` and `x509=true` is given".into());
        }
        match &first {
            None => self.mistakes.push(
                "none of `SharedAccessKey`, `SharedAccessSignature` and `x509=true` is given"
                    .into(),
            ),
            Some(Credential::Key(key)) => self.check_key(Some(key)),
            Some(Credential::Token(token)) => {
                if let Err(why) = crate::Token::parse(token) {
                    self.mistakes
                        .push(format!("`SharedAccessSignature`: {why}"));
                }
            }
            Some(Credential::Certificate) => {}
        }
        first
    }

    fn check_key(&mut self, key: Option<&str>) {
        let length = key.map(|key| BASE64.decode(key).map(|bytes| bytes.len()));
        match length {
            Some(Err(_)) => self.mistakes.push("`SharedAccessKey` is not base64".into()),
            Some(Ok(length))
                if !(limits::KEY_BYTES_MIN..=limits::KEY_BYTES_MAX).contains(&length) =>
            {
                self.mistakes
                    .push("`SharedAccessKey` must have 16 to 64 bytes".into());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn mistakes(text: &str) -> Vec<String> {
        Device::parse(text).unwrap_err().0
    }

    #[test]
    fn device_strings_survive_a_round_trip() {
        for text in [
            format!("HostName=h.net;DeviceId=d1;SharedAccessKey={KEY}"),
            format!("HostName=h.net:8883;DeviceId=d1;ModuleId=m1;SharedAccessKey={KEY};GatewayHostName=127.0.0.1"),
            "HostName=h.net;DeviceId=d1;x509=true".to_owned(),
            "HostName=h.net;DeviceId=d1;SharedAccessSignature=SharedAccessSignature sr=h&sig=AA%3D%3D&se=1".to_owned(),
        ] {
            assert_eq!(Device::parse(&text).unwrap().to_text(), text);
        }
        let service = format!("HostName=h.net;SharedAccessKeyName=service;SharedAccessKey={KEY}");
        assert_eq!(Service::parse(&service).unwrap().to_text(), service);
    }

    #[test]
    fn names_of_fields_have_no_case_and_a_last_semicolon_is_fine() {
        let device = Device::parse(&format!(
            "hostname=h.net;DEVICEID=d1; SharedAccessKey={KEY};"
        ))
        .unwrap();
        assert_eq!(
            (device.host_name.as_str(), device.device.as_str()),
            ("h.net", "d1")
        );
    }

    #[test]
    fn all_mistakes_are_named_at_once_and_no_secret_is_shown() {
        let found = mistakes(
            "HostName=a b;DeviceId=d 1;SharedAccessKey=c2VjcmV0;x509=maybe;x;Foo=1;HostName=c",
        );
        assert_eq!(found.len(), 7, "{found:?}");
        for (part, index) in [
            ("field 5", 0),
            ("`Foo`", 1),
            ("twice", 2),
            ("host name", 3),
            ("`DeviceId`", 4),
            ("`x509`", 5),
            ("16 to 64", 6),
        ] {
            assert!(found[index].contains(part), "{found:?}");
        }
        assert!(!found.join("").contains("c2VjcmV0"));
        assert_eq!(mistakes("").len(), 3);
        assert_eq!(
            mistakes(&format!(
                "HostName=h;DeviceId=d;SharedAccessKey={KEY};x509=true"
            ))
            .len(),
            1
        );
        assert_eq!(
            Service::parse("HostName=h;SharedAccessKey=!")
                .unwrap_err()
                .0
                .len(),
            2
        );
    }

    #[test]
    fn debug_shows_no_key() {
        let device =
            Device::parse(&format!("HostName=h.net;DeviceId=d1;SharedAccessKey={KEY}")).unwrap();
        assert!(!format!("{device:?}").contains(KEY));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*", close in "(HostName|DeviceId|SharedAccessKey|x509|[=; a])*") {
            for text in [text, close] {
                let _ = Device::parse(&text);
                let _ = Service::parse(&text);
            }
        }
    }
}
