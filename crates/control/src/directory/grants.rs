//! Codes that stand for a sign-in until they are redeemed, once: authorization codes and device codes.

use super::DirectoryAnswer;
use super::apply::{Mistakes, exists, full, no_grant};
use super::model::{AuthorizationCode, DeviceCode, DeviceCodeStanding};
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::refusal::{Refusal, RefusalCode};
use types::limits;

impl State {
    pub(super) fn put_code(
        &mut self,
        call: Call<'_>,
        hash: &str,
        code: &AuthorizationCode,
    ) -> Result<Answer, Refusal> {
        self.enabled_user(&code.user)?;
        code_mistakes(hash, code)?;
        self.directory.forget_expired(call.at);
        if self.directory.codes.contains_key(hash) {
            return Err(exists("This authorization code was given out already."));
        }
        let most = limits::AUTHORIZATION_CODES_MAX;
        if self.directory.codes.len() >= most {
            return Err(full("authorization codes", most));
        }
        self.changed();
        self.directory.codes.insert(hash.into(), code.clone());
        Ok(Answer::Done)
    }

    pub(super) fn take_code(&mut self, call: Call<'_>, hash: &str) -> Result<Answer, Refusal> {
        let known = self.directory.codes.get(hash).ok_or_else(no_grant)?;
        if known.expires <= call.at || self.enabled_user(&known.user).is_err() {
            return Err(no_grant());
        }
        self.changed();
        self.directory.forget_expired(call.at);
        let code = self.directory.codes.remove(hash).ok_or_else(no_grant)?;
        Ok(Answer::Directory(DirectoryAnswer::Code(Box::new(code))))
    }

    pub(super) fn put_device_code(
        &mut self,
        call: Call<'_>,
        hash: &str,
        code: &DeviceCode,
    ) -> Result<Answer, Refusal> {
        let mut mistakes = Mistakes::default();
        let ids = limits::DIRECTORY_ID_CHARS_MAX;
        mistakes.plain("hash of the code", hash, "", ids);
        mistakes.plain("userCode", &code.user_code, "-", 32);
        mistakes.text("clientId", &code.client_id, ids);
        scope_mistakes(&mut mistakes, &code.scope);
        mistakes.wrong(code.standing != DeviceCodeStanding::Pending, || {
            "a new device code is decided by nobody yet".into()
        });
        mistakes.refuse(RefusalCode::DirectoryObjectInvalid)?;
        self.directory.forget_expired(call.at);
        let known = &self.directory.device_codes;
        let same = |other: &DeviceCode| same_user_code(&other.user_code, &code.user_code);
        if known.contains_key(hash) || known.values().any(same) {
            return Err(exists("This device code was given out already."));
        }
        // Those in use stay: a flood of new ones must not end them.
        if known.len() >= limits::DEVICE_CODES_MAX {
            return Err(full("device codes in use", limits::DEVICE_CODES_MAX));
        }
        self.changed();
        self.directory
            .device_codes
            .insert(hash.into(), code.clone());
        Ok(Answer::Done)
    }

    pub(super) fn decide_device_code(
        &mut self,
        call: Call<'_>,
        user_code: &str,
        standing: &DeviceCodeStanding,
    ) -> Result<Answer, Refusal> {
        if let DeviceCodeStanding::Approved { user, groups } = standing {
            self.enabled_user(user)?;
            groups_bounded(groups)?;
        }
        let found = self.directory.device_codes.values_mut().find(|code| {
            same_user_code(&code.user_code, user_code)
                && code.expires > call.at
                && code.standing == DeviceCodeStanding::Pending
        });
        let code = found.ok_or_else(no_grant)?;
        code.standing = standing.clone();
        let decided = code.clone();
        self.changed();
        Ok(Answer::Directory(DirectoryAnswer::DeviceCode(Box::new(
            decided,
        ))))
    }

    pub(super) fn take_device_code(
        &mut self,
        call: Call<'_>,
        hash: &str,
    ) -> Result<Answer, Refusal> {
        let found = self.directory.device_codes.get(hash);
        let code = found.filter(|code| code.expires > call.at).cloned();
        let code = code.ok_or_else(no_grant)?;
        if code.standing != DeviceCodeStanding::Pending {
            if let DeviceCodeStanding::Approved { user, .. } = &code.standing {
                self.enabled_user(user).map_err(|_| no_grant())?;
            }
            self.changed();
            self.directory.device_codes.remove(hash);
        }
        Ok(Answer::Directory(DirectoryAnswer::DeviceCode(Box::new(
            code,
        ))))
    }
}

fn code_mistakes(hash: &str, code: &AuthorizationCode) -> Result<(), Refusal> {
    let mut mistakes = Mistakes::default();
    let ids = limits::DIRECTORY_ID_CHARS_MAX;
    let long = limits::DIRECTORY_ADDRESS_CHARS_MAX;
    mistakes.plain("hash of the code", hash, "", ids);
    mistakes.text("clientId", &code.client_id, ids);
    mistakes.text("redirectUri", &code.redirect_uri, long);
    scope_mistakes(&mut mistakes, &code.scope);
    let given = [&code.challenge, &code.nonce, &code.address];
    let sized = |text: &&Option<String>| text.as_ref().is_some_and(|text| text.len() > long);
    mistakes.wrong(given.iter().any(sized), || {
        "challenge, nonce or address is too long".into()
    });
    mistakes.refuse(RefusalCode::DirectoryObjectInvalid)?;
    groups_bounded(&code.groups)
}

fn scope_mistakes(mistakes: &mut Mistakes, scope: &str) {
    mistakes.wrong(scope.len() > limits::DIRECTORY_ADDRESS_CHARS_MAX, || {
        "scope: it is too long".into()
    });
}

pub(super) fn groups_bounded(groups: &[String]) -> Result<(), Refusal> {
    let mut mistakes = Mistakes::default();
    let most = limits::GROUPS_PER_SESSION_MAX;
    mistakes.wrong(groups.len() > most, || {
        format!("groups: at most {most} are allowed")
    });
    let long = |group: &String| group.chars().count() > limits::DIRECTORY_TEXT_CHARS_MAX;
    mistakes.wrong(groups.iter().any(long), || {
        "groups: a name is too long".into()
    });
    mistakes.refuse(RefusalCode::DirectoryObjectInvalid)
}

/// People type it in any case, with or without the hyphen.
fn same_user_code(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.replace(['-', ' '], "").to_ascii_uppercase();
    plain(one) == plain(other)
}
