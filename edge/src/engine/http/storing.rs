//! What may be stored (RFC 9111 §3). Pure.

use http::header::{AUTHORIZATION, ETAG, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::directives::{RequestControl, ResponseControl, Scope};
use super::fields::Fields;
use super::freshness::is_heuristically_cacheable;
use super::vary::Selecting;
use crate::engine::freshness::Lifetime;

/// Why an answer is not stored: a detail in `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unstorable {
    /// `no-store` of the request.
    Asked,
    /// `no-store` of the response.
    NoStore,
    /// `private`.
    Private,
    /// The request was authorized, and the response doesn't say that others may have it.
    Authorized,
    /// A status whose caching rules we don't know, and which must be understood.
    Status,
    /// Part of a body.
    Partial,
    /// It depends on more than the request.
    VaryAny,
    /// Nothing says that it may be stored.
    Silent,
    /// It could never be used again.
    Useless,
    /// The end of its body can't be told from a broken connection.
    Unframed,
    /// Longer than the configured limit.
    TooLong,
}

impl Unstorable {
    /// Whether another request for the URL would fare alike, as far as one can tell.
    pub(super) const fn is_of_the_resource(self) -> bool {
        !matches!(self, Self::Asked | Self::Authorized)
    }

    /// The token in `Cache-Status`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorized => "authorized",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::VaryAny => "vary-any",
            Self::Silent => "not-cacheable",
            Self::Useless => "no-freshness",
            Self::Unframed => "unframed",
            Self::TooLong => "too-long",
        }
    }
}

/// What of a `GET` request decides whether its answer may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asking {
    authorized: bool,
    no_store: bool,
}

impl Asking {
    pub(super) fn of(request: &HeaderMap, control: &RequestControl) -> Self {
        Self {
            authorized: request.contains_key(AUTHORIZATION),
            no_store: control.no_store,
        }
    }
}

/// Whether the answer to a `GET` may be stored by its header alone.
///
/// # Errors
/// Why not.
pub(super) fn may_store(
    asking: Asking,
    status: StatusCode,
    response: &HeaderMap,
    control: &ResponseControl,
    lifetime: &Lifetime,
) -> Result<(), Unstorable> {
    let understood = is_understood(status);
    // `no-store` is there for caches that don't know `must-understand` (§5.2.2.3).
    let no_store = control.no_store && !(control.must_understand && understood);
    let open = control.public || control.must_revalidate || control.s_maxage.is_some();
    let named = control.lifetime().is_some() || (!control.targeted && response.has(&EXPIRES));
    let reusable = lifetime.is_ever_served() || response.has(&ETAG) || response.has(&LAST_MODIFIED);
    let rules = [
        (asking.no_store, Unstorable::Asked),
        (no_store, Unstorable::NoStore),
        (control.private == Scope::All, Unstorable::Private),
        (asking.authorized && !open, Unstorable::Authorized),
        (status == StatusCode::PARTIAL_CONTENT, Unstorable::Partial),
        (status == StatusCode::NOT_MODIFIED, Unstorable::Status),
        (control.must_understand && !understood, Unstorable::Status),
        (
            Selecting::of(response) == Selecting::Never,
            Unstorable::VaryAny,
        ),
        (
            !(control.public || named || is_heuristically_cacheable(status)),
            Unstorable::Silent,
        ),
        (!reusable, Unstorable::Useless),
    ];
    let broken = rules.into_iter().find(|(holds, _)| *holds);
    broken.map_or(Ok(()), |(_, why)| Err(why))
}

/// The final statuses whose caching rules we implement (RFC 9110 §15, RFC 7725, RFC 6585).
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 428 | 429 | 431 | 451
            | 500..=505 | 511
    )
}

#[cfg(test)]
mod tests {
    use super::super::config::HttpConfig;
    use super::super::fields::testing::header;
    use super::super::freshness::lifetime;
    use super::Unstorable::{
        Asked, Authorized, NoStore, Partial, Private, Silent, Status, Useless, VaryAny,
    };
    use super::*;

