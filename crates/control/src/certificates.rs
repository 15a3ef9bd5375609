//! Certificates of authorities whose devices a hub may trust: kept, and proven to be their owner's (control-plane notes
//! section 8). What a certificate says is read at the edge; here is only who may change what, and when.

use crate::apply::Call;
use crate::command::Answer;
use crate::lookup::active;
use crate::model::{Hub, State};
use crate::naming::{etag_matches, key, shown};
use crate::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use types::{HubId, UnixMillis, limits};

/// An authority's certificate as a hub keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubCertificate {
    pub name: String,
    pub facts: CertificateFacts,
    pub verified: bool,
    pub created: UnixMillis,
    pub updated: UnixMillis,
    /// What the next proof of possession must name; spent by it.
    pub code: Option<String>,
    pub etag: u64,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// DER as base64.
    pub certificate: String,
    pub subject: String,
    pub expiry: UnixMillis,
    /// SHA-1 as upper-case hexadecimal digits.
    pub thumbprint: String,
}

/// What may be done with certificates. `if_match`: the etag the certificate must have, or `*`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CertificateCommand {
    /// Makes one, or replaces it.
    Put {
        hub: HubId,
        name: String,
        facts: CertificateFacts,
        verified: bool,
        if_match: Option<String>,
    },
    Delete {
        hub: HubId,
        name: String,
        if_match: Option<String>,
    },
    /// Keeps a fresh code, made by the proposer.
    MakeCode {
        hub: HubId,
        name: String,
        code: String,
        if_match: Option<String>,
    },
    /// The owner of certificate `thumbprint` has signed `code` with its key.
    Verify {
        hub: HubId,
        name: String,
        thumbprint: String,
        code: String,
        if_match: Option<String>,
    },
}

impl CertificateCommand {
    /// The hub and the certificate's name.
    pub fn target(&self) -> (HubId, &str) {
        match self {
            CertificateCommand::Put { hub, name, .. }
            | CertificateCommand::Delete { hub, name, .. }
            | CertificateCommand::MakeCode { hub, name, .. }
            | CertificateCommand::Verify { hub, name, .. } => (*hub, name),
        }
    }

    /// What it is called in permissions and in the activity log.
    pub fn action(&self) -> &'static str {
        match self {
            CertificateCommand::Put { .. } => "Microsoft.Devices/IotHubs/certificates/write",
            CertificateCommand::Delete { .. } => "Microsoft.Devices/IotHubs/certificates/delete",
            CertificateCommand::MakeCode { .. } => {
                "Microsoft.Devices/IotHubs/certificates/generateVerificationCode/action"
            }
            CertificateCommand::Verify { .. } => {
                "Microsoft.Devices/IotHubs/certificates/verify/action"
            }
        }
    }
}

impl Hub {
    /// A certificate by its name, in any case.
    pub fn certificate(&self, name: &str) -> Option<&HubCertificate> {
        let name = key(name);
        self.certificates.iter().find(|one| key(&one.name) == name)
    }
}

impl State {
    pub(crate) fn certificate_command(
        &mut self,
        call: Call<'_>,
        command: &CertificateCommand,
    ) -> Result<Answer, Refusal> {
        let (id, name) = command.target();
        let hub = self.hub_or_refuse(id)?;
        active(hub)?;
        let found = hub.certificate(name).cloned();
        match command {
            CertificateCommand::Put {
                facts,
                verified,
                if_match,
                ..
            } => {
                let made = put(
                    hub,
                    found,
                    name,
                    facts,
                    *verified,
                    if_match.as_deref(),
                    call.at,
                )?;
                Ok(self.keep_certificate(id, made))
            }
            CertificateCommand::Delete { if_match, .. } => {
                let Some(found) = found else {
                    return Ok(Answer::Absent);
                };
                matches(&found, if_match.as_deref())?;
                let hub = hub.name.key();
                self.edit_hub(&hub, |hub| {
                    hub.certificates.retain(|one| one.name != found.name);
                });
                Ok(Answer::Done)
            }
            CertificateCommand::MakeCode { code, if_match, .. } => {
                let mut found = found.ok_or_else(|| absent(hub, name))?;
                matches(&found, if_match.as_deref())?;
                found.code = Some(code.clone());
                found.updated = call.at;
                Ok(self.keep_certificate(id, found))
            }
            CertificateCommand::Verify {
                thumbprint,
                code,
                if_match,
                ..
            } => {
                let mut found = found.ok_or_else(|| absent(hub, name))?;
                matches(&found, if_match.as_deref())?;
                if found.code.as_ref() != Some(code) || found.facts.thumbprint != *thumbprint {
                    let message = format!(
                        "The certificate '{}' or its verification code is another one now: ask for a new code.",
                        found.name
                    );
                    return Err(Refusal::new(RefusalCode::CertificateInvalid, message));
                }
                found.code = None;
                found.verified = true;
                found.updated = call.at;
                Ok(self.keep_certificate(id, found))
            }
        }
    }

