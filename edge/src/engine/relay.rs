//! Answers that pass through: what isn't to be cached (`Disable-Module-Fetch`, private answers) and
//! what can't be, because the disk takes nothing and RAM is too small.
//!
//! One request to the origin for one client, read at that client's pace. Promise 1 holds here too:
//! the last bytes wait until length and digest are right.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use modcdn_core::digest::{Hasher, Sha256};
use modcdn_core::refusal::{Reason, Refusal};

use super::Engine;
use super::announced::{Failure, digest_in, length_in, promises_digest, read_text};
use super::fill::{PROMPT, hint};
use super::growing::{Passed, WITHHELD};
use super::reply::{Described, Fate, whole};
use super::select::{Selected, not_modified};
use super::store::entry::{Headers, Meta, Rules, Validators};
use crate::exchange::{Aborted, Answer, Asked, Body, BodyStream};
use crate::origin::{OriginBody, OriginRequest, OriginResponse};

/// Pieces that wait for a client who is slower than the origin.
const PIECES: usize = 8;

impl Engine {
    /// Asks the origin for this client alone.
    pub(super) async fn relay(self: &Arc<Self>, asked: Asked, fate: Fate) -> Answer {
        self.metrics.relays.inc();
        let path = asked.path.clone();
        let (engine, cached) = (self.clone(), fate.cached);
        // On the fills' runtime, which is where connections to the origin live.
        let relaying = self
            .fills
            .spawn(async move { engine.relay_here(&asked, fate).await });
        relaying.await.unwrap_or_else(|error| {
            tracing::error!(path, %error, "relay failed");
            let reason = Some(Reason::Internal);
            let (status, headers) = (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
            Answer {
                status,
                headers,
                body: Body::Empty,
                cache: cached,
                reason,
            }
        })
    }

    async fn relay_here(&self, asked: &Asked, fate: Fate) -> Answer {
        let path = asked.path.as_str();
        let request = OriginRequest {
            no_fetch: asked.no_fetch,
            relay: true,
            patient: true,
            ..OriginRequest::get(path)
        };
        let settings = self.settings.load_full();
        let answer = match settings.origin.send(request).await {
            Ok(response) => {
                let longest = settings.config.fill.body.as_u64();
                self.relay_response(asked, fate, response, longest).await
            }
            Err(error) => Err(error.into()),
        };
        answer.unwrap_or_else(|failure| {
            let asked_for = path.trim_start_matches('/');
            let refusal = Refusal::new(failure.reason, asked_for, failure.text);
            self.refuse(asked, fate, &refusal.hint(hint(failure.reason)))
        })
    }

    async fn relay_response(
        &self,
        asked: &Asked,
        fate: Fate,
        mut response: OriginResponse,
        longest: u64,
    ) -> Result<Answer, Failure> {
        let headers = Headers::keep(&response.headers);
        let status = response.status;
        if status.as_u16() >= 400 {
            let body = read_text(response.body.as_mut()).await?;
            return Ok(self.pass_on(
                asked,
                fate,
                &Passed {
                    status,
                    headers,
                    body,
                },
            ));
        }
        if status != StatusCode::OK {
            let text = format!("the origin answered {status} to a plain request");
            return Err(Failure::new(Reason::OriginContent, text));
        }
        let mut passing = Passing::new(&response, longest);
        let all = passing.gather(response.body.as_mut()).await?;
        let now = self.clock.now();
        let meta = Meta {
            status,
            headers,
            rules: Rules::Mutable,
            stored: now,
            validated: now,
            // Never stored: no purge asks.
            epoch: 0,
        };
        let validators = passing.digest.as_ref().map(Validators::of);
        let described = Described {
            meta: &meta,
            validators: validators.as_ref(),
            size: passing.size,
            age: None,
        };
        if not_modified(
            asked,
            validators.as_ref().map(|validators| &validators.etag),
        ) {
            return Ok(self.reply(asked, fate, &described, Selected::NotModified, None));
        }
        let body = match all {
            Some(bytes) => whole(asked, bytes),
            None if asked.head => Body::Empty,
            None => Body::Stream(Box::new(passing.run(response.body))),
        };
        Ok(self.reply(asked, fate, &described, Selected::Full, Some(body)))
    }
}

/// A body on its way through.
struct Passing {
    hasher: Hasher,
    len: u64,
    /// Longer is refused.
    most: u64,
    size: Option<u64>,
    digest: Option<Sha256>,
    promised: bool,
    /// What has come and not been passed on.
    held: VecDeque<Bytes>,
    held_len: u64,
}

impl Passing {
    fn new(response: &OriginResponse, most: u64) -> Self {
        Self {
            hasher: Hasher::new(),
            len: 0,
            most,
            size: length_in(&response.headers),
            digest: digest_in(&response.headers),
            promised: promises_digest(&response.headers),
            held: VecDeque::new(),
            held_len: 0,
        }
    }

