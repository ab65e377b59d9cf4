//! Follows the origin's purge log: asks for what came since the last entry that is known, purges it
//! here, and writes down how far it got.
//!
//! Every `origin.purges.interval` one small request over the connections to the origin; no request is held
//! open for news, so the deadlines for an origin that hangs stay what they are. Purges arrive late while the
//! origin is down, but they arrive, in order and without one left out: the place in the log is written down
//! only after the purges up to it are on disk.
//!
//! Where the place is unknown to the log (this edge has none yet, the log was lost or put back, or this
//! edge was away for longer than entries are kept) anything may have been purged or blocked meanwhile. Then
//! everything is purged softly, once: each answer is confirmed by the origin before its next use (a 304, as a
//! rule), and stands in only while the origin is down.
//!
//! Failure rule: whatever goes wrong is counted, and tried again after the interval. An entry that can't be
//! purged holds up those behind it.

mod metrics;
mod place;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderValue, StatusCode};
use tokio::time::{sleep, timeout};

use modcdn_core::bearer;
use modcdn_core::purge::log::{Entry, News, PURGES_PATH, Page, Position};
use modcdn_core::purge::{Mode, Purge, Selector};

pub(crate) use self::metrics::FollowMetrics;
use self::place::Place;
use crate::backoff::chance;
use crate::config::OriginConfig;
use crate::engine::purge::Purged;
use crate::engine::{Engine, NotPurged};
use crate::origin::{Origin, OriginRequest, OriginResponse};

/// The log's answer is no longer than this, in bytes: the origin's pages are a quarter of it.
const MAX_PAGE: usize = 4 << 20;

/// One question and its answer; the origin client's own limits are for zips.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a follower that doesn't follow looks whether it is to.
const IDLE: Duration = Duration::from_secs(5);

/// Whose purges are followed, and where they are carried out.
#[async_trait]
pub(crate) trait Follows: Send + Sync {
    /// Whom to ask.
    fn origin(&self) -> Arc<dyn Origin>;

    /// Carries a purge out.
    async fn purge(&self, purge: Purge) -> Result<Purged, NotPurged>;

    /// Whether all purges are on disk.
    fn all_written(&self) -> bool;
}

#[async_trait]
impl Follows for Arc<Engine> {
    fn origin(&self) -> Arc<dyn Origin> {
        Engine::origin(self)
    }

    async fn purge(&self, purge: Purge) -> Result<Purged, NotPurged> {
        Engine::purge(self, purge).await
    }

    fn all_written(&self) -> bool {
        Engine::purges_unwritten(self) == 0
    }
}

/// What may change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The file with the token to show. None: nothing is followed.
    token_file: Option<PathBuf>,
    /// Zero: nothing is followed.
    interval: Duration,
}

impl Settings {
    pub(crate) fn of(config: &OriginConfig) -> Self {
        Self {
            token_file: config.token_file.clone(),
            interval: config.purges.interval.get(),
        }
    }

    fn token_file(&self) -> Option<PathBuf> {
        self.token_file.clone().filter(|_| !self.interval.is_zero())
    }
}

/// See the module.
pub(crate) struct Follower<E> {
    engine: E,
    settings: Arc<ArcSwap<Settings>>,
    place: Place,
    metrics: FollowMetrics,
    /// What is carried out. None: nothing is known.
    known: Option<Position>,
    /// What is written down of it.
    saved: Option<Position>,
    failing: bool,
}

/// Why there is no news.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("origin.token_file: {0}")]
    Token(String),
    #[error("the origin is not there: {0}")]
    Origin(#[from] crate::origin::OriginError),
    #[error("the origin does not let this edge follow its purge log ({0}): {1}")]
    Refused(StatusCode, String),
    #[error("the origin answered {0}: {1}")]
    Status(StatusCode, String),
    #[error("the origin's answer is no purge log's: {0}")]
    Content(String),
    #[error("no answer within {PATIENCE:?}")]
    Late,
    #[error("{0}")]
    NotPurged(#[from] NotPurged),
    #[error("how far the purge log is followed can't be written down: {0}")]
    Place(std::io::Error),
}

impl Failure {
    /// The name in metrics.
    const fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Origin(_) => "origin",
            Self::Refused(..) => "refused",
            Self::Status(..) => "status",
            Self::Content(_) => "content",
            Self::Late => "late",
            Self::NotPurged(_) => "not-purged",
            Self::Place(_) => "place",
        }
    }
}

impl<E: Follows> Follower<E> {
    /// One that writes down in `folder` how far it got.
    pub(crate) fn new(
        engine: E,
        settings: Arc<ArcSwap<Settings>>,
        folder: &Path,
        metrics: FollowMetrics,
    ) -> Self {
        Self {
            engine,
            settings,
            place: Place::within(folder),
            metrics,
            known: None,
            saved: None,
            failing: false,
        }
    }

