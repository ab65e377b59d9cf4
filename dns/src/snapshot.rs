//! What answers are made of: zones, settings and the map, as one.
//!
//! Whoever answers takes one [`Snapshot`] and looks at nothing else, so no answer is half of what was
//! before a change and half of what is after it. [`Published`] holds the one in use: readers never
//! wait, and whoever changes something (a new map, a record, a reload) takes turns. What changes
//! alone brings the rest along by reference: a new map costs three counters and some 40 bytes.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::respond::{Ask, Note, PLAIN_UDP_PAYLOAD, Responder, Settings};
use crate::steer::{Constants, Inputs, Map, compile};
use crate::zone::Zones;

/// All that an answer depends on besides its query, the time, and who had how much.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The zones, and what a server is beside them.
    pub responder: Responder,
    /// The PoPs, and whom each is for.
    pub map: Arc<Map>,
}

impl Snapshot {
    /// As [`Responder::respond`], with this map.
    #[must_use]
    pub fn respond(&self, bytes: &[u8], ask: &Ask, out: &mut Vec<u8>) -> Option<Note> {
        self.responder.respond(bytes, ask, &self.map, out)
    }
}

/// The snapshot in use.
#[derive(Debug)]
pub struct Published {
    current: ArcSwap<Snapshot>,
    /// Held while the next one is made of the current one, so that no change is lost.
    writing: Mutex<()>,
}

impl Published {
    /// Begins with a map, and with no zone: every question is refused until there is one.
    #[must_use]
    pub fn new(map: Arc<Map>) -> Self {
        let settings = Settings::plain(PLAIN_UDP_PAYLOAD);
        Self {
            current: ArcSwap::from_pointee(Snapshot {
                responder: Responder::new(Arc::default(), settings),
                map,
            }),
            writing: Mutex::new(()),
        }
    }

    /// What answers now, for the length of some answers.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// What answers now, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The zones now, to keep.
    #[must_use]
    pub fn zones(&self) -> Arc<Zones> {
        self.load().responder.zones().clone()
    }

    /// Puts another map in use.
    pub fn set_map(&self, map: Arc<Map>) {
        self.change(|now| Snapshot { map, ..now.clone() });
    }

    /// Puts other zones in use.
    pub fn set_zones(&self, zones: Arc<Zones>) {
        self.change(|now| Snapshot {
            responder: now.responder.with_zones(zones),
            map: now.map.clone(),
        });
    }

    /// Puts everything else in use, at one time.
    pub fn replace(&self, all: Snapshot) {
        self.change(|_| all);
    }

    fn change(&self, next: impl FnOnce(&Snapshot) -> Snapshot) {
        let _turn = self.writing.lock();
        self.current.store(Arc::new(next(&self.current.load())));
    }
}

impl Default for Published {
    /// Without a zone or a PoP.
    fn default() -> Self {
        let (inputs, constants) = (Inputs::default(), Constants::default());
        let (map, _) = compile(&inputs, None, &constants, Instant::now());
        Self::new(Arc::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_alone_leaves_the_rest_as_it_is() {
        let published = Published::default();
        let first = published.load_full();
        let zones = Arc::new(Zones::default());
        published.set_zones(zones.clone());
        let second = published.load_full();
        assert!(Arc::ptr_eq(&second.map, &first.map));
        assert!(Arc::ptr_eq(second.responder.zones(), &zones));
        published.set_map(Published::default().load().map.clone());
        let third = published.load_full();
        assert!(!Arc::ptr_eq(&third.map, &first.map));
        assert!(Arc::ptr_eq(third.responder.zones(), &zones));
        assert!(std::ptr::eq(
            third.responder.settings(),
            first.responder.settings()
        ));
    }

    #[test]
    fn of_changes_at_one_time_none_is_lost() {
        let published = Published::default();
        let maps: Vec<_> = (0..200)
            .map(|_| Published::default().load().map.clone())
            .collect();
        let zones: Vec<Arc<Zones>> = (0..200).map(|_| Arc::default()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| maps.iter().for_each(|map| published.set_map(map.clone())));
            scope.spawn(|| {
                let zones = zones.iter();
                zones.for_each(|zones| published.set_zones(zones.clone()));
            });
        });
        let last = published.load_full();
        assert!(Arc::ptr_eq(&last.map, &maps[199]));
        assert!(Arc::ptr_eq(last.responder.zones(), &zones[199]));
    }
}
