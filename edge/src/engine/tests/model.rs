//! Random interleavings of readers, failures, purges, evictions, damage and restarts.
//!
//! The origin knows the truth and tells it badly: it breaks off, lies, falls silent. Whatever
//! happens in between, promise 1 must hold: a response that is complete is right, bytes and range.
//! Versioned objects have one truth. A list has one after the other, and a request that begins
//! after a hard purge never gets one from before it. At the end nothing runs, nothing is held, and
//! the store is within its bounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::header::CONTENT_RANGE;
use modcdn_core::range::ContentRange;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::task::JoinSet;

use super::super::purge::{Mode, Purge, Selector};
use super::*;

/// Objects of every size class: packed, one block, spooled, longer than the RAM tier takes.
const OBJECTS: [(&str, usize); 5] = [
    ("/example.com/m/@v/v1.0.0.info", 200),
    ("/example.com/m/@v/v1.0.0.mod", 9_000),
    ("/example.com/m/@v/v1.0.0.zip", 100_000),
    ("/example.com/m/@v/v1.1.0.zip", 700_000),
    ("/example.com/other/@v/v1.0.0.zip", 1_500_000),
];
/// Where [`LIST`] stands among all keys.
const MUTABLE_KEY: usize = OBJECTS.len();

/// The truth about a key. A list says which truth it is, so that a reader can tell.
fn truth(key: usize, version: usize) -> Bytes {
    match OBJECTS.get(key) {
        Some(&(_, len)) => bytes(len),
        None => format!("v1.0.{version}\n").into(),
    }
}

fn path(key: usize) -> &'static str {
    OBJECTS.get(key).map_or(LIST, |(path, _)| path)
}

/// What the origin makes of one request.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    None,
    /// The digest comes as a trailer, the length not at all.
    Growing,
    /// As much of the body as that, and then the stream breaks.
    Breaks(Index),
    /// As above, but it ends as if it were complete.
    EndsEarly(Index),
    /// One byte is another one.
    Flips(Index),
    /// More than was announced.
    TooLong,
    /// A range is answered with the whole body, or another one's.
    Ignores,
    /// 502.
    Error,
    /// Nothing.
    Silence,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Somebody asks for a key, perhaps for a part of it, and reads it to the end.
    Read {
        key: usize,
        range: Option<(u16, u16)>,
    },
    /// Somebody asks and leaves after some pieces.
    Leave { key: usize, pieces: u8 },
    /// The list changes.
    Publish,
    Purge {
        key: usize,
        hard: bool,
        module: bool,
    },
    /// A byte somewhere on disk is another one.
    Damage(Index, Index),
    /// The engine ends, gently or not, and is opened anew. Readers are served by the one they asked.
    Restart { gently: bool },
    /// Time passes.
    Wait(u64),
    /// Everybody comes to an end.
    Settle,
}

/// An origin that knows the truth and tells it badly.
struct World {
    /// Which truth the list is at.
    version: AtomicUsize,
    mischief: Mutex<VecDeque<Mischief>>,
    /// From now on it behaves.
    sober: AtomicBool,
}

impl World {
    fn next_mischief(&self) -> Mischief {
        if self.sober.load(Ordering::SeqCst) {
            return Mischief::None;
        }
        let mut plan = self.mischief.lock();
        let next = plan.pop_front().unwrap_or(Mischief::None);
        plan.push_back(next);
        next
    }
}

#[async_trait]
impl Origin for World {
    async fn send(&self, request: OriginRequest) -> Result<OriginResponse, OriginError> {
        let key = (0..=MUTABLE_KEY).find(|key| path(*key) == request.path);
        let key = key.expect("nobody asks for anything else");
        let body = truth(key, self.version.load(Ordering::SeqCst));
        let mischief = self.next_mischief();
        tokio::task::yield_now().await;
        let why = || "told to".to_owned();
        match mischief {
            Mischief::Silence => return Err(OriginError::Broken { why: why() }),
            Mischief::Error => {
                return Ok(told(Reply::error(502, "no-store", "upstream-unreachable")));
            }
            _ => {}
        }
        let etag = Sha256::of(&body).etag();
        if request.if_none_match.as_ref() == Some(&etag) {
            let control = if key == MUTABLE_KEY {
                MUTABLE
            } else {
                IMMUTABLE
            };
            return Ok(told(Reply::not_modified(control)));
        }
        let resumed = request.resume.filter(|resume| resume.if_range == etag);
        Ok(told(reply(
            key,
            &body,
            resumed.map(|resume| resume.from),
            mischief,
        )))
    }
}

