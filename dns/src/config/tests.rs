use modcdn_core::config::parse;

use super::*;

const EXAMPLE: &str = include_str!("../../../config/dns.yaml");

/// The example with its commented-out lists filled in, as a reader would.
const FULL: &str = "
zone: go.test.
nameservers:
  - name: ns1.go.test.
    addresses: [127.0.0.10]
  - name: ns.example.
pops:
  - name: eu
    addresses: [127.0.0.11]
    latitude: 50.1
    longitude: 8.7
    health: http://127.0.0.11:8080/-/healthz
  - {name: us, addresses: [127.0.0.12, '::1'], latitude: 39, longitude: -77.5}
pins:
  192.0.2.0/24: eu
  2001:db8::/32: us
order: [us, eu]
";

fn problems(text: &str) -> String {
    parse::<Config>("dns.yaml", text).unwrap_err().to_string()
}

#[test]
fn the_example_names_every_key_with_its_default() {
    let example = parse::<Config>("config/dns.yaml", EXAMPLE).unwrap();
    assert_eq!(example, Config::default());
    let defaults = serde_yaml::to_value(Config::default()).unwrap();
    let written: serde_yaml::Value = serde_yaml::from_str(EXAMPLE).unwrap();
    assert_eq!(keys("", &written), keys("", &defaults));
}

fn keys(prefix: &str, value: &serde_yaml::Value) -> Vec<String> {
    let Some(mapping) = value.as_mapping() else {
        return vec![prefix.to_owned()];
    };
    let below = mapping
        .iter()
        .flat_map(|(key, value)| keys(&format!("{prefix}.{}", key.as_str().unwrap()), value));
    let mut all: Vec<_> = std::iter::once(prefix.to_owned()).chain(below).collect();
    all.sort();
    all
}

#[test]
fn a_whole_configuration_is_read() {
    let config = parse::<Config>("dns.yaml", FULL).unwrap();
    assert_eq!(config.pins.len(), 2);
    let health = config.pops[0].health.clone().unwrap();
    assert_eq!(health.address(), "127.0.0.11:8080".parse().unwrap());
    assert_eq!(health.path(), "/-/healthz");
    let text = serde_yaml::to_string(&config).unwrap();
    assert_eq!(parse::<Config>("dns.yaml", &text).unwrap(), config);
}

#[test]
fn the_examples_comments_are_a_configuration_too() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("#| ").unwrap_or(line))
        .filter(|line| {
            !matches!(
                *line,
                "nameservers: []"
                    | "steered: []"
                    | "records: []"
                    | "zones: []"
                    | "pops: []"
                    | "pins: {}"
                    | "order: []"
            )
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config = parse::<Config>("dns.yaml", &uncommented).unwrap();
    assert!(!config.pops.is_empty() && !config.pins.is_empty() && !config.order.is_empty());
    assert!(!config.nameservers.is_empty());
}

#[test]
fn every_mistake_is_named() {
    for (text, expected) in [
        ("zone: go.test", "not absolute"),
        ("zone: go..test.", "not a domain name"),
        ("zone: .", "root"),
        ("listen: []", "at least one"),
        ("listen: [0.0.0.0:53]", "every address"),
        (
            "nameservers: [{name: ns1.go.test.}]",
            "addresses are needed",
        ),
        (
            "nameservers: [{name: ns.example., addresses: [127.0.0.1]}]",
            "outside the zone",
        ),
        (
            "nameservers: [{name: all.go.test., addresses: [127.0.0.1]}]",
            "answered with PoPs",
        ),
        (
            "nameservers: [{name: go.test., addresses: [127.0.0.1]}]",
            "answered with PoPs",
        ),
        ("pins: {192.0.2.0/24: eu}", "no pop is named \"eu\""),
        ("pins: {192.0.2.0/33: eu}", "pins"),
        ("order: [eu]", "no pop is named \"eu\""),
        ("ttl: 0s", "whole seconds"),
        ("ttl: 1500ms", "whole seconds"),
        ("ttl: 20", "duration"),
        ("udp: {payload: 100}", "512 to 4096"),
        ("tcp: {connections: 0}", "from 1 to"),
        ("tcp: {connections: 99999999999}", "from 1 to"),
        ("udp: {receive_buffer: 2GiB}", "at most 1GiB"),
        ("udp: {batch: 0}", "from 1 to 1024"),
        ("udp: {sockets: 999}", "at most 256"),
        ("checks: {fall: 0}", "above zero"),
        (
            "pops: [{name: EU, addresses: [127.0.0.1], latitude: 0, longitude: 0}]",
            "not a name",
        ),
        (
            "pops: [{name: eu, addresses: [], latitude: 0, longitude: 0}]",
            "no address",
        ),
        (
            "pops: [{name: eu, addresses: [127.0.0.1], latitude: 91, longitude: 0}]",
            "latitude",
        ),
        (
            "pops: [{name: eu, addresses: [127.0.0.1], latitude: .nan, longitude: 0}]",
            "latitude",
        ),
        (
            "pops: [{name: eu, addresses: [127.0.0.1], latitude: 0, longitude: -181}]",
            "longitude",
        ),
        (
            "pops: [{name: eu, addresses: [127.0.0.1], latitude: 0}]",
            "longitude",
        ),
        ("popps: []", "unknown field"),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    let host_bits = FULL.replace("192.0.2.0/24", "192.0.2.9/24");
    assert!(problems(&host_bits).contains("write 192.0.2.0/24"));
    let twice = FULL.replace("name: us", "name: eu");
    assert!(problems(&twice).contains("twice"));
}

#[test]
fn a_health_url_is_an_http_url_with_an_address() {
    for good in [
        "http://127.0.0.1/",
        "http://[::1]:8080/-/healthz",
        "http://127.0.0.1:80",
    ] {
        assert!(HealthUrl::try_from(good.to_owned()).is_ok(), "{good}");
    }
    for bad in [
        "https://127.0.0.1/",
        "http://eu.example/",
        "127.0.0.1:80",
        "/",
        "",
        "http://",
    ] {
        assert!(HealthUrl::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}
