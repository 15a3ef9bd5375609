//! The first frame each side sends: who it is, whom it means, which versions it speaks (docs/formats/link.md, "Hello").

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use types::RegionName;

const MAGIC: &[u8; 4] = b"CSLK";
/// The versions of the link protocol that this code speaks.
pub(crate) const VERSIONS: Versions = Versions { min: 1, max: 1 };

/// What a hello without the field stands for.
const PAYLOADS_UNTOLD: Versions = Versions { min: 1, max: 1 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub min: u8,
    pub max: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub versions: Versions,
    pub deployment: String,
    pub from: RegionName,
    pub to: RegionName,
    /// Versions of what calls, casts and answers mean. Programs before this field speak [`PAYLOADS_UNTOLD`].
    pub payloads: Versions,
    /// Version of the program, for people.
    pub software: Option<String>,
}

/// Why the other side's hello is not accepted; both sides log it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Unreadable(&'static str),
    Version {
        ours: Versions,
        theirs: Versions,
    },
    Payloads {
        ours: Versions,
        theirs: Versions,
        /// The peer's program.
        software: Option<String>,
    },
    Deployment {
        ours: String,
        theirs: String,
    },
    /// The hello and the certificate name different regions.
    NotItself {
        hello: RegionName,
        certificate: RegionName,
    },
    NotMe {
        me: RegionName,
        meant: RegionName,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Unreadable(why) => write!(f, "the hello is unreadable: {why}"),
            Refused::Version { ours, theirs } => write!(
                f,
                "no common link version: {}-{} here, {}-{} there",
                ours.min, ours.max, theirs.min, theirs.max
            ),
            Refused::Payloads {
                ours,
                theirs,
                software,
            } => write!(
                f,
                "no common version of messages: {}-{} here (castling {}), {}-{} there (castling {}); upgrade the older one",
                ours.min,
                ours.max,
                env!("CARGO_PKG_VERSION"),
                theirs.min,
                theirs.max,
                software.as_deref().unwrap_or("of an earlier version")
            ),
            Refused::Deployment { ours, theirs } => {
                write!(
                    f,
                    "another deployment: {ours:?} here, {theirs:?} there; the nodes of one deployment come from one `castling init`"
                )
            }
            Refused::NotItself { hello, certificate } => {
                write!(f, "the hello names {hello}, the certificate {certificate}")
            }
            Refused::NotMe { me, meant } => write!(f, "this is {me}, meant was {meant}"),
        }
    }
}

impl Hello {
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_slice(MAGIC);
        bytes.put_u8(self.versions.min);
        bytes.put_u8(self.versions.max);
        for text in [&self.deployment, self.from.as_str(), self.to.as_str()] {
            bytes.put_u8(u8::try_from(text.len()).expect("start() bounds the deployment's name"));
            bytes.put_slice(text.as_bytes());
        }
        bytes.put_u8(self.payloads.min);
        bytes.put_u8(self.payloads.max);
        if let Some(software) = &self.software {
            bytes.put_u8(
                u8::try_from(software.len()).expect("start() bounds the program's version"),
            );
            bytes.put_slice(software.as_bytes());
        }
        bytes.freeze()
    }

    /// Bytes after the known fields belong to later versions and are skipped.
    pub fn decode(bytes: &[u8]) -> Result<Hello, Refused> {
        let unreadable = |why| move || Refused::Unreadable(why);
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(unreadable("no magic bytes"))?;
        let ([min, max], mut rest) = rest
            .split_first_chunk::<2>()
            .ok_or_else(unreadable("it is too short"))?;
        let deployment = text_of(&mut rest).ok_or_else(unreadable("no deployment"))?;
        let mut region = || RegionName::parse(&text_of(&mut rest)?).ok();
        let from = region().ok_or_else(unreadable("no sender"))?;
        let to = region().ok_or_else(unreadable("no receiver"))?;
        let payloads = match rest.split_first_chunk::<2>() {
            Some(([min, max], after)) => {
                rest = after;
                Versions {
                    min: *min,
                    max: *max,
                }
            }
            None => PAYLOADS_UNTOLD,
        };
        let software = text_of(&mut rest);
        Ok(Hello {
            versions: Versions {
                min: *min,
                max: *max,
            },
            deployment,
            from,
            to,
            payloads,
            software,
        })
    }

    /// Judges the other side's hello against our own; gives the version to speak.
    pub fn agree(&self, theirs: &Hello, certificate: &RegionName) -> Result<u8, Refused> {
        let version = self.versions.max.min(theirs.versions.max);
        if version < self.versions.min.max(theirs.versions.min) {
            return Err(Refused::Version {
                ours: self.versions,
                theirs: theirs.versions,
            });
        }
        if theirs.deployment != self.deployment {
            let (ours, theirs) = (self.deployment.clone(), theirs.deployment.clone());
            return Err(Refused::Deployment { ours, theirs });
        }
        if theirs.from != *certificate {
            let hello = theirs.from.clone();
            return Err(Refused::NotItself {
                hello,
                certificate: certificate.clone(),
            });
        }
        if self.payloads.max.min(theirs.payloads.max) < self.payloads.min.max(theirs.payloads.min) {
            return Err(Refused::Payloads {
                ours: self.payloads,
                theirs: theirs.payloads,
                software: theirs.software.clone(),
            });
        }
        if theirs.to != self.from {
            return Err(Refused::NotMe {
                me: self.from.clone(),
                meant: theirs.to.clone(),
            });
        }
        Ok(version)
    }
}

