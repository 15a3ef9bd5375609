//! The fields of a request to these endpoints.

use super::oauth::OauthError;
use crate::call::{self, Call};
use crate::failure::shown;
use crate::hub_tokens::is_hubs_audience;
use crate::tokens::is_own_audience;
use types::limits;

/// Fields of a form or a query; one that stands twice is refused.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// The body's form.
    ///
    /// # Errors
    /// `invalid_request`: not UTF-8, or a field stands twice.
    pub fn of_body(call: &Call) -> Result<Form, OauthError> {
        let text = std::str::from_utf8(&call.body)
            .map_err(|_| OauthError::request(9_000_411, "The request body is not UTF-8."))?;
        Form::of(call::query(text))
    }

    /// The query of the address.
    ///
    /// # Errors
    /// `invalid_request`: a field stands twice.
    pub fn of_query(call: &Call) -> Result<Form, OauthError> {
        Form::of(call.query.clone())
    }

    fn of(fields: Vec<(String, String)>) -> Result<Form, OauthError> {
        for (at, (name, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(other, _)| other == name) {
                let message = format!("The parameter '{}' is duplicated.", shown(name));
                return Err(OauthError::request(9_000_411, message));
            }
        }
        Ok(Form(fields))
    }

    /// A field that is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// # Errors
    /// `invalid_request`, naming the field.
    pub fn need(&self, name: &str) -> Result<&str, OauthError> {
        self.get(name).ok_or_else(|| {
            OauthError::request(
                900_144,
                format!("The request body must contain the following parameter: '{name}'."),
            )
        })
    }
}

/// What a token is asked for: from `scope` (audience + `/.default` or `/user_impersonation`, the audience's own slash kept) or
/// the older `resource`.
///
/// # Errors
/// `invalid_scope` where there is none, `invalid_resource` for a stranger's.
pub(crate) fn audience(
    call: &Call,
    scope: Option<&str>,
    resource: Option<&str>,
) -> Result<Option<String>, OauthError> {
    let of = |word: &str| {
        word.strip_suffix("/.default")
            .or_else(|| word.strip_suffix("/user_impersonation"))
            .map(str::to_owned)
    };
    let scope = scope.and_then(|scope| scope.split(' ').find_map(of));
    let Some(audience) = scope.or_else(|| resource.map(str::to_owned)) else {
        return Ok(None);
    };
    if is_hubs_audience(&audience)
        || is_own_audience(&audience, &call.host, &call.state.deployment.domain)
    {
        return Ok(Some(audience));
    }
    Err(OauthError::bad(
        "invalid_resource",
        500_011,
        format!(
            "The resource principal named '{}' was not found in this tenant.",
            shown(&audience)
        ),
    ))
}

/// A text that is kept with a sign-in.
///
/// # Errors
/// `invalid_request` if it is too long.
pub(crate) fn shorten(name: &str, text: Option<&str>) -> Result<Option<String>, OauthError> {
    match text {
        Some(text) if text.len() > limits::DIRECTORY_ADDRESS_CHARS_MAX => Err(OauthError::request(
            90_015,
            format!("The parameter '{name}' is too long."),
        )),
        text => Ok(text.map(str::to_owned)),
    }
}
