use std::collections::BTreeMap;

use proptest::prelude::*;

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

/// Places by the first byte of the address; 0–63 have none.
#[derive(Debug)]
struct ByFirstByte;

impl Locate for ByFirstByte {
    fn locate(&self, address: IpAddr) -> Located {
        let first = match address {
            IpAddr::V4(v4) => v4.octets()[0],
            IpAddr::V6(v6) => v6.octets()[0],
        };
        let place = (first >= 64).then(|| Place {
            point: point(f64::from(first) / 2.0 - 60.0, f64::from(first) - 128.0),
            country: None,
        });
        Located { place, prefix: 8 }
    }
}

/// Places that change with every address, as deep as they can.
#[derive(Debug)]
struct Finest;

impl Locate for Finest {
    fn locate(&self, address: IpAddr) -> Located {
        let (bits, prefix) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let spread = (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 96) as u32;
        let part = f64::from(spread) / f64::from(u32::MAX);
        let place = Place {
            point: point(part * 180.0 - 90.0, part * 360.0 - 180.0),
            country: None,
        };
        Located {
            place: (!spread.is_multiple_of(5)).then_some(place),
            prefix,
        }
    }
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
    let map = made_of(&Inputs {
        geo: Some(Arc::new(Places(Box::new(ByFirstByte)))),
        ..pinned(vec![])
    });
    let (pops, choice) = choose(&map, &subnet("128.0.0.0"));
    assert_eq!(choice.source, Source::Distance);
    assert_eq!((pops, choice.scope), (vec![EU], 8));
    let (_, choice) = choose(&map, &subnet("192.0.2.1"));
    assert_eq!(choice.source, Source::Pin);
    let (_, choice) = choose(&map, &subnet("192.0.3.1"));
    assert_eq!(choice.scope, 24, "a pin is next to it");
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

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        (0u32..1024).prop_map(|low| IpAddr::V4((0xcb00_7100 + low).into())),
    ]
}

fn any_map() -> impl Strategy<Value = Map> {
    let pins = proptest::collection::vec((any_address(), 0u8..=32, 0usize..3), 0..12);
    let order = proptest::collection::vec(0usize..3, 0..3);
    let health = proptest::collection::vec(any::<bool>(), 3);
    (pins, order, health, 0..3).prop_map(|(pins, order, health, geo)| {
        let pin = |(address, length, pop)| (IpNet::new(address, length).unwrap().trunc(), pop);
        let locate: Option<Box<dyn Locate>> = match geo {
            0 => None,
            1 => Some(Box::new(ByFirstByte)),
            _ => Some(Box::new(Finest)),
        };
        made_of(&Inputs {
            pops: pops().into(),
            order,
            pins: pins.into_iter().map(pin).collect(),
            geo: locate.map(|locate| Arc::new(Places(locate))),
            states: states(&health),
            ..Inputs::default()
        })
    })
}

fn mix(address: IpAddr, other: u128, prefix: u8) -> IpAddr {
    let keep = |bits: u128, width: u32| {
        let mask = u128::MAX
            .checked_shl(width - u32::from(prefix))
            .unwrap_or(0);
        (bits & mask) | (other & !mask)
    };
    match address {
        IpAddr::V4(v4) => IpAddr::V4((keep(u128::from(u32::from(v4)), 32) as u32).into()),
        IpAddr::V6(v6) => IpAddr::V6(keep(u128::from(v6), 128).into()),
    }
}

proptest! {
    #[test]
    fn every_address_inside_a_scope_gets_the_same_answer(
        map in any_map(), address in any_address(), other in any::<u128>(),
        resolver in any_address(),
    ) {
        let client = Client { subnet: Some(address), resolver };
        let (pops, choice) = choose(&map, &client);
        prop_assert!(choice.scope <= cap(address));
        let near = Client { subnet: Some(mix(address, other, choice.scope)), resolver };
        prop_assert_eq!(choose(&map, &near), (pops, choice));
    }

    #[test]
    fn a_choice_is_total_repeatable_and_healthy_if_anything_is(
        map in any_map(), subnet in proptest::option::of(any_address()), resolver in any_address(),
    ) {
        let client = Client { subnet, resolver };
        let (pops, choice) = choose(&map, &client);
        prop_assert_eq!(choice, choose(&map, &client).1);
        prop_assert!(!pops.is_empty());
        let healthy = (0..3).filter(|pop| map.is_healthy(*pop)).count();
        prop_assert!(healthy == 0 || pops.iter().all(|pop| map.is_healthy(*pop)));
    }

    #[test]
    fn a_scope_of_zero_means_that_nobody_is_told_anything_else(
        map in any_map(), addresses in proptest::collection::vec(any_address(), 1..20),
    ) {
        let resolver = "10.0.0.1".parse().unwrap();
        let mut by_family: BTreeMap<bool, Vec<(Vec<usize>, Choice)>> = BTreeMap::new();
        for address in addresses {
            let chosen = choose(&map, &Client { subnet: Some(address), resolver });
            by_family.entry(address.is_ipv4()).or_default().push(chosen);
        }
        for chosen in by_family.values().filter(|c| c.iter().any(|c| c.1.scope == 0)) {
            prop_assert!(chosen.iter().all(|c| c.0 == chosen[0].0));
        }
    }
}
