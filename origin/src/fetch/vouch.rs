//! Bodies and the checksum database: nothing is kept, or served whole, against its word.

use bytes::Bytes;
use modcdn_core::goproxy::Request;
use modcdn_core::h1::H1;
use modcdn_core::refusal::Refusal;

use super::Engine;
use crate::store::sum::Sum;
use crate::store::tree::{Stored, StoredBody};
use crate::sumdb::{Pending, Standing};

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
        let Some(hash) = hash_of(request, stored.sum) else {
            return Ok(Some(stored));
        };
        match self.sumdb.vouch(request, digest, hash, only_stored).await {
            Ok(()) => Ok(Some(stored)),
            Err(refusal) => {
                self.tree.expel(request, &refusal).await;
                if only_stored { Err(refusal) } else { Ok(None) }
            }
        }
    }

    /// Waits for the proof of a whole body, if it needs one, and compares.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(super) async fn verify(
        request: &Request,
        hash: Option<H1>,
        proof: Option<Pending>,
    ) -> Result<Option<Standing>, Refusal> {
        match proof.zip(hash) {
            Some((proof, hash)) => proof.verify(request, hash).await.map(Some),
            None => Ok(None),
        }
    }

    /// Verifies a body in memory.
    ///
    /// # Errors
    /// The refusal to answer with; bad content is in quarantine then.
    pub(super) async fn take_whole(
        &self,
        request: &Request,
        body: Bytes,
        proof: Option<Pending>,
    ) -> Result<Stored, Refusal> {
        let sum = Sum::of(&body);
        match Self::verify(request, hash_of(request, sum), proof).await {
            Ok(Some(standing)) => self.sumdb.settle(request, sum.digest, standing),
            Ok(None) => {}
            Err(refusal) => {
                self.bad
                    .put(&request.path(), &refusal, std::time::Instant::now());
                if refusal.reason.is_bad_content() {
                    self.tree.put_aside(body, &refusal).await;
                }
                return Err(refusal);
            }
        }
        Ok(Stored {
            sum,
            body: StoredBody::Small(body),
        })
    }
}

/// A body's hash, as go.sum has it. Of a go.mod it follows from the digest.
fn hash_of(request: &Request, sum: Sum) -> Option<H1> {
    match request {
        Request::Mod(..) => Some(H1::of_files([("go.mod", sum.digest)])),
        _ => sum.h1,
    }
}
