//! A site with Git repositories, as the web proxy of those who ask it: whatever `http://` address
//! they ask for, this answers. Its repositories are at `http://ANY.HOST/r/NAME.git`; for all other
//! paths it has pages with `go-import` tags, or what a test says. It speaks https for `forge.test` if it
//! was started so, and refuses it otherwise.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

use super::node::Node;
use super::repository::Repository;
use super::scratch::Scratch;

/// The hosts that modules of the tests are at, as patterns.
pub const TESTS: &str = "forge.test, other.test, gopkg.in";

/// A mount whose modules are all private ones of Git.
pub const PRIVATE: &str = "upstream: 'off', private: [forge.test, other.test, gopkg.in]";

/// A mount whose modules are all public ones of Git, vouched for by nobody.
pub const PUBLIC: &str = "upstream: direct, sumdb: {verify: 'off'}";

/// What the site says when asked for a path.
#[derive(Clone)]
pub enum Says {
    /// A page with a status.
    Page(u16, String),
    /// 200 and a text.
    Text(String),
    /// A redirect.
    Redirect(String),
    /// Nothing; the connection stays open.
    Nothing,
    /// 200, and then the same text over and over.
    Endlessly(&'static str, String),
}

/// A running site.
pub struct Forge {
    scratch: Scratch,
    address: SocketAddr,
    site: Arc<Site>,
}

struct Site {
    root: PathBuf,
    pages: Mutex<HashMap<String, Says>>,
    /// The `Authorization` that repositories and pages whose name begins so want.
    locked: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<String>>,
    /// Whether repositories keep whoever asks waiting.
    held: Mutex<bool>,
    released: Condvar,
    tls: Option<Arc<ServerConfig>>,
}

/// A connection, in clear text or not.
trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

struct Asked {
    method: String,
    /// Without host.
    path: String,
    query: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Forge {
    /// A site without anything.
    pub fn start() -> Forge {
        Forge::start_with(None, Scratch::new("forge"))
    }

    /// The same, with https.
    pub fn start_https() -> Forge {
        let scratch = Scratch::new("forge");
        let key = KeyPair::generate().expect("a key");
        let names = vec!["forge.test".to_owned()];
        let params = CertificateParams::new(names).expect("a valid name");
        let certificate = params.self_signed(&key).expect("a certificate");
        scratch.file("authority.pem", &certificate.pem());
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key in PKCS #8");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that the provider has")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key");
        Forge::start_with(Some(Arc::new(tls)), scratch)
    }

    fn start_with(tls: Option<Arc<ServerConfig>>, scratch: Scratch) -> Forge {
        super::require_tool("git", &["--version"]);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let site = Arc::new(Site {
            root: scratch.folder("r"),
            pages: Mutex::default(),
            locked: Mutex::default(),
            asked: Mutex::default(),
            held: Mutex::default(),
            released: Condvar::new(),
            tls,
        });
        let serving = site.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = serving.clone();
                thread::spawn(move || site.serve(&stream));
            }
        });
        Forge {
            scratch,
            address,
            site,
        }
    }

    /// The environment of those who reach the web through it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let proxy = format!("http://{}", self.address);
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"]
            .map(|name| (name.to_owned(), proxy.clone()))
            .to_vec()
    }

    /// An origin that reaches the web through it. `mount` and `git` are what its configuration says of
    /// the mount at `/` and of Git, YAML without braces. Nothing that may change is taken for fresh.
    pub fn origin(&self, mount: &str, git: &str) -> Node {
        self.origin_with(&[], mount, git)
    }

    /// The same, with more environment variables.
    pub fn origin_with(&self, more: &[(&str, &str)], mount: &str, git: &str) -> Node {
        let ours = self.environment();
        let ours = ours
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<(&str, &str)> = ours.chain(more.iter().copied()).collect();
        let protocols = if git.contains("protocols") {
            ""
        } else {
            "protocols: [https, ssh, http], "
        };
        let overrides = format!(
            "mounts: [{{prefix: /, {mount}}}]\n\
             freshness: {{mutable: 0s, stale_while_revalidate: 0s, not_found: 0s}}\n\
             git: {{{protocols}insecure: [{TESTS}], {git}}}\n"
        );
        Node::origin_in(&environment, "off", &overrides)
    }

    /// The certificate to trust for https.
    pub fn authority(&self) -> PathBuf {
        self.scratch.path().join("authority.pem")
    }

    /// Where the published repositories are.
    pub fn root(&self) -> &Path {
        &self.site.root
    }

    /// A new repository, at `http://ANY.HOST/r/NAME.git` once it is published.
    pub fn repository(&self, name: &str) -> Repository {
        self.repository_of(name, "sha1")
    }

    /// The same, with objects named by SHA-256.
    pub fn repository_sha256(&self, name: &str) -> Repository {
        self.repository_of(name, "sha256")
    }

    /// A repository that was made before.
    pub fn reopen(&self, name: &str) -> Repository {
        let work = self.scratch.folder("work").join(name);
        Repository::reopen(&work, &self.site.root.join(format!("{name}.git")))
    }

    fn repository_of(&self, name: &str, format: &str) -> Repository {
        let work = self.scratch.folder("work").join(name);
        Repository::new(&work, &self.site.root.join(format!("{name}.git")), format)
    }

    /// The page of a module, and of all packages below it, says where its repository is.
    pub fn import(&self, prefix: &str, repository: &str) {
        self.import_as(prefix, &format!("git http://forge.test/r/{repository}.git"));
    }

    /// As [`Forge::import`]; `content` is what comes after the prefix.
    pub fn import_as(&self, prefix: &str, content: &str) {
        let tag = format!("<meta name=\"go-import\" content=\"{prefix} {content}\">");
        self.page(
            prefix,
            Says::Page(200, format!("<html><head>{tag}</head></html>")),
        );
    }

    /// What is said at `HOST/PATH` and below, where nothing longer fits.
    pub fn page(&self, path: &str, says: Says) {
        let mut pages = self.site.pages.lock().expect("nobody panics with it");
        pages.insert(path.to_owned(), says);
    }

    /// Repositories and pages whose name begins so want this user and password.
    pub fn lock(&self, beginning: &str, user: &str, password: &str) {
        let wanted = format!("Basic {}", base64_of(&format!("{user}:{password}")));
        let mut locked = self.site.locked.lock().expect("nobody panics with it");
        locked.insert(beginning.to_owned(), wanted);
    }

    /// From now on repositories keep whoever asks waiting.
    pub fn hold(&self) {
        *self.site.held.lock().expect("nobody panics with it") = true;
    }

    /// No longer.
    pub fn release(&self) {
        *self.site.held.lock().expect("nobody panics with it") = false;
        self.site.released.notify_all();
    }

    /// Every path that was asked for so far, with its query.
    pub fn asked(&self) -> Vec<String> {
        self.site
            .asked
            .lock()
            .expect("nobody panics with it")
            .clone()
    }
}

