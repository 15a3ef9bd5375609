//! Passwords of people: what is good enough, and their argon2id hashes.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use control::directory::Secret;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use types::limits;

/// Memory in KiB, passes and lanes: what is widely advised for argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The PHC text of a password's argon2id hash. Takes tens of milliseconds and 19 MiB.
///
/// # Errors
/// When the system gives no randomness.
pub fn hash(password: &str) -> Result<Secret, String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| format!("the system gives no randomness: {error}"))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
    let hash = hasher()?
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| format!("hashing a password: {error}"))?;
    Ok(Secret(hash.to_string()))
}

/// Whether a password is the one of this hash; false for a text that is no argon2id hash. As slow as [`hash`].
pub fn verify(password: &str, hash: &Secret) -> bool {
    let (Ok(hasher), Ok(hash)) = (hasher(), PasswordHash::new(&hash.0)) else {
        return false;
    };
    // Comparing is constant in time there.
    hasher.verify_password(password.as_bytes(), &hash).is_ok()
}

/// Whether a password may be chosen: length, and not made of the user's own name or of one character.
///
/// # Errors
/// With a sentence for the one who chose it.
pub fn check_strength(password: &str) -> Result<(), String> {
    let chars = password.chars().count();
    if chars < limits::PASSWORD_CHARS_MIN {
        return Err(format!(
            "The password is too short: it must have at least {} characters.",
            limits::PASSWORD_CHARS_MIN
        ));
    }
    if password.len() > limits::PASSWORD_BYTES_MAX {
        return Err(format!(
            "The password is too long: it may have at most {} bytes.",
            limits::PASSWORD_BYTES_MAX
        ));
    }
    let mut distinct: Vec<char> = password.to_lowercase().chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < DISTINCT_MIN {
        return Err(format!(
            "The password is too easy to guess: it must have at least {DISTINCT_MIN} different characters."
        ));
    }
    let bare: String = password
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphabetic())
        .collect();
    if COMMON.contains(&bare.as_str()) {
        return Err("The password is too easy to guess: it is a common word.".into());
    }
    Ok(())
}

const DISTINCT_MIN: usize = 5;
/// Words that stay when digits and signs are taken out of the passwords that are tried first.
const COMMON: [&str; 12] = [
    "password",
    "passwort",
    "administrator",
    "castling",
    "castlingadmin",
    "qwertyuiop",
    "qwertyuiopasdf",
    "letmein",
    "welcome",
    "changeme",
    "iloveyou",
    "abcdefghijkl",
];

fn hasher() -> Result<Argon2<'static>, String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| error.to_string())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Where passwords are hashed beside the requests: a few at a time, a bounded number waiting.
pub(crate) struct Gate {
    room: Semaphore,
    waiting: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Gate {
            room: Semaphore::new(limits::PASSWORD_HASHES_AT_ONCE),
            waiting: AtomicUsize::new(0),
        }
    }
}

/// More passwords are waiting than may, or the work broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl Gate {
    /// As [`hash`].
    pub async fn hash(&self, password: String) -> Result<Result<Secret, String>, Busy> {
        self.apart(move || hash(&password)).await
    }

    /// As [`verify`]; without a hash it takes as long, and says no.
    pub async fn verify(&self, password: String, hash: Option<Secret>) -> Result<bool, Busy> {
        self.apart(move || match hash {
            Some(hash) => verify(&password, &hash),
            None => {
                // Who is asked for must not show in how long the answer takes.
                verify(&password, nobodys());
                false
            }
        })
        .await
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let _place = Place::take(&self.waiting)?;
        let _room = self.room.acquire().await.map_err(|_| Busy)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| Busy)
    }
}

/// A place in the queue, given back when the request goes away.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Place<'a>, Busy> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(waiting);
        match before < limits::PASSWORD_HASHES_WAITING_MAX {
            true => Ok(place),
            false => Err(Busy),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nobodys() -> &'static Secret {
    static HASH: OnceLock<Secret> = OnceLock::new();
    HASH.get_or_init(|| hash("nobody has this password").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_by_its_argon2id_hash_and_no_other_is() {
        let made = hash("correct horse battery").unwrap();
        assert!(
            made.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            made.0
        );
        assert!(verify("correct horse battery", &made));
        for wrong in ["", "correct horse batterY", "correct horse battery "] {
            assert!(!verify(wrong, &made), "{wrong}");
        }
        assert_ne!(hash("correct horse battery").unwrap(), made, "salted");
        assert!(!verify("x", &Secret("no hash".into())));
    }

    #[test]
    fn weak_passwords_are_refused_with_the_reason() {
        for (bad, why) in [
            ("short", "at least 12"),
            ("aaaaaaaaaaaaaaaa", "different characters"),
            ("Password1234!", "common word"),
            ("x".repeat(2_000).as_str(), "at most"),
        ] {
            let said = check_strength(bad).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert_eq!(check_strength("tent-river-9-lamp"), Ok(()));
    }

    #[tokio::test]
    async fn more_passwords_than_may_wait_are_turned_away() {
        let gate = Gate::default();
        let _room = gate
            .room
            .acquire_many(limits::PASSWORD_HASHES_AT_ONCE as u32)
            .await
            .unwrap();
        gate.waiting
            .store(limits::PASSWORD_HASHES_WAITING_MAX, Ordering::Relaxed);
        assert_eq!(gate.verify("x".into(), None).await, Err(Busy));
    }
}
