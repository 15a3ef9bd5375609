//! Faults put into the simulated world on purpose, to show that each checker catches what it is there for.
//!
//! They sit in the world around the code under test, never in that code.

/// One way in which the world misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// A region acknowledges telemetry before its commit and crashes (I2).
    AcknowledgeBeforeCommit,
    /// The coordinator records a fence that it never asked for (I1).
    SkipFence,
    /// The coordinator neither waits for the follower nor has it catch up (I2).
    OpenWithoutCatchUp,
    /// The oldest records of a copied log are dropped on the way, up to the first one with events (I2).
    DropRecordWhileCopying,
    /// A gateway sends telemetry twice (I2).
    DoubleEvent,
    /// A region's answers about twins are old ones (I5).
    OldTwin,
    /// A consumer is put to the end of the log (I4).
    ResetConsumer,
    /// One log names another event under a sequence number (I4).
    RenameEvent,
    /// Messages are delivered again after they expired (I6).
    DeliverExpired,
    /// Messages are delivered again after they were completed (I6).
    DeliverCompleted,
    /// A message that waits is not handed out (I6).
    HideMessage,
    /// A state entry of one region changes behind its back (I7).
    ChangeState,
    /// The coordinator stops after the commit (I8).
    NeverFinish,
    /// A rolled back hub is never opened again (I8).
    NeverUnfence,
    /// The dry run says the opposite of what it found (I9).
    DryRunLies,
    /// A gateway lets consumers go on past a divergence (I4).
    SkipRewind,
    /// A region's clock stands still for its engine: its lease never lapses (I1).
    IgnoreLease,
    /// A region's engine is not told that a forced failover waits for its lease (I1).
    IgnoreSuspended,
    /// A region that returns keeps an entry that its lost records changed (I7).
    KeepDivergedKey,
    /// A salvage lacks its first record (I3).
    SalvageMisses,
    /// The operator of a forced failover is shown that nothing will be lost (I3).
    LossHidden,
    /// The report of a forced failover names one record too few (I3).
    ReportLies,
    /// The coordinator does not wait for the old primary's lease (I1).
    ShortWait,
}
