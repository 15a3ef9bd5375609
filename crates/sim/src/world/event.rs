//! What can happen next in the simulated world.

use super::gather::Gathered;
use super::trouble::Trouble;
use crate::history::{OpId, RegionId};
use control::State;
use region::engine::{Answer, Input, Message, Output, Refusal};
use region::peer::{Call, Facts};
use std::sync::Arc;
use types::{Epoch, HubId, PartitionKey, RegionName, Sequence};

/// How an engine's asker is found again.
pub type Ticket = u64;
pub type CallId = u64;
/// A member of the control plane: a region by its number, or the witness.
pub type Node = usize;
/// Counts a member's processes: what was meant for a former one is dropped.
pub type Life = u64;

/// Something that happens at a moment of true time.
pub enum Happening {
    Turn {
        region: RegionId,
        life: Life,
    },
    /// A turn's commit is on disk: its outputs may leave.
    Perform {
        region: RegionId,
        life: Life,
        outputs: Vec<Output<Ticket>>,
    },
    Tick {
        region: RegionId,
        life: Life,
    },
    Arrive {
        to: RegionId,
        link: u64,
        wire: Wire,
    },
    /// A region notices that its link broke or came up.
    LinkNoticed {
        region: RegionId,
        link: u64,
        up: bool,
    },
    LinkMade,
    CallTimedOut {
        node: Node,
        life: Life,
        call: CallId,
    },
    GatherTimedOut {
        node: Node,
        life: Life,
        gather: u64,
    },
    LookAgain {
        region: RegionId,
        life: Life,
        op: OpId,
    },
    ParkingEnds {
        region: RegionId,
        life: Life,
        op: OpId,
    },
    Coordinate {
        node: Node,
        life: Life,
    },
    /// The coordinator has slept, or its call is over.
    DriverWakes {
        node: Node,
        life: Life,
        token: u64,
    },
    Submitted {
        from: Submitter,
        command: Box<control::Command>,
        deadline: i64,
        id: String,
    },
    PlaneAnswers {
        to: Submitter,
        answer: Option<Box<control::Answer>>,
        index: u64,
    },
    View {
        node: Node,
        life: Life,
        index: u64,
        state: Arc<State>,
    },
    /// A question for the read barrier has reached the leader's place.
    BarrierAsked {
        node: Node,
        life: Life,
        deadline: i64,
        then: AfterBarrier,
    },
    /// The leader's answer is back.
    BarrierAnswered {
        node: Node,
        life: Life,
        deadline: i64,
        index: u64,
        then: AfterBarrier,
    },
    /// A region renews its lease.
    Renew {
        region: RegionId,
        life: Life,
    },
    /// A pause is over.
    Awake {
        node: Node,
    },
    /// A link has been silent for long.
    Silence {
        region: RegionId,
    },
    ClientGivesUp {
        region: RegionId,
        op: OpId,
    },
    Elect,
    /// A member hears who leads.
    Believe {
        node: Node,
        leader: Node,
    },
    WatchFences {
        region: RegionId,
        life: Life,
    },
    Start {
        node: Node,
    },
    Client {
        client: usize,
    },
    Operator,
    /// The operator is told that the primary is lost.
    Force,
    /// An enumerated run goes on, and what it enumerates happens.
    Script,
    ScriptStrikes,
    Cancel {
        operation: String,
    },
    Trouble(Trouble),
    Mend(Mend),
    Phase,
}

impl Happening {
    /// The member whose process it needs; what a commit gave out has left when it is due.
    pub fn node(&self) -> Option<Node> {
        match self {
            Happening::Turn { region, .. }
            | Happening::Tick { region, .. }
            | Happening::LookAgain { region, .. }
            | Happening::ParkingEnds { region, .. }
            | Happening::LinkNoticed { region, .. }
            | Happening::WatchFences { region, .. }
            | Happening::Renew { region, .. } => Some(*region),
            Happening::Arrive { to, .. } => Some(*to),
            Happening::CallTimedOut { node, .. }
            | Happening::GatherTimedOut { node, .. }
            | Happening::Coordinate { node, .. }
            | Happening::DriverWakes { node, .. }
            | Happening::View { node, .. }
            | Happening::BarrierAnswered { node, .. }
            | Happening::Believe { node, .. } => Some(*node),
            Happening::PlaneAnswers { to, .. } => Some(to.node().0),
            _ => None,
        }
    }

