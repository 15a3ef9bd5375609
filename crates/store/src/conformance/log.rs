//! Reading the log and finding positions in it.

use super::{Opener, assert_trimmed, bounds, lsns, partition, record, write};
use crate::Store;
use types::{Lsn, Sequence, UnixMillis};

const HOUR: i64 = 3_600_000;

fn by_sequence(store: &dyn Store, sequence: u64) -> Option<u64> {
    store
        .find_sequence(partition(1), Sequence(sequence))
        .expect("kept or not written yet")
        .map(|lsn| lsn.0)
}

fn by_time(store: &dyn Store, time: i64) -> Option<u64> {
    store
        .find_time(partition(1), UnixMillis(time))
        .expect("readable")
        .map(|lsn| lsn.0)
}

pub fn an_empty_log_is_empty_and_no_error(open: Opener) {
    let store = open();
    assert_eq!(bounds(&*store, partition(1)), None);
    for from in [0, 1, 100] {
        assert_eq!(
            store
                .read_log(partition(1), Lsn(from), 100)
                .expect("readable"),
            []
        );
        assert_eq!(by_sequence(&*store, from), None);
        assert_eq!(by_time(&*store, from as i64), None);
    }
    assert_eq!(store.trim(UnixMillis(HOUR)).expect("nothing to do"), 0);
}

pub fn reading_gives_whole_pages_and_at_least_one_record(open: Opener) {
    let store = open();
    write(
        &*store,
        partition(1),
        (1..=40).map(|lsn| record(lsn, lsn - 1, 1, 0)).collect(),
    );
    write(&*store, partition(2), vec![record(1, 0, 1, 0)]);
    let all: Vec<u64> = (1..=40).collect();
    for page_bytes in [0, 1, 40, 100, 1 << 20] {
        assert_eq!(
            lsns(&*store, partition(1), 1, page_bytes),
            all,
            "pages of {page_bytes}"
        );
    }
    assert_eq!(
        store.read_log(partition(1), Lsn(7), 0).expect("readable"),
        [record(7, 6, 1, 0)]
    );
    let page = store.read_log(partition(1), Lsn(3), 100).expect("readable");
    let bytes: usize = page.iter().map(|record| record.bytes.len()).sum();
    assert!(page.len() > 1 && bytes <= 100, "a page of {bytes} bytes");
    assert_eq!(
        store.read_log(partition(1), Lsn(0), 0).expect("readable")[0].lsn,
        Lsn(1)
    );
    assert_eq!(
        store
            .read_log(partition(1), Lsn(41), 100)
            .expect("readable"),
        []
    );
    assert_eq!(
        store
            .read_log(partition(1), Lsn(u64::MAX), 100)
            .expect("readable"),
        []
    );
}

pub fn reading_crosses_segments(open: Opener) {
    let store = open();
    store.set_retention(partition(1), 1);
    // A day's segments are an hour and a half long: each record has its own.
    for lsn in 1..=12 {
        write(
            &*store,
            partition(1),
            vec![record(lsn, (lsn - 1) * 3, 3, lsn as i64 * 2 * HOUR)],
        );
    }
    let check = |store: &dyn Store| {
        for page_bytes in [1, 50, 1 << 20] {
            assert_eq!(
                lsns(store, partition(1), 5, page_bytes),
                (5..=12).collect::<Vec<_>>()
            );
        }
        assert_eq!(by_sequence(store, 17), Some(6));
        assert_eq!(by_sequence(store, 18), Some(7));
        assert_eq!(by_time(store, 12 * HOUR), Some(6));
        assert_eq!(by_time(store, 12 * HOUR + 1), Some(7));
    };
    check(&*store);
    drop(store);
    check(&*open());
}

pub fn events_are_found_by_sequence_number(open: Opener) {
    let store = open();
    write(
        &*store,
        partition(1),
        vec![
            record(50, 1000, 10, 0),
            record(51, 1010, 1, 0),
            record(52, 1011, 100, 0),
        ],
    );
    for (sequence, lsn) in [(1000, 50), (1009, 50), (1010, 51), (1011, 52), (1110, 52)] {
        assert_eq!(
            by_sequence(&*store, sequence),
            Some(lsn),
            "sequence {sequence}"
        );
    }
    assert_eq!(by_sequence(&*store, 1111), None);
    assert_eq!(by_sequence(&*store, u64::MAX), None);
    assert_trimmed(
        store.find_sequence(partition(1), Sequence(999)),
        partition(1),
        50,
    );
    assert_trimmed(store.read_log(partition(1), Lsn(49), 100), partition(1), 50);
    assert_eq!(bounds(&*store, partition(1)), Some((50, 1000, 52)));
}

pub fn events_are_found_by_time(open: Opener) {
    let store = open();
    // Several records share a time; counts differ, so that halving sequence numbers is not halving records.
    let times = [10, 10, 20, 20, 20, 35, 35, 90];
    let mut sequence = 0;
    for (at, time) in times.iter().enumerate() {
        let count = if at == 5 { 5000 } else { 1 };
        write(
            &*store,
            partition(1),
            vec![record(at as u64 + 1, sequence, count, *time)],
        );
        sequence += u64::from(count);
    }
    for time in -1..=91 {
        let expected = times
            .iter()
            .position(|t| *t >= time)
            .map(|at| at as u64 + 1);
        assert_eq!(by_time(&*store, time), expected, "time {time}");
    }
    assert_eq!(by_time(&*store, i64::MIN), Some(1));
    assert_eq!(by_time(&*store, i64::MAX), None);
}

pub fn records_without_events_do_not_disturb_the_indexes(open: Opener) {
    let store = open();
    let records = vec![
        record(1, 0, 0, 5),
        record(2, 0, 0, 5),
        record(3, 0, 2, 10),
        record(4, 2, 0, 50),
        record(5, 2, 1, 20),
        record(6, 3, 0, 20),
    ];
    write(&*store, partition(1), records);
    let check = |store: &dyn Store| {
        assert_eq!(by_sequence(store, 0), Some(3));
        assert_eq!(by_sequence(store, 1), Some(3));
        assert_eq!(by_sequence(store, 2), Some(5));
        assert_eq!(by_sequence(store, 3), None);
        assert_eq!(by_time(store, 0), Some(3));
        assert_eq!(by_time(store, 11), Some(5));
        assert_eq!(by_time(store, 21), None);
        assert_eq!(lsns(store, partition(1), 1, 1 << 20), [1, 2, 3, 4, 5, 6]);
    };
    check(&*store);
    drop(store);
    check(&*open());
}
