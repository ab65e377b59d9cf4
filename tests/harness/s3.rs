//! A real server that speaks S3 (versitygw over a folder), and a line to it that fails on command.
//!
//! The server is built once from `tests/s3server` and kept under the target folder. Its objects are
//! plain files: a test can look at them, and spoil them.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use modcdn_core::digest::Sha256;

use super::node::files;
use super::process::Process;
use super::scratch::Scratch;
use super::{ports, repository, until_true};

const BUCKET: &str = "modules";
const KEY: &str = "tests-key-id";
const SECRET: &str = "tests-secret-key";

/// The server. It stops when dropped.
pub struct S3 {
    scratch: Scratch,
    address: String,
    line: Line,
    process: Option<Process>,
    starts: u32,
}

impl S3 {
    /// A server with an empty bucket.
    pub fn start() -> S3 {
        let scratch = Scratch::new("s3");
        scratch.folder(&format!("root/{BUCKET}"));
        let text =
            format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
        scratch.file("credentials", &text);
        let address = format!("127.0.0.1:{}", ports::free());
        let line = Line::to(&address);
        let mut s3 = S3 {
            scratch,
            address,
            line,
            process: None,
            starts: 0,
        };
        s3.restart();
        s3
    }

    /// Starts it again after [`S3::kill`].
    pub fn restart(&mut self) {
        self.starts += 1;
        let log = self.scratch.path().join(format!("s3-{}.log", self.starts));
        let mut command = Command::new(server());
        command
            .args(["--access", KEY, "--secret", SECRET, "--quiet"])
            .args(["--port", &self.address, "posix"])
            .arg(self.scratch.path().join("root"))
            .stdout(Stdio::null());
        self.process = Some(Process::spawn(command, &log));
        until_true("the S3 server to listen", || {
            TcpStream::connect(&self.address).is_ok()
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        self.line.drop_all();
    }

    /// What an origin's `store` needs to use it: YAML, to be laid over the rest. `more` is led by a
    /// comma.
    pub fn store(&self, more: &str) -> String {
        let credentials = self.scratch.path().join("credentials");
        format!(
            "store: {{s3: {{bucket: {BUCKET}, prefix: a/b, endpoint: 'http://{}', \
             path_style: true, allow_http: true, credentials: '{}', part_size: 5MiB, \
             answer_timeout: 2s, stall_timeout: 1s {more}}}}}\n",
            self.line.address,
            credentials.display(),
        )
    }

    /// The same with the timeouts, sizes and memory that an origin has by default.
    pub fn patient(&self) -> String {
        let credentials = self.scratch.path().join("credentials");
        format!(
            "store: {{s3: {{bucket: {BUCKET}, endpoint: 'http://{}', \
             path_style: true, allow_http: true, credentials: '{}', answer_timeout: 30s}}}}\n",
            self.line.address,
            credentials.display(),
        )
    }

    /// The line to it.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The file of the object that a request path names.
    pub fn object(&self, path: &str) -> PathBuf {
        self.bucket().join("a/b").join(path.trim_start_matches('/'))
    }

    /// Turns one byte of an object around.
    pub fn spoil(&self, path: &str, at: u64) {
        let mut options = File::options();
        let file = options.read(true).write(true).open(self.object(path));
        let file = file.expect("the object is there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it is that long");
        file.write_all_at(&[!byte[0]], at)
            .expect("it can be written");
    }

    /// The keys of all objects, without the server's own files.
    pub fn keys(&self) -> Vec<String> {
        let bucket = self.bucket();
        let files = files(&bucket).into_iter();
        let key = |(path, _): (PathBuf, u64)| {
            let key = path.strip_prefix(&bucket).ok()?.to_str()?.to_owned();
            (!key.starts_with(".sgwtmp")).then_some(key)
        };
        files.filter_map(key).collect()
    }

    /// How many parts of bodies that are no objects yet lie there.
    pub fn parts(&self) -> usize {
        files(&self.bucket().join(".sgwtmp/multipart")).len()
    }

    fn bucket(&self) -> PathBuf {
        self.scratch.path().join("root").join(BUCKET)
    }
}

/// The server's binary; the first call on a machine builds it.
fn server() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = repository().join("tests/s3server");
        let pinned = fs::read(source.join("go.sum")).expect("tests/s3server/go.sum");
        let pin = Sha256::of(&pinned).to_string()[..16].to_owned();
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3server");
        fs::create_dir_all(&kept).expect("a folder for the server");
        let lock = File::create(kept.join("lock")).expect("a lock file");
        lock.lock().expect("it can be locked");
        let binary = kept.join(pin);
        if !binary.exists() {
            let made = kept.join("made");
            let ran = Command::new("go")
                .args(["build", "-o"])
                .arg(&made)
                .arg("github.com/versity/versitygw/cmd/versitygw")
                .current_dir(source)
                .env("GOTOOLCHAIN", "local")
                .env("GOFLAGS", "-mod=mod")
                .env("GOWORK", "off")
                .output()
                .expect("this test needs the go command on PATH (Go 1.23 or later)");
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "cannot build the S3 server:\n{said}");
            fs::rename(made, &binary).expect("it can be renamed");
        }
        binary
    })
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Connections are closed at once.
    Closed,
    /// Nothing goes through, and nothing is closed.
    Stalls,
    /// Every request is answered 500.
    Errors,
    /// Each connection ends after so many bytes of answers, as often as is said.
    Cut { after: usize, times: usize },
    /// As [`Fault::Cut`], but it stalls instead of ending.
    StallsAfter { after: usize, times: usize },
    /// After so many more bytes of requests nothing goes through.
    TakesOnly(usize),
}

