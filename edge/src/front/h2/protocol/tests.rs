use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::super::frame::go_away;
use super::*;

fn limits() -> Limits {
    Limits {
        header: Bounds {
            bytes: 4096,
            fields: 20,
        },
        streams: 3,
        frames: FrameConfig::default(),
    }
}

/// `GET /` in HPACK: all from the static table but the authority.
fn get() -> Vec<u8> {
    field(&[0x82, 0x87, 0x84], 0x01, "go.test")
}

/// `before`, and a literal with the name of an entry.
fn field(before: &[u8], name: u8, value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [before, &[name, length], value.as_bytes()].concat()
}

fn frame_of(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    short(&mut bytes, kind, flags, stream, payload);
    bytes
}

const WHOLE: u8 = flags::END_HEADERS | flags::END_STREAM;

fn request(stream: u32) -> Vec<u8> {
    frame_of(Kind::Headers, WHOLE, stream, &get())
}

/// A request whose body of `length` follows.
fn upload(stream: u32, length: &str) -> Vec<u8> {
    let block = field(&get(), 0x0f, length);
    // Index 28 takes two bytes: 0x0f, 13.
    let at = block.len() - length.len() - 1;
    let block = [&block[..at], &[13], &block[at..]].concat();
    frame_of(Kind::Headers, flags::END_HEADERS, stream, &block)
}

fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame_of(Kind::Data, flags, stream, bytes)
}

/// A connection whose client has begun.
struct Rig {
    protocol: Protocol,
    /// Frames that it sent, taken apart.
    sent: Vec<(Kind, u8, u32, Vec<u8>)>,
}

impl Rig {
    fn new() -> Rig {
        let mut rig = Rig {
            protocol: Protocol::new(limits()),
            sent: Vec::new(),
        };
        let mut bytes = H2_PREFACE.to_vec();
        frame::write_settings(&mut bytes, &[]);
        assert!(rig.send(&bytes).unwrap().is_none());
        assert!(rig.protocol.has_begun());
        assert_eq!(rig.sent[1], (Kind::Settings, flags::ACK, 0, Vec::new()));
        rig.sent.clear();
        rig
    }

    fn send(&mut self, bytes: &[u8]) -> Result<Option<Arrival>, Fatal> {
        let (mut used, now) = (0, Instant::now());
        let received = self.protocol.receive(bytes, &mut used, || now);
        let out = std::mem::take(self.protocol.out());
        let mut rest = &out[..];
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
            let head = Head::parse(*head);
            let payload = behind[..head.length].to_vec();
            self.sent
                .push((head.kind, head.flags, head.stream, payload));
            rest = &behind[head.length..];
        }
        received
    }

    fn open(&mut self, bytes: &[u8]) -> u32 {
        let arrival = self.send(bytes).unwrap().expect("a request");
        self.protocol.open(&arrival);
        arrival.stream
    }

    /// What was the last frame sent, if it is a reset.
    fn reset(&self) -> Option<(u32, u32)> {
        let (kind, _, stream, payload) = self.sent.last()?;
        let code = u32::from_be_bytes(payload.as_slice().try_into().ok()?);
        (*kind == Kind::RstStream).then_some((*stream, code))
    }

    fn window(&mut self, id: u32, want: usize) -> Poll<Result<usize, Gone>> {
        let mut cx = Context::from_waker(Waker::noop());
        self.protocol.poll_window(id, want, &mut cx)
    }

    fn body(&mut self, id: u32) -> Poll<Result<Option<Bytes>, Gone>> {
        let mut cx = Context::from_waker(Waker::noop());
        let body = self.protocol.poll_body(id, &mut cx);
        self.send(&[]).unwrap();
        body
    }
}

fn fatal(bytes: &[u8]) -> Option<ErrorCode> {
    Rig::new().send(bytes).err().map(Fatal::code)
}

#[test]
fn a_request_is_handed_out_before_the_next_frame_is_looked_at() {
    let mut rig = Rig::new();
    let both = [request(1), request(3)].concat();
    let mut used = 0;
    let first = rig
        .protocol
        .receive(&both, &mut used, Instant::now)
        .unwrap()
        .unwrap();
    assert_eq!((first.stream, used), (1, both.len() / 2));
    assert_eq!(first.opened.request.target, "/");
}

