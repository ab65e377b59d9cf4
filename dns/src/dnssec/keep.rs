//! Keeps what can be known ahead signed: when zones or the map move, and as time goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Signing;
use crate::respond::{Moment, Published};
use crate::steering::Steering;

/// How often it is looked whether something moved: until then, what is new is signed while
/// answering.
const LOOK: Duration = Duration::from_millis(250);

/// How often signatures are looked through for those to be made again: the shortest life is hours.
const RENEW: Duration = Duration::from_secs(60);

/// Signs until dropped.
pub async fn keep(signing: Arc<Signing>, zones: Published, steering: Arc<Steering>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut done, mut renewed) = (None, Instant::now());
    loop {
        looks.tick().await;
        let (zones, map) = (zones.load_full(), steering.snapshot());
        let moved = done.as_ref().is_none_or(|(before, version)| {
            !Arc::ptr_eq(before, &zones) || *version != map.version()
        });
        if !moved && renewed.elapsed() < RENEW {
            continue;
        }
        // Held on to, so that no other zones can lie at the same address.
        (done, renewed) = (Some((zones.clone(), map.version())), Instant::now());
        let signing = signing.clone();
        let signed = tokio::task::spawn_blocking(move || {
            signing.prepare(&zones, &map, Moment::now().unix);
        });
        if let Err(error) = signed.await {
            tracing::error!(%error, "signing ahead failed; signing while answering instead");
        }
    }
}
