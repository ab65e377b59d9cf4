//! What was found out about stored bodies in this run, so that nobody asks again for each request.
//!
//! A verified body stays verified: its bytes are named by their digest. One that could not be
//! verified is tried again after a while. Bounded; what is forgotten is found out again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use modcdn_core::digest::Sha256;
use parking_lot::Mutex;

use super::verdict::Standing;

/// How many bodies are remembered, about 200 bytes each.
const MOST: usize = 200_000;

/// See the module.
pub(super) struct Known {
    retry: Duration,
    bodies: Mutex<HashMap<String, Body>>,
}

struct Body {
    digest: Sha256,
    standing: Standing,
    since: Instant,
}

impl Known {
    pub(super) fn new(retry: Duration) -> Self {
        Self {
            retry,
            bodies: Mutex::default(),
        }
    }

    /// What is known of the body at a path, if it has these bytes.
    pub(super) fn get(&self, path: &str, digest: Sha256) -> Option<Standing> {
        let bodies = self.bodies.lock();
        let body = bodies.get(path).filter(|body| body.digest == digest)?;
        let settled = matches!(body.standing, Standing::Verified | Standing::Exempt);
        (settled || body.since.elapsed() < self.retry).then_some(body.standing)
    }

    pub(super) fn put(&self, path: String, digest: Sha256, standing: Standing) {
        let mut bodies = self.bodies.lock();
        if bodies.len() >= MOST {
            bodies.clear();
        }
        let body = Body {
            digest,
            standing,
            since: Instant::now(),
        };
        bodies.insert(path, body);
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Cause;
    use super::*;

    #[test]
    fn what_is_verified_stays_so_for_the_same_bytes() {
        let known = Known::new(Duration::ZERO);
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        known.put("/m".to_owned(), a, Standing::Verified);
        assert_eq!(known.get("/m", a), Some(Standing::Verified));
        assert_eq!(known.get("/m", b), None);
        assert_eq!(known.get("/n", a), None);
    }

    #[test]
    fn what_is_not_verified_is_tried_again() {
        let standing = Standing::Unverified(Cause::Unreachable);
        let digest = Sha256::of(b"a");
        for (retry, expected) in [
            (Duration::ZERO, None),
            (Duration::from_secs(60), Some(standing)),
        ] {
            let known = Known::new(retry);
            known.put("/m".to_owned(), digest, standing);
            assert_eq!(known.get("/m", digest), expected);
        }
    }
}
