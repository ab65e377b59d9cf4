//! Every "no": one name for log, metric and header, one status, one text for a person.
//!
//! Three rules of the GOPROXY protocol decide the statuses. Only 404 and 410 make the go command
//! ask the next proxy (or the public VCS), so nothing that merely failed, or is blocked, may be
//! one. The go command never tries again, so failures are never stored. It prints an error's body
//! only if that is `text/plain`, at most eight lines, up to the first blank one.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::headers::MODCDN_REASON;

/// The go command shows at most this many lines of an error.
pub const MAX_LINES: usize = 8;

/// The go command shows at most this many bytes of an error.
pub const MAX_BYTES: usize = 648;

/// What was asked takes no more of them.
const MAX_ASKED: usize = 160;

/// A hint takes no more of them. What failed has the rest.
const MAX_HINT: usize = 240;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:ident;)*) => {
        /// Why a request was refused. Names are stable: alerts and scripts depend on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name: in logs, in metrics and in the `Modcdn-Reason` header.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status it is answered with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }
        }
    };
}

reasons! {
    // The client's doing.
    /// The path or a header is outside the grammar.
    BadRequest = "bad-request", BAD_REQUEST;
    /// The path is longer than any module's.
    PathTooLong = "path-too-long", URI_TOO_LONG;
    /// A signature or secret that isn't right.
    BadSignature = "bad-signature", FORBIDDEN;
    /// A body that is larger than what is read.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE;
    /// A method that isn't answered there.
    Method = "method", METHOD_NOT_ALLOWED;
    /// Headers too many or too large.
    HeadersTooLarge = "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// A host that isn't served here.
    Misdirected = "misdirected", MISDIRECTED_REQUEST;
    /// A range that begins behind the body's end.
    RangeNotSatisfiable = "range-not-satisfiable", RANGE_NOT_SATISFIABLE;
    /// The client did not send its request in time.
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT;
    /// More requests than the client's address may send.
    RateLimited = "rate-limited", TOO_MANY_REQUESTS;
    /// No valid token where one is needed.
    Unauthorized = "unauthorized", UNAUTHORIZED;
    /// Something that the configuration opens to nobody.
    Closed = "closed", FORBIDDEN;
    /// A path under `/-/` that doesn't exist.
    NoSuchEndpoint = "no-such-endpoint", NOT_FOUND;

    // Upstream's true word.
    /// Upstream says that there is no such module or version.
    NotFound = "not-found", NOT_FOUND;
    /// Upstream says that it is gone for good.
    Gone = "gone", GONE;
    /// Only stored answers were asked for (`only-if-cached`), and none may be given.
    OnlyIfCached = "only-if-cached", GATEWAY_TIMEOUT;
    /// Only stored answers were asked for (`Disable-Module-Fetch`), and there is none.
    NotStored = "not-stored", NOT_FOUND;
    /// The upstream list ends in `off`: nothing may be fetched.
    Off = "off", FORBIDDEN;

    // The checksum database.
    /// A private module asked of a checksum database.
    PrivateModule = "private-module", FORBIDDEN;
    /// A checksum database that isn't passed on here.
    UnknownDatabase = "unknown-database", NOT_FOUND;
    /// The checksum database knows no such version, so it can't be verified.
    SumdbUnknown = "sumdb-unknown", FORBIDDEN;
    /// The checksum database can't be asked.
    SumdbUnreachable = "sumdb-unreachable", SERVICE_UNAVAILABLE;
    /// The checksum database answered with something that isn't of its protocol.
    SumdbContent = "sumdb-content", BAD_GATEWAY;
    /// The checksum database contradicts what it signed.
    SumdbForged = "sumdb-forged", BAD_GATEWAY;
    /// The body is not the one whose hash the checksum database has.
    SumMismatch = "sum-mismatch", BAD_GATEWAY;

    // Policy.
    /// A rule of the origin's policy denies it.
    PolicyDenied = "policy-denied", FORBIDDEN;
    /// No rule of the origin's policy allows it.
    PolicyNotAllowed = "policy-not-allowed", FORBIDDEN;
    /// The version is newer than the origin's policy wants it.
    PolicyCoolDown = "policy-cool-down", FORBIDDEN;
    /// The author took the version back, and the origin's policy minds.
    PolicyRetracted = "policy-retracted", FORBIDDEN;
    /// The author gave the module up, and the origin's policy minds.
    PolicyDeprecated = "policy-deprecated", FORBIDDEN;
    /// What the origin's policy depends on can't be found out now.
    PolicyUndecided = "policy-undecided", SERVICE_UNAVAILABLE;

    // Upstream failed.
    /// Upstream can't be reached.
    UpstreamUnreachable = "upstream-unreachable", BAD_GATEWAY;
    /// Upstream did not answer, or stalled, within its time.
    UpstreamTimeout = "upstream-timeout", GATEWAY_TIMEOUT;
    /// Upstream failed again and again, or asked for a pause, and isn't asked for a moment.
    UpstreamSuspended = "upstream-suspended", SERVICE_UNAVAILABLE;
    /// What is to be shown to upstream can't be read.
    UpstreamCredentials = "upstream-credentials", BAD_GATEWAY;
    /// Upstream answered with an error of its own.
    UpstreamStatus = "upstream-status", BAD_GATEWAY;
    /// Upstream answered with something that isn't what was asked.
    UpstreamContent = "upstream-content", BAD_GATEWAY;
    /// Upstream's body is larger than such a thing may be.
    UpstreamTooLarge = "upstream-too-large", BAD_GATEWAY;
    /// Upstream's zip breaks the rules of module zips.
    ZipRules = "zip-rules", BAD_GATEWAY;
    /// Upstream broke off in the middle of a body.
    UpstreamBroken = "upstream-broken", BAD_GATEWAY;
    /// A repository does not exist or may not be read; its server tells the two apart to nobody.
    GitUnreadable = "git-unreadable", BAD_GATEWAY;
    /// Git failed, for none of the reasons above.
    GitFailed = "git-failed", BAD_GATEWAY;
    /// The module is in a version control system other than Git.
    VcsUnsupported = "vcs-unsupported", BAD_GATEWAY;

    // The origin failed, seen from an edge.
    /// The origin can't be reached.
    OriginUnreachable = "origin-unreachable", BAD_GATEWAY;
    /// The origin did not answer, or stalled, within its time.
    OriginTimeout = "origin-timeout", GATEWAY_TIMEOUT;
    /// The origin broke off in the middle of a body.
    OriginBroken = "origin-broken", BAD_GATEWAY;
    /// The origin's answer is not one that our origin gives.
    OriginContent = "origin-content", BAD_GATEWAY;
    /// The origin failed again and again, and isn't asked for a moment.
    OriginSuspended = "origin-suspended", SERVICE_UNAVAILABLE;
    /// The body is not the one whose digest the origin announced.
    DigestMismatch = "digest-mismatch", BAD_GATEWAY;

    // Our own doing.
    /// More is being asked than we take on at once.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE;
    /// The node is going down.
    Draining = "draining", SERVICE_UNAVAILABLE;
    /// The storage that holds the bodies can't be reached: what is stored can't be given.
    StoreUnavailable = "store-unavailable", SERVICE_UNAVAILABLE;
    /// Our disk failed.
    Store = "store", INTERNAL_SERVER_ERROR;
    /// A fault of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR;
}

