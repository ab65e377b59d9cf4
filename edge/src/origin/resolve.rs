//! Look-ups of the origin's name.
//!
//! An IP literal needs none. A name is asked of the configured resolvers, or else of the system's
//! (`/etc/hosts` first), for both families.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::OnceCell;

/// Names looked up at once are few; this bounds the resolver's memory.
const CACHED_ANSWERS: u64 = 64;

/// An answer about something that isn't there is asked for again after at most this.
const NEGATIVE: Duration = Duration::from_secs(1);

/// A literal's answer holds for so long.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

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
    /// Empty: the system's.
    servers: Vec<SocketAddr>,
    resolver: OnceCell<TokioResolver>,
}

/// What a look-up found.
#[derive(Debug)]
pub(crate) struct Found {
    /// At least one.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The end of the shortest time to live.
    pub(crate) until: Instant,
}

impl Resolve {
    /// For a host as it stands in a URL (an IPv6 literal in brackets) and its port. `servers` are
    /// asked, or the system's if there are none.
    pub(crate) fn new(host: &str, port: u16, servers: &[SocketAddr]) -> Resolve {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let host = match bare.parse::<IpAddr>() {
            Ok(ip) => Host::Literal(ip),
            Err(_) => Host::Name(Box::new(Name {
                name: bare.to_owned(),
                servers: servers.to_vec(),
                resolver: OnceCell::new(),
            })),
        };
        Resolve { host, port }
    }

    /// All addresses. Not bounded in time by itself.
    ///
    /// # Errors
    /// A text, if the name can't be resolved.
    pub(crate) async fn addresses(&self) -> Result<Found, String> {
        let (ips, until) = match &self.host {
            Host::Literal(ip) => (vec![*ip], Instant::now() + A_DAY),
            Host::Name(name) => name
                .look_up()
                .await
                .map_err(|error| format!("cannot resolve {}: {error}", name.name))?,
        };
        let address = |ip| SocketAddr::new(ip, self.port);
        Ok(Found {
            addresses: ips.into_iter().map(address).collect(),
            until,
        })
    }
}

impl Name {
    /// At least one address.
    async fn look_up(&self) -> Result<(Vec<IpAddr>, Instant), String> {
        let resolver = self
            .resolver
            .get_or_try_init(|| async { self.resolver() })
            .await?;
        let found = resolver.lookup_ip(self.name.as_str()).await;
        let found = found.map_err(|error| error.to_string())?;
        let ips: Vec<IpAddr> = found.iter().collect();
        if ips.is_empty() {
            return Err("no addresses".to_owned());
        }
        Ok((ips, found.valid_until()))
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| error.to_string())?
        } else {
            let servers = self.servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = CACHED_ANSWERS;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.negative_max_ttl = Some(NEGATIVE);
        builder.build().map_err(|error| error.to_string())
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ip_literal_needs_no_resolver() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1:80"), ("[::1]", "[::1]:80")] {
            let found = Resolve::new(host, 80, &[]).addresses().await.unwrap();
            assert_eq!(found.addresses, [expected.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn the_hosts_file_is_asked() {
        let found = Resolve::new("localhost", 80, &[])
            .addresses()
            .await
            .unwrap();
        let loopback = |address: &SocketAddr| address.ip().is_loopback();
        assert!(found.addresses.iter().all(loopback), "{found:?}");
    }
}
