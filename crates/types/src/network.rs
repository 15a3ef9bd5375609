//! Who may reach a hub: addresses it accepts, and the kinds of tokens that count.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A block of addresses: all that share the first `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressBlock {
    address: IpAddr,
    bits: u8,
}

impl AddressBlock {
    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or a single address.
    ///
    /// # Errors
    /// What is wrong with the text, for a person.
    pub fn parse(text: &str) -> Result<AddressBlock, &'static str> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| "it must be an IPv4 or IPv6 address, or a block such as 192.0.2.0/24")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            // `parse` would take a sign.
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text
                .parse()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or("the number after '/' must be from 0 to 32, for IPv6 to 128")?,
            Some(_) => return Err("the number after '/' must be from 0 to 32, for IPv6 to 128"),
        };
        Ok(AddressBlock { address, bits })
    }

    /// Whether an address lies in it; IPv4 in IPv6's clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(one)) => {
                same(block.to_bits().into(), one.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(block), IpAddr::V6(one)) => {
                same(block.to_bits(), one.to_bits(), 128, self.bits)
            }
            _ => false,
        }
    }
}

/// The first `bits` of `width` bits agree.
fn same(one: u128, other: u128, width: u8, bits: u8) -> bool {
    let rest = u32::from(width.saturating_sub(bits));
    (one ^ other).checked_shr(rest).unwrap_or(0) == 0
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// One rule of `ipFilterRules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRule {
    pub block: AddressBlock,
    pub accept: bool,
}

/// `networkRuleSets`: only what is named gets in, unless the default is to allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    pub allow_by_default: bool,
    /// They count for reading events too.
    pub events_too: bool,
    pub allowed: Vec<AddressBlock>,
}

/// Who may reach a hub, and how they may prove themselves (control-plane notes section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HubAccess {
    /// False: nobody gets in over the public network, and there is no other.
    pub public_network: bool,
    /// The first that fits decides; an address that none fits gets in.
    pub filters: Vec<AddressRule>,
    pub network: Option<NetworkRules>,
    /// Tokens signed with a policy of the hub count.
    pub policy_tokens: bool,
    /// Tokens signed with a device's own key count.
    pub device_tokens: bool,
    /// Tokens signed with a module's own key count.
    pub module_tokens: bool,
    /// The only hosts that the hub itself may talk to; `None`: any.
    pub outbound: Option<Vec<String>>,
}

impl Default for HubAccess {
    /// Open: anybody from anywhere who proves themselves in any way.
    fn default() -> Self {
        HubAccess {
            public_network: true,
            filters: Vec::new(),
            network: None,
            policy_tokens: true,
            device_tokens: true,
            module_tokens: true,
            outbound: None,
        }
    }
}

/// What a client wants of a hub, as far as its address decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Devices, and services but for events.
    Hub,
    /// Reading events.
    Events,
}

impl HubAccess {
    /// Whether a client at this address may come in. One whose address is not known gets in only where every address would.
    pub fn admits(&self, client: Option<IpAddr>, entrance: Entrance) -> bool {
        if !self.public_network {
            return false;
        }
        let network = self.network.as_ref().filter(|rules| {
            !rules.allow_by_default && (rules.events_too || entrance == Entrance::Hub)
        });
        let Some(client) = client else {
            return network.is_none() && self.filters.iter().all(|rule| rule.accept);
        };
        let filter = (self.filters.iter()).find(|rule| rule.block.contains(client));
        filter.is_none_or(|rule| rule.accept)
            && network.is_none_or(|rules| rules.allowed.iter().any(|block| block.contains(client)))
    }

    /// Whether the hub itself may talk to a host.
    pub fn may_reach(&self, host: &str) -> bool {
        self.outbound.as_ref().is_none_or(|allowed| {
            let host = host.trim_end_matches('.');
            allowed
                .iter()
                .any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_block_holds_what_shares_its_bits() {
        for (block, address, inside) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.77/24", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "fe80::1", true),
            ("2001:db8::1", "2001:db8::1", true),
        ] {
            let parsed = AddressBlock::parse(block).unwrap();
            assert_eq!(
                parsed.contains(address.parse().unwrap()),
                inside,
                "{block} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for bad in [
            "",
            "x",
            "192.0.2",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/-1",
            "192.0.2.0/+8",
            "::/129",
            "host/8",
            "192.0.2.0/8/8",
        ] {
            assert!(AddressBlock::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_filter_that_fits_decides_and_none_lets_in() {
        let rule = |block: &str, accept| AddressRule {
            block: AddressBlock::parse(block).unwrap(),
            accept,
        };
        let access = HubAccess {
            filters: vec![
                rule("192.0.2.7", true),
                rule("192.0.2.0/24", false),
                rule("192.0.2.8", true),
            ],
            ..HubAccess::default()
        };
        assert!(access.admits(ip("192.0.2.7"), Entrance::Hub));
        assert!(!access.admits(ip("192.0.2.8"), Entrance::Hub));
        assert!(access.admits(ip("198.51.100.1"), Entrance::Hub));
        assert!(!access.admits(ip("192.0.2.9"), Entrance::Events));
        assert!(
            !access.admits(None, Entrance::Hub),
            "an unknown address may be a refused one"
        );
    }

    #[test]
    fn network_rules_let_in_what_they_name() {
        let mut rules = NetworkRules {
            allow_by_default: false,
            events_too: false,
            allowed: vec![AddressBlock::parse("192.0.2.0/24").unwrap()],
        };
        let of = |rules: &NetworkRules| HubAccess {
            network: Some(rules.clone()),
            ..HubAccess::default()
        };
        assert!(of(&rules).admits(ip("192.0.2.1"), Entrance::Hub));
        assert!(!of(&rules).admits(ip("198.51.100.1"), Entrance::Hub));
        assert!(of(&rules).admits(ip("198.51.100.1"), Entrance::Events));
        assert!(!of(&rules).admits(None, Entrance::Hub));
        rules.events_too = true;
        assert!(!of(&rules).admits(ip("198.51.100.1"), Entrance::Events));
        rules.allow_by_default = true;
        assert!(of(&rules).admits(ip("198.51.100.1"), Entrance::Hub));
    }

    #[test]
    fn an_open_hub_lets_everybody_in_and_a_closed_one_nobody() {
        let open = HubAccess::default();
        assert!(open.admits(None, Entrance::Hub) && open.admits(ip("::1"), Entrance::Events));
        let closed = HubAccess {
            public_network: false,
            ..open
        };
        assert!(!closed.admits(ip("127.0.0.1"), Entrance::Hub));
        assert!(!closed.admits(ip("127.0.0.1"), Entrance::Events));
    }

    #[test]
    fn only_named_hosts_are_reached() {
        let access = HubAccess {
            outbound: Some(vec!["store.example.com".into()]),
            ..HubAccess::default()
        };
        assert!(access.may_reach("Store.example.com."));
        assert!(!access.may_reach("evil.store.example.com"));
        assert!(HubAccess::default().may_reach("any"));
    }
}
