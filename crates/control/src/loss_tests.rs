use super::*;
use crate::testing::*;
use types::{Epoch, HubId};

fn facts(ahead: u64) -> RegionFacts {
    let state = active_hub();
    bereft(state.hub(HubId(1)).unwrap(), &region("east"), ahead)
}

fn of(facts: &RegionFacts) -> LossEstimate {
    estimate(facts, &facts.words_heard(), 4, Epoch(1), UnixMillis(20_000))
}

#[test]
fn the_loss_is_what_the_last_words_name_and_the_secondary_has_not() {
    let loss = of(&facts(3));
    assert_eq!((loss.records, loss.bytes, loss.events), (3, 300, 3));
    assert_eq!((loss.devices, loss.devices_cut), (1, false));
    assert_eq!(
        loss.kinds,
        [("t".into(), 1), ("telemetry".into(), 3)].into()
    );
    // From the oldest that was not confirmed, at 9.5 s, to the last, at 12 s.
    assert_eq!(
        (loss.span_ms, loss.age_ms, loss.worst_ms),
        (2_500, 400, 2_500 + 5_100 + 1_000)
    );
    assert_eq!(loss.partitions.len(), 4);
    assert_eq!(
        loss.partitions[0],
        PartitionLoss {
            partition: PartitionId(0),
            known_lsn: Lsn(13),
            have_lsn: Lsn(10),
            records: 3
        }
    );
    assert!(loss.unknown.is_empty());
}

#[test]
fn a_secondary_that_has_everything_loses_nothing_known() {
    let mut all = facts(3);
    all.partitions[0].lsn = Lsn(13);
    let mut more = facts(3);
    more.partitions[0].lsn = Lsn(99);
    for loss in [of(&facts(0)), of(&all), of(&more)] {
        assert_eq!((loss.records, loss.span_ms, loss.bytes), (0, 0, 0));
        assert!(loss.kinds.is_empty());
        assert_eq!(AcceptedLoss::default().covers(&loss), Ok(()));
    }
}

#[test]
fn after_the_last_word_no_more_than_a_lease_can_be_acknowledged() {
    let mut old = facts(3);
    for p in &mut old.partitions {
        p.word.as_mut().unwrap().1 = 3_600_000;
    }
    let loss = of(&old);
    assert_eq!(loss.age_ms, 3_600_000);
    assert_eq!(loss.worst_ms, 2_500 + 5_100 + 1_000);
}

#[test]
fn what_no_word_of_this_epoch_names_is_unknown() {
    let mut silent = facts(3);
    silent.partitions[1].word = None;
    silent.partitions[2].word.as_mut().unwrap().0.epoch = Epoch(0);
    silent.partitions.remove(3);
    let loss = of(&silent);
    assert_eq!(loss.unknown, [1, 2, 3].map(PartitionId));
    assert_eq!(loss.records, 3);
    let most = AcceptedLoss {
        span_ms: Some(i64::MAX),
        records: Some(u64::MAX),
        all: false,
    };
    assert!(
        most.covers(&loss)
            .unwrap_err()
            .contains("partitions 1, 2, 3")
    );
    assert_eq!(ALL.covers(&loss), Ok(()));
}

#[test]
fn every_bound_that_is_given_holds() {
    let loss = of(&facts(3));
    let with = |span_ms, records| AcceptedLoss {
        span_ms,
        records,
        all: false,
    };
    for (bound, fits) in [
        (with(None, None), false),
        (with(Some(2_500), None), true),
        (with(Some(2_499), None), false),
        (with(None, Some(3)), true),
        (with(None, Some(2)), false),
        (with(Some(2_500), Some(3)), true),
        (with(Some(9_999), Some(2)), false),
        (with(Some(9), Some(99)), false),
    ] {
        assert_eq!(bound.covers(&loss).is_ok(), fits, "{bound:?}");
        assert!(!bound.text().is_empty());
    }
}

#[test]
fn of_several_words_the_latest_counts() {
    let at = PartitionId(0);
    let one = |epoch: u64, ahead, age| Words::from([(at, (word(Epoch(epoch), ahead), age))]);
    let best = |sources: Vec<Words>| {
        let (word, age) = latest(sources).remove(&at).unwrap();
        (word.epoch.0, word.lsn.0, age)
    };
    assert_eq!(best(vec![one(1, 3, 5), one(1, 4, 9)]), (1, 14, 9));
    assert_eq!(best(vec![one(1, 4, 9), one(1, 3, 5)]), (1, 14, 9));
    assert_eq!(best(vec![one(1, 4, 9), one(1, 4, 5)]), (1, 14, 5));
    assert_eq!(best(vec![one(2, 0, 9), one(1, 4, 5)]), (2, 10, 9));
    assert!(latest([]).is_empty());
}

#[test]
fn sums_do_not_overflow() {
    let mut huge = facts(3);
    for p in &mut huge.partitions {
        let (word, age) = p.word.as_mut().unwrap();
        (word.lsn, word.time) = (Lsn(u64::MAX), UnixMillis(i64::MAX));
        (word.tail.bytes, word.tail.devices) = (u64::MAX, u64::MAX);
        word.tail.kinds = [("telemetry".to_owned(), u64::MAX)].into();
        *age = i64::MAX;
    }
    let loss = of(&huge);
    assert_eq!((loss.records, loss.events), (u64::MAX, u64::MAX));
}

#[test]
fn a_ledger_with_gaps_does_not_shorten_the_span() {
    let mut cut = facts(3);
    for p in &mut cut.partitions {
        let (word, _) = p.word.as_mut().unwrap();
        word.tail.devices_cut = true;
    }
    let whole = of(&facts(3)).span_ms;
    assert!(of(&cut).span_ms > whole, "{} {whole}", of(&cut).span_ms);
}
