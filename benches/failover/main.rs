//! How soon a PoP that died leaves the answers: from the check that fails to the first answer without it.
//!
//! ```text
//! cargo bench -p modcdn-dns --bench failover             # 12 rounds of each kind
//! cargo bench -p modcdn-dns --bench failover -- --rounds 30
//! ```
//!
//! A server of 12 PoPs with a database of 500,000 networks, of each of which round trips were measured, so
//! that each is led by itself. The PoPs' health endpoints are this program's; one check that fails is enough
//! (`fall: 1`), so that what is measured is the server and not how often it looks. The clock runs from when
//! an endpoint writes its first 503. All the while two questions are asked in turn, as fast as they are
//! answered: for the steered name by a client that was led to the PoP, and for `all.`.
//!
//! *At rest*: nothing else happens. *Compiling*: the server is just making a map, as it does for seconds
//! after every change. Without and with DNSSEC (P-256; the questions have DO then). *Slowest*: the longest
//! that any answer took from then until a second later. Then the cost of signing all that may be answered.
#![allow(clippy::print_stdout, missing_docs)]

mod health;
// Not every part of these is wanted here.
#[allow(unused_imports)]
#[path = "../rig/mod.rs"]
mod rig;
#[allow(dead_code)]
#[path = "../dns/world.rs"]
mod world;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::Ipv4Net;
use modcdn_core::units::Period;
use modcdn_dns::config::Config;
use modcdn_dns::dnssec::{self, Algorithm, Role, file};
use modcdn_dns::steer::{Client, Source, ViewId};
use modcdn_dns::steering::known::{Known, Sources};
use modcdn_dns::{Dns, offline};
use prometheus::Registry;
use rig::Outcome;
use tokio::runtime::Runtime;

use crate::health::Health;
use crate::world::{POPS, Random, ZONE, address};

/// Samples of one line of the file of reports: it is no longer than 64 KiB.
const SAMPLES_A_LINE: usize = 500;

/// How long answers are looked at after a PoP has left them.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// A map of 500,000 prefixes takes seconds, of a busy machine more.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the server looks at a PoP.
const INTERVAL: &str = "200ms";

fn main() -> Outcome<()> {
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let rounds = rounds()?;
    let dir = tempfile::tempdir()?;
    let networks = world::networks();
    world::write_database(&networks, &dir.path().join("places.mmdb"))?;
    write_reports(&networks, &dir.path().join("reports.jsonl"))?;
    learn(dir.path(), &networks)?;
    println!(
        "{:<12} {:<10} {:>22} {:>22} {:>12}",
        "", "", "steered, ms", "all., ms", "slowest, ms"
    );
    println!(
        "{:<12} {:<10} {:>14} {:>7} {:>14} {:>7}",
        "", "", "median", "most", "median", "most"
    );
    for signed in [false, true] {
        let health = Health::start(POPS.len())?;
        let config = config(dir.path(), &health, signed)?;
        if signed {
            signing(&config)?;
        }
        let scene = Scene::start(config, health, signed)?;
        if !scene.is_measured(networks[0]) {
            return Err("what was learnt is gone".into());
        }
        for busy in [false, true] {
            let mut random = Random::new(5);
            let falls = (0..rounds).map(|_| {
                let network = networks[random.below(networks.len())];
                scene.fall(network, busy)
            });
            let falls: Vec<Fall> = falls.collect::<Outcome<_>>()?;
            print(signed, busy, &falls);
        }
        scene.runtime.block_on(scene.dns.stop());
    }
    Ok(())
}

/// Has a server learn what was reported, and keep it for those that follow.
fn learn(dir: &Path, networks: &[Ipv4Net]) -> Outcome<()> {
    let health = Health::start(POPS.len())?;
    let mut config = config(dir, &health, false)?;
    config.reports.file = Some(dir.join("reports.jsonl"));
    config.steering.window = Period::secs(2);
    let scene = Scene::start(config, health, false)?;
    wait("the reports to be in the map", || {
        // The last of the file.
        scene.is_measured(networks[networks.len() - 1])
    })?;
    scene.runtime.block_on(scene.dns.stop());
    Ok(())
}

fn rounds() -> Outcome<usize> {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    Ok(args.next().map_or(Ok(12), |text| text.parse())?)
}

