//! EDNS, option by option, in raw bytes.

use hickory_proto::rr::RData;

use super::*;
use crate::cookie::Cookie;

const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const EXTENDED_ERROR: u16 = 15;
const UNIX: u32 = 1_559_731_985;

/// A responder with everything on.
fn full() -> Responder {
    let settings = Settings {
        identity: Some("ns1".to_owned()),
        cookies: Some(jar()),
        ..Settings::plain(CAP)
    };
    Responder::new(responder().zones, settings)
}

fn jar() -> Jar {
    Jar::new(*b"a secret of ours", None)
}

fn send(responder: &Responder, bytes: &[u8], transport: Transport) -> (Vec<u8>, Note) {
    let ask = Ask {
        peer: "192.0.2.53".parse().unwrap(),
        transport,
        at: Moment {
            instant: Instant::now(),
            unix: UNIX,
        },
    };
    let mut out = Vec::new();
    let note = responder.respond(bytes, &ask, &map(), &mut out).unwrap();
    (out, note)
}

/// The options of an answer, from its raw OPT record at its end.
fn options(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let head = (12..bytes.len() - 10).find(|at| {
        let length = usize::from(u16::from_be_bytes([bytes[at + 9], bytes[at + 10]]));
        bytes[*at..at + 3] == [0, 0, 41] && at + 11 + length == bytes.len()
    });
    let mut rest = &bytes[head.expect("an OPT record at the end") + 11..];
    let mut options = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        options.push((
            u16::from_be_bytes([head[0], head[1]]),
            after[..length].to_vec(),
        ));
        rest = &after[length..];
    }
    options
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&code.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

fn with_options(options: &[u8]) -> Vec<u8> {
    ask("go.test", A).opt(CAP, 0, options).bytes()
}

fn only(bytes: &[u8], code: u16) -> Option<Vec<u8>> {
    let mut found = options(bytes)
        .into_iter()
        .filter(|(other, _)| *other == code);
    let first = found.next().map(|(_, data)| data);
    assert!(found.next().is_none(), "twice");
    first
}

#[test]
fn nsid_names_the_node_and_the_map_to_who_asks() {
    // RFC 5001 §2.1: what the asker sends with it has no meaning.
    for data in [&b""[..], b"junk"] {
        let (bytes, _) = send(&full(), &with_options(&option(NSID, data)), Transport::Udp);
        assert_eq!(only(&bytes, NSID).unwrap(), b"ns1 map=1");
    }
    let (bytes, _) = send(&full(), &with_options(&[]), Transport::Udp);
    assert_eq!(options(&bytes), [], "not asked for");
    let (bytes, _) = send(
        &responder(),
        &with_options(&option(NSID, b"")),
        Transport::Udp,
    );
    assert_eq!(options(&bytes), [], "no identity to tell");
}

#[test]
fn a_refusal_says_why_to_who_knows_edns() {
    let subnet = option(8, &[0, 1, 24, 0, 192, 0, 2]);
    for (name, kind, class, expected) in [
        ("example", A, 1, Some(20)),
        ("go.test", A, 4, Some(20)),
        ("version.bind", TXT, 3, Some(20)),
        ("go.test", 252, 1, Some(21)),
        ("go.test", A, 1, None),
        ("no.go.test", A, 1, None),
    ] {
        let mut asked = ask(name, kind).opt(CAP, 0, &subnet);
        asked.class = class;
        let (bytes, _) = send(&responder(), &asked.bytes(), Transport::Udp);
        let told = only(&bytes, EXTENDED_ERROR);
        // RFC 8914 §2: the code, and no text where it says enough.
        let code = expected.map(|code: u16| code.to_be_bytes().to_vec());
        assert_eq!(told, code, "{name} {kind} {class}");
        let last = options(&bytes).last().map(|(code, _)| *code);
        assert_eq!(last, Some(8), "the client subnet comes last");
        let mut plain = ask(name, kind);
        plain.class = class;
        let (bytes, _) = send(&responder(), &plain.bytes(), Transport::Udp);
        assert_eq!(bytes[11], 0, "no OPT to who sent none: {name}");
    }
}

#[test]
fn a_tcp_connections_idle_limit_is_told_over_tcp_alone() {
    let query = with_options(&option(KEEPALIVE, b""));
    let (bytes, _) = send(&full(), &query, Transport::Tcp);
    // RFC 7828 §3.1: in units of 100 ms.
    assert_eq!(only(&bytes, KEEPALIVE).unwrap(), [0, 100]);
    let (bytes, _) = send(&full(), &query, Transport::Udp);
    assert_eq!(options(&bytes), [], "RFC 7828 §3.2.1: never over UDP");
    let (bytes, _) = send(&full(), &with_options(&[]), Transport::Tcp);
    assert_eq!(options(&bytes), [], "not asked for");
}

