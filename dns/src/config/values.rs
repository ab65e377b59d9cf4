//! Values with a form of their own: parsed once, here.

use std::fmt;
use std::net::SocketAddr;

use hickory_proto::rr::Name;
use http::Uri;
use http::uri::Scheme;
use serde::{Deserialize, Serialize};

/// An absolute domain name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Name);

/// A text that is no absolute domain name.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// It doesn't end in a dot.
    #[error("{0:?} is not absolute: write {0}. with a dot at its end")]
    Relative(String),
    /// It isn't a name.
    #[error("{0:?} is not a domain name: {1}")]
    Malformed(String, hickory_proto::ProtoError),
}

impl Domain {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0
    }
}

impl std::str::FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if !text.ends_with('.') {
            return Err(DomainError::Relative(text.to_owned()));
        }
        Name::from_ascii(text)
            .map(Self)
            .map_err(|error| DomainError::Malformed(text.to_owned(), error))
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;

    fn try_from(text: String) -> Result<Self, DomainError> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0.to_ascii()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_ascii())
    }
}

/// Where a PoP's health is asked: `http://ADDRESS[:PORT]/PATH`.
///
/// An address, not a name: a DNS server that needs DNS to know its PoPs is a server less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HealthUrl {
    uri: Uri,
    address: SocketAddr,
}

/// A text that is no health URL.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a health URL: write http://ADDRESS:PORT/PATH with an IP address")]
pub struct HealthUrlError(String);

impl HealthUrl {
    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    }
}

impl TryFrom<String> for HealthUrl {
    type Error = HealthUrlError;

    fn try_from(text: String) -> Result<Self, HealthUrlError> {
        let parsed = || {
            let uri: Uri = text.parse().ok()?;
            let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
            let address = SocketAddr::new(host.parse().ok()?, uri.port_u16().unwrap_or(80));
            (uri.scheme() == Some(&Scheme::HTTP)).then_some((uri, address))
        };
        match parsed() {
            Some((uri, address)) => Ok(Self { uri, address }),
            None => Err(HealthUrlError(text)),
        }
    }
}

impl From<HealthUrl> for String {
    fn from(url: HealthUrl) -> Self {
        url.uri.to_string()
    }
}
