//! The purges that still matter, each with its number.
//!
//! They are kept by kind and name, so that judging an answer takes a look-up for each name that it
//! has, however many bans there are, and a purge said twice takes the place of one. A ban is
//! retired when no answer that it concerns is left, neither stored nor on its way; the newest one
//! stays, so that a number is never given out twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::subject::version_name;
use super::{Kind, Mode, Purge, Selector, Subject};

/// A numbered purge, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    /// Above those of all answers that were asked for before it.
    pub(crate) epoch: u64,
    /// What it says.
    pub(crate) purge: Purge,
}

impl Ban {
    /// The ban with these fields, if there can be one.
    pub(crate) fn restored(epoch: u64, kind: u8, mode: u8, name: &str) -> Option<Self> {
        let kind = *Kind::ALL.get(usize::from(kind))?;
        let mode = *Mode::ALL.get(usize::from(mode))?;
        let selector = Selector::restored(kind, name)?;
        let purge = Purge { selector, mode };
        Some(Self { epoch, purge })
    }
}

/// All bans that are held.
pub(crate) struct Bans {
    /// The number of the newest purge; 0: there was none.
    newest: AtomicU64,
    held: RwLock<Held>,
    /// How many answers are on their way, by the newest number when they were asked for.
    awaited: Mutex<BTreeMap<u64, usize>>,
    most: usize,
}

/// There are as many bans as may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} purges are held already, the configured limit")]
pub struct Full(usize);

/// By kind, then by name.
#[derive(Default)]
struct Held([HashMap<Box<str>, Newest>; Kind::ALL.len()]);

/// The newest purge of each mode that has one name; 0: none.
#[derive(Clone, Copy, Debug, Default)]
struct Newest([u64; Mode::ALL.len()]);

impl Newest {
    fn mode(&mut self, mode: Mode) -> &mut u64 {
        &mut self.0[mode as usize]
    }

    /// The hardest purge with a number above `epoch`.
    fn above(self, epoch: u64) -> Option<Mode> {
        let modes = Mode::ALL.into_iter().rev();
        modes
            .into_iter()
            .find(|mode| self.0[*mode as usize] > epoch)
    }
}

impl Held {
    fn of(&self, kind: Kind) -> &HashMap<Box<str>, Newest> {
        &self.0[kind as usize]
    }

    fn len(&self) -> usize {
        self.0.iter().map(HashMap::len).sum()
    }

    fn get(&self, selector: &Selector) -> Option<&Newest> {
        self.of(selector.kind()).get(&*selector.name())
    }

    fn hold(&mut self, ban: &Ban) {
        let Purge { selector, mode } = &ban.purge;
        let named = &mut self.0[selector.kind() as usize];
        let newest = named.entry(selector.name().into()).or_default().mode(*mode);
        *newest = ban.epoch.max(*newest);
    }

    /// Everything that concerns an answer, newest or not.
    fn concerning(&self, subject: &Subject<'_>) -> Vec<Newest> {
        let mut found: Vec<Newest> = Vec::new();
        found.extend(self.of(Kind::All).get(""));
        found.extend(self.of(Kind::Key).get(subject.key()));
        if let Some((module, version)) = subject.module() {
            found.extend(self.of(Kind::Module).get(module));
            let versions = self.of(Kind::Version);
            if let Some(version) = version.filter(|_| !versions.is_empty()) {
                found.extend(versions.get(&*version_name(module, version)));
            }
        }
        let prefixes = self.of(Kind::Prefix);
        if !prefixes.is_empty() {
            found.extend(subject.prefixes().filter_map(|prefix| prefixes.get(prefix)));
        }
        let tags = self.of(Kind::Tag);
        match subject.tags() {
            Some(named) => found.extend(named.filter_map(|tag| tags.get(tag))),
            None => found.extend(tags.values()),
        }
        found
    }
}

