//! One role by itself, for tests that need a configuration of their own: short freshness, short
//! timeouts, an origin that isn't one.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_yaml::{Mapping, Value};

use super::faulty_disk::FaultyDisk;
use super::http::Client;
use super::process::{Process, tail};
use super::scratch::Scratch;
use super::{MODCDN, ports, until};

/// What a mount says that asks no checksum database.
pub const UNVERIFIED: &str = "sumdb: {verify: off, direct: false}";

/// A running node; killed when dropped.
pub struct Node {
    role: &'static str,
    scratch: Scratch,
    address: String,
    url: String,
    admin: String,
    process: Option<Process>,
    starts: u32,
    open_files: Option<u32>,
    environment: Vec<(String, String)>,
}

impl Node {
    /// An origin in front of `upstream`. `overrides` is YAML laid over a minimal configuration.
    pub fn origin(upstream: &str, overrides: &str) -> Node {
        Node::origin_in(&[], upstream, overrides)
    }

    /// The same, with these environment variables.
    pub fn origin_in(environment: &[(&str, &str)], upstream: &str, overrides: &str) -> Node {
        let base = format!(
            "mounts: [{{prefix: /, upstream: '{upstream}', {UNVERIFIED}}}]\n\
             store: {{dir: DATA/store, durable: false}}\n"
        );
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(owned).collect();
        Node::new("origin", &base, overrides, environment)
    }

    /// An origin with its store on a disk that fails on command.
    pub fn origin_on(disk: &FaultyDisk, upstream: &str, overrides: &str) -> Node {
        let dir = disk.folder();
        let base = format!(
            "mounts: [{{prefix: /, upstream: '{upstream}', {UNVERIFIED}}}]\n\
             store: {{dir: '{}', durable: false}}\n",
            dir.display()
        );
        Node::new("origin", &base, overrides, disk.environment())
    }

    /// An edge in front of `origin`.
    pub fn edge(origin: &Node, overrides: &str) -> Node {
        Node::edge_at(origin.address(), overrides)
    }

    /// An edge in front of whatever listens at `origin` (`ADDRESS:PORT`).
    pub fn edge_at(origin: &str, overrides: &str) -> Node {
        let base = format!("{}store: {{dir: DATA/store}}\n", origin_section(origin));
        Node::new("edge", &base, overrides, Vec::new())
    }

    /// An edge in front of `origin` with its store on a disk that fails on command.
    pub fn edge_on(disk: &FaultyDisk, origin: &Node, overrides: &str) -> Node {
        let (section, dir) = (origin_section(origin.address()), disk.folder());
        let base = format!("{section}store: {{dir: '{}'}}\n", dir.display());
        Node::new("edge", &base, overrides, disk.environment())
    }

    /// A DNS server with the configuration `base`, and `overrides` laid over it.
    pub fn dns(base: &str, overrides: &str) -> Node {
        Node::new("dns", base, overrides, Vec::new())
    }

    fn new(
        role: &'static str,
        base: &str,
        overrides: &str,
        environment: Vec<(String, String)>,
    ) -> Node {
        let scratch = Scratch::new(role);
        let address = format!("127.0.0.1:{}", ports::free());
        let admin = format!("127.0.0.1:{}", ports::free());
        let data = scratch.folder("data");
        let common = format!(
            "name: {role}\nlisten: ['{address}']\nadmin: '{admin}'\naccess_log: DATA/access.log\n"
        );
        let mut config = parse(&format!("{common}{base}"));
        merge(&mut config, parse(overrides));
        let text = serde_yaml::to_string(&config).expect("a mapping can be printed");
        scratch.file(
            &format!("{role}.yaml"),
            &text.replace("DATA", &data.display().to_string()),
        );
        let url = format!("http://{address}");
        let mut node = Node {
            role,
            scratch,
            address,
            url,
            admin,
            process: None,
            starts: 0,
            open_files: None,
            environment,
        };
        node.start();
        node
    }

    /// Starts it, or starts it again with the same configuration and data; waits until it listens.
    pub fn start(&mut self) {
        self.starts += 1;
        let mut process = self.spawn(&[]);
        let admin = Client::h1(&format!("http://{}", self.admin));
        until(&format!("the {} to listen", self.role), || {
            if let Some(status) = process.ended() {
                panic!(
                    "the {} ended with {status}:\n{}",
                    self.role,
                    tail(&process.log())
                );
            }
            TcpStream::connect(&self.address).ok()?;
            let healthy = admin.send(&http::Method::GET, "/healthz", &[]).ok()?;
            (healthy.status == 200).then_some(())
        });
        self.process = Some(process);
    }

