//! Continuing a body that broke off, from where it broke, until the tries are used up.
//!
//! The origin client sends each try to another address than the one where the body broke, if there
//! is one. A body whose end came but whose digest didn't (its trailers were lost, or it was cut off
//! where a piece ended) is asked for from its last byte on: either more comes, or the head says the
//! digest.

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};

use modcdn_core::refusal::Reason;

use super::announced::{Announced, Failure};
use super::fill::is_failure;
use super::receive::Reception;
use crate::backoff::{Backoff, chance};
use crate::origin::{OriginBody, OriginError, Resume};

/// The tries of one fill.
#[derive(Default)]
pub(super) struct Tries {
    used: u32,
    /// The last byte that is here is asked for once more: there may be none behind it.
    overlap: bool,
}

/// How a body ended too soon.
pub(super) enum Broken {
    /// The stream broke off, or ended before the length that was announced.
    Off(OriginError),
    /// It ended well, but without the digest that it promised.
    Undigested,
}

impl Broken {
    fn failure(self) -> Failure {
        match self {
            Self::Off(error) => Failure::of_body(&error),
            Self::Undigested => {
                let text = "the origin announced a digest and did not send it";
                Failure::new(Reason::OriginContent, text)
            }
        }
    }
}

impl Reception<'_> {
    /// Asks for what is missing behind the first `len` bytes.
    pub(super) async fn resume(
        &self,
        announced: &mut Announced,
        len: u64,
        tries: &mut Tries,
        broken: Broken,
    ) -> Result<Box<dyn OriginBody>, Failure> {
        tries.overlap = matches!(broken, Broken::Undigested);
        let mut failure = broken.failure();
        let Some(validator) = announced.validator.clone() else {
            return Err(failure);
        };
        while self.may_try(tries).await {
            let skip = u64::from(tries.overlap).min(len);
            let from = len - skip;
            let if_range = validator.value.clone();
            match self.source.rest(Resume { from, if_range }).await {
                Ok(response) if is_failure(response.status) => {
                    let text = format!("the origin broke off, then answered {}", response.status);
                    failure = Failure::new(Reason::OriginBroken, text);
                }
                Ok(response) if is_behind_the_end(response.status) && !tries.overlap => {
                    tries.overlap = true;
                    let text = "the origin broke off, then said that there is no more";
                    failure = Failure::new(Reason::OriginBroken, text);
                }
                Ok(response) => {
                    let body = announced.continued(response, from)?;
                    return Ok(Box::new(Skipping { body, skip }));
                }
                Err(error) => failure = error.into(),
            }
        }
        Err(failure)
    }

    /// Waits for the next try; false if there is none. One that the budget of all fills doesn't
    /// cover is used up all the same: the pause behind it is longer.
    async fn may_try(&self, tries: &mut Tries) -> bool {
        let config = self.config;
        let pause = Backoff {
            first: config.resume_pause.get(),
            longest: config.resume_pause_max.get(),
        };
        while tries.used < config.resumes {
            tries.used += 1;
            tokio::time::sleep(pause.pause(tries.used, chance())).await;
            if self.engine.resumes.lock().take(self.engine.clock.now()) {
                self.engine.metrics.resumes.inc();
                return true;
            }
            self.engine.metrics.resumes_denied.inc();
        }
        false
    }
}

fn is_behind_the_end(status: StatusCode) -> bool {
    status == StatusCode::RANGE_NOT_SATISFIABLE
}

/// A body whose first bytes are here already.
struct Skipping {
    body: Box<dyn OriginBody>,
    skip: u64,
}

#[async_trait]
impl OriginBody for Skipping {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        loop {
            let Some(mut piece) = self.body.next().await? else {
                return Ok(None);
            };
            let skipped = usize::try_from(self.skip).map_or(piece.len(), |n| n.min(piece.len()));
            piece.advance(skipped);
            self.skip -= skipped as u64;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError> {
        self.body.trailers().await
    }
}
