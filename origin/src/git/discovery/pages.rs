//! Getting the pages that say where a module's repository is.
//!
//! A page has one deadline, one bound in bytes, and the redirects of `upstreams.redirects`, none of
//! them from https to http. Credentials go only to the addresses that they are configured for, for
//! private modules only; their address is asked for them at each redirect anew.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use modcdn_core::refusal::Reason;
use reqwest::{Response, Url};
use tokio::time::timeout;

use crate::git::fault::Fault;
use crate::git::workshop::{As, Workshop};
use crate::upstream::{Ways, redirect};

/// A page, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

/// Where pages come from.
#[async_trait]
pub(crate) trait Pages: Send + Sync {
    /// Gets a page.
    ///
    /// # Errors
    /// If there was no answer, or none that may be used. Any status is an answer.
    async fn get(&self, url: &Url, who: As) -> Result<Page, Fault>;
}

/// Pages from the network.
pub(crate) struct Web {
    ways: Ways,
    redirects: usize,
    workshop: Arc<Workshop>,
}

impl Web {
    pub(crate) fn new(ways: Ways, redirects: usize, workshop: Arc<Workshop>) -> Self {
        Self {
            ways,
            redirects,
            workshop,
        }
    }

    /// Follows redirects to the page.
    async fn follow(&self, url: &Url, who: As) -> Result<Page, Fault> {
        let mut asked = vec![url.clone()];
        loop {
            let url = &asked[asked.len() - 1];
            let response = self.ask(url, who).await?;
            if !redirect::is_redirect(response.status()) {
                return self.read(url, response).await;
            }
            let next = redirect::next(response.headers(), &asked, self.redirects);
            let next = next.map_err(|astray| {
                let failed = format!("{}: {astray}", bare(url));
                Fault::failed(Reason::UpstreamContent, failed)
            })?;
            asked.push(next);
        }
    }

    async fn ask(&self, url: &Url, who: As) -> Result<Response, Fault> {
        let mut request = self.ways.get(url);
        if let Some((user, password)) = self.workshop.password(url, who).await? {
            request = request.basic_auth(user, Some(password));
        }
        request.send().await.map_err(|error| no_answer(url, &error))
    }

    async fn read(&self, url: &Url, mut response: Response) -> Result<Page, Fault> {
        let most = self.workshop.config.limits.page.as_u64();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| no_answer(url, &e))? {
            body.extend_from_slice(&piece);
            if body.len() as u64 > most {
                // The head is what matters; what comes after it may be as long as it likes.
                break;
            }
        }
        Ok(Page {
            status: response.status(),
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

#[async_trait]
impl Pages for Web {
    async fn get(&self, url: &Url, who: As) -> Result<Page, Fault> {
        let limit = self.workshop.config.timeouts.page.get();
        match timeout(limit, self.follow(url, who)).await {
            Ok(page) => page,
            Err(_) => Err(Fault::failed(
                Reason::UpstreamTimeout,
                format!("{} did not answer within {limit:?}", bare(url)),
            )
            .hint("try again; git.timeouts.page of the origin says how long it may take")),
        }
    }
}

fn no_answer(url: &Url, error: &reqwest::Error) -> Fault {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Fault::failed(
        Reason::UpstreamUnreachable,
        format!("{} can't be reached: {cause}", bare(url)),
    )
    .hint("try again, or see whether the site is up")
}

/// A URL without its query.
pub(super) fn bare(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}