/// Round trips from every network to two PoPs: to which, its bits say.
fn write_reports(networks: &[Ipv4Net], path: &Path) -> Outcome<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut out = BufWriter::new(File::create(path)?);
    for networks in networks.chunks(SAMPLES_A_LINE) {
        let samples = networks.iter().flat_map(|network| {
            let near = pop_of(network);
            let far = (near + 1) % POPS.len();
            [(near, 20), (far, 60)].map(|(pop, ms)| {
                let pop = POPS[pop].0;
                format!(r#"{{"prefix":"{network}","pop":"{pop}","ms":{ms},"n":100}}"#)
            })
        });
        let samples: Vec<String> = samples.collect();
        let samples = samples.join(",");
        writeln!(
            out,
            r#"{{"node":"bench","at":{now},"samples":[{samples}]}}"#
        )?;
    }
    Ok(out.flush()?)
}

fn pop_of(network: &Ipv4Net) -> usize {
    let mixed = u32::from(network.network()).wrapping_mul(0x9e37_79b9) >> 16;
    mixed as usize % POPS.len()
}

fn config(dir: &Path, health: &Health, signed: bool) -> Outcome<Config> {
    let pops: String = (POPS.iter().enumerate())
        .map(|(pop, (name, latitude, longitude))| {
            format!(
                "  - {{name: {name}, addresses: [{}], latitude: {latitude}, longitude: {longitude}, \
                 health: 'http://{}/{pop}'}}\n",
                address(pop),
                health.address(),
            )
        })
        .collect();
    let keys = if signed {
        let key = key(dir)?;
        format!(
            "dnssec: {{keys: [{{zone: {ZONE}., file: '{}'}}]}}\n",
            key.display()
        )
    } else {
        String::new()
    };
    let dir = dir.display();
    Ok(serde_yaml::from_str(&format!(
        "listen: ['127.0.0.1:0']\nadmin: 127.0.0.1:0\nzone: {ZONE}.\npops:\n{pops}\
         geo: {{database: '{dir}/places.mmdb'}}\n\
         state: {{dir: '{dir}/state'}}\n\
         checks: {{interval: {INTERVAL}, timeout: 1s, fall: 1, rise: 1, damping: {{falls: 0}}}}\n\
         steering: {{window: 1day, map_age: 2days}}\nudp: {{sockets: 1}}\nrates: {{answers: 0, errors: 0}}\n{keys}"
    ))?)
}

fn key(dir: &Path) -> Outcome<PathBuf> {
    let zone = hickory_proto::rr::Name::from_ascii(format!("{ZONE}."))?;
    let (path, _) = file::create(dir, &zone, Algorithm::EcdsaP256, Role::Csk)?;
    Ok(path)
}

/// What all that may be answered costs to sign: at first, and when nothing has changed.
fn signing(config: &Config) -> Outcome<()> {
    let registry = Registry::new();
    let signing = dnssec::load(&config.dnssec, dnssec::Metrics::new(&registry))?;
    let signing = signing.ok_or("no keys")?;
    let sources = Sources {
        state: true,
        samples: None,
        homes: false,
    };
    let known = Known::read(config, sources, SystemTime::now())?;
    let made = offline(config, &known)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as u32;
    let mut took = [0.0; 2];
    for took in &mut took {
        let began = Instant::now();
        signing.prepare(&made.zones, &[&made.map], now);
        *took = ms(began.elapsed());
    }
    let kept = registry.gather().into_iter();
    let kept = kept.filter(|family| family.name() == "modcdn_dns_signed_kept");
    let sets: f64 = kept
        .flat_map(|family| family.get_metric().to_vec())
        .map(|metric| metric.get_gauge().get_value())
        .sum();
    println!(
        "\nsigning ahead: {} answers of one name, {sets} sets, {:.1} ms at first, {:.1} ms when all is signed\n",
        made.map.answers().len(),
        took[0],
        took[1]
    );
    Ok(())
}

/// What became of one PoP's death.
struct Fall {
    /// From the check that failed to the first answer without it, of both questions.
    gone: [Duration; 2],
    /// The longest that any answer took.
    slowest: Duration,
}

struct Scene {
    runtime: Runtime,
    dns: Dns,
    health: Health,
    socket: UdpSocket,
    signed: bool,
}

