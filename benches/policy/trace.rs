//! The trace: what an edge is asked over six weeks, request by request. The same seed makes the
//! same trace.
//!
//! - Projects depend on modules drawn by popularity (Zipf), each at a version. From time to time a
//!   project upgrades some of its modules to what is then the newest, so new versions displace old
//!   ones with a lag, and versions that somebody pins live on for long.
//! - A push starts a burst of CI jobs with empty caches, minutes apart. Each job asks what `go mod
//!   download` asks: `.mod` of the graph (about twice as many as zips), then `.info`, then zips. For
//!   182 modules of a real project 348 `.mod`, 173 `.info` and 173 zips were measured.
//! - Pushes follow the working day and the week; some projects are far busier than others (Zipf).
//! - People try modules out: one version, once.
//! - Every week a scanner walks through versions of the whole catalogue, old ones included, and asks
//!   each of its objects once; an indexer asks every module's newest `.mod` once.
//!
//! Left out: the checksum database (its tiles are few and small), and "not found"s (they live in
//! memory, apart from both tiers).

use crate::rng::{Rng, Zipf};
use crate::world::{Id, World};

pub(crate) const DAYS: f64 = 42.0;
const PROJECTS: usize = 600;
/// Modules of a project: log-normal, bounded.
const DEPENDENCIES: (f64, f64) = (50.0, 0.8);
const DEPENDENCY_BOUNDS: (f64, f64) = (3.0, 500.0);
const MODULE_EXPONENT: f64 = 0.9;
const PROJECT_EXPONENT: f64 = 0.8;
/// Of a graph's modules, the part of which a package is built: these are asked for as zips.
const BUILT: f64 = 0.95;
/// Older `.mod`s in the graph, per module.
const OLDER: f64 = 0.9;
/// An older version in the graph is so many versions back, on average.
const BACK: f64 = 4.0;
/// A new project's dependencies are up to so many days old.
const PINNED: f64 = 400.0;
/// Days between a project's upgrades, and the part of its modules that one moves.
const UPGRADES: f64 = 18.0;
const UPGRADED: f64 = 0.5;
const PUSHES_A_DAY: f64 = 100.0;
/// CI jobs of one push, on average, and the seconds over which they start.
const JOBS: f64 = 4.0;
const BURST: f64 = 420.0;
/// Part of the jobs that fetch a toolchain.
const TOOLCHAINS: f64 = 0.03;
/// Seconds between requests of one client.
const PACE: f64 = 0.04;
const TRIALS_A_DAY: f64 = 300.0;
/// Versions that a scan touches, and how fast.
const SCANNED: usize = 8000;
const SCAN_PACE: f64 = 1.5;
/// Part of a day's pushes in each hour, from midnight; and of each day, from Monday.
const HOURS: [f64; 24] = [
    0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.4, 0.8, 1.5, 2.0, 2.2, 2.0, 1.5, 1.8, 2.2, 2.2, 2.0, 1.6, 1.0,
    0.6, 0.4, 0.3, 0.2, 0.1,
];
const WEEK: [f64; 7] = [1.0, 1.1, 1.1, 1.1, 0.9, 0.2, 0.2];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A client asks for the object.
    Ask(Id),
    /// A scanner asks for it.
    Scan(Id),
    /// A newer version of its module has been published.
    Supersede(Id),
}

impl Event {
    pub(crate) fn object(self) -> Id {
        match self {
            Self::Ask(id) | Self::Scan(id) | Self::Supersede(id) => id,
        }
    }
}

pub(crate) struct Trace {
    pub(crate) events: Vec<Event>,
    pub(crate) sizes: Vec<u64>,
}

struct Project {
    /// Module and version.
    needs: Vec<(usize, usize)>,
    upgraded: f64,
}

struct Generator {
    rng: Rng,
    world: World,
    popular: Zipf,
    projects: Vec<Project>,
    /// With the second of each.
    events: Vec<(f64, Event)>,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let world = World::new(&mut rng, DAYS);
        let popular = Zipf::new(world.modules.len() - 1, MODULE_EXPONENT);
        let mut generator = Generator {
            rng,
            world,
            popular,
            projects: Vec::new(),
            events: Vec::new(),
        };
        generator.found_projects();
        (0..DAYS as usize).for_each(|day| generator.day(day as f64));
        generator.finish()
    }
}

