//! What becomes of units from map to map.

use super::*;

/// Maps made one after the other, a window apart.
struct Story {
    inputs: Inputs,
    map: Map,
    now: Instant,
}

impl Story {
    fn new(inputs: Inputs) -> Self {
        let now = Instant::now();
        let map = compile(&inputs, None, &Constants::default(), now).0;
        Self { inputs, map, now }
    }

    fn next(&mut self) -> Changes {
        self.after(Duration::from_secs(60))
    }

    fn after(&mut self, time: Duration) -> Changes {
        self.now += time;
        let constants = Constants::default();
        let (map, changes) = compile(&self.inputs, Some(&self.map), &constants, self.now);
        self.map = map;
        changes
    }

    fn first(&self, client: &str) -> usize {
        choose(&self.map, &subnet(client)).0[0]
    }

    fn ttl(&self, client: &str) -> u32 {
        let client = subnet(client);
        self.map.choose(ViewId::default(), &client, self.now).ttl
    }
}

const MEASURED: &str = "81.0.7.0";

fn measured(eu: f64, us: f64) -> Arc<Samples> {
    samples(&[
        ("81.0.7.0/24", "eu", eu, 900.0),
        ("81.0.7.0/24", "us", us, 900.0),
    ])
}

#[test]
fn a_unit_moves_when_another_pop_was_better_for_three_windows() {
    let mut story = Story::new(Inputs {
        samples: measured(20.0, 90.0),
        ..placed()
    });
    assert_eq!((story.first(MEASURED), story.ttl(MEASURED)), (EU, 120));
    story.inputs.samples = measured(90.0, 60.0);
    assert_eq!(story.next().moved(), 0);
    assert_eq!(story.next().moved(), 0);
    assert_eq!((story.first(MEASURED), story.ttl(MEASURED)), (EU, 60));
    assert_eq!(
        story.after(Duration::from_secs(10)).moved(),
        0,
        "no window has ended"
    );
    let changes = story.after(Duration::from_secs(50));
    assert_eq!(story.first(MEASURED), US);
    let [moved] = &changes.moves[..] else {
        panic!("{changes:?}");
    };
    assert_eq!((&moved.from[..], &moved.to[..]), ("eu", "us"));
    assert_eq!(
        (&moved.unit[..], moved.cause),
        ("81.0.7.0/24", Cause::Better)
    );
    assert!(moved.gain_ms.unwrap() > 20.0, "{moved:?}");
    assert_eq!(changes.totals, [(Cause::Better, 1)].into());
}

#[test]
fn a_unit_stays_for_a_small_gain_or_one_that_does_not_last() {
    let mut story = Story::new(Inputs {
        samples: measured(60.0, 90.0),
        ..placed()
    });
    for _ in 0..9 {
        story.inputs.samples = measured(60.0, 57.5);
        assert_eq!(story.next().moved(), 0);
    }
    for round in 0..9 {
        let us = if round % 3 == 2 { 90.0 } else { 30.0 };
        story.inputs.samples = measured(60.0, us);
        assert_eq!(story.next().moved(), 0);
    }
}

#[test]
fn a_new_measurement_of_a_prefix_does_not_move_it_at_once() {
    let mut story = Story::new(placed());
    assert_eq!(story.first(MEASURED), EU);
    story.inputs.samples = measured(200.0, 60.0);
    assert_eq!((story.next().moved(), story.first(MEASURED)), (0, EU));
}

#[test]
fn a_dead_pop_is_left_at_once_and_returned_to_with_patience() {
    let mut story = Story::new(placed());
    story.inputs.states = states(&[false, true, true]);
    let changes = story.after(Duration::ZERO);
    assert_eq!(story.first("81.0.0.0"), US);
    assert!(changes.totals[&Cause::Down] >= 1, "{changes:?}");
    story.inputs.states = states(&[true; 3]);
    story.next();
    story.next();
    assert_eq!(story.first("81.0.0.0"), US);
    let mut rounds = 0;
    while story.first("81.0.0.0") != EU {
        story.next();
        rounds += 1;
        assert!(rounds < 60, "it never returns");
    }
}

#[test]
fn where_nothing_was_left_what_was_known_is_kept() {
    let mut story = Story::new(Inputs {
        samples: measured(20.0, 90.0),
        ..placed()
    });
    story.inputs.states = states(&[false; 3]);
    story.next();
    assert_eq!(
        choose(&story.map, &subnet(MEASURED)).1.source,
        Source::NoneHealthy
    );
    story.inputs.states = states(&[true; 3]);
    story.inputs.samples = measured(90.0, 20.0);
    let changes = story.next();
    assert_eq!(story.first(MEASURED), EU, "its home is what it was");
    assert!(
        changes.totals.keys().all(|cause| *cause == Cause::Back),
        "{changes:?}"
    );
}

fn crowd() -> Inputs {
    let list: Vec<String> = (0..200).map(|n| format!("81.0.{n}.0/24")).collect();
    let list: Vec<_> = list
        .iter()
        .map(|prefix| (&prefix[..], "eu", 10.0, 9.0))
        .collect();
    Inputs {
        samples: samples(&list),
        ..placed()
    }
}