impl Scene {
    fn start(config: Config, health: Health, signed: bool) -> Outcome<Self> {
        let runtime = Runtime::new()?;
        let dns = runtime.block_on(Dns::start(config))?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let server: SocketAddr = *dns.addresses().first().ok_or("no address")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self {
            runtime,
            dns,
            health,
            socket,
            signed,
        })
    }

    /// Whether a client is led by what was measured from its own network.
    fn is_measured(&self, network: Ipv4Net) -> bool {
        self.choice(network).1 == Source::Measured
    }

    /// The first PoP that a client is led to, and by what.
    fn choice(&self, network: Ipv4Net) -> (usize, Source) {
        let client = Client {
            subnet: Some(network.network().into()),
            resolver: [127, 0, 0, 1].into(),
        };
        let map = self.dns.map();
        let choice = map.choose(ViewId::default(), &client, Instant::now());
        (map.answer(choice.answer).pops[0], choice.source)
    }

    /// Lets the PoP of a client die, and come back.
    fn fall(&self, network: Ipv4Net, busy: bool) -> Outcome<Fall> {
        if !busy {
            self.settle()?;
        }
        let (pop, _) = self.choice(network);
        let questions = [ZONE.to_owned(), format!("all.{ZONE}")];
        let questions = questions.map(|name| query(&name, network, self.signed));
        for query in &questions {
            wait("the pop to be answered", || {
                self.ask(query).is_ok_and(|(answer, _)| holds(&answer, pop))
            })?;
        }
        self.health.set_sick(pop, true);
        let fall = self.watch(pop, &questions)?;
        self.health.set_sick(pop, false);
        wait("the pop to be back", || self.dns.map().is_healthy(pop))?;
        Ok(fall)
    }

    fn watch(&self, pop: usize, questions: &[Vec<u8>; 2]) -> Outcome<Fall> {
        let mut gone = [None; 2];
        let mut slowest = Duration::ZERO;
        let until = Instant::now() + PATIENCE;
        loop {
            for (query, gone) in questions.iter().zip(&mut gone) {
                let (answer, took) = self.ask(query)?;
                if self.health.failed(pop).is_some() {
                    slowest = slowest.max(took);
                }
                if gone.is_none() && !holds(&answer, pop) {
                    *gone = Some(Instant::now());
                }
            }
            let failed = self.health.failed(pop);
            if let ([Some(steered), Some(all)], Some(failed)) = (gone, failed)
                && steered.max(all).elapsed() > AFTERWARDS
            {
                let gone = [steered, all].map(|at| at.saturating_duration_since(failed));
                return Ok(Fall { gone, slowest });
            }
            if Instant::now() > until {
                return Err("the pop stays in the answers".into());
            }
        }
    }

    /// Waits until no map has been published for as long as one takes.
    fn settle(&self) -> Outcome<()> {
        let mut last = (self.dns.map().version(), Instant::now());
        wait("maps to come to rest", || {
            let version = self.dns.map().version();
            if version != last.0 {
                last = (version, Instant::now());
            }
            last.1.elapsed() > Duration::from_secs(6)
        })
    }

    fn ask(&self, query: &[u8]) -> Outcome<(Vec<u8>, Duration)> {
        let began = Instant::now();
        self.socket.send(query)?;
        let mut answer = vec![0; 1500];
        let length = self.socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok((answer, began.elapsed()))
    }
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > until {
            return Err(format!("waited in vain for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether an answer has a PoP's address: its length in front of it.
fn holds(answer: &[u8], pop: usize) -> bool {
    let [a, b, c, d] = address(pop).octets();
    answer.windows(6).any(|six| six == [0, 4, a, b, c, d])
}

/// A query for a name's A record with a client subnet, and DO where that is wanted.
fn query(name: &str, network: Ipv4Net, dnssec_ok: bool) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    let [a, b, c, _] = network.network().octets();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, flags, 0, 0, 11]);
    bytes.extend([0, 8, 0, 7, 0, 1, 24, 0, a, b, c]);
    bytes
}

fn print(signed: bool, busy: bool, falls: &[Fall]) {
    let of = |question: usize| falls.iter().map(move |fall| fall.gone[question]);
    let slowest = falls.iter().map(|fall| fall.slowest);
    println!(
        "{:<12} {:<10} {:>14.2} {:>7.2} {:>14.2} {:>7.2} {:>12.2}",
        if signed { "P-256" } else { "unsigned" },
        if busy { "compiling" } else { "at rest" },
        median(of(0).map(ms).collect()),
        of(0).map(ms).fold(0.0, f64::max),
        median(of(1).map(ms).collect()),
        of(1).map(ms).fold(0.0, f64::max),
        slowest.map(ms).fold(0.0, f64::max),
    );
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