impl Site {
    fn serve(&self, mut stream: &TcpStream) {
        let Some(asked) = read(&mut stream) else {
            return;
        };
        if asked.method != "CONNECT" {
            return self.respond(&mut stream, &asked);
        }
        let Some(tls) = &self.tls else {
            let _ = answer(&mut stream, "502 Bad Gateway", "", b"no https here");
            return;
        };
        let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
        let secured = ServerConnection::new(tls.clone()).expect("a usable configuration");
        let mut secured = StreamOwned::new(secured, stream);
        if let Some(asked) = read(&mut secured) {
            self.respond(&mut secured, &asked);
            secured.conn.send_close_notify();
            let _ = secured.flush();
        }
    }

    fn respond(&self, wire: &mut dyn Wire, asked: &Asked) {
        let Asked { path, query, .. } = asked;
        let line = format!("{path}?{query}");
        self.asked.lock().expect("nobody panics with it").push(line);
        let repository = path.split_once("/r/").map(|(_, below)| below.to_owned());
        let name = repository.as_deref().unwrap_or(path);
        // The client may be gone; nobody else cares.
        let _ = match (self.says(path), &repository) {
            _ if !self.admits(name, asked) => {
                let challenge = "WWW-Authenticate: Basic realm=\"forge\"\r\n";
                answer(wire, "401 Unauthorized", challenge, b"who are you?")
            }
            (Some(says), _) => say(wire, &says),
            (None, Some(below)) => self.backend(wire, asked, below),
            (None, None) => answer(wire, "404 Not Found", "", b"no such page"),
        };
    }

