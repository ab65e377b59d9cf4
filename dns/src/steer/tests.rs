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

fn pinned(order: Vec<usize>) -> Sites {
    let mut sites = Sites::new(pops(), order);
    for (prefix, pop) in [
        ("192.0.2.0/24", EU),
        ("198.51.100.0/24", US),
        ("203.0.113.0/24", AP),
        ("203.0.113.77/32", US),
        ("2001:db8:1::/48", AP),
    ] {
        sites.pin(prefix.parse().unwrap(), pop);
    }
    sites
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
    let map = Map::new(Arc::new(pinned(vec![])));
    for (client, pop, scope) in [
        ("192.0.2.9", EU, 24),
        ("198.51.100.1", US, 24),
        ("203.0.113.200", AP, 24),
        ("2001:db8:1:2::", AP, 48),
    ] {
        let choice = map.choose(&subnet(client));
        assert_eq!(
            (choice.picked, choice.scope),
            (Picked::One(pop), scope),
            "{client}"
        );
        assert_eq!(choice.via, Via::Subnet);
    }
}

#[test]
fn a_pin_finer_than_the_cap_is_for_resolvers_only() {
    let map = Map::new(Arc::new(pinned(vec![])));
    assert_eq!(
        map.choose(&resolver("203.0.113.77")).picked,
        Picked::One(US)
    );
    let choice = map.choose(&subnet("203.0.113.77"));
    assert_eq!((choice.picked, choice.scope), (Picked::One(AP), 24));
}

#[test]
fn a_default_answer_has_a_real_scope() {
    let map = Map::new(Arc::new(pinned(vec![US])));
    let choice = map.choose(&subnet("10.9.8.7"));
    assert_eq!((choice.picked, choice.why), (Picked::One(US), Why::Order));
    assert_eq!(choice.scope, 1, "no pin below 128.0.0.0");
}

#[test]
fn a_pin_to_a_dead_pop_leads_to_the_nearest_of_the_living() {
    let map = Map::new(Arc::new(pinned(vec![]))).with_health(&[false, true, true]);
    let choice = map.choose(&subnet("192.0.2.9"));
    assert_eq!(
        choice.picked,
        Picked::One(US),
        "Virginia is nearer to Frankfurt than Singapore"
    );
    assert!(matches!(choice.why, Why::PinDown(_, EU)));
}

#[test]
fn where_all_looks_down_all_is_answered() {
    let map = Map::new(Arc::new(pinned(vec![EU]))).with_health(&[false; 3]);
    for client in [
        subnet("192.0.2.9"),
        subnet("10.0.0.0"),
        resolver("192.0.2.1"),
    ] {
        let choice = map.choose(&client);
        assert_eq!(
            (choice.picked, choice.why),
            (Picked::Every, Why::NoneHealthy)
        );
        assert_eq!(map.pops(choice.picked).count(), 3);
    }
    assert_eq!(map.untailored(), Picked::Every);
}

#[test]
fn the_order_is_followed_to_its_first_healthy_pop() {
    let map = Map::new(Arc::new(Sites::new(pops(), vec![AP, US])));
    let asked = resolver("10.0.0.1");
    assert_eq!(map.choose(&asked).picked, Picked::One(AP));
    let map = map.with_health(&[true, true, false]);
    assert_eq!(map.choose(&asked).picked, Picked::One(US));
    let map = map.with_health(&[true, false, false]);
    assert_eq!(map.choose(&asked).picked, Picked::Healthy);
    assert_eq!(map.version(), 3);
}

#[test]
fn a_subnet_that_says_nothing_leaves_it_to_the_resolver() {
    let map = Map::new(Arc::new(pinned(vec![EU])));
    let client = Client {
        subnet: Some("10.0.0.0".parse().unwrap()),
        resolver: "203.0.113.9".parse().unwrap(),
    };
    let choice = map.choose(&client);
    assert_eq!(
        (choice.picked, choice.via),
        (Picked::One(AP), Via::Resolver)
    );
    assert_eq!(choice.scope, 1);
}

#[test]
fn a_place_leads_to_the_nearest_pop() {
    let mut sites = pinned(vec![]);
    sites.set_geo(Box::new(ByFirstByte));
    let map = Map::new(Arc::new(sites));
    let choice = map.choose(&subnet("128.0.0.0"));
    assert!(matches!(choice.why, Why::Near(..)), "{:?}", choice.why);
    assert_eq!((choice.picked, choice.scope), (Picked::One(EU), 8));
    assert_eq!(
        map.choose(&subnet("192.0.2.1")).why.to_string(),
        "pin 192.0.2.0/24"
    );
    assert_eq!(
        map.choose(&subnet("192.0.3.1")).scope,
        24,
        "a pin is next to it"
    );
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
    let map = Map::new(Arc::new(pinned(vec![])));
    let client = subnet("192.0.2.9");
    let text = map.explain(&client, &map.choose(&client)).join("; ");
    assert_eq!(
        text,
        "pop=eu; why=pin 192.0.2.0/24; for=subnet 192.0.2.0/24; map=1"
    );
    let map = map.with_health(&[false, true, true]);
    let text = map.explain(&client, &map.choose(&client)).join("; ");
    assert!(text.contains("nearest to eu which is down"), "{text}");
}

#[test]
fn a_map_without_pops_still_answers() {
    let map = Map::new(Arc::new(Sites::default()));
    let choice = map.choose(&subnet("192.0.2.1"));
    assert_eq!(map.pops(choice.picked).count(), 0);
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
        let mut sites = Sites::new(pops(), order);
        for (address, length, pop) in pins {
            sites.pin(IpNet::new(address, length).unwrap().trunc(), pop);
        }
        match geo {
            0 => {}
            1 => sites.set_geo(Box::new(ByFirstByte)),
            _ => sites.set_geo(Box::new(Finest)),
        }
        Map::new(Arc::new(sites)).with_health(&health)
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
        let choice = map.choose(&client);
        prop_assert!(choice.scope <= cap(address));
        let near = Client { subnet: Some(mix(address, other, choice.scope)), resolver };
        let neighbour = map.choose(&near);
        prop_assert_eq!(neighbour, choice);
        prop_assert_eq!(map.explain(&near, &neighbour), map.explain(&client, &choice));
    }

    #[test]
    fn a_choice_is_total_repeatable_and_healthy_if_anything_is(
        map in any_map(), subnet in proptest::option::of(any_address()), resolver in any_address(),
    ) {
        let client = Client { subnet, resolver };
        let choice = map.choose(&client);
        prop_assert_eq!(choice, map.choose(&client));
        prop_assert!(map.pops(choice.picked).count() > 0);
        match choice.picked {
            Picked::One(pop) => prop_assert!(map.is_healthy(pop)),
            Picked::Every => prop_assert!(!map.healthy.contains(&true)),
            Picked::Healthy => {}
        }
    }

    #[test]
    fn a_scope_of_zero_means_that_nobody_is_told_anything_else(
        map in any_map(), addresses in proptest::collection::vec(any_address(), 1..20),
    ) {
        let resolver = "10.0.0.1".parse().unwrap();
        let mut by_family: BTreeMap<bool, Vec<Choice>> = BTreeMap::new();
        for address in addresses {
            let choice = map.choose(&Client { subnet: Some(address), resolver });
            by_family.entry(address.is_ipv4()).or_default().push(choice);
        }
        for choices in by_family.values().filter(|c| c.iter().any(|c| c.scope == 0)) {
            prop_assert!(choices.iter().all(|c| c.picked == choices[0].picked));
        }
    }
}
