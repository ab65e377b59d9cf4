//! Header fields: reading lists, and which fields end at us. Pure.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, MAX_FORWARDS, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::engine::store::entry::Headers;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Fields of one connection (RFC 9110 §7.6.1), and those that are between a client and its proxy
/// (RFC 9111 §3.1): none of them is stored or passed on.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHENTICATION_INFO,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A header section, wherever it is kept.
pub(super) trait Fields {
    /// The lines of one field, in their order.
    fn lines<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a HeaderValue>;

    /// The first line of a field.
    fn first<'a>(&'a self, name: &'a HeaderName) -> Option<&'a HeaderValue> {
        self.lines(name).next()
    }

    /// Whether the field is there.
    fn has(&self, name: &HeaderName) -> bool {
        self.lines(name).next().is_some()
    }
}

impl Fields for HeaderMap {
    fn lines<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
        self.get_all(name).iter()
    }
}

impl Fields for Headers {
    fn lines<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
        self.get_all(name)
    }
}

/// The members of a comma-separated list (RFC 9110 §5.6.1): trimmed, empty ones left out, commas
/// within quoted strings left alone.
pub(super) fn members(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let pieces = line.split(move |c: char| {
        let was_escaped = std::mem::take(&mut escaped);
        match c {
            '"' if !was_escaped => quoted = !quoted,
            '\\' if quoted && !was_escaped => escaped = true,
            ',' => return !quoted,
            _ => {}
        }
        false
    });
    pieces.map(str::trim).filter(|member| !member.is_empty())
}

/// Whether every quoted string in a line has its end.
pub(super) fn is_closed(line: &str) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '"' => quoted = !quoted,
            '\\' => escaped = quoted,
            _ => {}
        }
    }
    !quoted
}

/// All members of a field's lines. None: a line isn't ASCII.
pub(super) fn all_members<'a>(
    fields: &'a impl Fields,
    name: &'a HeaderName,
) -> Option<Vec<&'a str>> {
    let mut all = Vec::new();
    for line in fields.lines(name) {
        all.extend(members(line.to_str().ok()?));
    }
    Some(all)
}

/// Drops what ends at this hop: the fields of the connection and those that it names.
pub(crate) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(members)
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What of a client's header goes on: end-to-end fields, less those that we speak for ourselves.
pub(crate) fn from_client(mut headers: HeaderMap) -> HeaderMap {
    drop_hop_by_hop(&mut headers);
    headers.remove(HOST);
    headers.remove(EXPECT);
    join_cookies(&mut headers);
    headers
}

/// HTTP/2 may split `Cookie` in lines, HTTP/1.1 may not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.len() < 2 {
        return;
    }
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Counts `Max-Forwards` down; false if the request is to go no further (RFC 9110 §7.6.2). What is
/// no number may be ignored.
pub(super) fn pass_forward(headers: &mut HeaderMap) -> bool {
    let left = headers
        .get(MAX_FORWARDS)
        .and_then(|left| left.to_str().ok()?.parse::<u32>().ok());
    match left {
        None => true,
        Some(0) => false,
        Some(left) => {
            headers.insert(MAX_FORWARDS, (left - 1).into());
            true
        }
    }
}

/// What of the origin's header goes on or is kept. A missing `Date` is the time of receipt
/// (RFC 9110 §6.6.1).
pub(super) fn from_origin(headers: &mut HeaderMap, received: &HeaderValue, via: &HeaderValue) {
    drop_hop_by_hop(headers);
    if !headers.contains_key(DATE) {
        headers.insert(DATE, received.clone());
    }
    headers.append(VIA, via.clone());
}

/// What one who passes a message on says in `Via`: the protocol that it came by, without the name that
/// goes without saying, and who passes it on (RFC 9110 §7.6.3).
pub(super) fn via(protocol: &str, name: &str) -> HeaderValue {
    let is_token = |c: &char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(*c);
    let version = protocol.strip_prefix("HTTP/").unwrap_or(protocol);
    let name = name.chars().filter(is_token).collect::<String>();
    let name = if name.is_empty() { "edge" } else { &name };
    HeaderValue::try_from(format!("{version} {name}"))
        .unwrap_or_else(|_| HeaderValue::from_static("1.1 edge"))
}

