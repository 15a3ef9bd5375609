//! Messages between members: a version byte, then JSON (docs/formats/consensus.md).

use crate::command::Types;
use bytes::Bytes;
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// What one member asks another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<Types>),
}

/// The answer to the [`Request`] of the same name.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Response {
    Append(Result<AppendEntriesResponse<u64>, RaftError<u64>>),
    Vote(Result<VoteResponse<u64>, RaftError<u64>>),
    Snapshot(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
}

pub(crate) fn encode<M: Serialize>(message: &M) -> Bytes {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, message)
        .expect("messages of texts, numbers and number keys always serialise");
    bytes.into()
}

/// # Errors
/// When the bytes are no message of a known version.
pub(crate) fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, String> {
    match bytes.split_first() {
        Some((&VERSION, json)) => serde_json::from_slice(json)
            .map_err(|e| format!("a consensus message is malformed: {e}")),
        Some((version, _)) => Err(format!(
            "a consensus message has the unknown version {version}"
        )),
        None => Err("a consensus message is empty".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::Vote;

    #[test]
    fn messages_are_read_back_and_others_refused() {
        let bytes = encode(&Request::Vote(VoteRequest::new(Vote::new(1, 2), None)));
        assert!(
            matches!(decode::<Request>(&bytes), Ok(Request::Vote(request)) if request.vote == Vote::new(1, 2))
        );
        let append = b"\x01{\"append\":{\"vote\":{\"leader_id\":{\"term\":3,\"node_id\":2},\"committed\":true},\"prev_log_id\":null,\"entries\":[],\"leader_commit\":null}}";
        let request = decode::<Request>(append).unwrap();
        assert_eq!(
            &encode(&request)[..],
            append,
            "version 1 is written as ever"
        );
        for bad in [
            &b""[..],
            b"\x02{}",
            b"\x01",
            b"\x01{}",
            b"\x01{\"vote\":1}",
            b"\x01\xff",
        ] {
            assert!(decode::<Request>(bad).is_err(), "{bad:?}");
        }
    }
}
