//! How a connection ends, and what follows from it.

use hub::decision::CloseReason;

/// Why a CONNECT was refused; the number is the CONNACK return code (data-plane notes section 3.1).
///
/// A device SDK gives up for good after 5, so [`Refusal::NotAuthorized`] is used only when the identity was positively
/// refused; whatever may pass by itself is [`Refusal::ServerUnavailable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    ProtocolVersion = 1,
    ClientId = 2,
    ServerUnavailable = 3,
    UserNameOrPassword = 4,
    NotAuthorized = 5,
}

impl Refusal {
    pub const ALL: [Refusal; 5] = [
        Refusal::ProtocolVersion,
        Refusal::ClientId,
        Refusal::ServerUnavailable,
        Refusal::UserNameOrPassword,
        Refusal::NotAuthorized,
    ];

    /// The word used in metrics and log lines.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::ProtocolVersion => "protocol_version",
            Refusal::ClientId => "client_id",
            Refusal::ServerUnavailable => "server_unavailable",
            Refusal::UserNameOrPassword => "user_name_or_password",
            Refusal::NotAuthorized => "not_authorized",
        }
    }
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said DISCONNECT: the will is dropped.
    Disconnected,
    /// The socket closed or broke without DISCONNECT.
    PeerGone,
    /// No CONNECT within the time allowed.
    ConnectTimeout,
    KeepAlive,
    TokenLapsed,
    /// A packet that MQTT 3.1.1 or the hub's topic rules forbid; the text says which rule.
    Protocol(&'static str),
    Refused(Refusal),
    /// The hub closed the session.
    Hub(CloseReason),
    /// Notifications came faster than the client read them.
    Overrun,
    /// The client did not read what was written to it.
    SlowReader,
    /// The hub refused a message; MQTT 3.1.1 has no negative acknowledgement.
    Rejected,
    /// The hub gave no answer in time, or an unknown one; the client may come again.
    Unavailable,
    Shutdown,
    /// The region is cut off from the others: devices are better off elsewhere.
    Isolated,
    /// The region hands its devices over.
    Drained,
    /// The region's lease lapsed before an acknowledgement was written: it is dropped.
    LeaseLost,
}

impl End {
    /// Every label, in the order of [`End::index`].
    pub const LABELS: [&'static str; 19] = [
        "disconnected",
        "peer_gone",
        "connect_timeout",
        "keep_alive",
        "token_lapsed",
        "protocol",
        "refused",
        "taken_over",
        "deleted",
        "disabled",
        "keys_changed",
        "overrun",
        "slow_reader",
        "rejected",
        "unavailable",
        "shutdown",
        "isolated",
        "drained",
        "lease_lost",
    ];

    pub fn index(self) -> usize {
        match self {
            End::Disconnected => 0,
            End::PeerGone => 1,
            End::ConnectTimeout => 2,
            End::KeepAlive => 3,
            End::TokenLapsed => 4,
            End::Protocol(_) => 5,
            End::Refused(_) => 6,
            End::Hub(CloseReason::TakenOver) => 7,
            End::Hub(CloseReason::Deleted) => 8,
            End::Hub(CloseReason::Disabled) => 9,
            End::Hub(CloseReason::KeysChanged) => 10,
            End::Overrun => 11,
            End::SlowReader => 12,
            End::Rejected => 13,
            End::Unavailable => 14,
            End::Shutdown => 15,
            End::Isolated => 16,
            End::Drained => 17,
            End::LeaseLost => 18,
        }
    }

    /// The word used in metrics and log lines.
    pub fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// [MQTT-3.1.2-8] The will is published unless the client took leave. A device that is gone or disabled has no say.
    pub fn publishes_will(self) -> bool {
        !matches!(
            self,
            End::Disconnected
                | End::Hub(CloseReason::Deleted | CloseReason::Disabled | CloseReason::KeysChanged)
        )
    }

    /// False when bytes that the socket still buffers must not leave.
    pub fn may_flush(self) -> bool {
        !matches!(self, End::LeaseLost)
    }

    /// True when the hub still believes in the connection and must be told of its end.
    pub fn tells_hub(self) -> bool {
        !matches!(self, End::Hub(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_own_label() {
        let unique: std::collections::BTreeSet<_> = End::LABELS.iter().collect();
        assert_eq!(unique.len(), End::LABELS.len());
        assert_eq!(End::LeaseLost.index() + 1, End::LABELS.len());
        assert_eq!(End::Hub(CloseReason::KeysChanged).label(), "keys_changed");
    }

    #[test]
    fn only_leave_taking_and_lost_identities_silence_the_will() {
        for silent in [
            End::Disconnected,
            End::Hub(CloseReason::Deleted),
            End::Hub(CloseReason::Disabled),
        ] {
            assert!(!silent.publishes_will(), "{silent:?}");
        }
        for loud in [
            End::PeerGone,
            End::KeepAlive,
            End::Protocol("x"),
            End::Hub(CloseReason::TakenOver),
            End::Shutdown,
        ] {
            assert!(loud.publishes_will(), "{loud:?}");
        }
    }
}
