//! How many HTTP/2 frames a client sends that serve no request.
//!
//! Each of them is cheap to send and costs us work or memory: PING and SETTINGS must be answered,
//! RST_STREAM throws away what a request has cost (rapid reset), PRIORITY, CONTINUATION, empty DATA
//! and WINDOW_UPDATE are looked at for nothing. The meter counts them by their heads, a window of time
//! after the other. What a request or the bytes we sent explain is allowed on top of the configured
//! bounds. Streams that we had to reset because of what came on them ("MadeYouReset") are counted too.
//!
//! Pure: heads and times are handed in.

use std::time::Instant;

use super::frame::{Head, Kind};
use crate::config::FrameConfig;

/// A request explains so many WINDOW_UPDATEs, CONTINUATIONs, and priorities: some clients give each
/// answer's few bytes back twice, or rank each request.
const EACH_REQUEST: u64 = 8;
/// A client that reads a body gives its bytes back, the eager ones for each piece they read.
const BYTES_A_WINDOW_UPDATE: u64 = 1024;

/// What a client sent too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// PING.
    Ping,
    /// SETTINGS.
    Settings,
    /// RST_STREAM.
    Reset,
    /// PRIORITY, and frames of unknown types.
    Priority,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// CONTINUATION.
    Continuation,
    /// DATA that carries nothing and ends nothing.
    Empty,
    /// Whatever made us reset a stream.
    MadeReset,
}

impl Flood {
    /// All of them.
    pub const ALL: [Flood; 8] = [
        Flood::Ping,
        Flood::Settings,
        Flood::Reset,
        Flood::Priority,
        Flood::WindowUpdate,
        Flood::Continuation,
        Flood::Empty,
        Flood::MadeReset,
    ];

    /// The stable name, in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Flood::Ping => "ping",
            Flood::Settings => "settings",
            Flood::Reset => "reset",
            Flood::Priority => "priority",
            Flood::WindowUpdate => "window-update",
            Flood::Continuation => "continuation",
            Flood::Empty => "empty-data",
            Flood::MadeReset => "made-reset",
        }
    }
}

/// The meter of one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    bounds: FrameConfig,
    began: Option<Instant>,
    counts: [u64; Flood::ALL.len()],
    now: Earned,
    /// What was earned in the window before: its WINDOW_UPDATEs may come in this one.
    before: Earned,
}

/// What explains frames.
#[derive(Clone, Copy, Debug, Default)]
struct Earned {
    requests: u64,
    bytes: u64,
}

impl Meter {
    /// The meter of a new connection.
    pub(crate) fn new(bounds: FrameConfig) -> Meter {
        Meter {
            bounds,
            began: None,
            counts: [0; Flood::ALL.len()],
            now: Earned::default(),
            before: Earned::default(),
        }
    }