    fn keep_certificate(&mut self, hub: HubId, mut certificate: HubCertificate) -> Answer {
        let Some(key) = self.hub(hub).map(|hub| hub.name.key()) else {
            return Answer::Absent;
        };
        self.edit_hub(&key, |_| {});
        certificate.etag = self.revision;
        if let Some(hub) = self.hubs.get_mut(&key) {
            match (hub.certificates.iter_mut()).find(|one| one.name == certificate.name) {
                Some(one) => one.clone_from(&certificate),
                None => hub.certificates.push(certificate.clone()),
            }
        }
        Answer::Certificate(Box::new(certificate))
    }
}

fn put(
    hub: &Hub,
    found: Option<HubCertificate>,
    name: &str,
    facts: &CertificateFacts,
    verified: bool,
    if_match: Option<&str>,
    at: UnixMillis,
) -> Result<HubCertificate, Refusal> {
    let refuse = |code, message: String| Err(Refusal::new(code, message));
    let other = (hub.certificates.iter())
        .find(|one| one.facts.thumbprint == facts.thumbprint && key(&one.name) != key(name));
    if let Some(other) = other {
        return refuse(
            RefusalCode::CertificateInvalid,
            format!(
                "IotHub '{}' has this certificate already, under the name '{}'.",
                hub.name, other.name
            ),
        );
    }
    let Some(found) = found else {
        if if_match.is_some() {
            let message = format!(
                "IotHub '{}' has no certificate '{}', so If-Match cannot be met.",
                hub.name,
                shown(name)
            );
            return refuse(RefusalCode::PreconditionFailed, message);
        }
        valid_name(name)?;
        if hub.certificates.len() >= limits::HUB_CERTIFICATES_MAX {
            let message = format!(
                "IotHub '{}' has {} certificates, the most it can have.",
                hub.name,
                limits::HUB_CERTIFICATES_MAX
            );
            return refuse(RefusalCode::QuotaExceeded, message);
        }
        return Ok(HubCertificate {
            name: name.into(),
            facts: facts.clone(),
            verified,
            created: at,
            updated: at,
            code: None,
            etag: 0,
        });
    };
    matches(&found, if_match)?;
    // What was proven of the certificate before says nothing about another one.
    let same = found.facts.thumbprint == facts.thumbprint;
    Ok(HubCertificate {
        facts: facts.clone(),
        verified: verified || (same && found.verified),
        updated: at,
        code: found.code.filter(|_| same),
        ..found
    })
}

fn valid_name(name: &str) -> Result<(), Refusal> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let message = format!(
        "The name of a certificate must have 1 to 64 letters, digits and - . _, unlike '{}'.",
        shown(name)
    );
    Err(Refusal::new(RefusalCode::CertificateInvalid, message))
}

/// A change of what is there must name the etag it was read with.
fn matches(found: &HubCertificate, if_match: Option<&str>) -> Result<(), Refusal> {
    let message = match if_match {
        Some(wanted) if etag_matches(wanted, found.etag) => return Ok(()),
        Some(_) => format!(
            "The certificate '{}' was changed since it was read: its etag is another one.",
            found.name
        ),
        None => format!(
            "The certificate '{}' exists, so its etag must be given as If-Match.",
            found.name
        ),
    };
    Err(Refusal::new(RefusalCode::PreconditionFailed, message))
}

