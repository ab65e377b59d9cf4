//! What operators see: metrics and access logs.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::http::Client;
use super::modules::Modules;
use super::node::Node;
use super::until_true;

/// One scrape of a role's admin listener.
pub struct Metrics(String);

impl Metrics {
    /// Reads `/metrics` at `admin` (`ADDRESS:PORT`).
    pub fn scrape(admin: &str) -> Metrics {
        Metrics(
            Client::h1(&format!("http://{admin}"))
                .get("/metrics")
                .ok()
                .text(),
        )
    }

    /// The sum of a metric's series that have all of these labels; 0 if there is none yet.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).into_iter().sum()
    }

    /// The value, for a metric that must exist.
    pub fn expect(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let series = self.series(name, labels);
        assert!(!series.is_empty(), "no {name}{labels:?} in\n{}", self.0);
        series.into_iter().sum()
    }

    fn series(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let wanted = |line: &&str| {
            let Some(rest) = line.strip_prefix(name) else {
                return false;
            };
            matches!(rest.chars().next(), Some('{' | ' '))
                && labels.iter().all(|(label, value)| {
                    rest.contains(&format!("{{{label}=\"{value}\""))
                        || rest.contains(&format!(",{label}=\"{value}\""))
                })
        };
        let lines = self.0.lines().filter(wanted);
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
            .collect()
    }
}

/// One line of an access log.
#[derive(Debug, Clone)]
pub struct Access(Value);

impl Access {
    /// A field as text; numbers printed, empty if there is none.
    pub fn field(&self, name: &str) -> String {
        match &self.0[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// A field as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.0[name].as_u64()
    }
}

/// The access log in `file`: its JSON lines that have a path and a status. Other lines (a node's
/// own log may go to the same file) are passed over.
pub fn access_log(file: &Path) -> Vec<Access> {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["path"].is_string() && line["status"].is_number())
        .map(Access)
        .collect()
}

/// Those for one path, however it was percent-encoded.
pub fn accesses(file: &Path, path: &str) -> Vec<Access> {
    let mut lines = access_log(file);
    lines.retain(|line| line.field("path").replace("%21", "!") == path);
    lines
}

/// Waits until an origin fetches nothing, and everything it answered is in its store.
pub fn at_rest(origin: &Node) {
    until_true("the origin to be at rest", || {
        Metrics::scrape(origin.admin()).value("modcdn_origin_fetches", &[]) == 0.0
    });
}

/// How an edge's next answer for one of the real modules' files came about, as it says.
pub fn cache_status(edge: &Node, path: &str) -> String {
    let answer = Client::h1(edge.url()).get(path).ok();
    assert!(answer.body == Modules::fetch().read(path), "other bytes");
    answer.header("cache-status").to_owned()
}

/// Waits until an edge answers it from its store.
pub fn is_stored(edge: &Node, path: &str) {
    until_true(&format!("{path} to be a hit"), || {
        cache_status(edge, path).contains("; hit")
    });
}
