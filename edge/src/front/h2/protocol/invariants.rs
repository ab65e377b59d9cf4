//! What holds for any bytes that a client may send on an HTTP/2 connection. Called with all kinds of
//! them by the fuzzer, and by the tests with a few.

use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::*;

/// However the bytes behind the preface are cut, the same requests come out and the same is answered;
/// what is kept stays within its bounds.
///
/// # Panics
/// If it doesn't hold.
pub fn h2(bytes: &[u8], cut: usize) {
    let mut sent = H2_PREFACE.to_vec();
    frame::write_settings(&mut sent, &[]);
    sent.extend_from_slice(bytes);
    let whole = Seen::of(&sent, sent.len());
    assert_eq!(whole, Seen::of(&sent, cut), "in pieces of {cut}");
}

/// What a connection made of bytes.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    requests: Vec<(u32, String, bool)>,
    bodies: Vec<Vec<u8>>,
    out: Vec<u8>,
    end: Result<(), Fatal>,
}

const LIMITS: Limits = Limits {
    header: Bounds {
        bytes: 1024,
        fields: 10,
    },
    streams: 5,
    frames: FrameConfig {
        window: modcdn_core::units::Period::secs(10),
        pings: 5,
        settings: 5,
        resets: 5,
        priorities: 5,
        window_updates: 5,
        continuations: 5,
        empty: 5,
        made_resets: 5,
    },
};

impl Seen {
    /// Every other request is answered at once; the bodies of the others are read as they come, and
    /// every third of those is given up early.
    fn of(bytes: &[u8], cut: usize) -> Seen {
        let now = Instant::now();
        let mut protocol = Protocol::new(LIMITS);
        let mut seen = Seen {
            requests: Vec::new(),
            bodies: Vec::new(),
            out: Vec::new(),
            end: Ok(()),
        };
        let (mut input, mut open) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(cut.max(1)) {
            input.extend_from_slice(piece);
            while seen.end.is_ok() {
                let mut used = 0;
                let received = protocol.receive(&input, &mut used, || now);
                input.drain(..used);
                assert!(protocol.streams.len() <= LIMITS.streams as usize);
                match received {
                    Ok(None) => break,
                    Ok(Some(arrival)) => seen.take(&mut protocol, &arrival, &mut open),
                    Err(fatal) => seen.end = Err(fatal),
                }
                if let Reading::Block(block) = &protocol.reading {
                    assert!(block.bytes.len() <= BLOCK_SLACK * LIMITS.header.bytes + MAX_PAYLOAD);
                }
            }
            assert!(seen.end.is_err() || input.len() < HEAD + MAX_PAYLOAD);
        }
        seen.read(&mut protocol, &open);
        seen.out.append(protocol.out());
        seen
    }

    fn take(&mut self, protocol: &mut Protocol, arrival: &Arrival, open: &mut Vec<u32>) {
        let request = &arrival.opened.request;
        let number = self.requests.len();
        let refused = arrival.opened.refused.is_some();
        self.requests
            .push((arrival.stream, request.target.clone(), refused));
        if number.is_multiple_of(2) && protocol.answers_at_once(arrival, 10) {
            return;
        }
        protocol.open(arrival);
        if number.is_multiple_of(3) {
            protocol.close(arrival.stream, number.is_multiple_of(2));
        } else {
            open.push(arrival.stream);
        }
    }

    /// Reads what has come of the bodies.
    fn read(&mut self, protocol: &mut Protocol, open: &[u32]) {
        let mut cx = Context::from_waker(Waker::noop());
        for id in open {
            let mut body = Vec::new();
            while let Poll::Ready(Ok(Some(piece))) = protocol.poll_body(*id, &mut cx) {
                body.extend_from_slice(&piece);
            }
            assert!(body.len() <= INITIAL as usize);
            self.bodies.push(body);
        }
    }
}
