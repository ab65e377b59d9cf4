//! From the fields of a header block to a request (RFC 9113 §8.2, §8.3). Pure.
//!
//! What makes a request malformed there ([`Malformed`]) resets its stream. What is well-formed and yet
//! more than one hop could read in its own way, or too much, is refused with an answer ([`Refused`]).

use http::Method;
use http::header::HOST;

use modcdn_core::refusal::Reason;

use crate::front::fields::Fields;
use crate::front::head::{self, Bounds, is_token};
use crate::front::request::Request;

/// What a field adds to its bytes in a list's size (§6.5.2).
const OVERHEAD: usize = 32;

/// A request that is an error of the stream (§8.1.1): PROTOCOL_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A request that has been read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) request: Request,
    /// What its body's length will be, where it is told.
    pub(crate) declared: Option<u64>,
    /// Why it is refused before anything looks at it.
    pub(crate) refused: Option<head::Malformed>,
}

/// Collects the fields of one block.
#[derive(Debug)]
pub(crate) struct Collector {
    bounds: Bounds,
    method: Option<Method>,
    scheme: Option<()>,
    path: Option<String>,
    authority: Option<String>,
    fields: Fields,
    length: Option<u64>,
    /// Bytes so far, as RFC 9113 counts them.
    size: usize,
    malformed: bool,
    refused: Option<head::Malformed>,
}

impl Collector {
    pub(crate) fn new(bounds: Bounds) -> Collector {
        Collector {
            bounds,
            method: None,
            scheme: None,
            path: None,
            authority: None,
            fields: Fields::new(),
            length: None,
            size: 0,
            malformed: false,
            refused: None,
        }
    }

    /// The next field. Nothing is kept once there is too much.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + OVERHEAD;
        if self.size > self.bounds.bytes || self.fields.len() >= self.bounds.fields {
            let too_large = head::Malformed {
                reason: Reason::HeadersTooLarge,
                what: "the header is too large",
            };
            self.refused.get_or_insert(too_large);
            return;
        }
        let taken = match name.first() {
            Some(b':') => self.pseudo(name, value),
            _ => self.regular(name, value),
        };
        self.malformed |= taken.is_none();
    }

    /// `None`: malformed. Each comes once, before all others (§8.3).
    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if self.fields.len() > 0 || !is_value(value) {
            return None;
        }
        let text = std::str::from_utf8(value).ok()?;
        let again = match name {
            b":method" => self
                .method
                .replace(Method::from_bytes(value).ok()?)
                .is_some(),
            b":scheme" => self.scheme.replace(()).is_some(),
            b":path" if text.is_empty() => return None,
            b":path" => self.path.replace(text.to_owned()).is_some(),
            b":authority" => self.authority.replace(text.to_owned()).is_some(),
            _ => return None,
        };
        (!again).then_some(())
    }

    /// `None`: malformed.
    fn regular(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if !is_name(name) || !is_value(value) || is_of_a_connection(name, value) {
            return None;
        }
        if name == b"content-length" {
            self.content_length(value)?;
        }
        self.fields.push(name, value);
        Some(())
    }

    fn content_length(&mut self, value: &[u8]) -> Option<()> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().filter(|_| digits)?;
        let length = length.parse().ok()?;
        if self.length.replace(length).is_some_and(|l| l != length) {
            self.refuse("Content-Length fields that differ");
        }
        Some(())
    }

    fn refuse(&mut self, what: &'static str) {
        self.refused.get_or_insert(head::Malformed::bad(what));
    }

    /// The request; `ended`: it has no body.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn finish(mut self, ended: bool) -> Result<Opened, Malformed> {
        let too_large = self.refused.is_some();
        let method = match self.method.take() {
            Some(method) => method,
            None if too_large => Method::GET,
            None => return Err(Malformed),
        };
        let connect = method == Method::CONNECT;
        let complete = connect || (self.scheme.is_some() && self.path.is_some());
        let short = ended && self.length.is_some_and(|length| length > 0);
        if self.malformed || short || (!complete && !too_large) {
            return Err(Malformed);
        }
        if !too_large {
            self.check();
        }
        let (path, authority) = (self.path.unwrap_or_default(), self.authority);
        Ok(Opened {
            request: Request::of_h2(method, path, authority, self.fields, !ended),
            declared: self.length,
            refused: self.refused,
        })
    }

    /// What another hop could read otherwise.
    fn check(&mut self) {
        let path = self.path.as_deref().unwrap_or("");
        let authority = self.authority.as_deref().map(str::as_bytes);
        let named = authority.or_else(|| self.fields.get(&HOST));
        let wrong = match named {
            None | Some(b"") => Some("neither :authority nor Host"),
            Some(named)
                if !self
                    .fields
                    .all(&HOST)
                    .all(|host| host.eq_ignore_ascii_case(named)) =>
            {
                Some("Host and :authority differ")
            }
            Some(_) if !path.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Some(":path holds a byte that must be percent-encoded")
            }
            Some(_) if path.contains("://") && !path.starts_with('/') => {
                Some(":path is a whole URL")
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            self.refuse(wrong);
        }
    }
}

/// Whether trailers hold nothing that they may not (§8.1). Given each of their fields.
pub(crate) fn may_trail(name: &[u8], value: &[u8]) -> bool {
    is_name(name) && is_value(value) && !is_of_a_connection(name, value)
}