#[test]
fn what_breaks_the_connection_ends_it_with_the_code_of_the_rfc() {
    let window = |bytes: u32, stream| frame_of(Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes());
    let setting = |id: u16, value: u32| {
        let mut bytes = Vec::new();
        frame::write_settings(&mut bytes, &[(id, value)]);
        bytes
    };
    for (what, bytes, code) in [
        ("an even stream", request(2), ErrorCode::Protocol),
        ("HEADERS on the connection", request(0), ErrorCode::Protocol),
        (
            "a stream out of order",
            [request(5), request(3)].concat(),
            ErrorCode::Protocol,
        ),
        (
            "DATA on an idle stream",
            data(1, 0, b"x"),
            ErrorCode::Protocol,
        ),
        (
            "RST_STREAM on an idle stream",
            frame_of(Kind::RstStream, 0, 1, &[0; 4]),
            ErrorCode::Protocol,
        ),
        (
            "a short RST_STREAM",
            frame_of(Kind::RstStream, 0, 1, &[0; 3]),
            ErrorCode::FrameSize,
        ),
        (
            "WINDOW_UPDATE on an idle stream",
            window(1, 1),
            ErrorCode::Protocol,
        ),
        (
            "WINDOW_UPDATE of nothing",
            window(0, 0),
            ErrorCode::Protocol,
        ),
        (
            "a window that overflows",
            window(MAX_31, 0),
            ErrorCode::FlowControl,
        ),
        (
            "a long WINDOW_UPDATE",
            frame_of(Kind::WindowUpdate, 0, 0, &[0; 5]),
            ErrorCode::FrameSize,
        ),
        (
            "SETTINGS on a stream",
            frame_of(Kind::Settings, 0, 1, &[]),
            ErrorCode::Protocol,
        ),
        (
            "half a setting",
            frame_of(Kind::Settings, 0, 0, &[0; 5]),
            ErrorCode::FrameSize,
        ),
        (
            "an ACK that says something",
            frame_of(Kind::Settings, flags::ACK, 0, &[0; 6]),
            ErrorCode::FrameSize,
        ),
        ("ENABLE_PUSH of 2", setting(2, 2), ErrorCode::Protocol),
        (
            "an initial window that is too large",
            setting(4, MAX_31 + 1),
            ErrorCode::FlowControl,
        ),
        (
            "frames that are too small",
            setting(5, 16_383),
            ErrorCode::Protocol,
        ),
        (
            "PUSH_PROMISE",
            frame_of(Kind::PushPromise, 0, 1, &[0; 4]),
            ErrorCode::Protocol,
        ),
        (
            "PING on a stream",
            frame_of(Kind::Ping, 0, 1, &[0; 8]),
            ErrorCode::Protocol,
        ),
        (
            "a short PING",
            frame_of(Kind::Ping, 0, 0, &[0; 7]),
            ErrorCode::FrameSize,
        ),
        (
            "GOAWAY on a stream",
            frame_of(Kind::GoAway, 0, 1, &[0; 8]),
            ErrorCode::Protocol,
        ),
        (
            "CONTINUATION of nothing",
            frame_of(Kind::Continuation, 0, 1, &[]),
            ErrorCode::Protocol,
        ),
        (
            "another frame in a block",
            [frame_of(Kind::Headers, 1, 1, &get()), request(1)].concat(),
            ErrorCode::Protocol,
        ),
        (
            "a block that is no HPACK",
            frame_of(Kind::Headers, WHOLE, 1, &[0x80]),
            ErrorCode::Compression,
        ),
        (
            "padding beyond the frame",
            frame_of(Kind::Headers, WHOLE | flags::PADDED, 1, &[9, 0]),
            ErrorCode::Protocol,
        ),
        (
            "a stream that depends on itself",
            frame_of(Kind::Priority, 0, 3, &[0, 0, 0, 3, 0]),
            ErrorCode::Protocol,
        ),
        (
            "a short PRIORITY",
            frame_of(Kind::Priority, 0, 3, &[0; 4]),
            ErrorCode::FrameSize,
        ),
        (
            "a frame that is too long",
            frame::head(Kind::Data, 0, 1, MAX_PAYLOAD + 1).to_vec(),
            ErrorCode::FrameSize,
        ),
    ] {
        // The requests before it come out first.
        let mut rig = Rig::new();
        let mut rest = &bytes[..];
        let found = loop {
            let mut used = 0;
            match rig.protocol.receive(rest, &mut used, Instant::now) {
                Ok(Some(_)) => rest = &rest[used..],
                Ok(None) => break None,
                Err(fatal) => break Some(fatal.code()),
            }
        };
        assert_eq!(found, Some(code), "{what}");
    }
}

