//! The steering DNS server, asked with `dig`.

mod harness;

use std::sync::OnceLock;

use harness::cluster::{Cluster, Shared};
use harness::command::modcdn;
use harness::dig::Dig;
use harness::until_true;

const EU: &str = "127.0.0.11";
const US: &str = "127.0.0.12";
const AP: &str = "127.0.0.13";
const PINS: [(&str, &str); 3] = [
    ("192.0.2.77/32", EU),
    ("198.51.100.0/24", US),
    ("203.0.113.200/32", AP),
];

/// One cluster for all tests that break nothing.
fn cluster() -> Shared {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    Shared(CLUSTER.get_or_init(Cluster::start))
}

fn dig(cluster: &Cluster) -> Dig {
    Dig::at(
        cluster
            .node("dns")
            .dns
            .as_deref()
            .expect("the dns node has a dns address"),
    )
}

#[test]
fn pinned_networks_get_their_edge_over_udp_and_tcp() {
    let cluster = cluster();
    let dig = dig(&cluster);
    for (subnet, edge) in PINS {
        let subnet = format!("+subnet={subnet}");
        for transport in ["+notcp", "+tcp"] {
            let answer = dig.ask(&["go.test", "A", &subnet, transport]);
            assert_eq!(answer.status, "NOERROR", "{}", answer.text);
            assert_eq!(
                answer.answers,
                [edge],
                "{subnet} {transport}\n{}",
                answer.text
            );
        }
    }
}

#[test]
fn a_client_without_a_subnet_is_led_to_one_edge_by_its_resolver() {
    let cluster = cluster();
    let answer = dig(&cluster).ask(&["go.test", "A", "+nosubnet"]);
    assert_eq!(answer.status, "NOERROR", "{}", answer.text);
    assert!(
        answer
            .answers
            .iter()
            .all(|address| [EU, US, AP].contains(&address.as_str()))
    );
    assert!(!answer.answers.is_empty(), "{}", answer.text);
    assert!(
        !answer.text.contains("CLIENT-SUBNET"),
        "none sent, none returned\n{}",
        answer.text
    );
}

#[test]
fn the_client_subnet_is_echoed_with_a_scope() {
    let cluster = cluster();
    let answer = dig(&cluster).ask(&["go.test", "A", "+subnet=198.51.100.0/24"]);
    assert!(
        answer.text.contains("CLIENT-SUBNET: 198.51.100.0/24/24"),
        "{}",
        answer.text
    );
}

#[test]
fn the_second_name_holds_every_edge() {
    let cluster = cluster();
    let answer = dig(&cluster).ask(&["all.go.test", "A"]);
    assert_eq!(answer.answers, [EU, US, AP], "{}", answer.text);
}

#[test]
fn names_are_matched_in_any_case_and_keep_theirs() {
    let cluster = cluster();
    let answer = dig(&cluster).ask(&["Go.tEsT", "A", "+subnet=192.0.2.0/24"]);
    assert_eq!(answer.answers, [EU], "{}", answer.text);
    assert!(answer.text.contains(";Go.tEsT."), "{}", answer.text);
}

#[test]
fn the_zone_has_its_soa_and_ns() {
    let cluster = cluster();
    let dig = dig(&cluster);
    let soa = dig.ask(&["go.test", "SOA"]);
    assert_eq!(soa.answers.len(), 1, "{}", soa.text);
    assert_eq!(soa.answers[0].split(' ').count(), 7, "{}", soa.text);
    assert!(
        soa.text.contains("flags: qr aa"),
        "authoritative\n{}",
        soa.text
    );
    let ns = dig.ask(&["go.test", "NS"]);
    assert!(!ns.answers.is_empty(), "{}", ns.text);
}

#[test]
fn a_name_that_does_not_exist_is_an_nxdomain_with_the_soa() {
    let cluster = cluster();
    let answer = dig(&cluster).ask(&["nothing.here.go.test", "A"]);
    assert_eq!(answer.status, "NXDOMAIN", "{}", answer.text);
    assert!(answer.answers.is_empty(), "{}", answer.text);
    assert!(
        answer.authority.iter().any(|line| line.contains("SOA")),
        "{}",
        answer.text
    );
}

#[test]
fn a_type_that_does_not_exist_is_no_data_with_the_soa() {
    let cluster = cluster();
    let dig = dig(&cluster);
    for kind in ["MX", "AAAA"] {
        let answer = dig.ask(&["go.test", kind]);
        assert_eq!(answer.status, "NOERROR", "{kind}\n{}", answer.text);
        assert!(answer.answers.is_empty(), "{kind}\n{}", answer.text);
        assert!(
            answer.authority.iter().any(|line| line.contains("SOA")),
            "{}",
            answer.text
        );
    }
}

#[test]
fn another_zone_is_refused() {
    let cluster = cluster();
    let answer = dig(&cluster).ask(&["example.com", "A"]);
    assert_eq!(answer.status, "REFUSED", "{}", answer.text);
    let why = "EDE: 20 (Not Authoritative)";
    assert!(answer.text.contains(why), "{}", answer.text);
}