    /// So many bytes were sent to the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.now.bytes += bytes as u64;
    }

    /// Counts a frame the client has sent. The clock is read only for frames that are bounded.
    ///
    /// # Errors
    /// What the client has sent too much of.
    pub(crate) fn received(
        &mut self,
        head: Head,
        clock: impl Fn() -> Instant,
    ) -> Result<(), Flood> {
        let kind = match head.kind {
            Kind::Headers => {
                self.now.requests += 1;
                return Ok(());
            }
            Kind::Data if head.is_empty_data() => Flood::Empty,
            Kind::Data | Kind::GoAway => return Ok(()),
            Kind::RstStream => Flood::Reset,
            Kind::Settings => Flood::Settings,
            Kind::Ping => Flood::Ping,
            Kind::WindowUpdate => Flood::WindowUpdate,
            Kind::Continuation => Flood::Continuation,
            Kind::Priority | Kind::PushPromise | Kind::Unknown => Flood::Priority,
        };
        self.count(kind, clock)
    }

    /// Counts a stream that we had to reset because of what came on it.
    ///
    /// # Errors
    /// There were too many.
    pub(crate) fn made_reset(&mut self, clock: impl Fn() -> Instant) -> Result<(), Flood> {
        self.count(Flood::MadeReset, clock)
    }

    fn count(&mut self, kind: Flood, clock: impl Fn() -> Instant) -> Result<(), Flood> {
        self.roll(clock());
        let count = &mut self.counts[kind as usize];
        *count += 1;
        if *count > self.allowed(kind) {
            return Err(kind);
        }
        Ok(())
    }

    /// Begins a new window when the last one is over.
    fn roll(&mut self, now: Instant) {
        let window = self.bounds.window.get();
        let age = self.began.map(|began| now.saturating_duration_since(began));
        if age.is_some_and(|age| age < window) {
            return;
        }
        let just_over = age.is_none_or(|age| age < window + window);
        self.before = if just_over {
            self.now
        } else {
            Earned::default()
        };
        self.now = Earned::default();
        self.counts = [0; Flood::ALL.len()];
        self.began = Some(now);
    }

    fn allowed(&self, kind: Flood) -> u64 {
        let bounds = &self.bounds;
        let requests = (self.now.requests + self.before.requests) * EACH_REQUEST;
        let bytes = (self.now.bytes + self.before.bytes) / BYTES_A_WINDOW_UPDATE;
        match kind {
            Flood::Ping => bounds.pings,
            Flood::Settings => bounds.settings,
            Flood::Reset => bounds.resets,
            Flood::Priority => bounds.priorities + requests,
            Flood::WindowUpdate => bounds.window_updates + requests + bytes,
            Flood::Continuation => bounds.continuations + requests,
            Flood::Empty => bounds.empty,
            Flood::MadeReset => bounds.made_resets,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::frame::flags;
    use super::*;

    fn frame(kind: Kind, flags: u8, length: usize) -> Head {
        Head {
            length,
            kind,
            flags,
            stream: 1,
        }
    }

    fn meter() -> (Meter, Instant) {
        (Meter::new(FrameConfig::default()), Instant::now())
    }

    #[test]
    fn each_flood_is_found_and_named() {
        for (kind, flags, length, flood) in [
            (Kind::Ping, 0, 8, Flood::Ping),
            (Kind::Ping, 1, 8, Flood::Ping),
            (Kind::Settings, 0, 0, Flood::Settings),
            (Kind::Settings, 1, 0, Flood::Settings),
            (Kind::RstStream, 0, 4, Flood::Reset),
            (Kind::Priority, 0, 5, Flood::Priority),
            (Kind::Unknown, 0, 12, Flood::Priority),
            (Kind::WindowUpdate, 0, 4, Flood::WindowUpdate),
            (Kind::Continuation, 0, 0, Flood::Continuation),
            (Kind::Data, 0, 0, Flood::Empty),
            (Kind::Data, flags::PADDED, 200, Flood::Empty),
        ] {
            let (mut meter, now) = meter();
            for _ in 0..meter.allowed(flood) {
                meter.received(frame(kind, flags, length), || now).unwrap();
            }
            let one_more = meter.received(frame(kind, flags, length), || now);
            assert_eq!(one_more, Err(flood));
        }
    }

    #[test]
    fn streams_that_we_had_to_reset_are_a_flood_some_time() {
        let (mut meter, now) = meter();
        let found = (0..100_000).find_map(|_| meter.made_reset(|| now).err());
        assert_eq!(found, Some(Flood::MadeReset));
    }

    #[test]
    fn the_same_frames_over_more_time_are_no_flood() {
        let (mut meter, start) = meter();
        let pings = FrameConfig::default().pings;
        for n in 0..20 * pings {
            let step = *FrameConfig::default().window / u32::try_from(pings).unwrap();
            let now = start + step * u32::try_from(n).unwrap();
            meter.received(frame(Kind::Ping, 0, 8), || now).unwrap();
        }
    }

    #[test]
    fn resets_of_every_request_are_a_flood() {
        let (mut meter, now) = meter();
        let flood = (0..10_000).find_map(|_| {
            meter.received(frame(Kind::Headers, 5, 40), || now).unwrap();
            meter.received(frame(Kind::RstStream, 0, 4), || now).err()
        });
        assert_eq!(flood, Some(Flood::Reset));
    }

    #[test]
    fn window_updates_for_what_was_sent_are_no_flood() {
        let (mut meter, start) = meter();
        // 100 MB/s to a client that gives every 4 KiB back, twice.
        for n in 0..250_000_u32 {
            let now = start + Duration::from_micros(40) * n;
            meter.sent(4096);
            for _ in 0..2 {
                let update = frame(Kind::WindowUpdate, 0, 4);
                meter.received(update, || now).unwrap();
            }
        }
    }

    #[test]
    fn small_answers_given_back_twice_are_no_flood() {
        let (mut meter, now) = meter();
        for _ in 0..100_000 {
            meter.received(frame(Kind::Headers, 5, 60), || now).unwrap();
            for _ in 0..2 {
                let update = frame(Kind::WindowUpdate, 0, 4);
                meter.received(update, || now).unwrap();
            }
        }
    }
}
