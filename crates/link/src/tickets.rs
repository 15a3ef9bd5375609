//! TLS session tickets that every region of a deployment accepts, from keys that rotate daily without coordination.
//!
//! A ticket is `version 1 | day u32 BE | nonce 12 bytes | AES-256-GCM(state) | tag 16 bytes`; everything before the nonce is
//! authenticated too. The key of a day is HKDF-SHA256(secret, day).

use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const VERSION: u8 = 1;
const DAY_S: u64 = 24 * 3600;
const HEADER: usize = 5;
const SALT: &[u8] = b"castling session tickets 1";

/// Reads the clock; handed in so that tests turn the days.
pub type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// Seals sessions into tickets; regions with the same secret resume each other's sessions.
///
/// Tickets of today, of yesterday and (clocks differ) of tomorrow are accepted. Who knows the secret can read sessions that
/// were resumed without a key exchange (TLS 1.2): it is kept like a private key.
pub struct SharedTickets {
    secret: Prk,
    clock: Clock,
    random: SystemRandom,
    keys: RwLock<Option<Keys>>,
}

/// The keys around one day.
struct Keys {
    today: u32,
    /// Of yesterday, today and tomorrow.
    keys: [Arc<LessSafeKey>; 3],
}

impl SharedTickets {
    /// Tickets from a secret that all regions of the deployment have.
    pub fn new(secret: &[u8; 32], clock: Clock) -> SharedTickets {
        let secret = Salt::new(HKDF_SHA256, SALT).extract(secret);
        SharedTickets {
            secret,
            clock,
            random: SystemRandom::new(),
            keys: RwLock::new(None),
        }
    }

    /// Tickets that follow the system's clock.
    pub fn with_system_clock(secret: &[u8; 32]) -> Arc<SharedTickets> {
        Arc::new(SharedTickets::new(secret, Box::new(SystemTime::now)))
    }

    fn today(&self) -> u32 {
        let since = (self.clock)().duration_since(SystemTime::UNIX_EPOCH);
        let days = since.unwrap_or(Duration::ZERO).as_secs() / DAY_S;
        u32::try_from(days).unwrap_or(u32::MAX)
    }

    /// The key of `day`, if it is today or a neighbour of it.
    fn key(&self, day: u32, today: u32) -> Option<Arc<LessSafeKey>> {
        let place = (i64::from(day) - i64::from(today) + 1)
            .try_into()
            .ok()
            .filter(|p: &usize| *p < 3)?;
        if let Some(keys) = self.keys.read().as_ref().filter(|keys| keys.today == today) {
            return keys.keys.get(place).cloned();
        }
        let derived = |day: u32| self.derive(day).map(Arc::new);
        let before = derived(today.saturating_sub(1))?;
        let keys = [before, derived(today)?, derived(today.saturating_add(1))?];
        let key = keys.get(place).cloned();
        *self.keys.write() = Some(Keys { today, keys });
        key
    }

    fn derive(&self, day: u32) -> Option<LessSafeKey> {
        let info = day.to_be_bytes();
        let info = [info.as_slice()];
        let okm = self.secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        DAY_S as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let today = self.today();
        let key = self.key(today, today)?;
        // Random nonces are safe for 2^32 tickets per key, that is per day and deployment.
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket =
            Vec::with_capacity(HEADER + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        ticket.push(VERSION);
        ticket.extend_from_slice(&today.to_be_bytes());
        let header: [u8; HEADER] = ticket.as_slice().try_into().ok()?;
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let sealed = ticket.get_mut(HEADER + NONCE_LEN..)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(header), sealed)
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (header, rest) = ticket.split_first_chunk::<HEADER>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (version, day) = header.split_first()?;
        if *version != VERSION {
            return None;
        }
        let day = u32::from_be_bytes(day.try_into().ok()?);
        let key = self.key(day, self.today())?;
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key
            .open_in_place(nonce, Aad::from(*header), &mut state)
            .ok()?
            .len();
        state.truncate(length);
        Some(state)
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTickets(secret not shown)")
    }
}

#[cfg(test)]
mod tests;
