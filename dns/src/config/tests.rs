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
    assert_eq!(health.targets(&[]), ["127.0.0.11:8080".parse().unwrap()]);
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
                    | "draining: []"
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
        ("checks: {damping: {half_life: 0s}}", "above zero"),
        ("draining: [eu]", "no pop is named \"eu\""),
        ("reports: {age: 0s}", "above zero"),
        ("reports: {token: x}", "unknown field"),
        ("state: {interval: 0s}", "above zero"),
        ("state: {homes_interval: 0s}", "above zero"),
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
        ("zones: [{zone: go.test.}]", "go.test. is there twice"),
        ("zones: [{zone: .}]", "root"),
        (
            "zones: [{zone: a.test., soa: {negative_ttl: 0s}}]",
            "whole seconds",
        ),
        ("steered: [{name: go.example.}]", "outside the zone"),
        (
            "steered: [{name: go.test., pops: [eu]}]",
            "no pop is named \"eu\"",
        ),
        (
            "steered: [{name: go.test.}, {name: all.go.test.}]",
            "another steered name's",
        ),
        ("steered: [{name: '*.go.test.'}]", "no wildcards"),
        (
            "steered: [{name: go.test., https: {alpn: ['']}}]",
            "no ALPN id",
        ),
        (
            "{zones: [{zone: in.go.test.}], steered: [{name: x.in.go.test.}]}",
            "say it there",
        ),
        (
            "records: [{name: go.test., type: A, data: 192.0.2.1}]",
            "answered with PoPs",
        ),
        (
            "records: [{name: why.go.test., type: TXT, data: x}]",
            "answered with PoPs",
        ),
        (
            "records: [{name: x.test., type: TXT, data: x}]",
            "outside the zone",
        ),
        (
            "records: [{name: x.go.test., type: A, data: nonsense}]",
            "is no A data",
        ),
        (
            "records: [{name: x.go.test., type: CNAME, data: y.}]",
            "CNAME",
        ),
        (
            "records: [{name: x.go.test., type: TXT, data: x, ttl: 2days}]",
            "whole seconds",
        ),
        ("dynamic: {token_file: /t}", "dynamic.file"),
        ("dynamic: {values: 0}", "from 1 to"),
        ("rates: {prefix_v4: 7}", "from 8 to 32"),
        ("rates: {burst: 0}", "from 1 to 3600"),
        ("rates: {networks: 0}", "from 1 to"),
        ("tcp: {per_client: 0}", "above zero"),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    let host_bits = FULL.replace("192.0.2.0/24", "192.0.2.9/24");
    assert!(problems(&host_bits).contains("write 192.0.2.0/24"));
    let twice = FULL.replace("name: us", "name: eu");
    assert!(problems(&twice).contains("twice"));
}
