//! An edge with plain HTTP mounts, origins that give the answers they were handed, and a client. All
//! over real sockets. One edge serves most tests, which have paths of their own; those that need a
//! whole origin to fail have a [`World`] of their own.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::{ByteSize, Period};
use modcdn_edge::config::mounts::{MountConfig, MountKind};
use modcdn_edge::config::{BreakerConfig, Config, FillConfig, HttpConfig, StoreConfig};
use modcdn_edge::{Start, run};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A body longer than the edge here stores.
pub(crate) const TOO_LONG: usize = 300_000;

/// One answer of the origin: bytes as they are sent, then the connection is closed if `close`.
#[derive(Clone)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    close: bool,
    gate: Option<Gate>,
    /// Then nothing comes until this is open.
    stall: Option<Gate>,
}

/// Holds an answer back until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(
            self.0
                .1
                .wait_timeout_while(open, PATIENCE, |open| !*open)
                .unwrap(),
        );
    }
}

impl Reply {
    /// A whole answer; fields are lines.
    pub(crate) fn new(status: u16, fields: &str, body: &str) -> Reply {
        let length = match status {
            204 | 304 => String::new(),
            _ => format!("Content-Length: {}\n", body.len()),
        };
        Reply::raw(&format!("HTTP/1.1 {status} X\n{length}{fields}\n\n"), body)
    }

    /// A head with newlines for CRLFs and what follows it, as it is.
    pub(crate) fn raw(head: &str, body: &str) -> Reply {
        let lines = head
            .trim_end()
            .lines()
            .map(|line| format!("{}\r\n", line.trim()));
        let mut bytes: Vec<u8> = lines
            .filter(|line| line != "\r\n")
            .collect::<String>()
            .into();
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        Reply {
            bytes,
            close: false,
            gate: None,
            stall: None,
        }
    }

    /// Sends these bytes instead.
    pub(crate) fn replace(&mut self, bytes: &str) {
        self.bytes = bytes.into();
    }

    pub(crate) fn then_closes(self) -> Reply {
        Reply {
            close: true,
            ..self
        }
    }

    pub(crate) fn then_stalls(self) -> Reply {
        Reply {
            close: true,
            stall: Some(Gate::default()),
            ..self
        }
    }

    pub(crate) fn behind(self, gate: &Gate) -> Reply {
        Reply {
            gate: Some(gate.clone()),
            ..self
        }
    }
}

/// A request as the origin got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }
}

/// An answer as the client got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
    /// The framing's end was there.
    pub(crate) complete: bool,
}

