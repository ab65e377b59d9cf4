use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::dnssec::Verifier;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{MX, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, RecordData};
use hickory_proto::serialize::binary::BinEncodable;
use modcdn_core::config::parse;
use prometheus::Registry;
use proptest::prelude::*;
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::*;
use crate::config::Config;
use crate::respond::{Ask, Moment, Responder, Settings, Transport};
use crate::steer::{Constants, Inputs, Point, Pop, State as Health, compile};

const NOW: u32 = 1_800_000_000;
const DAY: u32 = 86_400;

const DO: Wanted = Wanted {
    dnssec_ok: true,
    compact_ok: false,
};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn key(algorithm: Algorithm, role: Role) -> Key {
    Key::from_pkcs8(&Key::generate(algorithm).unwrap(), role).unwrap()
}

fn terms() -> Terms {
    Terms {
        validity: 7 * DAY,
        rate: 100,
        cache: 100,
    }
}

fn signing_with(keys: Vec<(Key, State)>, terms: Terms) -> Signing {
    let zone = name("go.test.");
    let metrics = Metrics::new(&Registry::new());
    let keys = ZoneKeys {
        zone,
        keys,
        delete_ds: false,
    };
    Signing::new(vec![keys], terms, metrics)
}

fn signing() -> Signing {
    let key = key(Algorithm::EcdsaP256, Role::Csk);
    signing_with(vec![(key, State::Active)], terms())
}

fn question(text: &str, kind: RecordType) -> Question {
    Question {
        name: name(text),
        kind,
        class: DNSClass::IN,
    }
}

fn address(owner: &str, ttl: u32, last: u8) -> Record {
    let address = Ipv4Addr::new(192, 0, 2, last);
    Record::from_rdata(name(owner), ttl, RData::A(address.into()))
}

fn soa() -> Record {
    let soa = SOA::new(name("ns1.go.test."), name("h.go.test."), 1, 1, 1, 1, 60);
    Record::from_rdata(name("go.test."), 60, RData::SOA(soa))
}

fn positive(answers: Vec<Record>) -> Content {
    Content::of(&name("go.test."), answers)
}

fn negative(code: ResponseCode, denial: Denial) -> Content {
    Content {
        code,
        authorities: vec![soa()],
        denial: Some(denial),
        ..positive(Vec::new())
    }
}

fn rrsigs(records: &[Record]) -> Vec<&RRSIG> {
    records
        .iter()
        .filter_map(|record| RRSIG::try_borrow(&record.data))
        .collect()
}

fn dnskeys(signing: &Signing) -> Vec<DNSKEY> {
    let published = signing.published(&name("go.test."));
    let keys = published.into_iter().filter_map(|data| match data {
        RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some(key),
        _ => None,
    });
    keys.collect()
}

/// The codec's own verifier, which puts records in canonical form by itself.
fn verifies(key: &DNSKEY, rrsig: &RRSIG, records: &[Record]) -> bool {
    let owner = &records[0].name;
    key.verify_rrsig(owner, DNSClass::IN, rrsig, records.iter())
        .is_ok()
}

fn ed25519_of_rfc_8080() -> Key {
    let secret = STANDARD
        .decode("ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=")
        .unwrap();
    // RFC 8410 §7: a private key that isn't followed by its public one.
    let head = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let der = PrivatePkcs8KeyDer::from([head.as_slice(), &secret].concat());
    Key::from_pkcs8(&der, Role::Csk).unwrap()
}

#[test]
fn the_example_of_rfc_8080_comes_out_byte_for_byte() {
    let (key, zone) = (ed25519_of_rfc_8080(), name("example.com."));
    assert_eq!(
        key.dnskey_line(&zone),
        "example.com. IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="
    );
    assert_eq!(
        key.ds_line(&zone).to_lowercase(),
        "example.com. in ds 3613 15 2 \
         3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b"
    );
    let data = RData::MX(MX::new(10, name("mail.example.com.")));
    let record = Record::from_rdata(zone.clone(), 3600, data);
    let set = Canonical::new(&zone, RecordType::MX, 3600, [&record].into_iter()).unwrap();
    let life = Life {
        inception: 1_438_207_200,
        expiration: 1_440_021_600,
    };
    let rrsig = RRSIG::try_borrow(&sign(&zone, &key, &set, life).unwrap())
        .unwrap()
        .clone();
    assert_eq!(
        STANDARD.encode(rrsig.sig()),
        "oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg=="
    );
    let input = rrsig.input();
    assert_eq!((input.num_labels, input.key_tag), (2, 3613));
}

