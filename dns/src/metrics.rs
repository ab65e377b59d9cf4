//! Every metric of the role: name, unit and help side by side.

use modcdn_core::telemetry::register;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::respond::{Limited, Note, SubnetUse, Transport};
use crate::tcp::Cut;

/// These counters, those of these values of their label begun at zero: who alarms on a rise sees the
/// first one too.
pub(crate) fn begun(counters: IntCounterVec, values: &[impl AsRef<str>]) -> IntCounterVec {
    for value in values {
        let _ = counters.with_label_values(&[value.as_ref()]);
    }
    counters
}

/// The metrics of one DNS server.
#[derive(Clone)]
pub struct Metrics {
    queries: IntCounterVec,
    answers: IntCounterVec,
    client_subnets: IntCounterVec,
    cookies: IntCounterVec,
    limited: IntCounterVec,
    truncated: IntCounter,
    /// Messages that got no answer: responses, and too short to be queries.
    pub ignored: IntCounter,
    /// Answers that could not be sent.
    pub send_errors: IntCounter,
    /// Panics while answering, caught.
    pub panics: IntCounter,
    /// TCP connections open.
    pub tcp_connections: IntGauge,
    tcp_cut: IntCounterVec,
}

impl Metrics {
    /// Registers them all.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        Self {
            queries: counters(
                "modcdn_dns_queries_total",
                "Queries answered",
                &["transport", "type", "rcode"],
            ),
            answers: counters(
                "modcdn_dns_answers_total",
                "Tailored answers, by the PoP answered",
                &["pop"],
            ),
            client_subnets: counters(
                "modcdn_dns_client_subnets_total",
                "Queries answered, by what came of their client subnet",
                &["state"],
            ),
            cookies: counters(
                "modcdn_dns_cookies_total",
                "Queries answered, by what their cookie was worth",
                &["state"],
            ),
            limited: begun(
                counters(
                    "modcdn_dns_limited_total",
                    "Answers over the rate of their asker's network, by what became of them",
                    &["action"],
                ),
                &Limited::ALL.map(Limited::name),
            ),
            truncated: counter("modcdn_dns_truncated_total", "Answers cut, with TC set"),
            ignored: counter("modcdn_dns_ignored_total", "Messages that got no answer"),
            send_errors: counter("modcdn_dns_send_errors_total", "Answers not sent"),
            panics: counter("modcdn_dns_panics_total", "Panics while answering, caught"),
            tcp_connections: gauge("modcdn_dns_tcp_connections", "TCP connections open"),
            tcp_cut: begun(
                counters(
                    "modcdn_dns_tcp_cut_total",
                    "TCP connections not taken or cut off, by why",
                    &["reason"],
                ),
                &Cut::ALL.map(|cut| cut.to_string()),
            ),
        }
    }

    /// Counts one answer; `picked` names the PoPs of a tailored one.
    pub fn answered(&self, transport: Transport, note: &Note, picked: Option<&str>) {
        let kind = note
            .question
            .as_ref()
            .map_or("none", |q| type_label(q.kind.into()));
        let labels = [transport.name(), kind, code_label(note.code.into())];
        self.queries.with_label_values(&labels).inc();
        self.client_subnets
            .with_label_values(&[note.subnet_use.name()])
            .inc();
        if let Some(pop) = picked {
            self.answers.with_label_values(&[pop]).inc();
        }
        self.cookies.with_label_values(&[note.cookie.name()]).inc();
        if let Some(limited) = note.limited {
            self.limited.with_label_values(&[limited.name()]).inc();
        }
        if note.truncated {
            self.truncated.inc();
        }
    }

    /// The counters of answers like this one, looked up once for many.
    #[must_use]
    pub fn counters(&self, note: &Note, picked: &str) -> Counters {
        let kind = note
            .question
            .as_ref()
            .map_or("none", |q| type_label(q.kind.into()));
        let code = code_label(note.code.into());
        let queries = |transport: Transport| {
            let labels = [transport.name(), kind, code];
            self.queries.with_label_values(&labels)
        };
        let subnets = SubnetUse::COUNTED
            .map(|subnet_use| self.client_subnets.with_label_values(&[subnet_use.name()]));
        Counters {
            udp: queries(Transport::Udp),
            tcp: queries(Transport::Tcp),
            subnets,
            pop: self.answers.with_label_values(&[picked]),
        }
    }

    /// Counts a TCP connection that wasn't taken or was cut off.
    pub fn tcp_cut(&self, reason: &str) {
        self.tcp_cut.with_label_values(&[reason]).inc();
    }
}

/// The counters of tailored answers that are alike but for their client subnets and transports.
#[derive(Clone, Debug)]
pub struct Counters {
    udp: IntCounter,
    tcp: IntCounter,
    subnets: [IntCounter; SubnetUse::COUNTED.len()],
    pop: IntCounter,
}

impl Counters {
    /// Adds answers, as many of each [`SubnetUse::COUNTED`] as is said.
    pub fn add(&self, transport: Transport, answers: [u64; SubnetUse::COUNTED.len()]) {
        let all = answers.iter().sum();
        match transport {
            Transport::Udp => self.udp.inc_by(all),
            Transport::Tcp => self.tcp.inc_by(all),
        }
        self.pop.inc_by(all);
        for (counter, count) in self.subnets.iter().zip(answers) {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }
}

/// A type's name; all that nobody asks for in earnest share one, so that labels stay few.
#[must_use]
pub fn type_label(kind: u16) -> &'static str {
    match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        43 => "DS",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        257 => "CAA",
        _ => "other",
    }
}

/// A response code's mnemonic.
#[must_use]
pub fn code_label(code: u16) -> &'static str {
    match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// All files below a folder, one after the other.
    fn texts(folder: &Path) -> String {
        let entries = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let text = |path: &Path| {
            if path.is_dir() {
                texts(path)
            } else {
                fs::read_to_string(path).unwrap_or_default()
            }
        };
        entries.map(|path| text(&path)).collect()
    }

    #[test]
    fn what_is_alarmed_on_begins_at_zero() {
        let registry = prometheus::Registry::new();
        let _metrics = super::Metrics::new(&registry);
        let families = registry.gather();
        for (name, series) in [("limited", 3), ("tcp_cut", 6)] {
            let name = format!("modcdn_dns_{name}_total");
            let family = families.iter().find(|family| family.name() == name);
            let metrics = family.unwrap().get_metric();
            assert_eq!(metrics.len(), series, "{name}");
            let zero = |metric: &prometheus::proto::Metric| metric.get_counter().get_value() == 0.0;
            assert!(metrics.iter().all(zero), "{name}");
        }
    }

    #[test]
    fn what_the_runbooks_alarm_on_is_measured() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = texts(&package.join("src"));
        let docs = texts(&package.join("../docs"));
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        let names = docs.split(|c: char| !is_part(c));
        let ours: Vec<_> = names
            .filter(|name| name.starts_with("modcdn_dns_"))
            .collect();
        assert!(ours.len() > 20);
        for name in ours {
            assert!(sources.contains(&format!("\"{name}\"")), "no metric {name}");
        }
    }
}