impl Got {
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }

    /// What the cache did, without our name.
    pub(crate) fn cache(&self) -> String {
        let said = self.field("cache-status").unwrap_or_default();
        said.rsplit("eu; ").next().unwrap_or_default().to_owned()
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache().starts_with("hit")
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let values: Vec<&str> = lines
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// A resource of an origin.
pub(crate) struct Page {
    pub(crate) path: String,
    edge: SocketAddr,
    origin: Origin,
}

impl Page {
    /// One of the edge that most tests share.
    pub(crate) fn new(name: &str) -> Page {
        let (world, origin) = shared();
        world.page(origin, &format!("/{name}"))
    }

    /// The origin's next answer.
    pub(crate) fn will(&self, reply: Reply) -> &Page {
        let mut script = self.origin.script.lock().unwrap();
        script
            .replies
            .entry(self.path.clone())
            .or_default()
            .push_back(reply);
        self
    }

    pub(crate) fn answers(&self, status: u16, fields: &str, body: &str) -> &Page {
        self.will(Reply::new(status, fields, body))
    }

    pub(crate) fn get(&self, fields: &str) -> Got {
        self.ask("GET", fields, "")
    }

    pub(crate) fn ask(&self, method: &str, fields: &str, body: &str) -> Got {
        ask_at(self.edge, method, &self.path, fields, body)
    }

    /// Announces a body, sends some of it, and is gone once the origin could have noticed.
    pub(crate) fn break_off_upload(&self) {
        let mut stream = self.begin_upload();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }

    /// Announces a body, and sends some of it.
    pub(crate) fn begin_upload(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.edge).unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: cdn.test\r\nContent-Length: 100\r\n\r\nsome",
            self.path
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Asks, and reads no more than the head, as long as what is returned lives.
    pub(crate) fn get_and_read_nothing(&self) -> (u16, TcpStream) {
        let stream = TcpStream::connect(self.edge).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("GET {} HTTP/1.1\r\nHost: cdn.test\r\n\r\n", self.path);
        (&stream).write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::with_capacity(1, stream);
        let head = read_head(&mut reader).expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, reader.into_inner())
    }

    /// Asks by HTTP/1.0.
    pub(crate) fn get_by_http10(&self) -> Got {
        let mut stream = TcpStream::connect(self.edge).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("GET {} HTTP/1.0\r\nHost: cdn.test\r\n\r\n", self.path);
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut BufReader::new(stream), false)
    }

    /// Asks by HTTP/2; the fields of the answer.
    pub(crate) fn head_by_http2(&self, method: &str) -> http::HeaderMap {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(self.edge).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut send = send.ready().await.unwrap();
            let uri = format!("http://cdn.test{}", self.path);
            let request = http::Request::builder().method(method).uri(uri);
            let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
            response.await.unwrap().into_parts().0.headers
        })
    }

    /// The requests that the origin got for it.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let script = self.origin.script.lock().unwrap();
        let own = |seen: &&Seen| seen.target.split('?').next() == Some(&self.path);
        script.seen.iter().filter(own).cloned().collect()
    }

    pub(crate) fn asked(&self) -> usize {
        self.seen().len()
    }

    /// Waits until the origin got so many.
    pub(crate) fn wait_asked(&self, requests: usize) {
        let until = Instant::now() + PATIENCE;
        while self.asked() < requests {
            assert!(
                Instant::now() < until,
                "{}: only {} requests",
                self.path,
                self.asked()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks until the answer is as it should be: what happens in the background takes its time.
    pub(crate) fn get_until(&self, fits: impl Fn(&Got) -> bool) -> Got {
        let until = Instant::now() + PATIENCE;
        loop {
            let got = self.get("");
            if fits(&got) {
                return got;
            }
            assert!(Instant::now() < until, "{}: {got:?}", self.path);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One request to the edge that most tests share.
pub(crate) fn ask(method: &str, target: &str, fields: &str, body: &str) -> Got {
    ask_at(shared().0.edge, method, target, fields, body)
}

/// One request on a connection of its own.
fn ask_at(edge: SocketAddr, method: &str, target: &str, fields: &str, body: &str) -> Got {
    let mut stream = TcpStream::connect(edge).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let fields: String = fields
        .lines()
        .map(|line| format!("{}\r\n", line.trim()))
        .filter(|line| line != "\r\n")
        .collect();
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: cdn.test\r\nConnection: close\r\n{fields}{length}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    read_answer(&mut BufReader::new(stream), method == "HEAD")
}

fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(1..) if line == "\r\n" => return Some(head),
            Ok(1..) => head.push_str(&line),
            _ => return None,
        }
    }
}

fn read_answer(reader: &mut impl BufRead, is_head: bool) -> Got {
    let head = read_head(reader).expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let bodiless = is_head || matches!(status, 204 | 304);
    let (body, complete) = if bodiless {
        (Vec::new(), true)
    } else {
        read_body(reader, &head)
    };
    Got {
        status,
        head,
        body: String::from_utf8(body).unwrap(),
        complete,
    }
}

fn read_body(reader: &mut impl BufRead, head: &str) -> (Vec<u8>, bool) {
    if field(head, "transfer-encoding").is_some() {
        return read_chunks(reader);
    }
    let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = Vec::new();
    let read = reader.take(length).read_to_end(&mut body);
    let complete = read.is_ok() && body.len() as u64 == length;
    (body, complete)
}

fn read_chunks(reader: &mut impl BufRead) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return (body, false);
        }
        let Ok(size) = u64::from_str_radix(line.trim(), 16) else {
            return (body, false);
        };
        let mut chunk = Vec::new();
        if reader.take(size + 2).read_to_end(&mut chunk).is_err() || chunk.len() as u64 != size + 2
        {
            return (body, false);
        }
        body.extend_from_slice(&chunk[..chunk.len() - 2]);
        if size == 0 {
            return (body, true);
        }
    }
}

/// An HTTP date some seconds ago.
pub(crate) fn ago(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(seconds))
}

/// An HTTP date in some seconds.
pub(crate) fn ahead(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
}

/// An edge. It runs until the process ends.
pub(crate) struct World {
    pub(crate) edge: SocketAddr,
    admin: SocketAddr,
    _dir: tempfile::TempDir,
}

impl World {
    /// Starts an edge with an empty store, whose plain HTTP mounts are these, and waits until it is
    /// ready.
    pub(crate) fn start(mounts: &[(&str, &Origin)], change: impl FnOnce(&mut Config)) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(mounts, &dir);
        change(&mut config);
        let (edge, admin) = (config.listen[0], config.admin);
        thread::spawn(move || run(&config, Start::Fresh, &|| Ok(config.clone())).unwrap());
        let world = World {
            edge,
            admin,
            _dir: dir,
        };
        let until = Instant::now() + PATIENCE;
        while !world.admin("/readyz").contains(" 200 ") {
            assert!(Instant::now() < until, "the edge does not become ready");
            thread::sleep(Duration::from_millis(10));
        }
        world
    }

    /// What `origin` has under `path`.
    pub(crate) fn page(&self, origin: &Origin, path: &str) -> Page {
        Page {
            path: path.to_owned(),
            edge: self.edge,
            origin: origin.clone(),
        }
    }

    /// The value of a metric, named with its labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.admin("/metrics");
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    fn admin(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.admin) {
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            if stream.write_all(head.as_bytes()).is_ok() {
                let _ = stream.read_to_string(&mut answer);
            }
        }
        answer
    }
}

