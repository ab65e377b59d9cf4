//! Where a PoP's health is asked.

use std::net::{IpAddr, SocketAddr};

use http::Uri;
use http::uri::Scheme;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

/// Where a PoP's health is asked: `http[s]://HOST[:PORT]/PATH`.
///
/// An IP address as host is the one that is connected to. A name is never looked up, since a DNS
/// server that needs DNS to know its PoPs is a server less: each of the PoP's own addresses is
/// connected to, and the name stands in `Host` and, over TLS, in the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HealthUrl {
    uri: Uri,
    host: String,
    port: u16,
    server: Option<ServerName<'static>>,
}

/// A text that is no health URL.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a health URL: write http://HOST:PORT/PATH or https://HOST:PORT/PATH, where HOST \
     is an IP address, or a name that each of the pop's addresses is asked by"
)]
pub struct HealthUrlError(String);

impl HealthUrl {
    /// Where to connect for a PoP of these addresses.
    #[must_use]
    pub fn targets(&self, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        match self.host.parse() {
            Ok(address) => vec![SocketAddr::new(address, self.port)],
            Err(_) => (addresses.iter())
                .map(|address| SocketAddr::new(*address, self.port))
                .collect(),
        }
    }

    /// What stands in `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.uri
            .authority()
            .map_or("", http::uri::Authority::as_str)
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// Over TLS: whose certificate the server must have.
    #[must_use]
    pub fn server(&self) -> Option<&ServerName<'static>> {
        self.server.as_ref()
    }
}

impl TryFrom<String> for HealthUrl {
    type Error = HealthUrlError;

    fn try_from(text: String) -> Result<Self, HealthUrlError> {
        let parsed = || {
            let uri: Uri = text.parse().ok()?;
            // Credentials have no place here, and would show in logs.
            let plain = !uri.authority()?.as_str().contains('@');
            let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
            let (host, name) = (host.to_owned(), ServerName::try_from(host).ok()?.to_owned());
            let (server, port) = match uri.scheme()? {
                scheme if *scheme == Scheme::HTTP => (None, 80),
                scheme if *scheme == Scheme::HTTPS => (Some(name), 443),
                _ => return None,
            };
            let port = uri.port_u16().unwrap_or(port);
            plain.then_some(Self {
                uri,
                host,
                port,
                server,
            })
        };
        parsed().ok_or(HealthUrlError(text))
    }
}

impl From<HealthUrl> for String {
    fn from(url: HealthUrl) -> Self {
        url.uri.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(url: &str) -> Vec<String> {
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let url = HealthUrl::try_from(url.to_owned()).unwrap();
        let targets = url.targets(&addresses);
        targets.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn an_address_is_asked_itself_and_a_name_stands_for_the_pops_addresses() {
        assert_eq!(targets("http://127.0.0.1/"), ["127.0.0.1:80"]);
        assert_eq!(targets("https://[::1]:8443/x"), ["[::1]:8443"]);
        let both = ["192.0.2.1:443", "[2001:db8::1]:443"];
        assert_eq!(targets("https://eu.example/-/healthz"), both);
    }

    #[test]
    fn only_https_has_a_server_to_be_proven() {
        let read = |url: &str| HealthUrl::try_from(url.to_owned()).unwrap();
        assert_eq!(read("http://eu.example/").server(), None);
        let https = read("https://eu.example:8443/-/healthz?x");
        assert_eq!(https.server().unwrap().to_str(), "eu.example");
        assert_eq!(https.authority(), "eu.example:8443");
        assert_eq!(https.path(), "/-/healthz?x");
        assert_eq!(String::from(https), "https://eu.example:8443/-/healthz?x");
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "127.0.0.1:80",
            "/",
            "",
            "http://",
            "ftp://127.0.0.1/",
            "http://user:secret@127.0.0.1/",
            "http://-.-/",
        ] {
            assert!(HealthUrl::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
