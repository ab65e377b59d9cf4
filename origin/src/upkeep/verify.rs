//! Proves again what is in a store.
//!
//! Of every body: its sum, and what its name says it is ([`Wrong`]); of a zip the rules, its h1
//! against the one written down beside it, and its go.mod against the one beside it; of a zip and a
//! go.mod the hash against the checksum database's word, where it is stored, or asked for. Only
//! bodies that are known to be wrong are moved away, never what can't be read.

use std::io;
use std::sync::Arc;

use futures::TryStreamExt;
use modcdn_core::goproxy::Request;
use modcdn_core::h1::H1;
use serde::Serialize;

pub use super::judge::Wrong;
use super::judge::{Fault, Judged, is_recorded, judge};
use super::pace::Pace;
use super::part::{Part, Target};
use super::proof::{Proof, Prover};
use crate::archive::{self, Checked};
use crate::config::Limits;
use crate::store::place;
use crate::store::shelf::{Local, Opened, OpenedBytes, Stamp};
use crate::store::sum::Sum;
use crate::store::tree::recorded_h1;

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether what is wrong is moved to quarantine.
    pub fix: bool,
    /// Whether the checksum database is asked for what it hasn't proven to the origin so far.
    pub ask: bool,
    /// Bodies checked at once.
    pub jobs: usize,
    /// Bytes read in a second.
    pub bytes_per_second: Option<u64>,
}

/// What it tells as it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// So much there is to do, altogether.
    Counted(Progress),
    /// So much is done.
    Done(Progress),
    /// A body is wrong.
    Bad(Bad),
}

/// A number of bodies, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many.
    pub bodies: u64,
    /// How long, together.
    pub bytes: u64,
}

/// A body that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bad {
    /// The mount whose it is.
    pub mount: String,
    /// Where it lies in that mount's tree.
    pub place: String,
    /// In which way it is wrong.
    pub wrong: Wrong,
    /// In words that follow its name.
    pub text: String,
    /// Whether it is in quarantine now.
    pub quarantined: bool,
    /// Why it isn't, where it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_error: Option<String>,
}

/// What it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bodies checked.
    pub checked: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of them, those without a sum: nobody asked an origin for them yet.
    pub unsummed: u64,
    /// Of them, those for whose hash the checksum database vouches.
    pub proven: u64,
    /// Of them, those about which it could not be asked.
    pub unproven: u64,
    /// Of them, those that are wrong.
    pub bad: u64,
    /// Of those, the ones that are in quarantine now.
    pub quarantined: u64,
    /// Of those, the ones that can't be read.
    pub unreadable: u64,
}

/// Walks a store.
///
/// # Errors
/// If it can't be opened or listed.
pub async fn run(
    target: &Target,
    options: Options,
    tell: &mut (dyn FnMut(Event) + Send),
) -> io::Result<Summary> {
    let parts: Vec<Arc<Part>> = target.parts()?.into_iter().map(Arc::new).collect();
    let mut all = Progress::default();
    for part in &parts {
        let mut walk = part.shelf.walk();
        while let Some(entry) = walk.try_next().await? {
            if place::request(&entry.place).is_some() {
                all.bodies += 1;
                all.bytes += entry.len;
            }
        }
    }
    tell(Event::Counted(all));
    let (limits, archives) = target.limits();
    let checker = Arc::new(Checker {
        limits,
        archives,
        fix: options.fix,
        pace: Pace::new(options.bytes_per_second),
    });
    let mut run = Run {
        tell,
        done: Progress::default(),
        summary: Summary::default(),
    };
    for (part, mount) in parts.iter().zip(target.mounts()) {
        let prover = match target {
            Target::Configured(config) if options.ask => Prover::online(config, &mount, part)?,
            _ => Prover::offline(&mount),
        };
        let pair = Arc::new((part.clone(), prover));
        run.over(&pair, &checker, options.jobs.max(1)).await?;
    }
    Ok(run.summary)
}

struct Run<'a> {
    tell: &'a mut (dyn FnMut(Event) + Send),
    done: Progress,
    summary: Summary,
}

impl Run<'_> {
    async fn over(
        &mut self,
        pair: &Arc<(Arc<Part>, Prover)>,
        checker: &Arc<Checker>,
        jobs: usize,
    ) -> io::Result<()> {
        let entries = pair.0.shelf.walk().try_filter_map(|entry| async move {
            let request = place::request(&entry.place);
            Ok(request.map(|request| (request, entry)))
        });
        let checks = entries.map_ok(|(request, entry)| {
            let (pair, checker) = (pair.clone(), checker.clone());
            async move {
                let (part, prover) = &*pair;
                let found = checker.check(part, prover, &request, &entry.place, entry.len);
                Ok::<_, io::Error>((found.await, entry.len))
            }
        });
        let mut checks = std::pin::pin!(checks.try_buffer_unordered(jobs));
        while let Some((found, len)) = checks.try_next().await? {
            self.take(found, len);
        }
        Ok(())
    }

    fn take(&mut self, found: Found, len: u64) {
        self.done.bodies += 1;
        self.done.bytes += len;
        match found {
            Found::Gone => {}
            Found::Good { summed, proof } => {
                self.summary.checked += 1;
                self.summary.bytes += len;
                self.summary.unsummed += u64::from(!summed);
                self.summary.proven += u64::from(matches!(proof, Proof::Is(_)));
                self.summary.unproven += u64::from(matches!(proof, Proof::Unknown(_)));
            }
            Found::Bad(bad) => {
                self.summary.checked += 1;
                self.summary.bytes += len;
                self.summary.bad += 1;
                self.summary.quarantined += u64::from(bad.quarantined);
                self.summary.unreadable += u64::from(bad.wrong == Wrong::Unreadable);
                (self.tell)(Event::Bad(bad));
            }
        }
        (self.tell)(Event::Done(self.done));
    }
}

