//! `dig`, as an operator would use it.

use std::process::Command;

use super::require_tool;

/// Asks one DNS server.
pub struct Dig {
    server: String,
    port: String,
}

/// What `dig` printed, taken apart.
#[derive(Debug)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// The data of the answer section's records, sorted.
    pub answers: Vec<String>,
    /// The authority section's lines.
    pub authority: Vec<String>,
    /// The whole text.
    pub text: String,
}

impl Dig {
    /// `server` is `ADDRESS:PORT`.
    pub fn at(server: &str) -> Dig {
        require_tool("dig", &["-v"]);
        let (server, port) = server.rsplit_once(':').expect("address:port");
        Dig {
            server: server.to_owned(),
            port: port.to_owned(),
        }
    }

    /// Asks; `None` if no answer came.
    pub fn try_ask(&self, arguments: &[&str]) -> Option<Answer> {
        let ran = Command::new("dig")
            .args([
                &format!("@{}", self.server),
                "-p",
                &self.port,
                "+time=2",
                "+tries=1",
            ])
            .args([
                "+norecurse",
                "+nocookie",
                "+noall",
                "+comments",
                "+answer",
                "+authority",
            ])
            .args(["+question", "-4"])
            .args(arguments)
            .output()
            .expect("dig runs");
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let status = text.split("status: ").nth(1)?.split(',').next()?.to_owned();
        let mut answers: Vec<String> = section(&text, "ANSWER")
            .iter()
            .map(|line| data(line))
            .collect();
        answers.sort();
        Some(Answer {
            status,
            answers,
            authority: section(&text, "AUTHORITY"),
            text,
        })
    }

    /// Asks; an answer must come.
    pub fn ask(&self, arguments: &[&str]) -> Answer {
        self.try_ask(arguments)
            .unwrap_or_else(|| panic!("no answer to dig {arguments:?}"))
    }

    /// The addresses for a name, as seen from a client subnet.
    pub fn seen_from(&self, name: &str, subnet: &str) -> Vec<String> {
        self.ask(&[name, "A", &format!("+subnet={subnet}")]).answers
    }
}

fn section(text: &str, name: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once(&format!(";; {name} SECTION:\n")) else {
        return Vec::new();
    };
    rest.lines()
        .take_while(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What stands after name, TTL, class and type.
fn data(line: &str) -> String {
    line.split_whitespace()
        .skip(4)
        .collect::<Vec<_>>()
        .join(" ")
}