fn told(reply: Reply) -> OriginResponse {
    let body = Box::new(Scripted {
        steps: reply.body,
        trailers: None,
    });
    OriginResponse {
        status: reply.status,
        headers: reply.headers,
        body,
    }
}

fn reply(key: usize, body: &Bytes, from: Option<u64>, mischief: Mischief) -> Reply {
    let control = if key == MUTABLE_KEY {
        MUTABLE
    } else {
        IMMUTABLE
    };
    let growing = matches!(mischief, Mischief::Growing);
    let from = from.filter(|_| !matches!(mischief, Mischief::Ignores));
    let status = if from.is_some() { 206 } else { 200 };
    let (mut reply, feed) = Reply::fed(status, &[(CACHE_CONTROL, control)]);
    if growing {
        let etag = Sha256::of(body).etag();
        reply.headers.insert(ETAG, etag);
        let trailer = HeaderValue::from_static("Repr-Digest");
        reply.headers.insert(TRAILER, trailer);
    } else {
        reply.describe(body);
    }
    let start = from.unwrap_or(0);
    if from.is_some() {
        let (end, len) = (body.len() as u64, Some(body.len() as u64));
        let range = ContentRange { start, end, len };
        reply.headers.insert(CONTENT_RANGE, range.to_header());
        reply.headers.remove(CONTENT_LENGTH);
    }
    let rest = body.slice(usize::try_from(start).unwrap()..);
    tell(&feed, &rest, mischief, Sha256::of(body));
    reply
}

/// Sends what is left of a body, well or badly.
fn tell(feed: &Feed, rest: &Bytes, mischief: Mischief, digest: Sha256) {
    match mischief {
        Mischief::Breaks(at) => {
            feed.bytes(&rest.slice(..at.index(rest.len() + 1)));
            feed.break_off();
        }
        Mischief::EndsEarly(at) => {
            feed.bytes(&rest.slice(..at.index(rest.len() + 1)));
            feed.end();
        }
        Mischief::Flips(at) if !rest.is_empty() => {
            let mut wrong = rest.to_vec();
            wrong[at.index(rest.len())] ^= 1;
            feed.bytes(&wrong.into());
            feed.end_with_digest(digest);
        }
        Mischief::TooLong => {
            feed.bytes(rest);
            feed.bytes(&Bytes::from_static(b"more"));
            feed.end_with_digest(digest);
        }
        _ => {
            feed.bytes(rest);
            feed.end_with_digest(digest);
        }
    }
}

/// Everything that events happen to.
struct Play {
    dir: TempDir,
    config: EngineConfig,
    world: Arc<World>,
    clock: Arc<Clock>,
    engine: Arc<Engine>,
    readers: JoinSet<()>,
    /// A request for the list that begins now gets no older truth.
    floor: usize,
}