#[test]
fn the_first_frame_is_settings() {
    let mut bytes = H2_PREFACE.to_vec();
    bytes.extend(request(1));
    let mut protocol = Protocol::new(limits());
    let received = protocol.receive(&bytes, &mut 0, Instant::now);
    assert_eq!(received.unwrap_err().code(), ErrorCode::Protocol);
    let mut protocol = Protocol::new(limits());
    assert!(
        protocol
            .receive(b"GET / HTTP/1.1\r\n", &mut 0, Instant::now)
            .is_err()
    );
}

#[test]
fn a_block_may_come_in_parts() {
    let mut rig = Rig::new();
    let block = get();
    let mut bytes = frame_of(Kind::Headers, flags::END_STREAM, 1, &block[..2]);
    bytes.extend(frame_of(Kind::Continuation, 0, 1, &block[2..5]));
    bytes.extend(frame_of(
        Kind::Continuation,
        flags::END_HEADERS,
        1,
        &block[5..],
    ));
    let arrival = rig.send(&bytes).unwrap().unwrap();
    assert_eq!(arrival.opened.request.authority(), "go.test");
    assert!(!arrival.opened.request.has_body);
}

#[test]
fn a_block_without_end_is_a_flood() {
    let mut bytes = frame_of(Kind::Headers, 0, 1, &[]);
    bytes.extend(frame_of(Kind::Continuation, 0, 1, &[0; 16_000]));
    bytes.extend(frame_of(Kind::Continuation, 0, 1, &[0; 16_000]));
    assert_eq!(fatal(&bytes), Some(ErrorCode::EnhanceYourCalm));
}

#[test]
fn more_streams_than_allowed_are_refused_and_may_be_tried_again() {
    let mut rig = Rig::new();
    for id in [1, 3, 5] {
        rig.open(&request(id));
    }
    assert!(rig.send(&request(7)).unwrap().is_none());
    assert_eq!(rig.reset(), Some((7, ErrorCode::RefusedStream as u32)));
    rig.protocol.close(1, false);
    rig.open(&request(9));
}

#[test]
fn an_answer_takes_both_windows_and_waits_for_either() {
    let mut rig = Rig::new();
    let (one, two) = (rig.open(&request(1)), rig.open(&request(3)));
    assert_eq!(rig.window(one, 60_000), Poll::Ready(Ok(60_000)));
    assert_eq!(
        rig.window(one, 60_000),
        Poll::Ready(Ok(5535)),
        "what is left of both"
    );
    assert_eq!(
        rig.window(two, 1),
        Poll::Pending,
        "the connection's is used up"
    );
    let more = frame_of(Kind::WindowUpdate, 0, 0, &100_u32.to_be_bytes());
    rig.send(&more).unwrap();
    assert_eq!(rig.window(one, 1), Poll::Pending, "its own is used up");
    assert_eq!(rig.window(two, 1000), Poll::Ready(Ok(100)));
}

#[test]
fn a_smaller_initial_window_holds_for_streams_that_are_open() {
    let mut rig = Rig::new();
    let id = rig.open(&request(1));
    assert_eq!(rig.window(id, 1000), Poll::Ready(Ok(1000)));
    let mut smaller = Vec::new();
    frame::write_settings(&mut smaller, &[(4, 500)]);
    rig.send(&smaller).unwrap();
    assert_eq!(rig.window(id, 1), Poll::Pending, "501 below what is needed");
    let update = frame_of(Kind::WindowUpdate, 0, id, &600_u32.to_be_bytes());
    rig.send(&update).unwrap();
    assert_eq!(rig.window(id, 1000), Poll::Ready(Ok(100)));
}

