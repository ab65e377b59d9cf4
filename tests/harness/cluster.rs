//! `modcdn up`, as a newcomer starts it, but with folders and ports of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

use super::process::{Process, is_running, kill_pid, tail};
use super::scratch::Scratch;
use super::{MODCDN, modules::Modules, ports, until_true};

/// Starting all nodes may take this long on a busy machine.
const START: Duration = Duration::from_secs(60);

/// How to start a cluster.
#[derive(Default)]
pub struct Options {
    /// The upstream list; the project's modules if not given.
    pub upstream: Option<String>,
    /// The edges' http port; free ones are found if not given.
    pub port: Option<u16>,
    /// With `--tls`.
    pub tls: bool,
    /// Without `--no-restart`.
    pub restart: bool,
    /// More flags.
    pub flags: Vec<String>,
    /// Leaves `--upstream` out.
    pub default_upstream: bool,
    /// The data folder; one of its own if not given.
    pub data: Option<PathBuf>,
}

impl Options {
    /// The arguments for these options.
    pub fn arguments(&self, data: &Path) -> Vec<String> {
        let port = self.port.unwrap_or_else(ports::cluster);
        let mut arguments = vec!["up".to_owned(), "--json".to_owned()];
        if !self.default_upstream {
            let upstream = self
                .upstream
                .clone()
                .unwrap_or_else(|| Modules::fetch().url());
            arguments.extend(["--upstream".to_owned(), upstream]);
        }
        arguments.extend(["--port".to_owned(), port.to_string()]);
        arguments.extend(["--data".to_owned(), data.display().to_string()]);
        if self.tls {
            arguments.push("--tls".to_owned());
        }
        if !self.restart {
            arguments.push("--no-restart".to_owned());
        }
        arguments.extend(self.flags.iter().cloned());
        arguments
    }
}

/// A node of the JSON line.
#[derive(Debug, Clone)]
pub struct Member {
    /// `edge`, `origin` or `dns`.
    pub role: String,
    /// `eu`, `us`, `ap`, `origin`, `dns`.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its base URLs; none for DNS.
    pub urls: Vec<String>,
    /// Its admin listener, `ADDRESS:PORT`.
    pub admin: String,
    /// The DNS server's address, `ADDRESS:PORT`.
    pub dns: Option<String>,
}

impl Member {
    /// The clear-text URL.
    pub fn http(&self) -> &str {
        self.url("http://")
    }

    /// The TLS URL.
    pub fn https(&self) -> &str {
        self.url("https://")
    }

    /// `ADDRESS:PORT` of the clear-text listener.
    pub fn address(&self) -> &str {
        self.http().trim_start_matches("http://")
    }

    /// kill -9.
    pub fn kill(&self) {
        kill_pid(self.pid);
    }

    fn url(&self, scheme: &str) -> &str {
        let found = self.urls.iter().find(|url| url.starts_with(scheme));
        found.unwrap_or_else(|| panic!("{} has no {scheme} url: {:?}", self.name, self.urls))
    }
}

/// A running `modcdn up`; killed when dropped, and its nodes with it.
pub struct Cluster {
    up: Process,
    _scratch: Scratch,
    data: PathBuf,
    line: Value,
    members: Vec<Member>,
    more_output: Mutex<Receiver<String>>,
}

impl Cluster {
    /// Starts it with the project's modules as upstream, and waits until it says that it is ready.
    pub fn start() -> Cluster {
        Cluster::with(&Options::default())
    }

    /// Starts it with these options.
    pub fn with(options: &Options) -> Cluster {
        Cluster::with_env(options, &[])
    }

    /// As [`Cluster::with`], with these environment variables changed.
    pub fn with_env(options: &Options, env: &[(&str, &str)]) -> Cluster {
        let scratch = Scratch::new("up");
        let data = options
            .data
            .clone()
            .unwrap_or_else(|| scratch.folder("data"));
        let mut command = Command::new(MODCDN);
        command
            .args(options.arguments(&data))
            .stdout(Stdio::piped());
        command.envs(env.iter().copied());
        let mut up = Process::spawn(command, &scratch.path().join("up.log"));
        let stdout = up.child().stdout.take().expect("stdout is a pipe");
        let (send, more_output) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let text = match more_output.recv_timeout(START) {
            Ok(text) => text,
            Err(RecvTimeoutError::Disconnected) => panic!("`up` ended:\n{}", tail(&up.log())),
            Err(RecvTimeoutError::Timeout) => panic!("`up` isn't ready:\n{}", tail(&up.log())),
        };
        let line: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON: {text}"));
        let members = line["nodes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(member)
            .collect();
        Cluster {
            up,
            _scratch: scratch,
            data,
            line,
            members,
            more_output: Mutex::new(more_output),
        }
    }

    /// The JSON line.
    pub fn line(&self) -> &Value {
        &self.line
    }

    /// What GOPROXY should be.
    pub fn goproxy(&self) -> &str {
        self.line["goproxy"].as_str().expect("goproxy is a string")
    }

    /// The CA file of a cluster with TLS.
    pub fn ca(&self) -> PathBuf {
        PathBuf::from(self.line["ca"].as_str().expect("ca is a path"))
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> &Member {
        let found = self.members.iter().find(|member| member.name == name);
        found.unwrap_or_else(|| panic!("no node {name} in {}", self.line))
    }

    /// The edges.
    pub fn edges(&self) -> Vec<&Member> {
        self.members
            .iter()
            .filter(|member| member.role == "edge")
            .collect()
    }

    /// All nodes.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The access log of a node.
    pub fn access_log(&self, name: &str) -> PathBuf {
        self.data.join(format!("log/{name}.access.log"))
    }

    /// What a node wrote to standard error.
    pub fn node_log(&self, name: &str) -> String {
        fs::read_to_string(self.data.join(format!("log/{name}.log"))).unwrap_or_default()
    }

    /// The folder given as `--data`.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The process `up` itself.
    pub fn up(&mut self) -> &mut Process {
        &mut self.up
    }

    /// What it and its nodes wrote to standard error.
    pub fn log(&self) -> String {
        self.up.log()
    }

    /// What it wrote to standard output after the JSON line.
    pub fn output_after_the_line(&self) -> Vec<String> {
        self.more_output
            .lock()
            .expect("no panic with it in hand")
            .try_iter()
            .collect()
    }

    /// Waits until none of its nodes runs any more.
    pub fn all_nodes_are_gone(&self) {
        for member in &self.members {
            until_true(&format!("the end of {}", member.name), || {
                !is_running(member.pid)
            });
        }
    }
}

/// A cluster that several tests of a file share: a failed test prints its log.
pub struct Shared(pub &'static Cluster);

impl Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the end of the shared cluster's log\n{}",
                tail(&self.0.log())
            );
        }
    }
}

fn member(node: &Value) -> Member {
    let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let urls = node["urls"].as_array().into_iter().flatten();
    Member {
        role: text("role"),
        name: text("name"),
        pid: node["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or_default(),
        urls: urls.filter_map(Value::as_str).map(str::to_owned).collect(),
        admin: text("admin"),
        dns: node["dns"].as_str().map(str::to_owned),
    }
}
