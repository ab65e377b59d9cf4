//! The origin's addresses.
//!
//! An IP literal needs no look-up. A name is asked of the system's resolvers (`/etc/hosts`
//! first), TTLs are honoured by the resolver's cache, and the last good answer is kept: a DNS
//! that fails costs nothing as long as the origin stays where it was.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// Names looked up at once are few; this bounds the resolver's memory.
const CACHED_ANSWERS: u64 = 64;

/// Turns the origin's host into addresses.
pub(crate) struct Resolve {
    host: Host,
    port: u16,
}

enum Host {
    Literal(IpAddr),
    Name(Box<Name>),
}

struct Name {
    name: String,
    resolver: OnceCell<TokioResolver>,
    last_good: Mutex<Vec<IpAddr>>,
}

impl Resolve {
    /// For a host as it stands in a URL (an IPv6 literal in brackets) and its port.
    pub(crate) fn new(host: &str, port: u16) -> Resolve {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let host = match bare.parse::<IpAddr>() {
            Ok(ip) => Host::Literal(ip),
            Err(_) => Host::Name(Box::new(Name {
                name: bare.to_owned(),
                resolver: OnceCell::new(),
                last_good: Mutex::default(),
            })),
        };
        Resolve { host, port }
    }

    /// All addresses, in the order to be tried. Not bounded in time by itself.
    ///
    /// # Errors
    /// A text, if the name can't be resolved and never could.
    pub(crate) async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let ips = match &self.host {
            Host::Literal(ip) => vec![*ip],
            Host::Name(name) => name.addresses().await?,
        };
        Ok(ips
            .into_iter()
            .map(|ip| SocketAddr::new(ip, self.port))
            .collect())
    }
}

impl Name {
    async fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        let error = match self.look_up().await {
            Ok(ips) => {
                self.last_good.lock().clone_from(&ips);
                return Ok(ips);
            }
            Err(error) => error,
        };
        let (name, kept) = (&self.name, self.last_good.lock().clone());
        if kept.is_empty() {
            return Err(format!("cannot resolve {name}: {error}"));
        }
        tracing::warn!(
            name,
            error,
            "the origin's name was not resolved, last answer used"
        );
        Ok(kept)
    }

    /// At least one address.
    async fn look_up(&self) -> Result<Vec<IpAddr>, String> {
        let make = || async {
            let mut builder = TokioResolver::builder_tokio()?;
            builder.options_mut().cache_size = CACHED_ANSWERS;
            builder.build()
        };
        let resolver = self
            .resolver
            .get_or_try_init(make)
            .await
            .map_err(|error| error.to_string())?;
        let found = resolver.lookup_ip(self.name.as_str()).await;
        let ips: Vec<IpAddr> = found.map_err(|error| error.to_string())?.iter().collect();
        if ips.is_empty() {
            Err("no addresses".to_owned())
        } else {
            Ok(ips)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ip_literal_needs_no_resolver() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1:80"), ("[::1]", "[::1]:80")] {
            let found = Resolve::new(host, 80).addresses().await.unwrap();
            assert_eq!(found, [expected.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn the_hosts_file_is_asked() {
        let found = Resolve::new("localhost", 80).addresses().await.unwrap();
        assert!(
            found.iter().all(|address| address.ip().is_loopback()),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn the_last_good_answer_outlives_the_name() {
        let resolve = Resolve::new("no-such-name.invalid", 443);
        let Host::Name(name) = &resolve.host else {
            panic!("a name")
        };
        name.last_good.lock().push([192, 0, 2, 1].into());
        assert_eq!(
            resolve.addresses().await.unwrap(),
            ["192.0.2.1:443".parse().unwrap()]
        );
    }
}
