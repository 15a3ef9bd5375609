//! The caller's [`Transport`] as openraft wants it.

use crate::command::Types;
use crate::message::{self, Request, Response};
use crate::{NodeId, Transport};
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode};
use std::sync::Arc;
use std::time::Duration;

/// How soon a member that could not be reached is tried again.
const RETRY: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub(crate) struct Network(pub Arc<dyn Transport>);

/// The way to one member.
pub(crate) struct Peer {
    to: NodeId,
    transport: Arc<dyn Transport>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, to: NodeId, _: &EmptyNode) -> Peer {
        Peer {
            to,
            transport: self.0.clone(),
        }
    }
}

impl Peer {
    async fn call<E: std::error::Error>(
        &self,
        request: Request,
    ) -> Result<Response, RPCError<u64, EmptyNode, E>> {
        let body = message::encode(&request);
        let answer = self.transport.call(self.to, body).await;
        let answer =
            answer.map_err(|why| RPCError::Unreachable(Unreachable::new(&AnyError::error(why))))?;
        message::decode(&answer).map_err(not_understood)
    }

    #[expect(
        clippy::result_large_err,
        reason = "the error is the library's, and its trait wants it unboxed"
    )]
    fn remote<T, E: std::error::Error>(
        &self,
        result: Result<T, E>,
    ) -> Result<T, RPCError<u64, EmptyNode, E>> {
        result.map_err(|e| RPCError::RemoteError(RemoteError::new(self.to, e)))
    }
}

fn not_understood<E: std::error::Error>(why: String) -> RPCError<u64, EmptyNode, E> {
    RPCError::Network(NetworkError::new(&AnyError::error(why)))
}

fn another_answer<E: std::error::Error>() -> RPCError<u64, EmptyNode, E> {
    not_understood("the answer belongs to another kind of message".into())
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        match self.call(Request::Append(request)).await? {
            Response::Append(result) => self.remote(result),
            _ => Err(another_answer()),
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<u64>,
        RPCError<u64, EmptyNode, RaftError<u64, InstallSnapshotError>>,
    > {
        match self.call(Request::Snapshot(request)).await? {
            Response::Snapshot(result) => self.remote(result),
            _ => Err(another_answer()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        match self.call(Request::Vote(request)).await? {
            Response::Vote(result) => self.remote(result),
            _ => Err(another_answer()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}