impl Reason {
    /// The reason of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.name() == name)
    }

    /// Whether there truly is no such thing, by upstream's word or by configuration: the only "no"
    /// that may be stored.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        matches!(self, Self::NotFound | Self::Gone | Self::UnknownDatabase)
    }

    /// Whether what came was whole and bad: asked for again at once, it would be again. It is kept
    /// aside for whoever looks into it.
    #[must_use]
    pub const fn is_bad_content(self) -> bool {
        matches!(self, Self::ZipRules | Self::SumMismatch)
    }
}

/// A "no" with what a person needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which "no".
    pub reason: Reason,
    /// What was asked: a module and version, or the path where that didn't parse.
    pub asked: String,
    /// What failed.
    pub failed: String,
    /// What to do about it; empty where there is nothing.
    pub hint: String,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(reason: Reason, asked: impl Into<String>, failed: impl Into<String>) -> Self {
        Self {
            reason,
            asked: asked.into(),
            failed: failed.into(),
            hint: String::new(),
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The body: at most [`MAX_LINES`] lines and [`MAX_BYTES`] bytes of printable ASCII, no blank
    /// line, so that the go command shows all of it.
    ///
    /// ```text
    /// modcdn: example.com/m@v1.0.0.zip: the origin did not answer within 5s
    /// hint: try again
    /// reason: origin-timeout
    /// ```
    #[must_use]
    pub fn text(&self) -> Bytes {
        let mut behind = String::new();
        if !self.hint.is_empty() {
            let _ = writeln!(behind, "hint: {}", clip(&one_line(&self.hint), MAX_HINT));
        }
        let _ = writeln!(behind, "reason: {}", self.reason.name());
        let asked = one_line(&self.asked);
        let mut text = format!("modcdn: {}: ", clip(&asked, MAX_ASKED));
        let room = MAX_BYTES - text.len() - behind.len() - 1;
        text += &clip(&lines(&self.failed, MAX_LINES - 3), room);
        text.push('\n');
        text += &behind;
        debug_assert!(text.len() <= MAX_BYTES && text.lines().count() <= MAX_LINES);
        Bytes::from(text)
    }

    /// The header fields that go with [`Refusal::text`]: type, reason, and `no-store` unless the
    /// refusal is a true "not found", whose lifetime is given.
    #[must_use]
    pub fn headers(&self, negative_lifetime: Duration) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(MODCDN_REASON, HeaderValue::from_static(self.reason.name()));
        let caching = if self.reason.is_negative() {
            let value = format!("public, max-age={}", negative_lifetime.as_secs());
            HeaderValue::try_from(value).expect("digits are visible ASCII")
        } else {
            HeaderValue::from_static("no-store")
        };
        headers.insert(CACHE_CONTROL, caching);
        headers
    }
}