    /// Reads until the body is complete, which is answered with all of it, or long.
    async fn gather(&mut self, body: &mut dyn OriginBody) -> Result<Option<Bytes>, Failure> {
        while self.len <= PROMPT {
            if !self.step(body).await? {
                let mut all = BytesMut::with_capacity(usize::try_from(self.len).unwrap_or(0));
                self.held
                    .drain(..)
                    .for_each(|piece| all.extend_from_slice(&piece));
                return Ok(Some(all.freeze()));
            }
        }
        Ok(None)
    }

    /// Takes the next piece; false when the body is complete and right.
    async fn step(&mut self, body: &mut dyn OriginBody) -> Result<bool, Failure> {
        let Some(piece) = body.next().await? else {
            let trailers = body.trailers().await?;
            self.verify(trailers.as_ref().and_then(digest_in))?;
            return Ok(false);
        };
        self.hasher.update(&piece);
        self.len += piece.len() as u64;
        self.held_len += piece.len() as u64;
        self.held.push_back(piece);
        if self.len > self.size.unwrap_or(self.most).min(self.most) {
            let text = "the body is longer than announced, or than the configured limit";
            return Err(Failure::new(Reason::OriginContent, text));
        }
        Ok(true)
    }

    fn verify(&mut self, trailer: Option<Sha256>) -> Result<(), Failure> {
        if self.size.is_some_and(|size| size != self.len) {
            let text = format!("the origin broke off after {} bytes", self.len);
            return Err(Failure::new(Reason::OriginBroken, text));
        }
        let computed = self.hasher.clone().finish();
        let mut said = self.digest.into_iter().chain(trailer);
        if self.promised && said.clone().next().is_none() {
            let text = "the origin announced a digest and did not send it";
            return Err(Failure::new(Reason::OriginContent, text));
        }
        if said.any(|digest| digest != computed) {
            let text = "the body is not the one whose digest the origin announced";
            return Err(Failure::new(Reason::DigestMismatch, text));
        }
        (self.digest, self.size) = (Some(computed), Some(self.len));
        Ok(())
    }

    /// The oldest piece that may go before the end is known.
    fn release(&mut self) -> Option<Bytes> {
        let oldest = self.held.front()?.len() as u64;
        if self.held_len - oldest < WITHHELD {
            return None;
        }
        self.held_len -= oldest;
        self.held.pop_front()
    }

    /// Goes on in a task of its own, until the reader leaves.
    fn run(self, body: Box<dyn OriginBody>) -> Pieces {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(self.pump(body, sender));
        Pieces(pieces)
    }

    async fn pump(
        mut self,
        mut body: Box<dyn OriginBody>,
        sender: mpsc::Sender<Result<Bytes, Reason>>,
    ) {
        loop {
            while let Some(piece) = self.release() {
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
            match self.step(body.as_mut()).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => return drop(sender.send(Err(failure.reason)).await),
            }
        }
        for piece in self.held.into_iter().map(Ok).chain([Ok(Bytes::new())]) {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    }
}

/// What a relay's task sends; an empty piece is the end. A task that vanished sends none.
struct Pieces(mpsc::Receiver<Result<Bytes, Reason>>);

#[async_trait]
impl BodyStream for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted> {
        match self.0.recv().await {
            Some(Ok(piece)) if piece.is_empty() => Ok(None),
            Some(Ok(piece)) => Ok(Some(piece)),
            Some(Err(reason)) => Err(Aborted { reason }),
            None => Err(Aborted {
                reason: Reason::Internal,
            }),
        }
    }
}