impl Generator {
    fn found_projects(&mut self) {
        for _ in 0..PROJECTS {
            let wanted = self.rng.log_normal(DEPENDENCIES.0, DEPENDENCIES.1);
            let wanted = wanted.clamp(DEPENDENCY_BOUNDS.0, DEPENDENCY_BOUNDS.1) as usize;
            let mut modules: Vec<usize> = (0..wanted * 2)
                .map(|_| self.popular.draw(&mut self.rng))
                .collect();
            modules.sort_unstable();
            modules.dedup();
            self.shuffle(&mut modules);
            modules.truncate(wanted);
            let since = -self.rng.between(0.0, PINNED);
            let needs = modules
                .into_iter()
                .map(|module| (module, self.world.modules[module].newest(since)))
                .collect();
            let upgraded = -self.rng.exponential(UPGRADES);
            self.projects.push(Project { needs, upgraded });
        }
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.rng.below(at + 1));
        }
    }

    fn day(&mut self, day: f64) {
        let busy = WEEK[day as usize % 7];
        let whose = Zipf::new(PROJECTS, PROJECT_EXPONENT);
        for _ in 0..(PUSHES_A_DAY * busy) as usize {
            let at = self.moment(day);
            let project = whose.draw(&mut self.rng);
            self.push(project, at);
        }
        for _ in 0..(TRIALS_A_DAY * busy) as usize {
            let at = self.moment(day);
            self.trial(at);
        }
        if day as usize % 7 == 3 {
            self.scan(day * 86400.0);
            self.index(day * 86400.0 + 43200.0);
        }
    }

    /// A second of that day.
    fn moment(&mut self, day: f64) -> f64 {
        let mut at = self.rng.unit() * HOURS.iter().sum::<f64>();
        let mut hour = 0;
        while at > HOURS[hour] && hour < 23 {
            at -= HOURS[hour];
            hour += 1;
        }
        (day * 24.0 + hour as f64 + self.rng.unit()) * 3600.0
    }

    fn push(&mut self, project: usize, at: f64) {
        let due = self.projects[project].upgraded + self.rng.exponential(UPGRADES);
        if due < at / 86400.0 {
            self.upgrade(project, at);
        }
        let walk = self.walk(project);
        let jobs = 1.0 + self.rng.exponential(JOBS - 1.0);
        for _ in 0..jobs as usize {
            let mut at = at + self.rng.unit() * BURST;
            if self.rng.chance(TOOLCHAINS) {
                self.toolchain(at);
            }
            for object in &walk {
                self.ask(at, *object);
                at += PACE;
            }
        }
    }

    /// What `go mod download` asks for, in its order.
    fn walk(&mut self, project: usize) -> Vec<Id> {
        // The same project asks for the same things until it upgrades.
        let mut own = Rng::new(project as u64 ^ self.projects[project].upgraded.to_bits());
        let needs = &self.projects[project].needs;
        let (mut mods, mut infos, mut zips) = (Vec::new(), Vec::new(), Vec::new());
        for (module, version) in needs {
            let versions = &self.world.modules[*module].versions;
            mods.push(versions[*version].go_mod());
            if own.chance(OLDER) {
                let back = 1 + own.exponential(BACK - 1.0) as usize;
                mods.push(versions[version.saturating_sub(back)].go_mod());
            }
            if own.chance(BUILT) {
                infos.push(versions[*version].info());
                zips.push(versions[*version].zip());
            }
        }
        [mods, infos, zips].concat()
    }

    fn upgrade(&mut self, project: usize, at: f64) {
        let day = at / 86400.0;
        let mut needs = std::mem::take(&mut self.projects[project].needs);
        for (module, version) in &mut needs {
            let newest = self.world.modules[*module].newest(day);
            self.ask(at, self.world.modules[*module].list);
            if newest > *version && self.rng.chance(UPGRADED) {
                *version = newest;
            }
        }
        self.projects[project] = Project {
            needs,
            upgraded: day,
        };
    }

    fn trial(&mut self, at: f64) {
        let module = self.popular.draw(&mut self.rng);
        let module = &self.world.modules[module];
        let newest = module.versions[module.newest(at / 86400.0)];
        let wanted = [
            module.list,
            module.latest,
            newest.info(),
            newest.go_mod(),
            newest.zip(),
        ];
        wanted.into_iter().for_each(|object| self.ask(at, object));
    }

    fn toolchain(&mut self, at: f64) {
        let module = &self.world.modules[self.world.toolchain];
        let newest = module.newest(at / 86400.0);
        let version = newest.saturating_sub(self.rng.below(4));
        self.ask(at, module.versions[version].zip());
    }

    fn scan(&mut self, at: f64) {
        for nth in 0..SCANNED {
            let module = &self.world.modules[self.rng.below(self.world.modules.len() - 1)];
            let version = module.versions[self.rng.below(module.newest(at / 86400.0) + 1)];
            let at = at + nth as f64 * SCAN_PACE;
            for object in [version.info(), version.go_mod(), version.zip()] {
                self.events.push((at, Event::Scan(object)));
            }
        }
    }

    fn index(&mut self, at: f64) {
        for nth in 0..self.world.modules.len() - 1 {
            let module = &self.world.modules[nth];
            let newest = module.versions[module.newest(at / 86400.0)];
            let scan = Event::Scan(newest.go_mod());
            self.events.push((at + nth as f64, scan));
        }
    }

    fn ask(&mut self, at: f64, object: Id) {
        self.events.push((at, Event::Ask(object)));
    }

    /// Adds what gets superseded when, and puts everything in order.
    fn finish(mut self) -> Trace {
        for module in &self.world.modules {
            for pair in module.versions.windows(2) {
                let at = pair[1].published * 86400.0;
                let old = [pair[0].info(), pair[0].go_mod(), pair[0].zip()];
                let events = old.map(|object| (at, Event::Supersede(object)));
                self.events.extend(events);
            }
        }
        self.events.sort_by(|a, b| a.0.total_cmp(&b.0));
        Trace {
            events: self.events.into_iter().map(|(_, event)| event).collect(),
            sizes: self.world.sizes,
        }
    }
}
