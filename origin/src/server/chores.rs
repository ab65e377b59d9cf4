//! What an origin does beside answering: it keeps its records, its stores and its edges up to date. Each
//! chore is a task that ends when the origin is told to stop.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use modcdn_core::admin::Admin;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::handler::Handler;
use crate::changes::Changes;
use crate::config::{Freshness, Mount};
use crate::disk;
use crate::fetch::Engine;
use crate::mounts::Mounts;
use crate::policy::announce::Announcer;
use crate::policy::sight::Sight;
use crate::purges::Purger;
use crate::retention;
use crate::store::tree::Tree;

/// How often the store is tried for being writable.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How often what was seen is written down, and edges are told of rules that ended.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Begins the retention of those mounts that have one.
pub(super) fn keep_stores_small(
    mounts: &[Mount],
    handler: &Handler,
    stop: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut keepers = Vec::new();
    for (mount, engine) in mounts.iter().zip(handler.mounts.engines()) {
        let (Some(retention), Some(uses)) = (&mount.retention, engine.uses()) else {
            continue;
        };
        keepers.push(tokio::spawn(retention::keep_up(
            mount.clone(),
            retention.clone(),
            engine.tree.shelf().clone(),
            uses.clone(),
            handler.metrics.clone(),
            stop.clone(),
        )));
    }
    keepers
}

/// Writes what is said to have changed to the purge log.
pub(super) async fn tell_edges(
    changes: Arc<Changes>,
    purger: Arc<Purger>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let changed = tokio::select! {
            changed = changes.next() => changed,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        for purge in changed {
            let purger = purger.clone();
            // A log that can't be written is noted there; edges ask again when they must.
            let _ = disk::blocking(move || purger.purge(purge, SystemTime::now())).await;
        }
    }
}

/// Removes, once, answers that are too old for any use.
pub(super) async fn sweep(engine: Arc<Engine>, freshness: Freshness) {
    let longest = freshness.mutable.get().max(freshness.lookup.get());
    let after = freshness
        .stale_if_error
        .get()
        .max(freshness.stale_while_revalidate.get());
    let sweeper = engine.clone();
    let swept = disk::blocking(move || sweeper.mutables.sweep(longest + after)).await;
    if let Err(error) = swept {
        engine.tree.note("sweep", &error);
    }
}

/// Writes down what was seen, and tells edges of rules that ended, until the end.
pub(super) async fn keep(
    sight: Arc<Sight>,
    announcer: Arc<Announcer>,
    mounts: Arc<Mounts>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = interval(KEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        write_down(sight.clone()).await;
        announce(&announcer, &mounts).await;
    }
}

/// Tells edges of policies that changed. What can't be told now is told later.
pub(super) async fn announce(announcer: &Arc<Announcer>, mounts: &Mounts) {
    let policies: Vec<_> = mounts
        .engines()
        .iter()
        .map(|engine| (engine.governor.prefix().clone(), engine.governor.policy()))
        .collect();
    let announcer = announcer.clone();
    let announcing = move || announcer.announce(&policies, SystemTime::now());
    if let Err(error) = disk::blocking(announcing).await {
        tracing::error!(%error, "edges can't be told of a policy yet");
    }
}

pub(super) async fn write_down(sight: Arc<Sight>) {
    if let Err(error) = disk::blocking(move || sight.flush()).await {
        tracing::warn!(%error, "what was seen when can't be written down yet");
    }
}

/// Sees how long the logs of checksum databases are, now and then.
pub(super) async fn look_at_logs(
    mounts: Arc<Mounts>,
    pause: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = interval(pause);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        for engine in mounts.engines() {
            engine.governor.look_at_log().await;
        }
    }
}

/// Keeps readiness true to whether the store can be written.
pub(super) async fn watch_store(
    trees: Vec<Arc<Tree>>,
    admin: Arc<Admin>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = interval(PROBE_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match probe_all(&trees).await {
            Ok(()) if !*stop.borrow() => admin.readiness().set_ready(),
            Ok(()) => {}
            Err(error) => {
                let why = format!("the store can't be written: {error}");
                admin.readiness().set_unready(why);
            }
        }
    }
}

async fn probe_all(trees: &[Arc<Tree>]) -> io::Result<()> {
    for tree in trees {
        let probe = tree.probe().await;
        probe.inspect_err(|error| tree.note("probe", error))?;
    }
    Ok(())
}