impl Bans {
    /// None held, and room for `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            newest: AtomicU64::new(0),
            held: RwLock::default(),
            awaited: Mutex::default(),
            most,
        }
    }

    /// The number of the newest purge.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.held.read().len()
    }

    /// Holds one more. From now on it concerns every answer that was asked for before.
    ///
    /// # Errors
    /// There is no room. A purge that is held already and one of everything always have room.
    pub(crate) fn add(&self, purge: Purge) -> Result<Ban, Full> {
        let mut held = self.held.write();
        if purge.selector == Selector::All && purge.mode == Mode::Hard {
            // It concerns all that any other does.
            *held = Held::default();
        } else if held.get(&purge.selector).is_none() && held.len() >= self.most {
            return Err(Full(self.most));
        }
        let epoch = self.newest.load(Ordering::Relaxed) + 1;
        let ban = Ban { epoch, purge };
        held.hold(&ban);
        self.newest.store(epoch, Ordering::Release);
        Ok(ban)
    }

    /// Holds one that was held before a restart.
    pub(crate) fn restore(&self, ban: &Ban) {
        self.held.write().hold(ban);
        self.passed(ban.epoch);
    }

    /// Notes that this number was given out.
    pub(crate) fn passed(&self, epoch: u64) {
        self.newest.fetch_max(epoch, Ordering::AcqRel);
    }

    /// Whether this very purge is held: no newer one took its place, and it isn't retired.
    pub(crate) fn holds(&self, ban: &Ban) -> bool {
        let held = self.held.read();
        let newest = held.get(&ban.purge.selector);
        newest.is_some_and(|newest| newest.0[ban.purge.mode as usize] == ban.epoch)
    }

    /// What becomes of an answer that was asked for when `epoch` was the newest number.
    pub(crate) fn judge(&self, subject: &Subject<'_>, epoch: u64) -> Option<Mode> {
        if epoch >= self.newest() {
            return None;
        }
        let concerning = self.held.read().concerning(subject);
        let modes = concerning
            .into_iter()
            .filter_map(|newest| newest.above(epoch));
        modes.max()
    }

    /// The numbers of the purges that concern such an answer.
    pub(crate) fn concerning(&self, subject: &Subject<'_>, epoch: u64) -> Vec<u64> {
        let concerning = self.held.read().concerning(subject);
        let numbers = concerning.into_iter().flat_map(|newest| newest.0);
        numbers.filter(|number| *number > epoch).collect()
    }

    /// Notes that an answer is asked for now.
    pub(crate) fn awaited(self: &Arc<Self>) -> Awaited {
        let mut awaited = self.awaited.lock();
        let epoch = self.newest();
        *awaited.entry(epoch).or_default() += 1;
        let bans = self.clone();
        Awaited { bans, epoch }
    }

    /// Retires every ban up to number `upto` that concerns nothing on its way, unless its number is
    /// among `concerning`, which are those that concern something stored.
    pub(crate) fn retire(&self, upto: u64, concerning: &BTreeSet<u64>) {
        let oldest = self.awaited.lock().keys().next().copied();
        let upto = upto.min(oldest.unwrap_or(u64::MAX));
        let mut held = self.held.write();
        let newest = self.newest();
        let is_over =
            |number: u64| number <= upto && number != newest && !concerning.contains(&number);
        for named in &mut held.0 {
            named.retain(|_, of_name| {
                for number in &mut of_name.0 {
                    if is_over(*number) {
                        *number = 0;
                    }
                }
                of_name.0 != [0; Mode::ALL.len()]
            });
        }
    }
}

/// An answer on its way: the bans that are newer than it are not retired before it is dropped.
pub(crate) struct Awaited {
    bans: Arc<Bans>,
    epoch: u64,
}

impl Awaited {
    /// The newest purge when the answer was asked for.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut awaited = self.bans.awaited.lock();
        if let Some(count) = awaited.get_mut(&self.epoch) {
            *count -= 1;
            if *count == 0 {
                awaited.remove(&self.epoch);
            }
        }
    }
}
