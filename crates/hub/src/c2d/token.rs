//! Lock tokens and message ids: both look like a GUID.

use crate::Context;

/// A lock token: eight random bytes that name the lock, then a sequence number.
pub(crate) fn lock_token(nonce: u64, sequence: u64) -> String {
    guid((u128::from(nonce) << 64) | u128::from(sequence))
}

/// Nonce and sequence number of a lock token; `None` for text that no lock token looks like.
pub(crate) fn parse_lock_token(token: &str) -> Option<(u64, u64)> {
    let groups: Vec<&str> = token.split('-').collect();
    let lengths_fit = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    let digits: String = groups.concat();
    if !lengths_fit || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u128::from_str_radix(&digits, 16).ok()?;
    // No truncation that matters: the two halves are what is wanted.
    Some(((bits >> 64) as u64, bits as u64))
}

/// A fresh random (version 4) GUID.
pub(super) fn new_guid(context: &Context<'_>) -> String {
    let mut bytes = [0; 16];
    (context.random)(&mut bytes);
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62);
    guid(bits | (4 << 76) | (2 << 62))
}

/// A fresh random number.
pub(crate) fn new_nonce(context: &Context<'_>) -> u64 {
    let mut bytes = [0; 8];
    (context.random)(&mut bytes);
    u64::from_be_bytes(bytes)
}

/// Formats a number as `8-4-4-4-12` lower-case hexadecimal digits.
fn guid(bits: u128) -> String {
    let part = |shift: u32, digits: u32| (bits >> shift) & ((1 << (digits * 4)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_is_found_again_in_its_lock_token() {
        for (nonce, sequence) in [(0, 1), (u64::MAX, u64::MAX), (0x0123_4567_89ab_cdef, 42)] {
            assert_eq!(
                parse_lock_token(&lock_token(nonce, sequence)),
                Some((nonce, sequence))
            );
        }
        assert_eq!(
            lock_token(0x0123_4567_89ab_cdef, 42),
            "01234567-89ab-cdef-0000-00000000002a"
        );
    }

    #[test]
    fn text_that_is_no_lock_token_is_told_apart() {
        let good = lock_token(7, 7);
        assert_eq!(parse_lock_token(&good.to_uppercase()), Some((7, 7)));
        for bad in [
            "",
            "7",
            "-----",
            "----",
            "0123456789abcdef0123456789abcdef",
            &good[1..],
            &format!("{good}0"),
            &good.replace('7', "+"),
            "ü2345678-1234-1234-1234-123456789012",
        ] {
            assert_eq!(parse_lock_token(bad), None, "{bad}");
        }
    }
}
