//! Every checker catches the fault it is there for, and says nothing about a world without faults.

use super::check;
use crate::{Fault, simulate};

/// Runs seeds until one shows the fault.
fn check_caught(fault: Fault, invariant: &str) {
    let caught = (1..=300).find(|seed| {
        check(&simulate(*seed, Some(fault), false).history)
            .iter()
            .any(|v| v.invariant == invariant)
    });
    assert!(
        caught.is_some(),
        "{fault:?} breaks {invariant}, and no seed shows it"
    );
}

#[test]
fn an_acknowledgement_before_the_commit_is_caught() {
    check_caught(Fault::AcknowledgeBeforeCommit, "I2");
}

#[test]
fn two_active_regions_are_caught() {
    check_caught(Fault::SkipFence, "I1");
}

#[test]
fn opening_without_catching_up_is_caught() {
    check_caught(Fault::OpenWithoutCatchUp, "I2");
}

#[test]
fn a_record_dropped_while_copying_is_caught() {
    check_caught(Fault::DropRecordWhileCopying, "I2");
}

#[test]
fn a_doubled_event_is_caught() {
    check_caught(Fault::DoubleEvent, "I2");
}

#[test]
fn an_old_twin_is_caught() {
    check_caught(Fault::OldTwin, "I5");
}

#[test]
fn a_consumer_that_skips_is_caught() {
    check_caught(Fault::ResetConsumer, "I4");
}

#[test]
fn a_renamed_event_is_caught() {
    check_caught(Fault::RenameEvent, "I4");
}

#[test]
fn a_message_after_its_expiry_is_caught() {
    check_caught(Fault::DeliverExpired, "I6");
}

#[test]
fn a_message_after_its_completion_is_caught() {
    check_caught(Fault::DeliverCompleted, "I6");
}

#[test]
fn a_message_that_is_never_delivered_is_caught() {
    check_caught(Fault::HideMessage, "I6");
}

#[test]
fn regions_that_differ_are_caught() {
    check_caught(Fault::ChangeState, "I7");
}

#[test]
fn a_failover_that_never_ends_is_caught() {
    check_caught(Fault::NeverFinish, "I8");
}

#[test]
fn a_roll_back_that_never_ends_is_caught() {
    check_caught(Fault::NeverUnfence, "I8");
}

#[test]
fn a_dry_run_that_lies_is_caught() {
    check_caught(Fault::DryRunLies, "I9");
}
