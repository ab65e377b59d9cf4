//! Rules over several keys, or that a key's type can't hold.

use std::collections::HashSet;
use std::net::IpAddr;

use modcdn_core::config::{Config as Checked, Problem};
use modcdn_core::units::Period;

use super::{Config, MAX_ADDRESSES, MAX_CONNECTIONS, MAX_RECEIVE_BUFFER, MAX_TTL, MAX_UDP_BATCH};

impl Checked for Config {
    fn check(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        self.check_addresses(&mut problems);
        self.check_zones(&mut problems);
        self.check_dnssec(&mut problems);
        self.rates.check(&mut problems);
        self.dynamic.check(&mut problems);
        self.check_pops(&mut problems);
        self.check_references(&mut problems);
        self.steering
            .check(|name| self.pop_index(name).is_some(), &mut problems);
        self.check_limits(&mut problems);
        self.checks.check(&mut problems);
        self.reports.check(&mut problems);
        self.state.check(&mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl Config {
    fn check_addresses(&self, problems: &mut Vec<Problem>) {
        if self.listen.is_empty() {
            problems.push(Problem::new("listen", "at least one address is needed"));
        }
        for address in self.listen.iter().filter(|a| a.ip().is_unspecified()) {
            let message = format!(
                "{address} stands for every address: name each, so that an answer leaves from \
                 the address that was asked"
            );
            problems.push(Problem::new("listen", message));
        }
    }

    fn check_pops(&self, problems: &mut Vec<Problem>) {
        let mut names = HashSet::new();
        for pop in &self.pops {
            let mut problem = |message: &str| {
                problems.push(Problem::new("pops", format!("{:?} {message}", pop.name)));
            };
            if !is_label(&pop.name) {
                problem("is not a name: use 1 to 63 of a-z, 0-9 and -");
            }
            if !names.insert(&pop.name) {
                problem("is there twice");
            }
            if pop.addresses.is_empty() {
                problem("has no address");
            }
            if pop.addresses.iter().any(IpAddr::is_unspecified) {
                problem("has an address that nobody can connect to");
            }
            if !(-90.0..=90.0).contains(&pop.latitude) {
                problem("has a latitude beyond -90 to 90");
            }
            if !(-180.0..=180.0).contains(&pop.longitude) {
                problem("has a longitude beyond -180 to 180");
            }
        }
        if self
            .pops
            .iter()
            .map(|pop| pop.addresses.len())
            .sum::<usize>()
            > MAX_ADDRESSES
        {
            let message = format!("more than {MAX_ADDRESSES} addresses don't fit into an answer");
            problems.push(Problem::new("pops", message));
        }
    }

    fn check_references(&self, problems: &mut Vec<Problem>) {
        for (prefix, pop) in &self.pins {
            if self.pop_index(pop).is_none() {
                problems.push(Problem::new(
                    "pins",
                    format!("{prefix}: no pop is named {pop:?}"),
                ));
            }
            if *prefix != prefix.trunc() {
                let message = format!("{prefix} has host bits set: write {}", prefix.trunc());
                problems.push(Problem::new("pins", message));
            }
        }
        for (asn, pop) in &self.asn_pins {
            if self.pop_index(pop).is_none() {
                let message = format!("AS{asn}: no pop is named {pop:?}");
                problems.push(Problem::new("asn_pins", message));
            }
        }
        if !self.asn_pins.is_empty() && self.geo.asn.is_none() {
            let message = "need a database of autonomous systems: set geo.asn";
            problems.push(Problem::new("asn_pins", message));
        }
        for (key, names) in [("order", &self.order), ("draining", &self.draining)] {
            for pop in names.iter().filter(|pop| self.pop_index(pop).is_none()) {
                problems.push(Problem::new(key, format!("no pop is named {pop:?}")));
            }
        }
    }

    fn check_limits(&self, problems: &mut Vec<Problem>) {
        let mut needs = |good: bool, key: &str, message: &str| {
            if !good {
                problems.push(Problem::new(key, message));
            }
        };
        let whole = |period: Period| period.as_secs() >= 1 && period.subsec_nanos() == 0;
        let ttl = |period: Period| whole(period) && period <= MAX_TTL;
        needs(
            ttl(self.ttl),
            "ttl",
            "must be whole seconds, from 1s to 1day",
        );
        needs(
            ttl(self.fixed_ttl),
            "fixed_ttl",
            "must be whole seconds, from 1s to 1day",
        );
        for zone in self.every_zone() {
            let negative = ttl(zone.soa.negative_ttl);
            let message = "must be whole seconds, from 1s to 1day";
            needs(negative, "soa.negative_ttl", message);
            let records = zone.records.iter();
            let ttls = records.filter_map(|record| record.ttl).all(ttl);
            needs(ttls, "records.ttl", message);
        }
        let message = "must be whole seconds, from 1s to 1day";
        needs(ttl(self.dynamic.ttl), "dynamic.ttl", message);
        needs(
            (512..=4096).contains(&self.udp.payload),
            "udp.payload",
            "must be from 512 to 4096 bytes",
        );
        needs(
            self.udp.sockets <= 256,
            "udp.sockets",
            "must be at most 256",
        );
        needs(
            self.udp.receive_buffer <= MAX_RECEIVE_BUFFER,
            "udp.receive_buffer",
            "must be at most 1GiB",
        );
        needs(
            (1..=MAX_UDP_BATCH).contains(&self.udp.batch),
            "udp.batch",
            "must be from 1 to 1024",
        );
        needs(
            (1..=MAX_CONNECTIONS).contains(&self.tcp.connections),
            "tcp.connections",
            "must be from 1 to 1000000",
        );
        needs(
            self.tcp.per_client > 0,
            "tcp.per_client",
            "must be above zero",
        );
        for (key, period) in [("tcp.idle", self.tcp.idle), ("tcp.stall", self.tcp.stall)] {
            needs(!period.is_zero(), key, "must be above zero");
        }
    }
}

fn is_label(text: &str) -> bool {
    let good = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=63).contains(&text.len()) && text.as_bytes().iter().all(good)
}