    /// A number for the trace.
    pub fn kind(&self) -> u8 {
        match self {
            Happening::Turn { .. } => 1,
            Happening::Perform { .. } => 2,
            Happening::Tick { .. } => 3,
            Happening::Arrive { wire, .. } => 4 + wire.kind(),
            Happening::LinkNoticed { .. } => 10,
            Happening::LinkMade => 11,
            Happening::CallTimedOut { .. } => 12,
            Happening::GatherTimedOut { .. } => 13,
            Happening::LookAgain { .. } => 14,
            Happening::ParkingEnds { .. } => 15,
            Happening::Coordinate { .. } => 16,
            Happening::DriverWakes { .. } => 17,
            Happening::Submitted { .. } => 18,
            Happening::PlaneAnswers { .. } => 19,
            Happening::View { .. } => 20,
            Happening::BarrierAsked { .. } => 21,
            Happening::BarrierAnswered { .. } => 32,
            Happening::Renew { .. } => 33,
            Happening::Awake { .. } => 36,
            Happening::Silence { .. } => 37,
            Happening::Force => 39,
            Happening::Script => 40,
            Happening::ScriptStrikes => 41,
            Happening::ClientGivesUp { .. } => 38,
            Happening::Elect => 22,
            Happening::Believe { .. } => 23,
            Happening::WatchFences { .. } => 24,
            Happening::Start { .. } => 25,
            Happening::Client { .. } => 26,
            Happening::Operator => 27,
            Happening::Cancel { .. } => 28,
            Happening::Trouble(_) => 29,
            Happening::Mend(_) => 30,
            Happening::Phase => 31,
        }
    }
}

/// What is put right again after a while.
#[derive(Clone, Copy, Debug)]
pub enum Mend {
    Disk(RegionId),
    /// Members may reach each other again.
    Reach,
    SlowDisk(RegionId),
    Link,
}

/// Who waits for the control plane's answer.
#[derive(Clone, Debug)]
pub enum Submitter {
    Driver {
        node: Node,
        life: Life,
        token: u64,
    },
    Operator {
        node: Node,
        life: Life,
        operation: String,
    },
    Nobody {
        node: Node,
        life: Life,
    },
}

impl Submitter {
    pub fn node(&self) -> (Node, Life) {
        match self {
            Submitter::Driver { node, life, .. }
            | Submitter::Operator { node, life, .. }
            | Submitter::Nobody { node, life } => (*node, *life),
        }
    }
}

/// What a region does once it has read the control plane.
pub enum AfterBarrier {
    /// Its lease goes on from when it was asked for, on its monotonic clock.
    Renewed {
        asked: u64,
    },
    /// It obeys a fence, if that still stands.
    Fence {
        asker: Asker,
        hub: HubId,
        epoch: Epoch,
        operation: String,
    },
    /// It lifts a fence, if the roll-back is under way.
    Unfence {
        asker: Asker,
        hub: HubId,
        epoch: Epoch,
        operation: String,
    },
    LiftFences,
}

/// What is announced to both regions when a step succeeds; `forced`: the epoch began by force.
#[derive(Clone, Copy, Debug)]
pub struct Announce {
    pub hub: HubId,
    pub epoch: Epoch,
    pub forced: bool,
}

/// Who waits for an engine's answer.
#[derive(Clone, Debug)]
pub enum Asker {
    /// A request of this region's own gateway.
    Gateway(OpId),
    /// A call of the other region; `op`: the client's question behind it.
    Remote {
        call: CallId,
        link: u64,
        op: Option<OpId>,
        announce: Option<Announce>,
    },
    /// This region's own coordinator asked this region.
    Step {
        call: CallId,
        announce: Option<Announce>,
    },
    Facts {
        to: FactsFor,
    },
    Fences {
        hub: HubId,
        epoch: Epoch,
    },
    Lift {
        hub: HubId,
        epoch: Epoch,
    },
    Nobody,
}

/// Who wants a region's facts.
#[derive(Clone, Debug)]
pub enum FactsFor {
    Gather { gather: u64, slot: usize },
    Remote { call: CallId, link: u64 },
}

/// What travels on a link.
pub enum Wire {
    Engine(Message),
    Call {
        call: CallId,
        op: Option<OpId>,
        body: Asking,
    },
    Return {
        call: CallId,
        body: Returned,
    },
    Route {
        hub: HubId,
        epoch: Epoch,
        primary: RegionName,
        forced: bool,
    },
}

impl Wire {
    fn kind(&self) -> u8 {
        match self {
            Wire::Engine(_) => 0,
            Wire::Call { .. } => 1,
            Wire::Return { .. } => 2,
            Wire::Route { .. } => 3,
        }
    }
}

/// The body of a call: one of the regions' own, or a read of events (whose real form needs the asynchronous runtime).
pub enum Asking {
    Call(Box<Call>),
    Read {
        at: PartitionKey,
        from: Option<Sequence>,
    },
}

pub enum Returned {
    Engine(Result<Answer, Refusal>),
    Events(Result<super::reading::Page, String>),
    Facts(Box<Facts>),
}

/// What a region waits for with a call.
pub enum Waiting {
    Gateway(OpId),
    Step { token: u64, local: bool },
    Facts { gather: u64, slot: usize },
}

/// What to do with facts once they are gathered.
pub struct Gathering {
    pub asked: types::UnixMillis,
    pub found: Vec<Option<Option<Facts>>>,
    pub then: Gathered,
}

pub type EngineInput = Input<Ticket>;