    /// Follows for as long as the runtime lives.
    pub(crate) async fn run(mut self) {
        self.begin().await;
        loop {
            let settings = self.settings.load_full();
            let more = match settings.token_file() {
                Some(token_file) => self.step(token_file).await,
                None => false,
            };
            if !more {
                sleep(pause(settings.interval)).await;
            }
        }
    }

    async fn begin(&mut self) {
        self.saved = self.place.load().await;
        self.known = self.saved;
        if self.settings.load().token_file().is_none() {
            tracing::info!("the origin's purge log is not followed: origin.token_file isn't set");
        }
    }

    /// One look at the log. True: there is more at once.
    async fn step(&mut self, token_file: PathBuf) -> bool {
        match self.look(token_file).await {
            Ok(more) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the origin's purge log is followed again");
                }
                more
            }
            Err(failure) => {
                self.metrics.failed(failure.name());
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%failure, "the origin's purge log can't be followed");
                }
                false
            }
        }
    }

    async fn look(&mut self, token_file: PathBuf) -> Result<bool, Failure> {
        let asking = self.ask(token_file);
        let page = timeout(PATIENCE, asking)
            .await
            .map_err(|_| Failure::Late)??;
        let (more, last) = (page.head.more, page.head.last);
        match page.news(self.known) {
            News::Purges(entries) => self.carry_out(entries).await?,
            News::Reset(position) => self.reset(position).await?,
        }
        self.metrics.behind(last, self.known);
        self.save().await?;
        if !more {
            self.metrics.up_to_date(SystemTime::now());
        }
        Ok(more)
    }

    async fn ask(&self, token_file: PathBuf) -> Result<Page, Failure> {
        let token = token(token_file).await.map_err(Failure::Token)?;
        let path = match self.known {
            Some(known) => format!("{PURGES_PATH}?since={known}"),
            None => PURGES_PATH.to_owned(),
        };
        let request = OriginRequest {
            authorization: Some(token),
            ..OriginRequest::get(path)
        };
        let mut response = self.engine.origin().send(request).await?;
        let status = response.status;
        let text = read(&mut response).await?;
        match status {
            StatusCode::OK => Page::parse(&text).map_err(|why| Failure::Content(why.to_string())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Failure::Refused(status, first_line(&text)))
            }
            _ => Err(Failure::Status(status, first_line(&text))),
        }
    }

    async fn carry_out(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        for entry in entries {
            let Entry { seq, purge, .. } = entry;
            let (selector, mode) = (purge.selector.to_string(), purge.mode.name());
            self.engine.purge(purge).await?;
            tracing::info!(seq, %selector, mode, "purged as the origin says");
            if let Some(known) = &mut self.known {
                known.seq = seq;
            }
            self.metrics.carried_out();
        }
        Ok(())
    }

    async fn reset(&mut self, position: Position) -> Result<(), Failure> {
        let purge = Purge {
            selector: Selector::All,
            mode: Mode::Soft,
        };
        self.engine.purge(purge).await?;
        match &self.known {
            Some(was) => tracing::warn!(
                %position, %was,
                "the origin's purge log doesn't go on where it was left: everything is confirmed before it is used again"
            ),
            None => tracing::info!(
                %position,
                "the origin's purge log is followed from here: what is stored already is confirmed before it is used again"
            ),
        }
        self.known = Some(position);
        self.metrics.reset();
        Ok(())
    }

    /// Writes down how far it is, once everything up to there is on disk.
    async fn save(&mut self) -> Result<(), Failure> {
        let Some(known) = self.known.filter(|_| self.known != self.saved) else {
            return Ok(());
        };
        if !self.engine.all_written() {
            return Ok(());
        }
        self.place.save(known).await.map_err(Failure::Place)?;
        self.saved = Some(known);
        Ok(())
    }
}

/// Somewhat less than the interval, so that edges that began together don't ask together.
fn pause(interval: Duration) -> Duration {
    if interval.is_zero() {
        return IDLE;
    }
    interval.mul_f64(1.0 - chance() / 4.0)
}

async fn token(file: PathBuf) -> Result<HeaderValue, String> {
    let reading = tokio::task::spawn_blocking(move || bearer::own(&file));
    let token = reading.await.map_err(|error| error.to_string())?;
    let token = token.map_err(|error| error.to_string())?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "a token that no header field can hold".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read(response: &mut OriginResponse) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.body.next().await? {
        if bytes.len() + piece.len() > MAX_PAGE {
            return Err(Failure::Content(format!("longer than {MAX_PAGE} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| Failure::Content("not a text".to_owned()))
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(200).collect()
}
