//! How many HTTP/2 frames a client sends that serve no request.
//!
//! Each of them is cheap to send and costs us work or memory: PING and SETTINGS must be answered,
//! RST_STREAM throws away what a request has cost (rapid reset), PRIORITY, CONTINUATION, empty DATA
//! and WINDOW_UPDATE are looked at for nothing. The meter watches the bytes that come in, whatever
//! library reads them: nine bytes of each frame's header (RFC 9113 §4.1), and counts a window of
//! time. What a request or the bytes we sent explain is allowed on top of the configured bounds.
//!
//! Pure: bytes and times are handed in. How the bytes are cut into reads doesn't matter.

use std::time::Instant;

use crate::config::FrameConfig;

/// What a client of HTTP/2 sends first.
const PREFACE: usize = 24;
/// A frame's header.
const HEAD: usize = 9;

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
}

impl Flood {
    /// All of them.
    pub const ALL: [Flood; 7] = [
        Flood::Ping,
        Flood::Settings,
        Flood::Reset,
        Flood::Priority,
        Flood::WindowUpdate,
        Flood::Continuation,
        Flood::Empty,
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
        }
    }
}

/// The meter of one connection.
#[derive(Debug)]
pub struct Meter {
    bounds: FrameConfig,
    /// Bytes of the preface or of a payload that are not looked at.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
    began: Option<Instant>,
    counts: [u64; Flood::ALL.len()],
    now: Earned,
    /// What was earned in the window before: its WINDOW_UPDATEs may come in this one.
    before: Earned,
    flood: Option<Flood>,
}

/// What explains frames.
#[derive(Clone, Copy, Debug, Default)]
struct Earned {
    requests: u64,
    bytes: u64,
}

impl Meter {
    /// The meter of a connection of which nothing was read yet, not even the preface.
    #[must_use]
    pub fn new(bounds: FrameConfig) -> Meter {
        Meter {
            bounds,
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            began: None,
            counts: [0; Flood::ALL.len()],
            now: Earned::default(),
            before: Earned::default(),
            flood: None,
        }
    }

    /// So many bytes were sent to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.now.bytes += bytes as u64;
    }

    /// What the client has sent too much of, if so.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Looks at bytes the client has sent. The clock is read only for frames that are counted.
    ///
    /// # Errors
    /// What the client has sent too much of. Once it has, nothing is forgiven.
    pub fn received(&mut self, mut bytes: &[u8], clock: impl Fn() -> Instant) -> Result<(), Flood> {
        while self.flood.is_none() && !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == HEAD {
                self.have = 0;
                let frame = Frame::of(self.head);
                self.skip = frame.length;
                self.frame(frame, &clock);
            }
        }
        self.flood.map_or(Ok(()), Err)
    }

    fn frame(&mut self, frame: Frame, clock: impl Fn() -> Instant) {
        let kind = match frame.kind {
            Frame::HEADERS => {
                self.now.requests += 1;
                return;
            }
            Frame::DATA if frame.is_empty_data() => Flood::Empty,
            Frame::DATA | Frame::GOAWAY => return,
            Frame::RST_STREAM => Flood::Reset,
            Frame::SETTINGS => Flood::Settings,
            Frame::PING => Flood::Ping,
            Frame::WINDOW_UPDATE => Flood::WindowUpdate,
            Frame::CONTINUATION => Flood::Continuation,
            _ => Flood::Priority,
        };
        self.roll(clock());
        let count = &mut self.counts[kind as usize];
        *count += 1;
        if *count > self.allowed(kind) {
            self.flood = Some(kind);
        }
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
        }
    }
}

/// A frame's header, as far as it matters here.
#[derive(Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Frame {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const WINDOW_UPDATE: u8 = 8;
    const CONTINUATION: u8 = 9;

    const END_STREAM: u8 = 0x01;
    const PADDED: u8 = 0x08;
    /// A length of the padding, and padding.
    const LONGEST_PADDING: usize = 256;

    fn of(head: [u8; HEAD]) -> Frame {
        let [a, b, c, kind, flags, ..] = head;
        Frame {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
        }
    }

    /// No byte of content, or none that can be told from padding.
    fn is_empty_data(self) -> bool {
        let padded = self.flags & Self::PADDED != 0 && self.length <= Self::LONGEST_PADDING;
        (self.length == 0 || padded) && self.flags & Self::END_STREAM == 0
    }
}

