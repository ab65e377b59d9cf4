//! Asking a node on its admin listener: to do something, with a token, or to tell something.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use modcdn_core::bearer;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::terminal::{error_lines, print};

/// Connecting, asking and being answered: a node answers when what it did is on its disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer is a line, or a table a PoP a line.
const MAX_ANSWER: usize = 1024 * 1024;

/// Posts JSON to the admin listener `admin` (`http://HOST:PORT`) and returns the body of a 200.
///
/// # Errors
/// Why not, for a person: it can't be reached, or what it says instead.
pub(crate) async fn post(
    admin: &str,
    path: &str,
    token: &str,
    body: Bytes,
) -> Result<Bytes, String> {
    let request = Request::post(path)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body));
    patiently(admin, request).await
}

/// Gets `path` from the admin listener `admin` and returns the body of a 200.
///
/// # Errors
/// As [`post`].
pub(crate) async fn get(admin: &str, path: &str) -> Result<Bytes, String> {
    patiently(admin, Request::get(path).body(Full::default())).await
}

/// What one of several nodes said.
#[derive(Serialize)]
pub(crate) struct Said<'a, T> {
    admin: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    done: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a, T> Said<'a, T> {
    /// What `admin` did, or why it did not.
    pub(crate) fn new(admin: &'a str, said: Result<T, String>) -> Self {
        let (done, error) = match said {
            Ok(done) => (Some(done), None),
            Err(error) => (None, Some(error)),
        };
        Self { admin, done, error }
    }
}

/// Posts the same JSON to the admin listeners of several nodes, at once. `read` makes something of a
/// good answer.
///
/// # Errors
/// Nobody could be asked: there is no token, or no runtime.
pub(crate) fn post_all<'a, T>(
    admins: impl Iterator<Item = &'a str>,
    path: &str,
    token_file: &Path,
    body: &Bytes,
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<Vec<Said<'a, T>>, Failure> {
    let token =
        bearer::own(token_file).map_err(|error| Failure::Usage(format!("--token-file {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::doing("starting", error))?;
    let asking = admins.map(async |admin| {
        let answer = post(admin, path, &token, body.clone()).await;
        Said::new(admin, answer.and_then(|body| read(&body)))
    });
    Ok(runtime.block_on(join_all(asking)))
}

/// Prints what nodes said: all of it as `json`, or else a line for each that did; one on stderr for each
/// that did not. Returns how many did not.
///
/// # Errors
/// It can't be written as JSON.
pub(crate) fn report<T>(
    said: &[Said<'_, T>],
    json: Option<&impl Serialize>,
    words: impl Fn(&T) -> String,
) -> Result<usize, Failure> {
    if let Some(line) = json {
        let line = serde_json::to_string(line);
        print(&line.map_err(|error| Failure::doing("writing JSON", error))?);
    }
    for said in said {
        match (&said.done, &said.error) {
            (Some(done), _) if json.is_none() => {
                print(&format!("{}: {}", said.admin, words(done)));
            }
            (_, Some(error)) => error_lines(&format!("{}: {error}", said.admin)),
            _ => {}
        }
    }
    Ok(said.iter().filter(|said| said.error.is_some()).count())
}

async fn patiently(
    admin: &str,
    request: http::Result<Request<Full<Bytes>>>,
) -> Result<Bytes, String> {
    let mut request = request.map_err(|error| error.to_string())?;
    let address = address(admin)?;
    let host = HeaderValue::from_str(address).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, host);
    let asked = timeout(PATIENCE, ask(address, request)).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

async fn ask(address: &str, request: Request<Full<Bytes>>) -> Result<Bytes, String> {
    let text = |error: &dyn Display| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|e| text(&e))?;
    let shaking = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaking.map_err(|e| text(&e))?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|e| text(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let body = body.collect().await.map_err(|e| text(&e))?.to_bytes();
    if status != StatusCode::OK {
        let said = String::from_utf8_lossy(&body);
        return Err(format!("{status}: {}", said.trim_end()));
    }
    Ok(body)
}

/// `HOST:PORT` of `http://HOST:PORT[/]` or of itself.
fn address(admin: &str) -> Result<&str, String> {
    if admin.starts_with("https://") {
        return Err("admin listeners speak plain http".to_owned());
    }
    let address = admin.strip_prefix("http://").unwrap_or(admin);
    let address = address.strip_suffix('/').unwrap_or(address);
    let port = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(_) if !address.contains('/') => Ok(address),
        _ => Err("write it as http://HOST:PORT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_named_by_url_or_address() {
        for admin in [
            "http://127.0.0.1:9080",
            "127.0.0.1:9080",
            "http://127.0.0.1:9080/",
        ] {
            assert_eq!(address(admin), Ok("127.0.0.1:9080"));
        }
        assert_eq!(address("[::1]:9080"), Ok("[::1]:9080"));
        for wrong in ["https://edge:1", "edge", "http://edge:1/metrics", "edge:x"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
