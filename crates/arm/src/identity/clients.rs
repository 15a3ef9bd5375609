//! The programs with which people sign in, and where they may be sent back to.

/// A program that anybody may have: it has no secret, so it proves itself with PKCE.
pub(crate) struct Client {
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
}

static CLIENTS: [Client; 3] = [
    Client {
        id: "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        name: "Azure CLI",
    },
    Client {
        id: "castling-cli",
        name: "Castling's command line",
    },
    Client {
        id: "castling-portal",
        name: "Castling's portal",
    },
];

/// The program of this id.
pub(crate) fn client(id: &str) -> Option<&'static Client> {
    CLIENTS
        .iter()
        .find(|client| client.id.eq_ignore_ascii_case(id))
}

/// Whether a code may be sent there: a program on the person's own machine, or the portal under this authority.
pub(crate) fn is_redirect(address: &str, authority: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"\\\"<>#'`".contains(&b);
    if address.len() > 1_024 || !address.bytes().all(plain) {
        return false;
    }
    if let Some(rest) = address.strip_prefix("http://") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, port) = match rest[..end].split_once(':') {
            Some((host, port)) => (host, port.parse::<u16>().is_ok_and(|port| port > 0)),
            None => (&rest[..end], true),
        };
        return port && (host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1");
    }
    address
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(host, path)| {
            host.eq_ignore_ascii_case(authority)
                && (path == "portal" || path.starts_with("portal/"))
                && !path.contains("..")
        })
}

/// Scheme, host and port of an address that [`is_redirect`] took.
pub(crate) fn origin(address: &str) -> &str {
    let start = address.find("://").map_or(0, |at| at + 3);
    let rest = &address[start..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    &address[..start + end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_to_the_own_machine_and_to_the_portal_only() {
        let own = "region.example:8443";
        for good in [
            "http://localhost",
            "http://localhost:8400",
            "http://LOCALHOST:8400/",
            "http://127.0.0.1:1/a/b?c=d",
            "https://region.example:8443/portal/",
            "https://Region.example:8443/portal/callback",
        ] {
            assert!(is_redirect(good, own), "{good}");
        }
        for bad in [
            "",
            "http://",
            "https://localhost:8400",
            "http://localhost.evil.example",
            "http://localhost@evil.example/",
            "http://localhost:8400@evil.example/",
            "http://localhost:0",
            "http://localhost:99999",
            "http://localhost:8400/#x",
            "http://localhost:8400\\@evil.example",
            "http://127.0.0.2:1",
            "http://localhost/\r\nx: y",
            "https://region.example:8443/",
            "https://region.example:8443/portals",
            "https://region.example:8443/portal/../adfs",
            "https://region.example/portal/",
            "https://evil.example/portal/",
            "javascript:alert(1)",
            "urn:ietf:wg:oauth:2.0:oob",
        ] {
            assert!(!is_redirect(bad, own), "{bad}");
        }
    }

    #[test]
    fn the_origin_of_an_address_has_no_path() {
        assert_eq!(origin("http://localhost:1/a?b"), "http://localhost:1");
        assert_eq!(origin("http://localhost?b"), "http://localhost");
        assert_eq!(origin("https://h:2/portal/"), "https://h:2");
    }
}
