//! One report as JSON: `{"pop":"eu","at":1764102000,"state":"up","load":0.42,…}`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use serde::Deserialize;

/// A report holds at most this many views.
pub const MAX_VIEWS: usize = 1024;

/// A report holds at most this many samples.
pub const MAX_SAMPLES: usize = 4096;

/// A report names at most this many versions.
pub const MAX_VERSIONS: usize = 16;

/// Names, and the texts of versions, are no longer than this, in bytes.
pub const MAX_TEXT: usize = 64;

/// A round trip is no longer than this, in milliseconds; what is longer was no handshake.
pub const MAX_MS: f64 = 10_000.0;

/// Client subnets are no finer than these (RFC 7871 §11.1): nor are prefixes of samples.
const FINEST: (u8, u8) = (24, 56);

/// Who says something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sender {
    /// A PoP, by its name in the configuration.
    Pop(String),
    /// Another DNS node, by its name.
    Node(String),
}

impl Sender {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Pop(name) | Self::Node(name) => name,
        }
    }
}

/// What a PoP says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfReport {
    /// Whether it wants no more clients.
    pub draining: bool,
    /// Part of its capacity in use, from 0; above 1 it has more to do than it can.
    pub load: Option<f64>,
    /// What it can do, in a unit that all PoPs share (requests a second, say).
    pub capacity: Option<f64>,
    /// Versions of what runs there, by name.
    pub versions: BTreeMap<String, String>,
}

/// What a sender sees of a PoP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// The PoP.
    pub pop: String,
    /// Whether it answered.
    pub up: bool,
}

/// Round trips of one prefix's clients to one PoP.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The clients, /24 or /56 at the finest.
    pub prefix: IpNet,
    /// The PoP; the sender, if it is left out.
    #[serde(default)]
    pub pop: Option<String>,
    /// Median in milliseconds.
    pub ms: f64,
    /// So many round trips.
    pub n: u32,
}

