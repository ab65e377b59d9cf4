//! Whether storage is out of reach.
//!
//! After a question failed, others fail with the same words for a moment instead of each waiting
//! for its deadline; then one goes through to see.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long others are spared the wait.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<Option<Failure>>);

#[derive(Debug)]
struct Failure {
    until: Instant,
    kind: ErrorKind,
    text: String,
}

impl Outage {
    /// # Errors
    /// The failure that is known.
    pub(super) fn check(&self) -> io::Result<()> {
        self.check_at(Instant::now())
    }

    fn check_at(&self, now: Instant) -> io::Result<()> {
        let mut known = self.0.lock();
        let Some(failure) = known.as_mut() else {
            return Ok(());
        };
        if now < failure.until {
            return Err(io::Error::new(failure.kind, failure.text.clone()));
        }
        // This one goes through; the others wait for its news as long again.
        failure.until = now + PAUSE;
        Ok(())
    }

    /// Takes in how a question ended.
    pub(super) fn learn(&self, error: Option<&io::Error>) {
        self.learn_at(error, Instant::now());
    }

    fn learn_at(&self, error: Option<&io::Error>, now: Instant) {
        let failure = error.filter(|error| error.kind() != ErrorKind::InvalidInput);
        *self.0.lock() = failure.map(|error| Failure {
            until: now + PAUSE,
            kind: error.kind(),
            text: error.to_string(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_spared_the_wait_and_one_goes_to_see() {
        let (outage, start) = (Outage::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(outage.check_at(at(0)).is_ok());
        outage.learn_at(Some(&io::Error::other("down")), at(0));
        assert_eq!(outage.check_at(at(999)).unwrap_err().to_string(), "down");
        assert!(outage.check_at(at(1000)).is_ok());
        assert!(outage.check_at(at(1001)).is_err());
        outage.learn_at(None, at(1002));
        assert!(outage.check_at(at(1003)).is_ok());
    }

    #[test]
    fn a_range_that_is_not_there_is_an_answer() {
        let outage = Outage::default();
        outage.learn(Some(&ErrorKind::InvalidInput.into()));
        assert!(outage.check().is_ok());
    }
}
