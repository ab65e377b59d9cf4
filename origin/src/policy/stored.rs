//! What an origin stored, read beside it, wherever its bodies lie.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use modcdn_core::goproxy::Request;
use tokio::runtime::Runtime;

use crate::config::Store;
use crate::store::budget::Budget;
use crate::store::place::place;
use crate::store::quarantine::Quarantine;
use crate::store::shelf::{OpenedBytes, Shelf};
use crate::store::sum::Sum;
use crate::store::tree;
use crate::store::work::Work;

/// A mount's small bodies. Blocks, and so it isn't for a runtime's own threads.
///
/// Failure rule: a store that failed once isn't asked again, and holds nothing from then on; whoever
/// draws conclusions from that asks for the [`fault`](Self::fault).
pub(super) struct StoredBodies {
    reach: Option<(Runtime, Arc<dyn Shelf>)>,
    fault: RefCell<Option<String>>,
}

impl StoredBodies {
    /// Of the mount whose store that is.
    pub(super) fn open(store: &Store) -> Self {
        let opened = Self::reach(store);
        let fault = opened.as_ref().err().map(ToString::to_string);
        Self {
            reach: opened.ok(),
            fault: RefCell::new(fault),
        }
    }

    fn reach(store: &Store) -> io::Result<(Runtime, Arc<dyn Shelf>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = Work::beside(&store.dir);
        let quarantine = Arc::new(Quarantine::unbounded(&store.dir));
        let shelf = tree::shelf(store, &work, &Budget::unbounded(), &quarantine)?;
        Ok((runtime, shelf))
    }

    /// Since when a body has been there; `None` if it isn't, or the store has failed.
    pub(super) fn stored_at(&self, request: &Request) -> Option<SystemTime> {
        if self.fault.borrow().is_some() {
            return None;
        }
        let (runtime, shelf) = self.reach.as_ref()?;
        self.noting(runtime.block_on(shelf.stored_at(&place(request)?)))
    }

    /// A body whose bytes are right; `None` if there is none, or the store has failed.
    pub(super) fn read(&self, request: &Request) -> Option<Bytes> {
        if self.fault.borrow().is_some() {
            return None;
        }
        let (runtime, shelf) = self.reach.as_ref()?;
        let opened = self.noting(runtime.block_on(shelf.open(&place(request)?)))?;
        let OpenedBytes::Small(bytes) = opened.bytes else {
            return None;
        };
        let is_right = |sum: Sum| sum == Sum::of(&bytes);
        opened.sum.is_none_or(is_right).then_some(bytes)
    }

    fn noting<T>(&self, answer: io::Result<Option<T>>) -> Option<T> {
        answer.unwrap_or_else(|error| {
            *self.fault.borrow_mut() = Some(error.to_string());
            None
        })
    }

    /// Why the store couldn't be read, if it couldn't.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }
}
