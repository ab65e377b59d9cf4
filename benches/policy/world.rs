//! What there is to ask for: modules, their versions over the years, and the objects of each.

use crate::rng::Rng;

/// Modules that anybody may ask for.
const MODULES: usize = 4000;
/// How long modules have been published before the trace begins, in days.
const HISTORY: f64 = 1000.0;
/// Days between two versions of a module: log-normal over the modules, and no module is quicker.
const INTERVAL: (f64, f64) = (40.0, 1.0);
const LEAST_INTERVAL: f64 = 4.0;
/// Zips: the measured mean is 0.8 MB (173 zips of a real project: 138 MB). Log-normal, tail cut.
const ZIP: (f64, f64) = (150.0 * 1024.0, 1.8);
const LONGEST_ZIP: f64 = 100.0 * 1024.0 * 1024.0;
/// A version's zip differs from its module's usual size by up to this part.
const DRIFT: f64 = 0.1;
const MOD: (f64, f64) = (500.0, 1.0);
const INFO: (f64, f64) = (180.0, 260.0);
/// Toolchains are modules too: about 75 MB each, one for each system, a release a month.
const TOOLCHAIN: f64 = 75e6;
const TOOLCHAIN_INTERVAL: f64 = 30.0;

/// Index of an object.
pub(crate) type Id = u32;

pub(crate) struct Module {
    /// Oldest first.
    pub(crate) versions: Vec<Version>,
    pub(crate) list: Id,
    pub(crate) latest: Id,
}

#[derive(Clone, Copy)]
pub(crate) struct Version {
    /// Day, counted from the beginning of the trace.
    pub(crate) published: f64,
    /// The `.info`; `.mod` and `.zip` follow it.
    first: Id,
}

impl Version {
    pub(crate) fn info(self) -> Id {
        self.first
    }

    pub(crate) fn go_mod(self) -> Id {
        self.first + 1
    }

    pub(crate) fn zip(self) -> Id {
        self.first + 2
    }
}

impl Module {
    /// The newest version on that day.
    pub(crate) fn newest(&self, day: f64) -> usize {
        let published = self.versions.partition_point(|v| v.published <= day);
        published.saturating_sub(1)
    }
}

pub(crate) struct World {
    pub(crate) modules: Vec<Module>,
    /// The last of `modules`.
    pub(crate) toolchain: usize,
    /// Bytes of each object.
    pub(crate) sizes: Vec<u64>,
}

impl World {
    pub(crate) fn new(rng: &mut Rng, days: f64) -> Self {
        let mut world = Self {
            modules: Vec::new(),
            toolchain: MODULES,
            sizes: Vec::new(),
        };
        for _ in 0..MODULES {
            let zip = rng.log_normal(ZIP.0, ZIP.1);
            let interval = rng.log_normal(INTERVAL.0, INTERVAL.1).max(LEAST_INTERVAL);
            world.publish(rng, zip, interval, days);
        }
        world.publish(rng, TOOLCHAIN, TOOLCHAIN_INTERVAL, days);
        world
    }

    fn publish(&mut self, rng: &mut Rng, zip: f64, interval: f64, days: f64) {
        let mut versions = Vec::new();
        let mut published = -rng.between(0.1, 1.0) * HISTORY;
        let go_mod = rng.log_normal(MOD.0, MOD.1);
        while published < days {
            let first = self.object(rng.between(INFO.0, INFO.1));
            self.object(go_mod);
            let zip = zip * rng.between(1.0 - DRIFT, 1.0 + DRIFT);
            self.object(zip.min(LONGEST_ZIP));
            versions.push(Version { published, first });
            published += rng.exponential(interval);
        }
        let list = self.object(9.0 * versions.len() as f64);
        let latest = self.object(INFO.0);
        self.modules.push(Module {
            versions,
            list,
            latest,
        });
    }

    fn object(&mut self, size: f64) -> Id {
        self.sizes.push(size.max(30.0) as u64);
        (self.sizes.len() - 1) as Id
    }
}
