//! Failover in the public service's words and in ours (docs/formats/failovers-api.md).

use super::*;
use crate::{approvals, plans};
use crate::{drills, failover, failovers, forced, salvage};

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    act("POST", hub!("/failover"), "IotHub_ManualFailover", "Microsoft.Devices/IotHubs/failover/action", |call| Box::pin(failover::start(call))),
    read("GET", hub!("/providers/Castling.Failover/failovers"), "Failovers_List", "Castling.Failover/failovers/read", failovers::list),
    read("GET", hub!("/providers/Castling.Failover/failovers/{failover}"), "Failovers_Get", "Castling.Failover/failovers/read", failovers::get),
    read("GET", hub!("/providers/Castling.Failover/failovers/{failover}/report"), "Failovers_GetReport", "Castling.Failover/failovers/report/read", failovers::report),
    act("POST", hub!("/providers/Castling.Failover/failovers/{failover}/cancel"), "Failovers_Cancel", "Castling.Failover/failovers/cancel/action", |call| Box::pin(failovers::cancel(call))),
    act("POST", hub!("/providers/Castling.Failover/failovers"), "Failovers_StartForced", "Castling.Failover/failovers/force/action", |call| Box::pin(forced::start(call))),
    act("POST", hub!("/providers/Castling.Failover/check"), "Failovers_Check", "Castling.Failover/check/action", |call| Box::pin(failovers::check(call))),
    act("GET", hub!("/providers/Castling.Failover/salvage"), "Salvage_List", "Castling.Failover/salvage/read", |call| Box::pin(salvage::list(call))),
    act("GET", hub!("/providers/Castling.Failover/salvage/{salvage}"), "Salvage_Get", "Castling.Failover/salvage/read", |call| Box::pin(salvage::get(call))),
    act("POST", hub!("/providers/Castling.Failover/salvage/{salvage}/replay"), "Salvage_Replay", "Castling.Failover/salvage/replay/action", |call| Box::pin(salvage::replay(call))),
    act("DELETE", hub!("/providers/Castling.Failover/salvage/{salvage}"), "Salvage_Discard", "Castling.Failover/salvage/delete", |call| Box::pin(salvage::discard(call))),
    act("POST", hub!("/providers/Castling.Failover/drills"), "Drills_Start", "Castling.Failover/drills/write", |call| Box::pin(drills::start(call))),
    read("GET", hub!("/providers/Castling.Failover/drills"), "Drills_List", "Castling.Failover/drills/read", drills::list),
    read("GET", hub!("/providers/Castling.Failover/drills/{drill}"), "Drills_Get", "Castling.Failover/drills/read", drills::get),
    read("GET", hub!("/providers/Castling.Failover/drills/{drill}/report"), "Drills_GetReport", "Castling.Failover/drills/report/read", drills::report),
    read("GET", hub!("/providers/Castling.Failover/approvals"), "Approvals_List", "Castling.Failover/approvals/read", approvals::list),
    read("GET", hub!("/providers/Castling.Failover/approvals/{approval}"), "Approvals_Get", "Castling.Failover/approvals/read", approvals::get),
    act("POST", hub!("/providers/Castling.Failover/approvals/{approval}/approve"), "Approvals_Approve", "Castling.Failover/approvals/decide/action", |call| Box::pin(approvals::decide(call, true))),
    act("POST", hub!("/providers/Castling.Failover/approvals/{approval}/deny"), "Approvals_Deny", "Castling.Failover/approvals/decide/action", |call| Box::pin(approvals::decide(call, false))),
    act("POST", subscription!("/providers/Castling.Failover/plans"), "Plans_Start", "Castling.Failover/plans/write", |call| Box::pin(plans::start(call))),
    read("GET", subscription!("/providers/Castling.Failover/plans"), "Plans_List", "Castling.Failover/plans/read", plans::list),
    read("GET", subscription!("/providers/Castling.Failover/plans/{plan}"), "Plans_Get", "Castling.Failover/plans/read", plans::get),
    act("POST", subscription!("/providers/Castling.Failover/plans/{plan}/cancel"), "Plans_Cancel", "Castling.Failover/plans/cancel/action", |call| Box::pin(plans::cancel(call))),
];
