//! What the admin listener takes: `POST /reports`, `POST /drain`, and shows: `GET /pops`.
//!
//! The token file is read at each request: a changed file counts at once.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use modcdn_core::admin::{Endpoint, json, text, with_field};
use modcdn_core::bearer::{self, Denied};
use serde::{Deserialize, Serialize};

use super::{Refused, Report};
use crate::steering::{NoSuchPop, Steering};

/// `POST /reports`: one report a request.
pub(crate) struct ReportsEndpoint(pub(crate) Arc<Steering>);

/// `POST /drain`: no new clients for a PoP, or new clients again.
pub(crate) struct DrainEndpoint(pub(crate) Arc<Steering>);

/// `GET /pops`: the state of each PoP, and why.
pub(crate) struct PopsEndpoint(pub(crate) Arc<Steering>);

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum No {
    #[error("nobody may report here: set reports.token_file in the DNS node's configuration")]
    Off,
    #[error("reports.token_file can't be used: {0}")]
    TokenFile(String),
    #[error("a token of reports.token_file is needed: Authorization: Bearer TOKEN")]
    Unauthorized,
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error(transparent)]
    Unknown(#[from] NoSuchPop),
}

/// What became of a report.
#[derive(Serialize)]
struct Said {
    heartbeat: bool,
    views: usize,
    samples: usize,
    unknown: usize,
    old: usize,
}

/// What is to become of a PoP.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    pop: String,
    drain: bool,
}

impl ReportsEndpoint {
    async fn take(&self, request: &Request<Bytes>) -> Result<Said, No> {
        let who = bearer::admit_request(self.0.token_file(), request.headers()).await?;
        let report = Report::parse(request.body())
            .map_err(|wrong| No::Wrong(format!("not a report: {wrong}")))?;
        let sender = report.sender.clone();
        let taken = self.0.report(&report)?;
        tracing::debug!(?sender, token = %who, "report taken");
        Ok(Said {
            heartbeat: taken.heartbeat,
            views: taken.views,
            samples: taken.samples.len(),
            unknown: taken.unknown,
            old: taken.old,
        })
    }
}

impl DrainEndpoint {
    async fn take(&self, request: &Request<Bytes>) -> Result<Drain, No> {
        let who = bearer::admit_request(self.0.token_file(), request.headers()).await?;
        let drain: Drain = serde_json::from_slice(request.body()).map_err(|wrong| {
            No::Wrong(format!(
                "write {{\"pop\":NAME,\"drain\":true|false}}: {wrong}"
            ))
        })?;
        self.0.drain(&drain.pop, drain.drain)?;
        tracing::info!(pop = drain.pop, drain = drain.drain, token = %who, "told to drain");
        Ok(drain)
    }
}

#[async_trait]
impl Endpoint for ReportsEndpoint {
    fn method(&self) -> Method {
        Method::POST
    }

    fn path(&self) -> &'static str {
        "/reports"
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        let taken = self.take(&request).await;
        let outcome = taken.as_ref().map_or_else(No::name, |_| "taken");
        self.0.metrics().reported("post", outcome);
        taken.map_or_else(|no| no.response("reports"), |said| json(&said))
    }
}

#[async_trait]
impl Endpoint for DrainEndpoint {
    fn method(&self) -> Method {
        Method::POST
    }

    fn path(&self) -> &'static str {
        "/drain"
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        let taken = self.take(&request).await;
        taken.map_or_else(|no| no.response("drain"), |said| json(&said))
    }
}

#[async_trait]
impl Endpoint for PopsEndpoint {
    fn method(&self) -> Method {
        Method::GET
    }

    fn path(&self) -> &'static str {
        "/pops"
    }

    async fn answer(&self, _request: Request<Bytes>) -> Response<Full<Bytes>> {
        json(&self.0.pops())
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
            Self::Wrong(_) => "wrong",
            Self::Refused(refused) => refused.name(),
            Self::Unknown(_) => "unknown",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Off => StatusCode::FORBIDDEN,
            Self::TokenFile(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Wrong(_) | Self::Refused(Refused::Future) => StatusCode::BAD_REQUEST,
            Self::Refused(Refused::Nodes) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
        }
    }

    fn response(&self, realm: &'static str) -> Response<Full<Bytes>> {
        tracing::warn!(reason = self.name(), why = %self, "{realm} refused");
        let response = text(self.status(), format!("{self}\n"));
        match self {
            Self::Unauthorized => with_field(
                response,
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"modcdn reports\""),
            ),
            _ => response,
        }
    }
}
