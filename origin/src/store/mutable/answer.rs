//! One answer: how old it is, what may be done with it, and how it lies on disk.
//!
//! Ages run by the monotonic clock; only across a restart the wall clock is asked, and a clock that
//! went back makes an answer look new, never older than it can be.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::{Request, SumDbCall};
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

use crate::config::Freshness;
use crate::upstream::Validator;

/// In which part of its life an answer is refreshed.
const EARLIEST: f64 = 0.5;
const LATEST: f64 = 0.9;

/// An entity tag that is longer isn't kept.
const MAX_ETAG: usize = 256;

/// An answer, and since when it is known to be right.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    pub(crate) digest: Sha256,
    pub(crate) validator: Option<Validator>,
    pub(crate) confirmed: Since,
}

impl Answer {
    /// One that was given now. It takes just as much memory as it is long.
    pub(crate) fn new(body: &[u8], validator: Option<Validator>) -> Self {
        let body = Bytes::copy_from_slice(body);
        Self {
            digest: Sha256::of(&body),
            body,
            validator: validator.filter(|validator| validator.etag.len() <= MAX_ETAG),
            confirmed: Since::now(),
        }
    }

    /// Its bytes of variable length.
    pub(super) fn len(&self) -> usize {
        let validator = self.validator.as_ref();
        self.body.len() + validator.map_or(0, |v| v.upstream.len() + v.etag.len())
    }
}

/// A moment, possibly of an earlier run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    instant: Instant,
    age_then: Duration,
}

impl Since {
    pub(crate) fn now() -> Self {
        Self::ago(Duration::ZERO)
    }

    pub(crate) fn ago(age: Duration) -> Self {
        Self {
            instant: Instant::now(),
            age_then: age,
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.age_then + self.instant.elapsed()
    }
}

/// What may be done with an answer of a certain age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// Give it.
    Fresh,
    /// Give it, and ask for a newer one meanwhile.
    WhileRevalidating,
    /// Ask first; give it if upstream fails.
    IfError,
    /// Ask first; it is no use any more.
    Never,
}

impl Freshness {
    /// How long an answer to this request is fresh.
    pub(crate) fn lifetime(&self, request: &Request) -> Period {
        match request {
            Request::SumDb(sumdb) => match sumdb.call {
                SumDbCall::Lookup(..) | SumDbCall::Tile(_) => self.lookup,
                SumDbCall::Supported | SumDbCall::Latest => self.mutable,
            },
            _ => self.mutable,
        }
    }

    /// For how long it must be remembered that something changed: as long as an answer from before
    /// could be given without asking upstream first, or a "not found" be believed.
    pub(crate) fn doubt(&self) -> Duration {
        let stale = self.mutable.get() + self.stale_while_revalidate.get();
        stale.max(self.not_found.get())
    }

    /// At which age an answer that is asked for is refreshed, before it is stale: somewhere in the
    /// second half of its life, so that what came together isn't asked for together for ever. `chance`
    /// is between 0 and 1. `None`: only when somebody asks for what is stale.
    pub(crate) fn refresh_at(&self, lifetime: Period, chance: f64) -> Option<Duration> {
        let share = EARLIEST + (LATEST - EARLIEST) * chance.clamp(0.0, 1.0);
        let never = self.ahead.is_zero() || lifetime.is_zero();
        (!never).then(|| lifetime.get().mul_f64(share))
    }

    /// What may be done with an answer that was confirmed so long ago.
    pub(crate) fn usage(&self, lifetime: Period, age: Duration) -> Use {
        let past = age.saturating_sub(lifetime.get());
        if age < lifetime.get() {
            Use::Fresh
        } else if past < self.stale_while_revalidate.get() {
            Use::WhileRevalidating
        } else if past < self.stale_if_error.get() {
            Use::IfError
        } else {
            Use::Never
        }
    }
}

/// The first line of an answer's file.
#[derive(Serialize, Deserialize)]
struct Head {
    path: String,
    /// Milliseconds since 1970.
    confirmed: u64,
    sha256: String,
    upstream: Option<String>,
    etag: Option<String>,
}

pub(super) fn written(path: &str, answer: &Answer) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let confirmed = now.saturating_sub(answer.confirmed.age());
    let validator = answer.validator.as_ref();
    let head = Head {
        path: path.to_owned(),
        confirmed: u64::try_from(confirmed.as_millis()).unwrap_or(u64::MAX),
        sha256: answer.digest.to_string(),
        upstream: validator.map(|validator| validator.upstream.clone()),
        etag: validator.and_then(|v| v.etag.to_str().ok().map(str::to_owned)),
    };
    let mut text = serde_json::to_vec(&head).unwrap_or_default();
    text.push(b'\n');
    text.extend_from_slice(&answer.body);
    text
}

/// Reads an answer's file; `None` if there is none, or none that can be trusted.
pub(super) fn load(file: &Path, path: &str) -> io::Result<Option<Answer>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes, path))
}

/// What such a file says; `None` if it can't be trusted.
pub(super) fn parse(bytes: &[u8], path: &str) -> Option<Answer> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
    // Without the line before it in the same piece of memory.
    let body = Bytes::copy_from_slice(&bytes[end + 1..]);
    let digest = Sha256::of(&body);
    if head.path != path || head.sha256 != digest.to_string() {
        return None;
    }
    let confirmed = UNIX_EPOCH + Duration::from_millis(head.confirmed);
    let validator = head.upstream.zip(head.etag).and_then(|(upstream, etag)| {
        let etag = HeaderValue::try_from(etag).ok()?;
        Some(Validator { upstream, etag })
    });
    Some(Answer {
        body,
        digest,
        validator,
        confirmed: Since::ago(confirmed.elapsed().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_done_depends_on_the_age() {
        let freshness = Freshness::default();
        let lifetime = Period::secs(60);
        for (age, expected) in [
            (0, Use::Fresh),
            (59, Use::Fresh),
            (60, Use::WhileRevalidating),
            (359, Use::WhileRevalidating),
            (360, Use::IfError),
            (86_459, Use::IfError),
            (86_460, Use::Never),
        ] {
            let age = Duration::from_secs(age);
            assert_eq!(freshness.usage(lifetime, age), expected, "{age:?}");
        }
    }

    #[test]
    fn answers_are_refreshed_in_the_second_half_of_their_lives() {
        let freshness = Freshness::default();
        let at = |lifetime, chance| freshness.refresh_at(Period::secs(lifetime), chance);
        assert_eq!(at(60, 0.0), Some(Duration::from_secs(30)));
        assert_eq!(at(60, 1.0), Some(Duration::from_secs(54)));
        assert_eq!(at(0, 0.5), None);
        let only_when_asked = Freshness {
            ahead: Period::secs(0),
            ..freshness
        };
        assert_eq!(only_when_asked.refresh_at(Period::secs(60), 0.5), None);
    }
}
