//! From what was found to an HTTP response: the one place that writes status and headers. `body` sends what
//! comes piece by piece, `caching` says what caches may do with it, `plain` are answers of our own.
//!
//! A stored body and an answer that may change have the SHA-256 as entity tag. A growing body has a
//! provisional one, and says its digest (and a zip its h1) in the trailers. Bodies that can't be finished end in an error, which
//! the connection turns into a reset (HTTP/2) or a close before the end (HTTP/1.1).

mod body;
mod caching;
mod plain;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, RANGE, TRAILER,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::Request;
use modcdn_core::headers::{DISABLE_MODULE_FETCH, MODCDN_NOTICE, MODCDN_UNVERIFIED, REPR_DIGEST};
use modcdn_core::range::{self, ContentRange, RangeOutcome};
use modcdn_core::refusal::{Reason, Refusal};

pub(crate) use self::body::Body;
use self::plain::empty;
pub(crate) use self::plain::{at_work, full, lines, plain, refuse};
use crate::changes;
use crate::fetch::{Engine, Found};
use crate::policy::Warning;
use crate::policy::govern::Governed;
use crate::store::mutable::Known;
use crate::store::shelf::Large;
use crate::store::spool::{Progress, Reader, Spool};
use crate::store::tree::{Stored, StoredBody};
use crate::sumdb::Standing;
use crate::upstream::asked;

/// How often a body found corrupt is fetched again within one request.
const REFETCHES: usize = 1;

/// What of an HTTP request shapes the answer.
pub(crate) struct Asker<'a> {
    pub(crate) method: &'a Method,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

/// Answers a request of the GOPROXY protocol. What is said of private modules is for nobody but the
/// asker: caches that serve many may not keep it.
pub(crate) async fn answer(
    engine: &Arc<Engine>,
    request: &Request,
    asker: &Asker<'_>,
) -> Response<Body> {
    let mut response = answer_publicly(engine, request, asker).await;
    if engine.is_private(request) {
        caching::make_private(response.headers_mut());
    }
    response
}

async fn answer_publicly(
    engine: &Arc<Engine>,
    request: &Request,
    asker: &Asker<'_>,
) -> Response<Body> {
    let only_stored = asker
        .headers
        .get(DISABLE_MODULE_FETCH)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let mut refetches = REFETCHES;
    loop {
        let now = SystemTime::now();
        let governed = engine.governor.find(engine, request, only_stored, now);
        let Governed { found, warnings } = match governed.await {
            Ok(governed) => governed,
            Err(refusal) => return refuse_request(&refusal, engine, request, asker.method),
        };
        let answering = Answering {
            engine,
            request,
            asker,
        };
        match answering.with(found).await {
            Ok(mut response) => {
                warn(&mut response, &warnings);
                if only_stored {
                    // It says what is stored now, not what there is.
                    let headers = response.headers_mut();
                    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                }
                return response;
            }
            Err(Unfit::Corrupt) if refetches > 0 => refetches -= 1,
            Err(Unfit::Corrupt) => {
                let refusal = Refusal::new(
                    Reason::Store,
                    asked(request),
                    "what the origin's disk gives back isn't what was written",
                );
                return refuse(&refusal, &engine.freshness, asker.method);
            }
            Err(Unfit::Refused(refusal)) => {
                return refuse(&refusal, &engine.freshness, asker.method);
            }
        }
    }
}

/// What the author says of what he is given.
fn warn(response: &mut Response<Body>, warnings: &[Warning]) {
    if warnings.is_empty() {
        return;
    }
    let names: Vec<&str> = warnings.iter().map(Warning::name).collect();
    if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
        response.headers_mut().insert(MODCDN_NOTICE, names);
    }
}

/// As [`refuse`]. What isn't there may come, so it is tagged as what changes is.
fn refuse_request(
    refusal: &Refusal,
    engine: &Engine,
    request: &Request,
    method: &Method,
) -> Response<Body> {
    let mut response = refuse(refusal, &engine.freshness, method);
    if refusal.reason.is_negative() {
        changes::tag_answer(response.headers_mut(), &engine.prefix, request);
    }
    response
}

/// Why what was found can't be sent.
enum Unfit {
    /// Its bytes are wrong; it is out of the store now.
    Corrupt,
    Refused(Refusal),
}

