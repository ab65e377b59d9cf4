//! The `Cache-Status` field (RFC 9211). Pure.

use std::fmt::Write as _;

use http::HeaderValue;

/// Why a request went forward to the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forward {
    /// Nothing was stored under the key.
    UriMiss,
    /// Something was, but it could not be used.
    Miss,
    /// Something was, but not what this request's fields select.
    VaryMiss,
    /// What was stored is stale.
    Stale,
    /// What was stored is fresh, but the client wants it from the origin.
    Request,
    /// The method is not one that a cache answers.
    Method,
    /// The cache was told to keep out of it.
    Bypass,
}

impl Forward {
    const fn name(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::Miss => "miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Method => "method",
            Self::Bypass => "bypass",
        }
    }
}

/// What the cache did about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheStatus {
    /// The request went forward; else it is a hit.
    pub(crate) forward: Option<Forward>,
    /// What the origin answered, if that isn't what the client gets.
    pub(crate) forward_status: Option<u16>,
    /// Seconds of freshness left.
    pub(crate) ttl: Option<i64>,
    /// The answer is being stored.
    pub(crate) stored: bool,
    /// Several requests went forward as one.
    pub(crate) collapsed: bool,
    /// Anything else worth knowing: a token.
    pub(crate) detail: Option<&'static str>,
}

impl CacheStatus {
    /// The field's value for a cache of that name, as [`cache_name`] wrote it.
    pub(crate) fn value(&self, name: &str) -> HeaderValue {
        let mut text = String::with_capacity(name.len() + 48);
        text.push_str(name);
        match self.forward {
            None => text.push_str("; hit"),
            Some(forward) => {
                let _ = write!(text, "; fwd={}", forward.name());
            }
        }
        if let Some(status) = self.forward_status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if let Some(ttl) = self.ttl {
            let _ = write!(text, "; ttl={ttl}");
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "; detail={detail}");
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("edge"))
    }
}

/// A cache's name as a structured field: a token where it is one, else a string (RFC 8941 §3.3).
pub(crate) fn cache_name(name: &str) -> String {
    let rest = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
    let is_token = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(rest);
    if is_token {
        return name.to_owned();
    }
    let printable = name
        .chars()
        .filter(|c| (' '..='~').contains(c) && !"\"\\".contains(*c));
    format!("\"{}\"", printable.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_is_written_as_the_rfc_says() {
        let hit = CacheStatus {
            ttl: Some(12),
            ..CacheStatus::default()
        };
        assert_eq!(hit.value("eu"), "eu; hit; ttl=12");
        let stale = CacheStatus {
            ttl: Some(-7),
            detail: Some("origin-timeout"),
            ..CacheStatus::default()
        };
        assert_eq!(stale.value("eu"), "eu; hit; ttl=-7; detail=origin-timeout");
        let miss = CacheStatus {
            forward: Some(Forward::UriMiss),
            stored: true,
            collapsed: true,
            ..CacheStatus::default()
        };
        assert_eq!(miss.value("eu"), "eu; fwd=uri-miss; stored; collapsed");
        let confirmed = CacheStatus {
            forward: Some(Forward::Stale),
            forward_status: Some(304),
            ..CacheStatus::default()
        };
        assert_eq!(confirmed.value("eu"), "eu; fwd=stale; fwd-status=304");
    }

    #[test]
    fn a_name_that_is_no_token_is_quoted() {
        assert_eq!(cache_name("eu-1"), "eu-1");
        assert_eq!(cache_name("1 \"eu\"\n"), "\"1 eu\"");
        assert_eq!(cache_name(""), "\"\"");
    }
}
