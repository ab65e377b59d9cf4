//! The access log as a sample: one query in so many has a line.
//!
//! Which one is drawn by chance, so that neither a client's rhythm nor a socket's decides; a line
//! says for how many queries it stands. Drawing costs nothing where every query has a line or none.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::time::{SystemTime, UNIX_EPOCH};

use modcdn_core::telemetry::{AccessLog, AccessTarget};
use serde::Serialize;

/// A sampled access log.
pub(crate) struct QueryLog {
    log: AccessLog,
    one_in: NonZero<u32>,
}

impl QueryLog {
    /// Opens the log, of which one query in `one_in` has a line.
    ///
    /// # Errors
    /// If the file can't be opened for appending.
    pub(crate) fn open(target: &AccessTarget, one_in: NonZero<u32>) -> io::Result<Self> {
        Ok(Self {
            log: AccessLog::open(target)?,
            one_in,
        })
    }

    /// Whether the query at hand has a line: to be asked once for each.
    pub(crate) fn takes(&self) -> bool {
        self.log.is_on()
            && (self.one_in.get() == 1 || draw().is_multiple_of(self.one_in.get().into()))
    }

    /// For how many queries a line stands, where that is more than its own.
    pub(crate) fn sample(&self) -> Option<u32> {
        (self.one_in.get() > 1).then_some(self.one_in.get())
    }

    /// Queues a line, see [`AccessLog::write`].
    pub(crate) fn write(&self, line: &impl Serialize) {
        self.log.write(line);
    }
}

/// A number by chance: SplitMix64, a sequence a thread, begun at the time.
fn draw() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(begin());
    }
    STATE.with(|state| {
        let mut z = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(z);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

fn begin() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(target: &AccessTarget, one_in: u32) -> QueryLog {
        QueryLog::open(target, NonZero::new(one_in).unwrap()).unwrap()
    }

    #[test]
    fn all_or_none_or_about_one_in_so_many_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let on = AccessTarget::File(dir.path().join("log"));
        let taken = |log: &QueryLog| (0..10_000).filter(|_| log.takes()).count();
        assert_eq!(taken(&log(&AccessTarget::Off, 1)), 0);
        assert_eq!(taken(&log(&AccessTarget::Off, 10)), 0);
        assert_eq!(taken(&log(&on, 1)), 10_000);
        // A thousand, with a standard deviation of thirty.
        assert!((700..1300).contains(&taken(&log(&on, 10))));
        assert_eq!(log(&on, 1).sample(), None);
        assert_eq!(log(&on, 10).sample(), Some(10));
    }
}
