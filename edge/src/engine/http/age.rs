//! How old an answer is (RFC 9111 §4.2.3). Pure.

use http::header::{AGE, DATE};

use super::fields::{Fields, date, members};
use crate::engine::clock::Millis;

/// When the exchange with the origin took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    /// When the request was sent.
    pub(super) asked: Millis,
    /// When the answer's head was here.
    pub(super) answered: Millis,
}

/// When the answer was new, by our clock: the time it came, less its corrected initial age. The
/// present age is the time that has passed since.
pub(super) fn born(response: &impl Fields, exchange: Exchange) -> Millis {
    let Exchange { asked, answered } = exchange;
    let dated = response.first(&DATE).and_then(date);
    let apparent = dated.map_or(0, |dated| (answered / 1000).saturating_sub(dated));
    let delay = answered.saturating_sub(asked);
    let corrected = said(response).saturating_mul(1000).saturating_add(delay);
    answered.saturating_sub(corrected.max(apparent * 1000))
}

/// `Age` in seconds: the first value counts, an invalid one is ignored (RFC 9111 §5.1).
fn said(response: &impl Fields) -> u64 {
    let first = response
        .first(&AGE)
        .and_then(|line| members(line.to_str().ok()?).next());
    super::directives::seconds(first).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::fields::http_date;
    use super::super::fields::testing::header;
    use super::*;

    const NOW: Millis = 1_800_000_000_000;

    fn initial_age(fields: &str, delay: Millis) -> Millis {
        let exchange = Exchange {
            asked: NOW - delay,
            answered: NOW,
        };
        NOW - born(&header(fields), exchange)
    }

    /// RFC 9111 §4.2.3: corrected_initial_age.
    #[test]
    fn the_initial_age_is_the_greater_of_what_is_said_and_what_the_date_shows() {
        let dated = |secs: u64| format!("Date: {}", http_date(NOW / 1000 - secs).to_str().unwrap());
        let table = [
            (String::new(), 0, 0),
            (dated(0), 0, 0),
            (dated(10), 0, 10_000),
            ("Age: 7".to_owned(), 0, 7_000),
            ("Age: 7".to_owned(), 1_500, 8_500),
            (format!("{}\nAge: 7", dated(3)), 0, 7_000),
            (format!("{}\nAge: 7", dated(30)), 1_000, 30_000),
        ];
        for (fields, delay, expected) in table {
            assert_eq!(
                initial_age(&fields, delay),
                expected,
                "{fields:?} after {delay} ms"
            );
        }
    }

    /// RFC 9111 §5.1: only the first of several values, none of an invalid one.
    #[test]
    fn a_strange_age_is_not_counted() {
        for (text, expected) in [
            ("Age: 3, 9", 3_000),
            ("Age: 3\nAge: 9", 3_000),
            ("Age: -3", 0),
            ("Age: x", 0),
            ("Age: 1.5", 0),
            ("Age:", 0),
        ] {
            assert_eq!(initial_age(text, 0), expected, "{text}");
        }
    }

    #[test]
    fn a_date_in_the_future_makes_nothing_younger() {
        let ahead = format!("Date: {}", http_date(NOW / 1000 + 600).to_str().unwrap());
        assert_eq!(initial_age(&ahead, 0), 0);
        assert_eq!(initial_age(&format!("{ahead}\nAge: 4"), 0), 4_000);
    }
}
