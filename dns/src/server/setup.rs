//! From a configuration to what maps are made of, files read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::Error;
use crate::config::{self, Config};
use crate::health::{Damping, Rule};
use crate::reports::Rules;
use crate::steer::{Asns, GeoError, Inputs, Places, Point, Pop};
use crate::steering::Setup;
use crate::zone::build::families;

/// What a configuration says of the map and of what feeds it. Blocks.
pub(crate) fn of(config: &Config) -> Result<Setup, Error> {
    let checks = &config.checks;
    let reports = &config.reports;
    let targets = config.pops.iter().map(|pop| {
        let url = pop.health.as_ref();
        url.map_or_else(Vec::new, |url| url.targets(&pop.addresses))
    });
    Ok(Setup {
        inputs: inputs(config)?,
        constants: config.steering.constants(),
        targets: targets.collect(),
        rule: Rule {
            fall: checks.fall,
            rise: checks.rise,
        },
        damping: Damping {
            falls: checks.damping.falls,
            half_life: *checks.damping.half_life,
        },
        rules: Rules {
            age: *reports.age,
            samples_age: *reports.samples_age,
            skew: *reports.skew,
        },
        tokens: reports.token_file.clone(),
        draining: config.draining.iter().cloned().collect(),
        databases: databases(config),
        interval: *config.state.interval,
        homes_interval: *config.state.homes_interval,
        map_age: *config.steering.map_age,
    })
}

fn inputs(config: &Config) -> Result<Inputs, Error> {
    let index = |name: &String| config.pop_index(name);
    let (pins, systems) = (config.pins.iter(), config.asn_pins.iter());
    let by_pop = |named: &BTreeMap<String, f64>, default: f64| {
        let pops = config.pops.iter();
        pops.map(|pop| named.get(&pop.name).copied().unwrap_or(default))
            .collect()
    };
    Ok(Inputs {
        views: config.views(),
        pops: config.pops.iter().map(pop).collect(),
        order: config.order.iter().filter_map(index).collect(),
        pins: pins
            .filter_map(|(prefix, name)| Some((*prefix, index(name)?)))
            .collect(),
        asn_pins: Arc::new(
            systems
                .filter_map(|(asn, name)| Some((*asn, index(name)?)))
                .collect(),
        ),
        geo: open(config.geo.database.as_deref(), Places::open)?,
        asns: open(config.geo.asn.as_deref(), Asns::open)?,
        bias: by_pop(&config.steering.bias, 0.0),
        weight: by_pop(&config.steering.weight, 1.0),
        ..Inputs::default()
    })
}

fn open<T>(
    path: Option<&Path>,
    read: impl Fn(&Path) -> Result<T, GeoError>,
) -> Result<Option<Arc<T>>, Error> {
    let opened = path.map(|path| {
        read(path).map(Arc::new).map_err(|error| Error::Geo {
            path: path.to_owned(),
            error,
        })
    });
    opened.transpose()
}

fn databases(config: &Config) -> Vec<(&'static str, SystemTime)> {
    let places = config.geo.database.as_deref().map(|path| ("places", path));
    let systems = config.geo.asn.as_deref().map(|path| ("asn", path));
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified());
    let known = places.into_iter().chain(systems);
    known
        .filter_map(|(name, path)| Some((name, changed(path).ok()?)))
        .collect()
}

fn pop(pop: &config::Pop) -> Pop {
    let (v4, v6) = families(pop.addresses.iter().copied());
    Pop {
        name: pop.name.clone(),
        v4,
        v6,
        at: Point {
            latitude: pop.latitude,
            longitude: pop.longitude,
        },
    }
}
