//! Failover, in the public service's words and in ours (docs/formats/failovers-api.md).

use super::Body::{List, Nothing, Null, Of};
use super::*;

#[rustfmt::skip]
pub static DOCUMENTS: &[Document] = &[
    send("IotHub_ManualFailover", "Starts a planned failover to the hub's secondary region. Safe to repeat.", Of("FailoverRequest"), &[(202, Null, "Begun: `Azure-AsyncOperation` and `Location` say where to ask.")]),
    ask("Failovers_List", "Lists a hub's failovers, the latest first, and whether the next one is allowed now.", &[(200, Of("FailoverList"), "Failovers.")]),
    ask("Failovers_Get", "Gets a failover with its steps.", &[(200, Of("Failover"), "The failover.")]),
    ask("Failovers_GetReport", "Gets the report of a failover that has ended.", &[(200, Of("Anything"), "The report; a page for those who ask for HTML.")]),
    ask("Failovers_Cancel", "Asks for a roll-back.", &[(202, Of("Failover"), "It was asked for.")]),
    send("Failovers_StartForced", "Starts a forced failover, with the loss that is accepted.", Of("ForcedRequest"), &[(202, Of("Failover"), "Begun.")]),
    may_send("Failovers_Check", "Tells what a failover asked for now would find. Changes nothing.", Of("CheckRequest"), &[(200, Of("CheckReport"), "The checks.")]),
    ask("Salvage_List", "Lists what the hub's regions set aside after forced failovers.", &[(200, List("Salvage"), "Segments.")]),
    with_query(&["from"], ask("Salvage_Get", "Gets a segment with a page of what is in it.", &[(200, Of("Salvage"), "The segment.")])),
    ask("Salvage_Replay", "Appends a segment's events to the hub as late ones. Safe to repeat.", &[(200, Of("Replayed"), "What was done.")]),
    with_query(&["confirm"], may_send("Salvage_Discard", "Deletes a segment for good.", Of("ConfirmRequest"), &[(204, Nothing, "Deleted.")])),
    may_send("Drills_Start", "Starts a drill: a planned failover and failback.", Of("DrillRequest"), &[(202, Of("Drill"), "Begun.")]),
    ask("Drills_List", "Lists a hub's drills, the latest first.", &[(200, List("Drill"), "Drills.")]),
    ask("Drills_Get", "Gets a drill.", &[(200, Of("Drill"), "The drill.")]),
    ask("Drills_GetReport", "Gets the report of a drill that has ended.", &[(200, Of("Anything"), "The report; a page for those who ask for HTML.")]),
    send("Plans_Start", "Starts planned failovers of many hubs, so many at a time.", Of("PlanRequest"), &[(202, Of("Plan"), "Begun.")]),
    ask("Plans_List", "Lists a subscription's plans, the latest first.", &[(200, List("Plan"), "Plans.")]),
    ask("Plans_Get", "Gets a plan with what became of each hub.", &[(200, Of("Plan"), "The plan.")]),
    ask("Plans_Cancel", "Begins no further failover of a plan.", &[(202, Of("Plan"), "The plan.")]),
];