#[test]
fn the_example_of_rfc_6605_is_what_we_would_have_signed() {
    use hickory_proto::dnssec::rdata::SigInput;
    use hickory_proto::dnssec::{Algorithm as Number, DigestType, PublicKeyBuf};
    use hickory_proto::rr::SerialNumber;
    use hickory_proto::serialize::binary::NameEncoding;

    let decode = |text: &str| STANDARD.decode(text).unwrap();
    let public = decode(
        "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
    );
    let public = PublicKeyBuf::new(public, Number::ECDSAP256SHA256);
    let key = DNSKEY::with_flags(Role::Csk.flags(), public);
    assert_eq!(key.calculate_key_tag().unwrap(), 55648);
    let digest = key.to_digest(&name("example.net."), DigestType::SHA256);
    assert!(
        digest
            .unwrap()
            .as_ref()
            .starts_with(&[0xb4, 0xc8, 0xc1, 0xfe])
    );

    let owner = name("www.example.net.");
    let record = Record::from_rdata(
        owner.clone(),
        3600,
        RData::A(Ipv4Addr::new(192, 0, 2, 1).into()),
    );
    let set = Canonical::new(&owner, RecordType::A, 3600, [&record].into_iter()).unwrap();
    let input = SigInput {
        type_covered: set.kind(),
        algorithm: Number::ECDSAP256SHA256,
        num_labels: set.labels(),
        original_ttl: set.original_ttl(),
        sig_expiration: SerialNumber::new(1_284_026_679),
        sig_inception: SerialNumber::new(1_281_607_479),
        key_tag: 55648,
        signer_name: name("example.net."),
    };
    let mut bytes = canonical::encode(&input, NameEncoding::UncompressedLowercase).unwrap();
    bytes.extend(set.bytes());
    let signature = decode(
        "qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
    );
    assert!(key.verify(&bytes, &signature).is_ok());
    bytes[30] ^= 1;
    assert!(key.verify(&bytes, &signature).is_err());
}

#[test]
fn an_answer_is_signed_whole_in_the_askers_case_and_with_the_ttl_sent() {
    let signing = signing();
    let answers = vec![address("Go.tEst.", 20, 1), address("Go.tEst.", 20, 2)];
    let mut content = positive(answers.clone());
    content.additionals = vec![address("ns1.go.test.", 3600, 9)];
    signing.attach(&mut content, &question("Go.tEst.", RecordType::A), DO, NOW);
    assert_eq!((content.answers.len(), content.additionals.len()), (3, 2));
    let (last, rrsig) = (&content.answers[2], rrsigs(&content.answers)[0]);
    assert_eq!((last.name.to_ascii().as_str(), last.ttl), ("Go.tEst.", 20));
    assert_eq!(rrsig.input().original_ttl, LEAST_ORIGINAL_TTL);
    assert_eq!(rrsig.input().signer_name, name("go.test."));
    assert!(verifies(&dnskeys(&signing)[0], rrsig, &answers));
    assert!(!verifies(&dnskeys(&signing)[0], rrsig, &answers[..1]));
    let other = dnskeys(&self::signing()).remove(0);
    assert!(!verifies(&other, rrsig, &answers));
}

#[test]
fn few_ttls_are_signed_however_many_are_sent() {
    for (sent, signed) in [
        (0, 120),
        (20, 120),
        (119, 120),
        (120, 120),
        (121, 240),
        (250, 480),
        (300, 300),
        (3600, 3600),
        (3601, 3840),
        (86_399, 122_880),
        (u32::MAX, u32::MAX),
    ] {
        assert_eq!(original_ttl(sent), signed, "{sent}");
    }
    let all: std::collections::BTreeSet<u32> = (0..=86_400)
        .filter(|sent: &u32| !sent.is_multiple_of(60))
        .map(original_ttl)
        .collect();
    assert_eq!(all.len(), 11);
}