struct State {
    fault: Fault,
    open: Vec<TcpStream>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// A TCP proxy with faults.
pub struct Line {
    address: SocketAddr,
    state: Shared,
}

impl Line {
    fn to(server: &str) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state: Shared = Arc::new((
            Mutex::new(State {
                fault: Fault::None,
                open: Vec::new(),
            }),
            Condvar::new(),
        ));
        let (shared, server) = (state.clone(), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, server) = (shared.clone(), server.clone());
                std::thread::spawn(move || connect(client, &server, &shared));
            }
        });
        Line { address, state }
    }

    /// From now on, for new and old connections.
    pub fn set(&self, fault: Fault) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().expect("no panic with the state in hand");
        state.fault = fault;
        if !matches!(fault, Fault::None | Fault::Stalls | Fault::TakesOnly(_)) {
            for stream in state.open.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        changed.notify_all();
    }

    /// Whether nothing goes through.
    pub fn stalls(&self) -> bool {
        fault(&self.state) == Fault::Stalls
    }

    fn drop_all(&self) {
        let mut state = self
            .state
            .0
            .lock()
            .expect("no panic with the state in hand");
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn fault(shared: &Shared) -> Fault {
    shared
        .0
        .lock()
        .expect("no panic with the state in hand")
        .fault
}

/// Waits until nothing stalls.
fn pass(shared: &Shared) {
    let (state, changed) = &**shared;
    let state = state.lock().expect("no panic with the state in hand");
    let stalls = |state: &mut State| state.fault == Fault::Stalls;
    drop(
        changed
            .wait_while(state, stalls)
            .expect("no panic with the state in hand"),
    );
}

fn connect(client: TcpStream, server: &str, shared: &Shared) {
    match fault(shared) {
        Fault::Closed => return,
        Fault::Errors => return answer_500(client),
        _ => pass(shared),
    }
    let Ok(server) = TcpStream::connect(server) else {
        return;
    };
    let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    {
        let mut state = shared.0.lock().expect("no panic with the state in hand");
        for stream in [&client, &server] {
            state.open.extend(stream.try_clone());
        }
    }
    let upwards = shared.clone();
    std::thread::spawn(move || copy(from, to, &upwards, false));
    copy(server, client, shared, true);
}

fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared, is_answer: bool) {
    let mut buffer = [0; 16 * 1024];
    let mut copied = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if !is_answer {
            give(shared, read);
        }
        pass(shared);
        copied += read;
        if is_answer {
            match takes(shared, copied) {
                Fault::Cut { .. } => break,
                Fault::StallsAfter { .. } => {
                    // Held open until the other side has had enough.
                    while matches!(to.read(&mut buffer), Ok(1..)) {}
                    break;
                }
                _ => {}
            }
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Bytes of a request go through.
fn give(shared: &Shared, bytes: usize) {
    let mut state = shared.0.lock().expect("no panic with the state in hand");
    if let Fault::TakesOnly(left) = &mut state.fault {
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            state.fault = Fault::Stalls;
        }
    }
}

/// The fault that hits a connection with so many bytes of answers; it is used up by that.
fn takes(shared: &Shared, copied: usize) -> Fault {
    let mut state = shared.0.lock().expect("no panic with the state in hand");
    match &mut state.fault {
        Fault::Cut { after, times } | Fault::StallsAfter { after, times }
            if copied > *after && *times > 0 =>
        {
            *times -= 1;
            state.fault
        }
        _ => Fault::None,
    }
}

fn answer_500(mut client: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    let _ = client.read(&mut buffer);
    let text = "<Error><Code>InternalError</Code><Message>broken on purpose</Message></Error>";
    let head = "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: ";
    let _ = write!(client, "{head}{}\r\n\r\n{text}", text.len());
    // What is left unread would reset the connection before the answer is read.
    let _ = client.shutdown(Shutdown::Write);
    while matches!(client.read(&mut buffer), Ok(1..)) {}
}
