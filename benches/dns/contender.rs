//! The servers under test, each on its core with one thread for UDP and one for TCP.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::batch::{Receiver, Sender, Wait};
use super::rig::{Outcome, Running, free_port};
use super::world::{POPS, ZONE, address};

/// The first round of a big database takes its time.
const UP_WITHIN: Duration = Duration::from_secs(120);

/// What the echo is called in the arguments with which this bench runs itself.
pub(crate) const ECHO: &str = "--echo";

/// What our DNS role is called there, with the path of its configuration.
pub(crate) const SERVE: &str = "--serve";

/// One server under test.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    _running: Running,
}

impl Contender {
    fn start(name: &'static str, port: u16, command: &mut Command) -> Outcome<Self> {
        let running = Running::start(command)?;
        Ok(Self {
            name,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            pid: running.0.id(),
            _running: running,
        })
    }

    /// Waits until a query is answered with an address.
    fn answering(self, query: &[u8]) -> Outcome<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let until = Instant::now() + UP_WITHIN;
        let mut answer = [0; 1500];
        while Instant::now() < until {
            let _ = socket.send(query);
            match socket.recv(&mut answer) {
                // An answer, not an echo or an error, with at least one record.
                Ok(12..) if answer[2] & 0x80 != 0 && answer[3] & 15 == 0 && answer[7] > 0 => {
                    return Ok(self);
                }
                _ => sleep(Duration::from_millis(100)),
            }
        }
        Err(format!("{} did not answer within {UP_WITHIN:?}", self.name).into())
    }
}

/// gdnsd with its geoip plugin in city-auto mode: the nearest datacenter by distance.
pub(crate) fn gdnsd(dir: &Path, database: &Path, query: &[u8]) -> Outcome<Contender> {
    let port = free_port()?;
    let home = dir.join("gdnsd");
    fs::create_dir_all(home.join("zones"))?;
    let each = |write: &dyn Fn(usize) -> String| -> String {
        (0..POPS.len()).map(write).collect::<Vec<_>>().join(", ")
    };
    let names = each(&|pop| POPS[pop].0.to_owned());
    let places = each(&|pop| format!("{} => [{}, {}]", POPS[pop].0, POPS[pop].1, POPS[pop].2));
    let addresses = each(&|pop| format!("{} => {}", POPS[pop].0, address(pop)));
    let home_text = home.display();
    fs::write(
        home.join("config"),
        format!(
            "options => {{ listen => {{ 127.0.0.1:{port} => {{ udp_threads = 1, tcp_threads = 1 }} }}, \
             run_dir = {home_text}/run, state_dir = {home_text}/state }}\n\
             service_types => {{ }}\n\
             plugins => {{ geoip => {{\n\
             maps => {{ places => {{ geoip2_db => {}, datacenters => [{names}], \
             auto_dc_coords => {{ {places} }}, auto_dc_limit => 1 }} }}\n\
             resources => {{ go => {{ map => places, service_types => up, dcmap => {{ {addresses} }} }} }}\n\
             }} }}\n",
            database.display(),
        ),
    )?;
    fs::write(
        home.join("zones").join(ZONE),
        "@ SOA ns1 hostmaster ( 1 7200 1800 259200 900 )\n@ NS ns1\nns1 A 192.0.2.254\n@ 20 DYNA geoip!go\n",
    )?;
    let mut command = Command::new("taskset");
    command
        .args(["-c", "0", "gdnsd", "-c"])
        .arg(&home)
        .arg("start");
    Contender::start("gdnsd", port, &mut command)?.answering(query)
}

/// Our DNS role with the same database and PoPs, and no limits that gdnsd hasn't.
pub(crate) fn modcdn(dir: &Path, database: &Path, query: &[u8]) -> Outcome<Contender> {
    let (port, admin) = (free_port()?, free_port()?);
    let pops: String = POPS
        .iter()
        .enumerate()
        .map(|(pop, (name, latitude, longitude))| {
            format!(
                "  - {{name: {name}, addresses: [{}], latitude: {latitude}, longitude: {longitude}}}\n",
                address(pop)
            )
        })
        .collect();
    let config = dir.join("dns.yaml");
    fs::write(
        &config,
        format!(
            "listen: ['127.0.0.1:{port}']\nadmin: 127.0.0.1:{admin}\nzone: {ZONE}.\npops:\n{pops}\
             geo: {{database: {}}}\nudp: {{sockets: 1}}\nrates: {{answers: 0, errors: 0}}\n",
            database.display()
        ),
    )?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(std::env::current_exe()?);
    Contender::start("modcdn dns", port, command.arg(SERVE).arg(&config))?.answering(query)
}

/// What `modcdn dns --config FILE` does, without the other roles' code around it.
pub(crate) fn run_modcdn(config: &str) -> Outcome<()> {
    let load = || modcdn_core::config::load(Path::new(config));
    Ok(modcdn_dns::run(load()?, &load)?)
}

/// This very bench, sending back what it receives: what the kernel's part of any server costs.
pub(crate) fn echo() -> Outcome<Contender> {
    let port = free_port()?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(std::env::current_exe()?);
    let echo = Contender::start("echo", port, command.args([ECHO, &port.to_string()]))?;
    let until = Instant::now() + UP_WITHIN;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(echo.address)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    while Instant::now() < until {
        let _ = socket.send(b"there?");
        if socket.recv(&mut [0; 16]).is_ok() {
            return Ok(echo);
        }
    }
    Err("the echo did not answer".into())
}

/// Sends back whatever comes to a port, until killed.
pub(crate) fn run_echo(port: u16) -> Outcome<()> {
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let (mut receiver, mut sender) = (Receiver::new(64, 1472), Sender::new(64));
    loop {
        receiver.receive(socket.as_fd(), Wait::ForOne)?;
        let all = receiver
            .datagrams()
            .map(|(bytes, peer)| (bytes, Some(peer)));
        sender.send(socket.as_fd(), all)?;
    }
}

/// Reads whole answers from a TCP stream; returns how many.
pub(crate) fn read_answers(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    count: usize,
) -> Outcome<()> {
    let mut left = count;
    let mut piece = [0; 64 * 1024];
    while left > 0 {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        buffer.extend_from_slice(&piece[..read]);
        let mut at = 0;
        while let Some(&[l1, l0]) = buffer.get(at..).and_then(|rest| rest.first_chunk::<2>())
            && buffer.len() >= at + 2 + usize::from(u16::from_be_bytes([l1, l0]))
        {
            at += 2 + usize::from(u16::from_be_bytes([l1, l0]));
            left -= 1;
        }
        buffer.drain(..at);
    }
    Ok(())
}
