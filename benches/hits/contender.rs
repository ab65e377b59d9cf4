//! The servers under test: each on its core, with one worker unless the row says otherwise.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::rig::{GENERATOR, Outcome, READY_WITHIN, Running, free_port, only_child, wait_for_port};

/// One server under test.
pub(super) struct Contender {
    pub(super) name: String,
    /// TLS.
    pub(super) port: u16,
    /// HTTP/1.1 in clear text.
    pub(super) clear: u16,
    /// The process that does the work.
    pub(super) pid: u32,
    /// Everything that ends with it.
    _running: Vec<Running>,
}

/// How an edge is set up.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) threads: u32,
    /// The cores it may use, as taskset takes them.
    pub(super) cores: &'static str,
    /// Bodies up to this are answered from RAM.
    pub(super) ram_body: &'static str,
    /// What is stored before the clock starts.
    pub(super) warm: &'static [&'static str],
}

pub(super) fn nginx(dir: &Path, name: &str, tuning: &str) -> Outcome<Contender> {
    let (port, clear) = (free_port()?, free_port()?);
    let home = dir.join(name.replace(' ', "-"));
    fs::create_dir_all(&home)?;
    let dir_text = dir.display();
    let conf = format!(
        "daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; types {{ application/zip zip; }}\n\
         default_type application/json; keepalive_requests 1000000000; {tuning}\n\
         client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;\n\
         uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl http2; listen 127.0.0.1:{clear}; root {dir_text}/tree;\n\
         ssl_certificate {dir_text}/cert.pem; ssl_certificate_key {dir_text}/key.pem;\n\
         ssl_protocols TLSv1.3;\n\
         add_header Cache-Control \"public, max-age=31536000, immutable\"; }} }}\n",
        home = home.display(),
    );
    let conf_file = home.join("nginx.conf");
    fs::write(&conf_file, conf)?;
    let running = Running::start(
        Command::new("taskset")
            .args(["-c", "0", "nginx", "-c"])
            .arg(&conf_file)
            .arg("-e")
            .arg(home.join("error.log")),
    )?;
    wait_for_port(port)?;
    Ok(Contender {
        name: name.to_owned(),
        port,
        clear,
        pid: only_child(running.0.id())?,
        _running: vec![running],
    })
}

/// An edge before an origin that serves the same tree.
pub(super) fn modcdn(dir: &Path, setup: Setup) -> Outcome<Contender> {
    let Setup {
        name,
        threads,
        cores,
        ram_body,
        warm,
    } = setup;
    let binary = env!("CARGO_BIN_EXE_modcdn");
    let (origin, origin_admin) = (free_port()?, free_port()?);
    let (clear, port, admin) = (free_port()?, free_port()?, free_port()?);
    let dir_text = dir.display();
    let home = dir.join(name.replace(' ', "-"));
    fs::create_dir_all(&home)?;
    let home_text = home.display();
    let origin_conf = home.join("origin.yaml");
    fs::write(
        &origin_conf,
        format!(
            "listen: ['127.0.0.1:{origin}']\nadmin: 127.0.0.1:{origin_admin}\naccess_log: off\n\
             mounts: [{{upstream: 'file://{dir_text}/tree', sumdb: {{verify: off}}}}]\nstore: {{dir: {home_text}/origin}}\n"
        ),
    )?;
    let edge_conf = home.join("edge.yaml");
    fs::write(
        &edge_conf,
        format!(
            "name: bench\nlisten: ['127.0.0.1:{clear}']\nadmin: 127.0.0.1:{admin}\n\
             tls: {{listen: ['127.0.0.1:{port}'], certificate: {dir_text}/cert.pem, key: {dir_text}/key.pem}}\n\
             access_log: off\nlimits: {{connections_per_address: 20000}}\n\
             threads: {threads}\norigin: {{url: 'http://127.0.0.1:{origin}'}}\n\
             store: {{dir: {home_text}/edge, ram_body: {ram_body}}}\n"
        ),
    )?;
    let origin_running = Running::start(
        Command::new("taskset")
            .args(["-c", &GENERATOR.to_string(), binary, "origin", "--config"])
            .arg(&origin_conf),
    )?;
    wait_for_port(origin)?;
    // As config/modcdn-edge.service starts it. Who may not, goes on without.
    let edge_running = Running::start(
        Command::new("nice")
            .args(["-n", "-10", "taskset", "-c", cores])
            .args([binary, "edge", "--config"])
            .arg(&edge_conf),
    )?;
    wait_for_port(clear)?;
    for path in warm {
        until_hit(clear, path)?;
    }
    Ok(Contender {
        name: name.to_owned(),
        port,
        clear,
        // nice becomes taskset and that the edge: one process, no fork.
        pid: edge_running.0.id(),
        _running: vec![origin_running, edge_running],
    })
}

/// Asks until the edge answers from its store.
fn until_hit(port: u16, path: &str) -> Outcome<()> {
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = String::from_utf8_lossy(&answer[..answer.len().min(2048)]).to_lowercase();
        if head.starts_with("http/1.1 200") && head.contains("; hit") {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(format!("{path} did not become a hit within {READY_WITHIN:?}").into())
}
