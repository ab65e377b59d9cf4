//! Copies of lists and `@latest` in a bucket: what an origin that has lost its own folder still knows.
//!
//! They lie where the folder has them, `.mutable/ab/<sha-256 of path>`, as there. A copy is made when an
//! answer changes, or was confirmed [`PART`] of `freshness.stale_if_error` after the last copy, and is
//! read only while upstream fails. So it costs nothing that anyone waits for, and it is hardly older than
//! the answer. What is gone upstream is overwritten by nothing: its copy grows too old by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::Request;
use parking_lot::Mutex;

use super::answer::{self, Answer};
use super::{DIR, name};
use crate::config::Freshness;
use crate::store::sum::Sum;
use crate::store::tree::Tree;

/// How many copies there are, at most, while an answer that stays the same may be used.
const PART: u32 = 24;

/// So many copies are remembered, about 150 bytes each; beyond, they are made anew.
const MAX_MADE: usize = 100_000;

/// See the module.
pub(super) struct Copies {
    tree: Arc<Tree>,
    again: Duration,
    /// What was copied last in this run, by path.
    made: Mutex<HashMap<String, Copy>>,
}

struct Copy {
    digest: Sha256,
    at: Instant,
}

impl Copies {
    pub(super) fn new(tree: Arc<Tree>, freshness: &Freshness) -> Self {
        Self {
            tree,
            again: freshness.stale_if_error.get() / PART,
            made: Mutex::default(),
        }
    }

    /// There are as many lists as modules. Queries are anybody's choice.
    fn keeps(&self, request: &Request) -> bool {
        self.tree.shelf().is_remote() && matches!(request, Request::List(_) | Request::Latest(_))
    }

    /// Copies an answer, if that is due. A store that fails is noted.
    pub(super) async fn make(&self, request: &Request, answer: &Answer) {
        let path = request.path();
        if !self.keeps(request) || !self.is_due(&path, answer) {
            return;
        }
        let text = answer::written(&path, answer);
        let sum = Sum::of(&text);
        if let Err(error) = self.tree.shelf().put(&place(&path), text.into(), sum).await {
            return self.tree.note("copy", &error);
        }
        let mut made = self.made.lock();
        if made.len() >= MAX_MADE {
            made.clear();
        }
        let (digest, at) = (answer.digest, Instant::now());
        made.insert(path, Copy { digest, at });
    }

    fn is_due(&self, path: &str, answer: &Answer) -> bool {
        let made = self.made.lock();
        made.get(path)
            .is_none_or(|copy| copy.digest != answer.digest || copy.at.elapsed() >= self.again)
    }

    /// The copy of an answer, however old it is.
    pub(super) async fn find(&self, request: &Request) -> Option<Answer> {
        if !self.keeps(request) {
            return None;
        }
        let path = request.path();
        let opened = self.tree.shelf().open(&place(&path)).await;
        let opened = opened.inspect_err(|error| self.tree.note("read", error));
        let opened = opened.ok()??;
        let text = opened.bytes.whole(opened.len).await;
        let text = text.inspect_err(|error| self.tree.note("read", error));
        // It says itself what it must be.
        answer::parse(&text.ok()?, &path)
    }
}

fn place(path: &str) -> String {
    let (folder, file) = name(path);
    format!("{DIR}/{folder}/{file}")
}
