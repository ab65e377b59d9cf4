//! What an unsafe method makes invalid (RFC 9111 §4.4). Pure.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::fields::single;
use super::uri::normal;

/// The targets whose stored answers can't be trusted after this exchange: the request's own, and
/// those that `Location` and `Content-Location` name on the same origin. An origin is the same if
/// the URL's authority is one of `authorities`: the host that the client named, or the one that we
/// asked.
pub(super) fn invalidated(
    method: &Method,
    target: &PathAndQuery,
    status: StatusCode,
    response: &HeaderMap,
    authorities: &[&str],
) -> Vec<PathAndQuery> {
    let is_error = !(status.is_success() || status.is_redirection());
    if is_safe(method) || is_error {
        return Vec::new();
    }
    let mut targets = vec![target.clone()];
    for name in [LOCATION, CONTENT_LOCATION] {
        let named = single(response, &name).and_then(|value| value.to_str().ok());
        let named = named.and_then(|reference| resolve(target, reference.trim(), authorities));
        targets.extend(named.filter(|named| named != target));
    }
    targets
}

/// Methods without an effect (RFC 9110 §9.2.1). Of a method that we don't know we know no such
/// thing.
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// A reference's target (RFC 3986 §5.2), if it is on the same origin.
fn resolve(base: &PathAndQuery, reference: &str, authorities: &[&str]) -> Option<PathAndQuery> {
    let reference = reference.split('#').next().unwrap_or_default();
    let is_ours = |uri: &Uri| {
        let named = uri.authority()?.as_str();
        authorities
            .iter()
            .any(|ours| ours.eq_ignore_ascii_case(named))
            .then_some(())
    };
    if reference.starts_with("//") || reference.contains("://") {
        let absolute = match reference.strip_prefix("//") {
            Some(rest) => format!("http://{rest}"),
            None => reference.to_owned(),
        };
        let uri: Uri = absolute.parse().ok()?;
        is_ours(&uri)?;
        return normal(uri.path_and_query().map_or("/", PathAndQuery::as_str)).ok();
    }
    if reference.is_empty() {
        return Some(base.clone());
    }
    if reference.starts_with('/') {
        return normal(reference).ok();
    }
    if reference.starts_with('?') {
        return normal(&format!("{}{reference}", base.path())).ok();
    }
    let folder = base
        .path()
        .rfind('/')
        .map_or("/", |slash| &base.path()[..=slash]);
    normal(&format!("{folder}{reference}")).ok()
}

#[cfg(test)]
mod tests {
    use super::super::fields::testing::header;
    use super::*;

    fn after(method: &str, status: u16, response: &str) -> Vec<String> {
        let (method, target) = (method.parse().unwrap(), PathAndQuery::from_static("/a/b?c"));
        let status = StatusCode::from_u16(status).unwrap();
        let authorities = ["cdn.test:8080", "origin.test"];
        invalidated(&method, &target, status, &header(response), &authorities)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// RFC 9111 §4.4: a non-error response to an unsafe method, also one that is unknown.
    #[test]
    fn an_unsafe_method_that_succeeds_invalidates_its_target() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
            for status in [200, 201, 204, 301, 303] {
                assert_eq!(after(method, status, ""), ["/a/b?c"], "{method} {status}");
            }
            for status in [400, 404, 409, 500, 503] {
                assert!(after(method, status, "").is_empty(), "{method} {status}");
            }
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(after(method, 200, "Location: /x").is_empty(), "{method}");
        }
    }

    /// RFC 9111 §4.4: Location and Content-Location, but of the same origin only.
    #[test]
    fn what_it_names_goes_too_but_not_at_other_origins() {
        let table = [
            ("Location: /x", Some("/x")),
            ("Location: x", Some("/a/x")),
            ("Location: ../x?y#z", Some("/x?y")),
            ("Location: ?d", Some("/a/b?d")),
            ("Content-Location: /x%7e", Some("/x~")),
            ("Location: http://cdn.test:8080/x", Some("/x")),
            ("Location: https://ORIGIN.test/x", Some("/x")),
            ("Location: //origin.test/x", Some("/x")),
            ("Location: http://origin.test", Some("/")),
            ("Location: http://other.test/x", None),
            ("Location: //other.test/x", None),
            ("Location: http://cdn.test/x", None),
            ("Location: /a/b?c", None),
            ("Location: /x\nLocation: /y", None),
            ("Location: http://[", None),
        ];
        for (response, expected) in table {
            let mut targets = vec!["/a/b?c"];
            targets.extend(expected);
            assert_eq!(after("POST", 201, response), targets, "{response:?}");
        }
        assert_eq!(
            after("POST", 201, "Location: /x\nContent-Location: /y").len(),
            3
        );
    }
}
