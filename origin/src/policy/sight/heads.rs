//! The history of a checksum database's tree heads: when we saw it how large. Pure.
//!
//! A record that lies in a head is at least as old as our first sight of such a head. That can't be
//! set by an author, nor by the database, unless the record is there.
//!
//! At the first start there is no history, and every record is new by that rule. So where a record lies
//! below the first head we ever saw, its distance counts too: the database takes no more than so many
//! records a day, and what has many behind it took days to get there. That is an assumption about
//! the database, and matters only until the history is as long as the age that is asked for.
//!
//! Heads within an hour are kept as one, the newest: a record may seem an hour younger than it is.

use std::time::Duration;

/// Heads closer together than this are kept as one.
const STEP: u64 = 3600;

/// Beyond this every other head is forgotten, the oldest one kept: 11 years of hours.
const MOST: usize = 100_000;

const DAY: u64 = 24 * 3600;

/// See the module. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads(Vec<Head>);

/// The database had `size` records at `time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) time: u64,
    pub(crate) size: u64,
}

impl Heads {
    /// Notes a proven head. False: it says nothing new.
    pub(crate) fn saw(&mut self, mut head: Head) -> bool {
        if let Some(last) = self.0.last() {
            if head.size <= last.size {
                return false;
            }
            // A clock that went back makes nothing older than it is.
            head.time = head.time.max(last.time);
        }
        if let [.., before, last] = self.0.as_mut_slice()
            && head.time - before.time < STEP
        {
            *last = head;
            return true;
        }
        self.0.push(head);
        if self.0.len() > MOST {
            self.thin_out();
        }
        true
    }

    /// How old a record is at least; `None` if it lies in no head that was seen.
    pub(crate) fn age(&self, record: u64, now: u64, records_a_day: u64) -> Option<Duration> {
        let first = self.0.first()?;
        let at = self.0.partition_point(|head| head.size <= record);
        let since = now.saturating_sub(self.0.get(at)?.time);
        let behind = first.size.saturating_sub(record + 1);
        // All of it in one go: at most 2^64 days are too many for seconds, and old enough.
        let before = u128::from(behind) * u128::from(DAY) / u128::from(records_a_day.max(1));
        let before = u64::try_from(before).unwrap_or(u64::MAX);
        Some(Duration::from_secs(since.saturating_add(before)))
    }

    /// All of it, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Head> {
        self.0.iter().copied()
    }

    fn thin_out(&mut self) {
        let mut keep = false;
        self.0.retain(|_| {
            keep = !keep;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heads(seen: &[(u64, u64)]) -> Heads {
        let mut heads = Heads::default();
        for (time, size) in seen {
            heads.saw(Head {
                time: *time,
                size: *size,
            });
        }
        heads
    }

    #[test]
    fn a_record_is_as_old_as_the_first_head_that_has_it() {
        let heads = heads(&[(10 * DAY, 1000), (12 * DAY, 2000), (15 * DAY, 3000)]);
        let days = |record| {
            let age = heads.age(record, 20 * DAY, u64::MAX);
            age.map(|age| age.as_secs() / DAY)
        };
        assert_eq!(days(0), Some(10));
        assert_eq!(days(999), Some(10));
        assert_eq!(days(1000), Some(8));
        assert_eq!(days(2999), Some(5));
        assert_eq!(days(3000), None);
    }

    #[test]
    fn below_the_first_head_distance_is_age() {
        let heads = heads(&[(10 * DAY, 1_000_000)]);
        let days = |record, now| {
            let age = heads.age(record, now * DAY, 100_000);
            age.map(|age| age.as_secs() / DAY)
        };
        assert_eq!(days(999_999, 10), Some(0));
        assert_eq!(days(299_999, 10), Some(7));
        assert_eq!(days(300_000, 10), Some(6));
        assert_eq!(days(300_000, 11), Some(7));
        assert_eq!(days(0, 10), Some(9));
    }

    #[test]
    fn heads_of_one_hour_are_one() {
        let many: Vec<(u64, u64)> = (0..1000).map(|n| (n * 60, n + 1)).collect();
        let heads = heads(&many);
        assert!(heads.0.len() < 20, "{}", heads.0.len());
        for (time, size) in many {
            let age = heads.age(size - 1, 60_000, u64::MAX).unwrap().as_secs();
            let truly = 60_000 - time;
            assert!(age <= truly && age + STEP >= truly, "{size}: {age} {truly}");
        }
    }

    #[test]
    fn neither_a_smaller_head_nor_a_clock_that_goes_back_makes_older() {
        let mut heads = heads(&[(DAY, 100), (3 * DAY, 200)]);
        assert!(!heads.saw(Head { time: 0, size: 200 }));
        assert!(!heads.saw(Head { time: 0, size: 50 }));
        assert!(heads.saw(Head {
            time: 2 * DAY,
            size: 300
        }));
        assert_eq!(heads.age(250, 4 * DAY, 1).unwrap().as_secs(), DAY);
        assert_eq!(heads.age(250, 2 * DAY, 1).unwrap().as_secs(), 0);
        assert_eq!(Heads::default().age(0, DAY, 1), None);
    }

    proptest! {
        /// Against the whole history: never older than what was seen, however much was thinned out.
        #[test]
        fn thinning_makes_younger_never_older(
            steps in prop::collection::vec((0u64..5000, 0u64..50), 1..60), record in 0u64..2000, later in 0u64..9000,
        ) {
            let (mut time, mut size) = (1000, 1);
            let mut all = Vec::new();
            let mut heads = Heads::default();
            for (pause, more) in steps {
                (time, size) = (time + pause, size + more);
                all.push(Head { time, size });
                heads.saw(Head { time, size });
                if heads.0.len() > 20 {
                    heads.thin_out();
                }
            }
            let now = time + later;
            let truly = all.iter().find(|head| head.size > record).map(|head| now - head.time);
            let age = heads.age(record, now, u64::MAX).map(|age| age.as_secs());
            match (age, truly) {
                (Some(age), Some(truly)) => prop_assert!(age <= truly),
                (Some(age), None) => prop_assert!(false, "{} although it wasn't seen", age),
                (None, _) => {}
            }
        }
    }
}