/// Takes a text and the length before it.
fn text_of(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionName {
        RegionName::parse(name).unwrap()
    }

    fn hello(min: u8, max: u8, from: &str, to: &str) -> Hello {
        let versions = Versions { min, max };
        Hello {
            versions,
            deployment: "home".to_owned(),
            from: region(from),
            to: region(to),
            payloads: PAYLOADS_UNTOLD,
            software: None,
        }
    }

    #[test]
    fn a_hello_has_the_documented_bytes_and_survives_the_way() {
        let sent = hello(1, 2, "a", "bc");
        let sent = Hello {
            payloads: Versions { min: 2, max: 3 },
            software: Some("0.1".to_owned()),
            ..sent
        };
        assert_eq!(
            &sent.encode()[..],
            b"CSLK\x01\x02\x04home\x01a\x02bc\x02\x03\x030.1"
        );
        assert_eq!(Hello::decode(&sent.encode()), Ok(sent));
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let sent = hello(1, 1, "a", "b");
        let told = Hello {
            software: Some("0.1".to_owned()),
            ..sent
        };
        let longer = [&told.encode()[..], b"later"].concat();
        assert_eq!(Hello::decode(&longer), Ok(told));
    }

    #[test]
    fn a_hello_cut_anywhere_is_unreadable() {
        let bytes = hello(1, 1, "a", "b").encode();
        let untold = bytes.len() - 2;
        for length in 0..untold {
            let decoded = Hello::decode(&bytes[..length]);
            assert!(
                matches!(decoded, Err(Refused::Unreadable(_))),
                "{length} bytes"
            );
        }
        assert_eq!(
            Hello::decode(&bytes[..untold]),
            Ok(hello(1, 1, "a", "b")),
            "a program before the field"
        );
        assert!(
            Hello::decode(b"CSLK\x01\x01\x01\xff\x01a\x01b").is_err(),
            "not UTF-8"
        );
        assert!(
            Hello::decode(b"CSLK\x01\x01\x01x\x01_\x01b").is_err(),
            "not a region"
        );
    }

    fn version(ours: (u8, u8), theirs: (u8, u8)) -> Option<u8> {
        let (mine, other) = (
            hello(ours.0, ours.1, "a", "b"),
            hello(theirs.0, theirs.1, "b", "a"),
        );
        mine.agree(&other, &region("b")).ok()
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        assert_eq!(version((1, 1), (1, 1)), Some(1));
        assert_eq!(version((1, 3), (2, 5)), Some(3));
        assert_eq!(version((2, 5), (1, 3)), Some(3));
        assert_eq!(version((1, 1), (2, 3)), None);
        assert_eq!(version((2, 3), (1, 1)), None);
        assert_eq!(version((1, 2), (3, 1)), None, "a range that is none");
    }

    #[test]
    fn payloads_of_another_version_are_refused_with_both_programs_named() {
        let speaking = |payloads: (u8, u8), from: &str, to: &str| Hello {
            payloads: Versions {
                min: payloads.0,
                max: payloads.1,
            },
            ..hello(1, 1, from, to)
        };
        let agrees = |ours, theirs| {
            speaking(ours, "a", "b")
                .agree(&speaking(theirs, "b", "a"), &region("b"))
                .map_err(|why| why.to_string())
        };
        assert_eq!(agrees((2, 3), (3, 4)), Ok(1));
        let why = agrees((2, 2), (1, 1)).unwrap_err();
        assert!(
            why.contains("2-2 here") && why.contains("1-1 there"),
            "{why}"
        );
        assert!(why.contains(env!("CARGO_PKG_VERSION")), "{why}");
    }

    #[test]
    fn another_deployment_or_region_is_refused() {
        let mine = hello(1, 1, "a", "b");
        let theirs = hello(1, 1, "b", "a");
        assert_eq!(mine.agree(&theirs, &region("b")), Ok(1));
        let other = Hello {
            deployment: "away".to_owned(),
            ..theirs.clone()
        };
        assert!(matches!(
            mine.agree(&other, &region("b")),
            Err(Refused::Deployment { .. })
        ));
        assert!(matches!(
            mine.agree(&theirs, &region("c")),
            Err(Refused::NotItself { .. })
        ));
        let other = Hello {
            to: region("c"),
            ..theirs
        };
        assert!(matches!(
            mine.agree(&other, &region("b")),
            Err(Refused::NotMe { .. })
        ));
    }
}
