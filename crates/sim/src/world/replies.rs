//! Hub replies as a client understands them.

use crate::history::{Asked, Delivered, Got, TwinSeen};
use hub::Reply;
use serde_json::Value;

/// The property that twins of the run carry.
pub const PROPERTY: &str = "v";

/// `None`: the reply is not one to this question.
pub fn got(asked: &Asked, reply: Reply) -> Option<Got> {
    Some(match (asked, reply) {
        (Asked::Identify { .. }, Reply::Identity(identity)) => Got::Generation(identity.generation),
        (Asked::SetReported { .. }, Reply::ReportedVersion(version)) => Got::Version(version),
        (Asked::GetTwin { .. } | Asked::SetDesired { .. }, Reply::Json { body, etag }) => {
            Got::Twin(twin(&body, etag)?)
        }
        (Asked::GetIdentity { .. } | Asked::Register { .. }, Reply::Json { body, etag }) => {
            let document: Value = serde_json::from_slice(&body).ok()?;
            let value = document["statusReason"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            Got::Identity { value, etag }
        }
        (Asked::LockMessages { .. }, Reply::C2dMessages(messages)) => Got::Messages(
            messages
                .into_iter()
                .map(|message| {
                    let number = message.message.message_id.strip_prefix('m')?.parse().ok()?;
                    Some(Delivered {
                        message: number,
                        expiry: message.expiry,
                        lock_token: message.lock_token,
                    })
                })
                .collect::<Option<_>>()?,
        ),
        (Asked::GetOffset { .. }, Reply::Offset(offset)) => {
            Got::Offset(offset.map(|offset| (offset.epoch, offset.next.0)))
        }
        (Asked::SendMessage { .. }, Reply::C2dQueued { .. }) => Got::Done,
        (_, Reply::Done) => Got::Done,
        _ => return None,
    })
}

fn twin(body: &[u8], etag: String) -> Option<TwinSeen> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let section = |name: &str| &document["properties"][name];
    Some(TwinSeen {
        reported: section("reported")[PROPERTY].as_u64(),
        reported_version: section("reported")["$version"].as_u64()?,
        desired: section("desired")[PROPERTY].as_u64(),
        desired_version: section("desired")["$version"].as_u64()?,
        version: document["version"].as_u64()?,
        etag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_read_out_of_its_document() {
        let body = br#"{"version":9,"properties":{"desired":{"v":3,"$version":4},"reported":{"$version":1}}}"#;
        let seen = twin(body, "e".into()).unwrap();
        assert_eq!(
            (
                seen.desired,
                seen.desired_version,
                seen.reported,
                seen.reported_version
            ),
            (Some(3), 4, None, 1)
        );
        assert_eq!((seen.version, seen.etag.as_str()), (9, "e"));
        assert_eq!(twin(b"{}", String::new()), None);
    }
}
