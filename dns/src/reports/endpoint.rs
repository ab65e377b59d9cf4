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
use modcdn_core::bearer::{self, Denied, Fingerprint};
use serde::{Deserialize, Serialize};

use super::{Foreign, Mandate, Refused, Report, Sender};
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
    Foreign(#[from] Foreign),
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
        let (who, mandate) = admit(&self.0, request).await?;
        let report = Report::parse(request.body())
            .map_err(|wrong| No::Wrong(format!("not a report: {wrong}")))?;
        mandate
            .check(&report)
            .inspect_err(|_| spoke_for_another(&who))?;
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
        let (who, mandate) = admit(&self.0, request).await?;
        let drain: Drain = serde_json::from_slice(request.body()).map_err(|wrong| {
            No::Wrong(format!(
                "write {{\"pop\":NAME,\"drain\":true|false}}: {wrong}"
            ))
        })?;
        let pop = Sender::Pop(drain.pop.clone());
        mandate
            .covers(&pop)
            .inspect_err(|_| spoke_for_another(&who))?;
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

/// Who asks, and for whom he may speak.
async fn admit(
    steering: &Steering,
    request: &Request<Bytes>,
) -> Result<(Fingerprint, Mandate), Denied> {
    let file = steering.token_file();
    bearer::admit_request_for(file, request.headers(), Mandate::parse).await
}

/// Whose token it was, beside the reason that is logged of every "no".
fn spoke_for_another(token: &Fingerprint) {
    tracing::warn!(%token, "a token was used to speak for somebody else");
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
            Self::Foreign(_) => "foreign",
            Self::Refused(refused) => refused.name(),
            Self::Unknown(_) => "unknown",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Off | Self::Foreign(_) => StatusCode::FORBIDDEN,
            Self::TokenFile(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Wrong(_) | Self::Refused(Refused::Future) => StatusCode::BAD_REQUEST,
            Self::Refused(Refused::Nodes) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
        }
    }

    fn response(&self, realm: &'static str) -> Response<Full<Bytes>> {
        tracing::warn!(reason = self.name(), why = %self, "{realm} refused");
        let response = text(self.status(), format!("{}: {self}\n", self.name()));
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
