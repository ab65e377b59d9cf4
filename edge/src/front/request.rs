//! A request's header, the same whichever protocol it came by.

use http::Method;
use http::header::{CONNECTION, EXPECT, HOST};

use super::fields::Fields;
use super::head::{self, Bounds, Framing, Malformed, Version};

/// What a client asks, as it was sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) fields: Fields,
    /// A body follows, of whatever length.
    pub(crate) has_body: bool,
    /// The request target: path and query, or whatever stood there.
    pub(crate) target: String,
    /// `:authority`, which HTTP/1.x has not.
    named: Option<String>,
    version: Protocol,
}

/// What it came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    H1(Version),
    H2,
}

impl Request {
    /// Of an HTTP/1.x header, its empty line included. Second, how its body is framed.
    ///
    /// # Errors
    /// What is wrong with it, as [`head::check`] says.
    pub(crate) fn of_h1(header: &[u8], bounds: Bounds) -> Result<(Request, Framing), Malformed> {
        let head = head::check(header, bounds)?;
        let method = Method::from_bytes(head.method.as_bytes())
            .map_err(|_| Malformed::bad("the method is not a token"))?;
        let mut fields = Fields::new();
        for (name, value) in head.fields() {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let request = Request {
            method,
            fields,
            has_body: head.framing != Framing::None,
            target: head.target.to_owned(),
            named: None,
            version: Protocol::H1(head.version),
        };
        Ok((request, head.framing))
    }

    /// Of an HTTP/2 header: its pseudo-fields, and the others.
    pub(crate) fn of_h2(
        method: Method,
        target: String,
        authority: Option<String>,
        fields: Fields,
        has_body: bool,
    ) -> Request {
        Request {
            method,
            fields,
            has_body,
            target,
            named: authority,
            version: Protocol::H2,
        }
    }

    /// `:authority` or `Host`; empty if there is neither.
    pub(crate) fn authority(&self) -> &str {
        let host = || std::str::from_utf8(self.fields.get(&HOST)?).ok();
        self.named.as_deref().or_else(host).unwrap_or("")
    }

    /// For the access log.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.version {
            Protocol::H1(version) => version.name(),
            Protocol::H2 => "HTTP/2",
        }
    }

    /// Whether an HTTP/1.x connection may go on after this request. HTTP/1.0's may not.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.is_http11() && !self.fields.has_token(&CONNECTION, "close")
    }

    /// Whether it came by HTTP/1.1, which knows chunks and `100 Continue`.
    pub(crate) fn is_http11(&self) -> bool {
        self.version == Protocol::H1(Version::Http11)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.is_http11() && self.fields.has_token(&EXPECT, "100-continue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 4096,
        fields: 100,
    };

    fn h1(text: &str) -> (Request, Framing) {
        Request::of_h1(text.as_bytes(), BOUNDS).unwrap()
    }

    #[test]
    fn a_header_keeps_all_its_fields() {
        let (request, framing) = h1(
            "POST /a?b HTTP/1.1\r\nHost: go.test\r\nX:  y \r\nx: z\r\nContent-Length: 3\r\n\r\n",
        );
        assert_eq!(
            (request.method.as_str(), &*request.target),
            ("POST", "/a?b")
        );
        assert_eq!(request.authority(), "go.test");
        let fields: Vec<_> = request.fields.iter().collect();
        assert_eq!(fields[1..3], [(&b"x"[..], &b"y"[..]), (b"x", b"z")]);
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