impl Play {
    fn begin(mischief: Vec<Mischief>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = EngineConfig {
            name: "eu".into(),
            ..EngineConfig::default()
        };
        config.store.dir = dir.path().join("store");
        // Room for some of the objects, never for all.
        config.store.disk = ByteSize::mib(3);
        config.store.ram = ByteSize::kib(900);
        config.store.ram_body = ByteSize::kib(800);
        config.store.loose = ByteSize::kib(8);
        config.fill.memory = ByteSize::mib(1);
        config.fill.resume_pause = Period::millis(0);
        let world = Arc::new(World {
            version: AtomicUsize::new(0),
            mischief: Mutex::new(mischief.into()),
            sober: AtomicBool::new(false),
        });
        let clock = Arc::new(Clock::standing(1_800_000_000_000));
        let engine = opened(&config, &world, &clock);
        Self {
            dir,
            config,
            world,
            clock,
            engine,
            readers: JoinSet::new(),
            floor: 0,
        }
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::Read { key, range } => self.read(key, range),
            Event::Leave { key, pieces } => self.leave(key, pieces),
            Event::Publish => drop(self.world.version.fetch_add(1, Ordering::SeqCst)),
            Event::Purge { key, hard, module } => self.purge(key, hard, module).await,
            Event::Damage(file, at) => damage(&self.config.store.dir, file, at),
            Event::Restart { gently } => self.restart(gently).await,
            Event::Wait(secs) => self.clock.advance(Duration::from_secs(secs)),
            Event::Settle => self.settle().await,
        }
        tokio::task::yield_now().await;
    }

    fn read(&mut self, key: usize, range: Option<(u16, u16)>) {
        let (engine, world, floor) = (self.engine.clone(), self.world.clone(), self.floor);
        self.readers.spawn(async move {
            let asked = match range {
                Some((first, more)) => {
                    let first = u64::from(first) * 16;
                    let last = first + u64::from(more) * 8;
                    ranged(path(key), &format!("bytes={first}-{last}"))
                }
                None => asked(path(key)),
            };
            let answer = engine.answer(asked).await;
            let (status, range) = (answer.status, header(&answer, &CONTENT_RANGE));
            // A body that is cut off visibly is always allowed.
            if let Ok(body) = read(answer.body).await {
                let newest = world.version.load(Ordering::SeqCst);
                is_true(key, floor..=newest, status, &range, &body);
            }
        });
    }

    fn leave(&mut self, key: usize, pieces: u8) {
        let engine = self.engine.clone();
        self.readers.spawn(async move {
            let answer = engine.answer(asked(path(key))).await;
            if let Body::Stream(mut stream) = answer.body {
                for _ in 0..pieces {
                    if !matches!(stream.next().await, Ok(Some(_))) {
                        return;
                    }
                }
            }
        });
    }

    async fn purge(&mut self, key: usize, hard: bool, module: bool) {
        let selector = if module {
            Selector::module("example.com/m").unwrap()
        } else {
            Selector::key(path(key)).unwrap()
        };
        let concerns_list = module || key == MUTABLE_KEY;
        let mode = if hard { Mode::Hard } else { Mode::Soft };
        let version = self.world.version.load(Ordering::SeqCst);
        self.engine.purge(Purge { selector, mode }).await.unwrap();
        if hard && concerns_list {
            self.floor = version;
        }
    }

    async fn restart(&mut self, gently: bool) {
        // Two engines must not write to one folder.
        self.settle().await;
        if gently {
            self.engine.shutdown().await;
        }
        self.engine = opened(&self.config, &self.world, &self.clock);
    }

    /// Waits until every reader has its answer and no fill is running.
    async fn settle(&mut self) {
        while let Some(read) = self.readers.join_next().await {
            read.expect("a reader was not told the truth");
        }
        until_quiet(&self.engine).await;
    }

    /// The end: all is told truly, and everybody hears it.
    async fn end(mut self) {
        self.settle().await;
        self.world.sober.store(true, Ordering::SeqCst);
        // Longer than anything is remembered or stale.
        self.clock.advance(Duration::from_secs(30 * 86_400));
        for key in 0..=MUTABLE_KEY {
            let answer = self.engine.answer(asked(path(key))).await;
            let status = answer.status;
            let body = read(answer.body).await.expect("the origin behaves");
            let newest = self.world.version.load(Ordering::SeqCst);
            assert_eq!(status, StatusCode::OK, "{}", path(key));
            is_true(key, newest..=newest, status, "", &body);
        }
        until_quiet(&self.engine).await;
        // A fill's last word is spoken a moment before its memory is given back.
        let given_back = async {
            while self.engine.metrics.fill_memory.get() != 0 {
                tokio::task::yield_now().await;
            }
        };
        let within = Duration::from_secs(20);
        let given_back = tokio::time::timeout(within, given_back).await;
        given_back.expect("no fill keeps memory for ever");
        self.engine.store.check();
        drop(self.dir);
    }
}

