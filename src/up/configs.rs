//! Plan → the nodes' configuration files.
//!
//! They are made from the roles' own typed configurations, so a renamed key is a compile error and
//! not a node that refuses to start.

use std::io;
use std::net::SocketAddr;

use modcdn_core::durable;
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::{ByteSize, Period};
use modcdn_dns::config::Pop;
use modcdn_origin::UpstreamChain;
use modcdn_origin::config::{Mount, SumDb};
use serde::Serialize;

use crate::failure::Failure;
use crate::up::ca::Leaf;
use crate::up::folders::Folders;
use crate::up::plan::{Duty, Node, PINNED, Plan, ZONE};
use crate::up::regions::Region;

/// What a node finishes when it is told to stop has this long; below `child::GRACE`.
const SHUTDOWN: Period = Period::secs(5);

/// RAM for bodies in each edge: there are several on this machine, which has other work, too.
const EDGE_RAM: ByteSize = ByteSize::mib(256);

/// A dead edge leaves DNS within about two of these.
const HEALTH_INTERVAL: Period = Period::secs(1);

/// Where edges say that they are well.
const HEALTH_PATH: &str = "/-/healthz";

/// What configurations are made from.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// The network.
    pub(crate) plan: &'a Plan,
    /// Where everything is.
    pub(crate) folders: &'a Folders,
    /// Where modules come from.
    pub(crate) upstream: &'a UpstreamChain,
    /// Who vouches for them.
    pub(crate) sumdb: &'a SumDb,
}

impl Source<'_> {
    /// Writes a node's configuration to its place. `leaf` is an edge's certificate.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(&self, node: &Node, leaf: Option<&Leaf>) -> Result<(), Failure> {
        let path = self.folders.config(node.name);
        let text = match &node.duty {
            Duty::Edge { http, https, .. } => yaml(&self.edge(node, *http, https.as_slice(), leaf)),
            Duty::Origin { http } => yaml(&self.origin(node, *http)),
            Duty::Dns { listen } => self.dns(node, *listen).and_then(|config| yaml(&config)),
        };
        text.and_then(|text| durable::write(&path, text.as_bytes()))
            .map_err(|error| Failure::doing(format_args!("writing {}", path.display()), error))
    }

    fn edge(
        &self,
        node: &Node,
        http: SocketAddr,
        https: &[SocketAddr],
        leaf: Option<&Leaf>,
    ) -> modcdn_edge::Config {
        let mut config = modcdn_edge::Config {
            name: node.name.to_owned(),
            listen: vec![http],
            admin: node.admin,
            access_log: self.access_log(node),
            ..Default::default()
        };
        if let Some(leaf) = leaf {
            config.tls.listen = https.to_vec();
            config.tls.certificate = Some(leaf.certificate.clone());
            config.tls.key = Some(leaf.key.clone());
        }
        if let Some(origin) = self.plan.origin() {
            config.origin.url = format!("http://{origin}");
        }
        config.store.dir = self.folders.edge(node.name);
        config.store.ram = EDGE_RAM;
        config.purge.token_file = Some(self.folders.purge_token());
        config.origin.token_file = Some(self.folders.edge_token());
        config.timeouts.shutdown = SHUTDOWN;
        // A process that we did not start would outlive us.
        config.upgrade.enabled = false;
        config
    }

    fn origin(&self, node: &Node, http: SocketAddr) -> modcdn_origin::Config {
        let mut config = modcdn_origin::Config {
            name: node.name.to_owned(),
            listen: vec![http],
            admin: node.admin,
            access_log: self.access_log(node),
            mounts: vec![Mount {
                sumdb: self.sumdb.clone(),
                ..Mount::at_root(self.upstream.clone())
            }],
            ..Default::default()
        };
        config.store.dir = self.folders.origin();
        config.purges.token_file = Some(self.folders.purge_token());
        config.purges.edges = Some(self.folders.edge_token());
        config.timeouts.shutdown = SHUTDOWN;
        config
    }

    fn dns(&self, node: &Node, listen: SocketAddr) -> io::Result<modcdn_dns::Config> {
        let mut config = modcdn_dns::Config {
            name: node.name.to_owned(),
            listen: vec![listen],
            admin: node.admin,
            access_log: self.access_log(node),
            zone: ZONE.parse().map_err(io::Error::other)?,
            grace: SHUTDOWN,
            ..Default::default()
        };
        config.checks.interval = HEALTH_INTERVAL;
        config.state.dir = Some(self.folders.dns_state());
        config.dynamic.file = Some(self.folders.dns_records());
        config.dynamic.token_file = Some(self.folders.purge_token());
        for (region, http) in self.plan.edges() {
            config.order.push(region.name.to_owned());
            config.pops.push(pop(region, http)?);
        }
        for ((region, _), prefix) in self.plan.edges().zip(PINNED) {
            let prefix = prefix.parse().map_err(io::Error::other)?;
            config.pins.insert(prefix, region.name.to_owned());
        }
        Ok(config)
    }

    fn access_log(&self, node: &Node) -> AccessTarget {
        AccessTarget::File(self.folders.access_log(node.name))
    }
}