/// Printable ASCII, blank lines left out, at most `most` lines; later ones are dropped.
fn lines(text: &str, most: usize) -> String {
    let kept: Vec<String> = text
        .lines()
        .map(one_line)
        .filter(|line| !line.is_empty())
        .take(most)
        .collect();
    kept.join("\n")
}

/// Everything that isn't printable ASCII becomes `?`, but for an ellipsis, which has an ASCII spelling; line
/// ends become spaces.
fn one_line(text: &str) -> String {
    let printable = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        ' '..='~' => c,
        _ => '?',
    };
    let text = text.trim().replace('…', "...");
    text.chars().map(printable).collect()
}

/// At most `most` bytes of an ASCII text; what is cut ends in `...`.
fn clip(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}...", &text[..most - 3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_failure_is_a_404_or_410() {
        for &reason in Reason::ALL {
            let falls_through = matches!(reason.status(), StatusCode::NOT_FOUND | StatusCode::GONE);
            let truly_absent = matches!(
                reason,
                Reason::NotFound
                    | Reason::Gone
                    | Reason::NotStored
                    | Reason::NoSuchEndpoint
                    | Reason::UnknownDatabase
            );
            assert_eq!(falls_through, truly_absent, "{}", reason.name());
        }
    }

    #[test]
    fn names_are_distinct_and_come_back() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
    }

    #[test]
    fn only_true_absence_may_be_stored() {
        let lifetime = Duration::from_secs(60);
        let absent = Refusal::new(Reason::NotFound, "m", "no").headers(lifetime);
        assert_eq!(absent[CACHE_CONTROL], "public, max-age=60");
        let failed = Refusal::new(Reason::OriginTimeout, "m", "no").headers(lifetime);
        assert_eq!(failed[CACHE_CONTROL], "no-store");
        assert_eq!(failed[MODCDN_REASON], "origin-timeout");
    }

    #[test]
    fn the_text_reads_like_a_sentence() {
        let refusal = Refusal::new(
            Reason::OriginTimeout,
            "example.com/m@v1.0.0.zip",
            "the origin did not answer within 5s",
        )
        .hint("try again");
        assert_eq!(
            refusal.text(),
            "modcdn: example.com/m@v1.0.0.zip: the origin did not answer within 5s\n\
             hint: try again\nreason: origin-timeout\n"
        );
    }

    proptest! {
        #[test]
        fn the_go_command_shows_all_of_it(
            asked in "\\PC{0,400}", failed in "(\\PC|\n|\r){0,900}", hint in "\\PC{0,400}",
        ) {
            let text = Refusal::new(Reason::Internal, asked, failed).hint(hint).text();
            let text = std::str::from_utf8(&text).unwrap();
            prop_assert!(text.len() <= MAX_BYTES);
            prop_assert!(text.lines().count() <= MAX_LINES);
            prop_assert!(text.lines().all(|line| !line.trim().is_empty()));
            prop_assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
        }
    }
}
