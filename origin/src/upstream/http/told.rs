//! What is told of an upstream that did not give what was asked.

use std::error::Error as _;
use std::time::Duration;

use http::StatusCode;
use modcdn_core::refusal::{Reason, Refusal};

use super::redirect::Astray;
use crate::credentials::Unusable;
use crate::upstream::walk::Trouble;

/// Who was asked for what: all that a refusal's text needs.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) asked: &'a str,
    pub(crate) upstream: &'a str,
}

impl Told<'_> {
    fn refusal(&self, reason: Reason, failed: impl Into<String>) -> Refusal {
        Refusal::new(reason, self.asked, failed)
    }

    /// The upstream's own answer, a status other than 200.
    pub(super) fn status(&self, status: StatusCode, detail: &str) -> Trouble {
        let upstream = self.upstream;
        let said = if detail.is_empty() {
            String::new()
        } else {
            format!(":\n{detail}")
        };
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                let (reason, word) = if status == StatusCode::GONE {
                    (Reason::Gone, "gone")
                } else {
                    (Reason::NotFound, "not found")
                };
                Trouble::Absent(self.refusal(reason, format!("{word} at {upstream}{said}")))
            }
            _ => {
                let failed = format!("{upstream} answered {status}{said}");
                let hint = match status {
                    StatusCode::UNAUTHORIZED => {
                        "check what the origin's configuration has for it under credentials"
                    }
                    StatusCode::FORBIDDEN => {
                        "it refuses this module, or wants credentials: the origin's configuration has them under credentials"
                    }
                    StatusCode::TOO_MANY_REQUESTS => "wait, then try again",
                    _ => "try again; if it stays so, look at the upstream",
                };
                let refusal = self.refusal(Reason::UpstreamStatus, failed).hint(hint);
                Trouble::failed(refusal)
            }
        }
    }

    /// An answer that can't be what was asked for.
    pub(crate) fn content(&self, fault: &str) -> Trouble {
        let failed = format!("{} sent {fault}", self.upstream);
        Trouble::failed(self.refusal(Reason::UpstreamContent, failed))
    }

    /// The upstream isn't asked now.
    pub(crate) fn resting(&self, pause: Duration) -> Trouble {
        let upstream = self.upstream;
        let failed = format!("{upstream} failed or asked for a pause, and isn't asked just now");
        let secs = pause.as_secs() + 1;
        let refusal = self.refusal(Reason::UpstreamSuspended, failed);
        Trouble::failed(refusal.hint(format!("try again in {secs} s")))
    }

    /// A redirect that isn't followed.
    pub(super) fn astray(&self, astray: Astray) -> Trouble {
        let failed = format!("{} sent us where we don't go: {astray}", self.upstream);
        Trouble::failed(self.refusal(Reason::UpstreamContent, failed))
    }

    /// The secret that is to be shown can't be read.
    pub(super) fn no_secret(&self, unusable: &Unusable) -> Trouble {
        tracing::error!(upstream = self.upstream, %unusable, "no credentials");
        let failed = format!(
            "the origin can't read its credentials for {}: {}",
            self.upstream, unusable.error
        );
        let refusal = self.refusal(Reason::UpstreamCredentials, failed);
        Trouble::failed(refusal.hint("look at the files under credentials in its configuration"))
    }

    pub(super) fn no_answer(&self, error: reqwest::Error) -> Trouble {
        let upstream = self.upstream;
        let (timed_out, connecting) = (error.is_timeout(), error.is_connect());
        let cause = root_cause(error);
        if timed_out {
            let failed = format!("connecting to {upstream} took too long");
            let refusal = self.refusal(Reason::UpstreamTimeout, failed);
            return Trouble::failed(
                refusal.hint("check the network between the origin and its upstream"),
            );
        }
        let (failed, hint) = if connecting {
            (
                format!("can't connect to {upstream}: {cause}"),
                "check the network between the origin and its upstream",
            )
        } else {
            (
                format!("{upstream} closed the connection instead of answering: {cause}"),
                "try again",
            )
        };
        Trouble::Failed {
            refusal: self.refusal(Reason::UpstreamUnreachable, failed).hint(hint),
            connection_broke: true,
        }
    }

    pub(super) fn silence(&self, waited: Duration) -> Trouble {
        let failed = format!("{} did not answer within {waited:?}", self.upstream);
        let refusal = self
            .refusal(Reason::UpstreamTimeout, failed)
            .hint("try again; if it stays so, look at the upstream");
        Trouble::failed(refusal)
    }
}

/// The innermost error: `Connection refused (os error 111)` rather than three times "error".
/// Never the URL, which may carry credentials.
pub(super) fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_404_and_410_are_absence() {
        let told = Told {
            asked: "m",
            upstream: "up.example",
        };
        for status in [400, 401, 403, 404, 410, 418, 429, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            let absent = matches!(told.status(status, ""), Trouble::Absent(_));
            assert_eq!(absent, matches!(status.as_u16(), 404 | 410), "{status}");
        }
    }
}
