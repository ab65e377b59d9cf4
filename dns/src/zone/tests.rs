use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn zone() -> Zone {
    let nameserver = |text: &str| Nameserver {
        name: name(text),
        v4: vec![Ipv4Addr::LOCALHOST],
        v6: vec![],
    };
    let authority = Authority {
        contact: name("hostmaster.go.test."),
        serial: 7,
        refresh: Duration::from_secs(3600),
        retry: Duration::from_secs(600),
        expire: Duration::from_secs(86400),
        negative_ttl: Duration::from_secs(60),
    };
    let ttls = Ttls {
        steered: Duration::from_secs(20),
        fixed: Duration::from_secs(u64::MAX),
    };
    let nameservers = vec![nameserver("ns1.go.test."), nameserver("a.dns.go.test.")];
    let mut zone = Zone::new(name("go.test."), nameservers, &authority, ttls);
    zone.steer(&name("go.test."), ViewId::default(), None);
    zone
}

fn kind_of(zones: &Zones, text: &str) -> &'static str {
    match zones.find(&name(text), RecordType::A) {
        Found::Outside => "outside",
        Found::Missing(_) => "missing",
        Found::Empty(_) => "empty",
        Found::Node(zone, node) => match node.role() {
            _ if zone.is_apex(node) => "apex",
            Role::Fixed => "fixed",
            Role::Steered { .. } => "steered",
            Role::All(_) => "all",
            Role::Why(_) => "why",
        },
    }
}

#[test]
fn names_are_found_whatever_their_case() {
    let zones = Zones::new(vec![zone()]);
    for (text, found) in [
        ("go.test.", "apex"),
        ("GO.TesT.", "apex"),
        ("All.go.test.", "all"),
        ("why.GO.test.", "why"),
        ("NS1.go.test.", "fixed"),
        ("a.dns.go.test.", "fixed"),
        ("dns.go.test.", "empty"),
        ("b.dns.go.test.", "missing"),
        ("x.go.test.", "missing"),
        ("x.all.go.test.", "missing"),
        ("x.ns1.go.test.", "missing"),
        ("*.go.test.", "missing"),
        ("test.", "outside"),
        (".", "outside"),
        ("xgo.test.", "outside"),
        ("go.test.example.", "outside"),
    ] {
        assert_eq!(kind_of(&zones, text), found, "{text}");
    }
}

#[test]
fn an_soa_record_is_owned_in_the_askers_case_and_ttls_are_in_range() {
    let zone = zone();
    let soa = zone.soa(&name("x.Go.TEST."), true);
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), ("Go.TEST.", 60));
    assert_eq!(zone.soa(&name("go.test."), false).ttl, 0x7fff_ffff);
}
