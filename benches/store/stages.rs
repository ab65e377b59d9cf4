//! What is measured, each stage in a process of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use modcdn_core::goproxy::{Prefix, Request};
use modcdn_core::units::ByteSize;
use modcdn_edge::engine::Engine;
use modcdn_edge::engine::config::EngineConfig;
use modcdn_edge::engine::metrics::EngineMetrics;
use modcdn_edge::exchange::{Answer, Asked, Body, Cached};
use modcdn_edge::origin::Origin;
use prometheus::Registry;
use tokio::runtime::Handle;

use crate::Failure;
use crate::origin::{Made, PACKED, body, path};

/// Requests at a time.
const TASKS: usize = 32;
/// Threads that wait for the disk, as an edge has them.
const DISK_THREADS: usize = 16;
/// Keys that fit among the warm entries.
const HOT: usize = 100;
/// Look-ups of each kind.
const LOOKUPS: usize = 200_000;
/// Keys whose bodies are compared after a start.
const SAMPLE: usize = 2_000;
/// A number without a divisor in common with the number of keys: steps by it meet all of them.
const STRIDE: usize = 7_919;
/// What the stage that is killed says when it writes.
pub(crate) const WRITES: &str = "writes on";

#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// Puts the keys, looks them up, stops.
    Fill,
    /// Starts on what is there.
    Start,
    /// Starts and puts further keys until it is killed.
    Write,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Fill, Self::Start, Self::Write];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Start => "start",
            Self::Write => "write",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Fill => "filled, and stopped cleanly",
            Self::Start => "started",
            Self::Write => "killed (SIGKILL) while it writes",
        }
    }
}

pub(crate) fn run(stage: Stage, dir: &Path, keys: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(DISK_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match stage {
            Stage::Fill => fill(dir, keys).await,
            Stage::Start => start(dir, keys).await.map(drop),
            Stage::Write => write_on(dir, keys).await,
        }
    })
}

/// An engine with the metrics that tell whether its index is there.
struct Rig {
    engine: Arc<Engine>,
    registry: Registry,
}

impl Rig {
    /// The tiers in RAM are small, so that growth is that of the index.
    fn open(dir: &Path, keys: usize) -> Result<Self, Failure> {
        let mut config = EngineConfig::default();
        config.store.dir = dir.join("store");
        config.store.disk = ByteSize::gib(64);
        config.store.keys = 2 * keys;
        config.store.packed_body = ByteSize(PACKED);
        config.store.warm = ByteSize::mib(1);
        config.store.ram = ByteSize::mib(8);
        let (registry, origin) = (Registry::new(), Arc::new(Made) as Arc<dyn Origin>);
        let metrics = EngineMetrics::new(&registry);
        let engine = Engine::open(&config, origin, Handle::current(), metrics)?;
        Ok(Self { engine, registry })
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        Some(family.get_metric().first()?.get_gauge().get_value())
    }

    async fn loaded(&self) {
        while self.gauge("modcdn_edge_index_loading") != Some(0.0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn ask(&self, key: usize) -> Result<Answer, Failure> {
        let request = Request::parse(&path(key)).map_err(|error| error.to_string())?;
        let asked = Asked::get(&Prefix::root(), request);
        Ok(self.engine.answer(asked).await)
    }

    /// Asks for keys, several at a time, and reads each body to its end.
    async fn ask_all(
        self: &Arc<Self>,
        count: usize,
        key: impl Fn(usize) -> usize + Send + Copy + 'static,
    ) -> Result<Duration, Failure> {
        let (started, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..TASKS {
            let (rig, next) = (self.clone(), next.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok::<(), String>(());
                    }
                    let answer = rig.ask(key(number)).await.map_err(|e| e.to_string())?;
                    read(answer.body).await.map_err(|e| e.to_string())?;
                }
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(started.elapsed())
    }
}

async fn read(body: Body) -> Result<Vec<u8>, Failure> {
    match body {
        Body::Empty => Ok(Vec::new()),
        Body::Whole(bytes) => Ok(bytes.to_vec()),
        Body::Stream(mut stream) => {
            let mut all = Vec::new();
            while let Some(piece) = stream.next().await? {
                all.extend_from_slice(&piece);
            }
            Ok(all)
        }
    }
}

async fn fill(dir: &Path, keys: usize) -> Result<(), Failure> {
    let rig = Arc::new(Rig::open(dir, keys)?);
    rig.loaded().await;
    let before = resident()?;
    let took = rig.ask_all(keys, |number| number).await?;
    say_rate("misses: filled, stored, answered", keys, took);
    say_resident(before, keys)?;
    let took = rig.ask_all(LOOKUPS, |number| number % HOT).await?;
    say_rate("hits, warm", LOOKUPS, took);
    let took = rig
        .ask_all(LOOKUPS, move |number| spread(number, keys))
        .await?;
    say_rate("hits, one read from the page cache each", LOOKUPS, took);
    let started = Instant::now();
    rig.engine.shutdown().await;
    println!("clean stop: {:.2?}", started.elapsed());
    Ok(())
}

fn spread(number: usize, keys: usize) -> usize {
    number * STRIDE % keys
}

async fn start(dir: &Path, keys: usize) -> Result<Arc<Rig>, Failure> {
    let (before, started) = (resident()?, Instant::now());
    let rig = Arc::new(Rig::open(dir, keys)?);
    println!("opened: {:.2?}", started.elapsed());
    let first = rig.ask(0).await?;
    let (how, took) = (first.cache.name(), started.elapsed());
    println!("first request answered ({how}): {took:.2?}");
    rig.loaded().await;
    let known = rig.gauge("modcdn_edge_index_entries").unwrap_or(0.0);
    println!("index of {known} keys read: {:.2?}", started.elapsed());
    say_resident(before, keys)?;
    let mut hits = 0;
    for number in 0..SAMPLE {
        let key = spread(number, keys);
        let answer = rig.ask(key).await?;
        hits += usize::from(answer.cache == Cached::Hit);
        if read(answer.body).await? != body(&path(key)) {
            return Err(format!("the body of {} is wrong", path(key)).into());
        }
    }
    println!("hits: {hits} of {SAMPLE}, each body the right one");
    Ok(rig)
}

async fn write_on(dir: &Path, keys: usize) -> Result<(), Failure> {
    let rig = start(dir, keys).await?;
    println!("{WRITES}");
    rig.ask_all(keys, move |number| keys + number).await?;
    Err("nobody killed it".into())
}

fn say_rate(what: &str, count: usize, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    println!("{what}: {rate:.0}/s");
}

/// Says by how much this process has grown.
fn say_resident(before: usize, keys: usize) -> Result<(), Failure> {
    let grown = resident()?.saturating_sub(before);
    let (a_key, all) = (grown / keys, grown / 1_000_000);
    println!("resident memory: {a_key} bytes a key, {all} MB, everything included");
    Ok(())
}

/// Bytes of this process in RAM.
fn resident() -> Result<usize, Failure> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).ok_or("no statm")?.parse()?;
    Ok(pages * 4096)
}
