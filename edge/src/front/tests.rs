//! The front door as clients meet it, in front of a fake engine.

mod files;
mod limits;
mod over_h1;
mod over_h2;
mod over_tls;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use modcdn_core::refusal::Reason;

use self::files::{Filed, VAST};
use super::service::Answers;
use super::testing::Door;
use crate::config::Config;
use crate::exchange::{Aborted, Answer, Answering, Asked, Body, BodyStream, Cached, HttpAsked};

/// Whose module's path says how it is answered.
pub(crate) struct Engine;

pub(crate) const LIST: &str = "/whole.test/m/@v/list";
pub(crate) const BIG: usize = 2 << 20;

pub(crate) fn big() -> Bytes {
    (0..BIG)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect::<Vec<_>>()
        .into()
}

impl Answers for Engine {
    fn answer(&self, asked: Asked) -> Answering {
        let module = asked.request.module().map_or("", |module| module.as_str());
        match module {
            "whole.test/m" => Answering::Now(whole(Bytes::from_static(b"v1.0.0\n"))),
            "big.test/m" => Answering::Now(whole(big())),
            "panic.test/m" => panic!("as asked for"),
            module => Answering::Later(Box::pin(later(module.to_owned()))),
        }
    }

    async fn pass(&self, asked: HttpAsked) -> Answer {
        panic!("{} is no module", asked.target)
    }
}

async fn later(module: String) -> Answer {
    tokio::task::yield_now().await;
    match module.as_str() {
        "late.test/m" => whole(Bytes::from_static(b"v1.0.0\n")),
        "slow.test/m" => stream(
            Some(9),
            [Step::Piece("abc"), Step::Wait, Step::Piece("defghi")],
        ),
        "unknown.test/m" => stream(None, [Step::Piece("abc"), Step::Wait, Step::Piece("def")]),
        "aborted.test/m" => stream(Some(9), [Step::Piece("abc"), Step::Wait, Step::Abort]),
        "cut.test/m" => stream(None, [Step::Piece("abc"), Step::Wait, Step::Abort]),
        "short.test/m" => stream(Some(9), [Step::Piece("abc"), Step::Wait, Step::Wait]),
        "endless.test/m" => whole_stream(Box::new(Endless)),
        "filed.test/m" => filed(BIG, Filed::lacking(0)),
        "shrunk.test/m" => filed(BIG, Filed::lacking(500_000)),
        "vast.test/m" => filed(usize::try_from(VAST).unwrap(), Filed::vast()),
        "late-panic.test/m" => panic!("as asked for"),
        "never.test/m" => std::future::pending().await,
        other => panic!("no such behaviour: {other}"),
    }
}

fn answer(length: Option<usize>, body: Body) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Answer {
        status: StatusCode::OK,
        headers,
        body,
        cache: Cached::Hit,
        reason: None,
    }
}

fn whole(bytes: Bytes) -> Answer {
    answer(Some(bytes.len()), Body::Whole(bytes))
}

fn stream<const N: usize>(length: Option<usize>, steps: [Step; N]) -> Answer {
    answer(length, Body::Stream(Box::new(Steps(steps.to_vec()))))
}

fn filed(length: usize, body: Filed) -> Answer {
    answer(Some(length), Body::Stream(Box::new(body)))
}

fn whole_stream(body: Box<dyn BodyStream>) -> Answer {
    answer(None, Body::Stream(body))
}

#[derive(Clone, Copy)]
enum Step {
    Piece(&'static str),
    Wait,
    Abort,
}

struct Steps(Vec<Step>);

#[async_trait]
impl BodyStream for Steps {
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted> {
        while !self.0.is_empty() {
            match self.0.remove(0) {
                Step::Piece(text) => return Ok(Some(Bytes::from_static(text.as_bytes()))),
                Step::Wait => tokio::time::sleep(Duration::from_millis(30)).await,
                Step::Abort => {
                    return Err(Aborted {
                        reason: Reason::OriginBroken,
                    });
                }
            }
        }
        Ok(None)
    }
}

struct Endless;

#[async_trait]
impl BodyStream for Endless {
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted> {
        tokio::task::yield_now().await;
        Ok(Some(Bytes::from_static(&[b'x'; 16 << 10])))
    }
}

pub(crate) async fn door(change: impl FnOnce(&mut Config)) -> Door {
    let mut config = Config::default();
    change(&mut config);
    Door::open(Engine, &config, None).await
}