/// The last word to a client that floods: GOAWAY with ENHANCE_YOUR_CALM. It names the highest stream
/// there can be: which ones were answered is unknown here, and none is said to be safe to retry.
pub(crate) const CALM: [u8; HEAD + 8] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0x0b,
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn preface() -> Vec<u8> {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
    }

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
        // A payload that looks like frames' headers to whoever loses count.
        bytes.extend(std::iter::repeat_n(6, length));
        bytes
    }

    fn meter() -> (Meter, Instant) {
        let mut meter = Meter::new(FrameConfig::default());
        let now = Instant::now();
        meter.received(&preface(), || now).unwrap();
        (meter, now)
    }

    #[test]
    fn each_flood_is_found_and_named() {
        for (kind, flags, length, flood) in [
            (Frame::PING, 0, 8, Flood::Ping),
            (Frame::PING, 1, 8, Flood::Ping),
            (Frame::SETTINGS, 0, 0, Flood::Settings),
            (Frame::SETTINGS, 1, 0, Flood::Settings),
            (Frame::RST_STREAM, 0, 4, Flood::Reset),
            (2, 0, 5, Flood::Priority),
            (0x10, 0, 12, Flood::Priority),
            (Frame::WINDOW_UPDATE, 0, 4, Flood::WindowUpdate),
            (Frame::CONTINUATION, 0, 0, Flood::Continuation),
            (Frame::DATA, 0, 0, Flood::Empty),
            (Frame::DATA, Frame::PADDED, 200, Flood::Empty),
        ] {
            let (mut meter, now) = meter();
            let most = meter.allowed(flood);
            for _ in 0..most {
                meter.received(&frame(kind, flags, length), || now).unwrap();
            }
            let one_more = meter.received(&frame(kind, flags, length), || now);
            assert_eq!(one_more, Err(flood));
            assert_eq!(meter.received(b"x", || now), Err(flood), "for good");
            assert_eq!(meter.flood(), Some(flood));
        }
    }

    #[test]
    fn the_same_frames_over_more_time_are_no_flood() {
        let (mut meter, start) = meter();
        let pings = FrameConfig::default().pings;
        for n in 0..20 * pings {
            let step = *FrameConfig::default().window / u32::try_from(pings).unwrap();
            let now = start + step * u32::try_from(n).unwrap();
            meter.received(&frame(Frame::PING, 0, 8), || now).unwrap();
        }
    }

    #[test]
    fn resets_of_every_request_are_a_flood() {
        let (mut meter, now) = meter();
        let mut pair = frame(Frame::HEADERS, 5, 40);
        pair.extend(frame(Frame::RST_STREAM, 0, 4));
        let flood = (0..10_000).find_map(|_| meter.received(&pair, || now).err());
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
                meter
                    .received(&frame(Frame::WINDOW_UPDATE, 0, 4), || now)
                    .unwrap();
            }
        }
    }

    #[test]
    fn small_answers_given_back_twice_are_no_flood() {
        let (mut meter, now) = meter();
        for _ in 0..100_000 {
            meter
                .received(&frame(Frame::HEADERS, 5, 60), || now)
                .unwrap();
            for _ in 0..2 {
                meter
                    .received(&frame(Frame::WINDOW_UPDATE, 0, 4), || now)
                    .unwrap();
            }
        }
    }

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let one = (0_u8..12, any::<u8>(), 0_usize..40)
            .prop_map(|(kind, flags, length)| frame(kind, flags, length));
        prop::collection::vec(one, 0..200).prop_map(|frames| {
            let mut bytes = preface();
            bytes.extend(frames.concat());
            bytes
        })
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(
            bytes in frames(),
            cuts in prop::collection::vec(1_usize..50, 1..50),
        ) {
            let bounds = FrameConfig { pings: 3, resets: 2, empty: 5, ..FrameConfig::default() };
            let now = Instant::now();
            let mut whole = Meter::new(bounds.clone());
            let expected = whole.received(&bytes, || now);
            let mut cut = Meter::new(bounds);
            let (mut rest, mut got) = (bytes.as_slice(), Ok(()));
            for n in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*n).min(rest.len()));
                got = cut.received(piece, || now);
                rest = after;
            }
            prop_assert_eq!(got, expected);
        }
    }
}
