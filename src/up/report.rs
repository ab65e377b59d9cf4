//! What `up` says on stdout once all is ready: a table for people, or one line of JSON.
//!
//! Scripts depend on the JSON line: keys keep their names and their order, new ones are added at
//! the end.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::up::plan::{Duty, Node, Plan, ZONE};

/// What the report speaks of.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// All nodes.
    pub(crate) plan: &'a Plan,
    /// Their processes, in the plan's order.
    pub(crate) pids: &'a [u32],
    /// The CA's certificate, with `--tls`.
    pub(crate) ca: Option<PathBuf>,
    /// Where modules come from, without secrets.
    pub(crate) upstream: &'a str,
    /// Where logs are.
    pub(crate) logs: &'a Path,
    /// The file with the token for purges.
    pub(crate) purge_token: &'a Path,
}

#[derive(Serialize)]
struct Line<'a> {
    goproxy: &'a str,
    zone: &'static str,
    ca: Option<String>,
    nodes: Vec<NodeLine<'a>>,
}

#[derive(Serialize)]
struct NodeLine<'a> {
    role: &'static str,
    name: &'a str,
    pid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<String>,
    admin: String,
}

impl Report<'_> {
    /// The line of `--json`, without its newline.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(&Line {
            goproxy: &self.plan.goproxy,
            zone: ZONE,
            ca: self.ca.as_ref().map(|path| path.display().to_string()),
            nodes: self
                .nodes()
                .map(|(node, pid)| node_line(node, pid))
                .collect(),
        })
        .expect("texts and numbers always serialise")
    }

    /// The table, and the lines to copy.
    pub(crate) fn table(&self) -> String {
        let mut rows =
            vec![["ROLE", "NAME", "ADDRESS", "ADMIN", "PID", "STATE"].map(str::to_owned)];
        rows.extend(self.nodes().map(|(node, pid)| {
            [
                node.role().name().to_owned(),
                node.name.to_owned(),
                addresses(node),
                node.admin.to_string(),
                pid.to_string(),
                "ready".to_owned(),
            ]
        }));
        let mut text = align(&rows);
        let _ = writeln!(text, "\nmodules from {}", self.upstream);
        let _ = writeln!(text, "logs in      {}", self.logs.display());
        let token = quoted(self.purge_token);
        let _ = writeln!(
            text,
            "purge with   modcdn purge --token-file {token}{} MODULE",
            self.admins()
        );
        text.push_str("stop with    Ctrl-C\n\n");
        if let Some(ca) = &self.ca {
            text.push_str("Let go trust the certificates, and use this network:\n\n");
            let _ = writeln!(text, "export SSL_CERT_FILE={}", quoted(ca));
        } else {
            text.push_str("Use this network:\n\n");
        }
        let _ = writeln!(text, "export GOPROXY={}", self.plan.goproxy);
        text
    }

    /// A flag for each edge.
    fn admins(&self) -> String {
        let nodes = self.plan.nodes.iter();
        let edges = nodes.filter(|node| matches!(node.duty, Duty::Edge { .. }));
        edges
            .map(|edge| format!(" --admin {}", edge.admin))
            .collect()
    }

    fn nodes(&self) -> impl Iterator<Item = (&Node, u32)> {
        self.plan.nodes.iter().zip(self.pids.iter().copied())
    }
}

fn node_line(node: &Node, pid: u32) -> NodeLine<'_> {
    NodeLine {
        role: node.role().name(),
        name: node.name,
        pid,
        urls: node.urls(),
        dns: match node.duty {
            Duty::Dns { listen } => Some(listen.to_string()),
            _ => None,
        },
        admin: node.admin.to_string(),
    }
}

fn addresses(node: &Node) -> String {
    match node.duty {
        Duty::Dns { listen } => format!("{listen} ({ZONE})"),
        _ => node.urls().join(" "),
    }
}

fn align(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if path.chars().all(plain) {
        return path;
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::plan::Wish;

    fn report<'a>(plan: &'a Plan, ca: Option<&str>) -> Report<'a> {
        Report {
            plan,
            pids: &[1, 2, 3],
            ca: ca.map(PathBuf::from),
            upstream: "https://goproxy.cn,off",
            logs: Path::new("/data/log"),
            purge_token: Path::new("/data/conf/purge.token"),
        }
    }

    #[test]
    fn the_json_line_is_as_documented() {
        let plan = Plan::new(&Wish::of(&["eu"])).unwrap();
        assert_eq!(
            report(&plan, None).json(),
            concat!(
                r#"{"goproxy":"http://127.0.0.11:8080","zone":"go.test.","ca":null,"nodes":["#,
                r#"{"role":"edge","name":"eu","pid":1,"urls":["http://127.0.0.11:8080"],"#,
                r#""admin":"127.0.0.11:9080"},"#,
                r#"{"role":"origin","name":"origin","pid":2,"urls":["http://127.0.0.10:8080"],"#,
                r#""admin":"127.0.0.10:9080"},"#,
                r#"{"role":"dns","name":"dns","pid":3,"dns":"127.0.0.10:8053","#,
                r#""admin":"127.0.0.10:9053"}]}"#,
            )
        );
    }

    #[test]
    fn with_tls_the_json_line_has_the_https_urls_and_the_ca() {
        let mut wish = Wish::of(&["eu"]);
        wish.tls = true;
        let plan = Plan::new(&wish).unwrap();
        let line = report(&plan, Some("/data/ca/ca.pem")).json();
        assert!(line.starts_with(
            r#"{"goproxy":"https://127.0.0.11:8443","zone":"go.test.","ca":"/data/ca/ca.pem","#
        ));
        assert!(line.contains(r#""urls":["http://127.0.0.11:8080","https://127.0.0.11:8443"]"#));
    }

    #[test]
    fn the_table_ends_with_the_line_to_copy() {
        let plan = Plan::new(&Wish::of(&["eu"])).unwrap();
        let table = report(&plan, None).table();
        assert!(table.starts_with("ROLE    NAME    ADDRESS"), "{table}");
        let eu = "edge    eu      http://127.0.0.11:8080      127.0.0.11:9080  1    ready\n";
        assert!(table.contains(eu), "{table}");
        let dns = "dns     dns     127.0.0.10:8053 (go.test.)  127.0.0.10:9053  3    ready\n";
        assert!(table.contains(dns), "{table}");
        assert!(table.contains("logs in      /data/log\n"), "{table}");
        let purge =
            "modcdn purge --token-file /data/conf/purge.token --admin 127.0.0.11:9080 MODULE\n";
        assert!(table.contains(purge), "{table}");
        assert!(
            table.ends_with("\nexport GOPROXY=http://127.0.0.11:8080\n"),
            "{table}"
        );
    }

    #[test]
    fn with_tls_the_table_says_how_to_trust() {
        let mut wish = Wish::of(&["eu"]);
        wish.tls = true;
        let plan = Plan::new(&wish).unwrap();
        let table = report(&plan, Some("/my data/ca.pem")).table();
        assert!(table.ends_with(
            "\nexport SSL_CERT_FILE='/my data/ca.pem'\nexport GOPROXY=https://127.0.0.11:8443\n"
        ));
    }
}
