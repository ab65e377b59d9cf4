//! Signed zones, validated by programs that aren't ours.

mod harness;

use std::time::{SystemTime, UNIX_EPOCH};

use harness::command::modcdn;
use harness::dig::Dig;
use harness::node::Node;
use harness::observe::Metrics;
use harness::scratch::Scratch;
use harness::until_true;
use harness::validators::{Validators, Verdict};
use serde_json::Value;

const EU: &str = "127.0.0.11";
const US: &str = "127.0.0.12";

/// Pinned to the PoPs of the same place.
const FROM_EU: &str = "127.0.0.2";
const FROM_US: &str = "127.0.0.3";

const DAY: u64 = 86_400;

/// A key that `modcdn dns keygen` made.
struct Key {
    zone: String,
    file: String,
    dnskey: String,
    ds: Option<String>,
    _scratch: Scratch,
}

impl Key {
    fn new(flags: &[&str]) -> Key {
        Key::of("go.test.", flags)
    }

    fn of(zone: &str, flags: &[&str]) -> Key {
        let scratch = Scratch::new("keys");
        let dir = scratch.path().display().to_string();
        let fixed = [
            "dns", "keygen", "--zone", "go.test.", "--json", "--dir", &dir,
        ];
        let ran = modcdn(&[&fixed, flags].concat()).ends(0);
        let made = ran.lines().remove(0);
        let text = |field: &str| made[field].as_str().map(str::to_owned);
        Key {
            zone: zone.to_owned(),
            file: text("file").expect("a file"),
            dnskey: text("dnskey").expect("a DNSKEY record"),
            ds: text("ds"),
            _scratch: scratch,
        }
    }

    fn ds(&self) -> &str {
        self.ds.as_deref().expect("an entry point has a DS record")
    }

    fn config(&self, role: &str, state: &str) -> Value {
        serde_json::json!({
            "zone": self.zone, "file": self.file, "role": role, "state": state
        })
    }
}

/// A zone with everything in it, signed with these keys.
fn server(keys: &[Value]) -> Node {
    server_with(keys, "")
}

/// The same, with more in its configuration.
fn server_with(keys: &[Value], more: &str) -> Node {
    let dnssec = serde_json::json!({ "dnssec": { "keys": keys } });
    let base = format!(
        "
zone: go.test.
nameservers: [{{name: ns1.dns.go.test., addresses: [127.0.0.10]}}]
pops:
  - {{name: eu, addresses: [{EU}, '2001:db8::11'], latitude: 50, longitude: 8}}
  - {{name: us, addresses: [{US}], latitude: 39, longitude: -77}}
pins:
  {FROM_EU}/32: eu
  {FROM_US}/32: us
  192.0.2.0/24: eu
  198.51.100.0/24: us
order: [eu]
steered: [{{name: go.test., https: {{}}}}]
records:
  - {{name: go.test., type: TXT, data: 'hello'}}
  - {{name: go.test., type: CAA, data: '0 issue \"ca.example\"'}}
  - {{name: Mixed.Case.go.test., type: MX, data: '10 Mail.Example.'}}
{more}"
    );
    Node::dns(&base, &dnssec.to_string())
}

fn csk() -> (Key, Node) {
    let key = Key::new(&[]);
    let node = server(&[key.config("csk", "active")]);
    (key, node)
}

fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.expect("a clock after 1970").as_secs()
}

fn assert_delv(validators: &Validators, name: &str, kind: &str) -> String {
    let (verdict, text) = validators.delv(name, kind);
    assert_eq!(verdict, Verdict::Secure, "delv {name} {kind}\n{text}");
    text
}

fn assert_unbound(validators: &Validators, name: &str, kind: &str) -> String {
    let (verdict, text) = validators.unbound(name, kind, FROM_EU, None);
    assert_eq!(verdict, Verdict::Secure, "unbound {name} {kind}\n{text}");
    text
}

