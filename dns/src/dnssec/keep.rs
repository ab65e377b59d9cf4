//! Keeps what can be known ahead signed: when zones or the map move, and as time goes on.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Metrics;
use crate::respond::Moment;
use crate::snapshot::{Published, Snapshot};

/// How often it is looked whether something moved: until then, what is new is signed while
/// answering.
const LOOK: Duration = Duration::from_millis(250);

/// How often signatures are looked through for those to be made again: the shortest life is hours.
const RENEW: Duration = Duration::from_secs(60);

/// Signs until dropped.
pub async fn keep(published: Arc<Published>, metrics: Metrics) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Only compared, so that what is no longer in use needn't be kept.
    let (mut done, mut renewed) = (Weak::new(), Instant::now());
    loop {
        looks.tick().await;
        let now = published.load_full();
        if done.as_ptr() == Arc::as_ptr(&now) && renewed.elapsed() < RENEW {
            continue;
        }
        (done, renewed) = (Arc::downgrade(&now), Instant::now());
        let metrics = metrics.clone();
        let signed = tokio::task::spawn_blocking(move || prepare(&now, &metrics));
        if let Err(error) = signed.await {
            tracing::error!(%error, "signing ahead failed; signing while answering instead");
        }
    }
}

fn prepare(now: &Snapshot, metrics: &Metrics) {
    match &now.responder.settings().signing {
        Some(signing) => signing.prepare(now.responder.zones(), &[&now.map], Moment::now().unix),
        None => metrics.kept(0, 0, None),
    }
}
