//! The border: from a request as sent to the one value that goes on, or to a refusal.
//!
//! Of a request for a module only the parsed path goes on, with the four conditional headers.
//! Everything else a client sends (`X-Forwarded-Host`, `X-HTTP-Method-Override`, cookies, …) is not even
//! looked at. To a plain HTTP mount go the path in its normal form and the end-to-end fields.

use http::header::{CONTENT_LENGTH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method};

use modcdn_core::goproxy::{GrammarError, Prefix, Request};
use modcdn_core::headers::DISABLE_MODULE_FETCH;
use modcdn_core::refusal::{Reason, Refusal};

use super::fields::Fields;
use super::mounts::{Mount, Mounts};
use crate::engine::http::fields::from_client;
use crate::engine::http::uri::{self, TargetError};
use crate::exchange::{Asked, HttpAsked};

/// What a request is for.
#[derive(Debug)]
pub(crate) enum Target {
    /// `/-/healthz`.
    Health,
    /// Something of a module, or of the checksum database.
    Module(Asked),
    /// Something of a plain HTTP mount. Its body and who asks are not filled in yet.
    Http(Box<HttpAsked>),
}

/// The public health check.
pub(crate) const HEALTH: &str = "/-/healthz";

/// How many mounts a refusal names.
const NAMED: usize = 10;

/// Which names are served, and which one this connection was made for.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    /// In lower case; empty means any.
    pub(crate) served: &'a [String],
    /// What TLS was told, in lower case.
    pub(crate) sni: Option<&'a str>,
}

/// A request as its protocol gave it.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) method: &'a Method,
    /// Origin form or absolute form.
    pub(crate) target: &'a str,
    /// `Host` or `:authority`.
    pub(crate) authority: &'a str,
    pub(crate) fields: &'a Fields,
    pub(crate) has_body: bool,
}

/// Lets a request in.
///
/// # Errors
/// Why not. Nothing of it may be cached.
pub(crate) fn admit(raw: Raw<'_>, names: Names<'_>, mounts: &Mounts) -> Result<Target, Refusal> {
    if matches!(*raw.method, Method::CONNECT | Method::TRACE) {
        return Err(wrong_method(raw));
    }
    let path = path_of(raw, names)?;
    if path == HEALTH {
        return admit_ours(raw, path);
    }
    if !mounts.has_http() {
        return match mounts.of(path) {
            _ if path.starts_with("/-/") => admit_ours(raw, path),
            Some(Mount::Modules(prefix)) => admit_module(raw, prefix, path),
            _ => admit_nowhere(raw, mounts),
        };
    }
    let target = uri::normal(path).map_err(|error| no_target(raw, error))?;
    match mounts.of(target.path()) {
        _ if target.path().starts_with("/-/") => admit_ours(raw, target.path()),
        // Whether the path as it was sent lies there too, the grammar says.
        Some(Mount::Modules(prefix)) => admit_module(raw, prefix, path),
        Some(Mount::Http(mount)) => Ok(Target::Http(Box::new(admit_http(raw, *mount, target)))),
        None => admit_nowhere(raw, mounts),
    }
}

/// Where modules are served, a 404 would send the go command on to whoever stands next in its list,
/// with the module's name.
fn admit_nowhere(raw: Raw<'_>, mounts: &Mounts) -> Result<Target, Refusal> {
    let named: Vec<&str> = mounts
        .of_modules()
        .take(NAMED)
        .map(Prefix::as_str)
        .collect();
    let what = "nothing is mounted there";
    if named.is_empty() {
        return Err(refuse(raw, Reason::NoSuchEndpoint, what));
    }
    admit_read(raw)?;
    let hint = format!("modules are below {}", named.join(" "));
    Err(refuse(raw, Reason::BadRequest, what).hint(hint))
}

fn admit_http(raw: Raw<'_>, mount: usize, target: PathAndQuery) -> HttpAsked {
    let mut headers = from_client(raw.fields.to_map());
    if !raw.has_body {
        headers.remove(CONTENT_LENGTH);
    }
    HttpAsked {
        mount,
        method: raw.method.clone(),
        target,
        headers,
        upload: None,
        host: raw.authority.to_ascii_lowercase(),
        client: None,
        tls: false,
        protocol: "HTTP/1.1",
    }
}

fn no_target(raw: Raw<'_>, error: TargetError) -> Refusal {
    let reason = match error {
        TargetError::TooLong => Reason::PathTooLong,
        _ => Reason::BadRequest,
    };
    refuse(raw, reason, &error.to_string())
}