#[test]
fn zones_without_keys_and_refusals_stay_as_they_are() {
    let signing = signing();
    let mut content = Content::of(&name("other.test."), vec![address("other.test.", 20, 1)]);
    signing.attach(
        &mut content,
        &question("other.test.", RecordType::A),
        DO,
        NOW,
    );
    assert_eq!(content.answers.len(), 1);
    let mut content = Content::error(ResponseCode::Refused);
    signing.attach(&mut content, &question("else.", RecordType::A), DO, NOW);
    assert_eq!(content.code, ResponseCode::Refused);
    assert!(signing.published(&name("other.test.")).is_empty());
}

#[test]
fn a_signature_serves_every_ttl_and_case_until_half_its_life_is_over() {
    let signing = signing();
    let ask = |owner: &str, ttl, now| {
        let mut content = positive(vec![address(owner, ttl, 1)]);
        signing.attach(&mut content, &question(owner, RecordType::A), DO, now);
        content.answers[1].data.clone()
    };
    let first = ask("go.test.", 20, NOW);
    assert_eq!(ask("GO.test.", 77, NOW), first);
    assert_eq!(signing.metrics.made(), (0, 1));
    assert_eq!(ask("go.test.", 20, NOW + 3 * DAY), first);
    assert_ne!(ask("go.test.", 20, NOW + 4 * DAY), first);
    assert_eq!(signing.metrics.made(), (0, 2));
}

const CONFIG: &str = "
zone: go.test.
nameservers: [{name: ns1.dns.go.test., addresses: [127.0.0.10, '::1']}]
steered: [{name: go.test., https: {}}, {name: b.go.test.}]
records:
  - {name: go.test., type: TXT, data: hello}
  - {name: x.go.test., type: MX, data: '10 Mail.example.', ttl: 1h}
pops:
  - {name: eu, addresses: [127.0.0.11, '::11'], latitude: 0, longitude: 8}
  - {name: us, addresses: [127.0.0.12], latitude: 0, longitude: -77}
  - {name: ap, addresses: [127.0.0.13, '::13'], latitude: 0, longitude: 140}
";

fn zones(config: &Config, signing: &Signing) -> Zones {
    let mut zones = crate::zone::build::zones(config, &[]).unwrap();
    publish(&mut zones, signing);
    Zones::new(zones)
}

fn map(config: &Config, states: Vec<Health>, order: Vec<usize>) -> Map {
    let pops = config.pops.iter().map(|from| {
        let (v4, v6) = crate::zone::build::families(from.addresses.iter().copied());
        Pop {
            name: from.name.clone(),
            v4,
            v6,
            at: Point {
                latitude: from.latitude,
                longitude: from.longitude,
            },
        }
    });
    let inputs = Inputs {
        pops: pops.collect(),
        views: config.views(),
        order,
        states,
        ..Inputs::default()
    };
    compile(&inputs, None, &Constants::default(), Instant::now()).0
}

