//! A small world of `benches/steering`, replayed: properties, not figures.

#[path = "../../benches/steering/cities.rs"]
#[allow(dead_code)]
mod cities;
#[path = "../../benches/steering/replay.rs"]
#[allow(dead_code)]
mod replay;
#[path = "../../benches/policy/rng.rs"]
#[allow(dead_code)]
mod rng;
#[path = "../../benches/steering/tally.rs"]
#[allow(dead_code)]
mod tally;
#[path = "../../benches/steering/world.rs"]
#[allow(dead_code)]
mod world;

use replay::{Contender, SETTLED, Where, replay};
use tally::Tally;
use world::{World, sites};

fn tally(contender: Contender) -> Tally {
    let world = World::new(&sites(12), 300.0, 7);
    replay(&world, contender, SETTLED + 120, None)
}

fn map(samples: usize, loads: bool) -> Contender {
    Contender::Ours {
        samples,
        at: Where::Around,
        loads,
    }
}

#[test]
fn with_samples_clients_are_led_better_than_by_distance_and_never_better_than_the_best() {
    let distance = tally(Contender::Distance);
    let measured = tally(map(3, false));
    let oracle = tally(Contender::Oracle);
    assert!(measured.all.mean() <= distance.all.mean());
    assert!(measured.all.regret() <= distance.all.regret());
    assert!(measured.all.first() >= distance.all.first());
    assert!(oracle.all.mean() <= measured.all.mean());
    assert_eq!(oracle.all.regret(), 0.0);
    assert_eq!(oracle.all.first(), 100.0);
}

#[test]
fn a_replay_is_the_same_each_time() {
    let (once, again) = (tally(map(1, true)), tally(map(1, true)));
    assert_eq!(once.all.mean(), again.all.mean());
    assert_eq!(once.peaks, again.peaks);
    assert_eq!(once.moves_an_hour(), again.moves_an_hour());
}
