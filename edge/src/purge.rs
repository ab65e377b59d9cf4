//! `POST /purge` on the admin listener: who may, what is asked, and what is answered.
//!
//! The token file is read at each request: purges are rare, and a changed file counts at once.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use modcdn_core::admin::{Endpoint, json, text, with_field};
use modcdn_core::bearer::{self, Denied};

use crate::engine::purge::{Purge, Purged};
use crate::engine::{Engine, NotPurged};

/// What a full edge asks for, in seconds: evictions and revalidations make room.
const PAUSE: HeaderValue = HeaderValue::from_static("60");

/// The endpoint.
pub(crate) struct PurgeEndpoint {
    engine: Arc<Engine>,
}

/// Why a purge is refused.
#[derive(Debug)]
enum No {
    /// Nobody may.
    Off,
    /// The token file can't be used.
    TokenFile(String),
    /// No valid token.
    Unauthorized,
    /// Not a purge.
    Wrong(String),
    /// It can't be done now.
    Failed(NotPurged),
}

impl PurgeEndpoint {
    /// Purges of `engine` for who has a token of `purge.token_file`.
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn purge(&self, request: &Request<Bytes>) -> Result<Purged, No> {
        let tokens = self.engine.purge_token_file();
        let who = bearer::admit_request(tokens, request.headers()).await?;
        let purge: Purge =
            serde_json::from_slice(request.body()).map_err(|error| No::Wrong(error.to_string()))?;
        let (selector, mode) = (purge.selector.to_string(), purge.mode.name());
        let purged = self.engine.purge(purge).await.map_err(No::Failed)?;
        let Purged {
            epoch,
            fills,
            durable,
        } = purged;
        tracing::info!(%selector, mode, token = %who, epoch, fills, durable, "purged");
        Ok(purged)
    }
}

#[async_trait]
impl Endpoint for PurgeEndpoint {
    fn method(&self) -> Method {
        Method::POST
    }

    fn path(&self) -> &'static str {
        "/purge"
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        match self.purge(&request).await {
            Ok(purged) => json(&purged),
            Err(no) => {
                tracing::warn!(reason = no.name(), "purge refused");
                no.response()
            }
        }
    }
}

impl From<Denied> for No {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Closed => Self::Off,
            Denied::File(why) => Self::TokenFile(why.to_string()),
            Denied::Unauthorized => Self::Unauthorized,
        }
    }
}

impl No {
    fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::TokenFile(_) => "token-file",
            Self::Unauthorized => "unauthorized",
            Self::Wrong(_) => "bad-request",
            Self::Failed(_) => "failed",
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        match self {
            Self::Off => text(
                StatusCode::FORBIDDEN,
                "nobody may purge here: set purge.token_file in the edge's configuration\n",
            ),
            Self::TokenFile(why) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("purge.token_file can't be used: {why}\n"),
            ),
            Self::Unauthorized => with_field(
                text(
                    StatusCode::UNAUTHORIZED,
                    "a purge needs a token of purge.token_file: Authorization: Bearer TOKEN\n",
                ),
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"modcdn purge\""),
            ),
            Self::Wrong(why) => text(StatusCode::BAD_REQUEST, format!("not a purge: {why}\n")),
            Self::Failed(why) => with_field(
                text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("{why}; raise purge.bans, or purge all\n"),
                ),
                RETRY_AFTER,
                PAUSE,
            ),
        }
    }
}