#[test]
fn nothing_that_can_be_known_is_signed_while_answering() {
    let config = parse::<Config>("dns.yaml", CONFIG).unwrap();
    let keys = vec![(key(Algorithm::EcdsaP256, Role::Csk), State::Active)];
    let signing = Arc::new(signing_with(keys, terms()));
    let zones = Arc::new(zones(&config, &signing));
    let now = map(&config, vec![], vec![0]);
    signing.prepare(&zones, &[&now], NOW);
    let (ahead, online) = signing.metrics.made();
    assert!(ahead > 20 && online == 0);
    let responder = Responder::new(
        zones.clone(),
        Settings {
            signing: Some(signing.clone()),
            ..Settings::plain(1232)
        },
    );
    let ask = |name: &Name, kind, map: &Map| {
        let mut query = Message::new(1, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(true);
        query.set_edns(edns);
        let ask = Ask {
            peer: Ipv4Addr::LOCALHOST.into(),
            transport: Transport::Tcp,
            at: Moment {
                instant: Instant::now(),
                unix: NOW,
            },
        };
        let mut out = Vec::new();
        let note = responder.respond(&query.to_vec().unwrap(), &ask, map, &mut out);
        assert_eq!(note.unwrap().code, ResponseCode::NoError);
        Message::from_vec(&out).unwrap()
    };
    // The map that was prepared for, and those that the loss of a PoP makes: at once, and compiled.
    use Health::{Down, Up};
    let lost = [[Down, Up, Up], [Up, Down, Up], [Up, Up, Down]];
    let compiled = lost.map(|states| map(&config, states.to_vec(), vec![0, 1]));
    let next: Vec<Map> = now.after_one_change().chain(compiled).collect();
    for map in std::iter::once(&now).chain(&next) {
        for (name, _) in zones.all()[0].nodes() {
            for kind in 1..300 {
                let kind = RecordType::from(kind);
                let refused = [RecordType::AXFR, RecordType::IXFR, RecordType::OPT];
                let texts = kind == RecordType::TXT && name.to_ascii().starts_with("why");
                if texts || refused.contains(&kind) || matches!(u16::from(kind), 128 | 249..=254) {
                    continue;
                }
                let answer = ask(name, kind, map);
                let signed = [&answer.answers, &answer.authorities];
                let signed = signed
                    .into_iter()
                    .flatten()
                    .any(|r| r.record_type() == RecordType::RRSIG);
                assert!(signed, "{name} {kind}: {answer}");
                assert_eq!(signing.metrics.made(), (ahead, 0), "{name} {kind}");
            }
        }
    }
    // And from each of these, those that the return of the PoP makes.
    for fallen in &next[..3] {
        signing.prepare(&zones, &[fallen], NOW);
        let (ahead, _) = signing.metrics.made();
        ask(&name("all.go.test."), RecordType::A, &now);
        assert_eq!(signing.metrics.made(), (ahead, 0));
    }
    let (ahead, _) = signing.metrics.made();
    ask(&name("nothing.go.test."), RecordType::A, &now);
    assert_eq!(signing.metrics.made(), (ahead, 1));
}

#[test]
fn what_was_signed_ahead_is_renewed_in_time() {
    let config = parse::<Config>("dns.yaml", CONFIG).unwrap();
    let signing = signing();
    let (zones, map) = (zones(&config, &signing), map(&config, vec![], vec![0]));
    signing.prepare(&zones, &[&map], NOW);
    let made = signing.metrics.made().0;
    signing.prepare(&zones, &[&map], NOW + DAY);
    assert_eq!(signing.metrics.made(), (made, 0), "kept");
    signing.prepare(&zones, &[&map], NOW + 2 * DAY);
    assert_eq!(signing.metrics.made(), (2 * made, 0));
    let mut content = positive(vec![soa()]);
    content.answers = vec![zones.all()[0].soa(&name("go.test."), false)];
    signing.attach(
        &mut content,
        &question("go.test.", RecordType::SOA),
        DO,
        NOW + 2 * DAY,
    );
    let input = rrsigs(&content.answers)[0].input();
    let step = (NOW + 2 * DAY) / STEP * STEP;
    assert_eq!(input.sig_inception.get(), step - SKEW);
    assert_eq!(input.sig_expiration.get(), step + 7 * DAY);
    assert_eq!(signing.metrics.made(), (2 * made, 0));
    let first = signing.store.first_expiration(NOW + 2 * DAY);
    assert_eq!(first, Some(step + 7 * DAY));
}

#[test]
fn what_is_signed_while_answering_is_bounded_in_its_rate() {
    let terms = Terms { rate: 2, ..terms() };
    let key = key(Algorithm::Ed25519, Role::Csk);
    let signing = signing_with(vec![(key, State::Active)], terms);
    let ask = |last: u8, now| {
        let mut content = positive(vec![address("go.test.", 20, last)]);
        signing.attach(&mut content, &question("go.test.", RecordType::A), DO, now);
        content
    };
    assert_eq!(ask(1, NOW).code, ResponseCode::NoError);
    assert_eq!(ask(2, NOW).code, ResponseCode::NoError);
    let refused = ask(3, NOW);
    assert_eq!(refused.code, ResponseCode::ServFail);
    assert!(refused.answers.is_empty() && !refused.authoritative);
    let told = refused.extended.unwrap();
    assert_eq!((told.code(), told.text()), (0, "signing: rate"));
    assert_eq!(ask(1, NOW).code, ResponseCode::NoError, "kept");
    assert_eq!(ask(3, NOW + 1).code, ResponseCode::NoError);
    // With the rate used up, an aging signature is better than none.
    let inception = |last| {
        let content = ask(last, NOW + 4 * DAY);
        rrsigs(&content.answers)[0].input().sig_inception.get()
    };
    let made = [1, 2, 3].map(inception);
    assert!(made[0] > NOW && made[1] > NOW && made[2] < NOW);
}

#[test]
fn what_is_kept_is_bounded_in_its_number() {
    let terms = Terms {
        cache: 10,
        rate: 1000,
        ..terms()
    };
    let key = key(Algorithm::Ed25519, Role::Csk);
    let signing = signing_with(vec![(key, State::Active)], terms);
    for last in 0..200 {
        let mut content = positive(vec![address("go.test.", 20, last)]);
        signing.attach(&mut content, &question("go.test.", RecordType::A), DO, NOW);
        assert!(signing.store.len().1 <= 10);
    }
}

#[test]
fn a_missing_name_is_proved_by_one_record_and_its_code_depends_on_co() {
    let signing = signing();
    for (compact_ok, code) in [
        (false, ResponseCode::NoError),
        (true, ResponseCode::NXDomain),
    ] {
        let mut content = negative(ResponseCode::NXDomain, Denial::Name);
        let asked = question("No.such.go.test.", RecordType::A);
        let wanted = Wanted { compact_ok, ..DO };
        signing.attach(&mut content, &asked, wanted, NOW);
        assert_eq!(content.code, code);
        let kinds: Vec<_> = content
            .authorities
            .iter()
            .map(Record::record_type)
            .collect();
        assert_eq!(
            kinds,
            [
                RecordType::SOA,
                RecordType::NSEC,
                RecordType::RRSIG,
                RecordType::RRSIG
            ]
        );
        let nsec = &content.authorities[1];
        assert_eq!(nsec.name.to_ascii(), "No.such.go.test.");
        assert_eq!(nsec.ttl, 60);
        let rrsig = rrsigs(&content.authorities)[1];
        assert_eq!(rrsig.input().num_labels, 4);
        assert!(verifies(
            &dnskeys(&signing)[0],
            rrsig,
            &content.authorities[1..2]
        ));
    }
}

#[test]
fn proofs_are_answers_where_they_are_asked_for() {
    let signing = signing();
    let ask = |kind, wanted| {
        let mut content = negative(ResponseCode::NoError, Denial::Type(vec![RecordType::A]));
        signing.attach(&mut content, &question("go.test.", kind), wanted, NOW);
        let kinds = content.answers.iter().map(Record::record_type);
        (kinds.collect::<Vec<_>>(), content.authorities.len())
    };
    use RecordType::{MX, NSEC, RRSIG};
    assert_eq!(ask(NSEC, DO), (vec![NSEC, RRSIG], 0));
    assert_eq!(ask(NSEC, Wanted::default()), (vec![NSEC], 0));
    assert_eq!(ask(RRSIG, DO), (vec![RRSIG], 0));
    assert_eq!(ask(RRSIG, Wanted::default()), (vec![RRSIG], 0));
    assert_eq!(ask(MX, DO), (vec![], 4));
    assert_eq!(ask(MX, Wanted::default()), (vec![], 1));
}

#[test]
fn each_key_signs_what_its_role_and_state_say() {
    let keys = vec![
        (key(Algorithm::EcdsaP256, Role::Ksk), State::Active),
        (key(Algorithm::EcdsaP256, Role::Zsk), State::Active),
        (key(Algorithm::EcdsaP256, Role::Csk), State::Published),
        (key(Algorithm::EcdsaP256, Role::Csk), State::Retired),
    ];
    let tags: Vec<u16> = keys.iter().map(|(key, _)| key.tag()).collect();
    let signing = signing_with(keys, terms());
    let published = signing.published(&name("go.test."));
    let count = |kind| {
        let of_kind = published.iter().filter(|data| data.record_type() == kind);
        of_kind.count()
    };
    assert_eq!(count(RecordType::DNSKEY), 4);
    assert_eq!(count(RecordType::CDS), 2, "the active and the coming one");
    assert_eq!(count(RecordType::CDNSKEY), 2);

    let signers = |records: Vec<Record>, kind| {
        let mut content = positive(records);
        signing.attach(&mut content, &question("go.test.", kind), DO, NOW);
        let tags = rrsigs(&content.answers);
        tags.iter()
            .map(|rrsig| rrsig.input().key_tag)
            .collect::<Vec<_>>()
    };
    let apex = |data: RData| Record::from_rdata(name("go.test."), 3600, data);
    let keys = published.iter().cloned().map(apex);
    let keys = keys.filter(|record| record.record_type() == RecordType::DNSKEY);
    assert_eq!(signers(keys.collect(), RecordType::DNSKEY), [tags[0]]);
    assert_eq!(
        signers(vec![address("go.test.", 20, 1)], RecordType::A),
        [tags[1]]
    );
}

fn any_data() -> impl Strategy<Value = RData> {
    let label = "[A-Za-z0-9]{1,12}";
    prop_oneof![
        any::<u32>().prop_map(|bits| RData::A(Ipv4Addr::from(bits).into())),
        any::<u128>().prop_map(|bits| RData::AAAA(Ipv6Addr::from(bits).into())),
        label.prop_map(|label| RData::NS(NS(name(&format!("{label}.Go.test."))))),
        (any::<u16>(), label)
            .prop_map(|(order, label)| RData::MX(MX::new(order, name(&format!("{label}."))))),
        proptest::collection::vec("[ -~]{0,255}", 1..4)
            .prop_map(|texts| RData::TXT(TXT::new(texts))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_set_is_signed_validates(
        data in proptest::collection::vec(any_data(), 1..6),
        label in "[A-Za-z0-9]{1,12}",
        ttl in 0u32..100_000,
        ed25519 in any::<bool>(),
    ) {
        let algorithm = if ed25519 { Algorithm::Ed25519 } else { Algorithm::EcdsaP256 };
        let signing = signing_with(vec![(key(algorithm, Role::Csk), State::Active)], terms());
        let owner = name(&format!("{label}.go.test."));
        let kind = data[0].record_type();
        // The codec's verifier sorts names before it writes them in lower case, and drops nothing
        // that is there twice: such sets are in the tests of the canonical form.
        let most = if matches!(kind, RecordType::NS | RecordType::MX) { 1 } else { 6 };
        let of_kind = data.into_iter().filter(|data| data.record_type() == kind);
        let mut records: Vec<_> =
            of_kind.map(|data| Record::from_rdata(owner.clone(), ttl, data)).collect();
        records.sort_by_key(|record| record.data.to_string());
        records.dedup();
        records.truncate(most);
        let mut content = positive(records.clone());
        let asked = Question { name: owner, kind, class: DNSClass::IN };
        signing.attach(&mut content, &asked, DO, NOW);
        let rrsig = rrsigs(&content.answers)[0];
        prop_assert!(verifies(&dnskeys(&signing)[0], rrsig, &records));
    }
}

#[test]
fn a_zone_that_is_to_be_unsigned_asks_its_parent_first_and_signs_on() {
    let zone = name("go.test.");
    let keys = ZoneKeys {
        zone: zone.clone(),
        keys: vec![(key(Algorithm::EcdsaP256, Role::Csk), State::Active)],
        delete_ds: true,
    };
    let signing = Signing::new(vec![keys], terms(), Metrics::new(&Registry::new()));
    assert!(signing.ds(&zone).is_empty());
    let published = signing.published(&zone);
    assert_eq!(published.len(), 3, "{published:?}");
    let bytes = |at: usize| published[at].to_bytes().unwrap();
    // RFC 8078 §4: "CDS 0 0 0 0" and "CDNSKEY 0 3 0 0", each with one byte of zero.
    assert_eq!((bytes(1), bytes(2)), (vec![0; 5], vec![0, 0, 3, 0, 0]));
    let mut content = positive(vec![address("go.test.", 20, 1)]);
    signing.attach(&mut content, &question("go.test.", RecordType::A), DO, NOW);
    assert_eq!(rrsigs(&content.answers).len(), 1);
}