#[test]
fn malformed_client_subnets_are_format_errors() {
    let cluster = cluster();
    // (family, source prefix, scope, address) as RFC 7871, section 6 lays them out, in hex.
    for (option, fault) in [
        (
            "0001180101020300",
            "an address longer than its source prefix",
        ),
        ("00011800c00002ff", "four bytes for 24 bits"),
        ("00011718c00002", "a scope in a query"),
        ("000114 00c00fff", "host bits set"),
        ("00012100c0000201", "33 bits of an IPv4 address"),
        ("00031000c000", "an unknown family"),
        ("00001000c000", "family 0 with an address"),
    ] {
        let option = format!("+ednsopt=8:{}", option.replace(' ', ""));
        let answer = dig(&cluster).ask(&["go.test", "A", &option]);
        assert_eq!(answer.status, "FORMERR", "{fault}\n{}", answer.text);
    }
}

#[test]
fn who_answers_is_told_to_who_asks_and_the_version_to_nobody() {
    let cluster = cluster();
    let dig = dig(&cluster);
    let answer = dig.ask(&["go.test", "A", "+nsid"]);
    assert!(answer.text.contains("(\"dns map="), "{}", answer.text);
    let answer = dig.ask(&["id.server", "TXT", "CH"]);
    assert!(answer.answers[0].contains("dns map="), "{}", answer.text);
    let answer = dig.ask(&["version.bind", "TXT", "CH"]);
    assert_eq!(answer.status, "REFUSED", "{}", answer.text);
}

#[test]
fn a_cookie_is_learnt_and_then_shown() {
    let cluster = cluster();
    let dig = dig(&cluster);
    let answer = dig.ask(&["go.test", "A", "+cookie=0123456789abcdef"]);
    let cookie = answer.text.split("COOKIE: ").nth(1).expect("a cookie");
    let cookie = cookie.split_whitespace().next().unwrap();
    assert_eq!(cookie.len(), 48, "{}", answer.text);
    let answer = dig.ask(&["go.test", "A", &format!("+cookie={cookie}")]);
    assert!(
        answer.text.contains(&format!("COOKIE: {cookie} (good)")),
        "{}",
        answer.text
    );
}

#[test]
fn edns_of_tomorrow_is_refused_with_todays() {
    let cluster = cluster();
    let dig = dig(&cluster);
    let answer = dig.ask(&["go.test", "A", "+edns=1", "+noednsnegotiation"]);
    assert_eq!(answer.status, "BADVERS", "{}", answer.text);
    let answer = dig.ask(&["go.test", "A", "+ednsopt=65001:00ff", "+ednsflags=0x4000"]);
    assert_eq!(answer.status, "NOERROR", "{}", answer.text);
}

#[test]
fn a_zone_is_not_transferred_and_any_is_answered_with_the_least() {
    let cluster = cluster();
    let dig = dig(&cluster);
    let answer = dig.ask(&["go.test", "ANY"]);
    assert_eq!(answer.answers, ["\"RFC8482\" \"\""], "{}", answer.text);
    let transfer = dig.try_ask(&["go.test", "AXFR"]);
    assert!(transfer.is_none_or(|answer| answer.answers.is_empty()));
}

#[test]
fn a_challenge_is_answered_with_what_was_set_until_it_is_cleared() {
    let cluster = cluster();
    let dig = dig(&cluster);
    let admin = &cluster.node("dns").admin;
    let token = cluster.data().join("conf/purge.token");
    let txt = |arguments: &[&str]| {
        let fixed = ["--admin", admin, "--token-file", token.to_str().unwrap()];
        modcdn(&[&["dns", "txt"], arguments, &fixed].concat())
    };
    let serial = || {
        let answer = dig.ask(&["go.test", "SOA"]);
        let serial = answer.answers[0].split(' ').nth(2).map(str::to_owned);
        serial.unwrap().parse::<u32>().unwrap()
    };
    let name = "_acme-challenge.go.test.";
    let before = serial();
    txt(&["set", name, "first"]).ends(0);
    txt(&["set", name, "second", "--lifetime", "10m", "--json"]).ends(0);
    let answer = dig.ask(&[name, "TXT"]);
    assert_eq!(
        answer.answers,
        ["\"first\"", "\"second\""],
        "{}",
        answer.text
    );
    assert!(serial() > before);
    txt(&["clear", name, "first"]).ends(0);
    assert_eq!(dig.ask(&[name, "TXT"]).answers, ["\"second\""]);
    txt(&["clear", name]).ends(0);
    assert_eq!(dig.ask(&[name, "TXT"]).status, "NXDOMAIN");
    let no = txt(&["set", "go.test.", "v"]).ends(1).stderr;
    assert!(no.contains("_acme-challenge"), "{no}");
    txt(&["set", "_acme-challenge.go.test", "v"]).ends(2);
}

#[test]
fn an_edge_that_dies_is_left_out_and_its_clients_move() {
    let cluster = Cluster::start();
    let dig = dig(&cluster);
    assert_eq!(dig.seen_from("go.test", "198.51.100.0/24"), [US]);
    cluster.node("us").kill();
    until_true("another edge for the clients of the dead one", || {
        let now = dig.seen_from("go.test", "198.51.100.0/24");
        !now.is_empty() && !now.iter().any(|address| address == US)
    });
    assert_eq!(dig.ask(&["all.go.test", "A"]).answers, [EU, AP]);
    // The others stay where they are.
    assert_eq!(dig.seen_from("go.test", "192.0.2.0/24"), [EU]);
    assert_eq!(dig.seen_from("go.test", "203.0.113.0/24"), [AP]);
}
