//! The questions a session has for the hub.

use bytes::Bytes;
use hub::Command;
use hub::command::{C2dCommand, LockOwner, SessionCommand, TwinCommand};
use std::num::NonZeroU16;
use types::{ConnectionId, DeviceId, limits};
use wire::topic::Filter;

/// A question to the hub, with what is needed to handle its answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask {
    TwinGet {
        ack: Option<NonZeroU16>,
        rid: String,
    },
    TwinPatch {
        ack: Option<NonZeroU16>,
        rid: String,
        body: Bytes,
        base: Option<u64>,
    },
    /// `grants`: what SUBACK will say per filter, if the hub agrees; `None` is refused.
    Subscribe {
        packet_id: NonZeroU16,
        filters: Vec<(String, u8)>,
        grants: Vec<Option<(Filter, u8)>>,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: Vec<String>,
        kinds: Vec<Filter>,
    },
    Lock {
        max: usize,
    },
    Complete {
        lock_token: String,
    },
    Reject {
        lock_token: String,
    },
}

impl Ask {
    /// The command to send.
    pub fn command(&self, device: &DeviceId, connection: ConnectionId) -> Command {
        let device = device.clone();
        match self {
            Ask::TwinGet { .. } => Command::Twin(TwinCommand::DeviceGet { device }),
            Ask::TwinPatch { body, base, .. } => Command::Twin(TwinCommand::PatchReported {
                device,
                body: body.clone(),
                base: *base,
            }),
            Ask::Subscribe { filters, .. } => Command::Session(SessionCommand::Subscribe {
                device,
                filters: filters.clone(),
            }),
            Ask::Unsubscribe { filters, .. } => Command::Session(SessionCommand::Unsubscribe {
                device,
                filters: filters.clone(),
            }),
            Ask::Lock { max } => Command::C2d(C2dCommand::Lock {
                device,
                max: *max,
                owner: LockOwner::Connection(connection),
                lock_ms: limits::C2D_LOCK_MS,
            }),
            Ask::Complete { lock_token } => Command::C2d(C2dCommand::Complete {
                device,
                lock_token: lock_token.clone(),
            }),
            Ask::Reject { lock_token } => Command::C2d(C2dCommand::Reject {
                device,
                lock_token: lock_token.clone(),
            }),
        }
    }
}
