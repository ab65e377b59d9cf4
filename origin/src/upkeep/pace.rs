//! How fast background work goes: so much a second, whoever does it.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// How long work may have saved up: it begins at once, and catches up no further than that.
const SAVED: Duration = Duration::from_secs(1);

/// A budget that many may draw on.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Absent: no bound.
    per_second: Option<u64>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// Nothing is held up with `None`, or with 0.
    pub(crate) fn new(per_second: Option<u64>) -> Self {
        Self {
            per_second: per_second.filter(|per_second| *per_second > 0),
            next: Mutex::default(),
        }
    }

    /// Waits until so much more may be done.
    pub(crate) async fn take(&self, amount: u64) {
        let Some(per_second) = self.per_second else {
            return;
        };
        let turn = {
            let mut next = self.next.lock().await;
            let (turn, after) = turn(*next, Instant::now(), amount, per_second);
            *next = Some(after);
            turn
        };
        sleep_until(turn).await;
    }
}

/// When this may be done, and from when on the next.
fn turn(next: Option<Instant>, now: Instant, amount: u64, per_second: u64) -> (Instant, Instant) {
    let earliest = now.checked_sub(SAVED).unwrap_or(now);
    let turn = next.map_or(earliest, |next| next.max(earliest));
    let lasts = Duration::from_secs_f64(amount as f64 / per_second as f64);
    (turn, turn + lasts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_as_long_as_its_budget_says_less_what_is_saved_up() {
        let start = Instant::now() + SAVED;
        let (mut next, mut last) = (None, start);
        for _ in 0..30 {
            let after;
            (last, after) = turn(next, start, 1, 10);
            next = Some(after);
        }
        let late = last.saturating_duration_since(start).as_millis();
        assert!((1890..=1910).contains(&late), "{late}");
        // A long rest saves up no more.
        let much_later = last + 100 * SAVED;
        let (turn, _) = turn(next, much_later, 1, 10);
        assert_eq!(turn, much_later - SAVED);
    }

    #[tokio::test]
    async fn without_a_budget_nothing_waits() {
        Pace::new(None).take(u64::MAX).await;
        Pace::new(Some(0)).take(u64::MAX).await;
    }
}