fn opened(config: &EngineConfig, world: &Arc<World>, clock: &Arc<Clock>) -> Arc<Engine> {
    let metrics = EngineMetrics::new(&prometheus::Registry::new());
    let origin: Arc<dyn Origin> = world.clone();
    Engine::open_at(config, origin, Handle::current(), metrics, clock.clone()).unwrap()
}

async fn until_quiet(engine: &Engine) {
    while engine.health().fills > 0 || engine.metrics.fills_running.get() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Compares a complete answer with the truth.
fn is_true(
    key: usize,
    versions: std::ops::RangeInclusive<usize>,
    status: StatusCode,
    range: &str,
    body: &Bytes,
) {
    let path = path(key);
    let whole: Vec<Bytes> = versions
        .clone()
        .map(|version| truth(key, version))
        .collect();
    match status {
        StatusCode::OK => assert!(
            whole.contains(body),
            "{path}: {} bytes, not those of {versions:?}",
            body.len()
        ),
        StatusCode::PARTIAL_CONTENT => {
            let range = HeaderValue::from_str(range).unwrap();
            let range = ContentRange::parse(&range).expect("a 206 says which part it is");
            let (start, end) = (range.start as usize, range.end as usize);
            let is_part = |whole: &Bytes| whole.get(start..end) == Some(&body[..]);
            assert!(
                whole.iter().any(is_part),
                "{path}: not {start}..{end} of it"
            );
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {}
        // Everything exists: no failure is ever a "not found".
        status => assert!(status.is_server_error(), "{path}: {status}"),
    }
}

/// Flips a byte of some file of the store.
fn damage(dir: &Path, file: Index, at: Index) {
    let mut files = Vec::new();
    collect(dir, &mut files);
    files.sort();
    if files.is_empty() {
        return;
    }
    let file = file.get(&files);
    // It may be gone by now, or empty.
    let bytes = fs::read(file).unwrap_or_default();
    if !bytes.is_empty() {
        let at = at.index(bytes.len());
        overwrite(file, at, bytes[at] ^ 0x40);
    }
}

/// In place: the store has the file open.
fn overwrite(file: &Path, at: usize, byte: u8) {
    use std::os::unix::fs::FileExt;
    if let Ok(file) = fs::OpenOptions::new().write(true).open(file) {
        let _ = file.write_at(&[byte], at as u64);
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for item in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = item.path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}

fn mischief() -> impl Strategy<Value = Mischief> {
    let at = any::<Index>;
    prop_oneof![
        6 => Just(Mischief::None),
        3 => Just(Mischief::Growing),
        3 => at().prop_map(Mischief::Breaks),
        2 => at().prop_map(Mischief::EndsEarly),
        2 => at().prop_map(Mischief::Flips),
        1 => Just(Mischief::TooLong),
        1 => Just(Mischief::Ignores),
        1 => Just(Mischief::Error),
        1 => Just(Mischief::Silence),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let key = || 0..=MUTABLE_KEY;
    let range = prop::option::weighted(0.4, (any::<u16>(), any::<u16>()));
    prop_oneof![
        12 => (key(), range).prop_map(|(key, range)| Event::Read { key, range }),
        3 => (key(), 0..4_u8).prop_map(|(key, pieces)| Event::Leave { key, pieces }),
        2 => Just(Event::Publish),
        3 => (key(), any::<bool>(), any::<bool>())
            .prop_map(|(key, hard, module)| Event::Purge { key, hard, module }),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(file, at)| Event::Damage(file, at)),
        1 => any::<bool>().prop_map(|gently| Event::Restart { gently }),
        2 => prop_oneof![Just(1), Just(70), Just(1_000), Just(200_000)].prop_map(Event::Wait),
        2 => Just(Event::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_complete_response_is_right_whatever_happens(
        mischief in prop::collection::vec(mischief(), 1..24),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        threads.block_on(async {
            let mut play = Play::begin(mischief);
            for event in events {
                play.happens(event).await;
            }
            play.end().await;
        });
    }
}
