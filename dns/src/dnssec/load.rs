//! From a configuration to what signs.

use modcdn_core::units::Period;

use super::file::{self, FileError};
use super::{Metrics, Signing, Terms, ZoneKeys};
use crate::config::Dnssec;

/// Reads the keys of a configuration that was checked; nothing without keys.
///
/// # Errors
/// If a key's file can't be used.
pub fn load(config: &Dnssec, metrics: Metrics) -> Result<Option<Signing>, FileError> {
    let mut zones: Vec<ZoneKeys> = Vec::new();
    for from in &config.keys {
        let key = file::read(&from.file, from.role)?;
        let zone = from.zone.name();
        match zones.iter_mut().find(|keys| keys.zone == *zone) {
            Some(keys) => keys.keys.push((key, from.state)),
            None => zones.push(ZoneKeys {
                zone: zone.clone(),
                keys: vec![(key, from.state)],
                delete_ds: config.delete_ds.contains(&from.zone),
            }),
        }
    }
    let terms = Terms {
        validity: seconds(config.validity),
        rate: config.online_rate,
        cache: config.cache,
    };
    Ok((!zones.is_empty()).then(|| Signing::new(zones, terms, metrics)))
}

fn seconds(period: Period) -> u32 {
    u32::try_from(period.as_secs()).unwrap_or(u32::MAX)
}