/// The edge that most tests share, and the origin of its only mount.
fn shared() -> &'static (World, Origin) {
    static SHARED: OnceLock<(World, Origin)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let origin = Origin::start();
        let world = World::start(&[("/", &origin)], |_| {});
        (world, origin)
    })
}

/// Waits for something to become true.
pub(crate) fn until(is_true: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

fn config(mounts: &[(&str, &Origin)], dir: &tempfile::TempDir) -> Config {
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let mounts = mounts.iter().map(|(prefix, origin)| MountConfig {
        prefix: (*prefix).to_owned(),
        kind: MountKind::Http,
        origin: Some(format!("http://{}", origin.address)),
        host: None,
        ca: None,
    });
    Config {
        name: "eu".to_owned(),
        listen: vec![free()],
        admin: free(),
        access_log: AccessTarget::Off,
        threads: 1,
        mounts: mounts.collect(),
        http: HttpConfig {
            body: ByteSize::b(TOO_LONG as u64 - 1),
            first_byte_timeout: Period::secs(10),
            retry: Period::secs(3600),
            breaker: never_open(),
            ..HttpConfig::default()
        },
        // What fails is asked for again at once, but where that is what a test is about.
        fill: FillConfig {
            failed_memory: Period::secs(0),
            ..FillConfig::default()
        },
        store: StoreConfig {
            dir: dir.path().join("store"),
            disk: ByteSize::mib(64),
            ram: ByteSize::mib(16),
            ..StoreConfig::default()
        },
        ..Config::default()
    }
}

/// Many tests share an origin that hangs up now and then: it must not be suspended for all of them.
fn never_open() -> BreakerConfig {
    BreakerConfig {
        window: 64,
        failures: 64,
        ..BreakerConfig::default()
    }
}

/// An origin: listens, and gives each path's answers in their order. Without one it hangs up.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    replies: HashMap<String, VecDeque<Reply>>,
    /// What is answered where there is none of these.
    otherwise: Option<Reply>,
    /// Nothing is answered until it is open.
    silence: Option<Gate>,
    seen: Vec<Seen>,
}

impl Origin {
    pub(crate) fn start() -> Origin {
        Origin::at("127.0.0.1:0")
    }

    pub(crate) fn at(address: &str) -> Origin {
        let listener = TcpListener::bind(address).unwrap();
        let origin = Origin {
            address: listener.local_addr().unwrap(),
            script: Arc::default(),
        };
        let script = Arc::clone(&origin.script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let script = Arc::clone(&script);
                thread::spawn(move || serve(stream.unwrap(), &script));
            }
        });
        origin
    }

    /// The answer to everything that has none of its own.
    pub(crate) fn otherwise(&self, reply: Reply) {
        self.script.lock().unwrap().otherwise = Some(reply);
    }

    /// Takes requests and never answers them.
    pub(crate) fn falls_silent(&self) {
        self.script.lock().unwrap().silence = Some(Gate::default());
    }

    pub(crate) fn speaks_again(&self) {
        let silence = self.script.lock().unwrap().silence.take();
        silence.unwrap().open();
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.script.lock().unwrap().seen.len()
    }
}

fn serve(stream: TcpStream, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(head) = read_head(&mut reader) {
        let mut first = head.split(' ').map(str::to_owned);
        let (method, target) = (first.next().unwrap(), first.next().unwrap());
        let (body, complete) = read_body(&mut reader, &head);
        if !complete {
            return;
        }
        let path = target.split('?').next().unwrap().to_owned();
        let body = String::from_utf8(body).unwrap();
        let (reply, silence) = {
            let mut script = script.lock().unwrap();
            script.seen.push(Seen {
                method,
                target,
                head,
                body,
            });
            let own = script.replies.get_mut(&path).and_then(VecDeque::pop_front);
            (own.or(script.otherwise.clone()), script.silence.clone())
        };
        if let Some(silence) = silence {
            return silence.pass();
        }
        let Some(reply) = reply else { return };
        if let Some(gate) = &reply.gate {
            gate.pass();
        }
        let sent = stream.write_all(&reply.bytes);
        if let Some(stall) = &reply.stall {
            stall.pass();
        }
        if sent.is_err() || reply.close {
            return;
        }
    }
}