/// Names and types that exist.
const THERE: [(&str, &str); 14] = [
    ("go.test.", "A"),
    ("go.test.", "AAAA"),
    ("go.test.", "HTTPS"),
    ("go.test.", "TXT"),
    ("go.test.", "CAA"),
    ("go.test.", "SOA"),
    ("go.test.", "NS"),
    ("go.test.", "DNSKEY"),
    ("go.test.", "CDS"),
    ("go.test.", "CDNSKEY"),
    ("all.go.test.", "A"),
    ("why.go.test.", "TXT"),
    ("mixed.case.go.test.", "MX"),
    ("ns1.dns.go.test.", "A"),
];

/// Those that don't: types that names lack, an empty non-terminal, and missing names.
const NOT_THERE: [(&str, &str); 7] = [
    ("go.test.", "MX"),
    ("all.go.test.", "TXT"),
    ("why.go.test.", "A"),
    ("dns.go.test.", "A"),
    ("case.go.test.", "TXT"),
    ("nothing.go.test.", "A"),
    ("deep.down.nothing.go.test.", "AAAA"),
];

#[test]
fn everything_in_a_zone_validates_and_so_does_what_is_not() {
    for flags in [&[][..], &["--algorithm", "ed25519"]] {
        let key = Key::new(flags);
        let node = server(&[key.config("csk", "active")]);
        let validators = Validators::new(node.address(), key.ds());
        for (name, kind) in THERE {
            let text = assert_delv(&validators, name, kind);
            assert!(!text.contains("negative response"), "{name} {kind}\n{text}");
            assert_unbound(&validators, name, kind);
        }
        for (name, kind) in NOT_THERE {
            let text = assert_delv(&validators, name, kind);
            assert!(text.contains("negative response"), "{name} {kind}\n{text}");
            assert_unbound(&validators, name, kind);
        }
    }
}

#[test]
fn names_validate_in_any_case() {
    let (key, node) = csk();
    let validators = Validators::new(node.address(), key.ds());
    for name in [
        "Go.tEST.",
        "ALL.go.Test.",
        "mIXED.cASE.gO.tEST.",
        "NoThing.go.test.",
    ] {
        let kind = if name.starts_with('m') { "MX" } else { "A" };
        assert_delv(&validators, name, kind);
        assert_unbound(&validators, name, kind);
    }
}

#[test]
fn the_answers_of_both_pops_validate() {
    let (key, node) = csk();
    let validators = Validators::new(node.address(), key.ds());
    for (from, address) in [(FROM_EU, EU), (FROM_US, US)] {
        for kind in ["A", "AAAA", "HTTPS"] {
            let (verdict, text) = validators.unbound("go.test.", kind, from, None);
            assert_eq!(verdict, Verdict::Secure, "{from} {kind}\n{text}");
            // One of them has no IPv6 address: a proof for the askers who are led there.
            assert!(kind != "A" || text.contains(address), "{text}");
            let no_v6 = text.contains("no IPv6 address");
            assert_eq!(no_v6, kind == "AAAA" && address == US, "{text}");
        }
    }
}

#[test]
fn answers_to_client_subnets_carry_the_same_signatures() {
    let (_key, node) = csk();
    let dig = Dig::at(node.address());
    let seen = |subnet: &str| {
        let subnet = format!("+subnet={subnet}");
        dig.ask(&["go.test", "A", "+dnssec", &subnet]).answers
    };
    for (subnet, address, from) in [
        ("192.0.2.0/24", EU, FROM_EU),
        ("198.51.100.0/24", US, FROM_US),
    ] {
        let answers = seen(subnet);
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert!(answers.contains(&address.to_owned()), "{answers:?}");
        // What the validators above accepted is the very same: the asker's own address leads there.
        let own = dig.ask(&["go.test", "A", "+dnssec", "-b", from]).answers;
        assert_eq!(own, answers);
    }
}