fn is_name(name: &[u8]) -> bool {
    let lower = |byte: &u8| is_token(*byte) && !byte.is_ascii_uppercase();
    !name.is_empty() && name.iter().all(lower)
}

fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let allowed = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
    value.iter().all(allowed) && !blank(value.first()) && !blank(value.last())
}

/// Fields that HTTP/2 has frames for (§8.2.2).
fn is_of_a_connection(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            true
        }
        b"te" => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 4096,
        fields: 20,
    };
    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "go.test"),
        (":path", "/a?b"),
    ];

    fn read(fields: &[(&str, &str)], ended: bool) -> Result<Opened, Malformed> {
        let mut collector = Collector::new(BOUNDS);
        for (name, value) in fields {
            collector.field(name.as_bytes(), value.as_bytes());
        }
        collector.finish(ended)
    }

    fn with(more: &[(&str, &str)]) -> Result<Opened, Malformed> {
        read(&[&GET, more].concat(), true)
    }

    /// A GET whose pseudo-field `name` has another value, or isn't there.
    fn changed(name: &str, value: Option<&str>) -> Result<Opened, Malformed> {
        let other = GET.iter().filter_map(|(found, old)| match value {
            _ if *found != name => Some((*found, *old)),
            value => Some((*found, value?)),
        });
        read(&other.collect::<Vec<_>>(), true)
    }

    fn refusal(opened: Result<Opened, Malformed>) -> Option<Reason> {
        opened.unwrap().refused.map(|refused| refused.reason)
    }

    #[test]
    fn a_request_is_read() {
        let opened = with(&[("accept", "x"), ("te", "trailers")]).unwrap();
        let request = opened.request;
        assert_eq!((request.method, &*request.target), (Method::GET, "/a?b"));
        assert_eq!((opened.refused, opened.declared), (None, None));
        assert_eq!(request.fields.len(), 2);
        let post = read(&[&GET[..], &[("content-length", "5")]].concat(), false).unwrap();
        assert!(post.request.has_body);
        assert_eq!(post.declared, Some(5));
    }

    #[test]
    fn what_rfc_9113_calls_malformed_is() {
        for fields in [
            &[("X", "y")][..],
            &[("", "y")],
            &[("x y", "z")],
            &[("x", "a\nb")],
            &[("x", "\0")],
            &[("x", " y")],
            &[("x", "y\t")],
            &[("connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("te", "gzip")],
            &[(":path", "/b")],
            &[(":status", "200")],
            &[(":protocol", "websocket")],
            &[("x", "y"), (":authority", "b")],
            &[("content-length", "1")],
            &[("content-length", "+0")],
            &[("content-length", "")],
        ] {
            assert_eq!(with(fields).err(), Some(Malformed), "{fields:?}");
        }
        for name in [":method", ":scheme", ":path"] {
            assert!(changed(name, None).is_err(), "no {name}");
        }
        assert!(changed(":path", Some("")).is_err());
        assert!(changed(":method", Some("G T")).is_err());
    }

    #[test]
    fn what_another_hop_could_read_otherwise_is_refused() {
        let bad = Some(Reason::BadRequest);
        assert_eq!(refusal(with(&[("host", "GO.test")])), None);
        assert_eq!(refusal(with(&[("host", "b.test")])), bad);
        assert_eq!(refusal(changed(":authority", None)), bad);
        assert_eq!(refusal(changed(":authority", Some(""))), bad);
        assert_eq!(refusal(changed(":path", Some("/\u{e9}"))), bad);
        assert_eq!(refusal(changed(":path", Some("https://go.test/a"))), bad);
        let hosts = [("host", "a.test"), ("host", "b.test")];
        let unnamed = [&GET[..2], &GET[3..], &hosts[..]].concat();
        assert_eq!(refusal(read(&unnamed, true)), bad);
        let same = [("content-length", "0"), ("content-length", "0")];
        assert_eq!(refusal(with(&same)), None);
        let differ = [
            &GET[..],
            &[("content-length", "5"), ("content-length", "6")],
        ]
        .concat();
        assert_eq!(refusal(read(&differ, false)), bad);
    }

    #[test]
    fn a_host_field_alone_names_the_host() {
        let unnamed = [&GET[..2], &GET[3..], &[("host", "a.test")]].concat();
        let opened = read(&unnamed, true).unwrap();
        assert_eq!(
            (opened.request.authority(), opened.refused),
            ("a.test", None)
        );
    }

    #[test]
    fn too_much_is_refused_and_not_kept() {
        let many = vec![("x", "y"); 21];
        let large = "y".repeat(5000);
        for fields in [&many[..], &[("x", &large)]] {
            let opened = with(fields).unwrap();
            assert_eq!(
                opened.refused.map(|r| r.reason),
                Some(Reason::HeadersTooLarge)
            );
            assert!(opened.request.fields.len() <= 20);
        }
        let first = [&[("x-large", &*large)][..], &GET[..]].concat();
        assert_eq!(refusal(read(&first, true)), Some(Reason::HeadersTooLarge));
    }

    #[test]
    fn connect_has_neither_scheme_nor_path() {
        let connect = [(":method", "CONNECT"), (":authority", "a.test:1")];
        assert_eq!(read(&connect, true).unwrap().request.target, "");
    }
}
