//! A body on its way from an origin to its readers: the loop that both kinds of fill share.
//!
//! ```text
//!   read ─┬─ all there ──────────────▶ what came behind it (trailers)
//!    ▲    ├─ too long, no room ──────▶ failed
//!    │    └─ broken off ─▶ `resume` ─▶ failed, when the tries are used up
//!    └───────────────────────┘ 206 from where it broke
//! ```
//! Whether the bytes are the right ones is for the fill to verify; here they only are as many as
//! were announced.

use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use futures::poll;
use http::HeaderMap;
use modcdn_core::refusal::Reason;

use super::Engine;
use super::announced::{Announced, Failure};
use super::config::FillConfig;
use super::fill::PROMPT;
use super::growing::{Growing, Outcome};
use super::intake::Intake;
use super::resume::{Broken, Tries};
use crate::origin::{OriginBody, OriginError, OriginResponse, Resume};

/// Whoever has the rest of a body that broke off.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// Asks for it.
    ///
    /// # Errors
    /// Only if no answer came: an error status is an answer.
    async fn rest(&self, resume: Resume) -> Result<OriginResponse, OriginError>;
}

/// What it takes to receive a body.
pub(super) struct Reception<'a> {
    pub(super) engine: &'a Engine,
    pub(super) config: &'a FillConfig,
    pub(super) source: &'a dyn Source,
    pub(super) growing: &'a Growing,
    /// The longest body that is taken, in bytes.
    pub(super) longest: u64,
}

enum Drained {
    All(Option<HeaderMap>),
    Broken(Broken),
}

impl Reception<'_> {
    /// Reads the body to its end. Announces it to those who wait, unless it is short.
    ///
    /// # Errors
    /// It is too long, there is no room for it, or it broke off for good.
    pub(super) async fn receive(
        &self,
        announced: &mut Announced,
        mut body: Box<dyn OriginBody>,
        intake: &mut Intake,
    ) -> Result<Option<HeaderMap>, Failure> {
        self.announce_if_long(announced, announced.head.size.unwrap_or(0));
        let mut tries = Tries::default();
        loop {
            match self.drain(body.as_mut(), intake, announced).await? {
                Drained::All(trailers) => return Ok(trailers),
                Drained::Broken(broken) => {
                    body = self
                        .resume(announced, intake.len(), &mut tries, broken)
                        .await?;
                }
            }
        }
    }

    /// Whether a body of which `len` bytes are here can still be the one that was announced.
    ///
    /// # Errors
    /// [`Reason::OriginContent`].
    pub(super) fn check_length(&self, len: u64, announced: &Announced) -> Result<(), Failure> {
        let (most, size) = (self.longest, announced.size);
        if size.is_some_and(|size| len > size) {
            let text = "the origin sent more bytes than it had announced";
            return Err(Failure::new(Reason::OriginContent, text));
        }
        if len.max(size.unwrap_or(0)) > most {
            let text = format!("the body is longer than {most} bytes, the configured limit");
            return Err(Failure::new(Reason::OriginContent, text));
        }
        Ok(())
    }

    /// Reads until the body ends or breaks off.
    async fn drain(
        &self,
        body: &mut dyn OriginBody,
        intake: &mut Intake,
        announced: &Announced,
    ) -> Result<Drained, Failure> {
        let size = announced.size;
        loop {
            let piece = match self.next(body).await {
                Ok(Some(piece)) => piece,
                Ok(None) if size.is_some_and(|size| intake.len() < size) => {
                    let why = format!("ended after {} bytes", intake.len());
                    let error = OriginError::Broken { why };
                    return Ok(Drained::Broken(Broken::Off(error)));
                }
                Ok(None) if announced.digest.is_some() => return Ok(Drained::All(None)),
                Ok(None) => return Ok(ended(announced, body.trailers().await)),
                // Every byte came and the digest is known: how the stream ended is no matter.
                Err(_) if size == Some(intake.len()) && announced.digest.is_some() => {
                    return Ok(Drained::All(None));
                }
                Err(error) => return Ok(Drained::Broken(Broken::Off(error))),
            };
            self.engine.metrics.fill_bytes.inc_by(piece.len() as u64);
            intake.take(piece).await.map_err(|reason| {
                Failure::new(
                    reason,
                    "there is no room for the body, on disk or in memory",
                )
            })?;
            self.announce_if_long(announced, intake.len());
            self.check_length(intake.len(), announced)?;
        }
    }

    /// The next piece. Followers are woken when the origin makes us wait, not for every piece.
    async fn next(&self, body: &mut dyn OriginBody) -> Result<Option<Bytes>, OriginError> {
        let mut next = body.next();
        match poll!(&mut next) {
            Poll::Ready(piece) => {
                self.growing.publish_if_behind();
                piece
            }
            Poll::Pending => {
                self.growing.publish();
                next.await
            }
        }
    }

    fn announce_if_long(&self, announced: &Announced, len: u64) {
        if len > PROMPT && !self.growing.is_announced() {
            let head = announced.head.clone();
            self.growing.announce(Outcome::Arriving(head));
        }
    }
}

/// A body that ended by its framing: all there is, if the digest came that was promised.
fn ended(announced: &Announced, trailers: Result<Option<HeaderMap>, OriginError>) -> Drained {
    match trailers {
        Ok(trailers) if !announced.lacks_digest(trailers.as_ref()) => Drained::All(trailers),
        Err(error) if !announced.lacks_digest(None) => Drained::Broken(Broken::Off(error)),
        Ok(_) | Err(_) => Drained::Broken(Broken::Undigested),
    }
}