#[test]
fn signatures_that_are_over_or_not_begun_are_refused() {
    let (key, node) = csk();
    let validators = Validators::new(node.address(), key.ds());
    for (at, verdict) in [
        (now() + 5 * DAY, Verdict::Secure),
        (now() + 8 * DAY, Verdict::Bogus),
        (now() - DAY, Verdict::Bogus),
        (now() - 1800, Verdict::Secure),
    ] {
        for (name, kind) in [("go.test.", "A"), ("nothing.go.test.", "A")] {
            let (found, text) = validators.unbound(name, kind, FROM_EU, Some(at));
            assert_eq!(found, verdict, "{name} {kind} at {at}\n{text}");
        }
    }
}

#[test]
fn a_key_that_is_not_trusted_is_refused() {
    let (_key, node) = csk();
    let other = Key::new(&[]);
    let validators = Validators::new(node.address(), other.ds());
    for (name, kind) in [
        ("go.test.", "A"),
        ("go.test.", "MX"),
        ("nothing.go.test.", "A"),
    ] {
        assert_eq!(validators.delv(name, kind).0, Verdict::Bogus);
        let (verdict, text) = validators.unbound(name, kind, FROM_EU, None);
        assert_eq!(verdict, Verdict::Bogus, "{text}");
    }
}

#[test]
fn a_zone_without_keys_has_no_signatures() {
    let node = server(&[]);
    let answer = Dig::at(node.address()).ask(&["go.test", "A", "+dnssec"]);
    assert!(!answer.text.contains("RRSIG"), "{}", answer.text);
    let missing = Dig::at(node.address()).ask(&["nothing.go.test", "A", "+dnssec"]);
    assert_eq!(missing.status, "NXDOMAIN");
    assert!(!missing.text.contains("NSEC"), "{}", missing.text);
    let key = Key::new(&[]);
    let validators = Validators::new(node.address(), key.ds());
    assert_eq!(
        validators.unbound("go.test.", "A", FROM_EU, None).0,
        Verdict::Bogus
    );
}

#[test]
fn a_key_is_changed_by_reloads_without_a_moment_in_which_nothing_validates() {
    let (old, new) = (Key::new(&[]), Key::new(&[]));
    // The stages of docs/dnssec.md, and the DS records that caches may hold in each.
    let stages = [
        (["active", "published"], [true, false]),
        (["active", "active"], [true, true]),
        (["retired", "active"], [false, true]),
    ];
    let mut node = server(&[old.config("csk", "active")]);
    for (done, (states, trusted)) in stages.into_iter().enumerate() {
        let keys = [old.config("csk", states[0]), new.config("csk", states[1])];
        node.configure(&serde_json::json!({ "dnssec": { "keys": keys } }).to_string());
        node.signal(libc::SIGHUP);
        until_true("the reload", || {
            let metrics = Metrics::scrape(node.admin());
            let applied = [("outcome", "applied")];
            metrics.value("modcdn_dns_reloads_total", &applied) == (done + 1) as f64
        });
        for (key, trusted) in [&old, &new].into_iter().zip(trusted) {
            let verdict = if trusted {
                Verdict::Secure
            } else {
                Verdict::Bogus
            };
            let validators = Validators::new(node.address(), key.ds());
            for (name, kind) in [("go.test.", "A"), ("go.test.", "MX"), ("no.go.test.", "A")] {
                let (found, text) = validators.delv(name, kind);
                assert_eq!(found, verdict, "{states:?} {name} {kind}\n{text}");
                let (found, text) = validators.unbound(name, kind, FROM_EU, None);
                assert_eq!(found, verdict, "{states:?} {name} {kind}\n{text}");
            }
        }
        let dig = Dig::at(node.address());
        assert_eq!(dig.ask(&["go.test", "DNSKEY"]).answers.len(), 2);
        let offered = states.iter().filter(|state| **state != "retired").count();
        assert_eq!(dig.ask(&["go.test", "CDS"]).answers.len(), offered);
    }
}

