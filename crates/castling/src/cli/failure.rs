//! How a command ends when it does not succeed, and the exit code of each way.

use std::fmt;

/// Stands in `--help`.
#[cfg(test)]
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 check not ready for a failover, 4 refused by the service.";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something went wrong, in a sentence for a person.
    Failed(String),
    /// The command line asks for something impossible.
    Usage(String),
    /// The checks say that a failover would not begin; they have been printed.
    NotReady,
    /// A definite "no" of the service: nothing was done.
    Refused(Refused),
    /// Nobody reads our output any more: an ordinary end.
    OutputClosed,
}

/// What the service said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: String,
    pub message: String,
    /// The earliest time at which it would not be refused for this reason, ISO 8601.
    pub earliest: Option<String>,
}

impl Failure {
    pub fn failed(text: impl fmt::Display) -> Failure {
        Failure::Failed(text.to_string())
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::OutputClosed => 0,
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::NotReady => 3,
            Failure::Refused(_) => 4,
        }
    }

    /// The lines for standard error; empty when everything was said.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Failure::Failed(text) | Failure::Usage(text) => vec![format!("error: {text}")],
            Failure::NotReady | Failure::OutputClosed => Vec::new(),
            Failure::Refused(refused) => {
                let mut lines = vec![format!("refused: {}: {}", refused.code, refused.message)];
                lines.extend(
                    refused
                        .earliest
                        .as_ref()
                        .map(|time| format!("earliest: {time}")),
                );
                lines
            }
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Failed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_code_message_and_earliest_time() {
        let refused = Refused {
            code: "FailoverTooSoon".into(),
            message: "wait".into(),
            earliest: Some("2026-01-01T00:00:00Z".into()),
        };
        let lines = Failure::Refused(refused).lines();
        assert_eq!(
            lines,
            [
                "refused: FailoverTooSoon: wait",
                "earliest: 2026-01-01T00:00:00Z"
            ]
        );
    }
}
