//! What must hold of every map, of random worlds.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::reference::{History, Reference};
use super::unit::Relief;
use super::*;

const POPS: usize = 4;

fn pops() -> Arc<[Pop]> {
    let pop = |(name, latitude, longitude): (&str, f64, f64)| Pop {
        name: name.to_owned(),
        v4: vec![Ipv4Addr::LOCALHOST],
        v6: vec![],
        at: Point {
            latitude,
            longitude,
        },
    };
    [
        ("eu", 50.1, 8.7),
        ("us", 39.0, -77.5),
        ("ap", 1.3, 103.8),
        ("uk", 51.5, -0.1),
    ]
    .map(pop)
    .into()
}

/// Addresses of a few neighbourhoods, so that prefixes meet.
fn any_address() -> impl Strategy<Value = IpAddr> {
    let v4 = (0u32..1 << 14).prop_map(|low| IpAddr::V4((0x0a00_0000 | low << 6).into()));
    let v6 = (0u128..1 << 12).prop_map(|low| IpAddr::V6((0x2001_0db8 << 96 | low << 68).into()));
    prop_oneof![
        4 => v4,
        2 => v6,
        1 => any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        1 => any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ]
}

fn any_net() -> impl Strategy<Value = IpNet> {
    (any_address(), 0u8..=16).prop_map(|(address, short)| {
        let longest = if address.is_ipv4() { 28 } else { 60 };
        IpNet::new(address, longest - short).unwrap().trunc()
    })
}

fn any_place() -> impl Strategy<Value = Place> {
    let countries = proptest::sample::select(vec![None, Some(*b"DE"), Some(*b"US"), Some(*b"SG")]);
    (countries, -60.0..60.0, -179.0..179.0).prop_map(|(country, latitude, longitude)| Place {
        point: Point {
            latitude,
            longitude,
        },
        country,
        continent: country.and_then(countries::continent),
    })
}

fn any_states() -> impl Strategy<Value = Vec<State>> {
    let state = prop_oneof![
        5 => Just(State::Up),
        1 => Just(State::Degraded),
        1 => Just(State::Draining),
        2 => Just(State::Down),
    ];
    vec(state, POPS)
}

fn any_samples() -> impl Strategy<Value = Arc<Samples>> {
    let row = (any_net(), 0..POPS, 1.0..300.0, 1.0..20.0, 0u64..40_000);
    vec(row, 0..40).prop_map(|rows| {
        let mut samples = Samples::default();
        let pops = pops();
        for (prefix, pop, median_ms, n, at) in rows {
            let sample = Sample {
                prefix,
                pop: pops[pop].name.clone(),
                median_ms,
                n,
                at,
            };
            samples.add(&sample, &Constants::default()).unwrap();
        }
        Arc::new(samples)
    })
}

fn any_load() -> impl Strategy<Value = Vec<f64>> {
    vec(prop_oneof![Just(0.0), 0.6..1.1], POPS)
}

fn any_weight() -> impl Strategy<Value = Vec<f64>> {
    vec(prop_oneof![4 => Just(1.0), 1 => 0.0..1.0], POPS)
}

prop_compose! {
    fn any_world()(
        pins in vec((any_net(), 0..POPS), 0..6),
        places in vec((any_net(), any_place()), 0..20),
        asns in vec((any_net(), 1u32..5), 0..10),
        asn_pins in vec((1u32..9, 0..POPS), 0..2),
        (samples, states) in (any_samples(), any_states()),
        (load, weight) in (any_load(), any_weight()),
        order in vec(0..POPS, 0..3),
        bias in vec(-20.0..20.0, POPS),
        clock in 0u64..100_000,
    ) -> Inputs {
        Inputs {
            pops: pops(),
            views: vec![],
            order,
            pins: pins.into(),
            asn_pins: Arc::new(asn_pins.into_iter().collect()),
            geo: Some(Arc::new(Places::of(places))),
            asns: Some(Arc::new(Asns::of(asns))),
            samples,
            clock,
            states,
            load,
            weight,
            bias,
        }
    }
}

fn any_client() -> impl Strategy<Value = Client> {
    let subnet = proptest::option::weighted(0.8, any_address());
    (subnet, any_address()).prop_map(|(subnet, resolver)| Client { subnet, resolver })
}

fn first(inputs: &Inputs) -> Map {
    compile(inputs, None, &Constants::default(), Instant::now()).0
}

