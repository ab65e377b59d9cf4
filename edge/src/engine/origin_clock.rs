//! How far our clock is from the origin's, by the `Date` of its answers (RFC 9110 §6.6.1).
//!
//! Within one run freshness doesn't need the right time, only time that passes ([`super::clock`]).
//! Stored times do, for the next process reads them by its own clock. Nothing is corrected here: it
//! can't be known which of the two is wrong. An operator is told.

use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use http::header::{AGE, DATE};
use prometheus::Gauge;

use super::clock::{Millis, millis};

/// Compares the clocks at each answer.
#[derive(Debug)]
pub(crate) struct OriginClock {
    gauge: Gauge,
    /// They were too far apart at the last answer.
    apart: AtomicBool,
}

impl OriginClock {
    /// Shows the offset in `gauge`.
    pub(crate) fn new(gauge: Gauge) -> Self {
        let apart = AtomicBool::new(false);
        Self { gauge, apart }
    }

    /// The head of an answer came at `now`. An offset above `bound` is logged once, and its end too.
    pub(crate) fn compare(&self, headers: &HeaderMap, now: Millis, bound: Millis) {
        let Some(offset) = offset(headers, now) else {
            return;
        };
        // Milliseconds of centuries are exact in a float.
        #[allow(clippy::cast_precision_loss)]
        let seconds = offset as f64 / 1000.0;
        self.gauge.set(seconds);
        let apart = offset.unsigned_abs() > bound;
        match (self.apart.swap(apart, Ordering::Relaxed), apart) {
            (false, true) => tracing::warn!(
                seconds,
                "our clock is ahead of the origin's, or behind it if negative: one of them is wrong"
            ),
            (true, false) => tracing::info!(seconds, "our clock and the origin's agree again"),
            _ => {}
        }
    }
}

/// By how many milliseconds `now` is ahead of the time at the origin; negative: behind. None: the
/// answer doesn't say the time. A cache on the way says with `Age` how old its answer is.
fn offset(headers: &HeaderMap, now: Millis) -> Option<i64> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let date = httpdate::parse_http_date(text(DATE)?).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let age = text(AGE).map_or(Some(0), |age| age.trim().parse::<u64>().ok())?;
    // A date has no parts of seconds: on the average half a second has passed since.
    let there = millis(since)
        .checked_add(age.checked_mul(1000)?)?
        .checked_add(500)?;
    i64::try_from(i128::from(now) - i128::from(there)).ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, as RFC 9110 has it.
    const THEN: Millis = 784_111_777_000;
    const DATED: (HeaderName, &str) = (DATE, "Sun, 06 Nov 1994 08:49:37 GMT");

    fn head(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        let value = HeaderValue::from_static;
        let fields = fields.iter().cloned();
        fields.map(|(name, text)| (name, value(text))).collect()
    }

    #[test]
    fn the_offset_is_positive_where_we_are_ahead() {
        let dated = head(&[DATED]);
        assert_eq!(offset(&dated, THEN + 600_500), Some(600_000));
        assert_eq!(offset(&dated, THEN - 599_500), Some(-600_000));
        assert_eq!(offset(&dated, THEN + 999), Some(499), "the same second");
        let cached = head(&[DATED, (AGE, "60")]);
        assert_eq!(offset(&cached, THEN + 60_500), Some(0));
    }

    #[test]
    fn a_head_without_a_time_says_nothing() {
        for fields in [
            &[][..],
            &[(DATE, "yesterday")],
            &[(DATE, "Sun, 06 Nov 1994 08:49:37 GMT"), (AGE, "-1")],
            &[
                (DATE, "Sun, 06 Nov 1994 08:49:37 GMT"),
                (AGE, "18446744073709551615"),
            ],
        ] {
            assert_eq!(offset(&head(fields), THEN), None, "{fields:?}");
        }
    }

    #[test]
    fn clocks_are_apart_until_an_answer_says_otherwise() {
        let gauge = Gauge::new("offset", "offset").unwrap();
        let clock = OriginClock::new(gauge.clone());
        for (now, seconds, apart) in [
            (THEN + 30_500, 30.0, false),
            (THEN + 31_500, 31.0, true),
            (THEN - 599_500, -600.0, true),
            (THEN + 500, 0.0, false),
        ] {
            clock.compare(&head(&[DATED]), now, 30_000);
            assert!((gauge.get() - seconds).abs() < 1e-6, "{}", gauge.get());
            assert_eq!(clock.apart.load(Ordering::Relaxed), apart);
        }
        clock.compare(&head(&[]), THEN, 30_000);
        assert!(gauge.get().abs() < 1e-6, "as it was");
    }
}