fn absent(hub: &Hub, name: &str) -> Refusal {
    let message = format!(
        "IotHub '{}' has no certificate '{}'.",
        hub.name,
        shown(name)
    );
    Refusal::new(RefusalCode::CertificateNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etag_text;
    use crate::testing::*;
    use crate::{Command, State};

    const HUB: HubId = HubId(1);

    fn facts(of: &str) -> CertificateFacts {
        CertificateFacts {
            certificate: format!("der of {of}"),
            subject: format!("CN={of}"),
            expiry: UnixMillis(1),
            thumbprint: format!("print of {of}"),
        }
    }

    fn apply(state: &mut State, command: CertificateCommand) -> Answer {
        state.apply(&request("", 9_000, Command::Certificate(command)))
    }

    fn put(name: &str, of: &str, verified: bool, if_match: Option<&str>) -> CertificateCommand {
        CertificateCommand::Put {
            hub: HUB,
            name: name.into(),
            facts: facts(of),
            verified,
            if_match: if_match.map(str::to_owned),
        }
    }

    fn certificate(answer: Answer) -> HubCertificate {
        match answer {
            Answer::Certificate(certificate) => *certificate,
            other => panic!("{other:?}"),
        }
    }

    fn check_refused(answer: Answer, code: RefusalCode, text: &str) {
        let Answer::Refused(refusal) = answer else {
            panic!("not refused: {answer:?}")
        };
        assert_eq!(refusal.code, code, "{}", refusal.message);
        assert!(refusal.message.contains(text), "{}", refusal.message);
    }

    #[test]
    fn a_certificate_is_made_proven_and_deleted() {
        let mut state = active_hub();
        let made = certificate(apply(&mut state, put("Ca", "one", false, None)));
        assert!(!made.verified && made.code.is_none());
        let make_code = CertificateCommand::MakeCode {
            hub: HUB,
            name: "ca".into(),
            code: "C0DE".into(),
            if_match: Some(etag_text(made.etag)),
        };
        let coded = certificate(apply(&mut state, make_code.clone()));
        assert_eq!(coded.code.as_deref(), Some("C0DE"));
        check_refused(
            apply(&mut state, make_code),
            RefusalCode::PreconditionFailed,
            "another one",
        );
        let verify = |code: &str| CertificateCommand::Verify {
            hub: HUB,
            name: "CA".into(),
            thumbprint: "print of one".into(),
            code: code.into(),
            if_match: Some("*".into()),
        };
        check_refused(
            apply(&mut state, verify("other")),
            RefusalCode::CertificateInvalid,
            "new code",
        );
        let proven = certificate(apply(&mut state, verify("C0DE")));
        assert!(proven.verified && proven.code.is_none() && proven.name == "Ca");
        check_refused(
            apply(&mut state, verify("C0DE")),
            RefusalCode::CertificateInvalid,
            "new code",
        );
        let delete = |if_match: Option<&str>| CertificateCommand::Delete {
            hub: HUB,
            name: "ca".into(),
            if_match: if_match.map(str::to_owned),
        };
        check_refused(
            apply(&mut state, delete(None)),
            RefusalCode::PreconditionFailed,
            "If-Match",
        );
        let etag = etag_text(proven.etag);
        assert_eq!(apply(&mut state, delete(Some(&etag))), Answer::Done);
        assert_eq!(apply(&mut state, delete(Some("*"))), Answer::Absent);
    }

    #[test]
    fn another_certificate_under_the_same_name_has_to_be_proven_again() {
        let mut state = active_hub();
        let made = certificate(apply(&mut state, put("ca", "one", true, None)));
        assert!(made.verified);
        check_refused(
            apply(&mut state, put("ca", "two", false, None)),
            RefusalCode::PreconditionFailed,
            "If-Match",
        );
        let same = certificate(apply(&mut state, put("ca", "one", false, Some("*"))));
        assert!(same.verified && same.created == made.created && same.etag != made.etag);
        let other = certificate(apply(&mut state, put("ca", "two", false, Some("*"))));
        assert!(!other.verified);
    }

    #[test]
    fn names_numbers_and_doubles_are_refused() {
        let mut state = active_hub();
        check_refused(
            apply(&mut state, put("no good", "one", false, None)),
            RefusalCode::CertificateInvalid,
            "1 to 64",
        );
        check_refused(
            apply(&mut state, put("ca", "one", false, Some("*"))),
            RefusalCode::PreconditionFailed,
            "has no certificate",
        );
        for n in 0..limits::HUB_CERTIFICATES_MAX {
            let made = put(&format!("c{n}"), &n.to_string(), false, None);
            assert!(!certificate(apply(&mut state, made)).verified);
        }
        check_refused(
            apply(&mut state, put("more", "more", false, None)),
            RefusalCode::QuotaExceeded,
            "most it can have",
        );
        check_refused(
            apply(&mut state, put("again", "1", false, None)),
            RefusalCode::CertificateInvalid,
            "under the name 'c1'",
        );
    }
}
