//! Digests by which two regions prove that they hold the same.
//!
//! The state digest is a sum over all entries (order does not matter), so it changes with one entry at a time; the chain
//! digest is folded over every record since the partition began.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

/// Digest of one state entry.
pub fn entry_digest(key: &[u8], value: &[u8]) -> u128 {
    let mut framed = Vec::with_capacity(4 + key.len() + value.len());
    framed.extend_from_slice(&(key.len() as u32).to_be_bytes());
    framed.extend_from_slice(key);
    framed.extend_from_slice(value);
    xxh3_128(&framed)
}

/// Sum (modulo 2^128) of the digests of all state entries of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateDigest(pub u128);

impl StateDigest {
    /// Accounts for `key` changing from `old` to `new`; `None` is absent.
    pub fn change(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        if let Some(old) = old {
            self.0 = self.0.wrapping_sub(entry_digest(key, old));
        }
        if let Some(new) = new {
            self.0 = self.0.wrapping_add(entry_digest(key, new));
        }
    }
}

/// Folds a record's bytes into the chain digest.
pub fn chain(before: u64, record: &[u8]) -> u64 {
    xxh3_64_with_seed(record, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_digest_depends_on_content_not_on_order_or_history() {
        let mut a = StateDigest::default();
        a.change(b"k1", None, Some(b"v"));
        a.change(b"k2", None, Some(b"x"));
        a.change(b"k2", Some(b"x"), Some(b"w"));
        let mut b = StateDigest::default();
        b.change(b"k2", None, Some(b"w"));
        b.change(b"k3", None, Some(b"gone"));
        b.change(b"k1", None, Some(b"v"));
        assert_ne!(a, b);
        b.change(b"k3", Some(b"gone"), None);
        assert_eq!(a, b);
    }

    #[test]
    fn key_and_value_cannot_trade_bytes() {
        assert_ne!(entry_digest(b"ab", b"c"), entry_digest(b"a", b"bc"));
    }
}
