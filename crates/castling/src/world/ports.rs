//! Addresses and ports of a world's regions.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

const HTTPS_PORT: u16 = 443;
const HTTPS_PORT_OTHERWISE: u16 = 8443;

/// Ports as asked for; 0 takes any free one.
#[derive(Clone, Debug)]
pub struct Ports {
    /// `None`: 443 where it may be bound, else 8443.
    pub https: Option<u16>,
    pub mqtt: u16,
    pub management: u16,
    /// `None`: no plain MQTT.
    pub plain_mqtt: Option<u16>,
}

/// One region's listeners.
pub struct Opened {
    pub https: TcpListener,
    pub https_port: u16,
    pub mqtt: TcpListener,
    pub mqtt_port: u16,
    pub plain_mqtt: Option<TcpListener>,
    pub plain_mqtt_port: Option<u16>,
}

/// One address per region, counted up from `first`.
///
/// # Errors
/// When the count runs out of the address range, or a single address was meant for several regions.
pub fn addresses(first: IpAddr, count: usize) -> Result<Vec<IpAddr>, String> {
    match first {
        IpAddr::V4(first) if first.is_loopback() => {
            let start = u32::from(first);
            let last = start + count as u32;
            if last > u32::from(Ipv4Addr::new(127, 255, 255, 255)) {
                return Err(format!("{count} regions do not fit after {first}"));
            }
            Ok((start..last)
                .map(|address| IpAddr::V4(Ipv4Addr::from(address)))
                .collect())
        }
        other if count == 1 => Ok(vec![other]),
        other => Err(format!(
            "--bind {other}: several regions in one process take loopback addresses one after the other, beginning with 127.0.0.1 or another of 127.0.0.0/8"
        )),
    }
}

/// Binds a region's listeners for devices and services.
///
/// # Errors
/// Names the address, the port and the option that would change it.
pub async fn open(
    address: IpAddr,
    ports: &Ports,
    notes: &mut Vec<String>,
) -> Result<Opened, String> {
    let (https, https_port) = match ports.https {
        Some(port) => bind(address, port, "https").await?,
        None => https_or_otherwise(address, notes).await?,
    };
    let (mqtt, mqtt_port) = bind(address, ports.mqtt, "mqtt").await?;
    let (plain_mqtt, plain_mqtt_port) = match ports.plain_mqtt {
        None => (None, None),
        Some(_) if !address.is_loopback() => {
            return Err(format!(
                "--plain-mqtt-port: {address} is not a loopback address; plain MQTT is served on loopback only"
            ));
        }
        Some(port) => {
            let (listener, port) = bind(address, port, "plain-mqtt").await?;
            (Some(listener), Some(port))
        }
    };
    Ok(Opened {
        https,
        https_port,
        mqtt,
        mqtt_port,
        plain_mqtt,
        plain_mqtt_port,
    })
}

async fn https_or_otherwise(
    address: IpAddr,
    notes: &mut Vec<String>,
) -> Result<(TcpListener, u16), String> {
    match TcpListener::bind(SocketAddr::new(address, HTTPS_PORT)).await {
        Ok(listener) => Ok((listener, HTTPS_PORT)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::AddrInUse
            ) =>
        {
            let why = if error.kind() == ErrorKind::AddrInUse {
                "is in use"
            } else {
                "may not be bound by this user"
            };
            notes.push(format!(
                "port {HTTPS_PORT} {why}: HTTPS is served on {HTTPS_PORT_OTHERWISE} instead"
            ));
            bind(address, HTTPS_PORT_OTHERWISE, "https").await
        }
        Err(error) => Err(format!("{address}:{HTTPS_PORT}: {error}")),
    }
}

/// Binds a port with a deep queue; `what` names it in a failure. Gives the port as bound.
///
/// # Errors
/// Names the address, the port and the settings that would change it.
pub async fn bind(address: IpAddr, port: u16, what: &str) -> Result<(TcpListener, u16), String> {
    let fail = |error: std::io::Error| {
        let setting = what.replace('-', "_");
        format!(
            "{address}:{port}: {error} (change it with --{what}-port, or {setting}_port in castling.toml)"
        )
    };
    // A deep queue of connections not yet accepted: a fleet comes back all at once.
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()
    } else {
        tokio::net::TcpSocket::new_v6()
    };
    let socket = socket.map_err(fail)?;
    socket.set_reuseaddr(true).map_err(fail)?;
    socket.bind(SocketAddr::new(address, port)).map_err(fail)?;
    let listener = socket.listen(4096).map_err(fail)?;
    let port = listener.local_addr().map_err(fail)?.port();
    Ok((listener, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_take_loopback_addresses_one_after_the_other() {
        let all = addresses("127.0.0.1".parse().unwrap(), 3).unwrap();
        let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        assert!(addresses("127.255.255.255".parse().unwrap(), 2).is_err());
        assert!(addresses("192.0.2.1".parse().unwrap(), 2).is_err());
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_option() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let ports = Ports {
            https: Some(0),
            mqtt: port,
            management: 0,
            plain_mqtt: None,
        };
        let error = open("127.0.0.1".parse().unwrap(), &ports, &mut Vec::new())
            .await
            .err()
            .unwrap();
        assert!(
            error.contains("--mqtt-port") && error.contains(&port.to_string()),
            "{error}"
        );
    }
}
