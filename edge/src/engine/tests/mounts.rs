//! Plain HTTP mounts where sockets don't reach: purges, restarts, the clock.

use http::Method;

use super::*;
use crate::engine::Origins;
use crate::engine::purge::{Mode, Purge, Selector};
use crate::exchange::{Cached, HttpAsked};
use crate::origin::web::{WebOrigin, WebRequest, WebResponse};

const VARYING: &str = "public, max-age=60";

/// An origin that answers each language in its own.
struct Languages(Mutex<Vec<WebRequest>>);

#[async_trait]
impl WebOrigin for Languages {
    async fn send(&self, request: WebRequest) -> Result<WebResponse, OriginError> {
        let language = request.headers.get("accept-language").cloned().unwrap();
        let known = request.headers.get("if-none-match") == Some(&tag(&language));
        let (mut reply, feed) = Reply::fed(
            if known { 304 } else { 200 },
            &[
                (CACHE_CONTROL, VARYING),
                (HeaderName::from_static("vary"), "Accept-Language"),
            ],
        );
        reply.headers.insert(ETAG, tag(&language));
        if !known {
            feed.bytes(&Bytes::copy_from_slice(language.as_bytes()));
        }
        feed.end();
        self.0.lock().push(request);
        let (steps, trailers) = (reply.body, None);
        Ok(WebResponse {
            status: reply.status,
            headers: reply.headers,
            protocol: "HTTP/2",
            framed: true,
            body: Box::new(Scripted { steps, trailers }),
        })
    }

    fn authority(&self) -> &'static str {
        "origin.test"
    }
}

fn tag(language: &HeaderValue) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{}\"", language.to_str().unwrap())).unwrap()
}

struct Mount {
    rig: Rig,
    origin: Arc<Languages>,
}

impl Mount {
    fn new() -> Self {
        let origin = Arc::new(Languages(Mutex::default()));
        let mut mount = Self {
            rig: Rig::new(),
            origin,
        };
        mount.reopen("another");
        mount
    }

    /// Opens the engine anew on a folder of the rig.
    fn reopen(&mut self, folder: &str) {
        self.rig.config.store.dir = self.rig.dir.path().join(folder);
        let origins = Origins {
            modules: self.rig.origin.clone(),
            mounts: vec![self.origin.clone()],
        };
        let (config, clock) = (&self.rig.config, self.rig.clock.clone());
        let metrics = EngineMetrics::new(&prometheus::Registry::new());
        let engine = Engine::open_at(config, origins, Handle::current(), metrics, clock).unwrap();
        engine.store.wait_loaded();
        self.rig.engine = engine;
    }

    /// How the cache was used, and the body.
    async fn get(&self, language: &'static str) -> (Cached, Bytes) {
        let language = HeaderValue::from_static(language);
        let headers = [(HeaderName::from_static("accept-language"), language)];
        let answer = self.rig.engine.pass(HttpAsked {
            mount: 0,
            method: Method::GET,
            target: "/dl/page?q".parse().unwrap(),
            headers: headers.into_iter().collect(),
            upload: None,
            host: "cdn.test".to_owned(),
            client: None,
            tls: false,
            protocol: "HTTP/1.0",
        });
        let answer = answer.await;
        (answer.cache, read(answer.body).await.unwrap())
    }

    async fn purge(&self, selector: Selector, mode: Mode) {
        self.rig
            .engine
            .purge(Purge { selector, mode })
            .await
            .unwrap();
    }

    fn asked(&self) -> usize {
        self.origin.0.lock().len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_by_key_takes_every_variant() {
    let mount = Mount::new();
    for language in ["de", "en", "de", "en"] {
        assert_eq!(mount.get(language).await.1, language);
    }
    assert_eq!(mount.asked(), 2);
    mount
        .purge(Selector::key("/dl/page?q").unwrap(), Mode::Hard)
        .await;
    for language in ["de", "en"] {
        assert_eq!(mount.get(language).await.0, Cached::Miss);
    }
    mount
        .purge(Selector::prefix("/dl").unwrap(), Mode::Hard)
        .await;
    for language in ["de", "en"] {
        assert_eq!(mount.get(language).await.0, Cached::Miss);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_softly_is_confirmed_before_it_is_given() {
    let mount = Mount::new();
    mount.get("de").await;
    mount
        .purge(Selector::key("/dl/page?q").unwrap(), Mode::Soft)
        .await;
    assert_eq!(mount.get("de").await, (Cached::Revalidated, "de".into()));
    assert_eq!(mount.get("de").await.0, Cached::Hit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_their_variants_survive_a_restart() {
    let mut mount = Mount::new();
    for language in ["de", "en"] {
        mount.get(language).await;
    }
    mount.rig.settle().await;
    mount.rig.engine.shutdown().await;
    mount.reopen("another");
    for language in ["de", "en"] {
        assert_eq!(mount.get(language).await, (Cached::Hit, language.into()));
    }
    mount.rig.advance(61).await;
    assert_eq!(mount.get("de").await, (Cached::Revalidated, "de".into()));
    assert_eq!(mount.get("de").await.0, Cached::Hit);
    assert_eq!(mount.asked(), 3);
}