#[test]
fn a_client_cookie_is_answered_with_ours_and_that_is_then_valid() {
    let (bytes, note) = send(
        &full(),
        &with_options(&option(COOKIE, b"client-c")),
        Transport::Udp,
    );
    assert_eq!(note.cookie, Standing::New);
    let learnt = only(&bytes, COOKIE).unwrap();
    assert_eq!((learnt.len(), &learnt[..8]), (24, &b"client-c"[..]));
    // RFC 9018 §4: version 1, reserved, the time.
    assert_eq!(learnt[8..12], [1, 0, 0, 0]);
    assert_eq!(learnt[12..16], UNIX.to_be_bytes());
    let (bytes, note) = send(
        &full(),
        &with_options(&option(COOKIE, &learnt)),
        Transport::Udp,
    );
    assert_eq!(
        (note.cookie, note.code),
        (Standing::Valid, ResponseCode::NoError)
    );
    assert_eq!(only(&bytes, COOKIE).unwrap(), learnt, "still young");
    let mut forged = learnt.clone();
    forged[20] ^= 1;
    let (bytes, note) = send(
        &full(),
        &with_options(&option(COOKIE, &forged)),
        Transport::Udp,
    );
    assert_eq!(
        (note.cookie, note.code),
        (Standing::Invalid, ResponseCode::NoError)
    );
    assert_eq!(
        only(&bytes, COOKIE).unwrap(),
        learnt,
        "the right one is told"
    );
}

#[test]
fn cookies_of_impossible_lengths_are_format_errors() {
    for length in (0..=45).filter(|l| *l != 8 && !(16..=40).contains(l)) {
        let query = with_options(&option(COOKIE, &vec![7; length]));
        let (bytes, note) = send(&full(), &query, Transport::Udp);
        assert_eq!(
            (note.code, bytes[3] & 15),
            (ResponseCode::FormErr, 1),
            "{length}"
        );
        assert_eq!(options(&bytes), []);
    }
    // RFC 7873 §4: of several, the first counts.
    let two = [option(COOKIE, &[1; 8]), option(COOKIE, &[2; 3])].concat();
    let (bytes, _) = send(&full(), &with_options(&two), Transport::Udp);
    assert_eq!(only(&bytes, COOKIE).unwrap()[..8], [1; 8]);
}

#[test]
fn without_cookies_the_option_is_unknown_and_passed_over() {
    let query = with_options(&option(COOKIE, &[1; 8]));
    let (bytes, note) = send(&responder(), &query, Transport::Udp);
    assert_eq!((options(&bytes), note.cookie), (vec![], Standing::Absent));
}

#[test]
fn a_query_without_a_question_learns_a_cookie() {
    // RFC 7873 §5.4.
    let mut query = vec![
        0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0,
    ];
    let cookie = option(COOKIE, b"client-c");
    query.extend([0, u8::try_from(cookie.len()).unwrap()]);
    query.extend(&cookie);
    let (bytes, note) = send(&full(), &query, Transport::Udp);
    assert_eq!(note.code, ResponseCode::NoError);
    assert_eq!(bytes[4..12], [0, 0, 0, 0, 0, 0, 0, 1], "nothing but OPT");
    assert_eq!(only(&bytes, COOKIE).unwrap().len(), 24);
    let at = query.len() - cookie.len() - 2;
    query.truncate(at);
    query.extend([0, 0]);
    let (_, note) = send(&full(), &query, Transport::Udp);
    assert_eq!(note.code, ResponseCode::FormErr, "no cookie, no reason");
}

#[test]
fn unknown_options_change_nothing() {
    let known = [option(8, &[0, 1, 24, 0, 192, 0, 2]), option(NSID, b"")].concat();
    let (expected, _) = send(&full(), &with_options(&known), Transport::Udp);
    for code in [0, 1, 2, 4, 5, 9, 12, 15, 26946, 65001, 65535] {
        for data in [&b""[..], b"x", &[0; 300]] {
            let more = [option(code, data), known.clone(), option(code, data)].concat();
            let (bytes, _) = send(&full(), &with_options(&more), Transport::Udp);
            assert_eq!(bytes, expected, "{code}");
        }
    }
}