    fn judged(status: u16, asked: &str, answered: &str) -> Result<(), Unstorable> {
        let (request, response) = (header(asked), header(answered));
        let control = ResponseControl::of(&response);
        let status = StatusCode::from_u16(status).unwrap();
        let lifetime = lifetime(status, &response, &control, &HttpConfig::default());
        let asking = Asking::of(&request, &RequestControl::of(&request));
        may_store(asking, status, &response, &control, &lifetime)
    }

    /// RFC 9111 §3, each of its conditions.
    #[test]
    fn an_answer_is_stored_only_if_every_rule_allows_it() {
        let basic = "Authorization: Basic x";
        let table = [
            (200, "", "Cache-Control: max-age=60", Ok(())),
            (200, "", "Cache-Control: max-age=60, no-store", Err(NoStore)),
            (
                200,
                "Cache-Control: no-store",
                "Cache-Control: max-age=60",
                Err(Asked),
            ),
            (200, "", "Cache-Control: max-age=60, private", Err(Private)),
            (
                200,
                "",
                "Cache-Control: max-age=60, private=\"set-cookie\"",
                Ok(()),
            ),
            (200, basic, "Cache-Control: max-age=60", Err(Authorized)),
            (200, basic, "Cache-Control: max-age=60, public", Ok(())),
            (
                200,
                basic,
                "Cache-Control: max-age=60, must-revalidate",
                Ok(()),
            ),
            (200, basic, "Cache-Control: s-maxage=60", Ok(())),
            (
                200,
                basic,
                "Cache-Control: max-age=60, proxy-revalidate",
                Err(Authorized),
            ),
            (200, "", "ETag: \"a\"", Ok(())),
            (200, "", "", Err(Useless)),
            (200, "", "Cache-Control: max-age=0", Err(Useless)),
            (200, "", "Cache-Control: max-age=0\nETag: \"a\"", Ok(())),
            (200, "", "Cache-Control: no-cache\nETag: \"a\"", Ok(())),
            (200, "", "Expires: 0\nLast-Modified: x", Ok(())),
            (200, "", "Cache-Control: max-age=60\nVary: *", Err(VaryAny)),
            (
                200,
                "",
                "Cache-Control: max-age=60\nVary: a, *",
                Err(VaryAny),
            ),
            (206, "", "Cache-Control: max-age=60", Err(Partial)),
            (302, "", "ETag: \"a\"", Err(Silent)),
            (302, "", "Cache-Control: max-age=60", Ok(())),
            (404, "", "Cache-Control: max-age=60", Ok(())),
            (500, "", "ETag: \"a\"", Err(Silent)),
            (500, "", "Cache-Control: public\nETag: \"a\"", Ok(())),
            (299, "", "Cache-Control: max-age=60", Ok(())),
            (599, "", "Cache-Control: max-age=60", Ok(())),
        ];
        for (status, asked, answered, expected) in table {
            assert_eq!(
                judged(status, asked, answered),
                expected,
                "{status} {asked:?} {answered:?}"
            );
        }
    }

    /// RFC 9111 §5.2.2.3.
    #[test]
    fn must_understand_overrides_no_store_for_statuses_that_are_understood() {
        let fields = "Cache-Control: must-understand, no-store, max-age=60";
        assert_eq!(judged(200, "", fields), Ok(()));
        assert_eq!(judged(404, "", fields), Ok(()));
        assert_eq!(judged(299, "", fields), Err(NoStore));
        assert_eq!(
            judged(299, "", "Cache-Control: must-understand, max-age=60"),
            Err(Status)
        );
    }

    /// RFC 9213 §2.2.
    #[test]
    fn the_targeted_field_decides_alone() {
        let both = |ours: &str, theirs: &str| {
            judged(
                200,
                "",
                &format!("CDN-Cache-Control: {ours}\nCache-Control: {theirs}"),
            )
        };
        assert_eq!(both("max-age=60", "no-store"), Ok(()));
        assert_eq!(both("no-store", "max-age=60"), Err(NoStore));
        assert_eq!(both("private", "public, max-age=60"), Err(Private));
        assert_eq!(both("max-age=60,", "no-store"), Err(NoStore));
    }
}
