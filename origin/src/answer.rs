//! From what was found to an HTTP response: the one place that writes status and headers.
//!
//! A stored body and an answer that may change have the SHA-256 as entity tag. A growing body has a
//! provisional one, and says its digest (and a zip its h1) in the trailers. Bodies that can't be finished end in an error, which
//! the connection turns into a reset (HTTP/2) or a close before the end (HTTP/1.1).

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http::header::{
    ACCEPT_RANGES, AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, RANGE, TRAILER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::{Request, SumDb, SumDbCall};
use modcdn_core::headers::{
    DISABLE_MODULE_FETCH, MODCDN_NOTICE, MODCDN_SUM, MODCDN_UNVERIFIED, REPR_DIGEST,
};
use modcdn_core::prefer::PREFERENCE_APPLIED;
use modcdn_core::range::{self, ContentRange, RangeOutcome};
use modcdn_core::refusal::{Reason, Refusal};

use crate::changes;
use crate::config::Freshness;
use crate::fetch::{Engine, Found};
use crate::policy::Warning;
use crate::policy::govern::Governed;
use crate::store::mutable::Known;
use crate::store::shelf::{Large, Pieces};
use crate::store::spool::{Progress, Reader, Spool, Step};
use crate::store::sum::Sum;
use crate::store::tree::{Stored, StoredBody};
use crate::sumdb::Standing;
use crate::upstream::asked;

/// A response's body; an error in it is a visible break.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

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
        make_private(response.headers_mut());
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

/// Turns a refusal into its response.
pub(crate) fn refuse(refusal: &Refusal, freshness: &Freshness, method: &Method) -> Response<Body> {
    let text = refusal.text();
    let mut response = Response::new(empty());
    *response.status_mut() = refusal.reason.status();
    *response.headers_mut() = refusal.headers(freshness.not_found.get());
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    if refusal.reason == Reason::Unauthorized {
        let bearer = HeaderValue::from_static("Bearer realm=\"modcdn\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    if refusal.reason == Reason::Method {
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
    }
    if method != Method::HEAD {
        *response.body_mut() = full(text);
    }
    response
}

/// A short text of our own, never cached.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer isn't here yet, and its asker wanted to hear that.
pub(crate) fn at_work() -> Response<Body> {
    let text = "the origin is still at work on this: ask again\n";
    let mut response = plain(StatusCode::ACCEPTED, text);
    let applied = HeaderValue::from_static("respond-async");
    response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    response
}

/// Lines of JSON of our own, never cached.
pub(crate) fn lines(lines: String, method: &Method) -> Response<Body> {
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    let lines_of_json = HeaderValue::from_static("application/x-ndjson");
    headers.insert(CONTENT_TYPE, lines_of_json);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(lines.len()));
    if method != Method::HEAD {
        *response.body_mut() = full(lines.into());
    }
    response
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
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
        identify(&mut headers, sum);
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
                StoredReader::whole(engine, request, body, sum)
            } else {
                StoredReader::part(engine, request, body, sum, start, end)
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
            return Ok(self.response(StatusCode::OK, headers, || growing_body(reader)));
        };
        let outcome = spec.map_or(RangeOutcome::Full, |spec| spec.resolve(len));
        Ok(self.part_of(headers, outcome, len, |start, end| {
            growing_body(Reader::new(spool, start, Some(end)))
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
            cache_control(self.request, &self.engine.freshness, settled),
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

/// Takes the leave to keep it from all caches but the asker's.
fn make_private(headers: &mut HeaderMap) {
    let control = headers
        .get(CACHE_CONTROL)
        .and_then(|value| value.to_str().ok());
    let rest = control.and_then(|control| control.strip_prefix("public"));
    if let Some(rest) = rest {
        let control = HeaderValue::try_from(format!("private{rest}"));
        headers.insert(CACHE_CONTROL, control.expect("it was a value before"));
    }
}

/// What caches may do with an answer.
fn cache_control(request: &Request, freshness: &Freshness, settled: bool) -> HeaderValue {
    if request.is_immutable() && settled {
        return HeaderValue::from_static("public, max-age=31536000, immutable");
    }
    let seconds = freshness.lifetime(request).as_secs();
    if request.is_immutable() {
        let text = format!("public, max-age={seconds}");
        return HeaderValue::try_from(text).expect("digits are visible ASCII");
    }
    let is_tile = matches!(
        request,
        Request::SumDb(SumDb {
            call: SumDbCall::Tile(_),
            ..
        })
    );
    let text = if is_tile {
        // A partial tile never changes either, but its full one replaces it some day.
        format!("public, max-age={seconds}")
    } else {
        format!(
            "public, max-age={seconds}, stale-while-revalidate={}, stale-if-error={}",
            freshness.stale_while_revalidate.as_secs(),
            freshness.stale_if_error.as_secs()
        )
    };
    HeaderValue::try_from(text).expect("digits are visible ASCII")
}

fn growing_body(reader: Reader) -> Body {
    let frames = stream::try_unfold(Some(reader), |reader| async move {
        let Some(mut reader) = reader else {
            return Ok(None);
        };
        Ok(Some(match reader.next().await? {
            Step::Piece(piece) => (Frame::data(piece), Some(reader)),
            Step::Done(sum) => (Frame::trailers(trailers(sum)), None),
        }))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn trailers(sum: Sum) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    identify(&mut trailers, sum);
    trailers
}

/// The fields that say which bytes a body is.
fn identify(headers: &mut HeaderMap, sum: Sum) {
    headers.insert(ETAG, sum.digest.etag());
    headers.insert(REPR_DIGEST, sum.digest.repr_digest());
    if let Some(h1) = sum.h1 {
        let h1 = HeaderValue::try_from(h1.to_string());
        headers.insert(MODCDN_SUM, h1.expect("base64 is visible ASCII"));
    }
}

/// Reads a stored body, hashing it on the way if all of it is read.
struct StoredReader {
    engine: Arc<Engine>,
    request: Request,
    body: Large,
    sum: Sum,
    pieces: Pieces,
}

impl StoredReader {
    fn whole(engine: Arc<Engine>, request: Request, body: Large, sum: Sum) -> Self {
        Self {
            engine,
            request,
            sum,
            pieces: body.read_hashing(sum.len),
            body,
        }
    }

    fn part(
        engine: Arc<Engine>,
        request: Request,
        body: Large,
        sum: Sum,
        start: u64,
        end: u64,
    ) -> Self {
        Self {
            engine,
            request,
            sum,
            pieces: body.read(start, end),
            body,
        }
    }

    fn frames(self) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
        stream::try_unfold(self, |mut reader| async move {
            let piece = reader.next().await?;
            Ok(piece.map(|piece| (Frame::data(piece), reader)))
        })
    }

    /// The next piece; the last one only if the whole is right.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let piece = self.pieces.next().await;
        let piece = piece.inspect_err(|error| self.engine.tree.note("read", error))?;
        if let Some(digest) = self.pieces.digest() {
            self.check(digest).await?;
        }
        Ok(piece)
    }

    async fn check(&mut self, digest: Sha256) -> io::Result<()> {
        if digest == self.sum.digest {
            self.engine.tree.mark_checked(&self.request, &self.body);
            return Ok(());
        }
        self.engine.tree.quarantine(&self.request, &self.body).await;
        Err(io::Error::other("stored body is corrupt"))
    }
}
