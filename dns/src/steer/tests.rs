mod stories;

use std::time::Duration;

use super::*;

const EU: usize = 0;
const US: usize = 1;
const AP: usize = 2;

fn pop(name: &str, latitude: f64, longitude: f64) -> Pop {
    Pop {
        name: name.to_owned(),
        v4: vec![Ipv4Addr::LOCALHOST],
        v6: vec![],
        at: point(latitude, longitude),
    }
}

fn point(latitude: f64, longitude: f64) -> Point {
    Point {
        latitude,
        longitude,
    }
}

fn pops() -> Vec<Pop> {
    vec![
        pop("eu", 50.1, 8.7),
        pop("us", 39.0, -77.5),
        pop("ap", 1.3, 103.8),
    ]
}

const PINS: [(&str, usize); 5] = [
    ("192.0.2.0/24", EU),
    ("198.51.100.0/24", US),
    ("203.0.113.0/24", AP),
    ("203.0.113.77/32", US),
    ("2001:db8:1::/48", AP),
];

fn pinned(order: Vec<usize>) -> Inputs {
    Inputs {
        pops: pops().into(),
        order,
        pins: PINS.map(|(net, pop)| (net.parse().unwrap(), pop)).into(),
        ..Inputs::default()
    }
}

fn made_of(inputs: &Inputs) -> Map {
    compile(inputs, None, &Constants::default(), Instant::now()).0
}

fn with_health(inputs: &Inputs, healthy: &[bool]) -> Map {
    made_of(&Inputs {
        states: states(healthy),
        ..inputs.clone()
    })
}

fn states(healthy: &[bool]) -> Vec<State> {
    let state = |up: &bool| if *up { State::Up } else { State::Down };
    healthy.iter().map(state).collect()
}

fn choose(map: &Map, client: &Client) -> (Vec<usize>, Choice) {
    let choice = map.choose(ViewId::default(), client, Instant::now());
    (map.answer(choice.answer).pops.clone(), choice)
}

fn subnet(text: &str) -> Client {
    Client {
        subnet: Some(text.parse().unwrap()),
        resolver: "10.0.0.1".parse().unwrap(),
    }
}

fn resolver(text: &str) -> Client {
    Client {
        subnet: None,
        resolver: text.parse().unwrap(),
    }
}