/// What isn't plain HTTP is read only.
fn admit_read(raw: Raw<'_>) -> Result<bool, Refusal> {
    let head = match *raw.method {
        Method::GET => false,
        Method::HEAD => true,
        _ => return Err(wrong_method(raw)),
    };
    if raw.has_body {
        return Err(refuse(
            raw,
            Reason::BadRequest,
            "a GET request must not carry a body",
        ));
    }
    Ok(head)
}

fn admit_ours(raw: Raw<'_>, path: &str) -> Result<Target, Refusal> {
    admit_read(raw)?;
    if path == HEALTH {
        return Ok(Target::Health);
    }
    Err(refuse(
        raw,
        Reason::NoSuchEndpoint,
        "there is nothing of that name here",
    ))
}

fn admit_module(raw: Raw<'_>, mount: &Prefix, path: &str) -> Result<Target, Refusal> {
    let head = admit_read(raw)?;
    let rest = mount.rest(path).unwrap_or(path);
    let request = Request::parse(rest).map_err(|error| outside_grammar(raw, error))?;
    Ok(Target::Module(Asked {
        head,
        range: single(raw.fields, &RANGE),
        if_range: single(raw.fields, &IF_RANGE),
        if_none_match: joined(raw.fields, &IF_NONE_MATCH),
        no_fetch: is_true(raw.fields.get(&DISABLE_MODULE_FETCH)),
        ..Asked::get(mount, request)
    }))
}

fn wrong_method(raw: Raw<'_>) -> Refusal {
    refuse(raw, Reason::Method, "only GET and HEAD are answered here")
}

/// The path, once it is clear that the request was meant for us.
fn path_of<'a>(raw: Raw<'a>, names: Names<'_>) -> Result<&'a str, Refusal> {
    let (path, absolute) = match absolute_form(raw.target) {
        Some((authority, path)) => (path, Some(authority)),
        None => (raw.target, None),
    };
    if absolute.is_some_and(|authority| !authority.eq_ignore_ascii_case(raw.authority)) {
        let what = "the request's absolute URL names another host than its Host field";
        return Err(refuse(raw, Reason::Misdirected, what));
    }
    let host = host_of(raw)?;
    if names.sni.is_some_and(|sni| !sni.eq_ignore_ascii_case(host)) {
        let what = "the host is not the one this TLS connection was made for";
        return Err(refuse(raw, Reason::Misdirected, what));
    }
    let mut served = names.served.iter();
    if !names.served.is_empty() && !served.any(|served| served.eq_ignore_ascii_case(host)) {
        return Err(refuse(
            raw,
            Reason::Misdirected,
            "this host is not served here",
        ));
    }
    Ok(path)
}

/// `http://AUTHORITY/PATH`, taken apart.
fn absolute_form(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let slash = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(rest.split_at(slash))
}

/// The host without its port, as it was written.
fn host_of(raw: Raw<'_>) -> Result<&str, Refusal> {
    let text = raw.authority;
    if !is_plain(text) && !is_authority(text) {
        return Err(refuse(
            raw,
            Reason::BadRequest,
            "the Host field is not a host",
        ));
    }
    // The colons of an IPv6 address stand in brackets.
    let host = match text.rsplit_once(':') {
        Some((host, _)) if !text.ends_with(']') => host,
        _ => text,
    };
    Ok(host.trim_end_matches('.'))
}

/// A name or an IPv4 address, perhaps with a port: what nearly all are, told without an allocation.
fn is_plain(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !host.is_empty()
        && host.bytes().all(in_name)
        && (1..=5).contains(&port.len())
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// What RFC 3986 §3.2 allows, without user information.
fn is_authority(text: &str) -> bool {
    let parsed = text.parse::<Authority>();
    parsed.is_ok_and(|parsed| !parsed.host().is_empty() && !text.contains('@'))
}

fn outside_grammar(raw: Raw<'_>, error: GrammarError) -> Refusal {
    let too_long = matches!(error, GrammarError::PathTooLong);
    let reason = if too_long {
        Reason::PathTooLong
    } else {
        Reason::BadRequest
    };
    refuse(raw, reason, &error.to_string())
}

fn refuse(raw: Raw<'_>, reason: Reason, what: &str) -> Refusal {
    Refusal::new(reason, raw.target, what)
}

/// A field that makes sense once; sent twice, it is as if it hadn't been sent.
fn single(fields: &Fields, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = fields.all(name);
    let first = values.next()?;
    let only = values.next().is_none();
    only.then(|| HeaderValue::from_bytes(first).ok()).flatten()
}

/// A list, possibly over several lines.
fn joined(fields: &Fields, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = fields.all(name);
    let mut all = values.next()?.to_vec();
    for value in values {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value);
    }
    HeaderValue::from_bytes(&all).ok()
}

fn is_true(value: Option<&[u8]>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
}

#[cfg(test)]
mod tests;