#[test]
fn a_zone_that_goes_unsigned_asks_its_parent_first_and_validates_until_then() {
    let key = Key::new(&[]);
    let mut node = server(&[key.config("csk", "active")]);
    node.configure("dnssec: {delete_ds: [go.test.]}");
    node.signal(libc::SIGHUP);
    let dig = Dig::at(node.address());
    until_true("the deletion", || {
        dig.ask(&["go.test", "CDS"]).answers == ["0 0 0 00"]
    });
    assert_eq!(dig.ask(&["go.test", "CDNSKEY"]).answers, ["0 3 0 AA=="]);
    let validators = Validators::new(node.address(), key.ds());
    for (name, kind) in [("go.test.", "A"), ("go.test.", "CDS"), ("no.go.test.", "A")] {
        assert_delv(&validators, name, kind);
        assert_unbound(&validators, name, kind);
    }
    node.configure("dnssec: {keys: [], delete_ds: []}");
    node.signal(libc::SIGHUP);
    until_true("no more keys", || {
        dig.ask(&["go.test", "DNSKEY"]).answers.is_empty()
    });
}

#[test]
fn a_change_of_algorithm_validates_with_either_key_while_both_sign() {
    let (old, new) = (Key::new(&[]), Key::new(&["--algorithm", "ed25519"]));
    let node = server(&[old.config("csk", "active"), new.config("csk", "active")]);
    for key in [&old, &new] {
        let validators = Validators::new(node.address(), key.ds());
        for (name, kind) in [("go.test.", "A"), ("no.go.test.", "A")] {
            assert_delv(&validators, name, kind);
            assert_unbound(&validators, name, kind);
        }
    }
}

#[test]
fn a_zone_below_another_is_signed_or_not_on_its_own() {
    let upper = Key::new(&[]);
    for lower in [Some(Key::of("sub.go.test.", &[])), None] {
        let mut keys = vec![upper.config("csk", "active")];
        keys.extend(lower.iter().map(|key| key.config("csk", "active")));
        let node = server_with(&keys, "zones: [{zone: sub.go.test.}]\n");
        let validators = Validators::new(node.address(), upper.ds());
        let wanted = match lower {
            Some(_) => Verdict::Secure,
            None => Verdict::Insecure,
        };
        for (name, kind) in [
            ("sub.go.test.", "A"),
            ("sub.go.test.", "MX"),
            ("no.sub.go.test.", "A"),
        ] {
            let (found, text) = validators.unbound(name, kind, FROM_EU, None);
            assert_eq!(found, wanted, "{name} {kind}\n{text}");
        }
        assert_unbound(&validators, "go.test.", "A");
        assert_delv(&validators, "sub.go.test.", "DS");
    }
}

#[test]
fn one_key_may_sign_the_others() {
    let (ksk, zsk) = (Key::new(&["--ksk"]), Key::new(&["--zsk"]));
    assert!(zsk.ds.is_none() && zsk.dnskey.contains(" DNSKEY 256 "));
    let node = server(&[ksk.config("ksk", "active"), zsk.config("zsk", "active")]);
    let validators = Validators::new(node.address(), ksk.ds());
    for (name, kind) in THERE.into_iter().chain(NOT_THERE) {
        assert_delv(&validators, name, kind);
    }
}

#[test]
fn a_missing_name_has_its_code_as_the_flags_say() {
    let (_key, node) = csk();
    let dig = Dig::at(node.address());
    let ask = |flags: &[&str]| dig.ask(&[&["nothing.go.test", "A"], flags].concat());
    assert_eq!(ask(&["+noedns"]).status, "NXDOMAIN");
    assert_eq!(ask(&["+edns"]).status, "NXDOMAIN");
    let compact = ask(&["+dnssec"]);
    assert_eq!(compact.status, "NOERROR", "{}", compact.text);
    assert!(compact.text.contains("TYPE128"), "{}", compact.text);
    assert!(!compact.text.contains(" ad"), "{}", compact.text);
    let restored = ask(&["+dnssec", "+coflag"]);
    assert_eq!(restored.status, "NXDOMAIN", "{}", restored.text);
    assert!(restored.text.contains("TYPE128"), "{}", restored.text);
    assert_eq!(dig.ask(&["go.test", "TYPE128"]).status, "FORMERR");
}

