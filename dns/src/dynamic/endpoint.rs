//! `POST /dns/txt` on the admin listener: who may, what is asked, and what is answered.
//!
//! The token file is read at each request: changes are rare, and a changed file counts at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::rr::Name;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use modcdn_core::admin::{Endpoint, json, text, with_field};
use modcdn_core::bearer::{self, Denied};
use serde::{Deserialize, Serialize};

use super::{Dynamic, No, unix_now};
use crate::config::Domain;

/// The endpoint's path.
pub const TXT_PATH: &str = "/dns/txt";

/// What is asked, as JSON: `{"set":{"name":…,"value":…,"seconds":…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Change {
    /// A value is set, beside others at the name.
    Set {
        /// The name.
        name: Domain,
        /// The value.
        value: String,
        /// How long it stays; none: as long as it may.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// A value is cleared, or all of the name.
    Clear {
        /// The name.
        name: Domain,
        /// The value; none: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Changed {
    /// It is set.
    Set {
        /// Until then, in seconds since 1970.
        ends: u64,
    },
    /// So many are no longer there.
    Cleared {
        /// How many.
        values: usize,
    },
}

/// The endpoint.
pub struct TxtEndpoint(Arc<Dynamic>);

/// Why a change is refused.
enum Refused {
    Denied(Denied),
    /// Not a change.
    Wrong(String),
    No(No),
    /// A bug.
    Broken(String),
}

impl TxtEndpoint {
    /// Changes for who has a token of `dynamic.token_file`.
    #[must_use]
    pub fn new(dynamic: Arc<Dynamic>) -> Self {
        Self(dynamic)
    }
}

#[async_trait]
impl Endpoint for TxtEndpoint {
    fn method(&self) -> Method {
        Method::POST
    }

    fn path(&self) -> &'static str {
        TXT_PATH
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        let dynamic = self.0.clone();
        // Files are read and written.
        let changing = tokio::task::spawn_blocking(move || change(&dynamic, &request)).await;
        let changed = changing.unwrap_or_else(|error| Err(Refused::Broken(error.to_string())));
        match changed {
            Ok(changed) => json(&changed),
            Err(refused) => {
                tracing::warn!(
                    reason = refused.name(),
                    "a change of a txt record was refused"
                );
                refused.response()
            }
        }
    }
}

fn change(dynamic: &Dynamic, request: &Request<Bytes>) -> Result<Changed, Refused> {
    let file = dynamic.token_file();
    let field = request.headers().get(AUTHORIZATION);
    let who = bearer::admit(file.as_deref(), field.map(HeaderValue::as_bytes))
        .map_err(Refused::Denied)?;
    let change: Change = serde_json::from_slice(request.body())
        .map_err(|error| Refused::Wrong(error.to_string()))?;
    let name: &Name = match &change {
        Change::Set { name, .. } | Change::Clear { name, .. } => name.name(),
    };
    let done = match &change {
        Change::Set { value, seconds, .. } => {
            let lifetime = seconds.map(Duration::from_secs);
            let set = dynamic.set(name, value, lifetime, unix_now());
            set.map(|ends| Changed::Set { ends })
        }
        Change::Clear { value, .. } => {
            let cleared = dynamic.clear(name, value.as_deref(), unix_now());
            cleared.map(|values| Changed::Cleared { values })
        }
    };
    let done = done.map_err(Refused::No)?;
    tracing::info!(%name, token = %who, ?done, "a txt record was changed");
    Ok(done)
}

impl Refused {
    fn name(&self) -> &'static str {
        match self {
            Self::Denied(Denied::Closed) => "closed",
            Self::Denied(Denied::File(_)) => "token-file",
            Self::Denied(Denied::Unauthorized) => "unauthorized",
            Self::Wrong(_) => "bad-request",
            Self::No(no) => no.name(),
            Self::Broken(_) => "broken",
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        match self {
            Self::Denied(Denied::Closed) => text(
                StatusCode::FORBIDDEN,
                "nobody may change records here: set dynamic.token_file in the configuration\n",
            ),
            Self::Denied(Denied::File(why)) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("dynamic.token_file can't be used: {why}\n"),
            ),
            Self::Denied(Denied::Unauthorized) => with_field(
                text(
                    StatusCode::UNAUTHORIZED,
                    "a token of dynamic.token_file is needed: Authorization: Bearer TOKEN\n",
                ),
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"modcdn dns\""),
            ),
            Self::Wrong(why) => text(StatusCode::BAD_REQUEST, format!("not a change: {why}\n")),
            Self::No(no) => text(no.status(), format!("{no}\n")),
            Self::Broken(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
        }
    }
}

impl No {
    fn status(&self) -> StatusCode {
        match self {
            Self::Off | Self::NotAChallenge(_) | Self::Taken(_) => StatusCode::FORBIDDEN,
            Self::Outside(_) | Self::Value | Self::Lifetime(_) => StatusCode::BAD_REQUEST,
            Self::Full(_) | Self::Disk(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
