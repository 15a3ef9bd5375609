//! Cutting logs, and what was set aside before.

use super::{
    Opener, assert_invalid, assert_trimmed, bounds, commit_of, lsns, partition, record, set, state,
    write,
};
use crate::{PartitionCommit, Salvage, Store};
use bytes::Bytes;
use types::{Epoch, Lsn, Sequence, UnixMillis};

/// Ten records of two events, a minute apart; odd ones besides 1 have none.
fn fill(store: &dyn Store, number: u16) {
    let mut sequence = 0;
    for lsn in 1..=10 {
        let events = if lsn == 1 || lsn % 2 == 0 { 2 } else { 0 };
        let record = record(lsn, sequence, events, lsn as i64 * 60_000);
        write(store, partition(number), vec![record]);
        sequence += u64::from(events);
    }
}

fn cut(after: u64) -> PartitionCommit {
    PartitionCommit {
        head: Some(Bytes::from(format!("head {after}"))),
        truncate_after: Some(Lsn(after)),
        ..PartitionCommit::default()
    }
}

fn aside(store: &dyn Store, number: u16, after: u64, epoch: u64) -> Option<Salvage> {
    let (after, epoch) = (Lsn(after), Epoch(epoch));
    store
        .set_aside(partition(number), after, epoch, UnixMillis(77))
        .expect("the records are there")
}

/// Lsns of a salvage from `from` on; each record is as [`record`] made it.
fn aside_lsns(store: &dyn Store, id: &str, from: u64, page_bytes: usize) -> Vec<u64> {
    let mut next = Lsn(from);
    let mut all = Vec::new();
    loop {
        let page = store
            .read_salvage(id, next, page_bytes)
            .expect("the salvage is readable");
        let Some(last) = page.last() else { return all };
        next = last.lsn.next();
        for found in page {
            assert_eq!(found.bytes, record(found.lsn.0, 0, 0, 0).bytes);
            all.push(found.lsn.0);
        }
    }
}