    fn admits(&self, name: &str, asked: &Asked) -> bool {
        let locked = self.locked.lock().expect("nobody panics with it");
        let mut wanted = locked
            .iter()
            .filter(|(beginning, _)| name.starts_with(*beginning));
        wanted.all(|(_, wanted)| asked.headers.get("authorization") == Some(wanted))
    }

    /// The page with the longest path.
    fn says(&self, path: &str) -> Option<Says> {
        let pages = self.pages.lock().expect("nobody panics with it");
        let fits = pages.iter().filter(|(page, _)| {
            path.strip_prefix(page.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let (_, says) = fits.max_by_key(|(page, _)| page.len())?;
        Some(says.clone())
    }

    /// `git http-backend`, as a CGI program.
    fn backend(&self, wire: &mut dyn Wire, asked: &Asked, below: &str) -> std::io::Result<()> {
        let held = self.held.lock().expect("nobody panics with it");
        let is_held = |held: &mut bool| *held;
        drop(self.released.wait_while(held, is_held));
        let header = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
        let mut child = Command::new("git")
            .args(["-c", "safe.directory=*", "http-backend"])
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", &asked.method)
            .env("PATH_INFO", format!("/{below}"))
            .env("QUERY_STRING", &asked.query)
            .env("CONTENT_TYPE", header("content-type"))
            .env("CONTENT_LENGTH", asked.body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
            .env("GIT_PROTOCOL", header("git-protocol"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need git: run script/setup --test");
        let mut input = child.stdin.take().expect("a piped input");
        let body = asked.body.clone();
        let writer = thread::spawn(move || input.write_all(&body));
        let output = child.wait_with_output()?;
        let _ = writer.join();
        let at = output.stdout.windows(4).position(|w| w == b"\r\n\r\n");
        let (head, body) = output.stdout.split_at(at.unwrap_or(0));
        let head = String::from_utf8_lossy(head).into_owned();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
        let status = status.unwrap_or("200 OK").to_owned();
        let fields = head.lines().filter(|line| !line.starts_with("Status: "));
        let fields: String = fields.map(|line| format!("{line}\r\n")).collect();
        answer(wire, &status, &fields, body.get(4..).unwrap_or_default())
    }
}

fn say(wire: &mut dyn Wire, says: &Says) -> std::io::Result<()> {
    match says {
        Says::Page(status, text) => {
            let html = "Content-Type: text/html\r\n";
            answer(wire, &format!("{status} Said"), html, text.as_bytes())
        }
        Says::Text(text) => answer(
            wire,
            "200 OK",
            "Content-Type: text/plain\r\n",
            text.as_bytes(),
        ),
        Says::Redirect(to) => answer(wire, "302 Found", &format!("Location: {to}\r\n"), b""),
        Says::Nothing => {
            // Until the client goes.
            let _ = wire.read(&mut [0; 1]);
            Ok(())
        }
        Says::Endlessly(kind, text) => {
            write!(wire, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n")?;
            loop {
                wire.write_all(text.as_bytes())?;
            }
        }
    }
}

fn answer(wire: &mut dyn Wire, status: &str, fields: &str, body: &[u8]) -> std::io::Result<()> {
    let len = body.len();
    write!(
        wire,
        "HTTP/1.1 {status}\r\n{fields}Content-Length: {len}\r\nConnection: close\r\n\r\n"
    )?;
    wire.write_all(body)
}

/// One request; `None` if it is none.
fn read(wire: &mut dyn Wire) -> Option<Asked> {
    let mut reader = BufReader::new(wire);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let body = if headers
        .get("transfer-encoding")
        .is_some_and(|v| v == "chunked")
    {
        chunked(&mut reader)?
    } else {
        let len = headers.get("content-length").and_then(|v| v.parse().ok());
        let mut body = vec![0; len.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        body
    };
    // A proxy is asked for whole addresses, except through a tunnel.
    let target = match target.strip_prefix("http://") {
        Some(target) => target.to_owned(),
        None => format!("{}{target}", headers.get("host").map_or("", String::as_str)),
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Asked {
        method,
        path: path.trim_end_matches('/').to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })
}

fn chunked(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let len = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; len + 2];
        reader.read_exact(&mut chunk).ok()?;
        if len == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..len]);
    }
}

fn base64_of(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for piece in text.as_bytes().chunks(3) {
        let bits = piece
            .iter()
            .enumerate()
            .fold(0, |sum, (at, byte)| sum | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= piece.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}
