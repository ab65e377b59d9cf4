//! All that makes maps, and is known of PoPs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::keeper::{self, KeptPop};
use super::{PopView, Setup, unix_seconds};
use crate::durable::{Folder, Versions};
use crate::health::{Board, Change, Check, Evidence, Reason, State, Streak};
use crate::reports::{Book, Refused, Report, Taken};
use crate::steer::{Constants, Inputs, Pop, Sample, Samples};

/// Samples that may wait for the next map; more than that in one window are left out and counted.
const MAX_PENDING: usize = 1_000_000;

/// All that makes maps.
pub(super) struct Desk {
    pub(super) setup: Setup,
    /// What the next map is made of: the configuration's, with states, live addresses, loads and
    /// samples.
    pub(super) inputs: Inputs,
    pub(super) board: Board,
    pub(super) book: Book,
    /// The checks of each PoP's addresses.
    streaks: BTreeMap<String, BTreeMap<SocketAddr, Streak>>,
    /// PoPs that an operator drains by call.
    drained: BTreeSet<String>,
    /// PoPs whose state is still that of the process before: nothing was seen or heard of them.
    pub(super) kept: BTreeSet<String>,
    /// Samples that no map was made of yet.
    pending: Vec<Sample>,
    pub(super) versions: Versions,
    /// When the map in use was.
    pub(super) published: Instant,
    /// Counts configurations.
    pub(super) epoch: u64,
}

impl Desk {
    /// What the process before knew, under this configuration. Blocks.
    pub(super) fn open(setup: Setup, folder: &Folder, now: Instant, clock: SystemTime) -> Self {
        let kept = keeper::read_pops(folder);
        let mut inputs = setup.inputs.clone();
        let names = || setup.inputs.pops.iter().map(|pop| pop.name.as_str());
        let of = |name: &str| kept.get(name).copied().unwrap_or_default();
        let mut book = Book::new(names(), setup.rules);
        book.await_reports(names().filter(|name| of(name).reports), now);
        let board = Board::new(names().map(|name| of(name).state), setup.damping, now);
        inputs.states = board.states();
        Self {
            drained: (names().filter(|name| of(name).drained))
                .map(str::to_owned)
                .collect(),
            kept: (names().filter(|name| kept.contains_key(*name)))
                .map(str::to_owned)
                .collect(),
            streaks: streaks(&setup, &BTreeMap::new()),
            inputs,
            board,
            book,
            pending: Vec::new(),
            versions: Versions::open(folder, clock),
            published: now,
            epoch: 0,
            setup,
        }
    }

    /// What is to be kept of PoPs.
    pub(super) fn kept_pops(&self) -> BTreeMap<String, KeptPop> {
        let reporters: BTreeSet<&str> = self.book.reporters().collect();
        let pops = self.inputs.pops.iter().zip(self.board.states());
        pops.map(|(pop, state)| {
            let kept = KeptPop {
                state,
                reports: reporters.contains(pop.name.as_str()),
                drained: self.drained.contains(&pop.name),
            };
            (pop.name.clone(), kept)
        })
        .collect()
    }

    /// Takes the outcome of a check; none if the address isn't checked any more, true if it means
    /// something else than before.
    pub(super) fn observe(
        &mut self,
        pop: &str,
        target: SocketAddr,
        success: bool,
        now: Instant,
    ) -> Option<bool> {
        let streak = self.streaks.get_mut(pop)?.get_mut(&target)?;
        let before = std::mem::discriminant(&streak.check());
        streak.observe(success, now);
        Some(before != std::mem::discriminant(&streak.check()))
    }

    /// Takes a report in.
    pub(super) fn take(
        &mut self,
        report: &Report,
        now: Instant,
        clock: SystemTime,
    ) -> Result<Taken, Refused> {
        let mut taken = self.book.take(report, now, clock)?;
        let room = MAX_PENDING.saturating_sub(self.pending.len());
        taken.full = taken.samples.len().saturating_sub(room);
        taken.samples.truncate(room);
        let samples = taken.samples.iter().map(|measured| Sample {
            prefix: measured.prefix,
            pop: measured.pop.clone(),
            median_ms: measured.ms,
            n: f64::from(measured.n),
            at: unix_seconds(measured.at),
        });
        self.pending.extend(samples);
        Ok(taken)
    }

    /// What was measured since the last time, and how it is to be weighed.
    pub(super) fn measured(&mut self) -> (Vec<Sample>, Constants) {
        let pending = std::mem::take(&mut self.pending);
        (pending, self.setup.constants.clone())
    }

    /// What the next map is made of.
    pub(super) fn inputs_with(&self, samples: &Arc<Samples>, clock: SystemTime) -> Inputs {
        let now = Instant::now();
        let load = |pop: &Pop| {
            self.book
                .itself(&pop.name, now)
                .and_then(|itself| itself.load)
        };
        let loads = self.inputs.pops.iter().map(|pop| load(pop).unwrap_or(0.0));
        Inputs {
            samples: samples.clone(),
            clock: unix_seconds(clock),
            load: loads.collect(),
            ..self.inputs.clone()
        }
    }

    /// Drains a PoP by call, or ends that; false if there is none of that name.
    pub(super) fn drain(&mut self, pop: &str, drain: bool) -> bool {
        let known = self.index(pop).is_some();
        if known && drain {
            self.drained.insert(pop.to_owned());
        } else if known {
            self.drained.remove(pop);
        }
        known
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.inputs.pops.iter().position(|pop| pop.name == name)
    }

