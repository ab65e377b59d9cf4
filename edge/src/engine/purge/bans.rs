//! The purges that still matter, each with its number.
//!
//! They are kept by kind and name, so that judging an answer takes a look-up for each name that it
//! has, however many bans there are, and a purge said twice takes the place of one. A ban is
//! retired when no answer that it concerns is left, neither stored nor on its way; the newest one
//! stays, so that a number is never given out twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

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
    most: AtomicUsize,
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
        let mut hardest_first = Mode::ALL.into_iter().rev();
        hardest_first.find(|mode| self.0[*mode as usize] > epoch)
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
        let (modules, versions) = (self.of(Kind::Module), self.of(Kind::Version));
        let is_named = !modules.is_empty() || !versions.is_empty();
        if let Some(named) = subject.module().filter(|_| is_named) {
            let of_module = named.modules();
            found.extend(of_module.iter().filter_map(|name| modules.get(&**name)));
            if !versions.is_empty() {
                let of_version = named.versions().into_iter().flatten();
                found.extend(of_version.filter_map(|name| versions.get(&*name)));
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
            most: AtomicUsize::new(most),
        }
    }

    /// Another bound; those beyond it stay held.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
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
        let most = self.most.load(Ordering::Relaxed);
        let mut held = self.held.write();
        if purge.selector == Selector::All && purge.mode == Mode::Hard {
            // It concerns all that any other does.
            *held = Held::default();
        } else if held.get(&purge.selector).is_none() && held.len() >= most {
            return Err(Full(most));
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

    /// All purges that are held.
    pub(crate) fn all(&self) -> Vec<Ban> {
        let held = self.held.read();
        let mut all = Vec::new();
        for (kind, named) in Kind::ALL.into_iter().zip(&held.0) {
            for (name, newest) in named {
                let modes = Mode::ALL.into_iter().zip(newest.0);
                let numbered = modes.filter(|(_, epoch)| *epoch > 0);
                all.extend(numbered.filter_map(|(mode, epoch)| {
                    Ban::restored(epoch, kind as u8, mode as u8, name)
                }));
            }
        }
        all
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 8] = [
        "/a.b/m/@v/v1.0.0.zip",
        "/a.b/m/@v/v1.1.0.zip",
        "/a.b/m/@v/list",
        "/a.b/mm/@v/list",
        "/static/x?q=1",
        "/static/x\tgzip",
        "/team-a/a.b/m/@v/v1.0.0.zip",
        "/team-a/a.b/m/@v/list",
    ];
    const TAGS: [&str; 3] = ["", "red", "red,blue"];

    fn purge(selector: Selector, mode: Mode) -> Purge {
        Purge { selector, mode }
    }

    fn selectors() -> Vec<Selector> {
        vec![
            Selector::key(KEYS[0]).unwrap(),
            Selector::key("/static/x").unwrap(),
            Selector::module("a.b/m").unwrap(),
            Selector::version("a.b/m", "v1.0.0").unwrap(),
            Selector::prefix("/a.b").unwrap(),
            Selector::prefix("/static/x").unwrap(),
            Selector::tag("red").unwrap(),
            Selector::tag("blue").unwrap(),
            Selector::All,
            Selector::module("a.b/m").unwrap().in_mount("/").unwrap(),
            Selector::module("a.b/m")
                .unwrap()
                .in_mount("/team-a/")
                .unwrap(),
            Selector::version("a.b/m", "v1.0.0")
                .unwrap()
                .in_mount("/team-a/")
                .unwrap(),
            Selector::prefix("/team-a").unwrap(),
        ]
    }

    /// Which of [`KEYS`] and [`TAGS`] a selector of [`selectors`] means, said by hand.
    fn means(selector: usize, key: usize, tags: usize) -> bool {
        match selector {
            0 => key == 0,
            1 => key == 5,
            2 => !(3..=5).contains(&key),
            3 => key == 0 || key == 6,
            4 => key < 4,
            5 => key == 4 || key == 5,
            6 => tags > 0,
            7 => tags == 2,
            8 => true,
            9 => key < 3,
            10 | 12 => key > 5,
            _ => key == 6,
        }
    }

    #[test]
    fn an_answer_asked_for_after_the_purge_is_none_of_its_business() {
        let bans = Arc::new(Bans::new(9));
        let subject = Subject::new("/x", b"");
        let before = bans.awaited();
        bans.add(purge(Selector::All, Mode::Soft)).unwrap();
        let after = bans.awaited();
        assert_eq!(bans.judge(&subject, before.epoch()), Some(Mode::Soft));
        assert_eq!(bans.judge(&subject, after.epoch()), None);
    }

    #[test]
    fn what_is_awaited_keeps_newer_bans_alive() {
        let bans = Arc::new(Bans::new(9));
        let awaited = bans.awaited();
        let ban = bans
            .add(purge(Selector::key("/x").unwrap(), Mode::Hard))
            .unwrap();
        bans.add(purge(Selector::key("/y").unwrap(), Mode::Hard))
            .unwrap();
        bans.retire(bans.newest(), &BTreeSet::new());
        assert!(bans.holds(&ban));
        drop(awaited);
        bans.retire(bans.newest(), &BTreeSet::new());
        assert!(!bans.holds(&ban));
        assert_eq!((bans.len(), bans.newest()), (1, 2));
    }

    #[test]
    fn the_same_purge_again_takes_no_room() {
        let bans = Bans::new(1);
        let tag = || Selector::tag("red").unwrap();
        let first = bans.add(purge(tag(), Mode::Soft)).unwrap();
        let second = bans.add(purge(tag(), Mode::Soft)).unwrap();
        assert!(!bans.holds(&first) && bans.holds(&second));
        let other = purge(Selector::tag("blue").unwrap(), Mode::Hard);
        assert_eq!(bans.add(other), Err(Full(1)));
        bans.add(purge(Selector::All, Mode::Hard)).unwrap();
        assert_eq!(bans.len(), 1);
    }

    proptest! {
        /// Against a plain list of purges: bans by name judge alike, also after those that concern
        /// nothing were retired and the rest was read back from a journal.
        #[test]
        fn bans_judge_as_the_list_of_all_purges_does(
            purges in prop::collection::vec((0usize..13, any::<bool>()), 0..30),
            answers in prop::collection::vec((0usize..8, 0usize..3, 0u64..30), 1..8),
            retired in 0u64..40,
        ) {
            let bans = Bans::new(usize::MAX);
            let mut list = Vec::new();
            let mut written = Vec::new();
            for (selector, hard) in purges {
                let mode = if hard { Mode::Hard } else { Mode::Soft };
                let ban = bans.add(purge(selectors()[selector].clone(), mode)).unwrap();
                list.push((ban.epoch, selector, mode));
                written.push(ban);
            }
            let subject = |key: usize, tags: usize| Subject::new(KEYS[key], TAGS[tags].as_bytes());
            let expected = |(key, tags, epoch): (usize, usize, u64)| {
                let concerning = list.iter().filter(|(number, selector, _)| {
                    *number > epoch && means(*selector, key, tags)
                });
                concerning.map(|(_, _, mode)| *mode).max()
            };
            let concerning: BTreeSet<u64> = answers
                .iter()
                .flat_map(|(key, tags, epoch)| bans.concerning(&subject(*key, *tags), *epoch))
                .collect();
            bans.retire(retired, &concerning);
            let restored = Bans::new(usize::MAX);
            written.iter().filter(|ban| bans.holds(ban)).for_each(|ban| restored.restore(ban));
            for answer in answers {
                let (key, tags, epoch) = answer;
                let judged = bans.judge(&subject(key, tags), epoch);
                prop_assert_eq!(judged, expected(answer), "{:?}", answer);
                prop_assert_eq!(restored.judge(&subject(key, tags), epoch), judged);
            }
            prop_assert_eq!(restored.newest(), bans.newest());
        }
    }
}
