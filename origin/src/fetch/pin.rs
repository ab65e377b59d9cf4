//! The commit that a version's files come from, where Git has them.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use modcdn_core::goproxy::Request;
use modcdn_core::refusal::Refusal;

use super::{Engine, Found};
use crate::git::Pin;
use crate::store::tree::{Stored, StoredBody};

impl Engine {
    /// What the `.info` beside this file names; it is fetched if need be. Without a place among the
    /// fetches, as it takes one itself.
    ///
    /// # Errors
    /// The refusal to answer with: there may be an `.info`, but nobody could say.
    pub(super) fn pin<'a>(
        self: &'a Arc<Self>,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Pin, Refusal>> {
        async move {
            let (Request::Mod(module, version) | Request::Zip(module, version)) = request else {
                return Ok(Pin::Tag);
            };
            let info = Request::Info(module.clone(), version.clone());
            match self.find_body(&info, false).await {
                Ok(Found::Stored(Stored {
                    body: StoredBody::Small(info),
                    ..
                })) => Ok(Pin::of(&info)),
                Ok(_) => Ok(Pin::Tag),
                Err(refusal) if refusal.reason.is_negative() => Ok(Pin::Tag),
                Err(refusal) => Err(refusal),
            }
        }
        .boxed()
    }
}
