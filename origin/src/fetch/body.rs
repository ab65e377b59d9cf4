//! Fetching a body that never changes.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::FutureExt;
use modcdn_core::goproxy::Request;
use modcdn_core::refusal::Refusal;
use tokio::time::{Instant, timeout_at};

use super::flight::Landing;
use super::following::Following;
use super::{Engine, Found, News, Place, too_long};
use crate::disk;
use crate::git::Pin;
use crate::store::shelf::Local;
use crate::store::spool::{self, Spool, Writer};
use crate::store::sum::Sum;
use crate::sumdb::Pending;
use crate::upstream::{Ask, Body, Fetched, asked};

impl Engine {
    pub(super) async fn fly_for_body(
        self: &Arc<Self>,
        request: &Request,
        landing: Landing<String, News>,
    ) {
        if !self.look_again(request, &landing).await {
            return;
        }
        match self.place(request).await {
            Ok(place) => {
                self.fetch_ahead(request);
                self.bring(request, place, landing).await;
            }
            Err(refusal) => landing.say(Err(refusal)),
        }
    }

    /// Whether a body must be fetched: another flight may have landed since its asker looked.
    pub(super) async fn look_again(
        &self,
        request: &Request,
        landing: &Landing<String, News>,
    ) -> bool {
        match self.stored(request, false).await {
            Ok(None) => return true,
            Ok(Some(stored)) => landing.say(Ok(Found::Stored(stored))),
            Err(refusal) => landing.say(Err(refusal)),
        }
        false
    }

    /// Fetches a body; what is proven is put into the tree after it was told.
    pub(super) async fn bring(
        self: &Arc<Self>,
        request: &Request,
        place: Place,
        landing: Landing<String, News>,
    ) {
        let asked = std::time::Instant::now();
        let deadline = Instant::now() + self.timeouts.request.get();
        // Beside the fetch, not after it.
        let proof = self.sumdb.begin(request);
        let (_place, fetched) = match self.fetch_body(request, place).await {
            Ok(fetched) => fetched,
            Err(refusal) => {
                self.negatives.put(&request.path(), &refusal, asked);
                return landing.say(Err(refusal));
            }
        };
        match fetched {
            Fetched::Whole { body, .. } => {
                self.governor.saw(request, &body, SystemTime::now());
                let taken = self.take_whole(request, body.clone(), proof).await;
                let is_good = taken.is_ok();
                landing.say(taken.map(Found::Stored));
                // Whoever asks meanwhile gets the news: nobody waits for the disk.
                if is_good && let Err(error) = self.tree.put(request, body).await {
                    self.tree.note("put", &error);
                }
            }
            Fetched::Opened { first, rest } => {
                let pouring = Pouring {
                    first,
                    rest,
                    proof,
                    deadline,
                };
                self.pour(request, pouring, landing).await;
            }
            Fetched::NotModified | Fetched::Unpinned => {
                landing.say(Err(super::crashed(request)));
            }
        }
    }

    /// Asks upstreams; once more, where Git has it and must be told which commit.
    async fn fetch_body(
        self: &Arc<Self>,
        request: &Request,
        place: Place,
    ) -> Result<(Place, Fetched), Refusal> {
        let fetch = async |pin: Option<&Pin>| {
            let ask = Ask {
                pin,
                ..Ask::default()
            };
            self.within(request, self.upstreams.fetch(request, &ask))
                .await
        };
        let fetched = fetch(None).await?;
        let Fetched::Unpinned = fetched else {
            return Ok((place, fetched));
        };
        // Nobody waits for a place while he has one.
        drop(place);
        let pin = self.pin(request).await?;
        let place = self.place(request).await?;
        Ok((place, fetch(Some(&pin)).await?))
    }

    /// Lets a body grow under the eyes of its readers, then commits it.
    async fn pour(&self, request: &Request, pouring: Pouring, landing: Landing<String, News>) {
        let Pouring {
            first,
            rest,
            proof,
            deadline,
        } = pouring;
        let asked = asked(request);
        let (mut writer, spool) = match spool::start(&self.tree, rest.announced(), &asked).await {
            Ok(started) => started,
            Err(refusal) => return landing.say(Err(refusal)),
        };
        let proofs = Proofs {
            following: self.follow(request, &spool),
            database: proof,
        };
        landing.say(Ok(Found::Growing(spool.clone())));
        let poured = timeout_at(deadline, pour_all(&mut writer, first, rest, &asked)).await;
        let poured = poured.unwrap_or_else(|_| Err(too_long(request, self.timeouts.request.get())));
        let failed = match poured {
            Ok(()) => self.finish(request, writer, &spool, proofs).await.err(),
            Err(refusal) => Some((writer, refusal)),
        };
        if let Some((writer, refusal)) = failed {
            tracing::warn!(
                asked,
                reason = refusal.reason.name(),
                failed = refusal.failed,
                "fetch broke off"
            );
            self.bad
                .put(&request.path(), &refusal, std::time::Instant::now());
            // First nobody may join any more, then those who did are told.
            drop(landing);
            writer.fail(refusal).await;
        }
    }

    /// Proves a body of which all bytes are there: by itself, then against the checksum database.
    /// Then commits it.
    async fn finish(
        &self,
        request: &Request,
        writer: Writer,
        spool: &Spool,
        proofs: Proofs,
    ) -> Result<Sum, (Writer, Refusal)> {
        let proven = match writer.whole(request) {
            Ok(len) => {
                let following = proofs.following;
                let body = Local::File(spool.file().clone());
                self.prove(request, &body, len, following).await
            }
            Err(refusal) => Err(refusal),
        };
        let h1 = match proven {
            Ok(h1) => h1,
            Err(refusal) => return Err((writer, refusal)),
        };
        let standing = match Self::verify(request, h1, proofs.database).await {
            Ok(standing) => standing,
            Err(refusal) => return Err((writer, refusal)),
        };
        self.governor.saw_content(request, SystemTime::now());
        let named = |sum: Sum| {
            self.provisional.put(spool.id(), sum);
            if let Some(standing) = standing {
                self.sumdb.settle(request, sum.digest, standing);
            }
        };
        writer.commit(request, h1, named).await
    }
}

/// A body that begins to come.
struct Pouring {
    first: Bytes,
    rest: Body,
    proof: Option<Pending>,
    deadline: Instant,
}

/// What goes on beside a body's coming.
struct Proofs {
    /// Of a zip: that it is one.
    following: Option<Following>,
    /// That it is the one that the checksum database has.
    database: Option<Pending>,
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
