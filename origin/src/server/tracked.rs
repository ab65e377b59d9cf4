//! A response's body under observation: counted while it is sent, logged when it is over.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use modcdn_core::headers::MODCDN_REASON;
use modcdn_core::telemetry::{AccessLog, timestamp};
use serde::Serialize;

use super::activity::{Activity, Sending};
use crate::answer::Body;
use crate::metrics::Metrics;

/// One line of the access log.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) ts: String,
    pub(crate) role: &'static str,
    pub(crate) name: String,
    pub(crate) client: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) protocol: &'static str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Whether the response ended before its announced end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cut: bool,
}

/// A request's fate, known when its response's body is dropped.
pub(crate) struct Tracked {
    body: Body,
    sent: u64,
    /// What `Content-Length` says; HTTP/1.1 stops asking for frames there.
    expected: Option<u64>,
    state: State,
    record: Option<Box<Record>>,
    sending: Sending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sending,
    Ended,
    Broken,
}

/// What is known of a request before its body is sent.
pub(crate) struct Record {
    pub(crate) started: Instant,
    pub(crate) kind: &'static str,
    pub(crate) line: Line,
    pub(crate) log: AccessLog,
    pub(crate) metrics: Metrics,
}

/// Puts a response under observation.
pub(crate) fn track(
    response: Response<Body>,
    mut record: Record,
    activity: &Arc<Activity>,
) -> Response<Tracked> {
    let (head, body) = response.into_parts();
    record.line.status = head.status.as_u16();
    let reason = head.headers.get(MODCDN_REASON);
    record.line.reason = reason.and_then(|value| value.to_str().ok().map(str::to_owned));
    let length = head.headers.get(CONTENT_LENGTH);
    let expected = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let bodyless = body.is_end_stream() || head.status == StatusCode::NOT_MODIFIED;
    let tracked = Tracked {
        body,
        sent: 0,
        expected,
        state: if bodyless {
            State::Ended
        } else {
            State::Sending
        },
        record: Some(Box::new(record)),
        sending: activity.sending(),
    };
    Response::from_parts(head, tracked)
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.sending.asked();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.sending.given();
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.sent += data.len() as u64;
                } else {
                    // Trailers are last: nobody asks for more.
                    self.state = State::Ended;
                }
            }
            Some(Err(_)) => self.state = State::Broken,
            None => self.state = State::Ended,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else {
            return;
        };
        let complete = self.state == State::Ended
            || (self.state == State::Sending
                && (self.expected == Some(self.sent) || self.body.is_end_stream()));
        record.close(self.sent, complete, self.state == State::Broken);
    }
}

impl Record {
    fn close(self, sent: u64, complete: bool, broken: bool) {
        let metrics = &self.metrics;
        let elapsed = self.started.elapsed();
        let status = self.line.status.to_string();
        metrics
            .requests
            .with_label_values(&[self.kind, &status])
            .inc();
        metrics
            .protocol_requests
            .with_label_values(&[self.line.protocol])
            .inc();
        metrics.request_seconds.observe(elapsed.as_secs_f64());
        metrics.sent_bytes.inc_by(sent);
        if let Some(reason) = &self.line.reason {
            metrics.refusals.with_label_values(&[reason]).inc();
        }
        if !complete {
            let cause = if broken { "body" } else { "client" };
            metrics.unfinished.with_label_values(&[cause]).inc();
        }
        if self.log.is_on() {
            self.log.write(&Line {
                ts: timestamp(),
                bytes: sent,
                ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                cut: !complete,
                ..self.line
            });
        }
    }
}
