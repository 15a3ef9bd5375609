//! Who connects over MQTT: client id and user name of CONNECT (data-plane notes section 3.1).

use crate::percent;
use std::fmt;
use types::{DeviceId, InvalidId};

/// What CONNECT says of a client; nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttIdentity {
    /// The host as written, possibly with a port.
    pub host: String,
    pub device: DeviceId,
    pub module: Option<String>,
    pub api_version: Option<String>,
    /// The plug-and-play model.
    pub model_id: Option<String>,
    /// The SDK's name and version.
    pub client_type: Option<String>,
}

/// Why CONNECT names nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// The client id is no `{device}` or `{device}/{module}`.
    ClientId(InvalidId),
    /// The user name speaks of another identity than the client id.
    Mismatch,
    /// The user name does not follow `{host}/{client id}/?api-version=…`; says why.
    UserName(&'static str),
}

impl IdentityError {
    /// The CONNACK return code: 2 for the client id, 4 for the user name.
    pub fn connack(&self) -> u8 {
        match self {
            IdentityError::ClientId(_) | IdentityError::Mismatch => 2,
            IdentityError::UserName(_) => 4,
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::ClientId(why) => write!(f, "the client id is not valid: {why}"),
            IdentityError::Mismatch => {
                f.write_str("client id and user name speak of different identities")
            }
            IdentityError::UserName(why) => write!(f, "the user name is malformed: {why}"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl MqttIdentity {
    /// Reads client id and user name; `{host}/{client id}` may be followed by `/?…`, `/…`, `?…`, `/` or nothing.
    ///
    /// # Errors
    /// [`IdentityError`] tells what is wrong, and which CONNACK code says so.
    pub fn parse(client_id: &str, user_name: &str) -> Result<MqttIdentity, IdentityError> {
        let (device, module) = parse_client_id(client_id)?;
        let Some((host, rest)) = user_name.split_once('/') else {
            return Err(IdentityError::UserName("it has no `/` after the host"));
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(IdentityError::UserName("it does not begin with a host"));
        }
        // The client id may itself hold `?`, so it is taken off whole before the query is looked for.
        let tail = rest
            .strip_prefix(client_id)
            .ok_or(IdentityError::Mismatch)?;
        let query = match tail.strip_prefix('/') {
            Some(query) => query.strip_prefix('?').unwrap_or(query),
            None if tail.is_empty() => tail,
            None => tail.strip_prefix('?').ok_or(IdentityError::Mismatch)?,
        };
        let mut identity = MqttIdentity {
            host: host.to_owned(),
            device,
            module,
            api_version: None,
            model_id: None,
            client_type: None,
        };
        identity.read_query(query)?;
        Ok(identity)
    }

    fn read_query(&mut self, query: &str) -> Result<(), IdentityError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.contains('/') || !pair.contains('=') && query.len() == pair.len() {
                // `{host}/{client id}/{module}…`: a longer path than the client id.
                return Err(IdentityError::Mismatch);
            }
            let strict = || {
                let text = percent::decode(value)
                    .map_err(|_| IdentityError::UserName("a value is badly encoded"))?;
                Ok(Some(text.into_owned()).filter(|text| !text.is_empty()))
            };
            match name {
                "api-version" => self.api_version = strict()?,
                "model-id" => self.model_id = strict()?,
                "DeviceClientType" => {
                    self.client_type = Some(percent::decode_leniently(value).into_owned())
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn parse_client_id(client_id: &str) -> Result<(DeviceId, Option<String>), IdentityError> {
    let (device, module) = match client_id.split_once('/') {
        None => (client_id, None),
        Some((device, module)) => (device, Some(module)),
    };
    let device = DeviceId::parse(device).map_err(IdentityError::ClientId)?;
    // Modules follow the rule of devices.
    let module = module.map(DeviceId::parse).transpose();
    let module = module.map_err(|why| {
        IdentityError::ClientId(InvalidId {
            what: "module id",
            ..why
        })
    })?;
    Ok((device, module.map(String::from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(client_id: &str, user_name: &str) -> MqttIdentity {
        MqttIdentity::parse(client_id, user_name)
            .unwrap_or_else(|e| panic!("{client_id} {user_name}: {e}"))
    }

    fn refused(client_id: &str, user_name: &str) -> u8 {
        MqttIdentity::parse(client_id, user_name)
            .expect_err(user_name)
            .connack()
    }

    #[test]
    fn the_forms_of_all_clients_are_read() {
        let python = parse(
            "d1",
            "h.net/d1/?api-version=2020-09-30&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0&model-id=dtmi%3Aa%3Bb%3B1",
        );
        assert_eq!(
            (python.host.as_str(), python.device.as_str()),
            ("h.net", "d1")
        );
        assert_eq!(python.api_version.as_deref(), Some("2020-09-30"));
        assert_eq!(python.model_id.as_deref(), Some("dtmi:a;b;1"));
        assert_eq!(
            python.client_type.as_deref(),
            Some("azure-iot-device-iothub-py/2.14.0")
        );
        assert_eq!(
            parse(
                "d1",
                "h.net:8883/d1/?api-version=2021-04-12&DeviceClientType=x"
            )
            .host,
            "h.net:8883"
        );
        assert_eq!(
            parse("d1", "h.net/d1/api-version=2016-11-14")
                .api_version
                .as_deref(),
            Some("2016-11-14")
        );
        assert_eq!(
            parse("d1", "h.net/d1?api-version=2016-11-14")
                .api_version
                .as_deref(),
            Some("2016-11-14")
        );
        for bare in ["h.net/d1", "h.net/d1/", "h.net/d1/?"] {
            assert_eq!(parse("d1", bare).api_version, None);
        }
        let module = parse("d1/m1", "h.net/d1/m1/?api-version=2021-04-12");
        assert_eq!(
            (module.device.as_str(), module.module.as_deref()),
            ("d1", Some("m1"))
        );
        let odd = parse(
            "a?b=c%20",
            "h.net/a?b=c%20/?api-version=1&iothub-no-client-cert=true",
        );
        assert_eq!(
            (odd.device.as_str(), odd.api_version.as_deref()),
            ("a?b=c%20", Some("1"))
        );
    }

    #[test]
    fn a_bad_client_id_or_another_identity_is_code_2() {
        for (client_id, user_name) in [
            ("", "h.net//"),
            ("a b", "h.net/a b/"),
            ("d1/m1/x", "h.net/d1/m1/x/"),
            ("d1/", "h.net/d1//"),
            ("d1", "h.net/d2/?api-version=1"),
            ("d1", "h.net/d11/?api-version=1"),
            ("d1", "h.net/D1/"),
            ("d1", "h.net/d1/m1"),
            ("d1", "h.net/d1/m1/?api-version=1"),
            ("d1/m1", "h.net/d1/?api-version=1"),
        ] {
            assert_eq!(refused(client_id, user_name), 2, "{client_id} {user_name}");
        }
    }

    #[test]
    fn a_malformed_user_name_is_code_4() {
        for user_name in [
            "",
            "h.net",
            "/d1/",
            "h net/d1/",
            "h.net/d1/?model-id=%zz",
            "h.net/d1/?api-version=%ff",
        ] {
            assert_eq!(refused("d1", user_name), 4, "{user_name}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(client_id in "\\PC{0,10}", user_name in "\\PC{0,40}", tail in "[/?&=%a1-]{0,20}") {
            let _ = MqttIdentity::parse(&client_id, &user_name);
            let _ = MqttIdentity::parse("d1", &format!("h/d1{tail}"));
        }
    }
}