#[test]
fn what_is_answered_at_once_needs_room_in_one_frame() {
    let mut rig = Rig::new();
    for (id, body, at_once) in [(1, 16_384, true), (3, 16_385, false), (5, 0, true)] {
        let arrival = rig.send(&request(id)).unwrap().unwrap();
        assert_eq!(
            rig.protocol.answers_at_once(&arrival, body),
            at_once,
            "{body}"
        );
    }
    let upload = rig.send(&upload(7, "5")).unwrap().unwrap();
    assert!(
        !rig.protocol.answers_at_once(&upload, 1),
        "its body is to be read"
    );
}

#[test]
fn a_body_is_read_and_its_window_given_back() {
    let mut rig = Rig::new();
    let id = rig.open(&upload(1, "40000"));
    assert_eq!(rig.body(id), Poll::Pending);
    for _ in 0..4 {
        rig.send(&data(id, 0, &[7; 10_000])).unwrap();
        assert_eq!(
            rig.body(id),
            Poll::Ready(Ok(Some(Bytes::from(vec![7; 10_000]))))
        );
    }
    let updates = rig.sent.iter().filter(|sent| sent.0 == Kind::WindowUpdate);
    assert_eq!(updates.count(), 2, "the stream's and the connection's");
    rig.send(&data(id, flags::END_STREAM, &[])).unwrap();
    assert_eq!(rig.body(id), Poll::Ready(Ok(None)));
}

#[test]
fn a_body_that_breaks_its_word_is_reset() {
    let protocol = ErrorCode::Protocol as u32;
    for (what, frames, code) in [
        ("longer", data(1, 0, b"123456"), protocol),
        ("shorter", data(1, flags::END_STREAM, b"1234"), protocol),
        (
            "shorter, by trailers",
            frame_of(Kind::Headers, WHOLE, 1, &[0x0f, 4, 0]),
            protocol,
        ),
    ] {
        let mut rig = Rig::new();
        let id = rig.open(&upload(1, "5"));
        rig.send(&frames).unwrap();
        assert_eq!(rig.reset(), Some((id, code)), "{what}");
        assert_eq!(rig.body(id), Poll::Ready(Err(Gone)), "{what}");
    }
}

#[test]
fn a_client_that_exceeds_its_window_is_sent_away() {
    let mut rig = Rig::new();
    let id = rig.open(&upload(1, "99999"));
    for _ in 0..3 {
        rig.send(&data(id, 0, &[0; 16_384])).unwrap();
    }
    assert_eq!(
        rig.send(&data(id, 0, &[0; 16_384])).unwrap_err().code(),
        ErrorCode::FlowControl
    );
}

#[test]
fn what_comes_after_the_end_is_an_error_of_the_stream() {
    let mut rig = Rig::new();
    let id = rig.open(&request(1));
    rig.send(&data(id, 0, b"x")).unwrap();
    let closed = Some((id, ErrorCode::StreamClosed as u32));
    assert_eq!(rig.reset(), closed);
    let mut rig = Rig::new();
    let id = rig.open(&request(1));
    rig.protocol.close(id, true);
    rig.send(&data(id, 0, b"x")).unwrap();
    assert_eq!(rig.reset(), closed);
    let again = rig.send(&request(id)).unwrap_err();
    assert_eq!(
        again.code(),
        ErrorCode::StreamClosed,
        "a second request on it"
    );
}

#[test]
fn what_nobody_reads_is_thrown_away_without_a_word() {
    let mut rig = Rig::new();
    let id = rig.open(&upload(1, "99999"));
    rig.send(&data(id, 0, &[0; 10_000])).unwrap();
    rig.protocol.close(id, true);
    rig.send(&[]).unwrap();
    assert_eq!(rig.reset(), Some((id, ErrorCode::NoError as u32)));
    rig.sent.clear();
    for _ in 0..8 {
        rig.send(&data(id, 0, &[0; 10_000])).unwrap();
    }
    let kinds: Vec<_> = rig.sent.iter().map(|sent| (sent.0, sent.2)).collect();
    assert!(
        kinds.iter().all(|sent| *sent == (Kind::WindowUpdate, 0)),
        "{kinds:?}"
    );
    assert!(kinds.len() >= 2, "the connection's window is given back");
}