#[test]
fn a_cut_option_is_a_format_error_and_nothing_before_it_is_answered() {
    let good = [
        option(8, &[0, 1, 24, 0, 192, 0, 2]),
        option(COOKIE, &[1; 8]),
    ]
    .concat();
    for cut in [
        &[0][..],
        &[0, 3],
        &[0, 3, 0],
        &[0, 3, 0, 1],
        &[0, 9, 255, 255, 1],
    ] {
        let (bytes, note) = send(
            &full(),
            &with_options(&[&good, cut].concat()),
            Transport::Udp,
        );
        assert_eq!(note.code, ResponseCode::FormErr);
        assert_eq!(options(&bytes), []);
    }
}

#[test]
fn the_size_of_an_answer_is_ours_and_the_askers_and_at_least_512() {
    let crowd = crowd();
    for (asked, most) in [
        (0, 512),
        (511, 512),
        (512, 512),
        (700, 700),
        (1232, 1232),
        (65535, 1232),
    ] {
        let mut query = ask("all.go.test", A).opt(asked, 0, &[]);
        let length = query.raw(&crowd).len();
        assert!(length <= most, "{asked}: {length}");
        query = ask("go.test", NS).opt(asked, 0, &[]);
        assert!(query.raw(&crowd).len() <= most);
    }
}

#[test]
fn chaos_tells_who_answers_and_nothing_else() {
    let chaos = |name: &'static str, kind: u16| {
        let mut asked = ask(name, kind);
        asked.class = 3;
        let (bytes, _) = send(&full(), &asked.bytes(), Transport::Udp);
        Message::from_vec(&bytes).unwrap()
    };
    for name in ["id.server", "ID.Server", "hostname.bind"] {
        let message = chaos(name, TXT);
        let [record] = &message.answers[..] else {
            panic!("{name}: {message}")
        };
        let RData::TXT(text) = &record.data else {
            panic!("{name}")
        };
        assert_eq!((text.to_string().as_str(), record.ttl), ("ns1 map=1", 0));
        assert_eq!(u16::from(record.dns_class), 3);
    }
    for (name, kind) in [
        ("version.bind", TXT),
        ("version.server", TXT),
        ("authors.bind", TXT),
        ("id.server", A),
        ("id.server", ANY),
        ("go.test", TXT),
    ] {
        let message = chaos(name, kind);
        assert_eq!(
            message.metadata.response_code,
            ResponseCode::Refused,
            "{name}"
        );
        assert!(message.answers.is_empty());
    }
    let mut asked = ask("id.server", TXT);
    asked.class = 3;
    let (_, note) = send(&responder(), &asked.bytes(), Transport::Udp);
    assert_eq!(note.code, ResponseCode::Refused, "no identity to tell");
}

proptest! {
    #[test]
    fn whatever_the_options_an_answer_has_opt_iff_the_query_had_and_fits(
        raw in proptest::collection::vec(any::<u8>(), 0..60),
        chosen in proptest::collection::vec((0usize..6, proptest::collection::vec(any::<u8>(), 0..41)), 0..5),
        payload in any::<u16>(), udp in any::<bool>(), junk in any::<bool>(), name in 0usize..4,
    ) {
        let built: Vec<u8> = chosen
            .iter()
            .flat_map(|(code, data)| option([3, 8, 10, 11, 12, 65001][*code], data))
            .collect();
        let name = ["go.test", "why.go.test", "all.go.test", "x.go.test"][name];
        let query = ask(name, A).opt(payload, 0, if junk { &raw } else { &built }).bytes();
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let (bytes, note) = send(&full(), &query, transport);
        let limit = if udp { usize::from(payload.clamp(512, CAP)) } else { 65535 };
        prop_assert!(bytes.len() <= limit);
        let codes: Vec<u16> = options(&bytes).iter().map(|(code, _)| *code).collect();
        let mut once = codes.clone();
        once.dedup();
        prop_assert_eq!(&once, &codes);
        prop_assert!(codes.iter().all(|code| [NSID, 8, COOKIE, KEEPALIVE].contains(code)));
        if note.code == ResponseCode::FormErr {
            prop_assert!(codes.is_empty());
        }
    }

    #[test]
    fn a_server_cookie_that_we_did_not_make_is_never_valid(server in any::<[u8; 16]>()) {
        let sent = [&b"client-c"[..], &server].concat();
        let (_, note) = send(&full(), &with_options(&option(COOKIE, &sent)), Transport::Udp);
        prop_assert_eq!(note.cookie, Standing::Invalid);
        let cookie = Cookie::parse(&sent).unwrap();
        prop_assert!(jar().answer(&cookie, "192.0.2.53".parse().unwrap(), UNIX)[8..] != server);
    }
}
