//! The nodes under test: an origin, an edge before it, nginx on a tree.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::rig::{Outcome, Running, free_port, only_child, wait_for_port};

const BINARY: &str = env!("CARGO_BIN_EXE_modcdn");

/// A server, as long as it lives.
pub(super) struct Node {
    pub(super) port: u16,
    /// The process that does the work.
    pub(super) pid: u32,
    _running: Running,
}

impl Node {
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// An origin with an empty store in `home`. `cores` as taskset takes them.
pub(super) fn origin(home: &Path, upstream: &str, cores: &str) -> Outcome<Node> {
    let (port, admin) = (free_port()?, free_port()?);
    let text = format!(
        "listen: ['127.0.0.1:{port}']\nadmin: 127.0.0.1:{admin}\naccess_log: off\n\
         mounts:\n  - prefix: /\n    upstream: '{upstream}'\n    sumdb: {{verify: off}}\n\
         store: {{dir: {}/origin}}\n",
        home.display()
    );
    start(home, "origin", &text, port, cores)
}

/// An edge with an empty store in `home`.
pub(super) fn edge(home: &Path, origin: &Node) -> Outcome<Node> {
    let (port, admin) = (free_port()?, free_port()?);
    let text = format!(
        "name: bench\nlisten: ['127.0.0.1:{port}']\nadmin: 127.0.0.1:{admin}\naccess_log: off\n\
         origin: {{url: '{}'}}\nstore: {{dir: {}/edge}}\n",
        origin.url(),
        home.display()
    );
    start(home, "edge", &text, port, "0,1")
}

fn start(home: &Path, role: &str, text: &str, port: u16, cores: &str) -> Outcome<Node> {
    fs::create_dir_all(home)?;
    let config = home.join(format!("{role}.yaml"));
    fs::write(&config, text)?;
    let mut command = Command::new("taskset");
    command.args(["-c", cores, BINARY, role, "--config"]);
    let running = Running::start(command.arg(&config))?;
    wait_for_port(port)?;
    Ok(Node {
        port,
        pid: running.0.id(),
        _running: running,
    })
}

/// nginx with one worker on a tree, HTTP/1.1, or HTTP/2 in clear text.
pub(super) fn nginx(home: &Path, tree: &Path, http2: bool, cores: &str) -> Outcome<Node> {
    let http2 = if http2 { " http2" } else { "" };
    let serving = format!("root {};", tree.display());
    start_nginx(home, http2, "", &serving, cores)
}

/// nginx as a cache before another server.
pub(super) fn nginx_cache(home: &Path, upstream: u16) -> Outcome<Node> {
    let zone = format!(
        "proxy_cache_path {}/cache levels=1:2 keys_zone=c:10m;\n\
         upstream u {{ server 127.0.0.1:{}; keepalive 32; }}\n",
        home.display(),
        upstream
    );
    let serving = "location / { proxy_pass http://u; proxy_http_version 1.1; \
                   proxy_set_header Connection ''; proxy_cache c; proxy_cache_valid 200 1h; \
                   proxy_cache_lock on; }";
    start_nginx(home, "", &zone, serving, "0,1")
}

fn start_nginx(
    home: &Path,
    protocol: &str,
    zone: &str,
    serving: &str,
    cores: &str,
) -> Outcome<Node> {
    fs::create_dir_all(home)?;
    let (port, home_text) = (free_port()?, home.display());
    let text = format!(
        "daemon off; worker_processes 1; pid {home_text}/pid; error_log {home_text}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; types {{ application/zip zip; }} sendfile on;\n\
         default_type application/json; keepalive_requests 1000000000;\n\
         client_body_temp_path {home_text}/b; proxy_temp_path {home_text}/p;\n\
         fastcgi_temp_path {home_text}/f; uwsgi_temp_path {home_text}/u; scgi_temp_path {home_text}/s;\n\
         {zone} server {{ listen 127.0.0.1:{port}{protocol}; {serving} }} }}\n"
    );
    let config = home.join("nginx.conf");
    fs::write(&config, text)?;
    let mut command = Command::new("taskset");
    command.args(["-c", cores, "nginx", "-c"]).arg(&config);
    let running = Running::start(command.arg("-e").arg(home.join("error.log")))?;
    wait_for_port(port)?;
    Ok(Node {
        port,
        pid: only_child(running.0.id())?,
        _running: running,
    })
}