enum Found {
    /// Removed while we looked.
    Gone,
    Good {
        summed: bool,
        proof: Proof,
    },
    Bad(Bad),
}

struct Checker {
    limits: Limits,
    archives: archive::Limits,
    fix: bool,
    pace: Pace,
}

impl Checker {
    async fn check(
        &self,
        part: &Part,
        prover: &Prover,
        request: &Request,
        place: &str,
        len: u64,
    ) -> Found {
        self.pace.take(len).await;
        let opened = match part.shelf.open(place).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Found::Gone,
            Err(error) => return Found::Bad(bad(part, place, error.into())),
        };
        let (stamp, summed) = (opened.stamp.clone(), opened.sum.is_some());
        let proof = prover.hash(part, request).await;
        match self.judge(part, request, place, opened, &proof).await {
            Ok(()) => Found::Good { summed, proof },
            Err(fault) => Found::Bad(self.settle(part, place, &stamp, fault).await),
        }
    }

    async fn judge(
        &self,
        part: &Part,
        request: &Request,
        place: &str,
        opened: Opened,
        proof: &Proof,
    ) -> Result<(), Fault> {
        let Opened { len, sum, .. } = opened;
        if let Some(sum) = sum {
            is_summed(&opened.bytes, len, sum).await?;
        }
        let local = match opened.bytes {
            OpenedBytes::Small(bytes) => Local::Bytes(bytes),
            OpenedBytes::Large(large) => large.local(len, &part.work).await?,
        };
        let judged = judge(request, local, len, &self.limits, self.archives).await?;
        is_proven(judged.h1(), proof)?;
        let Judged::Zip(checked) = judged else {
            return Ok(());
        };
        is_recorded(checked.h1, sum.and_then(|sum| sum.h1), "its sum")?;
        let recorded = recorded_h1(&*part.shelf, place).await?;
        is_recorded(checked.h1, recorded, "its .ziphash")?;
        has_its_mod(part, request, &checked).await
    }

    async fn settle(&self, part: &Part, place: &str, stamp: &Stamp, fault: Fault) -> Bad {
        let mut bad = bad(part, place, fault);
        // Nobody knows what is wrong with these.
        let is_known = !matches!(bad.wrong, Wrong::Unreadable | Wrong::ModDiffers);
        if self.fix && is_known {
            let reason = format!("{}: {} {}\n", bad.wrong, bad.place, bad.text);
            match part.shelf.quarantine(place, stamp, &reason).await {
                Ok(()) => bad.quarantined = true,
                Err(error) => bad.quarantine_error = Some(error.to_string()),
            }
        }
        bad
    }
}

fn bad(part: &Part, place: &str, fault: Fault) -> Bad {
    Bad {
        mount: part.prefix.to_string(),
        place: place.to_owned(),
        wrong: fault.wrong,
        text: fault.text,
        quarantined: false,
        quarantine_error: None,
    }
}

async fn is_summed(bytes: &OpenedBytes, len: u64, sum: Sum) -> Result<(), Fault> {
    if len != sum.len {
        let text = format!("is {len} bytes long, and {} were stored", sum.len);
        return Err(Fault::new(Wrong::Bytes, text));
    }
    let found = match bytes {
        OpenedBytes::Small(bytes) => Sum::of(bytes),
        OpenedBytes::Large(large) => large.sum(len).await?,
    };
    if found == sum {
        return Ok(());
    }
    let text = "has other bytes than were stored";
    Err(Fault::new(Wrong::Bytes, text))
}

/// Whether a hash is the one that the checksum database proved.
fn is_proven(h1: Option<H1>, proof: &Proof) -> Result<(), Fault> {
    match (h1, proof) {
        (Some(h1), Proof::Is(proven)) if h1 != *proven => {
            let text = format!("has {h1}, but the checksum database proved {proven}");
            Err(Fault::new(Wrong::Proof, text))
        }
        _ => Ok(()),
    }
}

/// Whether the go.mod beside a zip is the one in it.
async fn has_its_mod(part: &Part, zip: &Request, checked: &Checked) -> Result<(), Fault> {
    let Request::Zip(module, version) = zip else {
        return Ok(());
    };
    // The go command makes one up for these, whatever is in the zip.
    let Some(inside) = checked
        .go_mod
        .as_ref()
        .filter(|_| !version.is_incompatible())
    else {
        return Ok(());
    };
    let beside = Request::Mod(module.clone(), version.clone());
    let Some(place) = place::place(&beside) else {
        return Ok(());
    };
    let Some(opened) = part.shelf.open(&place).await? else {
        return Ok(());
    };
    let same = match &opened.bytes {
        OpenedBytes::Small(bytes) => bytes == inside,
        OpenedBytes::Large(large) => large.sum(opened.len).await? == Sum::of(inside),
    };
    if same {
        return Ok(());
    }
    let text = format!("has another go.mod in it than {place}");
    Err(Fault::new(Wrong::ModDiffers, text))
}
