//! The head of an upstream's answer: whether its body can be what was asked.

use std::time::Duration;

use futures::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode, Version};
use reqwest::Response;
use tokio::time::timeout;

use super::told::root_cause;
use super::{Answer, Got, Told};
use crate::credentials::Authorization;
use crate::upstream::walk::Trouble;

/// How much of an error's body is looked at, and for how long.
const DETAIL_BYTES: usize = 2048;
const DETAIL_WAIT: Duration = Duration::from_secs(2);

/// How much of it is passed on.
const DETAIL_LINES: usize = 3;
const DETAIL_CHARS: usize = 200;

pub(super) async fn read_head(
    response: Response,
    told: &Told<'_>,
    conditional: bool,
    shown: Option<&Authorization>,
) -> Result<Got, Trouble> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if conditional => return Ok(Got::NotModified),
        status => {
            let mut detail = detail(response).await;
            if shown.is_some_and(|shown| shown.is_in(&detail)) {
                detail.clear();
            }
            return Err(told.status(status, &detail));
        }
    }
    if let Some(fault) = head_fault(&response) {
        return Err(told.content(fault));
    }
    let etag = response.headers().get(ETAG).cloned();
    let announced = content_length(&response);
    let pieces = response
        .bytes_stream()
        .map(|piece| piece.map_err(root_cause))
        .boxed();
    Ok(Got::Fresh(Answer {
        announced,
        pieces,
        etag,
    }))
}

fn content_length(response: &Response) -> Option<u64> {
    let value = response.headers().get(http::header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Why a 200 can't be the object, if its head shows it.
fn head_fault(response: &Response) -> Option<&'static str> {
    let headers = response.headers();
    let all_are = |name, text: &str| {
        let mut values = headers.get_all(name).iter();
        values.all(|value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(text.as_bytes()))
    };
    // Nothing is ever decoded: whatever a few bytes could grow into stays a few bytes.
    if !all_are(CONTENT_ENCODING, "identity") || !all_are(TRANSFER_ENCODING, "chunked") {
        return Some("an encoded body, which wasn't asked for");
    }
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    if content_type.trim_ascii().starts_with(b"text/html") {
        return Some("a web page (text/html)");
    }
    // Without a length and without chunks a body that broke off looks like one that ended.
    let framed = response.version() >= Version::HTTP_2
        || headers.contains_key(TRANSFER_ENCODING)
        || content_length(response).is_some();
    (!framed).then_some("a body of which nobody can tell whether it is complete")
}

/// The first lines of an error's plain text.
async fn detail(response: Response) -> String {
    let is_text = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    if !is_text {
        return String::new();
    }
    let mut text = Vec::new();
    let mut pieces = response.bytes_stream();
    let read = async {
        while let Some(Ok(piece)) = pieces.next().await {
            text.extend_from_slice(&piece);
            if text.len() >= DETAIL_BYTES {
                break;
            }
        }
    };
    // What came in time is enough.
    let _ = timeout(DETAIL_WAIT, read).await;
    let lines: Vec<String> = String::from_utf8_lossy(&text)
        .lines()
        .map(|line| line.trim().chars().take(DETAIL_CHARS).collect::<String>())
        .take_while(|line| !line.is_empty())
        .take(DETAIL_LINES)
        .collect();
    lines.join("\n")
}
