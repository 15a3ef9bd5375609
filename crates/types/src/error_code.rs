//! Error codes of the data plane and the refusal that carries one.
//!
//! The HTTP status is the code's first three digits. Source: data-plane notes section 9.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// A documented error of the data plane: name, six-digit number, HTTP status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// The name as it stands in `iothub-errorcode` and after `ErrorCode:` in bodies.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name),)* }
            }

            /// The six-digit number as it stands in `errorCode`.
            pub fn number(self) -> u32 {
                match self { $(ErrorCode::$name => $number,)* }
            }

            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];
        }
    };
}

codes! {
    InvalidOperation = 400003,
    ArgumentInvalid = 400004,
    ArgumentNull = 400005,
    IotHubFormatError = 400006,
    DeviceDefinedMultipleTimes = 400011,
    BulkRegistryOperationFailure = 400013,
    NullMessage = 400026,
    IotHubUnauthorizedAccess = 401002,
    IotHubUnauthorized = 401003,
    IotHubQuotaExceeded = 403002,
    DeviceMaximumQueueDepthExceeded = 403004,
    InvalidMessageExpiryTime = 403009,
    DeviceDisabled = 403012,
    /// The hub's name is unknown here. Azure's HTTP front end answers 404 with this name; its table has no number for that.
    IotHubNotFound = 404000,
    DeviceNotFound = 404001,
    ConsumerGroupNotFound = 404006,
    IotHubFailingOver = 404012,
    /// The route or feature is not offered by this server.
    FeatureNotSupported = 404013,
    DeviceNotOnline = 404103,
    /// The route exists, but not with this HTTP method.
    MethodNotAllowed = 405000,
    DeviceAlreadyExists = 409001,
    PreconditionFailed = 412001,
    DeviceMessageLockLost = 412002,
    MessageTooLarge = 413001,
    TooManyDevices = 413002,
    ThrottlingException = 429001,
    ServerError = 500001,
    ServiceUnavailable = 503001,
    ServerBusy = 503005,
    /// The request took too long; it may have been carried out.
    GatewayTimeout = 504101,
    /// The consumer read events that a forced failover lost: it goes on at the point of divergence. Ours.
    ConsumerOffsetDiverged = 409901,
    /// This region is cut off from the others and may not decide; another one may answer. Nothing was done. Ours.
    RegionIsolated = 503901,
}

impl ErrorCode {
    /// The HTTP status: the code's first three digits.
    pub fn status(self) -> u16 {
        (self.number() / 1000) as u16
    }
}

/// A definite answer "no": nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    pub code: ErrorCode,
    /// What was wrong, for a person; never carries a secret.
    pub message: String,
}

impl Reject {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Reject {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}): {}",
            self.code.name(),
            self.code.number(),
            self.message
        )
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_carry_an_http_error_status() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.number()), "{} twice", code.name());
            assert!((400..600).contains(&code.status()), "{}", code.name());
        }
    }
}
