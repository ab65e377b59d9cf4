//! Asking for one thing.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use modcdn_core::goproxy::{ModulePath, Request, Version};
use modcdn_core::h1::H1;
use modcdn_origin::archive;
use reqwest::{Client, Response, StatusCode, Url};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::wanted::Item;
use crate::cli::WarmArgs;

/// How many are asked for at once, where nothing is said.
pub(super) const JOBS: usize = 16;

/// How often something that failed is asked for again, and after which pause.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// How long a head may take: an origin may have to fetch a repository first.
const HEAD: Duration = Duration::from_secs(60);

/// How long a pause between two pieces may be.
const STALL: Duration = Duration::from_secs(30);

/// Windows as the edge has them towards its origin.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;

/// A go.mod is no longer.
const MAX_MOD: usize = 16 << 20;

/// How much of a refusal is told.
const TOLD: usize = 200;

/// Asks one server.
pub(super) struct Asker {
    client: Client,
    base: Url,
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) bytes: u64,
    /// Whether it is known to be right.
    pub(super) verified: bool,
}

/// Why there is none, at the end.
pub(super) struct Missed {
    pub(super) text: String,
    /// There was no connection.
    pub(super) unreachable: bool,
}

/// Why there is none.
enum Fault {
    /// There was no connection.
    Unreachable(String),
    /// Again may help.
    Passing(String),
    Lasting(String),
}

impl Fault {
    fn of(error: reqwest::Error) -> Self {
        let is_connect = error.is_connect();
        let text = chain(&error.without_url());
        if is_connect {
            Self::Unreachable(text)
        } else {
            Self::Passing(text)
        }
    }

    fn is_lasting(&self) -> bool {
        matches!(self, Self::Lasting(_))
    }
}

impl From<Fault> for Missed {
    fn from(fault: Fault) -> Self {
        let unreachable = matches!(fault, Fault::Unreachable(_));
        let (Fault::Unreachable(text) | Fault::Passing(text) | Fault::Lasting(text)) = fault;
        Self { text, unreachable }
    }
}

impl Asker {
    /// # Errors
    /// If the URL or the file of certificates can't be used; in words.
    pub(super) fn new(args: &WarmArgs) -> Result<Self, String> {
        let url = &args.url;
        let base: Url = url
            .parse()
            .map_err(|fault| format!("--url {url}: {fault}"))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(format!("--url {url}: an http:// or https:// URL is needed"));
        }
        let mut client = Client::builder()
            .user_agent(concat!("modcdn-warm/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(STALL)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW);
        if let Some(path) = &args.ca {
            let said = |error: &dyn std::fmt::Display| format!("--ca {}: {error}", path.display());
            let pem = fs::read(path).map_err(|error| said(&error))?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem);
            for certificate in bundle.map_err(|error| said(&error))? {
                client = client.add_root_certificate(certificate);
            }
        }
        let client = client.build().map_err(|error| error.to_string())?;
        Ok(Self { client, base })
    }

    /// Asks, a few times if need be; reads the answer to its end, and judges it.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub(super) async fn ask(&self, item: &Item) -> Result<Got, Missed> {
        let mut tries = 1;
        loop {
            match self.ask_once(item).await {
                Ok(got) => return Ok(got),
                Err(fault) if !fault.is_lasting() && tries < TRIES => {
                    sleep(PAUSE * u32::try_from(tries).unwrap_or(1)).await;
                    tries += 1;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    async fn ask_once(&self, item: &Item) -> Result<Got, Fault> {
        let response = timeout(HEAD, self.client.get(self.url(&item.request)).send())
            .await
            .map_err(|_| Fault::Passing(format!("no answer within {HEAD:?}")))?
            .map_err(Fault::of)?;
        if response.status() != StatusCode::OK {
            return Err(refused(response).await);
        }
        match (&item.request, item.h1) {
            (Request::Mod(..), Some(h1)) => go_mod(response, h1).await,
            (Request::Zip(module, version), Some(h1)) => zip(response, module, version, h1).await,
            _ => drain(response).await,
        }
    }

    fn url(&self, request: &Request) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}{}", url.path().trim_end_matches('/'), request.path());
        url.set_path(&path);
        url
    }
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

async fn refused(response: Response) -> Fault {
    let status = response.status();
    let said = timeout(STALL, response.text()).await;
    let said = said.ok().and_then(Result::ok).unwrap_or_default();
    let said: String = said
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(TOLD)
        .collect();
    let text = format!("{status}: {said}");
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Fault::Passing(text)
    } else {
        Fault::Lasting(text)
    }
}

async fn piece(response: &mut Response) -> Result<Option<Bytes>, Fault> {
    let next = timeout(STALL, response.chunk()).await;
    let next = next.map_err(|_| Fault::Passing(format!("nothing came for {STALL:?}")))?;
    next.map_err(|error| Fault::Passing(format!("broke off: {}", chain(&error.without_url()))))
}

async fn drain(mut response: Response) -> Result<Got, Fault> {
    let mut bytes = 0;
    while let Some(piece) = piece(&mut response).await? {
        bytes += piece.len() as u64;
    }
    let verified = false;
    Ok(Got { bytes, verified })
}

async fn go_mod(mut response: Response, h1: H1) -> Result<Got, Fault> {
    let mut text = Vec::new();
    while let Some(piece) = piece(&mut response).await? {
        text.extend_from_slice(&piece);
        if text.len() > MAX_MOD {
            return Err(Fault::Lasting("is longer than any go.mod".to_owned()));
        }
    }
    is_right(H1::of_mod(&text), h1, text.len() as u64)
}

async fn zip(
    mut response: Response,
    module: &ModulePath,
    version: &Version,
    h1: H1,
) -> Result<Got, Fault> {
    let io = |error: std::io::Error| Fault::Lasting(format!("no room for it: {error}"));
    let file = Arc::new(
        spawn_blocking(tempfile::tempfile)
            .await
            .map_err(|error| joined(&error))?
            .map_err(io)?,
    );
    let limits = archive::Limits::default();
    let mut bytes = 0;
    while let Some(piece) = piece(&mut response).await? {
        bytes += piece.len() as u64;
        if bytes > limits.packed {
            return Err(Fault::Lasting("is longer than any module's zip".to_owned()));
        }
        let file = file.clone();
        let written = spawn_blocking(move || (&*file).write_all(&piece)).await;
        written.map_err(|error| joined(&error))?.map_err(io)?;
    }
    let (module, version) = (module.clone(), version.clone());
    let judged = spawn_blocking(move || judge(&file, bytes, &module, &version, &limits)).await;
    is_right(judged.map_err(|error| joined(&error))??, h1, bytes)
}

fn judge(
    file: &File,
    len: u64,
    module: &ModulePath,
    version: &Version,
    limits: &archive::Limits,
) -> Result<H1, Fault> {
    let checked = archive::check(file, len, module, version, limits);
    let checked = checked.map_err(|fault| Fault::Lasting(format!("the zip {fault}")))?;
    Ok(checked.h1)
}

fn joined(error: &tokio::task::JoinError) -> Fault {
    Fault::Lasting(error.to_string())
}

fn is_right(found: H1, wanted: H1, bytes: u64) -> Result<Got, Fault> {
    if found == wanted {
        let verified = true;
        return Ok(Got { bytes, verified });
    }
    let text = format!("WRONG CONTENT: it hashes to {found}, and go.sum says {wanted}");
    Err(Fault::Lasting(text))
}
