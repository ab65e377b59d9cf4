//! Every body that somebody knows of at present, once: who finds its digest in two records, or in
//! a record and in the RAM tier, finds one [`Object`].

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use modcdn_core::digest::Sha256;
use parking_lot::Mutex;

use super::entry::Object;

/// Left-overs are cleared when there are this many, or twice what was left the last time.
const LEAST: usize = 1024;

/// The bodies.
#[derive(Default)]
pub(super) struct Live(Mutex<Known>);

#[derive(Default)]
struct Known {
    objects: HashMap<Sha256, Weak<Object>>,
    clear_at: usize,
}

impl Known {
    fn add(&mut self, object: &Arc<Object>) {
        self.objects.insert(object.digest, Arc::downgrade(object));
        if self.objects.len() >= self.clear_at.max(LEAST) {
            self.objects.retain(|_, object| object.strong_count() > 0);
            self.clear_at = 2 * self.objects.len();
        }
    }
}

impl Live {
    /// The object of that digest: the one that is known, or this one, which is known from now on.
    pub(super) fn share(&self, object: Arc<Object>) -> Arc<Object> {
        let mut known = self.0.lock();
        let there = known.objects.get(&object.digest).and_then(Weak::upgrade);
        if let Some(there) = there.filter(|there| !there.is_damaged()) {
            return there;
        }
        known.add(&object);
        object
    }

    /// Lets this object be the known one of its digest from now on.
    pub(super) fn renew(&self, object: Arc<Object>) -> Arc<Object> {
        self.0.lock().add(&object);
        object
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<Arc<Object>> {
        let known = self.0.lock();
        known.objects.values().filter_map(Weak::upgrade).collect()
    }

    /// The object of that digest, if it is known.
    pub(super) fn get(&self, digest: &Sha256) -> Option<Arc<Object>> {
        self.0.lock().objects.get(digest).and_then(Weak::upgrade)
    }
}