/// One report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose it is.
    pub sender: Sender,
    /// When it was made; none: when it came.
    pub at: Option<SystemTime>,
    /// What a PoP says of itself.
    pub itself: Option<SelfReport>,
    /// What the sender sees.
    pub views: Vec<View>,
    /// Round trips.
    pub samples: Vec<Sample>,
}

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// Not JSON of that form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A value that makes no sense.
    #[error("{0}")]
    Value(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    pop: Option<String>,
    node: Option<String>,
    at: Option<u64>,
    state: Option<RawState>,
    load: Option<f64>,
    capacity: Option<f64>,
    #[serde(default)]
    versions: BTreeMap<String, String>,
    #[serde(default)]
    views: Vec<View>,
    #[serde(default)]
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawState {
    Up,
    Draining,
}

impl Report {
    /// Reads one report.
    ///
    /// # Errors
    /// What is wrong with it, in words for who made it.
    pub fn parse(text: &[u8]) -> Result<Self, Wrong> {
        let raw: Raw = serde_json::from_slice(text)?;
        raw.check().map_err(Wrong::Value)
    }
}

impl Raw {
    fn check(self) -> Result<Report, String> {
        let itself = self.itself()?;
        let sender = match (self.pop, self.node) {
            (Some(pop), None) => Sender::Pop(named("pop", pop)?),
            (None, Some(node)) => Sender::Node(named("node", node)?),
            _ => return Err("say who reports: either \"pop\" or \"node\"".to_owned()),
        };
        if itself.is_some() && matches!(sender, Sender::Node(_)) {
            return Err("state, load, capacity and versions are for PoPs to report".to_owned());
        }
        few("views", self.views.len(), MAX_VIEWS)?;
        few("samples", self.samples.len(), MAX_SAMPLES)?;
        for sample in &self.samples {
            sample.check(&sender)?;
        }
        Ok(Report {
            sender,
            at: self.at.map(moment).transpose()?,
            itself,
            views: self.views,
            samples: self.samples,
        })
    }

    fn itself(&self) -> Result<Option<SelfReport>, String> {
        let Some(state) = self.state else {
            let more = self.load.is_some() || self.capacity.is_some() || !self.versions.is_empty();
            return if more {
                Err("load, capacity and versions need a \"state\" beside them".to_owned())
            } else {
                Ok(None)
            };
        };
        few("versions", self.versions.len(), MAX_VERSIONS)?;
        let mut texts = self.versions.iter().flat_map(|(name, text)| [name, text]);
        if let Some(long) = texts.find(|text| text.len() > MAX_TEXT) {
            return Err(format!(
                "versions: {long:?} is longer than {MAX_TEXT} bytes"
            ));
        }
        let positive = |value: f64| value.is_finite() && value >= 0.0;
        if !self.load.is_none_or(positive) {
            return Err("load must be a number from 0".to_owned());
        }
        if !self
            .capacity
            .is_none_or(|capacity| positive(capacity) && capacity > 0.0)
        {
            return Err("capacity must be a number above 0".to_owned());
        }
        Ok(Some(SelfReport {
            draining: state == RawState::Draining,
            load: self.load,
            capacity: self.capacity,
            versions: self.versions.clone(),
        }))
    }
}

impl Sample {
    fn check(&self, sender: &Sender) -> Result<(), String> {
        let Self { prefix, ms, n, .. } = self;
        let finest = match prefix {
            IpNet::V4(_) => FINEST.0,
            IpNet::V6(_) => FINEST.1,
        };
        if prefix.prefix_len() > finest {
            return Err(format!("samples: {prefix} is finer than /{finest}"));
        }
        if *prefix != prefix.trunc() {
            let right = prefix.trunc();
            return Err(format!(
                "samples: {prefix} has host bits set: write {right}"
            ));
        }
        if !(*ms > 0.0 && *ms <= MAX_MS) {
            return Err(format!(
                "samples: {prefix}: ms must be above 0, up to {MAX_MS}"
            ));
        }
        if *n == 0 {
            return Err(format!("samples: {prefix}: n must be above 0"));
        }
        if self.pop.is_none() && matches!(sender, Sender::Node(_)) {
            return Err(format!("samples: {prefix}: a node must name the pop"));
        }
        Ok(())
    }
}

fn named(key: &str, name: String) -> Result<String, String> {
    if (1..=MAX_TEXT).contains(&name.len()) {
        Ok(name)
    } else {
        Err(format!("{key} must be a name of 1 to {MAX_TEXT} bytes"))
    }
}

fn few(key: &str, count: usize, most: usize) -> Result<(), String> {
    if count <= most {
        Ok(())
    } else {
        Err(format!("{key}: {count} are too many, {most} are the most"))
    }
}

fn moment(seconds: u64) -> Result<SystemTime, String> {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    at.ok_or_else(|| "at must be seconds since 1970".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Report, String> {
        Report::parse(text.as_bytes()).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn a_whole_report_is_read() {
        let report = parse(
            r#"{"pop":"eu","at":1764102000,"state":"draining","load":0.5,"capacity":900,
                "versions":{"modcdn":"0.1.0"},
                "views":[{"pop":"us","up":false}],
                "samples":[{"prefix":"192.0.2.0/24","ms":12.5,"n":40},
                           {"prefix":"2001:db8::/56","pop":"us","ms":80,"n":1}]}"#,
        )
        .unwrap();
        assert_eq!(report.sender, Sender::Pop("eu".to_owned()));
        let since_1970 = report.at.unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(since_1970.as_secs(), 1_764_102_000);
        let itself = report.itself.unwrap();
        assert!(itself.draining);
        assert_eq!((itself.load, itself.capacity), (Some(0.5), Some(900.0)));
        assert_eq!(itself.versions["modcdn"], "0.1.0");
        assert!(!report.views[0].up);
        assert_eq!(report.samples[1].pop.as_deref(), Some("us"));
    }

    #[test]
    fn a_node_reports_what_it_sees_and_nothing_of_itself() {
        let report = parse(r#"{"node":"dns2","views":[{"pop":"eu","up":true}]}"#).unwrap();
        assert_eq!(report.sender, Sender::Node("dns2".to_owned()));
        assert_eq!((report.at, report.itself), (None, None));
        let wrong = parse(r#"{"node":"dns2","state":"up"}"#).unwrap_err();
        assert!(wrong.contains("for PoPs"), "{wrong}");
    }

    #[test]
    fn every_mistake_is_named() {
        let sample = |sample: &str| format!(r#"{{"pop":"eu","samples":[{sample}]}}"#);
        let many = format!(
            r#"{{"pop":"eu","views":[{}]}}"#,
            vec![r#"{"pop":"us","up":true}"#; MAX_VIEWS + 1].join(",")
        );
        let long = format!(r#"{{"pop":"{}"}}"#, "x".repeat(MAX_TEXT + 1));
        let version = format!(
            r#"{{"pop":"eu","state":"up","versions":{{"a":"{}"}}}}"#,
            "x".repeat(MAX_TEXT + 1)
        );
        for (text, expected) in [
            ("", "EOF"),
            ("[]", "invalid"),
            ("{}", "who reports"),
            (r#"{"pop":"eu","node":"x"}"#, "who reports"),
            (r#"{"pop":""}"#, "1 to 64"),
            (&long, "1 to 64"),
            (r#"{"pop":"eu","state":"down"}"#, "unknown variant"),
            (r#"{"pop":"eu","stat":"up"}"#, "unknown field"),
            (r#"{"pop":"eu"}{"pop":"eu"}"#, "trailing"),
            (r#"{"pop":"eu","pop":"us"}"#, "duplicate"),
            (r#"{"pop":"eu","at":-1}"#, "invalid value"),
            (r#"{"pop":"eu","at":18446744073709551615}"#, "since 1970"),
            (r#"{"pop":"eu","load":0.5}"#, "need a \"state\""),
            (r#"{"pop":"eu","state":"up","load":-0.1}"#, "load must"),
            (r#"{"pop":"eu","state":"up","capacity":0}"#, "capacity must"),
            (&version, "longer than 64"),
            (&many, "too many"),
            (
                &sample(r#"{"prefix":"192.0.2.0/25","ms":1,"n":1}"#),
                "finer than /24",
            ),
            (
                &sample(r#"{"prefix":"2001:db8::/64","ms":1,"n":1}"#),
                "finer than /56",
            ),
            (
                &sample(r#"{"prefix":"192.0.2.1/24","ms":1,"n":1}"#),
                "write 192.0.2.0/24",
            ),
            (
                &sample(r#"{"prefix":"192.0.2.0/24","ms":0,"n":1}"#),
                "above 0",
            ),
            (
                &sample(r#"{"prefix":"192.0.2.0/24","ms":1e9,"n":1}"#),
                "up to 10000",
            ),
            (
                &sample(r#"{"prefix":"192.0.2.0/24","ms":1,"n":0}"#),
                "n must",
            ),
            (
                &sample(r#"{"prefix":"192.0.2.0/24","ms":1,"n":1,"x":1}"#),
                "unknown field",
            ),
            (
                r#"{"node":"d","samples":[{"prefix":"192.0.2.0/24","ms":1,"n":1}]}"#,
                "must name the pop",
            ),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
