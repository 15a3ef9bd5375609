//! Sealing at rest: what the log and the snapshot hold is AES-256-GCM on disk (docs/formats/consensus.md).
//!
//! Whoever gets the disk, or a copy of it, without the key learns how many entries there are and how long, and nothing else.

use crate::error::ConsensusError;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::sync::Arc;

/// Begins every sealed value. JSON never begins with a zero byte, so values from before sealing are told apart.
const MARK: [u8; 4] = [0, b'c', b's', 1];
/// Mark, key id, nonce.
const HEAD_BYTES: usize = MARK.len() + 1 + NONCE_LEN;
pub const STORAGE_KEY_BYTES: usize = 32;

/// The key that a member's folder is sealed with; clones share it.
#[derive(Clone)]
pub struct StorageKey {
    id: u8,
    key: Arc<LessSafeKey>,
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageKey({:02x})", self.id)
    }
}

/// What a value is: one cannot be put in the place of another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// The entry of an index.
    Entry(u64),
    Snapshot,
    /// Tells the right key from a wrong one.
    Check,
}

impl Kind {
    fn associated(self) -> Vec<u8> {
        match self {
            Kind::Entry(index) => [b"log".as_slice(), &index.to_be_bytes()].concat(),
            Kind::Snapshot => b"snapshot".to_vec(),
            Kind::Check => b"check".to_vec(),
        }
    }
}

impl StorageKey {
    pub fn new(bytes: &[u8; STORAGE_KEY_BYTES]) -> StorageKey {
        let unbound = UnboundKey::new(&AES_256_GCM, bytes).expect("a key of AES-256 has 32 bytes");
        let print = digest::digest(&digest::SHA256, bytes);
        StorageKey {
            id: print.as_ref()[0],
            key: Arc::new(LessSafeKey::new(unbound)),
        }
    }

    /// Seals a value under a fresh random nonce.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn seal(&self, kind: Kind, plain: &[u8]) -> Result<Vec<u8>, ConsensusError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| ConsensusError::Storage("the system gives no randomness".into()))?;
        let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&MARK);
        sealed.push(self.id);
        sealed.extend_from_slice(&nonce);
        let mut body = plain.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(kind.associated()),
                &mut body,
            )
            .map_err(|_| ConsensusError::Storage("a value is too long to be sealed".into()))?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    fn open(&self, kind: Kind, stored: &[u8]) -> Result<Vec<u8>, ConsensusError> {
        let damaged = || ConsensusError::Corrupt(format!("{kind:?} cannot be unsealed"));
        let (head, body) = stored.split_at_checked(HEAD_BYTES).ok_or_else(damaged)?;
        if head[MARK.len()] != self.id {
            return Err(ConsensusError::Key(format!(
                "{kind:?} is sealed with another key than the one given"
            )));
        }
        let nonce: [u8; NONCE_LEN] = head[MARK.len() + 1..].try_into().map_err(|_| damaged())?;
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(kind.associated()),
                &mut body,
            )
            .map_err(|_| damaged())?
            .len();
        body.truncate(plain);
        Ok(body)
    }
}

/// Seals when there is a key.
pub(crate) fn seal(
    key: Option<&StorageKey>,
    kind: Kind,
    plain: Vec<u8>,
) -> Result<Vec<u8>, ConsensusError> {
    match key {
        Some(key) => key.seal(kind, &plain),
        None => Ok(plain),
    }
}

/// What was stored, unsealed if it is sealed: values from before sealing are read as they are.
pub(crate) fn open(
    key: Option<&StorageKey>,
    kind: Kind,
    stored: &[u8],
) -> Result<Vec<u8>, ConsensusError> {
    match (stored.starts_with(&MARK), key) {
        (false, _) => Ok(stored.to_vec()),
        (true, Some(key)) => key.open(kind, stored),
        (true, None) => Err(ConsensusError::Key(
            "it is sealed, and no storage key was given".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_values_open_with_their_key_in_their_place_only() {
        let (key, other) = (StorageKey::new(&[7; 32]), StorageKey::new(&[8; 32]));
        let sealed = key.seal(Kind::Entry(3), b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(
            open(Some(&key), Kind::Entry(3), &sealed).unwrap(),
            b"secret"
        );
        for kind in [Kind::Entry(4), Kind::Snapshot, Kind::Check] {
            assert!(open(Some(&key), kind, &sealed).is_err(), "{kind:?}");
        }
        assert!(open(Some(&other), Kind::Entry(3), &sealed).is_err());
        assert!(open(None, Kind::Entry(3), &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // A changed mark makes it a value from before sealing: its reader finds no JSON there.
            let opened = open(Some(&key), Kind::Entry(3), &changed);
            assert!(opened.is_err() || at < MARK.len(), "byte {at}");
        }
        assert!(open(Some(&key), Kind::Entry(3), &sealed[..10]).is_err());
    }

    #[test]
    fn equal_values_are_sealed_differently_and_the_key_is_not_shown() {
        let key = StorageKey::new(&[7; 32]);
        let twice = [(); 2].map(|()| key.seal(Kind::Snapshot, b"x").unwrap());
        assert_ne!(twice[0], twice[1]);
        assert!(format!("{key:?}").len() < "StorageKey(00)_".len());
    }
}