fn place(country: &[u8; 2], latitude: f64, longitude: f64) -> Place {
    Place {
        point: point(latitude, longitude),
        country: Some(*country),
        continent: countries::continent(*country),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Berlin, New York, Tokyo and a cable's end in the Atlantic, about as far from `eu` as from `us`.
fn places() -> Option<Arc<Places>> {
    Some(Arc::new(Places::of([
        (net("81.0.0.0/16"), place(b"DE", 52.5, 13.5)),
        (net("82.0.0.0/16"), place(b"US", 40.5, -74.0)),
        (net("83.0.0.0/16"), place(b"JP", 35.5, 139.5)),
        (net("84.0.0.0/16"), place(b"GL", 52.0, -38.0)),
    ])))
}

fn placed() -> Inputs {
    Inputs {
        pops: pops().into(),
        geo: places(),
        ..Inputs::default()
    }
}

fn samples(list: &[(&str, &str, f64, f64)]) -> Arc<Samples> {
    let mut samples = Samples::default();
    for (prefix, pop, median_ms, n) in list {
        let sample = Sample {
            prefix: net(prefix),
            pop: (*pop).to_owned(),
            median_ms: *median_ms,
            n: *n,
            at: 0,
        };
        samples.add(&sample, &Constants::default()).unwrap();
    }
    Arc::new(samples)
}

#[test]
fn the_longest_pin_decides_and_its_depth_is_the_scope() {
    let map = made_of(&pinned(vec![]));
    for (client, pop, scope) in [
        ("192.0.2.9", EU, 24),
        ("198.51.100.1", US, 24),
        ("203.0.113.200", AP, 24),
        ("2001:db8:1:2::", AP, 48),
    ] {
        let (pops, choice) = choose(&map, &subnet(client));
        assert_eq!((pops, choice.scope), (vec![pop], scope), "{client}");
        assert_eq!(choice.via, Via::Subnet);
    }
}

#[test]
fn a_pin_finer_than_the_cap_is_for_resolvers_only() {
    let map = made_of(&pinned(vec![]));
    assert_eq!(choose(&map, &resolver("203.0.113.77")).0, [US]);
    let (pops, choice) = choose(&map, &subnet("203.0.113.77"));
    assert_eq!((pops, choice.scope), (vec![AP], 24));
}

#[test]
fn a_default_answer_has_a_real_scope() {
    let map = made_of(&pinned(vec![US]));
    assert_eq!(choose(&map, &subnet("4000::")).1.scope, 2);
    let (pops, choice) = choose(&map, &subnet("10.9.8.7"));
    assert_eq!((pops, choice.source), (vec![US], Source::Order));
    assert_eq!(choice.scope, 1, "no pin below 128.0.0.0");
}

#[test]
fn a_pin_to_a_dead_pop_leads_to_the_nearest_of_the_living() {
    let map = with_health(&pinned(vec![]), &[false, true, true]);
    let (pops, choice) = choose(&map, &subnet("192.0.2.9"));
    assert_eq!(pops, [US], "Virginia is nearer to Frankfurt than Singapore");
    assert_eq!(choice.source, Source::Pin);
}

#[test]
fn where_all_looks_down_all_is_answered() {
    let map = with_health(&pinned(vec![EU]), &[false; 3]);
    for client in [
        subnet("192.0.2.9"),
        subnet("10.0.0.0"),
        resolver("192.0.2.1"),
    ] {
        let (pops, choice) = choose(&map, &client);
        assert_eq!(choice.source, Source::NoneHealthy);
        assert_eq!(pops, [EU, US, AP]);
    }
    assert_eq!(map.answer(map.healthy(ViewId::default())).name, "every");
}

#[test]
fn the_order_is_followed_to_its_first_healthy_pop() {
    let inputs = Inputs {
        pops: pops().into(),
        order: vec![AP, US],
        ..Inputs::default()
    };
    let asked = resolver("10.0.0.1");
    for (health, expected) in [
        ([true, true, true], AP),
        ([true, true, false], US),
        ([true, false, false], EU),
    ] {
        let map = with_health(&inputs, &health);
        assert_eq!(choose(&map, &asked).0, [expected]);
    }
}

#[test]
fn versions_rise() {
    let inputs = pinned(vec![]);
    let first = made_of(&inputs);
    let (second, _) = compile(&inputs, Some(&first), &Constants::default(), Instant::now());
    assert_eq!((first.version(), second.version()), (1, 2));
}

#[test]
fn a_subnet_that_says_nothing_leaves_it_to_the_resolver() {
    let map = made_of(&pinned(vec![EU]));
    let client = Client {
        subnet: Some("10.0.0.0".parse().unwrap()),
        resolver: "203.0.113.9".parse().unwrap(),
    };
    let (pops, choice) = choose(&map, &client);
    assert_eq!((pops, choice.via), (vec![AP], Via::Resolver));
    assert_eq!(choice.scope, 1);
}

#[test]
fn a_place_leads_to_the_nearest_pop() {
    let map = made_of(&placed());
    for (client, pop) in [("81.0.0.0", EU), ("82.0.9.0", US), ("83.0.9.0", AP)] {
        let (pops, choice) = choose(&map, &subnet(client));
        assert_eq!((pops, choice.source), (vec![pop], Source::Distance));
        assert_eq!(choice.scope, 16);
    }
}

#[test]
fn distances_are_those_of_the_globe() {
    let frankfurt = point(50.1, 8.7);
    assert!((frankfurt.km_to(point(39.0, -77.5)) - 6_560.0).abs() < 60.0);
    assert!((point(0.0, 179.5).km_to(point(0.0, -179.5)) - 111.2).abs() < 1.0);
    assert!((point(90.0, 0.0).km_to(point(-90.0, 0.0)) - 20_015.0).abs() < 1.0);
    assert_eq!(frankfurt.km_to(frankfurt), 0.0);
}

#[test]
fn an_explanation_names_the_pop_the_reason_and_the_prefix() {
    let map = made_of(&pinned(vec![]));
    let client = subnet("192.0.2.9");
    let explain = |map: &Map| map.explain(ViewId::default(), &client).lines().join("; ");
    assert_eq!(
        explain(&map),
        "pop=eu; why=pin 192.0.2.0/24; for=subnet 192.0.2.0/24; map=1"
    );
    let text = explain(&with_health(&pinned(vec![]), &[false, true, true]));
    assert!(text.contains("nearest to eu which is down"), "{text}");
}

#[test]
fn a_map_without_pops_still_answers() {
    let map = made_of(&Inputs::default());
    let (pops, _) = choose(&map, &subnet("192.0.2.1"));
    assert!(pops.is_empty());
}

#[test]
fn sources_are_numbered_in_their_order() {
    for (index, source) in Source::ALL.into_iter().enumerate() {
        assert_eq!(source as usize, index);
        let text = serde_json::to_value(source).unwrap();
        assert_eq!(text, source.name());
    }
}

#[test]
fn a_system_is_pinned_where_no_prefix_is() {
    let asns = [("203.0.113.0/24", 64500), ("81.0.0.0/16", 64500)];
    let map = made_of(&Inputs {
        asns: Some(Arc::new(Asns::of(asns.map(|(text, asn)| (net(text), asn))))),
        asn_pins: Arc::new([(64500, US)].into()),
        ..pinned(vec![])
    });
    let (pops, choice) = choose(&map, &subnet("81.0.5.0"));
    assert_eq!((pops, choice.source), (vec![US], Source::AsnPin));
    let (pops, choice) = choose(&map, &subnet("203.0.113.0"));
    assert_eq!((pops, choice.source), (vec![AP], Source::Pin));
}

#[test]
fn what_was_measured_beats_the_distance() {
    let map = made_of(&Inputs {
        samples: samples(&[
            ("81.0.6.0/24", "eu", 12.0, 9.0),
            ("81.0.6.0/24", "us", 95.0, 9.0),
            ("81.0.7.0/24", "eu", 180.0, 9.0),
            ("81.0.7.0/24", "us", 90.0, 9.0),
        ]),
        ..placed()
    });
    let (pops, choice) = choose(&map, &subnet("81.0.7.0"));
    assert_eq!((pops, choice.source), (vec![US], Source::Measured));
    assert_eq!(choice.scope, 24);
    assert_eq!(choose(&map, &subnet("81.0.6.0")).0, [EU]);
}

#[test]
fn a_single_sample_is_weighed_against_what_is_expected() {
    // Expected are some 11 ms: (0.5·11 + 1·60)/1.5 is still far below 90 ms over the ocean.
    let map = made_of(&Inputs {
        samples: samples(&[("81.0.7.0/24", "eu", 60.0, 1.0)]),
        ..placed()
    });
    let (pops, choice) = choose(&map, &subnet("81.0.7.0"));
    assert_eq!((pops, choice.source), (vec![EU], Source::Measured));
}

#[test]
fn neighbours_inherit_what_was_measured_of_system_country_and_continent() {
    let bad: Vec<String> = (0..40).map(|n| format!("81.0.{n}.0/24")).collect();
    let list: Vec<_> = bad
        .iter()
        .flat_map(|prefix| [(&prefix[..], "eu", 250.0, 9.0), (prefix, "us", 90.0, 9.0)])
        .collect();
    let asns = Asns::of([(net("81.0.0.0/17"), 64500)]);
    let map = made_of(&Inputs {
        samples: samples(&list),
        asns: Some(Arc::new(asns)),
        ..placed()
    });
    let (pops, choice) = choose(&map, &subnet("81.0.99.0"));
    assert_eq!((pops, choice.source), (vec![US], Source::Asn));
    let (pops, choice) = choose(&map, &subnet("81.0.222.0"));
    assert_eq!((pops, choice.source), (vec![US], Source::Country));
    let (_, choice) = choose(&map, &subnet("83.0.0.0"));
    assert_eq!(
        choice.source,
        Source::Distance,
        "nobody was measured in Asia"
    );
}

#[test]
fn a_runner_up_about_as_near_joins_the_answer() {
    let map = made_of(&placed());
    let choice = map.choose(ViewId::default(), &subnet("84.0.0.0"), Instant::now());
    let answer = map.answer(choice.answer);
    let mut names: Vec<_> = answer.name.split('+').collect();
    names.sort_unstable();
    assert_eq!(names, ["eu", "us"]);
    let map = with_health(&placed(), &[true, false, true]);
    assert_eq!(
        choose(&map, &subnet("84.0.0.0")).0,
        [EU],
        "ap is far behind"
    );
}

#[test]
fn degraded_and_biased_pops_are_avoided_but_not_at_any_price() {
    let near = |inputs: &Inputs, client| choose(&made_of(inputs), &subnet(client)).0[0];
    for inputs in [
        Inputs {
            states: vec![State::Degraded],
            ..placed()
        },
        Inputs {
            bias: vec![50.0],
            ..placed()
        },
    ] {
        assert_eq!(near(&inputs, "84.0.0.0"), US);
        assert_eq!(near(&inputs, "81.0.0.0"), EU, "us is farther still");
    }
}

#[test]
fn names_choose_among_the_pops_of_their_view() {
    let map = made_of(&Inputs {
        views: vec![vec![EU, US, AP], vec![US, AP]],
        ..placed()
    });
    let first = |view| {
        let choice = map.choose(ViewId(view), &subnet("81.0.0.0"), Instant::now());
        map.answer(choice.answer).pops[0]
    };
    assert_eq!((first(0), first(1), first(9)), (EU, US, EU));
    assert_eq!(map.answer(map.healthy(ViewId(1))).pops, [US, AP]);
}

#[test]
fn a_draining_pop_is_answered_only_if_no_other_is_up() {
    let inputs = Inputs {
        states: vec![State::Draining, State::Down, State::Down],
        ..placed()
    };
    let map = made_of(&inputs);
    assert_eq!(choose(&map, &subnet("83.0.0.0")).0, [EU]);
    assert_eq!(map.answer(map.healthy(ViewId::default())).name, "draining");
    let states = vec![State::Draining, State::Down, State::Up];
    let map = made_of(&Inputs { states, ..inputs });
    assert_eq!(choose(&map, &subnet("81.0.0.0")).0, [AP]);
}