fn pop(region: Region, http: SocketAddr) -> io::Result<Pop> {
    let health = format!("http://{http}{HEALTH_PATH}");
    Ok(Pop {
        name: region.name.to_owned(),
        addresses: vec![http.ip()],
        latitude: region.latitude,
        longitude: region.longitude,
        health: Some(health.try_into().map_err(io::Error::other)?),
    })
}

fn yaml(config: &impl Serialize) -> io::Result<String> {
    serde_yaml::to_string(config).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use modcdn_core::config::{Config, load};

    use super::*;
    use crate::up::plan::Wish;

    /// Writes every node's configuration and hands `check` the folders to read them from.
    fn written(tls: bool, check: impl FnOnce(&Folders)) {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::open(dir.path()).unwrap();
        let mut wish = Wish::of(&["eu", "us", "ap", "jp"]);
        wish.tls = tls;
        let plan = Plan::new(&wish).unwrap();
        let source = Source {
            plan: &plan,
            folders: &folders,
            upstream: &"https://u:secret@goproxy.cn/,off".parse().unwrap(),
            sumdb: &SumDb::off(),
        };
        let leaf = Leaf {
            certificate: "/c.pem".into(),
            key: "/k.pem".into(),
        };
        for node in &plan.nodes {
            source.write(node, tls.then_some(&leaf)).unwrap();
        }
        check(&folders);
    }

    fn read<C: Config>(folders: &Folders, name: &str) -> C {
        load(&folders.config(name)).unwrap()
    }

    #[test]
    fn an_edge_asks_the_origin_and_has_a_store_of_its_own() {
        written(false, |folders| {
            let us: modcdn_edge::Config = read(folders, "us");
            assert_eq!(us.name, "us");
            assert_eq!(us.listen, ["127.0.0.12:8080".parse().unwrap()]);
            assert_eq!(us.admin, "127.0.0.12:9080".parse().unwrap());
            assert_eq!(us.origin.url, "http://127.0.0.10:8080");
            assert_eq!(us.store.dir, folders.edge("us"));
            assert!(us.tls.listen.is_empty());
            assert_eq!(us.purge.token_file, Some(folders.purge_token()));
            assert!(!us.upgrade.enabled);
            let log = folders.access_log("us");
            assert_eq!(us.access_log, AccessTarget::File(log));
        });
    }

    #[test]
    fn with_tls_an_edge_listens_twice() {
        written(true, |folders| {
            let eu: modcdn_edge::Config = read(folders, "eu");
            assert_eq!(eu.listen, ["127.0.0.11:8080".parse().unwrap()]);
            assert_eq!(eu.tls.listen, ["127.0.0.11:8443".parse().unwrap()]);
            assert_eq!(eu.tls.key, Some("/k.pem".into()));
        });
    }

    #[test]
    fn the_origin_gets_the_upstream_with_its_password() {
        written(false, |folders| {
            let origin: modcdn_origin::Config = read(folders, "origin");
            let upstream = String::from(origin.mounts[0].upstream.clone());
            assert_eq!(upstream, "https://u:secret@goproxy.cn/,off");
            assert_eq!(origin.mounts[0].sumdb, SumDb::off());
            assert_eq!(origin.store.dir, folders.origin());
            let us: modcdn_edge::Config = read(folders, "us");
            assert_eq!(origin.purges.edges, us.origin.token_file);
        });
    }

    #[test]
    fn dns_knows_every_edge_and_pins_the_first_three() {
        written(false, |folders| {
            let dns: modcdn_dns::Config = read(folders, "dns");
            let names: Vec<_> = dns.pops.iter().map(|pop| pop.name.as_str()).collect();
            assert_eq!(names, ["eu", "us", "ap", "jp"]);
            assert_eq!(dns.state.dir, Some(folders.dns_state()));
            let health = dns.pops[1].health.clone().map(String::from);
            assert_eq!(health.as_deref(), Some("http://127.0.0.12:8080/-/healthz"));
            let pins: Vec<_> = dns
                .pins
                .iter()
                .map(|(net, pop)| format!("{net} {pop}"))
                .collect();
            assert_eq!(
                pins,
                ["192.0.2.0/24 eu", "198.51.100.0/24 us", "203.0.113.0/24 ap"]
            );
        });
    }
}
