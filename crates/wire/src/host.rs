//! Host names as clients write them, and the hub a host names.

use std::net::IpAddr;

/// The host without scheme, path and port: `sb://Hub.x:5671/a` gives `Hub.x`, `[::1]:8883` gives `::1`.
pub fn bare(authority: &str) -> &str {
    let rest = authority
        .split_once("://")
        .map_or(authority, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    if let Some(inner) = rest.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner);
    }
    match rest.rsplit_once(':') {
        // More than one colon and no brackets: an IPv6 literal without a port.
        Some((host, _)) if !host.contains(':') => host,
        _ => rest,
    }
}

/// The first label of a host, which names the hub; `None` for IP literals and `localhost`, which cannot name one.
pub fn label(authority: &str) -> Option<&str> {
    let host = bare(authority);
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let label = host.split('.').next().unwrap_or(host);
    if label.is_empty() || label.eq_ignore_ascii_case("localhost") {
        return None;
    }
    Some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authority: &str, host: &str, hub: Option<&str>) {
        assert_eq!(bare(authority), host, "{authority}");
        assert_eq!(label(authority), hub, "{authority}");
    }

    #[test]
    fn the_first_label_names_the_hub() {
        check(
            "MyHub.azure-devices.net",
            "MyHub.azure-devices.net",
            Some("MyHub"),
        );
        check("myhub", "myhub", Some("myhub"));
        check("myhub.local:8883", "myhub.local", Some("myhub"));
        check(
            "sb://myhub.local:5671/entity/x",
            "myhub.local",
            Some("myhub"),
        );
    }

    #[test]
    fn addresses_and_localhost_name_no_hub() {
        check("127.0.0.1:10443", "127.0.0.1", None);
        check("[::1]:8883", "::1", None);
        check("::1", "::1", None);
        check("LOCALHOST:1", "LOCALHOST", None);
        check("", "", None);
        check("[", "", None);
    }
}
