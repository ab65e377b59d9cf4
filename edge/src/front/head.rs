//! The header of an HTTP/1.1 request, looked at byte by byte before anything else sees it.
//!
//! Pingora's parser (`httparse`) is lenient where a cache must not be: it takes a bare LF for a
//! line end, percent-encodes what can't stand in a request line, lets `Transfer-Encoding` win over
//! `Content-Length`, and accepts headers up to 1 MiB. Whatever two parsers could read in two ways
//! is refused here, and the connection is closed: nobody knows where the next request begins.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod invariants;

use bytes::BytesMut;

use modcdn_core::refusal::Reason;

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) reason: Reason,
    pub(crate) what: &'static str,
}

impl Malformed {
    /// A header that can't be understood in one way only.
    pub(crate) const fn bad(what: &'static str) -> Malformed {
        Malformed {
            reason: Reason::BadRequest,
            what,
        }
    }
}

const fn bad(what: &'static str) -> Malformed {
    Malformed::bad(what)
}

/// The client's preface of HTTP/2 (RFC 9113 §3.4).
pub(crate) const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bounds of a header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

/// Looks for the end of the header in what has been read so far. Holds its place between calls.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    looked_at: usize,
    line_start: usize,
}

impl Scan {
    /// The header's length, its empty line included, once that is here; `None` before.
    ///
    /// # Errors
    /// A bare LF, a NUL, or more bytes than allowed.
    pub(crate) fn find_end(
        &mut self,
        read: &mut BytesMut,
        bounds: Bounds,
    ) -> Result<Option<usize>, Malformed> {
        while let Some(at) = read[self.looked_at..]
            .iter()
            .position(|byte| matches!(byte, b'\n' | 0))
        {
            let at = self.looked_at + at;
            if read[at] == 0 {
                return Err(bad("a NUL in the header"));
            }
            if at == 0 || read[at - 1] != b'\r' {
                return Err(bad("a line of the header ends without a carriage return"));
            }
            if at == 1 {
                // RFC 9112 §2.2: empty lines before the request line are to be ignored.
                let _ = read.split_to(2);
                *self = Scan::default();
                continue;
            }
            if at == self.line_start + 1 {
                return if at < bounds.bytes {
                    Ok(Some(at + 1))
                } else {
                    Err(too_large())
                };
            }
            self.looked_at = at + 1;
            self.line_start = at + 1;
        }
        self.looked_at = read.len();
        if read.len() >= bounds.bytes {
            Err(too_large())
        } else {
            Ok(None)
        }
    }
}

const fn too_large() -> Malformed {
    Malformed {
        reason: Reason::HeadersTooLarge,
        what: "the header is too large",
    }
}

/// The versions that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

impl Version {
    /// As the request line has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// How a request's body is framed (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What the request line and the fields say of framing and authority.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) version: Version,
    pub(crate) host: &'a str,
    pub(crate) framing: Framing,
    /// The lines after the request line, found well-formed.
    lines: &'a str,
}

impl<'a> Head<'a> {
    /// Names and values of the fields, in their order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let lines = self.lines.split("\r\n");
        let fields = lines.filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name, value.trim_matches([' ', '\t'])))
    }
}

/// Checks a whole header, its empty line included.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn check(header: &[u8], bounds: Bounds) -> Result<Head<'_>, Malformed> {
    let header = header
        .strip_suffix(b"\r\n\r\n")
        .ok_or(bad("the header has no end"))?;
    let text =
        std::str::from_utf8(header).map_err(|_| bad("a byte outside ASCII in the header"))?;
    let (line, lines) = text.split_once("\r\n").unwrap_or((text, ""));
    let (method, target, version) = request_line(line)?;
    let mut fields = Fields::default();
    for (n, line) in lines.split("\r\n").enumerate() {
        if n >= bounds.fields {
            let what = "the header has too many fields";
            return Err(Malformed {
                reason: Reason::HeadersTooLarge,
                what,
            });
        }
        fields.take(line)?;
    }
    Ok(Head {
        method,
        target,
        version,
        host: fields.host.ok_or(bad("no Host field"))?,
        framing: fields.framing(version)?,
        lines,
    })
}

fn request_line(line: &str) -> Result<(&str, &str, Version), Malformed> {
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("the request line is not METHOD TARGET VERSION"));
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(bad("the method is not a token"));
    }
    let version = match version {
        "HTTP/1.1" => Version::Http11,
        "HTTP/1.0" => Version::Http10,
        _ => return Err(bad("the version is not HTTP/1.1")),
    };
    let in_target = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>');
    if target.is_empty() || !target.bytes().all(in_target) {
        return Err(bad(
            "the request target holds a byte that must be percent-encoded",
        ));
    }
    Ok((method, target, version))
}