/// How many of the crowd are led to a PoP.
fn led_to(pop: usize, map: &Map) -> usize {
    let clients = (0..200).map(|n| subnet(&format!("81.0.{n}.0")));
    clients
        .filter(|client| choose(map, client).0[0] == pop)
        .count()
}

#[test]
fn an_overloaded_pop_sheds_a_part_that_grows_with_its_load_and_returns() {
    let at = |load: f64| {
        led_to(
            EU,
            &made_of(&Inputs {
                load: vec![load],
                ..crowd()
            }),
        )
    };
    assert_eq!((at(0.0), at(0.7), at(0.95)), (200, 200, 0));
    assert!((80..=120).contains(&at(0.825)), "{}", at(0.825));
    let mut story = Story::new(crowd());
    story.inputs.load = vec![0.95];
    let changes = story.next();
    let left = led_to(EU, &story.map);
    assert!((160..=195).contains(&left), "a tenth of the way: {left}");
    assert_eq!(changes.totals[&Cause::Shed], 200 - left);
    assert_eq!(story.ttl("81.0.0.0"), 60, "the next window may shed more");
    story.inputs.load = vec![0.0];
    (0..60).for_each(|_| drop(story.next()));
    assert_eq!(led_to(EU, &story.map), 200);
}

#[test]
fn nobody_is_shed_onto_a_pop_that_is_full_itself() {
    let led = |ap: f64| {
        let map = made_of(&Inputs {
            load: vec![0.95, 0.81, ap],
            ..crowd()
        });
        (led_to(EU, &map), led_to(AP, &map))
    };
    assert_eq!((led(0.81), led(0.7)), ((200, 0), (0, 200)));
    let (eu, ap) = led(0.75);
    assert!((80..=120).contains(&ap), "half closed: {ap}");
    assert_eq!(eu + ap, 200);
}

#[test]
fn a_refuge_that_fills_up_is_left_little_by_little() {
    let mut story = Story::new(Inputs {
        load: vec![0.95],
        ..crowd()
    });
    let before = led_to(US, &story.map);
    assert_eq!(before, 200);
    story.inputs.load = vec![0.95, 0.9];
    let changes = story.next();
    let left = led_to(US, &story.map);
    assert!((160..=195).contains(&left), "a tenth of the way: {left}");
    assert_eq!(changes.moved(), 200 - left);
}

#[test]
fn a_weight_gives_a_pop_a_part_of_its_clients() {
    let at = |weight: f64| {
        led_to(
            EU,
            &made_of(&Inputs {
                weight: vec![weight],
                ..crowd()
            }),
        )
    };
    assert_eq!((at(1.0), at(0.0)), (200, 0));
    assert!((80..=120).contains(&at(0.5)), "{}", at(0.5));
    let only = Inputs {
        weight: vec![0.0],
        states: states(&[true, false, false]),
        ..crowd()
    };
    assert_eq!(led_to(EU, &made_of(&only)), 200, "nobody else is left");
}

#[test]
fn an_explanation_has_every_score_and_is_stable_json() {
    let map = made_of(&Inputs {
        samples: measured(20.0, 90.0),
        load: vec![0.25],
        ..placed()
    });
    let explanation = map.explain(ViewId::default(), &subnet("81.0.7.9"));
    assert_eq!(
        (&explanation.answer[..], explanation.scope),
        ("eu", 16),
        "its neighbours are told the same"
    );
    assert_eq!(explanation.unit, "81.0.7.0/24");
    assert_eq!(explanation.country.as_deref(), Some("DE"));
    let eu = explanation.candidates[EU].score.unwrap();
    assert_eq!((eu.median, eu.n, eu.bias), (Some(20.0), 900.0, 0.0));
    assert!(
        (eu.estimate - 20.0).abs() < 0.5 && eu.km.unwrap() > 300.0,
        "{eu:?}"
    );
    let text = serde_json::to_string(&explanation).unwrap();
    assert!(
        text.starts_with(r#"{"map":1,"view":0,"subnet":"81.0.7.0/24","#),
        "{text}"
    );
    let again = map.explain(ViewId::default(), &subnet("81.0.7.200"));
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    let lines = explanation.lines();
    assert!(lines.iter().all(|line| line.len() < 256), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("score eu=")),
        "{lines:?}"
    );
}

#[test]
fn ttls_count_down_to_the_next_window_and_never_below_the_least() {
    let mut story = Story::new(Inputs {
        samples: measured(20.0, 90.0),
        ..placed()
    });
    story.inputs.samples = measured(90.0, 20.0);
    story.next();
    story.next();
    let client = subnet(MEASURED);
    let ttl = |seconds| {
        let now = story.now + Duration::from_secs(seconds);
        story.map.choose(ViewId::default(), &client, now).ttl
    };
    assert_eq!((ttl(0), ttl(30), ttl(50), ttl(999)), (60, 30, 20, 20));
}