#[test]
fn an_answer_that_is_broken_off_is_reset() {
    let mut rig = Rig::new();
    let id = rig.open(&request(1));
    rig.protocol.close(id, false);
    rig.send(&[]).unwrap();
    assert_eq!(rig.reset(), Some((id, ErrorCode::Internal as u32)));
}

#[test]
fn a_reset_by_the_client_ends_its_request() {
    let mut rig = Rig::new();
    let id = rig.open(&request(1));
    rig.send(&frame_of(Kind::RstStream, 0, id, &[0, 0, 0, 8]))
        .unwrap();
    assert_eq!(rig.window(id, 1), Poll::Ready(Err(Gone)));
    assert!(!rig.protocol.is_open(id));
    rig.protocol.close(id, false);
    rig.send(&[]).unwrap();
    assert_eq!(rig.reset(), None, "a reset isn't answered with one");
}

#[test]
fn resets_that_the_client_provokes_are_a_flood() {
    let mut rig = Rig::new();
    let zero = |id| frame_of(Kind::WindowUpdate, 0, id, &[0; 4]);
    let ended = (0..2000).find_map(|n| {
        let id = 2 * n + 1;
        let arrival = rig.send(&request(id)).ok()??;
        rig.protocol.open(&arrival);
        let ended = rig.send(&zero(id)).err();
        rig.protocol.close(id, false);
        ended
    });
    assert_eq!(ended, Some(Fatal::Flood(Flood::MadeReset)));
}

#[test]
fn a_client_with_a_small_table_is_told_that_none_is_used() {
    let mut rig = Rig::new();
    assert!(rig.protocol.block_prefix().is_empty());
    let mut none = Vec::new();
    frame::write_settings(&mut none, &[(1, 0)]);
    rig.send(&none).unwrap();
    assert_eq!(rig.protocol.block_prefix(), [NO_TABLE]);
    assert!(rig.protocol.block_prefix().is_empty());
}

#[test]
fn a_farewell_takes_what_is_on_its_way_and_nothing_after() {
    let mut rig = Rig::new();
    rig.protocol.say_farewell();
    let id = rig.open(&request(1));
    let mut last = Vec::new();
    go_away(&mut last, MAX_31, ErrorCode::NoError);
    assert_eq!(rig.sent[0].3, last[HEAD..]);
    let ping = rig.sent[1].clone();
    assert_eq!((ping.0, ping.1), (Kind::Ping, 0));
    rig.send(&frame_of(Kind::Ping, flags::ACK, 0, &ping.3))
        .unwrap();
    assert_eq!(
        rig.sent.last().unwrap().3[..4],
        [0, 0, 0, 1],
        "the highest stream"
    );
    assert!(rig.send(&request(3)).unwrap().is_none());
    assert!(!rig.protocol.is_done());
    rig.protocol.close(id, true);
    assert!(rig.protocol.is_done());
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let any = (
        0_u8..12,
        any::<u8>(),
        0_u32..9,
        prop::collection::vec(any::<u8>(), 0..20),
    );
    let any = any.prop_map(|(kind, flags, stream, payload)| {
        let mut bytes = frame::head(Kind::Data, flags, stream, payload.len()).to_vec();
        bytes[3] = kind;
        bytes.extend(payload);
        bytes
    });
    let stream = || (0_u32..6).prop_map(|n| 2 * n + 1);
    let one = prop_oneof![
        2 => any,
        3 => stream().prop_map(request),
        2 => stream().prop_map(|id| upload(id, "20")),
        3 => (stream(), 0_u8..2, 0_usize..25).prop_map(|(id, end, n)| data(id, end, &vec![1; n])),
        1 => (stream(), 0_u8..4).prop_map(|(id, n)| frame_of(Kind::WindowUpdate, 0, id, &[0, 0, 0, n])),
        1 => stream().prop_map(|id| frame_of(Kind::RstStream, 0, id, &[0; 4])),
    ];
    prop::collection::vec(one, 0..40).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_does_not_matter(bytes in frames(), cut in 1_usize..60) {
        invariants::h2(&bytes, cut);
    }

    #[test]
    fn any_bytes_are_borne(bytes: Vec<u8>, cut in 1_usize..60) {
        invariants::h2(&bytes, cut);
    }
}
