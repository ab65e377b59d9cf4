//! Where a redirect leads, and whether it is followed. Pure.
//!
//! As the go command: at most so many in a row (ten, unless configured), never from https to http.
//! One that leads to where the request has been is refused at once. A name and password in the new
//! URL are left out: who redirects doesn't say what we show to others.

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use reqwest::Url;

/// Why a redirect isn't followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Astray {
    #[error("more than {0} redirects in a row")]
    TooMany(usize),
    #[error("a redirect from https to http")]
    Insecure,
    #[error("a redirect to where it came from")]
    Loop,
    #[error("a redirect without a usable Location")]
    Nowhere,
}

/// Whether an answer sends the request elsewhere (RFC 9110 §15.4).
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The URL to ask next, after those of `asked`, of which the last one was redirected.
pub(crate) fn next(headers: &HeaderMap, asked: &[Url], most: usize) -> Result<Url, Astray> {
    let from = asked.last().ok_or(Astray::Nowhere)?;
    let location = headers.get(LOCATION).ok_or(Astray::Nowhere)?;
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| Astray::Nowhere)?;
    let mut next = from.join(location).map_err(|_| Astray::Nowhere)?;
    if !matches!(next.scheme(), "http" | "https") || !next.has_host() {
        return Err(Astray::Nowhere);
    }
    next.set_fragment(None);
    // Neither fails for a URL with a host.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    if from.scheme() == "https" && next.scheme() == "http" {
        return Err(Astray::Insecure);
    }
    if asked.contains(&next) {
        return Err(Astray::Loop);
    }
    if asked.len() > most {
        return Err(Astray::TooMany(most));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(location: &str, asked: &[&str]) -> Result<String, Astray> {
        let asked: Vec<Url> = asked.iter().map(|url| url.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        next(&headers, &asked, 10).map(String::from)
    }

    #[test]
    fn a_location_is_taken_relative_to_where_it_was_said() {
        let from = "https://a.example/x/y";
        for (location, expected) in [
            ("/z", "https://a.example/z"),
            ("z?sig=1#part", "https://a.example/x/z?sig=1"),
            ("//b.example/z", "https://b.example/z"),
            ("https://me:pw@b.example/z", "https://b.example/z"),
        ] {
            assert_eq!(to(location, &[from]).as_deref(), Ok(expected), "{location}");
        }
        assert!(to("https://a.example/", &["http://a.example/"]).is_ok());
        let other = to("http://a.example/2", &["http://a.example/1"]);
        assert_eq!(other.as_deref(), Ok("http://a.example/2"));
    }

    #[test]
    fn what_leads_nowhere_or_astray_is_not_followed() {
        let from = "https://a.example/x";
        for (location, asked, expected) in [
            ("http://a.example/x", vec![from], Astray::Insecure),
            ("//a.example/x", vec![from], Astray::Loop),
            ("#part", vec![from], Astray::Loop),
            ("/1", vec!["https://a.example/1", from], Astray::Loop),
            ("file:///etc/passwd", vec![from], Astray::Nowhere),
            ("gopher://a.example/", vec![from], Astray::Nowhere),
            ("https://", vec![from], Astray::Nowhere),
            ("/2", vec![from; 11], Astray::TooMany(10)),
        ] {
            assert_eq!(to(location, &asked), Err(expected), "{location}");
        }
        assert!(to("/2", &[from; 10]).is_ok());
        let none = next(&HeaderMap::new(), &[from.parse().unwrap()], 10);
        assert_eq!(none, Err(Astray::Nowhere));
    }

    proptest! {
        #[test]
        fn whatever_is_followed_is_http_and_carries_no_secret(location in "[ -~]{0,40}") {
            let Ok(value) = location.parse() else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, value);
            let from: Url = "https://me:pw@a.example/x".parse().unwrap();
            if let Ok(next) = next(&headers, std::slice::from_ref(&from), 10) {
                prop_assert_eq!(next.scheme(), "https");
                prop_assert!(next.username().is_empty() && next.password().is_none());
                prop_assert!(next != from && next.fragment().is_none());
            }
        }
    }
}
