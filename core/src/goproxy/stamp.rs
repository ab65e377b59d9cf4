//! The time of a commit, to the second, in UTC: as pseudo-versions and `.info` files write it.

use std::fmt;

const DAY: i64 = 24 * 60 * 60;

/// Seconds since the beginning of 1970 in UTC, of a year that has at most four digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(i64);

impl Stamp {
    /// The first second of the year 0.
    const LEAST: i64 = -62_167_219_200;
    /// The last second of the year 9999.
    const MOST: i64 = 253_402_300_799;

    /// `None` outside the years 0 to 9999.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Option<Self> {
        (Self::LEAST..=Self::MOST)
            .contains(&seconds)
            .then_some(Self(seconds))
    }

    /// Seconds since the beginning of 1970 in UTC.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// Reads `yyyymmddhhmmss`; `None` if there is no such time.
    #[must_use]
    pub fn from_digits(digits: &str) -> Option<Self> {
        if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
        let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
        let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
        let in_day = hour < 24 && minute < 60 && second < 60;
        let in_year = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
        (in_day && in_year)
            .then(|| days_before(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
            .and_then(Self::from_unix)
    }

    /// `yyyymmddhhmmss`.
    #[must_use]
    pub fn digits(self) -> String {
        let [year, month, day, hour, minute, second] = self.parts();
        format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
    }

    fn parts(self) -> [i64; 6] {
        let (days, rest) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        [year, month, day, rest / 3600, rest / 60 % 60, rest % 60]
    }
}

/// As RFC 3339 has it: `2019-11-09T02:19:31Z`.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second] = self.parts();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The leap days in the years before this one, from the year 0 on.
fn leaps_before(year: i64) -> i64 {
    if year == 0 {
        return 0;
    }
    let last = year - 1;
    last / 4 - last / 100 + last / 400 + 1
}

/// Days from the beginning of 1970 to a date.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    (year * 365 + leaps_before(year)) - (1970 * 365 + leaps_before(1970)) + months + day - 1
}

/// The date that many days after the beginning of 1970.
fn date_of(days: i64) -> (i64, i64, i64) {
    // A year is at most 366 days long, so this guess is never too late.
    let mut year = (1970 + days.div_euclid(366)).max(0);
    if days < 0 {
        year = (1970 + days.div_euclid(365) - 1).max(0);
    }
    while days_before(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_before(year, month + 1, 1) <= days {
        month += 1;
    }
    (year, month, days - days_before(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_written_as_known() {
        for (unix, digits, text) in [
            (0, "19700101000000", "1970-01-01T00:00:00Z"),
            (951_782_400, "20000229000000", "2000-02-29T00:00:00Z"),
            (1_573_265_971, "20191109021931", "2019-11-09T02:19:31Z"),
            (-1, "19691231235959", "1969-12-31T23:59:59Z"),
            (Stamp::LEAST, "00000101000000", "0000-01-01T00:00:00Z"),
            (Stamp::MOST, "99991231235959", "9999-12-31T23:59:59Z"),
        ] {
            let stamp = Stamp::from_unix(unix).unwrap();
            assert_eq!(
                (stamp.digits().as_str(), stamp.to_string().as_str()),
                (digits, text)
            );
            assert_eq!(Stamp::from_digits(digits), Some(stamp));
        }
        assert_eq!(Stamp::from_unix(Stamp::MOST + 1), None);
        assert_eq!(Stamp::from_unix(i64::MIN), None);
    }

    #[test]
    fn times_that_never_were_are_refused() {
        for digits in [
            "",
            "2019110902193",
            "20190229000000",
            "21000229000000",
            "20191309021931",
            "20190009021931",
            "20191100021931",
            "20191131021931",
            "20191109240000",
            "20191109026000",
            "20191109020060",
            "+0191109021931",
        ] {
            assert_eq!(Stamp::from_digits(digits), None, "{digits}");
        }
    }

    proptest! {
        #[test]
        fn digits_come_back(unix in Stamp::LEAST..=Stamp::MOST) {
            let stamp = Stamp::from_unix(unix).unwrap();
            prop_assert_eq!(Stamp::from_digits(&stamp.digits()), Some(stamp));
        }
    }
}