    fn spawn(&self, flags: &[&str]) -> Process {
        let mut command = match self.open_files {
            None => Command::new(MODCDN),
            Some(most) => {
                let mut shell = Command::new("sh");
                let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.args(["-c", &limited, MODCDN]);
                shell
            }
        };
        command
            .arg(self.role)
            .arg("--config")
            .arg(self.config())
            .args(flags)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null());
        let log = self
            .scratch
            .path()
            .join(format!("{}-{}.log", self.role, self.starts));
        Process::spawn(command, &log)
    }

    /// Starts it again with at most so many open files.
    pub fn start_with_open_files(&mut self, most: u32) {
        self.open_files = Some(most);
        self.start();
    }

    /// Lays `overrides` over its configuration file. A running node knows nothing of it.
    pub fn configure(&self, overrides: &str) {
        let text = fs::read_to_string(self.config()).expect("the configuration");
        let mut config = parse(&text);
        merge(&mut config, parse(overrides));
        let text = serde_yaml::to_string(&config).expect("a mapping can be printed");
        self.write_config(&text);
    }

    /// Replaces its configuration file.
    pub fn write_config(&self, text: &str) {
        fs::write(self.config(), text).expect("the configuration can be written");
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: i32) {
        self.running().signal(signal);
    }

    /// What it wrote to standard error since its last start.
    pub fn log(&mut self) -> String {
        self.running().log()
    }

    /// Starts a new process that takes over from the running one, and waits until that has ended
    /// well.
    pub fn upgrade(&mut self) {
        self.starts += 1;
        let new = self.spawn(&["--upgrade"]);
        let mut old = self.process.replace(new).expect("the node was started");
        let status = old.wait("the old process' end");
        assert!(status.success(), "{status:?}\n{}", tail(&old.log()));
    }

    /// Starts a new process that is to take over, and hands it out: it may fail.
    pub fn try_upgrade(&mut self) -> Process {
        self.starts += 1;
        self.spawn(&["--upgrade"])
    }

    /// The process id.
    pub fn pid(&mut self) -> u32 {
        self.running().pid()
    }

    /// Waits until its process has ended by itself, well.
    pub fn wait(&mut self) {
        let status = self.running().wait("a graceful end");
        assert!(status.success(), "{status:?}");
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.running().kill();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) {
        let process = self.running();
        process.signal(libc::SIGTERM);
        let status = process.wait("a graceful end");
        assert!(status.success(), "{status:?}\n{}", tail(&process.log()));
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `ADDRESS:PORT` of its listener.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `ADDRESS:PORT` of its admin listener.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Posts JSON to its admin listener, and hands out the status and the body.
    pub fn post(&self, path: &str, token: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin listener");
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            self.role,
            body.len()
        )
        .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.expect("a status"), body.to_owned())
    }

    /// Its access log.
    pub fn access_log(&self) -> PathBuf {
        self.data().join("access.log")
    }

    /// The folder of its store.
    pub fn store(&self) -> PathBuf {
        self.data().join("store")
    }

    /// The folder that `DATA` stands for in its configuration.
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.scratch.path().join(format!("{}.yaml", self.role))
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the node was started")
    }
}

/// All files below a folder, with their sizes, sorted by path.
pub fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&entry.path())),
            Ok(metadata) => found.push((entry.path(), metadata.len())),
            // Removed between the two calls.
            Err(_) => {}
        }
    }
    found.sort();
    found
}

fn origin_section(address: &str) -> String {
    // A busy machine must not look like a dead origin; tests of these bounds set their own.
    let patient = "connect_timeout: 20s, first_byte_timeout: 20s, stall_timeout: 20s";
    format!("origin: {{url: 'http://{address}', {patient}}}\n")
}

fn parse(yaml: &str) -> Value {
    match serde_yaml::from_str(yaml).expect("valid YAML") {
        Value::Null => Value::Mapping(Mapping::new()),
        value => value,
    }
}

/// Lays `over` over `under`, mapping by mapping.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Mapping(under), Value::Mapping(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}
