//! `/sumdb/<name>/…` for clients, from what was proven.
//!
//! `supported` is answered 200 if we can ask the database, or have a head of it; for others it is a
//! 404: with that word the go command asks them itself. `latest` is our own head, asked for anew as
//! lists are, and never older than one that was served before. Records and tiles come from the store, else
//! they are proven now. A private module is refused before anyone is asked about anything.

use std::sync::Arc;

use bytes::Bytes;
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::{ModulePath, Request, SumDb as Asked, SumDbCall, Tile, Version};
use modcdn_core::refusal::{Reason, Refusal};
use modcdn_core::sumdb::tree::HEIGHT;
use modcdn_core::sumdb::{SignedHead, SumError};
use tokio::time::timeout;

use super::route::NoWay;
use super::{Database, verdict};
use crate::fetch::flight::Landing;
use crate::fetch::{Found, not_stored};
use crate::store::mutable::{Answer, Known, Since, Use};
use crate::store::sum::Sum;
use crate::store::tree::{Look, Stored, StoredBody};
use crate::upstream::asked;

impl Database {
    /// Answers a call. `only_stored`: nobody is asked.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(crate) async fn find(
        self: &Arc<Self>,
        call: &Asked,
        only_stored: bool,
    ) -> Result<Found, Refusal> {
        let request = Request::SumDb(call.clone());
        if let SumDbCall::Lookup(module, _) = &call.call
            && let Some(pattern) = self.private.first(module)
        {
            return Err(verdict::private(&asked(&request), module, pattern));
        }
        if call.name != *self.config.key.name() {
            return Err(self.unknown(&request));
        }
        match &call.call {
            SumDbCall::Supported => self.supported(&request).await,
            SumDbCall::Latest => self.latest(&request, only_stored).await,
            SumDbCall::Lookup(..) | SumDbCall::Tile(_) => {
                if let Look::Found(stored) = self.tree.look(&request).await {
                    return Ok(Found::Stored(stored));
                }
                if only_stored {
                    let kept = self.kept_tile(&call.call).await;
                    return kept.ok_or_else(|| not_stored(&request));
                }
                self.prove_now(&request, &call.call).await
            }
        }
    }

    async fn supported(&self, request: &Request) -> Result<Found, Refusal> {
        if self.client.head().is_none() {
            match self.route.find().await {
                Ok(()) => {}
                Err(NoWay::Nobody(_)) => return Err(self.unknown(request)),
                Err(NoWay::Failed(remote)) => {
                    let error = SumError::from(remote);
                    return Err(verdict::of_database(&asked(request), &error));
                }
            }
        }
        Ok(answer(Bytes::new(), Since::now()))
    }

    async fn latest(
        self: &Arc<Self>,
        request: &Request,
        only_stored: bool,
    ) -> Result<Found, Refusal> {
        let age = self.refreshed.lock().map(|since| since.age());
        let usage = age.map_or(Use::IfError, |age| {
            self.freshness.usage(self.freshness.mutable, age)
        });
        let known = self.client.head();
        match (known, usage) {
            (None, _) if only_stored => return Err(not_stored(request)),
            (None, _) => {
                let refreshed = self.refresh().await;
                refreshed.map_err(|error| verdict::of_database(&asked(request), &error))?;
            }
            (Some(_), Use::Fresh) => {}
            (Some(_), _) if only_stored => {}
            (Some(_), Use::WhileRevalidating) => {
                self.heads.start(&(), self.clone().refreshing());
            }
            (Some(_), Use::IfError | Use::Never) => {
                // Ours is as good as it was, whatever comes of it. What went wrong is counted.
                let _ = timeout(self.timeouts.refresh.get(), self.refresh()).await;
            }
        }
        let head = self.client.head().ok_or_else(|| not_stored(request))?;
        Ok(self.head(&head))
    }

    fn head(&self, head: &SignedHead) -> Found {
        let since = *self.refreshed.lock();
        answer(head.note.clone(), since.unwrap_or_else(Since::now))
    }

    /// Asks the database for its newest head, once for all who want it.
    async fn refresh(self: &Arc<Self>) -> Result<(), SumError> {
        let news = self.heads.join(&(), self.clone().refreshing()).await.news;
        news.unwrap_or_else(|| Err(SumError::Unreachable("the request crashed".to_owned())))
    }

    fn refreshing(
        self: Arc<Self>,
    ) -> impl FnOnce(Landing<(), Result<(), SumError>>) -> futures::future::BoxFuture<'static, ()>
    {
        |landing| {
            Box::pin(async move {
                let newest = self.bounded(self.client.latest()).await;
                self.heed(&newest, || "its tree head".to_owned());
                if newest.is_ok() {
                    *self.refreshed.lock() = Some(Since::now());
                }
                landing.say(newest.map(drop));
            })
        }
    }

    async fn prove_now(
        self: &Arc<Self>,
        request: &Request,
        call: &SumDbCall,
    ) -> Result<Found, Refusal> {
        let proven = match call {
            SumDbCall::Lookup(module, version) => self.record(module, version).await,
            SumDbCall::Tile(tile) if tile.height() != HEIGHT => {
                let failed = "only tiles of height 8 are served, as the go command asks for them";
                return Err(Refusal::new(Reason::BadRequest, asked(request), failed));
            }
            SumDbCall::Tile(tile) => self.tile(*tile).await,
            SumDbCall::Supported | SumDbCall::Latest => Ok(Bytes::new()),
        };
        match proven {
            Ok(bytes) => Ok(in_memory(bytes)),
            Err(error) => Err(verdict::of_database(&asked(request), &error)),
        }
    }

    /// A partial tile of which a wider one is stored.
    async fn kept_tile(&self, call: &SumDbCall) -> Option<Found> {
        match call {
            SumDbCall::Tile(tile) => self.client.kept(tile).await.map(in_memory),
            _ => None,
        }
    }

    async fn record(
        self: &Arc<Self>,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Bytes, SumError> {
        let proven = self.proof(module, version).await?;
        Ok(proven.answer)
    }

    /// A tile that isn't stored as it is; a part of a stored one may be it.
    async fn tile(self: &Arc<Self>, tile: Tile) -> Result<Bytes, SumError> {
        let database = self.clone();
        let fly = |landing: Landing<String, _>| async move {
            let proven = database.bounded(database.client.tile(&tile)).await;
            database.heed(&proven, || tile.to_string());
            landing.say(proven);
        };
        let news = self.tiles.join(&tile.to_string(), fly).await.news;
        news.unwrap_or_else(|| Err(SumError::Unreachable("the request crashed".to_owned())))
    }

    /// A database that isn't this mount's.
    fn unknown(&self, request: &Request) -> Refusal {
        let ours = self.config.key.name();
        let failed = format!("not passed on here; this mount's checksum database is {ours}");
        Refusal::new(Reason::UnknownDatabase, asked(request), failed)
    }
}

fn in_memory(bytes: Bytes) -> Found {
    Found::Stored(Stored {
        sum: Sum::of(&bytes),
        body: StoredBody::Small(bytes),
    })
}

fn answer(body: Bytes, confirmed: Since) -> Found {
    let answer = Arc::new(Answer {
        digest: Sha256::of(&body),
        body,
        validator: None,
        confirmed,
    });
    Found::Answer(Known {
        answer,
        changed: None,
    })
}