/// A request being answered.
struct Answering<'a> {
    engine: &'a Arc<Engine>,
    request: &'a Request,
    asker: &'a Asker<'a>,
}

impl Answering<'_> {
    async fn with(&self, found: Found) -> Result<Response<Body>, Unfit> {
        match found {
            Found::Stored(stored) => self.stored(stored).await,
            Found::Answer(known) => Ok(self.mutable(&known)),
            Found::Growing(spool) => self.growing(&spool).await,
        }
    }

    fn mutable(&self, known: &Known) -> Response<Body> {
        let answer = &known.answer;
        let mut age = answer.confirmed.age();
        if known.changed.is_some() {
            // Whoever keeps it must not take it for fresh.
            age = age.max(self.engine.freshness.lifetime(self.request).get());
        }
        let mut headers = self.headers(true);
        headers.insert(ETAG, answer.digest.etag());
        headers.insert(REPR_DIGEST, answer.digest.repr_digest());
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
        changes::tag_answer(&mut headers, &self.engine.prefix, self.request);
        self.whole(headers, answer.digest, &answer.body)
    }

    async fn stored(&self, stored: Stored) -> Result<Response<Body>, Unfit> {
        let Stored { sum, body } = stored;
        let standing = self.engine.sumdb.standing(self.request, sum.digest);
        let mut headers = self.headers(!matches!(standing, Standing::Unverified(_)));
        if let Standing::Unverified(cause) = standing {
            headers.insert(MODCDN_UNVERIFIED, HeaderValue::from_static(cause.name()));
        }
        body::identify(&mut headers, sum);
        let body = match body {
            StoredBody::Small(bytes) => return Ok(self.whole(headers, sum.digest, &bytes)),
            StoredBody::Large(body) => body,
        };
        if self.is_unchanged(&Tag::Digest(sum.digest)) {
            return Ok(not_modified(headers));
        }
        let outcome = self.range(&Tag::Digest(sum.digest), sum.len);
        if let RangeOutcome::Part { .. } = outcome {
            let checked = self.engine.tree.check_parts(self.request, &body, sum).await;
            match checked {
                Ok(true) => {}
                Ok(false) => return Err(Unfit::Corrupt),
                Err(error) => {
                    self.engine.tree.note("check", &error);
                    let asked = asked(self.request);
                    let refusal = crate::store::spool::disk_failed(&asked, &error);
                    return Err(Unfit::Refused(refusal));
                }
            }
        }
        let engine = self.engine.clone();
        let request = self.request.clone();
        Ok(self.part_of(headers, outcome, sum.len, |start, end| {
            let reader = if (start, end) == (0, sum.len) {
                body::StoredReader::whole(engine, request, body, sum)
            } else {
                body::StoredReader::part(engine, request, body, sum, start, end)
            };
            StreamBody::new(reader.frames()).boxed_unsync()
        }))
    }

    async fn growing(&self, spool: &Arc<Spool>) -> Result<Response<Body>, Unfit> {
        let wants_part = self.is_range_for(&Tag::Spool(spool.id()));
        let spec = range::parse(self.asker.headers.get(RANGE)).filter(|_| wants_part);
        // A head is sent once there is something behind it. Where nobody knows the length, a part
        // waits for the end, and so does HTTP/1.0, which could not tell a break from an end.
        let must_know = spec.is_some() || self.asker.version < Version::HTTP_11;
        let progress = if must_know && spool.len().is_none() {
            spool.end().await
        } else {
            spool.reach(0).await
        };
        match progress {
            Progress::Failed(refusal) => return Err(Unfit::Refused(Refusal::clone(&refusal))),
            Progress::Committed(sum) => {
                let body = StoredBody::Large(Large::File(spool.file().clone()));
                return self.stored(Stored { sum, body }).await;
            }
            Progress::Growing(_) => {}
        }
        // Whether it will be verified is known once it is whole.
        let mut headers = self.headers(!self.engine.sumdb.tolerates(self.request));
        headers.insert(ETAG, spool.etag());
        if self.is_unchanged(&Tag::Spool(spool.id())) {
            return Ok(not_modified(headers));
        }
        if self.asker.version == Version::HTTP_2 || spool.len().is_none() {
            let trailer = if matches!(self.request, Request::Zip(..)) {
                "repr-digest, etag, modcdn-sum"
            } else {
                "repr-digest, etag"
            };
            headers.insert(TRAILER, HeaderValue::from_static(trailer));
        }
        let Some(len) = spool.len() else {
            let reader = Reader::new(spool, 0, None);
            return Ok(self.response(StatusCode::OK, headers, || body::growing(reader)));
        };
        let outcome = spec.map_or(RangeOutcome::Full, |spec| spec.resolve(len));
        Ok(self.part_of(headers, outcome, len, |start, end| {
            body::growing(Reader::new(spool, start, Some(end)))
        }))
    }

    /// A body in memory.
    fn whole(&self, headers: HeaderMap, digest: Sha256, bytes: &Bytes) -> Response<Body> {
        let tag = Tag::Digest(digest);
        if self.is_unchanged(&tag) {
            return not_modified(headers);
        }
        let len = bytes.len() as u64;
        self.part_of(headers, self.range(&tag, len), len, |start, end| {
            // Both are at most the length, which fits.
            full(bytes.slice(start as usize..end as usize))
        })
    }

    /// 200, 206 or 416, with a body of known length.
    fn part_of(
        &self,
        mut headers: HeaderMap,
        outcome: RangeOutcome,
        len: u64,
        body: impl FnOnce(u64, u64) -> Body,
    ) -> Response<Body> {
        let (status, start, end) = match outcome {
            RangeOutcome::Full => (StatusCode::OK, 0, len),
            RangeOutcome::Part { start, end } => {
                let range = ContentRange {
                    start,
                    end,
                    len: Some(len),
                };
                headers.insert(CONTENT_RANGE, range.to_header());
                (StatusCode::PARTIAL_CONTENT, start, end)
            }
            RangeOutcome::Unsatisfiable => {
                let refusal = Refusal::new(
                    Reason::RangeNotSatisfiable,
                    asked(self.request),
                    format!("the range begins behind the end: there are {len} bytes"),
                );
                let mut response = refuse(&refusal, &self.engine.freshness, self.asker.method);
                let unsatisfied = range::unsatisfied(len);
                response.headers_mut().insert(CONTENT_RANGE, unsatisfied);
                return response;
            }
        };
        headers.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
        self.response(status, headers, || body(start, end))
    }

    fn response(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        body: impl FnOnce() -> Body,
    ) -> Response<Body> {
        let mut response = Response::new(empty());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if self.asker.method != Method::HEAD {
            *response.body_mut() = body();
        }
        response
    }

    /// `settled`: nothing that is found out later can make it another body.
    fn headers(&self, settled: bool) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        let content_type = HeaderValue::from_static(self.request.content_type());
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(
            CACHE_CONTROL,
            caching::cache_control(self.request, &self.engine.freshness, settled),
        );
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers
    }

    /// `If-None-Match` (RFC 9110 §13.1.2): compared weakly.
    fn is_unchanged(&self, tag: &Tag<'_>) -> bool {
        self.asker
            .headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(','))
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == "*" || self.names(tag, one))
    }

    /// Whether a `Range` applies: `If-Range` (RFC 9110 §13.1.5) compares strongly; a date never
    /// matches, as there is no Last-Modified.
    fn is_range_for(&self, tag: &Tag<'_>) -> bool {
        let condition = self.asker.headers.get(IF_RANGE);
        self.asker.method == Method::GET
            && condition.is_none_or(|field| {
                field
                    .to_str()
                    .is_ok_and(|field| self.names(tag, field.trim()))
            })
    }

    fn range(&self, tag: &Tag<'_>, len: u64) -> RangeOutcome {
        let range = self.asker.headers.get(RANGE);
        range::resolve(range.filter(|_| self.is_range_for(tag)), len)
    }

    /// Whether a quoted entity tag stands for these bytes: their digest, or the provisional name
    /// under which they grew.
    fn names(&self, tag: &Tag<'_>, quoted: &str) -> bool {
        let Some(content) = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            return false;
        };
        match tag {
            Tag::Spool(id) => content == *id,
            Tag::Digest(digest) => {
                content.parse().is_ok_and(|named: Sha256| named == *digest)
                    || self.engine.provisional.names(content, *digest)
            }
        }
    }
}

/// What identifies the bytes at hand.
enum Tag<'a> {
    Digest(Sha256),
    Spool(&'a str),
}

fn not_modified(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = headers;
    response.headers_mut().remove(CONTENT_TYPE);
    response
}