fn told(map: &Map, client: &Client) -> (Vec<usize>, Choice) {
    let choice = map.choose(ViewId::default(), client, map.at);
    (map.answer(choice.answer).pops.clone(), choice)
}

fn of_subnet(address: IpAddr) -> Client {
    Client {
        subnet: Some(address),
        resolver: IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)),
    }
}

/// An address with other bits beyond a prefix.
fn mixed(address: IpAddr, other: u128, prefix: u8) -> IpAddr {
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

/// What is different when the next map is made, so many seconds after.
#[derive(Clone, Debug)]
struct Step {
    seconds: u64,
    samples: Option<Arc<Samples>>,
    states: Option<Vec<State>>,
    load: Option<Vec<f64>>,
    /// A PoP that is not in the configuration for this map.
    gone: Option<usize>,
}

prop_compose! {
    fn any_step()(
        seconds in prop_oneof![1u64..48, 48u64..60, 60u64..200],
        samples in proptest::option::weighted(0.3, any_samples()),
        states in proptest::option::weighted(0.2, any_states()),
        load in proptest::option::weighted(0.2, any_load()),
        gone in proptest::option::weighted(0.1, 0..POPS),
    ) -> Step {
        Step { seconds, samples, states, load, gone }
    }
}

/// The same world without a PoP and its pins; those after it have other indices.
fn without(world: &Inputs, gone: usize) -> Inputs {
    let index = |pop: &usize| (*pop != gone).then_some(*pop - usize::from(*pop > gone));
    let kept = |pop: &usize| *pop != gone;
    let indices: Vec<usize> = (0..POPS).filter(kept).collect();
    let pins = world.pins.iter();
    let asn_pins = world.asn_pins.iter();
    Inputs {
        pops: indices.iter().map(|pop| world.pops[*pop].clone()).collect(),
        order: world.order.iter().filter_map(index).collect(),
        pins: pins
            .filter_map(|(net, pop)| Some((*net, index(pop)?)))
            .collect(),
        asn_pins: Arc::new(
            asn_pins
                .filter_map(|(asn, pop)| Some((*asn, index(pop)?)))
                .collect(),
        ),
        states: indices.iter().map(|pop| world.states[*pop]).collect(),
        load: indices.iter().map(|pop| world.load[*pop]).collect(),
        bias: indices.iter().map(|pop| world.bias[*pop]).collect(),
        ..world.clone()
    }
}

/// A world is a few milliseconds of work without optimisation.
const CASES: u32 = 96;

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn a_map_is_what_the_slow_and_obvious_algorithm_says(
        world in any_world(), clients in vec(any_client(), 1..30),
    ) {
        let map = first(&world);
        let reference = Reference::new(&world);
        for client in clients {
            let (pops, choice) = told(&map, &client);
            let (expected, via, scope) = reference.choose(&client);
            prop_assert_eq!((&pops, choice.source), (&expected.pops, expected.source), "{:?}", client);
            prop_assert_eq!((choice.via, choice.scope), (via, scope), "{:?}", client);
        }
    }

    #[test]
    fn every_next_map_is_what_the_rules_say_of_the_one_before(
        world in any_world(), steps in vec(any_step(), 1..10), clients in vec(any_client(), 1..8),
    ) {
        let mut world = world;
        let mut now = Instant::now();
        let mut map = compile(&world, None, &Constants::default(), now).0;
        let mut history = History::new(&world, None, now);
        for (count, step) in steps.into_iter().enumerate() {
            now += Duration::from_secs(step.seconds);
            world.clock += step.seconds;
            world.samples = step.samples.unwrap_or(world.samples);
            world.states = step.states.unwrap_or(world.states);
            world.load = step.load.unwrap_or(world.load);
            let inputs = step.gone.map_or_else(|| world.clone(), |gone| without(&world, gone));
            map = compile(&inputs, Some(&map), &Constants::default(), now).0;
            history = History::new(&inputs, Some(&history), now);
            for client in &clients {
                let (pops, choice) = told(&map, client);
                let (expected, via, scope) = history.choose(client);
                let expected = (&expected.pops, expected.source, via, scope);
                let told = (&pops, choice.source, choice.via, choice.scope);
                prop_assert_eq!(told, expected, "step {}, {:?}", count, client);
            }
        }
    }

    #[test]
    fn a_process_that_goes_on_from_the_homes_of_the_last_leads_everybody_as_it_did(
        world in any_world(), later in any_samples(), states in any_states(),
        clients in vec(any_client(), 1..30),
    ) {
        let constants = Constants::default();
        let world = Inputs { load: vec![], ..world };
        let map = first(&world);
        let later = Inputs { samples: later, states, ..world };
        let now = map.at + Duration::from_secs(1);
        let map = compile(&later, Some(&map), &constants, now).0;
        let homes = Homes::from_bytes(&map.homes().to_bytes()).unwrap();
        let again = resume(&later, &homes, &constants, now).0;
        for client in clients {
            let ((pops, choice), (same, after)) = (told(&map, &client), told(&again, &client));
            prop_assert_eq!((same, after.source, after.scope), (pops, choice.source, choice.scope));
        }
    }

    #[test]
    fn every_address_inside_a_scope_gets_the_same_answer(
        world in any_world(), later in any_samples(), client in any_client(),
        others in vec(any::<u128>(), 1..20),
    ) {
        let map = first(&world);
        let later = Inputs { samples: later, ..world };
        let now = map.at + Duration::from_secs(60);
        let second = compile(&later, Some(&map), &Constants::default(), now).0;
        for map in [map, second] {
            let (pops, choice) = told(&map, &client);
            let Some(subnet) = client.subnet else { continue };
            prop_assert!((1..=cap(subnet)).contains(&choice.scope));
            for other in &others {
                let near = Client { subnet: Some(mixed(subnet, *other, choice.scope)), ..client };
                let (same, near) = told(&map, &near);
                prop_assert_eq!((&same, near.answer), (&pops, choice.answer));
                prop_assert_eq!((near.scope, near.ttl), (choice.scope, choice.ttl));
            }
        }
    }

    #[test]
    fn the_same_inputs_make_the_same_map(world in any_world(), later in any_samples()) {
        let now = Instant::now();
        let make = || {
            let constants = Constants::default();
            let (one, _) = compile(&world, None, &constants, now);
            let next = Inputs { samples: later.clone(), ..world.clone() };
            compile(&next, Some(&one), &constants, now + Duration::from_secs(60))
        };
        let ((a, what_a), (b, what_b)) = (make(), make());
        prop_assert_eq!((&a.views, &a.answers), (&b.views, &b.answers));
        prop_assert_eq!((&a.layout, &a.world), (&b.layout, &b.world));
        prop_assert_eq!(what_a, what_b);
    }

    #[test]
    fn more_load_sheds_more_and_never_others(
        world in any_world(), pop in 0..POPS, more in 0.0..0.5, addresses in vec(any_address(), 30),
    ) {
        let mut loaded = world.clone();
        loaded.load[pop] += more;
        let (light, heavy) = (first(&world), first(&loaded));
        for address in addresses {
            let client = of_subnet(address);
            let (before, after) = (told(&light, &client).0, told(&heavy, &client).0);
            let leads = |pops: &[usize]| pops.len() <= 2 && pops[0] == pop;
            prop_assert!(!leads(&after) || leads(&before), "{:?} to {:?}", before, after);
        }
    }

    #[test]
    fn above_the_ceiling_nobody_new_comes(
        world in any_world(), load in any_load(), clients in vec(any_client(), 20),
    ) {
        let constants = Constants::default();
        let before = first(&world);
        let later = Inputs { load: load.clone(), ..world };
        let after = compile(&later, Some(&before), &constants, before.at + constants.window).0;
        for client in clients {
            let (had, (has, choice)) = (told(&before, &client).0, told(&after, &client));
            let home = after.explain(ViewId::default(), &client).home;
            let Some(home) = home.filter(|_| choice.source.is_scored()) else { continue };
            for pop in has {
                let is_new = after.pops()[pop].name != home && !had.contains(&pop);
                prop_assert!(!is_new || load[pop] <= constants.load_ceiling);
            }
        }
    }

    /// A PoP whose clients ask for `demand` of what it can do reports what is left to it, a window or
    /// two late, and is steered by that.
    #[test]
    fn shedding_settles(demand in 0.0f64..2.0, late in 1usize..=2) {
        let constants = Constants::default();
        let mut relief = Relief::default();
        let mut loads = vec![demand; late];
        for window in 0..200 {
            let wanted = Relief::wanted(loads[window], 1.0, &constants);
            relief = relief.towards(wanted, constants.shed_step);
            loads.push(demand * (1.0 - relief.shed));
        }
        let end = &loads[loads.len() - 10..];
        prop_assert!(end.iter().all(|load| (load - end[0]).abs() < 0.01), "{:?}", end);
        prop_assert!(end[0] < 0.9 && end[0] >= demand.min(constants.shed_from) - 0.01, "{:?}", end);
    }

    #[test]
    fn less_weight_leads_more_elsewhere_and_never_others(
        world in any_world(), pop in 0..POPS, less in 0.0..1.0, addresses in vec(any_address(), 30),
    ) {
        let mut lighter = world.clone();
        lighter.weight[pop] *= less;
        let (before, after) = (first(&world), first(&lighter));
        for address in addresses {
            let client = of_subnet(address);
            let (before, after) = (told(&before, &client), told(&after, &client).0);
            let leads = |pops: &[usize]| pops.len() <= 2 && pops[0] == pop;
            prop_assert!(!leads(&after) || leads(&before.0), "{:?} to {:?}", before, after);
        }
    }

    #[test]
    fn no_answer_holds_a_dead_pop_while_another_lives(
        world in any_world(), states in any_states(), clients in vec(any_client(), 20),
    ) {
        let map = first(&world);
        let later = Inputs { states, ..world };
        let next = compile(&later, Some(&map), &Constants::default(), map.at).0;
        for map in [map, next] {
            let lives = (0..POPS).any(|pop| map.is_healthy(pop));
            for client in &clients {
                let (pops, choice) = told(&map, client);
                prop_assert!(!pops.is_empty());
                prop_assert!(!lives || pops.iter().all(|pop| map.is_healthy(*pop)));
                prop_assert_eq!(!lives, choice.source == Source::NoneHealthy);
            }
            for answer in map.answers().iter().filter(|answer| answer.name.contains('+')) {
                prop_assert!(answer.pops.iter().all(|pop| map.is_healthy(*pop)));
            }
        }
    }

    #[test]
    fn no_more_units_move_than_may(
        world in any_world(), rounds in vec((any_samples(), 1u64..180), 1..12),
    ) {
        let constants = Constants::default();
        let world = Inputs { states: vec![], load: vec![], weight: vec![], ..world };
        let mut map = first(&world);
        let started = map.at;
        let (mut now, mut moved, mut most) = (map.at, 0.0, 1.0f64);
        for (samples, seconds) in rounds {
            now += Duration::from_secs(seconds);
            let next = Inputs { samples, ..world.clone() };
            let (after, changes) = compile(&next, Some(&map), &constants, now);
            let better = changes.totals.get(&Cause::Better).copied().unwrap_or(0);
            let soon = now - started < Duration::from_secs(2 * 54);
            prop_assert!(!soon || better == 0, "three windows can't have ended");
            prop_assert!(changes.totals.keys().all(|c| matches!(c, Cause::Better | Cause::Known)));
            moved += better as f64;
            let minute = after.layout.units.len() as f64 * constants.moves_per_minute;
            most = most.max(minute);
            let minutes = (now - started).as_secs_f64() / 60.0;
            prop_assert!(moved <= most * (1.0 + minutes), "{} in {} minutes", moved, minutes);
            map = after;
        }
    }

    #[test]
    fn an_explanation_is_of_the_choice_and_the_same_for_its_subnet(
        world in any_world(), client in any_client(), other in any::<u128>(),
    ) {
        let map = first(&world);
        let (pops, choice) = told(&map, &client);
        let explanation = map.explain(ViewId::default(), &client);
        let names: Vec<_> = pops.iter().map(|pop| map.pops()[*pop].name.clone()).collect();
        prop_assert_eq!(&explanation.pops, &names);
        prop_assert_eq!((explanation.source, explanation.scope), (choice.source, choice.scope));
        let best = explanation.candidates.iter().filter(|c| {
            matches!(c.state, State::Up | State::Degraded)
        });
        let best = best.filter_map(|c| Some((c.score?.total, &c.pop)));
        let best = best.min_by(|a, b| a.0.total_cmp(&b.0));
        if let (Some((least, _)), Some(home)) = (best, &explanation.home) {
            let of_home = explanation.candidates.iter().find(|c| c.pop == *home).unwrap();
            prop_assert_eq!(of_home.score.unwrap().total, least, "the first map's homes are best");
        }
        if let Some(subnet) = client.subnet {
            let near = Client { subnet: Some(mixed(subnet, other, cap(subnet))), ..client };
            prop_assert_eq!(map.explain(ViewId::default(), &near), explanation);
        }
    }
}
