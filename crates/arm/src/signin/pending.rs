//! What a sign-in in a browser is about, sealed into its own forms: this region keeps nothing of it.

use crate::identity::print;
use crate::tokens::same;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::Secret;
use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{UnixMillis, limits};

/// Nothing else is sealed with this key.
const CONTEXT: &[u8] = b"castling sign-in 1";

/// A sign-in under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub purpose: Purpose,
    pub stage: Stage,
    /// The tenant's word in the path, for the addresses of the next forms.
    pub tenant: String,
    /// The value of the browser's cookie: another browser cannot go on with this.
    pub browser: String,
    pub expires: UnixMillis,
}

/// What it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// An authorization code for a program.
    Code {
        client_id: String,
        redirect_uri: String,
        challenge: String,
        scope: String,
        state: Option<String>,
        nonce: Option<String>,
        form_post: bool,
        login_hint: Option<String>,
    },
    /// A program on another device.
    Device {
        user_code: String,
        client_id: String,
    },
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Nobody has signed in yet.
    SignIn,
    /// The password was right, and must be replaced.
    NewPassword(SignedIn),
    /// Signed in; another device is to be approved.
    Confirm {
        signed_in: SignedIn,
        groups: Vec<String>,
    },
}

/// Who has signed in. It counts no longer than the password that they had then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedIn {
    pub user: String,
    /// See [`password_print`].
    pub print: String,
}

/// Tells one password hash, or none, from another, and nothing else of it.
pub(crate) fn password_print(hash: Option<&Secret>) -> String {
    let mut text = print(hash.map_or("", |hash| &hash.0));
    text.truncate(16);
    text
}

impl Purpose {
    pub fn client_id(&self) -> &str {
        match self {
            Purpose::Code { client_id, .. } | Purpose::Device { client_id, .. } => client_id,
        }
    }
}

/// Seals forms with a key that lives as long as this process, and remembers who polls for device codes how often.
pub(crate) struct Forms {
    /// `None`: the system gave no randomness at the start; no form is given out then.
    key: Option<LessSafeKey>,
    polls: Mutex<BTreeMap<String, UnixMillis>>,
}

impl Forms {
    pub fn new() -> Forms {
        let mut bytes = [0; 32];
        let filled = getrandom::fill(&mut bytes).is_ok();
        let key = UnboundKey::new(&AES_256_GCM, &bytes)
            .ok()
            .filter(|_| filled);
        Forms {
            key: key.map(LessSafeKey::new),
            polls: Mutex::default(),
        }
    }

    /// The text that stands in a form.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(&self, pending: &Pending) -> Result<String, String> {
        const NO_RANDOM: &str = "the system gives no randomness";
        let key = self.key.as_ref().ok_or(NO_RANDOM)?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| NO_RANDOM)?;
        let mut text = serde_json::to_vec(pending).map_err(|error| error.to_string())?;
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(CONTEXT),
            &mut text,
        )
        .map_err(|_| "a form cannot be sealed")?;
        Ok(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &text].concat()))
    }

    /// The sign-in of a form, if this process sealed it, it is not too old, and the same browser brings it.
    pub fn open(&self, text: &str, browser: &str, now: UnixMillis) -> Option<Pending> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let nonce = bytes.get(..NONCE_LEN)?.try_into().ok()?;
        let sealed = bytes.get_mut(NONCE_LEN..)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let key = self.key.as_ref()?;
        let opened = key.open_in_place(nonce, Aad::from(CONTEXT), sealed).ok()?;
        let pending: Pending = serde_json::from_slice(opened).ok()?;
        let good = same(pending.browser.as_bytes(), browser.as_bytes()) && now < pending.expires;
        good.then_some(pending)
    }

    /// Notes a question for a device code; true: it comes too soon after the one before.
    pub fn polls_too_fast(&self, hash: &str, now: UnixMillis) -> bool {
        // A second of grace: programs count the time of the answer's way too.
        let least = (limits::DEVICE_CODE_INTERVAL_S - 1) * 1000;
        let mut polls = self.polls.lock();
        polls.retain(|_, at| (0..limits::DEVICE_CODE_MS).contains(&now.since(*at)));
        if polls.len() >= limits::DEVICE_CODES_MAX && !polls.contains_key(hash) {
            return true;
        }
        let before = polls.insert(hash.to_owned(), now);
        before.is_some_and(|at| now.since(at) < least)
    }
}