#[test]
fn what_a_validator_asks_for_directly_is_there() {
    let (key, node) = csk();
    let dig = Dig::at(node.address());
    let dnskeys = dig.ask(&["go.test", "DNSKEY", "+nosplit"]).answers;
    let wanted = key.dnskey.split_once(" DNSKEY ").expect("a record").1;
    assert_eq!(dnskeys, [wanted]);
    let cds = dig.ask(&["go.test", "CDS", "+nosplit"]).answers;
    let wanted = key.ds().split_once(" DS ").expect("a record").1;
    assert_eq!(cds, [wanted]);
    let nsec = dig.ask(&["go.test", "NSEC"]).answers;
    assert_eq!(
        nsec,
        ["\\000.go.test. A NS SOA TXT AAAA RRSIG NSEC DNSKEY CDS CDNSKEY HTTPS CAA"]
    );
    let rrsig = dig.ask(&["all.go.test", "RRSIG"]).answers;
    assert!(
        rrsig.len() == 1 && rrsig[0].starts_with("NSEC 13 3 "),
        "{rrsig:?}"
    );
}

#[test]
fn answers_fit_or_are_cut_whole() {
    let (_key, node) = csk();
    let dig = Dig::at(node.address());
    let size = |name: &str, kind: &str| {
        let answer = dig.ask(&[name, kind, "+dnssec", "+stats", "+ignore"]);
        assert!(
            !answer.text.contains(" tc"),
            "{name} {kind}\n{}",
            answer.text
        );
        let size = answer.text.split("MSG SIZE  rcvd: ").nth(1);
        let size = size.and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
        size.unwrap_or_else(|| panic!("no size in:\n{}", answer.text))
    };
    for (name, kind) in THERE.into_iter().chain(NOT_THERE) {
        assert!(size(name, kind) <= 700, "{name} {kind}");
    }
    let small = [
        "+dnssec",
        "+ignore",
        "+bufsize=512",
        "nothing.go.test",
        "MX",
    ];
    let deep = format!("{0}.{0}.{0}.go.test", "x".repeat(60));
    let cut = dig.ask(&["+dnssec", "+ignore", "+bufsize=512", &deep, "MX"]);
    assert!(cut.text.contains(" tc"), "{}", cut.text);
    assert!(cut.answers.is_empty() && cut.authority.is_empty());
    let whole = dig.ask(&["+dnssec", "+bufsize=512", "+tcp", &deep, "MX"]);
    assert_eq!(whole.authority.len(), 4, "{}", whole.text);
    assert!(dig.ask(&small).authority.len() == 4);
}

#[test]
fn what_can_be_known_is_signed_before_it_is_asked_for() {
    let (_key, node) = csk();
    let online = || {
        let metrics = Metrics::scrape(node.admin());
        metrics.expect("modcdn_dns_signed_total", &[("when", "online")])
    };
    let dig = Dig::at(node.address());
    for (name, kind) in THERE {
        if name != "why.go.test." {
            for subnet in ["+subnet=192.0.2.0/24", "+subnet=198.51.100.0/24"] {
                dig.ask(&[name, kind, "+dnssec", subnet]);
            }
        }
    }
    for (name, kind) in &NOT_THERE[..5] {
        dig.ask(&[name, kind, "+dnssec"]);
    }
    assert_eq!(online(), 0.0);
    for _ in 0..3 {
        dig.ask(&["nothing.go.test", "A", "+dnssec"]);
    }
    assert_eq!(online(), 1.0);
}
