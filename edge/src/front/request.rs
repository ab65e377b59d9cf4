//! A request's header, the same whichever protocol it came by.

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::head::{self, Bounds, Framing, Head, Malformed, Version};

/// What a client asks, as it was sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// A body follows, of whatever length.
    pub(crate) has_body: bool,
    line: Line,
}

/// What the header's first line says, or the pseudo-fields that took its place.
#[derive(Debug)]
enum Line {
    H1 { target: String, version: Version },
    H2(Uri),
}

impl Request {
    /// Of an HTTP/1.x header, its empty line included. Second, how its body is framed.
    ///
    /// # Errors
    /// What is wrong with it, as [`head::check`] says.
    pub(crate) fn of_h1(header: &Bytes, bounds: Bounds) -> Result<(Request, Framing), Malformed> {
        let head = head::check(header, bounds)?;
        let method = Method::from_bytes(head.method.as_bytes())
            .map_err(|_| Malformed::bad("the method is not a token"))?;
        let request = Request {
            method,
            headers: fields(header, &head)?,
            has_body: head.framing != Framing::None,
            line: Line::H1 {
                target: head.target.to_owned(),
                version: head.version,
            },
        };
        Ok((request, head.framing))
    }

    /// Of an HTTP/2 header.
    pub(crate) fn of_h2(parts: http::request::Parts, has_body: bool) -> Request {
        Request {
            method: parts.method,
            headers: parts.headers,
            has_body,
            line: Line::H2(parts.uri),
        }
    }

    /// The request target: path and query, or whatever stood there.
    pub(crate) fn target(&self) -> &str {
        match &self.line {
            Line::H1 { target, .. } => target,
            Line::H2(uri) => uri.path_and_query().map_or("", |target| target.as_str()),
        }
    }

    /// `:authority` or `Host`; empty if there is neither.
    pub(crate) fn authority(&self) -> &str {
        let named = match &self.line {
            Line::H1 { .. } => None,
            Line::H2(uri) => uri.authority().map(http::uri::Authority::as_str),
        };
        let host = || self.headers.get(HOST).and_then(|host| host.to_str().ok());
        named.or_else(host).unwrap_or("")
    }

    /// For the access log.
    pub(crate) fn protocol(&self) -> &'static str {
        match &self.line {
            Line::H1 { version, .. } => version.name(),
            Line::H2(_) => "HTTP/2",
        }
    }

    /// Whether an HTTP/1.x connection may go on after this request. HTTP/1.0's may not.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.is_http11() && !has_token(&self.headers, &CONNECTION, "close")
    }

    /// Whether it came by HTTP/1.1, which knows chunks and `100 Continue`.
    pub(crate) fn is_http11(&self) -> bool {
        matches!(
            self.line,
            Line::H1 {
                version: Version::Http11,
                ..
            }
        )
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.is_http11() && has_token(&self.headers, &EXPECT, "100-continue")
    }
}

fn fields(header: &Bytes, head: &Head<'_>) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in head.fields() {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Malformed::bad("a field's name is not a token"))?;
        let value = HeaderValue::from_maybe_shared(header.slice_ref(value.as_bytes()))
            .map_err(|_| Malformed::bad("a control character in a field"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    let mut tokens = texts.flat_map(|text| text.split(','));
    tokens.any(|one| one.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 4096,
        fields: 100,
    };

    fn h1(text: &str) -> (Request, Framing) {
        Request::of_h1(&Bytes::copy_from_slice(text.as_bytes()), BOUNDS).unwrap()
    }

    #[test]
    fn a_header_keeps_all_its_fields() {
        let (request, framing) = h1(
            "POST /a?b HTTP/1.1\r\nHost: go.test\r\nX:  y \r\nx: z\r\nContent-Length: 3\r\n\r\n",
        );
        assert_eq!(
            (request.method.as_str(), request.target()),
            ("POST", "/a?b")
        );
        assert_eq!(request.authority(), "go.test");
        let values: Vec<_> = request.headers.get_all("x").iter().collect();
        assert_eq!(values, ["y", "z"]);
        assert_eq!(framing, Framing::Length(3));
        assert!(request.has_body);
    }

    #[test]
    fn only_http11_goes_on_and_only_until_told_to_close() {
        for (text, alive) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            (
                "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
                false,
            ),
        ] {
            assert_eq!(h1(text).0.keeps_alive(), alive, "{text:?}");
        }
    }

    #[test]
    fn expectations_of_http10_are_ignored() {
        let text = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n";
        assert!(h1(text).0.expects_continue());
        assert!(!h1(&text.replace("/1.1", "/1.0")).0.expects_continue());
    }
}
