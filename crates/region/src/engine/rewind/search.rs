//! Finding the last common record of two histories by asking for checksums.

use replication::Head;
use types::Lsn;

/// Looking for the last common record. Everything up to `low` is common once that was heard, nothing from `high` on is.
#[derive(Debug, PartialEq, Eq)]
pub struct Search {
    low: Lsn,
    low_is_common: bool,
    high: Lsn,
    pub(super) probe: Lsn,
    /// The source's end when it said that the histories differ.
    pub(super) theirs: Head,
}

/// What a search comes to with one more answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Ask(Lsn),
    Common(Lsn),
    Nothing,
}

impl Search {
    /// `None` when the two logs do not overlap.
    pub(super) fn begin(
        own: &Head,
        own_kept: Lsn,
        theirs: Head,
        their_kept: Lsn,
    ) -> Option<Search> {
        let low = own_kept.max(their_kept);
        let mut high = own.lsn.min(theirs.lsn).next();
        if own.epoch < theirs.epoch && theirs.opened > Lsn(0) {
            // Its epoch begins there, and has not begun here.
            high = high.min(theirs.opened);
        }
        (low < high).then(|| Search {
            low,
            low_is_common: false,
            high,
            probe: Lsn(high.0 - 1),
            theirs,
        })
    }

    pub(super) fn heard(&mut self, equal: bool) -> Found {
        if equal {
            (self.low, self.low_is_common) = (self.probe, true);
        } else {
            self.high = self.probe;
        }
        if self.high <= self.low {
            return Found::Nothing;
        }
        if self.low_is_common && self.low.next() == self.high {
            return Found::Common(self.low);
        }
        self.probe = match self.low_is_common {
            true => Lsn(self.low.0 + (self.high.0 - self.low.0) / 2),
            false => self.low,
        };
        Found::Ask(self.probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Epoch;

    fn head(epoch: u64, lsn: u64, opened: u64) -> Head {
        Head {
            epoch: Epoch(epoch),
            lsn: Lsn(lsn),
            opened: Lsn(opened),
            ..Head::default()
        }
    }

    /// Searches two histories that are equal up to `common`; gives what was found and how many were asked for.
    fn search(common: u64, own: Head, own_kept: u64, theirs: Head, kept: u64) -> (Found, u32) {
        let begun = Search::begin(&own, Lsn(own_kept), theirs, Lsn(kept));
        let Some(mut search) = begun else {
            return (Found::Nothing, 0);
        };
        let mut asked = 0;
        loop {
            asked += 1;
            assert!(asked < 70, "the search ends");
            let probe = search.probe;
            assert!(Lsn(own_kept.max(kept)) <= probe && probe <= own.lsn.min(theirs.lsn));
            match search.heard(probe <= Lsn(common)) {
                Found::Ask(_) => {}
                found => return (found, asked),
            }
        }
    }

    #[test]
    fn the_last_common_record_is_found_wherever_it_is() {
        for common in 0..40 {
            for own_kept in 0..=common {
                let found = search(common, head(1, 50, 1), own_kept, head(3, 60, 0), 0);
                assert_eq!(found.0, Found::Common(Lsn(common)), "kept from {own_kept}");
            }
            let found = search(common, head(1, 50, 1), common + 1, head(3, 60, 0), 0);
            assert_eq!(found.0, Found::Nothing);
        }
    }

    #[test]
    fn the_start_of_the_new_epoch_is_tried_first() {
        let found = search(
            1_000_000,
            head(1, 1_000_050, 1),
            0,
            head(2, 2_000_000, 1_000_001),
            0,
        );
        assert_eq!(found, (Found::Common(Lsn(1_000_000)), 1));
    }

    #[test]
    fn a_long_history_takes_few_questions() {
        let found = search(123_456, head(1, 1_000_000, 1), 0, head(3, 2_000_000, 0), 7);
        assert_eq!(found.0, Found::Common(Lsn(123_456)));
        assert!(found.1 <= 23, "{}", found.1);
    }

    #[test]
    fn logs_that_do_not_overlap_have_nothing_common() {
        assert_eq!(
            search(9, head(1, 20, 1), 0, head(2, 90, 10), 30).0,
            Found::Nothing
        );
        assert_eq!(
            search(9, head(1, 20, 1), 15, head(2, 90, 10), 0).0,
            Found::Nothing
        );
    }
}
