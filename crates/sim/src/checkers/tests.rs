//! Every checker catches the fault it is there for, and says nothing about a world without faults.

use super::check;
use crate::cases::{Case, Lost, Moment, Plot, What, Who};
use crate::{Fault, Plan, run};
use std::ops::RangeInclusive;

/// Runs plans with the fault until one shows it.
fn check_plans(fault: Fault, invariant: &str, plans: impl Iterator<Item = Plan>) {
    let mut plans = plans.map(|plan| Plan {
        fault: Some(fault),
        ..plan
    });
    let caught = plans.find(|plan| {
        let violations = check(&run(*plan).history);
        violations.iter().any(|v| v.invariant == invariant)
    });
    assert!(
        caught.is_some(),
        "{fault:?} breaks {invariant}, and no run shows it"
    );
}

fn check_caught(fault: Fault, invariant: &str) {
    check_seeds(fault, invariant, 1..=300);
}

fn check_seeds(fault: Fault, invariant: &str, seeds: RangeInclusive<u64>) {
    let seeds = seeds.map(|seed| Plan {
        seed,
        ..Plan::default()
    });
    check_plans(fault, invariant, seeds);
}

/// In runs in which copies are taken all the time.
fn check_copies(fault: Fault, invariant: &str) {
    let seeds = (1..=300).map(|seed| Plan {
        seed,
        copies: true,
        ..Plan::default()
    });
    check_plans(fault, invariant, seeds);
}

/// In an enumerated run in which nothing goes wrong but the plot.
fn check_plot(fault: Fault, invariant: &str, plot: Plot, step: &'static str) {
    let case = Case {
        plot,
        step,
        moment: Moment::End,
        who: Who::Operator,
        what: What::ShortPause,
    };
    let seeds = (1..=40).map(|seed| Plan {
        seed,
        case: Some(case),
        ..Plan::default()
    });
    check_plans(fault, invariant, seeds);
}

#[test]
fn worlds_without_faults_break_nothing() {
    for seed in 1..=2 {
        let plan = Plan {
            seed,
            ..Plan::default()
        };
        assert_eq!(check(&run(plan).history), [], "seed {seed}");
    }
    for case in crate::cases::all().into_iter().step_by(800) {
        let plan = Plan {
            case: Some(case),
            ..Plan::default()
        };
        assert_eq!(check(&run(plan).history), [], "{case}");
    }
}

#[test]
fn a_run_is_the_same_each_time() {
    let hash = |seed| {
        run(Plan {
            seed,
            ..Plan::default()
        })
        .trace_hash
    };
    assert_eq!(hash(2), hash(2));
    assert_ne!(hash(2), hash(3));
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
fn a_lease_that_never_lapses_is_caught() {
    check_plot(Fault::IgnoreLease, "I1", Plot::Forced(Lost::Cut), "lease");
}

#[test]
fn a_wait_that_is_shorter_than_the_lease_is_caught() {
    check_plot(Fault::ShortWait, "I1", Plot::Forced(Lost::Cut), "lease");
}

#[test]
fn a_primary_that_does_not_hear_that_it_is_suspended_is_caught() {
    let plot = Plot::Forced(Lost::HalfAlive);
    check_plot(Fault::IgnoreSuspended, "I1", plot, "lease");
}

#[test]
fn opening_without_catching_up_is_caught() {
    check_caught(Fault::OpenWithoutCatchUp, "I2");
}

#[test]
fn a_record_dropped_while_copying_is_caught() {
    check_copies(Fault::DropRecordWhileCopying, "I2");
}

#[test]
fn a_doubled_event_is_caught() {
    check_caught(Fault::DoubleEvent, "I2");
}

#[test]
fn a_salvage_that_misses_a_record_is_caught() {
    check_plot(Fault::SalvageMisses, "I3", Plot::Return, "returned");
}

#[test]
fn a_loss_that_was_not_shown_is_caught() {
    check_plot(Fault::LossHidden, "I3", Plot::Return, "returned");
}

#[test]
fn a_report_that_lies_is_caught() {
    check_plot(Fault::ReportLies, "I3", Plot::Return, "returned");
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
fn a_consumer_that_goes_on_past_a_divergence_is_caught() {
    // A consumer that read far enough, and lives long enough to miss something.
    check_seeds(Fault::SkipRewind, "I4", 40..=160);
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
fn a_return_that_keeps_a_lost_change_is_caught() {
    check_plot(Fault::KeepDivergedKey, "I7", Plot::Return, "returned");
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
