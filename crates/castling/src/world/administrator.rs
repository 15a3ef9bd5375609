//! The first user of a deployment: made once, with a random password that is told once and kept nowhere.

use super::deployment::guid;
use control::directory::Secret;
use control::model;
use serde::{Deserialize, Serialize};

/// What is kept of the first user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Administrator {
    pub object_id: String,
    pub name: String,
    /// PHC text of argon2id.
    pub password_hash: Secret,
}

/// What the operator is told once.
pub struct FirstSignIn {
    pub name: String,
    pub password: String,
}

impl Administrator {
    /// `admin@DOMAIN` with a fresh password.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn make(domain: &str) -> Result<(Administrator, FirstSignIn), String> {
        // 128 bits.
        let password = region::random_text(16);
        let name = format!("admin@{domain}");
        let administrator = Administrator {
            object_id: guid(),
            name: name.clone(),
            password_hash: arm::passwords::hash(&password)?,
        };
        Ok((administrator, FirstSignIn { name, password }))
    }

    /// As the control plane is told.
    pub fn told(&self) -> model::Administrator {
        model::Administrator {
            object_id: self.object_id.clone(),
            name: self.name.clone(),
            password: self.password_hash.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_random_good_enough_and_kept_as_a_hash_only() {
        let (kept, told) = Administrator::make("d.localhost").unwrap();
        let (_, other) = Administrator::make("d.localhost").unwrap();
        assert_ne!(told.password, other.password);
        assert_eq!(arm::passwords::check_strength(&told.password), Ok(()));
        assert_eq!(
            (kept.name.as_str(), told.name.as_str()),
            ("admin@d.localhost", "admin@d.localhost")
        );
        assert!(arm::passwords::verify(&told.password, &kept.password_hash));
        let stored = serde_json::to_string(&kept).unwrap();
        assert!(stored.contains("$argon2id$") && !stored.contains(&told.password));
    }
}
