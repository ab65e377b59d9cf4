//! The two ways to the purge log: edges read it on the listeners that modules come from, operators add
//! to it on the admin listener. Each has token files of its own, read at each request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use modcdn_core::admin::{Endpoint, json, text, with_field};
use modcdn_core::bearer::{self, Denied};
use modcdn_core::purge::Purge;
use modcdn_core::purge::log::{PURGES_PATH, Page, Position};
use modcdn_core::refusal::{Reason, Refusal};

use super::{PurgeLog, Purger};
use crate::disk;

/// `GET /-/purges?since=EPOCH:SEQ`.
pub(crate) struct Reading {
    pub(crate) log: Arc<PurgeLog>,
    /// The token file of the edges.
    pub(crate) edges: Option<PathBuf>,
}

impl Reading {
    /// What an edge must hear.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(crate) async fn answer(&self, head: &Parts) -> Result<Page, Refusal> {
        let admitted = bearer::admit_request(self.edges.clone(), &head.headers).await;
        admitted.map_err(|denied| refused(&denied))?;
        let since = since(head.uri.query())
            .map_err(|why| Refusal::new(Reason::BadRequest, PURGES_PATH, why))?;
        let log = self.log.clone();
        let read = disk::blocking(move || log.since(since)).await;
        read.map_err(|error| {
            let failed = format!("the purge log can't be written: {error}");
            Refusal::new(Reason::Store, PURGES_PATH, failed)
        })
    }
}

/// The position in a query; `None` where there is none.
fn since(query: Option<&str>) -> Result<Option<Position>, String> {
    let Some(query) = query else {
        return Ok(None);
    };
    let since = query.strip_prefix("since=");
    let since = since.ok_or("the one parameter is since=EPOCH:SEQ")?;
    let position: Position = since.parse().map_err(|error| format!("{error}"))?;
    Ok(Some(position))
}

fn refused(denied: &Denied) -> Refusal {
    match denied {
        Denied::Closed => Refusal::new(
            Reason::Closed,
            PURGES_PATH,
            "no edge may follow this origin's purge log",
        )
        .hint("set purges.edges in the origin's configuration"),
        Denied::File(why) => {
            let failed = format!("purges.edges can't be used: {why}");
            Refusal::new(Reason::Internal, PURGES_PATH, failed)
        }
        Denied::Unauthorized => Refusal::new(
            Reason::Unauthorized,
            PURGES_PATH,
            "the purge log is for edges with a token of the origin's purges.edges",
        )
        .hint("set origin.token_file in the edge's configuration"),
    }
}

/// `POST /-/purges` on the admin listener.
pub(crate) struct Appending {
    pub(crate) purger: Arc<Purger>,
    /// The token file of those who may purge.
    pub(crate) tokens: Option<PathBuf>,
}

/// Why nothing is purged.
enum No {
    Denied(Denied),
    Wrong(String),
    Disk(std::io::Error),
}

impl From<Denied> for No {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl Appending {
    async fn purge(&self, request: &Request<Bytes>) -> Result<Position, No> {
        let who = bearer::admit_request(self.tokens.clone(), request.headers()).await?;
        let purge: Purge =
            serde_json::from_slice(request.body()).map_err(|error| No::Wrong(error.to_string()))?;
        let (selector, mode) = (purge.selector.to_string(), purge.mode.name());
        let purger = self.purger.clone();
        let purged = disk::blocking(move || purger.purge(purge, SystemTime::now())).await;
        let position = purged.map_err(No::Disk)?;
        tracing::info!(%selector, mode, token = %who, %position, "purged");
        Ok(position)
    }
}

#[async_trait]
impl Endpoint for Appending {
    fn method(&self) -> Method {
        Method::POST
    }

    fn path(&self) -> &'static str {
        PURGES_PATH
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        match self.purge(&request).await {
            Ok(position) => json(&position),
            Err(no) => {
                let response = no.response();
                tracing::warn!(status = response.status().as_u16(), "purge refused");
                response
            }
        }
    }
}

impl No {
    fn response(&self) -> Response<Full<Bytes>> {
        match self {
            Self::Denied(Denied::Closed) => text(
                StatusCode::FORBIDDEN,
                "nobody may purge here: set purges.token_file in the origin's configuration\n",
            ),
            Self::Denied(Denied::File(why)) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("purges.token_file can't be used: {why}\n"),
            ),
            Self::Denied(Denied::Unauthorized) => with_field(
                text(
                    StatusCode::UNAUTHORIZED,
                    "a purge needs a token of purges.token_file: Authorization: Bearer TOKEN\n",
                ),
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"modcdn purges\""),
            ),
            Self::Wrong(why) => text(StatusCode::BAD_REQUEST, format!("not a purge: {why}\n")),
            Self::Disk(why) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("nothing is purged: the purge log can't be written: {why}\n"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_position_or_there_is_none() {
        let position = "9f86d081884c7d65:42";
        assert_eq!(since(None), Ok(None));
        let found = since(Some(&format!("since={position}"))).unwrap();
        assert_eq!(found.unwrap().to_string(), position);
        for wrong in [
            "",
            "since=",
            "since=1:2",
            "x=1",
            "since=9f86d081884c7d65:42&wait=1",
        ] {
            assert!(since(Some(wrong)).is_err(), "{wrong:?}");
        }
    }
}
