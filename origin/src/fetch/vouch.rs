//! Bodies and the checksum database: nothing is kept, or served whole, against its word.

use bytes::Bytes;
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::Request;
use modcdn_core::h1::H1;
use modcdn_core::refusal::Refusal;

use super::{Engine, Found, News};
use crate::store::tree::{Stored, StoredBody};
use crate::sumdb::Pending;

impl Engine {
    /// A stored body, if the database says nothing against it; `None` if it does: the body is out of
    /// the tree then, and may be fetched anew.
    ///
    /// # Errors
    /// The same, where nothing may be fetched.
    pub(super) async fn vouched(
        &self,
        request: &Request,
        stored: Stored,
        only_stored: bool,
    ) -> Result<Option<Stored>, Refusal> {
        let digest = stored.sum.digest;
        if !self.sumdb.must_vouch(request, digest) {
            return Ok(Some(stored));
        }
        let Some(hash) = Self::hash_of(request, &stored) else {
            return Ok(Some(stored));
        };
        match self.sumdb.vouch(request, digest, hash, only_stored).await {
            Ok(()) => Ok(Some(stored)),
            Err(refusal) => {
                self.tree.quarantine(request).await;
                if only_stored { Err(refusal) } else { Ok(None) }
            }
        }
    }

    /// A body's hash, as go.sum has it, if it is known.
    fn hash_of(request: &Request, stored: &Stored) -> Option<H1> {
        match (request, &stored.body) {
            (Request::Mod(..), StoredBody::Small(bytes)) => Some(H1::of_mod(bytes)),
            _ => None,
        }
    }

    /// Takes a body in memory: verified, stored, served even if the disk refuses.
    pub(super) async fn take_whole(
        &self,
        request: &Request,
        body: Bytes,
        proof: Option<Pending>,
    ) -> News {
        if let Some(proof) = proof {
            match proof.verify(request, H1::of_mod(&body)).await {
                Ok(standing) => self.sumdb.settle(request, Sha256::of(&body), standing),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Found::Stored(self.keep(request, body).await))
    }
}