/// What the fields said so far.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    /// The one transfer coding.
    coding: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a str) -> Result<(), Malformed> {
        if line.starts_with([' ', '\t']) {
            return Err(bad("a folded header line"));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or(bad("a header line without a colon"))?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(bad("a field's name is not a token"));
        }
        if !value
            .bytes()
            .all(|byte| byte == b'\t' || !byte.is_ascii_control())
        {
            return Err(bad("a control character in a field"));
        }
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("host") {
            if self.host.replace(value).is_some() {
                return Err(bad("more than one Host field"));
            }
            let in_host = |byte: u8| byte.is_ascii_graphic() && !b"/\\?#@\"<>,".contains(&byte);
            if value.is_empty() || !value.bytes().all(in_host) {
                return Err(bad("the Host field is not a host"));
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            let length = content_length(value)?;
            if self
                .length
                .replace(length)
                .is_some_and(|before| before != length)
            {
                return Err(bad("Content-Length fields that differ"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding")
            && self.coding.replace(value).is_some()
        {
            return Err(bad("more than one Transfer-Encoding field"));
        }
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, Malformed> {
        match (self.coding, self.length) {
            (Some(_), Some(_)) => Err(bad("both Content-Length and Transfer-Encoding")),
            (Some(_), None) if version == Version::Http10 => {
                Err(bad("HTTP/1.0 knows no Transfer-Encoding"))
            }
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (Some(_), None) => Err(bad("a Transfer-Encoding other than chunked")),
            (None, None | Some(0)) => Ok(Framing::None),
            (None, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

fn content_length(value: &str) -> Result<u64, Malformed> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(length) if digits => Ok(length),
        _ => Err(bad("Content-Length is not a number")),
    }
}

/// `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 4096,
        fields: 100,
    };

    fn end(text: &[u8]) -> Result<Option<usize>, Malformed> {
        Scan::default().find_end(&mut BytesMut::from(text), BOUNDS)
    }

    #[test]
    fn a_header_ends_at_its_empty_line() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET";
        assert_eq!(end(text).unwrap(), Some(text.len() - 3));
        assert_eq!(end(&text[..text.len() - 4]).unwrap(), None);
        assert_eq!(end(b"").unwrap(), None);
        assert_eq!(end(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n").unwrap(), Some(18));
    }

    #[test]
    fn bare_lf_and_nul_are_refused_as_soon_as_they_are_seen() {
        assert!(end(b"GET / HTTP/1.1\n").is_err());
        assert!(end(b"\n").is_err());
        assert!(end(b"GET /\0").is_err());
        let large = [b'a'; 4096];
        assert_eq!(end(&large).unwrap_err().reason, Reason::HeadersTooLarge);
    }

    #[test]
    fn a_plain_request_passes() {
        let head = check(
            b"GET /a/@v/list HTTP/1.1\r\nHost: a:1\r\nX: y\r\n\r\n",
            BOUNDS,
        )
        .unwrap();
        let expected = Head {
            method: "GET",
            target: "/a/@v/list",
            version: Version::Http11,
            host: "a:1",
            framing: Framing::None,
            lines: "Host: a:1\r\nX: y",
        };
        assert_eq!(head, expected);
        assert!(head.fields().eq([("Host", "a:1"), ("X", "y")]));
    }

    #[test]
    fn whatever_can_be_read_in_two_ways_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n",
            "GET / x HTTP/1.1\r\nHost: a\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n",
            "GET /\" HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.2\r\nHost: a\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n",
            "GET /\r\nHost: a\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n",
        ] {
            let header = format!("{text}\r\n");
            let refused = check(header.as_bytes(), BOUNDS);
            assert!(refused.is_err(), "{text:?} passed as {refused:?}");
        }
    }

    #[test]
    fn bodies_are_seen() {
        for (field, framing) in [
            ("Content-Length: 5", Framing::Length(5)),
            ("Content-Length: 0", Framing::None),
            ("Transfer-Encoding: chunked", Framing::Chunked),
            ("transfer-encoding: Chunked", Framing::Chunked),
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            let head = check(text.as_bytes(), BOUNDS).unwrap();
            assert_eq!(head.framing, framing, "{field}");
        }
    }

    #[test]
    fn too_many_fields_are_refused() {
        let text = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(100)
        );
        let refused = check(text.as_bytes(), BOUNDS).unwrap_err();
        assert_eq!(refused.reason, Reason::HeadersTooLarge);
    }

    proptest! {
        #[test]
        fn the_end_is_found_however_the_bytes_arrive(
            cuts in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let text = b"\r\nGET /a HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\nrest";
            let (mut read, mut scan, mut found) = (BytesMut::new(), Scan::default(), None);
            let mut from = 0;
            for cut in cuts.iter().cycle() {
                let to = (from + cut).min(text.len());
                read.extend_from_slice(&text[from..to]);
                from = to;
                found = scan.find_end(&mut read, BOUNDS).unwrap();
                if found.is_some() {
                    break;
                }
            }
            prop_assert_eq!(found, Some(text.len() - 6));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = end(&bytes);
            let _ = check(&bytes, BOUNDS);
        }
    }
}
