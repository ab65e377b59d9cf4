//! What becomes of answers over the rate of a network.

use super::*;
use crate::config::Rates as Limits;

fn limited(slip: u32) -> Responder {
    let limits = Limits {
        answers: 2,
        errors: 1,
        burst: 1,
        slip,
        prefix_v4: 24,
        prefix_v6: 56,
        exempt: vec![],
        networks: 64,
    };
    let settings = Settings {
        cookies: Some(Jar::new([7; 16], None)),
        rates: Some(Arc::new(Rates::new(limits, start()))),
        ..Settings::plain(CAP)
    };
    Responder::new(responder().zones, settings)
}

fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

fn send(responder: &Responder, asked: &Ask1) -> (Vec<u8>, Note) {
    let ask = Ask {
        peer: "192.0.2.53".parse().unwrap(),
        transport: asked.transport,
        at: Moment {
            instant: start(),
            unix: 1000,
        },
    };
    let mut out = vec![9; 9];
    let note = responder
        .respond(&asked.bytes(), &ask, &map(), &mut out)
        .unwrap();
    (out, note)
}

fn cookie(data: &[u8]) -> Ask1 {
    let length = u8::try_from(data.len()).unwrap();
    ask("go.test", A).opt(CAP, 0, &[&[0, 10, 0, length], data].concat())
}

#[test]
fn over_the_rate_answers_are_dropped_or_sent_empty_with_tc() {
    let responder = limited(2);
    let plain = ask("go.test", A);
    for _ in 0..2 {
        let (bytes, note) = send(&responder, &plain);
        assert_eq!((note.limited, bytes[2] & 2), (None, 0));
    }
    let (bytes, note) = send(&responder, &plain);
    assert_eq!((note.limited, bytes), (Some(Limited::Dropped), vec![]));
    let (bytes, note) = send(&responder, &plain);
    assert_eq!(
        (note.limited, note.truncated),
        (Some(Limited::Truncated), true)
    );
    let query = plain.bytes();
    assert_eq!(bytes.len(), query.len(), "no larger than the query");
    assert_eq!(
        (bytes[2] & 2, &bytes[4..12]),
        (2, &[0, 1, 0, 0, 0, 0, 0, 0][..])
    );
    assert_eq!(bytes[12..], query[12..]);
}

#[test]
fn over_tcp_nobody_is_limited() {
    let responder = limited(0);
    for _ in 0..20 {
        assert_eq!(send(&responder, &ask("go.test", A).tcp()).1.limited, None);
    }
}

#[test]
fn errors_are_limited_apart_from_answers() {
    let responder = limited(0);
    let missing = ask("missing.go.test", A);
    assert_eq!(send(&responder, &missing).1.limited, None);
    assert_eq!(send(&responder, &missing).1.limited, Some(Limited::Dropped));
    assert_eq!(
        send(&responder, &ask("example", A)).1.limited,
        Some(Limited::Dropped)
    );
    for _ in 0..2 {
        assert_eq!(send(&responder, &ask("go.test", A)).1.limited, None);
    }
    assert_eq!(
        send(&responder, &ask("go.test", A)).1.limited,
        Some(Limited::Dropped)
    );
}

#[test]
fn who_knows_cookies_is_told_badcookie_and_who_shows_one_is_never_limited() {
    let responder = limited(1);
    for _ in 0..2 {
        assert_eq!(send(&responder, &ask("go.test", A)).1.limited, None);
    }
    let (bytes, note) = send(&responder, &cookie(b"client-c"));
    assert_eq!(
        (note.limited, note.code),
        (Some(Limited::BadCookie), ResponseCode::BADCOOKIE)
    );
    // The extended code is 23: 7 in the header, 1 in OPT.
    assert_eq!(
        (bytes[3] & 15, &bytes[4..12]),
        (7, &[0, 1, 0, 0, 0, 0, 0, 1][..])
    );
    let learnt = &bytes[bytes.len() - 24..];
    assert_eq!(
        (&learnt[..8], bytes[bytes.len() - 24 - 6 - 4]),
        (&b"client-c"[..], 1)
    );
    for _ in 0..20 {
        let (bytes, note) = send(&responder, &cookie(learnt));
        assert_eq!((note.limited, note.code), (None, ResponseCode::NoError));
        assert_eq!(bytes[7], 1, "an answer");
    }
    let mut forged = learnt.to_vec();
    forged[12] ^= 1;
    assert_eq!(
        send(&responder, &cookie(&forged)).1.limited,
        Some(Limited::BadCookie)
    );
}

#[test]
fn the_short_way_is_open_as_long_as_there_is_a_token() {
    let responder = limited(0);
    let ask = |transport| Ask {
        peer: "192.0.2.53".parse().unwrap(),
        transport,
        at: Moment {
            instant: start(),
            unix: 1000,
        },
    };
    let udp = ask(Transport::Udp);
    assert_eq!(
        [(); 4].map(|()| responder.admits(&udp)),
        [true, true, false, false]
    );
    assert!(responder.admits(&ask(Transport::Tcp)));
}