pub fn a_cut_log_ends_there_and_goes_on_with_other_records(open: Opener) {
    let store = open();
    fill(&*store, 1);
    fill(&*store, 2);
    let key = partition(1);
    let mut commit = cut(5);
    commit.state = vec![set("k", "v")];
    store.commit(vec![(key, commit)]).expect("cut");
    let check = |store: &dyn Store| {
        assert_eq!(bounds(store, key), Some((1, 0, 5)));
        assert_eq!(lsns(store, key, 1, 1), [1, 2, 3, 4, 5]);
        assert_eq!(store.read_log(key, Lsn(6), 100), Ok(vec![]));
        assert_eq!(store.head(key), Ok(Some(Bytes::from("head 5"))));
        assert_eq!(store.get(key, b"k"), Ok(Some(Bytes::from("v"))));
        assert_eq!(store.find_sequence(key, Sequence(5)), Ok(Some(Lsn(4))));
        assert_eq!(store.find_sequence(key, Sequence(6)), Ok(None));
        assert_eq!(store.find_time(key, UnixMillis(240_000)), Ok(Some(Lsn(4))));
        assert_eq!(store.find_time(key, UnixMillis(250_000)), Ok(None));
        assert_eq!(bounds(store, partition(2)), Some((1, 0, 10)));
    };
    check(&*store);
    drop(store);
    let store = open();
    check(&*store);
    let follows = |sequence| vec![(key, commit_of(vec![record(6, sequence, 1, 400_000)]))];
    assert_invalid(store.commit(follows(8)), "a sequence number of the cut end");
    store.commit(follows(6)).expect("it goes on from the cut");
    write(&*store, key, vec![record(7, 7, 3, 500_000)]);
    let check = |store: &dyn Store| {
        assert_eq!(lsns(store, key, 1, 1000), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(store.find_sequence(key, Sequence(9)), Ok(Some(Lsn(7))));
        assert_eq!(store.find_time(key, UnixMillis(250_000)), Ok(Some(Lsn(6))));
        assert_eq!(store.find_time(key, UnixMillis(450_000)), Ok(Some(Lsn(7))));
    };
    check(&*store);
    drop(store);
    check(&*open());
}

pub fn a_log_is_cut_anywhere_within_what_it_keeps(open: Opener) {
    let store = open();
    let key = partition(1);
    fill(&*store, 1);
    for after in [10, 9, 4, 1, 0] {
        store.commit(vec![(key, cut(after))]).expect("cut");
        let left = (after > 0).then_some((1, 0, after));
        assert_eq!(bounds(&*store, key), left);
        store
            .commit(vec![(key, cut(after))])
            .expect("once is the same as twice");
        assert_eq!(bounds(&*store, key), left);
    }
    write(&*store, key, vec![record(1, 0, 2, 0)]);
    assert_eq!(lsns(&*store, key, 1, 10), [1]);
    drop(store);
    let store = open();
    assert_eq!(lsns(&*store, key, 1, 10), [1]);
    // A log that begins later keeps its beginning, also when nothing is left.
    let key = partition(2);
    write(
        &*store,
        key,
        vec![record(500, 7, 1, 0), record(501, 8, 1, 0)],
    );
    store.commit(vec![(key, cut(499))]).expect("cut");
    assert_eq!(bounds(&*store, key), None);
    assert_trimmed(store.read_log(key, Lsn(499), 10), key, 500);
    drop(store);
    let store = open();
    assert_eq!(bounds(&*store, key), None);
    write(&*store, key, vec![record(500, 7, 3, 0)]);
    assert_eq!(bounds(&*store, key), Some((500, 7, 500)));
}

pub fn a_cut_that_breaks_the_contract_changes_nothing(open: Opener) {
    let store = open();
    fill(&*store, 1);
    let key = partition(1);
    write(&*store, partition(2), vec![record(500, 0, 0, 0)]);
    assert_invalid(store.commit(vec![(key, cut(11))]), "behind the end");
    let before = store.commit(vec![(partition(2), cut(498))]);
    assert_invalid(before, "before what is kept");
    let mut appends = cut(5);
    appends.records = vec![record(6, 6, 0, 0)];
    assert_invalid(store.commit(vec![(key, appends)]), "cut and append");
    let append = commit_of(vec![record(11, 12, 0, 700_000)]);
    for both in [[append.clone(), cut(5)], [cut(5), append]] {
        let both = both.map(|commit| (key, commit));
        assert_invalid(store.commit(both.to_vec()), "cut and append, apart");
    }
    assert_eq!(bounds(&*store, key), Some((1, 0, 10)));
    assert_eq!(store.head(key), Ok(Some(Bytes::from("head 10"))));
}

pub fn what_is_set_aside_outlives_cutting_clearing_and_restarts(open: Opener) {
    let store = open();
    assert_eq!(store.salvages(), Ok(vec![]));
    fill(&*store, 1);
    fill(&*store, 2);
    let salvage = aside(&*store, 1, 4, 3).expect("there are records");
    let bytes: usize = (5..=10).map(|lsn| record(lsn, 0, 0, 0).bytes.len()).sum();
    let expected = Salvage {
        id: "h1-p1-e3-5".into(),
        at: partition(1),
        epoch: Epoch(3),
        first: Lsn(5),
        last: Lsn(10),
        records: 6,
        events: 6,
        bytes: bytes as u64,
        first_time: UnixMillis(300_000),
        last_time: UnixMillis(600_000),
        made: UnixMillis(77),
    };
    assert_eq!(salvage, expected);
    store
        .commit(vec![(partition(1), cut(4))])
        .expect("cut after it was set aside");
    store.clear(partition(1)).expect("cleared");
    let check = |store: &dyn Store| {
        assert_eq!(store.salvages(), Ok(vec![expected.clone()]));
        for page_bytes in [1, 50, 10_000] {
            let all = aside_lsns(store, &expected.id, 0, page_bytes);
            assert_eq!(all, [5, 6, 7, 8, 9, 10]);
        }
        assert_eq!(aside_lsns(store, &expected.id, 9, 1), [9, 10]);
        assert_eq!(aside_lsns(store, &expected.id, 6, 30), [6, 7, 8, 9, 10]);
        let page = store.read_salvage(&expected.id, Lsn(6), 1).expect("kept");
        let times = (page[0].first_sequence, page[0].event_count, page[0].time);
        assert_eq!(times, (Sequence(6), 2, UnixMillis(360_000)));
    };
    check(&*store);
    drop(store);
    check(&*open());
}

pub fn setting_aside_twice_gives_one_salvage_and_other_ends_give_others(open: Opener) {
    let store = open();
    fill(&*store, 1);
    fill(&*store, 2);
    let first = aside(&*store, 1, 4, 3);
    let again = store.set_aside(partition(1), Lsn(4), Epoch(3), UnixMillis(99));
    assert_eq!(again, Ok(first.clone()), "as it was made");
    assert_eq!(aside(&*store, 1, 10, 3), None, "nothing comes after");
    assert_eq!(aside(&*store, 9, 0, 3), None, "nothing was ever written");
    let ids = |store: &dyn Store| -> Vec<String> {
        let all = store.salvages().expect("listed");
        all.into_iter().map(|salvage| salvage.id).collect()
    };
    assert_eq!(ids(&*store).len(), 1);
    aside(&*store, 1, 4, 8);
    aside(&*store, 1, 1, 3);
    aside(&*store, 2, 6, 3);
    store.commit(vec![(partition(1), cut(8))]).expect("cut");
    let shorter = aside(&*store, 1, 4, 3).expect("there are records");
    assert_eq!(
        (shorter.id.as_str(), shorter.last),
        ("h1-p1-e3-5-2", Lsn(8))
    );
    let all = [
        "h1-p1-e3-2",
        "h1-p1-e3-5",
        "h1-p1-e3-5-2",
        "h1-p1-e8-5",
        "h1-p2-e3-7",
    ];
    assert_eq!(ids(&*store), all);
    drop(store);
    let store = open();
    assert_eq!(ids(&*store), all);
    assert_eq!(
        aside(&*store, 1, 4, 3),
        Some(shorter),
        "known after a restart"
    );
}

pub fn a_salvage_is_gone_once_discarded(open: Opener) {
    let store = open();
    fill(&*store, 1);
    let kept = aside(&*store, 1, 4, 3).expect("there are records").id;
    let gone = aside(&*store, 1, 7, 3).expect("there are records").id;
    assert_eq!(store.discard_salvage("h1-p1-e3-6"), Ok(false));
    for odd in ["", "..", "../acked", "h1-p1-e3-5.log"] {
        assert_eq!(store.discard_salvage(odd), Ok(false));
        assert_invalid(store.read_salvage(odd, Lsn(0), 1).map(drop), odd);
    }
    assert_eq!(store.discard_salvage(&gone), Ok(true));
    assert_eq!(store.discard_salvage(&gone), Ok(false));
    let check = |store: &dyn Store| {
        assert_invalid(store.read_salvage(&gone, Lsn(0), 1).map(drop), "discarded");
        assert_eq!(aside_lsns(store, &kept, 0, 1), [5, 6, 7, 8, 9, 10]);
    };
    check(&*store);
    drop(store);
    check(&*open());
}

pub fn only_what_is_kept_can_be_set_aside(open: Opener) {
    let store = open();
    let key = partition(1);
    write(
        &*store,
        key,
        vec![record(500, 0, 1, 0), record(501, 1, 1, 0)],
    );
    let older = store.set_aside(key, Lsn(100), Epoch(1), UnixMillis(0));
    assert_trimmed(older, key, 500);
    let all = aside(&*store, 1, 499, 1).expect("there are records");
    assert_eq!((all.first, all.last), (Lsn(500), Lsn(501)));
}

pub fn a_partition_is_emptied_down_to_a_head(open: Opener) {
    let store = open();
    fill(&*store, 1);
    store
        .commit(vec![(partition(1), state(vec![set("k", "v")]))])
        .expect("fine");
    for number in [1, 2] {
        let key = partition(number);
        store.clear_to(key, Bytes::from("mark")).expect("cleared");
    }
    let check = |store: &dyn Store| {
        assert_eq!(store.partitions(), Ok(vec![partition(1), partition(2)]));
        for number in [1, 2] {
            let key = partition(number);
            assert_eq!(store.head(key), Ok(Some(Bytes::from("mark"))));
            assert_eq!(bounds(store, key), None);
            assert_eq!(store.get(key, b"k"), Ok(None));
        }
    };
    check(&*store);
    drop(store);
    let store = open();
    check(&*store);
    write(&*store, partition(1), vec![record(900, 5, 1, 0)]);
    assert_eq!(bounds(&*store, partition(1)), Some((900, 5, 900)));
}
