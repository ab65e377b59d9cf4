//! Fetching a body that never changes.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use modcdn_core::goproxy::Request;
use modcdn_core::refusal::Refusal;
use tokio::time::{Instant, timeout_at};

use super::flight::Landing;
use super::following::Following;
use super::{Engine, Found, News, too_long};
use crate::disk;
use crate::store::shelf::Local;
use crate::store::spool::{self, Spool, Writer};
use crate::store::sum::Sum;
use crate::upstream::{Body, Fetched, asked};

impl Engine {
    pub(super) async fn fly_for_body(
        self: &Arc<Self>,
        request: &Request,
        landing: Landing<String, News>,
    ) {
        // Another flight may have landed since its asker looked.
        match self.stored(request).await {
            Ok(Some(stored)) => return landing.say(Ok(Found::Stored(stored))),
            Ok(None) => {}
            Err(refusal) => return landing.say(Err(refusal)),
        }
        let _place = match self.place(request).await {
            Ok(place) => place,
            Err(refusal) => return landing.say(Err(refusal)),
        };
        let deadline = Instant::now() + self.timeouts.request.get();
        match self
            .within(request, self.upstreams.fetch(request, None))
            .await
        {
            Ok(Fetched::Whole { body, .. }) => {
                let stored = self.keep(request, body).await;
                landing.say(Ok(Found::Stored(stored)));
            }
            Ok(Fetched::Opened { first, rest }) => {
                self.pour(request, first, rest, landing, deadline).await;
            }
            Ok(Fetched::NotModified) => landing.say(Err(super::crashed(request))),
            Err(refusal) => {
                self.negatives.put(&request.path(), &refusal);
                landing.say(Err(refusal));
            }
        }
    }

    /// Lets a body grow under the eyes of its readers, then commits it.
    async fn pour(
        &self,
        request: &Request,
        first: Bytes,
        rest: Body,
        landing: Landing<String, News>,
        deadline: Instant,
    ) {
        let asked = asked(request);
        let (mut writer, spool) = match spool::start(&self.tree, rest.announced(), &asked).await {
            Ok(started) => started,
            Err(refusal) => return landing.say(Err(refusal)),
        };
        let following = self.follow(request, &spool);
        landing.say(Ok(Found::Growing(spool.clone())));
        let poured = timeout_at(deadline, pour_all(&mut writer, first, rest, &asked)).await;
        let poured = poured.unwrap_or_else(|_| Err(too_long(request, self.timeouts.request.get())));
        let failed = match poured {
            Ok(()) => self.finish(request, writer, &spool, following).await.err(),
            Err(refusal) => Some((writer, refusal)),
        };
        if let Some((writer, refusal)) = failed {
            tracing::warn!(
                asked,
                reason = refusal.reason.name(),
                failed = refusal.failed,
                "fetch broke off"
            );
            self.bad.put(&request.path(), &refusal);
            // First nobody may join any more, then those who did are told.
            drop(landing);
            writer.fail(refusal).await;
        }
    }

    /// Proves a body of which all bytes are there, then commits it.
    async fn finish(
        &self,
        request: &Request,
        writer: Writer,
        spool: &Spool,
        following: Option<Following>,
    ) -> Result<Sum, (Writer, Refusal)> {
        let proven = match writer.whole(request) {
            Ok(len) => {
                let body = Local::File(spool.file().clone());
                self.prove(request, &body, len, following).await
            }
            Err(refusal) => Err(refusal),
        };
        let h1 = match proven {
            Ok(h1) => h1,
            Err(refusal) => return Err((writer, refusal)),
        };
        let named = |sum| self.provisional.put(spool.id(), sum);
        writer.commit(request, h1, named).await
    }
}

/// Writes a body as it comes; what has come already is written at once.
async fn pour_all(
    writer: &mut Writer,
    first: Bytes,
    mut rest: Body,
    asked: &str,
) -> Result<(), Refusal> {
    let mut next = Some(first);
    while let Some(piece) = next {
        let mut size = piece.len() as u64;
        let mut pieces = vec![piece];
        let mut after = None;
        while size < disk::CHUNK {
            match rest.next().now_or_never() {
                Some(Ok(Some(piece))) => {
                    size += piece.len() as u64;
                    pieces.push(piece);
                }
                Some(end_or_fault) => {
                    after = Some(end_or_fault);
                    break;
                }
                None => break,
            }
        }
        writer.write(pieces, asked).await?;
        let after = match after {
            Some(after) => after,
            None => rest.next().await,
        };
        next = after.map_err(|trouble| trouble.into_refusal(asked))?;
    }
    Ok(())
}