/// `Content-Length`, if there is exactly one.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let length = lines.next()?.to_str().ok()?.parse().ok()?;
    lines.next().is_none().then_some(length)
}

/// A time in seconds since the epoch, from an HTTP date in any of its three forms.
pub(super) fn date(value: &HeaderValue) -> Option<u64> {
    let time = httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// An HTTP date of a time in seconds since the epoch.
pub(super) fn http_date(seconds: u64) -> HeaderValue {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    HeaderValue::try_from(httpdate::fmt_http_date(time))
        .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// The only line of a field that makes sense once.
pub(super) fn single<'a>(fields: &'a impl Fields, name: &'a HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.lines(name);
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A header section written as text, a field a line.
    pub(in crate::engine) fn header(text: &str) -> HeaderMap {
        let fields = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let parsed = fields.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            let value = HeaderValue::from_str(value.trim()).unwrap();
            (name.parse::<HeaderName>().unwrap(), value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in parsed {
            headers.append(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::testing::header;
    use super::*;

    #[test]
    fn lists_are_split_outside_of_quotes() {
        let split = |text| members(text).collect::<Vec<_>>();
        assert_eq!(split("a, b ,,c"), ["a", "b", "c"]);
        assert_eq!(split(r#"a="x,y", b"#), [r#"a="x,y""#, "b"]);
        assert_eq!(split(r#"a="x\",y", b"#), [r#"a="x\",y""#, "b"]);
        assert_eq!(split(r#"a="open, b"#), [r#"a="open, b"#]);
        assert!(split(" , ").is_empty());
    }

    /// RFC 9110 §7.6.1, RFC 9111 §3.1.
    #[test]
    fn what_connection_names_ends_here() {
        let mut headers = header(
            "Connection: close, X-Secret
             Connection: x-other
             X-Secret: 1
             X-Other: 2
             Keep-Alive: timeout=5
             Transfer-Encoding: chunked
             Upgrade: h2c
             Proxy-Authenticate: Basic
             Trailer: X
             TE: trailers
             X-Kept: 3",
        );
        drop_hop_by_hop(&mut headers);
        assert_eq!(headers, header("X-Kept: 3"));
    }

    #[test]
    fn cookies_are_one_field_before_http_1() {
        let all = header("Cookie: a=1\nHost: x\nExpect: 100-continue\nCookie: b=2");
        assert_eq!(from_client(all), header("Cookie: a=1; b=2"));
    }

    /// RFC 9110 §7.6.2.
    #[test]
    fn max_forwards_counts_down() {
        for (text, further, left) in [
            ("Max-Forwards: 2", true, "Max-Forwards: 1"),
            ("Max-Forwards: 0", false, "Max-Forwards: 0"),
            ("Max-Forwards: x", true, "Max-Forwards: x"),
            ("", true, ""),
        ] {
            let mut headers = header(text);
            assert_eq!(pass_forward(&mut headers), further, "{text}");
            assert_eq!(headers, header(left), "{text}");
        }
    }

    #[test]
    fn a_missing_date_is_the_time_of_receipt() {
        let (now, via) = (http_date(1_800_000_000), HeaderValue::from_static("1.1 eu"));
        let mut headers = header("Via: 1.0 x");
        from_origin(&mut headers, &now, &via);
        let expected = header("Via: 1.0 x\nVia: 1.1 eu\nDate: Fri, 15 Jan 2027 08:00:00 GMT");
        assert_eq!(headers, expected);
    }

    /// RFC 9110 §7.6.3.
    #[test]
    fn via_names_the_version_that_a_message_came_by() {
        for (protocol, name, expected) in [
            ("HTTP/1.0", "eu", "1.0 eu"),
            ("HTTP/1.1", "eu-1", "1.1 eu-1"),
            ("HTTP/2", "my edge", "2 myedge"),
            ("HTTP/2", "\u{e9}", "2 edge"),
        ] {
            assert_eq!(via(protocol, name), expected);
        }
    }

    #[test]
    fn dates_are_read_in_all_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(
                date(&HeaderValue::from_static(text)),
                Some(784_111_777),
                "{text}"
            );
        }
        for text in ["0", "-1", "", "yesterday", "Sun, 06 Nov 1994 08:49:37 CET"] {
            assert_eq!(date(&HeaderValue::from_static(text)), None, "{text}");
        }
    }
}