    /// Judges every PoP: which states have changed, and whether addresses have.
    pub(super) fn judge(&mut self, now: Instant) -> (Vec<Change>, bool) {
        let evidence: Vec<_> = (self.setup.inputs.pops.iter())
            .map(|pop| self.evidence(&pop.name, now))
            .collect();
        let changes = self.board.judge(&evidence, now);
        let verdicts = self.inputs.pops.iter().zip(self.board.verdicts());
        for (pop, verdict) in verdicts {
            if verdict.reason != Reason::Held {
                self.kept.remove(&pop.name);
            }
        }
        self.inputs.states = self.board.states();
        let live: Vec<Pop> = self
            .setup
            .inputs
            .pops
            .iter()
            .map(|pop| self.live(pop))
            .collect();
        let readdressed = live.iter().zip(self.inputs.pops.iter());
        let readdressed = readdressed
            .into_iter()
            .any(|(a, b)| (&a.v4, &a.v6) != (&b.v4, &b.v6));
        if readdressed {
            self.inputs.pops = live.into();
        }
        (changes, readdressed)
    }

    fn evidence(&self, name: &str, now: Instant) -> Evidence {
        Evidence {
            check: self.check(name),
            heard: self.book.heard(name, now),
            views: self.book.views(name, now),
            drained: self.drained.contains(name) || self.setup.draining.contains(name),
        }
    }

    fn check(&self, name: &str) -> Check {
        let streaks = self.streaks.get(name).into_iter().flatten();
        Check::any(streaks.map(|(_, streak)| streak.check()))
    }

    /// A PoP without the addresses that fail, unless all do.
    fn live(&self, pop: &Pop) -> Pop {
        let streaks = self.streaks.get(&pop.name);
        let fails = |address: IpAddr| {
            let mut of_address = streaks
                .into_iter()
                .flatten()
                .filter(|(target, _)| target.ip() == address);
            of_address.any(|(_, streak)| matches!(streak.check(), Check::Down { .. }))
        };
        let mut live = pop.clone();
        live.v4.retain(|address| !fails((*address).into()));
        live.v6.retain(|address| !fails((*address).into()));
        if live.v4.is_empty() && live.v6.is_empty() {
            pop.clone()
        } else {
            live
        }
    }

    /// What the first map of another configuration is made of.
    pub(super) fn inputs_for(&self, setup: &Setup) -> Inputs {
        let mut inputs = setup.inputs.clone();
        inputs.states = self.states_for(setup);
        inputs
    }

    fn states_for(&self, setup: &Setup) -> Vec<State> {
        let states = self.board.states();
        let pops = setup.inputs.pops.iter();
        pops.map(|pop| self.index(&pop.name).map_or(State::Up, |at| states[at]))
            .collect()
    }

    /// Takes another configuration up.
    pub(super) fn adopt(&mut self, setup: Setup, now: Instant) {
        let names = setup.inputs.pops.iter().map(|pop| pop.name.as_str());
        self.book.know(names.clone(), setup.rules);
        let names: BTreeSet<&str> = names.collect();
        self.drained.retain(|name| names.contains(name.as_str()));
        self.kept.retain(|name| names.contains(name.as_str()));
        self.board = Board::new(self.states_for(&setup), setup.damping, now);
        self.streaks = streaks(&setup, &self.streaks);
        self.inputs = self.inputs_for(&setup);
        self.epoch += 1;
        self.setup = setup;
    }

    /// What is known of each PoP.
    pub(super) fn view(&self, now: Instant) -> Vec<PopView> {
        let pops = self.inputs.pops.iter().zip(self.board.verdicts());
        pops.map(|(pop, verdict)| {
            let Evidence { check, views, .. } = self.evidence(&pop.name, now);
            let age = self.book.age(&pop.name, now);
            let itself = self.book.itself(&pop.name, now);
            let v4 = pop.v4.iter().copied().map(IpAddr::from);
            PopView {
                name: pop.name.clone(),
                state: verdict.state.name(),
                reason: verdict.reason.name(),
                check: check.name(),
                heartbeat_seconds: age.map(|age| age.as_secs()),
                load: itself.and_then(|itself| itself.load),
                capacity: itself.and_then(|itself| itself.capacity),
                versions: itself.map_or_else(BTreeMap::new, |itself| itself.versions.clone()),
                peers_up: views.iter().filter(|view| view.up).count(),
                peers_down: views.iter().filter(|view| !view.up).count(),
                kept: self.kept.contains(&pop.name),
                addresses: v4.chain(pop.v6.iter().copied().map(IpAddr::from)).collect(),
            }
        })
        .collect()
    }
}

/// The checks of a configuration; those that there were already go on.
fn streaks(
    setup: &Setup,
    before: &BTreeMap<String, BTreeMap<SocketAddr, Streak>>,
) -> BTreeMap<String, BTreeMap<SocketAddr, Streak>> {
    let pops = setup.inputs.pops.iter().zip(&setup.targets);
    pops.map(|(pop, targets)| {
        let known = before.get(&pop.name);
        let streak = |target: &SocketAddr| {
            let known = known.and_then(|known| known.get(target));
            let streak = known.map_or(Streak::new(setup.rule), |known| known.under(setup.rule));
            (*target, streak)
        };
        (pop.name.clone(), targets.iter().map(streak).collect())
    })
    .collect()
}
